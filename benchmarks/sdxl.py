"""What each encoder of SDXL is worth: one of the two muted, in three short runs of one network on one seed.

    python -m benchmarks sdxl                    → benchmarks/results/sdxl.json

    both       as shipped: CLIP's words and those of the encoder of texts, and the latter's pooled vector
    clip       the encoder of texts says zeros, words and pooled vector
    texts      CLIP says zeros

Of each: the error of x̂0 at several times, in units of the latents' variance, of held-out pictures with their own
captions, with the next one's, and with two objects swapped in words ("a left of b" for "b left of a"); and shares of
pictures of held-out captions that are right. All runs are far from their end: these are differences at equal steps.

    python -m benchmarks.sdxl late               → the same file: base and refiner, as shipped, at times below SWITCH
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
from minidiff.data.photos import photographs
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.judges.scorecard import shares
from minidiff.randomness import initialised, randn, seeded
from minidiff.systems import latent, sdxl
from minidiff.training import fit

RESULTS = Path(__file__).parent / "results" / "sdxl.json"
STEPS, TIMES, LATE, PICTURES = 500, (0.5, 0.7, 0.8, 0.9, 0.95, 0.99), (0.05, 0.1, 0.2, 0.3), 128
RUNS = {"both": sdxl.ENCODERS, "clip": ("clip",), "texts": ("texts",)}
FAMILIES = ("one", "relation", "riding")


@torch.no_grad()
def x0_errors(model: Denoiser, z: Tensor, times: tuple[float, ...], **told: Tensor) -> list[float]:
    """Mean squared error of x̂0 of latents z (B, 4, 16, 16) at each of `times`."""
    found = []
    for t in times:
        x_t = model.schedule.add_noise(z, randn(z.shape, seeded(3)), torch.tensor(t))
        found.append(round(float((model(x_t, torch.tensor(t), **told) - z).square().mean()), 5))
    return found


def ablation(heard: tuple[str, ...], steps: int = STEPS, n: int = 50, pictures: int = PICTURES) -> dict:
    autoencoder = latent.AUTOENCODER.load()
    model = initialised(lambda: sdxl.build(heard), 0)
    began, options = time.process_time(), sdxl.OPTIONS | {"ema_decay": 0.99}
    *_, last = deque(fit(model, sdxl.draw(), steps, bar=False, **options), maxlen=1)
    seconds, average = round(time.process_time() - began), last.ema.eval()
    prompts = replace(sdxl.WORLD, families=("relation",)).prompts(pictures, 7, "test")
    with torch.no_grad():
        z = autoencoder.latents(render(place(prompts, 7), latent.SIDE))
    texts = captions(prompts)
    said = {"right": texts, "next": texts[1:] + texts[:1], "swapped": captions([p.swapped() for p in prompts])}
    told = {k: sdxl.conditions(average, v, torch.tensor(sdxl.FRAMED)) for k, v in said.items()}
    found: dict = {"cpu_s": seconds, "x0_error": {k: x0_errors(average, z, TIMES, **v) for k, v in told.items()}}
    generate = sdxl.pictures_of(average, autoencoder)
    for name, (right, other) in shares(generate, replace(sdxl.WORLD, families=FAMILIES), 1.0, n).items():
        found |= {f"{name}, w=1": right.share, f"{name}, w=1, another caption": other.share}
    return found


def experts() -> dict:
    """The shipped base and refiner at the last times, on held-out photographs."""
    prompts = sdxl.WORLD.prompts(PICTURES, 7, "test")
    shot = photographs(place(prompts, 7), seeded(7))
    with torch.no_grad():
        z = latent.AUTOENCODER.load().latents(shot["x0"])
    told = lambda model: sdxl.conditions(model, captions(prompts), shot["sizes"])
    models = {"base": sdxl.BASE.load(), "refiner": sdxl.REFINER.load()}
    return {"times": LATE} | {k: x0_errors(model, z, LATE, **told(model)) for k, model in models.items()}


def main(names: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    facts: dict = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"runs": {}}
    for name in names or list(RUNS):
        if name == "late":
            facts["late"] = experts()
        else:
            facts["runs"][name] = ablation(RUNS[name])
        facts |= {**machine(), "steps": STEPS, "times": TIMES}
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        print(text, flush=True)
        write_whole(RESULTS, lambda temporary, text=text: (temporary.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
