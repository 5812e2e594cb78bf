"""`python tools/run_notebook.py NOTEBOOK`: execute it once from top to bottom, save it, and say what is wrong.

As in JupyterLab's "Run all cells" and "Save": the first exception stops it, the outputs and the widgets' state are
kept, and what is saved (to a temporary file) must be a valid notebook.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

CELL_SECONDS = 600  # a cell that hangs, not one that is slow


def save(notebook: nbformat.NotebookNode) -> None:
    """Through a file and back. `nbformat.ValidationError` if the file would not be valid."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.ipynb"
        nbformat.write(notebook, path)
        nbformat.validate(nbformat.read(path, as_version=nbformat.NO_CONVERT))


def main(path: Path) -> str:
    """What is wrong, "" if nothing is."""
    notebook = nbformat.read(path, as_version=4)
    here = {"metadata": {"path": str(path.parent)}}
    try:
        save(NotebookClient(notebook, timeout=CELL_SECONDS, resources=here).execute())
    except (CellExecutionError, CellTimeoutError, nbformat.ValidationError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    if complaint := main(Path(sys.argv[1])):
        sys.exit(complaint)
