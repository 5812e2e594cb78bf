"""Training steps per second of `fit`, of the same loop written by hand, and of denoising-diffusion-pytorch.

    python -m benchmarks.training_speed           writes benchmarks/results/training_speed.json

All train the same network (the U-Net of the Fashion-MNIST chapters, without labels) on the same pictures and batch
size, clip gradients to norm 1, and read the loss of every step as a number. They take turns, a few steps each; what
counts is the median over turns of the ratio of speeds. An MLP on points, whose steps take a millisecond, shows what
`fit` adds to a step.

bare              the loop a person writes: rows, noise, velocity, mean squared error, clip, AdamW, average of weights
bare without EMA  the same without the average, which `fit` always keeps
fit               this library: also checks its input, seeds every step, keeps a log and a progress bar (here: off)
lucidrains        denoising-diffusion-pytorch's GaussianDiffusion around our network, in the order of its Trainer.train:
                  Adam, clip, ema-pytorch's EMA, which averages every 10th step. Not its Trainer: that wants a folder of
                  pictures, and loads them in as many processes as there are cores
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._timing import alternate, machine
from minidiff.backbones.mlp import MLP
from minidiff.backbones.unet import UNet
from minidiff.console import any_sign
from minidiff.denoiser import Denoiser
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear
from minidiff.training import diffuse, draw_rows, fit

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
BAR = 0.97
ENDLESS = 10**9
LR = 1e-3


def unet() -> nn.Module:
    return initialised(lambda: UNet(channels=1, widths=(48, 80), depth=1, patch=2, embedding=128), seed=0)


def mlp() -> nn.Module:
    return initialised(lambda: MLP(2, width=128, depth=3), seed=0)


def pictures() -> Tensor:
    return randn((2048, 1, 28, 28), seeded(0)).clamp(-1, 1)


def constant(step: int, steps: int, peak: float) -> float:
    return peak


def by_hand(net: nn.Module, data: Tensor, batch: int, average: bool) -> Iterator[float]:
    """The bare loop, on the straight path with the velocity as target."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR)
    ema = [p.detach().clone() for p in net.parameters()]
    while True:
        x0 = data[torch.randint(len(data), (batch,))]
        t, eps = torch.rand(batch), torch.randn_like(x0)
        at = t.view(-1, *[1] * (x0.ndim - 1))
        loss = F.mse_loss(net((1 - at) * x0 + at * eps, t), eps - x0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if average:
            with torch.no_grad():
                for a, p in zip(ema, net.parameters()):
                    a.lerp_(p, 0.001)
        yield loss.item()


def by_fit(net: nn.Module, data: Tensor, batch: int) -> Iterator[float]:
    draw = diffuse(draw_rows({"x0": data}, batch))
    model = Denoiser(net, Linear(), VELOCITY)
    for progress in fit(model, draw, ENDLESS, lr=LR, lr_at=constant, bar=False):
        yield progress.loss


class Unlabelled(nn.Module):
    """Our network with the attributes and the call of denoising-diffusion-pytorch's own: times are 0 … 999."""

    channels = out_dim = 1
    self_condition = False

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, x_self_cond: None = None) -> Tensor:
        return self.net(x, (t + 1) / 1000)


def by_lucidrains(net: nn.Module, data: Tensor, batch: int) -> Iterator[float]:
    from denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA

    diffusion = GaussianDiffusion(Unlabelled(net), image_size=28, objective="pred_v", auto_normalize=False)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=LR, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    while True:
        diffusion.train()
        loss = diffusion(data[torch.randint(len(data), (batch,))])
        value = loss.item()
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        yield value


def take(loop: Iterator[float], steps: int):
    return lambda: [next(loop) for _ in range(steps)]


def measure(name: str, loops: dict[str, Iterator[float]], steps: int, rounds: int, parameters: int) -> dict[str, Any]:
    rows = alternate({k: take(v, steps) for k, v in loops.items()}, "bare", rounds)
    print(f"\n{name}: {parameters} parameters; speed as a multiple of the bare loop's (median)")
    for row in rows.values():
        row["steps_per_s"] = round(steps / row["wall_s"], 3)
        row["speed_wall"], row["speed_cpu"] = (round(1 / row.pop(f"{c}_ratio")["median"], 4) for c in ("wall", "cpu"))
    for k, row in rows.items():
        print(
            f"  {k:18s} {row['steps_per_s']:8.2f} steps/s   wall {row['speed_wall']:.3f}   CPU {row['speed_cpu']:.3f}"
        )
    return {"parameters": parameters, "steps_per_turn": steps, **rows}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    size = lambda net: sum(p.numel() for p in net.parameters())
    found = {}
    for batch in (32, 8):
        data = pictures()
        loops = {
            "bare": by_hand(unet(), data, batch, average=True),
            "bare without EMA": by_hand(unet(), data, batch, average=False),
            "fit": by_fit(unet(), data, batch),
            "lucidrains": by_lucidrains(unet(), data, batch),
        }
        name = f"U-Net, {batch} x 28x28"
        found[name] = measure(name, loops, 4 if batch == 32 else 12, rounds, size(unet()))
    points = randn((4096, 2), seeded(0))
    loops = {
        "bare": by_hand(mlp(), points, 256, average=True),
        "bare without EMA": by_hand(mlp(), points, 256, average=False),
        "fit": by_fit(mlp(), points, 256),
    }
    found["MLP, 256 points"] = measure("MLP, 256 points", loops, 100, rounds, size(mlp()))
    facts = {"command": "python -m benchmarks.training_speed", "bar": BAR, "rounds": rounds, **machine()}
    RESULTS.write_text(json.dumps({**facts, "speeds": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    any_sign()
    main()
