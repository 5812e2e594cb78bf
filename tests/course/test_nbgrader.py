"""Stock nbgrader on the built notebooks: generate_assignment, and for one chapter autograde and the gradebook."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.apps.api import NbGraderAPI
from traitlets.config import Config

from minidiff.course.exercise import load_chapter, load_experiments

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "solutions").glob("*.py"))
GRADED = "01_bayes_rule"  # grading runs three notebooks: one chapter is enough

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning"),  # within nbgrader
]


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patched:
        # nbgrader calls `alembic` by its bare name, which stands beside python even where no environment is activated.
        patched.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
        patched.setenv("OMP_NUM_THREADS", "1")
        patched.setenv("MPLBACKEND", "agg")
        yield


def read(folder, chapter):
    return nbformat.read(ROOT / folder / f"{chapter}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def api(environment, tmp_path_factory):
    """nbgrader, at work in one course for all chapters: to make its database takes longer than to make a release."""
    config = Config()
    config.CourseDirectory.root = str(tmp_path_factory.mktemp("course"))
    return NbGraderAPI(config=config)


def done(answer):
    assert answer["success"], answer["log"]


def released(api, chapter):
    """Let nbgrader make a release from the solution notebook and return it."""
    course = Path(api.coursedir.root)
    source = course / "source" / chapter
    source.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "solutions" / f"{chapter}.ipynb", source)
    done(api.generate_assignment(chapter, create=True, force=True))
    return nbformat.read(course / "release" / chapter / f"{chapter}.ipynb", as_version=4)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stock_nbgrader_makes_the_same_exercises(chapter, api):
    release = released(api, chapter)
    ours = read("exercises", chapter)
    assert [cell.source for cell in release.cells] == [cell.source for cell in ours.cells]
    graders = [[cell.metadata.get("nbgrader") for cell in notebook.cells] for notebook in (release, ours)]
    assert graders[0] == graders[1], "ids, points, locks and checksums"


@pytest.mark.slow
def test_stock_nbgrader_gives_the_marks(api):
    returned = released(api, GRADED)
    for cell in returned.cells:
        cell.source = cell.source.replace("raise NotImplementedError()", "return None")
    handed_in = {
        "untouched": read("exercises", GRADED),
        "returns-none": returned,
        "solved": read("solutions", GRADED),
    }
    for student, notebook in handed_in.items():
        folder = Path(api.coursedir.root) / "submitted" / student / GRADED
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{GRADED}.ipynb")
    for student in handed_in:
        done(api.autograde(GRADED, student, create=True))
    with api.gradebook as book:
        scores = {student: book.find_submission(GRADED, student).score for student in handed_in}
        best = book.find_assignment(GRADED).max_score
    checked, by_hand = (sum(e.points for e in load(GRADED)) for load in (load_chapter, load_experiments))
    assert best == checked + by_hand
    assert scores == {"untouched": 0, "returns-none": 0, "solved": checked}, "a person adds the rest"
