"""The exercises of chapter 07: wrong answers that look right, and right ones beside them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from _answers import answers

# ---------------------------------------------------------------- where a word looks


def mapped(
    fill=float("-inf"),
    width=lambda q: q.shape[-1],
    heads=lambda shares: shares.mean(1),
    columns=lambda word: word,
    softmax=lambda scores: scores.softmax(-1),
):
    def word_map(q, k, mask, word, height, width_):
        scores = (q @ k.mT / width(q) ** 0.5).masked_fill(~mask[:, None, None], fill)
        shares = heads(softmax(scores) * mask[:, None, None])
        return (shares * columns(word)[:, None]).sum(-1).reshape(-1, height, width_)

    return word_map


def naive(scores):
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def first_piece(word):
    return word & (word.cumsum(1) == 1)


MAPS = {
    "zeroed after the softmax": mapped(fill=0.0),
    "a low score that is not low enough": mapped(fill=-100.0),
    "overflowing": mapped(softmax=naive),
    "the root of all heads together": mapped(width=lambda q: q.shape[1] * q.shape[-1]),
    "the strongest head": mapped(heads=lambda shares: shares.amax(1)),
    "the first head": mapped(heads=lambda shares: shares[:, 0]),
    "the sum of the heads": mapped(heads=lambda shares: shares.sum(1)),
    "the first piece of a word": mapped(columns=first_piece),
}

# ---------------------------------------------------------------- thresholds


def thresholded(size):
    """size(|x0|, quantile) → one number a picture."""

    def dynamic_threshold(x0, quantile):
        s = size(x0.abs(), quantile).clamp(min=1).reshape(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-s, s) / s

    return dynamic_threshold


def of_channels(x0, quantile):
    s = x0.abs().flatten(2).quantile(quantile, dim=2).clamp(min=1).reshape(*x0.shape[:2], *[1] * (x0.ndim - 2))
    return x0.clamp(-s, s) / s


THRESHOLDS = {
    "no number between two": thresholded(lambda a, q: a.flatten(1).quantile(q, dim=1, interpolation="lower")),
    "the largest": thresholded(lambda a, q: a.flatten(1).amax(1)),
    "every channel for itself": of_channels,
    "the 0.995 of the paper": thresholded(lambda a, q: a.flatten(1).quantile(0.995, dim=1)),
    "squashed": lambda x0, quantile: x0.tanh(),
    "the mean of the sizes": thresholded(lambda a, q: a.flatten(1).quantile(q, dim=1).mean().expand(len(a))),
}

# ---------------------------------------------------------------- noise on the small picture


def augmented(
    noise=lambda low, g: torch.randn(low.shape, generator=g),
    level=lambda s: s,
    enlarge=lambda x, f: F.interpolate(x, scale_factor=f, mode="bilinear"),
):
    def augment(low, levels, factor, generator):
        s = level(levels)[:, None, None, None]
        return enlarge((1 - s) * low + s * noise(low, generator), factor), levels

    return augment


AUGMENTED = {
    "global randomness": augmented(noise=lambda low, g: torch.randn(low.shape)),
    "uniform noise": augmented(noise=lambda low, g: torch.rand(low.shape, generator=g)),
    "grey noise": augmented(noise=lambda low, g: torch.randn(low[:, :1].shape, generator=g)),
    "one level for the batch": augmented(level=lambda s: s.mean().expand(len(s))),
    "levels below a half only": augmented(level=lambda s: s.clamp(max=0.5)),
    "pixels repeated": augmented(enlarge=lambda x, f: F.interpolate(x, scale_factor=f, mode="nearest")),
    "corners aligned": augmented(
        enlarge=lambda x, f: F.interpolate(x, scale_factor=f, mode="bilinear", align_corners=True)
    ),
    "not enlarged": augmented(enlarge=lambda x, f: x),
}

# ---------------------------------------------------------------- the frontier


def unbeaten(beats):
    """beats(cost, cost of the others, score, score of the others) → (run, another) bool."""
    return lambda cost, score: ~beats(cost[:, None], cost, score[:, None], score).any(1)


FRONTIERS = {
    "as good for less only": unbeaten(lambda c, d, s, r: (d < c) & (r >= s)),
    "better for the same only": unbeaten(lambda c, d, s, r: (d <= c) & (r > s)),
    "the best ratio": lambda cost, score: score / cost >= (score / cost).max(),
    "the best score": lambda cost, score: score >= score.max(),
    "close is equal": unbeaten(lambda c, d, s, r: (d <= c + 1e-3 * c) & (r > s)),
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "raw pixels": ("F.layer_norm(rows, (channels,))", "x.flatten(2).transpose(1, 2)"),
    "no root": (" / q.shape[-1] ** 0.5", ""),
    "the root of all channels": ("q.shape[-1]", "channels"),
    "over pixels": (".softmax(-1)", ".softmax(-2)"),
    "NaN for an empty caption": ("torch.finfo(scores.dtype).min", "float('-inf')"),
    "padding for an empty caption": (".softmax(-1) * seen", ".softmax(-1)"),
    "the mask upside down": ("~seen", "seen"),
    "keys for values": ("split(words @ to_v)", "split(words @ to_k)"),
    "pixels out of place": ("read.transpose(1, 2).reshape(x.shape)", "read.reshape(x.shape)"),
    "heads interleaved": ("(heads, -1)).transpose(1, 2)", "(-1, heads)).permute(0, 3, 1, 2)"),
    "nothing but words": ("return x + read", "return read"),
    "twice": ("return x + read", "return x + 2 * read"),
    "global randomness": (", generator=generator", ""),
    "one scale for all": ("n**0.5", "channels**0.5"),
    "the last one drawn": ("torch.zeros(channels, channels)", "torch.randn(channels, channels, generator=generator)"),
    "the last one never leaves zero": (
        "to_q, to_k, to_v, out = weights",
        "to_q, to_k, to_v, _ = weights\n        out = torch.zeros(channels, channels)",
    ),
    "no gradient to the words' matrices": ("(shares @ v)", "(shares @ v).detach()"),
    "no gradient to the questions": ("scores.masked_fill(", "scores.detach().masked_fill("),
}


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(
        master, "07-cross-attention", {"torch": torch, "F": F, "Tensor": torch.Tensor, "Generator": torch.Generator}
    )


TestAnswers = answers(
    chapter="07_text_to_pixels",
    build="07-cross-attention",
    experiment="07-when-words-speak",
    wrong={
        "07-word-map": MAPS,
        "07-dynamic-threshold": THRESHOLDS,
        "07-noise-augment": AUGMENTED,
        "07-frontier": FRONTIERS,
    },
    right={
        "07-word-map": mapped(),
        "07-dynamic-threshold": thresholded(lambda a, q: a.flatten(1).quantile(q, dim=1)),
        "07-noise-augment": augmented(),
        "07-frontier": unbeaten(lambda c, d, s, r: (d <= c) & (r >= s) & ((d < c) | (r > s))),
    },
    slips=SLIPS,
)


def test_a_new_layer_is_the_identity_and_learns(built):
    weights, layer = built()(8, 5, 2, torch.Generator().manual_seed(0))
    x, words = torch.randn(2, 8, 2, 3, generator=torch.Generator().manual_seed(1)), torch.ones(2, 4, 5)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    assert torch.equal(layer(weights, x, words, mask), x)
    moved = [*weights[:3], torch.ones(8, 8)]
    changed = (layer(moved, x, words, mask) - x).abs().amax((1, 2, 3))
    assert float(changed[0]) > 0.01  # the control: it is the last matrix that keeps it silent
    assert float(changed[1]) == 0  # and a caption without words
