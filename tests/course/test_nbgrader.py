"""Stock nbgrader on the built notebooks: generate_assignment, and for one chapter autograde and the gradebook."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from minidiff.course.exercise import load_chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "solutions").glob("*.py"))
GRADED = "01_bayes_rule"  # grading runs three notebooks: one chapter is enough

pytestmark = pytest.mark.notebook


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    # nbgrader calls `alembic` by its bare name, which stands beside python even where no environment is activated.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")


def read(folder, chapter):
    return nbformat.read(ROOT / folder / f"{chapter}.ipynb", as_version=4)


def nbgrader(course, *arguments):
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(course / "config")}
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def assignment(course, chapter):
    """Let stock nbgrader make a release from the solution notebook in `course`; returns the release."""
    source = course / "source" / chapter
    source.mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / f"{chapter}.ipynb", source)
    nbgrader(course, "generate_assignment", chapter, "--create")
    return course / "release" / chapter / f"{chapter}.ipynb"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stock_nbgrader_makes_the_same_exercises(chapter, tmp_path):
    release = nbformat.read(assignment(tmp_path, chapter), as_version=4)
    ours = read("exercises", chapter)
    assert [cell.source for cell in release.cells] == [cell.source for cell in ours.cells]
    graders = [[cell.metadata.get("nbgrader") for cell in notebook.cells] for notebook in (release, ours)]
    assert graders[0] == graders[1], "ids, points, locks and checksums"


@pytest.mark.slow
def test_stock_nbgrader_gives_the_marks(tmp_path):
    from nbgrader.api import Gradebook

    returned = nbformat.read(assignment(tmp_path, GRADED), as_version=4)
    for cell in returned.cells:
        cell.source = cell.source.replace("raise NotImplementedError()", "return None")
    handed_in = {
        "untouched": read("exercises", GRADED),
        "returns-none": returned,
        "solved": read("solutions", GRADED),
    }
    for student, notebook in handed_in.items():
        folder = tmp_path / "submitted" / student / GRADED
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{GRADED}.ipynb")
    nbgrader(tmp_path, "autograde", GRADED, "--create")
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        scores = {student: book.find_submission(GRADED, student).score for student in handed_in}
        best = book.find_assignment(GRADED).max_score
    assert best == sum(e.points for e in load_chapter(GRADED))
    assert scores == {"untouched": 0, "returns-none": 0, "solved": best}
