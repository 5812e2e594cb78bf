"""How every shipped file of weights is made: `minidiff train NAME` runs the recipe of that name."""

import torch
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.data.real import fashion_mnist
from minidiff.denoiser import Denoiser
from minidiff.encoders.classifier import NoisyClassifier
from minidiff.judges.cnn import JudgeCNN
from minidiff.randomness import randn, seeded
from minidiff.systems.fashion import N_CLASSES, NULL, build_classifier, build_denoiser, build_judge, judge, pictures
from minidiff.systems.train import Recipe
from minidiff.training import Batch, Draw, diffuse, draw_rows


def _clean_clock(batch: int, generator: Generator | None = None) -> Tensor:
    return torch.zeros(batch)


def _augmented(draw: Draw) -> Draw:
    """Shift the batch by up to 1 pixel and grey out one 6×6 square in a quarter of it, for the judge."""

    def changed(generator: Generator) -> Batch:
        batch = draw(generator)
        dx, dy = torch.randint(-1, 2, (2,), generator=generator).tolist()
        x0 = torch.roll(batch["x0"], (dy, dx), dims=(2, 3))
        row, column = torch.randint(0, 22, (2,), generator=generator).tolist()
        x0[: len(x0) // 4, :, row : row + 6, column : column + 6] = 0.0
        return {"x0": x0, "y": batch["y"]}

    return changed


@torch.no_grad()
def judge_accuracy(model: JudgeCNN) -> float:
    """Share of the real 10,000 test pictures that the judge names right."""
    test = fashion_mnist(train=False)
    return float((model.predict(test["x0"]) == test["y"]).float().mean())


@torch.no_grad()
def classifier_accuracy(model: NoisyClassifier, t: float) -> float:
    """Share of the first 2,000 test pictures that a classifier names right at noise level t."""
    test = {k: v[:2000] for k, v in fashion_mnist(train=False).items()}
    at = torch.tensor(t)
    noisy = model.schedule.add_noise(test["x0"], randn(test["x0"].shape, seeded(0)), at)
    return float((model(noisy, at).argmax(1) == test["y"]).float().mean())


def _denoiser_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, Denoiser)
    labels = torch.arange(N_CLASSES).repeat_interleave(20)
    samples = {w: pictures(range(N_CLASSES), w, per_class=20, model=model) for w in (0.0, 1.0, 3.0)}
    agree = {w: (judge().predict(x) == labels).float().mean() for w, x in samples.items()}
    return {f"judge accuracy at w={w}": round(float(share), 4) for w, share in agree.items()}


def _classifier_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, NoisyClassifier)
    return {f"test accuracy at t={t}": round(classifier_accuracy(model, t), 4) for t in (0.0, 0.3, 0.5, 0.7, 0.9)}


def _judge_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, JudgeCNN)
    return {"test accuracy": round(judge_accuracy(model), 4)}


RECIPES = (
    Recipe(
        "fashion-judge", build_judge, lambda: _augmented(draw_rows(fashion_mnist(), 64)), 6000, _judge_scores,
        seed=2024,
    ),
    Recipe(
        "fashion-noisy-classifier", build_classifier, lambda: diffuse(draw_rows(fashion_mnist(), 64)), 6000,
        _classifier_scores, seed=1,
    ),
    Recipe(
        "fashion-clean-classifier", build_classifier, lambda: diffuse(draw_rows(fashion_mnist(), 64), _clean_clock),
        2000, _classifier_scores, seed=1,
    ),
    Recipe(
        "fashion-denoiser", build_denoiser,
        lambda: diffuse(draw_rows(fashion_mnist(), 32), times.logit_normal(0.0, 1.0), drop=0.15, null=NULL),
        12000, _denoiser_scores, {"lr": 1e-3, "ema": 0.9985},
    ),
)  # fmt: skip
