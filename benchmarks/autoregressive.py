"""One code after another against all latents at once: DALL-E 1's transformer and latent diffusion's at equal CPU time.

    python -m benchmarks autoregressive           → benchmarks/results/autoregressive.json; half an hour on one thread

Both have width 96 and 6 blocks, learn from the same pictures of the same five families for the same CPU seconds, and
draw pictures of the same held-out captions at w = 0. One sees 64 codes of the frozen `dalle1-dvae`, the other 64 tokens
of the latents of the frozen `sprites-autoencoder`. Drawing and encoding the pictures is not counted, for neither. Their
learning rates fall to zero within their time: the number of steps is what a few timed steps promise.

Neither is at its end after so short a time: the numbers say which of the two learns faster here, with these codecs.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks._timing import alternate, machine
from minidiff import times
from minidiff.checkpoints import write_whole
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import trimmed
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import Generate, shares
from minidiff.randomness import initialised
from minidiff.systems import dalle1, latent
from minidiff.training import Draw, diffuse, draw_rows, drop_condition, fit

RESULTS = Path(__file__).parent / "results" / "autoregressive.json"
SECONDS, PICTURES, BATCH, N = 240, 20_480, 32, 40


@torch.no_grad()
def data(n: int) -> dict[str, Tensor]:
    """Captions of n training pictures, their codes and their latents."""
    prompts = dalle1.WORLD.prompts(n, 3, "train")
    dvae, autoencoder = dalle1.DVAE.load(), latent.AUTOENCODER.load()
    codes, latents = [], []
    for start in range(0, n, 512):
        x = render(place(prompts[start : start + 512], start), dalle1.SIDE)
        codes.append(dvae.encode(x))
        latents.append(autoencoder.latents(x))
    tokens = dalle1.tokenizer().encode(captions(prompts))
    return {"tokens": tokens, "codes": torch.cat(codes), "x0": torch.cat(latents)}


def draws(rows: dict[str, Tensor]) -> dict[str, Draw]:
    """Batches for each of the two, a tenth of the captions dropped."""
    short = trimmed(rows["tokens"])
    coded = draw_rows({"tokens": short, "codes": rows["codes"]}, BATCH)
    null = {"tokens": dalle1.tokenizer().encode([""])[0, : short.shape[1]]}

    def autoregressive(generator):
        batch = coded(generator)
        return batch | drop_condition({"tokens": batch["tokens"]}, null, dalle1.DROP, generator)

    clock = times.logit_normal(*latent.CLOCK, stratified=True)
    latents = draw_rows({"x0": rows["x0"], "tokens": rows["tokens"]}, BATCH)
    return {
        "autoregressive": autoregressive,
        "diffusion": diffuse(latents, clock, drop=dalle1.DROP, null=latent.null()),
    }


def trained(build: Callable[[], nn.Module], draw: Draw, seconds: float, options: dict) -> tuple[nn.Module, dict]:
    """The average of a run of about that many CPU seconds, and what it took."""
    run = lambda steps: deque(fit(initialised(build, 0), draw, steps, bar=False, **options), maxlen=1)[-1]
    run(2)
    began = time.process_time()
    run(10)
    steps = max(20, round(10 * seconds / (time.process_time() - began)))
    began = time.process_time()
    last = run(steps)
    spent = round(time.process_time() - began)
    parameters = sum(p.numel() for p in last.model.parameters())
    return last.ema.eval(), {"steps": steps, "cpu_s": spent, "parameters": parameters}


def judged(generate: Generate, n: int) -> dict[str, dict]:
    """By family: held-out captions that are shown, their 95 % interval, and the next caption as a control."""
    found = {}
    for family, (right, other) in shares(generate, dalle1.WORLD, 0.0, n).items():
        found[family] = asdict(right) | {"share": round(right.share, 4), "another caption": round(other.share, 4)}
        found[family]["interval"] = [round(end, 4) for end in right.interval]
    asked = sum(entry["asked"] for entry in found.values())
    return found | {"all": {"share": round(sum(entry["right"] for entry in found.values()) / asked, 4), "asked": asked}}


@torch.no_grad()
def codecs(n: int = 500) -> dict[str, float]:
    """Held-out pictures that each codec alone gives back readably: no generator can do better."""
    x = render(place(dalle1.WORLD.prompts(n, 1, "test"), 1), dalle1.SIDE)
    truth, found = parse(x).scenes, {}
    for name, codec in (("autoregressive", dalle1.DVAE.load()), ("diffusion", latent.AUTOENCODER.load())):
        read = parse(torch.cat([codec.reconstruct(part).clamp(-1, 1) for part in x.split(100)]))
        found[name] = round(float((same(truth, read.scenes) & read.readable).float().mean()), 4)
    return found


def main(seconds: float = SECONDS, pictures: int = PICTURES, n: int = N) -> dict:
    rows = draws(data(pictures))
    options = {"autoregressive": dalle1.PRIOR.options, "diffusion": latent.LATENT.options | {"ema_decay": 0.998}}
    builds = {"autoregressive": dalle1.build, "diffusion": latent.build}
    drawers = {
        "autoregressive": lambda model: dalle1.pictures_of(model, dalle1.DVAE.load()),
        "diffusion": lambda model: latent.pictures_of(model, latent.AUTOENCODER.load(), batch=20),
    }
    made, found = {}, {**machine(), "cpu_seconds": seconds, "pictures": pictures, "readable after the codec": codecs()}
    for name in builds:
        model, facts = trained(builds[name], rows[name], seconds, dict(options[name]))
        made[name] = drawers[name](model)
        found[name] = facts | {"shares": judged(made[name], n)}
        print(name, found[name], flush=True)
    texts = captions(dalle1.WORLD.prompts(20, 8, "test"))
    runs = {name: partial(generate, texts, 0.0, range(20)) for name, generate in made.items()}
    for name, timing in alternate(runs, "autoregressive", rounds=5).items():
        found[name]["cpu_ms_per_picture"] = round(1000 * timing["cpu_s"] / len(texts), 1)
        found[name]["cpu_ratio"] = timing["cpu_ratio"]
    return found


if __name__ == "__main__":
    any_sign()
    torch.set_num_threads(1)
    given = [float(value) for value in sys.argv[1:]]
    results = main(*(given[:1] or [SECONDS]))
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    RESULTS.parent.mkdir(exist_ok=True)
    write_whole(RESULTS, lambda temporary: (temporary.write_text(text, encoding="utf-8"), None)[1])
    print(text)
