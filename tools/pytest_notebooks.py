"""pytest plugin: `--notebooks` makes every notebook one test, executed once from top to bottom and saved.

As in JupyterLab's "Run all cells" and "Save": the first exception stops it, the outputs and the widgets' state are
kept, and what is saved must be a valid notebook. A notebook states its budget in its first cell, such as "Budget: 90 s
on two CPU cores", and may use up to `PATIENCE` times as many CPU seconds: unlike seconds on the wall these do not count
what else the machine does meanwhile.
"""

import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from pytest_budgets import PATIENCE, cpu_seconds

BUDGET = re.compile(r"Budget: (\d+) s on two CPU cores")
CELL_SECONDS = 600  # a cell that hangs, not one that is slow


def stated_budget(notebook: nbformat.NotebookNode) -> float:
    """Seconds that the first cell promises to stay under. `ValueError` if it has no promise."""
    found = BUDGET.search(notebook.cells[0].source)
    if found is None:
        raise ValueError('its first cell should say "Budget: N s on two CPU cores"')
    return float(found[1])


def saved(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook after a journey through a file. `nbformat.ValidationError` if the file would not be valid."""
    nbformat.validate(notebook)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.ipynb"
        nbformat.write(notebook, path)
        read = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(read)
    return read


class NotebookFile(pytest.File):
    def collect(self):
        item = NotebookRun.from_parent(self, name="run and save")
        item.add_marker(pytest.mark.notebook)
        yield item


class NotebookRun(pytest.Item):
    def runtest(self) -> None:
        notebook = nbformat.read(self.path, as_version=4)
        allowed = PATIENCE * stated_budget(notebook)
        before = cpu_seconds()
        here = {"metadata": {"path": str(self.path.parent)}}
        saved(NotebookClient(notebook, timeout=CELL_SECONDS, resources=here).execute())
        took = cpu_seconds() - before  # the kernel has ended, so it counts
        assert took <= allowed, f"took {took:.0f} CPU seconds; {PATIENCE:g} times its budget is {allowed:.0f}"

    def repr_failure(self, excinfo, style=None):
        error = excinfo.value
        known = (CellExecutionError, CellTimeoutError, nbformat.ValidationError, ValueError, AssertionError)
        if isinstance(error, known):  # they say which cell, or what is wrong: no traceback of this file needed
            return f"{self.path.name}: {type(error).__name__}\n{error}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, f"{self.path.name} from top to bottom"


def pytest_addoption(parser) -> None:
    parser.addoption("--notebooks", action="store_true", help="execute and save every notebook that is given")


def pytest_collect_file(file_path: Path, parent):
    if file_path.suffix == ".ipynb" and parent.config.option.notebooks:
        return NotebookFile.from_parent(parent, path=file_path)
    return None
