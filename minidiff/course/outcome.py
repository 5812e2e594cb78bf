"""What came back when a function was tried on one set of inputs: tensors, an exception, or something else."""

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minidiff.course.exercise import Exercise, Inputs
from minidiff.values import Failure, describe_value, failure_of, same


@dataclass(frozen=True)
class Outcome:
    """One trial. Exactly one of `outputs`, `odd` and `error` is set.

    outputs  what was returned, as a tuple of tensors on the CPU;  plain: which of them were Python numbers
    odd      a description of a value that is neither a tensor, nor a number, nor a tuple of these
    error    the exception, as data: it may come from another process
    answer   what kind of thing was returned, where a probe turned it into tensors ("a function")
    changed  the arguments that the function wrote into
    printed  what it printed
    """

    outputs: tuple[Tensor, ...] | None = None
    plain: tuple[bool, ...] = ()
    odd: str = ""
    answer: str = ""
    error: Failure | None = None
    changed: tuple[str, ...] = ()
    printed: str = ""


def parameter_names(exercise: Exercise, inputs: Inputs) -> list[str]:
    """The names of the arguments, from the reference's signature."""
    names = [p.name for p in inspect.signature(exercise.reference).parameters.values()]
    return [names[i] if i < len(names) else f"argument {i + 1}" for i in range(len(inputs))]


def attempt(exercise: Exercise, function: Callable[..., Any], inputs: Inputs, untouched: Inputs) -> Outcome:
    """Call `function` on `inputs`; `untouched` is a second draw of the same inputs, to see what was written into.

    Warnings and prints are caught: a notebook cell that writes to stderr counts as failed for nbgrader.
    """
    screen, value, raw = io.StringIO(), None, None
    try:
        with _quiet(screen):
            value = raw = function(*inputs)
            if exercise.probe is not None and raw is not None:
                value = exercise.probe(raw, *inputs)
            elif isinstance(raw, Iterator):
                value = list(raw)
    except (Exception, SystemExit) as error:
        seen = {"changed": _changed(exercise, inputs, untouched), "printed": screen.getvalue()}
        if exercise.probe is not None and isinstance(raw, (Tensor, int, float)):
            return Outcome(odd=describe_value(raw), **seen)  # a value where a function was asked for
        return Outcome(error=failure_of(error), **seen)
    seen = {"changed": _changed(exercise, inputs, untouched), "printed": screen.getvalue()}
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    odd = [v for v in values if not _is_number_or_tensor(v)]
    if odd or not values:
        return Outcome(odd=describe_value(odd[0]) if odd else "an empty sequence", **seen)
    return Outcome(
        outputs=tuple(torch.as_tensor(v).detach().to("cpu", copy=True) for v in values),
        plain=tuple(not isinstance(v, Tensor) for v in values),
        answer="" if exercise.probe is None else describe_value(raw),
        **seen,
    )


def _is_number_or_tensor(value: Any) -> bool:
    # An int that no tensor holds (10**30) is no result of any exercise.
    if isinstance(value, Tensor):
        return value.layout is torch.strided  # nothing here can be compared with a sparse one
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63)


@contextlib.contextmanager
def _quiet(screen: io.StringIO) -> Iterator[None]:
    out, err = contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen)
    # Gradients on, whatever the notebook did before: answers may differentiate a log-probability.
    with out, err, warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield


def _changed(exercise: Exercise, inputs: Inputs, untouched: Inputs) -> tuple[str, ...]:
    pairs = zip(parameter_names(exercise, inputs), inputs, untouched)
    return tuple(name for name, now, before in pairs if not same(now, before))


def close(exercise: Exercise, got: Outcome, want: Outcome) -> bool:
    """The exercise's comparison on two outcomes that both hold tensors: `compare`, or shape, dtype and tolerance."""
    if got.outputs is None or want.outputs is None:
        return False
    if exercise.compare is not None:
        try:
            return bool(exercise.compare(got.outputs, want.outputs))
        except Exception:  # written for results like the reference's: anything else differs
            return False
    if len(got.outputs) != len(want.outputs) or any(p and not q for p, q in zip(got.plain, want.plain)):
        return False
    return all(
        g.shape == w.shape and (q or g.dtype == w.dtype) and _near(exercise, g, w)
        for g, w, q in zip(got.outputs, want.outputs, want.plain)
    )


def _near(exercise: Exercise, got: Tensor, want: Tensor) -> bool:
    common = torch.promote_types(got.dtype, want.dtype)
    if not common.is_floating_point and not common.is_complex:
        return torch.equal(got.to(common), want.to(common))
    return torch.allclose(got.to(common), want.to(common), rtol=exercise.rtol, atol=exercise.atol, equal_nan=True)


def alike(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    """Did two functions behave the same: same tensors, or the same exception, or the same odd value?"""
    if one.changed != other.changed:
        return False
    if one.error is not None or other.error is not None:
        return _what(one) == _what(other)  # where it was raised does not matter
    return one.odd == other.odd if one.odd or other.odd else close(exercise, one, other)


def _what(outcome: Outcome) -> tuple[str, str] | None:
    return None if outcome.error is None else (outcome.error.name, outcome.error.message)


def right(exercise: Exercise, got: Outcome, want: Outcome) -> bool:
    """The answer agrees with the reference, and the arguments are as they were."""
    return not got.changed and close(exercise, got, want)


def describe_inputs(exercise: Exercise, inputs: Inputs) -> str:
    """The inputs of a trial in one line: "x: float64 (5, 2), w = 3". Callables are left out."""

    def short(value: Any) -> str:
        if isinstance(value, Tensor) and value.ndim:
            return f": {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        number = value.item() if isinstance(value, Tensor) else value
        return f" = {number:g}" if isinstance(number, (int, float)) else f" = {value}" if isinstance(value, str) else ""

    parts = zip(parameter_names(exercise, inputs), map(short, inputs))
    return ", ".join(name + text for name, text in parts if text) or "none that can be shown"


def traits(exercise: Exercise, inputs: Inputs) -> tuple[tuple[int, str], ...]:
    """What kind of inputs these are, as (rank, words), the most telling first: (0, "`w` is 0")."""
    found: list[tuple[int, str]] = []
    for name, value in zip(parameter_names(exercise, inputs), inputs):
        number = value.item() if isinstance(value, Tensor) and not value.ndim else value
        if isinstance(number, (int, float)):
            kinds = {"0": number == 0, "1": number == 1, "negative": number < 0}
            found += [(0, f"`{name}` is {kind}") for kind, holds in kinds.items() if holds]
        elif isinstance(value, Tensor):
            found += [(1, f"`{name}` is a batch of one")] if len(value) == 1 else []
            found += [(1, f"`{name}` has {value.ndim} axes"), (2, f"`{name}` is {str(value.dtype)[6:]}")]
        elif type(value).__module__.startswith("minidiff."):
            found.append((0, f"`{name}` is {type(value).__name__}"))  # a schedule
    return tuple(sorted(found, key=lambda trait: trait[0]))
