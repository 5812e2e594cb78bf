"""DiT in sizes and patches (arXiv 2212.09748): nine transformers of one recipe, and one that draws garments by class.

FAMILY    S, M, L × patches of 8, 4, 2 pixels: captioned 16-px scenes, whose best denoiser is known. The design is that
          of `scenes_text`, and L/4 is its very network. All take the same steps on the same batches, with the same
          noise: what differs is the network alone.
FASHION   class-conditional Fashion-MNIST with adaLN-Zero, beside chapter 02's U-Net (`fashion.DENOISER`)

`errors` says what a model's loss is at several times, what it would be at least, and what lies between. The mean
squared error of x̂0 is floor + excess, where

    floor  = E‖x0 − E[x0 | x_t, caption]‖²      the variance left, which no network can go below
    excess = E‖x̂0 − E[x0 | x_t, caption]‖²      how far the network is from the exact denoiser

(the cross term vanishes, as x̂0 depends on x_t and the caption alone). All three are measured, on the same x_t.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from statistics import mean
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.captions import captions
from minidiff.data.exact_scenes import ExactScenes
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.real import fashion_mnist
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.guidance import Denoise, bind
from minidiff.judges.coverage import precision, recall
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import Generate, matches, objects_there
from minidiff.predictions import VELOCITY
from minidiff.randomness import randn_like
from minidiff.schedules import Linear
from minidiff.systems import fashion, scenes_text
from minidiff.systems.shipped import Shipped
from minidiff.training import Draw, diffuse, draw_rows
from minidiff.validate import require

SIZES = {"s": (32, 3), "m": (64, 4), "l": (96, 6)}
"""Width and number of blocks."""
PATCHES = (8, 4, 2)
LENGTH = 10
"""Tokens of a caption."""
TIMES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Where `errors` looks."""

# ---------------------------------------------------------------- build


def build(size: str, patch: int) -> Denoiser:
    """DiT-size/patch, such as ("s", 8), of 16-px scenes: x_t (B, 3, 16, 16), tokens (B, ≤ 10) → x̂0."""
    require(size in SIZES, "size", repr(size), f"one of {tuple(SIZES)}")
    return scenes_text.build(LENGTH, *SIZES[size], patch)


def tokens_of(patch: int, side: int = 16) -> int:
    """How many tokens a picture becomes."""
    return (side // patch) ** 2


def build_fashion(dim: int = 96, depth: int = 6) -> Denoiser:
    """28×28 pixels in 49 tokens of 4×4; 1.1 M parameters, as chapter 02's U-Net has. y: a label → x̂0."""
    net = DiT(channels=1, size=(28, 28), patch=4, dim=dim, depth=depth)
    return Denoiser(Conditioned(Labels(fashion.N_CLASSES, dim), net), Linear(), VELOCITY)


# ---------------------------------------------------------------- generate


def pictures_of(model: Denoiser, steps: int = 50) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 16, 16) of a model of FAMILY, in ancestral steps (`scenes_text`)."""
    return scenes_text.pictures_of(model, LENGTH, steps)


def fashion_of(model: Denoiser | None = None, steps: int = 20) -> Generate:
    """`generate(texts, w, seeds)` → (B, 1, 28, 28) for names of classes, in chapter 02's steps. model: FASHION's."""
    return fashion.pictures_of(FASHION.load() if model is None else model, steps)


# ---------------------------------------------------------------- work


def gflops(call: Callable[[], object]) -> float:
    """10⁹ multiplications and additions of a call, by PyTorch's counter: matrix products, convolutions, attention."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention is not counted
        call()
    return counter.get_total_flops() / 1e9


@torch.no_grad()
def forward_gflops(model: Denoiser) -> float:
    """Of one call for one scene, its caption read."""
    tokens = scenes_text.tokenizer(LENGTH).encode(["a red circle"])
    return gflops(lambda: model(torch.zeros(1, 3, 16, 16), torch.tensor(0.5), tokens=tokens))


# ---------------------------------------------------------------- scores


class Exam(NamedTuple):
    """Scenes with their prompts, noised at each of TIMES, and what the exact denoiser says: T times n rows.

    x0 (n, 3, 16, 16); x_t and mean = E[x0 | x_t, caption] (T, n, 3, 16, 16); left (T, n): the mean's squared error.
    """

    prompts: list[Prompt]
    x0: Tensor
    x_t: Tensor
    mean: Tensor
    left: Tensor


@lru_cache(maxsize=2)
@torch.no_grad()
def exam(n: int = 512, world: World = scenes_text.WORLD, split: str | None = "test") -> Exam:
    """n scenes, always the same, on the schedule of all models here."""
    g, schedule, ts = Generator().manual_seed(0), Linear(), torch.tensor(TIMES)
    prompts = world.prompts(n, g, split)
    x0, parts = render(place(prompts, g)), []
    x_t = torch.stack([schedule.add_noise(x0, randn_like(x0, g), t) for t in ts])
    for first in range(0, n, 64):  # as `exact_scenes.floor`: the pictures of 64 prompts fit into memory
        rows = slice(first, first + 64)
        exact = ExactScenes(prompts[rows], schedule)
        parts.append([exact.moments(x, t) for x, t in zip(x_t[:, rows], ts)])
    exact, left = (torch.stack([torch.cat([p[k][i] for p in parts]) for k in range(len(ts))]) for i in (0, 1))
    return Exam(prompts, x0, x_t, exact, left)


