"""The design space of text to pictures: five choices, 72 cells, one page that builds any of them (chapter 15).

    paradigm        DDPM · flow matching                           what the network is asked for, and at which times
    space           pixels · latents                               what the noise is added to
    architecture    U-Net · transformer                            what removes it
    encoder         CLIP · CLIP + language model · language model  who reads the sentence
    conditioning    cross-attention · joint attention · one sequence      how what was read meets the picture

2·2·2·3·3 = 72, of which 40 can be built. The others contradict themselves, and `Design.reason` says where. `atlas`
says which real model sits in which cell.

All cells draw one world, sprites (`imagen.WORLD`): as 16×16×3 pixels, a 64-px picture made smaller, or as 16×16×4
latents of the same 64-px picture. They have one CLIP, one chat model, one autoencoder, all of them shipped and frozen,
and a backbone of 0.6 M parameters (to 1.5 %). Only the parts that a cell names differ from its neighbour's. Work is not
the same everywhere: a transformer has 16 tokens of 4×4 pixels, or 64 of 2×2 latents.

"One sequence" is a transformer that is the language model: it reads the words itself and is asked for the next one,
and for the picture (`Transfusion`). Its language model has to be learned with it; in other cells it is the frozen one.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from itertools import product
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from minidiff import thresholding, times
from minidiff.backbones.dit import DiT
from minidiff.backbones.mmdit import MMDiT, width_of
from minidiff.backbones.transfusion import Transfusion
from minidiff.backbones.unet import UNet
from minidiff.cascade import lowered
from minidiff.codecs.vae import VAE
from minidiff.conditioning import Conditioned, Frozen
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import Hidden
from minidiff.encoders.joined import Joined
from minidiff.encoders.tokenizer import PAD
from minidiff.judges.scorecard import Generate
from minidiff.predictions import EPS, VELOCITY, X0, velocity_weight
from minidiff.randomness import orders, rand
from minidiff.schedules import DDPM, Linear, Schedule
from minidiff.systems import clip_sprites, imagen, latent, llm, readers
from minidiff.systems.generator import generator, in_batches
from minidiff.systems.imagen import WORLD
from minidiff.training import Batch, Draw, chunked, diffuse
from minidiff.validate import require

Paradigm = Literal["DDPM", "flow matching"]
Space = Literal["pixels", "latents"]
Architecture = Literal["U-Net", "transformer"]
Encoder = Literal["CLIP", "CLIP + language model", "language model"]
Conditioning = Literal["cross-attention", "joint attention", "one sequence"]
AXES: dict[str, tuple[str, ...]] = {
    "paradigm": get_args(Paradigm), "space": get_args(Space), "architecture": get_args(Architecture),
    "encoder": get_args(Encoder), "conditioning": get_args(Conditioning),
}  # fmt: skip
"""Each axis and its values."""
SILENT = 0.1
"""Captions that training leaves out."""
WIDTH, PARAMETERS = 64, 600_000
"""Of what the backbone looks at, and of what modulates it; and how many numbers the backbone has."""
NEARLY_CLEAN, DESCRIBED, LAMBDA = 0.3, 0.25, 25.0
"""One sequence: noise of pictures that are to be described, their share, and what a picture's loss counts beside the
words' (`transfusion`)."""


