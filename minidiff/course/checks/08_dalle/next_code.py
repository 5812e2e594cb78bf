"""Exercise 08-next-code: temperature and top-k, given the noise."""

import torch
from torch import Generator, Tensor

from minidiff.backbones import autoregressive
from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_logits(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, k: int, temperature: float, top_k: int, dtype: torch.dtype = torch.float64, shift: float = 0.0):
        logits = 1.5 * normal((b, k), g) * (0.5 + torch.rand(b, 1, generator=g, dtype=torch.float64)) + shift
        u = torch.rand(b, k, generator=g, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        return logits.to(dtype), -(-u.log()).log().to(dtype), temperature, top_k

    def tied(inputs: Inputs) -> Inputs:
        """Levels of a half: many codes are as likely as others."""
        return (2 * inputs[0]).round() / 2, *inputs[1:]

    return [
        case(60, 7, 1.0, 3),
        case(60, 6, 0.4, 6),  # nothing is left out
        tied(case(80, 9, 1.0, 3)),
        tied(case(80, 5, 2.0, 2)),
        case(40, 8, 3.0, 4, shift=-20.0),  # all logits far below 0
        case(40, 5, 0.0, 5),
        tied(case(40, 6, 0.0, 3)),  # no noise: of the largest the first
        case(40, 6, 1.5, 1),
        case(1, 4, 1.0, 2),
        case(30, 5, 0.7, 9, torch.float32),  # more than there are
        case(6, 6, 1.0, 4, torch.float32),
    ]


def choose(logits: Tensor, noise: Tensor, temperature: float, top_k: int) -> Tensor:
    """argmax (logits + temperature·noise) among the top_k largest logits of each row."""
    return autoregressive.choose(logits, noise, temperature, top_k)


def _largest(logits: Tensor, top_k: int) -> Tensor:
    """−∞ for all but the top_k largest of each row, and those that are equal to the last of them."""
    least = logits.sort(-1, descending=True).values[:, min(top_k, logits.shape[1]) - 1]
    return logits.masked_fill(logits < least[:, None], float("-inf"))


def _ties_cut(logits: Tensor, noise: Tensor, temperature: float, top_k: int) -> Tensor:
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :top_k]
    kept = torch.full_like(logits, float("-inf")).scatter(1, order, logits.gather(1, order))
    return (kept + temperature * noise).argmax(-1)


def _zeros(logits: Tensor, noise: Tensor, temperature: float, top_k: int) -> Tensor:
    kept = _largest(logits, top_k)
    return (kept.masked_fill(kept == float("-inf"), 0.0) + temperature * noise).argmax(-1)


def _of_all_rows(logits: Tensor, noise: Tensor, temperature: float, top_k: int) -> Tensor:
    least = logits.flatten().topk(min(top_k * len(logits), logits.numel())).values[-1]
    return (logits.masked_fill(logits < least, float("-inf")) + temperature * noise).argmax(-1)


def _by_picking(logits: Tensor, noise: Tensor, temperature: float, top_k: int) -> Tensor:
    """Row by row: which codes are left, and which of them has the largest sum."""
    found = []
    for row, bump in zip(logits.tolist(), noise.tolist()):
        bar = sorted(row)[-min(top_k, len(row))]
        left = [i for i, value in enumerate(row) if value >= bar]
        found.append(max(left, key=lambda i, row=row, bump=bump: row[i] + temperature * bump[i]))
    return torch.tensor(found)


EXERCISE = Exercise(
    id="08-next-code",
    title="Which code comes next?",
    points=2,
    difficulty=1,
    importance=4,
    minutes=10,
    draw=_draw_logits,
    reference=choose,
    mistakes=(
        Mistake("warm-is-cold", lambda logits, noise, temperature, top_k: (
            temperature * _largest(logits, top_k) + noise).argmax(-1) if temperature else noise.argmax(-1),
            "You multiplied the logits by τ. That is backwards: at τ = 0 your draw listens to nothing but noise. The "
            "softmax of logits/τ is drawn from by logits + τ·noise."),
        Mistake("always-warm", lambda logits, noise, temperature, top_k: (
            _largest(logits, top_k) + noise).argmax(-1),
            "You never use the temperature: at τ = 0 the likeliest code must come, whatever the noise."),
        Mistake("cut-after-the-noise", lambda logits, noise, temperature, top_k: (
            _largest(logits + temperature * noise, top_k)).argmax(-1),
            "You cut after adding the noise. The largest sum is always among the top_k sums, so that your cut never "
            "does anything. Cut by the logits, then add the noise."),
        Mistake("ties-cut", _ties_cut, "You keep exactly top_k codes. Of those that are equally likely some are then "
            "left out by their number alone. Keep all that are not below the last of the top_k."),
        Mistake("zeros-for-the-rest", _zeros, "You set the logits of the others to 0. A logit of 0 is no small one: "
            "it may beat all that are kept. What must never come gets −∞."),
        Mistake("over-the-batch", _of_all_rows, "Your bar is one for all rows. Each row has its own top_k: take them "
            "along the last axis."),
    ),
    alternatives=(_by_picking, lambda logits, noise, temperature, top_k: (
        _largest(logits, top_k) + temperature * noise).max(-1).indices),
    hints=(
        "Three steps in this order: which codes are allowed, the noise, the largest.",
        "`logits.topk(k, -1).values[:, -1:]` is the bar of each row. top_k may be more than there are codes.",
        "`logits.masked_fill(logits < bar, float('-inf'))`, plus `temperature * noise`, then `.argmax(-1)`.",
    ),
    expected="0.04 ± 0.02 of 200 pictures show one whole object at τ = 1, 0.12 ± 0.03 among the top 3, none at τ = 0 "
    "(5 seeds): behind ground the likeliest code is ground.",
    trap="with a continuous network no two logits are equal, and at τ = 1 all of the first three look alike: the "
    "temperature is a factor of 1 on either side.",
)  # fmt: skip
