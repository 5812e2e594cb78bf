"""The exercises of chapter 12, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import hard_negatives, join, registers, states, winoground

EXERCISES = tuple(module.EXERCISE for module in (winoground, hard_negatives, join, states, registers))
EXPERIMENTS = (
    Experiment(
        id="12-where-it-goes",
        title="Where does the order go?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
