"""The library's docstrings are plain text; Sphinx reads reStructuredText. This writes the one as the other.

Names between single backticks become code, aligned columns and indented lines keep their layout, everything else is a
paragraph in which no character means anything but itself.
"""

import ast
import inspect
import re
import textwrap
from itertools import groupby

COLUMNS = re.compile(r"\S {2,}\S")
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
    """One paragraph; `name` becomes code, "arXiv 2207.12598" a link."""
    pieces = re.split(r"`([^`]+)`", text)
    # "\\ " is a space that is not printed: it lets code stand beside a letter, and a paragraph begin with a sign.
    return "\\ " + "".join(f"\\ ``{p.strip()}``\\ " if i % 2 else escaped(p) for i, p in enumerate(pieces))


def escaped(text: str) -> str:
    text = re.sub(r"([\\*`|_:])", r"\\\1", text)
    return PAPER.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", text)


def signature(function: object) -> tuple[str, str] | None:
    """(arguments, result) as they stand in the source, where `Denoise` is not spelled out; None if there is none."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(node, ast.FunctionDef):
        return None
    positional = node.args.posonlyargs or node.args.args
    if positional and positional[0].arg in ("self", "cls"):
        del positional[0]
    return f"({ast.unparse(node.args)})", ast.unparse(node.returns) if node.returns else ""
