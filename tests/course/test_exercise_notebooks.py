"""The built exercise notebooks, executed: untouched they earn nothing and run to their end, solved they earn it all.

The marks are nbgrader's own reading of the executed cells; `test_nbgrader.py` goes through its whole pipeline.
"""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbgrader.utils import determine_grade, is_grade, is_solution

from minidiff.course.exercise import load_chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "solutions").glob("*.py"))

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module", params=CHAPTERS)
def chapter(request):
    return request.param


def read(folder, chapter):
    return nbformat.read(ROOT / folder / f"{chapter}.ipynb", as_version=4)


def executed(notebook):
    """Run every cell in order, as "Run all" does: the first exception would stop it and fail the test."""
    resources = {"metadata": {"path": str(ROOT)}}
    client = NotebookClient(notebook, timeout=300, startup_timeout=300, kernel_name="python3", resources=resources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MPLBACKEND", "agg")
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


def is_answer(cell):
    return cell.metadata.get("nbgrader", {}).get("solution", False)


@pytest.fixture(scope="module")
def written(chapter):
    """Solved, and then every exercise once more, answered wrongly: one kernel runs both, as starting one is dear."""
    solved, again = read("solutions", chapter), read("exercises", chapter)
    again.cells = [cell for cell in again.cells if "nbgrader" in cell.metadata and cell.cell_type == "code"]
    for cell in again.cells:
        cell.id = f"wrong-{cell.id}"  # ids are unique in a notebook
        if is_answer(cell):
            cell.source = cell.source.replace("raise NotImplementedError()", "return undefined_name")
    n = len(solved.cells)
    solved.cells += again.cells
    executed(solved)
    solved.cells, again.cells = solved.cells[:n], solved.cells[n:]
    return SimpleNamespace(solved=solved, wrong=again)


def test_solutions_get_full_marks(chapter, written):
    assert marks(written.solved) == full_marks(chapter)
    assert written_to_stderr(written.solved) == []
    assert all("Right: " in box and "goes on with your" in box for box in shown(written.solved))


def test_wrong_answers_get_zero_and_a_sentence_with_the_line(chapter, written):
    boxes, answers = shown(written.wrong), [cell for cell in written.wrong.cells if is_answer(cell)]
    assert len(marks(written.wrong)) == len(boxes) == len(answers) == len(load_chapter(chapter))
    assert {score for score, _ in marks(written.wrong).values()} == {0.0}
    assert written_to_stderr(written.wrong) == []
    for box, cell in zip(boxes, answers):
        line = [text.strip() for text in cell.source.splitlines()].index("return undefined_name") + 1
        assert f"at line {line}, <code>return undefined_name</code>, with NameError" in box
