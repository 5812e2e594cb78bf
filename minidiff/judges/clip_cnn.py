"""A judge of clean clips that reads nothing: a plain convolutional network over space and time, trained by captions.

Its features are what `frechet` compares samples by. It shares no code and no rule with `judges.clips.tracks`.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.data.clips import ClipPrompt, ClipWorld, place, render
from minidiff.data.motions import MOTIONS, TOGETHER
from minidiff.data.scenes import COLOURS, KINDS
from minidiff.validate import require_floating, require_shape

LABELS = (*KINDS, *COLOURS, *MOTIONS, *TOGETHER)
"""What a clip can hold; two objects make several true at once."""


def labels(prompts: Sequence[ClipPrompt]) -> Tensor:
    """(B, len(LABELS)) float32, 1 for each kind, colour and motion that a prompt names, else 0."""
    y = torch.zeros(len(prompts), len(LABELS))
    for row, prompt in zip(y, prompts):
        names = {name for m in prompt.movers for name in (m.kind, m.colour, m.motion)} | {prompt.together}
        row[[LABELS.index(name) for name in names if name is not None]] = 1
    return y


def labelled(world: ClipWorld, batch: int, frames: int = 8, side: int = 16) -> Callable[[Generator], dict[str, Tensor]]:
    """draw(generator) → {"x0": clips (batch, 3, T, H, W), "y": their labels}, from the training split of `world`."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        prompts = world.prompts(batch, generator, "train")
        return {"x0": render(place(prompts, generator, frames, world.cells), side), "y": labels(prompts)}

    return draw


class JudgeClips(nn.Module):
    """`judge(clips)` gives logits (B, len(LABELS)) for clips (B, 3, T, H, W) in [−1, 1], T ≥ 2, H, W ≥ 12."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.features_net = nn.Sequential(
            nn.Conv3d(3, width, (3, 5, 5), padding=(1, 2, 2)), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d((4, 3, 3)), nn.Flatten(),
            nn.Linear(72 * width, 128), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(128, len(LABELS))

    def features(self, clips: Tensor) -> Tensor:
        """(B, 128) features for distances between samples."""
        require_floating("clips", clips)
        require_shape("clips", clips, (None, 3, None, None, None))
        return self.features_net(clips.to(self.head.weight.dtype))

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.features(clips))

    @torch.no_grad()
    def predict(self, clips: Tensor) -> Tensor:
        """(B, len(LABELS)) bool: what more likely is there than not; pixels outside [−1, 1] are clipped first."""
        return self(clips.clamp(-1, 1)) > 0

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over the labels: shape (B,)."""
        return F.binary_cross_entropy_with_logits(self(x0), y, reduction="none").mean(1)
