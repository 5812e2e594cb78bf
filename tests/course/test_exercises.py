"""Every chapter's checks: right answers pass, each named mistake gets its own diagnosis, on public and fresh seeds."""

import importlib
import inspect
from pathlib import Path

import pytest

from minidiff.course import audit, check, checks
from minidiff.course.audit import FRESH_SEEDS
from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import Exercise, chapters, find, load_chapter

EXERCISES = [exercise for name in chapters() for exercise in load_chapter(name)]
MISTAKES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.mistakes]


def named(value):
    return getattr(value, "id", None) or getattr(value, "name", None)


@pytest.fixture(params=EXERCISES, ids=named)
def exercise(request):
    return request.param


def test_chapters_are_found():
    assert "01_bayes_rule" in chapters()
    ids = [exercise.id for exercise in EXERCISES]
    assert len(set(ids)) == len(ids) >= len(chapters())
    assert all(find(i).id == i for i in ids)


def own_exercises(file):
    """The exercises that a file of checks defines (the name of its folder begins with a digit, so no `import`)."""
    module = importlib.import_module(f"{checks.__name__}.{file.parent.name}.{file.stem}")
    return [value for value in vars(module).values() if isinstance(value, Exercise)]


def test_every_file_of_a_chapter_holds_the_exercise_it_is_named_after():
    folder = Path(checks.__path__[0])
    files = sorted(path for path in folder.glob("*/*.py") if not path.stem.startswith("_"))
    found = [(file, exercise) for file in files for exercise in own_exercises(file)]
    assert [file for file, _ in found] == files, "exactly one a file"
    for file, exercise in found:
        assert exercise.id == f"{file.parent.name[:2]}-{file.stem.replace('_', '-')}"
    assert {exercise.id for _, exercise in found} == {exercise.id for exercise in EXERCISES}
    assert own_exercises(folder / chapters()[0] / "__init__.py") == [], "control"


def test_a_file_of_checks_is_read_in_one_go():
    files = list(Path(checks.__path__[0]).rglob("*.py"))
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(files) > len(EXERCISES)
    assert {path: n for path, n in lengths.items() if n > 200} == {}


def test_the_reference_and_every_alternative_pass(exercise):
    for function in (exercise.reference, *exercise.alternatives):
        result = check(exercise.id, function)
        assert result.passed, result.message
        assert result.score == exercise.points
        assert result.use is function


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES, ids=named)
def test_every_mistake_gets_its_own_diagnosis(exercise, mistake):
    result = check(exercise.id, mistake.function)
    assert (result.passed, result.score, result.mistake) == (False, 0.0, mistake.name), result.message
    assert mistake.diagnosis in result.message


@pytest.mark.stress  # `make test` has the secret seeds of grading/test_fairness.py
@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES, ids=named)
def test_every_mistake_gets_its_own_diagnosis_on_every_fresh_seed(exercise, mistake):
    for seed in FRESH_SEEDS:
        verdict = judge(exercise, try_out(exercise, mistake.function, [seed]))
        assert verdict.mistake == mistake.name, f"seed {seed}: {verdict}"


def test_drawing_twice_gives_the_same_inputs(exercise):
    # Seen through the reference, as inputs may be functions: a second draw must give the same right answers.
    assert audit._foundation(exercise, exercise.seeds[0]) == []


def test_untouched_answers_are_met_calmly(exercise):
    def untouched(*args, **kwargs):
        raise NotImplementedError

    result = check(exercise.id, untouched)
    assert (result.kind, result.score) == ("untouched", 0.0)
    assert "Not written yet" in result.message


def test_texts_are_there(exercise):
    texts = [mistake.diagnosis for mistake in exercise.mistakes]
    assert len(set(texts)) == len(texts), "two mistakes share a diagnosis"
    assert all(len(text.split()) >= 8 for text in texts), "a diagnosis says what was done and what to do instead"
    assert len(set(exercise.hints)) == 3
    assert any(character.isdigit() for character in exercise.expected), "expected names a number"
    assert inspect.isfunction(exercise.reference), "its name and arguments appear in messages"
    assert exercise.reference.__name__ != "<lambda>"
