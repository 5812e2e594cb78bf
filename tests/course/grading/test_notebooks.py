"""Reading masters and submissions: what counts as an answer, and what became of it."""

import json
from pathlib import Path

import pytest

from minidiff.course.grading import notebooks
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


def rewritten(change, folder="exercises", name="01_bayes_rule"):
    """A notebook as an editor would save it: `change` on the source of every cell."""
    document = json.loads((ROOT / folder / f"{name}.ipynb").read_text(encoding="utf-8"))
    for found in document["cells"]:
        found["source"] = change("".join(found["source"]))
    return parse(json.dumps(document).encode())


LINE_ENDS = {
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "Windows, as a list": lambda text: [f"{line}\r\n" for line in text.split("\n")],
    "old Macs": lambda text: text.replace("\n", "\r"),
    "spaces at the ends": lambda text: text.replace("\n", "  \n") + " \n\n",
    "tabs and Windows": lambda text: text.replace("\n", "\t\r\n"),
}


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.parametrize("change", LINE_ENDS.values(), ids=LINE_ENDS.keys())
def test_other_line_ends_are_no_edits_and_no_answers(change, name):
    master = MASTERS[name]
    cells = rewritten(change, name=name)
    assert edited_checks(cells, master) == []
    assert {answer(cells, master.stub(e.id)).problem for e in master.exercises} == {"untouched"}
    assert {answer(cells, stub).problem for stub in master.by_hand} <= {"untouched"}
    edited = rewritten(lambda text: change(text.replace("result = check(", "result = 1  # check(")), name=name)
    assert len(edited_checks(edited, master)) == len(master.exercises), "control: an edit is an edit"


def test_an_answer_is_the_same_whatever_its_line_ends():
    first, *others = (cell(f"def f():{end}    return 1{end}") for end in ("\n", "\r\n", "\r"))
    assert len({answer(read(each), STUB).digest for each in (first, *others)}) == 1
    assert answer(read(first, *others), STUB).problem == "", "the same cell three times"
    assert answer(read(first, cell("def f():\r\n    return 2")), STUB).problem == "tampered"
    assert answer(read(cell("def f():\n    return 1\x0b")), STUB).source.endswith("\x0b"), "no line end of Python's"


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
    assert belongs(untouched, master) == 11, "five answers, their checks, one experiment"
    assert belongs(untouched, MASTERS["02_conditional_training"]) == 0
