"""How text enters a transformer: six designs at equal parameters, three seeds each (chapter 13).

    python -m benchmarks.ways_in                   all runs that are not there yet → benchmarks/results/ways_in.json
    python -m benchmarks.ways_in runs double 2     one run: the design and the seed
    python -m benchmarks.ways_in streams seconds   other parts

runs      `systems.ways_in`, each trained anew from seeds 0, 1, 2 (0 is the shipped one): its scores and CPU seconds
closed    `double` trained anew from the same seeds, but no word ever looks at the picture
unfilled  `single` whose sentences are not filled up to one length (seed 0): what it draws of the same sentences at
          several lengths; `unfilled FOLDER` measures a network that was trained before
streams   inside the shipped models (`systems.streams`): how far the text's states move from block to block, how much
          of them comes from the picture, who reads whom, how well words point; and what is lost where a trained
          network's words stand still or look at the picture no longer (`systems.cuts`)
seconds   a forward pass of each, timed in turn beside cross-attention
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._results import Results, told
from benchmarks._timing import alternate
from minidiff.backbones.mmdit import width_of
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import PAD
from minidiff.systems import cuts, dit, readers, streams, ways_in
from minidiff.systems.generator import Read
from minidiff.systems.readers import read_chat
from minidiff.weights import load_into, record

RESULTS = Results("ways_in")
SEEDS = 3
LEVELS = (0.9, 0.7, 0.5, 0.3)


def run(design: str, seed: int) -> dict[str, Any]:
    """Trained from the start; its record, less what is the same for all. Seed 0 is read where it is shipped."""
    shipped = (BESIDES | ways_in.MODELS)[design]
    if seed == 0 and design not in BESIDES:
        facts = shipped.record()
    else:
        with tempfile.TemporaryDirectory() as folder:
            facts = replace(shipped, seed=seed).train(Path(folder) / "run", Path(folder))
    return {name: facts[name] for name in ("parameters", "steps", "seconds", "scores")}


def build_closed() -> Denoiser:
    model = ways_in.build("double")
    cuts.close(streams.backbone_of(model))
    return model


def build_unfilled() -> Denoiser:
    make = partial(ways_in.single, multiple=1)
    return ways_in.around(make(width_of(make, ways_in.PARAMETERS)))


CLOSED = replace(ways_in.DOUBLE, name="ways-in-closed", build=build_closed)
UNFILLED = replace(ways_in.SINGLE, name="ways-in-single", build=build_unfilled)
BESIDES = {"closed": CLOSED}


def runs(chosen: Sequence[str]) -> None:
    """A run that is there is not made again."""
    for seed in [int(seed) for seed in chosen[1:2]] or range(SEEDS):
        for design in chosen[:1] or ways_in.DESIGNS:
            name = f"{design}, seed {seed}"
            if name not in RESULTS.read().get("runs", {}).get("each", {}):
                made = run(design, seed)
                each = RESULTS.read().get("runs", {}).get("each", {}) | {name: made}  # others may have ended meanwhile
                RESULTS.keep("runs", {"table": compared(each), "each": dict(sorted(each.items()))})
                print(name, made["seconds"], "s", flush=True)


def closed(chosen: Sequence[str]) -> None:
    runs(["closed", *chosen])


def filled(least: int) -> Read:
    """Sentences as they are, followed by padding up to so many tokens."""

    def read(texts: Sequence[str]) -> dict[str, Tensor]:
        tokens = read_chat(texts)["tokens"]
        return {"tokens": F.pad(tokens, (0, max(0, ways_in.llm.CUT + least - tokens.shape[1])), value=PAD)}

    return read


def unfilled(chosen: Sequence[str], n: int = 150) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen[0] if chosen else temporary)
        if not chosen:
            UNFILLED.train(folder / "run", folder)
        model = load_into(build_unfilled(), UNFILLED.name, folder).eval().requires_grad_(False)
        facts = record(UNFILLED.name, folder)
    found: dict[str, Any] = {"scores": facts["scores"], "steps": facts["steps"], "n": n, "at least": {}}
    for least in (0, 9, 10, 12, 16, 20):
        generate = readers.pictures_of(model, filled(least), 25)  # type: ignore[arg-type]
        answered = readers.answers(generate, n=n, questions=("one", "relation"))
        found["at least"][str(least)] = {question: round(right.share, 4) for question, (right, _) in answered.items()}
    RESULTS.keep("unfilled", found)


def compared(each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each design the mean over its seeds and the standard deviation; errors are means over `dit.TIMES`."""
    table = {}
    for design in (*ways_in.DESIGNS, *BESIDES):
        own = [run["scores"] for name, run in each.items() if name.rsplit(", seed ", 1)[0] == design]
        if own:
            over = lambda kind, own=own: [mean(s[f"{kind}, t={t:g}"] for t in dit.TIMES) for s in own]
            columns = {kind: over(kind) for kind in ("loss", "floor", "excess")}
            columns |= {name: [s[name] for s in own] for name in own[0] if ", t=" not in name}
            table[design] = {"seeds": len(own)} | {name: told(values) for name, values in columns.items()}
    return table


