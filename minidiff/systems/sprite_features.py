"""What is in a picture of sprites, named by a small CNN: its feature maps are chapter 09's perceptual loss.

LPIPS (arXiv 1801.03924) compares feature maps of a network that was trained on ImageNet, which would have to be
downloaded. This one was trained here, in a minute, to name the sprites of a picture and their sizes; that is what its
features can judge, and all.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.data.prompts import place
from minidiff.data.scenes import KINDS, SIZES, SPRITES, Scenes, render
from minidiff.nn.init import groups
from minidiff.randomness import orders
from minidiff.systems.latent import REUSE, SIDE, WORLD
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked
from minidiff.validate import describe, require, require_floating

LABELS = tuple(f"{size} {kind}" for kind in SPRITES for size in SIZES)


def labels_of(scenes: Scenes) -> Tensor:
    """(B, 30) float: 1 where a picture shows at least one such sprite in such a size."""
    sprite = scenes.kind - KINDS.index(SPRITES[0])
    index = torch.where(scenes.kind >= 0, sprite * len(SIZES) + scenes.size, len(LABELS))
    return torch.zeros(len(scenes), len(LABELS) + 1).scatter_(1, index, 1.0)[:, :-1]


class SpriteCNN(nn.Module):
    """Pictures (B, 3, H, W), H and W divisible by 8 → logits of the 30 `LABELS`; `features` → its three maps.

    The maps have 1/2, 1/4 and 1/8 of the side; logits are the largest over places of the last.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64)):
        super().__init__()
        sides = zip((3, *widths), widths)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in sides)
        self.norms = nn.ModuleList(nn.GroupNorm(groups(n), n) for n in widths)
        self.look = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.head = nn.Conv2d(widths[-1], len(LABELS), 1)

    def features(self, x: Tensor) -> list[Tensor]:
        require_floating("x", x)
        fits = x.ndim == 4 and x.shape[1] == 3 and all(n % 8 == 0 for n in x.shape[2:])
        require(fits, "x", describe(x), "shape (B, 3, H, W) with H, W divisible by 8")
        maps = []
        for conv, norm in zip(self.convs, self.norms):
            x = F.silu(norm(conv(x)))
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.look(self.features(x)[-1]))).amax((2, 3))

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropy summed over the labels, (B,)."""
        return F.binary_cross_entropy_with_logits(self(x0), y, reduction="none").sum(1)


def draw_labelled(batch: int) -> Draw:
    """{"x0": (batch, 3, 64, 64), "y": (batch, 30)} of training pictures, each `REUSE` times within 16 batches."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            scenes = place(WORLD.prompts(-(-n // REUSE), generator, "train"), generator)
            order = orders(len(scenes), REUSE, generator)[:n]
            return {"x0": render(scenes, SIDE)[order], "y": labels_of(scenes)[order]}

        return draw

    return chunked(rows, batch, chunk=16)


@torch.no_grad()
def scores(model: SpriteCNN, n: int = 1000) -> dict[str, float]:
    """Of n held-out pictures: labels found, and names that were right; beside the labels of the next picture."""
    scenes = place(WORLD.prompts(n, 1, "test"), 1)
    x, y = render(scenes, SIDE).to(next(model.parameters()).device), labels_of(scenes).bool()
    named = torch.cat([model(part) for part in x.split(100)]).cpu() > 0
    found = {}
    for name, truth in (("", y), (", the next picture's", y.roll(1, 0))):
        hit = (named & truth).sum()
        found |= {f"recall{name}": float(hit / truth.sum()), f"precision{name}": float(hit / named.sum().clamp(min=1))}
        found |= {f"all labels right{name}": float((named == truth).all(1).float().mean())}
    return {name: round(value, 4) for name, value in found.items()}


MODEL = Shipped(
    name="sprite-features", purpose="names the sprites of a picture: features of a perceptual loss (chapter 09)",
    build=SpriteCNN, draw=lambda: draw_labelled(32), steps=1200, scores=scores, options={"lr": 3e-3, "ema_decay": 0.99},
)  # fmt: skip
