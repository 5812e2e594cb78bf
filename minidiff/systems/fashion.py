"""The Fashion-MNIST models of part I: presets (each returns a model), and how their weights were trained.

denoiser()            class-conditional U-Net, flow matching, labels dropped 15 % of the time: both branches of CFG
noisy_classifier()    f_φ(y|x_t, t), trained at all noise levels: guides
clean_classifier()    the same network trained on clean pictures only: the control that should not guide well
judge()               an independent CNN, trained on clean, shifted, partly erased pictures: scores, never guides
"""

import torch
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.backbones.unet import UNet
from minidiff.data.real import FASHION_NAMES, fashion_mnist
from minidiff.denoiser import Denoiser
from minidiff.encoders.classifier import NoisyClassifier
from minidiff.guidance import bind, cfg
from minidiff.judges.cnn import JudgeCNN
from minidiff.predictions import VELOCITY
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m, sample
from minidiff.schedules import Linear
from minidiff.systems.recipe import M, Recipe
from minidiff.training import Batch, Draw, diffuse, draw_rows
from minidiff.weights import load_weights

N_CLASSES = len(FASHION_NAMES)
NULL = {"y": torch.tensor(N_CLASSES)}
"""The condition "no label" of `denoiser`."""


def build_denoiser() -> Denoiser:
    """1.1 M parameters: 28×28 pixels folded to 4×14×14, widths 48 and 80, attention at 7×7."""
    net = UNet(channels=1, widths=(48, 80), depth=1, n_classes=N_CLASSES, patch=2, embedding=128)
    return Denoiser(net, Linear(), VELOCITY)


def build_classifier() -> NoisyClassifier:
    """0.2 M parameters; the noisy and the clean classifier share it."""
    return NoisyClassifier(Linear(), channels=1, n_classes=N_CLASSES)


def build_judge() -> JudgeCNN:
    return JudgeCNN(channels=1, n_classes=N_CLASSES)


def denoiser() -> Denoiser:
    return _loaded(build_denoiser(), "fashion-denoiser")


def noisy_classifier() -> NoisyClassifier:
    return _loaded(build_classifier(), "fashion-noisy-classifier")


def clean_classifier() -> NoisyClassifier:
    return _loaded(build_classifier(), "fashion-clean-classifier")


def judge() -> JudgeCNN:
    return _loaded(build_judge(), "fashion-judge")


def _loaded(model: M, name: str) -> M:
    model.load_state_dict(load_weights(name))
    return model.eval().requires_grad_(False)


def _clean_clock(batch: int, generator: Generator | None = None) -> Tensor:
    return torch.zeros(batch)


def _augmented(draw: Draw) -> Draw:
    """Shift each picture by up to 2 pixels and grey out one 8×8 square in half of them, for the judge."""

    def changed(generator: Generator) -> Batch:
        batch = draw(generator)
        x0 = batch["x0"]
        dx, dy = torch.randint(-2, 3, (2,), generator=generator).tolist()
        x0 = torch.roll(x0, (dy, dx), dims=(2, 3))
        row, column = torch.randint(0, 20, (2,), generator=generator).tolist()
        x0[: len(x0) // 2, :, row : row + 8, column : column + 8] = 0.0
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


def judged_samples(model: Denoiser, w: float, per_class: int = 20, steps: int = 20) -> tuple[Tensor, float]:
    """Guided samples, `per_class` of each class in turn, (10·per_class, 1, 28, 28), and their accuracy under the judge."""
    y = torch.arange(N_CLASSES).repeat_interleave(per_class)
    noise = randn((len(y), 1, 28, 28), seeded(range(len(y))))
    denoise = bind(model, y=y) if w == 0 else cfg(model, {"y": y}, NULL, w)
    *_, x = sample(denoise, noise, times.linear(steps), dpmpp_2m(model.schedule))
    return x, float((judge().predict(x) == y).float().mean())


def _denoiser_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, Denoiser)
    return {f"judge accuracy at w={w}": round(judged_samples(model, w)[1], 4) for w in (0.0, 1.0, 3.0)}


def _classifier_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, NoisyClassifier)
    return {f"test accuracy at t={t}": round(classifier_accuracy(model, t), 4) for t in (0.0, 0.3, 0.5, 0.7, 0.9)}


def _judge_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, JudgeCNN)
    return {"test accuracy": round(judge_accuracy(model), 4)}


RECIPES = (
    Recipe(
        "fashion-judge", build_judge, lambda: _augmented(draw_rows(fashion_mnist(), 64)), 6000, _judge_scores, seed=2024
    ),
    Recipe(
        "fashion-noisy-classifier", build_classifier, lambda: diffuse(draw_rows(fashion_mnist(), 64)), 6000,
        _classifier_scores, seed=1,
    ),
    Recipe(
        "fashion-clean-classifier", build_classifier, lambda: diffuse(draw_rows(fashion_mnist(), 64), _clean_clock), 2000,
        _classifier_scores, seed=1,
    ),
    Recipe(
        "fashion-denoiser", build_denoiser,
        lambda: diffuse(draw_rows(fashion_mnist(), 32), times.logit_normal(0.0, 1.0), drop=0.15, null=NULL),
        12000, _denoiser_scores, {"lr": 1e-3, "ema": 0.9985},
    ),
)  # fmt: skip
