"""The door, opened: a real JupyterLab on this machine, a real browser, chapter 01 from top to bottom, a slider moved,
strokes painted and a frame dragged with a mouse.

The browser may speak to 127.0.0.1 and to nobody else: whatever it asks of another host is refused and fails the test.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, WebSocket, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOK = "01_bayes_rule.ipynb"
TOKEN = "door"
MINUTE = 60_000  # in Playwright's milliseconds
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# In the page, `jupyterapp` is JupyterLab itself. Results are read from the notebook's model, not from what happens to
# be drawn: JupyterLab keeps cells outside the window out of the page.
IDLE = """() => {
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return context?.isReady && context.session?.kernel?.status === 'idle';
}"""
RUN_ALL = """() => {
    window.finished = null;
    jupyterapp.commands.execute('notebook:run-all-cells').then(
        () => { window.finished = 'done' }, error => { window.finished = 'failed: ' + error });
}"""
OUTPUTS = """() => Array.from(jupyterapp.shell.currentWidget.content.model.cells).map(cell => ({
    type: cell.type, count: cell.executionCount ?? null, outputs: cell.outputs ? cell.outputs.toJSON() : []}))"""
SHOW_CELL = """async index => {
    const notebook = jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    await notebook.scrollToItem(index, 'start');
}"""
# The pixels of the picture beside the slider, as a short text that differs when they do. A new one takes time to load.
PIXELS = """async image => {
    for (let tries = 0; tries < 600 && !(image.complete && image.naturalWidth); tries++)
        await new Promise(resolve => setTimeout(resolve, 50));
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    let sum = 0;
    for (const [i, v] of context.getImageData(0, 0, canvas.width, canvas.height).data.entries())
        sum = (sum * 31 + v + i % 7) % 4294967291;
    return `${canvas.width}x${canvas.height} ${sum}`;
}"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(server: subprocess.Popen, address: str, log: Path, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"JupyterLab did not answer at {address}:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture(scope="module")
def lab(root: Path, tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab started as `make lab` starts it, on a copy of the notebooks, with empty settings."""
    tmp = tmp_path_factory.mktemp("lab")
    shutil.copytree(root / "notebooks", tmp / "notebooks", ignore=shutil.ignore_patterns("*.py", ".ipynb_checkpoints"))
    places = {f"JUPYTER_{name}_DIR": str(tmp / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {f"JUPYTERLAB_{name}_DIR": str(tmp / name) for name in ("SETTINGS", "WORKSPACES")}
    environment = {**os.environ, **places, "IPYTHONDIR": str(tmp / "ipython")}
    environment = {k: v for k, v in environment.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    port = free_port()
    line = [sys.executable, str(root / "tools" / "open_lab.py"), f"--ServerApp.root_dir={tmp}", f"--port={port}"]
    line += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True"]
    log = tmp / "log.txt"
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(line, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for(server, f"http://127.0.0.1:{port}/api", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)  # JupyterLab, started above in a session of its own, and its kernels
            server.wait(30)


class Watch:
    """What a page must not do: speak to another host, or fail."""

    def __init__(self, page: Page, home: str):
        self.home, self.outside, self.errors = home, [], []
        page.route("**/*", self.request)
        page.on("websocket", self.websocket)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def request(self, route: Route) -> None:
        if route.request.url.startswith((self.home, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def websocket(self, socket: WebSocket) -> None:
        if not socket.url.startswith(self.home.replace("http", "ws", 1)):
            self.outside.append(socket.url)


@pytest.fixture
def opened(lab: str, chromium: str) -> Iterator[tuple[Page, Watch]]:
    """The chapter open in the browser, its kernel idle."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        watch = Watch(page, lab)
        page.goto(f"{lab}/lab/tree/notebooks/{NOTEBOOK}?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=2 * MINUTE)
        page.wait_for_function(IDLE, timeout=2 * MINUTE)
        yield page, watch
        browser.close()


def has_widget(cell: dict) -> bool:
    return any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in cell["outputs"])


def move_slider(page: Page, cell_index: int, shots: Path) -> tuple[str, str]:
    """Press the right arrow key on the cell's first slider; the fingerprints of its picture before and after."""
    page.evaluate(SHOW_CELL, cell_index)
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.wait_for(timeout=MINUTE)
    image = page.locator(".jp-OutputArea-output:has(.widget-slider) img").first
    image.wait_for(timeout=MINUTE)
    page.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=image.element_handle(), timeout=MINUTE)
    before = image.evaluate(PIXELS)
    page.screenshot(path=shots / "before.png")
    handle.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    after, until = before, time.monotonic() + 60
    while after == before and time.monotonic() < until:
        page.wait_for_timeout(200)
        after = image.evaluate(PIXELS)
    page.wait_for_function(IDLE, timeout=MINUTE)
    page.screenshot(path=shots / "after.png")
    return before, after


