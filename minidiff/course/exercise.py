"""What an exercise is: its inputs, its right answer, and the wrong answers that people really give.

Each lives in a file of its own, `checks/NN_topic/<exercise>.py`; `EXERCISES` in the `__init__.py` beside it has a
chapter's in order. One definition has three uses: `check` in the notebook (public seeds), a grader (secret seeds, the
student's code in another process) and the tests. For that, `draw`, `reference` and `compare` must be pure: everything
random comes from the seed, nothing is kept between calls, and no verdict depends on anything but the inputs and the
tensors that came back.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from minidiff.course import checks
from minidiff.validate import require

Inputs = tuple[Any, ...]
Draw = Callable[[int], Sequence[Inputs]]
Probe = Callable[..., Any]
Compare = Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], bool]

PUBLIC_SEEDS = (0, 1, 2)
_ID = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people really write.

    `name` is a short label in kebab-case, `function` the wrong solution itself (same arguments as the reference)
    and `diagnosis` the one or two sentences its author should read: what was done, and what to do instead.
    """

    name: str
    function: Callable[..., Any]
    diagnosis: str


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise. `ValueError` at construction if a field is out of its range.

    id            "NN-topic-in-kebab-case", NN the chapter: also the nbgrader `grade_id` of the answer cell
    points        whole marks, all or nothing;  difficulty, importance: 1 to 5;  minutes: for a first attempt
    draw          seed → list of argument tuples, edge cases included. Tensors, numbers and callables (a denoiser,
                  a log-probability) are allowed; random numbers come from `torch.Generator().manual_seed(seed)`
    reference     the right answer: the library's own function, or a thin wrapper around it
    mistakes      3 to 6 wrong solutions; on the inputs of `draw` each differs from the reference and the others
    alternatives  at least one right solution written in another way
    hints         three, each stronger than the one before; the last nearly gives the line
    expected      the number to expect further on, with its spread: "W1 = 0.012 ± 0.003 (5 seeds)"; shown after a pass
    trap          why the usual wrong answer looks right; shown once the answer is right
    rtol, atol    an answer is right if shape and dtype agree and |got − want| ≤ atol + rtol·|want| everywhere
    compare       (got, want) → bool on tuples of tensors, in place of that rule where it is too strict
    probe         (answer, *inputs) → tensor(s): for answers that are functions (a guided denoiser) or iterators.
                  It sees the answer only by calling it, so that the answer may live in another process
    seeds         the public seeds that `check` uses
    shortcuts     full names in the library that answer the exercise too, besides what the reference itself calls
    """

    id: str
    title: str
    points: int
    difficulty: int
    importance: int
    minutes: int
    draw: Draw
    reference: Callable[..., Any]
    mistakes: tuple[Mistake, ...]
    alternatives: tuple[Callable[..., Any], ...]
    hints: tuple[str, str, str]
    expected: str
    trap: str
    rtol: float = 1e-5
    atol: float = 1e-6
    compare: Compare | None = None
    probe: Probe | None = None
    seeds: tuple[int, ...] = PUBLIC_SEEDS
    shortcuts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_facts(self)
        where = f"exercise {self.id}: "
        require(3 <= len(self.mistakes) <= 6, where + "mistakes", f"{len(self.mistakes)} mistakes", "3 to 6")
        names = [mistake.name for mistake in self.mistakes]
        require(len(set(names)) == len(names), where + "mistakes", names, "names that differ")
        require(len(self.alternatives) >= 1, where + "alternatives", "none", "at least one")
        require(len(self.hints) == 3, where + "hints", f"{len(self.hints)} hints", "three")
        for name in ("expected", "trap"):
            require(bool(getattr(self, name).strip()), where + name, "an empty text", "a sentence")

    @property
    def chapter(self) -> str:
        """The two digits of the chapter: "01"."""
        return self.id[:2]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An open experiment: a question with a harness and no single answer, told in words, which a person marks.

    id, title, points, difficulty, importance, minutes  as of an `Exercise`; the answer is a text cell.
    `EXPERIMENTS` in the `__init__.py` of a chapter's checks has them; they come after the exercises.
    """

    id: str
    title: str
    points: int
    difficulty: int
    importance: int
    minutes: int

    def __post_init__(self) -> None:
        _require_facts(self)


