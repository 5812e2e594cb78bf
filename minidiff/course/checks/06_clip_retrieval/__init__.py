"""The exercises of chapter 06, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import duplicate_groups, mismatch_auc, read_at_end, train_clip, zero_shot

EXERCISES = tuple(module.EXERCISE for module in (read_at_end, train_clip, zero_shot, mismatch_auc, duplicate_groups))
EXPERIMENTS = (
    Experiment(
        id="06-which-batch",
        title="Is a larger batch a better teacher?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
