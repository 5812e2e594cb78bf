"""`make lab` opens a browser where there is one to open, and prints the address where there is none."""

import importlib.util
import os
import subprocess
import sys

import pytest


@pytest.fixture
def open_lab(root):
    spec = importlib.util.spec_from_file_location("open_lab", root / "tools" / "open_lab.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def on_linux(monkeypatch, open_lab):
    monkeypatch.setattr(open_lab.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(open_lab.webbrowser, "get", lambda: object())
    return monkeypatch


def test_a_server_gets_the_address_and_no_browser(open_lab, on_linux):
    assert not open_lab.has_display()
    assert "--no-browser" in open_lab.command([])


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_desktop_gets_the_browser(open_lab, on_linux, name):
    on_linux.setenv(name, ":0")
    assert open_lab.has_display()
    assert "--no-browser" not in open_lab.command([])


def test_a_desktop_without_a_browser_gets_the_address(open_lab, on_linux):
    def none_found():
        raise open_lab.webbrowser.Error("could not locate runnable browser")

    on_linux.setenv("DISPLAY", ":0")
    on_linux.setattr(open_lab.webbrowser, "get", none_found)
    assert not open_lab.has_display()


def test_over_ssh_to_a_mac_the_address_is_printed(open_lab, on_linux):
    on_linux.setattr(open_lab.sys, "platform", "darwin")
    assert open_lab.has_display()
    on_linux.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
    assert not open_lab.has_display()


def test_root_is_allowed_and_the_start_page_is_there(open_lab, root):
    line = open_lab.command(["--port=9999"])
    assert ("--allow-root" in line) == (os.geteuid() == 0)
    assert line[-1] == "--port=9999"
    assert (root / open_lab.START).is_file()


@pytest.mark.slow
def test_the_start_page_is_served_at_the_printed_address(root, tmp_path):
    """The very command of `make lab`, with JupyterLab's own folders out of the way."""
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    done = subprocess.run(
        [sys.executable, "tools/knock.py", sys.executable, "tools/open_lab.py"],
        cwd=root, env={**os.environ, **places}, capture_output=True, encoding="utf-8", timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "00_start.ipynb" in done.stdout
