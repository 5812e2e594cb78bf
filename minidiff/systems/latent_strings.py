"""Latent diffusion of sentences: "any data type" (arXiv 2112.10752) taken at its word.

Noise cannot be added to a word. But stage 1 need not be about pixels: AUTOENCODER turns the 18 tokens of a sentence
into 6 latents of 16 numbers, and 6 latents into 18 tokens. Stage 2, LATENT, is the diffusion of `latent` on six tokens,
told by a label which family of sentences is wanted. What comes out is discrete again, and right or wrong: a grammar
that was written apart from the one that made the sentences reads them (`judges.sentences`).

The training set is drawn once, 5,597 sentences (there are only 797 of the family "pair"), so that "new" has a meaning:
not one of them.
"""

from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.codecs.vae import Posterior
from minidiff.conditioning import Conditioned, Labels, require_tokens
from minidiff.data.captions import captions, vocabulary
from minidiff.data.prompts import Prompt, World
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import END, PAD, START, WordTokenizer
from minidiff.guidance import bind, cfg
from minidiff.judges.sentences import distance, read
from minidiff.nn.block import Block
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import Randomness, randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.systems.shipped import Shipped
from minidiff.training import Draw, diffuse, draw_rows
from minidiff.validate import require_shape

FAMILIES = ("relation", "pair", "counts", "negation", "several")
LENGTH, JOINED, CHANNELS = 18, 3, 16
"""Tokens of a sentence; how many of them share a latent; its numbers."""
LATENT_SHAPE = (CHANNELS, LENGTH // JOINED)
PER_FAMILY = 1200


@cache
def tokenizer() -> WordTokenizer:
    return WordTokenizer(vocabulary(("short",)), LENGTH)


@cache
def training_set() -> tuple[list[str], Tensor]:
    """Different sentences, up to 1,200 of each family, and their families (N,)."""
    texts, labels = [], []
    for y, family in enumerate(FAMILIES):
        drawn = dict.fromkeys(captions(World(families=(family,)).prompts(4 * PER_FAMILY, 0, "train")))
        some = list(drawn)[:PER_FAMILY]
        texts, labels = texts + some, labels + [y] * len(some)
    return texts, torch.tensor(labels)


class TextAutoencoder(nn.Module):
    """Tokens (B, 18) int64 ↔ latents (B, 16, 6), normalised to mean 0 and variance 1 per channel.

    A block over the words, three neighbours to a latent; the way back with two blocks, and logits for every place.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, words: int, dim: int = 64, depth: int = 2, kl_weight: float = 1e-3):
        super().__init__()
        self.kl_weight = kl_weight
        self.words = nn.Embedding(words, dim)
        self.place = nn.Parameter(0.3 * torch.randn(LENGTH, dim))
        make = lambda n: nn.Sequential(*(Block(dim, 4, activation=F.silu) for _ in range(n)))
        self.encoder_blocks, self.decoder_blocks = make(1), make(depth)
        self.down, self.up = nn.Linear(JOINED * dim, 2 * CHANNELS), nn.Linear(CHANNELS, JOINED * dim)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, words)
        self.register_buffer("shift", torch.zeros(CHANNELS, 1))
        self.register_buffer("scale", torch.ones(CHANNELS, 1))

    def encode(self, tokens: Tensor) -> Posterior:
        """q(z|tokens), (B, 16, 6), before the normalisation. `ValueError` for tokens of another shape or dtype."""
        require_tokens(tokens, len(tokens), LENGTH)
        require_shape("tokens", tokens, (len(tokens), LENGTH))
        x = self.encoder_blocks(self.words(tokens) + self.place)  # (B, 18, dim)
        return Posterior.of(self.down(x.unflatten(1, (-1, JOINED)).flatten(2)).transpose(1, 2))

    def logits(self, z: Tensor) -> Tensor:
        """(B, 16, 6), before the normalisation → (B, 18, words)."""
        x = self.up(z.transpose(1, 2)).unflatten(2, (JOINED, -1)).flatten(1, 2) + self.place
        return self.head(self.norm(self.decoder_blocks(x)))

    def latents(self, tokens: Tensor) -> Tensor:
        return (self.encode(tokens).mean - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Normalised latents → the likeliest token of each place, (B, 18). `ValueError` for another shape of z."""
        require_shape("z", z, (len(z), *LATENT_SHAPE))
        return self.logits(z * self.scale + self.shift).argmax(-1)

    def loss(self, tokens: Tensor, generator: Randomness = None) -> Tensor:
        """Cross-entropy of the tokens given a sample of q(z|tokens), plus kl_weight·KL per number: (B,)."""
        posterior = self.encode(tokens)
        logits = self.logits(posterior.sample(generator))
        entropy = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none").mean(1)
        return entropy + self.kl_weight * posterior.kl() / posterior.mean[0].numel()


def _sentences() -> dict[str, Tensor]:
    return {"tokens": tokenizer().encode(training_set()[0])}


@torch.no_grad()
def standardise(autoencoder: TextAutoencoder) -> None:
    z = autoencoder.encode(_sentences()["tokens"].to(autoencoder.shift.device)).mean
    autoencoder.shift.copy_(z.mean((0, 2))[:, None])
    autoencoder.scale.copy_(z.std((0, 2))[:, None])


def held_out(n: int, seed: int = 0) -> list[str]:
    """n different sentences of contents that no sentence of the training set has."""
    texts = dict.fromkeys(captions(World(families=FAMILIES).prompts(4 * n, seed, "test")))
    return list(texts)[:n]


@torch.no_grad()
def _autoencoder_scores(autoencoder: TextAutoencoder) -> dict[str, float]:
    tokens = tokenizer().encode(held_out(1000)).to(autoencoder.shift.device)
    z, found = autoencoder.latents(tokens), {}
    for noise in (0.0, 0.2, 0.4):
        back = autoencoder.decode(z + noise * randn(z.shape, seeded(0)).to(z))
        whole = float((back == tokens).all(1).float().mean())
        found[f"held-out sentences come back whole, noise {noise:g}"] = round(whole, 4)
    return found


AUTOENCODER = Shipped(
    name="strings-autoencoder", purpose="sentences to 6 latents of 16 numbers and back",
    build=lambda: TextAutoencoder(len(tokenizer())), draw=lambda: draw_rows(_sentences(), 64), steps=2500,
    finish=standardise, scores=_autoencoder_scores,
    options={"optimizer": Muon, "groups": muon_groups, "lr": 4e-3},
)  # fmt: skip


# ---------------------------------------------------------------- stage 2


def build(dim: int = 96, depth: int = 4) -> Denoiser:
    """0.6 M parameters: six tokens, width 96, 4 blocks; the family is added to the time embedding."""
    net = DiT(CHANNELS, LATENT_SHAPE[1:], 1, dim, depth, shared=True, place_std=0.3, activation=F.silu)
    return Denoiser(Conditioned(Labels(len(FAMILIES), dim), net), Linear(), X0, partial(velocity_weight, floor=0.3))


def null() -> dict[str, Tensor]:
    return {"y": torch.tensor(len(FAMILIES))}


@torch.no_grad()
def draw(autoencoder: TextAutoencoder | None = None) -> Draw:
    """Latents of the training set with times and noise, the family dropped once in ten."""
    codec = autoencoder or AUTOENCODER.load()
    data = {"x0": codec.latents(_sentences()["tokens"]), "y": training_set()[1]}
    return diffuse(draw_rows(data, 64), times.logit_normal(0.3, 1.0, stratified=True), drop=0.1, null=null())


@torch.no_grad()
def sentences_of(
    model: Denoiser, autoencoder: TextAutoencoder, families: list[int], w: float = 0.0, seed: int = 0, steps: int = 50
) -> list[str]:
    """One sentence per family (of `FAMILIES`, by index), in ancestral steps; picture i has the seed seed + i."""
    device, generators = next(model.parameters()).device, seeded(range(seed, seed + len(families)))
    cond = {"y": torch.tensor(families, device=device)}
    denoise = bind(model, **cond) if w == 0 else cfg(model, cond, null(), w)
    noise = randn((len(families), *LATENT_SHAPE), generators, device=device)
    *_, z = sample(denoise, noise, times.linear(steps), ddpm(model.schedule), generators)
    return written(autoencoder.decode(z))


def written(tokens: Tensor) -> list[str]:
    """Tokens (B, 18) as sentences; "" for what does not begin with START and end once with END, then padding."""
    texts = tokenizer().decode(tokens.cpu())
    return [text if _framed(row) else "" for text, row in zip(texts, tokens.tolist())]


def _framed(row: list[int]) -> bool:
    body = row[1 : row.index(END)] if END in row else [PAD]
    return row[0] == START and not {PAD, START} & {*body} and {*row[len(body) + 2 :]} <= {PAD}


def judged(sentences: list[str], families: list[int]) -> dict[str, float]:
    """Shares that are sentences, of the family asked for, not in the training set, and different from one another."""
    known, prompts = set(training_set()[0]), [read(text) for text in sentences]
    valid = [text for text, prompt in zip(sentences, prompts) if prompt is not None]
    asked = [prompt is not None and family_of(prompt) == FAMILIES[y] for prompt, y in zip(prompts, families)]
    new = [text for text in valid if text not in known]
    n = len(sentences)
    return {
        "valid": len(valid) / n,
        "of the family": sum(asked) / n,
        "new among the valid": len(new) / max(1, len(valid)),
        "different among the valid": len({*valid}) / max(1, len(valid)),
    }


def family_of(prompt: Prompt) -> str:
    """Which of FAMILIES a prompt belongs to, or "other"."""
    counts = [group.count for group in prompt.groups]
    if prompt.absent:
        return "negation"
    if prompt.relation:
        return "relation" if set(counts) == {1} else "other"
    if len(counts) >= 3:
        return "several"
    if len(counts) == 2:
        return "pair" if counts == [1, 1] else "counts"
    return "other"


def nearest(sentences: list[str], others: list[str]) -> list[int]:
    """For each sentence its distance in words to the nearest of `others` that is not itself."""
    return [min(distance(text, other) for other in others if other != text) for text in sentences]


def _scores(model: Denoiser, n: int = 1000) -> dict[str, float]:
    families = [i % len(FAMILIES) for i in range(n)]
    codec, found = AUTOENCODER.load().to(next(model.parameters()).device), {}
    for w in (0.0, 1.0):
        made = sentences_of(model, codec, families, w)
        found |= {f"{name}, w={w:g}": round(value, 4) for name, value in judged(made, families).items()}
        found[f"words to the nearest known one, new ones, w={w:g}"] = _away([t for t in made if read(t) is not None])
    found["words to the nearest known one, held-out real ones"] = _away(held_out(n))
    return found


def _away(sentences: list[str], n: int = 150) -> float:
    """The mean distance of the first n that are not in the training set to the nearest that is."""
    known = dict.fromkeys(training_set()[0])
    new = [text for text in sentences if text not in known][:n]
    return round(sum(nearest(new, [*known])) / max(1, len(new)), 3)


LATENT = Shipped(
    name="strings-latent", purpose="sentences by diffusion, in the latent space of an autoencoder of strings",
    build=build, draw=draw, steps=8000, scores=_scores,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.999, "lr": 4e-3},
)  # fmt: skip
