"""From what came back to one sentence that helps: the named mistake, or else what is off, and where."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minidiff.course.exercise import Exercise
from minidiff.course.outcome import Outcome, alike, attempt, close, describe_inputs, right, traits
from minidiff.validate import describe

NOT_WRITTEN = "Not written yet: replace `raise NotImplementedError()` by your lines."  # a student's stub, as handed out


@dataclass(frozen=True)
class Verdict:
    """What `judge` found.

    kind     passed, untouched, mistake, error, type, mutation, count, shape, dtype, nan, pattern or value;
             check adds library, for the library's own answer
    message  for the student ("" if passed)
    mistake  the name of the mistake it was ("" if none)
    """

    kind: str
    message: str
    mistake: str = ""


@dataclass(frozen=True)
class Trial:
    """One set of inputs (in words, and its `traits`) and what the student's function and the reference made of it."""

    inputs: str
    got: Outcome
    want: Outcome
    seed: int
    index: int
    traits: tuple[tuple[int, str], ...] = ()


def try_out(exercise: Exercise, function: Callable[..., Any], seeds: Sequence[int] | None = None) -> list[Trial]:
    """Run `function` and the reference on the inputs of every seed; each gets its own fresh draw."""
    trials = []
    for seed in exercise.seeds if seeds is None else seeds:
        pristine, mine = exercise.draw(seed), exercise.draw(seed)
        expected = _outcomes(exercise, exercise.reference, seed)
        for i, untouched in enumerate(pristine):
            got = attempt(exercise, function, mine[i], untouched)
            want = expected[i]
            if want.outputs is None or want.changed:
                raise RuntimeError(f"the reference of {exercise.id} fails on seed {seed}, inputs {i}: {want.error}")
            words, kinds = describe_inputs(exercise, untouched), traits(exercise, untouched)
            trials.append(Trial(words, got, want, seed, i, kinds))
    return trials


class _Outcomes:
    """What one function makes of the inputs of a seed, each computed when it is first asked for."""

    def __init__(self, exercise: Exercise, function: Callable[..., Any], seed: int):
        self.exercise, self.function = exercise, function
        self.inputs, self.untouched = exercise.draw(seed), exercise.draw(seed)
        self.found: dict[int, Outcome] = {}

    def __getitem__(self, i: int) -> Outcome:
        if i not in self.found:
            self.found[i] = attempt(self.exercise, self.function, self.inputs[i], self.untouched[i])
        return self.found[i]


_KEPT = 100
_kept: OrderedDict[tuple[int, Callable[..., Any], int], _Outcomes] = OrderedDict()


def _outcomes(exercise: Exercise, function: Callable[..., Any], seed: int) -> _Outcomes:
    """Of the reference or a named mistake. The latest are kept: the next answer is compared with the very same ones.

    An entry holds its exercise, so that no other can have the same `id` while it is kept.
    """
    key = (id(exercise), function, seed)
    if key not in _kept:
        _kept[key] = _Outcomes(exercise, function, seed)
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def judge(exercise: Exercise, trials: Sequence[Trial]) -> Verdict:
    """The verdict on a list of trials: a function of what came back and nothing else."""
    wrong = [trial for trial in trials if not right(exercise, trial.got, trial.want)]
    if not wrong:
        return Verdict("passed", "")
    if all(trial.got.error is not None and trial.got.error.name == "NotImplementedError" for trial in trials):
        return Verdict("untouched", NOT_WRITTEN)
    named = _named_mistake(exercise, trials)
    if named is not None:
        return named
    for finder in (_error, _odd_value, _mutation, _count, _shape, _dtype, _not_a_number, _pattern):
        verdict = finder(exercise, wrong)
        if verdict is not None:
            break
    else:
        verdict = _first_difference(exercise, wrong)
    return replace(verdict, message=verdict.message + _scope(trials, wrong))


