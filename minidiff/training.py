"""Training: one loop for everything that has a loss.

A *trainable* is a module with `loss(**batch) -> (B,)`. A *draw* is a function generator → batch, a dict of tensors
whose first axis is the picture. All randomness of a step (data, times, noise, dropped conditions) comes from one
generator that is seeded by (seed, step); so step 1234 is the same whether the run came there in one go, was
interrupted, or is spread over several processes, and no generator state has to be saved.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.loop import EMA, Batch, Draw, Progress, Side, StepGenerator, loop, step_generator
from minidiff.validate import integer, not_negative, number, require

__all__ = [
    "EMA", "Batch", "Draw", "Progress", "alternate", "chunked", "decayed", "diffuse", "draw_rows", "drop_condition",
    "fit", "pick_device", "step_generator",
]  # fmt: skip


def pick_device() -> torch.device:
    """The device of a notebook, chosen once at its top: CUDA (torchrun's own), else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


FUSED_ADAMW = partial(torch.optim.AdamW, fused=True)
"""AdamW in one pass over the weights, on CPUs, too: the default."""


def draw_rows(data: Mapping[str, Tensor], batch_size: int) -> Draw:
    """Draw `batch_size` random rows of in-memory tensors that share their first axis: {"x0": (N, …), "y": (N,)}."""
    sizes, batch_size = {len(v) for v in data.values()}, integer("batch_size", batch_size)
    require(len(sizes) == 1, "data", {k: len(v) for k, v in data.items()}, "tensors with equally many rows")
    (n,) = sizes

    def draw(generator: Generator) -> Batch:
        rows = torch.randint(n, (batch_size,), generator=generator)
        return {k: v[rows] for k, v in data.items()}

    return draw


def drop_condition(cond: Mapping[str, Tensor], null: Mapping[str, Tensor], p: float, generator: Generator) -> Batch:
    """Replace each picture's whole condition by `null` with probability p (arXiv 2207.12598, Algorithm 1)."""
    p = _probability("p", p)
    _require_tensors(cond=cond, null=null)
    require(null.keys() == cond.keys(), "null", sorted(null), f"the keys of cond, {sorted(cond)}")
    batch = len(next(iter(cond.values())))
    dropped = torch.rand(batch, generator=generator) < p
    out = {}
    for name, value in cond.items():
        rows = dropped.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        out[name] = torch.where(rows, null[name].to(value), value)
    return out


def diffuse(
    draw: Draw,
    clock: times.Clock = times.uniform,
    drop: float = 0.0,
    null: Mapping[str, Tensor] | None = None,
) -> Draw:
    """Turn a draw of data {x0, **cond} into a draw for `Denoiser.loss`: adds t from `clock` and ε, drops conditions."""
    drop = _probability("drop", drop)
    require(drop == 0 or null is not None, "null", None, "the null condition, as drop > 0")
    if null is not None:
        _require_tensors(null=null)

    def noisy(generator: Generator) -> Batch:
        batch = dict(draw(generator))
        x0 = batch.pop("x0")
        t = clock(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        if drop > 0 and null is not None:
            batch = drop_condition(batch, null, drop, generator)
        return {"x0": x0, "t": t, "eps": eps, **batch}

    return noisy


def _probability(name: str, value: float) -> float:
    return number(name, value, "a probability in [0, 1]", lambda v: 0 <= v <= 1)


def _require_tensors(**conditions: object) -> None:
    for name, cond in conditions.items():
        fits = isinstance(cond, Mapping) and all(isinstance(v, Tensor) for v in cond.values())
        require(fits, name, cond, "a dict of tensors")


def chunked(rows: Callable[[int], Draw], batch_size: int, chunk: int = 64) -> Draw:
    """Draw `chunk` batches at a time and hand them out one by one, where one big draw is cheaper than many small ones.

    rows: n → a draw of n rows, such as `lambda n: draw_rows(data, n)`. Batch k is still a function of (seed, step): the
    rows of steps c·chunk … (c + 1)·chunk − 1 come from a generator of their own, that of step −1 − c, which no step of
    a run has. So a run that goes on in the middle of a chunk draws the whole chunk again and takes its part of it.
    Use one `chunked` in a run; a second one would draw from the same generators.

    Raises `ValueError` when called with a generator that is not of `step_generator`.
    """
    batch_size, chunk = integer("batch_size", batch_size), integer("chunk", chunk)
    draw, held = rows(batch_size * chunk), {}

    def one(generator: Generator) -> Batch:
        fits = isinstance(generator, StepGenerator)
        require(fits, "generator", type(generator).__name__, "one of step_generator(seed, step), as fit passes")
        assert isinstance(generator, StepGenerator)
        index, place = divmod(generator.step, chunk)
        key = (generator.run_seed, index)
        if key not in held:
            held.clear()  # only the latest chunk is kept
            held[key] = draw(step_generator(generator.run_seed, -1 - index))
            sizes = {k: len(v) for k, v in held[key].items()}
            require({*sizes.values()} == {batch_size * chunk}, "rows", sizes, f"draws of {batch_size * chunk} rows")
        return {k: v[place * batch_size : (place + 1) * batch_size] for k, v in held[key].items()}

    return one


def decayed(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate at `step` of `steps`: linear warm-up, flat, then linear to 0 over the second half."""
    return peak * min(1.0, (step + 1) / max(1, min(warmup, steps // 10))) * min(1.0, 2 * (1 - step / steps))


def fit(
    model: nn.Module,
    draw: Draw,
    steps: int,
    *,
    lr: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = FUSED_ADAMW,
    groups: Callable[[nn.Module], Iterable[Any]] = nn.Module.parameters,
    lr_at: Callable[[int, int, float], float] = decayed,
    ema_decay: float = 0.999,
    clip: float = 1.0,
    seed: int = 0,
    path: str | Path | None = None,
    every: int = 500,
    bar: bool = True,
) -> Iterator[Progress]:
    """Train `model` on `steps` batches from `draw`; a generator that yields a `Progress` after every step.

    lr, lr_at: peak rate and its course, lr_at(step, steps, lr). optimizer: called with (groups(model), lr=lr). groups:
    the parameters to train, or parameter groups; a group with an lr of its own has that as its peak. ema_decay: of
    the average. clip: largest gradient norm, over all groups together but those with `"clip": False`. seed: fixes data,
    times and noise of every step (not the initial weights). bar: a progress bar with the loss and the time left.

    path: a folder for `checkpoint.safetensors` (every `every` steps, at the end, and when the run is interrupted) and
    `log.csv`. If it already holds a checkpoint, training goes on from there and ends with bit-identical weights
    (same machine, same number of threads and processes); a finished run yields its end once more, with loss nan.
    Under `torchrun` each process takes its share of every batch. Numbers may be Python's, NumPy's or 0-d tensors.

    Raises `ValueError` for unusable arguments, for a loss that is not finite (the last checkpoint stays), for a
    checkpoint that was made with another seed, steps, lr, ema_decay, clip, model, kind of optimizer or settings of one,
    and for an optimizer whose state cannot be kept. Whether `draw` and `lr_at` are the same is not looked at.
    """
    recipe = _recipe(steps, lr, ema_decay, clip, seed)
    every = integer("every", every)
    _require_callables(draw=draw, optimizer=optimizer, groups=groups, lr_at=lr_at)
    _require_trainable("model", model, "loss(**batch) -> (B,)")

    def start() -> Iterator[Progress]:
        side = Side("model", model, optimizer, groups, recipe["lr"])
        average = EMA(model, recipe["ema"])  # after DistributedDataParallel has given every process the same weights
        recipe["optimizer"] = type(side.optimizer).__name__
        course = lambda step, peak: lr_at(step, recipe["steps"], peak)
        yield from loop(side, average, draw, course, recipe, path, every, bar)

    return start()


def alternate(
    model: nn.Module,
    adversary: nn.Module,
    draw: Draw,
    steps: int,
    *,
    lr: float = 1e-3,
    adversary_lr: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = FUSED_ADAMW,
    adversary_optimizer: Callable[..., torch.optim.Optimizer] = FUSED_ADAMW,
    groups: Callable[[nn.Module], Iterable[Any]] = nn.Module.parameters,
    adversary_groups: Callable[[nn.Module], Iterable[Any]] = nn.Module.parameters,
    lr_at: Callable[[int, int, float], float] = decayed,
    start: int = 0,
    ema_decay: float = 0.999,
    clip: float = 1.0,
    seed: int = 0,
    path: str | Path | None = None,
    every: int = 500,
    bar: bool = True,
) -> Iterator[Progress]:
    """Train `model` and its `adversary` in turn on the same batch: a generator and a discriminator (arXiv 1406.2661).

    model: has `loss(adversary, **batch) -> (B,)`. adversary: has `loss(model, **batch) -> (B,)`; it is called after the
    model's step. The parameters of the other one are frozen meanwhile: gradients go through it, not into it. start: the
    step at which the adversary comes in; before, it stays as it is and the model's loss is called with None for it.

    Everything else is as in `fit`, the average (`Progress.ema`) is the model's. Two networks must not share parameters.
    One process only: under `torchrun` two of them aborted in about one run of ten, so that is a `ValueError`.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    require(processes == 1, "processes", processes, "1: a model and its adversary train in one process")
    recipe = _recipe(steps, lr, ema_decay, clip, seed)
    recipe |= {"adversary_lr": not_negative("adversary_lr", adversary_lr)}
    recipe |= {"start": integer("start", start, least=0)}
    every = integer("every", every)
    _require_callables(draw=draw, optimizer=optimizer, groups=groups, lr_at=lr_at)
    _require_callables(adversary_optimizer=adversary_optimizer, adversary_groups=adversary_groups)
    _require_trainable("model", model, "loss(adversary, **batch) -> (B,)")
    _require_trainable("adversary", adversary, "loss(model, **batch) -> (B,)")
    require(not {*model.parameters()} & {*adversary.parameters()}, "adversary", "parameters of model", "its own")

    def begin() -> Iterator[Progress]:
        one = Side("model", model, optimizer, groups, recipe["lr"])
        two = Side("adversary", adversary, adversary_optimizer, adversary_groups, recipe["adversary_lr"])
        recipe["optimizer"], recipe["adversary_optimizer"] = (type(side.optimizer).__name__ for side in (one, two))
        course = lambda step, peak: lr_at(step, recipe["steps"], peak)
        yield from loop(one, EMA(model, recipe["ema"]), draw, course, recipe, path, every, bar, two)

    return begin()


def _recipe(steps, lr, ema_decay, clip, seed) -> dict[str, Any]:
    """What a checkpoint has to agree on, as Python's own numbers."""
    return {
        "seed": integer("seed", seed, least=None),
        "steps": integer("steps", steps),
        "lr": not_negative("lr", lr),
        "ema": number("ema_decay", ema_decay, "a number in [0, 1)", lambda v: 0 <= v < 1),
        "clip": number("clip", clip, "a number > 0", lambda v: v > 0),
    }


def _require_trainable(name: str, module: nn.Module, signature: str) -> None:
    require(callable(getattr(module, "loss", None)), name, type(module).__name__, f"a module with {signature}")
    require(any(True for _ in module.parameters()), name, type(module).__name__, "a module with parameters")


def _require_callables(**given: object) -> None:
    for name, value in given.items():
        require(callable(value), name, type(value).__name__, "a callable")
