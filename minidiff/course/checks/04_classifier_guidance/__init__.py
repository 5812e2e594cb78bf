"""The exercises of chapter 04, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import algorithm_2, classifier_gradient, guided_sampler, guided_x0, noise_aware_loss

EXERCISES = tuple(
    module.EXERCISE for module in (classifier_gradient, noise_aware_loss, guided_x0, algorithm_2, guided_sampler)
)
EXPERIMENTS = (
    Experiment(
        id="04-direction-or-length",
        title="What ruins the clean guide?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=45,
    ),
)