@dataclass(frozen=True)
class Design:
    """One cell. `ValueError` for a value that its axis does not have; a cell that cannot be built has a `reason`."""

    paradigm: Paradigm
    space: Space
    architecture: Architecture
    encoder: Encoder
    conditioning: Conditioning

    def __post_init__(self):
        for axis, values in AXES.items():
            value = getattr(self, axis)
            require(value in values, axis, repr(value), f"one of {values}")

    def __str__(self) -> str:
        return ", ".join(astuple(self))

    @property
    def reason(self) -> str | None:
        """Why this cell cannot be, naming the two axes that contradict each other; None for one that can."""
        if self.architecture == "U-Net" and self.conditioning == "joint attention":
            return _clash(self, "architecture", "conditioning") + (
                "in joint attention words and picture go through the same blocks as tokens. A U-Net changes its grid "
                "from block to block and has no place for tokens that are no pixels: it can look at words, not carry "
                "them. Take a transformer, or cross-attention."
            )
        if self.architecture == "U-Net" and self.conditioning == "one sequence":
            return _clash(self, "architecture", "conditioning") + (
                "one sequence asks one network for the next word and for the picture. A U-Net has no next token. Take "
                "a transformer, or cross-attention."
            )
        if self.conditioning == "one sequence" and self.encoder != "language model":
            return _clash(self, "encoder", "conditioning") + (
                "in one sequence the transformer reads the words itself: it is the language model, and a CLIP beside "
                "it would be a reader outside the sequence. Take the language model, or let the encoder's tokens in by "
                "joint attention."
            )
        return None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is denoised: (channels, 16, 16)."""
        return latent.LATENT_SHAPE if self.space == "latents" else (3, imagen.SIDES[0], imagen.SIDES[0])

    @property
    def side(self) -> int:
        """Of the pictures that are drawn: 16 or 64."""
        return 64 if self.space == "latents" else imagen.SIDES[0]

    def build(self) -> Denoiser | Transfusion:
        """Untrained; both have the `loss` of `training.fit`. Frozen parts are loaded. `ValueError` with the reason."""
        require(self.reason is None, "design", str(self), f"a cell that can be: {self.reason}")
        net = self.backbone()
        if isinstance(net, Transfusion):
            return net
        schedule, asked = (DDPM(), EPS) if self.paradigm == "DDPM" else (Linear(), VELOCITY)
        return Denoiser(Conditioned(self.reader(), net), schedule, asked)

    def reader(self) -> Frozen | Joined:
        """The encoder and the maps from its widths: context, and with both encoders CLIP's pooled vector (SD 3)."""
        if self.encoder == "CLIP":
            return Frozen(Hidden(clip_sprites.MODEL.load().text), latent.LENGTH, context_dim=WIDTH)
        if self.encoder == "language model":
            return Frozen(readers.chat_model(), llm.LENGTH, context_dim=WIDTH)
        clip = clip_sprites.MODEL.load().text
        return Joined([clip], readers.chat_model(), (latent.LENGTH, llm.LENGTH), WIDTH, WIDTH)

    def backbone(self) -> nn.Module:
        """0.6 M parameters that remove the noise."""
        channels, *size = self.shape
        if self.architecture == "U-Net":  # 8×8 and 4×4 places, which look at the words on both levels
            return UNet(
                channels, (32, 44), depth=1, patch=2, attention=False, embedding=WIDTH, context_dim=WIDTH,
                attention_levels=(0, 1),
            )  # fmt: skip
        patch = 2 if self.space == "latents" else 4
        if self.conditioning == "one sequence":
            schedule, weigh = (DDPM(), noise_weight) if self.paradigm == "DDPM" else (Linear(), velocity_weight)
            vocabulary = len(latent.tokenizer())
            return Transfusion(
                vocabulary, latent.LENGTH, channels, size, patch, dim=84, depth=6, weight=LAMBDA, schedule=schedule,
                weigh=weigh, modulated=True,
            )  # fmt: skip
        parts: dict[str, Any] = {"channels": channels, "size": size, "patch": patch, "dim": WIDTH, "heads": 4}
        if self.conditioning == "cross-attention":
            make = lambda hidden: DiT(**parts, depth=6, context_dim=WIDTH, hidden=hidden, qk_norm=True, place_std=0.3)
        else:  # separate at first, then one set of weights for both (Flux 1)
            make = lambda hidden: MMDiT(**parts, double=1, single=4, context_dim=WIDTH, hidden=hidden, rotary=(4, 6, 6))
        return make(width_of(make, PARAMETERS))

    def read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Conditions of texts; the empty one is "no condition"."""
        if self.conditioning == "one sequence":
            return {"tokens": clip_sprites.tokens(texts)}  # the same words; the transformer has its own vectors of them
        if self.encoder == "CLIP":
            return {"tokens": clip_sprites.tokens(texts)}
        if self.encoder == "language model":
            return {"tokens": llm.chat(texts)}
        heard = torch.tensor([[bool(text)] * 2 for text in texts])
        return {"tokens": clip_sprites.tokens(texts), "words": llm.chat(texts), "heard": heard}

    def draw(self, batch: int = 32) -> Draw:
        """What `build`'s network learns from: {"x0" (batch, channels, 16, 16), "t", "eps"} and its conditions."""
        require(self.reason is None, "design", str(self), f"a cell that can be: {self.reason}")
        autoencoder = latent.AUTOENCODER.load() if self.space == "latents" else None
        noisy = diffuse(chunked(partial(_rows, self, autoencoder), batch, chunk=16), self.clock)
        return _either_way(noisy) if self.conditioning == "one sequence" else noisy

    @property
    def clock(self) -> times.Clock:
        """Training times: all alike for DDPM; for flow matching those of `imagen` (pixels) or `latent`."""
        if self.paradigm == "DDPM":
            return times.uniform
        return times.logit_normal(*(latent.CLOCK if self.space == "latents" else imagen.CLOCK), stratified=True)

    def pictures_of(self, model: Denoiser | Transfusion, steps: int = 50, batch: int = 50) -> Generate:
        """`generate(texts, w, seeds)` → (B, 3, side, side) of a network of this cell, in ancestral steps.

        Pixels are kept within [−1, 1] at every step (`thresholding.static`). Latents of flow matching have more steps
        near the noise (`latent.SHIFT`). Even steps of DDPM's schedule have more there by themselves: σ/α is 3.4 after
        half of them, 3 with the shift, 1 without; near the data the two agree to a tenth.
        """
        autoencoder = latent.AUTOENCODER.load() if self.space == "latents" else None
        later = autoencoder is not None and self.paradigm == "flow matching"
        settings: dict[str, Any] = {
            "steps": steps, "grid": partial(times.shifted, shift=latent.SHIFT) if later else times.linear,
        }  # fmt: skip
        if autoencoder is None:
            settings["wrap"] = thresholding.static
        else:
            settings["decode"] = partial(autoencoder.decode, clamp=True)

        def some(texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
            cond, null = readers.with_null(self.read, texts)
            if isinstance(model, Transfusion):
                drawer = Denoiser(model, model.schedule, X0)
            else:
                network = model.net
                assert isinstance(network, Conditioned)
                drawer = Denoiser(network.backbone, model.schedule, model.prediction)
                cond, null = readers.read_once(network, cond, null)
            return generator(drawer, lambda _: cond, null, self.shape, batch=len(texts), **settings)(texts, w, seeds)

        return in_batches(torch.no_grad()(some), batch)


def cells() -> list[Design]:
    """All 72, the last axis fastest."""
    return [Design(*values) for values in product(*AXES.values())]  # type: ignore[arg-type]


def valid() -> list[Design]:
    """Those that can be built."""
    return [design for design in cells() if design.reason is None]


def differing(one: Design, other: Design) -> list[str]:
    """The axes on which two cells differ."""
    return [f.name for f in fields(Design) if getattr(one, f.name) != getattr(other, f.name)]


def _clash(design: Design, *axes: str) -> str:
    named = " and ".join(f"{axis} {getattr(design, axis)!r}" for axis in axes)
    return f"{named} contradict each other: "


def noise_weight(schedule: Schedule, t: Tensor, floor: float = 0.1) -> Tensor:
    """The weight that makes an X0 network's error the error of the noise it implies: (α/σ)², (B,), σ above `floor`.

    ε̂ = (x_t − α·x̂0)/σ, so that ε̂ − ε = −α/σ·(x̂0 − x0).
    """
    alpha, sigma = schedule(t)
    return (alpha / sigma.clamp(min=floor)) ** 2


@torch.no_grad()
def _pictures(scenes: Tensor, autoencoder: VAE | None) -> Tensor:
    """(B, 3, 64, 64) → what is denoised of it."""
    return lowered(scenes, 64 // imagen.SIDES[0]) if autoencoder is None else autoencoder.latents(scenes)


def _rows(design: Design, autoencoder: VAE | None, n: int) -> Draw:
    """n rows of the training split, each picture `imagen.REUSE` times, a tenth without their caption."""

    def draw(generator: Generator) -> Batch:
        prompts = WORLD.prompts(-(-n // imagen.REUSE), generator, "train")
        x0 = _pictures(render(place(prompts, generator), 64), autoencoder)
        order, texts = orders(len(prompts), imagen.REUSE, generator)[:n], captions(prompts)
        silent = (rand((n,), generator) < SILENT).tolist()
        told = ["" if quiet else texts[i] for i, quiet in zip(order.tolist(), silent)]
        return {"x0": x0[order], **design.read(told)}

    return draw


def _either_way(noisy: Draw) -> Draw:
    """Some rows begin with the picture, nearly clean, and have to say their caption; those without one never do."""

    def draw(generator: Generator) -> Batch:
        found = noisy(generator)
        first, clean = rand((2, len(found["t"])), generator)
        picture_first = (first < DESCRIBED) & ((found["tokens"] != PAD).sum(1) > 2)
        seen = torch.where(clean < 0.5, 0.0, NEARLY_CLEAN * found["t"])
        return {**found, "t": torch.where(picture_first, seen, found["t"]), "picture_first": picture_first}

    return draw
