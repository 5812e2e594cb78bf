"""`minidiff check NN_topic`: are a chapter's checks themselves right? Authors run it before anybody else does."""

from collections.abc import Sequence

from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import Exercise
from minidiff.course.outcome import attempt, close

FRESH_SEEDS = (1000, 1001, 1002)  # not the public ones: a grader will draw others too


def audit(exercise: Exercise, seeds: Sequence[int] | None = None) -> list[str]:
    """Everything that is wrong with one exercise, as sentences; an empty list if all is well.

    The reference and every alternative must pass, every mistake must get its own diagnosis, and `draw` must be pure;
    each on the public seeds and on fresh ones.
    """
    seeds = (*exercise.seeds, *FRESH_SEEDS) if seeds is None else seeds
    problems = [f"draw gives other inputs when it is called again (seed {s})" for s in seeds if not _pure(exercise, s)]
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


def _pure(exercise: Exercise, seed: int) -> bool:
    first, second, third = exercise.draw(seed), exercise.draw(seed), exercise.draw(seed)
    if len(first) != len(second) or not first:
        return False
    one = [attempt(exercise, exercise.reference, a, b) for a, b in zip(first, third)]
    two = [attempt(exercise, exercise.reference, a, b) for a, b in zip(second, third)]
    return all(close(exercise, a, b) and not a.changed and not b.changed for a, b in zip(one, two))
