"""The exercises of chapter 01, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import bayes_gap, guided_sampler, langevin, noisy_classifier, posterior_score

EXERCISES = tuple(
    module.EXERCISE for module in (posterior_score, langevin, noisy_classifier, bayes_gap, guided_sampler)
)
EXPERIMENTS = (
    Experiment(
        id="01-how-strong", title="How strong may guidance be?", points=4, difficulty=4, importance=4, minutes=35
    ),
)
