"""`minidiff build`: the same bytes every time, clear words for a bad master, nothing of a solution in an exercise."""

import contextlib
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
from minidiff.course import checks, exercise, masters
from minidiff.course.build import build, find_root, plan, stale
from minidiff.course.exercise import Exercise, Experiment, Mistake, chapters, facts
from minidiff.course.masters import MasterError

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*.py"))
FIRST = "98-double"


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
# ## Exercise {FIRST}
#
# **Predict first.** What is twice 2?


# %% answer="{FIRST}"
def double(x: float, times: int) -> float:
    ### BEGIN SOLUTION
    return x * 2**times
    ### END SOLUTION


# %% [markdown]
# **Use it.**

# %%
assert checked_double(2, 1) == 4
"""
IN_WORDS = """
# %% [markdown] nbgrader={"schema_version": 3, "grade": true, "grade_id": "98-in-words", "locked": false, "points": 2, \
"solution": true, "task": false}
# Why twice?
""".replace("\\\n", "")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small copy of the course: one master and one lesson."""
    monkeypatch.setattr(masters, "chapters", lambda: ["98_sample"])
    monkeypatch.setattr(masters, "load_chapter", {"98_sample": (DOUBLE,)}.__getitem__)
    monkeypatch.setattr(masters, "load_experiments", lambda name: ())
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


