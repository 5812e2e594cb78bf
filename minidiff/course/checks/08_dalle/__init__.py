"""The exercises of chapter 08, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import gumbel_softmax, next_code, text_diff, two_losses, write_codes

EXERCISES = tuple(module.EXERCISE for module in (gumbel_softmax, two_losses, next_code, write_codes, text_diff))
EXPERIMENTS = (
    Experiment(
        id="08-how-cold",
        title="How cold should the draw be?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
