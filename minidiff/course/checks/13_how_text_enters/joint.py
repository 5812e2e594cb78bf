"""Exercise 13-joint: a block of MM-DiT, two sets of weights and one softmax."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn.block import Block, gelu_tanh, joint
from minidiff.validate import require
from minidiff.values import describe_value

from .._common import normal

Map = tuple[Tensor, Tensor]
Weights = dict[str, dict[str, Map]]
Two = tuple[Tensor, Tensor]
SQUARE = ("q", "k", "v", "out")


def _draw_blocks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(told: Tensor, n: int, dim: int, heads: int, hidden: int, dtype: torch.dtype = torch.float64) -> Inputs:
        b, m = told.shape
        widths = dict.fromkeys(SQUARE, (dim, dim)) | {"up": (dim, hidden), "down": (hidden, dim)}
        widths |= {"modulation": (dim, 6 * dim)}

        def drawn(fan_in: int, fan_out: int) -> Map:
            weight, bias = normal((fan_out, fan_in), g) / fan_in**0.5, 0.3 * normal((fan_out,), g)
            return weight.to(dtype).requires_grad_(), bias.to(dtype).requires_grad_()

        streams = [normal(shape, g, dtype).requires_grad_() for shape in ((b, m, dim), (b, n, dim), (b, dim))]
        own = lambda: {name: drawn(*width) for name, width in widths.items()}
        return *streams, told, {"text": own(), "picture": own()}, heads

    counted = lambda b, m: torch.arange(m) < torch.randint(1, m + 1, (b, 1), generator=g)
    holes = torch.tensor([[True, False, True], [False, False, False]])  # padding between words; nothing said
    return [
        case(counted(3, 4), 6, 8, 2, 12),
        case(counted(2, 5), 5, 6, 3, 6),  # as many words as patches
        case(torch.ones(1, 1, dtype=torch.bool), 4, 8, 4, 16),  # one picture, one word
        case(holes, 4, 6, 1, 10),
        case(counted(2, 6), 3, 8, 2, 8, torch.float32),
    ]


class _Pair(nn.Module):
    """The two blocks of the library, for their weights to be put in."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        make = lambda: Block(dim, heads, cond_dim=dim, hidden=hidden, activation=gelu_tanh, eps=1e-6)
        self.text, self.picture = make(), make()

    def forward(self, text: Tensor, picture: Tensor, cond: Tensor, mask: Tensor) -> list[Tensor]:
        return joint([self.text, self.picture], [text, picture], cond, mask)


def double_block(text: Tensor, picture: Tensor, cond: Tensor, told: Tensor, weights: Weights, heads: int) -> Two:
    """`nn.block.joint` of two `Block`s with these weights."""
    found = {}
    for stream, maps in weights.items():
        for name, values in maps.items():
            for kind, value in zip(("weight", "bias"), values):
                places = [f"attention.{name}"] if name in SQUARE else [name]
                places = ["norm1.modulation", "norm2.modulation"] if name == "modulation" else places
                parts = zip(places, value.chunk(len(places)))
                found |= {f"{stream}.{place}.{kind}": part for place, part in parts}
    with torch.device("meta"):  # without numbers: all of them are given
        pair = _Pair(text.shape[2], heads, len(weights["text"]["up"][0]))
    seen = F.pad(told, (0, picture.shape[1]), value=True)[:, None]  # the same columns for every row
    text, picture = functional_call(pair, found, (text, picture, cond, seen), strict=True)
    return text, picture


