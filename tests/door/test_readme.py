"""What the README says is there is there."""

import json
import re
from pathlib import Path

import pytest

CHAPTERS = 23


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def rows(text: str) -> dict[str, str]:
    """The chapter rows of a Markdown table: {"01": the row}."""
    return {found[1]: found[0] for found in re.finditer(r"^(?:# )?\| (\d\d) \|.*$", text, re.MULTILINE)}


def test_make_targets_exist(root, readme):
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)\b", readme))
    assert {"lab", "test", "fast"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"the README says make {target}"


def test_minidiff_commands_exist(readme):
    from minidiff import cli

    named = set(re.findall(r"`minidiff ([a-z]+)", readme))
    assert {"build", "train", "sample"} <= named
    known = re.findall(r"^def run_([a-z]+)\(", Path(cli.__file__).read_text(encoding="utf-8"), re.MULTILINE)
    assert named <= set(known)


def test_every_link_leads_to_a_file(root, readme):
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    local = [link for link in links if "://" not in link]
    assert len(local) > 15
    assert [link for link in local if not (root / link).exists()] == []


def test_powershell_lines_use_files_and_extras_that_exist(root, readme):
    (block,) = re.findall(r"```powershell\n(.*?)```", readme, re.DOTALL)
    for script in re.findall(r"tools\\(\w+\.py)", block):
        assert (root / "tools" / script).exists()
    for extra in re.findall(r"\.\[(\w+)\]", block):
        assert f"\n{extra} = [" in (root / "pyproject.toml").read_text(encoding="utf-8")


def test_chapters_are_linked_or_planned_and_nothing_finished_is_called_planned(root, readme):
    table = rows(readme)
    assert sorted(table) == [f"{n:02d}" for n in range(1, CHAPTERS + 1)]
    for number, row in table.items():
        written = list((root / "notebooks").glob(f"{number}_*.py"))
        assert ("planned" in row) == (not written), row
        if written:
            name = written[0].stem
            for place in (f"lectures/{name}.md", f"notebooks/{name}.ipynb", f"exercises/{name}.ipynb"):
                assert f"({place})" in row


def test_the_start_page_has_the_same_chapters(root, readme):
    page = rows((root / "notebooks" / "00_start.py").read_text(encoding="utf-8"))
    title = {n: row.strip("# ").split("|")[2].strip() for n, row in page.items()}
    assert title == {n: row.split("|")[2].strip() for n, row in rows(readme).items()}
    for number, row in page.items():
        for link in re.findall(r"\]\(([^)]+)\)", row):
            assert (root / "notebooks" / link).exists(), link
        assert ("](" in row) == ("](" in rows(readme)[number])


def test_every_notebook_states_a_budget_and_a_purpose(root):
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    assert len(notebooks) >= 5
    for notebook in notebooks:
        first = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
        found = re.search(r"Budget: (\d+) s on two CPU cores", first)
        assert found, f"{notebook.name}: no budget in its first cell"
        assert 10 <= int(found[1]) <= 90, notebook.name


def test_licence_and_citation_agree(root, readme):
    assert "Apache-2.0" in readme
    assert (root / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert 'license = "Apache-2.0"' in (root / "pyproject.toml").read_text(encoding="utf-8")
    assert "license: Apache-2.0" in (root / "CITATION.cff").read_text(encoding="utf-8")
