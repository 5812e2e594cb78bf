"""The process in the sandbox: it runs answer cells in IPython and answers the grader's calls. `python -m` starts it.

It loads PyTorch once, then forks a fresh process for every exercise of one submission; that child runs the cells,
answers until the grader says "end", and is gone, with whatever it left running and every file it wrote. Where there is
no fork, the process itself serves one exercise and ends.

Nothing here is a defence: the student's code shares the process and may change all of it. What protects the marks is
that this side holds neither inputs nor answers before they are asked for.
"""

import contextlib
import io
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from minidiff.values import Failure, failure_of, same

from . import wire
from .peer import Peer, builtin_exception
from .seccomp import refuse

_DONE = 77  # exit status of a child that was told to end
_MOST_PRINTED = 400


class Worker(Peer):
    """The sandbox's end of the wire: calls the student's functions, lets all their attributes be read."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO):
        super().__init__(reader, writer, trusts=True)
        self.changed: list[tuple[int, Any]] = []

    def raised(self, failure: Failure) -> Exception:
        return builtin_exception(failure)

    def serve(self, message: dict[str, Any], tensors: wire.Tensors) -> None:
        screen, nonce = _Screen(), message.get("nonce")
        try:
            with _quiet(screen):
                reply, value = self.perform(message, self.unpack(message.get("body"), tensors, slots=True))
        except wire.Closed:
            os._exit(_DONE)  # the grader has gone
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers like any other
            reply, value = {"failure": vars(failure_of(error))}, None
        self.answer(nonce, reply, value, screen.getvalue())

    def answer(self, nonce: Any, reply: dict[str, Any], value: Any, printed: str) -> None:
        """Send the reply; where the value cannot be sent (too large, or it raises when looked at), say that."""
        try:
            self.send({**reply, "reply": nonce, "printed": printed}, value, key="value")
        except wire.Closed:
            os._exit(_DONE)
        except wire.WireError as error:
            self.send({"failure": vars(Failure("ValueError", str(error))), "reply": nonce})
        except BaseException as error:
            self.send({"failure": vars(failure_of(error)), "reply": nonce})

    def perform(self, message: dict[str, Any], body: Any) -> tuple[dict[str, Any], Any]:
        if message["op"] == "next":
            return self._next(message)
        if message["op"] == "attribute":
            return {}, getattr(self._lent(message["ref"]), message["name"])
        self.changed = []
        reply, value = super().perform(message, body)
        own = [] if message["inputs"] else self.changed  # of a pullback, only nested calls can have left any
        return {**reply, "changed": own}, value

    def invoke(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        before = [_snapshot(arg) for arg in args]
        value = target(*args, **kwargs)
        self.changed = [(i, now) for i, (now, was) in enumerate(zip(args, before)) if not same(now, was)]
        return value

    def _next(self, message: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        try:
            return {}, next(self._lent(message["ref"]))
        except StopIteration:
            return {"stop": True}, None


def _snapshot(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, (tuple, list)):
        return type(value)(_snapshot(part) for part in value)
    return {key: _snapshot(part) for key, part in value.items()} if isinstance(value, dict) else value


class _Screen(io.StringIO):
    """Keeps the beginning of what is printed: a flood costs time, not memory."""

    def write(self, text: str) -> int:
        room = _MOST_PRINTED + 1 - self.tell()
        return super().write(text[: max(room, 0)])


@contextlib.contextmanager
def _quiet(screen: io.StringIO) -> Iterator[None]:
    out, err = contextlib.redirect_stdout(screen), contextlib.redirect_stderr(io.StringIO())
    with out, err, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Shell(InteractiveShell):
    """IPython without a front end: `%matplotlib inline` has nothing to switch on."""

    def enable_gui(self, gui: str | None = None) -> None:
        pass


def new_shell() -> InteractiveShell:
    """IPython without history, files or colours."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.enable_tip = False
    return Shell.instance(config=config)


