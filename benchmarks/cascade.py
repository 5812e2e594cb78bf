"""A cascade against one stage: 64-px pictures of sentences after as many operations of training (chapter 07).

    OMP_NUM_THREADS=1 python -m benchmarks.cascade [RUN-FOLDER]      → results/cascade.json; 20 minutes on a quiet core

cascade     as shipped: imagen-base, imagen-32, imagen-64
one stage   the same U-Net as imagen-64's, with the sentence and without a small picture; as many steps as the cascade's
            operations pay for, as many steps of sampling

Operations are PyTorch's count of one call for one picture, forward; times three for training, times pictures, times
steps. Both are asked for the same held-out sentences, with the same seeds, at w = 0 and 1.
"""

import json
import sys
from collections import deque
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._timing import machine
from minidiff import thresholding, times
from minidiff.backbones.unet import UNet
from minidiff.checkpoints import write_whole
from minidiff.conditioning import Conditioned, Together
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.judges.scorecard import Generate, shares
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised, orders
from minidiff.schedules import Linear
from minidiff.systems import imagen
from minidiff.systems.generator import generator
from minidiff.training import Batch, Draw, chunked, diffuse, fit

RESULTS = Path(__file__).parent / "results" / "cascade.json"
NULL = {name: value[0] for name, value in imagen.read([""]).items()}
CASCADE = {16: (imagen.BASE, 50), 32: (imagen.UP_32, 20), 64: (imagen.UP_64, 20)}
"""Each stage, and its steps of sampling."""
CLOCK = (1.1, 1.0)
"""Mean and standard deviation of the log-odds of the one stage's times: noisier, as 64 px ask for (lecture 07)."""


def one_stage() -> Denoiser:
    """imagen-64 without the small picture."""
    net = UNet(
        3, (32, 64), depth=1, patch=4, attention=False, embedding=96, context_dim=imagen.WIDTH, attention_levels=(1,)
    )
    return Denoiser(Conditioned(imagen.frozen_text(), net), Linear(), X0, velocity_weight)


def rows(n: int) -> Draw:
    def draw(generator: Generator) -> Batch:
        prompts = imagen.WORLD.prompts(-(-n // imagen.REUSE), generator, "train")
        order = orders(len(prompts), imagen.REUSE, generator)[:n]
        x0 = render(place(prompts, generator), 64)
        return {"x0": x0[order], "tokens": imagen.read(captions(prompts))["tokens"][order]}

    return draw


def operations(model: Denoiser, side: int) -> int:
    """Of one call for one picture."""
    given: dict[str, Tensor] = imagen.read(["an astronaut riding a horse"])
    if isinstance(model.net.conditioning, Together):  # it enlarges a picture
        given |= {"low": torch.zeros(1, 3, side // 2, side // 2), "level": torch.zeros(1)}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side), torch.tensor(0.5), **given)
    return counter.get_total_flops()


def found(generate: Generate, n: int) -> dict[str, float]:
    answers = {}
    for w in (0.0, 1.0):
        for family, (right, other) in shares(generate, imagen.WORLD, w, n).items():
            answers |= {f"{family}, w={w:g}": right.share, f"{family}, w={w:g}, another caption": other.share}
    return answers


def main(folder: Path | None, n: int = 30) -> None:
    torch.set_num_threads(1)
    calls = {side: operations(model.load(), side) for side, (model, _) in CASCADE.items()}
    spent = sum(calls[side] * model.record()["steps"] for side, (model, _) in CASCADE.items())
    model = initialised(one_stage, 0)
    call = operations(model, 64)
    steps, drawn = round(spent / call), sum(calls[side] * s for side, (_, s) in CASCADE.items())
    facts = {"n": n, "operations of a call": {str(side): c for side, c in calls.items()} | {"one stage": call}}
    facts |= {"steps of the one stage": steps, "its steps of sampling": round(drawn / call), **machine()}
    print(facts, flush=True)
    clock = times.logit_normal(*CLOCK, stratified=True)
    draw = diffuse(chunked(rows, 32, chunk=16), clock, drop=0.1, null=NULL)
    *_, last = deque(fit(model, draw, steps, path=folder, **imagen.OPTIONS), maxlen=1)
    alone = generator(
        last.ema.eval(), imagen.read, NULL, (3, 64, 64), steps=facts["its steps of sampling"], batch=30,
        grid=partial(times.shifted, shift=3.0), wrap=thresholding.static,
    )  # fmt: skip
    facts |= {"one stage": found(alone, n), "cascade": found(imagen.pictures_of(imagen.shipped()), n)}
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_whole(RESULTS, lambda path: (path.write_text(text, encoding="utf-8"), None)[1])
    print(text)


if __name__ == "__main__":
    any_sign()
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
