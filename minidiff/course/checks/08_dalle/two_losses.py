"""Exercise 08-two-losses: one number for the words and the codes of a sequence."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal


def _draw_logits(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        lengths: list[int], longest: int, vocab: int, n: int, size: int, weight: float,
        dtype: torch.dtype = torch.float64, spread: float = 1.5,
    ) -> Inputs:  # fmt: skip
        """Captions of so many tokens, 0 behind them, their logits (the padding has some, too), and n codes each."""
        b = len(lengths)
        tokens = torch.randint(1, vocab, (b, longest), generator=g)
        tokens = torch.where(torch.arange(longest) < torch.tensor(lengths)[:, None], tokens, 0)
        words, drawn = (spread * normal(shape, g) for shape in ((b, longest - 1, vocab), (b, n, size)))
        return words.to(dtype), tokens, drawn.to(dtype), torch.randint(size, (b, n), generator=g), weight

    return [
        case([5, 2, 3], 5, 7, 4, 6, 7.0),
        case([4, 3, 2, 4], 4, 4, 4, 4, 7.0),  # as many captions as tokens, codes, words
        case([3], 6, 5, 3, 8, 2.5),  # one caption, mostly padding
        case([2, 5], 5, 6, 9, 3, 7.0, torch.float32),
        case([3, 6], 6, 5, 4, 5, 0.0),  # nothing but words
        case([1, 4, 2], 4, 5, 2, 7, 3.0),  # the first has no word to ask for: it costs 0
        case([2, 4], 4, 5, 3, 4, 7.0, spread=900.0),  # probabilities that round to 0
    ]


def weighted_loss(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    """(mean cross-entropy of the real words + weight·that of the codes)/(1 + weight), of each caption."""
    text, real = _costs(words, tokens[:, 1:]), tokens[:, 1:] != 0
    told = (text * real).sum(1) / real.sum(1).clamp(min=1)
    return (told + weight * _costs(drawn, codes).mean(1)) / (1 + weight)


def _costs(logits: Tensor, wanted: Tensor) -> Tensor:
    """Nats, (B, n)."""
    return F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")


def _padding_counted(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    return (_costs(words, tokens[:, 1:]).mean(1) + weight * _costs(drawn, codes).mean(1)) / (1 + weight)


def _padding_divides(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    told = (_costs(words, tokens[:, 1:]) * (tokens[:, 1:] != 0)).mean(1)
    return (told + weight * _costs(drawn, codes).mean(1)) / (1 + weight)


def _not_shifted(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    real = tokens[:, :-1] != 0
    told = (_costs(words, tokens[:, :-1]) * real).sum(1) / real.sum(1).clamp(min=1)
    return (told + weight * _costs(drawn, codes).mean(1)) / (1 + weight)


def _token_by_token(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    real = tokens[:, 1:] != 0
    total = (_costs(words, tokens[:, 1:]) * real).sum(1) + weight * _costs(drawn, codes).sum(1)
    return total / (real.sum(1) + weight * codes.shape[1])


def _not_divided(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    real = tokens[:, 1:] != 0
    told = (_costs(words, tokens[:, 1:]) * real).sum(1) / real.sum(1).clamp(min=1)
    return told + weight * _costs(drawn, codes).mean(1)


def _pooled(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    real = tokens[:, 1:] != 0
    told = (_costs(words, tokens[:, 1:]) * real).sum() / real.sum()
    return (told + weight * _costs(drawn, codes).mean()).expand(len(tokens)) / (1 + weight)


def _one_by_one(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    """A caption at a time, its real words cut out."""
    found = []
    for i, caption in enumerate(tokens):
        wanted = caption[1:][caption[1:] > 0]
        each = words[i].log_softmax(-1)[torch.arange(len(caption) - 1)[caption[1:] > 0], wanted]
        told = -each.sum() / max(len(wanted), 1)
        shown = -drawn[i].log_softmax(-1).gather(1, codes[i][:, None]).sum() / codes.shape[1]
        found.append((told + weight * shown) / (1 + weight))
    return torch.stack(found)


EXERCISE = Exercise(
    id="08-two-losses",
    title="One loss for words and codes",
    points=2,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_logits,
    reference=weighted_loss,
    mistakes=(
        Mistake("padding-counted", _padding_counted, "You let the padding count as words. What comes behind the end of "
            "a caption is easily guessed, so that your loss looks good and trains little. Leave it out."),
        Mistake("padding-divides", _padding_divides, "Your sum leaves the padding out and your divisor does not: a "
            "short caption then counts less, the more padding its batch happens to have. Divide by its real words."),
        Mistake("not-shifted", _not_shifted, "You compare each row of logits with the token that it has just *read*. "
            "Row i is asked for the next: tokens[:, 1:]."),
        Mistake("token-by-token", _token_by_token, "You weighted every token and averaged all of them together. The "
            "many codes then outweigh the few words far more than 7 to 1. Take both means first, then weight them."),
        Mistake("not-divided", _not_divided, "You did not divide by 1 + weight. The gradient is then 8 times as large, "
            "and the same learning rate 8 times as bold."),
        Mistake("pooled", _pooled, "You averaged over all captions together. Each has a loss of its own, so that the "
            "result has the shape (B,)."),
    ),
    alternatives=(_one_by_one,),
    shortcuts=("minidiff.backbones.autoregressive.TextToCodes",),
    hints=(
        "Two means for each caption: one over its real words, one over its codes. Which token does row i ask for?",
        "`F.cross_entropy(logits.transpose(1, 2), wanted, reduction='none')` has one number for each token, (B, n).",
        "`real = tokens[:, 1:] != 0`, then `(costs * real).sum(1) / real.sum(1).clamp(min=1)`.",
    ),
    expected="3.68 nats for the even guess, 1.56 ± 0.00 for shares, 0.91 ± 0.00 for the code before; a word costs "
    "1.73 ± 0.02, a code 1.53 and 0.80 (5 draws of captions).",
    trap="in a batch of captions of one length there is no padding, and with as many words as codes the two ways to "
    "average agree. The picture's share of the loss hides the rest.",
)  # fmt: skip
