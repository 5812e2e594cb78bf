"""Does the sandbox hold, here and now? Code that tries to get out of it, run in it; for `minidiff doctor`."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidiff.course.grading.results import State
from minidiff.course.grading.sandbox import PACKAGE, Limits, Unsandboxed, find_bwrap, interpreter, package_folders
from minidiff.course.grading.session import Session, SessionEnded, Task
from minidiff.course.health import Finding

LIMITS = Limits(seconds=20, memory=2**29, processes=32, scratch=8 * 2**20, file_size=4 * 2**20)

# Each attempt returns what it got hold of; an empty text means that there was a wall.
ATTEMPTS = """
import ctypes, os, socket
from pathlib import Path

def network(facts):
    for address in (("127.0.0.1", facts["port"]), ("192.0.2.1", 80)):
        try:
            socket.create_connection(address, timeout=1).close()
            return f"connected to {address}"
        except OSError:
            pass
    return ""

def environment(facts):
    known = {"PATH", "HOME", "LANG", "IPYTHONDIR", "MPLCONFIGDIR", "MPLBACKEND", "OMP_NUM_THREADS", "PWD", "OLDPWD",
             "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "LC_CTYPE"}
    numeric = ("OPENBLAS_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_", "KMP_", "TORCH", "PYTORCH")
    odd = [k for k in os.environ if k not in known and not k.startswith(numeric)]
    try:
        first = Path("/proc/1/environ").read_bytes()
    except OSError:
        first = b""
    return ", ".join(odd) or ("the environment of process 1" if facts["canary"].encode() in first else "")

def rights(facts):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines())
    root = "user 0" if 0 in (os.getuid(), os.geteuid()) else ""
    return root or ("capabilities" if int(status["CapEff"], 16) or int(status["CapPrm"], 16) else "")

def reading(facts):
    return ", ".join(path for path in facts["secret"] if os.path.exists(path))

def writing(facts):
    got = []
    for folder in facts["folders"]:
        try:
            (Path(folder) / "written-by-a-student").write_text("x", "utf-8")
            got.append(folder)
        except OSError:
            pass
    return ", ".join(got)

def processes(facts):
    seen = [p for p in os.listdir("/proc") if p.isdigit()]
    return f"{len(seen)} processes" if len(seen) > 4 else ""

def namespaces(facts):
    return "a user namespace of its own" if ctypes.CDLL(None).unshare(0x10000000) == 0 else ""

def memory(facts):
    try:
        held = [bytearray(2**26) for _ in range(facts["memory"] // 2**26 + 2)]
        return f"{len(held) * 64} MiB"
    except MemoryError:
        return ""

def forks(facts):
    children = []
    try:
        while len(children) < 4 * facts["processes"]:
            child = os.fork()
            if child == 0:
                import time
                time.sleep(30)
                os._exit(0)
            children.append(child)
        return f"{len(children)} processes"
    except OSError:
        return ""
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)

def disk(facts):
    written = 0
    try:
        for i in range(64):
            Path(f"/tmp/fill{i}").write_bytes(bytes(2**20))
            written += 1
    except OSError:
        pass
    for i in range(64):
        Path(f"/tmp/fill{i}").unlink(missing_ok=True)
    return f"{written} MiB" if written > facts["scratch"] // 2**20 else ""

def probe(facts):
    return {name: globals()[name](facts) for name in facts["names"]}
"""
WALLS = ("network", "environment", "rights", "reading", "writing", "processes", "namespaces", "memory", "forks", "disk")

# What no wall holds back, and a watch from outside ends: {name: (limits, code, how it should end)}.
_ENDLESS = (
    "def probe():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
)
_MANY = "import os, time\ndef probe():\n    for n in range(10_000): os.mknod(f'/tmp/{n}')\n    time.sleep(10)"
WATCHED = {
    "time": (Limits(seconds=2), _ENDLESS, State.TIMEOUT),
    "files": (Limits(seconds=20, entries=5_000), _MANY, State.CRASH),
}


@dataclass(frozen=True)
class Probed:
    """What the probes found. level: "bubblewrap" or "none"; why: the bubblewrap used, or why there is none.

    held: the walls that stood, by name;  holes: what got through, as "name: what"
    """

    level: str
    why: str
    held: tuple[str, ...] = ()
    holes: tuple[str, ...] = ()


def probe() -> Probed:
    """Try every wall of the sandbox of this machine; about five seconds. Where there is none, nothing is tried."""
    try:
        why = find_bwrap()
    except Unsandboxed as reason:
        return Probed("none", str(reason))
    folders = ["/", "/usr", "/dev", "/grader", str(PACKAGE), interpreter()[1], *package_folders(), str(Path.home())]
    found = {**attempts("bubblewrap", folders), **{name: _outlived(*watched) for name, watched in WATCHED.items()}}
    holes = tuple(f"{name}: {got}" for name, got in found.items() if got)
    return Probed("bubblewrap", why, tuple(name for name, got in found.items() if not got), holes)


def attempts(level: str, folders: list[str], names: Sequence[str] = WALLS) -> dict[str, str]:
    """{name of the wall: what got through it, "" if it stood}. `folders`: where the code tries to leave a file."""
    with _facts(folders) as facts, Session(level, LIMITS) as session:
        facts["names"] = list(names)
        function = session.start(Task((ATTEMPTS,), "probe", seed=0))
        found: dict[str, str] = session.guarded(lambda: function(facts))
        session.finish()
    return found


@contextlib.contextmanager
def _facts(folders: list[str]) -> Iterator[dict[str, Any]]:
    """What the attempts go for: a server here, files and folders here, a word in this process's environment."""
    checks = PACKAGE / "course" / "checks"
    canary = f"canary-{os.getpid()}"
    with socket.socket() as server, tempfile.NamedTemporaryFile(prefix="minidiff-") as file:
        server.bind(("127.0.0.1", 0))
        server.listen()
        os.environ["MINIDIFF_CANARY"] = canary
        secret = [str(checks / "__init__.py"), str(PACKAGE.parent / "solutions"), file.name, "/etc/passwd"]
        secret.append("/grader/minidiff/course/checks")
        yield {
            "port": server.getsockname()[1],
            "canary": canary,
            "secret": secret,
            "folders": folders,
            **{name: getattr(LIMITS, name) for name in ("memory", "processes", "scratch")},
        }
        del os.environ["MINIDIFF_CANARY"]


def _outlived(limits: Limits, code: str, ends: State) -> str:
    """What came of code that the watch should end; "" if it did."""
    with Session("bubblewrap", limits) as session:
        function = session.start(Task((code,), "probe", seed=0))
        try:
            session.guarded(function)
        except SessionEnded as end:
            return "" if end.state is ends else f"ended as {end.state}"
    return "it ended by itself"


def finding() -> Finding:
    """What `minidiff doctor` says about the sandbox for students' code."""
    probed = probe()
    if probed.level == "none":  # no fault of a student's machine
        seen = f"none here ({probed.why}); `minidiff grade` runs nothing without --allow-unsandboxed"
        return Finding("grading sandbox", seen)
    seen = f"bubblewrap ({probed.why}), tried: {', '.join(probed.held)}"
    if probed.holes:
        return Finding("grading sandbox", seen, f"do not grade here, code got through: {'; '.join(probed.holes)}")
    return Finding("grading sandbox", seen)
