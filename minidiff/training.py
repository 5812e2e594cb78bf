"""Training: one loop for everything that has a loss.

A *trainable* is a module with `loss(**batch) -> (B,)`. A *draw* is a function generator → batch, a dict of tensors
whose first axis is the picture. All randomness of a step (data, times, noise, dropped conditions) comes from one
generator that is seeded by (seed, step); so step 1234 is the same whether the run came there in one go, was
interrupted, or is spread over several processes, and no generator state has to be saved.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from minidiff import checkpoints, times
from minidiff.randomness import seeded_layers
from minidiff.validate import describe, require

Batch = dict[str, Tensor]
Draw = Callable[[Generator], Batch]


def pick_device() -> torch.device:
    """The device of a notebook, chosen once at its top: CUDA (torchrun's own), else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def step_generator(seed: int, step: int) -> Generator:
    """The generator of one training step: a fixed function of (seed, step).

    PyTorch's CPU generator heeds the lower 32 bits of its seed only. So the upper half of `seed` has a multiplier of
    its own; without it, seeds that are 2³² apart would train on the same draws.
    """
    upper, lower = divmod(seed, 2**32)
    mixed = lower * 0x7F4A7C15 + upper * 0x85EBCA77 + step * 0x1CE4E5B9 + 0x133111EB
    return Generator().manual_seed(mixed % 2**32)


def draw_rows(data: Mapping[str, Tensor], batch_size: int) -> Draw:
    """Draw `batch_size` random rows of in-memory tensors that share their first axis: {"x0": (N, …), "y": (N,)}."""
    sizes = {len(v) for v in data.values()}
    require(len(sizes) == 1, "data", {k: len(v) for k, v in data.items()}, "tensors with equally many rows")
    (n,) = sizes

    def draw(generator: Generator) -> Batch:
        rows = torch.randint(n, (batch_size,), generator=generator)
        return {k: v[rows] for k, v in data.items()}

    return draw


def drop_condition(cond: Mapping[str, Tensor], null: Mapping[str, Tensor], p: float, generator: Generator) -> Batch:
    """Replace each picture's whole condition by `null` with probability p (arXiv 2207.12598, Algorithm 1)."""
    require(0.0 <= p <= 1.0, "p", p, "a probability in [0, 1]")
    require(null.keys() == cond.keys(), "null", sorted(null), f"the keys of cond, {sorted(cond)}")
    batch = len(next(iter(cond.values())))
    dropped = torch.rand(batch, generator=generator) < p
    return {k: torch.where(dropped.reshape(-1, *[1] * (v.ndim - 1)), null[k].to(v), v) for k, v in cond.items()}


def diffuse(
    draw: Draw,
    clock: times.Clock = times.uniform,
    drop: float = 0.0,
    null: Mapping[str, Tensor] | None = None,
) -> Draw:
    """Turn a draw of data {x0, **cond} into a draw for `Denoiser.loss`: adds t from `clock` and ε, drops conditions."""
    require(drop == 0 or null is not None, "null", None, "the null condition, as drop > 0")

    def noisy(generator: Generator) -> Batch:
        batch = dict(draw(generator))
        x0 = batch.pop("x0")
        t = clock(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        if drop > 0 and null is not None:
            batch = drop_condition(batch, null, drop, generator)
        return {"x0": x0, "t": t, "eps": eps, **batch}

    return noisy


class EMA:
    """An exponential moving average of a module's parameters; its buffers are copied.

    The decay warms up as min(decay, (1 + k)/(10 + k)) at step k, so that early averages are not dominated by the start.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999):
        require(0.0 <= decay < 1.0, "decay", decay, "a number in [0, 1)")
        self.module, self.decay = deepcopy(module).eval().requires_grad_(False), decay
        self._parameters, self._buffers = list(self.module.parameters()), list(self.module.buffers())

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._parameters, [p.detach() for p in module.parameters()], 1 - decay)  # pyright: ignore
        for average, value in zip(self._buffers, module.buffers()):
            average.copy_(value)


def decayed(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate at `step` of `steps`: linear warm-up, flat, then linear to 0 over the second half."""
    return peak * min(1.0, (step + 1) / max(1, min(warmup, steps // 10))) * min(1.0, 2 * (1 - step / steps))


@dataclass(frozen=True)
class Progress:
    """What `fit` yields after each step. `ema` is the averaged model, the one to sample from; step counts from 1."""

    step: int
    loss: float
    lr: float
    seconds: float
    model: nn.Module
    ema: Any


class _LossModule(nn.Module):
    """DistributedDataParallel hooks `forward`; our trainables expose `loss`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.model.loss(**batch)  # type: ignore[operator]


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


def fit(
    model: nn.Module,
    draw: Draw,
    steps: int,
    *,
    lr: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    groups: Callable[[nn.Module], Iterable[Any]] = nn.Module.parameters,
    lr_at: Callable[[int, int, float], float] = decayed,
    ema: float = 0.999,
    clip: float = 1.0,
    seed: int = 0,
    path: str | Path | None = None,
    every: int = 500,
    bar: bool = True,
) -> Iterator[Progress]:
    """Train `model` on `steps` batches from `draw`; a generator that yields a `Progress` after every step.

    lr, lr_at: peak rate and its course, lr_at(step, steps, lr). optimizer: called with (groups(model), lr=lr). groups:
    the parameters to train, or parameter groups; a group with an lr of its own has that as its peak. ema: decay of the
    average. clip: largest gradient norm, over all groups together but those with `"clip": False`. seed: fixes data,
    times and noise of every step (not the initial weights). bar: a progress bar with the loss and the time left.

    path: a folder for `checkpoint.safetensors` (every `every` steps, at the end, and when the run is interrupted) and
    `log.csv`. If it already holds a checkpoint, training goes on from there and ends with bit-identical weights
    (same machine, same number of threads and processes); a finished run yields its end once more, with loss nan.
    Under `torchrun` each process takes its share of every batch.

    Raises `ValueError` for unusable arguments, for a loss that is not finite (the last checkpoint stays), and for a
    checkpoint that was made with another seed, steps, lr, ema, clip, kind of optimizer or model. Whether `draw` and
    `lr_at` are the same is not looked at.
    """
    require(
        callable(getattr(model, "loss", None)),
        "model",
        type(model).__name__,
        "a module with loss(**batch) -> (B,)",
    )
    require(isinstance(steps, int) and steps >= 1, "steps", steps, "a positive integer")
    require(clip > 0 and every >= 1, "clip, every", (clip, every), "clip > 0 and every ≥ 1")
    return _fit(model, draw, steps, lr, optimizer, groups, lr_at, ema, clip, seed, path, every, bar)


def _fit(model, draw, steps, lr, build, groups, lr_at, decay, clip, seed, path, every, bar) -> Iterator[Progress]:
    device = next(model.parameters()).device
    rank, world = _world(device)
    net = _LossModule(model)
    if world > 1:
        net = DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)
    ema = EMA(model, decay)  # after DistributedDataParallel has given every process the same weights
    optimizer = build(groups(model), lr=lr)
    peaks = [group["lr"] for group in optimizer.param_groups]
    recipe = {"seed": seed, "steps": steps, "lr": lr, "ema": decay, "clip": clip, "optimizer": type(optimizer).__name__}
    run = checkpoints.Run(path, model, ema.module, optimizer, recipe, writes=rank == 0)
    first, seconds = run.resume()
    began = time.monotonic() - seconds
    if first == steps:
        yield Progress(steps, float("nan"), 0.0, seconds, model, ema.module)
        return
    with tqdm(total=steps, initial=first, disable=not bar or rank > 0, leave=False) as progress, run:
        for step in range(first, steps):
            with checkpoints.uninterrupted():
                for group, peak in zip(optimizer.param_groups, peaks):
                    group["lr"] = lr_at(step, steps, peak)
                loss = _step(model, net, optimizer, draw, clip, seed, step, rank, world)
                ema.update(model, step)
                run.record(step + 1, loss, optimizer.param_groups[0]["lr"], time.monotonic() - began)
                if (step + 1) % every == 0 or step + 1 == steps:
                    run.save()
            progress.update()
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
            yield Progress(step + 1, loss, optimizer.param_groups[0]["lr"], time.monotonic() - began, model, ema.module)


def _step(model, net, optimizer, draw, clip, seed, step, rank, world) -> float:
    """One optimizer step; returns the mean loss over the whole (global) batch."""
    device = next(model.parameters()).device
    generator = step_generator(seed, step)
    batch = _shard(draw(generator), rank, world, device)
    with seeded_layers(generator.initial_seed() + rank, device):  # dropout, too, is a function of (seed, step)
        losses = net(batch)
        require(losses.ndim == 1, "model.loss", describe(losses), "one value per picture, shape (B,)")
        loss = losses.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
    mean = loss.detach().clone()
    if world > 1:
        dist.all_reduce(mean)
        mean /= world
    value = float(mean)
    require(math.isfinite(value), "loss", f"{value} at step {step}", "a finite loss (try a smaller lr)")
    clipped = [p for group in optimizer.param_groups if group.get("clip", True) for p in group["params"]]
    nn.utils.clip_grad_norm_(clipped, clip)
    optimizer.step()
    return value
