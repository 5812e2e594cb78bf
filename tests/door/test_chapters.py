"""The contract of a chapter: how long its lecture and its cells are, and which tasks it sets."""

import re

import nbformat
import pytest

from minidiff.course.exercise import chapters, load_chapter, load_experiments

WORDS, CELL_LINES = 3000, 15
BUILD = range(15, 41)
"""Lines of the solution that builds a whole working thing."""


def solution_lengths(master: str) -> list[int]:
    """The lines of every solution in a master, without blank lines and comments."""
    regions = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", master, re.DOTALL)
    return [sum(1 for line in region.splitlines() if re.match(r"\s*[^\s#]", line)) for region in regions]


def long_cells(notebook) -> list[str]:
    """The first lines of the code cells with more lines than a reader takes in at once (blank lines do not count)."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [
        source.splitlines()[0] for source in code if len([x for x in source.splitlines() if x.strip()]) > CELL_LINES
    ]


def broken_bars(text: str) -> list[str]:
    """Rows of tables with `\\|` inside a formula, which GitHub shows as two bars or as text."""
    return [line for line in text.splitlines() if line.startswith("|") and re.search(r"\$[^$]*\\\|[^$]*\$", line)]


NOT_YET: tuple[str, ...] = ()
"""Chapters from before the contract: each of its tests must still fail on them, or the name goes from here."""
FAILS = pytest.mark.xfail(strict=True)
KEPT = [pytest.param(name, marks=FAILS) if name in NOT_YET else name for name in chapters()]


@pytest.fixture(params=KEPT)
def chapter(request):
    return request.param


def test_a_lecture_is_read_in_one_sitting(root, chapter):
    text = (root / "lectures" / f"{chapter}.md").read_text(encoding="utf-8")
    assert len(text.split()) <= WORDS
    assert broken_bars(text) == []
    for word in ("core", "extra", "minutes"):
        assert word in text.lower(), "its parts say how needed they are, and how long they take"


def test_a_cell_is_read_at_a_glance(root, chapter):
    assert long_cells(nbformat.read(root / "notebooks" / f"{chapter}.ipynb", as_version=4)) == []


def test_a_chapter_sets_short_tasks_one_to_build_and_one_that_is_open(root, chapter):
    tasks, open_ones = load_chapter(chapter), load_experiments(chapter)
    assert 4 <= len(tasks) + len(open_ones) <= 6
    assert len(open_ones) == 1
    lengths = solution_lengths((root / "solutions" / f"{chapter}.py").read_text(encoding="utf-8"))
    assert len(lengths) == len(tasks)
    assert len([n for n in lengths if n in BUILD]) == 1
    assert max(lengths) < BUILD.stop


def test_nothing_is_left_to_fill_in(root):
    """An author's reminder for a number that was still to be measured."""
    folders = ("lectures", "notebooks", "solutions", "minidiff/course/checks")
    texts = [p for f in folders for p in (root / f).rglob("*") if p.suffix in (".md", ".py")]
    assert len(texts) > 40
    left = re.compile(r"\b(TODO|NN)\b")
    assert [p.name for p in texts if left.search(p.read_text(encoding="utf-8"))] == []
    assert left.search("latents NN, pixels NN.")  # the control
    assert not left.search("a NNE wind")


def test_the_course_uses_the_whole_range_of_difficulties():
    tasks = [task for name in chapters() for task in (*load_chapter(name), *load_experiments(name))]
    assert {task.difficulty for task in tasks} == {1, 2, 3, 4, 5}


def test_controls():
    cell = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(
        cells=[cell("\n\n".join("abcdefghijklmno")), cell("\n".join("abcdefghijklmnop"))]
    )
    assert long_cells(notebook) == ["a"], "fifteen lines are allowed, sixteen are not"
    assert broken_bars("| a | $\\|x\\|$ |\n| b | $\\lVert x \\rVert$ |\n$\\|x\\|$") == ["| a | $\\|x\\|$ |"]
    region = "### BEGIN SOLUTION\n    # why\n    a = 1\n\n    b = 2  # too\n    ### END SOLUTION\n"
    assert solution_lengths(region + region) == [2, 2]
