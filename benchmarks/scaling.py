"""What should grow: the encoder of the sentence, or the network that draws? 27 small runs (chapter 07).

    OMP_NUM_THREADS=1 python -m benchmarks.scaling [STEPS [SEEDS]]         # 600 steps, 3 seeds

Imagen (arXiv 2205.11487, figure 4) found that a larger frozen text encoder does more for a picture than a larger U-Net.
Here three encoders of texts, three networks and three seeds, all combinations, on captioned 16-px scenes at equal
steps: 3 × 3 × 3 runs. Each encoder is trained once, on texts alone, then frozen. Every run leaves the loss on held-out
scenes along its way, FLOPs (counted by PyTorch's own counter, forward and backward, of the network and its encoder),
and at its end the share of pictures that show their caption and that can be read at all.

Results: results/scaling.csv, one row per 100 steps of each run; results/scaling.json, its end. `frontier` reads off
which runs no cheaper run beats.
"""

import csv
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._timing import machine
from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.checkpoints import write_whole
from minidiff.conditioning import Conditioned, Frozen
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import World, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.denoiser import Denoiser
from minidiff.encoders.text_lm import TextLM
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches, objects_there
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised, randn_like
from minidiff.schedules import Linear
from minidiff.systems import text_lm
from minidiff.systems.generator import generator
from minidiff.training import Batch, Draw, chunked, diffuse, fit, step_generator

FOLDER = Path(__file__).parent / "results"
ENCODERS = {"small": (8, 1), "medium": (24, 1), "large": (64, 2)}
"""Width and blocks of the encoder of texts; "large" is the shipped text-lm."""
NETWORKS = {"small": (32, 2), "medium": (48, 3), "large": (72, 4)}
"""Width and blocks of the transformer that draws."""
WORLD, LENGTH = World(SHAPES[:3], COLOURS[:4], families=("one", "relation")), 12
TIMES = (0.5, 0.65, 0.8)
EVERY = 100


def encoder(size: str) -> TextLM:
    """Trained on texts alone, as the shipped one is, which is the large one."""
    if size == "large":
        return text_lm.MODEL.load()
    dim, depth = ENCODERS[size]
    model = initialised(lambda: text_lm.build(dim, depth), 0)
    *_, last = fit(model, text_lm.draw_texts(32), text_lm.MODEL.steps, bar=False, **text_lm.MODEL.options)
    return last.ema.eval()


def build(encoder: TextLM, network: str) -> Denoiser:
    dim, depth = NETWORKS[network]
    words = Frozen(encoder, text_lm.LENGTH, context_dim=dim)
    net = DiT(dim=dim, depth=depth, context_dim=dim, reads="merged", shared=True, place_std=0.3, activation=F.silu)
    return Denoiser(Conditioned(words, net), Linear(), X0, velocity_weight)


def read(texts: Sequence[str]) -> dict[str, Tensor]:
    return {"tokens": text_lm.tokenizer().encode(texts)[:, :LENGTH]}


def null() -> dict[str, Tensor]:
    return {"tokens": read([""])["tokens"][0]}


def rows(n: int, split: str = "train") -> Draw:
    def draw(generator: Generator) -> Batch:
        prompts = WORLD.prompts(n, generator, split)
        return {"x0": render(place(prompts, generator)), **read(captions(prompts))}

    return draw


def draw() -> Draw:
    return diffuse(chunked(rows, 32), times.logit_normal(0.3, 1.0, stratified=True), drop=0.1, null=null())


def flops_of_a_step(model: Denoiser) -> int:
    """Of one batch, forward and backward."""
    batch = draw()(step_generator(0, 0))
    with FlopCounterMode(display=False) as counter:
        model.loss(**batch).mean().backward()
    model.zero_grad()
    return counter.get_total_flops()


@torch.no_grad()
def errors(model: Denoiser, n: int = 512) -> list[float]:
    """Mean squared error of x̂0 on n held-out captioned scenes, at each of TIMES."""
    g = Generator().manual_seed(0)
    batch, found = rows(n, "test")(g), []
    for t in torch.tensor(TIMES):
        x_t = model.schedule.add_noise(batch["x0"], randn_like(batch["x0"], g), t)
        found.append(round(float((model(x_t, t, tokens=batch["tokens"]) - batch["x0"]).square().mean()), 6))
    return found


