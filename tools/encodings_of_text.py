"""Text that is read or written in the machine's own encoding, which on many machines cannot hold "→": `make check`.

python tools/encodings_of_text.py FILES        names the places; ruff's PLW1514 sees only those whose type it can infer
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

READS = {"read_text": 0, "write_text": 1}  # where the encoding may stand as a plain argument
OPENS = ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile")


def unnamed(source: str) -> Iterator[tuple[int, str]]:
    """(line, name of the call) of each call in `source` that handles text and names no encoding."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (name := _handles_text(node)):
            yield node.lineno, name


def _handles_text(call: ast.Call) -> str:
    """The call's name if it handles text without naming an encoding, else ""."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if "encoding" in given:
        return ""
    if any(getattr(given.get(key), "value", None) is True for key in ("text", "universal_newlines")):
        return name
    if None in given:  # **settings, which may name it
        return ""
    if name == "TextIOWrapper" or name in READS:
        return name if len(call.args) <= READS.get(name, 1) else ""
    return name if name in OPENS and _text_mode(call, name, given.get("mode")) else ""


def _text_mode(call: ast.Call, name: str, mode: ast.expr | None) -> bool:
    """Does a call that opens a file open it as text? `Image.open(picture)` and `archive.open(member)` name no mode."""
    method = isinstance(call.func, ast.Attribute)
    first = 0 if (method and name == "open") or "Temporary" in name else 1
    if mode is None:
        mode = call.args[first] if len(call.args) > first else None
    if mode is None:
        return "Temporary" not in name
    return isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rwax+t")


def main(paths: list[Path]) -> int:
    found = [f"{path}:{line}: {name}" for path in paths for line, name in unnamed(path.read_text(encoding="utf-8"))]
    print("\n".join(f'{place} names no encoding: write encoding="utf-8"' for place in found))
    return bool(found)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    folders = ("benchmarks", "lectures", "minidiff", "notebooks", "solutions", "tests", "tools")
    root = Path(__file__).resolve().parents[1]
    given = [Path(name) for name in sys.argv[1:]] or [
        path for f in folders for path in sorted((root / f).rglob("*.py"))
    ]
    sys.exit(main(given))
