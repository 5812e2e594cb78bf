"""Exercise 06-train-clip: InfoNCE training of both towers."""

from collections.abc import Callable
from math import inf, log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.encoders.clip import contrastive_loss
from minidiff.training import fit
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal

Weights = list[Tensor]
Tower = Callable[[Weights, Tensor], Tensor]
Trained = tuple[Weights, Tensor, Tensor]


def _look(weights: Weights, pictures: Tensor) -> Tensor:
    """A linear tower for pictures (B, 1, 2, 2)."""
    fits = pictures.ndim == 4 and pictures.shape[1:] == (1, 2, 2)
    require(fits, "the pictures given to look", describe(pictures), "shape (B, 1, 2, 2)")
    return pictures.flatten(1) @ weights[0]


def _read(weights: Weights, tokens: Tensor) -> Tensor:
    """A tower that adds up the rows of a table, for tokens (B, 3)."""
    fits = tokens.dtype == torch.int64 and tokens.ndim == 2 and tokens.shape[1] == 3
    require(fits, "the tokens given to read", describe(tokens), "int64 of shape (B, 3), one caption a picture")
    return weights[1][tokens].sum(1)


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, k: int, batch: int, steps: int, scale: float, lr: float = 0.05, alike: bool = False) -> Inputs:
        pictures, weights = normal((n, 1, 2, 2), g), [normal((4, 3), g), normal((9, 3), g)]
        tokens = torch.randint(9, (n, k, 3), generator=g)
        if alike:  # nearly the same pictures, all captions right: a larger scale pays, up to the cap
            pictures = pictures[:1] + 0.1 * pictures
            tokens = torch.arange(n)[:, None, None].expand(n, k, 3)
            weights[1][:n] = pictures.flatten(1) @ weights[0]
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        own = Generator().manual_seed((7_000_003 * (seed + 1) + 10 * n + steps) % 2**32)
        return _look, _read, weights, pictures, tokens, steps, batch, lr, scale, own

    return [
        case(6, 2, batch=4, steps=4, scale=14.3),
        case(5, 3, batch=1, steps=3, scale=14.3),  # one pair cannot be mistaken: nothing is learned
        case(3, 1, batch=3, steps=3, scale=1.0),
        case(4, 2, batch=2, steps=5, scale=150.0),  # above the cap
        case(2, 1, batch=2, steps=1, scale=98.0, lr=0.03, alike=True),  # its only step would pass the cap
    ]


