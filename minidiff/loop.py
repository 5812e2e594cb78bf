"""The loop that `minidiff.training` runs: the step, its randomness, its processes, the average, the checkpoints.

A *side* is one network with its loss and its optimizer. `fit` has one side, `alternate` two, trained in turn.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from minidiff import checkpoints
from minidiff.randomness import seeded_layers
from minidiff.validate import describe, integer, not_negative, number, require

Batch = dict[str, Tensor]
Draw = Callable[[Generator], Batch]


class StepGenerator(Generator):
    """A `torch.Generator` that knows which step of which run it belongs to: `run_seed` and `step`."""

    run_seed: int
    step: int


def step_generator(seed: int, step: int) -> StepGenerator:
    """The generator of one training step: a fixed function of (seed, step).

    PyTorch's CPU generator heeds the lower 32 bits of its seed only. So the upper half of `seed` has a multiplier of
    its own; without it, seeds that are 2³² apart would train on the same draws.
    """
    seed, step = integer("seed", seed, least=None), integer("step", step, least=None)
    upper, lower = divmod(seed, 2**32)
    mixed = lower * 0x7F4A7C15 + upper * 0x85EBCA77 + step * 0x1CE4E5B9 + 0x133111EB
    generator = StepGenerator()
    generator.run_seed, generator.step = seed, step
    generator.manual_seed(mixed % 2**32)
    return generator


class EMA:
    """An exponential moving average of a module's parameters; its buffers are copied.

    The decay warms up as min(decay, (1 + k)/(10 + k)) at step k, so that early averages are not dominated by the start.
    `module` is the averaged module, in the dtypes of the one it follows. But bf16 and fp16 parameters are averaged in
    fp32: in bf16, 0.999·a + 0.001·p is rounded back to a. `state_dict` holds the fp32 averages.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999):
        self.decay = number("decay", decay, "a number in [0, 1)", lambda v: 0 <= v < 1)
        self.module = deepcopy(module).eval().requires_grad_(False)
        self._parameters, self._buffers = list(self.module.parameters()), list(self.module.buffers())
        coarse = [p for p in self._parameters if p.dtype in (torch.bfloat16, torch.float16)]
        self._fine = {p: p.detach().float() for p in coarse}
        self._averages = [self._fine.get(p, p) for p in self._parameters]
        self._followed, self._values = module, list(module.parameters())

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        if module is not self._followed:  # finding the parameters of a deep network takes a tenth of a millisecond
            self._followed, self._values = module, list(module.parameters())
        values = [p.detach().to(a.dtype) for p, a in zip(self._values, self._averages)]
        torch._foreach_lerp_(self._averages, values, 1 - decay)  # pyright: ignore
        self._round()
        for average, value in zip(self._buffers, module.buffers() if self._buffers else ()):
            average.copy_(value)

    @torch.no_grad()
    def _round(self) -> None:
        for parameter, fine in self._fine.items():
            parameter.copy_(fine)

    def state_dict(self) -> dict[str, Tensor]:
        return {k: self._fine.get(v, v) for k, v in self.module.state_dict(keep_vars=True).items()}  # type: ignore

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.module.load_state_dict(state)
        for name, value in self.module.state_dict(keep_vars=True).items():
            if value in self._fine:
                self._fine[value].copy_(state[name])
        self._round()


@dataclass(frozen=True)
class Progress:
    """What `fit` yields after each step. `ema` is the averaged model, the one to sample from; step counts from 1.

    adversary_loss: of `alternate`; None while the adversary does not play.
    """

    step: int
    loss: float
    lr: float
    seconds: float
    model: nn.Module
    ema: Any
    adversary_loss: float | None = None