EDITORS = {  # what editors make of the same script
    "a byte-order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "the line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "both": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
    "the line ends of old Macs": lambda text: text.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("script", ["notebooks/07_lesson.py", "solutions/98_sample.py"])
@pytest.mark.parametrize("edited", EDITORS.values(), ids=EDITORS.keys())
def test_the_same_script_from_another_editor_makes_the_same_notebook(clone, script, edited):
    build(clone)
    before = {path: path.read_bytes() for path in clone.rglob("*.ipynb")}
    text = (clone / script).read_text(encoding="utf-8")
    (clone / script).write_bytes(edited(text))
    assert build(clone) == []
    (clone / script).write_bytes(edited(text.replace("x", "y")))  # the control: another script
    with contextlib.suppress(MasterError):  # a master's function no longer has the argument x
        assert build(clone)
        assert {path: path.read_bytes() for path in clone.rglob("*.ipynb")} != before


def test_a_script_that_is_not_utf8_is_named_with_the_others(clone):
    (clone / "notebooks" / "07_lesson.py").write_bytes("# %% [markdown]\n# é\n".encode("cp1252"))
    (clone / "solutions" / "98_sample.py").write_bytes("# %%\n".encode("utf-16"))
    with pytest.raises(MasterError) as caught:
        build(clone)
    assert [path.name for path in caught.value.problems] == ["07_lesson.py", "98_sample.py"]
    assert str(caught.value).count("it is not UTF-8 ('utf-8' codec can't decode byte") == 2


def test_notebooks_with_the_line_ends_of_windows_are_up_to_date(clone):
    build(clone)
    lesson = clone / "notebooks" / "07_lesson.ipynb"
    lesson.write_bytes(lesson.read_bytes().replace(b"\n", b"\r\n"))
    assert stale(clone) == []
    lesson.write_bytes(lesson.read_bytes().replace(b"\r\n", b"\r\n "))  # the control
    assert stale(clone) == ["notebooks/07_lesson.ipynb: out of date"]


@pytest.mark.parametrize("arguments", [[], ["--check"], ["07_lesson"]], ids=" ".join)
def test_a_root_that_is_no_clone_is_refused(tmp_path, capsys, arguments):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    for root in (tmp_path / "nonexistent", tmp_path, tmp_path / "pyproject.toml"):
        assert main(["build", *arguments, "--root", str(root)]) == 2
        assert f"root: got {root}, expected a clone of the course" in capsys.readouterr().err


def test_no_names_are_not_all_names(clone):
    assert plan(clone, []) == {}
    assert len(plan(clone)) == 3


ENDING = "assert checked_double(2, 1) == 4\n"


def broken(*changes):
    """The worked example with each (old, new) replaced once."""
    text = MASTER
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


HEADING, ANSWER = f"# ## Exercise {FIRST}", f'# %% answer="{FIRST}"'
PLAIN = (
    '# %% nbgrader={"schema_version": 3, "grade": false, "grade_id": "98-double", "locked": false, "solution": true}'
)
BAD = {
    "no heading": ([(HEADING, "#")], f'exercise "{FIRST}" has no heading: write `## Exercise {FIRST}`'),
    "no answer": ([(ANSWER, "# %%")], f'exercise "{FIRST}" has no answer: write `# %% answer="{FIRST}"`'),
    "two headings": ([(HEADING, f"{HEADING}\n#\n{HEADING}")], f'exercise "{FIRST}" has 2 headings'),
    "two answers": ([("# %%\nassert", f"{ANSWER}\nassert")], f'exercise "{FIRST}" has 2 answers'),
    "unknown heading": ([(HEADING, f"{HEADING}\n# ## Exercise 98-triple")], 'heading "98-triple": no exercise of the'),
    "unknown answer": ([("# %%\nassert", '# %% answer="98-triple"\nassert')], 'answer "98-triple": no exercise of the'),
    "an answer that is no text": ([("# %%\nassert", "# %% answer=[1]\nassert")], "no exercise of the chapter"),
    "an answer in Markdown": (
        [(ANSWER, f'# %% [markdown] answer="{FIRST}"')],
        f'cell "{FIRST}": an answer to an exercise is a code cell',
    ),
    "heading after the answer": (
        [(HEADING, "#"), ("# **Use it.**", HEADING)],
        "EXERCISES has the order ['98-double'], each heading before its answer",
    ),
    "no END": ([("    ### END SOLUTION\n", "")], "has 1 ### BEGIN SOLUTION and 0 ### END SOLUTION"),
    "no BEGIN": ([("    ### BEGIN SOLUTION\n", "")], "has 0 ### BEGIN SOLUTION and 1 ### END SOLUTION"),
    "END before BEGIN": (
        [("### BEGIN SOLUTION", "### x"), ("### END SOLUTION", "### BEGIN SOLUTION"), ("### x", "### END SOLUTION")],
        "### END SOLUTION comes before ### BEGIN SOLUTION",
    ),
    "no solution": ([("    ### BEGIN SOLUTION\n", ""), ("    ### END SOLUTION\n", "")], "needs an indented ### BEGIN"),
    "not indented": ([("    ### BEGIN SOLUTION", "### BEGIN SOLUTION")], "needs an indented ### BEGIN SOLUTION"),
    "a solution elsewhere": ([(ANSWER, "# %%")], 'it holds a solution: mark it as `# %% answer="ID"`'),
    "other name": ([("def double(", "def twice(")], "must define double(x, times)"),
    "other argument": ([("(x: float", "(a: float")], "must define double(x, times)"),
    "no Python": ([("def double(", "def double((")], "must define double(x, times)"),
    # What `minidiff build` makes, spelt out by the author:
    "a numbered heading": ([(HEADING, "# ## Exercise 98.1: Twice as much")], "a numbered heading is generated"),
    "a line of facts": ([(HEADING, f"{HEADING}\n#\n# {facts(DOUBLE)}")], "a line of facts is generated"),
    "a check cell": ([("assert", f'result = check("{FIRST}", double)\nassert')], "a check cell is generated"),
    "a hint cell": ([("assert", f'# hint("{FIRST}")\nassert')], "a hint cell is generated"),
    "metadata": ([(ANSWER, PLAIN)], f'cell "{FIRST}": metadata for nbgrader are generated'),
    "metadata too": ([(ANSWER, PLAIN.replace("# %%", ANSWER))], "metadata for nbgrader are generated"),
    # What a person marks keeps its metadata:
    "no points": ([(ENDING, ENDING + IN_WORDS.replace('"points": 2, ', ""))], "does not have points"),
    "negative points": (
        [(ENDING, ENDING + IN_WORDS.replace('s": 2', 's": -1'))],
        "nbgrader does not accept its metadata",
    ),
    "no schema": ([(ENDING, ENDING + IN_WORDS.replace('"schema_version": 3, ', ""))], "nbgrader does not accept its"),
    "the same id twice": ([(ENDING, ENDING + IN_WORDS + IN_WORDS)], 'grade_id "98-in-words" is used 2 times'),
    "an exercise's id": (
        [(ENDING, ENDING + IN_WORDS.replace("98-in-words", f"{FIRST}-check"))],
        f'grade_id "{FIRST}-check" is used 2 times',
    ),
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
    path.write_text(MASTER + IN_WORDS, encoding="utf-8")
    (written,) = [p for p in build(clone) if p.parent.name == "exercises"]
    assert "98-in-words" in [cell.id for cell in nbformat.read(written, as_version=4).cells]


OPEN = Experiment(id="98-why", title="Why twice?", points=2, difficulty=5, importance=3, minutes=30)
WHY = """
# %% [markdown]
# ## Exercise 98-why
#
# Find out.

# %% [markdown] answer="98-why"
# Since two is even.
"""


@pytest.fixture
def with_experiment(clone, monkeypatch):
    monkeypatch.setattr(masters, "load_experiments", {"98_sample": (OPEN,)}.__getitem__)
    (clone / "solutions" / "98_sample.py").write_text(MASTER + WHY, encoding="utf-8")
    return clone


def test_an_open_experiment_comes_after_the_exercises_and_a_person_marks_it(with_experiment):
    question, answer = built(with_experiment)[-2:]
    title = "## Open experiment 98.2: Why twice?"
    line = "Difficulty ●●●●● · Importance ●●●○○ · 30 minutes · 2 points, marked by a person · `98-why`"
    assert question.source == f"{title}\n\n{line}\n\nFind out."
    wanted = {"grade": True, "grade_id": "98-why", "locked": False, "points": 2, "solution": True, "task": False}
    assert answer.metadata == {"nbgrader": {"schema_version": 3, **wanted}}
    assert (answer.cell_type, answer.source) == ("markdown", "Since two is even.")
    handed_out = built(with_experiment, "exercises")[-1]
    assert "even" not in handed_out.source
    assert "YOUR ANSWER HERE" in handed_out.source


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('%% [markdown] answer="98-why"\n# Since', '%% answer="98-why"\n# Since', "an experiment is a markdown cell"),
        ("# Since two is even.\n", "", 'cell "98-why" needs a model answer'),
        ("# ## Exercise 98-why", "#", 'exercise "98-why" has no heading'),
    ],
    ids=["code", "no model answer", "no heading"],
)
def test_a_bad_experiment_is_named(with_experiment, old, new, text):
    assert old in MASTER + WHY
    (with_experiment / "solutions" / "98_sample.py").write_text((MASTER + WHY).replace(old, new), encoding="utf-8")
    with pytest.raises(MasterError) as caught:
        build(with_experiment)
    assert text in str(caught.value)


