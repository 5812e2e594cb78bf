"""The rules of the root conftest.py, on notebooks made to break them."""

import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytestmark = pytest.mark.slow


def outcome(root, folder, first: str, code: str) -> str:
    """What pytest prints about a notebook with this first cell and this code, under the repository's conftest.py."""
    shutil.copy(root / "conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = notebook\n")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[new_markdown_cell(first), new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, folder / "made.ipynb")
    line = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "made.ipynb"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300).stdout


def test_a_notebook_within_its_budget_passes(root, tmp_path):
    said = outcome(root, tmp_path, "# Made\n\n**Budget: 60 s on two CPU cores.**", "1 + 1")
    assert "2 passed" in said
    assert "seconds per notebook" in said


def test_a_notebook_far_over_its_budget_fails_though_its_cells_pass(root, tmp_path):
    said = outcome(root, tmp_path, "Budget: 1 s on two CPU cores", "import time; time.sleep(4)")
    assert "1 failed, 1 passed" in said
    assert "3 times its budget is 3 s" in said


def test_a_notebook_without_a_budget_fails(root, tmp_path):
    said = outcome(root, tmp_path, "# Made", "1 + 1")
    assert "1 failed, 1 passed" in said
    assert "its first cell should say" in said


def test_a_cell_that_raises_fails(root, tmp_path):
    said = outcome(root, tmp_path, "Budget: 60 s on two CPU cores", "assert 1 + 1 == 3")
    assert "1 failed, 1 passed" in said
