"""The exercises of chapter 10, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import branches, experts, explained, micro_conditioning, two_readers

EXERCISES = tuple(module.EXERCISE for module in (explained, two_readers, branches, micro_conditioning, experts))
EXPERIMENTS = (
    Experiment(
        id="10-negative-size",
        title="Away from small pictures",
        points=4,
        difficulty=4,
        importance=3,
        minutes=35,
    ),
)
