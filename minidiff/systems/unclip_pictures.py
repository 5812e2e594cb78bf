"""What unCLIP's two models and CLIP do together: pictures of sentences, and what can be said of pictures without words.

Variations of a picture, the way from one to another, a picture moved by the difference of two sentences (arXiv
2204.06125, section 3). `unclip` is the page of the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import cascade, times
from minidiff.cascade import Enlarge, lowered
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import CLIP
from minidiff.guidance import Denoise, bind, cfg
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, ddpm, sample
from minidiff.systems import clip_sprites, imagen
from minidiff.systems.generator import generator
from minidiff.systems.imagen import own_seeds
from minidiff.thresholding import static
from minidiff.validate import require, require_floating, require_shape

DIM = 64
SCALE = DIM**0.5
"""Embeddings have length 1; times this, their numbers have mean square 1, as the noise has that is added to them."""
SIDE = imagen.SIDES[0]
NOTHING = {"embedding": torch.zeros(DIM)}
"""The decoder's "no condition"."""


def silent() -> dict[str, Tensor]:
    """The prior's "no condition": the empty caption."""
    return {name: value[0] for name, value in imagen.read_clip([""]).items()}


def slerp(a: Tensor, b: Tensor, fractions: Sequence[float] | Tensor) -> Tensor:
    """Unit vectors on the great circle from a (d,) to b (d,), at these fractions of the angle between them: (F, d).

    (sin((1 − f)θ)·a + sin(fθ)·b)/sin θ, with cos θ = a·b. `ValueError` for vectors of other lengths than 1, and for
    opposite ones, between which there are many ways.
    """
    for name, value in (("a", a), ("b", b)):
        require_shape(name, value, (len(a),))
        require(abs(float(value.norm()) - 1) < 1e-3, name, f"length {float(value.norm()):.4g}", "a unit vector")
    f = torch.as_tensor(fractions, dtype=a.dtype, device=a.device)[:, None]
    angle = torch.acos((a @ b).clamp(-1, 1))
    require(float(angle) < torch.pi - 1e-3, "a, b", "opposite vectors", "an angle below π")
    if float(angle) < 1e-4:
        return F.normalize((1 - f) * a + f * b, dim=-1)
    return F.normalize(torch.sin((1 - f) * angle) * a + torch.sin(f * angle) * b, dim=-1)


def better(candidates: Tensor, texts: Tensor) -> Tensor:
    """Of candidates (k, B, d) for each text (B, d) the one with the largest dot product: (B, d)."""
    best = (candidates * texts).sum(-1).argmax(0)  # (B,)
    return candidates[best, torch.arange(len(best))]


