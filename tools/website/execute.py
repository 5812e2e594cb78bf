"""Executes a notebook once; the result is kept until the notebook, the library, PyTorch or matplotlib changes."""

import hashlib
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 600  # a cell that hangs, not one that is slow
WIDGET = "application/vnd.jupyter.widget-view+json"


def key(notebook: Path, root: Path) -> str:
    """Of everything that an output may depend on; the weights by their records, which hold their hashes."""
    library = [*(root / "minidiff").rglob("*.py"), *(root / "minidiff" / "assets").rglob("*.json")]
    digest = hashlib.sha256(f"{metadata.version('torch')} {metadata.version('matplotlib')}".encode())
    for file in [notebook, *sorted(library)]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def executed(notebook: Path, root: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, from `folder` if it is there. `CellExecutionError` when a cell fails."""
    kept = folder / f"{notebook.stem}-{key(notebook, root)}.ipynb"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{notebook.stem}-*"):
            old.unlink()
        node = nbformat.read(notebook, as_version=4)
        here = {"metadata": {"path": str(notebook.parent)}}
        # ipykernel warns that it speaks over TCP: to this machine alone.
        NotebookClient(node, timeout=CELL_SECONDS, resources=here, extra_arguments=["--log-level=ERROR"]).execute()
        part = kept.with_suffix(".part")
        nbformat.write(node, part)
        part.rename(kept)
    return nbformat.read(kept, as_version=4)


def without_widgets(node: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Of each widget the picture beside it stays; one without (a progress bar) goes."""
    node.metadata.pop("widgets", None)
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if shows_something(output)]
    return node


def shows_something(output: nbformat.NotebookNode) -> bool:
    """Takes the widget out; False if only its description is left."""
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or set(data) != {"text/plain"}
