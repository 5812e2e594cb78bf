"""The website, built without executing the notebooks: tools/check_site.py loads every page of it in a browser."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import check_site
import pytest
from playwright.sync_api import sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGE = """<!DOCTYPE html>
<html><head><title>t</title><link rel="icon" href="data:,">{head}</head><body>{body}</body></html>"""
MATHJAX = "<script>MathJax = {options: {processHtmlClass: 'math'}}</script><script src='mathjax.js'></script>"
FORMULA = "<p><span class='math'>\\(x_t\\)</span></p>"
FINE = f"""{FORMULA}<p id='here'>costs $5, or 6 $</p><code>$x$</code><a href='#here'>h</a><a href='https://a.org'>a</a>
<details><summary>Why?</summary>So.</details><details><summary>Figure</summary><img src="data:image/gif;base64,
R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="></details>"""
# What stands in the head and the body of a page: what must be said about it.
WRONG = {
    ("<script src='https://example.org/a.js'></script>", ""): "asks for https://example.org/a.js",
    ("<script>fetch('//example.org/b')</script>", ""): "asks for http://example.org/b",
    ("<script>console.error('oh')</script>", ""): "oh",
    ("<script>nobody()</script>", ""): "nobody is not defined",
    ("", "<a href='b.html'>b</a>"): "broken link b.html",
    ("", "<a href='#there'>b</a>"): "broken link #there",
    ("", "<a href='../outside.html'>b</a>"): "broken link ../outside.html",
    ("", "<img src='a.png'>"): "broken link a.png",
    ("", FORMULA): "MathJax did not load",
    (MATHJAX, "<p class='math'>\\(\\nosuch{x}\\)</p>"): "error of MathJax in",
    (MATHJAX, "<p class='math'>\\(x^2^3\\)</p>"): "error of MathJax in",
    (MATHJAX, "<p class='math'>\\(\\frac{x\\)</p>"): "formula not set",
    ("", "<details><summary>Answer</summary></details>"): "a folded part without",
    ("", "<details><summary></summary>forty</details>"): "a folded part without",
    ("", "<p>The score $\\nabla p$ is</p>"): "TeX left in the text",
}


def test_what_is_wrong_with_a_page_is_found_and_nothing_else(chromium, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.html").write_text("not of the site", encoding="utf-8")
    files = metadata.files("sphinx-mathjax-offline") or []
    (script,) = [file.locate() for file in files if file.name == "tex-svg-full.js"]
    shutil.copyfile(str(script), site / "mathjax.js")
    for i, (head, body) in enumerate([*WRONG, (MATHJAX, FINE)]):
        (site / f"page{i:02d}.html").write_text(PAGE.format(head=head, body=body), encoding="utf-8")
    found = check_site.complaints(site)
    for i, complaint in enumerate(WRONG.values()):
        said = [line for line in found if line.startswith(f"page{i:02d}.html: ")]
        assert any(complaint in line for line in said), (complaint, said)
    assert {line[:6] for line in found} == {f"page{i:02d}" for i in range(len(WRONG))}  # so the last page is fine


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory) -> Path:
    """Built and checked by the command that `make site` runs."""
    folder = tmp_path_factory.mktemp("website")
    line = [sys.executable, root / "tools" / "website" / "build.py", "--quick", "--repository", "owner/name"]
    built = subprocess.run(
        [*line, "--out", folder / "site", "--work", folder / "work"], capture_output=True, encoding="utf-8"
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_every_page_of_the_course_is_there_and_right(chromium, site, root):
    for kind, suffix in (("lectures", ".md"), ("notebooks", ".ipynb"), ("exercises", ".ipynb")):
        for source in (root / kind).glob(f"*{suffix}"):
            assert (site / kind / f"{source.stem}.html").exists()
    assert len(list((site / "api").glob("minidiff.*.html"))) > 50
    notebook = (site / "notebooks" / "01_bayes_rule.html").read_text(encoding="utf-8")
    assert "colab.research.google.com/github/owner/name/blob/main/notebooks/01_bayes_rule.ipynb" in notebook
    assert len(list((site / "_downloads").rglob("01_bayes_rule.ipynb"))) == 2  # the notebook and its exercises
    assert 'class="math' in (site / "lectures" / "01_bayes_rule.html").read_text(encoding="utf-8")


def test_the_search_finds_a_lecture(chromium, site):
    with check_site.served(site) as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=check_site.FLAGS)
        page = browser.new_page()
        page.goto(f"{home}/search.html?q=Tweedie")
        page.wait_for_selector("#search-results li a", timeout=check_site.PATIENCE)
        found = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.pathname)")
        browser.close()
    assert any(path.startswith("/lectures/") for path in found), found
