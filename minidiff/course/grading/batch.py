"""A whole class: marked by several processes at once, resumable, the same files every time.

OUT/results/STUDENT.json    one per submission, written when it is marked: a later run takes it up again
OUT/feedback/STUDENT.html   for the student, and STUDENT.json, the same for programs
OUT/grades.csv, class.html  for the instructor, with what the learning platform asked for
OUT/manual.csv              what a person marks, kept on every later run
OUT/secret.txt              the course secret, unless one is given: keep it, and keep it to yourself
"""

import contextlib
import hashlib
import multiprocessing
import secrets
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from minidiff.checkpoints import write_whole
from minidiff.course.grading import collect, gradebooks, manual, notebooks, pages
from minidiff.course.grading.collect import Submission
from minidiff.course.grading.mark import Marker, Rules, result_key
from minidiff.course.grading.notebooks import Master, Unreadable
from minidiff.course.grading.results import Result, State
from minidiff.validate import require

PACKAGE = Path(__file__).resolve().parents[2]
MIN_SECRET = 16  # bytes
MAX_MEMORY = 8 * 2**30  # bytes that one of the grader's own processes may write to


@dataclass(frozen=True)
class Books:
    """What to write for learning platforms: paths of exported files to fill, or flags."""

    canvas: Path | None = None
    canvas_column: str | None = None
    moodle: Path | bool = False
    gradescope: bool = False


def read_secret(out: Path, given: Path | None) -> bytes:
    """The course secret: from the file `given`, or from OUT/secret.txt, which is made if it is not there.

    `ValueError` if the file is missing or holds less than 16 bytes.
    """
    path = out / "secret.txt" if given is None else given
    if given is None and not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    require(path.is_file(), "secret", path, "a file")
    secret = path.read_bytes().removeprefix(b"\xef\xbb\xbf").strip()  # an editor adds a byte-order mark, line ends
    require(len(secret) >= MIN_SECRET, "secret", f"{len(secret)} bytes in {path}", f"at least {MIN_SECRET}")
    return secret


def guess_assignment(root: Path, submissions: list[Submission]) -> str:
    """The assignment that most of the notebooks belong to. `ValueError` if they belong to none."""
    ids = {name: notebooks.graded_ids(root, name) for name in notebooks.assignments(root)}
    votes = dict.fromkeys(ids, 0)
    for cells in map(_cells, submissions):
        shared = {name: len(own & {cell.grade_id for cell in cells}) for name, own in ids.items()}
        if any(shared.values()):
            votes[max(shared, key=lambda name: shared[name])] += 1
    require(any(votes.values()), "submissions", "notebooks of no assignment", f"one of {list(votes)}")
    return max(votes, key=lambda name: votes[name])


def _cells(submission: Submission) -> list[notebooks.Cell]:
    try:
        return notebooks.parse(submission.data) if submission.data is not None else []
    except Unreadable:
        return []


def one_each(submissions: list[Submission], master: Master) -> list[Submission]:
    """One submission per student: of several notebooks, the one with most of the assignment's cells."""
    best: dict[str, Submission] = {}
    for submission in submissions:
        key = submission.student.key
        rank = partial(_rank, master)
        if key not in best or rank(submission) > rank(best[key]):
            best[key] = submission
    return [best[key] for key in sorted(best)]


def _rank(master: Master, submission: Submission) -> tuple[int, bool]:
    return notebooks.belongs(_cells(submission), master), submission.data is not None


def code_version() -> str:
    """A hash of the library's code: a result is taken up again only if nothing that made it has changed."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _process(root: Path, name: str, rules: Rules, submission: Submission) -> Result:
    """In a process of its own. The marker is made once per process."""
    return _marker(root, name, rules).mark(submission)


_markers: dict[tuple[str, str], Marker] = {}


def _marker(root: Path, name: str, rules: Rules) -> Marker:
    import torch

    key = (name, repr(rules))
    if key not in _markers:
        torch.set_num_threads(1)
        _markers[key] = Marker(notebooks.load_master(root, name), rules)
    return _markers[key]


Mark = Callable[[Submission], Result]
Broken = Callable[[Submission, Exception], Result]


def mark_all(mark: Mark, broken: Broken, work: list[Submission], jobs: int) -> Iterator[Result]:
    """The results of `work`, as they come, from `jobs` processes.

    A submission that brings a process down, or the marker to an exception, is tried once more alone, then gets the
    result `broken(submission, exception)`.
    """
    again: list[Submission] = []
    for submission, found in _in_parallel(mark, work, jobs):
        if isinstance(found, Result):
            yield found
        else:
            again.append(submission)
    for submission in again:
        for _, found in _in_parallel(mark, [submission], 1):
            yield found if isinstance(found, Result) else broken(submission, found)


def _begin() -> None:
    """In each process of the pool, first of all."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C just ends it, without a traceback, and its sandbox with it
    warnings.simplefilter("ignore", SyntaxWarning)  # of students' code, which is read here
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        # What a student's code makes the grader's own functions compute must not take the machine.
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _in_parallel(mark: Mark, work: list[Submission], jobs: int) -> Iterator[tuple[Submission, Result | Exception]]:
    """Each submission with its result, or with what happened instead (`BrokenProcessPool` where its process died)."""
    context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    waiting = work[::-1]
    while waiting:  # a process that dies takes its pool along: the rest goes on in another
        with ProcessPoolExecutor(min(jobs, len(waiting)), context, initializer=_begin) as pool:
            try:
                yield from _from_pool(pool, mark, waiting, jobs)
            except BaseException:  # Ctrl-C, or the caller stops: what has not begun does not begin
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _from_pool(
    pool: ProcessPoolExecutor, mark: Mark, waiting: list[Submission], jobs: int
) -> Iterator[tuple[Submission, Result | Exception]]:
    """Takes submissions off the end of `waiting`, no more at a time than there are processes, until the pool breaks."""
    running: dict[Future[Result], Submission] = {}
    broken = False
    while running or (waiting and not broken):
        while waiting and not broken and len(running) < jobs:
            try:
                future = pool.submit(mark, waiting[-1])
            except BrokenProcessPool:
                broken = True
                break
            running[future] = waiting.pop()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            submission = running.pop(future)
            try:
                found: Result | Exception = future.result()
            except Exception as error:
                found, broken = error, broken or isinstance(error, BrokenProcessPool)
            yield submission, found