def _scope(trials: Sequence[Trial], wrong: Sequence[Trial]) -> str:
    """On how many inputs the answer is right, and what sets these apart from the others, if something does."""
    passed = [trial for trial in trials if not any(trial is other for other in wrong)]
    if not passed:
        return ""
    text = f" On {len(passed)} of the {len(trials)} sets of inputs it is right"
    sides = [("it is wrong wherever", _apart(wrong, passed)), ("those where", _apart(passed, wrong))]
    words, found = min(sides, key=lambda side: side[1][0][0] if side[1] else 9)
    same_rank = [trait for rank, trait in found if rank == found[0][0]]
    return f"{text}: {words} {' and '.join(same_rank[:2])}, and nowhere else." if found else f"{text}."


def _apart(some: Sequence[Trial], others: Sequence[Trial]) -> list[tuple[int, str]]:
    """The traits that all of `some` have and none of the others."""
    held = {trait for trial in others for trait in trial.traits}
    return [t for t in some[0].traits if t not in held and all(t in trial.traits for trial in some)]


def _named_mistake(exercise: Exercise, trials: Sequence[Trial]) -> Verdict | None:
    """The mistake whose outcomes agree with the student's on every input, edge cases included."""
    for mistake in exercise.mistakes:
        made = lambda trial, function=mistake.function: _outcomes(exercise, function, trial.seed)[trial.index]
        if all(alike(exercise, trial.got, made(trial)) for trial in trials):
            return Verdict("mistake", mistake.diagnosis, mistake.name)
    return None


def _error(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        if trial.got.error is not None:
            error = trial.got.error
            what = ": ".join(part for part in (error.name, _first_line(error.message)) if part)
            where = error.where or f" when it was called as {_call(exercise)},"
            return Verdict("error", f"Your function stopped{where} with {what} (inputs: {trial.inputs}).")
    return None


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "").rstrip(".")


def _call(exercise: Exercise) -> str:
    return f"`{exercise.reference.__name__}({', '.join(inspect.signature(exercise.reference).parameters)})`"


