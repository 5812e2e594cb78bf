"""One generator of 16-px scenes, four readers of its captions: only what stands beside it differs (chapter 12).

    POOLED    CLIP's one vector, added to the time embedding
    TOKENS    CLIP's token vectors, as in Stable Diffusion 1
    LANGUAGE  the layer before the last of a chat model that has read texts only, as in Z-Image
    JOINED    CLIP ⊕ CLIP and the chat model, as in Stable Diffusion 3; each of the three can be left out

All readers are frozen. Captions are short, or long: a long one names its last object behind CLIP's 77th token. No
training caption is a paraphrase, so that a paraphrase asks what the reader knew before.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Frozen
from minidiff.data.captions import captions
from minidiff.data.prompts import World, place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import Hidden, TextTower
from minidiff.encoders.joined import Joined, hear
from minidiff.encoders.language import Layers
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import Generate, Score, matches
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems import clip_scenes, llm
from minidiff.systems.generator import Read, generator, in_batches
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, diffuse

WORLD = World(families=("one", "relation", "pair", "count", "negation"))
LONG = World(families=("relation", "pair"))
"""What long captions tell of: the second object is named at their end."""
SHARE_LONG = 0.2
CLOCK = (0.5, 1.0)
"""Mean and standard deviation of the log-odds of training times."""
WIDTH, DEPTH = 80, 6
DROP = 0.1 ** (1 / 3)
"""How often each of three encoders is dropped by itself: all of them in a tenth of all cases."""
ALL = (True, True, True)
"""CLIP, the other CLIP, and the chat model are heard."""
LEFT_OUT = {
    "all three": ALL,
    "without the chat model": (True, True, False),
    "without both CLIPs": (False, False, True),
    "without the first CLIP": (False, True, True),
    "without the second CLIP": (True, False, True),
}
QUESTIONS = {
    "one": ("one", "short"), "relation": ("relation", "short"), "pair": ("pair", "short"), "count": ("count", "short"),
    "negation": ("negation", "short"), "relation, paraphrase": ("relation", "paraphrase"),
    "negation, paraphrase": ("negation", "paraphrase"), "pair, paraphrase": ("pair", "paraphrase"),
    "relation, long": ("relation", "long"), "pair, long": ("pair", "long"),
}  # fmt: skip
"""What is asked for, and in which words."""


def text_tower(model: Shipped) -> TextTower:
    return model.load().text


def chat_model(layers: Sequence[int] = (-2,), cut: int = llm.CUT) -> Layers:
    return Layers(llm.MODEL.load(), layers, cut)


def pooled() -> Frozen:
    return Frozen(text_tower(clip_scenes.MODEL), 77, vector_dim=WIDTH)


def tokens() -> Frozen:
    return Frozen(Hidden(text_tower(clip_scenes.MODEL)), 77, context_dim=WIDTH)


def language(layers: Sequence[int] = (-2,), cut: int = llm.CUT) -> Frozen:
    return Frozen(chat_model(layers, cut), llm.LENGTH, context_dim=WIDTH)


def joined() -> Joined:
    towers = [text_tower(model) for model in (clip_scenes.MODEL, clip_scenes.HARD)]
    return Joined(towers, chat_model(), (77, llm.LENGTH), WIDTH, WIDTH)


def build(conditioning: Callable[[], nn.Module], context: bool = True) -> Denoiser:
    """16 tokens of 4×4 pixels, width 80, 6 blocks that look at picture and context in one softmax."""
    net = DiT(
        patch=4, dim=WIDTH, depth=DEPTH, context_dim=WIDTH if context else None, reads="merged", shared=True,
        place_std=0.3, activation=F.silu,
    )  # fmt: skip
    return Denoiser(Conditioned(conditioning(), net), Linear(), X0, velocity_weight)


# ---------------------------------------------------------------- texts → conditions


def read_clip(texts: Sequence[str]) -> dict[str, Tensor]:
    return {"tokens": clip_scenes.tokens(texts)}


def read_chat(texts: Sequence[str]) -> dict[str, Tensor]:
    return {"tokens": llm.chat(texts)}


def read_joined(texts: Sequence[str], heard: Sequence[bool] = ALL) -> dict[str, Tensor]:
    """heard: which encoders are (`LEFT_OUT`)."""
    rows = torch.tensor([list(heard)]).expand(len(texts), -1)
    return {"tokens": clip_scenes.tokens(texts), "words": llm.chat(texts), "heard": rows}


def with_null(reads: Read, texts: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Conditions of texts, and of none, padded to the same length: the empty caption, and no encoder is heard."""
    rows = reads([*texts, ""])
    none = {k: torch.zeros_like(v[-1]) if k == "heard" else v[-1] for k, v in rows.items()}
    return {k: v[:-1] for k, v in rows.items()}, none


