"""What users of Stable Diffusion know as img2img and inpainting, on the latents of `latent`.

Both take a picture that is there. `image_to_image` noises its latents up to t0 and walks back with another sentence
(`editing.sdedit`): the layout stays, as far as t0 lets it. `inpainted` draws anew where a mask says so and keeps the
latents of the rest; at the end the kept pixels themselves are put back, as a decoder is never exact.

"a snowman left of a dog" with the sentence "a snowman left of a tree": at t0 = 0.2 nine of ten still show the dog; at
0.7 and 0.8 nine and ten show the tree, with the snowman where it stood; at 0.97 three still have it there. Below
t0 = 0.1 the shipped model, which hardly learned such times, spoils the dog.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import times
from minidiff.codecs.vae import VAE
from minidiff.denoiser import Denoiser
from minidiff.editing import sdedit
from minidiff.guidance import Denoise, bind, cfg, inpaint
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.systems import latent
from minidiff.validate import describe, require, require_floating


def _denoise(model: Denoiser, texts: Sequence[str], w: float) -> Denoise:
    device = next(model.parameters()).device
    cond = {"tokens": latent.tokenizer().encode(texts).to(device)}
    return bind(model, **cond) if w == 0 else cfg(model, cond, latent.null(), w)


def _require_pictures(pictures: Tensor, texts: Sequence[str], seeds: Sequence[int]) -> None:
    require_floating("pictures", pictures)
    shape = (len(texts), 3, latent.SIDE, latent.SIDE)
    require(tuple(pictures.shape) == shape, "pictures", describe(pictures), f"{shape}, one per text")
    require(len(seeds) == len(texts), "seeds", f"{len(seeds)} seeds", f"one per text ({len(texts)})")


@torch.no_grad()
def image_to_image(
    model: Denoiser, autoencoder: VAE, pictures: Tensor, texts: Sequence[str], w: float, t0: float,
    seeds: Sequence[int], steps: int = 50,
) -> Tensor:  # fmt: skip
    """Pictures (B, 3, 64, 64) in [−1, 1] → as many: as `texts` say, and the more like them the smaller t0 in (0, 1].

    `ValueError` names the argument that does not fit.
    """
    _require_pictures(pictures, texts, seeds)
    guide, generators = autoencoder.latents(pictures), seeded(seeds)
    denoise, schedule = _denoise(model, texts, w), model.schedule
    z = sdedit(denoise, guide, t0, ddpm(schedule), schedule, steps, generators)
    return autoencoder.decode(z, clamp=True)


@torch.no_grad()
def inpainted(
    model: Denoiser, autoencoder: VAE, pictures: Tensor, keep: Tensor, texts: Sequence[str], w: float,
    seeds: Sequence[int], steps: int = 50,
) -> Tensor:  # fmt: skip
    """Pictures (B, 3, 64, 64) with what is not kept drawn anew. keep: (64, 64) or (B, 1, 64, 64) bool, True stays.

    A latent is kept where all of its 4×4 pixels are. `ValueError` names the argument that does not fit.
    """
    _require_pictures(pictures, texts, seeds)
    fits = isinstance(keep, Tensor) and keep.dtype == torch.bool
    fits = fits and tuple(keep.shape) in ((latent.SIDE, latent.SIDE), (len(texts), 1, latent.SIDE, latent.SIDE))
    require(fits, "keep", describe(keep), f"bool, shape (64, 64) or ({len(texts)}, 1, 64, 64)")
    keep = keep.to(pictures.device).expand(len(texts), 1, -1, -1)
    factor = latent.SIDE // latent.LATENT_SHAPE[1]
    whole = -F.max_pool2d(-keep.float(), factor) == 1  # (B, 1, 16, 16)
    denoise = inpaint(_denoise(model, texts, w), autoencoder.latents(pictures), whole)
    generators = seeded(seeds)
    noise = randn((len(texts), *latent.LATENT_SHAPE), generators, device=pictures.device)
    *_, z = sample(denoise, noise, times.shifted(steps, latent.SHIFT), ddpm(model.schedule), generators)
    return torch.where(keep, pictures, autoencoder.decode(z, clamp=True))
