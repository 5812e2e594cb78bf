"""Classifiers of noisy data, f_φ(y | x_t, t): the gradient of their log-probability guides (arXiv 2105.05233)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.backbones.mlp import MLP
from minidiff.nn.conv import ResBlock
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.nn.init import groups
from minidiff.schedules import Schedule
from minidiff.shapes import differentiable
from minidiff.validate import describe, require, require_floating, require_labels, require_time


class _NoiseAware(nn.Module):
    """What both classifiers share: `self(x_t, t)` gives logits (B, n_classes), `self.schedule` makes x_t from x0."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule

    def log_prob(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """log f_φ(y | x_t, t), shape (B,), for labels y, int64 of shape (B,) or a scalar, 0 … n_classes − 1."""
        logits = self(x_t, t)
        n = logits.shape[1]
        require_labels("y", y, len(x_t), n - 1, f"labels 0 … {n - 1} of {n} classes")
        rows = differentiable(y).to(x_t.device).expand(len(x_t))[:, None]
        return F.log_softmax(logits, dim=1).gather(1, rows)[:, 0]

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy on x_t = α·x0 + σ·ε, shape (B,)."""
        fits = isinstance(y, Tensor) and y.shape == x0.shape[:1]
        require(fits, "y", describe(y), f"labels of shape ({len(x0)},)")
        return -self.log_prob(self.schedule.add_noise(x0, eps, t), t, y)


class NoisyClassifier(_NoiseAware):
    """`classifier(x_t, t)` gives logits (B, n_classes) for x_t (B, channels, H, W) and t a scalar or (B,).

    The encoder half of a U-Net: fold patch×patch pixels into channels, a block, halve, two blocks, average, classify.
    Train it on *noisy* pictures: `loss` makes x_t from x0, t, ε with the schedule of the diffusion model it will guide.
    """

    def __init__(
        self,
        schedule: Schedule,
        channels: int,
        n_classes: int,
        widths: tuple[int, int] = (32, 64),
        patch: int = 2,
    ):
        super().__init__(schedule)
        self.patch, (narrow, wide), d = patch, widths, 96
        self.time = TimeEmbedding(d)
        self.stem = nn.Conv2d(channels * patch**2, narrow, 3, padding=1)
        self.fine = ResBlock(narrow, narrow, d)
        self.halve = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList([ResBlock(wide, wide, d), ResBlock(wide, wide, d)])
        self.norm, self.head = nn.GroupNorm(groups(wide), wide), nn.Linear(wide, n_classes)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        require_floating("x_t", x_t, min_dim=4)
        require_time(t, batch=len(x_t))
        at_least_fp32 = torch.promote_types(x_t.dtype, torch.float32)  # as in Denoiser: bfloat16 rounds times
        embedding = self.time(t.to(x_t.device, at_least_fp32).expand(len(x_t)))
        h = self.halve(self.fine(self.stem(F.pixel_unshuffle(x_t, self.patch)), embedding))
        for block in self.coarse:
            h = block(h, embedding)
        return self.head(F.silu(self.norm(h)).mean(dim=(2, 3)))


class PointClassifier(_NoiseAware):
    """The same for points: `classifier(x_t, t)` gives logits (B, n_classes) for x_t (B, dim) and t a scalar or (B,).

    A multilayer perceptron of `depth` layers of `width`; all logits are 0 before training. It computes in the type of
    its weights, so that a float32 classifier can guide an exact float64 denoiser: the gradient has the type of x_t.
    """

    def __init__(self, schedule: Schedule, dim: int, n_classes: int, width: int = 64, depth: int = 3):
        super().__init__(schedule)
        self.net = MLP(dim, width=width, depth=depth, out=n_classes)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        require_floating("x_t", x_t, min_dim=2)
        require_time(t, batch=len(x_t))
        weight = self.net.stem.weight
        return self.net(x_t.to(weight.dtype), t.to(weight).expand(len(x_t)))
