"""What the exercises of chapter 02 share: networks and denoisers that refuse what a real one would refuse."""

from torch import Tensor

from minidiff.validate import describe, require


def require_one_time_each(x: Tensor, t: Tensor) -> None:
    """A network takes one time per picture: t of shape (B,). `ValueError` otherwise."""
    require(t.shape == x.shape[:1], "the network's t", describe(t), f"one time per picture, shape ({len(x)},)")


def require_one_time(t: Tensor) -> None:
    """A sampler asks about one time for the whole batch: a scalar. `ValueError` otherwise."""
    require(t.ndim == 0, "the time you asked about", describe(t), "the scalar t as it came")
