"""DiT's conditionings, sizes and steps, each measured where the best denoiser is known (chapter 11).

    python -m benchmarks.dit                        all four parts → benchmarks/results/dit.json
    python -m benchmarks.dit conditionings          one or some of them; what is there already is not measured again
    python -m benchmarks.dit conditionings adaLN 2  one run of that part: the conditioning and the seed

conditionings  the paper's four (arXiv 2212.09748, section 3.2), three seeds each, at equal parameters and steps and on
               the same batches: one object by its label, of 30 = 5 kinds × 6 colours
scaling        the nine shipped models of `systems.dit`: error against work (Spearman's rank correlation), as recorded
sampling       quality against the work of *sampling*: S, M, L at patch 4 in 5 to 250 steps
unet           a U-Net of as much work a call as L/4, trained on the same batches by the same recipe

Work is counted by PyTorch's own counter: multiplications and additions both, training as three times a forward pass.
A network's error is `systems.dit.errors_of`: the loss, the least possible, and what lies between, at six times.
"""

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Generator

from benchmarks._results import Results, told
from minidiff import times
from minidiff.backbones.dit import CONDITIONINGS, DiT, equal_hidden
from minidiff.backbones.unet import UNet
from minidiff.conditioning import Conditioned, Labels, Words
from minidiff.console import any_sign
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.optim import muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised
from minidiff.schedules import Linear
from minidiff.systems import dit, scenes_text
from minidiff.systems.generator import generator
from minidiff.training import Batch, Draw, chunked, diffuse, fit

RESULTS = Results("dit")
BATCH, RATE = 32, 20e9
"""RATE: operations a second that estimates of CPU time are made with."""
TOLD: dict[str, Any] = {"dim": 48, "depth": 4, "patch": 4}
TOLD_STEPS, SEEDS = 1500, 3
SAMPLING_STEPS, STRENGTH = (5, 10, 25, 50, 100, 250), 1.0
WIDTHS = (24, 40)
"""Of the U-Net."""


