"""Who may look at whom: boolean masks (…, L, M), True where row i may look at column j. One convention everywhere.

The batch, where there is one, stands in front: (B, L, M). A size of 1 in place of L means the same for every row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minidiff.validate import describe, require


def causal(n: int, device: torch.device | None = None) -> Tensor:
    """(n, n): each token looks at itself and at those before it."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril()


def prefix(first: int, n: int, device: torch.device | None = None) -> Tensor:
    """(n, n): the first tokens look at one another, each later one at all before it and at itself."""
    require(0 <= first <= n, "first", first, f"0 … {n}")
    mask = causal(n, device)
    mask[:first, :first] = True
    return mask


def spans(n: int, whole: Sequence[tuple[int, int]], device: torch.device | None = None) -> Tensor:
    """(n, n): causal, but the tokens of each span [first, last) of `whole` look at one another, too.

    Text with pictures in it, as in Transfusion (arXiv 2408.11039, section 3.2).
    """
    mask = causal(n, device)
    for first, last in whole:
        require(0 <= first <= last <= n, "whole", (first, last), f"spans within 0 … {n}")
        mask[first:last, first:last] = True
    return mask


def blocks(owner: Tensor) -> Tensor:
    """owner (…, L) int64: which picture each token belongs to, −1 for words → (…, L, L): `spans`, row by row.

    Causal, and tokens of one picture look at one another: q ≥ kv, or the same picture (arXiv 2509.23951).
    """
    return causal(owner.shape[-1], owner.device) | (packed(owner) & (owner >= 0)[..., None])


def keys(valid: Tensor) -> Tensor:
    """(B, M) bool, True for real tokens → (B, 1, M): nobody looks at the others (padding)."""
    require(valid.dtype == torch.bool and valid.ndim == 2, "valid", describe(valid), "bool, shape (B, M)")
    return valid[:, None, :]


def packed(owner: Tensor) -> Tensor:
    """owner (…, L) int64: which picture or text each token belongs to → (…, L, L): tokens look at their own alone.

    Several short sequences share one row then, and none sees another (arXiv 2307.06304).
    """
    require(owner.ndim in (1, 2), "owner", describe(owner), "shape (L,) or (B, L)")
    return owner[..., :, None] == owner[..., None, :]


def temporal(frames: int, tokens: int, device: torch.device | None = None) -> Tensor:
    """(frames·tokens, frames·tokens): a token looks at its own frame and at those before it, frame by frame."""
    return causal(frames, device).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)


def sparse_causal(frames: int, tokens: int, device: torch.device | None = None) -> Tensor:
    """(frames·tokens, frames·tokens): tokens of frame i look at those of frames 1 and i − 1; frame 1 looks at itself.

    Keys and values of Tune-A-Video (arXiv 2212.11565): from frame 2 on, a frame is not among what its own
    tokens look at; it asks, and others answer.
    """
    frame = torch.arange(frames, device=device)
    looks = (frame == 0) | (frame == frame[:, None] - 1)
    return looks.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)


def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Allowed by both; None allows everything."""
    if a is None or b is None:
        return a if b is None else b
    return a & b


def beside(mask: Tensor | None, context_mask: Tensor | None, own: int, context: int) -> Tensor | None:
    """The mask over `own` tokens followed by `context` ones, each part open where it has no mask of its own."""
    if mask is None and context_mask is None:
        return None
    given = [m for m in (mask, context_mask) if m is not None]
    rows, device = max(m.shape[-2] for m in given), given[0].device
    batch = max((m.shape[0] for m in given if m.ndim == 3), default=0)
    parts = []
    for part, columns in ((mask, own), (context_mask, context)):
        part = torch.ones(1, columns, dtype=torch.bool, device=device) if part is None else part
        parts.append(part.expand(*([batch] if batch else []), rows, columns))
    return torch.cat(parts, -1)