def seconds(chosen: Sequence[str], rounds: int = 25) -> None:
    """A forward pass of 32 pictures with short captions, and the same with its gradients; without the reader."""
    texts, timed = ["a red circle left of a blue square"] * 32, {}
    models = {design: ways_in.MODELS[design].untrained().train() for design in ways_in.DESIGNS}
    given = {name: streams.told(model, texts) for name, model in models.items()}
    given = {name: {key: value.detach() for key, value in told.items()} for name, told in given.items()}
    x_t, t = torch.zeros(32, 3, 16, 16), torch.full((32,), 0.5)
    forward = lambda name: streams.backbone_of(models[name])(x_t, t, **given[name])
    with torch.no_grad():
        timed["forward"] = alternate({name: partial(forward, name) for name in models}, "cross-attention", rounds)
    back = lambda name: forward(name).square().mean().backward()
    timed["with gradients"] = alternate({name: partial(back, name) for name in models}, "cross-attention", rounds)
    RESULTS.keep("seconds", {"pictures": 32, "words": len(streams.words(texts[0]))} | timed)


def inside(model: Denoiser) -> dict[str, Any]:
    prompts = replace(readers.WORLD, families=("relation",)).prompts(200, 3, "test")
    texts, found = captions(prompts), {}
    by_level = lambda measure: {f"{t:g}": measure(t) for t in LEVELS}
    found["of the picture"] = by_level(lambda t: averaged([streams.of_the_picture(model, p, t) for p in prompts[:8]]))
    noised = lambda t: streams.noised(prompts, t)[1]
    found["moved"] = by_level(lambda t: streams.moved(model, noised(t), t, texts))
    found["masses"] = by_level(lambda t: streams.masses(model, noised(t), t, texts))
    found["pointing"] = by_level(lambda t: streams.pointing(model, prompts, t))
    return found


def averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: mean(row[name] for row in rows) for name in rows[0]}


def less(model: Denoiser, n: int = 100) -> dict[str, Any]:
    """Pictures that are right with something taken away; with cross-attention there is nothing to take."""
    ways = {"as trained": nullcontext, "one way": cuts.one_way, "still": cuts.still}
    found = {}
    for way, without in ways.items():
        with without(model):
            answered = readers.answers(ways_in.pictures_of(model), n=n, questions=("one", "relation"))
        found[way] = {question: round(right.share, 4) for question, (right, _) in answered.items()}
    return found


def rounded(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [rounded(value) for value in found]
    return round(found, 4) if isinstance(found, float) else found


def look(chosen: Sequence[str]) -> None:
    found = {}
    for design, shipped in ways_in.MODELS.items():
        model = shipped.load()
        found[design] = rounded(inside(model))
        if design != "cross-attention":
            found[design]["less"] = less(model)
        print(design, found[design].get("less"), flush=True)
    RESULTS.keep("streams", found)


PARTS = {
    "runs": runs, "closed": closed, "unfilled": unfilled, "streams": look, "seconds": seconds,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    if arguments[:1] in (["runs"], ["closed"], ["unfilled"]):
        return PARTS[arguments[0]](arguments[1:])
    if unknown := [name for name in arguments if name not in PARTS]:
        sys.exit(f"ways_in: got {unknown}, expected some of {list(PARTS)}")
    for name in arguments or PARTS:
        PARTS[name](())


if __name__ == "__main__":
    main(sys.argv[1:])
