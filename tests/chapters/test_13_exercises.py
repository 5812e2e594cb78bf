"""The exercises of chapter 13: wrong answers that look right, and right ones beside them."""

from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from _answers import answers
from torch import Tensor

# ---------------------------------------------------------------- places


def stood(
    middle=lambda rows, columns: ((rows + 1) // 2, (columns + 1) // 2),
    first=lambda rows, columns: max(rows, columns) // 2,
    word=lambda k: (k, k, k),
    origin=lambda k: (0, 0, 0),
    free=0,
    cells=lambda rows, columns: list(product(range(rows), range(columns))),
    order=lambda flux, qwen: (flux, qwen),
):
    def placed(text, rows, columns):
        a, b = middle(rows, columns)
        grid = cells(rows, columns)
        start = first(rows, columns)
        flux = [origin(k) for k in range(text)] + [(free, i, j) for i, j in grid]
        qwen = [word(start + k) for k in range(text)] + [(free, i - a, j - b) for i, j in grid]
        return order(*(torch.tensor(rows, dtype=torch.float32) for rows in (flux, qwen)))

    return placed


PLACED = {
    "words from half the shorter side": stood(first=lambda rows, columns: min(rows, columns) // 2),
    "words from the whole side": stood(first=max),
    "words from ⌈n/2⌉": stood(first=lambda rows, columns: (max(rows, columns) + 1) // 2),
    "words from half of the rows": stood(first=lambda rows, columns: rows // 2),
    "words one further": stood(first=lambda rows, columns: max(rows, columns) // 2 + 1),
    "words on rows and columns": stood(word=lambda k: (0, k, k)),
    "words along the last row": stood(word=lambda k: (k, 0, k)),
    "words backwards": stood(word=lambda k: (-k, -k, -k)),
    "the middle of both by the longer side": stood(middle=lambda rows, columns: ((max(rows, columns) + 1) // 2,) * 2),
    "an exact middle": stood(middle=lambda rows, columns: ((rows - 1) / 2, (columns - 1) / 2)),
    "not centred": stood(middle=lambda rows, columns: (0, 0)),
    "column by column": stood(cells=lambda rows, columns: [(i, j) for j in range(columns) for i in range(rows)]),
    "the picture after the words": stood(free=1),
    "Flux 1's words one after another": stood(origin=lambda k: (k, 0, 0)),
    "Qwen's first": stood(order=lambda flux, qwen: (qwen, flux)),
    "whole numbers": stood(order=lambda flux, qwen: (flux.long(), qwen.long())),
    "two axes": stood(order=lambda flux, qwen: (flux[:, 1:], qwen[:, 1:])),
    "one way only": stood(order=lambda flux, qwen: (flux, flux)),
}

# ---------------------------------------------------------------- attention beside the MLP


def beside(
    normed=lambda x, scale, shift: F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift,
    three=lambda cond: cond[:, None].chunk(3, -1),
    parts=lambda made, dim: made.split([dim, dim, dim, made.shape[2] - 3 * dim], -1),
    ready=lambda y, rotate: rotate(F.rms_norm(y, y.shape[-1:], eps=1e-6)),
    value=lambda v, rotate: v,
    attend=lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    swiglu=lambda a, b: a * F.silu(b),
    plain=lambda inside: F.gelu(inside, approximate="tanh"),
    back=lambda mixed: mixed.transpose(1, 2).flatten(2),
    end=lambda x, gate, y: x + gate * y,
):
    def parallel(x, cond, into, out, rotate, heads, gated):
        scale, shift, gate = three(cond)
        *qkv, inside = parts(into(normed(x, scale, shift)), x.shape[2])
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in qkv)
        mixed = attend(ready(q, rotate), ready(k, rotate), value(v, rotate))
        inside = swiglu(*inside.chunk(2, -1)) if gated else plain(inside)
        return end(x, gate, out(torch.cat([back(mixed), inside], -1)))

    return parallel


PARALLEL = {
    "shift first": beside(three=lambda cond: [cond[:, None].chunk(3, -1)[i] for i in (1, 0, 2)]),
    "gate first": beside(three=lambda cond: [cond[:, None].chunk(3, -1)[i] for i in (1, 2, 0)]),
    "SiLU of cond": beside(three=lambda cond: F.silu(cond)[:, None].chunk(3, -1)),
    "times the scale itself": beside(
        normed=lambda x, scale, shift: F.layer_norm(x, x.shape[-1:], eps=1e-6) * scale + shift
    ),
    "RMS norm of x": beside(normed=lambda x, scale, shift: F.rms_norm(x, x.shape[-1:]) * (1 + scale) + shift),
    "no norm": beside(normed=lambda x, scale, shift: x * (1 + scale) + shift),
    "keys first": beside(parts=lambda made, dim: [made.split([dim, dim, dim, made.shape[2] - 3 * dim], -1)[i]
        for i in (1, 0, 2, 3)]),
    "hidden numbers first": beside(parts=lambda made, dim: [made.flip(2).split([dim, dim, dim, made.shape[2] - 3 * dim],
        -1)[i].flip(2) for i in (2, 1, 0, 3)]),
    "norm over all heads": beside(ready=lambda y, rotate: rotate(
        y * y.square().mean((1, 3), keepdim=True).add(1e-6).rsqrt())),
    "length 1": beside(ready=lambda y, rotate: rotate(F.normalize(y, dim=-1))),
    "layer norm of q and k": beside(ready=lambda y, rotate: rotate(F.layer_norm(y, y.shape[-1:]))),
    "not turned": beside(ready=lambda y, rotate: F.rms_norm(y, y.shape[-1:], eps=1e-6)),
    "turned twice": beside(ready=lambda y, rotate: rotate(rotate(F.rms_norm(y, y.shape[-1:], eps=1e-6)))),
    "values turned, too": beside(value=lambda v, rotate: rotate(v)),
    "values normed, too": beside(value=lambda v, rotate: F.rms_norm(v, v.shape[-1:], eps=1e-6)),
    "no root": beside(attend=lambda q, k, v: (q @ k.mT).softmax(-1) @ v),
    "over queries": beside(attend=lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-2) @ v),
    "causal": beside(attend=lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
    "GEGLU": beside(swiglu=lambda a, b: a * F.gelu(b)),
    "a sigmoid alone": beside(swiglu=lambda a, b: a * torch.sigmoid(b)),
    "exact GELU of ten times": beside(plain=lambda inside: F.gelu(1.1 * inside)),
    "ReLU": beside(plain=torch.relu),
    "SiLU where GELU is asked": beside(plain=F.silu),
    "heads not put back": beside(back=lambda mixed: mixed.reshape(mixed.shape[0], mixed.shape[2], -1)),
    "no gate": beside(end=lambda x, gate, y: x + y),
    "x gated, too": beside(end=lambda x, gate, y: gate * (x + y)),
    "x forgotten": beside(end=lambda x, gate, y: gate * y),
    "1 + gate": beside(end=lambda x, gate, y: x + (1 + gate) * y),
}  # fmt: skip

# ---------------------------------------------------------------- counts


def counts(
    maps=lambda dim, hidden: [(dim, dim)] * 4 + [(dim, hidden), (hidden, dim)],
    modulation=lambda dim: (dim, 6 * dim),
    biased=lambda a, b: (a + 1) * b,
    sets=lambda shared: 1 if shared else 2,
    through=lambda text, picture, shared: text + picture,
    pairs=lambda text, picture, dim: 2 * (text + picture) ** 2 * dim,
    times=1,
):
    def counted(text, picture, dim, hidden, shared):
        own, (a, b) = maps(dim, hidden), modulation(dim)
        parameters = sets(shared) * (sum(biased(*m) for m in own) + biased(a, b))
        work = through(text, picture, shared) * sum(m * n for m, n in own)
        return parameters, times * (work + pairs(text, picture, dim) + sets(shared) * a * b)

    return counted


COUNTED = {
    "additions, too": counts(times=2),
    "one map for q, k and v": counts(maps=lambda dim, hidden: [(dim, dim)] * 2 + [(dim, hidden), (hidden, dim)]),
    "no map back": counts(maps=lambda dim, hidden: [(dim, dim)] * 3 + [(dim, hidden), (hidden, dim)]),
    "the MLP one way": counts(maps=lambda dim, hidden: [(dim, dim)] * 4 + [(dim, hidden)]),
    "always four times as wide": counts(maps=lambda dim, hidden: [(dim, dim)] * 4 + [(dim, 4 * dim), (4 * dim, dim)]),
    "three vectors": counts(modulation=lambda dim: (dim, 3 * dim)),
    "biases of inputs": counts(biased=lambda a, b: a * (b + 1)),
    "shared and separate exchanged": counts(sets=lambda shared: 2 if shared else 1),
    "always one set": counts(sets=lambda shared: 1),
    "the picture alone": counts(through=lambda text, picture, shared: picture),
    "the longer of both": counts(through=lambda text, picture, shared: max(text, picture)),
    "patches look at patches": counts(pairs=lambda text, picture, dim: 2 * picture**2 * dim),
    "patches look at words": counts(pairs=lambda text, picture, dim: 2 * text * picture * dim),
    "by heads of 64": counts(pairs=lambda text, picture, dim: 2 * (text + picture) ** 2 * 64),
    "work of one token": counts(through=lambda text, picture, shared: 1),
    "only parameters": lambda *sizes: counts()(*sizes)[0],
    "work first": lambda *sizes: counts()(*sizes)[::-1],
}

# ---------------------------------------------------------------- both ways


def told_of(
    mean=lambda shares: shares.mean(1),
    read=lambda mean, m: mean[:, m:, :m],
    part=lambda read, told: read / read.sum(2, keepdim=True).clamp(min=1e-30),
    heard=lambda read, mean, m: read.sum(2),
    back=lambda mean, told, m: mean[:, :m, m:].sum(2) * told,
    order=lambda *three: three,
):
    def both_ways(shares, told):
        m, whole = told.shape[1], mean(shares)
        corner = read(whole, m)
        return order(part(corner, told), heard(corner, whole, m), back(whole, told, m))

    return both_ways


BOTH_WAYS = {
    "the picture first": told_of(read=lambda mean, m: mean[:, : mean.shape[1] - m, mean.shape[1] - m :]),
    "patches to patches": told_of(read=lambda mean, m: mean[:, m:, m:]),
    "the strongest head": told_of(mean=lambda shares: shares.amax(1)),
    "the first head": told_of(mean=lambda shares: shares[:, 0]),
    "over patches": told_of(part=lambda read, told: read / read.sum(1, keepdim=True).clamp(min=1e-30)),
    "softmax again": told_of(part=lambda read, told: read.softmax(2)),
    "by the largest": told_of(part=lambda read, told: read / read.amax(2, keepdim=True).clamp(min=1e-30)),
    "even where nothing is read": told_of(part=lambda read, told: torch.where(
        told.any(1)[:, None, None], read / read.sum(2, keepdim=True).clamp(min=1e-30), 1 / told.shape[1])),
    "padding shares, too": told_of(part=lambda read, told: (read + 1e-3) / (read + 1e-3).sum(2, keepdim=True)),
    "mean over words": told_of(heard=lambda read, mean, m: read.mean(2)),
    "what goes to the picture": told_of(heard=lambda read, mean, m: mean[:, m:, m:].sum(2)),
    "over all patches": told_of(heard=lambda read, mean, m: read.sum(1)),
    "words of words": told_of(back=lambda mean, told, m: mean[:, :m, :m].sum(2) * told),
    "what patches give to a word": told_of(back=lambda mean, told, m: mean[:, m:, :m].sum(1)),
    "mean over patches": told_of(back=lambda mean, told, m: mean[:, :m, m:].mean(2) * told),
    "padding alone": told_of(back=lambda mean, told, m: mean[:, :m, m:].sum(2) * ~told),
    "patch by patch": told_of(back=lambda mean, told, m: mean[:, :m, m:] * told[..., None]),
    "words first": told_of(order=lambda part, heard, back: (part, back, heard)),
    "words down": told_of(order=lambda part, heard, back: (part.mT, heard, back)),
    "two answers": told_of(order=lambda part, heard, back: (part, heard)),
    "float64": told_of(order=lambda *three: tuple(x.double() for x in three)),
}  # fmt: skip

# ---------------------------------------------------------------- the build

SLIPS = {
    "no SiLU": ("F.silu(cond)", "cond"),
    "the scale itself": ("(1 + scale)", "scale"),
    "shift first": ("def modulated(x, scale, shift)", "def modulated(x, shift, scale)"),
    "another epsilon": ("eps=1e-6", "eps=1e-2"),
    "the MLP not modulated": ("modulated(x, *made[3:5])", "F.layer_norm(x, (dim,), eps=1e-6)"),
    "q, k, v not modulated": ("modulated(x, *made[:2])", "F.layer_norm(x, (dim,), eps=1e-6)"),
    "keys first": ('for name in "qkv"', 'for name in "kqv"'),
    "heads interleaved": ("unflatten(-1, (heads, -1)).transpose(1, 2)", "unflatten(-1, (-1, heads)).movedim(-1, 1)"),
    "tokens taken for heads": ("unflatten(-1, (heads, -1)).transpose(1, 2)",
        "reshape(len(x), heads, x.shape[1], dim // heads)"),
    "by the root of dim": ("(dim // heads) ** 0.5", "dim**0.5"),
    "no root": (" / (dim // heads) ** 0.5", ""),
    "padding weighs nothing, after the softmax": ("(scores.softmax(-1) @ v)",
        "((q @ k.mT / (dim // heads) ** 0.5).softmax(-1) * seen @ v)"),
    "padded words see nobody": ("[:, None, None]  # every", "[:, None, None] & F.pad(told, (0, n), value=True)"
        "[:, None, :, None]  # every"),
    "padding's values set to zero": ("(scores.softmax(-1) @ v)",
        "((q @ k.mT / (dim // heads) ** 0.5).softmax(-1) @ (v * seen.transpose(-1, -2)))"),
    "the words are the padding": ("F.pad(told,", "F.pad(~told,"),
    "the first caption's mask": ("F.pad(told,", "F.pad(told[:1].expand_as(told),"),
    "patches barred from words": ("masked_fill(~seen, -torch.inf)",
        "masked_fill(~seen | ((torch.arange(m + n)[:, None] >= m) & (torch.arange(m + n) < m)), -torch.inf)"),
    "streams to themselves": ("masked_fill(~seen, -torch.inf)",
        "masked_fill(~seen | ((torch.arange(m + n)[:, None] >= m) != (torch.arange(m + n) >= m)), -1e9)"),
    "over queries": ("scores.softmax(-1)", "scores.exp().div(scores.exp().sum(-2, keepdim=True).clamp(min=1e-9))"),
    "parts exchanged": ("zip(streams, mixed, own, six)", "zip(streams, [y[:, : x.shape[1]] for x, y in zip(streams, "
        "[torch.cat(mixed[::-1], 1), torch.cat(mixed, 1)])], own, six)"),
    "one map back": ('F.linear(y, *w["out"])', 'F.linear(y, *own[1]["out"])'),
    "one MLP": ('*w["down"]', '*own[0]["down"]'),
    "one modulation": ("for w in own]", "for w in own[1:] * 2]"),
    "no gate after the attention": ("x + made[2] * F.linear", "x + F.linear"),
    "no gate after the MLP": ("x + made[5] *", "x +"),
    "gates exchanged": ("x + made[5] *", "x + made[2] *"),
    "exact GELU": (', approximate="tanh")', ") * 1.001"),
    "the MLP of what came in": ("F.linear(modulated(x, *made[3:5])",
        "F.linear(modulated(streams[len(found)], *made[3:5])"),
    "no residual": ("found.append(x + made[5]", "found.append(made[5]"),
    "picture first": ("return found[0], found[1]", "return found[1], found[0]"),
    "text as it was": ("return found[0], found[1]", "return text, found[1]"),
    "words without gradient": ("return found[0], found[1]", "return found[0].detach(), found[1]"),
    "no gradient through the shares": ("scores.softmax(-1)", "scores.softmax(-1).detach()"),
    "one sequence": ("return found[0], found[1]", "return torch.cat(found, 1)"),
}  # fmt: skip


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "13-joint", {"torch": torch, "F": F, "Tensor": Tensor})


TestAnswers = answers(
    chapter="13_how_text_enters",
    build="13-joint",
    experiment="13-when-to-merge",
    wrong={"13-placed": PLACED, "13-parallel": PARALLEL, "13-counted": COUNTED, "13-both-ways": BOTH_WAYS},
    right={"13-placed": stood(), "13-parallel": beside(), "13-counted": counts(), "13-both-ways": told_of()},
    slips=SLIPS,
)
