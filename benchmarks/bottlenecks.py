"""One encoder with three bottlenecks: what a picture of sprites costs in bits, and what is left of it.

    python -m benchmarks bottlenecks              → benchmarks/results/bottlenecks.json; ten minutes on one core
    python -m benchmarks.bottlenecks collapse     one part of it, the others kept

rates      a Gaussian with several KL weights, a codebook of several sizes, and no bottleneck at all but rounded latents
collapse   a codebook without restarts, then with them: how many codes are in use (three seeds)
channels   4 and 16 channels of latents: what a denoiser of each has learnt after as many steps
spectrum   with and without an adversary: power of reconstructions at fine scales against that of pictures

All codecs have the encoder and the decoder of the shipped one, `codecs.vae.Body`, and a twelfth of its training: their
differences count here, not what each can reach. What is rated is what a receiver who knows the model must be told:

KL        KL(q(z|x) ‖ a Gaussian per channel, fitted to the latents) in bits; pictures are decoded from samples
VQ        256 indices of log₂ K bits, and the entropy of single codes, which a coder can use
rounded   means rounded to a step of so many standard deviations; entropy of single numbers, by channel
"""

import json
import math
import sys
import time
from collections import deque
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._timing import machine
from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.checkpoints import write_whole
from minidiff.codecs.adversarial import Adversarial
from minidiff.codecs.losses import PatchGAN, perceptual, psnr
from minidiff.codecs.vae import VAE, Posterior
from minidiff.codecs.vqvae import VQVAE
from minidiff.conditioning import Conditioned, Words
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.denoiser import Denoiser
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import shares
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised, randn_like, seeded
from minidiff.schedules import Linear
from minidiff.systems import latent, sprite_features
from minidiff.systems.generator import generator
from minidiff.training import alternate, diffuse, draw_rows, fit

RESULTS = Path(__file__).parent / "results" / "bottlenecks.json"
STEPS, BATCH, TRAIN, TEST = 200, 16, 2048, 200
KL_WEIGHTS, CODES = (1e-6, 1e-3, 1e-2, 1e-1), (16, 128, 1024)
ROUNDED = (0.1, 0.25, 0.5, 1.0, 2.0)


@lru_cache
def pictures(split: str, n: int) -> Tensor:
    return render(place(latent.WORLD.prompts(n, 11, split), 11), latent.SIDE)


def trained(build, steps: int = STEPS, seed: int = 0) -> tuple[nn.Module, float]:
    """The average of a short run, and its CPU seconds."""
    began, model = time.process_time(), initialised(build, seed)
    draw = draw_rows({"x0": pictures("train", TRAIN)}, BATCH)
    *_, last = deque(fit(model, draw, steps, lr=3e-3, ema_decay=0.98, seed=seed, bar=False), maxlen=1)
    return last.ema.eval(), time.process_time() - began


def quality(y: Tensor, x: Tensor) -> dict[str, float]:
    read = parse(y.clamp(-1, 1))
    right = same(parse(x).scenes, read.scenes) & read.readable
    return {"psnr": round(float(psnr(y, x).mean()), 2), "read as drawn": round(float(right.float().mean()), 4)}


# ---------------------------------------------------------------- rates


@torch.no_grad()
def rated_kl(model: VAE, x: Tensor) -> dict[str, float]:
    model.standardise(pictures("train", TRAIN).split(256))
    raw = model.encode(x)
    q = Posterior((raw.mean - model.shift) / model.scale, raw.log_variance - 2 * model.scale.log())
    z = q.sample(seeded(0))
    found = {"bits": round(float(q.kl().mean()) / math.log(2), 1), "bits in fp16": 16 * raw.mean[0].numel()}
    return found | quality(model.decode(z), x)


@torch.no_grad()
def rated_vq(model: VQVAE, x: Tensor) -> dict[str, float]:
    codes = model.encode(x)
    perplexity = float(model.quantizer.perplexity(codes))
    found = {"bits": round(codes[0].numel() * math.log2(perplexity), 1)}
    found |= {"bits of the indices": codes[0].numel() * math.log2(model.quantizer.size)}
    return found | {"perplexity": round(perplexity, 1)} | quality(model.decode(codes), x)