def run_cells(worker: Worker, shell: InteractiveShell, message: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Run the cells of one exercise; the reply holds the function asked for, or the failure of a cell.

    message: "cells" (sources, in order), "given" (names bound beforehand), "function" (the name to look up), "seed".
    """
    torch.default_generator.manual_seed(message["seed"])
    for name, value in worker.unpack(message["given"], {}).items():
        shell.user_ns[name] = value
    for source in message["cells"]:
        result = shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            return {"failure": vars(failure_of(error))}, None
    function = shell.user_ns.get(message["function"])
    if function is None:
        text = f"after your cell has run there is no `{message['function']}`"
        return {"failure": vars(Failure("NameError", text))}, None
    return {}, function


def serve_exercise(worker: Worker, shell: InteractiveShell, message: dict[str, Any]) -> None:
    """One exercise, from its cells to the grader's "end"."""
    set_limits(message["limits"])
    refuse()
    screen = _Screen()
    try:
        with _quiet(screen):
            reply, value = run_cells(worker, shell, message)
    except wire.Closed:
        return
    except BaseException as error:
        reply, value = {"failure": vars(failure_of(error))}, None
    worker.answer(message["nonce"], reply, value, screen.getvalue())
    while True:
        question, tensors = worker.receive()
        if question["op"] == "end":
            return
        worker.serve(question, tensors)


def set_limits(limits: dict[str, int]) -> None:
    """Caps on memory, processor time, processes, open files and file sizes, as far as the system has them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    here = 0
    with contextlib.suppress(OSError):  # only Linux tells; elsewhere the limit is the whole address space
        here = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    caps = {
        "RLIMIT_AS": here + limits["memory"],
        "RLIMIT_CPU": limits["seconds"],
        "RLIMIT_NPROC": limits["processes"],
        "RLIMIT_NOFILE": limits["files"],
        "RLIMIT_FSIZE": limits["file_size"],
        "RLIMIT_CORE": 0,
    }
    for name, cap in caps.items():
        if cap >= 0 and hasattr(resource, name):
            # Where both were equal, the kernel would not say with SIGXCPU that it was for processor time.
            hard = cap + 1 if name == "RLIMIT_CPU" else cap
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (cap, hard))


def _fork_and_wait(worker: Worker, shell: InteractiveShell, message: dict[str, Any]) -> None:
    child = os.fork()
    if child == 0:
        try:
            serve_exercise(worker, shell, message)
        except BaseException:
            os._exit(1)
        os._exit(_DONE)
    _, status, used = os.wait4(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    if ended == -signal.SIGKILL and used.ru_utime + used.ru_stime > message["limits"]["seconds"]:
        ended = -signal.SIGXCPU  # it ignored that one, and the hard limit killed it
    if message["alone"]:  # in a process namespace of our own: everything the child left behind goes
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    if ended != _DONE:
        os._exit(ended & 0xFF or 1)
    for folder in ("/tmp", "/dev/shm") if message["alone"] else ():
        _empty(Path(folder))


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def claim_stdio() -> tuple[Any, BinaryIO]:
    """The wire is standard input and output; the student's code gets nothing to read, and writes to nowhere."""
    # Unbuffered: a child must find in the pipe whatever was not meant for its parent.
    reader, writer = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    ends = ((0, "r"), (1, "w"), (2, "w"))
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, encoding="utf-8", errors="replace") for fd, mode in ends)
    return reader, writer


def main() -> None:
    reader, writer = claim_stdio()
    torch.set_num_threads(1)
    worker, shell = Worker(reader, writer), new_shell()
    worker.send({"ready": True})
    while True:
        try:
            message, _ = worker.receive()
        except wire.Closed:
            os._exit(0)  # without Python's slow farewell
        if not hasattr(os, "fork"):
            serve_exercise(worker, shell, message)
            return
        _fork_and_wait(worker, shell, message)
        worker.send({"ready": True})


if __name__ == "__main__":
    main()
