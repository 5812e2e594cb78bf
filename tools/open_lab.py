"""Open the course in JupyterLab: `make lab` runs this with the project's own Python.

With a desktop the start page opens in the browser. Without one (a server, a container, an SSH session)
JupyterLab prints its address, and nothing waits for a browser that cannot come. Arguments go to JupyterLab.
"""

import json
import os
import sys
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START = "notebooks/00_start.ipynb"


def has_display() -> bool:
    """Whether a browser window can appear here: on Linux that takes X11 or Wayland."""
    if os.environ.get("SSH_CONNECTION") and not os.environ.get("DISPLAY"):
        return False
    if sys.platform.startswith(("win", "darwin")):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def keep_quiet() -> None:
    """Make "no news from the internet" this installation's default; a student's own settings still come first.

    The course asks nothing of the internet on its own, so JupyterLab should not either, nor cover the first page
    that a student sees with a question about it.
    """
    file = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if file.exists():
        return
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(quiet, indent=2) + "\n", encoding="utf-8")
    except OSError:
        pass  # an environment we may not write to: then JupyterLab asks its question


def command(arguments: list[str]) -> list[str]:
    """The JupyterLab command line for this machine."""
    line = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/{START}"]
    if not any(argument.startswith("--ServerApp.root_dir=") for argument in arguments):
        line.append(f"--ServerApp.root_dir={ROOT}")
    line.append("--LabApp.extension_manager=readonly")  # the other manager asks PyPI for lists of extensions
    if not has_display():
        line.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Jupyter refuses to run as root unless told to; in a container root is often the only user.
        line.append("--allow-root")
    return line + arguments


def main() -> None:
    if not has_display():
        print("No display here: open the address that ends in 'token=...' below in a browser.", flush=True)
        print("Browser on another computer? First: ssh -L 8888:127.0.0.1:8888 THIS_MACHINE", flush=True)
    keep_quiet()
    line = command(sys.argv[1:])
    if sys.platform == "win32":  # there, exec would return the prompt while JupyterLab still runs
        import subprocess

        raise SystemExit(subprocess.call(line))
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
