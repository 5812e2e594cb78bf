"""Small tensor reshapes that several floors share."""

from torch import Tensor


def expand_like(t: Tensor, x: Tensor) -> Tensor:
    """Give `t` of shape (B,) trailing ones so that it broadcasts over `x` of shape (B, …); a scalar stays a scalar.

    Written once, here: `t` of shape (B,) against `x` of shape (B, C, H, W) with B == W would broadcast over the
    *last* axis without a word of warning.
    """
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t
