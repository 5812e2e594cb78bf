"""Finding the notebooks of a class, in a folder or a zip, without trusting any of it.

No link is followed, nothing is extracted or written: only regular files are opened, a zip's members are read in memory.
What one student handed in never stops the others: it becomes a `Submission` without data that says why.
"""

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from minidiff.course.grading.names import from_system, readable, safe_keys
from minidiff.course.grading.results import Student
from minidiff.validate import require

MAX_BYTES = 20 * 2**20  # a notebook larger than this is not read
MAX_NOTEBOOKS = 100  # Submissions of one student, and together they have at most 4 * MAX_BYTES
MAX_MEMBERS = 20_000  # of a zip
MAX_ENTRIES = 100_000  # in one student's folder, and among the students: one large folder must not stop the others
MAX_DEPTH = 6  # levels of folders below SUBMISSIONS that are opened

_EXPECTED = "a folder or a .zip with the notebooks of a class"
_ID = "([0-9]{1,20})"  # bounded: int() refuses thousands of digits
_CANVAS = re.compile(rf"(.+?)(?:_LATE)?_{_ID}_{_ID}_(.+?)(?:-{_ID})?(\.[^.]*)?", re.DOTALL | re.IGNORECASE)
_MOODLE = re.compile(rf"(.+?)_{_ID}_assignsubmission_.*", re.DOTALL)
_GRADESCOPE = re.compile(rf"submission_{_ID}")
_IGNORED = re.compile(r"\..*|__MACOSX", re.DOTALL)  # hidden files, Jupyter's checkpoints, what macOS adds to a zip
_FLAGS = sum(getattr(os, f"O_{name}", 0) for name in ("RDONLY", "NOFOLLOW", "NONBLOCK", "NOCTTY", "CLOEXEC", "BINARY"))
_JUNCTION = 0xA0000003  # Windows' second kind of link to a folder: the reparse tag of a mount point


@dataclass(frozen=True)
class Submission:
    """One notebook's bytes, or why there are none. `source`: where it was in SUBMISSIONS, for people, not to open."""

    student: Student
    source: str
    data: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class _Entry:
    """Something below SUBMISSIONS. With neither `read` nor `problem` it is no notebook, and only shows who is there.

    parts: the names from SUBMISSIONS down to it;  base: how many of them come before the student's
    problem: the end of a sentence that begins with the path;  unsafe: its own name is the problem
    """

    parts: tuple[str, ...]
    read: Callable[[], bytes] | None = None
    problem: str = ""
    folder: bool = False
    unsafe: bool = False
    base: int = 0


@dataclass(frozen=True)
class _Owner:
    """Whose an entry is: `label` tells students apart. Canvas: of the same `file` only the last `attempt` counts."""

    label: str
    name: str
    ids: dict[str, str] = field(default_factory=dict)
    file: str = ""
    attempt: tuple[int, int] = (0, 0)


def collect(submissions: Path) -> list[Submission]:
    """Every notebook of a class, sorted by the students' keys; of one student first what could be read, by source.

    submissions: a folder or zip with a notebook or a folder per student, or an export of Canvas, Moodle or Gradescope.
    A student with several notebooks has several Submissions; of Canvas's resubmissions only the latest counts.
    `ValueError` if `submissions` is neither a folder nor a readable zip, is too large, or has no students in it.
    """
    path = Path(submissions)
    try:
        mode = path.stat().st_mode
        archive = zipfile.ZipFile(path) if stat.S_ISREG(mode) else None
    except Exception as error:  # as in `_read`
        require(False, "submissions", f"{path} ({_reason(error)})", _EXPECTED)
        raise
    require(archive is not None or stat.S_ISDIR(mode), "submissions", f"{path}, which is neither", _EXPECTED)
    if archive is None:
        return _submissions(path, _walk(path))
    with archive:
        return _submissions(path, _look_through(list(_members(archive))))


def _submissions(path: Path, entries: Iterable[_Entry]) -> list[Submission]:
    owned: dict[str, list[tuple[_Owner, _Entry]]] = {}
    for entry in sorted(entries, key=lambda e: e.parts):
        if owner := _owner(entry):
            owned.setdefault(owner.label, []).append((owner, entry))
    require(bool(owned), "submissions", f"{path}, which has no notebook and no student's folder in it", _EXPECTED)
    keys = sorted((key, label) for label, key in safe_keys(owned).items())
    return [submission for key, label in keys for submission in _read_all(key, owned[label])]


