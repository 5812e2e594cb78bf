"""What `minidiff build` makes from an `Exercise`: heading, facts, nbgrader's metadata, check cell and hint cells.

In a master two marks stand for all of that:

    ## Exercise 05-combine-branches         in a text: the numbered heading and the line of facts
    # %% answer="05-combine-branches"       on a code cell: the metadata, and after it the check and the hint cells

An open experiment has the same two marks, the second on a text cell: `# %% [markdown] answer="05-which-interval"`.
"""

import re
from collections.abc import Sequence
from typing import Any

from minidiff.course.exercise import Exercise, Experiment, facts

Cell = Any  # nbformat's NotebookNode; nbformat is imported late, as the library itself does not need it

_HEADING = re.compile(r"^## Exercise (\d\d-\S+)$", re.MULTILINE)
_STUCK = "Stuck? Take away the `#` and run the cell: each run gives a stronger hint, three in all."


def graded(cell: Cell) -> dict[str, Any]:
    """A cell's metadata for nbgrader; {} if it has none."""
    return cell.metadata.get("nbgrader", {})


def marks(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Every mark of a master in order, as ("heading" or "answer", exercise id)."""
    found = []
    for cell in cells:
        if "answer" in cell.metadata:
            found.append(("answer", cell.metadata["answer"]))
        elif cell.cell_type == "markdown":
            found += [("heading", exercise_id) for exercise_id in _HEADING.findall(cell.source)]
    return found


def expand(cells: Sequence[Cell], tasks: Sequence[Exercise | Experiment]) -> list[Cell]:
    """The cells with every mark replaced by what it stands for. `KeyError` for a mark of no task."""
    headings = {task.id: heading(task, k) for k, task in enumerate(tasks, 1)}
    by_id = {task.id: task for task in tasks}
    expanded = []
    for cell in cells:
        expanded.append(cell)
        if "answer" in cell.metadata:
            task = by_id[cell.metadata.pop("answer")]
            if isinstance(task, Experiment):
                cell.metadata["nbgrader"] = _metadata(task.id, solution=True, grade=True, points=task.points)
            else:
                cell.metadata["nbgrader"] = _metadata(task.id, solution=True)
                expanded += _after_answer(task)
        elif cell.cell_type == "markdown":
            cell.source = _HEADING.sub(lambda mark: headings[mark[1]], cell.source)
    return expanded


def heading(task: Exercise | Experiment, number: int) -> str:
    """The numbered heading and the facts, in Markdown: number counts from 1 within the chapter."""
    kind = "Open experiment" if isinstance(task, Experiment) else "Exercise"
    return f"## {kind} {task.id[:2]}.{number}: {task.title}\n\n{facts(task)}"


def _after_answer(exercise: Exercise) -> list[Cell]:
    """The check, whose last line nbgrader reads the marks from, then a word on hints and the hint."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    name = exercise.reference.__name__
    check = f'result = check("{exercise.id}", {name})\nchecked_{name} = result.use\nresult'
    locked = _metadata(f"{exercise.id}-check", grade=True, locked=True, points=exercise.points)
    return [
        new_code_cell(check, metadata={"nbgrader": locked}),
        new_markdown_cell(_STUCK),
        new_code_cell(f'# hint("{exercise.id}")'),
    ]


def _metadata(grade_id: str, **settings: Any) -> dict[str, Any]:
    """nbgrader's metadata, schema 3: what is not set is false, and only a graded cell has points."""
    plain = {"schema_version": 3, "grade": False, "locked": False, "solution": False, "task": False}
    return plain | {"grade_id": grade_id} | settings


_GENERATED = (
    (
        "markdown",
        re.compile(r"^#+ (Exercise|Open experiment) \d\d\.\d", re.MULTILINE),
        "a numbered heading",
        "`## Exercise ID`",
    ),
    ("markdown", re.compile(r"^Difficulty [●○]+", re.MULTILINE), "a line of facts", "`## Exercise ID`"),
    ("code", re.compile(r"^result = check\(", re.MULTILINE), "a check cell", '`# %% answer="ID"`'),
    ("code", re.compile(r"^#? *hint\(", re.MULTILINE), "a hint cell", '`# %% answer="ID"`'),
)


def written_by_hand(cell: Cell) -> list[str]:
    """What a master's cell spells out although `expand` makes it, and the mark to write instead."""
    found = [
        f"{what} is generated: leave it out and write {mark}"
        for kind, pattern, what, mark in _GENERATED
        if cell.cell_type == kind and pattern.search(cell.source)
    ]
    if graded(cell) and not is_marked_by_hand(graded(cell)):
        found.append('metadata for nbgrader are generated: leave them out and write `# %% answer="ID"`')
    return found


def is_marked_by_hand(metadata: dict[str, Any]) -> bool:
    """nbgrader's metadata of an answer that a person marks: an answer cell with points, or a task."""
    return bool(metadata.get("task") or (metadata.get("grade") and metadata.get("solution")))
