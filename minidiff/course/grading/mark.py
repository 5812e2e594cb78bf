"""One submission, marked: which code runs, which questions are asked, and what the answers are worth."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from minidiff.course.diagnosis import Trial, Verdict, judge, try_out
from minidiff.course.exercise import Exercise
from minidiff.course.grading import context, notebooks, shortcuts
from minidiff.course.grading.collect import Submission
from minidiff.course.grading.notebooks import Answer, Cell, Master, Unreadable
from minidiff.course.grading.results import Item, Result, State
from minidiff.course.grading.sandbox import Limits
from minidiff.course.grading.session import Session, SessionEnded, Task
from minidiff.course.outcome import right
from minidiff.values import RemoteFailure

_UNDEFINED = re.compile(r"name '(\w+)' is not defined")


@dataclass(frozen=True)
class Rules:
    """How a batch is marked, besides its master.

    secret   of the course, 16 bytes or more: the inputs of every student follow from it
    level    "bubblewrap" or "none";  rounds: how many seeds each exercise draws from
    partial  give marks in proportion to the inputs on which an answer is right, instead of all or nothing
    """

    secret: bytes
    level: str = "bubblewrap"
    limits: Limits = field(default_factory=Limits)
    rounds: int = 3
    partial: bool = False

    def seeds(self, exercise_id: str, student: str) -> tuple[int, ...]:
        """The seeds of one exercise for one student: HMAC-SHA-256 of the secret, as 48-bit numbers."""
        return tuple(self._number(f"{exercise_id}\0{student}\0{k}") for k in range(self.rounds))

    def seed_of_torch(self, exercise_id: str, student: str) -> int:
        """PyTorch's own seed in the sandbox: none of the inputs', which would tell what is going to be asked."""
        return self._number(f"{exercise_id}\0{student}\0torch")

    def _number(self, text: str) -> int:
        return int.from_bytes(hmac.digest(self.secret, text.encode("utf-8", "surrogatepass"), "sha256")[:6], "big")


class Marker:
    """Marks the submissions of one assignment."""

    def __init__(self, master: Master, rules: Rules):
        self.master, self.rules = master, rules

    @cached_property
    def _parts(self) -> list[context.Part]:
        return context.master_parts(self.master)

    @cached_property
    def _imports(self) -> str:
        return "\n".join(part.source for part in self._parts if part.source.startswith(("import ", "from ")))

    def mark(self, submission: Submission) -> Result:
        """The result of one submission. Whatever is wrong with it is part of the result; nothing raises."""
        try:
            if submission.data is None:
                raise Unreadable(submission.problem or "there is no file")
            cells = notebooks.parse(submission.data)
        except Unreadable as problem:
            return self.unmarked(submission, State.ERROR, f"Your notebook could not be read: {problem}.")
        if not notebooks.belongs(cells, self.master):
            text = f"This is not the notebook of {self.master.name}: it has none of its exercises."
            return self.unmarked(submission, State.MISSING, text)
        return self._mark_cells(submission, cells)

    def unmarked(self, submission: Submission, state: State, message: str) -> Result:
        items = [_item(exercise, state, message=message) for exercise in self.master.exercises]
        items += [replace(_manual(cell, Answer(problem="missing")), message=message) for cell in self.master.by_hand]
        notes = (f"{submission.source}: {message}",)
        return Result(submission.student, self.master.name, tuple(items), self.rules.level, notes)

    def _mark_cells(self, submission: Submission, cells: list[Cell]) -> Result:
        stubs = {e.id: self.master.stub(e.id) for e in self.master.exercises}
        answers = {id: notebooks.answer(cells, stub) for id, stub in stubs.items() if stub is not None}
        sources = {id: answer.source for id, answer in answers.items() if not answer.problem}
        items = []
        with Session(self.rules.level, self.rules.limits) as session:
            for exercise in self.master.exercises:
                answer = answers[exercise.id]
                if answer.problem:
                    state = State.TAMPERED if answer.problem == "tampered" else State.MISSING
                    items.append(_item(exercise, state, answer, message=answer.message))
                    continue
                items.append(self._mark_answer(session, exercise, answer, sources, cells, submission.student.key))
        by_hand = [_manual(stub, notebooks.answer(cells, stub)) for stub in self.master.by_hand]
        notes = notebooks.edited_checks(cells, self.master)
        level = self.rules.level
        return Result(submission.student, self.master.name, (*items, *by_hand), level, tuple(notes))

    def _mark_answer(
        self,
        session: Session,
        exercise: Exercise,
        answer: Answer,
        sources: dict[str, str],
        cells: list[Cell],
        student: str,
    ) -> Item:
        seeds = self.rules.seeds(exercise.id, student)
        task = self._task(exercise, sources, self.rules.seed_of_torch(exercise.id, student))
        flags = self._flags(exercise, sources, task)
        try:
            function = session.start(task)
            trials = session.guarded(lambda: try_out(exercise, function, seeds))
            session.finish()
        except SessionEnded as end:
            return _item(exercise, end.state, answer, message=end.message, notes=flags)
        except RemoteFailure as error:
            session.finish()
            message = _cell_failed(error, cells, sources)
            return _item(exercise, State.ERROR, answer, kind="error", message=message, notes=flags)
        return self._judged(exercise, answer, trials, flags, cells, sources)

    def _flags(self, exercise: Exercise, sources: dict[str, str], task: Task) -> tuple[str, ...]:
        """Flags for all of the student's cells that the task runs, against the solutions of the same exercises."""
        used = [id for id, source in sources.items() if source in task.cells]
        solved = {cell.grade_id: cell.source for cell in self.master.solved}
        own, shipped = ("\n".join(texts[id] for id in used) for texts in (sources, solved))
        return tuple(shortcuts.flags(exercise, own, shipped, self._imports))

    def _task(self, exercise: Exercise, sources: dict[str, str], seed: int) -> Task:
        answers = context.answer_parts(self.master, sources)
        own = answers[exercise.id]
        code = context.cells_for(own, [*self._parts, *answers.values()])
        needs = frozenset[str]().union(*map(context.names_in, code))
        given = context.given_functions(replace(own, needs=needs), self.master, exercise.id)
        return Task(tuple(code), exercise.reference.__name__, seed, given)

    def _judged(
        self,
        exercise: Exercise,
        answer: Answer,
        trials: Sequence[Trial],
        flags: tuple[str, ...],
        cells: list[Cell],
        sources: dict[str, str],
    ) -> Item:
        try:
            verdict = judge(exercise, trials)
        except Exception as error:  # written for results like the reference's; an answer may be anything
            verdict = Verdict("value", f"Your result could not be compared with the expected one ({error}).")
        share = sum(right(exercise, trial.got, trial.want) for trial in trials) / len(trials)
        message = exercise.trap if verdict.kind == "passed" else verdict.message + _moved(verdict, cells, sources)
        state = _state(verdict, share, flags)
        points = float(exercise.points) if verdict.kind == "passed" else 0.0
        if state is State.PARTIAL and self.rules.partial:
            points = round(exercise.points * share, 2)
        if verdict.kind == "passed":
            message = f"Why the usual wrong answer looks right: {message}"
        elif verdict.kind not in ("mistake", "untouched"):
            message += f"\nA hint: {exercise.hints[0]}"
        found = _item(exercise, state, answer, kind=verdict.kind, message=message, notes=flags)
        return replace(found, mistake=verdict.mistake, points=points)


