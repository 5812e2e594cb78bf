"""Small tensor reshapes that several floors share."""

from torch import Tensor

from minidiff.validate import describe, require


def expand_like(t: Tensor, x: Tensor) -> Tensor:
    """Give `t` of shape (B,) trailing ones so that it broadcasts over `x` of shape (B, …); a scalar stays a scalar.

    Written once, here: `t` of shape (B,) against `x` of shape (B, C, H, W) with B == W would broadcast over the
    *last* axis without a word of warning.
    """
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


def patchify(x: Tensor, patch: int) -> Tensor:
    """Cut pictures into patches, row by row: (B, C, H, W) → (B, H/patch · W/patch, patch² · C) tokens."""
    fits = x.ndim == 4 and x.shape[2] % patch == 0 and x.shape[3] % patch == 0
    require(fits, "x", describe(x), f"shape (B, C, H, W) with H, W divisible by {patch}")
    b, c, h, w = x.shape
    tiles = x.reshape(b, c, h // patch, patch, w // patch, patch)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // patch) * (w // patch), patch * patch * c)


def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`: (B, N, patch² · C) → (B, C, height, width)."""
    h, w = height // patch, width // patch
    fits = tokens.ndim == 3 and tokens.shape[1] == h * w and tokens.shape[2] % patch**2 == 0
    require(fits, "tokens", describe(tokens), f"shape (B, {h * w}, {patch * patch}·C)")
    tiles = tokens.reshape(len(tokens), h, w, patch, patch, -1)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, height, width)
