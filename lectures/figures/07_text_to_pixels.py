"""The figures of lecture 07: `python lectures/figures/07_text_to_pixels.py` writes lectures/figures/07_*.png.

About a minute on one core: nothing is trained.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, thresholding
from minidiff.cascade import lowered, staged
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import split
from minidiff.nn.block import attention_maps
from minidiff.show.figures import text_to_pixels as draw
from minidiff.systems import imagen

HERE = Path(__file__).parent
SCALING = HERE.parents[1] / "benchmarks" / "results" / "scaling.json"
BASE = imagen.BASE.load()


def save(name: str) -> None:
    """The figure drawn last, cropped."""
    show.cropped(plt.gcf()).save(HERE / f"07_{name}.png", optimize=True)


def asked(n: int, seed: int) -> tuple[list, list[str]]:
    prompts = imagen.WORLD.prompts(n, seed, "test")
    return prompts, captions(prompts)


def mean_map(kept: dict[str, list[Tensor]]) -> Tensor:
    """A map of every token, (B, M, 16, 16): the mean over heads, layers and the steps after t = 0.8."""
    found = []
    for name, steps in kept.items():
        if "backbone" in name and "cross" in name:
            weights = torch.stack(steps[len(steps) // 5 :]).mean((0, 2))  # (B, L, M)
            side = math.isqrt(weights.shape[1])
            squares = weights.transpose(1, 2).unflatten(2, (side, side))
            found.append(F.interpolate(squares, size=(16, 16), mode="bilinear"))
    return torch.stack(found).mean(0)


def maps() -> None:
    prompts = [p for p in imagen.WORLD.prompts(200, 5, "test") if p.relation in ("left of", "above")][:12]
    with attention_maps(BASE) as kept:
        pictures = imagen.small_of(BASE)(captions(prompts), 0.0, range(len(prompts)))
    words = [split(text) for text in captions(prompts)]
    rows = [next(i for i, p in enumerate(prompts) if p.relation == r) for r in ("left of", "above")]
    each = mean_map(kept)
    parts = [each[i, 1 : 1 + len(words[i])] for i in rows]
    draw.word_maps(pictures[rows], [words[i] for i in rows], parts, "Nouns look at their objects")
    save("maps")


def cascade() -> None:
    prompts = [p for family in imagen.WORLD.families for p in _first(family)]
    texts = captions(prompts)
    first, *ups = imagen.shipped()
    stages = staged(first(texts, 1.0, range(len(texts))), ups, texts, 1.0, range(len(texts)))
    draw.cascade(stages, texts, "Held-out sentences, first seeds, nothing selected")
    save("cascade")


def _first(family: str) -> list:
    return replace(imagen.WORLD, families=(family,)).prompts(2, 7, "test")[: 2 if family != "one" else 1]


def threshold() -> None:
    _, texts = asked(8, 31)
    rules = {"neither": lambda denoise: denoise, "static": thresholding.static, "dynamic": thresholding.dynamic}
    make = lambda rule, w: imagen.small_of(BASE, threshold=rule)(texts, w, range(len(texts)))
    rows = {f"w = 15, {name}": make(rule, 15.0) for name, rule in rules.items()}
    draw.same_noise(rows | {"w = 1, static": make(thresholding.static, 1.0)}, texts, "The same noise in each column")
    save("threshold")


def scaling() -> None:
    stored = json.loads(SCALING.read_text(encoding="utf-8"))
    runs, order = stored["runs"], ("small", "medium", "large")
    pick = lambda key: {f"{name} reader": [r[key] for r in runs if r["encoder"] == name] for name in order}
    edge = [r for r in runs if [r["encoder"], r["network"], r["seed"]] in stored["frontier"]]
    best = sorted((r["flops"], r["alignment"]) for r in edge)
    draw.frontier(pick("flops"), pick("alignment"), best, "27 runs: three readers, three generators, three seeds")
    save("scaling")


def bands(x: Tensor) -> Tensor:
    """(B, 3, S, S) → (S/2,): the mean power of waves with 1, 2, … periods a picture."""
    waves = torch.fft.fft2(x.double(), norm="ortho").abs().square().mean((0, 1))
    f = torch.fft.fftfreq(x.shape[-1], 1 / x.shape[-1])
    ring = (f[:, None] ** 2 + f[None] ** 2).sqrt().round().long()
    return torch.stack([waves[ring == k].mean() for k in range(1, x.shape[-1] // 2 + 1)])


def coarse_first() -> None:
    _, texts = asked(24, 41)
    seen: list[tuple[float, Tensor]] = []
    watch = lambda denoise: lambda x_t, t: seen.append((float(t), denoise(x_t, t))) or seen[-1][1]
    final = imagen.small_of(BASE, threshold=watch)(texts, 0.0, range(24))
    rest = torch.stack([bands(x0 - final) for _, x0 in seen])
    t = torch.tensor([t for t, _ in seen])
    half = [float(t[rest[:, k] <= rest[0, k] / 2].max()) for k in range(rest.shape[1])]
    root = bands(lowered(render(place(imagen.WORLD.prompts(300, 4, "train"), 0), 64), 4)).sqrt()
    figure, (left, right) = show.panels(1, 2, size=(4.6, 2.9), width_ratios=[1.25, 1])
    at = [0, 10, 20, 25, 30, 35, 40, 45]
    strip = torch.stack([x for i in range(4) for x in (*(seen[j][1][i] for j in at), final[i])])
    show.grid(strip, columns=len(at) + 1, ax=left, title="What would be drawn at t")
    left.set_xticks([18 * (i + 0.5) for i in range(len(at) + 1)], [*(f"{float(t[j]):.1f}" for j in at), "done"])
    right.plot(range(1, 9), root / (1 + root), label="t* of P(f)")
    right.plot(range(1, 9), half, "o", label="half settled")
    right.set(xlabel="waves per picture", ylabel="t", ylim=(0, 1), title="Low bands settle first")
    right.legend()
    plt.figure(figure)
    save("bands")


@torch.no_grad()
def main() -> None:
    maps()
    threshold()
    coarse_first()
    cascade()
    if SCALING.exists():
        scaling()


if __name__ == "__main__":
    main()
