"""Exercise 12-hard-negatives: a CLIP whose batches hold what it would otherwise confuse."""

from collections.abc import Callable
from math import inf

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.training import fit
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal

Weights = list[Tensor]
Tower = Callable[[Weights, Tensor], Tensor]
Trained = tuple[Weights, Tensor]


def _look(weights: Weights, pictures: Tensor) -> Tensor:
    """A linear tower for pictures (B, 1, 2, 2)."""
    fits = pictures.ndim == 4 and pictures.shape[1:] == (1, 2, 2)
    require(fits, "the pictures given to look", describe(pictures), "shape (B, 1, 2, 2)")
    return pictures.flatten(1) @ weights[0]


def _read(weights: Weights, tokens: Tensor) -> Tensor:
    """A tower that hears words in their places, for tokens (B, 3)."""
    fits = tokens.dtype == torch.int64 and tokens.ndim == 2 and tokens.shape[1] == 3 and bool((tokens >= 0).all())
    require(fits, "the tokens given to read", describe(tokens), "int64 ids ≥ 0 of shape (B, 3)")
    return (weights[1][tokens] * weights[2]).sum(1)


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, batch: int, steps: int, share: float, scale: float = 5.0, dtype: torch.dtype = torch.float64):
        weights = [normal((4, 3), g, dtype), normal((9, 3), g, dtype), normal((3, 1), g, dtype)]
        tokens = torch.randint(9, (n, 3), generator=g)
        has = torch.rand(n, 1, generator=g) < share
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        own = Generator().manual_seed((7_000_003 * (seed + 1) + 10 * n + steps) % 2**32)
        pictures = normal((n, 1, 2, 2), g, dtype)
        return (
            _look,
            _read,
            weights,
            pictures,
            tokens,
            torch.where(has, tokens.flip(1), -1),
            steps,
            batch,
            0.05,
            scale,
            own,
        )

    return [
        case(6, 4, 4, 1.0),
        case(7, 5, 4, 0.5),  # some captions have no swap
        case(5, 3, 3, 0.0),  # none has: plain InfoNCE
        case(4, 1, 3, 1.0),  # one pair: its swap is the only other caption
        case(6, 6, 3, 0.6, scale=20.0, dtype=torch.float32),
    ]


class _Bound(nn.Module):
    """The two towers with weights of their own."""

    def __init__(self, look: Tower, read: Tower, weights: Weights, scale: float):
        super().__init__()
        # A copy of this module, as `fit` makes one, shares plain functions.
        self.look, self.read, self.scale = lambda *given: look(*given), lambda *given: read(*given), scale
        self.weights = nn.ParameterList(nn.Parameter(w.detach().clone()) for w in weights)

    def loss(self, pictures: Tensor, tokens: Tensor, swapped: Tensor) -> Tensor:
        weights = list(self.weights)
        unit = lambda tower, given: F.normalize(tower(weights, given), dim=1)
        has = (swapped >= 0).all(1)
        images, texts = unit(self.look, pictures), unit(self.read, tokens)
        others = unit(self.read, swapped[has]) if bool(has.any()) else texts[:0]
        right = torch.arange(len(images))
        rows = self.scale * images @ torch.cat([texts, others]).T
        columns = self.scale * texts @ images.T
        cross = lambda table: F.cross_entropy(table, right, reduction="none")
        return (cross(rows) + cross(columns)) / 2


def train_beside(
    look: Tower, read: Tower, weights: Weights, pictures: Tensor, tokens: Tensor, swapped: Tensor, steps: int,
    batch: int, lr: float, scale: float, generator: Generator,
) -> Trained:  # fmt: skip
    """`fit` without average, limit or course of the learning rate."""
    model = _Bound(look, read, weights, scale)

    def draw(_) -> dict[str, Tensor]:
        rows = torch.randperm(len(pictures), generator=generator)[:batch]
        return {"pictures": pictures[rows], "tokens": tokens[rows], "swapped": swapped[rows]}

    constant, adam = lambda step, steps, peak: peak, torch.optim.Adam
    losses = [p.loss for p in fit(model, draw, steps, lr=lr, optimizer=adam, lr_at=constant, clip=inf, bar=False)]
    return [w.detach().clone() for w in model.weights], torch.tensor(losses, dtype=weights[0].dtype)


