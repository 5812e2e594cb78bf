"""A judge of clean pictures: a plain convolutional classifier, trained apart from every model it judges.

It differs from the classifiers that guide in architecture, training data (clean, shifted and partly erased pictures),
seed and purpose, so that agreement with it is evidence, not an echo.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.validate import require_floating, require_shape


class JudgeCNN(nn.Module):
    """`judge(pictures)` gives logits (B, n_classes) for pictures (B, channels, H, W) in [−1, 1], H, W ≥ 12."""

    def __init__(self, channels: int, n_classes: int, width: int = 32):
        super().__init__()
        self.channels = channels
        self.features_net = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 3 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
            nn.Linear(27 * width, 128), nn.ReLU(),
        )  # fmt: skip
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(128, n_classes)

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 128) features for distances between pictures."""
        require_floating("pictures", pictures)
        require_shape("pictures", pictures, (None, self.channels, None, None))
        return self.features_net(pictures.to(self.head.weight.dtype))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pictures)))

    @torch.no_grad()
    def predict(self, pictures: Tensor) -> Tensor:
        """The most likely class of each picture, (B,) int64; pixels outside [−1, 1] are clipped first."""
        return self(pictures.clamp(-1, 1)).argmax(1)

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, shape (B,)."""
        return F.cross_entropy(self(x0), y, reduction="none")
