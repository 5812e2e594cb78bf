"""`minidiff build`: the same bytes every time, clear words for a bad master, nothing of a solution in an exercise."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch

from minidiff.cli import main
from minidiff.course import exercise, masters
from minidiff.course.build import build, find_root, plan, stale
from minidiff.course.exercise import Exercise, Mistake, chapters
from minidiff.course.masters import MasterError

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*.py"))
FIRST = "98-double"
META = '"schema_version": 3, "grade": {}, "grade_id": "{}", "locked": {}, {}"solution": {}, "task": false'
ANSWER_META = "# %% nbgrader={" + META.format("false", FIRST, "false", "", "true") + "}"
CHECK_META = "# %% nbgrader={" + META.format("true", f"{FIRST}-check", "true", '"points": 3, ', "false") + "}"


def double(x, times):
    return x * 2**times


DOUBLE = Exercise(
    id=FIRST,
    title="Twice as much",
    points=3,
    difficulty=1,
    importance=2,
    minutes=4,
    draw=lambda seed: [(torch.arange(3.0) + seed, 2)],
    reference=double,
    mistakes=tuple(Mistake(f"plus-{n}", lambda x, times, n=n: x + n, "You added a number.") for n in range(1, 4)),
    alternatives=(lambda x, times: x * 4,),
    hints=("one", "two", "three"),
    expected="4",
    trap="none",
)

MASTER = f"""# %% [markdown]
# # Exercises 98
#
# {masters.NOTICE}

# %%
from minidiff.course import check, hint

# %% [markdown]
# ## Exercise 98.1: Twice as much
#
# {DOUBLE.facts()}


{ANSWER_META}
def double(x: float, times: int) -> float:
    ### BEGIN SOLUTION
    return x * 2**times
    ### END SOLUTION


{CHECK_META}
result = check("{FIRST}", double)
checked_double = result.use
result