def _read_all(key: str, owned: list[tuple[_Owner, _Entry]]) -> Iterator[Submission]:
    """The submissions of one student: what can be reported, or one that says that there is no notebook."""
    owner, first = owned[0]
    student = Student(key, readable(owner.name) or key, owner.ids)
    in_order = sorted(owned, key=lambda pair: pair[0].attempt)  # a later one takes the place of the same file
    latest = {o.file or id(e): e for o, e in in_order if e.read or e.problem}
    left, folder = 4 * MAX_BYTES, readable("/".join(first.parts[: first.base + 1]), 500)
    if not latest:
        in_folder = first.folder or first.parts[first.base + 1 :]
        problem = "no notebook in this folder" if in_folder else "no notebook: this is another kind of file"
        yield Submission(student, folder, None, problem)
    entries = sorted(latest.values(), key=lambda e: (e.read is None, e.parts))
    for entry in entries[:MAX_NOTEBOOKS]:
        data, problem = _read(entry.read, left) if entry.read else (None, entry.problem)
        left -= len(data or b"")
        source = readable("/".join(entry.parts), 500)
        yield Submission(student, source, data, problem and f"{source} {problem}")
    if more := len(entries[MAX_NOTEBOOKS:]):
        yield Submission(student, folder, None, f"{folder} has {more} more files to report: not read")


def _read(read: Callable[[], bytes], left: int) -> tuple[bytes | None, str]:
    """The bytes and "", or None and the problem; `left`: how many bytes this student may still have."""
    try:
        data = read()
        _check_size(len(data), min(MAX_BYTES, left))
    except Exception as error:  # a damaged zip makes zipfile and the decompressor raise nearly anything
        return None, f"was not read: {_reason(error)}"
    return data, ""


def _check_size(size: int, allowed: int) -> None:
    if size > allowed:
        most, together = f"{MAX_BYTES / 2**20:.4g} MiB", f"{4 * MAX_BYTES / 2**20:.4g} MiB for all of a student's"
        raise ValueError(f"it has {size / 2**20:.4g} MiB, allowed are {most}, and {together}")


def _reason(error: Exception) -> str:
    return readable(getattr(error, "strerror", None) or str(error)) or type(error).__name__


def _owner(entry: _Entry) -> _Owner | None:
    """Whose it is, by the student's part of its path; None for a file beside the students that is no notebook."""
    top = entry.parts[entry.base]
    if match := _MOODLE.fullmatch(top):
        return _Owner(f"{match[1]}_{match[2]}", match[1], {"moodle": match[2]})
    if entry.folder or entry.parts[entry.base + 1 :]:
        match = _GRADESCOPE.fullmatch(top)
        return _Owner(top, top, {"gradescope": match[1]} if match else {})
    if match := _CANVAS.fullmatch(top):
        name, user, attempt, file, suffix, kind = match.groups(default="")
        attempts = (int(attempt), int(suffix or 0))
        return _Owner(f"{name}_{user}", name, {"canvas": user}, (file + kind).casefold(), attempts)
    # A zip in a zip is never opened, but a student who handed one in has to be seen.
    stem = re.sub(r"\.(ipynb|zip)\Z", "", top, flags=re.IGNORECASE)
    return _Owner(stem, stem) if entry.read or entry.problem or top.lower().endswith(".zip") else None


