"""What a small network learns: four targets on two schedules, and a U-Net on digits, each with its control.

    python benchmarks/conditional_training.py              # about 20 minutes on one core; resumes where it stopped
    python benchmarks/conditional_training.py --part points     # only this part: points, controls or digits

points    an MLP on the eight clouds (2-D), 2,200 steps: relative L2 error of the learned ε against the exact
          E[ε | x_t, y], over x_t ~ p_t, t ~ U(0, 1) and in ten bins of t; for EPS, X0, V, VELOCITY on Linear and Cosine
controls  V on Cosine again: W1 of samples to each class conditional and to the marginal, for the label told, for no
          label, and for a network trained on shuffled labels; the floor is W1 between two exact samples
digits    a U-Net on the 8×8 digits, 350 steps: how often a support vector machine reads the digit that was asked for,
          with labels, with no label, and for a network trained on shuffled labels

Three seeds each. Chapter 02 shows the tables. Results: results/conditional_training.json.
"""

import argparse
import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.svm import SVC
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.backbones.unet import UNet
from minidiff.conditioning import Conditioned, Labels
from minidiff.console import any_sign
from minidiff.data.mixtures import Mixture, ring
from minidiff.data.real import digits
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.wasserstein import floor, w1
from minidiff.predictions import EPS, VELOCITY, X0, Prediction, V
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import dpmpp_2m, heun, sample
from minidiff.schedules import Cosine, Linear, Schedule
from minidiff.training import Batch, Draw, diffuse, draw_rows, fit

OUT = Path(__file__).parent / "results" / "conditional_training.json"
WORLD, SEEDS = ring(), range(3)


def shuffled(draw: Draw) -> Draw:
    """The same data with labels that belong to other rows: the control in which a label means nothing."""

    def batch(generator: Generator) -> Batch:
        found = draw(generator)
        return {**found, "y": found["y"][torch.randperm(len(found["y"]), generator=generator)]}

    return batch


def trained(build: Callable[[], Denoiser], draw: Draw, steps: int, seed: int, **options: Any) -> Denoiser:
    return deque(fit(initialised(build, seed), draw, steps, seed=seed, bar=False, **options), maxlen=1)[0].ema


def train_points(schedule: Schedule, prediction: Prediction, seed: int, draw: Draw | None = None) -> Denoiser:
    """The recipe of chapter 02."""
    null = {"y": torch.tensor(WORLD.n_classes)}
    build = lambda: Denoiser(Conditioned(Labels(WORLD.n_classes, 64), MLP(2, width=64)), schedule, prediction)
    noisy = diffuse(draw or WORLD.draw(512), times.uniform, drop=0.15, null=null)
    return trained(build, noisy, 2200, seed, lr=4e-3, ema_decay=0.995)


@torch.no_grad()
def eps_errors(model: Denoiser, n: int = 20_000) -> dict[str, Any]:
    """Relative L2 error of the learned ε over all times, in ten bins of t, and told the wrong label."""
    x0, y = WORLD.sample(n, seeded(10))
    eps = randn(x0.shape, seeded(11), torch.float64)
    t = torch.rand(n, generator=seeded(12), dtype=torch.float64).clamp(min=1e-3)
    alpha, sigma = model.schedule(t[:, None])
    x_t = model.schedule.add_noise(x0, eps, t)
    as_eps = lambda guess: (x_t - alpha * guess) / sigma
    exact = as_eps(WORLD.denoise(x_t, t, model.schedule, y))
    own, wrong = (as_eps(model(x_t.float(), t.float(), y=label).double()) for label in (y, 1 - y))
    relative = lambda got, rows: float((got[rows] - exact[rows]).norm() / exact[rows].norm())
    bins = [relative(own, (t >= low / 10) & (t < (low + 1) / 10)) for low in range(10)]
    return {"all": relative(own, slice(None)), "bins": bins, "wrong label": relative(wrong, slice(None))}