# %%
# hint("{FIRST}")
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small copy of the course: one master and one lesson."""
    monkeypatch.setattr(masters, "chapters", lambda: ["98_sample"])
    monkeypatch.setattr(masters, "load_chapter", {"98_sample": (DOUBLE,)}.__getitem__)
    (tmp_path / "pyproject.toml").touch()
    for folder in ("notebooks", "solutions"):
        (tmp_path / folder).mkdir()
    (tmp_path / "solutions" / "98_sample.py").write_text(MASTER, encoding="utf-8")
    lesson = '# %% [markdown]\n# # A lesson with Greek: ∇ log p(x|y)\n\n# %% tags=["a"]\nx = 1\n\n# %%\nprint(x)\n'
    (tmp_path / "notebooks" / "07_lesson.py").write_text(lesson, encoding="utf-8")
    return tmp_path


def test_the_notebooks_in_the_repository_are_up_to_date():
    assert stale(ROOT) == []


def test_every_chapter_with_checks_has_a_master():
    assert chapters() == [path.stem for path in SOLUTIONS]


def test_building_twice_writes_the_same_bytes(clone):
    first = build(clone)
    assert [str(path.relative_to(clone)) for path in first] == [
        "notebooks/07_lesson.ipynb",
        "solutions/98_sample.ipynb",
        "exercises/98_sample.ipynb",
    ]
    before = {path: path.read_bytes() for path in first}
    assert build(clone) == [], "nothing changed, so nothing is written"
    for path in first:
        path.unlink()
    build(clone)
    assert {path: path.read_bytes() for path in first} == before
    assert sorted(p.name for p in clone.rglob("*.part")) == []


def test_a_built_notebook_is_valid_plain_and_empty_of_results(clone):
    for path in build(clone):
        text = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        assert text.endswith("}\n")
        assert not text.endswith("\n\n")
        assert notebook.metadata.kernelspec.name == "python3"
        ids = [cell.id for cell in notebook.cells]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", i) for i in ids)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
        assert "lines_to_next_cell" not in text
    lesson = json.loads((clone / "notebooks" / "07_lesson.ipynb").read_text(encoding="utf-8"))
    assert lesson["cells"][1]["metadata"] == {"tags": ["a"]}
    assert [cell["id"] for cell in lesson["cells"]] == ["07-lesson-000", "07-lesson-001", "07-lesson-002"]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_no_solution_is_left_in_the_exercises(path):
    texts = plan(ROOT, [path.stem])
    student = nbformat.reads(texts[ROOT / "exercises" / f"{path.stem}.ipynb"], as_version=4)
    regions = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", path.read_text(encoding="utf-8"), re.DOTALL)
    assert regions
    for region in regions:
        lines = [line.strip() for line in region.splitlines() if len(line.strip()) > 12]
        assert lines
        for cell in student.cells:
            if cell.metadata.get("nbgrader", {}).get("solution"):
                assert not [line for line in lines if line in cell.source]
                assert "raise NotImplementedError()" in cell.source
    assert not any("BEGIN SOLUTION" in cell.source or "END SOLUTION" in cell.source for cell in student.cells)


def test_stale_missing_and_orphaned_notebooks_are_named(clone):
    assert len(stale(clone)) == 3
    build(clone)
    assert stale(clone) == []
    lesson = clone / "notebooks" / "07_lesson.ipynb"
    lesson.write_text(lesson.read_text(encoding="utf-8").replace("x = 1", "x = 2"), encoding="utf-8")
    (clone / "exercises" / "98_sample.ipynb").unlink()
    shutil.copy(lesson, clone / "notebooks" / "08_old.ipynb")
    assert stale(clone) == [
        "notebooks/07_lesson.ipynb: out of date",
        "exercises/98_sample.ipynb: missing",
        "notebooks/08_old.ipynb: no script makes it",
    ]


def broken(*changes):
    """The worked example with each (old, new) replaced once."""
    text = MASTER
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


FACTS, POINTS = f"# {DOUBLE.facts()}", '"points": 3'
BAD = {
    "no points": ([(f"{POINTS}, ", "")], "lack the points"),
    "other points": ([(POINTS, '"points": 7')], f'cell "{FIRST}-check" says 7 points'),
    "negative points": ([(POINTS, '"points": -1')], "nbgrader does not accept its metadata"),
    "duplicate id": ([(f'"{FIRST}-check"', f'"{FIRST}"')], f'grade_id "{FIRST}" is used 2 times'),
    "no schema": ([('"schema_version": 3, ', "")], "nbgrader does not accept its metadata"),
    "no END": ([("    ### END SOLUTION\n", "")], "has 1 ### BEGIN SOLUTION and 0 ### END SOLUTION"),
    "no BEGIN": ([("    ### BEGIN SOLUTION\n", "")], "has 0 ### BEGIN SOLUTION and 1 ### END SOLUTION"),
    "not indented": ([("    ### BEGIN SOLUTION", "### BEGIN SOLUTION")], "needs an indented ### BEGIN SOLUTION"),
    "not a solution": (
        [(ANSWER_META, ANSWER_META.replace('"solution": true', '"solution": false'))],
        'say "solution": true',
    ),
    "no metadata": ([(ANSWER_META, "# %%")], "holds a solution"),
    "other name": ([("def double(", "def twice(")], "must define double(x, times)"),
    "other argument": ([("(x: float", "(a: float")], "must define double(x, times)"),
    "no check": ([(f'check("{FIRST}", double)', "None")], f'must call check("{FIRST}", double)'),
    "no result": ([("\nresult\n", "\nassert result.passed\n")], 'must end with the line "result"'),
    "no facts": ([(FACTS, "#")], "put this line under its heading: Difficulty"),
    "other title": ([("98.1: Twice", "98.1: Thrice")], "no heading"),
    "unlocked": ([(CHECK_META, CHECK_META.replace('"locked": true', '"locked": false'))], '"locked": true'),
    "cell between": ([(CHECK_META, "# %%\nx = 1\n\n" + CHECK_META)], "must be its check"),
}


@pytest.mark.parametrize(("changes", "text"), BAD.values(), ids=BAD.keys())
def test_a_bad_master_is_named_with_its_file_and_nothing_is_written(clone, changes, text, capsys):
    path = clone / "solutions" / "98_sample.py"
    path.write_text(broken(*changes), encoding="utf-8")
    with pytest.raises(MasterError) as caught:
        build(clone)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)
    assert list(clone.rglob("*.ipynb")) == []
    assert main(["build", "--root", str(clone)]) == 2
    assert text in capsys.readouterr().err


def test_a_master_that_does_not_say_what_is_graded(clone):
    path = clone / "solutions" / "98_sample.py"
    path.write_text(MASTER.replace(masters.NOTICE, ""), encoding="utf-8")
    with pytest.raises(MasterError, match="the first cell lacks the notice"):
        build(clone)


def test_a_question_that_a_person_marks_needs_no_exercise(clone):
    path = clone / "solutions" / "98_sample.py"
    meta = META.format("true", "98-in-words", "false", '"points": 2, ', "true")
    path.write_text(MASTER + f"\n# %% [markdown] nbgrader={{{meta}}}\n# Why twice?\n", encoding="utf-8")
    (written,) = [p for p in build(clone) if p.parent.name == "exercises"]
    assert "98-in-words" in [cell.id for cell in nbformat.read(written, as_version=4).cells]


def test_an_exercise_without_cells_and_a_cell_without_exercise(clone):
    path = clone / "solutions" / "98_sample.py"
    path.write_text(MASTER.replace(f'"{FIRST}', '"98-something-else'), encoding="utf-8")
    with pytest.raises(MasterError) as caught:
        build(clone)
    assert f'exercise "{FIRST}" has no answer cell' in str(caught.value)
    assert 'cell "98-something-else" belongs to no exercise' in str(caught.value)


def test_all_bad_masters_are_named_at_once(clone):
    (clone / "solutions" / "03_other.py").write_text("# %%\nx = 1\n", encoding="utf-8")
    (clone / "solutions" / "98_sample.py").write_text(broken(("    ### END SOLUTION\n", "")), encoding="utf-8")
    with pytest.raises(MasterError) as caught:
        build(clone)
    assert [path.stem for path in caught.value.problems] == ["03_other", "98_sample"]


def test_a_master_without_checks(clone):
    (clone / "solutions" / "03_unknown.py").write_text("# %%\nx = 1\n", encoding="utf-8")
    with pytest.raises(MasterError, match=r"no module minidiff/course/checks/03_unknown\.py"):
        build(clone)


def test_nbgrader_refuses_what_validation_lets_through(clone):
    # The stripping itself is nbgrader's; its errors come out as ours.
    path = clone / "solutions" / "98_sample.py"
    notebook = masters.read(path)
    cell = next(c for c in notebook.cells if c.id == FIRST)
    cell.source = cell.source.replace("### END SOLUTION", "")
    with pytest.raises(MasterError, match="nbgrader's ClearSolutions: no end solution"):
        masters.strip(path, notebook)


def test_the_command(clone, capsys, monkeypatch):
    assert main(["build", "--check", "--root", str(clone)]) == 1
    out, err = capsys.readouterr()
    assert "solutions/98_sample.ipynb: missing" in out
    assert "minidiff build" in err
    monkeypatch.chdir(clone / "notebooks")
    assert main(["build", "07_lesson"]) == 0
    assert capsys.readouterr().out == "wrote notebooks/07_lesson.ipynb\n"
    assert main(["build"]) == 0
    assert main(["build"]) == 0
    assert capsys.readouterr().out.endswith("every notebook is up to date\n")
    assert main(["build", "--check"]) == 0
    assert main(["build", "09_nothing"]) == 2
    assert "name: got '09_nothing', expected one of ['07_lesson', '98_sample']" in capsys.readouterr().err


def test_without_the_development_tools_the_command_says_what_to_install(clone, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert main(["build", "--root", str(clone)]) == 2
    assert "jupytext" in (err := capsys.readouterr().err)
    assert 'pip install -e ".[dev]"' in err


def test_the_root_is_found_from_below_or_missed_clearly(clone, tmp_path_factory):
    assert find_root(clone / "solutions") == clone
    with pytest.raises(ValueError, match="root: got"):
        find_root(tmp_path_factory.mktemp("elsewhere"))


def test_the_check_command(capsys, monkeypatch):
    plus = tuple(Mistake(f"plus-{n}", lambda x, times, n=n: x + n, "You added a number.") for n in range(1, 4))
    chapter = (DOUBLE, replace(DOUBLE, id="98-same", mistakes=(*plus[:2], Mistake("right", double, "Not a mistake."))))
    monkeypatch.setattr(exercise, "chapters", lambda: ["98_sample"])
    monkeypatch.setattr(exercise, "load_chapter", {"98_sample": chapter}.__getitem__)
    assert main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ok", "98-double:", "3", "mistakes", "named"]
    assert lines[1].startswith("FAIL 98-same")
    assert lines[2].strip() == 'mistake "right" is accepted as right on seed 0'
    monkeypatch.undo()
    assert main(["check", "77_nothing"]) == 2
    assert "chapter: got '77_nothing', expected one of" in capsys.readouterr().err