def _walk(root: Path) -> Iterator[_Entry]:
    """What is in the folder `root`: each student's folder or file, and below these the notebooks and the problems."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(str(root), ())]
    used: Counter[tuple[str, ...]] = Counter()  # entries, by student
    while waiting:
        folder, parts = waiting.pop()
        room = MAX_ENTRIES - used[parts[:1]]
        try:
            with os.scandir(folder) as found:
                children = list(islice(found, room + 1))
            problem = "" if len(children) <= room else f"brings more than {MAX_ENTRIES:,} entries: not searched"
        except OSError as error:
            children, problem = [], f"cannot be opened: {_reason(error)}"
        if problem:
            require(bool(parts), "submissions", f"{root}, which {problem}", _EXPECTED)
            yield _Entry(parts, problem=problem)
            continue
        used[parts[:1]] += len(children)
        for child in children:
            if _IGNORED.fullmatch(child.name):
                continue
            entry = _entry(child, (*parts, from_system(child.name)))
            if entry.folder:
                waiting.append((child.path, entry.parts))
            if entry.read or entry.problem or not parts:
                yield entry


def _entry(child: os.DirEntry[str], parts: tuple[str, ...]) -> _Entry:
    try:
        status = child.stat(follow_symlinks=False)
    except OSError as error:
        return _Entry(parts, problem=f"was not read: {_reason(error)}")
    mode = stat.S_IFLNK if getattr(status, "st_reparse_tag", 0) == _JUNCTION else status.st_mode
    if stat.S_ISDIR(mode) and len(parts) > MAX_DEPTH:
        return _Entry(parts, problem=f"is more than {MAX_DEPTH} folders deep: not opened")
    return _classify(parts, mode, partial(_read_file, child.path))


def _classify(parts: tuple[str, ...], mode: int, read: Callable[[], bytes]) -> _Entry:
    """What a thing is, by its mode alone: opening a FIFO would wait for ever, and a link leads anywhere."""
    if stat.S_ISLNK(mode):
        return _Entry(parts, problem="is a link, not a file: not read")
    if stat.S_ISDIR(mode) or not parts[-1].lower().endswith(".ipynb"):
        return _Entry(parts, folder=stat.S_ISDIR(mode))
    return _Entry(parts, read) if stat.S_ISREG(mode) else _Entry(parts, problem="is not a regular file: not read")


def _read_file(path: str) -> bytes:
    """The bytes of a regular file. It may have changed since the folder was listed, so it is checked once open."""
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        _check_size(status.st_size, MAX_BYTES)
        return file.read(MAX_BYTES + 1)


def _members(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    """A zip's members, of which only the list is looked at."""
    count = len(archive.infolist())
    require(count <= MAX_MEMBERS, "submissions", f"a zip with {count:,} members", f"at most {MAX_MEMBERS:,}")
    for info in archive.infolist():
        name = info.orig_filename  # as stored, also beyond a NUL
        if not info.flag_bits & 0x800:  # macOS writes UTF-8 without saying so, and Python then reads cp437
            with suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        names = re.split(r"[/\\]", re.sub(r"\A[A-Za-z]:", "", name))
        parts = tuple(part for part in names if part not in ("", ".", ".."))
        unsafe = ".." in names or re.search(r"\A([A-Za-z]:|/)|[\\\0]", name)
        mode = info.external_attr >> 16
        if not stat.S_IFMT(mode):  # made where files have no modes
            mode = stat.S_IFDIR if name.endswith("/") else stat.S_IFREG
        if unsafe and not name.endswith("/"):
            problem = f"is named {readable(name)} in the zip, which is not a safe name: not read"
            yield _Entry(parts or ("unnamed",), problem=problem, unsafe=True)
        elif parts and not unsafe and not any(map(_IGNORED.fullmatch, parts)):
            yield _classify(parts, mode, partial(_read_member, archive, info))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 0x1:
        raise ValueError("it is encrypted")
    # LZMA's header may ask for gigabytes of memory, and no platform writes anything but these two.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its compression (method {info.compress_type}) is not supported")
    _check_size(info.file_size, MAX_BYTES)
    with archive.open(info) as file:
        return file.read(MAX_BYTES + 1)


def _look_through(entries: list[_Entry]) -> list[_Entry]:
    """A zip's entries without the one folder that all are in, unless that is a student's own in a platform's export."""
    tops = {e.parts[0] for e in entries if not e.unsafe and _owner(e)}
    top = tops.pop() if len(tops) == 1 else ""
    if not top or _MOODLE.fullmatch(top) or _GRADESCOPE.fullmatch(top):
        return entries
    inner = [replace(e, base=1) if e.parts[0] == top and len(e.parts) > 1 else e for e in entries]
    inner = [e for e in inner if e.base or e.parts != (top,) or not e.folder]
    return inner if any(_owner(e) for e in inner if e.base and not e.unsafe) else entries
