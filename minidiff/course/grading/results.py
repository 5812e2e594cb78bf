"""What grading produces: a state and marks per item, a result per student."""

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """What became of one item of one submission.

    pass, partial and fail are the check's verdict on the answer: right on all, on some, on none of the inputs.
    error: it raised.  timeout, crash: its process was stopped, or died.  missing: no answer is there.
    tampered: the cell or the protocol was altered, so there is nothing to judge.
    manual: a person marks it.  flagged: right, but a person should look at how.
    """

    PASS = "pass"
    PARTIAL = "partial"
    FAIL = "fail"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    MISSING = "missing"
    TAMPERED = "tampered"
    MANUAL = "manual"
    FLAGGED = "flagged"


# A person should look at these: the program cannot know, or what it knows may be unfair.
FOR_REVIEW = frozenset({State.TIMEOUT, State.CRASH, State.TAMPERED, State.MANUAL, State.FLAGGED})


@dataclass(frozen=True)
class Student:
    """`key` is unique in the batch and safe as a file name; `name` is for people; `ids` are those of a platform.

    ids: any of "canvas", "moodle", "gradescope" → the number that the platform's export has for the student.
    """

    key: str
    name: str
    ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One exercise, or one answer that a person marks.

    points   the marks, or None while a person has to give them;  max_points from the master, never from the submission
    kind     the verdict's kind (`diagnosis.Verdict`), mistake: which named mistake it was; "" where there is none
    message  for the student: what was seen and what to do about it;  notes: for the instructor
    answer   the source of the answer cell, as submitted;  digest: its SHA-256, "" if there is no answer
    by_hand  a person gave these points
    """

    id: str
    title: str
    state: State
    points: float | None
    max_points: float
    kind: str = ""
    mistake: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()
    answer: str = ""
    digest: str = ""
    by_hand: bool = False


@dataclass(frozen=True)
class Result:
    """One student's marks in one assignment.

    sandbox  what the code ran in: "bubblewrap", or "none" (then nothing kept it from the rest of the machine)
    notes    for the instructor, about the submission as a whole
    key      a hash of everything the marks depend on: the same key, the same result
    """

    student: Student
    assignment: str
    items: tuple[Item, ...]
    sandbox: str
    notes: tuple[str, ...] = ()
    key: str = ""

    @property
    def score(self) -> float:
        """The marks given so far."""
        return float(sum(item.points or 0.0 for item in self.items))

    @property
    def max_score(self) -> float:
        return float(sum(item.max_points for item in self.items))

    @property
    def pending(self) -> int:
        """How many items still wait for a person's marks."""
        return sum(item.points is None for item in self.items)
