"""Reading masters and submissions: what counts as an answer, what it needs to run, and what is flagged in it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.course.exercise import load_chapter
from minidiff.course.grading import context, notebooks, shortcuts
from minidiff.course.grading.notebooks import Cell, Unreadable, answer, belongs, edited_checks, parse

ROOT = Path(__file__).resolve().parents[3]
CHAPTERS = notebooks.assignments(ROOT)
MASTERS = {name: notebooks.load_master(ROOT, name) for name in CHAPTERS}
META = {"grade_id": "01-x", "solution": True, "grade": False, "locked": False, "task": False}
STUB = Cell("code", "def f():\n    raise NotImplementedError()", "01-x", META)


def cell(source="def f():\n    return 1", kind="code", **changes):
    return {"cell_type": kind, "source": source, "metadata": {"nbgrader": META | changes}}


def read(*cells):
    return parse(json.dumps({"cells": list(cells)}).encode())


def test_a_cell_is_found_by_its_grade_id_and_where_that_was_dropped_by_its_own():
    (by_metadata,) = read(cell(["def f():\n", "    return 1"]))
    assert (by_metadata.grade_id, by_metadata.source) == ("01-x", "def f():\n    return 1")
    (by_id,) = read({"cell_type": "code", "id": "01-x", "metadata": {}, "source": "x"})
    assert (by_id.grade_id, by_id.graded) == ("01-x", {})


ODD = [{}, {"metadata": 3}, {"metadata": {"nbgrader": []}}, {"source": 5}, {"source": [1, "x"]}]


@pytest.mark.parametrize("odd", ODD)
def test_odd_cells_are_read_as_what_is_left_of_them(odd):
    (found,) = read({"cell_type": "code", **odd})
    assert found.grade_id == ""
    assert found.source in ("", "x")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"cells": 3}', b"\xff\xfe", b"[" * 10**5, b'{"worksheets": []}'])
def test_what_is_no_notebook_is_said_to_be_none(data):
    with pytest.raises(Unreadable):
        parse(data)


def test_a_byte_order_mark_is_no_obstacle():
    assert parse(b"\xef\xbb\xbf" + b'{"cells": []}') == []


ANSWERS = {
    "written": ([cell()], ""),
    "deleted": ([], "missing"),
    "as handed out": ([cell(STUB.source + "\n")], "untouched"),
    "blank": ([cell(" \n")], "untouched"),
    "twice the same": ([cell(), cell()], ""),
    "twice, differently": ([cell(), cell("def f():\n    return 2")], "tampered"),
    "now markdown": ([cell(kind="markdown")], "tampered"),
    "too long": ([cell("#" * (notebooks.MAX_SOURCE + 1))], "tampered"),
}


@pytest.mark.parametrize(("cells", "problem"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_became_of_an_answer(cells, problem):
    found = answer(read(*cells), STUB)
    assert found.problem == problem
    assert bool(found.message) == bool(problem)
    assert len(found.digest) == (64 if found.source else 0)


def test_alterations_without_effect_are_noted():
    assert answer(read(cell(points=99, locked=True)), STUB).notes == (
        '"points" of the cell 01-x was None and is 99 (no effect)',
        '"locked" of the cell 01-x was False and is True (no effect)',
    )
    master = MASTERS["01_bayes_rule"]
    untouched = list(master.handed_out)
    assert edited_checks(untouched, master) == []
    checks = [c for c in untouched if c.grade_id == "01-langevin-check"]
    rest = [c for c in untouched if c not in checks]
    assert edited_checks(rest, master) == ["the check cell 01-langevin-check was deleted (no effect)"]
    forged = Cell("code", "result = 99", "01-langevin-check", checks[0].graded | {"points": 99})
    assert edited_checks([*rest, forged], master) == [
        "the check cell 01-langevin-check was edited (no effect)",
        '"points" of the cell 01-langevin-check was 2 and is 99 (no effect)',
    ]
    assert belongs(untouched, master) == 12
    assert belongs(untouched, MASTERS["02_conditional_training"]) == 0


# --- what has to run before an answer ---------------------------------------------------------------------------------

NAMES = {
    "x + y": {"x", "y"},
    "def f(a, b=c): return a + d": {"c", "d"},
    "lambda z: z + q": {"q"},
    "[i for i in items if i > low]": {"items", "low"},
    "def f(x: Tensor) -> Array: return torch.zeros(len(x))": {"Tensor", "Array", "torch"},
    "class A(Base):\n    def g(self): return helper(self)": {"Base", "helper"},
    "@wrap\ndef f(): pass": {"wrap"},
    "def f():\n    global g\n    g = 1\n    return h": {"h"},
    "print(len(sorted(v)))": {"v"},
}


@pytest.mark.parametrize(("source", "names"), NAMES.items(), ids=NAMES.keys())
def test_the_global_names_that_code_may_look_up(source, names):
    assert context.names_in(source) - {"f", "g"} == names


def test_code_that_is_no_plain_python_needs_all_its_names():
    assert {"torch", "x"} <= context.names_in("%time torch.ones(x)")
    assert context.bound_by("def f(:") == frozenset()
    assert context.names_in("-" * 10**5 + "x") <= {"x"}, "too deep to be read, and no crash"


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_solutions_need_imports_and_nothing_that_computes(name):
    master = MASTERS[name]
    sources = {e.id: next(c.source for c in master.solved if c.grade_id == e.id) for e in master.exercises}
    answers = context.answer_parts(master, sources)
    for own in answers.values():
        *before, last = context.cells_for(own, [*context.master_parts(master), *answers.values()])
        assert last == own.source
        assert [line for line in before if not line.startswith(("import ", "from "))] == []


def test_an_answer_that_imports_a_common_name_is_no_part_of_the_others():
    master = MASTERS["01_bayes_rule"]
    sources = {"01-posterior-score": "import torch\nboom()", "01-langevin": "def langevin(): return torch.ones(2)"}
    answers = context.answer_parts(master, sources)
    cells = context.cells_for(answers["01-langevin"], [*context.master_parts(master), *answers.values()])
    assert cells == ["import torch", sources["01-langevin"]]


def test_checked_names_stand_for_other_exercises_and_never_for_the_own():
    master = MASTERS["01_bayes_rule"]
    source = "def f(): return checked_langevin, checked_posterior_score"
    own = context.answer_parts(master, {"01-langevin": source})["01-langevin"]
    given = context.given_functions(own, master, "01-langevin")
    assert [*given] == ["checked_posterior_score"]


# --- flags ------------------------------------------------------------------------------------------------------------


def flags(source, id="05-combine-branches"):
    master = MASTERS["05_classifier_free_guidance"]
    solution = next(c.source for c in master.solved if c.grade_id == id)
    above = "\n".join(p.source for p in context.master_parts(master) if p.source.startswith(("import", "from")))
    return shortcuts.flags(next(e for e in master.exercises if e.id == id), source, solution, above)


FLAGGED = {
    "from minidiff.guidance import extrapolate": "uses minidiff.guidance.extrapolate, which answers this exercise",
    "from minidiff.guidance import extrapolate as e\ne(1)": "uses minidiff.guidance.extrapolate",
    "import minidiff.guidance as g\ng.extrapolate(1)": "uses minidiff.guidance.extrapolate",
    "from minidiff import guidance\nguidance.extrapolate(1)": "uses minidiff.guidance.extrapolate",
    "import minidiff.guidance\nminidiff.guidance.extrapolate(1)": "uses minidiff.guidance.extrapolate",
    "%matplotlib agg\nfrom minidiff.guidance import extrapolate": "uses minidiff.guidance.extrapolate",
    "__import__('minidiff.guidance')": "names a module of the library in a text",
    "from minidiff.course.exercise import find": "uses the course's own checks",
    "import sys\nsys._getframe(1)": "looks at the frames of its callers",
    "import os\nos.environ['CI']": "looks at the environment",
    "open('/proc/1/environ')": "mentions /proc",
}


@pytest.mark.parametrize(("source", "flag"), FLAGGED.items(), ids=FLAGGED.keys())
def test_shortcuts_are_flagged(source, flag):
    assert any(found.startswith(flag) for found in flags(source)), flags(source)


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_shipped_solutions_and_plain_code_have_no_flags(name):
    master = MASTERS[name]
    above = "\n".join(p.source for p in context.master_parts(master) if p.source.startswith(("import", "from")))
    for exercise in load_chapter(name):
        solution = next(c.source for c in master.solved if c.grade_id == exercise.id)
        assert shortcuts.flags(exercise, solution, solution, above) == []
        assert shortcuts.flags(exercise, "import torch\ndef f(x): return torch.exp(x).sum()", solution, above) == []


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_read(text):
    assert isinstance(flags(text), list)
    assert isinstance(context.names_in(text) | context.bound_by(text), frozenset)
