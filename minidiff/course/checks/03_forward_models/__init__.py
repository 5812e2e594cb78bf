"""The exercises of chapter 03, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import caption_log_prob, dps, gaussian_posterior, log_likelihood, sdedit_gaussian

EXERCISES = tuple(
    module.EXERCISE for module in (log_likelihood, gaussian_posterior, dps, sdedit_gaussian, caption_log_prob)
)
EXPERIMENTS = (
    Experiment(id="03-how-unsure", title="How unsure should DPS be?", points=4, difficulty=4, importance=4, minutes=40),
)
