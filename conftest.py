"""Rules for everything pytest collects here, notebooks included.

Notebooks run under nbval, one test per code cell (`make notebooks`). Each states a budget in its first cell,
such as "Budget: 90 s on two CPU cores", and gets one more test that adds up what its cells took.
"""

import re
from pathlib import Path

import nbformat
import pytest

# Tests run two at a time on one thread each, often beside other work: a notebook may take this much longer.
PATIENCE = 3.0
BUDGET = re.compile(r"Budget: (\d+) s on two CPU cores")

_seconds: dict[Path, float] = {}


def stated_budget(notebook: Path) -> float:
    """Seconds that the notebook's first cell promises to stay under. `ValueError` if it has no promise."""
    first = nbformat.read(notebook, as_version=4).cells[0].source
    found = BUDGET.search(first)
    if found is None:
        raise ValueError(f'{notebook.name}: its first cell should say "Budget: N s on two CPU cores"')
    return float(found[1])


class Budget(pytest.Item):
    """Runs after its notebook's cells, in the same process: `--dist loadscope` keeps a file together."""

    def runtest(self) -> None:
        allowed = PATIENCE * stated_budget(self.path)
        took = _seconds.get(self.path)
        if took is None:
            pytest.skip("no cell of this notebook ran in this process")
        assert took <= allowed, f"{self.path.name} took {took:.0f} s; {PATIENCE:g} times its budget is {allowed:.0f} s"

    def repr_failure(self, excinfo, style=None):
        return str(excinfo.value)

    def reportinfo(self):
        return self.path, None, f"budget of {self.path.name}"


class NotebookBudget(pytest.File):
    def collect(self):
        yield Budget.from_parent(self, name="budget")


@pytest.hookimpl(trylast=True)
def pytest_collect_file(file_path: Path, parent):
    if file_path.suffix == ".ipynb" and parent.config.option.nbval_lax:
        return NotebookBudget.from_parent(parent, path=file_path)
    return None


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.notebook)
    # Files that start kernels or a browser go first: begun last, one of them would keep one process waiting at the end.
    long = {i.path for i in items if i.get_closest_marker("notebook") or i.get_closest_marker("browser")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if item.path.suffix == ".ipynb" and not isinstance(item, Budget):
        _seconds[item.path] = _seconds.get(item.path, 0.0) + call.duration
    return (yield)


def pytest_terminal_summary(terminalreporter) -> None:
    total: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            file = getattr(report, "nodeid", "").split("::")[0]
            if file.endswith(".ipynb"):
                total[file] = total.get(file, 0.0) + getattr(report, "duration", 0.0)
    if total:
        terminalreporter.section("seconds per notebook")
    for file in sorted(total):
        terminalreporter.write_line(f"{total[file]:7.1f}  {file}")
