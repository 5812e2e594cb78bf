"""Start JupyterLab, wait until it serves the course's start page, say how long that took, and stop it.

python tools/knock.py make lab        any command that ends in JupyterLab printing its address
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/lab\S*[?&]token=(\w+)")
PAGE = "notebooks/00_start.ipynb"


def printed_address(process: subprocess.Popen, seconds: float) -> tuple[str, str]:
    """(address, token) from what the process prints. `RuntimeError` if it prints none in time."""
    lines: queue.Queue = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    # In a thread, so that a process that hangs in silence cannot make us wait longer than `seconds`. It reads
    # on afterwards, because a full pipe would stop the server.
    threading.Thread(target=read, daemon=True).start()
    until, seen = time.monotonic() + seconds, []
    while (left := until - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            break
        if line is None:
            break
        seen.append(line)
        if found := ADDRESS.search(line):
            return found[1], found[2]
    raise RuntimeError("no address was printed. The last lines were:\n" + "".join(seen[-15:]))


def served_page(address: str, token: str, seconds: float) -> dict:
    """The start page as the contents API gives it. `RuntimeError` if the server does not answer in time."""
    authorization = {"Authorization": f"token {token}"}
    request = urllib.request.Request(f"{address}/api/contents/{PAGE}", headers=authorization)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{PAGE}: the server answered {error.code}") from error
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{address} did not answer within {seconds:g} s")


def knock(command: list[str], seconds: float = 3600) -> tuple[float, int]:
    """(seconds until the page was served, its number of cells)."""
    quiet = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    began = time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    process = subprocess.Popen(command, env=quiet, start_new_session=True, **pipes)
    try:
        page = served_page(*printed_address(process, seconds), seconds=60)
        return time.monotonic() - began, len(page["content"]["cells"])
    finally:
        # The whole session started above: make, the shell under it and JupyterLab.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    took, cells = knock(sys.argv[1:])
    print(f"{' '.join(sys.argv[1:])}: {took:.0f} s until {PAGE} ({cells} cells) was served")
