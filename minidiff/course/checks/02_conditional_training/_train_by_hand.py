"""The loop of exercise 02-train written out, right and with one thing wrong."""

from collections.abc import Callable, Iterable

import torch
from torch import Generator, Tensor

Weights = dict[str, Tensor]
Net = Callable[[Weights, Tensor, Tensor, Tensor], Tensor]
Draw = Callable[[int], tuple[Tensor, Tensor]]
Trained = tuple[Weights, Weights, Tensor]


def by_hand(mend: str = "") -> Callable[..., Trained]:
    """The loop written out, with one thing wrong: which one, `mend` says; "" is right."""

    def train(
        net: Net, weights: Weights, draw: Draw, steps: int, lr: float, decay: float, drop: float, generator: Generator
    ) -> Trained:
        now = {name: value.clone().requires_grad_() for name, value in weights.items()}
        average = dict(now) if mend == "alias" else {name: value.clone() for name, value in weights.items()}
        if mend == "zero":
            average = {name: torch.zeros_like(value) for name, value in weights.items()}
        optimizer, losses = torch.optim.AdamW(now.values(), lr=lr), []
        for step in range(steps):
            x0, y = draw(step)
            t, eps = torch.rand(len(x0), generator=generator), torch.randn(x0.shape, generator=generator)
            dropped = torch.rand(len(x0), generator=generator) < drop
            if mend != "never dropped":
                y = torch.where(dropped, len(now["labels"]) - 1, y)
            t_ = t.reshape(-1, *[1] * (x0.ndim - 1))
            output = net(now, (1 - t_) * x0 + t_ * eps, t_ if mend == "time" else t, now["labels"][y])
            loss = (output - (eps - x0)).square().mean()
            if mend != "gradients":
                optimizer.zero_grad()
            loss.backward()
            if mend == "early":
                _follow(average.values(), now.values(), decay, step)
            optimizer.step()
            if mend != "early":
                _follow(average.values(), now.values(), decay, step)
            losses.append(float(loss.detach()))
        return {name: value.detach() for name, value in now.items()}, average, torch.tensor(losses)

    return train


@torch.no_grad()
def _follow(averages: Iterable[Tensor], values: Iterable[Tensor], decay: float, step: int) -> None:
    for average, value in zip(averages, values):
        average.lerp_(value, 1 - min(decay, (1 + step) / (10 + step)))
