"""The exercises of chapter 06: wrong answers that look right, and right ones beside them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from _answers import answers

from minidiff.encoders.tokenizer import END

# ---------------------------------------------------------------- where the tower is read


def read_by(position):
    return lambda features, tokens, end: features[torch.arange(len(tokens)), position(tokens, end)]


def before_padding(tokens, end):
    """The place before the first PAD; the first END where there is none."""
    padded = (tokens == 0).any(1)
    return torch.where(padded, (tokens == 0).int().argmax(1) - 1, (tokens == end).int().argmax(1))


READ = {
    "END of this library": read_by(lambda tokens, end: (tokens == END).int().argmax(1)),
    "counts the words": read_by(lambda tokens, end: (tokens > end).sum(1) + 1),
    "before the padding": read_by(before_padding),
    "squeezes": lambda features, tokens, end: read_by(lambda t, e: (t == e).int().argmax(1))(
        features, tokens, end
    ).squeeze(1),
}

# ---------------------------------------------------------------- the classifier


def ensemble(unit=lambda x: F.normalize(x, dim=-1), mean=lambda x: x.mean(1)):
    return lambda pictures, prompts: pictures @ unit(mean(unit(prompts))).T


SHOT = {
    "a millionth added to the length": ensemble(lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-6)),
    "no length below a hundredth": ensemble(lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=0.01)),
    "the middle prompt": ensemble(mean=lambda x: x.median(1).values),
    "squeezed": lambda pictures, prompts: ensemble()(pictures, prompts).squeeze(-1),
    "at most seven prompts": lambda pictures, prompts: ensemble()(pictures, prompts[:, :7]),
}

# ---------------------------------------------------------------- groups


def linked_by(rounds, number=lambda labels: torch.unique(labels, return_inverse=True)[1], reach=lambda c, t: c >= t):
    def groups(vectors, threshold):
        near, labels = reach(vectors @ vectors.T, threshold), torch.arange(len(vectors))
        for _ in range(rounds):
            labels = torch.where(near, labels, len(vectors)).amin(1)
        return number(labels)

    return groups


def largest_first(labels):
    values, counts = labels.unique(return_counts=True)
    order = values[counts.argsort(descending=True, stable=True)].tolist()
    return torch.tensor([order.index(int(label)) for label in labels])


GROUPS = {
    "sixteen rounds are enough": linked_by(16),
    "sixty-four rounds are enough": linked_by(64),
    "numbered by size": linked_by(120, number=largest_first),
    "more alike than": linked_by(120, reach=lambda c, t: c > t),
    "at least two pictures": lambda vectors, threshold: (
        linked_by(120)(vectors, threshold) if len(vectors) > 1 else torch.zeros(0, dtype=torch.int64)
    ),
}

# ---------------------------------------------------------------- the AUC


def by_pairs(win):
    return lambda scores, matched: float(win(scores[matched][:, None] - scores[~matched][None]).double().mean())


fair = by_pairs(lambda gap: (gap > 0) + 0.5 * (gap == 0))
AUC = {
    "never below a half": lambda scores, matched: max(fair(scores, matched), 1 - fair(scores, matched)),
    "close is equal": by_pairs(
        lambda gap: torch.where(torch.isclose(gap, torch.zeros_like(gap)), 0.5, (gap > 0).double())
    ),
    "scaled to 0 … 1": lambda scores, matched: fair((scores - scores.min()) / (scores.max() - scores.min()), matched),
    "a coin for all": lambda scores, matched: 0.5,
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "global randomness": ("randperm(len(pictures), generator=generator)", "randperm(len(pictures))"),
    "captions from elsewhere": ("(len(rows),), generator=generator)", "(len(rows),))"),
    "with replacement": (
        "randperm(len(pictures), generator=generator)[:batch]",
        "randint(len(pictures), (batch,), generator=generator)",
    ),
    "one caption for the batch": ("(len(rows),), generator", "(1,), generator"),
    "over the batch": ("pictures[rows]), dim=1)", "pictures[rows]), dim=0)"),
    "a temperature": ("log_scale.exp() * a", "(-log_scale).exp() * a"),
    "the sum of both": ("right)) / 2", "right))"),
    "decayed weights": ("torch.optim.Adam(", "torch.optim.AdamW("),
    "capped before a step only": ("detach().clamp(max=math.log(100)).exp()", "detach().exp()"),
    "a cap at a thousand": ("math.log(100)", "math.log(1000)"),
    "captions frozen": ("tokens[rows, which]), dim=1)", "tokens[rows, which]), dim=1).detach()"),
    "pictures frozen": ("look(now,", "look(weights,"),
}


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "06-train-clip", {"torch": torch, "F": F})


TestAnswers = answers(
    chapter="06_clip_retrieval",
    build="06-train-clip",
    experiment="06-which-batch",
    wrong={"06-read-at-end": READ, "06-zero-shot": SHOT, "06-duplicate-groups": GROUPS, "06-mismatch-auc": AUC},
    right={
        "06-read-at-end": read_by(lambda tokens, end: (tokens == end).int().argmax(1)),
        "06-zero-shot": ensemble(),
        "06-duplicate-groups": linked_by(120),
        "06-mismatch-auc": fair,
    },
    slips=SLIPS,
)
