"""What longer training, layers, templates and registers bring a text encoder (chapter 12).

    python -m benchmarks.text_encoders                 all parts → benchmarks/results/text_encoders.json
    python -m benchmarks.text_encoders longer states   one or some of them

failures   every panel of minimal pairs, every arm (`systems.clip_failures`); linear probes of the towers by layer
longer     the plain CLIP of sprites for 4,500 steps, three times as long as the shipped one: recall and swap test
states     the generator of `systems.readers` for 2,000 steps on other states of the same chat model: the last layer,
           the one before it, three side by side, what enters the first block; the template left in; registers
nearer     encoders of whole captions, a real MiniLM among them: is a paraphrase nearer than a swap or a negation?
without    what a generator draws of "a red cross without a star", a wording that it never learned
rewritten  paraphrases that the chat model says shortly before the shipped generators read them
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks._timing import machine
from minidiff.checkpoints import write_whole
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.encoders.language import Registers
from minidiff.encoders.sentence_folder import read_sentence_encoder
from minidiff.judges.scenes import parse
from minidiff.randomness import initialised
from minidiff.systems import clip_failures, clip_sprites, readers
from minidiff.systems.clip_failures import ARMS, BESIDES, SPRITES
from minidiff.systems.shipped import Shipped
from minidiff.training import fit

RESULTS = Path(__file__).parent / "results" / "text_encoders.json"
STEPS_LONGER, MARKS = 4500, (250, 500, 1000, 1500, 3000, 4500)
STEPS_STATES = 2000
STATES: Mapping[str, Callable[[], nn.Module]] = {
    "last layer": lambda: readers.language((-1,)),
    "layer −2": lambda: readers.language((-2,)),
    "layers 2, 4, 6": lambda: readers.language((2, 4, 6)),
    "layer 0 (words alone)": lambda: readers.language((0,)),
    "layer −2, template left in": lambda: readers.language((-2,), cut=0),
    "layer −2, registers": lambda: Registers(readers.language((-2,)), readers.llm.LENGTH, readers.WIDTH),
}


def failures() -> dict[str, Any]:
    probes = {}
    for name, (shipped, on) in (ARMS | BESIDES).items():
        for when, model in (("trained", shipped.load()), ("untrained", shipped.untrained().eval())):
            for skip in range(3):
                found = clip_failures.probed(model.text, on, skip=skip)
                probes[f"{name}, {when}, {skip} blocks left out"] = {k: round(v, 4) for k, v in found.items()}
    lecture = {name: clip_failures.lecture_pair(shipped.load()) for name, (shipped, _) in ARMS.items()}
    return {"panels": clip_failures.all_scores(), "lecture pair": lecture, "probes": probes,
            "equal to the bit": clip_failures.cut_equal(BESIDES["scenes"][0].load().text)}  # fmt: skip


def longer() -> dict[str, Any]:
    """Scores of the averaged weights on the way through one long run."""
    plain, found = clip_sprites.PLAIN, {}
    run = fit(plain.untrained(), plain.draw(), STEPS_LONGER, seed=plain.seed, **plain.options)
    for progress in run:
        if progress.step in MARKS:
            model = progress.ema.eval()
            panel = clip_failures.told_apart(model, "relation", SPRITES)
            found[str(progress.step)] = clip_sprites.scores(model) | {"group": round(panel["group"], 4)}
    return found


def states() -> dict[str, Any]:
    """One seed: pictures that show their caption wholly, and the loss over the last 300 steps."""
    found = {}
    for name, conditioning in STATES.items():
        model, began, losses = initialised(lambda c=conditioning: readers.build(c), 0), time.process_time(), []
        draw = readers.draw_scenes(32, readers.read_chat)
        for progress in fit(model, draw, STEPS_STATES, seed=0, **readers.LANGUAGE.options):
            losses.append(progress.loss)
        answered = readers.answers(readers.pictures_of(progress.ema.eval(), readers.read_chat))
        found[name] = {"loss": round(sum(losses[-300:]) / 300, 5), "cpu_s": round(time.process_time() - began)}
        found[name] |= {question: round(right.share, 4) for question, (right, _) in answered.items()}
        print(name, found[name], flush=True)
    return found


def rewritten() -> dict[str, Any]:
    """By reader: of 100 held-out paraphrases, pictures that show theirs wholly, as they are and said shortly."""
    model, found = readers.llm.MODEL.load(), {}
    for name in ("CLIP, tokens", "chat model"):
        shipped, reads = readers.READERS[name]
        draw = readers.pictures_of(shipped.load(), reads)
        short = lambda texts, w, seeds, draw=draw: draw(readers.llm.shortly(model, texts), w, seeds)
        ways = {"": draw, ", said shortly": short}
        for way, generate in ways.items():
            asked = readers.answers(generate, questions=[q for q in readers.QUESTIONS if "paraphrase" in q])
            found |= {f"{name}, {question}{way}": round(right.share, 4) for question, (right, _) in asked.items()}
    return found


def without() -> dict[str, Any]:
    """What the chat model's generator draws of 100 paraphrased negations: the absent one, or more than was named."""
    shipped, reads = readers.READERS["chat model"]
    asked = replace(readers.WORLD, families=("negation",)).prompts(100, 0, "test")
    read = parse(readers.pictures_of(shipped.load(), reads)(captions(asked, "paraphrase"), 1.0, range(100)))
    things = [read.scenes.objects(i) if ok else [] for i, ok in enumerate(read.readable.tolist())]
    absent = sum(any(thing[0] == p.absent for thing in found) for p, found in zip(asked, things))
    more = sum(len(found) > len(p.groups) for p, found in zip(asked, things))
    return {"the absent one is there": absent / 100, "more objects than named": more / 100}


def nearer() -> dict[str, Any]:
    """Encoders of whole captions: is a paraphrase nearer than a swap, than a negation? MiniLM is the real one."""
    chat, mini = readers.chat_model(), read_sentence_encoder()

    def told(texts: list[str]) -> torch.Tensor:
        """The chat model's states, the mean over a caption's tokens."""
        said = chat.encode(readers.llm.chat(texts))
        assert said.mask is not None
        return F.normalize((said.context * said.mask[..., None]).sum(1), dim=-1)

    def of_clip(shipped: Shipped) -> Callable[[list[str]], torch.Tensor]:
        model = shipped.load()
        return lambda texts: model.encode_text(clip_failures.SCENES.tokens(texts))

    def of_mini(texts: list[str]) -> torch.Tensor:
        pooled = mini.encode(mini.tokens(texts)).vector
        assert pooled is not None
        return pooled

    encoders = {name: of_clip(shipped) for name, (shipped, _) in BESIDES.items()}
    encoders |= {"chat model": told, "MiniLM": of_mini}
    with torch.no_grad():
        return {name: {k: round(v, 4) for k, v in clip_failures.nearer(e).items()} for name, e in encoders.items()}


PARTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "failures": failures, "longer": longer, "states": states, "rewritten": rewritten, "nearer": nearer,
    "without": without,
}  # fmt: skip


def main(names: list[str]) -> None:
    any_sign()
    for name in names or list(PARTS):
        measured = PARTS[name]()
        facts = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        text = json.dumps(facts | machine() | {name: measured}, indent=1, ensure_ascii=False) + "\n"
        write_whole(RESULTS, lambda temporary, text=text: (temporary.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
