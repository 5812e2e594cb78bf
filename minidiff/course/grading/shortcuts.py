"""Answers that may be right for the wrong reason: a flag for a person to look at, never a proof.

Which functions of the library answer an exercise is read off its reference: what the reference calls, and what the
exercise names besides, less what the shipped solution uses too. An answer that uses one of them, or that looks around
for the grader, is flagged.
"""

import ast
import importlib
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

from minidiff.course import checks
from minidiff.course.exercise import Exercise

# Names that an answer to an exercise has no business with.
_PRYING = {
    "minidiff.course": "uses the course's own checks",
    "inspect": "looks at running code",
    "ctypes": "goes around Python",
    "gc": "looks at the interpreter's objects",
    "subprocess": "starts other programs",
    "socket": "opens network connections",
    "multiprocessing": "starts other processes",
    "pickle": "builds pickles",
    "IPython": "reaches into the notebook's shell",
    "builtins": "reaches for Python's built-in functions",
}
_PRYING_ATTRIBUTES = {
    "_getframe": "looks at the frames of its callers",
    "__globals__": "looks into other functions",
    "__closure__": "looks into other functions",
    "__code__": "looks into other functions",
    "__subclasses__": "searches for classes",
    "_exit": "ends its process",
    "get_ipython": "reaches into the notebook's shell",
    "register_forward_hook": "hooks into modules",
}
_PRYING_MEMBERS = {
    "sys.modules": "looks at the loaded modules",
    "os.environ": "looks at the environment",
    "sys.argv": "looks at the command line",
}
# Tools rather than answers, although references use them.
_TOOLS = {"minidiff.guidance.bind", "minidiff.samplers.sample"}
# What a student leaves in a cell after trying it.
_LEFT = {f"minidiff.course.{name}" for name in ("check", "hint", "feedback.check", "feedback.hint")}
_PRYING_NAMES = {"get_ipython", "exec", "eval", "compile", "open", "__import__", "globals", "exit", "quit"}


def library_names(function: Callable[..., Any]) -> set[str]:
    """Full names of the library's functions that `function` calls, itself or through helpers of the checks."""
    found, seen, waiting = set(), set(), [function]
    while waiting:
        code = getattr(waiting[-1], "__code__", None)
        scope = getattr(waiting.pop(), "__globals__", {})
        if code is None or code in seen:
            continue
        seen.add(code)
        for value in _mentioned(code, scope):
            if _is_of_library(value):
                found.add(f"{value.__module__}.{value.__qualname__}")
            elif isinstance(value, types.FunctionType) and (value.__globals__ is scope or _is_of_checks(value)):
                waiting.append(value)
    return found


def _mentioned(code: types.CodeType, scope: dict[str, Any]) -> Iterator[Any]:
    """The global objects that code names, and for a module of the library those of its attributes."""
    for name in code.co_names:
        value = scope.get(name)
        if isinstance(value, types.ModuleType) and value.__name__.startswith("minidiff."):
            yield from (getattr(value, other, None) for other in code.co_names)
        else:
            yield value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _mentioned(constant, scope)


def _is_of_checks(value: types.FunctionType) -> bool:
    return value.__module__.startswith(f"{checks.__name__}.")


def _is_of_library(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or not isinstance(getattr(value, "__qualname__", None), str):
        return False
    apart = ("minidiff.course", "minidiff.schedules")  # a schedule is an input, no answer
    return module.startswith("minidiff.") and not module.startswith(apart)


def flags(exercise: Exercise, answer: str, solution: str, above: str = "") -> list[str]:
    """What a person should know about an answer, as sentences; [] if nothing.

    solution: the shipped one, whose means are allowed.  above: the imports that run before both.
    """
    try:
        return _flags(exercise, answer, solution, above)
    except (RecursionError, MemoryError):
        return ["is nested so deep that it cannot be read"]


def _flags(exercise: Exercise, answer: str, solution: str, above: str) -> list[str]:
    allowed = _uses(above, solution)
    used = _uses(above, answer) - allowed - _LEFT
    answering = (library_names(exercise.reference) - _TOOLS | set(exercise.shortcuts)) & used
    found = [f"uses {name}, which answers this exercise" for name in sorted(answering)]
    for name, why in _PRYING.items():
        if any(use == name or use.startswith(f"{name}.") for use in used):
            found.append(f"{why} ({name})")
    tree = _parse(answer)
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & (_PRYING_NAMES | {"_exit"})
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found += [f"{why} ({name})" for name, why in _PRYING_ATTRIBUTES.items() if name in attributes]
    found += [f"{why} ({name.partition('.')[2]})" for name, why in _PRYING_MEMBERS.items() if name in used]
    found += [f"calls {name}" for name in sorted(names - _names(solution))]
    found += ["mentions /proc"] * any("/proc/" in text for text in texts)
    found += ["names a module of the library in a text"] * any(re.match(r"minidiff\.\w", text) for text in texts)
    return found


def _parse(source: str) -> ast.Module:
    """The syntax tree, also of a cell with magics; an empty one where it is no Python."""
    for text in (source, re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return ast.parse("")


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(_parse(source)) if isinstance(node, ast.Name)}


def _uses(above: str, source: str) -> set[str]:
    """Full names of what `source` uses by import, its own or one of those above it."""
    imported = {**_imports(above), **_imports(source)}
    for node in ast.walk(_parse(source)):  # h = g
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Name, ast.Attribute)):
            first, *rest = ast.unparse(node.value).split(".")
            if first in imported:
                full = ".".join([imported[first], *rest])
                imported |= {t.id: full for t in node.targets if isinstance(t, ast.Name)}
    used = {imported[name] for name in _names(source) if name in imported} | set(_imports(source, star=False).values())
    for node in ast.walk(_parse(source)):
        path = _path(node)
        if path and path[0] in imported:
            used.add(".".join([imported[path[0]], *path[1:]]))
    return {full for name in used for full in (name, _defined_in(name))}


def _path(node: ast.AST) -> list[str]:
    """["a", "b", "c"] for the expression a.b.c; [] for any other, and for one longer than any in the library."""
    names: list[str] = []
    while isinstance(node, ast.Attribute) and len(names) < 8:
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if names and isinstance(node, ast.Name) else []


def _imports(source: str, star: bool = True) -> dict[str, str]:
    """{name in the code: full name} for its import statements, wherever they stand."""
    found = {}
    for node in ast.walk(_parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.names[0].name == "*":
            found |= {name: f"{node.module}.{name}" for name in (_members(node.module) if star else ())}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                found[bound] = alias.name if alias.asname else bound
    return found


def _members(module: str) -> list[str]:
    """The public names of a module of the library; none for others, which are not imported here."""
    if module.partition(".")[0] != "minidiff":
        return []
    try:
        return [name for name in dir(importlib.import_module(module)) if not name.startswith("_")]
    except ImportError:
        return []


def _defined_in(name: str) -> str:
    """The full name where an object of the library is defined, for one that may be a re-export of it."""
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] != "minidiff":
        return name
    try:
        value = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        return name
    return f"{value.__module__}.{value.__qualname__}" if _is_of_library(value) else name
