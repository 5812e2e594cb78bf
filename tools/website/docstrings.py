"""The library's docstrings are plain text; Sphinx reads reStructuredText. This writes the one as the other.

Names between single backticks become code, aligned columns and indented lines keep their layout, everything else is a
paragraph in which no character means anything but itself.
"""

import ast
import inspect
import re
from functools import lru_cache
from itertools import groupby
from pathlib import Path

COLUMNS = re.compile(r"\S {2,}\S")
EMPHASIS = re.compile(r"(?<![\w*])\\\*(\w[^*]*?\w|\w)\\\*(?![\w*])")
LAYOUT = ".. code-block:: text"
PAPER = re.compile(r"arXiv (\d{4}\.\d{4,5})")


def to_rst(lines: list[str]) -> list[str]:
    """A docstring's lines, their common indentation removed, as lines of reStructuredText."""
    written: list[str] = []
    for empty, block in groupby(lines, key=lambda line: not line.strip()):
        if not empty:
            for laid_out, chunk in chunks(list(block)):
                written += [LAYOUT, "", *(f"   {line}" for line in chunk)] if laid_out else [prose(" ".join(chunk))]
                written.append("")
    return written


def chunks(block: list[str]) -> list[tuple[bool, list[str]]]:
    """A paragraph in pieces: (True, lines whose layout means something) or (False, lines of running text)."""
    found: list[tuple[bool, list[str]]] = []
    for laid_out, group in groupby(block, key=lambda line: line.startswith(" ") or bool(COLUMNS.search(line))):
        lines = list(group)
        # One line with two spaces is a sentence with a wide gap, not a table.
        laid_out = laid_out and (len(lines) > 1 or lines[0].startswith(" "))
        if found and not laid_out and not found[-1][0]:
            found[-1][1].extend(lines)
        else:
            found.append((laid_out, lines))
    return found


def prose(text: str) -> str:
    """One paragraph; `name` becomes code, *word* emphasis, "arXiv 2207.12598" a link."""
    pieces = re.split(r"`([^`]+)`", text)
    # "\\ " is a space that is not printed: it lets code stand beside a letter, and a paragraph begin with a sign.
    return "\\ " + "".join(f"\\ ``{p.strip()}``\\ " if i % 2 else escaped(p) for i, p in enumerate(pieces))


def escaped(text: str) -> str:
    text = re.sub(r"([\\*`|_:])", r"\\\1", text)
    text = EMPHASIS.sub(r"\\ *\1*\\ ", text)
    return PAPER.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", text)


def signature(function: object) -> tuple[str, str] | None:
    """(arguments, result) as they stand in the source, where `Denoise` is not spelled out; None if there is none."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    node = functions(code.co_filename).get(code.co_firstlineno) if code and Path(code.co_filename).exists() else None
    if node is None:
        return None
    arguments = ast.unparse(node.args)
    arguments = re.sub(r"^(self|cls)(, |$)", "", arguments)
    return f"({arguments})", ast.unparse(node.returns) if node.returns else ""


@lru_cache
def functions(file: str) -> dict[int, ast.FunctionDef]:
    """{first line, decorators included: function} of a file."""
    nodes = [node for node in ast.walk(ast.parse(Path(file).read_bytes())) if isinstance(node, ast.FunctionDef)]
    return {min([node.lineno, *(d.lineno for d in node.decorator_list)]): node for node in nodes}
