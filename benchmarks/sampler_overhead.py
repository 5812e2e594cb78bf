"""What a sampler costs on top of the network: wall time of a trajectory over that of its bare network calls.

    python -m benchmarks.sampler_overhead        prints a table, writes benchmarks/results/sampler_overhead.json

The same U-Net, the same number of calls, DDIM or Euler steps in every library. Bare calls and libraries take turns in
one run; a ratio belongs to one round, and the median over rounds is reported. Bar for minidiff: at most 1.05 on the
small U-Net. The tiny MLP shows the cost of a step in microseconds, where the network is next to nothing.
"""

import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import azula.denoise
import azula.noise
import azula.sample
import diffusers
import smalldiffusion
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.backbones.unet import UNet
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.predictions import EPS, VELOCITY
from minidiff.samplers import ddim, dpmpp_2m, euler, sample
from minidiff.schedules import DDPM, Linear

RESULTS = Path(__file__).parent / "results" / "sampler_overhead.json"
STEPS = 20
SIZES: dict[str, Any] = {"widths": (48, 80), "depth": 1, "patch": 2, "embedding": 128}
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {  # network, shape, rounds
    "small U-Net, 16 pictures of 28×28": (lambda: UNet(1, **SIZES), (16, 1, 28, 28), 15),
    "small U-Net, 1 picture of 28×28": (lambda: UNet(1, **SIZES), (1, 1, 28, 28), 25),
    "tiny MLP, 16 points": (lambda: MLP(2, width=16, depth=1), (16, 2), 40),
}


class Small(nn.Module, smalldiffusion.ModelMixin):
    """smalldiffusion calls its model with (x, σ) and no time."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.net, self.input_dims = net, shape[1:]

    def forward(self, x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        return self.net(x, sigma.expand(len(x)))


class Azula(nn.Module):
    """azula calls its backbone with a scalar log(σ/α)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t.expand(len(x)))


def samplers(net: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """Each runs one trajectory of STEPS calls of `net` from the noise x."""
    t = torch.full((len(x),), 0.5)
    linear, table = Denoiser(net, Linear(), VELOCITY), Denoiser(net, DDPM(), EPS)
    scheduler = diffusers.DDIMScheduler(set_alpha_to_one=True, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    azulas = azula.sample.DDIMSampler(
        azula.denoise.SimpleDenoiser(Azula(net), azula.noise.RectifiedSchedule()), steps=STEPS, silent=True
    )
    sigmas = torch.linspace(1, 0, STEPS + 1)
    small, accelerator = Small(net, tuple(x.shape)), Accelerator(cpu=x.device.type == "cpu")

    @torch.no_grad()
    def bare() -> None:
        for _ in range(STEPS):
            net(x, t)

    @torch.no_grad()
    def with_diffusers() -> None:
        state = x
        for step in scheduler.timesteps:
            output = net(state, (step / 1000).expand(len(x)))
            state = scheduler.step(output, step, state).prev_sample

    def ours(model: Denoiser, step: Any) -> Callable[[], object]:
        return lambda: deque(sample(bind(model), x, times.linear(STEPS), step), maxlen=0)

    return {
        "bare calls": bare,
        "minidiff ddim, DDPM": ours(table, ddim(table.schedule)),
        "minidiff euler, Linear": ours(linear, euler(linear.schedule)),
        "minidiff dpmpp_2m, Linear": ours(linear, dpmpp_2m(linear.schedule)),
        "diffusers DDIMScheduler": with_diffusers,
        "azula DDIMSampler": lambda: azulas(x),
        "smalldiffusion samples": lambda: deque(smalldiffusion.samples(small, sigmas, xt=x, accelerator=accelerator)),
    }


def measure(build: Callable[[], nn.Module], shape: tuple[int, ...], rounds: int) -> dict[str, dict[str, float]]:
    """Per library, medians over rounds: its time / the bare calls' of the same round, and µs per step above them."""
    x, net = torch.randn(shape, generator=torch.Generator().manual_seed(0)), build().eval()
    runs = samplers(net, x)
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    bare = seconds["bare calls"]
    return {
        name: {
            "ratio": round(statistics.median(a / b for a, b in zip(taken, bare)), 4),
            "microseconds per step above the calls": round(
                1e6 / STEPS * statistics.median(a - b for a, b in zip(taken, bare)), 1
            ),
        }
        for name, taken in seconds.items()
    }


def main() -> None:
    torch.set_num_threads(1)
    results = {case: measure(*setting) for case, setting in CASES.items()}
    for case, rows in results.items():
        print(f"\n{case}, {STEPS} steps, 1 thread")
        for name, row in rows.items():
            print(
                f"  {name:28s} {row['ratio']:7.3f} ×  {row['microseconds per step above the calls']:9.1f} µs per step"
            )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
