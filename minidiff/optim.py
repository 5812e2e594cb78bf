"""Muon: for the matrices of a network the nearest orthogonal step; AdamW for everything else.

A momentum M = U·S·Vᵀ is dominated by a few directions. Muon steps along U·Vᵀ: as far in the rare ones. U·Vᵀ is never
computed exactly: three polynomials of M in turn push every singular value towards 1, with matrix products alone.
Keller Jordan, https://kellerjordan.github.io/posts/muon; the polynomials are Polar Express, arXiv 2505.16932.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from minidiff.validate import describe, not_negative, number, require

# σ ↦ a·σ + b·σ³ + c·σ⁵: the first three of the paper's table, best for singular values in [0.001, 1]. From there they
# lead into [0.13, 1.87], on average to about 1; more polynomials come closer.
POLAR = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))


def nearly_orthogonal(x: Tensor) -> Tensor:
    """Each of the matrices x (N, rows ≤ columns) with its singular values moved near 1, its singular vectors kept.

    In bf16 on CUDA, in fp32 elsewhere: a CPU without bf16 units took 14 to 40 times as long for these products in bf16.
    """
    x = x.float()
    x = x / (1.01 * x.norm(dim=(1, 2), keepdim=True)).clamp(min=1e-30)  # no singular value above 1, even when rounded
    x = x.bfloat16() if x.is_cuda else x
    for a, b, c in POLAR:
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.float()


class Muon(torch.optim.Optimizer):
    """Muon on groups of matrices, AdamW (fused) on the groups that say `"muon": False`.

    params: as for every optimizer, an iterable of parameters or of groups; `muon_groups` makes them from a network.
    lr: step size; Muon's steps are multiplied by 0.2·√(longer side), about the root mean square of AdamW's.
    momentum: of Muon (Nesterov's). betas, eps: of AdamW. weight_decay: decoupled, for both. Numbers may be Python's,
    NumPy's or 0-d tensors. Averages of bf16 and fp16 gradients are kept in fp32: in bf16 itself they soon stand still.

    Groups carry `clip`, False for Muon's: its steps have a length of their own, so `fit` clips only the others.
    Raises `ValueError` for a parameter that is not a matrix in a Muon group, and for arguments out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ):
        share = lambda name, value, expected: number(name, value, expected, lambda v: 0 <= v < 1)
        # `fused` makes load_state_dict put AdamW's count of steps on the parameter's device.
        defaults = {
            "lr": not_negative("lr", lr),
            "weight_decay": not_negative("weight_decay", weight_decay),
            "muon": True,
            "momentum": share("momentum", momentum, "a number in [0, 1)"),
            "betas": tuple(share("betas", beta, "two numbers in [0, 1)") for beta in betas),
            "eps": not_negative("eps", eps),
            "fused": True,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("clip", not group["muon"])
        for p in group["params"] if group["muon"] else []:
            require(p.ndim == 2, "params", describe(p), 'matrices only in a Muon group (give others `"muon": False`)')

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["muon"] else self._adamw)(params, group)
        return loss

    def _muon(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Matrices of the same shape, wide or tall, go through one stack of products."""
        stacks = defaultdict(list)
        for p in params:
            stacks[min(p.shape), max(p.shape), p.dtype, p.device].append(p)
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(_fine(p))
        for (rows, columns, *_), stack in stacks.items():
            wide = lambda tensors, rows=rows: torch.stack([x if len(x) == rows else x.T for x in tensors])
            grads, momenta = [_fine(p.grad) for p in stack], [self.state[p]["momentum"] for p in stack]  # pyright: ignore
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])  # pyright: ignore
            ahead = wide(grads).lerp_(wide(momenta), group["momentum"])  # Nesterov: once more with the new momentum
            update = nearly_orthogonal(ahead).mul_(group["lr"] * 0.2 * columns**0.5).to(ahead.dtype)
            moved = [_fine(p) for p in stack]
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore
            torch._foreach_sub_(moved, [u if len(p) == rows else u.T for p, u in zip(stack, update)])  # pyright: ignore
            _put_back(stack, moved)

    def _adamw(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                zero = {"step": torch.zeros((), device=p.device)}
                self.state[p].update(zero, exp_avg=torch.zeros_like(_fine(p)), exp_avg_sq=torch.zeros_like(_fine(p)))
        averages, squares, counts = ([self.state[p][k] for p in params] for k in ("exp_avg", "exp_avg_sq", "step"))
        grads, moved = [_fine(p.grad) for p in params], [_fine(p) for p in params]  # pyright: ignore
        beta1, beta2 = group["betas"]
        numbers = {k: group[k] for k in ("lr", "weight_decay", "eps")}
        adamw(
            moved, grads, averages, squares, [], counts,
            fused=True, amsgrad=False, maximize=False, beta1=beta1, beta2=beta2, **numbers,
        )  # fmt: skip
        _put_back(params, moved)


def _fine(x: Tensor) -> Tensor:
    """x itself, or in fp32 where it is bf16 or fp16."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _put_back(params: list[Tensor], moved: list[Tensor]) -> None:
    for p, fine in zip(params, moved):
        if fine is not p:
            p.copy_(fine)


def muon_groups(model: nn.Module, lr: float = 5e-3, adam_lr: float = 4e-3, inside: str = "block") -> list[dict]:
    """The two groups of `Muon` for a transformer: the matrices of its blocks, and everything else for AdamW.

    A parameter is of the first group if it is a matrix (two axes) and `inside` occurs in its name, as in
    `blocks.3.up.weight`. So embeddings, the first and the last layer, biases and gains go to AdamW. Each parameter is
    in exactly one group. lr, adam_lr: the peak learning rates of the two. `ValueError` if the first group is empty.
    """
    named = dict(model.named_parameters())
    matrices = {k for k, p in named.items() if inside in k and p.ndim == 2}
    require(len(matrices) > 0, "model", type(model).__name__, f"matrices with {inside!r} in their names")
    rest = [p for k, p in named.items() if k not in matrices]
    first = {"params": [named[k] for k in named if k in matrices], "lr": lr, "muon": True}
    return [first, {"params": rest, "lr": adam_lr, "muon": False}]