def shown(model: Denoiser, n: int = 200) -> dict[str, float]:
    """Of n pictures of held-out captions: objects that are there, of their caption and of the next one's; and so on."""
    generate = generator(model, read, null(), (3, 16, 16), steps=25)
    prompts = WORLD.prompts(n, 0, "test")
    seen = parse(generate(captions(prompts), 0.0, range(n)))
    return {
        "alignment": round(objects_there(prompts, seen), 4),
        "another caption": round(objects_there(prompts[1:] + prompts[:1], seen), 4),
        "all of it": round(float(matches(prompts, seen).float().mean()), 4),
        "readable": round(float(seen.readable.float().mean()), 4),
    }


def run(encoder: TextLM, sizes: tuple[str, str], seed: int, steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run's end, and a row for each EVERY steps."""
    model = initialised(lambda: build(encoder, sizes[1]), seed)
    who = {"encoder": sizes[0], "network": sizes[1], "seed": seed}
    cost, log, began = flops_of_a_step(model), [], time.process_time()
    for now in fit(model, draw(), steps, seed=seed, bar=False, optimizer=Muon, groups=muon_groups, ema_decay=0.99):
        if now.step % EVERY == 0:
            error = dict(zip((f"x0_mse_{t:g}" for t in TIMES), errors(now.ema.eval())))
            log.append(who | {"step": now.step, "flops": now.step * cost, "loss": round(now.loss, 5)} | error)
    seconds = round(time.process_time() - began, 1)
    count = lambda module: sum(p.numel() for p in module.parameters())
    facts = {"steps": steps, "cpu_seconds": seconds, "flops": steps * cost, "encoder_parameters": count(encoder)}
    facts["network_parameters"] = count(model) - count(encoder)
    return who | facts | log[-1] | shown(now.ema.eval()), log


def frontier(runs: Sequence[dict[str, Any]], cost: str = "flops", gain: str = "alignment") -> list[dict[str, Any]]:
    """The runs that no other beats at the same cost or less, cheapest first; of equal ones the first."""
    best: list[dict[str, Any]] = []
    for each in sorted(runs, key=lambda r: (r[cost], -r[gain])):
        if not best or each[gain] > best[-1][gain]:
            best.append(each)
    return best


def slope(runs: Sequence[dict[str, Any]], cost: str, gain: str = "alignment") -> float:
    """Gain for ten times the parameters: least squares of `gain` on log10 of both sizes, the coefficient of `cost`."""
    sizes = ["encoder_parameters", "network_parameters"]
    design = torch.tensor([[1.0, *(float(r[s]) for s in sizes)] for r in runs], dtype=torch.float64)
    design[:, 1:] = design[:, 1:].log10()
    y = torch.tensor([[r[gain]] for r in runs], dtype=torch.float64)
    return float(torch.linalg.lstsq(design, y).solution[1 + sizes.index(cost)])


def runs(steps: int, seeds: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    encoders = {size: encoder(size) for size in ENCODERS}
    for seed, *sizes in product(range(seeds), ENCODERS, NETWORKS):
        yield run(encoders[sizes[0]], (sizes[0], sizes[1]), seed, steps)


def save(name: str, text: str) -> None:
    write_whole(FOLDER / name, lambda path: (path.write_text(text, encoding="utf-8"), None)[1])


def table(log: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(log[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(log)
    return out.getvalue()


def main() -> None:
    steps, seeds = (int(sys.argv[1]) if sys.argv[1:] else 600), int(sys.argv[2]) if sys.argv[2:] else 3
    torch.set_num_threads(1)
    facts: dict[str, Any] = {"command": f"python -m benchmarks.scaling {steps} {seeds}", "times": TIMES, **machine()}
    facts["runs"], log = [], []
    for end, rows in runs(steps, seeds):
        print(end, flush=True)
        facts["runs"].append(end)
        log.extend(rows)
        facts["frontier"] = [[r["encoder"], r["network"], r["seed"]] for r in frontier(facts["runs"])]
        save("scaling.json", json.dumps(facts, indent=1) + "\n")
        save("scaling.csv", table(log))


if __name__ == "__main__":
    any_sign()
    main()
