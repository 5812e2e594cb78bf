"""From a sentence to a 64-px picture of sprites through a small latent space: latent diffusion (arXiv 2112.10752).

Stage 1, AUTOENCODER: 64×64×3 pixels become 16×16×4 latents of unit variance, and are drawn from them again. Then it is
frozen. Stage 2, LATENT: a denoiser of latents that reads captions, the transformer of `scenes_text` on 64 tokens.

Times are drawn noisier than for 16-px pictures (mean 1.1 of the log-odds, there 0.3), and sampling takes more of its
steps near the noise (`SHIFT`). Both have one reason. Where things are to be is settled while an object still stands out
of the noise as a whole, and an object of 144 latents of unit variance, about ‖d‖ = 20 from the ground, stands out at
larger σ/α than one of 84 numbers of a 16-px picture, about 9. With even steps a smaller model drew .32 of its pairs
right, with a shift of 4 .45. The weight of small times is held down (`FLOOR`): what is fine in a latent is the
decoder's to draw.

What it cannot do (100 held-out captions, w = 1): `pair` .68, mostly one kind drawn twice; `sizes` .16, for a large
horse is never shown in training, alone or with others, and its size does not come from that of a large cat;
"a lightbulb surrounding plants" .04, whose plants sink into the lightbulb; `several` .23. Guidance does not help: w = 3
made a smaller model draw .70 of its relations right, w = 1 .93.

UNET has the body of `stable_diffusion` and learns its words by itself. It keeps apart what LATENT confuses, and
confuses what LATENT keeps apart (100 held-out captions, w = 1): `pair` .85, `several` .62, `counts` .72, but `relation`
.65 for .97, `snow` .83 for .97, `surrounding` .49 for .62. Both had about an hour of CPU; hard families came more often
in UNET's. LATENT is the one to play with.
"""

from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.backbones.unet import UNet
from minidiff.codecs.losses import psnr
from minidiff.codecs.vae import VAE
from minidiff.conditioning import Conditioned, Words
from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import LECTURE, Prompt, World, place
from minidiff.data.scenes import render
from minidiff.data.sprites import FAMILIES, SpriteWorld
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import Generate, matches, shares
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import orders, randn, seeded
from minidiff.schedules import Linear
from minidiff.systems.generator import generator
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse

SIDE, LATENT_SHAPE, LENGTH = 64, (4, 16, 16), 18
WORLD = SpriteWorld(families=(*FAMILIES, "surrounding"))
"""Ten sprites, ten families, `surrounding` twice as often as the others."""
HARD = SpriteWorld(families=(*FAMILIES, "surrounding", "surrounding", "pair", "several"))
"""What is hardest comes more often still."""
CLOCK = (1.1, 1.1)
"""Mean and standard deviation of the log-odds of training times."""
SHIFT = 3.0
"""Of the sampler's times (`times.shifted`)."""
FLOOR = 0.3
"""σ is kept above it in the weight of the loss."""
REUSE = 4
"""How often a picture is used within a chunk, each time with other noise. To draw and encode 32 new ones for every step
would take a fifth of its time."""


@lru_cache
def tokenizer() -> WordTokenizer:
    return WordTokenizer([*vocabulary(("short",)), "some"], LENGTH)


def spoken(prompts: list[Prompt], generator: Generator) -> list[str]:
    """Short captions, "some" said half of the time: "some plants surrounding a lightbulb", "plants surrounding …"."""
    silent = (torch.rand(len(prompts), generator=generator) < 0.5).tolist()
    return [text.replace("some ", "") if quiet else text for text, quiet in zip(captions(prompts), silent)]


# ---------------------------------------------------------------- stage 1


def build_autoencoder() -> VAE:
    """0.13 M parameters; 16×16×4 latents, a twelfth of a picture's numbers."""
    return VAE(channels=LATENT_SHAPE[0])


def draw_pictures(batch: int) -> Draw:
    """New pictures in every batch: {"x0": (batch, 3, 64, 64)}."""
    scenes = lambda n: lambda g: {"x0": render(place(WORLD.prompts(n, g, "train"), g), SIDE)}
    return chunked(scenes, batch, chunk=16)


def standardise(autoencoder: VAE, n: int = 2048) -> None:
    """Latents of training pictures get mean 0 and variance 1 in each channel."""
    prompts = WORLD.prompts(n, 0, "train")
    autoencoder.standardise(render(place(prompts, 0), SIDE).to(autoencoder.shift.device).split(256))


@torch.no_grad()
def autoencoder_scores(autoencoder: VAE, n: int = 1000) -> dict[str, float]:
    """Of n held-out pictures: PSNR, how many are read as what they were, and the same with noise on their latents."""
    x = render(place(WORLD.prompts(n, 1, "test"), 1), SIDE).to(autoencoder.shift.device)
    z, drawn = autoencoder.latents(x), parse(x.cpu()).scenes
    found = {"psnr": round(float(psnr(autoencoder.decode(z), x).mean()), 2)}
    for noise in (0.0, 0.2, 0.4):
        noisy = z + noise * randn(z.shape, seeded(0)).to(z)
        read = parse(autoencoder.decode(noisy, clamp=True).cpu())
        right = same(drawn, read.scenes) & read.readable
        found[f"read as drawn, noise {noise:g}"] = round(float(right.float().mean()), 4)
    return found | {"std of held-out latents": round(float(z.std()), 3)}


