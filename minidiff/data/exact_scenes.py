"""Exact scenes: the world of captioned pictures where the best denoiser is known.

A caption allows finitely many pictures x_l, with probabilities p_l. Noised by x_t = α·x0 + σ·ε, the chance of each is

    w_l ∝ p_l · exp(−‖x_t − α·x_l‖² / 2σ²),        E[x0 | x_t, caption] = Σ_l w_l·x_l,

and no network that is told the caption errs less, on average, than the variance that is left: Σ_l w_l·‖x_l − E‖².

Up to 6144 pictures make this dear. But a picture is the ground plus parts d_p, one object at one place each, and where
parts of a picture do not overlap, ‖x_t − α·x_l‖² is a sum over them: 64 inner products weigh 6144 pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache
from itertools import permutations
from math import prod
from random import Random
from typing import Any, NoReturn

import torch
from torch import Generator, Tensor

from minidiff.data.places import arranged
from minidiff.data.prompts import Prompt, place
from minidiff.data.scenes import COLOURS, GROUNDS, KINDS, MAX_OBJECTS, SHAPES, Scenes, assemble, empty, render
from minidiff.randomness import randn_like
from minidiff.schedules import Schedule
from minidiff.validate import describe, require, require_floating, require_time

# ---------------------------------------------------------------- every scene of a prompt


class _Told(Random):
    """Random numbers that are told: draw i takes option path[i], later ones the first. options: how many each had."""

    def follow(self, path: list[int]) -> None:
        self.path, self.options = path, []

    def choice(self, seq: Any) -> Any:
        i = self.path[len(self.options)] if len(self.options) < len(self.path) else 0
        self.options.append(len(seq))
        return seq[i]

    def randint(self, a: int, b: int) -> int:
        return self.choice(range(a, b + 1))

    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        return list(self.choice(list(permutations(population, k))))

    def random(self) -> NoReturn:
        raise TypeError("`arranged` made a draw whose outcomes cannot be listed; expected choice, randint or sample")

    def getrandbits(self, k: int, /) -> NoReturn:  # what every other draw of Python's is made of
        self.random()


def _outcomes(prompt: Prompt) -> Iterator[tuple[list[tuple[str, str | None, str, int, int]], Fraction]]:
    """Everything that `arranged` can return, each with its probability: its tree of draws, depth first."""
    rng, path = _Told(), []
    while True:
        rng.follow(path)
        yield arranged(prompt, rng), Fraction(1, prod(rng.options))
        path = path + [0] * (len(rng.options) - len(path))
        while path and path[-1] == rng.options[len(path) - 1] - 1:
            path.pop()
        if not path:
            return
        path[-1] += 1


def _nameless(prompt: Prompt) -> Prompt:
    """The prompt with stand-ins for kinds and colours, alike where groups are alike: many prompts have the same."""
    looks = [group.look for group in prompt.groups]
    which = [looks.index(look) for look in looks]  # the first stand-in is a circle, which may surround others
    groups = (replace(g, kind=SHAPES[i], colour=COLOURS[i]) for g, i in zip(prompt.groups, which))
    return Prompt(tuple(groups), prompt.relation)


def _named(scenes: Scenes, prompt: Prompt) -> Scenes:
    """Scenes of `_nameless(prompt)` with the kinds, colours and ground of `prompt`."""
    rest = [-1] * (len(SHAPES) - len(prompt.groups))  # an empty slot, of kind −1, finds the last entry
    kinds = torch.tensor([KINDS.index(g.kind) for g in prompt.groups] + rest)
    colours = torch.tensor([COLOURS.index(g.colour) if g.colour else -1 for g in prompt.groups] + rest)
    ground = torch.full_like(scenes.ground, GROUNDS.index(prompt.ground))
    return replace(scenes, kind=kinds[scenes.kind], colour=colours[scenes.kind], ground=ground)


@lru_cache
def _arrangements(nameless: Prompt) -> tuple[Scenes, Tensor]:
    found: dict[tuple[object, ...], Fraction] = {}
    scenes: dict[tuple[object, ...], list[tuple[str, str | None, str, int, int]]] = {}
    for things, probability in _outcomes(nameless):
        key = tuple(sorted(things, key=str))  # like objects that trade places make the same picture
        found[key] = found.get(key, Fraction(0)) + probability
        scenes.setdefault(key, things)
    assert sum(found.values()) == 1
    return assemble(list(scenes.values())), torch.tensor([float(p) for p in found.values()], dtype=torch.float64)


def arrangements(prompt: Prompt) -> tuple[Scenes, Tensor]:
    """Every scene that `place` can draw for `prompt`, and its probability: L scenes and (L,) float64, summing to 1.

    L is 36 for one medium object, 48 for a relation of two, 4 to 16 around something, and 6144 for four different
    objects, the most there is. Scenes that differ only in which of several like objects came first are one.
    """
    scenes, probabilities = _arrangements(_nameless(prompt))
    copy = scenes[torch.arange(len(scenes))]  # what is kept for the next call stays as it is
    return _named(copy, prompt), probabilities.clone()


def readings(prompt: Prompt) -> list[Prompt]:
    """The prompts that share the short caption of `prompt`, all of them equally likely in every `World`.

    Only "a … surrounding some …" has more than one: some are two or three.
    """
    if prompt.relation == "surrounding" and prompt.groups[0].count == 1 and prompt.groups[1].count > 1:
        outer, inner = prompt.groups
        return [replace(prompt, groups=(outer, replace(inner, count=count))) for count in (2, 3)]
    return [prompt]


# ---------------------------------------------------------------- pictures as sums of parts


@dataclass(frozen=True)
class _Layout:
    """What nameless scenes have in common. scenes: L of them; log_p: (L,); objects: P scenes of one object or none.

    holds: (L, P), 1 where a scene holds an object, else 0; together: (P, P), do two objects stand in one scene?
    """

    scenes: Scenes
    log_p: Tensor
    objects: Scenes
    holds: Tensor
    together: Tensor


@lru_cache
def _layout(nameless: Prompt) -> _Layout:
    parts = [_arrangements(reading) for reading in readings(nameless)]
    scenes = Scenes(*(torch.cat([getattr(scenes, f.name) for scenes, _ in parts]) for f in fields(Scenes)))
    log_p = torch.cat([p / len(parts) for _, p in parts]).log()
    slots = torch.stack([scenes.kind, scenes.size, scenes.row, scenes.column], dim=2)  # (L, 4, 4)
    table, which = slots.flatten(0, 1).unique(dim=0, return_inverse=True)  # an empty slot is a part too: of nothing
    objects = empty(len(table))
    for name, column in zip(("kind", "size", "row", "column"), table.T):
        getattr(objects, name)[:, 0] = column
    holds = torch.zeros(len(scenes), len(table), dtype=torch.float64).scatter_(1, which.reshape(-1, MAX_OBJECTS), 1.0)
    return _Layout(scenes, log_p, objects, holds, (holds.T @ holds > 0) & ~torch.eye(len(table), dtype=torch.bool))


@dataclass(frozen=True)
class _Sums:
    """Picture l is ground (D,) + Σ_p holds[l, p]·parts[p] (P, D), its parts apart; its chance is exp(log_p[l])."""

    ground: Tensor
    parts: Tensor
    holds: Tensor
    log_p: Tensor

    def moments(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """E[x0 | x_t], (B, D), and E‖x0 − E[x0 | x_t]‖², (B,), for x_t of shape (B, D) and levels of shape (B, 1)."""
        squared = self.parts.square().sum(1)
        # −‖x_t − α·x_l‖²/2σ² up to what all pictures share. At σ = 0 the nearest picture takes it all.
        fit = alpha * ((x_t - alpha * self.ground) @ self.parts.T) - alpha**2 / 2 * squared
        logits = self.log_p + (fit / sigma.square().clamp(min=1e-30)) @ self.holds.T
        chance = logits.softmax(1) @ self.holds  # of each part: (B, P)
        away = chance @ self.parts
        return self.ground + away, (chance @ squared - away.square().sum(1)).clamp(min=0)


def _sums(prompt: Prompt, side: int) -> _Sums:
    layout = _layout(_nameless(prompt))
    flat = lambda scenes: render(_named(scenes, prompt), side).flatten(1).double()
    ground = flat(empty(1))[0]
    parts, holds = flat(layout.objects) - ground, layout.holds
    touched = (parts != 0).double()
    if bool(((touched @ touched.T > 0) & layout.together).any()):  # objects overlap: every picture is a part of its own
        parts, holds = flat(layout.scenes) - ground, torch.eye(len(layout.scenes), dtype=torch.float64)
    return _Sums(ground, parts, holds, layout.log_p)


class ExactScenes:
    """The exact denoiser of captioned scenes, E[x0 | x_t, short caption of prompts[i]] for row i: a `Denoise`.

    prompts: B of them, such as a `World` draws; each stands for all `readings` of its caption. schedule: t → (α, σ).
    side: 16, 32 or 64 px. Computes in float64 on the CPU. `ValueError` for other batches, shapes or times.
    """

    def __init__(self, prompts: Sequence[Prompt], schedule: Schedule, side: int = 16):
        require(len(prompts) > 0, "prompts", "none", "one per picture")
        rows: dict[Prompt, list[int]] = {}
        for i, prompt in enumerate(prompts):
            rows.setdefault(prompt, []).append(i)
        self.schedule, self.shape = schedule, (len(prompts), 3, side, side)
        self._sums = [(torch.tensor(where), _sums(prompt, side)) for prompt, where in rows.items()]

    def moments(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E[x0 | x_t, caption], like x_t, (B, 3, S, S), and the mean squared error that is left, (B,) float64.

        That error is the posterior variance of x0, averaged over the numbers of a picture. t: a scalar or (B,).
        """
        require_floating("x_t", x_t)
        require(x_t.shape == self.shape, "x_t", describe(x_t), f"shape {self.shape}, a row per prompt")
        require_time(t, batch=len(x_t))
        x = x_t.to("cpu", torch.float64).flatten(1)
        alpha, sigma = self.schedule(t.to("cpu", torch.float64).expand(len(x))[:, None])
        order = torch.cat([where for where, _ in self._sums]).argsort()
        parts = [sums.moments(x[where], alpha[where], sigma[where]) for where, sums in self._sums]
        mean, variance = (torch.cat(values)[order] for values in zip(*parts))
        return mean.reshape(x_t.shape).to(x_t), variance / x.shape[1]

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.moments(x_t, t)[0]


