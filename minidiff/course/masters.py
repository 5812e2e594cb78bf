"""Reading and checking the masters: percent scripts from which the course's notebooks are built."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidiff.course.exercise import Exercise, chapters, load_chapter

Notebook = Any  # nbformat's NotebookNode; nbformat is imported late, as the library itself does not need it
Cell = Any

# Every set of exercises says so at its top: the grader takes the answer cells and nothing else.
NOTICE = (
    "**Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell."
)

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_LAYOUT_KEYS = (
    "lines_to_next_cell",
    "lines_to_end_of_cell_marker",
)  # jupytext's notes on the script's blank lines


class MasterError(ValueError):
    """Masters that cannot be built: each file with every problem found in it."""

    def __init__(self, problems: dict[Path, list[str]]):
        super().__init__(
            "\n".join(f"{path}:" + "".join(f"\n  - {p}" for p in found) for path, found in problems.items())
        )
        self.problems = problems


def read(path: Path) -> Notebook:
    """The notebook in the percent script `path`, with cell ids that depend on nothing but the script.

    A cell with an nbgrader `grade_id` has it as its id, any other the file's name and its position.
    """
    try:
        import jupytext
    except ImportError as error:
        raise ValueError('building notebooks needs jupytext and nbgrader: pip install -e ".[dev]"') from error
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = {"kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", path.stem)[:56]
    for position, cell in enumerate(notebook.cells):
        for key in _LAYOUT_KEYS:
            cell.metadata.pop(key, None)
        cell["id"] = _grader(cell).get("grade_id") or f"{slug}-{position:03d}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def validate(path: Path, notebook: Notebook) -> None:
    """`MasterError` that lists everything in which a master of exercises and its `EXERCISES` disagree."""
    problems = [problem for cell in notebook.cells for problem in _cell_problems(cell)]
    ids = [_grader(cell)["grade_id"] for cell in notebook.cells if "grade_id" in _grader(cell)]
    problems += [f'grade_id "{i}" is used {ids.count(i)} times' for i in sorted(set(ids)) if ids.count(i) > 1]
    if not any(cell.cell_type == "markdown" and NOTICE in cell.source for cell in notebook.cells[:1]):
        problems.append(f"the first cell lacks the notice: {NOTICE}")
    if path.stem not in chapters():
        problems.append(f"no module minidiff/course/checks/{path.stem}.py defines its exercises")
    if not problems:
        exercises = load_chapter(path.stem)
        for exercise in exercises:
            problems += _exercise_problems(notebook.cells, exercise)
        by_hand = [_grader(cell)["grade_id"] for cell in notebook.cells if is_marked_by_hand(_grader(cell))]
        problems += _order_problems(ids, by_hand, exercises)
    if problems:
        raise MasterError({path: problems})


def _grader(cell: Cell) -> dict[str, Any]:
    return cell.metadata.get("nbgrader", {})


def _cell_problems(cell: Cell) -> list[str]:
    """What is wrong with one cell by itself: solution markers, and nbgrader's metadata after its own schema."""
    meta, source = _grader(cell), cell.source
    label = f'cell "{meta.get("grade_id", source.strip().splitlines()[0][:50] if source.strip() else "empty")}"'
    problems = []
    begins, ends = source.count("### BEGIN SOLUTION"), source.count("### END SOLUTION")
    if begins != ends:
        problems.append(f"{label} has {begins} ### BEGIN SOLUTION and {ends} ### END SOLUTION")
    elif begins and source.index("### BEGIN SOLUTION") > source.index("### END SOLUTION"):
        problems.append(f"{label} has ### END SOLUTION before ### BEGIN SOLUTION")
    if begins and not meta.get("solution"):
        problems.append(f'{label} holds a solution but its nbgrader metadata do not say "solution": true')
    return problems + [f"{label}: {text}" for text in _metadata_problems(cell)] if meta else problems


def _metadata_problems(cell: Cell) -> list[str]:
    from nbgrader.nbgraderformat import MetadataValidator

    meta = _grader(cell)
    if meta.get("grade") and "points" not in meta:
        return ["its nbgrader metadata lack the points"]
    try:
        MetadataValidator().validate_cell(cell)
    except Exception as error:  # jsonschema's errors and nbgrader's own, which depend on the version
        return [f"nbgrader does not accept its metadata: {str(error).strip().splitlines()[0]}"]
    return []


def _find(cells: list[Cell], grade_id: str) -> int | None:
    return next((i for i, cell in enumerate(cells) if _grader(cell).get("grade_id") == grade_id), None)


