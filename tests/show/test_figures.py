"""The figures of a chapter are drawn in its notebook or its solutions: no function lies there unused."""

import ast
from pathlib import Path

import pytest

from minidiff.show import figures

FILES = sorted(path for path in Path(figures.__path__[0]).glob("*.py") if path.stem != "__init__")


def public(text: str) -> set[str]:
    return {n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}


def drawn(text: str, module: str) -> set[str]:
    """What a script calls of a module of figures, under whatever name it imports it."""
    tree = ast.parse(text)
    named = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    known = {alias.asname or alias.name for alias in named if alias.name == module}
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_figure_is_drawn_in_its_chapter(root, path):
    (notebook,) = (root / "notebooks").glob(f"[0-9][0-9]_{path.stem}.py")
    scripts = [notebook, root / "solutions" / notebook.name]
    text = path.read_text(encoding="utf-8")
    used = {name for script in scripts for name in drawn(script.read_text(encoding="utf-8"), path.stem)}
    assert public(text)
    assert public(text) - used == set()


def test_controls():
    assert public("def a(): pass\ndef _b(): pass\nc = 1") == {"a"}
    script = "from x import toy as draw, other\ndraw.a(1)\nother.b()"
    assert drawn(script, "toy") == {"a"}
    assert drawn(script, "third") == set()
