"""Exercise 10-branches: guidance by the sentence and by the size, one thing at a time."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.guidance import mix_conditions
from minidiff.validate import describe, require

from .._common import normal

Denoise = Callable[..., Tensor]
Told = dict[str, Tensor]
WORDS, LENGTH = 7, 3


def _denoiser(g: Generator, dtype: torch.dtype) -> Denoise:
    """Made-up, not linear in anything; sentence and size work on each other. It insists on a row of each a picture."""
    words, weights = normal((WORDS,), g, dtype), normal((6,), g, dtype) / 3

    def denoise(x_t: Tensor, t: Tensor, *, tokens: Tensor, sizes: Tensor) -> Tensor:
        b = len(x_t)
        fits = isinstance(t, Tensor) and t.shape in ((), (b,))
        require(fits, "the denoiser's t", describe(t), f"a time, or one a picture, ({b},)")
        fits = tokens.dtype == torch.int64 and tokens.shape == (b, LENGTH)
        require(fits, "the denoiser's tokens", describe(tokens), f"int64, one row a picture, ({b}, {LENGTH})")
        fits = sizes.dtype == dtype and sizes.shape == (b, 6)
        require(fits, "the denoiser's sizes", describe(sizes), f"one row a picture, ({b}, 6)")
        like = (-1, *[1] * (x_t.ndim - 1))
        said, framed = words[tokens].sum(1).reshape(like), (sizes @ weights).reshape(like)
        return torch.tanh(x_t * (1 + said) + framed * said.cos() + t.to(x_t).reshape(like)) + framed

    return denoise


def _draw_branches(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: float, v: float, dtype: torch.dtype = torch.float64, timed: bool = False):
        b = shape[0]
        told = {
            "tokens": torch.randint(1, WORDS, (b, LENGTH), generator=g),
            "sizes": normal((b, 6), g, dtype),
        }
        null = {"tokens": torch.zeros(LENGTH, dtype=torch.int64)}
        away = {"sizes": normal((6,), g, dtype)}
        t = torch.rand(b if timed else (), generator=g, dtype=torch.float64)
        return _denoiser(g, dtype), normal(shape, g, dtype), t, told, null, away, w, v

    return [
        case((2, 3), 1.5, 0.5),
        case((3, 1, 2, 2), 2.0, 0.0, timed=True),  # the sentence alone
        case((6, 2), 0.0, 1.5, timed=True),  # the size alone; as many pictures as sizes
        case((1, 4), -1.0, 0.3),  # one picture; the unconditional model
        case((3, 3), 0.7, -0.6),  # as many pictures as words; towards the other size
        case((2, 1, 2, 2), 3.0, 1.0, torch.float32),
    ]


def guided(denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float) -> Tensor:
    """x̂0 + w·(x̂0 − x̂0 without the sentence) + v·(x̂0 − x̂0 with the other size)."""
    return mix_conditions(denoise, told, (told | null, w), (told | away, v))(x_t, t)


def _rows(other: Told, told: Told) -> Told:
    """`other`, a row of each, once a picture."""
    return {name: row.expand_as(told[name]) for name, row in other.items()}


def _three(denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told) -> tuple[Tensor, ...]:
    """x̂0 as told, and of two others."""
    return tuple(denoise(x_t, t, **(told | _rows(other, told))) for other in ({}, null, away))


def _away_from_both(
    denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float
) -> Tensor:
    full, silent, small = _three(denoise, x_t, t, told, null, null | away)
    return full + w * (full - silent) + v * (full - small)


def _size_lost(
    denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float
) -> Tensor:
    none = {"sizes": torch.zeros_like(told["sizes"][0])}
    full, silent, small = _three(denoise, x_t, t, told, null | none, away)
    return full + w * (full - silent) + v * (full - small)


def _merged_wrongly(
    denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float
) -> Tensor:
    full, silent, small = (denoise(x_t, t, **(_rows(other, told) | told)) for other in ({}, null, away))
    return full + w * (full - silent) + v * (full - small)


def _scale(denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float) -> Tensor:
    full, silent, small = _three(denoise, x_t, t, told, null, away)
    return silent + w * (full - silent) + v * (full - small)


def _nested(denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float) -> Tensor:
    full, silent, small = _three(denoise, x_t, t, told, null, away)
    first = full + w * (full - silent)
    return first + v * (first - small)


def _exchanged(
    denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float
) -> Tensor:
    full, silent, small = _three(denoise, x_t, t, told, null, away)
    return full + v * (full - silent) + w * (full - small)


def _written_out(
    denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float
) -> Tensor:
    full, silent, small = _three(denoise, x_t, t, told, null, away)
    return (1 + w + v) * full - w * silent - v * small


def _in_one_call(
    denoise: Denoise, x_t: Tensor, t: Tensor, told: Told, null: Told, away: Told, w: float, v: float
) -> Tensor:
    tokens = torch.cat([told["tokens"], null["tokens"].expand_as(told["tokens"]), told["tokens"]])
    sizes = torch.cat([told["sizes"], told["sizes"], away["sizes"].expand_as(told["sizes"])])
    times = t.expand(len(x_t)).repeat(3)
    full, silent, small = denoise(torch.cat([x_t] * 3), times, tokens=tokens, sizes=sizes).chunk(3)
    return full + w * (full - silent) + v * (full - small)


EXERCISE = Exercise(
    id="10-branches",
    title="Guide one thing at a time",
    points=2,
    difficulty=2,
    importance=5,
    minutes=12,
    draw=_draw_branches,
    reference=guided,
    mistakes=(
        Mistake("away-from-both", _away_from_both, "Your branch of the other size has lost its sentence, too. Then v "
            "guides by the sentence as well, and nobody knows which of the two did it. Start each branch from `told`."),
        Mistake("size-lost", _size_lost, "Your branch without a sentence has sizes of 0. No picture was ever that "
            "small, and guidance now leads away from it. Sizes are never dropped: that branch keeps those told."),
        Mistake("merged-the-wrong-way", _merged_wrongly, "You merged the other way round: in `a | b` b wins. All "
            "branches are then the one told, and no guidance is left."),
        Mistake("scale-for-w", _scale, "You start from the branch without a sentence, as with `guidance_scale`. Here w "
            "is added to the told prediction: w = 0 is plain, and scale = 1 + w."),
        Mistake("one-after-the-other", _nested, "You guided by the size what was guided by the sentence already. Then "
            "v multiplies w·(difference of sentences), too. Take both differences from the same prediction."),
        Mistake("strengths-exchanged", _exchanged, "You exchanged the strengths: w belongs to the sentence, v to the "
            "size."),
    ),
    alternatives=(_written_out, _in_one_call),
    shortcuts=("minidiff.guidance.cfg", "minidiff.guidance.mix", "minidiff.guidance.extrapolate"),
    hints=(
        "Three calls of one network. In how many entries does each of the other two differ from `told`?",
        "`told | null` has the sizes of `told` and the tokens of `null`; a single row must become one a picture.",
        "`silent = denoise(x_t, t, **told | {'tokens': null['tokens'].expand_as(told['tokens'])})`, and so on.",
    ),
    expected="with w = 3 a detail of 0.038 ± 0.001, where real pictures have 0.041 ± 0.001, and of 0.065 ± 0.003 with "
    "zeros in the silent branch; the corner is off by 0.6 ± 0.2 pixels, and by 1.1 ± 0.2 (5 sets).",
    trap="a size of 0 looks like 'no size'. To a network that was never trained without one it is a very small "
    "picture, and guidance does the rest: the picture looks sharper, and its corner has moved.",
)  # fmt: skip
