"""The exercises of chapter 11, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import excess, gflops, in_context, network, places

EXERCISES = tuple(module.EXERCISE for module in (in_context, gflops, places, network, excess))
EXPERIMENTS = (
    Experiment(
        id="11-which-zeros",
        title="What do the zeros buy?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