@torch.no_grad()
def errors_of(denoise: Denoise, asked: Exam) -> list[dict[str, float]]:
    """For each of TIMES {"t", "loss", "floor", "excess"}. denoise: (x_t, t) → x̂0, told the captions of the exam."""
    rows = []
    for t, x_t, exact, left in zip(TIMES, asked.x_t, asked.mean, asked.left):
        guess = denoise(x_t, torch.tensor(t))
        far = lambda to, guess=guess: float((guess - to).square().mean())
        rows.append({"t": t, "loss": far(asked.x0), "floor": float(left.mean()), "excess": far(exact)})
    return rows


def errors(model: Denoiser, n: int = 512) -> list[dict[str, float]]:
    """`errors_of` a model of FAMILY on n held-out scenes."""
    asked = exam(n)
    return errors_of(bind(model, tokens=scenes_text.tokenizer(LENGTH).encode(captions(asked.prompts))), asked)


def shown(generate: Generate, w: float, n: int = 150, world: World = scenes_text.WORLD) -> dict[str, float]:
    """What n pictures of each family of held-out captions show, by the parser: shares in [0, 1].

    By the family's name, the pictures that show their caption wholly; "objects": of the objects named, those that are
    there with their kind and colour; "readable". Each but the last also of another caption, the next one's: the control
    that a generator which does not listen scores, too. Pictures have the seeds 0 … n − 1.
    """
    found, everything = {}, {"objects": [], "objects, another caption": [], "readable": []}
    for family in world.families:
        prompts = replace(world, families=(family,)).prompts(n, 0, "test")
        seen = parse(generate(captions(prompts), w, range(n)))
        for asked, of in ((prompts, ""), (prompts[1:] + prompts[:1], ", another caption")):
            found[family + of] = float(matches(asked, seen).float().mean())
            everything["objects" + of].append(objects_there(asked, seen))
        everything["readable"].append(float(seen.readable.float().mean()))
    return {name: round(value, 4) for name, value in (found | {k: mean(v) for k, v in everything.items()}).items()}


def scores(model: Denoiser, n: int = 150, scenes: int = 512) -> dict[str, float]:
    """Work, tokens, errors by time, and what pictures in 25 steps show at w = 0 and 1: the names of `shown`, "w=1"."""
    grid = model.net.backbone.place  # type: ignore[union-attr]
    found = {"tokens": len(grid), "forward Gflops": round(forward_gflops(model), 6)}  # type: ignore[arg-type]
    for row in errors(model, scenes):
        found |= {f"{name}, t={row['t']:g}": round(row[name], 6) for name in ("loss", "floor", "excess")}
    for w in (0.0, 1.0):
        found |= {f"{name}, w={w:g}": share for name, share in shown(pictures_of(model, steps=25), w, n).items()}
    return found


@torch.no_grad()
def fashion_scores(model: Denoiser, per_class: int = 20) -> dict[str, float]:
    """Of `per_class` pictures of each class at each w: how many the judge names so, and how they stand to real ones.

    Precision and recall (`judges.coverage`) are of the judge's features, against as many real test pictures; a second
    sample of real pictures has those of "real".
    """
    judge, labels = fashion.JUDGE.load(), torch.arange(fashion.N_CLASSES).repeat_interleave(per_class)
    test = fashion_mnist(train=False)["x0"][: 2 * len(labels)]
    real, second = judge.features(test).chunk(2)
    found = {"real, precision": precision(real, second), "real, recall": recall(real, second)}
    for w in (0.0, 1.0, 3.0):
        x = fashion.pictures(range(fashion.N_CLASSES), w, per_class, model=model)
        seen = judge.features(x.clamp(-1, 1))
        found[f"judge accuracy at w={w}"] = float((judge.predict(x) == labels).float().mean())
        found |= {f"precision at w={w}": precision(real, seen), f"recall at w={w}": recall(real, seen)}
    return {name: round(value, 4) for name, value in found.items()}


# ---------------------------------------------------------------- shipped


def draw_fashion(batch: int = 32) -> Draw:
    rows = draw_rows(fashion_mnist(), batch)
    return diffuse(rows, times.logit_normal(0.0, 1.0, stratified=True), drop=0.15, null=fashion.NULL)


OPTIONS = scenes_text.OPTIONS | {"ema_decay": 0.99}
STEPS = 2000


def _member(size: str, patch: int) -> Shipped[Denoiser]:
    return Shipped(
        name=f"dit-{size}-{patch}", purpose=f"DiT-{size.upper()}/{patch} of 16-px scenes (chapter 11)",
        build=partial(build, size, patch), draw=scenes_text.TEXT.draw, steps=STEPS, scores=scores, options=OPTIONS,
    )  # fmt: skip


S8, S4, S2 = (_member("s", patch) for patch in PATCHES)
M8, M4, M2 = (_member("m", patch) for patch in PATCHES)
L8, L4, L2 = (_member("l", patch) for patch in PATCHES)
FAMILY = {model.name: model for model in (S8, S4, S2, M8, M4, M2, L8, L4, L2)}
"""By name: "dit-s-8" … "dit-l-2"."""

FASHION = Shipped(
    name="dit-fashion", purpose="garments by class with DiT and adaLN-Zero, both branches of CFG (chapter 11)",
    build=build_fashion, draw=draw_fashion, steps=2500, scores=fashion_scores,
    options={**OPTIONS, "ema_decay": 0.995},
)  # fmt: skip
