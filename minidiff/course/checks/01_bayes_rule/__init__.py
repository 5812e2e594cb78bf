"""The exercises of chapter 01, one a file; `EXERCISES` has them in the notebook's order."""

from . import bayes_gap, guided_guess, langevin, mixture_score, noisy_classifier, posterior_score

EXERCISES = tuple(
    module.EXERCISE for module in (posterior_score, mixture_score, langevin, guided_guess, noisy_classifier, bayes_gap)
)