def _state(verdict: Verdict, share: float, flags: Sequence[str]) -> State:
    if verdict.kind == "passed":
        return State.FLAGGED if flags else State.PASS
    if verdict.kind == "untouched":
        return State.MISSING
    if verdict.kind == "error":
        return State.ERROR
    return State.PARTIAL if share > 0 and verdict.kind != "mistake" else State.FAIL


_NO_ANSWER = Answer()


def _item(
    exercise: Exercise,
    state: State,
    answer: Answer = _NO_ANSWER,
    kind: str = "",
    message: str = "",
    notes: Sequence[str] = (),
) -> Item:
    return Item(
        id=exercise.id,
        title=exercise.title,
        state=state,
        points=0.0,
        max_points=float(exercise.points),
        kind=kind,
        message=message,
        notes=(*notes, *answer.notes),
        answer=answer.source,
        digest=answer.digest,
    )


def _manual(stub: Cell, answer: Answer) -> Item:
    """An answer that a person marks; without one there is nothing to mark."""
    title = next((line.lstrip("# ").strip() for line in stub.source.splitlines() if line.strip()), stub.grade_id)
    there = not answer.problem
    state = State.MANUAL if there else State.TAMPERED if answer.problem == "tampered" else State.MISSING
    return Item(
        id=stub.grade_id,
        title=title[:80],
        state=state,
        points=None if there else 0.0,
        max_points=float(stub.graded.get("points") or 0),
        message=answer.message,
        notes=answer.notes,
        answer=answer.source,
        digest=answer.digest,
    )


def _cell_failed(error: RemoteFailure, cells: list[Cell], sources: dict[str, str]) -> str:
    failure = error.failure
    first = next(iter(failure.message.strip().splitlines()), "").rstrip(".")
    what = ": ".join(part for part in (failure.name, first) if part)
    text = f"Your cell stopped{failure.where} with {what}."
    return text + _moved(Verdict("error", text), cells, sources)


def _moved(verdict: Verdict, cells: list[Cell], sources: dict[str, str]) -> str:
    """Advice for a name that is missing only because it stands in a cell that is not graded."""
    name = _UNDEFINED.search(verdict.message)
    if verdict.kind != "error" or name is None or not context.elsewhere(name[1], cells, sources):
        return ""
    return (
        f" `{name[1]}` is defined in another cell of your notebook, but only the answer cells are graded: "
        "move what your function needs, imports too, into its own cell."
    )


def result_key(submission: Submission, master: Master, rules: Rules, code: str) -> str:
    """A hash of all that a result depends on: the file, the master, the rules, and `code`, a hash of the library."""
    limits = ",".join(f"{k}={v}" for k, v in sorted(vars(rules.limits).items()))
    settings = f"{master.version}|{code}|{rules.level}|{rules.rounds}|{rules.partial}|{limits}|{submission.problem}"
    settings += f"|{submission.student.key}|{submission.student.name}|{submission.source}"
    content = settings.encode("utf-8", "surrogatepass") + b"\0" + (submission.data or b"")
    return hmac.new(rules.secret, content, hashlib.sha256).hexdigest()
