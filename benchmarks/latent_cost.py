"""What latents save: one step of sampling among latents against one among pixels, at 64 px, by networks of one design.

    python -m benchmarks latent_cost              → benchmarks/results/latent_cost.json
    python -m benchmarks.latent_cost train 400    both trained for so many steps, which takes ten minutes

transformer   as shipped: 64 tokens of 2×2 latents; of pixels 256 tokens of 4×4, or 1024 of 2×2. Width, depth, heads
              are the same
U-Net         Stable Diffusion's here: 16×16×4 latents, folded 2×2 at first; pixels folded 4×4. Widths and blocks are
              the same

FLOPs are those of one call for one picture (multiplications and additions each count). Seconds are of the same calls
in batches, in turns. The decoder is needed once a picture, not once a step: it is listed beside them.

What "the same quality" costs cannot be read off one call: with `train`, both transformers learn the same captions for
the same number of steps, and as many pictures of each are judged.
"""

import json
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._timing import alternate, machine
from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.backbones.unet import UNet
from minidiff.checkpoints import write_whole
from minidiff.conditioning import Conditioned, Words
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.denoiser import Denoiser
from minidiff.judges.scorecard import shares
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised
from minidiff.schedules import Linear
from minidiff.systems import latent, stable_diffusion
from minidiff.systems.generator import generator
from minidiff.training import diffuse, draw_rows, fit

RESULTS = Path(__file__).parent / "results" / "latent_cost.json"
BATCH, WIDTH, ROUNDS = 10, 96, 5
PIXELS, LATENTS = (3, 64, 64), latent.LATENT_SHAPE


def transformer(shape: tuple[int, ...], patch: int) -> Denoiser:
    """`latent.build`'s design for pictures of any shape."""
    words = Words(len(latent.tokenizer()), latent.LENGTH, WIDTH)
    net = DiT(
        shape[0], shape[1:], patch, WIDTH, 6, context_dim=WIDTH, reads="merged", shared=True, place_std=0.3,
        activation=F.silu,
    )  # fmt: skip
    return Denoiser(Conditioned(words, net), Linear(), X0, partial(velocity_weight, floor=latent.FLOOR))


def unet(shape: tuple[int, ...], patch: int) -> nn.Module:
    """The U-Net of `stable_diffusion.build`, for pictures of any number of channels and any patch."""
    options = {"depth": 1, "attention": False, "embedding": 96, "context_dim": stable_diffusion.CONTEXT}
    return UNet(shape[0], (48, 64), patch=patch, attention_levels=(0, 1), **options)


def calls() -> dict[str, tuple[nn.Module, Tensor, dict[str, Tensor]]]:
    """{name: (network, its input, its conditions)}."""
    tokens = {"tokens": latent.tokenizer().encode(["an astronaut riding a horse"] * BATCH)}
    context = {"context": torch.randn(BATCH, latent.LENGTH, stable_diffusion.CONTEXT)}
    noise = {shape: torch.randn(BATCH, *shape) for shape in (PIXELS, LATENTS)}
    return {
        "transformer, latents": (transformer(LATENTS, 2).net, noise[LATENTS], tokens),
        "transformer, pixels": (transformer(PIXELS, 4).net, noise[PIXELS], tokens),
        "transformer, pixels in 2×2": (transformer(PIXELS, 2).net, noise[PIXELS], tokens),
        "U-Net, latents": (unet(LATENTS, 2), noise[LATENTS], context),
        "U-Net, pixels": (unet(PIXELS, 4), noise[PIXELS], context),
    }


@torch.no_grad()
def flops(run) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention is not counted
        run()
    return counter.get_total_flops() // BATCH


def step_costs() -> dict:
    contestants, parameters = {}, {}
    for name, (net, x, cond) in calls().items():
        net.eval().requires_grad_(False)
        contestants[name] = lambda net=net, x=x, cond=cond: net(x, torch.full((BATCH,), 0.5), **cond)
        parameters[name] = sum(p.numel() for p in net.parameters())
    codec = latent.AUTOENCODER.load()
    contestants["decoder"] = lambda: codec.decode(torch.zeros(BATCH, *LATENTS))
    parameters["decoder"] = sum(p.numel() for p in codec.body.decoder.parameters())
    count = {name: flops(run) for name, run in contestants.items()}
    spent = alternate(contestants, "transformer, latents", ROUNDS)
    row = lambda name: {"parameters": parameters[name], "MFLOP": round(count[name] / 1e6, 1)} | spent[name]
    found: dict = {"batch": BATCH, "calls": {name: row(name) for name in contestants}}
    for dear in ("transformer, pixels", "transformer, pixels in 2×2", "U-Net, pixels"):
        cheap = dear.split(",")[0] + ", latents"
        found[f"{dear}, to latents"] = {
            "FLOP": round(count[dear] / count[cheap], 2),
            "CPU seconds": round(spent[dear]["cpu_s"] / spent[cheap]["cpu_s"], 2),
        }
    return found


def learnt(space: str, steps: int, n: int = 50) -> dict:
    """Lone sprites of the training split by a transformer of latents or pixels, after `steps`."""
    world, codec = SpriteWorld(families=("one", "sizes", "snow")), latent.AUTOENCODER.load()
    prompts = world.prompts(1024, 5, "train")
    x0, tokens = render(place(prompts, 5), latent.SIDE), latent.tokenizer()
    shape, patch = (LATENTS, 2) if space == "latents" else (PIXELS, 4)
    with torch.no_grad():
        x0 = codec.latents(x0) if space == "latents" else x0 / x0.std()
    model = initialised(lambda: transformer(shape, patch), 0)
    rows = draw_rows({"x0": x0, "tokens": tokens.encode(captions(prompts))}, 32)
    draw = diffuse(rows, times.logit_normal(*latent.CLOCK, stratified=True), drop=0.1, null=latent.null())
    began, options = time.process_time(), latent.LATENT.options | {"ema_decay": 0.98}
    *_, last = deque(fit(model, draw, steps, bar=False, **options), maxlen=1)
    found = {"steps": steps, "cpu_s": round(time.process_time() - began)}
    scale = render(place(prompts, 5), latent.SIDE).std()
    decode = partial(codec.decode, clamp=True) if space == "latents" else lambda x: (x * scale).clamp(-1, 1)
    generate = generator(
        last.ema.eval(), lambda texts: {"tokens": tokens.encode(texts)}, latent.null(), shape, steps=30, batch=10,
        grid=lambda steps: times.shifted(steps, latent.SHIFT), decode=decode,
    )  # fmt: skip
    for family, (right, other) in shares(generate, world, 0.0, n, "train").items():
        found |= {f"{family}, right": right.share, f"{family}, another caption": other.share}
    return found


def main(arguments: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if arguments[:1] == ["train"]:
        found["training"] = {space: learnt(space, int(arguments[1])) for space in ("latents", "pixels")}
    else:
        found |= machine() | step_costs()
    print(json.dumps(found, indent=2, ensure_ascii=False))
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_whole(RESULTS, lambda temporary: (temporary.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
