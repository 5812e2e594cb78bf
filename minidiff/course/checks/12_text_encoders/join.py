"""Exercise 12-join: several text encoders on channels and on the sequence."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.encoders.joined import join

from .._common import normal

Joined = Callable[[list[Tensor], Tensor, Tensor], Tensor]


def _draw_encoders(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, length: int, dims: tuple[int, ...], more: int, dim: int, dtype: torch.dtype = torch.float64):
        side = [normal((b, length, d), g, dtype) for d in dims]
        heard = torch.rand(b, len(dims) + 1, generator=g) < 0.6
        return side, normal((b, more, dim), g, dtype), heard

    return [
        case(4, 3, (2, 3), 5, 8),  # as in Stable Diffusion 3: the language model is the widest
        case(3, 4, (5, 4), 2, 6),  # here it is the narrower one
        case(2, 2, (3, 1), 2, 4),  # as wide as both together
        case(1, 3, (2, 2), 1, 7, torch.float32),  # one caption
        case(5, 2, (2,), 3, 3),  # one encoder on channels
        case(3, 1, (1, 2, 2), 4, 9),  # three
    ]


def joined(side_by_side: list[Tensor], behind: Tensor, heard: Tensor) -> Tensor:
    """`encoders.joined.join` of those that are heard."""
    *loud, last = heard.to(behind.dtype).T
    return join([x * on[:, None, None] for x, on in zip(side_by_side, loud)], behind * last[:, None, None])


def _made(flaw: str = "") -> Joined:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def joined(side_by_side: list[Tensor], behind: Tensor, heard: Tensor) -> Tensor:
        if flaw == "gone":
            heard = heard.any(0).expand(len(behind), -1)
        on = torch.ones_like(heard) if flaw == "all" else heard
        parts = [x * on[:, k].to(x).reshape(-1, 1, 1) for k, x in enumerate([*side_by_side, behind])]
        *side, last = parts
        first = torch.cat(side[::-1] if flaw == "order" else side, 2)
        wide = max(first.shape[2], last.shape[2])
        missing = lambda x: (0, wide - x.shape[2])[:: -1 if flaw == "front" else 1]
        rows = [last, first] if flaw == "sequence" else [first, last]
        return torch.cat([F.pad(x, missing(x)) for x in rows], 1)

    return joined


def _scaled(side_by_side: list[Tensor], behind: Tensor, heard: Tensor) -> Tensor:
    share = heard.to(behind.dtype).mean(1).clamp(min=1e-3)
    return joined(side_by_side, behind, heard) / share[:, None, None]


def _by_slices(side_by_side: list[Tensor], behind: Tensor, heard: Tensor) -> Tensor:
    b, length, _ = side_by_side[0].shape
    width = sum(x.shape[2] for x in side_by_side)
    whole = behind.new_zeros(b, length + behind.shape[1], max(width, behind.shape[2]))
    for row in range(b):
        at = 0
        for k, x in enumerate(side_by_side):
            if heard[row, k]:
                whole[row, :length, at : at + x.shape[2]] = x[row]
            at += x.shape[2]
        if heard[row, -1]:
            whole[row, length:, : behind.shape[2]] = behind[row]
    return whole


EXERCISE = Exercise(
    id="12-join",
    title="Three encoders, one context",
    points=2,
    difficulty=3,
    importance=5,
    minutes=15,
    draw=_draw_encoders,
    reference=joined,
    mistakes=(
        Mistake("nobody-is-dropped", _made("all"), "You never looked at `heard`. Where an encoder is dropped, zeros "
            "stand in place of its numbers, in that row of the batch."),
        Mistake("dropped-for-all", _made("gone"), "You dropped an encoder for the whole batch or for nobody. Each row "
            "of `heard` is one caption: multiply row by row."),
        Mistake("other-order", _made("order"), "You put the encoders' channels in the other order. All shapes fit, and "
            "a network that was trained the other way round reads nonsense."),
        Mistake("zeros-in-front", _made("front"), "You put the zeros in front. They fill up the channels *behind* what "
            "is narrower."),
        Mistake("language-first", _made("sequence"), "You put the language model's tokens first. The CLIPs' tokens "
            "come first on the sequence."),
        Mistake("scaled-up", _scaled, "You divided by the share that is heard, as dropout of single numbers does. "
            "Whoever is heard is heard as loud as always; the others are zero."),
    ),
    alternatives=(_made(), _by_slices),
    hints=(
        "Three steps: silence those who are not heard; CLIPs side by side on the last axis; fill up with zeros to the "
        "larger width and put one part behind the other on axis 1.",
        "`heard[:, k]` is (B,); to multiply (B, L, d) it has to become (B, 1, 1). Zeros: `F.pad(x, (0, missing))`.",
        "`first = torch.cat([x * heard[:, k, None, None] for k, x in enumerate(side_by_side)], 2)`; then "
        "`wide = max(first.shape[2], behind.shape[2])` and `torch.cat([pad(first), pad(behind)], 1)`.",
    ),
    expected="the library's context to 1e-5. Of 24 relations 0.76 ± 0.04 are shown, without the CLIPs 0.58 ± 0.08, "
    "with the CLIPs' channels exchanged 0.08 ± 0.05 (5 sets of captions and seeds, 15 steps, w = 0).",
    trap="every shape fits whichever way the parts are put together, and a network that is trained that way is as "
    "good. Only weights that somebody else has trained tell the ways apart.",
)  # fmt: skip
