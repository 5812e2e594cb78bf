"""The exercises of chapter 07, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import cross_attention, dynamic_threshold, frontier, noise_augment, word_map

EXERCISES = tuple(module.EXERCISE for module in (word_map, cross_attention, dynamic_threshold, noise_augment, frontier))
EXPERIMENTS = (
    Experiment(
        id="07-when-words-speak",
        title="When do which words speak?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
