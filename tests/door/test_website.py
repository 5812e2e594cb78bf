"""The website's sources: docstrings as reStructuredText, links, chapters, notebooks executed once."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import nbformat
import pytest
from docutils.core import publish_doctree
from nbclient.exceptions import CellExecutionError
from website import api, chapters
from website.docstrings import prose, signature, to_rst
from website.execute import WIDGET, executed, without_widgets
from website.links import Links

# ---------------------------------------------------------------- docstrings


def rendered(lines: list[str]) -> str:
    """What a reader sees, one space between words; a message of docutils is an error."""
    settings = {"halt_level": 1, "report_level": 1}
    return " ".join(publish_doctree("\n".join(to_rst(lines)), settings_overrides=settings).astext().split())


@pytest.mark.parametrize(
    "text",
    [
        "x_t, **cond and *others: E[x0 | x_t] is |x| at t_",
        "ends with two colons::",
        "- a sign first, (i) or 3. or .. note:: too",
        "a \\ b, \\alpha_t, a<b>_ and [1]_",
    ],
)
def test_signs_mean_themselves(text):
    assert rendered([text]) == text


def test_names_become_code_and_papers_links():
    (paragraph,) = publish_doctree(prose("`w`s and `x_t`: it *is* 2*x*y (arXiv 2207.12598)")).children
    inside = {node.tagname: node for node in paragraph.findall()}
    assert [node.astext() for node in paragraph.findall() if node.tagname == "literal"] == ["w", "x_t"]
    assert inside["emphasis"].astext() == "is"
    assert inside["reference"]["refuri"] == "https://arxiv.org/abs/2207.12598"
    assert paragraph.astext() == "ws and x_t: it is 2*x*y (arXiv 2207.12598)"


def test_columns_keep_their_layout_and_sentences_flow():
    tree = publish_doctree(
        "\n".join(to_rst(["One", "sentence:", "w = 0   plain", "w = −1  not asked", "", "    x = y"]))
    )
    assert [node.tagname for node in tree.children] == ["paragraph", "literal_block", "literal_block"]
    assert [node.astext() for node in tree.children] == ["One sentence:", "w = 0   plain\nw = −1  not asked", "x = y"]


def docstrings(file: Path):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [found for node in ast.walk(tree) if isinstance(node, documented) if (found := ast.get_docstring(node))]


def test_every_docstring_of_the_library_reads_as_it_is_written(root):
    files = api.modules(root).values()
    texts = [text for file in files for text in docstrings(file)]
    assert len(files) > 50
    assert len(texts) > 300
    for text in texts:
        shown, written = rendered(text.splitlines()), " ".join(text.split())
        assert re.sub(r"[`*]", "", shown) == re.sub(r"[`*]", "", written)


def test_signatures_are_those_of_the_source():
    guidance = importlib.import_module("minidiff.guidance")
    denoiser = importlib.import_module("minidiff.denoiser")
    arguments, result = signature(guidance.extrapolate) or ("", "")
    assert (arguments, result) == ("(good: Denoise, bad: Denoise, w: Weight)", "Denoise")
    assert "Callable" in str(inspect.signature(guidance.extrapolate))  # the control: what Python says spells it out
    assert (signature(denoiser.Denoiser.forward) or [""])[0].startswith("(x_t")  # no self
    assert signature(len) is None


# ---------------------------------------------------------------- links and chapters

PAGES = {
    "lectures/01_a.md": "lectures/01_a.md",
    "notebooks/01_a.ipynb": "notebooks/01_a.ipynb",
    "minidiff/course/GRADING.md": "guide/grading.md",
    "minidiff/nn/block.py": "api/minidiff.nn.block.rst",
}


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("lectures/01_a.md", "[n](../notebooks/01_a.ipynb#x)", "[n](../notebooks/01_a.ipynb#x)"),
        ("minidiff/course/GRADING.md", "[b](../nn/block.py)", "[b](../api/minidiff.nn.block.rst)"),
        ("lectures/01_a.md", "[t](../tests/t.py) there", "t there"),
        ("lectures/01_a.md", "[o](https://a.org/b.md), [h](#here)", "[o](https://a.org/b.md), [h](#here)"),
        ("lectures/01_a.md", "(arXiv 2207.12598)", "([arXiv 2207.12598](https://arxiv.org/abs/2207.12598))"),
        ("lectures/01_a.md", "1501.00001, not 2.71828", "[1501.00001](https://arxiv.org/abs/1501.00001), not 2.71828"),
        ("lectures/01_a.md", "`[t](../t.py)` and $[t](t)$", "`[t](../t.py)` and $[t](t)$"),
        ("lectures/01_a.md", "```\n[t](../t.py)\n```\n[t](../t.py)", "```\n[t](../t.py)\n```\nt"),
    ],
)
def test_links_lead_to_pages_of_the_site(path, text, expected):
    assert Links(PAGES).rewritten(text, path) == expected


def test_markdown_in_a_summary_is_read_and_stays_in_its_list():
    text = "1. Why?\n\n   <details><summary>At $t$</summary>\n\n   So.\n\n   </details>"
    expected = text.replace("<summary>At $t$<", "<summary>\n\n   At $t$\n\n   <")
    assert Links(PAGES).rewritten(text, "lectures/01_a.md") == expected
    plain = text.replace("At $t$", "Answer")
    assert Links(PAGES).rewritten(plain, "lectures/01_a.md") == plain


def test_what_has_no_page_is_linked_in_the_repository_if_that_is_known():
    there = Links(PAGES, "owner/name").rewritten("[t](../tests/t.py)", "lectures/01_a.md")
    assert there == "[t](https://github.com/owner/name/blob/main/tests/t.py)"


def test_every_chapter_has_a_line_and_those_that_are_written_a_question(root):
    found = chapters.chapters(root)
    assert [chapter.number for chapter in found] == [f"{n:02d}" for n in range(1, 24)]
    assert len(chapters.by_part(found)) == 4
    written = [chapter for chapter in found if chapter.name]
    lectures = [(root / "lectures" / f"{chapter.name}.md").read_text(encoding="utf-8") for chapter in written]
    assert [len(chapters.question(text)) > 20 for text in lectures] == [True] * len(lectures)
    assert chapters.table(root).count("(planned)") == len(found) - len(written)


# ---------------------------------------------------------------- notebooks


@pytest.fixture
def course(tmp_path) -> tuple[Path, Path]:
    """A repository of one module and one notebook, which counts how often it runs."""
    (tmp_path / "minidiff").mkdir()
    (tmp_path / "minidiff" / "a.py").write_text("x = 1\n", encoding="utf-8")
    code = "print('ran', file=open('count.txt', 'a'))\nassert open('minidiff/a.py').read() != 'broken'"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    return tmp_path, tmp_path / "n.ipynb"


@pytest.mark.slow
def test_a_notebook_is_executed_again_only_when_something_changed(course):
    root, notebook = course
    runs = lambda: len((root / "count.txt").read_text(encoding="utf-8").splitlines())
    assert executed(notebook, root, root / "kept").cells[0].execution_count == 1
    executed(notebook, root, root / "kept")
    assert runs() == 1
    (root / "minidiff" / "a.py").write_text("broken", encoding="utf-8")
    with pytest.raises(CellExecutionError):
        executed(notebook, root, root / "kept")
    assert runs() == 2
    assert list((root / "kept").iterdir()) == []  # neither the old result nor half of a new one


def test_widgets_are_shown_as_their_pictures():
    output = lambda **data: nbformat.v4.new_output("display_data", data)
    view = {"model_id": "1"}
    outputs = [
        output(**{WIDGET: view, "image/png": "AAAA", "text/plain": "[figure]"}),
        output(**{WIDGET: view, "text/plain": "  0%|   | 0/400"}),
        output(**{"text/plain": "0.5"}),
    ]
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)], metadata={"widgets": {}})
    shown = without_widgets(node)
    assert [sorted(output.data) for output in shown.cells[0].outputs] == [["image/png", "text/plain"], ["text/plain"]]
    assert "widgets" not in shown.metadata