def drawn(model: Denoiser, label: int, n: int, seed: int) -> Tensor:
    noise = randn((n, 2), seeded(1000 + seed))
    *_, x = sample(bind(model, y=torch.tensor(label)), noise, times.linear(32), heun(model.schedule))
    return x.double()


def sample_distances(seed: int, n: int = 2000) -> dict[str, float]:
    """W1 of samples to exact ones; "a | b" is what was asked | what it is compared with."""
    honest = train_points(Cosine(), V, seed)
    fooled = train_points(Cosine(), V, seed, shuffled(WORLD.draw(512)))
    targets: dict[str, Mixture] = {"y=0": WORLD.of_class(0), "y=1": WORLD.of_class(1), "marginal": WORLD}
    exact = {name: world.sample(n, seeded(2000 + seed))[0] for name, world in targets.items()}
    found = {}
    for label, asked in enumerate(("y=0", "y=1", "no label")):
        x = drawn(honest, label, n, seed)
        found |= {f"{asked} | {name}": w1(x, exact[name]) for name in targets}
    x = drawn(fooled, 0, n, seed)
    found |= {f"shuffled, y=0 | {name}": w1(x, exact[name]) for name in ("y=0", "marginal")}
    draws = {name: (lambda k, g, world=world: world.sample(k, g)[0]) for name, world in targets.items()}
    return found | {f"floor {name}": floor(draw, n, 3, seed)[0] for name, draw in draws.items()}


def digit_scores(seed: int) -> dict[str, float]:
    """Share of 200 samples that the judge reads as the digit asked for."""
    real, unseen = digits(), digits(train=False)
    judge = SVC().fit(real["x0"].flatten(1), real["y"])
    read = lambda x: torch.from_numpy(judge.predict(x.clamp(-1, 1).flatten(1).numpy()))
    y = torch.arange(10).repeat_interleave(20)
    noise = randn((200, 1, 8, 8), seeded(range(1000 * seed, 1000 * seed + 200)))
    build = lambda: Denoiser(
        Conditioned(Labels(10, 96), UNet(1, (64,), depth=1, patch=2, embedding=96)), Linear(), VELOCITY
    )
    found = {"real test digits": float((read(unseen["x0"]) == unseen["y"]).double().mean())}
    for name, draw in (("", draw_rows(real, 64)), (", shuffled labels", shuffled(draw_rows(real, 64)))):
        noisy = diffuse(draw, times.uniform, drop=0.1, null={"y": torch.tensor(10)})
        began = time.process_time()
        model = trained(build, noisy, 350, seed, lr=4e-3, ema_decay=0.98)
        found[f"training CPU seconds{name}"] = round(time.process_time() - began, 1)
        for asked, label in (("label", y), ("no label", torch.full_like(y, 10))):
            *_, x = sample(bind(model, y=label), noise, times.linear(16), dpmpp_2m(model.schedule))
            found[asked + name] = float((read(x) == y).double().mean())
    return found


def jobs() -> dict[str, Callable[[], Any]]:
    """Every measurement by name, "part/…/seed"."""
    cells = [(s, p, k) for k in SEEDS for s in (Cosine(), Linear()) for p in (V, VELOCITY, EPS, X0)]
    points = {
        f"points/{p.name} on {type(s).__name__}/{k}": (lambda s=s, p=p, k=k: eps_errors(train_points(s, p, k)))
        for s, p, k in cells
    }
    controls = {f"controls/{k}": (lambda k=k: sample_distances(k)) for k in SEEDS}
    return points | controls | {f"digits/{k}": (lambda k=k: digit_scores(k)) for k in SEEDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", default="", help="points, controls or digits (default: all)")
    part = parser.parse_args().part
    done = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    for name, measure in jobs().items():
        if name.startswith(part) and name not in done:
            done[name] = measure()
            OUT.parent.mkdir(exist_ok=True)
            OUT.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            print(name, done[name], flush=True)


if __name__ == "__main__":
    any_sign()
    main()