def built(clone, folder="solutions"):
    build(clone)
    return nbformat.read(clone / folder / "98_sample.ipynb", as_version=4).cells


def test_the_cells_of_an_exercise_are_made_from_it(clone):
    first, imports, text, answer, check, stuck, hint, *rest = built(clone)
    assert text.source == f"## Exercise 98.1: Twice as much\n\n{facts(DOUBLE)}\n\n**Predict first.** What is twice 2?"
    metadata = {
        "schema_version": 3,
        "grade": False,
        "grade_id": FIRST,
        "locked": False,
        "solution": True,
        "task": False,
    }
    assert answer.metadata == {"nbgrader": metadata}
    assert answer.id == FIRST
    locked = {"grade": True, "grade_id": f"{FIRST}-check", "locked": True, "points": 3, "solution": False}
    assert check.metadata == {"nbgrader": metadata | locked}
    assert check.id == f"{FIRST}-check"
    assert check.source == f'result = check("{FIRST}", double)\nchecked_double = result.use\nresult'
    assert stuck.source.startswith("Stuck?")
    assert hint.source == f'# hint("{FIRST}")'
    assert hint.cell_type == check.cell_type == "code"
    assert [cell.source for cell in rest] == ["**Use it.**", "assert checked_double(2, 1) == 4"]
    assert [first.id, imports.id, text.id, hint.id] == [f"98-sample-00{k}" for k in (0, 1, 2, 6)]


