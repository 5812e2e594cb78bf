"""The exercises of chapter 05, one a file; `EXERCISES` has them in the notebook's order."""

from . import cfg_variance, combine_branches, drop_labels, guidance_interval, neighbour_recall, velocity_guidance

EXERCISES = tuple(
    module.EXERCISE
    for module in (combine_branches, drop_labels, velocity_guidance, cfg_variance, guidance_interval, neighbour_recall)
)
