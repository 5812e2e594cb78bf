"""A prior of 16-px scenes: a DiT without any input but x_t and t, which forward models plug into (chapter 03)."""

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.data.prompts import World, place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.scenes import parse
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m, sample
from minidiff.schedules import Linear
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, diffuse

WORLD = World(families=("one", "relation"))
"""One or two objects, five shapes, six colours."""


def build() -> Denoiser:
    """1.3 M parameters: 16 tokens of 4×4 pixels, width 128, 4 blocks; x0-prediction judged as a velocity."""
    return Denoiser(DiT(), Linear(), X0, velocity_weight)


def draw_scenes(batch: int) -> Draw:
    """New scenes in every batch: {"x0": (batch, 3, 16, 16)}."""

    def draw(generator: Generator) -> Batch:
        return {"x0": render(place(WORLD.prompts(batch, generator, "train"), generator))}

    return draw


@torch.no_grad()
def samples(model: Denoiser, n: int, steps: int = 25) -> Tensor:
    """(n, 3, 16, 16): picture i from the noise of seed i, by DPM-Solver++ (2M)."""
    noise = randn((n, 3, 16, 16), seeded(range(n)), device=next(model.parameters()).device)
    *_, x = sample(bind(model), noise, times.linear(steps), dpmpp_2m(model.schedule))
    return x


@torch.no_grad()
def _unconditional_scores(model: Denoiser) -> dict[str, float]:
    read = parse(samples(model, 1000))
    objects = (read.scenes.kind >= 0).sum(1)
    allowed = read.readable & (objects >= 1) & (objects <= 2)
    return {
        "readable": round(float(read.readable.float().mean()), 4),
        "a scene of the world": round(float(allowed.float().mean()), 4),
    }


MODEL = Shipped(
    name="scenes-unconditional", purpose="the prior of 16-px scenes, no condition at all (chapter 03)", build=build,
    draw=lambda: diffuse(draw_scenes(32), times.logit_normal(0.3, 1.0)), steps=16000, scores=_unconditional_scores,
    options={"lr": 1.5e-3, "ema_decay": 0.9995},
)  # fmt: skip
