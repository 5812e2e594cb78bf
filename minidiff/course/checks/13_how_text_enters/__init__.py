"""The exercises of chapter 13, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import both_ways, counted, joint, parallel, placed

EXERCISES = tuple(module.EXERCISE for module in (placed, joint, parallel, counted, both_ways))
EXPERIMENTS = (
    Experiment(
        id="13-when-to-merge",
        title="When should text and picture merge?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=40,
    ),
)
