"""The Fashion-MNIST models of part I: presets, each of which returns a model (how they were trained: `recipes`).

denoiser()            class-conditional U-Net, flow matching, labels dropped 15 % of the time: both branches of CFG
noisy_classifier()    f_φ(y|x_t, t), trained at all noise levels: guides
clean_classifier()    the same network trained on clean pictures only: the control that should not guide well
judge()               an independent CNN, trained on clean, shifted, partly erased pictures: scores, never guides
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minidiff import times
from minidiff.backbones.unet import UNet
from minidiff.data.real import FASHION_NAMES
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, cfg
from minidiff.guides.classifier import NoisyClassifier
from minidiff.judges.cnn import JudgeCNN
from minidiff.predictions import VELOCITY
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m, sample
from minidiff.schedules import Linear
from minidiff.systems.train import loaded
from minidiff.validate import require

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
    return loaded(build_denoiser(), "fashion-denoiser")


def noisy_classifier() -> NoisyClassifier:
    return loaded(build_classifier(), "fashion-noisy-classifier")


def clean_classifier() -> NoisyClassifier:
    return loaded(build_classifier(), "fashion-clean-classifier")


def judge() -> JudgeCNN:
    return loaded(build_judge(), "fashion-judge")


def label(name: str) -> int:
    """The label of a class by its name, in any case ("T-shirt", "ankle boot"), or by its number ("9")."""
    names = [each.lower() for each in FASHION_NAMES]
    wanted = str(name).strip().lower()
    require(
        wanted in names or wanted in map(str, range(N_CLASSES)), "name", repr(name), f"one of {FASHION_NAMES} or 0 … 9"
    )
    return names.index(wanted) if wanted in names else int(wanted)


def pictures(
    labels: Sequence[int], w: float, per_class: int = 8, steps: int = 20, seed: int = 0, model: Denoiser | None = None
) -> Tensor:
    """Guided samples, `per_class` of each label in turn: (len(labels)·per_class, 1, 28, 28).

    Picture i starts from the noise of seed + i, whatever the batch. DPM-Solver++ (2M) with `steps` steps on Linear.
    """
    model = model or denoiser()
    device = next(model.parameters()).device
    y = torch.tensor(list(labels)).repeat_interleave(per_class).to(device)
    noise = randn((len(y), 1, 28, 28), seeded(range(seed, seed + len(y))), device=device)
    denoise = bind(model, y=y) if w == 0 else cfg(model, {"y": y}, NULL, w)
    *_, x = sample(denoise, noise, times.linear(steps), dpmpp_2m(model.schedule))
    return x