def test_chapter_one_runs_in_the_browser_and_its_slider_moves_the_picture(opened, tmp_path):
    page, watch = opened
    page.evaluate(RUN_ALL)
    page.wait_for_function("() => window.finished !== null", timeout=6 * MINUTE)
    assert page.evaluate("window.finished") == "done"
    cells = page.evaluate(OUTPUTS)
    code = [cell for cell in cells if cell["type"] == "code"]
    assert len(code) >= 5
    outputs = [output for cell in code for output in cell["outputs"]]
    assert [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"] == []
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []
    assert all(cell["count"] for cell in code), "a cell did not run"
    with_widget = [i for i, cell in enumerate(cells) if has_widget(cell)]
    assert with_widget, f"{NOTEBOOK} shows no widget"
    before, after = move_slider(page, with_widget[0], tmp_path)
    assert after != before, "the slider moved and the picture did not"
    assert page.locator(".jp-toast, .Toastify__toast").count() == 0, "a message covers the page"
    assert watch.errors == []
    assert watch.outside == []


def test_the_watch_sees_and_refuses_other_hosts(opened):
    """The control: a page that does speak to another host is caught."""
    page, watch = opened
    refused = page.evaluate("() => fetch('https://example.org/').then(() => 'answered', () => 'refused')")
    assert refused == "refused"
    assert watch.outside == ["https://example.org/"]


# ---------------------------------------------------------------- a canvas to paint on

PAINT = """import matplotlib.pyplot as plt
import torch
from minidiff.show.painter import paint

def draw(guide, t0):
    figure = plt.figure(figsize=(2, 2))
    figure.gca().imshow(((guide + 1) / 2).permute(1, 2, 0).numpy())
    return figure

painter = paint(draw, {"ground": (1.0, 1.0, 1.0), "red": (0.9, 0.1, 0.1)}, torch.ones(3, 16, 16))"""
INKED = """canvas => {
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let red = 0;
    for (let i = 0; i < data.length; i += 4) red += data[i] > 200 && data[i + 1] < 60;
    return red;
}"""


def put_notebook(lab: str, path: str, source: str) -> None:
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    content = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    body = json.dumps({"type": "notebook", "content": content}).encode()
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{lab}/api/contents/{path}", body, headers, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


def drag(page, canvas, start, end) -> None:
    box = canvas.bounding_box()
    at = lambda p: (box["x"] + p[0] * box["width"], box["y"] + p[1] * box["height"])
    page.mouse.move(*at(start))
    page.mouse.down()
    page.mouse.move(*at(end), steps=6)
    page.mouse.up()


@contextmanager
def canvas_of(
    lab: str, chromium: str, name: str, source: str, what: str = ".jp-OutputArea-output canvas"
) -> Iterator[tuple[Page, Locator, Locator]]:
    """A notebook of one cell, run: its page, its canvas (or the first `what`), the picture beside it. Nothing may have
    failed at the end."""
    put_notebook(lab, f"notebooks/{name}.ipynb", source)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        watch = Watch(page, lab)
        page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=2 * MINUTE)
        page.wait_for_function(IDLE, timeout=2 * MINUTE)
        page.evaluate(RUN_ALL)
        page.wait_for_function("() => window.finished !== null", timeout=2 * MINUTE)
        errors = [o for c in page.evaluate(OUTPUTS) for o in c["outputs"] if o["output_type"] == "error"]
        assert errors == []
        canvas = page.locator(what).first
        canvas.wait_for(timeout=MINUTE)
        canvas.scroll_into_view_if_needed()
        yield page, canvas, page.locator(".jp-OutputArea-output img").first
        browser.close()
    assert watch.errors == []
    assert watch.outside == []


