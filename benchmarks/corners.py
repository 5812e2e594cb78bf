"""Corners of the design space, trained with equal work and asked the leaderboard's questions (chapter 15).

    python -m benchmarks corners                           all of CORNERS that are not there yet
    python -m benchmarks.corners "Stable Diffusion 1"      these real models' cells (`systems.atlas`)
    python -m benchmarks.corners cost                      steps of each, and its CPU seconds at the pace of a few steps

Equal work: each cell takes as many steps of 32 pictures as `--work` allows, counted by PyTorch over one training
step of the very network, gradients and the frozen reader included. Cells have equally many parameters, too
(`systems.design`), so one whose step is dear learns from fewer pictures. A run can be stopped with Ctrl-C; called again
it goes on (runs/corners/…). What is kept: the row of the leaderboard, with its steps; the networks stay in runs/.

All are small and stop early: these are differences at equal work, not what a design is capable of. One seed.

Results: a section of minidiff/assets/leaderboard.json.
"""

import argparse
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks._contestants import of_texts
from benchmarks.leaderboard import RESULTS, N, kept, parameters, shown, work
from minidiff.console import any_sign
from minidiff.optim import Muon
from minidiff.randomness import initialised
from minidiff.systems import atlas, clip_sprites, latent, llm, stable_diffusion
from minidiff.systems.design import WORLD, Design
from minidiff.systems.dit import gflops
from minidiff.training import fit, step_generator

WORK, BATCH = 36_000.0, 32
"""10⁹ operations of a training run: a quarter of an hour or so of one core."""
CORNERS = (
    "Imagen", "Stable Diffusion 1", "PixArt-α", "SANA", "Stable Diffusion 3", "Flux 2", "Transfusion",
    "HunyuanImage 3.0",
)  # fmt: skip
SECTION = "corners of the design space at equal work, sprites"
OPTIONS: dict[str, Any] = {"optimizer": Muon, "groups": stable_diffusion.groups, "ema_decay": 0.998}


def step_gflops(cell: Design) -> float:
    """10⁹ operations of one training step: loss, gradients, reader; not the pictures' own making."""
    model = initialised(cell.build, 0)
    batch = cell.draw(BATCH)(step_generator(0, 0))
    return gflops(lambda: model.loss(**batch).mean().backward())


def frozen_seconds(cell: Design) -> int:
    """CPU seconds of the shipped models that a cell stands on."""
    used = [latent.AUTOENCODER] if cell.space == "latents" else []
    if cell.conditioning != "one sequence":
        used += [clip_sprites.MODEL] if "CLIP" in cell.encoder else []
        used += [llm.MODEL] if "language model" in cell.encoder else []
    return sum(model.record()["seconds"] for model in used)


def trained(cell: Design, steps: int, folder: Path | None) -> tuple[torch.nn.Module, int]:
    """The averaged network, and the seconds that `fit` counted."""
    model = initialised(cell.build, 0)
    last = deque(fit(model, cell.draw(BATCH), steps, path=folder, **OPTIONS), maxlen=1)[0]
    return last.ema.eval().requires_grad_(False), round(last.seconds)


def measured(name: str, operations: float = WORK, n: int = N, folder: Path | None = None) -> dict[str, Any]:
    """Trained with so many 10⁹ operations, and asked n pictures of each family."""
    cell = atlas.model(name).design
    each = step_gflops(cell)
    steps = max(1, round(operations / each))
    model, seconds = trained(cell, steps, folder)
    draws = of_texts(cell.pictures_of(model, batch=100))  # type: ignore[arg-type]
    decoder = [latent.AUTOENCODER.load()] if cell.space == "latents" else []
    return {
        "section": SECTION, "chapter": "15", "w": 1.0, "n": n, "exact": False, "cell": str(cell), "steps": steps,
        "work": operations, "training gflops": round(steps * each), "parameters": parameters([model, *decoder]),
        "training seconds": seconds + frozen_seconds(cell), "weights": {}, "error": None,
        **work(draws, WORLD, 1.0), **shown(draws, WORLD, 1.0, n),
    }  # fmt: skip


def slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def pace(cell: Design, steps: int = 4) -> list[float]:
    """CPU seconds of single steps, the making of their pictures included as one share of a chunk's."""
    model, draw, found = initialised(cell.build, 0), cell.draw(BATCH), []
    groups = OPTIONS["groups"](model)
    optimizer = Muon(groups)
    began = time.process_time()
    draw(step_generator(0, 0))
    making = (time.process_time() - began) / 16
    for step in range(steps):
        began, batch = time.process_time(), draw(step_generator(0, step))
        model.loss(**batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(time.process_time() - began + making)
    return found[1:]


def cost(names: Sequence[str], operations: float) -> None:
    for name in names:
        cell = atlas.model(name).design
        each, seconds = step_gflops(cell), mean(pace(cell))
        steps = max(1, round(operations / each))
        minutes = steps * seconds / 60
        print(f"{name:20} {each:6.2f} Gflops a step, {steps:6d} steps, about {minutes:5.1f} CPU min", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    any_sign()
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corners")
    parser.add_argument("names", nargs="*", metavar="NAME", help="real models; after `cost`: what they would take")
    parser.add_argument("--work", type=float, default=WORK, help=f"10^9 operations of each training run ({WORK:g})")
    asked = parser.parse_args(arguments)
    if asked.names[:1] == ["cost"]:
        return cost(asked.names[1:] or CORNERS, asked.work)
    for name in asked.names or CORNERS:
        row = f"{name}'s cell"
        if RESULTS.read().get("systems", {}).get(row, {}).get("work") != asked.work:
            folder = Path("runs") / "corners" / f"{slug(name)}-{asked.work:g}"
            made = measured(name, asked.work, folder=folder)
            kept(row, made)
            print(f"{row}: {made['steps']} steps, {made['training seconds']} s", flush=True)
    return None


if __name__ == "__main__":
    main()