class _Bound(nn.Module):
    """The two towers with weights of their own, trained as `encoders.clip.CLIP` is."""

    def __init__(self, look: Tower, read: Tower, weights: Weights, scale: float):
        super().__init__()
        # A copy of this module, as `fit` makes one, shares plain functions.
        self.look, self.read = lambda *given: look(*given), lambda *given: read(*given)
        self.weights = nn.ParameterList(nn.Parameter(w.detach().clone()) for w in weights)
        self.log_scale = nn.Parameter(torch.tensor(log(scale), dtype=weights[0].dtype))

    @torch.no_grad()
    def capped(self) -> None:
        self.log_scale.clamp_(max=log(100))

    def loss(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        self.capped()
        weights = list(self.weights)
        images, texts = F.normalize(self.look(weights, pictures)), F.normalize(self.read(weights, tokens))
        return contrastive_loss(images, texts, self.log_scale.exp())


def train_clip(
    look: Tower, read: Tower, weights: Weights, pictures: Tensor, tokens: Tensor, steps: int, batch: int, lr: float,
    scale: float, generator: Generator,
) -> Trained:  # fmt: skip
    """`fit` without average, limit or course of the learning rate, on the loss of CLIP."""
    model = _Bound(look, read, weights, scale)

    def draw(_) -> dict[str, Tensor]:
        rows = torch.randperm(len(pictures), generator=generator)[:batch]
        which = torch.randint(tokens.shape[1], (len(rows),), generator=generator)
        return {"pictures": pictures[rows], "tokens": tokens[rows, which]}

    constant, adam = lambda step, steps, peak: peak, torch.optim.Adam
    losses = [p.loss for p in fit(model, draw, steps, lr=lr, optimizer=adam, lr_at=constant, clip=inf, bar=False)]
    model.capped()
    trained = [w.detach().clone() for w in model.weights]
    return trained, model.log_scale.detach().exp(), torch.tensor(losses, dtype=weights[0].dtype)


def _by_hand(flaw: str = "") -> Callable[..., Trained]:
    """The loop written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def train_clip(
        look: Tower, read: Tower, weights: Weights, pictures: Tensor, tokens: Tensor, steps: int, batch: int, lr: float,
        scale: float, generator: Generator,
    ) -> Trained:  # fmt: skip
        now, s = [w.clone().requires_grad_() for w in weights], torch.tensor(log(scale)).double().requires_grad_()
        optimizer = torch.optim.Adam(now if flaw == "fixed" else [*now, s], lr=lr)
        unit = (lambda x: x) if flaw == "raw" else lambda x: x / x.norm(dim=1, keepdim=True)
        losses = torch.zeros(steps, dtype=weights[0].dtype)
        for step in range(steps):
            rows = torch.randperm(len(pictures), generator=generator)[:batch]
            which = torch.randint(tokens.shape[1], rows.shape, generator=generator)
            if flaw not in ("uncapped", "stuck"):
                s.data.clamp_(max=log(100))
            told = tokens[rows, 0 if flaw == "first" else which]
            times = s.clamp(max=log(100)).exp() if flaw == "stuck" else s.exp()
            table = times * unit(look(now, pictures[rows])) @ unit(read(now, told)).T
            loss = (table.logsumexp(1) - table.diagonal()).mean()
            if flaw != "rows":
                loss = (loss + (table.logsumexp(0) - table.diagonal()).mean()) / 2
            if flaw != "gradients":
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[step] = loss.detach()
        top = inf if flaw == "uncapped" else log(100)
        return [w.detach() for w in now], s.detach().clamp(max=top).exp(), losses

    return train_clip


def _flat(answer: Trained, look: Tower, read: Tower, weights: Weights, *others: object) -> tuple[Tensor, ...]:
    """Losses, scale and weights, one after the other."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 3
    require(fits, "what your function returns", describe_value(answer), "three things: weights, scale, losses")
    fits = isinstance(answer[0], (tuple, list)) and len(answer[0]) == len(weights)
    require(fits, "your weights", describe_value(answer[0]), f"a list of {len(weights)} tensors")
    return answer[2], answer[1], *answer[0]


EXERCISE = Exercise(
    id="06-train-clip",
    title="Build it: train both towers of a CLIP",
    points=6,
    difficulty=5,
    importance=5,
    minutes=40,
    draw=_draw_runs,
    reference=train_clip,
    probe=_flat,
    mistakes=(
        Mistake("one-direction", _by_hand("rows"), "You ask one question only: which caption belongs to this picture? "
            "Ask the other one too, which picture belongs to this caption (the columns), and take the mean."),
        Mistake("not-normalised", _by_hand("raw"), "You compare inner products of raw vectors. Then a long vector is "
            "similar to everything. Bring every row to length 1 first: the table must hold cosines."),
        Mistake("scale-not-trained", _by_hand("fixed"), "Your scale stays what it was. Its logarithm is one more "
            "tensor that requires a gradient: give it to the optimizer as well."),
        Mistake("never-capped", _by_hand("uncapped"), "Your scale may grow beyond 100. Set its logarithm back to at "
            "most ln 100 before it is used in a step, and once more at the end."),
        Mistake("clamped-on-the-way", _by_hand("stuck"), "You clamp the scale on its way into the loss. Above the cap "
            "a clamp has no gradient, so that the scale never comes down again. Set the trained number itself back."),
        Mistake("always-the-first-caption", _by_hand("first"), "You read every picture's first caption only. Draw one "
            "of its K captions in every step."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.encoders.clip.contrastive_loss", "minidiff.encoders.clip.CLIP", "minidiff.loop.loop"),
    hints=(
        "Before the loop: copies of the weights and the logarithm of the scale, all requiring gradients, and one "
        "optimizer for them. In the loop: rows, captions, cap, two towers, unit vectors, table, loss, step.",
        "The table is `log_scale.exp() * a @ b.T`; in row i and in column i the right answer is i. `F.cross_entropy` "
        "of the table and of its transpose, against `torch.arange(B)`.",
        "The cap: `with torch.no_grad(): log_scale.clamp_(max=math.log(100))`. The captions: `tokens[rows, which]` is "
        "(B, L). The end of a step: `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`.",
    ),
    expected="names and keywords find their picture among the first ten of 123 unseen ones in 0.35 ± 0.02 of cases, at "
    "the first place in 0.10 ± 0.02; with captions shuffled in training 0.06 ± 0.02 and 0.00 (5 seeds); chance is 0.08 "
    "and 0.01.",
    trap="a loss in one direction, a fixed scale or raw vectors train too: the loss falls, and pictures are found. "
    "Only the numbers of a run that was drawn the same way tell them apart.",
    rtol=1e-4,
    atol=1e-5,
)  # fmt: skip