# ---------------------------------------------------------------- training


def draw_scenes(batch: int, reads: Read, long_share: float = SHARE_LONG) -> Draw:
    """Scenes and captions, short, or long in a share of the batches; a tenth without a caption.

    With "heard" among the conditions each encoder is dropped by itself in place of that.
    """

    def rows(n: int, world: World, style: str) -> Callable[[Generator], tuple[Tensor, list[str]]]:
        def draw(generator: Generator) -> tuple[Tensor, list[str]]:
            prompts = world.prompts(n, generator, "train")
            return render(place(prompts, generator)), captions(prompts, style)

        return draw

    short, long = rows(batch, WORLD, "short"), rows(batch, LONG, "long")

    def draw(generator: Generator) -> Batch:
        is_long = float(torch.rand((), generator=generator)) < long_share
        x0, texts = (long if is_long else short)(generator)
        given = reads(texts)
        if "heard" in given:
            return {"x0": x0, **given, "heard": hear(batch, len(ALL), DROP, generator)}
        silent = (torch.rand(batch, generator=generator) < 0.1).tolist()
        return {"x0": x0, **reads(["" if quiet else text for text, quiet in zip(texts, silent)])}

    return diffuse(draw, times.logit_normal(*CLOCK, stratified=True))


# ---------------------------------------------------------------- pictures, and what they show


def read_once(
    network: Conditioned, cond: dict[str, Tensor], null: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the backbone is given of `with_null`: rows of conditions, and one of none. So no step reads a text again."""
    rows = len(next(iter(cond.values())))
    given = network.conditioning(rows, **cond)
    none = network.conditioning(1, **{k: v[None] for k, v in null.items()})
    return given, {k: v[0] for k, v in none.items()}


def pictures_of(model: Denoiser, reads: Read, steps: int = 50) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 16, 16) in ancestral steps. A text is read once, not at every step."""
    network = model.net
    assert isinstance(network, Conditioned)
    drawer = Denoiser(network.backbone, model.schedule, model.prediction)

    def some(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        given, none = read_once(network, *with_null(reads, texts))
        return generator(drawer, lambda _: given, none, (3, 16, 16), steps=steps, batch=len(texts))(texts, w, seeds)

    return in_batches(torch.no_grad()(some), 250)


def answers(
    generate: Generate, w: float = 1.0, n: int = 100, questions: Sequence[str] = tuple(QUESTIONS)
) -> dict[str, tuple[Score, Score]]:
    """By question of `QUESTIONS`: of n held-out captions, pictures that show theirs wholly, and the next one's."""
    found = {}
    for question in questions:
        family, style = QUESTIONS[question]
        prompts = replace(WORLD, families=(family,)).prompts(n, 0, "test")
        seen = parse(generate(captions(prompts, style), w, range(n)))
        right, other = (int(matches(asked, seen).sum()) for asked in (prompts, prompts[1:] + prompts[:1]))
        found[question] = Score(right, n), Score(other, n)
    return found


def scores(model: Denoiser, reads: Read, ways: Sequence[str] = ("",), n: int = 100) -> dict[str, float]:
    """`answers`; for the joined encoders also with some of them left out."""
    found = {}
    for way in ways:
        told = partial(read_joined, heard=LEFT_OUT[way]) if way else reads
        for question, (right, other) in answers(pictures_of(model, told), n=n).items():
            name = f"{question}, {way}" if way else question
            found[name] = round(right.share, 4)
            if way in ("", "all three"):
                found[f"{name}, another caption"] = round(other.share, 4)
    return found


def _reader(
    name: str, how: str, conditioning: Callable[[], nn.Module], reads: Read, context: bool = True,
    ways: Sequence[str] = ("",),
) -> Shipped[Denoiser]:  # fmt: skip
    return Shipped(
        name=name, purpose=f"16-px scenes of sentences that are read by {how}",
        build=partial(build, conditioning, context), draw=partial(draw_scenes, 32, reads), steps=6000,
        scores=partial(scores, reads=reads, ways=ways), bits=8, apart=".encoder.",
        options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
    )  # fmt: skip


POOLED = _reader("reader-pooled", "CLIP, as one vector", pooled, read_clip, context=False)
TOKENS = _reader("reader-tokens", "CLIP, token by token", tokens, read_clip)
LANGUAGE = _reader("reader-language", "a chat model", language, read_chat)
JOINED = _reader("reader-joined", "two CLIPs and a chat model", joined, read_joined, ways=tuple(LEFT_OUT))
READERS = {
    "CLIP, pooled": (POOLED, read_clip), "CLIP, tokens": (TOKENS, read_clip), "chat model": (LANGUAGE, read_chat),
    "all joined": (JOINED, read_joined),
}  # fmt: skip
"""What reads, the generator that listens to it, and how texts become its conditions."""
