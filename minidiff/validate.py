"""Checks of public arguments: one sentence that names the argument, what came, and what was expected."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def require(ok: bool, argument: str, got: object, expected: str) -> None:
    """Raise `ValueError("argument: got …, expected …")` unless `ok`."""
    if not ok:
        raise ValueError(f"{argument}: got {got}, expected {expected}")


def describe(value: object) -> str:
    """A tensor as `float32 tensor of shape (2, 3)`, anything else as its type and value."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r}"


def _plain(value: Any) -> Any:
    """A number of NumPy or a 0-d tensor as Python's own; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def number(argument: str, value: object, expected: str, ok: Callable[[float], bool]) -> float:
    """`value`, a real number of Python, NumPy or a 0-d tensor for which `ok` holds, as a Python float."""
    plain = _plain(value)
    fits = isinstance(plain, Real) and not isinstance(plain, bool)
    try:
        plain = float(plain) if fits else 0.0
    except OverflowError:  # an integer of more than 308 digits
        plain = math.inf
    require(fits and ok(plain), argument, describe(value), expected)
    return plain


def positive(argument: str, value: object, expected: str = "a positive number") -> float:
    """`number` in (0, ∞)."""
    return number(argument, value, expected, lambda v: 0 < v < math.inf)


def not_negative(argument: str, value: object, expected: str = "a number ≥ 0") -> float:
    """`number` in [0, ∞)."""
    return number(argument, value, expected, lambda v: 0 <= v < math.inf)


def integer(argument: str, value: object, least: int | None = 1) -> int:
    """`value`, an integer ≥ `least` of Python, NumPy or a 0-d tensor, as a Python int."""
    plain = _plain(value)
    fits = isinstance(plain, Integral) and not isinstance(plain, bool) and (least is None or int(plain) >= least)
    require(fits, argument, describe(value), "an integer" + ("" if least is None else f" ≥ {least}"))
    return int(plain)


def require_floating(argument: str, value: object, finite: bool = False, min_dim: int = 0) -> None:
    """`value` must be a floating-point tensor with ≥ `min_dim` dimensions, free of NaN and infinity if `finite`."""
    expected = "a floating-point tensor" + (f" with at least {min_dim} dimension(s)" if min_dim else "")
    require(isinstance(value, Tensor) and value.is_floating_point(), argument, describe(value), expected)
    assert isinstance(value, Tensor)
    require(value.ndim >= min_dim, argument, describe(value), expected)
    if finite:
        bad = int((~torch.isfinite(value)).sum())
        require(bad == 0, argument, f"{bad} values that are NaN or infinite", "finite values only")


def require_like(argument: str, value: object, other: Tensor, other_name: str) -> None:
    """`value` must be a tensor with the shape, dtype and device of `other`."""
    expected = f"the same as {other_name}: {describe(other)} on {other.device}"
    require(isinstance(value, Tensor), argument, describe(value), expected)
    assert isinstance(value, Tensor)
    same = value.shape == other.shape and value.dtype == other.dtype and value.device == other.device
    require(same, argument, f"{describe(value)} on {value.device}", expected)


def require_broadcast(argument: str, value: object, like: Tensor, name: str) -> None:
    """`value` must be a tensor that broadcasts over `like`, which is called `name`, without making it larger."""
    fits = isinstance(value, Tensor) and value.ndim <= like.ndim
    fits = fits and all(n in (1, m) for n, m in zip(value.shape[::-1], like.shape[::-1]))  # type: ignore[union-attr]
    require(fits, argument, describe(value), f"a tensor that broadcasts over {name}, {tuple(like.shape)}")


def require_labels(argument: str, y: object, batch: int, last: int, expected: str) -> None:
    """`y` must be int64, a scalar or (batch,), with values 0 … last.

    Like times, their range is read on the CPU only; on a GPU an embedding or a gather stops the program by itself.
    """
    fits = isinstance(y, Tensor) and y.dtype == torch.int64 and tuple(y.shape) in ((), (batch,))
    require(fits, argument, describe(y), f"{expected}, int64, a scalar or ({batch},)")
    assert isinstance(y, Tensor)
    require_inside(argument, y, last, expected)


def require_inside(argument: str, values: Tensor, last: int, expected: str) -> None:
    """Integers must lie in 0 … last. Read on the CPU only: on a GPU it would make the host wait."""
    if values.device.type == "cpu" and values.numel():
        low, high = (int(end) for end in values.aminmax())
        require(low >= 0 and high <= last, argument, f"values from {low} to {high}", expected)


def require_time(t: object, batch: int | None = None, argument: str = "t", map_of: Tensor | None = None) -> None:
    """Times are floating-point tensors in [0, 1]; with `batch`, they must be a scalar or have shape (batch,).

    With `map_of` (B, C, …), at least one axis after C, they may also be a map of times: (B, 1, …) with as many axes,
    that broadcasts over it.

    The range is read only where that costs nothing (on the CPU): on a GPU it would make the host wait.
    """
    require_floating(argument, t)
    assert isinstance(t, Tensor)
    is_map = map_of is not None and t.ndim == map_of.ndim > 2 and t.shape[:2] == (map_of.shape[0], 1)
    is_map = is_map and all(n in (1, m) for n, m in zip(t.shape[2:], map_of.shape[2:]))  # type: ignore[union-attr]
    if batch is not None and not is_map:
        require(t.ndim == 0 or tuple(t.shape) == (batch,), argument, describe(t), f"a scalar or shape ({batch},)")
    if t.device.type == "cpu" and t.numel():
        lo, hi = float(t.detach().min()), float(t.detach().max())
        require(lo >= 0.0 and hi <= 1.0, argument, f"values from {lo:g} to {hi:g}", "times in [0, 1]")


def require_shape(argument: str, value: Tensor, shape: Sequence[int | None]) -> None:
    """`value.shape` must equal `shape`; None stands for any size."""
    fits = value.ndim == len(shape) and all(want in (None, have) for have, want in zip(value.shape, shape))
    readable = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    require(fits, argument, describe(value), f"shape {readable}")
