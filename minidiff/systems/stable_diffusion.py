"""Stable Diffusion (arXiv 2112.10752) of the sprite world, part by part as in the lecture, 1.5 million numbers in all:

    text → CLIP's text tower, frozen (`clip_sprites`) → one vector a token
         → a U-Net of latents whose pixels look at them, 4×16×16 (4×64×64 there)
         → the decoder of an autoencoder, frozen (`latent.AUTOENCODER`) → 64×64 pixels (512×512)

The empty caption is ∅ and stands in for one caption in ten in training. Two things changed from version 1 to 2, and
both are arguments of `build` here. Which block of the text tower is read: the last one (skip 0), or the one before it
(skip 1). And what the network predicts: ε, or v = α·ε − σ·x0 (2202.00512). Shipped is the later choice of both, for
their reasons: CLIP's loss sees the last block's END alone, the block before has to say something at every word; and v
can be learnt, and asked for, where there is nothing but noise.

After 22 CPU minutes (50 held-out captions of a family, w = 1): `one` .86, `relation` .68, `pair` .64, `count` .82,
`riding` .74, `snow` .58, "an astronaut riding a horse" and "a cat in the snow" .76, `surrounding` .06, `several` .10,
`sizes` .00. The transformer of `latent`, which had 11,000 steps of like cost against 5000 and learnt its words by
itself, has .99, .97, .68, .97, .99, .97, 1.0 and 1.0: it is the one to play with. At equal time the two have not been
compared.
"""

from torch import nn

from minidiff.conditioning import Conditioned, Frozen
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import Hidden, TextTower
from minidiff.judges.scorecard import Generate
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import Prediction, V
from minidiff.schedules import Linear
from minidiff.systems import clip_sprites, latent
from minidiff.systems.shipped import Shipped

CONTEXT = 64
"""Width of what the U-Net's pixels look at."""


def build(skip: int = 1, prediction: Prediction = V, tower: TextTower | None = None) -> Denoiser:
    """Latents (B, 4, 16, 16), tokens (B, ≤ 18) → x̂0. 1.5 M parameters, of which the U-Net has 1.25 M.

    tower: that of the shipped `clip-sprites` unless given; it is frozen here. The U-Net is `latent.unet`.
    """
    tower = clip_sprites.MODEL.load().text if tower is None else tower
    words = Frozen(Hidden(tower, skip), latent.LENGTH, context_dim=CONTEXT)
    return Denoiser(Conditioned(words, latent.unet(CONTEXT)), Linear(), prediction)


def groups(model: nn.Module) -> list[dict]:
    """`muon_groups` without what is frozen. AdamW has the convolutions here, too, and half of its usual rate."""
    told = muon_groups(model, adam_lr=2e-3)
    return [group | {"params": [p for p in group["params"] if p.requires_grad]} for group in told]


def shipped(steps: int = 50, bar: bool = False, negative: str = "") -> Generate:
    """`generate(texts, w, seeds)` → (B, 3, 64, 64) by the shipped models; `latent.pictures_of` for others."""
    return latent.pictures_of(MODEL.load(), latent.AUTOENCODER.load(), steps, bar=bar, negative=negative)


def scores(model: Denoiser, n: int = 50) -> dict[str, float]:
    """Those of `latent.scores`, of half as many pictures and in larger batches."""
    return latent.scores_of(latent.pictures_of(model, latent.AUTOENCODER.load(), batch=50), n)


MODEL = Shipped(
    name="stable-diffusion", purpose="a sentence becomes a 64-px picture as in Stable Diffusion: CLIP, a latent U-Net",
    build=build, draw=latent.draw, steps=5000, scores=scores,
    options={"optimizer": Muon, "groups": groups, "ema_decay": 0.999},
)  # fmt: skip
