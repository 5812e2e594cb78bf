"""`minidiff build`: from percent scripts to notebooks, the same bytes every time.

notebooks/NN_topic.py  →  notebooks/NN_topic.ipynb
solutions/NN_topic.py  →  solutions/NN_topic.ipynb   everything
                       →  exercises/NN_topic.ipynb   without the solutions
"""

import copy
from pathlib import Path

from minidiff.course import masters
from minidiff.course.masters import MasterError, Notebook
from minidiff.validate import require

_CLONE = "a clone of the course, with scripts in notebooks/ or solutions/"


def plan(root: Path, names: list[str] | None = None) -> dict[Path, str]:
    """Every notebook that belongs to the scripts under `root`, as {path: text}; `names` keeps only these stems.

    `MasterError` if scripts are wrong (it names all of them), `ValueError` for a root without scripts, or a name that
    no script has.
    """
    lessons, solutions = (sorted((root / folder).glob("*.py")) for folder in ("notebooks", "solutions"))
    known = sorted({path.stem for path in lessons + solutions})
    require(bool(known), "root", root, _CLONE)
    for name in names or ():
        require(name in known, "name", repr(name), f"one of {known}")
    wanted = [path for path in lessons + solutions if names is None or path.stem in names]
    texts: dict[Path, str] = {}
    problems: dict[Path, list[str]] = {}
    for path in wanted:
        try:
            texts |= _texts(root, path)
        except MasterError as error:
            problems |= error.problems
    if problems:
        raise MasterError(problems)
    return texts


def _texts(root: Path, path: Path) -> dict[Path, str]:
    """The notebooks that one script makes: a lesson itself, or a master with and without its solutions."""
    if path.parent.name == "notebooks":
        return {path.with_suffix(".ipynb"): _text(masters.read(path))}
    notebook = masters.read_master(path)
    student = masters.strip(path, copy.deepcopy(notebook))
    return {path.with_suffix(".ipynb"): _text(notebook), root / "exercises" / f"{path.stem}.ipynb": _text(student)}


def stale(root: Path, names: list[str] | None = None) -> list[str]:
    """One line per notebook that is missing, differs from what its script gives, or has no script."""
    texts = plan(root, names)
    found = [_compare(path.relative_to(root), path, text) for path, text in texts.items()]
    if names is None:
        built = [path for folder in ("notebooks", "solutions", "exercises") for path in (root / folder).glob("*.ipynb")]
        found += [f"{path.relative_to(root)}: no script makes it" for path in sorted(built) if path not in texts]
    return [line for line in found if line]


def build(root: Path, names: list[str] | None = None) -> list[Path]:
    """Write every notebook whose text changes and return their paths. Nothing is written if any master is wrong."""
    written = []
    for path, text in plan(root, names).items():
        if _compare(path, path, text):
            path.parent.mkdir(exist_ok=True)
            # Written beside and renamed: whoever opens the notebook meanwhile sees the old one or the new one.
            part = path.with_name(f".{path.name}.part")
            part.write_text(text, encoding="utf-8", newline="\n")
            part.replace(path)
            written.append(path)
    return written


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards that holds the course (pyproject.toml, notebooks, solutions)."""
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").exists() and (
            (folder / "notebooks").is_dir() or (folder / "solutions").is_dir()
        ):
            return folder
    raise ValueError(f"root: got {start}, expected a folder inside {_CLONE}")


def _compare(shown: Path, path: Path, text: str) -> str:
    if not path.exists():
        return f"{shown}: missing"
    built = path.read_bytes().replace(b"\r\n", b"\n")  # a clone on Windows may have these line ends
    return "" if built == text.encode("utf-8") else f"{shown}: out of date"


def _text(notebook: Notebook) -> str:
    import nbformat

    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT, indent=1, sort_keys=True).rstrip("\n") + "\n"


__all__ = ["MasterError", "build", "find_root", "plan", "stale"]
