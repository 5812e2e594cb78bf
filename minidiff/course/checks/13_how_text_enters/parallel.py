"""Exercise 13-parallel: attention beside the MLP, one map in and one map out."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn.parallel import Parallel
from minidiff.nn.rope import Rotary, at_origin
from minidiff.randomness import initialised
from minidiff.validate import describe, require

from .._common import normal

Map = Callable[[Tensor], Tensor]


def _draw_sequences(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def given(fan_in: int, fan_out: int, dtype: torch.dtype) -> Map:
        weight, bias = normal((fan_in, fan_out), g, dtype) / fan_in**0.5, 0.3 * normal((fan_out,), g, dtype)

        def mapped(x: Tensor) -> Tensor:
            fits = isinstance(x, Tensor) and x.ndim == 3 and x.shape[2] == fan_in and x.dtype == dtype
            require(fits, "what is given to a map", describe(x), f"{dtype} of shape (B, L, {fan_in})")
            return x @ weight + bias

        return mapped

    def case(
        b: int, words: int, rows: int, dim: int, heads: int, hidden: int, gated: bool, turned: bool = True,
        dtype: torch.dtype = torch.float64,
    ) -> Inputs:  # fmt: skip
        x, cond = normal((b, words + 2 * rows, dim), g, dtype), normal((b, 3 * dim), g, dtype)
        into = given(dim, 3 * dim + hidden * (1 + gated), dtype)
        places = at_origin(words, rows, 2)
        rotate = Rotary(places, (2, 2, dim // heads - 4)) if turned else lambda heads: heads
        return x, cond, into, given(dim + hidden, dim, dtype), rotate, heads, gated

    return [
        case(3, 2, 2, 16, 2, 20, False),
        case(2, 3, 1, 16, 2, 12, True),
        case(2, 1, 3, 12, 3, 12, True, turned=False),  # as many hidden numbers as dim
        case(1, 0, 1, 12, 2, 24, False, dtype=torch.float32),
        case(2, 4, 1, 6, 1, 18, False),  # one head
        case(2, 2, 2, 24, 4, 6, True, dtype=torch.float32),
    ]


class _Given(nn.Module):
    """A map of the exercise in place of a layer."""

    def __init__(self, mapped: Map):
        super().__init__()
        self.mapped = mapped

    def forward(self, x: Tensor) -> Tensor:
        return self.mapped(x)


def parallel(x: Tensor, cond: Tensor, into: Map, out: Map, rotate: Map, heads: int, gated: bool) -> Tensor:
    """`nn.parallel.Parallel` with these maps, told scale, shift and gate."""
    dim = x.shape[2]
    hidden = (into(x).shape[2] - 3 * dim) // (1 + gated)
    activation = F.silu if gated else partial(F.gelu, approximate="tanh")
    options = {"hidden": hidden, "gated": gated, "activation": activation, "shared": True, "own": False}
    block = initialised(partial(Parallel, dim, heads, **options), 0).to(x.dtype).requires_grad_(False)
    block.into, block.out = _Given(into), _Given(out)  # type: ignore[assignment]
    return block(x, cond, rotate=rotate)


def _by_hand(flaw: str = "") -> Callable[..., Tensor]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def parallel(x: Tensor, cond: Tensor, into: Map, out: Map, rotate: Map, heads: int, gated: bool) -> Tensor:
        (b, length, dim), (scale, shift, gate) = x.shape, cond[:, None].tensor_split(3, 2)

        def normed(x: Tensor) -> Tensor:
            centred = x - x.mean(2, keepdim=True)
            return centred * (centred.square().mean(2, keepdim=True) + 1e-6).rsqrt() * (1 + scale) + shift

        def inside(h: Tensor) -> Tensor:
            numbers = into(h)[..., 3 * dim :]
            if not gated:
                return F.gelu(numbers, approximate="tanh")
            first, second = numbers.tensor_split(2, 2)
            return F.silu(first) * second if flaw == "other-half" else first * (second * torch.sigmoid(second))

        h = normed(x)
        if flaw == "heads-mixed":
            q, k, v = (y.reshape(b, heads, length, -1) for y in into(h)[..., : 3 * dim].tensor_split(3, 2))
        else:
            q, k, v = into(h)[..., : 3 * dim].reshape(b, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if flaw != "no-qk-norm":
            q, k = (y / (y.square().mean(3, keepdim=True) + 1e-6).sqrt() for y in (q, k))
        shares = torch.einsum("bhid,bhjd->bhij", rotate(q), rotate(k)).div((dim // heads) ** 0.5).softmax(3)
        mixed, made = torch.einsum("bhij,bhjd->bihd", shares, v).reshape(x.shape), inside(h)
        if flaw == "in-turn":
            x = x + gate * out(torch.cat([mixed, 0 * made], 2))
            return x + gate * out(torch.cat([0 * mixed, inside(normed(x))], 2))
        if flaw == "activates-all":
            mixed = F.silu(mixed) if gated else F.gelu(mixed, approximate="tanh")
        return x + gate * out(torch.cat([made, mixed] if flaw == "mlp-first" else [mixed, made], 2))

    return parallel


EXERCISE = Exercise(
    id="13-parallel",
    title="Attention beside the MLP",
    points=3,
    difficulty=3,
    importance=4,
    minutes=20,
    draw=_draw_sequences,
    reference=parallel,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake("in-turn", _by_hand("in-turn"), "Your MLP reads what the attention has left. That is the ordinary "
            "block. Here both read the same normed x, at once, and one map puts both back."),
        Mistake("mlp-first", _by_hand("mlp-first"), "You put the MLP's numbers before the attention's. `out` reads "
            "what attention mixed first, then the hidden numbers."),
        Mistake("other-half", _by_hand("other-half"), "You activated the first half of the MLP's numbers. SwiGLU here "
            "is first · SiLU(second)."),
        Mistake("no-qk-norm", _by_hand("no-qk-norm"), "You compared queries and keys as they are. Each head's q and k "
            "are divided by their root mean square first: `F.rms_norm(q, (d,), eps=1e-6)`."),
        Mistake("activates-all", _by_hand("activates-all"), "The activation went over what attention mixed as well. It "
            "is the MLP's: attention's part goes to `out` as it is."),
        Mistake("heads-mixed", _by_hand("heads-mixed"), "You reshaped (B, L, dim) to (B, heads, L, d) at once, which "
            "mixes tokens and heads. Cut the last axis first, then exchange two axes."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.nn.block.Attention", "minidiff.nn.block.Block", "minidiff.nn.block.Norm",
        "minidiff.nn.block.joint"),
    hints=(
        "One norm, one `into`, cut into q, k, v and the MLP's numbers; attention on the first three, an activation on "
        "the rest; side by side into one `out`; gate; plus x.",
        "`q, k, v, inside = into(h).split([dim, dim, dim, …], -1)`; heads: `.unflatten(-1, (heads, -1))"
        ".transpose(1, 2)`; then `rotate(F.rms_norm(q, (dim // heads,), eps=1e-6))`, and k alike.",
        "`a, b = inside.chunk(2, -1)` where gated, `a * F.silu(b)`; else `F.gelu(inside, approximate=\"tanh\")`. "
        "`x + gate * out(torch.cat([mixed.transpose(1, 2).flatten(2), made], -1))`.",
    ),
    expected="gates ten times smaller: the block changes x ten times less, and the two differ a hundred times less. "
    "The slopes from 0.1 to 0.01 are 1.0000 and 1.9997 ± 0.0004; at gate 1 they differ by 0.26 ± 0.01 of what the "
    "block changes (5 seeds).",
    trap="in turn or side by side hardly differ in a block that changes little, so that nothing looks wrong. The "
    "order in which two parts stand in one map leaves every shape as it is.",
)  # fmt: skip
