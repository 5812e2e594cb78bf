"""The rules of tools/pytest_notebooks.py and tools/pytest_budgets.py, on notebooks and reports made to break them."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SAME_PACE = "\nimport pytest_budgets\npytest_budgets.pace = lambda: 1.0\n"  # however busy the machine is
PROMISE = "# Made\n\n**Budget: 60 s on two CPU cores.**"


@pytest.fixture(scope="module")
def budgets(root):
    spec = importlib.util.spec_from_file_location("pytest_budgets_alone", root / "tools" / "pytest_budgets.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


# --- notebooks --------------------------------------------------------------------------------------------------------


def outcome(root, folder, notebooks: dict[str, tuple[str, str]]) -> str:
    """What pytest prints about {name: (first cell, code)}, under the repository's conftest.py."""
    (folder / "conftest.py").write_text(
        (root / "conftest.py").read_text(encoding="utf-8") + SAME_PACE, encoding="utf-8"
    )
    (folder / "pytest.ini").write_text(
        f"[pytest]\nmarkers = notebook\npythonpath = {root / 'tools'}\n", encoding="utf-8"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, (first, code) in notebooks.items():
        notebook = new_notebook(cells=[new_markdown_cell(first), new_code_cell(code)], metadata=kernel)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    line = [sys.executable, "-m", "pytest", "--notebooks", "-p", "no:cacheprovider", "."]
    return subprocess.run(line, cwd=folder, capture_output=True, encoding="utf-8", timeout=300).stdout


BUSY = "start = time.process_time(); any(time.process_time() > start + 2.5 for _ in iter(int, 1))"
RAW = "from IPython.display import display; display({'image/png': %s, 'text/plain': ''}, raw=True)"
MADE = {
    "good": (PROMISE, RAW % "'iVBORw0KGgo='"),
    "dear": ("Budget: 1 s on two CPU cores", f"import time; {BUSY}"),
    "unpromised": ("# Made", "1 + 1"),
    "raising": (PROMISE, "assert 1 + 1 == 3"),
    "bytes": (PROMISE, RAW % "memoryview(b'\\x89PNG')"),
}


@pytest.mark.slow
def test_notebooks_that_break_a_rule_fail_and_say_which(root, tmp_path):
    said = outcome(root, tmp_path, MADE)
    assert "4 failed, 1 passed" in said
    assert "FAILED good.ipynb" not in said
    assert "2 times its budget is 2" in said
    assert "its first cell should say" in said
    assert "CellExecutionError: An error occurred" in said
    assert "assert 1 + 1 == 3" in said, "the cell's source"
    assert "AssertionError" in said, "and what it raised"
    assert "NotebookValidationError" in said
    assert "['image/png']" in said


@pytest.mark.slow
def test_the_run_fails_when_a_chapter_is_too_dear_though_every_test_passes(root, tmp_path):
    """Two processes, so that the sum is made where the reports come together."""
    low = "pytest_budgets.BUDGETS['tests'] = 1.0\npytest_plugins = ['pytest_budgets']\n"
    (tmp_path / "conftest.py").write_text(SAME_PACE + low, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {root / 'tools'}\n", encoding="utf-8")
    folder = tmp_path / "tests" / "chapters"
    folder.mkdir(parents=True)
    (folder / "test_07_made.py").write_text("def test_quick(): pass\n", encoding="utf-8")
    (folder / "test_08_made.py").write_text(f"import time\ndef test_slow(): {BUSY}\n", encoding="utf-8")
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadscope", "tests"]
    ran = subprocess.run(line, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300)
    assert "2 passed" in ran.stdout
    assert "FAILED chapter 08: its tests took" in ran.stdout
    assert "FAILED chapter 07" not in ran.stdout
    assert ran.returncode == 1


# --- sums -------------------------------------------------------------------------------------------------------------


def reports(nodeid: str, *cpu: float):
    """Those of one test, with the CPU seconds of each of its runs."""
    for value in cpu:
        for when, properties in (("setup", []), ("call", []), ("teardown", [["cpu seconds", value]])):
            yield SimpleNamespace(nodeid=nodeid, when=when, duration=1.0, user_properties=properties)


@pytest.mark.parametrize(
    ("nodeid", "chapter"),
    [
        ("notebooks/03_forward_models.ipynb::run and save", ("03", "notebook")),
        ("notebooks/03_forward_models.ipynb::Cell 3", ("03", "notebook")),
        ("tests/course/test_exercise_notebooks.py::test_solutions_get_full_marks[02_conditional]", ("02", "exercises")),
        ("tests/course/test_exercises.py::test_texts_are_there[04-step]", ("04", "tests")),
        ("tests/course/test_exercises.py::test_every_mistake[04-step-twice]", ("04", "tests")),
        ("tests/chapters/test_05_guidance.py::test_null", ("05", "tests")),
        ("tests/course/grading/test_mark.py::test_x[01-langevin]", None),
        ("tests/test_times.py::test_y[01-x]", None),
        ("made.ipynb::run and save", None),
    ],
)
def test_a_test_belongs_to_its_chapter(budgets, nodeid, chapter):
    assert budgets.chapter_of(nodeid) == chapter


def test_costs_are_added_up_by_place_and_too_much_is_named(budgets):
    run = [
        *reports("tests/chapters/test_04_x.py::a", 50.0),
        *reports("tests/chapters/test_04_x.py::b", 29.0),
        *reports("tests/chapters/test_05_x.py::a", 50.0),
        *reports("tests/course/test_exercises.py::c[05-x]", 31.0),
        *reports("notebooks/05_x.ipynb::run and save", 119.0),
        *reports("tests/test_times.py::d", 500.0),
    ]
    chapters = budgets.added_up(run, budgets.chapter_of)
    assert {key: (cost.tests, cost.wall, cost.cpu) for key, cost in chapters.items()} == {
        ("04", "tests"): (2, 6.0, 79.0),
        ("05", "notebook"): (1, 3.0, 119.0),
        ("05", "tests"): (2, 6.0, 81.0),
    }
    assert budgets.too_dear(chapters) == [
        "chapter 05: its tests took 81 CPU seconds, more than 2 times their budget of 40"
    ]
    folders = budgets.added_up(run, budgets.folder_of)
    assert {name: cost.cpu for name, cost in folders.items()} == {
        "notebooks": 119.0,
        "tests/chapters": 129.0,
        "tests/course": 31.0,
        "tests/test_times.py": 500.0,
    }


@pytest.mark.parametrize(("before", "after"), [(0, 1), (2, 2)])
@pytest.mark.parametrize("worker", [False, True])
def test_only_a_run_that_passed_is_failed_and_only_where_reports_come_together(budgets, before, after, worker):
    plugin = budgets.Budgets()
    plugin.reports += reports("tests/chapters/test_04_x.py::a", 81.0)
    session = SimpleNamespace(exitstatus=before, config=SimpleNamespace(**({"workerinput": {}} if worker else {})))
    plugin.pytest_sessionfinish(session, before)
    assert session.exitstatus == (before if worker else after)
    session.exitstatus, plugin.reports = 0, [*reports("tests/chapters/test_04_x.py::a", 79.0)]
    plugin.pytest_sessionfinish(session, 0)
    assert session.exitstatus == 0


@pytest.mark.parametrize("pace", [1.0, 4.0])
def test_the_work_of_processes_that_have_ended_counts_as_on_a_quiet_machine(budgets, monkeypatch, pace):
    monkeypatch.setattr(budgets, "pace", lambda: pace)
    meter, before = budgets.Meter(), budgets.cpu_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    took = budgets.cpu_seconds() - before
    assert took >= 0.45
    assert took / pace <= meter.read() <= (took + 0.2) / pace


def test_the_pace_is_measured_now_and_then_and_never_below_one(budgets, monkeypatch):
    pace = budgets.Pace()
    assert pace() >= 1.0
    monkeypatch.setattr(budgets, "QUIET", budgets.QUIET / 100)
    assert pace() < 10, "kept"
    assert budgets.Pace()() > 10, "on a machine whose quiet core is a hundred times faster, this one is slow"
    monkeypatch.setattr(budgets, "LOOK", -1.0)
    assert pace() > 10, "looked again"
    monkeypatch.setattr(budgets, "QUIET", 10.0)
    assert pace() == 1.0