AUTOENCODER = Shipped(
    name="sprites-autoencoder", purpose="64-px pictures of sprites to 16×16×4 latents and back",
    build=build_autoencoder, draw=partial(draw_pictures, 16), steps=2500, finish=standardise,
    scores=autoencoder_scores, options={"lr": 3e-3},
)  # fmt: skip


# ---------------------------------------------------------------- stage 2


def build(dim: int = 96, depth: int = 6) -> Denoiser:
    """1.0 M parameters: 64 tokens of 2×2 latents, width 96, 6 blocks; x0-prediction judged as a velocity."""
    words = Words(len(tokenizer()), LENGTH, dim)
    net = DiT(
        *LATENT_SHAPE[:1], LATENT_SHAPE[1:], 2, dim, depth, context_dim=dim, reads="merged", shared=True,
        place_std=0.3, activation=F.silu,
    )  # fmt: skip
    return Denoiser(Conditioned(words, net), Linear(), X0, partial(velocity_weight, floor=FLOOR))


def unet(context_dim: int = 64) -> UNet:
    """1.25 M parameters. Latents' 2×2 squares are folded into channels; attention stands behind every block of both
    resolutions, 8×8 and 4×4."""
    return UNet(
        LATENT_SHAPE[0], (48, 64), depth=1, patch=2, attention=False, embedding=96, context_dim=context_dim,
        attention_levels=(0, 1),
    )  # fmt: skip


def build_unet(dim: int = 64) -> Denoiser:
    """1.3 M parameters: the U-Net of `stable_diffusion`, but its words are learned together with it."""
    words = Words(len(tokenizer()), LENGTH, dim)
    return Denoiser(Conditioned(words, unet(dim)), Linear(), X0, partial(velocity_weight, floor=FLOOR))


def draw_latents(batch: int, autoencoder: VAE, world: World = WORLD) -> Draw:
    """{"x0": (batch, 4, 16, 16), "tokens": (batch, 18)}, each picture `REUSE` times within a chunk of 64 batches."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = world.prompts(-(-n // REUSE), generator, "train")
            latents = autoencoder.latents(render(place(prompts, generator), SIDE))
            tokens = tokenizer().encode(spoken(prompts, generator))
            order = orders(len(prompts), REUSE, generator)[:n]
            return {"x0": latents[order], "tokens": tokens[order]}

        return draw

    return chunked(rows, batch)


def null(negative: str = "") -> dict[str, Tensor]:
    """The empty caption, "no condition"; or a negative prompt, which guidance leads away from."""
    return {"tokens": tokenizer().encode([negative])[0]}


def pictures_of(
    model: Denoiser, autoencoder: VAE, steps: int = 50, batch: int = 10, bar: bool = False, shift: float = SHIFT,
    negative: str = "", start: float = 1.0,
) -> Generate:  # fmt: skip
    """`generate(texts, w, seeds)` → (B, 3, 64, 64): ancestral steps among latents, then the decoder.

    With w ≠ 0, (1 + w)·text − w·negative. shift: of the times, > 1 for more steps near the noise. start: the first time
    before it is shifted, below 1 for a network that predicts ε. model: any that reads `tokens`, such as one of
    `stable_diffusion`.
    """
    read = lambda texts: {"tokens": tokenizer().encode(texts)}
    grid = lambda steps: times.shifted(steps, shift, start)
    decode = partial(autoencoder.decode, clamp=True)
    return generator(
        model, read, null(negative), LATENT_SHAPE, steps=steps, grid=grid, decode=decode, batch=batch, bar=bar
    )


def shipped(steps: int = 50, bar: bool = False, negative: str = "") -> Generate:
    """`pictures_of` the two shipped models."""
    return pictures_of(LATENT.load(), AUTOENCODER.load(), steps, bar=bar, negative=negative)


def scores(model: Denoiser, n: int = 100) -> dict[str, float]:
    """Shares of n pictures of held-out captions that show them wholly, beside another's caption; of n/2 of a prompt."""
    return scores_of(pictures_of(model, AUTOENCODER.load().to(next(model.parameters()).device)), n)


def scores_of(generate: Generate, n: int = 100) -> dict[str, float]:
    """`scores` of anything that makes pictures of texts."""
    found = {}
    for w in (0.0, 1.0):
        for family, (right, other) in shares(generate, SpriteWorld(), w, n).items():
            found[f"{family}, w={w:g}"] = round(right.share, 4)
            found[f"{family}, w={w:g}, another caption"] = round(other.share, 4)
        for text, prompt in LECTURE.items():
            right = matches([prompt] * (n // 2), generate([text] * (n // 2), w, range(n // 2)))
            found[f"{text}, w={w:g}"] = round(float(right.float().mean()), 4)
    return found


def draw(autoencoder: VAE | None = None, world: World = WORLD) -> Draw:
    """Of stage 2: latents by the autoencoder (None: the shipped one), captions, times and noise."""
    clock = times.logit_normal(*CLOCK, stratified=True)
    return diffuse(draw_latents(32, autoencoder or AUTOENCODER.load(), world), clock, drop=0.1, null=null())


LATENT = Shipped(
    name="sprites-latent", purpose="a sentence becomes a 64-px picture of sprites, through 16×16×4 latents",
    build=build, draw=draw, steps=11_000, scores=scores,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.999, "lr": 4e-3},
)  # fmt: skip
UNET = Shipped(
    name="sprites-unet", purpose="the same by a U-Net of latents that learns its words", build=build_unet,
    draw=partial(draw, world=HARD), steps=10_000, scores=scores,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.999},
)  # fmt: skip