def changed(page: Page, image: Locator, before: str) -> str:
    """The picture's pixels once they are others than `before`, or after a minute."""
    after, until = before, time.monotonic() + 60
    while after == before and time.monotonic() < until:
        page.wait_for_timeout(200)
        after = image.evaluate(PIXELS)
    return after


def test_a_mouse_paints_and_the_button_samples(lab, chromium, tmp_path):
    with canvas_of(lab, chromium, "paint", PAINT) as (page, canvas, image):
        before = image.evaluate(PIXELS)
        assert canvas.evaluate(INKED) == 0
        drag(page, canvas, (0.25, 0.5), (0.75, 0.5))
        page.wait_for_function(f"canvas => ({INKED})(canvas) > 1000", arg=canvas.element_handle(), timeout=MINUTE)
        page.screenshot(path=tmp_path / "painted.png")
        assert image.evaluate(PIXELS) == before  # painting alone samples nothing
        page.get_by_role("button", name="sample").click()
        after = changed(page, image, before)
        page.screenshot(path=tmp_path / "sampled.png")
        assert after != before, "the button was pressed and the picture did not change"


# ---------------------------------------------------------------- a frame to drag

FRAME = """import matplotlib.pyplot as plt
import torch
from minidiff.show.framer import frame

def draw(top, left, **more):
    figure = plt.figure(figsize=(2, 4))
    figure.text(0.2, 0.5, f"({top:.0f}, {left:.0f})")
    return figure

framer = frame(draw, torch.ones(3, 96, 96), 64, file=[64, 16], by=["base", "both"])"""
# Where the frame's upper edge is: the first row of the canvas with a whole line of its colour.
EDGE = """canvas => {
    const {data, width, height} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    for (let y = 0; y < height; y++) {
        let dark = 0;
        for (let x = 0; x < width; x++) dark += data[4 * (y * width + x) + 2] < 100;
        if (dark > width / 2) return y;
    }
    return -1;
}"""


def test_a_mouse_drags_the_frame_and_the_model_draws_when_it_lets_go(lab, chromium, tmp_path):
    with canvas_of(lab, chromium, "frame", FRAME) as (page, canvas, image):
        before, box = image.evaluate(PIXELS), canvas.bounding_box()
        assert (box["width"], box["height"]) == pytest.approx(
            (288, 288), abs=1
        )  # 3 screen pixels a pixel, not stretched
        page.wait_for_function(f"canvas => ({EDGE})(canvas) >= 0", arg=canvas.element_handle(), timeout=MINUTE)
        assert canvas.evaluate(EDGE) <= 3
        drag(page, canvas, (0.3, 0.3), (0.3, 0.3 + 20 / 96))  # 20 pixels of the sheet
        page.wait_for_function(f"canvas => ({EDGE})(canvas) > 50", arg=canvas.element_handle(), timeout=MINUTE)
        after = changed(page, image, before)
        page.screenshot(path=tmp_path / "dragged.png")
        assert canvas.evaluate(EDGE) <= 66  # 60 screen pixels, and a line of 3
        assert after != before, "the hand let go and the picture did not change"


# ---------------------------------------------------------------- a conversation to type in

CHAT = """import torch
from minidiff.show.chat import chat

def reply(history, text, seed):
    return torch.full((3, 16, 16), 0.9)

talk = chat(reply, set("a red blue circle".split()), ["a red circle"])"""


def test_enter_asks_and_a_word_never_read_is_refused_and_stays(lab, chromium, tmp_path):
    with canvas_of(lab, chromium, "chat", CHAT, ".jp-OutputArea-output input[type=text]") as (page, line, _):
        turns = page.locator(".jp-OutputArea-output img")
        assert turns.count() == 1
        line.fill("a blue circle")
        line.press("Enter")
        turns.nth(1).wait_for(timeout=MINUTE)
        page.wait_for_function("line => line.value === ''", arg=line.element_handle(), timeout=MINUTE)
        line.fill("a mauve circle")
        line.press("Enter")
        page.get_by_text("Never read: mauve").wait_for(timeout=MINUTE)
        page.screenshot(path=tmp_path / "asked.png")
        assert (turns.count(), line.input_value()) == (2, "a mauve circle")