@pytest.mark.parametrize(
    ("changes", "position", "old", "new"),
    [
        ({"title": "Thrice"}, 2, "98.1: Twice as much", "98.1: Thrice"),
        ({"minutes": 40}, 2, " 4 minutes", " 40 minutes"),
        ({"points": 7}, 2, "3 points", "7 points"),
        ({"points": 7}, 4, '"points": 3', '"points": 7'),
    ],
    ids=["title", "minutes", "points", "points of the check"],
)
def test_another_exercise_makes_another_cell_and_no_other_changes(clone, monkeypatch, changes, position, old, new):
    before = [json.dumps(cell, ensure_ascii=False) for cell in built(clone)]
    assert build(clone) == [], "control: the same exercise, the same notebook"
    monkeypatch.setattr(masters, "load_chapter", {"98_sample": (replace(DOUBLE, **changes),)}.__getitem__)
    after = [json.dumps(cell, ensure_ascii=False) for cell in built(clone)]
    assert old in before[position]
    assert after[position] == before[position].replace(old, new)
    touched = [k for k, pair in enumerate(zip(before, after)) if len(set(pair)) == 2]
    assert touched == ([2, 4] if "points" in changes else [2])


def halve(x):
    return x / 2


def test_exercises_are_numbered_in_the_order_of_the_chapter(clone, monkeypatch):
    path = clone / "solutions" / "98_sample.py"
    second = '# %% [markdown]\n# **Use it.**\n# ## Exercise 98-half\n\n# %% answer="98-half"\n' + (
        "def halve(x):\n    ### BEGIN SOLUTION\n    return x / 2\n    ### END SOLUTION\n"
    )
    path.write_text(MASTER + "\n" + second, encoding="utf-8")
    both = (DOUBLE, replace(DOUBLE, id="98-half", title="Half", reference=halve))
    monkeypatch.setattr(masters, "load_chapter", {"98_sample": both}.__getitem__)
    text = "\n".join(cell.source for cell in built(clone) if cell.cell_type == "markdown")
    assert re.findall(r"^## Exercise (.*)$", text, re.MULTILINE) == ["98.1: Twice as much", "98.2: Half"]
    monkeypatch.setattr(masters, "load_chapter", {"98_sample": both[::-1]}.__getitem__)
    with pytest.raises(MasterError, match="EXERCISES has the order") as caught:
        build(clone)
    assert "the answers here: ['98-double', '98-half']" in str(caught.value)


def test_all_bad_masters_are_named_at_once(clone):
    (clone / "solutions" / "03_other.py").write_text("# %%\nx = 1\n", encoding="utf-8")
    (clone / "solutions" / "98_sample.py").write_text(broken(("    ### END SOLUTION\n", "")), encoding="utf-8")
    with pytest.raises(MasterError) as caught:
        build(clone)
    assert [path.stem for path in caught.value.problems] == ["03_other", "98_sample"]


def test_a_master_without_checks(clone):
    (clone / "solutions" / "03_unknown.py").write_text("# %%\nx = 1\n", encoding="utf-8")
    with pytest.raises(MasterError, match="no folder minidiff/course/checks/03_unknown defines"):
        build(clone)


def test_nbgrader_refuses_what_validation_lets_through(clone):
    # The stripping itself is nbgrader's; its errors come out as ours.
    path = clone / "solutions" / "98_sample.py"
    notebook = masters.read_master(path)
    cell = next(c for c in notebook.cells if c.id == FIRST)
    cell.source = cell.source.replace("### END SOLUTION", "")
    with pytest.raises(MasterError, match="nbgrader's ClearSolutions: no end solution"):
        masters.strip(path, notebook)


def test_the_shortest_exercise_of_the_guide_is_complete(tmp_path, monkeypatch, capsys):
    guide = (ROOT / "minidiff" / "course" / "AUTHORING.md").read_text(encoding="utf-8")
    exercise_file, init, master, *_ = re.findall(r"^```python\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    files = {
        "pyproject.toml": "",
        "solutions/98_sums.py": master,
        "checks/98_sums/__init__.py": init,
        "checks/98_sums/add_noise.py": exercise_file,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path / "checks")])
    assert main(["check", "98_sums"]) == 0
    assert capsys.readouterr().out.split() == ["ok", "98-add-noise:", "3", "mistakes", "named"]
    assert main(["build", "98_sums", "--root", str(tmp_path)]) == 0
    scope = {}
    for cell in nbformat.read(tmp_path / "solutions" / "98_sums.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
    assert scope["result"].passed
    assert capsys.readouterr().out.endswith("[0.2500, 0.2500]])\n")
    for name in [name for name in sys.modules if "98_sums" in name]:
        monkeypatch.delitem(sys.modules, name)
    exercise.load_chapter.cache_clear()


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
