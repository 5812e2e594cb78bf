"""Open the course in JupyterLab: `make lab` runs this with the project's own Python.

With a desktop the start page opens in the browser. Without one (a server, a container, an SSH session)
JupyterLab prints its address, and nothing waits for a browser that cannot come. Arguments go to JupyterLab.
"""

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


def command(arguments: list[str]) -> list[str]:
    """The JupyterLab command line for this machine."""
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
    line += [f"--LabApp.default_url=/lab/tree/{START}"]
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
    line = command(sys.argv[1:])
    if sys.platform == "win32":  # there, exec would return the prompt while JupyterLab still runs
        import subprocess

        raise SystemExit(subprocess.call(line))
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
