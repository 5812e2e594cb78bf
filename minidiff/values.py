"""What a function returned or raised, in words and numbers: the same on both sides of the sandbox."""

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import minidiff
from minidiff.validate import describe

_PACKAGE = str(Path(minidiff.__file__).parent)
_STANDARD = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib"))
_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object in memory: another one in every run
_LONGEST = 2000  # characters of an exception's text: enough to read, not enough to drown a page


@dataclass(frozen=True)
class Failure:
    """An exception as data, so that it can come from another process.

    name     of its class;  message: its text
    where    the last line of the student's own code that was running: " at line 3, `return x`," ("" if none was)
    """

    name: str
    message: str
    where: str = ""


class RemoteFailure(Exception):
    """The code on the other side raised; `failure` says what."""

    def __init__(self, failure: Failure):
        super().__init__(f"{failure.name}: {failure.message}")
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """The exception as data; one that crossed from the other side is passed on as it was."""
    if isinstance(error, RemoteFailure):
        return error.failure
    try:
        # str() of a KeyError is the repr of its key, which would gain quotes at every crossing.
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    except Exception:  # a student's exception may fail even at this
        message = ""
    return Failure(type(error).__name__, _ADDRESS.sub("", message[:_LONGEST]), own_line(error))


def own_line(error: BaseException) -> str:
    """The last line of the student's own code that was running: not the library's, not PyTorch's; "" if none was."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_PACKAGE, *_STANDARD, "<frozen")) and not _INSTALLED.search(frame.filename)
    ]
    if not frames:
        return ""
    last = frames[-1]
    text = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
    return f" at line {last.lineno}" + (f", `{text[:200]}`," if text else "")


class RemoteObject:
    """Something that lives on the other side; `text` describes it. See `peer.py` for what can be done with it."""

    text: str


def describe_value(value: Any) -> str:
    """A value in a few words: "a float64 tensor of shape (5, 2)", "a float 3.0", "a function"."""
    if isinstance(value, RemoteObject):
        return value.text
    if value is None:
        return "None"
    if callable(value) and not isinstance(value, Tensor):
        return "a function"
    if isinstance(value, Tensor) and value.layout is not torch.strided:
        return f"a tensor of layout {str(value.layout).removeprefix('torch.')}"
    text = _ADDRESS.sub("", describe(value))
    short = text if isinstance(value, Tensor) or len(text) <= 60 else type(value).__name__
    return f"{'an' if short[0] in 'aeio' or short.startswith('ndarray') else 'a'} {short}"


def is_iterator(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, Tensor)


def same(now: Any, before: Any) -> bool:
    """Equal in every tensor and number; callables and other objects are not looked into."""
    if isinstance(now, Tensor) and isinstance(before, Tensor):
        # A shape can change in place as well (unsqueeze_, t_), so it is compared too.
        alike = now.shape == before.shape and now.dtype == before.dtype and now.layout == before.layout
        return alike and torch.equal(now.detach().nan_to_num(), before.detach().nan_to_num())
    if isinstance(now, (tuple, list)):
        return len(now) == len(before) and all(map(same, now, before))
    if isinstance(now, Mapping):
        return now.keys() == before.keys() and all(same(now[k], before[k]) for k in now)
    if isinstance(now, float) and isinstance(before, float) and now != now:
        return before != before  # NaN is NaN here
    return now == before if isinstance(now, (int, float, str, bool)) else True