class _LossModule(nn.Module):
    """DistributedDataParallel hooks `forward`; our trainables expose `loss`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, *others: nn.Module | None) -> Tensor:
        return self.model.loss(*others, **batch)  # type: ignore[operator]


@contextlib.contextmanager
def _frozen(modules: tuple[nn.Module | None, ...]) -> Iterator[None]:
    held = [p for module in modules if module is not None for p in module.parameters() if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


class Side:
    """One network, its optimizer and the course of its learning rates: `take` makes one step of it.

    Raises `ValueError` for an optimizer that is none, and for learning rates that are no numbers ≥ 0.
    """

    def __init__(self, name: str, model: nn.Module, build: Callable, groups: Callable, lr: float):
        self.name, self.model, self.device = name, model, next(model.parameters()).device
        self.rank, self.world = _world(self.device)
        self.net: nn.Module = _LossModule(model)
        if self.world > 1:
            cards = [self.device.index] if self.device.type == "cuda" else None
            self.net = DistributedDataParallel(self.net, device_ids=cards)
        self.optimizer: torch.optim.Optimizer = build(groups(model), lr=lr)
        fits = isinstance(self.optimizer, torch.optim.Optimizer)
        require(fits, "optimizer", describe(self.optimizer), "a callable that returns a torch.optim.Optimizer")
        for group in self.optimizer.param_groups:
            group["lr"] = not_negative("lr", group["lr"])
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.clipped = [p for g in self.optimizer.param_groups if g.get("clip", True) for p in g["params"]]

    def take(self, others: tuple[nn.Module | None, ...], batch: Batch, step: int, course: Callable, clip: float):
        """One step against `others`, which stay as they are; returns the mean loss over the whole (global) batch."""
        gradients = torch.is_grad_enabled()
        require(gradients, "gradients", "none", "training outside of torch.no_grad() and torch.inference_mode()")
        for group, peak in zip(self.optimizer.param_groups, self.peaks):
            group["lr"] = not_negative("lr_at", course(step, peak))
        with _frozen(others):
            losses = self.net(batch, *others)
            require(losses.ndim == 1, f"{self.name}.loss", describe(losses), "one value per picture, shape (B,)")
            loss = losses.mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        mean = loss.detach().clone()
        if self.world > 1:
            dist.all_reduce(mean)
            mean /= self.world
        value = float(mean)
        require(math.isfinite(value), "loss", f"{value} at step {step}", "a finite loss (try a smaller lr)")
        nn.utils.clip_grad_norm_(self.clipped, clip)
        self.optimizer.step()
        return value

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]


def _world(device: torch.device) -> tuple[int, int]:
    """(rank, number of processes); joins torchrun's group if there is one (NCCL on CUDA, else gloo)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _shard(batch: Batch, rank: int, world: int, device: torch.device) -> Batch:
    n = len(batch["x0"]) if "x0" in batch else len(next(iter(batch.values())))
    require(n % world == 0, "batch", f"{n} rows", f"a multiple of the {world} processes")
    return {k: v[rank * n // world : (rank + 1) * n // world].to(device) for k, v in batch.items()}


def loop(
    side: Side, ema: EMA, draw: Draw, course: Callable, recipe: dict, path: Any, every: int, bar: bool,
    adversary: Side | None = None,
) -> Iterator[Progress]:  # fmt: skip
    """Train the model of `side` and, from step recipe["start"] on, its adversary in turn on the same batch."""
    steps, parts, optimizers = recipe["steps"], {"model": side.model, "ema": ema}, {"optimizer": side.optimizer}
    if adversary is not None:
        parts["adversary"], optimizers["adversary_optimizer"] = adversary.model, adversary.optimizer
    run = checkpoints.Run(path, parts, optimizers, recipe, writes=side.rank == 0)
    first, seconds = run.resume()
    began = time.monotonic() - seconds
    if first == steps:
        yield Progress(steps, float("nan"), 0.0, seconds, side.model, ema.module)
        return
    with tqdm(total=steps, initial=first, disable=not bar or side.rank > 0, leave=False) as progress, run:
        for step in range(first, steps):
            with checkpoints.uninterrupted():
                loss, *more = _step(side, adversary, draw, course, recipe, step)
                ema.update(side.model, step)
                run.record(step + 1, loss, side.lr, time.monotonic() - began, *more)
                if (step + 1) % every == 0 or step + 1 == steps:
                    run.save()
            progress.update()
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
            yield Progress(step + 1, loss, side.lr, time.monotonic() - began, side.model, ema.module, *more)


def _step(side: Side, adversary: Side | None, draw: Draw, course: Callable, recipe: dict, step: int) -> list[float]:
    """One step of each side that plays; returns their losses."""
    generator = step_generator(recipe["seed"], step)
    batch = _shard(draw(generator), side.rank, side.world, side.device)
    with seeded_layers(generator.initial_seed() + side.rank, side.device):  # dropout, too, belongs to (seed, step)
        if adversary is None:
            return [side.take((), batch, step, course, recipe["clip"])]
        if step < recipe["start"]:
            return [side.take((None,), batch, step, course, recipe["clip"])]
        loss = side.take((adversary.model,), batch, step, course, recipe["clip"])
        return [loss, adversary.take((side.model,), batch, step, course, recipe["clip"])]
