"""The grader's end of the wire: it asks, counts what comes back, and says how a conversation ended."""

import contextlib
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from minidiff.course.grading.results import State
from minidiff.course.grading.sandbox import Limits, Sandbox
from minidiff.course.inside import wire
from minidiff.course.inside.peer import Peer
from minidiff.values import RemoteFailure

MAX_QUESTIONS = 50_000  # that the student's code may ask back, in one exercise
MAX_BYTES = 2**30  # that it may send, in one exercise
MAX_NESTED = 32  # calls within calls


class SessionEnded(BaseException):
    """The conversation is over before the answer came. No `Exception`: it is not the student's function that raised."""

    def __init__(self, state: State, message: str):
        super().__init__(message)
        self.state, self.message = state, message


class Grader(Peer):
    """Distrusts: rebuilds nothing, lets its objects be called and nothing else, keeps count.

    `closed` says how the other side ended, once it has. Whatever goes wrong with the conversation itself is a
    `SessionEnded`, so that nobody takes it for an exception of the student's function. `deadline`, of `time.monotonic`,
    holds for what the grader computes on demand too.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, closed: Callable[[], SessionEnded], deadline: float):
        super().__init__(reader, writer, trusts=False)
        self.questions = self.bytes = self.nested = 0
        self.closed, self.deadline = closed, deadline

    def ask(self, message: dict[str, Any], body: Any = None, arguments: list[Any] | None = None) -> Any:
        try:
            return super().ask(message, body, arguments)
        except RemoteFailure:
            raise
        except wire.Closed:
            raise self.closed() from None
        except wire.WireError as error:
            raise SessionEnded(State.TAMPERED, f"The grader was sent {error}.") from None
        except Exception as error:  # an answer that only looks like one
            what = f"an answer that cannot be read ({type(error).__name__})"
            raise SessionEnded(State.TAMPERED, f"The grader was sent {what}.") from error

    def receive(self) -> tuple[dict[str, Any], wire.Tensors]:
        message, tensors, size = wire.read_frame(self.reader)
        self.bytes += size
        if self.bytes > MAX_BYTES:
            raise wire.WireError(f"more than {MAX_BYTES / 2**30:g} GiB of messages")
        return message, tensors

    def serve(self, message: dict[str, Any], tensors: wire.Tensors) -> None:
        self.questions += 1
        self.nested += 1
        if self.questions > MAX_QUESTIONS or self.nested > MAX_NESTED:
            raise wire.WireError(f"more than {MAX_QUESTIONS} calls back, or more than {MAX_NESTED} within each other")
        with _alarm(self.deadline, self._late) if self.nested == 1 else contextlib.nullcontext():
            super().serve(message, tensors)
        self.nested -= 1

    def _late(self, *_: object) -> None:
        raise SessionEnded(State.TIMEOUT, "Your code made the grader compute until its time was over.")


@contextlib.contextmanager
def _alarm(deadline: float, ring: Callable[..., None]) -> Iterator[None]:
    """Calls `ring` a second after the deadline, between two steps of Python, if the block has not ended by then.

    Only where there are signals, and in the main thread; elsewhere what was begun runs to its end.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(deadline + 1 - time.monotonic(), 0.001))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


@dataclass(frozen=True)
class Task:
    """What one exercise runs: cells in order, names bound beforehand (to functions that stay here), which to call."""

    cells: tuple[str, ...]
    function: str
    seed: int
    given: dict[str, Any] = field(default_factory=dict)


class Session:
    """The exercises of one submission, each in a fresh process; the sandbox is started anew after a bad end."""

    def __init__(self, level: str, limits: Limits):
        self.level, self.limits = level, limits
        self._sandbox: Sandbox | None = None
        self._peer: Grader | None = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def start(self, task: Task) -> Any:
        """Run the task's cells in a fresh process; returns the student's function, to be called from here.

        `SessionEnded` if the process did not survive that, `RemoteFailure` if a cell raised.
        """
        sandbox = self._ready()
        sandbox.deadline = time.monotonic() + self.limits.seconds
        peer = self._peer = Grader(sandbox.reader, sandbox.writer, self._ended, sandbox.deadline)
        bounds = {**vars(self.limits), "processes": self.limits.processes if self.level == "bubblewrap" else -1}
        message = {"op": "start", "cells": list(task.cells), "function": task.function, "seed": task.seed}
        message |= {"limits": bounds, "alone": self.level == "bubblewrap", "given": peer.pack(task.given, {})}
        with contextlib.redirect_stdout(io.StringIO()):  # what the cells print is nobody's business here
            return self.guarded(lambda: peer.ask(message))

    def guarded(self, conversation: Callable[[], Any]) -> Any:
        """Call `conversation()`, which asks; after a bad end the sandbox goes, and `SessionEnded` goes on."""
        try:
            return conversation()
        except RemoteFailure:
            raise
        except BaseException:
            self._close()
            raise

    def finish(self) -> None:
        """End the exercise; its process, its files and its children are gone before the next one starts."""
        if self._sandbox is None or self._peer is None:
            return
        sandbox, peer, self._peer = self._sandbox, self._peer, None
        sandbox.deadline = time.monotonic() + 10
        try:
            peer.send({"op": "end"})
            reply, _ = peer.receive()
        except (wire.Closed, wire.WireError):
            reply = {}
        if reply.get("ready") is not True:
            self._close()

    def _ready(self) -> Sandbox:
        if self._sandbox is None:
            sandbox = self._sandbox = Sandbox(self.level, self.limits)
            try:
                wire.read_frame(sandbox.reader)
            except (wire.Closed, wire.WireError):
                complaint = sandbox.complaint()
                self._close()
                raise RuntimeError(f"the sandbox did not start: {complaint}") from None
        return self._sandbox

    def _ended(self) -> SessionEnded:
        sandbox, seconds = self._sandbox, self.limits.seconds
        assert sandbox is not None
        if sandbox.ended == "timeout":
            return SessionEnded(State.TIMEOUT, f"Your code had not finished after {seconds} seconds.")
        if sandbox.ended == "memory":
            gib = self.limits.memory / 2**30
            return SessionEnded(State.CRASH, f"Your code took more memory than the {gib:g} GiB it may have.")
        if sandbox.ended == "files":
            text = f"Your code made more files than the {self.limits.entries:,} it may have."
            return SessionEnded(State.CRASH, text)
        status = sandbox.status(patience=5)  # on a busy machine it takes a while to end
        killed = {128 + signal.SIGXCPU, -signal.SIGXCPU, 256 - signal.SIGXCPU} if hasattr(signal, "SIGXCPU") else set()
        if status in killed:
            return SessionEnded(State.TIMEOUT, f"Your code took more than {seconds} seconds of processor time.")
        text = "Your code ended its Python process (os._exit, or a fault in compiled code), so nothing came back."
        return SessionEnded(State.CRASH, text)

    def _close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = self._peer = None