def _exercise_problems(cells: list[Cell], exercise: Exercise) -> list[str]:
    """Is the exercise there: heading, facts, answer cell, and the check cell as the next code cell?"""
    where = _find(cells, exercise.id)
    if where is None:
        return [f'exercise "{exercise.id}" has no answer cell (grade_id "{exercise.id}")']
    answer, name = cells[where], exercise.reference.__name__
    problems = (
        []
        if _grader(answer)["solution"] and not _grader(answer)["grade"]
        else [f'cell "{exercise.id}" must have "solution": true and "grade": false']
    )
    if not re.search(r"^ +### BEGIN SOLUTION", answer.source, re.MULTILINE):
        # Inside a function the stub's `raise NotImplementedError()` waits for a call; outside it stops the notebook.
        problems.append(f'cell "{exercise.id}" needs an indented ### BEGIN SOLUTION … ### END SOLUTION in its function')
    call = f"{name}({', '.join(inspect.signature(exercise.reference).parameters)})"
    if call not in _functions(answer.source):
        problems.append(f'cell "{exercise.id}" must define {call}, as the reference is called')
    text = "\n".join(cell.source for cell in cells[:where] if cell.cell_type == "markdown")
    problems += [f'exercise "{exercise.id}": put this line under its heading: {exercise.facts()}'] * (
        exercise.facts() not in text
    )
    heading = rf"^#+ Exercise {exercise.chapter}\.\d+: {re.escape(exercise.title)}$"
    if not re.search(heading, text, re.MULTILINE):
        problems.append(f'exercise "{exercise.id}": no heading "## Exercise {exercise.chapter}.k: {exercise.title}"')
    following = next((cell for cell in cells[where + 1 :] if cell.cell_type == "code"), None)
    return problems + _check_cell_problems(following, exercise, name)


def _check_cell_problems(cell: Cell | None, exercise: Exercise, name: str) -> list[str]:
    wanted = f"{exercise.id}-check"
    if cell is None or _grader(cell).get("grade_id") != wanted:
        return [f'the code cell after "{exercise.id}" must be its check, with grade_id "{wanted}"']
    meta, problems = _grader(cell), []
    if not (meta["grade"] and meta["locked"] and not meta["solution"]):
        problems.append(f'cell "{wanted}" must have "grade": true, "locked": true, "solution": false')
    if meta.get("points") != exercise.points:
        problems.append(f'cell "{wanted}" says {meta.get("points")} points, its Exercise {exercise.points}')
    if f'check("{exercise.id}", {name})' not in cell.source:
        problems.append(f'cell "{wanted}" must call check("{exercise.id}", {name})')
    if _last_line(cell.source) not in ("result", f"check('{exercise.id}', {name})"):
        problems.append(f'cell "{wanted}" must end with the line "result": nbgrader reads the marks from it')
    return problems


def _functions(source: str) -> list[str]:
    """The functions a cell defines, as "name(argument, argument)"."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    defined = [s for s in statements if isinstance(s, ast.FunctionDef)]
    return [f"{d.name}({', '.join(a.arg for a in (*d.args.args, *d.args.kwonlyargs))})" for d in defined]


def _last_line(source: str) -> str:
    """The last statement, in Python's own spelling; "" if the cell is not plain Python."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return ""
    return ast.unparse(statements[-1]) if statements else ""


def is_marked_by_hand(graded: dict[str, Any]) -> bool:
    """nbgrader's metadata of an answer that a person marks: an answer cell with points, or a task."""
    return bool(graded.get("task") or (graded.get("grade") and graded.get("solution")))


def _order_problems(ids: list[str], by_hand: list[str], exercises: tuple[Exercise, ...]) -> list[str]:
    known = [i for exercise in exercises for i in (exercise.id, f"{exercise.id}-check")]
    ids = [i for i in ids if i not in by_hand]
    strangers = [f'cell "{i}" belongs to no exercise of the chapter' for i in ids if i not in known]
    if not strangers and set(ids) == set(known) and ids != known:
        return [f"the exercises come in another order than in EXERCISES: {ids[::2]}"]
    return strangers


def strip(path: Path, notebook: Notebook) -> Notebook:
    """The student's copy, by nbgrader's own preprocessors: solutions out, check cells locked, checksums in."""
    from nbgrader import preprocessors

    steps: tuple[Callable[[], Any], ...] = (
        preprocessors.LockCells,
        preprocessors.ClearSolutions,
        preprocessors.ClearOutput,
        preprocessors.CheckCellMetadata,
        preprocessors.ComputeChecksums,
    )
    resources: Any = {}
    for step in steps:
        try:
            notebook, resources = step().preprocess(notebook, resources)
        except RuntimeError as error:
            raise MasterError({path: [f"nbgrader's {step.__name__}: {error}"]}) from error
    return notebook
