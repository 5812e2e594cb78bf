"""The pages of the library: one per module, made by Sphinx from its docstrings, and one that lists them.

`minidiff.course` has none: its checks hold the exercises' answers. Instructors have guides of their own.
"""

import ast
from collections.abc import Callable
from pathlib import Path

PAGE = """{title}
{line}

.. automodule:: {title}
   :members:
   :member-order: bysource
{options}"""
INDEX = """The library
===========

Data, condition, model, guidance, sampler, picture, judge: each module holds one idea and reads from top to bottom.
"[source]" beside a name shows its code.
"""


def modules(root: Path) -> dict[str, Path]:
    """{"minidiff.nn.block": its file}, sorted by name; packages that only hold others are left out."""
    found = {}
    for file in sorted((root / "minidiff").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if file.stat().st_size and name != "minidiff.cli" and not name.startswith("minidiff.course"):
            found[name] = file
    return dict(sorted(found.items()))


def purpose(file: Path) -> str:
    """The first paragraph of a module's docstring, in one line."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def folder(name: str, file: Path) -> str:
    """The heading under which a module is listed: its package, or "minidiff" for those right in it."""
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def page(name: str, file: Path) -> str:
    # A name has one place in the index: with the module that defines it, not where it can be imported from, too.
    options = "   :no-index:\n" if file.name == "__init__.py" else "   :ignore-module-all:\n"
    return PAGE.format(title=name, line="=" * len(name), options=options)


def pages(root: Path, prose: Callable[[str], str]) -> dict[str, str]:
    """{path on the site: reStructuredText}; `prose` writes a sentence of plain text as reStructuredText."""
    found = modules(root)
    made = {f"api/{name}.rst": page(name, file) for name, file in found.items()}
    index = [INDEX]
    for package in dict.fromkeys(sorted(folder(name, file) for name, file in found.items())):
        names = [name for name, file in found.items() if folder(name, file) == package]
        index += [package, "-" * len(package), ""]
        index += [f":doc:`{name} <{name}>`\n   {prose(purpose(found[name]))}\n" for name in names]
        index += [".. toctree::", "   :hidden:", "", *(f"   {name[9:]} <{name}>" for name in names), ""]
    return {**made, "api/index.rst": "\n".join(index)}
