"""Corners of the design space, trained with equal work: one network of each real model's cell (chapter 15).

Equal work: each takes as many steps of 32 pictures as `WORK` operations allow, counted by PyTorch over one training
step of the very network, gradients and the frozen reader included. Cells have equally many parameters, too
(`design`), so one whose step is dear learns from fewer pictures.

All are small and stop early: these are differences at equal work, not what a design is capable of. One seed.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from minidiff.backbones.transfusion import Transfusion
from minidiff.denoiser import Denoiser
from minidiff.judges.scorecard import Generate, shares
from minidiff.optim import Muon
from minidiff.randomness import initialised
from minidiff.systems import atlas, clip_sprites, latent, llm, stable_diffusion
from minidiff.systems.design import WORLD, Design
from minidiff.systems.dit import gflops
from minidiff.systems.shipped import Shipped
from minidiff.training import step_generator

WORK, BATCH = 24_000.0, 32
"""10⁹ operations of a training run, 12 to 15 minutes of a busy core; pictures of a step."""
CORNERS = {
    "Imagen": ("imagen", 5989), "Stable Diffusion 1": ("sd-1", 6739), "PixArt-α": ("pixart", 3940),
    "SANA": ("sana", 3940), "Stable Diffusion 3": ("sd-3", 2836), "Flux 2": ("flux-2", 3323),
    "Transfusion": ("transfusion", 2756), "HunyuanImage 3.0": ("hunyuan", 2756),
}  # fmt: skip
"""Real model → the file of its cell's network, and its steps: `WORK` / `step_gflops`."""
OPTIONS: dict[str, Any] = {"optimizer": Muon, "groups": stable_diffusion.groups, "ema_decay": 0.998}
"""Of `training.fit`."""


def cell(name: str) -> Design:
    """Where a real model sits."""
    return atlas.model(name).design


@torch.enable_grad()
def step_gflops(design: Design, batch: int = BATCH) -> float:
    """10⁹ operations of one training step: loss, gradients, reader; not the pictures' own making."""
    model = initialised(design.build, 0)
    rows = design.draw(batch)(step_generator(0, 0))
    return gflops(lambda: model.loss(**rows).mean().backward())


def readable(name: str, model: Denoiser | Transfusion, steps: int = 50, batch: int = 100) -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 64, 64), as the judge reads sprites: 16 pixels a side are repeated."""
    generate = cell(name).pictures_of(model, steps, batch)
    return lambda texts, w, seeds: F.interpolate(generate(texts, w, seeds), size=(64, 64), mode="nearest")


def scores(name: str, model: Denoiser | Transfusion, n: int = 100) -> dict[str, float]:
    """Of n held-out captions of each family at w = 1: pictures that show all of theirs, and all of the next one's."""
    found = {}
    for family, (right, other) in shares(readable(name, model), WORLD, 1.0, n).items():
        found |= {family: round(right.share, 4), f"{family}, another caption": round(other.share, 4)}
    return found


def frozen(design: Design) -> tuple[Shipped, ...]:
    """The shipped models that a cell stands on."""
    used: list[Shipped] = [latent.AUTOENCODER] if design.space == "latents" else []
    if design.conditioning != "one sequence":
        used += [clip_sprites.MODEL] if "CLIP" in design.encoder else []
        used += [llm.MODEL] if "language model" in design.encoder else []
    return tuple(used)


def _corner(name: str) -> Shipped[Denoiser | Transfusion]:
    file, steps = CORNERS[name]
    return Shipped(
        name=f"corner-{file}", purpose=f"the cell of {name}: {cell(name)}; equal work (chapter 15)",
        build=lambda: cell(name).build(), draw=lambda: cell(name).draw(BATCH), steps=steps,
        scores=partial(scores, name), bits=8, apart=".encoder.", options=OPTIONS,
    )  # fmt: skip


IMAGEN, SD_1, PIXART, SANA, SD_3, FLUX_2, TRANSFUSION, HUNYUAN = map(_corner, CORNERS)
MODELS = dict(zip(CORNERS, (IMAGEN, SD_1, PIXART, SANA, SD_3, FLUX_2, TRANSFUSION, HUNYUAN), strict=True))
"""Real model → what is shipped of its cell."""
