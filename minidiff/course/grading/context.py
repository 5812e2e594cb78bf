"""What has to run before an answer: the imports and helpers of the trusted master that the answer names, and no more.

In the notebook the cells above have run. Here only what an answer needs is taken, statement by statement: imports,
functions, classes and assignments of the master's plain cells (not the long computations that show a result), other
answer cells of the same student, and `checked_…`, which stands for the library's own answer to another exercise.
"""

import ast
import builtins
import re
import symtable
from dataclasses import dataclass
from typing import Any

from minidiff.course.grading.notebooks import MAX_SOURCE, Cell, Master

_NAME = re.compile(r"[^\W\d]\w*")
_KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
# IPython's lines: what `%time` measures is code, the others are none.
_TIMED = re.compile(r"^([ \t]*)%time(?:it)?(?:[ \t]+-\w+(?:[ \t]+\d+)?)*[ \t]+(?=\S)", re.MULTILINE)
_MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)
_NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
_CHECKED = re.compile(r'check\(\s*["\']([\w-]+)["\']')


@dataclass(frozen=True)
class Part:
    """A piece of code at `position` of the notebook: the names it binds, and those it may need."""

    position: tuple[int, int]
    source: str
    binds: frozenset[str]
    needs: frozenset[str]


def _table(source: str) -> symtable.SymbolTable | None:
    """The symbol table, also of a cell with magics; None where it is no Python."""
    for text in (source, _MAGIC.sub(r"\1pass", _TIMED.sub(r"\1", source))):
        try:
            return symtable.symtable(text, "answer", "exec")
        except _NO_PYTHON:
            continue
    return None


def names_in(source: str) -> frozenset[str]:
    """The global names that code may look up: not its own arguments and local variables.

    A superset, all names, where it is no Python (a slip of the pen).
    """
    table = _table(source)
    found, scopes = (set(_NAME.findall(source)), []) if table is None else (set(), [table])
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        top = scope.get_type() == "module"
        found |= {name.get_name() for name in scope.get_symbols() if name.is_referenced() and (top or name.is_global())}
    return frozenset(found) - frozenset(dir(builtins))


def bound_by(source: str) -> frozenset[str]:
    """The names that the top level of some code binds; none if it is no Python."""
    table = _table(source)
    symbols = [] if table is None else table.get_symbols()
    return frozenset(name.get_name() for name in symbols if name.is_assigned() or name.is_imported())


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def master_parts(master: Master) -> list[Part]:
    """The statements of the master's plain code cells that an answer may lean on."""
    parts = []
    for i, cell in enumerate(master.solved):
        if cell.kind != "code" or cell.graded:
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, _KEPT):
                source = ast.unparse(node)
                parts.append(Part((i, node.lineno), source, frozenset(_bound(node)), names_in(source)))
    return parts


def checked_names(master: Master) -> dict[str, str]:
    """{"checked_langevin": "01-langevin", …}: the names that the check cells bind, and for which exercise."""
    found = {}
    for cell in master.solved:
        called = _CHECKED.search(cell.source)
        if cell.graded.get("grade") and called:
            found |= {name: called[1] for name in bound_by(cell.source) if name != "result"}
    return found


def answer_parts(master: Master, answers: dict[str, str]) -> dict[str, Part]:
    """The student's answer cells ({exercise id: source}) as parts, at their places in the master."""
    places = {cell.grade_id: i for i, cell in enumerate(master.solved) if cell.grade_id in answers}
    return {
        id: Part((places[id], 0), source, bound_by(source), names_in(source))
        for id, source in answers.items()
        if id in places
    }


def cells_for(own: Part, parts: list[Part]) -> list[str]:
    """The sources to run for the answer `own`, in the notebook's order, the answer itself last.

    Of `parts`, those that bind a name which the answer needs, or which another of them needs: the master's statements
    above the answer, and only where these bind no such name, other answers. (Otherwise an `import torch` in one answer
    would make every other depend on it.)
    """
    chosen: set[Part] = set()
    wanted = list(own.needs - own.binds)
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        binding = [part for part in parts if name in part.binds and part != own]
        masters = [part for part in binding if part.position[1] > 0 and part.position < own.position]
        answers = [part for part in binding if part.position[1] == 0]  # these may be anywhere
        for part in masters or answers:
            if part not in chosen:
                chosen.add(part)
                wanted += part.needs - seen
    return [part.source for part in sorted(chosen, key=lambda part: part.position)] + [own.source]


def elsewhere(name: str, cells: list[Cell], answers: dict[str, str]) -> bool:
    """Does the student bind `name` in a cell that is no answer cell, and so is not graded?"""
    return any(
        name in bound_by(cell.source)
        for cell in cells
        if cell.kind == "code" and len(cell.source) <= MAX_SOURCE and cell.source not in answers.values()
    )


def given_functions(own: Part, master: Master, own_id: str) -> dict[str, Any]:
    """{name: function} for the `checked_…` names in the answer: other exercises' references, which stay here."""
    references = {exercise.id: exercise.reference for exercise in master.exercises}
    return {
        name: references[id]
        for name, id in checked_names(master).items()
        if name in own.needs and id != own_id and id in references
    }
