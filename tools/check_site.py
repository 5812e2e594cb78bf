"""`python tools/check_site.py SITE`: loads every page of a built website in a browser, and says what is wrong.

Wrong are: a request to another host; an error in the console; mathematics that was not set (a formula without its
picture, an error of MathJax, TeX left in the text); a folded part without a title or without content; a link to a page,
file or place on a page that is not there.
Without Chromium only links are looked at; where CI is set, that counts as wrong.
"""

import functools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
PATIENCE = 600_000  # milliseconds for a page, on a machine that has much else to do

# In the page: what is wrong with its mathematics and its folded parts. Code may contain any sign.
SHOWN = r"""async () => {
    const formulas = Array.from(document.querySelectorAll('.math'));
    if (formulas.length && !window.MathJax?.startup) return ['MathJax did not load'];
    await window.MathJax?.startup?.promise;
    const short = node => node.textContent.trim().replace(/\s+/g, ' ').slice(0, 60);
    const wrong = formulas.filter(f => !f.querySelector('mjx-container')).map(f => 'formula not set: ' + short(f));
    // An unknown macro is no error for MathJax: it is printed, in red.
    const red = '[data-mml-node="mtext"][fill="red"]';
    for (const error of document.querySelectorAll(`mjx-merror, [data-mml-node="merror"], ${red}`))
        wrong.push('error of MathJax in: ' + short(error.closest('.math') ?? error));
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (node.parentElement.closest('pre, code, script, style, mjx-container, svg, title')) continue;
        if (/\$\$|\\\(|\\\[|\\[a-z]{3,}|\$[^$\s](?:[^$]*[^$\s])?\$/.test(node.textContent))
            wrong.push('TeX left in the text: ' + short(node));
    }
    for (const fold of document.querySelectorAll('details')) {
        const title = fold.querySelector(':scope > summary')?.textContent.trim();
        if (!title || (fold.textContent.trim() === title && !fold.querySelector('img')))
            wrong.push('a folded part without a title or content: ' + short(fold.previousElementSibling ?? fold));
    }
    return wrong;
}"""


class Links(HTMLParser):
    """What a page links to or loads, and the places on it that a link may name."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.targets.append(value)
            elif name == "id" or (tag == "a" and name == "name"):
                self.places.add(value or "")


def broken_links(site: Path) -> list[str]:
    """Of all pages, without a browser; addresses of other hosts are not looked at."""
    read = {file: Links(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in read.items():
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = Path(os.path.normpath(file.parent / unquote(parts.path))) if parts.path else file
            there = there / "index.html" if there.is_dir() else there
            place = unquote(parts.fragment)
            missing = place and there in read and place not in read[there].places
            if not there.exists() or not there.is_relative_to(site) or missing:
                found.append(f"{file.relative_to(site)}: broken link {target}")
    return found


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args) -> None:
        pass


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a server of the folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def wrong_pages(site: Path, chromium: str) -> list[str]:
    """What is wrong with each page when it is loaded."""
    from playwright.sync_api import sync_playwright

    found: list[str] = []
    with served(site) as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        page = browser.new_page()
        here = ""

        def guard(route) -> None:
            if route.request.url.startswith((f"{home}/", "data:", "blob:")):
                route.continue_()
            else:
                found.append(f"{here}: asks for {route.request.url}")
                route.abort("blockedbyclient")

        def console(message) -> None:
            if message.type == "error" and "ERR_BLOCKED_BY_CLIENT" not in message.text:
                found.append(f"{here}: {message.text} {message.location.get('url', '')}".rstrip())

        page.route("**/*", guard)
        page.on("console", console)
        page.on("pageerror", lambda error: found.append(f"{here}: {error}"))
        for file in sorted(site.rglob("*.html")):
            here = str(file.relative_to(site))
            page.goto(f"{home}/{here}", wait_until="load", timeout=PATIENCE)
            found += [f"{here}: {wrong}" for wrong in page.evaluate(SHOWN)]
        browser.close()
    return found


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def complaints(site: Path) -> list[str]:
    site = site.resolve()
    if not list(site.rglob("*.html")):
        return [f"no page in {site}"]
    chromium = find_chromium()
    if chromium is not None:
        return broken_links(site) + wrong_pages(site, chromium)
    print("no Chromium on this machine: links looked at, pages not loaded")
    return broken_links(site) + (["no Chromium"] if os.environ.get("CI") else [])


def main(site: Path) -> int:
    found = complaints(site)
    print("\n".join(found) or "every page is as it should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