def facts(task: Exercise | Experiment) -> str:
    """The line under a title in the notebook, which `minidiff build` writes."""
    points = "1 point" if task.points == 1 else f"{task.points} points"
    by_hand = ", marked by a person" if isinstance(task, Experiment) else ""
    return (
        f"Difficulty {dots(task.difficulty)} · Importance {dots(task.importance)} · "
        f"{task.minutes} minutes · {points}{by_hand} · `{task.id}`"
    )


def _require_facts(task: Exercise | Experiment) -> None:
    where = f"exercise {task.id}: "
    require(bool(_ID.fullmatch(task.id)), "id", repr(task.id), 'the form "01-posterior-score"')
    require(len(task.id) <= 48, "id", f"{len(task.id)} characters", "at most 48")
    for name in ("difficulty", "importance"):
        require(getattr(task, name) in range(1, 6), where + name, getattr(task, name), "1 to 5")
    for name in ("points", "minutes"):
        value = getattr(task, name)
        require(isinstance(value, int) and value >= 1, where + name, value, "a positive whole number")
    require(bool(task.title.strip()), where + "title", "an empty text", "a sentence")


def dots(n: int) -> str:
    """n out of 5 as dots: ●●●○○."""
    return "●" * n + "○" * (5 - n)


def chapters() -> list[str]:
    """The names of all chapters that have exercises, in order: ["01_bayes_rule", …]."""
    return sorted(m.name for m in pkgutil.iter_modules(checks.__path__) if re.match(r"\d\d_", m.name))


@cache
def load_chapter(name: str) -> tuple[Exercise, ...]:
    """The exercises of chapter `name` ("01_bayes_rule"), in the notebook's order. `ValueError` if unknown."""
    require(name in chapters(), "chapter", repr(name), f"one of {chapters()}")
    module = importlib.import_module(f"{checks.__name__}.{name}")
    exercises: tuple[Exercise, ...] = module.EXERCISES
    for exercise in exercises:
        require(exercise.chapter == name[:2], "id", repr(exercise.id), f'"{name[:2]}-…", as its chapter is {name}')
    ids = [exercise.id for exercise in exercises]
    require(len(set(ids)) == len(ids), "EXERCISES", ids, "ids that differ")
    return exercises


def load_experiments(name: str) -> tuple[Experiment, ...]:
    """The open experiments of chapter `name`, which may have none. `ValueError` if the chapter is unknown."""
    require(name in chapters(), "chapter", repr(name), f"one of {chapters()}")
    found: tuple[Experiment, ...] = getattr(importlib.import_module(f"{checks.__name__}.{name}"), "EXPERIMENTS", ())
    for task in found:
        require(task.id[:2] == name[:2], "id", repr(task.id), f'"{name[:2]}-…", as its chapter is {name}')
    return found


def find(exercise_id: str) -> Exercise:
    """The exercise with this id. `ValueError` that lists near matches if there is none."""
    own = [name for name in chapters() if name[:2] == str(exercise_id)[:2]]
    # Only the chapter in question is imported first: a slip in another chapter must not stop this one.
    for name in own + [name for name in chapters() if name not in own]:
        known = load_chapter(name)
        for exercise in known:
            if exercise.id == exercise_id:
                return exercise
    ids = [exercise.id for name in chapters() for exercise in load_chapter(name)]
    near = difflib.get_close_matches(str(exercise_id), ids, n=3, cutoff=0.4) or ids
    raise ValueError(f"id: got {exercise_id!r}, expected an exercise of this course; did you mean {' or '.join(near)}?")
