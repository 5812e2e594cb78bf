"""What changed from Stable Diffusion 1 to 2, each change alone, in three short runs of one U-Net on one seed.

    python -m benchmarks stable_diffusion        → benchmarks/results/stable_diffusion.json

    v, block before the last     as shipped (version 2)
    ε, block before the last     what is predicted, changed
    v, last block                what is read, changed

Of each: the error of x̂0 at several times, in units of the latents' variance (1: no better than their mean; more:
worse), with its own caption and with the next one's; and shares of pictures of held-out captions that are right, drawn
from START, where α is what it is at the end of Stable Diffusion's own schedule, as ε says nothing at α = 0.

All runs are far from their end: these are differences at equal steps, not what either is capable of.
"""

import json
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks._timing import machine
from minidiff.checkpoints import write_whole
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.denoiser import Denoiser
from minidiff.judges.scorecard import shares
from minidiff.predictions import EPS, V
from minidiff.randomness import initialised, randn, seeded
from minidiff.systems import latent, stable_diffusion
from minidiff.training import fit

RESULTS = Path(__file__).parent / "results" / "stable_diffusion.json"
STEPS, TIMES, PICTURES = 300, (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999), 256
RUNS = {"v, block before the last": (1, V), "ε, block before the last": (1, EPS), "v, last block": (0, V)}
FAMILIES = ("one", "snow")


def start() -> float:
    """The time whose σ/α on the linear path is that of Stable Diffusion's last step; unshifted, for `times.shifted`."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha = float(torch.cumprod(1 - betas, 0)[-1].sqrt())  # 0.068
    t = 1 / (1 + alpha / (1 - alpha**2) ** 0.5)
    return t / (latent.SHIFT - (latent.SHIFT - 1) * t)


@torch.no_grad()
def x0_errors(model: Denoiser, z: Tensor, tokens: Tensor) -> dict[str, list[float]]:
    """Mean squared error of x̂0 at each of TIMES, with the right captions and with the next one's."""
    found: dict[str, list[float]] = {"right caption": [], "another caption": []}
    for t in TIMES:
        x_t = model.schedule.add_noise(z, randn(z.shape, seeded(3)), torch.tensor(t))
        for name, told in (("right caption", tokens), ("another caption", tokens.roll(1, 0))):
            parts = zip(x_t.split(64), told.split(64))
            guess = torch.cat([model(x, torch.tensor(t), tokens=c) for x, c in parts])
            found[name].append(round(float((guess - z).square().mean()), 5))
    return found


def measure(skip: int, prediction, steps: int, z: Tensor, tokens: Tensor, n: int) -> dict:
    autoencoder = latent.AUTOENCODER.load()
    model = initialised(lambda: stable_diffusion.build(skip, prediction), 0)
    began, options = time.process_time(), stable_diffusion.MODEL.options | {"ema_decay": 0.99}
    *_, last = deque(fit(model, latent.draw(autoencoder), steps, bar=False, **options), maxlen=1)
    seconds, average = round(time.process_time() - began), last.ema.eval()
    generate = latent.pictures_of(average, autoencoder, steps=30, batch=50, start=start())
    world, found = replace(SpriteWorld(), families=FAMILIES), {"cpu_s": seconds}
    for name, (right, other) in shares(generate, world, 1.0, n).items():
        found |= {f"{name}, w=1": right.share, f"{name}, w=1, another caption": other.share}
    return found | {"x0_error": x0_errors(average, z, tokens)}


def main(names: list[str], n: int = 50) -> None:
    any_sign()
    torch.set_num_threads(1)
    prompts = latent.WORLD.prompts(PICTURES, 7, "test")
    with torch.no_grad():
        z = latent.AUTOENCODER.load().latents(render(place(prompts, 7), latent.SIDE))
    tokens = latent.tokenizer().encode(captions(prompts))
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if names and RESULTS.exists() else {}
    for name in names or list(RUNS):
        runs[name] = measure(*RUNS[name], STEPS, z, tokens, n)
        print(name, json.dumps(runs[name], indent=2, ensure_ascii=False), flush=True)
        facts = {**machine(), "steps": STEPS, "n": n, "times": TIMES, "start": round(start(), 4), "runs": runs}
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        write_whole(RESULTS, lambda temporary, text=text: (temporary.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
