"""Exercise 09-standardise: latents of mean 0 and variance 1, and back."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def _draw_latents(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(sizes: list[int], shape: tuple[int, int, int], dtype: torch.dtype = torch.float64, n: int = 2) -> Inputs:
        """Batches of these sizes, each picture and each channel with a mean and a spread of its own."""
        offset, spread = 2 * normal((shape[0], 1, 1), g), 0.3 + normal((shape[0], 1, 1), g).abs()
        made = lambda b: (offset + spread * (normal((b, *shape), g) + normal((b, 1, 1, 1), g))).to(dtype)
        return [made(b) for b in sizes], made(n)

    return [
        case([3, 2], (2, 3, 4)),
        case([4, 4], (4, 4, 4), n=4),  # as many pictures as channels, rows and columns
        case([5, 1, 2], (3, 2, 2)),  # batches of several sizes
        case([1], (2, 3, 3), n=1),  # one picture
        case([2, 6], (4, 2, 3), torch.float32),
        case([3, 1], (1, 2, 5), n=3),  # one channel
    ]


def _four(shift: Tensor, scale: Tensor, z: Tensor) -> Four:
    """shift, scale: (C,)."""
    a, b = shift[:, None, None], scale[:, None, None]
    return shift, scale, (z - a) / b, z * b + a


def standardise(batches: list[Tensor], z: Tensor) -> Four:
    """Shift and scale of each channel over all batches; z normalised; and what z would be the normalised form of."""
    every = torch.cat(batches)
    return _four(every.mean((0, 2, 3)), every.std((0, 2, 3), correction=0), z)


def _per_picture(batches: list[Tensor], z: Tensor) -> Four:
    every = torch.cat(batches)
    return _four(every.mean((2, 3)).mean(0), every.std((2, 3), correction=0).mean(0), z)


def _batch_only(batches: list[Tensor], z: Tensor) -> Four:
    every = torch.cat(batches)
    shift, scale = every.mean(0), every.std(0, correction=0)
    return shift, scale, (z - shift) / scale, z * scale + shift


def _variance(batches: list[Tensor], z: Tensor) -> Four:
    every = torch.cat(batches)
    return _four(every.mean((0, 2, 3)), every.var((0, 2, 3), correction=0), z)


def _mean_of_batches(batches: list[Tensor], z: Tensor) -> Four:
    shifts = torch.stack([b.mean((0, 2, 3)) for b in batches])
    scales = torch.stack([b.std((0, 2, 3), correction=0) for b in batches])
    return _four(shifts.mean(0), scales.mean(0), z)


def _wrong_way_back(batches: list[Tensor], z: Tensor) -> Four:
    every = torch.cat(batches)
    shift, scale, there, _ = _four(every.mean((0, 2, 3)), every.std((0, 2, 3), correction=0), z)
    return shift, scale, there, (z + shift[:, None, None]) * scale[:, None, None]


def _one_for_all(batches: list[Tensor], z: Tensor) -> Four:
    every, ones = torch.cat(batches), torch.ones_like(z[0, :, 0, 0])
    return _four(every.mean() * ones, every.std(correction=0) * ones, z)


def _moments(batches: list[Tensor], z: Tensor) -> Four:
    rows = [b.double().transpose(0, 1).flatten(1) for b in batches]  # (C, B·h·w)
    count, total = sum(row.shape[1] for row in rows), lambda parts: torch.stack(parts).sum(0)
    mean = total([row.sum(1) for row in rows]) / count
    spread = (total([row.square().sum(1) for row in rows]) / count - mean**2).sqrt()
    return _four(mean.to(z), spread.to(z), z)


EXERCISE = Exercise(
    id="09-standardise",
    title="Latents of unit variance, and back",
    points=2,
    difficulty=2,
    importance=5,
    minutes=10,
    draw=_draw_latents,
    reference=standardise,
    mistakes=(
        Mistake(
            "per-picture",
            _per_picture,
            "You measured the spread within each picture and averaged. How pictures differ from one another is part of "
            "the spread, too: take one mean and one deviation over pictures and places together.",
        ),
        Mistake(
            "over-the-batch-only",
            _batch_only,
            "You have a shift and a scale for every *place*, of shape (C, h, w). What stands where the diffusion "
            "model has to learn; a channel gets one number: average over axes 0, 2 and 3.",
        ),
        Mistake(
            "variance-for-deviation",
            _variance,
            "You divide by the variance. Then the result has the variance 1/σ², not 1. Divide by its root.",
        ),
        Mistake(
            "mean-of-batches",
            _mean_of_batches,
            "You averaged the numbers of the batches. A small batch then counts as much as a large one, and what lies "
            "between the batches is lost from the spread. Put the latents, or their sums, together first.",
        ),
        Mistake(
            "wrong-way-back",
            _wrong_way_back,
            "On the way back you shift first and scale then. The way there was: minus shift, divided by scale. Undo "
            "the last first: times scale, then plus shift.",
        ),
        Mistake(
            "one-for-all-channels",
            _one_for_all,
            "You have one shift and one scale for all channels, as Stable Diffusion's 0.18215 is. Here each channel "
            "gets its own: a faint one would drown in noise before the others do.",
        ),
    ),
    alternatives=(
        _moments,
        lambda batches, z: _four(
            torch.cat([b.movedim(1, -1).flatten(0, 2) for b in batches]).mean(0),
            torch.cat([b.movedim(1, -1).flatten(0, 2) for b in batches]).var(0, correction=0).sqrt(),
            z,
        ),
    ),
    shortcuts=("minidiff.codecs.vae.VAE",),
    hints=(
        "All batches count as one large one. Over which of its four axes do you average, if a channel is to keep its "
        "own number?",
        "`every = torch.cat(batches)`, then `.mean((0, 2, 3))` and `.std((0, 2, 3), correction=0)`: both (C,).",
        "Against (B, C, h, w) they need the shape (C, 1, 1): `(z - shift[:, None, None]) / scale[:, None, None]`.",
    ),
    expected="held-out channels deviate by 0.64, 0.41, 0.51 and 0.57 before, by 1.02 to 1.09 ± 0.04 after "
    "(5 sets of 64).",
    trap="with batches of equal size and pictures that are alike, most of these agree to two digits, and a decoder "
    "undoes any scale. It is the noise that notices: it has variance 1, whatever the latents have.",
    rtol=1e-4,
    atol=1e-5,
)
