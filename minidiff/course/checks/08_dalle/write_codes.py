"""Exercise 08-write-codes: a causal transformer over a caption and codes, and the loop that draws what is missing."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import functional_call

from minidiff.backbones.autoregressive import Reader, TextToCodes
from minidiff.backbones.autoregressive import choose as draw_one
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.randomness import initialised
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal

Choose = Callable[[Tensor, Tensor], Tensor]
Written = tuple[Tensor, Tensor, Tensor]
MATRICES = ("attention.q", "attention.k", "attention.v", "attention.out", "up", "down")


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        lengths: list[int], longest: int, given: int, side: int, dim: int, heads: int, depth: int, temperature: float,
        vocab: int = 6, size: int = 5,
    ) -> Inputs:  # fmt: skip
        b, spread = len(lengths), lambda *shape: normal(shape, g) / shape[0] ** 0.5
        weights = [normal((vocab, dim), g), normal((size, dim), g), *(normal((n, dim), g) for n in (longest + 1, side,
            side)), normal((dim,), g), 2 * spread(dim, vocab), 2 * spread(dim, size)]  # fmt: skip
        for _ in range(depth):
            weights += [spread(dim, dim) for _ in range(4)] + [spread(dim, 4 * dim), spread(4 * dim, dim)]
        tokens = torch.randint(1, vocab, (b, longest), generator=g)
        tokens = torch.where(torch.arange(longest) < torch.tensor(lengths)[:, None], tokens, 0)
        u = torch.rand(b, side**2, size, generator=g, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        codes = torch.randint(size, (b, given), generator=g)

        def choose(logits: Tensor, noise: Tensor) -> Tensor:
            for name, value in (("logits", logits), ("noise", noise)):
                fits = isinstance(value, Tensor) and value.shape == (b, size)
                require(fits, f"the {name} given to choose", describe(value), f"one row a picture, ({b}, {size})")
            return draw_one(logits.detach(), noise, temperature, size - 1)

        return [w.requires_grad_() for w in weights], heads, tokens, codes, -(-u.log()).log(), choose

    return [
        case([4, 2, 1], 4, 0, side=2, dim=6, heads=2, depth=2, temperature=1.0),
        case([3, 4], 4, 9, side=3, dim=8, heads=4, depth=1, temperature=1.0),  # nothing to draw: as in training
        case([2], 3, 5, side=3, dim=4, heads=1, depth=2, temperature=2.0),  # one picture, half of it given
        case([2, 1, 3, 3], 3, 3, side=2, dim=4, heads=4, depth=3, temperature=0.0),
        case([1, 1], 1, 0, side=1, dim=6, heads=3, depth=1, temperature=1.0),  # one place, no word but START
    ]


def write_codes(
    weights: list[Tensor], heads: int, tokens: Tensor, codes: Tensor, noise: Tensor, choose: Choose
) -> Written:
    """The library's transformer with these weights: `Reader` for the loop, one pass for the logits."""
    word, code, place, row, column, begin, next_word, next_code, *layers = weights
    sizes = (len(word), len(place), len(code), len(row), word.shape[1], len(layers) // 6, heads)
    model = initialised(partial(TextToCodes, *sizes), 0).to(word.dtype).requires_grad_(False)
    named = {"word.weight": word, "code.weight": code, "place": place, "row": row, "column": column}
    named |= {"begin": begin[None], "next_word.weight": next_word.mT, "next_code.weight": next_code.mT}
    for i, matrix in enumerate(layers):
        named[f"blocks.{i // 6}.{MATRICES[i % 6]}.weight"] = matrix.mT
    named |= {name: torch.zeros_like(p) for name, p in model.named_parameters() if name.endswith("bias")}
    model.load_state_dict({name: value.detach() for name, value in named.items()}, strict=False)
    with torch.no_grad():
        reader = Reader(model, tokens)
        for i in range(noise.shape[1]):
            new = codes[:, i] if i < codes.shape[1] else choose(reader.logits, noise[:, i])
            codes = torch.cat([codes[:, :i], new[:, None], codes[:, i + 1 :]], 1)
            if i + 1 < noise.shape[1]:
                reader.read(new[:, None])
    words, drawn = functional_call(model, named, (tokens, codes.unflatten(1, (len(row), len(row)))))
    return words, drawn, codes


def _by_hand(flaw: str = "") -> Callable[..., Written]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def write_codes(
        weights: list[Tensor], heads: int, tokens: Tensor, codes: Tensor, noise: Tensor, choose: Choose
    ) -> Written:
        word, code, place, row, column, begin, next_word, next_code, *layers = weights
        (b, told), n, dim = tokens.shape, noise.shape[1], word.shape[1]
        grid = column[:, None] + row if flaw == "sideways" else row[:, None] + column
        grid = grid.reshape(n, dim)

        def logits(codes: Tensor) -> tuple[Tensor, Tensor]:
            """After every word but the last, and after BEGIN and each of the codes."""
            first = (word[tokens] + place[:told], begin.expand(b, 1, dim), code[codes] + grid[: codes.shape[1]])
            x = torch.cat(first, 1)
            length = x.shape[1]
            barred = torch.ones(length, length, dtype=torch.bool).triu(length if flaw == "leaks" else 1)
            if flaw != "padding":
                padding = torch.cat([tokens == 0, torch.zeros(b, length - told, dtype=torch.bool)], 1)
                barred = barred | padding[:, None, None]
            for q, k, v, out, up, down in zip(*[iter(layers)] * 6):
                h = F.layer_norm(x, (dim,))
                if flaw == "mixed":
                    q, k, v = ((h @ w).reshape(b, heads, length, -1) for w in (q, k, v))
                else:
                    q, k, v = ((h @ w).reshape(b, length, heads, -1).transpose(1, 2) for w in (q, k, v))
                scores = torch.einsum("bhid,bhjd->bhij", q, k) * (dim // heads) ** -0.5
                shares = torch.where(barred, float("-inf"), scores).softmax(-1)
                x = x + torch.einsum("bhij,bhjd->bihd", shares, v).reshape(b, length, dim) @ out
                x = x + F.gelu(F.layer_norm(x, (dim,)) @ up) @ down
            x = F.layer_norm(x, (dim,))
            return x[:, : told - 1] @ next_word, x[:, told:] @ next_code

        if flaw == "anew":
            codes = codes[:, :0]
        for i in range(codes.shape[1], n):
            heard = logits(codes)[1][:, -1].detach()
            codes = torch.cat([codes, choose(heard, 0 * noise[:, i] if flaw == "greedy" else noise[:, i])[:, None]], 1)
        words, drawn = logits(codes)
        return words, drawn[:, 1:] if flaw == "late" else drawn[:, :-1], codes

    return write_codes


def _seen(answer: Written, weights: list[Tensor], *inputs: object) -> tuple[Tensor, ...]:
    """The three things, and the gradient that reaches each of the weights."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 3
    require(fits, "what your function returns", describe_value(answer), "three things: words, drawn, codes")
    words, drawn, codes = answer
    fits = all(isinstance(value, Tensor) for value in answer)
    require(fits, "what your function returns", describe_value(answer), "three tensors")
    pull = lambda x: (x * torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape).cos()).sum()
    total = pull(words) + pull(drawn)
    if not total.requires_grad:
        return words, drawn, codes, *(torch.zeros_like(w) for w in weights)
    return words, drawn, codes, *torch.autograd.grad(total, weights, materialize_grads=True)


EXERCISE = Exercise(
    id="08-write-codes",
    title="Build it: a transformer that writes pictures",
    points=6,
    difficulty=5,
    importance=5,
    minutes=45,
    draw=_draw_runs,
    reference=write_codes,
    probe=_seen,
    rtol=1e-4,
    atol=1e-6,
    mistakes=(
        Mistake("sees-the-future", _by_hand("leaks"), "Your tokens look at later ones. In training the answer is among "
            "them, and the loss falls to nothing; in drawing nothing is there yet. A token sees itself and what is "
            "before it: `tril`."),
        Mistake("asked-too-late", _by_hand("late"), "Your logits of a code come from the token that *holds* it: it is "
            "asked for what it has just read. The first code is asked for at BEGIN, the last at the code before it."),
        Mistake("padding-seen", _by_hand("padding"), "Your tokens look at the padding, so that a caption means another "
            "thing in another batch. Bar its columns for everybody."),
        Mistake("heads-mixed", _by_hand("mixed"), "You reshaped (B, M, D) to (B, heads, M, d) in one go. That fits and "
            "mixes tokens with heads. Split the last axis first, (B, M, heads, d), then transpose."),
        Mistake("sideways", _by_hand("sideways"), "Your codes have their places column by column. They are numbered "
            "row by row: place i is row i // side, column i % side."),
        Mistake("drawn-anew", _by_hand("anew"), "You drew all the places. The codes that are given stay, and the first "
            "that is missing is drawn after them; in training all are given."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.nn.block.Block", "minidiff.nn.block.Attention"),
    hints=(
        "Two parts. A function inside yours: codes given so far → logits after each word, after BEGIN and after each "
        "of these codes. Then a loop that asks it for the last row, chooses, and appends.",
        "`mask = real[:, None, None, :] & torch.ones(M, M, dtype=torch.bool).tril()` with `real` (B, M) for tokens "
        "that are no padding; `scores.masked_fill(~mask, float('-inf'))`. START is always seen.",
        "The loop: `choose(logits(codes)[1][:, -1], noise[:, i])` under `torch.no_grad()`. At the end once more with "
        "`codes[:, :-1]` and gradients: the last code has nothing to ask for.",
    ),
    expected="2.13 ± 0.06 nats for a picture that was shown, 5.2 ± 0.8 for one that was kept back, 9.4 ± 1.1 with "
    "another caption. 0.89 ± 0.07 of the pictures are right, 0.01 ± 0.01 by another caption; 0.05 ± 0.02 were kept "
    "back (5 trainings).",
    trap="a transformer that sees the future trains better than any other, one that is asked too late better still: "
    "the loss says nothing of it. Only drawing shows it.",
)  # fmt: skip
