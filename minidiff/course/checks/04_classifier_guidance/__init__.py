"""The exercises of chapter 04, one a file; `EXERCISES` has them in the notebook's order."""

from . import algorithm_1_step, algorithm_2, classifier_gradient, guided_x0, mean_cosine, noise_aware_loss

EXERCISES = tuple(
    module.EXERCISE
    for module in (classifier_gradient, noise_aware_loss, guided_x0, algorithm_1_step, algorithm_2, mean_cosine)
)
