"""Algorithms 1 and 2 of classifier guidance (arXiv 2105.05233) with exact scores: what do they sample?

    python benchmarks/classifier_guidance_algorithms.py        # about 15 minutes on one core

On the 1-D mixture `three_modes`, for each class y and strength w: W1 to exact samples of p(x|y), and the variance,
beside the floor (W1 between two exact samples). Chapter 04 shows the table. Results: results/<this name>.json.
"""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from minidiff import times
from minidiff.console import any_sign
from minidiff.data.mixtures import three_modes
from minidiff.guidance import Denoise, bind, classifier
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import Step, ddim, ddpm, sample
from minidiff.schedules import DDPM

WORLD, SCHEDULE = three_modes(), DDPM()
PRIOR = bind(WORLD.denoiser(SCHEDULE))
N, SEEDS, STRENGTHS = 5000, range(3), (1.0, 3.0)
RUNS = (
    *(("Algorithm 1", steps) for steps in (50, 100, 250, 1000)),
    *(("Algorithm 1, large variance", steps) for steps in (50, 100, 250, 1000)),
    *(("Algorithm 1 on the guided x0", steps) for steps in (50, 100, 250)),
    *(("Algorithm 2", steps) for steps in (50, 100, 250, 1000)),
)


def method(name: str, y: Tensor, w: Tensor) -> tuple[Denoise, Step]:
    """The denoiser and the step of one method, for labels y and strengths w, one per sample: (B,)."""

    def shift(x_t: Tensor, t: Tensor) -> Tensor:  # w·∇log p(y|x_t), by chapter 01's identity
        return w[:, None] * (WORLD.score(x_t, t, SCHEDULE, y) - WORLD.score(x_t, t, SCHEDULE))

    if name == "Algorithm 1":
        return PRIOR, ddpm(SCHEDULE, shift=shift)
    if name == "Algorithm 1, large variance":
        return PRIOR, ddpm(SCHEDULE, "large", shift=shift)
    guided = classifier(PRIOR, lambda x, t: WORLD.log_prob_label(x, t, SCHEDULE, y), SCHEDULE, w)
    return guided, ddpm(SCHEDULE) if name == "Algorithm 1 on the guided x0" else ddim(SCHEDULE)


def samples(name: str, steps: int, seed: int, n: int = N) -> dict[tuple[float, int], Tensor]:
    """n samples for every (w, y), all in one batch."""
    cases = [(w, y) for w in STRENGTHS for y in range(WORLD.n_classes)]
    w, y = (torch.tensor(column).repeat_interleave(n) for column in zip(*cases))
    generator = seeded(seed)
    denoise, step = method(name, y, w.double())
    noise = randn((len(y), 1), generator, torch.float64)
    *_, x = sample(denoise, noise, times.linear(steps), step, generator)
    return dict(zip(cases, x.split(n)))


def exact(y: int, seed: int, n: int = N) -> Tensor:
    return WORLD.of_class(y).sample(n, seeded(seed))[0]


def floors() -> dict[str, float]:
    """Mean W1 between two exact samples of size N, for each class."""
    worlds = [WORLD.of_class(y) for y in range(WORLD.n_classes)]
    draws = [lambda n, g, world=world: world.sample(n, g)[0] for world in worlds]
    return {f"y={y}": round(floor(draw, N)[0], 4) for y, draw in enumerate(draws)}


def main() -> None:
    began, rows = time.process_time(), []
    for name, steps in RUNS:
        found: dict[tuple[float, int], list[tuple[float, float]]] = {}
        for seed in SEEDS:
            for (w, y), x in samples(name, steps, seed).items():
                found.setdefault((w, y), []).append((w1(x, exact(y, 1000 + seed)), float(x.var())))
        for (w, y), values in found.items():
            distance, variance = torch.tensor(values).T
            rows.append(
                {"method": name, "steps": steps, "w": w, "y": y, "w1": [round(v, 4) for v in distance.tolist()],
                 "variance": [round(v, 5) for v in variance.tolist()]}
            )  # fmt: skip
            print(rows[-1], flush=True)
    facts = {"n": N, "floor": floors(), "exact_variance": {f"y={y}": float(exact_variance(y)) for y in range(3)}}
    report = facts | {"cpu_seconds": round(time.process_time() - began), "torch": torch.__version__, "rows": rows}
    path = Path(__file__).parent / "results" / f"{Path(__file__).stem}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def exact_variance(y: int) -> Tensor:
    return WORLD.of_class(y).covariances[0, 0, 0]


if __name__ == "__main__":
    any_sign()
    main()