@torch.no_grad()
def floor(
    prompts: Sequence[Prompt], schedule: Schedule, times: Tensor, generator: Generator, side: int = 16
) -> tuple[Tensor, Tensor]:
    """The least mean squared error of x̂0 given the caption, at each of `times` (T,), and its standard error: two (T,).

    A mean over one noisy picture x_t per prompt of the variance left (`ExactScenes.moments`), which scatters less than
    the squared errors themselves. prompts: as a `World` draws them; 512 give 1 to 2 % at t ≥ 0.8, 10 to 20 % at 0.5.
    """
    require(len(prompts) >= 2, "prompts", f"{len(prompts)} of them", "at least 2, for a standard error")
    require_time(times, argument="times")
    require(times.ndim == 1, "times", describe(times), "shape (T,)")
    left = []
    for first in range(0, len(prompts), 64):  # 64 prompts at once: their parts may take 100 kB to 2 MB each
        some = prompts[first : first + 64]
        exact, x0 = ExactScenes(some, schedule, side), render(place(some, generator), side)
        noisy = (schedule.add_noise(x0, randn_like(x0, generator), t) for t in times)
        left.append(torch.stack([exact.moments(x_t, t)[1] for x_t, t in zip(noisy, times)]))
    variance = torch.cat(left, dim=1)
    return variance.mean(1), variance.std(1) / len(prompts) ** 0.5