@torch.no_grad()
def rounded(model: VAE, x: Tensor, step: float) -> dict[str, float]:
    model.standardise(pictures("train", TRAIN).split(256))
    whole = (model.latents(x) / step).round()
    bits = 0.0
    for channel in whole.transpose(0, 1).flatten(1):
        _, counts = channel.unique(return_counts=True)
        share = counts / counts.sum()
        bits += float(torch.special.entr(share).sum()) / math.log(2) * whole[0, 0].numel()
    return {"bits": round(bits, 1)} | quality(model.decode(whole * step), x)


def rates() -> dict:
    x, found = pictures("test", TEST), {}
    plain, seconds = trained(lambda: VAE(4, kl_weight=0.0))
    for step in ROUNDED:
        found[f"no bottleneck, rounded to {step:g}"] = rounded(plain, x, step) | {"cpu_s": round(seconds)}
    for weight in KL_WEIGHTS:
        model, seconds = trained(lambda weight=weight: VAE(4, kl_weight=weight))
        found[f"KL {weight:g}"] = rated_kl(model, x) | {"cpu_s": round(seconds)}
    for size in CODES:
        model, seconds = trained(lambda size=size: VQVAE(size))
        found[f"VQ {size}"] = rated_vq(model, x) | {"cpu_s": round(seconds)}
    return found


# ---------------------------------------------------------------- collapse


def further(model: VQVAE, restart: float, steps: int, seed: int) -> VQVAE:
    """A copy that is trained on, with or without restarts."""
    copy = VQVAE(model.quantizer.size, restart=restart)
    copy.load_state_dict(model.state_dict())
    draw = draw_rows({"x0": pictures("train", TRAIN)}, BATCH)
    *_, last = deque(fit(copy, draw, steps, lr=1e-3, ema_decay=0.9, seed=seed, bar=False), maxlen=1)
    return last.ema.eval()


def collapse(size: int = 512, steps: int = 100, more: int = 50) -> dict:
    found = {"size": size, "steps": steps, "more": more, "seeds": []}
    for seed in range(3):
        start, _ = trained(lambda: VQVAE(size, restart=0.0), steps, seed)
        models = {"without restarts": start}
        models |= {name: further(start, r, more, seed + 10) for name, r in (("further without", 0.0), ("with", 0.03))}
        models["with from the start"], _ = trained(lambda: VQVAE(size), steps, seed)
        found["seeds"].append({name: rated_vq(model, pictures("test", TEST)) for name, model in models.items()})
    return found


# ---------------------------------------------------------------- channels


def prior(codec: VAE, channels: int, steps: int) -> dict[str, float]:
    """A small denoiser of the latents of lone sprites, as many steps whatever the channels.

    Asked for captions that it was trained on: here it counts how far it has come, not whether it composes.
    """
    world = SpriteWorld(families=("one", "sizes", "snow"))
    prompts = world.prompts(TRAIN, 5, "train")
    with torch.no_grad():
        z = codec.latents(render(place(prompts, 5), latent.SIDE))
    tokens = latent.tokenizer()

    def build() -> Denoiser:
        words = Words(len(tokens), latent.LENGTH, 64)
        net = DiT(
            channels, (16, 16), 2, 64, 4, context_dim=64, reads="merged", shared=True, place_std=0.3, activation=F.silu
        )
        return Denoiser(Conditioned(words, net), Linear(), X0, lambda s, t: velocity_weight(s, t, floor=latent.FLOOR))

    rows = draw_rows({"x0": z, "tokens": tokens.encode(captions(prompts))}, 32)
    draw = diffuse(rows, times.logit_normal(*latent.CLOCK, stratified=True), drop=0.1, null=latent.null())
    model, options = initialised(build, 0), latent.LATENT.options | {"ema_decay": 0.98}
    began = time.process_time()
    *_, last = deque(fit(model, draw, steps, bar=False, **options), maxlen=1)
    generate = generator(
        last.ema.eval(), lambda texts: {"tokens": tokens.encode(texts)}, latent.null(), (channels, 16, 16), steps=30,
        grid=lambda steps: times.shifted(steps, latent.SHIFT), decode=lambda z: codec.decode(z, clamp=True), batch=25,
    )  # fmt: skip
    found = {"cpu_s": round(time.process_time() - began)}
    for family, (right, other) in shares(generate, world, 0.0, 50, "train").items():
        found |= {f"{family}, right": right.share, f"{family}, another caption": other.share}
    return found