def _tables(flaw: str, a: Tensor, b: Tensor, c: Tensor, has: Tensor, scale: float) -> Tensor:
    """The loss of a batch from unit vectors of pictures, captions and swaps (those that are there are `has`)."""
    n, own, other = len(a), scale * a @ b.T, scale * a @ c.T
    gone = torch.zeros_like(other) if flaw == "unmasked" else torch.where(has, 0.0, -inf).to(other)
    other = other + gone
    if flaw == "own":
        other = torch.where(torch.eye(n, dtype=torch.bool), other, -inf)
    rows = own if flaw == "plain" else torch.cat([own, other], 1)
    loss = (rows.logsumexp(1) - own.diagonal()).mean()
    if flaw == "right":
        loss = (loss + (rows.logsumexp(1) - torch.where(has, (scale * a @ c.T).diagonal(), own.diagonal())).mean()) / 2
    back = own.logsumexp(0) - own.diagonal()
    if flaw == "columns":
        swaps = (scale * a @ c.T).logsumexp(0) - (scale * a @ c.T).diagonal()
        back = torch.cat([back, swaps[has]])
    return (loss + back.mean()) / 2


def _by_hand(flaw: str = "") -> Callable[..., Trained]:
    """The loop written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def train_beside(
        look: Tower, read: Tower, weights: Weights, pictures: Tensor, tokens: Tensor, swapped: Tensor, steps: int,
        batch: int, lr: float, scale: float, generator: Generator,
    ) -> Trained:  # fmt: skip
        now = [w.clone().requires_grad_() for w in weights]
        optimizer, losses = torch.optim.Adam(now, lr=lr), []
        unit = (lambda x: x) if flaw == "raw" else lambda x: x / x.norm(dim=1, keepdim=True)
        for _ in range(steps):
            rows = torch.randperm(len(pictures), generator=generator)[:batch]
            told = swapped[rows].clamp(min=0)  # where there is no swap its column is masked
            a, b, c = unit(look(now, pictures[rows])), unit(read(now, tokens[rows])), unit(read(now, told))
            loss = _tables(flaw, a, b, c, (swapped[rows] >= 0).all(1), scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return [w.detach() for w in now], torch.stack(losses)

    return train_beside


def _flat(answer: Trained, look: Tower, read: Tower, weights: Weights, *others: object) -> tuple[Tensor, ...]:
    """Losses and weights, one after the other."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 2
    require(fits, "what your function returns", describe_value(answer), "two things: weights, losses")
    fits = isinstance(answer[0], (tuple, list)) and len(answer[0]) == len(weights)
    require(fits, "your weights", describe_value(answer[0]), f"a list of {len(weights)} tensors")
    return answer[1], *answer[0]


EXERCISE = Exercise(
    id="12-hard-negatives",
    title="Build it: a CLIP that hears who is on the left",
    points=6,
    difficulty=5,
    importance=5,
    minutes=40,
    draw=_draw_runs,
    reference=train_beside,
    probe=_flat,
    mistakes=(
        Mistake("no-swaps", _by_hand("plain"), "Your table holds the batch's captions alone. The swapped captions are "
            "B more columns: each picture has to prefer its own caption to those, too."),
        Mistake("swaps-are-right", _by_hand("right"), "You asked each picture for its swap as well, as for a second "
            "caption. A swap is *wrong*: it stands in the table, and is nobody's answer."),
        Mistake("own-swap-only", _by_hand("own"), "Each of your pictures sees its own swap alone. All swaps of the "
            "batch are wrong for it: all of them are columns of its row."),
        Mistake("swaps-want-pictures", _by_hand("columns"), "You let the swapped captions ask for a picture. There is "
            "none of them in the batch: only the true captions ask for theirs."),
        Mistake("made-up-swaps", _by_hand("unmasked"), "You let captions that have no swap (−1) into the table, as "
            "captions of word 0. Leave those columns out, or give them −∞."),
        Mistake("not-normalised", _by_hand("raw"), "You compare inner products of raw vectors. Bring every row to "
            "length 1 first: the table must hold cosines."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.encoders.clip.contrastive_loss", "minidiff.encoders.clip.CLIP", "minidiff.loop.loop"),
    hints=(
        "As in 06-train-clip, with a wider table: rows are pictures; columns first the batch's captions, then its "
        "swaps. In row i the right answer is still column i. The other question goes over B captions and B pictures.",
        "`has = (swapped[rows] >= 0).all(1)` says who has a swap. `read` only those: `read(now, swapped[rows][has])`; "
        "if nobody has one, there are no more columns.",
        "`wide = scale * a @ torch.cat([b, c]).T`; `F.cross_entropy(wide, right)` and `F.cross_entropy(scale * b @ "
        "a.T, right)`, and the mean of the two.",
    ),
    expected="the swap test 0.998 ± 0.004, without swaps in the table 0.81 ± 0.03, and recall among the unseen 1.00 "
    "with and without them (5 seeds, 200 steps)",
    trap="without the swaps, or with them in the wrong place, recall is as good and the loss falls just as far. Only "
    "a minimal pair tells.",
    rtol=1e-4,
    atol=1e-5,
)  # fmt: skip
