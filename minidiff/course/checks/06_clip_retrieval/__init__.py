"""The exercises of chapter 06, one a file; `EXERCISES` has them in the notebook's order."""

from . import clip_loss, duplicate_groups, mismatch_auc, read_at_end, recall_at_k, zero_shot

EXERCISES = tuple(
    module.EXERCISE for module in (clip_loss, read_at_end, zero_shot, recall_at_k, duplicate_groups, mismatch_auc)
)
