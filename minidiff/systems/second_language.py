"""A text tower for a second language that speaks to the same pictures (multilingual distillation, arXiv 2004.09813).

No picture and no contrast is needed: the new tower learns to put a translation where the frozen English tower puts the
original. Pictures found by one are then found by the other.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.encoders.clip import CLIP, TextTower
from minidiff.training import Progress, draw_rows, fit
from minidiff.validate import describe, require, require_shape


class SecondLanguage(nn.Module):
    """A text tower with its own vocabulary and CLIP's `out`, as a trainable for `training.fit`."""

    def __init__(self, text: TextTower):
        super().__init__()
        self.text = text

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 → unit vectors (B, out)."""
        return F.normalize(self.text(tokens), dim=-1)

    def loss(self, tokens: Tensor, target: Tensor) -> Tensor:
        """‖student(translation) − teacher(original)‖², (B,): equation 1 of arXiv 2004.09813, here 2 − 2·cos."""
        embeddings = self.encode_text(tokens)
        require_shape("target", target, embeddings.shape)
        return (embeddings - target).square().sum(1)


def align(
    student: SecondLanguage,
    teacher: CLIP,
    tokens: Tensor,
    translated: Tensor,
    steps: int,
    batch: int = 64,
    **options: Any,
) -> Iterator[Progress]:
    """Train `student` on N captions `tokens` (N, L) of the teacher and their translations `translated` (N, M).

    The teacher is not trained. options: those of `training.fit`. Row i of both tensors is the same sentence:
    `ValueError` if their numbers of rows differ.
    """
    require(
        len(tokens) == len(translated), "translated", describe(translated), f"{len(tokens)} rows, as many as tokens"
    )
    with torch.no_grad():
        target = torch.cat([teacher.encode_text(part) for part in tokens.split(1024)]).to(translated.device)
    return fit(student, draw_rows({"tokens": translated, "target": target}, batch), steps, **options)