@dataclass(frozen=True)
class Batch:
    """One assignment of one class."""

    root: Path
    out: Path
    master: Master
    rules: Rules
    submissions: list[Submission]

    def with_secret(self, secret: bytes) -> "Batch":
        return replace(self, rules=replace(self.rules, secret=secret))

    def run(self, jobs: int, fresh: bool = False) -> Iterator[Result]:
        """All results, those of an earlier run first, each new one written before it is handed on."""
        code = code_version()
        keys = {s.student.key: result_key(s, self.master, self.rules, code) for s in self.submissions}
        old = {} if fresh else {r.student.key: r for r in self._earlier() if keys.get(r.student.key) == r.key}
        yield from old.values()
        work = [submission for submission in self.submissions if submission.student.key not in old]
        mark = partial(_process, self.root, self.master.name, self.rules)
        for result in mark_all(mark, self._broken, work, jobs):
            result = replace(result, key=keys[result.student.key])
            _write(self.out / "results" / f"{result.student.key}.json", pages.to_json(result))
            yield result

    def _earlier(self) -> Iterator[Result]:
        for path in sorted((self.out / "results").glob("*.json")):
            with contextlib.suppress(ValueError, OSError):  # a damaged file is made again
                yield pages.from_json(path.read_text(encoding="utf-8"))

    def _broken(self, submission: Submission, error: Exception) -> Result:
        text = "The grader itself could not get through this notebook; your instructor will look at it."
        result = Marker(self.master, self.rules).unmarked(submission, State.CRASH, text)
        return replace(result, notes=(*result.notes, f"the grader stopped with {type(error).__name__}: {error}"[:500]))

    def write(self, results: Iterable[Result], books: Books) -> list[str]:
        """All files for people and platforms. Returns sentences on what could not be filled in."""
        results = sorted(results, key=lambda result: result.student.key)
        rows = manual.read_marks(self.out / "manual.csv")
        marked = manual.apply(results, rows)
        manual.write_marks(self.out / "manual.csv", results, rows)
        results = marked
        gradebooks.write_grades(self.out / "grades.csv", results)
        _write(self.out / "class.html", pages.class_page(results))
        for result in results:
            base = self.out / "feedback" / result.student.key
            _write(base.with_name(base.name + ".html"), pages.student_page(result, self.master.title))
            _write(base.with_name(base.name + ".json"), pages.to_json(_for_student(result)))
        return self._fill(results, books)

    def _fill(self, results: list[Result], books: Books) -> list[str]:
        said = []
        if books.canvas is not None:
            said += gradebooks.fill_canvas(books.canvas, self.out / "canvas.csv", results, books.canvas_column)
        if books.moodle is not False:
            worksheet = books.moodle if isinstance(books.moodle, Path) else None
            said += gradebooks.fill_moodle(worksheet, self.out / "moodle.csv", results)
        if books.gradescope:
            gradebooks.write_gradescope(self.out / "gradescope", results)
        return said


def open_batch(submissions: Path, out: Path, root: Path, assignment: str | None, rules: Rules) -> Batch:
    """Find the class and its assignment. `ValueError` if there is nothing to grade, or OUT is among the submissions."""
    inside = out.resolve().is_relative_to(submissions.resolve()) and submissions.is_dir()
    require(not inside, "OUT", out, "a folder outside SUBMISSIONS")
    require(out.is_dir() or not out.exists(), "OUT", out, "a folder, or a new one's name")
    clone = "a clone of the course, with its notebooks built in solutions/ and exercises/"
    require(bool(notebooks.assignments(root)), "root", root, clone)
    found = collect.collect(submissions)
    master = notebooks.load_master(root, guess_assignment(root, found) if assignment is None else assignment)
    return Batch(root, out, master, rules, one_each(found, master))


def _for_student(result: Result) -> Result:
    """Without what is for the instructor alone."""
    items = tuple(replace(item, notes=()) for item in result.items)
    return replace(result, items=items, sandbox="", notes=(), key="")


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda temporary: (temporary.write_text(text, encoding="utf-8", newline="\n"), None)[1])
