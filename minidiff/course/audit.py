"""`minidiff check NN_topic`: are a chapter's checks themselves right? Authors run it before anybody else does."""

import importlib
from collections.abc import Sequence

from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import Exercise
from minidiff.course.outcome import close
from minidiff.values import same

FRESH_SEEDS = (1000, 1001, 1002)  # not the public ones: a grader will draw others too


def audit(exercise: Exercise, seeds: Sequence[int] | None = None) -> list[str]:
    """Everything that is wrong with one exercise, as sentences; an empty list if all is well.

    The reference and every alternative must pass, every mistake must get its own diagnosis, and `draw` must be pure;
    each on the public seeds and on fresh ones.
    """
    seeds = (*exercise.seeds, *FRESH_SEEDS) if seeds is None else seeds
    unknown = [f"the library has no {name}, which shortcuts names" for name in exercise.shortcuts if not _exists(name)]
    problems = unknown + [problem for s in seeds for problem in _foundation(exercise, s)]
    if problems:
        return problems  # nothing else can be judged then
    for group in ([s] for s in seeds):
        for number, function in enumerate((exercise.reference, *exercise.alternatives)):
            verdict = judge(exercise, try_out(exercise, function, group))
            if verdict.kind != "passed":
                name = "the reference" if number == 0 else f"alternative {number}"
                problems.append(f"{name} is rejected on seed {group[0]}: {verdict.message}")
        for mistake in exercise.mistakes:
            verdict = judge(exercise, try_out(exercise, mistake.function, group))
            if verdict.mistake != mistake.name:
                taken = (
                    "accepted as right" if verdict.kind == "passed" else f"taken for {verdict.mistake or verdict.kind}"
                )
                problems.append(f'mistake "{mistake.name}" is {taken} on seed {group[0]}')
    return problems


def _exists(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError):
        return False


def _foundation(exercise: Exercise, seed: int) -> list[str]:
    """Are there inputs, the same at every draw, and does the reference answer them?"""
    inputs = exercise.draw(seed)
    if not inputs:
        return [f"draw gives no inputs (seed {seed})"]
    impure = [f"draw gives other inputs when it is called again (seed {seed})"]
    if not same(inputs, exercise.draw(seed)):
        return impure
    try:
        first, second = (try_out(exercise, exercise.reference, [seed]) for _ in range(2))
    except RuntimeError as error:
        return [f"{error}: {error.__cause__ or 'it changes its arguments or returns no tensor'}"]
    # Inputs that are functions show their numbers only in the reference's results.
    for one, two in zip(first, second):
        if not all(close(exercise, one.got, other) for other in (one.want, two.got, two.want)):
            return impure
    return []