def rounded(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    return [{name: round(value, 6) for name, value in row.items()} for row in rows]


def average(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """Of "loss", "floor" or "excess" over the times."""
    return mean(row[name] for row in rows)


def trained(model: Denoiser, draw: Draw, steps: int, seed: int, work: float, **options: Any) -> tuple[Denoiser, float]:
    """The averaged weights, and the CPU seconds spent. work: Gflops of a forward pass of one picture."""
    print(f"about {3 * work * 1e9 * BATCH * steps / RATE:.0f} s of CPU time", end=" ", flush=True)
    began, options = time.process_time(), dit.OPTIONS | options
    *_, last = deque(fit(model, draw, steps, seed=seed, bar=False, **options), maxlen=1)
    spent = time.process_time() - began
    print(f"({spent:.0f} s)", flush=True)
    return last.ema.eval(), round(spent, 1)


# ---------------------------------------------------------------- conditionings

ONE = World(families=("one",))
LABELS: list[tuple[str, str | None]] = [(kind, colour) for kind in SHAPES for colour in COLOURS]
NOTHING = {"y": torch.tensor(len(LABELS))}


def label(prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    return {"y": torch.tensor([LABELS.index(prompt.groups[0].look) for prompt in prompts])}


def draw_labelled(batch: int) -> Draw:
    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = ONE.prompts(n, generator)
            return {"x0": render(place(prompts, generator)), **label(prompts)}

        return draw

    return diffuse(chunked(rows, batch), times.logit_normal(0.3, 1.0, stratified=True), drop=0.1, null=NOTHING)


def build_told(how: str) -> Denoiser:
    """All four have the parameters of adaLN-Zero with an MLP of 4·dim: the MLPs of the others are wider."""
    net = DiT(**TOLD, place_std=0.3, activation=F.silu, conditioning=how, hidden=equal_hidden(how, **TOLD))
    return Denoiser(Conditioned(Labels(len(LABELS), TOLD["dim"]), net), Linear(), X0, velocity_weight)


def conditioning(how: str, seed: int, steps: int = TOLD_STEPS, n: int = 512, shown: int = 300) -> dict[str, Any]:
    """One run, and what it came to: errors on n scenes, and of `shown` pictures those that show their label."""
    model, asked = initialised(lambda: build_told(how), seed), dit.exam(n, ONE, None)
    work = dit.gflops(lambda: model(asked.x0[:1], torch.tensor(0.5), y=NOTHING["y"]))
    print(f"{how}, seed {seed}:", end=" ")
    model, spent = trained(model, draw_labelled(BATCH), steps, seed, work)
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "hidden": equal_hidden(how, **TOLD),
        "forward Gflops": round(work, 6),
        "steps": steps,
        "cpu_s": spent,
        "errors": rounded(dit.errors_of(bind(model, **label(asked.prompts)), asked)),
    }
    prompts = ONE.prompts(shown, 1)
    names = [f"{p.groups[0].kind} {p.groups[0].colour}" for p in prompts]
    index = {f"{kind} {colour}": i for i, (kind, colour) in enumerate(LABELS)}
    read = lambda texts: {"y": torch.tensor([index[text] for text in texts])}
    seen = parse(generator(model, read, NOTHING, (3, 16, 16), steps=25)(names, 0.0, range(shown)))
    for name, wanted in (("right", prompts), ("another label", prompts[1:] + prompts[:1])):
        found[name] = round(float(matches(wanted, seen).float().mean()), 4)
    return found


def conditionings(chosen: Sequence[str]) -> None:
    """Every run is kept as soon as it ends, under "how, seed s"; a run that is there is not made again."""
    names = chosen[:1] or CONDITIONINGS
    seeds = [int(seed) for seed in chosen[1:2]] or range(SEEDS)
    for seed in seeds:
        for how in names:
            runs = RESULTS.read().get("conditionings", {}).get("runs", {})
            if f"{how}, seed {seed}" not in runs:
                run = conditioning(how, seed)
                runs = RESULTS.read().get("conditionings", {}).get("runs", {})  # others may have ended meanwhile
                RESULTS.keep("conditionings", compared(runs | {f"{how}, seed {seed}": run}))


def compared(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The runs, and of each conditioning the mean over its seeds and the standard deviation."""
    table = {}
    for how in CONDITIONINGS:
        own = [run for name, run in runs.items() if name.rsplit(", seed ", 1)[0] == how]
        if own:
            row = {name: own[0][name] for name in ("parameters", "hidden", "forward Gflops")} | {"seeds": len(own)}
            row |= {name: told([average(run["errors"], name) for run in own]) for name in ("loss", "excess")}
            row |= {name: told([run[name] for run in own]) for name in ("right", "another label")}
            each = zip(*(run["errors"] for run in own))
            row["excess by time"] = {f"{at[0]['t']:g}": told([e["excess"] for e in at]) for at in each}
            table[how] = row
    return {"data": "16-px scenes of one object, 30 labels", **TOLD, "table": table, "runs": dict(sorted(runs.items()))}


# ---------------------------------------------------------------- scaling


def scaled(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of {name: record} of shipped models, cheapest first, and rank correlations with the work of a call."""
    rows = []
    for name, record in records.items():
        scores = record["scores"]
        row = {"model": name, "parameters": record["parameters"], "tokens": scores["tokens"]}
        row["forward Gflops"] = scores["forward Gflops"]
        row["training Gflops"] = round(3 * BATCH * record["steps"] * scores["forward Gflops"])
        for kind in ("loss", "excess"):
            row[kind] = round(mean(scores[f"{kind}, t={t:g}"] for t in dit.TIMES), 6)
        rows.append(row | {k: v for k, v in scores.items() if ", w=" in k})
    rows.sort(key=lambda row: row["forward Gflops"])
    columns = ["loss", "excess"] + [k for k in rows[0] if ", w=" in k and "another" not in k]
    rank = lambda a, b: round(float(spearmanr([row[a] for row in rows], [row[b] for row in rows]).statistic), 4)  # type: ignore[attr-defined]
    return {
        "rows": rows,
        "floor": round(mean(record["scores"][f"floor, t={t:g}"] for t in dit.TIMES), 6),
        "spearman with forward Gflops": {name: rank("forward Gflops", name) for name in columns},
        "spearman with parameters": {name: rank("parameters", name) for name in columns},
    }


def scaling(chosen: Sequence[str]) -> None:
    RESULTS.keep("scaling", scaled({name: model.record() for name, model in dit.FAMILY.items()}))


# ---------------------------------------------------------------- sampling


def sampled(model: Denoiser, steps: int, n: int) -> dict[str, Any]:
    """n pictures of each family of captions at STRENGTH."""
    began, evaluations = time.process_time(), steps * (1 if STRENGTH == 0 else 2)
    found: dict[str, Any] = {"steps": steps, "Gflops": round(evaluations * dit.forward_gflops(model), 6)}
    found |= dit.shown(dit.pictures_of(model, steps), STRENGTH, n)
    return found | {"cpu_s": round(time.process_time() - began, 1)}


def sampling(chosen: Sequence[str], n: int = 100) -> None:
    """Gflops of a picture: those of all its calls, two a step with guidance."""
    rows: list[dict[str, Any]] = []
    for shipped in (dit.S4, dit.M4, dit.L4):
        model = shipped.load()
        cost = 2 * n * 2e9 * sum(SAMPLING_STEPS) * dit.forward_gflops(model)
        print(f"{shipped.name}: about {cost / RATE:.0f} s of CPU time", flush=True)
        rows += [{"model": shipped.name, **sampled(model, steps, n)} for steps in SAMPLING_STEPS]
        print(f"({sum(row['cpu_s'] for row in rows if row['model'] == shipped.name):.0f} s)", flush=True)
    RESULTS.keep("sampling", {"w": STRENGTH, "n": n, "rows": rows})


# ---------------------------------------------------------------- unet


def build_unet(widths: tuple[int, int] = WIDTHS, words: int = 96) -> Denoiser:
    """16×16 pixels folded 2×2, on 8×8 and 4×4 places that look at the caption; it is read as by L/4, in width 96."""
    net = UNet(3, widths, depth=1, patch=2, attention=False, embedding=96, context_dim=words, attention_levels=(0, 1))
    reader = Words(len(scenes_text.tokenizer(dit.LENGTH)), dit.LENGTH, words)
    return Denoiser(Conditioned(reader, net), Linear(), X0, velocity_weight)


def unet_groups(model: torch.nn.Module) -> list[dict]:
    """Muon for the matrices of transformers, as in DiT; AdamW for the rest, the convolutions among them."""
    return muon_groups(model, adam_lr=2e-3)


def against_unet(steps: int, n: int = 512, shown: int = 150) -> dict[str, Any]:
    model = initialised(build_unet, dit.L4.seed)
    work = dit.forward_gflops(model)
    print("U-Net:", end=" ")
    model, spent = trained(model, dit.L4.draw(), steps, dit.L4.seed, work, groups=unet_groups)
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "forward Gflops": round(work, 6),
        "forward Gflops of L/4": round(dit.forward_gflops(dit.L4.untrained()), 6),
        "steps": steps,
        "cpu_s": spent,
        "errors": rounded(dit.errors(model, n)),
    }
    for w in (0.0, 1.0):
        found |= {f"{k}, w={w:g}": share for k, share in dit.shown(dit.pictures_of(model, 25), w, shown).items()}
    return found


def unet(chosen: Sequence[str]) -> None:
    """Beside what the record of L/4 says, which is of the same steps."""
    scores = dit.L4.record()["scores"]
    own = [{"t": t, **{kind: scores[f"{kind}, t={t:g}"] for kind in ("loss", "floor", "excess")}} for t in dit.TIMES]
    rest = {k: v for k, v in scores.items() if ", w=" in k}
    RESULTS.keep("unet", {"U-Net": against_unet(dit.L4.steps), "dit-l-4": {"errors": own, **rest}})


PARTS = {"conditionings": conditionings, "scaling": scaling, "sampling": sampling, "unet": unet}


def main(arguments: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    if arguments[:1] == ["conditionings"]:
        return conditionings(arguments[1:])
    if unknown := [name for name in arguments if name not in PARTS]:
        sys.exit(f"dit: got {unknown}, expected some of {list(PARTS)}")
    for name in arguments or PARTS:
        PARTS[name](())


if __name__ == "__main__":
    main(sys.argv[1:])
