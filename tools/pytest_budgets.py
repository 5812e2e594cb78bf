"""pytest plugin: what the tests cost, per folder and per chapter, and a run that fails when a chapter costs too much.

Each test's report carries the CPU seconds that it took, with those of its processes that have ended. They are added up
where the reports come together, so it does not matter which test ran in which process. CPU seconds are what a budget
is about: seconds on the wall also count what else the machine does. CPU seconds do so a little, too: two threads of one
core take up to twice as many as one alone. So they are divided by how much longer a small piece of work takes just then
than on a quiet machine.
"""

import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

# CPU seconds for one chapter: its notebook, its exercises and solutions as notebooks, its tests.
BUDGETS = {"notebook": 60.0, "exercises": 25.0, "tests": 40.0}
PATIENCE = 2.0
PROPERTY = "cpu seconds"

PIECE = 100_000  # additions and products
QUIET = 0.005  # CPU seconds of a piece on a core of the machine that the budgets were set on, with nothing beside it
LOOK = 10.0  # seconds between two looks at the pace


@dataclass
class Cost:
    tests: int = 0
    wall: float = 0.0
    cpu: float = 0.0

    def add(self, report) -> None:
        self.tests += report.when == "call"
        self.wall += report.duration
        # A test's properties come with each of its three reports; the last one has them all.
        self.cpu += sum(
            value for name, value in report.user_properties if name == PROPERTY and report.when == "teardown"
        )


def folder_of(nodeid: str) -> str:
    """Where a test belongs in the table: its folder, or its file where it lies right in `tests`."""
    path = PurePosixPath(nodeid.split("::")[0])
    return str(path.parent if str(path.parent) != "tests" else path)


def chapter_of(nodeid: str) -> tuple[str, str] | None:
    """(chapter, which of its `BUDGETS`), or None for a test that belongs to no chapter."""
    file, _, rest = nodeid.partition("::")
    path = PurePosixPath(file)
    if path.suffix == ".ipynb":
        return (path.stem[:2], "notebook") if path.stem[:2].isdigit() else None
    if path.parent == PurePosixPath("tests/chapters"):
        found = re.match(r"test_(\d\d)_", path.name)
    elif PurePosixPath("tests/course") in path.parents and "grading" not in path.parts:
        found = re.search(r"\[(\d\d)[_-]", rest)
    else:
        return None
    if found is None:
        return None
    return found[1], "exercises" if path.name == "test_exercise_notebooks.py" else "tests"


def added_up(reports: Iterable, place) -> dict:
    """{place(nodeid): what its tests cost}; a test whose place is None is left out."""
    costs: dict = defaultdict(Cost)
    for report in reports:
        if (key := place(report.nodeid)) is not None:
            costs[key].add(report)
    return dict(sorted(costs.items()))


def too_dear(costs: dict[tuple[str, str], Cost]) -> list[str]:
    """One sentence for each part of a chapter that took more than `PATIENCE` times its budget."""
    return [
        f"chapter {chapter}: its {part} took {cost.cpu:.0f} CPU seconds, "
        f"more than {PATIENCE:g} times their budget of {BUDGETS[part]:.0f}"
        for (chapter, part), cost in costs.items()
        if cost.cpu > PATIENCE * BUDGETS[part]
    ]


def cpu_seconds() -> float:
    """Of this process and of all its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class Pace:
    """How many times longer work takes now than on a quiet machine, at least 1."""

    def __init__(self) -> None:
        self.looked, self.value = -math.inf, 1.0

    def __call__(self) -> float:
        if time.monotonic() > self.looked + LOOK:
            before = time.process_time()
            sum(i * i for i in range(5 * PIECE))
            self.value = max(1.0, (time.process_time() - before) / (5 * QUIET))
            self.looked = time.monotonic()
        return self.value


pace = Pace()


class Meter:
    """CPU seconds since it was made, as a quiet machine would have taken them."""

    def __init__(self) -> None:
        self.pace, self.started = pace(), cpu_seconds()

    def read(self) -> float:
        took = cpu_seconds() - self.started
        return took / ((self.pace + pace()) / 2)


class Budgets:
    def __init__(self) -> None:
        self.reports: list = []
        self.meter = Meter()
        self.dear: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.meter = Meter()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        if call.when == "teardown":
            item.user_properties.append((PROPERTY, self.meter.read()))
        return (yield)

    # Under xdist the process that starts the others runs no test itself: it is sent every report.
    def pytest_runtest_logreport(self, report) -> None:
        self.reports.append(report)

    def pytest_sessionfinish(self, session, exitstatus) -> None:
        if hasattr(session.config, "workerinput"):
            return
        self.dear = too_dear(added_up(self.reports, chapter_of))
        if self.dear and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        say = terminalreporter.write_line
        folders, chapters = (added_up(self.reports, place) for place in (folder_of, chapter_of))
        if len(folders) > 1 or chapters:
            terminalreporter.section("seconds: on the wall, of CPU if the machine were quiet")
        for name, cost in folders.items():
            say(f"{cost.wall:8.1f} {cost.cpu:8.1f}  {name} ({cost.tests})")
        for (chapter, part), cost in chapters.items():
            say(f"{cost.wall:8.1f} {cost.cpu:8.1f}  chapter {chapter}: {part} (budget {BUDGETS[part]:.0f})")
        for sentence in self.dear:
            say(f"FAILED {sentence}", red=True)


def pytest_configure(config) -> None:
    config.pluginmanager.register(Budgets(), "budgets")
