"""Exercise 12-states: a caption's states out of a chat model."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from .._common import normal

Read = tuple[Tensor, Tensor]
PAD = 0


def _draw_states(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, length: int, dim: int, depth: int, layers: Sequence[int], cut: int, dtype=torch.float64):
        told = torch.randint(cut + 1, length + 1, (b,), generator=g)
        told[0] = length  # one row has no padding
        tokens = torch.randint(1, 9, (b, length), generator=g) * (torch.arange(length) < told[:, None])
        loud = torch.logspace(0, 2, depth + 1).tolist()  # later layers have larger numbers, as in real models
        return [k * normal((b, length, dim), g, dtype) for k in loud], tokens, list(layers), cut

    return [
        case(3, 7, 4, 3, (-2,), 2),
        case(2, 6, 5, 4, (1, 2, 4), 1),
        case(2, 5, 4, 2, (0,), 0),  # nothing is cut; what enters the first block
        case(1, 4, 6, 3, (-1, 1), 3, torch.float32),  # one caption of one token
        case(4, 8, 3, 5, (3, -3, 3), 4),  # a layer twice
    ]


def caption_states(states: list[Tensor], tokens: Tensor, layers: list[int], cut: int) -> Read:
    """What `encoders.language.Layers` makes of a model's states."""
    made = [F.layer_norm(states[k], states[k].shape[-1:])[:, cut:] for k in layers]
    return torch.cat(made, -1), (tokens != PAD)[:, cut:]


def _made(
    norm: Callable[[Tensor], Tensor] = lambda x: F.layer_norm(x, x.shape[-1:]),
    join: Callable[[list[Tensor]], Tensor] = lambda parts: torch.cat(parts, 2),
    after: Callable[[Tensor], Tensor] = lambda x: x,
    keep: Callable[[Tensor, int], Tensor] = lambda x, cut: x[:, cut:],
    seen: Callable[[Tensor, int], Tensor] = lambda tokens, cut: (tokens != PAD)[:, cut:],
    which: Callable[[int, int], int] = lambda k, n: k,
) -> Callable[..., Read]:
    def caption_states(states: list[Tensor], tokens: Tensor, layers: list[int], cut: int) -> Read:
        parts = [keep(norm(states[which(k, len(states))]), cut) for k in layers]
        return after(join(parts)), seen(tokens, cut)

    return caption_states


def _by_hand(states: list[Tensor], tokens: Tensor, layers: list[int], cut: int) -> Read:
    rows = []
    for k in layers:
        x = states[k][:, cut:]
        centred = x - x.mean(-1, keepdim=True)
        rows.append(centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    return torch.cat(rows, dim=-1), tokens[:, cut:].ne(PAD)


EXERCISE = Exercise(
    id="12-states",
    title="What a generator takes from a chat model",
    points=2,
    difficulty=3,
    importance=4,
    minutes=15,
    draw=_draw_states,
    reference=caption_states,
    mistakes=(
        Mistake("raw", _made(norm=lambda x: x), "You took the states as they are. Later layers have larger numbers: "
            "side by side the loudest would be all that is heard: normalise each by itself, along its channels."),
        Mistake("normed-together", _made(norm=lambda x: x, after=lambda x: F.layer_norm(x, x.shape[-1:])), "You "
            "normalised after joining. One mean and one spread for all layers leave the loud ones loud."),
        Mistake("averaged", _made(join=lambda parts: torch.stack(parts).mean(0).repeat(1, 1, len(parts))),
            "You averaged the layers. They stand side by side in channels, so that the network may use each."),
        Mistake("mask-not-cut", _made(seen=lambda t, cut: (t != PAD)[:, : t.shape[1] - cut]), "You cut the states in "
            "front and the mask behind. A mask belongs to its tokens: cut both in the same place."),
        Mistake("cut-behind", _made(keep=lambda x, cut: x[:, : x.shape[1] - cut], seen=lambda t, cut: (t != PAD)[:,
            : t.shape[1] - cut]), "You cut the last tokens. The template's beginning is what knows nothing of the "
            "caption; the last tokens have seen all of it."),
        Mistake("off-by-one", _made(which=lambda k, n: k - 1 if k > 0 else k), "You took the layer before. "
            "`states[0]` is what *enters* the first block, so that `states[k]` left block k."),
    ),
    alternatives=(_made(), _by_hand),
    shortcuts=("minidiff.encoders.language.Layers",),
    hints=(
        "For each layer: take it, normalise along the channels, leave out the first `cut` tokens. Then side by side.",
        "`F.layer_norm(x, x.shape[-1:])` has no weights. Negative layers count from the end, as in any list.",
        "`torch.cat([F.layer_norm(states[k], states[k].shape[-1:])[:, cut:] for k in layers], -1)`, and "
        "`(tokens != 0)[:, cut:]`.",
    ),
    expected="the library's context to 1e-5. Of 24 relations layer −2 gives 0.97 ± 0.04, with its template left in "
    "0.98 ± 0.04, the last layer in its place 0.20 ± 0.04, what enters the first block 0.02 ± 0.04 (5 sets of captions "
    "and seeds, 15 steps, w = 0).",
    trap="raw states, another layer, a shifted mask: a generator that is trained on them learns something of each. "
    "Only one that was trained on the right ones tells.",
)  # fmt: skip