def _odd_value(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        if trial.got.odd == "None":
            return Verdict("type", "Your function returned None. Did you forget `return`?")
        if trial.got.odd:
            return Verdict("type", f"Your function returned {trial.got.odd}; expected {_wanted(trial.want)}.")
    return None


def _wanted(want: Outcome) -> str:
    if want.answer:
        return want.answer
    assert want.outputs is not None
    parts = ["a number" if p else f"a {describe(o)}" for o, p in zip(want.outputs, want.plain)]
    return parts[0] if len(parts) == 1 else "a tuple of " + ", ".join(parts)


def _mutation(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        if trial.got.changed:
            names = " and ".join(f"`{name}`" for name in trial.got.changed)
            return Verdict(
                "mutation",
                f"Your function writes into its argument {names}. Whoever calls it may still need the old values: "
                "make a new tensor (`a = a + b` rather than `a += b`, no methods that end in `_`).",
            )
    return None


def _count(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        got, want = trial.got.outputs or (), trial.want.outputs or ()
        if len(got) != len(want):
            return Verdict(
                "count",
                f"Your function returned {len(got)} values; expected {len(want)}: {_wanted(trial.want)}.",
            )
    return None


def _parts(trial: Trial) -> list[tuple[str, Tensor, Tensor, bool]]:
    """(a name for the value, got, want, is a Python number wanted?) for each value returned."""
    got, want = trial.got.outputs or (), trial.want.outputs or ()
    names = ["Your result"] if len(want) == 1 else [f"Value {i + 1} of your result" for i in range(len(want))]
    return list(zip(names, got, want, trial.want.plain))


def _shape(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        for name, got, want, _ in _parts(trial):
            if got.shape != want.shape:
                shapes = f"has shape {tuple(got.shape)}, expected {tuple(want.shape)}"
                return Verdict("shape", f"{name} {shapes} (inputs: {trial.inputs}).")
    return None


def _dtype(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        for (name, got, want, is_number), got_number in zip(_parts(trial), trial.got.plain):
            if got_number and not is_number:
                return Verdict("type", f"{name} is a Python number, expected a {describe(want)}.")
            if got.dtype != want.dtype and (not is_number or got.is_complex()):
                types = f"is {_short(got.dtype)}, expected {_short(want.dtype)}"
                return Verdict("dtype", f"{name} {types}: keep the type of the inputs (inputs: {trial.inputs}).")
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _not_a_number(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    for trial in wrong:
        for name, got, want, _ in _parts(trial):
            bad = int((~torch.isfinite(got) & torch.isfinite(want)).sum())
            if bad:
                what = "NaN" if bool(torch.isnan(got).any()) else "infinite"
                return Verdict("nan", f"{name} is {what} in {bad} of {got.numel()} places (inputs: {trial.inputs}).")
    return None


def _pattern(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict | None:
    """Every wrong result is the right one times one factor, or plus one number, or its values are swapped."""
    if all(_swapped(exercise, trial) for trial in wrong):
        return Verdict("pattern", "The values are right, but they come back in the wrong order.")
    got = torch.cat([g.double().flatten() for t in wrong for _, g, _, _ in _parts(t)])
    want = torch.cat([w.double().flatten() for t in wrong for _, _, w, _ in _parts(t)])
    if want.numel() < 2:
        return None
    factor = float((got @ want) / (want @ want)) if float(want @ want) > 0 else 0.0
    scale, gap = float(want.abs().max()), float((got - want).abs().max())
    # A pattern must explain the difference: a result that is almost right is not "1 × the expected one".
    explains = lambda pattern: float((got - pattern).abs().max()) <= 0.05 * gap
    if torch.allclose(got, factor * want, rtol=1e-3, atol=1e-4 * scale) and explains(factor * want):
        if abs(factor) < 1e-6:
            return Verdict("pattern", "Your result is zero, and should not be.")
        if abs(factor + 1) < 1e-3:
            return Verdict("pattern", "Your result has the wrong sign: it is −1 × the expected one.")
        return Verdict(
            "pattern",
            f"Your result is {factor:.4g} × the expected one: look for a constant factor.",
        )
    offset = float((got - want).mean())
    near = torch.allclose(got, want + offset, rtol=1e-4, atol=1e-4 * max(scale, abs(offset)))
    if near and explains(want + offset):
        return Verdict("pattern", f"Your result is the expected one {offset:+.4g}: look for a constant term.")
    return None


def _swapped(exercise: Exercise, trial: Trial) -> bool:
    got = trial.got
    if got.outputs is None or len(got.outputs) < 2:
        return False
    return close(exercise, Outcome(outputs=got.outputs[::-1], plain=got.plain[::-1]), trial.want)


def _first_difference(exercise: Exercise, wrong: Sequence[Trial]) -> Verdict:
    """The first inputs and the first place there at which the answer parts from the expected one."""
    for trial in wrong:
        for name, got, want, _ in _parts(trial):
            if got.shape != want.shape or not got.numel():
                continue
            mine, theirs = got.double().flatten(), want.double().flatten()
            off = ~torch.isclose(mine, theirs, rtol=exercise.rtol, atol=exercise.atol, equal_nan=True)
            if not bool(off.any()):
                continue
            i, worst = int(off.nonzero()[0]), float((mine - theirs).abs().nan_to_num(0.0).max())
            numbers = _told_apart(float(mine[i]), float(theirs[i]))
            if not got.ndim:
                return Verdict("value", f"{name} is {numbers}, for the inputs {trial.inputs}.")
            place = [int(k) for k in torch.unravel_index(torch.tensor(i), got.shape)]
            many = f"{name} is off in {int(off.sum())} of {got.numel()} places, by up to {worst:.3g}"
            return Verdict("value", f"{many}. First at {place}: {numbers}, for the inputs {trial.inputs}.")
    return Verdict("value", "Your result differs from the expected one.")


def _told_apart(got: float, want: float) -> str:
    """Both numbers, with as many digits as it takes to see that they differ."""
    for digits in range(5, 17):
        if f"{got:.{digits}g}" != f"{want:.{digits}g}":
            break
    return f"{got:.{digits}g} instead of {want:.{digits}g}"
