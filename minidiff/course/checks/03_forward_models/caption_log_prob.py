"""Exercise 03-caption-log-prob: a captioner's opinion."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.encoders.tokenizer import END, PAD, START, UNKNOWN


def _draw_captions(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        lengths: list[int], length: int, vocabulary: int, dtype: torch.dtype = torch.float64, scale: float = 2.0
    ) -> Inputs:
        tokens = torch.randint(UNKNOWN, vocabulary, (len(lengths), length), generator=g)
        place, ends = torch.arange(length), torch.tensor(lengths)[:, None] + 1
        tokens = torch.where(place == ends, END, torch.where(place > ends, PAD, tokens))
        tokens[:, 0] = START
        logits = scale * torch.randn(len(lengths), length - 1, vocabulary, generator=g, dtype=torch.float64)
        return logits.to(dtype), tokens

    return [
        case([3, 1, 5], 7, 9),  # captions of several lengths: padding after END
        case([4, 4], 6, 7, torch.float32),  # no padding at all
        case([2], 6, 8),  # a batch of one
        case([0, 2], 5, 6),  # an empty caption: START, END
        case([3, 2], 6, 9, scale=400.0),  # a captioner that is very sure: softmax alone rounds to 0
    ]


def caption_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Σ_k log p(token k+1 | tokens up to k) over everything but padding, one value per picture."""
    target = tokens[:, 1:]
    return (_chosen(logits.log_softmax(2), target) * (target != PAD)).sum(1)


def _chosen(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(2, target[..., None])[..., 0]


def _per_word(logits: Tensor, tokens: Tensor) -> Tensor:
    return caption_log_prob(logits, tokens) / (tokens[:, 1:] != PAD).sum(1)


def _shifted(logits: Tensor, tokens: Tensor) -> Tensor:
    target = tokens[:, :-1]
    return (_chosen(logits.log_softmax(2), target) * (target != PAD)).sum(1)


def _open_ended(logits: Tensor, tokens: Tensor) -> Tensor:
    target = tokens[:, 1:]
    return (_chosen(logits.log_softmax(2), target) * (target != PAD) * (target != END)).sum(1)


def _word_by_word(logits: Tensor, tokens: Tensor) -> Tensor:
    target = tokens[1 : int((tokens == END).nonzero()[0]) + 1]
    seen = logits[: len(target)]
    return (seen[torch.arange(len(target)), target] - seen.logsumexp(1)).sum()


EXERCISE = Exercise(
    id="03-caption-log-prob",
    title="How likely is this caption?",
    points=2,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_captions,
    reference=caption_log_prob,
    mistakes=(
        Mistake(
            "per-word",
            _per_word,
            "You averaged over the words, as the training loss does. The probability of a sentence is a *product* of "
            "its words' probabilities, so the logarithms add: a mean would guide long captions less.",
        ),
        Mistake(
            "off-by-one",
            _shifted,
            "You asked each position for the word it has just read, START included. `logits[:, k]` is about the *next* "
            "token: compare it with `tokens[:, k + 1]`.",
        ),
        Mistake(
            "padding-counted",
            lambda logits, tokens: _chosen(logits.log_softmax(2), tokens[:, 1:]).sum(1),
            "You counted the padding after END. Those tokens are not part of the caption, and the captioner never "
            "learned to predict them: leave out every target equal to PAD.",
        ),
        Mistake(
            "softmax-twice",
            lambda logits, tokens: caption_log_prob(logits.softmax(2), tokens),
            "You made probabilities of probabilities: `log_softmax` and `cross_entropy` take logits. After a first "
            "softmax all numbers lie between 0 and 1, so every word looks nearly equally likely and the gradient dies.",
        ),
        Mistake(
            "end-left-out",
            _open_ended,
            "You left out END. Then you have the probability that a caption *begins* like this: over all captions "
            "these do not add up to 1, and the shortest always wins. END is a prediction like any other.",
        ),
        Mistake(
            "logits",
            lambda logits, tokens: (_chosen(logits, tokens[:, 1:]) * (tokens[:, 1:] != PAD)).sum(1),
            "You added up logits. They are log-probabilities only up to a constant that differs from position to "
            "position, and that depends on the picture: take `log_softmax` over the vocabulary first.",
        ),
    ),
    alternatives=(
        lambda logits, tokens: (
            -F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none", ignore_index=PAD).sum(1)
        ),
        lambda logits, tokens: torch.stack([_word_by_word(*pair) for pair in zip(logits, tokens)]),
    ),
    hints=(
        "log p(caption) = Σ_k log p(token k+1 | tokens up to k). Which column of the tokens belongs to `logits[:, k]`?",
        "The targets are `tokens[:, 1:]`. `log_softmax` over the last axis, then the entry of the target (`gather`), "
        "then 0 wherever the target is PAD.",
        "`logits.log_softmax(2).gather(2, target[..., None])[..., 0]`, (B, L − 1); times `(target != PAD)`; `.sum(1)`.",
    ),
    expected="of 16 pictures, 10.2 ± 1.3 show their captions at w = 16 (5 seeds), 0.6 ± 0.5 at w = 0, and 6.8 ± 2.6 "
    "with the mean per word at w = 16; none shows the other caption.",
    trap="the mean over words is the training loss, and falls as nicely; and with captions of one length a counted END "
    "or a constant number of PADs changes every value alike, so that rankings stay the same.",
)
