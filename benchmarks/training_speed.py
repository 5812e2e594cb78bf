"""What `fit` costs on top of a loop written by hand: training steps per second, side by side.

    python -m benchmarks.training_speed        prints a table, writes benchmarks/results/training_speed.json

The same U-Net, data, batch, AdamW and clipping everywhere, one thread. `by hand` is the shortest loop that trains the
same model: draw, loss, backward, clip, step. `by hand, with EMA` adds the moving average that `fit` always keeps.
`denoising-diffusion-pytorch` is that library's GaussianDiffusion (its forward process, its loss) with our network
inside, its own EMA every ten steps as its Trainer sets it, in its Trainer's loop without the files. Bar for `fit`: at
least 0.97 of the speed of the loop that does the same work (`by hand, with EMA`).
Runs take turns in blocks of steps; the ratios are medians over rounds.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from denoising_diffusion_pytorch import GaussianDiffusion
from ema_pytorch import EMA as TheirEMA
from torch import Tensor, nn

from minidiff.backbones.unet import UNet
from minidiff.denoiser import Denoiser
from minidiff.predictions import EPS
from minidiff.schedules import DDPM
from minidiff.systems.train import initialised
from minidiff.training import EMA, diffuse, draw_rows, fit

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
BATCH, LR, BLOCK, ROUNDS = 32, 1e-3, 6, 15
DATA = {"x0": torch.rand(512, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1}


def net() -> nn.Module:
    return UNet(1, widths=(48, 80), depth=1, patch=2, embedding=128)


def with_fit() -> Iterator[Any]:
    model = initialised(lambda: Denoiser(net(), DDPM(), EPS), 0)
    return fit(model, diffuse(draw_rows(DATA, BATCH)), 10**6, lr=LR, bar=False)


def by_hand(average: bool) -> Iterator[float]:
    model = initialised(lambda: Denoiser(net(), DDPM(), EPS), 0)
    optimizer, ema = torch.optim.AdamW(model.parameters(), lr=LR), EMA(model, 0.999)
    for step in range(10**6):
        x0 = DATA["x0"][torch.randint(len(DATA["x0"]), (BATCH,))]
        loss = model.loss(x0, torch.rand(BATCH), torch.randn_like(x0)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if average:
            ema.update(model, step)
        yield loss.item()


class Theirs(nn.Module):
    """Our U-Net with the attributes that GaussianDiffusion asks of a network; it passes steps 0 … 999."""

    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 1, 1, False, False

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, t: Tensor, x_self_cond: None = None) -> Tensor:
        return self.net(x, (t.float() + 1) / 1000)


def with_ddpm_pytorch() -> Iterator[float]:
    diffusion = GaussianDiffusion(
        initialised(Theirs, 0), image_size=28, objective="pred_noise", beta_schedule="linear", auto_normalize=False
    )
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=LR, betas=(0.9, 0.99))
    ema = TheirEMA(diffusion, beta=0.995, update_every=10)
    while True:
        loss = diffusion(DATA["x0"][torch.randint(len(DATA["x0"]), (BATCH,))])
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        yield loss.item()


def main() -> None:
    torch.set_num_threads(1)
    makers: dict[str, Callable[[], Iterator[Any]]] = {
        "by hand, with EMA": lambda: by_hand(average=True),
        "by hand": lambda: by_hand(average=False),
        "minidiff fit": with_fit,
        "denoising-diffusion-pytorch": with_ddpm_pytorch,
    }
    loops = {name: make() for name, make in makers.items()}
    for loop in loops.values():  # the first steps allocate
        next(loop), next(loop)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            began = time.perf_counter()
            for _ in range(BLOCK):
                next(loop)
            seconds[name].append((time.perf_counter() - began) / BLOCK)
    reference = seconds["by hand, with EMA"]
    results = {
        name: {
            "steps per second": round(1 / statistics.median(taken), 3),
            "speed relative to by hand, with EMA": round(statistics.median(b / a for a, b in zip(taken, reference)), 4),
        }
        for name, taken in seconds.items()
    }
    for name, row in results.items():
        speed, relative = row.values()
        print(f"{name:30s} {speed:7.2f} steps/s   {relative:6.3f} ×")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
