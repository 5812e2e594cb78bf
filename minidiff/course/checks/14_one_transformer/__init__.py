"""The exercises of chapter 14, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import follows, losses, pulls, seen, stands

EXERCISES = tuple(module.EXERCISE for module in (seen, stands, follows, losses, pulls))
EXPERIMENTS = (
    Experiment(
        id="14-trade",
        title="What does a picture's loss weigh?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