@dataclass(frozen=True)
class UnCLIP:
    """Frozen models, and what they do together. Pictures: (B, 3, 64, 64) in [−1, 1]; embeddings: unit vectors (B, 64).

    ups: stages that enlarge the decoder's 16×16 pixels; without them pictures come out as 16×16. keep: of so many
    embeddings that the prior draws for a sentence, the one with the largest dot product with the sentence's own is
    kept (section 2.2: 2). prior_w: the prior's guidance. All w are 0 for none.
    """

    clip: CLIP
    decoder: Denoiser
    prior: Denoiser | None = None
    ups: Sequence[Enlarge] = ()
    keep: int = 2
    prior_w: float = 0.0
    steps: int = 25

    @torch.no_grad()
    def look(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, 64, 64) → their embeddings (B, 64)."""
        return self.clip.encode_image(pictures)

    @torch.no_grad()
    def hear(self, texts: Sequence[str]) -> Tensor:
        """Sentences → *their* embeddings (B, 64), which are no picture's."""
        return self.clip.encode_text(clip_sprites.tokens(texts))

    def imagine(self, texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """The prior: sentences → embeddings (B, 64) of pictures that they might be said of, the best of `keep`."""
        require(self.prior is not None, "prior", "None", "a prior: embeddings of sentences are drawn by it")
        assert self.prior is not None
        draw = generator(self.prior, imagen.read_clip, silent(), (DIM,), steps=self.steps)
        z = torch.stack([draw(texts, self.prior_w, own_seeds(seeds, 100 + k)) for k in range(self.keep)])
        return better(F.normalize(z, dim=-1), self.hear(texts))

    @torch.no_grad()
    def draw(self, z: Tensor, w: float, seeds: Sequence[int], noise: Tensor | None = None) -> Tensor:
        """The decoder: a picture of each embedding z (B, 64), in ancestral steps.

        noise (B, 3, 16, 16): begin with it and go on without any more (DDIM), so that it decides the rest.
        """
        require_floating("z", z)
        require_shape("z", z, (len(seeds), DIM))
        generators, denoise = seeded(seeds), self._denoise(z, w)
        schedule = self.decoder.schedule
        start = randn((len(z), 3, SIDE, SIDE), generators, device=z.device) if noise is None else noise
        step = ddpm(schedule) if noise is None else ddim(schedule)
        *_, x = sample(denoise, start, times.linear(self.steps), step, generators)
        return cascade.staged(x, self.ups, [""] * len(z), 0.0, seeds)[-1]

    def _denoise(self, z: Tensor, w: float) -> Denoise:
        cond = {"embedding": SCALE * z}
        return static(bind(self.decoder, **cond) if w == 0 else cfg(self.decoder, cond, NOTHING, w))

    def generate(self, texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        """`judges.scorecard.Generate`: a sentence, an embedding, a picture. w: the decoder's guidance."""
        return self.draw(self.imagine(texts, seeds), w, seeds)

    def variations(self, picture: Tensor, n: int, w: float = 0.0, seed: int = 0) -> Tensor:
        """n other pictures of the embedding of picture (3, 64, 64): what CLIP keeps stays, the rest is drawn anew."""
        return self.draw(self._look_at("picture", picture).expand(n, -1), w, range(seed, seed + n))

    def interpolate(self, a: Tensor, b: Tensor, fractions: Sequence[float], w: float = 0.0, seed: int = 0) -> Tensor:
        """Pictures on the way from a to b, each (3, 64, 64): at 0 a variation of a, at 1 one of b; all of one noise."""
        way = slerp(self._look_at("a", a), self._look_at("b", b), fractions)
        return self.draw(way, w, [seed] * len(way))

    def text_diff(
        self, picture: Tensor, from_text: str, to_text: str, fractions: Sequence[float], w: float = 0.0,
        seed: int | None = None,
    ) -> Tensor:  # fmt: skip
        """The picture (3, 64, 64), turned from one caption towards another by fractions of the angle (section 3.3):

        slerp(embedding of the picture, d, fraction) with d = (z_to − z_from)/‖z_to − z_from‖, the sentences' own
        embeddings. The paper goes up to 0.25 … 0.5. seed None: all begin with the noise that leads to the picture
        itself (`inverted`), so that what is not turned stays; else with the noise of this seed.
        """
        z_to, z_from = self.hear([to_text, from_text])
        require(bool((z_to != z_from).any()), "to_text", repr(to_text), "another caption than from_text")
        way = slerp(self._look_at("picture", picture), F.normalize(z_to - z_from, dim=0), fractions)
        if seed is not None:
            return self.draw(way, w, [seed] * len(way))
        noise = self.inverted(picture[None], w).expand(len(way), -1, -1, -1)
        return self.draw(way, w, [0] * len(way), noise)

    @torch.no_grad()
    def inverted(self, pictures: Tensor, w: float = 0.0) -> Tensor:
        """The noise (B, 3, 16, 16) from which DDIM leads to pictures (B, 3, 64, 64) (arXiv 2105.05233, appendix F).

        A step t → s is x_s = c·x_t + (α_s − c·α_t)·x̂0(x_t, t) with c = σ_s/σ_t. Solved for x_t, with x̂0(x_s, t) in
        place of what is not known yet. The last step, to σ = 0, forgets x_t: it is taken to be free of noise.
        """
        x0, denoise = lowered(pictures, 64 // SIDE), self._denoise(self.look(pictures), w)
        schedule, x = self.decoder.schedule, x0
        for s, t in pairwise(times.linear(self.steps).flip(0)):
            (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
            c = sigma_s / sigma_t
            x = alpha_t * x0 if c == 0 else (x - (alpha_s - c * alpha_t) * denoise(x, t)) / c
        return x.to(x0)

    def _look_at(self, name: str, picture: Tensor) -> Tensor:
        require_shape(name, picture, (3, 64, 64))
        return self.look(picture[None])[0]
