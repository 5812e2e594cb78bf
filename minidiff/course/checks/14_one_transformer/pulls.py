"""Exercise 14-pulls: how hard each of two losses pulls at the weights that they share, and whether the same way."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal

Gradients = Sequence[Tensor | None]
Two = tuple[Tensor, Tensor]
Kept = Callable[[Gradients, Gradients], tuple[Tensor, Tensor]]


def _draw_gradients(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shapes: str, weight: float, dtype: torch.dtype = torch.float64, alike: float = 0.4) -> Inputs:
        """Letters: s shared, w of words alone, p of pictures alone; each with another shape and another scale.

        alike: how far the pictures' gradient goes the words' way; below 0, against it.
        """
        words, pictures = [], []
        for i, letter in enumerate(shapes):
            shape = (2 + i % 3, 3) if i % 2 else (4,)
            both = [(0.2 + 2.0 * i * k) * normal(shape, g) for k in (1, 0.3)]
            both[1] = both[1] + alike * both[0]
            words.append(None if letter == "p" else both[0].to(dtype))
            pictures.append(None if letter == "w" else both[1].to(dtype))
        return words, pictures, weight

    return [
        case("sswsp", 5.0),
        case("wssps", 0.5),
        case("sss", 1.0, alike=-0.6),
        case("sp", 20.0, torch.float32, alike=-0.2),
        case("pswsspw", 2.0, torch.float32),
    ]


def _shared(words: Gradients, pictures: Gradients) -> tuple[Tensor, Tensor]:
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(words, pictures) if a is not None and b is not None]
    a, b = zip(*pairs)
    return torch.cat(a), torch.cat(b)


def pulls(words: Gradients, pictures: Gradients, weight: float) -> Two:
    """(the pictures' part of both lengths, the cosine between the two), over all weights that both losses reach."""
    a, b = _shared(words, pictures)
    mine = weight * b.norm()
    return mine / (mine + a.norm()), a @ b / (a.norm() * b.norm())


def _made(
    kept: Kept = _shared,
    share: Callable[[Tensor, Tensor, float], Tensor] = lambda a, b, weight: (
        weight * b.norm() / (weight * b.norm() + a.norm())
    ),
    cosine: Callable[[Tensor, Tensor], Tensor] = lambda a, b: torch.cosine_similarity(a, b, dim=0),
) -> Callable[[Gradients, Gradients, float], Two]:
    def pulls(words: Gradients, pictures: Gradients, weight: float) -> Two:
        a, b = kept(words, pictures)
        return share(a, b, weight), cosine(a, b)

    return pulls


def _all(words: Gradients, pictures: Gradients) -> tuple[Tensor, Tensor]:
    """Zeros where a loss does not reach."""
    filled = [
        (torch.zeros_like(b) if a is None else a, torch.zeros_like(a) if b is None else b)  # type: ignore[arg-type]
        for a, b in zip(words, pictures)
    ]
    a, b = zip(*((a.flatten(), b.flatten()) for a, b in filled))
    return torch.cat(a), torch.cat(b)


def _matrix_by_matrix(words: Gradients, pictures: Gradients, weight: float) -> Two:
    each = [pulls([a], [b], weight) for a, b in zip(words, pictures) if a is not None and b is not None]
    shares, cosines = zip(*each)
    return torch.stack(shares).mean(), torch.stack(cosines).mean()


def _summed(words: Gradients, pictures: Gradients, weight: float) -> Two:
    aa = bb = ab = 0.0
    for a, b in zip(words, pictures):
        if a is not None and b is not None:
            aa, bb, ab = aa + (a * a).sum(), bb + (b * b).sum(), ab + (a * b).sum()
    ratio = (aa / bb) ** 0.5 / weight  # type: ignore[operator]
    return 1 / (1 + ratio), ab / (aa * bb) ** 0.5  # type: ignore[operator,return-value]


EXERCISE = Exercise(
    id="14-pulls",
    title="Two losses pull at one set of weights",
    points=2,
    difficulty=3,
    importance=4,
    minutes=15,
    draw=_draw_gradients,
    reference=pulls,
    mistakes=(
        Mistake("not-shared", _made(_all), "You counted weights that one loss alone reaches. Nobody pulls against it "
            "there: leave out every tensor where one of the two is None."),
        Mistake("matrix-by-matrix", _matrix_by_matrix, "You took lengths and cosines of every tensor and averaged "
            "them. A bias would count as much as a matrix: put all numbers into one long vector first."),
        Mistake("no-weight", _made(share=lambda a, b, weight: b.norm() / (b.norm() + a.norm())), "λ is missing: the "
            "weights are moved by g_words + λ·g_pictures, so the pictures pull with λ times their length."),
        Mistake("squares", _made(share=lambda a, b, weight: (weight * b).square().sum() / ((weight * b).square().sum()
            + a.square().sum())), "You compared squared lengths. Of two pulls of 1 and 3, the second has three "
            "quarters, not nine tenths: take the root."),
        Mistake("of-the-sum", _made(share=lambda a, b, weight: weight * b.norm() / (a + weight * b).norm()), "You "
            "divided by the length of the sum. Where both pull in opposite ways that is short, and the share above "
            "1: divide by the sum of the lengths."),
        Mistake("not-normed", _made(cosine=lambda a, b: a @ b), "Your second answer is an inner product, which grows "
            "with both. A cosine is divided by both lengths."),
    ),
    alternatives=(_made(), _summed),
    hints=(
        "First keep the tensors that both losses reach, and make one long vector of each list.",
        "`pairs = [(a.flatten(), b.flatten()) for a, b in zip(words, pictures) if a is not None and b is not None]`, "
        "then `torch.cat` of the firsts and of the seconds.",
        "With a and b these vectors: `weight * b.norm() / (weight * b.norm() + a.norm())`, and "
        "`torch.cosine_similarity(a, b, dim=0)`.",
    ),
    expected="at λ = 5 the pictures' part is 0.97 ± 0.00 before training, 0.85 ± 0.02 after 30 steps, 0.85 ± 0.03 "
    "after 300. The cosine is −0.02 ± 0.04, 0.00 ± 0.12 and −0.01 ± 0.02 (5 seeds): it keeps to neither side.",
    trap="the losses themselves are printed at every step, gradients are not. A loss ten times as large can pull ten "
    "times less: what moves the weights is its slope.",
)  # fmt: skip