def channels(steps: int = 500) -> dict:
    found: dict = {"steps of the prior": steps}
    for n in (4, 16):
        codec, _ = trained(lambda n=n: VAE(n))
        found[str(n)] = {"codec": rated_kl(codec, pictures("test", TEST)), "prior": prior(codec, n, steps)}
    return found


# ---------------------------------------------------------------- spectrum


def power(x: Tensor) -> Tensor:
    """Mean power of grey pictures by whole cycles per side, 0 … side/2: (side/2 + 1,)."""
    side, grey = x.shape[-1], x.mean(1)
    spectrum = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square().mean(0)
    cycles = torch.fft.fftfreq(side, 1 / side)
    radius = torch.hypot(cycles[:, None], cycles[None]).round().long().clamp(max=side // 2)
    sums = torch.zeros(side // 2 + 1).index_add_(0, radius.flatten(), spectrum.flatten())
    return sums / torch.bincount(radius.flatten())


@torch.no_grad()
def seen(codec: VAE, x: Tensor, distance) -> dict:
    y = codec.decode(codec.latents(x))
    found: dict = quality(y, x) | {"perceptual distance": round(float(distance(y, x).mean()), 4)}
    ratio = power(y) / power(x).clamp(min=1e-9)
    bands = {"1–4": (1, 5), "5–8": (5, 9), "9–16": (9, 17), "17–31": (17, 32)}
    found["power against pictures, by cycles per side"] = {
        name: round(float(ratio[low:high].mean()), 4) for name, (low, high) in bands.items()
    }
    return found | {"ratio": [round(float(r), 4) for r in ratio[1:]]}


def spectrum(steps: int = 300, start: int = 120) -> dict:
    """Factor 8: 256 numbers a picture, a 48th; what is fine is no longer told and has to be made up."""
    features = sprite_features.MODEL.load()
    distance, x, found = perceptual(features.features), pictures("test", TEST), {"steps": steps, "start": start}
    draw = draw_rows({"x0": pictures("train", TRAIN)}, BATCH)
    options = {"lr": 3e-3, "ema_decay": 0.98, "bar": False}
    for name, weight, adversary in (
        ("pixels", 0.0, False), ("pixels, features", 1.0, False), ("pixels, features, adversary", 1.0, True),
    ):  # fmt: skip
        began = time.process_time()
        model = initialised(lambda weight=weight: Adversarial(VAE(4, 8), distance, weight, 0.5), 0)
        if adversary:
            against = initialised(lambda: PatchGAN(width=24), 1)
            run = alternate(model, against, draw, steps, start=start, adversary_lr=1e-3, **options)
        else:
            run = fit(model, draw, steps, **options)
        *_, last = deque(run, maxlen=1)
        found[name] = seen(last.ema.eval().codec, x, distance) | {"cpu_s": round(time.process_time() - began)}
    noisy = x + 0.05 * randn_like(x, seeded(0))
    control = (power(noisy) / power(x))[17:32].mean()
    return found | {"pictures with noise of 0.05, 17–31 cycles": round(float(control), 4)}


PARTS = {"rates": rates, "collapse": collapse, "channels": channels, "spectrum": spectrum}


def main(names: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if names and RESULTS.exists() else {}
    for name in names or list(PARTS):
        found |= machine() | {"codec steps": STEPS, name: PARTS[name]()}
        print(name, json.dumps(found[name], indent=2, ensure_ascii=False), flush=True)
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        write_whole(RESULTS, lambda temporary, text=text: (temporary.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