def _by_hand(flaw: str = "") -> Callable[..., Two]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def double_block(text: Tensor, picture: Tensor, cond: Tensor, told: Tensor, weights: Weights, heads: int) -> Two:
        (b, m, dim), n = text.shape, picture.shape[1]
        own = [weights["picture" if flaw == "one-set" else "text"], weights["picture"]]
        told_all = torch.cat([told, torch.ones(b, n, dtype=torch.bool)], 1)
        if flaw == "padding":
            told_all = torch.ones_like(told_all)
        barred = ~told_all[:, None].expand(b, m + n, m + n)
        if flaw == "one-way":
            barred = barred | ((torch.arange(m + n)[:, None] < m) & (torch.arange(m + n) >= m))
        through = lambda x, w, name: torch.einsum("bli,oi->blo", x, w[name][0]) + w[name][1]
        streams, six, qkv = [text, picture], [], []
        for x, w in zip(streams, own):
            six.append(through((cond * torch.sigmoid(cond))[:, None], w, "modulation").unflatten(2, (6, dim)).unbind(2))
            qkv.append([through(_normed(x, *six[-1][:2]), w, name) for name in "qkv"])
        order = [1, 0] if flaw == "mask-elsewhere" else [0, 1]
        q, k, v = (torch.cat([qkv[i][j] for i in order], 1).reshape(b, m + n, heads, -1) for j in range(3))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / (dim // heads) ** 0.5
        scores = scores.masked_fill(barred[:, None], float("-inf"))
        shares = scores.softmax(3)
        if flaw == "two-softmaxes":
            shares = torch.cat([part.softmax(3) for part in scores.split([m, n], 3)], 3)
        mixed = torch.einsum("bhij,bjhd->bihd", shares, v).reshape(b, m + n, dim)
        mixed = mixed.split([n, m], 1)[::-1] if flaw == "mask-elsewhere" else mixed.split([m, n], 1)
        found = []
        for x, y, w, made in zip(streams, mixed, own, six):
            scale, shift, gate = made[:3] if flaw == "first-three" else made[3:]
            x = x + made[2] * through(y, w, "out")
            hidden = F.gelu(through(_normed(x, scale, shift), w, "up"), approximate="tanh")
            found.append(x + gate * through(hidden, w, "down"))
        return found[0], found[1]

    return double_block


def _normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(2, keepdim=True)
    return centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift


def _seen(
    answer: object, text: Tensor, picture: Tensor, cond: Tensor, told: Tensor, weights: Weights, heads: int
) -> tuple[Tensor, ...]:
    """Words, patches, and the gradients of both in all that was given. What a padded word became counts for nothing."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 2 and all(isinstance(x, Tensor) for x in answer)
    require(fits, "what your function returns", describe_value(answer), "two tensors: text, picture")
    words, patches = answer  # type: ignore[misc]
    require(words.shape == text.shape, "text", f"shape {tuple(words.shape)}", f"shape {tuple(text.shape)}")
    words = torch.where(told[..., None] | ~words.isfinite(), words, 0)  # but no NaN may stand there
    pull = lambda x: (x * torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape).cos()).sum()
    total = pull(words) + pull(patches)
    given = [text, picture, cond, *(value for maps in weights.values() for pair in maps.values() for value in pair)]
    if not total.requires_grad:
        return words, patches, *(torch.zeros_like(value) for value in given)
    return words, patches, *torch.autograd.grad(total, given, materialize_grads=True)


EXERCISE = Exercise(
    id="13-joint",
    title="Build it: two sets of weights, one softmax",
    points=6,
    difficulty=4,
    importance=5,
    minutes=45,
    draw=_draw_blocks,
    reference=double_block,
    probe=_seen,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake("one-way", _by_hand("one-way"), "Your words do not look at the picture. That is a cross-attention with "
            "more to it: in one softmax over all, a word reads patches, too, and changes with what is drawn."),
        Mistake("two-softmaxes", _by_hand("two-softmaxes"), "You took a softmax over words and another over patches, "
            "and added what they mix. Each row then has 2 to give. One softmax over [text; picture]: a token that "
            "reads more of one reads less of the other."),
        Mistake("padding-seen", _by_hand("padding"), "You never looked at `told`. Padding has keys and values like any "
            "word: bar its columns, for words and patches alike."),
        Mistake("mask-elsewhere", _by_hand("mask-elsewhere"), "Your mask bars the wrong columns: the sequence is "
            "picture, then text, and `told` was put in front. Text comes first in both."),
        Mistake("one-set", _by_hand("one-set"), "Words went through the picture's weights. Each stream has maps, "
            "modulation and MLP of its own; only the softmax is shared."),
        Mistake("first-three-twice", _by_hand("first-three"), "You modulated the MLP with the attention's scale, shift "
            "and gate. Of the six vectors the first three are the attention's, the last three the MLP's."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.nn.block.Block", "minidiff.nn.block.joint", "minidiff.nn.block.Attention",
        "minidiff.nn.block.Norm", "minidiff.backbones.mmdit.MMDiT"),
    hints=(
        "Three parts: for each stream modulation, norm, q, k, v; then one attention over both in a row; then for each "
        "stream its part of the result, out, and the MLP. A loop over (\"text\", \"picture\") twice.",
        "`six = F.linear(F.silu(cond), *w[\"modulation\"])[:, None].chunk(6, -1)`; the norm is "
        "`F.layer_norm(x, (dim,), eps=1e-6) * (1 + scale) + shift`; heads: `.unflatten(-1, (heads, -1))"
        ".transpose(1, 2)`, and back `.transpose(1, 2).flatten(2)`.",
        "`seen = F.pad(told, (0, N), value=True)`; `F.scaled_dot_product_attention(q, k, v, seen[:, None, None])` with "
        "q, k, v of text and picture joined by `torch.cat(…, 2)`; `mixed.split([M, N], 1)` gives each its part.",
    ),
    expected="of 21 unseen scenes 0.97 ± 0.06 are drawn; with another's caption none of them, but that caption's scene "
    "in 0.98 ± 0.04 of all cases (5 seeds, 150 steps). In the last block the text's q, out, up and down get no "
    "gradient.",
    trap="all of these learn, and one set of weights is a good design, too. What they compute is another thing: "
    "weights that somebody else has trained fit one of them only.",
)  # fmt: skip
