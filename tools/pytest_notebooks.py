"""pytest plugin: `--notebooks` makes every notebook one test: executed once from top to bottom and saved.

A notebook states its budget in its first cell, such as "Budget: 90 s on two CPU cores", and may use up to `PATIENCE`
times as many CPU seconds: unlike seconds on the wall these do not count what else the machine does meanwhile.
"""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from pytest_budgets import PATIENCE, Meter

BUDGET = re.compile(r"Budget: (\d+) s on two CPU cores")
RUN = Path(__file__).with_name("run_notebook.py")  # in a process of its own: a kernel's client leaves much behind


class Failed(Exception):
    """With what there is to say about a notebook: no traceback of this file."""


def stated_budget(path: Path) -> float:
    """Seconds that the first cell promises to stay under."""
    found = BUDGET.search(nbformat.read(path, as_version=4).cells[0].source)
    if found is None:
        raise Failed('its first cell should say "Budget: N s on two CPU cores"')
    return float(found[1])


class NotebookFile(pytest.File):
    def collect(self):
        yield NotebookRun.from_parent(self, name="run and save")


class NotebookRun(pytest.Item):
    def runtest(self) -> None:
        allowed = PATIENCE * stated_budget(self.path)
        meter = Meter()
        ran = subprocess.run([sys.executable, RUN, self.path], capture_output=True, encoding="utf-8", errors="replace")
        took = meter.read()  # process and kernel have ended, so they count
        if ran.returncode:
            raise Failed(ran.stderr)
        if took > allowed:
            raise Failed(f"took {took:.0f} CPU seconds; {PATIENCE:g} times its budget is {allowed:.0f}")

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, Failed):
            return f"{self.path.name}: {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, f"{self.path.name} from top to bottom"


def pytest_addoption(parser) -> None:
    parser.addoption("--notebooks", action="store_true", help="execute and save every notebook that is given")


def pytest_collect_file(file_path: Path, parent):
    if file_path.suffix == ".ipynb" and parent.config.option.notebooks:
        return NotebookFile.from_parent(parent, path=file_path)
    return None
