"""The exercises of chapter 05, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import cfg_variance, combine_branches, drop_labels, neighbour_recall, train_and_guide

EXERCISES = tuple(
    module.EXERCISE for module in (combine_branches, drop_labels, train_and_guide, cfg_variance, neighbour_recall)
)
EXPERIMENTS = (
    Experiment(
        id="05-which-interval", title="When should guidance act?", points=4, difficulty=4, importance=3, minutes=35
    ),
)
