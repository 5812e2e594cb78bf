"""A network, a schedule and a prediction make a denoiser: E[x0 | x_t, condition]."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minidiff.predictions import Prediction
from minidiff.schedules import Schedule
from minidiff.shapes import expand_like
from minidiff.validate import require, require_floating, require_like, require_time


class Denoiser(nn.Module):
    """Wraps `net(x_t, t, **cond)` so that everything downstream sees only x̂0.

    `net` gets x_t of shape (B, …) and t, and returns a tensor like x_t. Times are a scalar or (B,), handed on as (B,);
    or a map (B, 1, …) that broadcasts over x_t, such as (B, 1, T, 1, 1): one time per frame of a clip. Conditions are
    keyword-only arguments of what stands beside the network (`conditioning`), so that a misspelt one is a `TypeError`
    and not a silent default.
    `weight(schedule, t)` of shape (B,) weighs the loss of each noise level, such as `predictions.velocity_weight`.
    """

    def __init__(
        self, net: nn.Module, schedule: Schedule, prediction: Prediction,
        weight: Callable[[Schedule, Tensor], Tensor] | None = None,
    ):  # fmt: skip
        super().__init__()
        require(
            isinstance(schedule, Schedule),
            "schedule",
            type(schedule).__name__,
            "a minidiff Schedule, such as Linear()",
        )
        require(
            isinstance(prediction, Prediction),
            "prediction",
            type(prediction).__name__,
            "EPS, X0, V or VELOCITY",
        )
        self.net, self.schedule, self.prediction, self.weight = net, schedule, prediction, weight

    def _output(self, x_t: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        # Times stay in float32 or better: bfloat16 could not tell t = 0.996 from 1.
        at_least_fp32 = torch.promote_types(x_t.dtype, torch.float32)
        t = t.to(x_t.device, at_least_fp32)
        return self.net(x_t, t if t.ndim > 1 else t.expand(len(x_t)), **cond)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """x̂0 = E[x0 | x_t, cond], like x_t of shape (B, …); t in [0, 1] is a scalar, (B,) or a map."""
        require_floating("x_t", x_t, min_dim=1)
        require_time(t, batch=len(x_t), map_of=x_t)
        output = self._output(x_t, t, cond)
        require(
            output.shape == x_t.shape,
            "net",
            f"an output of shape {tuple(output.shape)}",
            f"that of x_t, {tuple(x_t.shape)}",
        )
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        at = expand_like(t, x_t).to(x_t.device) if t.ndim else t  # a scalar stays on the CPU: reading it there is free
        return self.prediction.to_x0(self.schedule, x_t, output, at).to(x_t.dtype)

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, **cond: Any) -> Tensor:
        """Mean squared error of the network's output against the prediction's target, one value per picture: (B,).

        For EPS this is the simple loss of DDPM (arXiv 2006.11239, eq. 14); for VELOCITY on Linear, flow matching's.
        """
        require_floating("x0", x0, finite=True, min_dim=1)
        require_like("eps", eps, x0, "x0")
        require_time(t, batch=len(x0), map_of=x0)
        t = t.to(torch.promote_types(t.dtype, torch.float32))  # the rates of DDPM leave the range of half precision
        x_t = self.schedule.add_noise(x0, eps, t)
        target = self.prediction.target(self.schedule, x0, eps, expand_like(t, x0).to(x0.device)).to(x0.dtype)
        output = self._output(x_t, t, cond)
        require_like("net output", output, target, "the target")
        exact = torch.promote_types(x0.dtype, torch.float32)  # squares and weights leave the range of half precision
        errors = (output.to(exact) - target.to(exact)).square()
        if self.weight is None or t.ndim <= 1:
            loss = errors.reshape(len(x0), -1).mean(1)
            return loss if self.weight is None else loss * self.weight(self.schedule, t).to(loss)
        return (errors * self.weight(self.schedule, t).to(errors)).reshape(len(x0), -1).mean(1)
