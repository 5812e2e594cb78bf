"""What the two losses of a Transfusion cost each other (chapter 14).

    python -m benchmarks.one_transformer                   all runs that are not there yet → results/
    python -m benchmarks.one_transformer runs "λ = 25" 2   one run: the arm and the seed
    python -m benchmarks.one_transformer trips          another part

trips  the shipped model draws held-out relations, describes its pictures, and draws the descriptions; how many true
       descriptions there are of noisy pictures, by noise level
runs   a small world (one of three shapes in four colours, or two with a relation), a small network (96 × 4), the same
       1,000 steps, seeds 0, 1, 2. Arms: λ; the share of rows whose picture comes first; squares that are causal like
       words, as in the paper's ablation. Measured on held-out contents: drawn (w = 1) and described, each with another
       row's caption or picture; cross-entropy a word; the picture's error in velocity.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks._results import Results, told
from minidiff.backbones.transfusion import Transfusion
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import World, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.encoders.tokenizer import START
from minidiff.judges.scorecard import matches
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import velocity_weight
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear
from minidiff.systems import transfusion
from minidiff.systems.scenes_text import tokenizer
from minidiff.training import fit, step_generator

RESULTS = Results("one_transformer")
SEEDS, STEPS = 3, 1000
SMALL = World(SHAPES[:3], COLOURS[:4], ("one", "relation"))
ARMS: dict[str, dict[str, Any]] = {
    **{f"λ = {weight:g}": {"weight": weight} for weight in (1.0, 5.0, 25.0, 125.0)},
    **{f"picture first: {share:g}": {"described": share} for share in (0.0, 0.5, 1.0)},
    "causal squares": {"whole": False},
}
"""What differs from λ = 25, a quarter picture first, squares that look at one another."""


def build(weight: float = 25.0, whole: bool = True) -> Transfusion:
    length = transfusion.LENGTH
    return Transfusion(
        len(tokenizer(length)), length, dim=96, depth=4, weight=weight, weigh=velocity_weight, modulated=True,
        whole=whole,
    )  # fmt: skip


@torch.no_grad()
def measured(model: Transfusion, n: int = 200) -> dict[str, float]:
    found = transfusion.scores(model, n, SMALL, strengths=(1.0,), steps=25)
    draw, errors, words = transfusion.draw_both(64, SMALL), [], {True: [], False: []}
    for step in range(8):
        batch = draw(step_generator(99, step))
        for order in (True, False):
            rows = batch["picture_first"] == order
            said, error = model.losses(*(batch[k][rows] for k in ("x0", "t", "eps", "tokens")), order)
            words[order] += said.tolist()
            errors += [] if order else error.tolist()
    nats = {f"nats a word, picture {'first' if order else 'last'}": words[order] for order in words}
    return found | {name: sum(v) / len(v) for name, v in (nats | {"error of velocity": errors}).items()}


def run(arm: str, seed: int) -> dict[str, Any]:
    options = dict(ARMS[arm])
    draw = transfusion.draw_both(32, SMALL, options.pop("described", 0.25))
    model = initialised(lambda: build(**options), seed)
    *_, last = fit(
        model, draw, STEPS, optimizer=Muon, groups=muon_groups, ema_decay=0.99, seed=seed, bar=False
    )  # fmt: skip
    scores = {name: round(value, 4) for name, value in measured(last.ema.eval()).items()}
    return {"seconds": round(last.seconds), "parameters": sum(p.numel() for p in model.parameters()), "scores": scores}


def compared(each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each arm the mean over its seeds and the standard deviation."""
    table = {}
    for arm in ARMS:
        own = [run["scores"] for name, run in each.items() if name.rsplit(", seed ", 1)[0] == arm]
        if own:
            table[arm] = {"seeds": len(own)} | {name: told([scores[name] for scores in own]) for name in own[0]}
    return table


def runs(chosen: Sequence[str]) -> None:
    """A run that is there is not made again."""
    for seed in [int(seed) for seed in chosen[1:2]] or range(SEEDS):
        for arm in chosen[:1] or ARMS:
            name = f"{arm}, seed {seed}"
            if name not in RESULTS.read().get("runs", {}).get("each", {}):
                made = run(arm, seed)
                each = RESULTS.read().get("runs", {}).get("each", {}) | {name: made}
                RESULTS.keep("runs", {"steps": STEPS, "table": compared(each), "each": dict(sorted(each.items()))})
                print(name, made["seconds"], "s", flush=True)


@torch.no_grad()
def trips(chosen: Sequence[str], n: int = 200) -> None:
    model, world = transfusion.MODEL.load(), World(families=("relation",))
    asked, generate = world.prompts(n, 3, "test"), transfusion.pictures_of(model)
    first = generate(captions(asked), 1.0, range(n))
    said = transfusion.texts_of(model, first)
    second = generate(said, 1.0, range(n, 2 * n))
    share = lambda right: round(float(right.float().mean()), 4)
    found: dict[str, Any] = {
        "n": n, "drawn": share(matches(asked, first)), "drawn again": share(matches(asked, second)),
        "drawn again, another caption": share(matches([*asked[1:], *asked[:1]], second)),
        "drawn again, its objects": share(matches([replace(prompt, relation=None) for prompt in asked], second)),
        "described with a relation": share(torch.tensor([" and " not in text for text in said])),
        "word by word": share(torch.tensor([a == b for a, b in zip(captions(asked), said)])), "noise": {},
    }  # fmt: skip
    clean = render(place(asked, 8))
    for t in (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9):
        noisy = Linear().add_noise(clean, randn(clean.shape, seeded(3)), torch.full((n,), t))
        told = tokenizer(transfusion.LENGTH).decode(model.describe(noisy, torch.tensor(START), t))
        found["noise"][f"{t:g}"] = [share(transfusion.true_of(s, clean)) for s in (told, [*told[1:], *told[:1]])]
    RESULTS.keep("trips", found)


PARTS = {"runs": runs, "trips": trips}


def main(arguments: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    if arguments and arguments[0] not in PARTS:
        sys.exit(f"one_transformer: got {arguments}, expected nothing, or one of {list(PARTS)}; runs ARM SEED")
    for part in arguments[:1] or PARTS:
        PARTS[part](arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
