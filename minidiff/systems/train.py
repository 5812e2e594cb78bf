"""How shipped weights are made: a recipe is data, `train` runs it, and its result is entered in the manifest."""

import platform
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from minidiff.training import Draw, fit, pick_device
from minidiff.weights import FOLDER, load_weights, save_curve, save_weights

M = TypeVar("M", bound=nn.Module)


def initialised(build: Callable[[], M], seed: int) -> M:
    """`build()` with its initial weights drawn from `seed`, leaving PyTorch's global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def loaded(model: M, name: str) -> M:
    """`model` with the shipped weights `name`, frozen and in evaluation mode."""
    model.load_state_dict(load_weights(name))
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Recipe:
    """How one file of weights is made.

    name: of the weights. build: () → module. draw: () → draw function (reads the data). scores: model → numbers.

    fit: keyword arguments of `training.fit` other than seed. seed: of the initial weights and of the run.
    """

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[[], Draw]
    steps: int
    scores: Callable[[nn.Module], dict[str, float]]
    fit: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def train(recipe: Recipe, run_folder: Path, weights_folder: Path = FOLDER, steps: int | None = None) -> dict[str, Any]:
    """Run (or go on with) a recipe; save the averaged weights and their manifest entry; return that entry's facts.

    run_folder holds the checkpoint and the log; interrupt with Ctrl-C and call again to go on.
    """
    model = initialised(recipe.build, recipe.seed).to(pick_device())
    steps = steps or recipe.steps
    *_, last = deque(fit(model, recipe.draw(), steps, seed=recipe.seed, path=run_folder, **recipe.fit), maxlen=1)
    average = last.ema.eval()
    facts = {
        "command": f"minidiff train {recipe.name}" + (f" --steps {steps}" if steps != recipe.steps else ""),
        "steps": last.step,
        "seconds": round(last.seconds),
        "hardware": f"{platform.machine()} {next(model.parameters()).device.type}, {torch.get_num_threads()} thread(s)",
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": recipe.seed,
        "trained": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "scores": recipe.scores(average),
    }
    save_weights(recipe.name, average, facts, weights_folder)
    save_curve(recipe.name, run_folder / "log.csv", weights_folder)
    return facts
