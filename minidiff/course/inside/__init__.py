"""The half of the grader that runs beside the student's code, in the sandbox, where it *is* `minidiff.course`.

Mounting this folder in place of `minidiff/course` keeps exercises, references and checks out of the sandbox. Students
leave calls of `check` and `hint` in their answers: these stand-ins let such a cell run, and tell it nothing. Imports
within this folder are relative, as it has two names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unchecked:
    """What `check` returns while an answer is graded: the function to go on with, and no verdict."""

    use: Callable[..., Any]
    passed: bool = False
    score: float = 0.0
    kind: str = "unchecked"
    mistake: str = ""
    message: str = "Not checked here: the grader asks its own questions."


def check(exercise_id: str, function: Callable[..., Any]) -> Unchecked:
    """Stands in for `minidiff.course.check`: takes the same arguments, checks nothing."""
    return Unchecked(function)


def hint(exercise_id: str, number: int | None = None) -> str:
    """Stands in for `minidiff.course.hint`."""
    return "No hints while grading."
