"""From a trained denoiser to `generate(texts, w, seeds)`, the protocol of everything that makes pictures of texts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minidiff import times
from minidiff.denoiser import Denoiser
from minidiff.guidance import Denoise, bind, cfg
from minidiff.judges.scorecard import Generate
from minidiff.randomness import randn, seeded
from minidiff.samplers import Step, ddpm, sample
from minidiff.schedules import Schedule
from minidiff.validate import integer, require

Read = Callable[[Sequence[str]], dict[str, Tensor]]
"""Texts → conditions, one row a text: a tokenizer, or a lookup of labels."""


def generator(
    model: Denoiser, read: Read, null: dict[str, Tensor], shape: Sequence[int], *, steps: int = 50,
    step: Callable[[Schedule], Step] = ddpm, grid: Callable[[int], Tensor] = times.linear,
    wrap: Callable[[Denoise], Denoise] = lambda guided: guided, decode: Callable[[Tensor], Tensor] | None = None,
    batch: int = 500, bar: bool = False,
) -> Generate:  # fmt: skip
    """`generate` of one model. read: texts → conditions; null: "no condition"; shape: of one picture (or latent).

    Picture i starts from the noise of seeds[i] and has noise of its own at every step, so that it does not depend on
    its batch; at most `batch` are made at a time. w = 0 never evaluates the null condition. grid: steps → the times.
    wrap: goes around the guided denoiser, such as `thresholding.dynamic`. decode: latents → pictures. bar: show how far
    it is, on a terminal.
    """

    steps = integer("steps", steps)

    @torch.no_grad()
    def some(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        device, generators = next(model.parameters()).device, seeded(seeds)
        cond = {name: value.to(device) for name, value in read(texts).items()}
        denoise = bind(model, **cond) if w == 0 else cfg(model, cond, null, w)
        noise = randn((len(texts), *shape), generators, device=device)
        walk = sample(wrap(denoise), noise, grid(steps), step(model.schedule), generators)
        *_, x = tqdm(walk, total=steps, disable=None if bar else True, desc=f"{len(texts)} pictures")
        return x if decode is None else decode(x)

    return in_batches(some, batch)


def in_batches(some: Generate, batch: int) -> Generate:
    """`some`, asked for at most `batch` texts at a time. `ValueError` for no texts, or another number of seeds."""
    batch = integer("batch", batch)

    def generate(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        fits = not isinstance(texts, str) and len(texts) > 0
        require(fits, "texts", repr(texts)[:80], "a list of at least one text")
        require(len(seeds) == len(texts), "seeds", f"{len(seeds)} seeds", f"one per text ({len(texts)})")
        rows = range(0, len(texts), batch)
        return torch.cat([some(texts[i : i + batch], w, seeds[i : i + batch]) for i in rows])

    return generate
