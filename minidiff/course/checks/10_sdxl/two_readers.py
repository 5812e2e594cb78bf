"""Exercise 10-two-readers: two text encoders side by side in channels."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from minidiff.conditioning import Channels, Encoded, TextEncoder
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.validate import describe, require

from .._common import normal

Encode = Callable[[Tensor], Encoded]
Read = tuple[Tensor | None, Tensor, Tensor | None]


def _encoder(name: str, words: int, dim: int, pooled: int, length: int, unheard: int, g: Generator) -> Encode:
    """Made-up: a table of words, each heard with its place; the word `unheard` is masked (−1: there is no mask)."""
    table, place, mix = normal((words, dim), g), normal((length, dim), g), normal((dim, pooled), g)

    def encode(tokens: Tensor) -> Encoded:
        fits = isinstance(tokens, Tensor) and tokens.dtype == torch.int64 and tokens.ndim == 2
        require(fits, f"the tokens given to `{name}`", describe(tokens), "int64 of shape (B, L)")
        inside = bool(((tokens >= 0) & (tokens < words)).all())
        require(inside, f"the tokens given to `{name}`", "ids it does not know", f"ids 0 … {words - 1}")
        context = table[tokens] + place[: tokens.shape[1]]
        vector = context.mean(1) @ mix if pooled else None
        return Encoded(vector, context, None if unheard < 0 else tokens != unheard)

    return encode


def _draw_readers(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, length: int, dims: tuple[int, int], masked: tuple[bool, bool] = (True, True), pooled: int = 2):
        """Ids are told in the first encoder's vocabulary of 6; the second knows 8, in another order."""
        ids = torch.randperm(8, generator=g)[:6]
        words = torch.randperm(6, generator=g)  # the first does not hear words[0], the second words[1]
        first = _encoder("first", 6, dims[0], pooled, length, int(words[0]) if masked[0] else -1, g)
        second = _encoder("second", 8, dims[1], 2, length, int(ids[words[1]]) if masked[1] else -1, g)
        tokens = words[torch.arange(b * length) % 6].reshape(b, length)  # all words, as far as there is room
        return first, second, ids, tokens

    return [
        case(3, 4, (3, 3)),
        case(2, 2, (2, 2)),  # as many captions as tokens as channels
        case(1, 5, (2, 4)),  # one caption
        case(3, 3, (4, 1), masked=(True, False)),  # None: it hears all
        case(2, 4, (3, 2), masked=(False, True), pooled=0),  # None: the first pools nothing
    ]


class _Tower(nn.Module):
    def __init__(self, encode: Encode, dim: int):
        super().__init__()
        self.read, self.dim, self.out = encode, dim, 1

    def encode(self, tokens: Tensor) -> Encoded:
        return Encoded(*self.read(tokens))  # a grader hands on plain tuples


def read_both(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    """What two encoders say of one caption: `conditioning.Channels`."""
    towers: list[TextEncoder] = [_Tower(first, 1), _Tower(second, 1)]
    vector, context, mask = Channels(towers, [None, ids]).encode(tokens)
    assert mask is not None
    return vector, context, mask


def _joined(one: tuple, other: tuple) -> Read:
    """Of what both said."""
    masks = [mask for mask in (one[2], other[2]) if mask is not None]
    return other[0], torch.cat([one[1], other[1]], -1), torch.stack(masks).all(0)


def _not_translated(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    return _joined(first(tokens), second(tokens))


def _backwards(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    return _joined(first(tokens), second(ids.argsort()[tokens]))


def _one_after_another(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    (_, one, seen), (vector, other, heard) = first(tokens), second(ids[tokens])
    seen, heard = (torch.ones_like(tokens, dtype=torch.bool) if m is None else m for m in (seen, heard))
    return vector, torch.cat([one, other], 1), torch.cat([seen, heard], 1)


def _firsts_vector(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    one, other = first(tokens), second(ids[tokens])
    return one[0], *_joined(one, other)[1:]


def _seconds_mask(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    one, other = first(tokens), second(ids[tokens])
    mask = other[2] if other[2] is not None else one[2]
    return *_joined(one, other)[:2], mask


def _either(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    one, other = first(tokens), second(ids[tokens])
    masks = [mask for mask in (one[2], other[2]) if mask is not None]
    return *_joined(one, other)[:2], torch.stack(masks).any(0)


def _word_by_word(first: Encode, second: Encode, ids: Tensor, tokens: Tensor) -> Read:
    told = torch.tensor([[int(ids[i]) for i in caption] for caption in tokens.tolist()])
    (_, one, seen), (vector, other, heard) = first(tokens), second(told)
    whole = one.new_zeros(*tokens.shape, one.shape[2] + other.shape[2])
    whole[..., : one.shape[2]], whole[..., one.shape[2] :] = one, other
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for each in (seen, heard):
        mask = mask if each is None else mask & each
    return vector, whole, mask


EXERCISE = Exercise(
    id="10-two-readers",
    title="Two encoders, one sentence",
    points=2,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_readers,
    reference=read_both,
    mistakes=(
        Mistake("not-translated", _not_translated, "You gave both encoders the same ids. The second calls the words by "
            "other numbers and reads another sentence, without any error. Its ids are `ids[tokens]`."),
        Mistake("translated-backwards", _backwards, "You translated the wrong way round. `ids[i]` is what the second "
            "calls the first's i: look the tokens up in it."),
        Mistake("one-after-another", _one_after_another, "You put the second's tokens *behind* the first's, 2L of "
            "them. SDXL puts both beside each other: token i has the channels of both, (B, L, D1 + D2), so that a word "
            "is looked at once."),
        Mistake("the-firsts-vector", _firsts_vector, "Your vector is the first encoder's, which may not have one. SDXL "
            "pools the second alone."),
        Mistake("the-seconds-mask", _seconds_mask, "You kept one mask. Where the first does not hear a token, half of "
            "its channels are noise: a token counts where *both* hear it."),
        Mistake("either", _either, "You let a token count where *one* of the encoders hears it. Half of its channels "
            "are then noise. Both must: `&`, not `|`."),
    ),
    alternatives=(_word_by_word,),
    hints=(
        "Which numbers does the second know the words by? Along which axis are two vectors of one word neighbours?",
        "`second(ids[tokens])`; the last axis; a mask that is None is True everywhere.",
        "`torch.cat([one, other], 2)`, and `mask = mask & each` for each mask that is not None.",
    ),
    expected="an error of x̂0 of 0.096 ± 0.007 at t = 0.8; 0.172 ± 0.012 with ids that are not translated, worse than "
    "a reader that is silent (CLIP 0.125 ± 0.008, texts 0.138 ± 0.009); 0.59 ± 0.07 with another caption (5 sets).",
    trap="untranslated ids are in range, and every shape fits. A network that is trained so learns some of it: it "
    "never needed to know what a word is called, only that it is always called the same.",
)  # fmt: skip
