"""What a student calls: `check("01-posterior-score", posterior_score)` and `hint("01-posterior-score")`."""

import html
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

from minidiff.course.diagnosis import Trial, Verdict, judge, try_out
from minidiff.course.exercise import Exercise, find
from minidiff.validate import require
from minidiff.values import describe_value

_GREEN, _ORANGE, _BLUE = "#009E73", "#D55E00", "#0072B2"  # Okabe-Ito; the words say the same as the colour
_hints_shown: dict[str, int] = {}


class LibraryAnswer:
    """The library's right answer, handed out so that a notebook can go on. `check` gives no marks for it."""

    def __init__(self, exercise: Exercise):
        update_wrapper(self, exercise.reference, updated=())
        self._reference = exercise.reference

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._reference(*args, **kwargs)


@dataclass(frozen=True)
class Result:
    """The answer of `check`.

    passed         is it right?
    score          the marks: 0.0 or all points
    kind, mistake  the verdict in one word (see `Verdict`), and which named mistake it was ("" if none)
    message        what to read
    use            the function to go on with: the student's if it passed, else the library's

    As the last line of a notebook cell it shows as a friendly box, while its plain text is the bare score: nbgrader
    reads that number as the marks of the cell, so a wrong answer costs marks without stopping the notebook.
    """

    exercise: Exercise
    verdict: Verdict
    use: Callable[..., Any]
    printed: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict.kind == "passed"

    @property
    def kind(self) -> str:
        return self.verdict.kind

    @property
    def mistake(self) -> str:
        return self.verdict.mistake

    @property
    def score(self) -> float:
        return float(self.exercise.points) if self.passed else 0.0

    @property
    def message(self) -> str:
        return "\n".join(text for _, text in self._paragraphs())

    def _paragraphs(self) -> list[tuple[str, str]]:
        # What to expect is told after a pass only: before, it would answer the prediction.
        ex, name = self.exercise, self.exercise.reference.__name__
        if self.passed:
            head = f"Right: {ex.title} ({ex.points}/{ex.points} points)"
            rest = [f"Why the usual wrong answer looks right: {ex.trap}", f"What to expect further on: {ex.expected}"]
            onwards = f"The notebook goes on with your `{name}`."
        else:
            head = f"Not yet: {ex.title} (0/{ex.points} points)"
            rest = [self.verdict.message]
            rest += [] if self.kind == "mistake" else [f'If you are stuck: `hint("{ex.id}")`.']
            onwards = f"The notebook goes on with the library's `{name}`, so that everything below runs."
        rest += [f"Your function printed: {self.printed}"] if self.printed else []
        return [("head", head)] + [("text", text) for text in (*rest, onwards)]

    def __repr__(self) -> str:
        return self.message

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"{self.score}" if _in_notebook() else self.message)

    def _repr_html_(self) -> str:
        colour = _GREEN if self.passed else _BLUE if self.kind == "untouched" else _ORANGE
        return _box([text for _, text in self._paragraphs()], colour)


@dataclass(frozen=True)
class Hint:
    """One hint, shown as a box."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return _box([self.text], _BLUE)


def _in_notebook() -> bool:
    """Is a Jupyter kernel running this (and not a plain Python or IPython terminal, which has no boxes)?"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _box(paragraphs: list[str], colour: str) -> str:
    def marked_up(text: str) -> str:
        return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))

    first, *rest = paragraphs
    lines = [f"<div><strong>{marked_up(first)}</strong></div>"] if rest else [f"<div>{marked_up(first)}</div>"]
    lines += [f'<div style="margin-top:4px;white-space:pre-wrap">{marked_up(text)}</div>' for text in rest]
    style = f"border-left:5px solid {colour};padding:4px 12px;margin:4px 0;max-width:60em"
    return f'<div style="{style}">{"".join(lines)}</div>'


def check(exercise_id: str, function: Callable[..., Any]) -> Result:
    """Try `function` on the exercise's public inputs and say how it did. A wrong answer never raises.

    `ValueError` for an unknown id, with near matches.
    """
    exercise = find(exercise_id)
    own = LibraryAnswer(exercise)
    if isinstance(function, LibraryAnswer):
        message = "This is the library's own answer, not yours: run your cell again, then this one."
        return Result(exercise, Verdict("library", message), own)
    if not callable(function):
        call = f'`check("{exercise.id}", {exercise.reference.__name__})`'
        got = describe_value(function)
        message = f"check needs the function itself, without parentheses: {call}; it got {got}."
        return Result(exercise, Verdict("type", message), own)
    trials = try_out(exercise, function)
    verdict = judge(exercise, trials)
    return Result(exercise, verdict, function if verdict.kind == "passed" else own, _print_out(trials))


def _print_out(trials: list[Trial]) -> str:
    """What the function printed on the first inputs: enough to debug with, without forty copies."""
    text = trials[0].got.printed.strip() if trials else ""
    return text if len(text) <= 400 else text[:400] + " …"


def hint(exercise_id: str, number: int | None = None) -> Hint:
    """The next hint: the first call gives hint 1, then 2, then 3; `number` asks for one directly.

    `ValueError` for an unknown id or number.
    """
    exercise = find(exercise_id)
    if number is None:
        number = min(_hints_shown.get(exercise_id, 0) + 1, 3)
        _hints_shown[exercise_id] = number
    require(number in (1, 2, 3), "number", number, "1, 2 or 3")
    return Hint(f"Hint {number} of 3. {exercise.hints[number - 1]}")
