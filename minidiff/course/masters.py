"""Reading the percent scripts from which the course's notebooks are built, and checking the masters of exercises."""

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minidiff.course.cells import Cell, expand, graded, is_marked_by_hand, marks, written_by_hand
from minidiff.course.exercise import Exercise, Experiment, chapters, load_chapter, load_experiments

Notebook = Any  # nbformat's NotebookNode; nbformat is imported late, as the library itself does not need it

# Every set of exercises says so at its top: the grader takes the answer cells and nothing else.
NOTICE = (
    "**Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell."
)

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_LAYOUT_KEYS = ("lines_to_next_cell", "lines_to_end_of_cell_marker")  # jupytext's notes on the script's blank lines
_WRITE = {"heading": "## Exercise {}", "answer": '# %% answer="{}"'}


class MasterError(ValueError):
    """Scripts that cannot be built: each file with every problem found in it."""

    def __init__(self, problems: dict[Path, list[str]]):
        super().__init__(
            "\n".join(f"{path}:" + "".join(f"\n  - {p}" for p in found) for path, found in problems.items())
        )
        self.problems = problems


def read(path: Path) -> Notebook:
    """The notebook in the percent script `path`, with cell ids that depend on nothing but the script."""
    return _with_ids(path, _parse(path))


def read_master(path: Path) -> Notebook:
    """The instructor's notebook of the exercises in `path`, with everything that their `EXERCISES` say filled in.

    `MasterError` that lists all in which the script and its `EXERCISES` disagree.
    """
    notebook = _parse(path)
    known = path.stem in chapters()
    tasks = (*load_chapter(path.stem), *load_experiments(path.stem)) if known else ()
    problems = _problems(notebook.cells, tasks)
    if not tasks:
        problems.append(f"no folder minidiff/course/checks/{path.stem} defines its exercises")
    if problems:
        raise MasterError({path: problems})
    notebook.cells = expand(notebook.cells, tasks)
    return _with_ids(path, notebook)


