"""Small tensor reshapes that several floors share."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from minidiff.validate import describe, integer, require


def expand_like(t: Tensor, x: Tensor) -> Tensor:
    """Make times broadcast over `x` (B, …): (B,) gets trailing ones; a scalar and a map (B, 1, …) stay what they are.

    Written once, here: `t` of shape (B,) against `x` of shape (B, C, H, W) with B == W would broadcast over the
    *last* axis without a word of warning.
    """
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


def differentiable(x: Tensor) -> Tensor:
    """x, or a copy that autograd may keep where x was made in torch.inference_mode() and we are outside of it now."""
    return x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x


def beside(x: Tensor, concat: Tensor | None, channels: int) -> Tensor:
    """x (B, C, …) with the channels of a second picture (B, channels, …) after its own."""
    wanted = (x.shape[0], channels, *x.shape[2:])
    fits = concat is None if channels == 0 else concat is not None and tuple(concat.shape) == wanted
    require(fits, "concat", describe(concat), f"a tensor of shape {wanted}" if channels else "nothing")
    return x if concat is None else torch.cat([x, concat.to(x)], dim=1)


def patch_sides(patch: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One side per axis: 4 → (4, 4) for pictures; (1, 2, 2), time first, for clips."""
    sides = tuple(patch) if isinstance(patch, Sequence) else (patch,) * axes
    require(len(sides) == axes, "patch", patch, f"a positive integer, or one for each of {axes} axes")
    return tuple(integer("patch", side) for side in sides)


def patchify(x: Tensor, patch: int | Sequence[int]) -> Tensor:
    """Cut pictures or clips into patches, row by row: (B, C, H, W) → (B, H/p · W/p, p² · C) tokens.

    On any number of axes, each with its own side of a patch: (B, C, T, H, W) and (t, p, p) give T/t · H/p · W/p tokens
    of t·p²·C numbers. `ValueError` if a size is not divisible.
    """
    require(isinstance(x, Tensor) and x.ndim >= 3, "x", describe(x), "shape (B, C, H, W), or with other axes after C")
    sides = patch_sides(patch, x.ndim - 2)
    fits = all(n % p == 0 for n, p in zip(x.shape[2:], sides))
    require(fits, "x", describe(x), f"shape (B, C, …) with sizes divisible by {sides}")
    axes = len(sides)
    tiles = x.reshape(*x.shape[:2], *(k for n, p in zip(x.shape[2:], sides) for k in (n // p, p)))
    grid, inside = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
    return tiles.permute(0, *grid, *inside, 1).flatten(1 + axes).flatten(1, axes)


def unpatchify(tokens: Tensor, patch: int | Sequence[int], size: Sequence[int]) -> Tensor:
    """The inverse of `patchify`: (B, N, p² · C) → (B, C, *size), such as size = (H, W) or (T, H, W)."""
    sides = patch_sides(patch, len(size))
    grid = [n // p for n, p in zip(size, sides)]
    fits = tokens.ndim == 3 and tokens.shape[1] == prod(grid) and tokens.shape[2] % prod(sides) == 0
    fits = fits and all(n % p == 0 for n, p in zip(size, sides))
    require(fits, "tokens", describe(tokens), f"shape (B, {prod(grid)}, {prod(sides)}·C) for {tuple(size)}")
    tiles, axes = tokens.reshape(len(tokens), *grid, *sides, -1), len(sides)
    order = [axis for pair in zip(range(1, 1 + axes), range(1 + axes, 1 + 2 * axes)) for axis in pair]
    return tiles.permute(0, 1 + 2 * axes, *order).reshape(len(tokens), -1, *size)


def sizes_of(x_t: Tensor, channels: int, patch: Sequence[int], size: Sequence[int] | None = None) -> tuple[int, ...]:
    """The sides of pictures or clips (B, channels, *sides): `size`, or where that is None any that the patch divides.

    `ValueError` that names x_t for anything else.
    """
    found = tuple(x_t.shape[2:])
    fits = x_t.ndim == 2 + len(patch) and x_t.shape[1] == channels
    fits = fits and (all(n % p == 0 for n, p in zip(found, patch)) if size is None else found == tuple(size))
    wanted = f"sizes divisible by {tuple(patch)}" if size is None else ", ".join(map(str, size))
    require(fits, "x_t", describe(x_t), f"(B, {channels}, {wanted})")
    return found


def pack(parts: Sequence[Tensor]) -> tuple[Tensor, list[torch.Size]]:
    """Tensors (B, …) of several shapes (picture and sound) as one state (B, total), and the shapes to undo it."""
    require(len({len(part) for part in parts}) == 1, "parts", [len(p) for p in parts], "tensors with the same B")
    return torch.cat([part.reshape(len(part), prod(part.shape[1:])) for part in parts], 1), [
        part.shape[1:] for part in parts
    ]


def unpack(state: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """The inverse of `pack`: (B, total) → tensors (B, *shape)."""
    sizes = [prod(shape) for shape in shapes]
    fits = state.ndim == 2 and state.shape[1] == sum(sizes)
    require(fits, "state", describe(state), f"shape (B, {sum(sizes)})")
    return [part.reshape(len(state), *shape) for part, shape in zip(state.split(sizes, 1), shapes)]
