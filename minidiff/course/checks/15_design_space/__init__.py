"""The exercises of chapter 15, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import cell, cells, renamed, weights, wilson

EXERCISES = tuple(module.EXERCISE for module in (renamed, weights, cells, wilson, cell))
EXPERIMENTS = (
    Experiment(
        id="15-open",
        title="A name, a weight or a clock?",
        points=4,
        difficulty=5,
        importance=4,
        minutes=40,
    ),
)
