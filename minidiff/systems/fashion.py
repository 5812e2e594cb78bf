"""Fashion-MNIST, the pictures of part I: a generator, two classifiers that guide it, and a judge that scores.

DENOISER           class-conditional U-Net, flow matching, labels dropped 15 % of the time: both branches of CFG
NOISY_CLASSIFIER   f_φ(y|x_t, t), trained at all noise levels: guides
CLEAN_CLASSIFIER   the same network trained on clean pictures only: the control that should not guide well
JUDGE              an independent CNN, trained on clean, shifted, partly erased pictures: scores, never guides
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.unet import UNet
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.real import FASHION_NAMES, fashion_mnist
from minidiff.denoiser import Denoiser
from minidiff.guides.classifier import NoisyClassifier
from minidiff.judges.cnn import JudgeCNN
from minidiff.judges.scorecard import Generate
from minidiff.predictions import VELOCITY
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m
from minidiff.schedules import Linear
from minidiff.systems.generator import generator
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, diffuse, draw_rows
from minidiff.validate import require

N_CLASSES = len(FASHION_NAMES)
NULL = {"y": torch.tensor(N_CLASSES)}
"""The condition "no label" of DENOISER."""

# ---------------------------------------------------------------- build


def build_denoiser() -> Denoiser:
    """1.1 M parameters: 28×28 pixels folded to 4×14×14, widths 48 and 80, attention at 7×7."""
    net = UNet(channels=1, widths=(48, 80), depth=1, patch=2, embedding=128)
    return Denoiser(Conditioned(Labels(N_CLASSES, 128), net), Linear(), VELOCITY)


def build_classifier() -> NoisyClassifier:
    """0.2 M parameters; the noisy and the clean classifier share it."""
    return NoisyClassifier(Linear(), channels=1, n_classes=N_CLASSES)


def build_judge() -> JudgeCNN:
    return JudgeCNN(channels=1, n_classes=N_CLASSES)


# ---------------------------------------------------------------- generate


def label(name: str) -> int:
    """The label of a class by its name, in any case ("T-shirt", "ankle boot"), or by its number ("9")."""
    names = [each.lower() for each in FASHION_NAMES]
    wanted = str(name).strip().lower()
    require(
        wanted in names or wanted in map(str, range(N_CLASSES)), "name", repr(name), f"one of {FASHION_NAMES} or 0 … 9"
    )
    return names.index(wanted) if wanted in names else int(wanted)


def pictures_of(model: Denoiser | None = None, steps: int = 20) -> Generate:
    """`generate(texts, w, seeds)` for names of classes; DPM-Solver++ (2M) with `steps` steps. model: DENOISER's."""
    read = lambda texts: {"y": torch.tensor([label(text) for text in texts])}
    model = DENOISER.load() if model is None else model
    return generator(model, read, NULL, (1, 28, 28), steps=steps, step=dpmpp_2m)


def pictures(
    labels: Sequence[int], w: float, per_class: int = 8, steps: int = 20, seed: int = 0, model: Denoiser | None = None
) -> Tensor:
    """`per_class` pictures of each label in turn, (len(labels)·per_class, 1, 28, 28); picture i has seed + i."""
    texts = [str(int(each)) for each in labels for _ in range(per_class)]
    return pictures_of(model, steps)(texts, w, range(seed, seed + len(texts)))


# ---------------------------------------------------------------- draw


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


# ---------------------------------------------------------------- scores


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


def _denoiser_scores(model: Denoiser) -> dict[str, float]:
    labels = torch.arange(N_CLASSES).repeat_interleave(20)
    samples = {w: pictures(range(N_CLASSES), w, per_class=20, model=model) for w in (0.0, 1.0, 3.0)}
    agree = {w: (JUDGE.load().predict(x) == labels).float().mean() for w, x in samples.items()}
    return {f"judge accuracy at w={w}": round(float(share), 4) for w, share in agree.items()}


def _classifier_scores(model: NoisyClassifier) -> dict[str, float]:
    return {f"test accuracy at t={t}": round(classifier_accuracy(model, t), 4) for t in (0.0, 0.3, 0.5, 0.7, 0.9)}


def _judge_scores(model: JudgeCNN) -> dict[str, float]:
    return {"test accuracy": round(judge_accuracy(model), 4)}


# ---------------------------------------------------------------- shipped

JUDGE = Shipped(
    name="fashion-judge", purpose="an independent CNN that names garments: scores, never guides", build=build_judge,
    draw=lambda: _augmented(draw_rows(fashion_mnist(), 64)), steps=6000, scores=_judge_scores, seed=2024,
)  # fmt: skip
NOISY_CLASSIFIER = Shipped(
    name="fashion-noisy-classifier", purpose="p(y | x_t) at all noise levels: guides (chapter 04)",
    build=build_classifier, draw=lambda: diffuse(draw_rows(fashion_mnist(), 64)), steps=6000,
    scores=_classifier_scores, seed=1,
)  # fmt: skip
CLEAN_CLASSIFIER = Shipped(
    name="fashion-clean-classifier", purpose="the same, trained on clean pictures only: a control (chapter 04)",
    build=build_classifier, draw=lambda: diffuse(draw_rows(fashion_mnist(), 64), _clean_clock), steps=2000,
    scores=_classifier_scores, seed=1,
)  # fmt: skip
DENOISER = Shipped(
    name="fashion-denoiser", purpose="garments by class, both branches of CFG (chapters 02, 04, 05)",
    build=build_denoiser, steps=12000, scores=_denoiser_scores,
    draw=lambda: diffuse(draw_rows(fashion_mnist(), 32), times.logit_normal(0.0, 1.0), drop=0.15, null=NULL),
    options={"lr": 1e-3, "ema_decay": 0.9985},
)  # fmt: skip