def _parse(path: Path) -> Notebook:
    try:
        import jupytext
    except ImportError as error:
        raise ValueError('building notebooks needs jupytext and nbgrader: pip install -e ".[dev]"') from error
    try:
        # A byte-order mark, which editors on Windows write, would make the first cell code: "utf-8-sig" leaves it out.
        notebook = jupytext.reads(path.read_text(encoding="utf-8-sig"), fmt="py:percent")
    except UnicodeDecodeError as error:
        raise MasterError({path: [f"it is not UTF-8 ({error})"]}) from error
    notebook.metadata = {"kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        for key in _LAYOUT_KEYS:
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _with_ids(path: Path, notebook: Notebook) -> Notebook:
    """A graded cell has its `grade_id` as its id, any other the file's name and its position."""
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", path.stem)[:56]
    for position, cell in enumerate(notebook.cells):
        cell["id"] = graded(cell).get("grade_id") or f"{slug}-{position:03d}"
    return notebook


def _problems(cells: Sequence[Cell], tasks: Sequence[Exercise | Experiment]) -> list[str]:
    problems = [f"{_label(cell)}: {text}" for cell in cells for text in _cell_problems(cell)]
    if not any(cell.cell_type == "markdown" and NOTICE in cell.source for cell in cells[:1]):
        problems.append(f"the first cell lacks the notice: {NOTICE}")
    if tasks:
        problems += _mark_problems(marks(cells), [task.id for task in tasks])
    taken = [graded(cell).get("grade_id") for cell in cells if is_marked_by_hand(graded(cell))]
    taken += [task.id for task in tasks] + [f"{task.id}-check" for task in tasks if isinstance(task, Exercise)]
    problems += [f'grade_id "{i}" is used {taken.count(i)} times' for i in dict.fromkeys(taken) if taken.count(i) > 1]
    pairs = [(cell, task) for task in tasks for cell in cells if cell.metadata.get("answer") == task.id]
    return problems + [problem for cell, task in pairs for problem in _answer_problems(cell, task)]


def _label(cell: Cell) -> str:
    first_line = next(iter(cell.source.strip().splitlines()), "empty")[:50]
    return f'cell "{cell.metadata.get("answer") or graded(cell).get("grade_id") or first_line}"'


def _cell_problems(cell: Cell) -> list[str]:
    """What is wrong with one cell by itself: what should be generated, solution markers, nbgrader's own schema."""
    by_hand = is_marked_by_hand(graded(cell))
    problems = written_by_hand(cell) + (_metadata_problems(cell) if by_hand else [])
    begins, ends = cell.source.count("### BEGIN SOLUTION"), cell.source.count("### END SOLUTION")
    if begins != ends:
        problems.append(f"it has {begins} ### BEGIN SOLUTION and {ends} ### END SOLUTION")
    elif begins and cell.source.index("### BEGIN SOLUTION") > cell.source.index("### END SOLUTION"):
        problems.append("### END SOLUTION comes before ### BEGIN SOLUTION")
    if begins and not by_hand and "answer" not in cell.metadata:
        problems.append('it holds a solution: mark it as `# %% answer="ID"`')
    return problems


def _metadata_problems(cell: Cell) -> list[str]:
    from nbgrader.nbgraderformat import MetadataValidator

    try:
        MetadataValidator().validate_cell(cell)
    except Exception as error:  # jsonschema's errors and nbgrader's own, which depend on the version
        return [f"nbgrader does not accept its metadata: {str(error).strip().splitlines()[0]}"]
    return []


def _mark_problems(found: list[tuple[str, str]], ids: list[str]) -> list[str]:
    """Every exercise has one heading and then one answer, in the order of `EXERCISES`, and nothing else has."""
    wanted = [(kind, exercise_id) for exercise_id in ids for kind in _WRITE]
    problems = [f'{kind} "{i}": no exercise of the chapter, which has {ids}' for kind, i in found if i not in ids]
    for kind, i in wanted:
        if (kind, i) not in found:
            problems.append(f'exercise "{i}" has no {kind}: write `{_WRITE[kind].format(i)}`')
        elif found.count((kind, i)) > 1:
            problems.append(f'exercise "{i}" has {found.count((kind, i))} {kind}s')
    if not problems and found != wanted:
        order = [i for kind, i in found if kind == "answer"]
        problems.append(f"EXERCISES has the order {ids}, each heading before its answer; the answers here: {order}")
    return problems


def _answer_problems(cell: Cell, exercise: Exercise | Experiment) -> list[str]:
    problems, kind = [], "code" if isinstance(exercise, Exercise) else "markdown"
    if cell.cell_type != kind:
        return [f'cell "{exercise.id}": an answer to an {type(exercise).__name__.lower()} is a {kind} cell']
    if isinstance(exercise, Experiment):
        return [] if cell.source.strip() else [f'cell "{exercise.id}" needs a model answer']
    if not re.search(r"^ +### BEGIN SOLUTION", cell.source, re.MULTILINE):
        # Inside a function the stub's `raise NotImplementedError()` waits for a call; outside it stops the notebook.
        problems.append(f'cell "{exercise.id}" needs an indented ### BEGIN SOLUTION … ### END SOLUTION in its function')
    call = f"{exercise.reference.__name__}({', '.join(inspect.signature(exercise.reference).parameters)})"
    if call not in _functions(cell.source):
        problems.append(f'cell "{exercise.id}" must define {call}, as the reference is called')
    return problems


def _functions(source: str) -> list[str]:
    """The functions a cell defines, as "name(argument, argument)"."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    defined = [s for s in statements if isinstance(s, ast.FunctionDef)]
    return [f"{d.name}({', '.join(a.arg for a in (*d.args.args, *d.args.kwonlyargs))})" for d in defined]


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
