"""The built exercise notebooks, executed: untouched they earn nothing and run to their end, solved they earn it all.

The marks are nbgrader's own reading of the executed cells; `test_nbgrader.py` goes through its whole pipeline.
"""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbgrader.utils import determine_grade, is_grade, is_solution

from minidiff.course.exercise import load_chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "solutions").glob("*.py"))

pytestmark = pytest.mark.notebook


@pytest.fixture(params=CHAPTERS)
def chapter(request):
    return request.param


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")


def read(folder, chapter):
    return nbformat.read(ROOT / folder / f"{chapter}.ipynb", as_version=4)


def executed(notebook):
    """Run every cell in order, as "Run all" does: the first exception would stop it and fail the test."""
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    return client.execute()


def marks(notebook):
    """Of the check cells: what a person marks has no marks yet."""
    return {cell.id: determine_grade(cell) for cell in notebook.cells if is_grade(cell) and not is_solution(cell)}


def written_to_stderr(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [o.text for cell in code for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]


def shown(notebook):
    """What the check cells show: the boxes."""
    outputs = [o for cell in notebook.cells if is_grade(cell) for o in cell.get("outputs", [])]
    return [output.data["text/html"] for output in outputs if output.output_type == "execute_result"]


def full_marks(chapter):
    return {f"{e.id}-check": (e.points, e.points) for e in load_chapter(chapter)}


def test_untouched_exercises_get_zero_and_run_to_their_end(chapter):
    notebook = executed(read("exercises", chapter))
    assert marks(notebook) == {key: (0.0, points) for key, (_, points) in full_marks(chapter).items()}
    assert written_to_stderr(notebook) == []
    boxes = shown(notebook)
    assert len(boxes) == len(load_chapter(chapter))
    assert all("Not written yet" in box and "goes on with the library" in box for box in boxes)


def test_solutions_get_full_marks(chapter):
    notebook = executed(read("solutions", chapter))
    assert marks(notebook) == full_marks(chapter)
    assert written_to_stderr(notebook) == []
    assert all("Right: " in box and "goes on with your" in box for box in shown(notebook))


def imports_only(cell):
    if cell.cell_type != "code":
        return False
    return all(isinstance(statement, (ast.Import, ast.ImportFrom)) for statement in ast.parse(cell.source).body)


def test_wrong_answers_get_zero_and_a_sentence_with_the_line(chapter):
    notebook = read("exercises", chapter)
    answers = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    for cell in answers:
        cell.source = cell.source.replace("raise NotImplementedError()", "return undefined_name")
    # The cells in between use the library's answers, which another test runs: here imports and checks are enough.
    first_answer = notebook.cells.index(answers[0])
    notebook.cells = [
        cell
        for i, cell in enumerate(notebook.cells)
        if i < first_answer or "nbgrader" in cell.metadata or imports_only(cell)
    ]
    result = executed(notebook)
    assert {score for score, _ in marks(result).values()} == {0.0}
    assert written_to_stderr(result) == []
    for box, cell in zip(shown(result), answers):
        line = [text.strip() for text in cell.source.splitlines()].index("return undefined_name") + 1
        assert f"at line {line}, <code>return undefined_name</code>, with NameError" in box
