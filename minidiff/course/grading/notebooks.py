"""Reading notebooks: a master that is trusted, and a submission of which only the answer cells count.

No field of a submission is believed: cells are found by `grade_id`, their type must be the master's, and points, locks,
check cells and everything else come from the master. What was altered without effect is noted.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidiff.course.cells import is_marked_by_hand
from minidiff.course.diagnosis import NOT_WRITTEN
from minidiff.course.exercise import Exercise, chapters, load_chapter
from minidiff.validate import require

MAX_SOURCE = 200_000  # characters of an answer
MAX_CELLS = 10_000


class Unreadable(ValueError):
    """The bytes are no notebook; the message says why, for the student."""


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook: `grade_id` is "" for one that is not graded, `graded` its metadata for nbgrader."""

    kind: str
    source: str
    grade_id: str
    graded: dict[str, Any]


def parse(data: bytes) -> list[Cell]:
    """The cells of a notebook (format 4). `Unreadable` for anything else."""
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON, as notebooks are ({type(error).__name__})") from None
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise Unreadable("it is JSON, but no notebook of format 4: it has no list of cells")
    if len(document["cells"]) > MAX_CELLS:
        raise Unreadable(f"it has {len(document['cells'])} cells, more than {MAX_CELLS}")
    return [_cell(cell) for cell in document["cells"] if isinstance(cell, dict)]


def _cell(cell: dict[str, Any]) -> Cell:
    metadata = cell.get("metadata")
    graded = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    graded = graded if isinstance(graded, dict) else {}
    # An editor that drops the metadata keeps the cell's own id, which `minidiff build` makes the same.
    grade_id = graded.get("grade_id") or cell.get("id") or ""
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    # Windows, and old Macs, end lines in other ways. Python reads them all as "\n", and so must whoever compares.
    source = re.sub(r"\r\n?", "\n", source) if isinstance(source, str) else ""
    kind = str(cell.get("cell_type"))[:20]
    return Cell(kind, source, grade_id if isinstance(grade_id, str) else "", graded)


def _alike(a: str, b: str) -> bool:
    """Are two sources the same but for spaces at the ends of lines and blank lines around, as editors change them?"""
    one, other = ("\n".join(line.rstrip() for line in text.split("\n")).strip() for text in (a, b))
    return one == other


@dataclass(frozen=True)
class Master:
    """One assignment, as the instructor has it.

    solved   the cells of solutions/NAME.ipynb;  handed_out: the cells of exercises/NAME.ipynb
    version  a hash of both
    """

    name: str
    exercises: tuple[Exercise, ...]
    solved: tuple[Cell, ...]
    handed_out: tuple[Cell, ...]
    version: str

    def stub(self, grade_id: str) -> Cell | None:
        """The cell with this id, as it was handed out; None if there is none."""
        return next((cell for cell in self.handed_out if cell.grade_id == grade_id), None)

    @property
    def title(self) -> str:
        """The first heading, as students know the assignment; its name if there is none."""
        heading = re.search(r"^# (.+)$", "\n".join(c.source for c in self.handed_out if c.kind == "markdown"), re.M)
        return heading[1].strip() if heading else self.name

    @property
    def ids(self) -> set[str]:
        """The ids of all graded cells: answers, checks and what a person marks."""
        return {cell.grade_id for cell in self.handed_out if cell.graded}

    @property
    def by_hand(self) -> tuple[Cell, ...]:
        """The cells that a person marks: nbgrader's manually graded answers and tasks."""
        return tuple(cell for cell in self.handed_out if is_marked_by_hand(cell.graded))


def assignments(root: Path) -> list[str]:
    """The names of all assignments that can be graded: exercises with a check module and both notebooks."""
    both = (root / "solutions", root / "exercises")
    return [name for name in chapters() if all((folder / f"{name}.ipynb").is_file() for folder in both)]


def graded_ids(root: Path, name: str) -> set[str]:
    """The ids of the graded cells that were handed out for an assignment."""
    return {cell.grade_id for cell in parse((root / "exercises" / f"{name}.ipynb").read_bytes()) if cell.graded}


def load_master(root: Path, name: str) -> Master:
    """The assignment `name` of the course at `root`. `ValueError` if it is not there or not built."""
    require(name in assignments(root), "assignment", repr(name), f"one of {assignments(root)}")
    solved, handed_out = ((root / folder / f"{name}.ipynb").read_bytes() for folder in ("solutions", "exercises"))
    version = hashlib.sha256(solved + b"\0" + handed_out).hexdigest()
    return Master(name, load_chapter(name), tuple(parse(solved)), tuple(parse(handed_out)), version)


@dataclass(frozen=True)
class Answer:
    """What a submission holds for one graded cell of the master.

    source   as submitted ("" if there is none);  problem: "missing", "untouched", "tampered" or ""
    message  what to tell the student about the problem;  notes: alterations without effect, for the instructor
    """

    source: str = ""
    problem: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest() if self.source else ""


def answer(cells: list[Cell], stub: Cell) -> Answer:
    """The submission's answer for the cell that was handed out as `stub`."""
    found = [cell for cell in cells if cell.grade_id == stub.grade_id]
    if not found:
        return Answer(problem="missing", message="There is no cell for this exercise in your notebook.")
    first = found[0]
    if any((cell.source, cell.kind) != (first.source, first.kind) for cell in found):
        text = (
            f"Your notebook has {len(found)} different cells for this exercise, so that nobody can know which counts."
        )
        return Answer(first.source[:MAX_SOURCE], "tampered", text)
    if first.kind != stub.kind:
        text = f"Your answer should be a {stub.kind} cell; it is a {first.kind} cell."
        return Answer(first.source[:MAX_SOURCE], "tampered", text)
    if len(first.source) > MAX_SOURCE:
        text = f"Your answer has {len(first.source)} characters, more than the {MAX_SOURCE} that are read."
        return Answer(first.source[:1000], "tampered", text)
    if not first.source.strip() or _alike(first.source, stub.source):
        return Answer(first.source, "untouched", NOT_WRITTEN if stub.kind == "code" else "Not written yet.")
    return Answer(first.source, notes=tuple(_altered(first, stub)))


def _altered(cell: Cell, stub: Cell) -> list[str]:
    """Metadata that are not as they were handed out. They have no effect: the master's count."""
    keys = ("points", "grade", "solution", "task", "locked")
    pairs = [(key, stub.graded.get(key), cell.graded.get(key)) for key in keys if cell.graded]
    return [
        f'"{key}" of the cell {stub.grade_id} was {was} and is {str(now)[:40]} (no effect)'
        for key, was, now in pairs
        if was != now
    ]


def edited_checks(cells: list[Cell], master: Master) -> list[str]:
    """Notes on locked cells that were edited, duplicated or deleted. They have no effect: the master's checks run."""
    notes = []
    for stub in master.handed_out:
        if not stub.graded.get("locked") or stub.graded.get("solution"):
            continue
        found = [cell for cell in cells if cell.grade_id == stub.grade_id]
        if not found:
            notes.append(f"the check cell {stub.grade_id} was deleted (no effect)")
        elif not all(_alike(cell.source, stub.source) for cell in found):
            notes.append(f"the check cell {stub.grade_id} was edited (no effect)")
        for cell in found[:1]:
            notes += _altered(cell, stub)
    return notes


def belongs(cells: list[Cell], master: Master) -> int:
    """How many of the master's graded cells a submission has: 0 means that it is another assignment's."""
    return len(master.ids & {cell.grade_id for cell in cells})
