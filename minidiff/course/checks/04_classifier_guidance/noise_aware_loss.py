"""Exercise 04-noise-aware-loss: the loss of a noise-aware classifier."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.schedules import DDPM, Cosine, Linear, Schedule

from ._common import Classifier, chosen, small_classifier


def _draw_labelled(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], schedule: Schedule, dtype: torch.dtype = torch.float64, sharp: float = 1.0
    ) -> Inputs:
        x0, eps = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        y, t = torch.randint(3, shape[:1], generator=g), torch.rand(shape[0], generator=g, dtype=torch.float64)
        classifier = small_classifier(g, shape, 3, dtype, sharp, every=True)
        if sharp > 1.0:  # the label it believes in least, and the two ends of time
            t = t.round()
            y = classifier(schedule.add_noise(x0, eps, t), t).argmin(1)
        return classifier, schedule, x0, y, t.to(dtype), eps

    # As many pictures as pixels in a row: a noise level laid along the wrong axis goes unnoticed by PyTorch.
    return [
        case((4, 1, 4, 4), Linear()),
        case((2, 2), Cosine()),
        case((3, 1, 3, 3), DDPM(), torch.float32),
        case((1, 2), Linear()),  # a batch of one
        case((6, 2), Linear(), sharp=2000.0),  # sure of another class; t is 0 or 1
    ]


def noise_aware_loss(
    classifier: Classifier, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    """Cross-entropy of f(y|x_t, t), one value per picture."""
    return F.cross_entropy(classifier(schedule.add_noise(x0, eps, t), t), y, reduction="none")


def _last_axis(classifier: Classifier, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    return F.cross_entropy(classifier(alpha * x0 + sigma * eps, t), y, reduction="none")


EXERCISE = Exercise(
    id="04-noise-aware-loss",
    title="Teach a classifier to see through noise",
    points=2,
    difficulty=1,
    importance=5,
    minutes=8,
    draw=_draw_labelled,
    reference=noise_aware_loss,
    mistakes=(
        Mistake(
            "clean-picture",
            lambda classifier, schedule, x0, y, t, eps: F.cross_entropy(classifier(x0, t), y, reduction="none"),
            "You showed the classifier the clean picture and told it that it is noisy. It will never have seen what "
            "the sampler shows it. Add the noise first: x_t = α·x0 + σ·ε.",
        ),
        Mistake(
            "time-zero",
            lambda classifier, schedule, x0, y, t, eps: noise_aware_loss(
                lambda x, at: classifier(x, torch.zeros_like(at)), schedule, x0, y, t, eps
            ),
            "You showed the noisy picture but told the classifier t = 0. It cannot know how much of what it sees is "
            "noise, nor how sure it may be. Hand it t.",
        ),
        Mistake(
            "one-time-for-all",
            lambda classifier, schedule, x0, y, t, eps: noise_aware_loss(
                classifier, schedule, x0, y, t[:1].expand(len(t)), eps
            ),
            "You used the first picture's noise level for the whole batch. Each picture has its own t: that is how one "
            "batch teaches all noise levels.",
        ),
        Mistake(
            "last-axis",
            _last_axis,
            "Your formula is right, but α and σ of shape (B,) line up with the *last* axis of the pictures, so each "
            "column of pixels got its own noise level. `schedule.add_noise` does it right, or `expand_like(t, x0)`.",
        ),
        Mistake(
            "probability",
            lambda classifier, schedule, x0, y, t, eps: (
                -chosen(classifier(schedule.add_noise(x0, eps, t), t).softmax(1), y)
            ),
            "You used minus the probability as the loss. Its minimum is a classifier that bets everything on the "
            "likeliest class; minus the *logarithm* is minimal at the true p(y|x_t), and guidance needs that.",
        ),
        Mistake(
            "underflow",
            lambda classifier, schedule, x0, y, t, eps: (
                -chosen(classifier(schedule.add_noise(x0, eps, t), t).softmax(1), y).log()
            ),
            "You took the softmax first and its logarithm afterwards. A classifier that is sure of a wrong class then "
            "has the loss ∞, and one step of training fills its weights with NaN. `F.cross_entropy` and `log_softmax` "
            "compute log f from the logits directly.",
        ),
    ),
    alternatives=(
        lambda classifier, schedule, x0, y, t, eps: (
            -chosen(classifier(schedule.add_noise(x0, eps, t), t).log_softmax(1), y)
        ),
        lambda classifier, schedule, x0, y, t, eps: torch.cat(
            [noise_aware_loss(classifier, schedule, *(v[i : i + 1] for v in (x0, y, t, eps))) for i in range(len(x0))]
        ),
    ),
    hints=(
        "What will the sampler show this classifier, and when? Train it on exactly that.",
        "x_t = α(t)·x0 + σ(t)·ε; then the ordinary loss of a classifier, −log f(y|x_t, t), kept per picture.",
        '`schedule.add_noise(x0, eps, t)` and `F.cross_entropy(logits, y, reduction="none")`.',
    ),
    expected="at t = 0.6 on `decoys` the exact p(y|x_t) has the loss 1.003 ± 0.003 (5 seeds), your network 1.003 ± "
    "0.004, knowing nothing log 3 = 1.099, your network of clean points 2.6 ± 0.1, the exact classifier of clean "
    "points 3.19 ± 0.02.",
    trap="a classifier trained on clean data has an excellent loss on clean data. The number says nothing about the "
    "noisy points where guidance asks it.",
)
