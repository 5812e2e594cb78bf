"""Rotary positions (RoPE, arXiv 2104.09864) on any number of axes: queries and keys are turned, values are not.

Pairs of neighbouring numbers of a head are points in a plane, turned by position·frequency. The product of a turned
query and a turned key depends on the difference of their positions only. With several axes (row and column; time, row
and column) each has its share of the pairs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minidiff.validate import describe, require


def grid(*sizes: int) -> Tensor:
    """The positions of the tokens of a picture or clip, row by row: (N, axes) float32, N the product of the sizes."""
    axes = torch.meshgrid(*(torch.arange(float(size)) for size in sizes), indexing="ij")
    return torch.stack(axes, -1).reshape(-1, len(sizes))


def at_origin(text: int, *sizes: int) -> Tensor:
    """Text at 0 on all axes, then the picture's grid on the last ones; the first axis is free (Flux 1)."""
    places = torch.nn.functional.pad(grid(*sizes), (1, 0))
    return torch.cat([torch.zeros(text, 1 + len(sizes)), places])


def centred(text: int, *sizes: int) -> Tensor:
    """MSRoPE (arXiv 2508.02324): the picture around the origin, the text on the diagonal that goes on from its corner.

    A side of n has the positions −⌈n/2⌉ … ⌊n/2⌋ − 1, and text begins at the largest ⌊n/2⌋, on all axes alike.
    """
    middle = torch.tensor([float(n - n // 2) for n in sizes])
    places = torch.nn.functional.pad(grid(*sizes) - middle, (1, 0))
    diagonal = max(n // 2 for n in sizes) + torch.arange(float(text))
    return torch.cat([diagonal[:, None].expand(-1, 1 + len(sizes)), places])


def four_axes(text: int, *sizes: int) -> Tensor:
    """Time, row, column, word: the picture at (0, i, j, 0), text at (0, 0, 0, k) (Flux 2; references at 10, 20, …)."""
    picture = torch.nn.functional.pad(grid(*sizes), (1, 1))
    return torch.cat([torch.nn.functional.pad(torch.arange(float(text))[:, None], (3, 0)), picture])


def interleaved(*parts: int | tuple[int, int], truncated: bool = True) -> Tensor:
    """Texts and pictures in a row, on two axes (HunyuanImage 3.0, arXiv 2509.23951): (L, 2) float32, row and column.

    parts: a number of words, or the (rows, columns) of a picture's tokens. A word that is the p-th token stands at
    (p, p). Token (i, j) of a picture of h×w that begins as token L stands at (β_y + i, β_x + j), with

        β_y = L + (w·h − h)/2,    β_x = L + (w·h − w)/2,

    so that its middle is (L + (w·h − 1)/2) on both axes, the middle of the places that as many words would have: it is
    centred on the diagonal, and text goes on at L + w·h. Where one of h, w is odd and the other even, one β ends in ½.
    truncated: the public code rounds positions down there, which moves the picture half a step off the diagonal on that
    axis; False keeps it in the middle. Distances inside the picture are the same.
    """
    places, first = [], 0
    for part in parts:
        if isinstance(part, int):
            places.append((first + torch.arange(float(part)))[:, None].expand(-1, 2))
            first += part
            continue
        h, w = part
        places.append(grid(h, w) + first + torch.tensor([(w * h - h) / 2, (w * h - w) / 2]))
        first += w * h
    found = torch.cat(places) if places else torch.zeros(0, 2)
    return found.floor() if truncated else found


class Rotary:
    """A rotation for `Block(rotate=…)`: positions (L, axes) or (B, L, axes); axes: numbers of a head for each axis.

    axes are even and add up to the head's width. theta: the slowest pair of an axis turns by 1/theta^(1 − 2/width)
    a step. Angles are computed in float64 and kept in float32: large positions keep their precision.

    woven: axes, all alike, share the frequencies of one axis as wide as the head, pair by pair in turn: pair k turns by
    theta^(−2k/Σ axes) on axis k mod n. A word at (p, p) then turns as in a language model with one axis, to the bit,
    so that one can learn to draw (arXiv 2509.23951).
    """

    def __init__(self, positions: Tensor, axes: Sequence[int], theta: float = 10_000.0, woven: bool = False):
        fits = positions.ndim in (2, 3) and positions.shape[-1] == len(axes)
        require(fits, "positions", describe(positions), f"shape (L, {len(axes)}) or (B, L, {len(axes)})")
        require(all(a > 0 and a % 2 == 0 for a in axes), "axes", tuple(axes), "even positive widths")
        require(not woven or len(set(axes)) == 1, "axes", tuple(axes), "widths that are all alike, as they are woven")
        exact = positions.to(
            "cpu" if positions.device.type == "mps" else positions.device
        ).double()  # mps has no float64
        rates = lambda width: theta ** -(torch.arange(0, width, 2, dtype=torch.float64, device=exact.device) / width)
        self.width = sum(axes)
        if woven:
            turned = exact.repeat(*[1] * (exact.ndim - 1), axes[0] // 2) * rates(self.width)  # (…, L, width/2)
        else:
            turned = torch.cat([exact[..., axis, None] * rates(width) for axis, width in enumerate(axes)], -1)
        self.cos, self.sin = (wave.float().to(positions.device) for wave in (turned.cos(), turned.sin()))

    def __call__(self, heads: Tensor) -> Tensor:
        """(B, heads, L, d) → the same, turned: (x, y) → (x·cos − y·sin, x·sin + y·cos) for each pair."""
        require(
            heads.shape[-1] == self.width, "heads", describe(heads), f"heads of width {self.width}, the sum of axes"
        )
        require(heads.shape[-2] == self.cos.shape[-2], "heads", describe(heads), f"{self.cos.shape[-2]} tokens")
        cos, sin = (a.to(heads)[..., None, :, :] for a in (self.cos, self.sin))
        x, y = heads.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([x * cos - y * sin, x * sin + y * cos], -1).flatten(-2)
