"""Exercise 06-zero-shot: a classifier out of words."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_prompts(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, k: int, t: int, d: int, dtype: torch.dtype = torch.float64, unit: float = 1.0) -> Inputs:
        pictures = F.normalize(normal((b, d), g), dim=1).to(dtype)
        prompts = normal((k, 1, d), g) + normal((k, t, d), g)
        lengths = unit * (0.2 + 4 * torch.rand(k, t, 1, generator=g, dtype=torch.float64))
        return pictures, (prompts * lengths).to(dtype)

    return [
        case(5, 3, 4, 6),
        case(4, 4, 4, 3, torch.float32),
        case(1, 2, 7, 5),
        case(3, 3, 1, 4),
        case(1, 1, 2, 3),  # one picture, one class
        case(2, 3, 3, 4, unit=1e-6),  # very short vectors: a direction has no unit
        case(2, 3, 3, 4, unit=1e6),
        case(3, 2, 20, 2),  # many prompts in two dimensions: the means are short
    ]


def zero_shot_cosines(pictures: Tensor, prompts: Tensor) -> Tensor:
    """Cosine of every picture with every class."""
    classes = F.normalize(F.normalize(prompts, dim=2).mean(1), dim=1)
    return pictures @ classes.T


EXERCISE = Exercise(
    id="06-zero-shot",
    title="A classifier out of words",
    points=2,
    difficulty=2,
    importance=5,
    minutes=8,
    draw=_draw_prompts,
    reference=zero_shot_cosines,
    mistakes=(
        Mistake(
            "not-normalised-after",
            lambda pictures, prompts: pictures @ F.normalize(prompts, dim=2).mean(1).T,
            "You averaged unit vectors and stopped there. The mean of unit vectors is shorter than 1, the shorter the "
            "more its prompts differ: such a class loses every contest. Normalise the mean again.",
        ),
        Mistake(
            "not-normalised-before",
            lambda pictures, prompts: pictures @ F.normalize(prompts.mean(1), dim=1).T,
            "You averaged vectors of different lengths: a long one outvotes the others. The tower's lengths mean "
            "nothing (training never saw them); bring each prompt to length 1 before you average.",
        ),
        Mistake(
            "averaged-classes",
            lambda pictures, prompts: pictures @ F.normalize(F.normalize(prompts, dim=2).mean(0), dim=1).T,
            "You averaged over the classes and kept the templates apart. Axis 0 of `prompts` is the class, axis 1 the "
            "template.",
        ),
        Mistake(
            "mean-of-cosines",
            lambda pictures, prompts: torch.einsum("bd,ktd->bk", pictures, F.normalize(prompts, dim=2)),
            "You added up the cosines with the single prompts. That ranks like the mean vector *without* the second "
            "normalisation, and a sum grows with the number of templates.",
        ),
        Mistake(
            "best-template",
            lambda pictures, prompts: torch.einsum("bd,ktd->bkt", pictures, F.normalize(prompts, dim=2)).amax(2),
            "You took each class's best template. A class with an odd template wins whatever that one likes; the "
            "ensemble is meant to average the templates' oddities away.",
        ),
    ),
    alternatives=(
        lambda pictures, prompts: F.cosine_similarity(
            pictures[:, None], F.normalize(prompts, dim=2).sum(1)[None], dim=2
        ),
    ),
    hints=(
        "One vector per class: the direction of the mean of its prompts' directions.",
        "`F.normalize(prompts, dim=2)` makes unit vectors, `.mean(1)` goes over the templates. What is the length now?",
        "`classes = F.normalize(F.normalize(prompts, dim=2).mean(1), dim=1)`, then `pictures @ classes.T`.",
    ),
    expected="right, of 123 unseen pictures in eight classes: 0.23 ± 0.07 with one name a class, 0.44 ± 0.03 with 64, "
    "0.10 ± 0.03 with 64 names of any class (10 draws); the largest class has 0.25.",
    trap="if the prompts of all classes spread equally, their means are equally short, and the forgotten second "
    "normalisation changes no answer.",
)
