"""The exercises of chapter 03, one a file; `EXERCISES` has them in the notebook's order."""

from . import caption_log_prob, dps, gaussian_posterior, log_likelihood, project, sdedit_gaussian

EXERCISES = tuple(
    module.EXERCISE for module in (log_likelihood, gaussian_posterior, project, dps, sdedit_gaussian, caption_log_prob)
)
