"""Exercise 14-follows: which token may come next, in a sequence of words and pictures of several shapes."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


def _draw_tokens(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    between = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    vocab, squares = between(4, 9), [4, 6, between(2, 4)]
    begin, finish, square, ratio = range(vocab, vocab + 4)

    def picture(kind: int) -> list[int]:
        return [begin, ratio + kind, *[square] * squares[kind], finish]

    words = lambda n: torch.randint(vocab, (n,), generator=g).tolist()
    long, other = [*words(2), *picture(1), *words(1)], [*picture(2), *picture(0)]  # a small picture, then a larger
    found = [words(3), [*words(2), begin], *(long[:n] for n in range(4, len(long) + 1)), other, other[:-1], other[:-2]]
    found += [[*picture(2), *words(1), begin, ratio], [*picture(1), begin, ratio + 2, square], words(1)]
    return [(torch.tensor(row), vocab, list(squares)) for row in found]


def follows(tokens: Tensor, vocab: int, squares: Sequence[int]) -> Tensor:
    """(vocab + 3 + ratios,) bool: what may come next."""
    begin, finish, square, ratio = range(vocab, vocab + 4)
    may = torch.zeros(ratio + len(squares), dtype=torch.bool)
    at = (tokens >= ratio).nonzero()[:, 0]
    last = int(tokens[-1])
    if last == begin:
        may[ratio:] = True
    elif last >= square:
        full = len(tokens) - 1 - int(at[-1]) == squares[int(tokens[at[-1]]) - ratio]
        may[finish if full else square] = True
    else:
        may[: begin + 1] = True
    return may


def _made(flaw: str = ""):
    """A walk through the tokens, with one thing wrong."""

    def follows(tokens: Tensor, vocab: int, squares: Sequence[int]) -> Tensor:
        begin, finish, square, ratio = vocab, vocab + 1, vocab + 2, vocab + 3
        state, left, first = "words", 0, None
        for token in tokens.tolist():
            if token == begin:
                state = "ratio"
            elif token >= ratio:
                first = token if first is None else first
                left = squares[(first if flaw == "first-ratio" else token) - ratio]
                left = max(squares) if flaw == "one-size" else left + (flaw == "one-more")
                state = "squares"
            elif token == square:
                left -= 1
                state = "squares" if left > 0 else "finish"
            else:
                state = "words"
        may = torch.zeros(ratio + len(squares), dtype=torch.bool)
        if state == "words":
            may[: vocab if flaw == "one-picture" and bool((tokens == finish).any()) else vocab + 1] = True
        elif state == "ratio":
            may[square if flaw == "no-ratio" else slice(ratio, None)] = True
        else:
            may[square if state == "squares" else finish] = True
        if flaw == "loose" and state == "squares":
            may[finish] = True
        return may

    return follows


def _by_text(tokens: Tensor, vocab: int, squares: Sequence[int]) -> Tensor:
    said, may = tokens.tolist(), [False] * (vocab + 3 + len(squares))
    opened = [i for i, token in enumerate(said) if token == vocab]
    inside = said[opened[-1] :] if opened else []
    if not inside or vocab + 1 in inside:
        may[: vocab + 1] = [True] * (vocab + 1)
    elif len(inside) == 1:
        may[vocab + 3 :] = [True] * len(squares)
    else:
        may[vocab + 2 if len(inside) - 2 < squares[inside[1] - vocab - 3] else vocab + 1] = True
    return torch.tensor(may)


EXERCISE = Exercise(
    id="14-follows",
    title="Words, a ratio, squares, words",
    points=2,
    difficulty=2,
    importance=4,
    minutes=15,
    draw=_draw_tokens,
    reference=follows,
    mistakes=(
        Mistake("first-ratio", _made("first-ratio"), "You counted the squares of the *first* picture's ratio. Every "
            "picture has its own: look at the last ratio so far."),
        Mistake("no-ratio", _made("no-ratio"), "After BEGIN you let a square follow. First the model says which shape: "
            "after BEGIN a ratio, and nothing else."),
        Mistake("one-more", _made("one-more"), "Your picture gets one square too many. Count the squares behind the "
            "ratio: once there are N, FINISH follows."),
        Mistake("one-picture", _made("one-picture"), "After one picture you let none follow. FINISH leads back to the "
            "beginning: words, or BEGIN again."),
        Mistake("one-size", _made("one-size"), "All your pictures get as many squares as the largest. How many there "
            "are, the ratio says: `squares[token - (vocab + 3)]`."),
        Mistake("loose", _made("loose"), "You let the model finish a picture early. A picture with squares missing "
            "has no shape: until there are N, a square is all that may follow."),
    ),
    alternatives=(_made(), _by_text),
    hints=(
        "Four states: among words; after BEGIN; among squares; squares full. The last token tells the first two; for "
        "the others, count.",
        "`at = (tokens >= vocab + 3).nonzero()[:, 0]` has the places of the ratios. Behind the last of them there are "
        "`len(tokens) - 1 - at[-1]` squares.",
        "`may = torch.zeros(vocab + 3 + len(squares), dtype=torch.bool)`, then one of `may[:vocab + 1]`, "
        "`may[vocab + 3:]`, `may[vocab + 2]`, `may[vocab + 1]` is True.",
    ),
    expected="83 ± 3 of 100 pictures are whole (5 times 100), as 0.99¹⁷ = 0.84 has it; with your function all of them.",
    trap="a trained model keeps to the grammar nearly always, so that without a machine nothing seems to be missing. "
    "The one time in a hundred when it does not, there is a picture with a square too few, and everything fails.",
)  # fmt: skip
