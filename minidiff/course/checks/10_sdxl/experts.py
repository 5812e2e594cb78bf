"""Exercise 10-experts: which network draws which row."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.systems import sdxl
from minidiff.validate import describe, require

from .._common import normal

Denoise = Callable[..., Tensor]
Told = dict[str, Tensor]


def _expert(name: str, a: float, knows: Callable[[Tensor], Tensor], words: str) -> Denoise:
    """Made-up; it refuses to be called for nothing, or at times that are not its own."""

    def denoise(x_t: Tensor, t: Tensor, *, tokens: Tensor, score: Tensor) -> Tensor:
        n = len(x_t)
        require(n > 0, f"the rows given to `{name}`", "none", "at least one")
        for told, value in (("t", t), ("score", score)):
            fits = isinstance(value, Tensor) and tuple(value.shape) == (n,)
            require(fits, f"the {told} given to `{name}`", describe(value), f"one a row, shape ({n},)")
        fits = tokens.dtype == torch.int64 and tokens.shape == (n, 2)
        require(fits, f"the tokens given to `{name}`", describe(tokens), f"int64, one caption a row, ({n}, 2)")
        require(bool(knows(t).all()), f"the t given to `{name}`", "a time that is not its own", words)
        said = (t + score + tokens.sum(1)).to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        return torch.tanh(a * x_t) + said

    return denoise


def _draw_rows(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], switch: float, t: Tensor, dtype: torch.dtype = torch.float64) -> Inputs:
        a, b = (1 + torch.rand(2, generator=g)).tolist()
        early = _expert("early", a, lambda t: t >= switch, "times from `switch` on")
        last = _expert("last", -b, lambda t: t < switch, "times below `switch`")
        told = {"tokens": torch.randint(5, (shape[0], 2), generator=g), "score": normal(shape[:1], g, dtype)}
        return early, last, switch, normal(shape, g, dtype), t, told

    few = lambda *times: torch.tensor(times, dtype=torch.float64)
    mixed = few(0.9, 0.1, 0.5, 0.25, 0.0, 1.0)[torch.randperm(6, generator=g)]
    return [
        case((6, 2), 0.25, mixed),  # one of them exactly at the switch
        case((3, 1, 2, 2), 0.5, few(0.125, 0.75, 0.375).float(), torch.float32),
        case((2, 2), 0.5, few(0.1, 0.2)),  # the last expert alone
        case((3, 3), 0.25, few(0.9, 0.3, 0.25)),  # the early one alone
        case((1, 4), 0.5, few(0.3)),  # one row
        case((4, 2), 0.5, torch.tensor(0.5, dtype=torch.float64)),  # one time for all, at the switch
        case((2, 3), 0.5, torch.tensor(0.25, dtype=torch.float64)),
    ]


def experts(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    """Row by row what `sdxl.experts` does at one time for all."""

    def row(i: int) -> Tensor:
        mine = _rows(told, slice(i, i + 1))
        one = lambda denoise: lambda x, at: denoise(x, at.reshape(1), **mine)
        return sdxl.experts(one(early), one(last), switch)(x_t[i : i + 1], t.expand(len(x_t))[i])

    return torch.cat([row(i) for i in range(len(x_t))])


def _rows(told: Told, rows: Tensor | slice) -> Told:
    return {name: value[rows] for name, value in told.items()}


def _split(early: Denoise, last: Denoise, late: Tensor, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    """`last` for the rows `late`, `early` for the others."""
    x0, t = torch.empty_like(x_t), t.expand(len(x_t))
    for denoise, rows in ((early, ~late), (last, late)):
        if rows.any():
            x0[rows] = denoise(x_t[rows], t[rows], **_rows(told, rows))
    return x0


def _inclusive(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    return _split(early, last, t.expand(len(x_t)) <= switch, x_t, t, told)


def _the_other_way(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    return _split(early, last, t.expand(len(x_t)) >= switch, x_t, t, told)


def _first_row_decides(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    times = t.expand(len(x_t))
    return (last if times[0] < switch else early)(x_t, times, **told)


def _both_on_all(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    times = t.expand(len(x_t))
    late = (times < switch).reshape(-1, *[1] * (x_t.ndim - 1))
    return torch.where(late, last(x_t, times, **told), early(x_t, times, **told))


def _not_put_back(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    times = t.expand(len(x_t))
    late = times < switch
    own = [(denoise, rows) for denoise, rows in ((early, ~late), (last, late)) if rows.any()]
    return torch.cat([denoise(x_t[rows], times[rows], **_rows(told, rows)) for denoise, rows in own])


def _called_for_nothing(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    times = t.expand(len(x_t))
    x0, late = torch.empty_like(x_t), times < switch
    for denoise, rows in ((early, ~late), (last, late)):
        x0[rows] = denoise(x_t[rows], times[rows], **_rows(told, rows))
    return x0


def _by_sorting(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    order = t.expand(len(x_t)).argsort()
    x, times, said = x_t[order], t.expand(len(x_t))[order], _rows(told, order)
    n = int((times < switch).sum())
    parts = [last(x[:n], times[:n], **_rows(said, slice(n)))] if n else []
    parts += [early(x[n:], times[n:], **_rows(said, slice(n, None)))] if n < len(x) else []
    return torch.cat(parts)[order.argsort()]


def _by_rows(early: Denoise, last: Denoise, switch: float, x_t: Tensor, t: Tensor, told: Told) -> Tensor:
    found = []
    for i, at in enumerate(t.expand(len(x_t))):
        denoise = early if at >= switch else last
        found.append(denoise(x_t[i][None], at[None], tokens=told["tokens"][i][None], score=told["score"][i][None]))
    return torch.cat(found)


EXERCISE = Exercise(
    id="10-experts",
    title="To each time its expert",
    points=2,
    difficulty=3,
    importance=3,
    minutes=12,
    draw=_draw_rows,
    reference=experts,
    mistakes=(
        Mistake("inclusive", _inclusive, "You gave the time `switch` itself to the last expert. It has learnt the "
            "times *below*: a grid that steps exactly there would ask it for what it has never seen."),
        Mistake("the-other-way-round", _the_other_way, "You gave the noisy rows to the last expert. t = 1 is noise: "
            "the refiner takes the times below `switch`, at the end of the walk."),
        Mistake("the-first-row-decides", _first_row_decides, "You let the first row's time decide for all. In sampling "
            "all have one time; in training, or in a batch of requests, each has its own."),
        Mistake("both-on-all", _both_on_all, "You called both networks on all rows and chose afterwards. That costs "
            "twice, and asks each for times it has never learnt. Choose the rows first."),
        Mistake("not-put-back", _not_put_back, "You left the rows as the experts returned them, one group behind the "
            "other. Row i of the result belongs to row i of `x_t`: write each group back to its places."),
        Mistake("called-for-nothing", _called_for_nothing, "You called an expert with no rows at all. Where a whole "
            "batch is above the switch, as in most steps, the refiner is not needed: do not call it."),
    ),
    alternatives=(_by_sorting, _by_rows),
    hints=(
        "Which rows are late? A mask of bools (B,), from times that are (B,) even where one time is given for all.",
        "`t.expand(len(x_t))`; `late = t < switch`; each network sees `x_t[rows]`, `t[rows]` and the same rows of all "
        "that is told, if there are any.",
        "`x0 = torch.empty_like(x_t)`, then `x0[late] = last(x_t[late], t[late], **{name: value[late] for name, value "
        "in told.items()})` if `late.any()`; and the others.",
    ),
    expected="errors of the base and the refiner 0.016 ± 0.003 and 0.001 ± 0.000 below t = 0.1, 0.016 ± 0.003 and "
    "0.011 ± 0.001 from 0.2 to 0.35, 0.021 ± 0.004 and 0.223 ± 0.008 above, where the refiner has never been (5 sets).",
    trap="with one time for all, as every sampler has it, the first row decides rightly; and with where() only the "
    "bill shows that both were asked.",
)  # fmt: skip
