"""Exercise 11-network: DiT with adaLN-Zero, from the patches to the patches."""

from collections.abc import Callable
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from minidiff.backbones.dit import DiT
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal
from ._maps import Map, Maps, read

Linear = Callable[..., Map]
Net = Callable[[Tensor, Tensor], Tensor]


def _draw_networks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, channels: int, patch: int, dim: int, depth: int, heads: int, dtype: Any = torch.float64) -> Inputs:
        own = int(torch.randint(2**31, (1,), generator=g))
        return Maps(own, channels, patch, dim, depth, dtype), normal((n, dim), g, dtype), channels, patch, depth, heads

    return [
        case(6, 3, 2, 8, 2, 2),  # 2×3 tokens
        case(4, 1, 3, 6, 1, 3),  # 2×2
        case(1, 2, 2, 8, 3, 4),  # one token
        case(6, 2, 1, 6, 2, 1, torch.float32),  # every pixel a token, one head
    ]


def _sides(n: int, patch: int) -> tuple[int, int]:
    """2×3, or square."""
    rows = 2 if n == 6 else isqrt(n)
    return patch * rows, patch * (n // rows)


class _Silent(nn.Module):
    """In place of the embedding of time, which is in `cond` already."""

    def __init__(self, dim: int, dtype: torch.dtype):
        super().__init__()
        self.nothing = torch.zeros(dim, dtype=dtype)

    def forward(self, t: Tensor) -> Tensor:
        return self.nothing.expand(*t.shape, -1)


def dit(linear: Linear, place: Tensor, channels: int, patch: int, depth: int, heads: int) -> Net:
    """The library's DiT with the weights of these maps, as they are when it is called; two modulations a block."""
    (n, dim), inside = place.shape, patch**2 * channels
    ends = {"stem": (inside, dim, False), "last": (dim, 2 * dim, True), "head": (dim, inside, True)}
    block = dict.fromkeys(("q", "k", "v", "out"), (dim, dim, False)) | {"modulation": (dim, 6 * dim, True)}
    block |= {"up": (dim, 4 * dim, False), "down": (4 * dim, dim, False)}
    widths = ends | {f"blocks.{i}.{name}": width for i in range(depth) for name, width in block.items()}
    maps = {name: linear(name, width, out, zero=zero) for name, (width, out, zero) in widths.items()}
    net = DiT(channels, _sides(n, patch), patch, dim, depth, heads).to(place.dtype)
    net.time = _Silent(dim, place.dtype)  # type: ignore[assignment]

    def run(x_t: Tensor, cond: Tensor) -> Tensor:
        found = {"place": place}
        for name, made in maps.items():
            *where, last = name.split(".")
            names = [f"attention.{last}"] if last in ("q", "k", "v", "out") else [last]
            names = ["norm1.modulation", "norm2.modulation"] if last == "modulation" else names
            for kind, value in read(made, widths[name][0], place.dtype).items():
                parts = zip(names, value.chunk(len(names)))
                found |= {".".join([*where, part, kind]): own for part, own in parts}
        return functional_call(net, found, (x_t, torch.zeros(len(x_t))), {"vector": cond}, strict=True)

    return run


def _by_hand(flaw: str = "") -> Callable[..., Net]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def dit(linear: Linear, place: Tensor, channels: int, patch: int, depth: int, heads: int) -> Net:
        dim, inside, begin = place.shape[1], patch**2 * channels, flaw != "loud"
        stem = linear("stem", inside, dim)
        blocks = []
        for i in range(depth):
            square = [linear(f"blocks.{i}.{name}", dim, dim) for name in ("q", "k", "v", "out")]
            mlp = linear(f"blocks.{i}.up", dim, 4 * dim), linear(f"blocks.{i}.down", 4 * dim, dim)
            blocks.append((*square, *mlp, linear(f"blocks.{i}.modulation", dim, 6 * dim, begin)))
        last, head = linear("last", dim, 2 * dim, begin), linear("head", dim, inside, begin)

        def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            centred = x - x.mean(2, keepdim=True)
            normed = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
            if flaw == "order":
                scale, shift = shift, scale
            return normed * (scale if flaw == "bare" else 1 + scale) + shift

        def net(x_t: Tensor, cond: Tensor) -> Tensor:
            (b, _, height, width), p = x_t.shape, patch
            tiles = x_t.reshape(b, channels, height // p, p, width // p, p)
            cut = "bcypxq->byxcpq" if flaw == "channels" else "bcypxq->byxpqc"
            x = stem(torch.einsum(cut, tiles).reshape(b, len(place), inside)) + place
            told = (cond if flaw == "linear" else cond * torch.sigmoid(cond))[:, None]
            for q, k, v, out, up, down, modulation in blocks:
                scale, shift, gate, scale_2, shift_2, gate_2 = modulation(told).chunk(6, 2)
                if flaw == "ungated":
                    gate = gate_2 = torch.ones_like(gate)
                h = modulated(x, scale, shift)
                q, k, v = (each(h).reshape(b, len(place), heads, -1).transpose(1, 2) for each in (q, k, v))
                shares = torch.einsum("bhid,bhjd->bhij", q, k).div((dim // heads) ** 0.5).softmax(3)
                x = x + gate * out(torch.einsum("bhij,bhjd->bihd", shares, v).reshape(x.shape))
                x = x + gate_2 * down(F.gelu(up(modulated(x, scale_2, shift_2)), approximate="tanh"))
            scale, shift = last(told).chunk(2, 2)
            x = head(modulated(x, scale, shift)).reshape(b, height // p, width // p, -1)
            if flaw == "channels":
                return F.pixel_shuffle(x.permute(0, 3, 1, 2), p)
            return torch.einsum("byxpqc->bcypxq", x.unflatten(3, (p, p, -1))).reshape(x_t.shape)

        return net

    return dit


def _run(net: object, linear: Maps, place: Tensor, channels: int, patch: int, depth: int, heads: int) -> tuple:
    """What it makes of three pictures and of one of them alone, and how that moves with pictures and conditions."""
    require(callable(net), "what your function returns", describe_value(net), "a function net(x_t, cond)")
    assert callable(net)
    linear.closed = True
    missing = sorted(linear.widths.keys() - linear.made)
    require(not missing, "your maps", f"none of the name {missing[:1]}", "all that are listed, made before net runs")
    g = Generator().manual_seed(len(place) + 10 * depth + 100 * heads)
    size = _sides(len(place), patch)
    x_t, cond = normal((3, channels, *size), g, place.dtype), normal((3, place.shape[1]), g, place.dtype)
    x, c = (value.clone().requires_grad_() for value in (x_t, cond))
    found = net(x, c)
    fits = isinstance(found, Tensor) and found.shape == x.shape
    require(fits, "what net(x_t, cond) returns", describe(found), f"shape {tuple(x.shape)}, like x_t")
    assert isinstance(found, Tensor)
    total = (found * torch.arange(found.numel(), dtype=found.dtype).reshape(found.shape).cos()).sum()
    pulls = (torch.zeros_like(x), torch.zeros_like(c))
    if total.requires_grad:
        pulls = torch.autograd.grad(total, (x, c), materialize_grads=True)
    return found, net(x_t[1:2], cond[1:2]), net(x_t[:2], cond[1:]), *pulls


EXERCISE = Exercise(
    id="11-network",
    title="Build it: a diffusion transformer that begins as nothing",
    points=6,
    difficulty=5,
    importance=5,
    minutes=45,
    draw=_draw_networks,
    reference=dit,
    probe=_run,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake("begins-loud", _by_hand("loud"), "None of your maps begins at zero. Then it is adaLN without Zero: a "
            "new network answers noise. `zero=True` for the modulations, and for both maps at the end."),
        Mistake("scale-without-one", _by_hand("bare"), "You multiplied by the scale itself. It begins at zero, so that "
            "nothing would come through: multiply by 1 + scale."),
        Mistake("shift-first", _by_hand("order"), "You took the shift for the scale. Each norm's three vectors come as "
            "scale, shift, gate, and at the end scale, shift."),
        Mistake("no-gates", _by_hand("ungated"), "You never multiplied by the gates. They are what makes a new block "
            "the identity: x + gate · branch, for both branches."),
        Mistake("no-silu", _by_hand("linear"), "You gave the modulations cond as it is. SiLU comes first, so that they "
            "are more than a linear map of the embeddings."),
        Mistake("channels-first", _by_hand("channels"), "The numbers of your patches begin with the channel. Here they "
            "are read pixel by pixel, row by row, the channels of a pixel side by side; at the end as well."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.nn.block.Block", "minidiff.nn.block.Norm", "minidiff.nn.block.Attention",
        "minidiff.shapes.patchify", "minidiff.shapes.unpatchify"),
    hints=(
        "Two parts. First make all maps, in a list of blocks. Then `net`: cut, stem, places; for each block "
        "modulation, attention, MLP; at the end modulation, head, and the patches put together.",
        "`s1, b1, g1, s2, b2, g2 = modulation(F.silu(cond))[:, None].chunk(6, -1)`; the norm is "
        "`F.layer_norm(x, (dim,)) * (1 + s1) + b1`; heads: `.unflatten(-1, (heads, -1)).transpose(1, 2)`.",
        "Cut: `x.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 3, 5, 1).reshape(B, N, -1)`. Back: reshape to "
        "`(B, H // p, W // p, p, p, C)`, then `.permute(0, 5, 1, 3, 2, 4)`.",
    ),
    expected="0.90 ± 0.10 of the pictures show one or two whole objects; with the places reversed 0.10 ± 0.06, "
    "as every patch is drawn where another belongs; with the gates shut none (5 sets of 24).",
    trap="each of these trains, and most train well: a network learns to live with swapped vectors or "
    "patches read another way. Only weights that somebody else trained show it, and the zeros show only"
    " in the first steps.",
)  # fmt: skip
