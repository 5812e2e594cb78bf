"""A shipped model: how it is built, what it learns from, how long, and what it scores, in one typed record."""

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from minidiff.randomness import initialised
from minidiff.training import Draw, fit, pick_device
from minidiff.weights import FOLDER, load_into, record, restored, save_curve, save_weights, stored

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Shipped(Generic[M]):
    """One model of a system's page.

    name      of its files in assets/weights, and for `minidiff train`
    purpose   one line: what it is for
    build     () → the module, untrained
    draw      () → the draw function of `training.fit` (reads the data)
    finish    the trained module → None: sets what is measured rather than learned, such as an autoencoder's scale
    scores    the trained module → numbers, measured after training and kept in the record
    options   of `training.fit`, other than seed;  seed: of the initial weights and of the run
    bits      16 or 8, of matrices on disk (`weights.quantised`); what is scored is what was stored
    apart     what stands in the names of weights that `build` loads from another shipped file: left out of this one
    """

    name: str
    purpose: str
    build: Callable[[], M]
    draw: Callable[[], Draw]
    steps: int
    scores: Callable[[M], dict[str, float]]
    finish: Callable[[M], None] = lambda trained: None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    bits: int = 16
    apart: str = ""

    def load(self) -> M:
        """The shipped model, frozen and in evaluation mode. `ValueError` if its file is missing or changed."""
        return load_into(self.build(), self.name).eval().requires_grad_(False)  # type: ignore[return-value]

    def untrained(self, seed: int | None = None) -> M:
        """The model with its initial weights: of the shipped run, or of another seed."""
        return initialised(self.build, self.seed if seed is None else seed)

    def record(self) -> dict[str, Any]:
        """Command, steps, seconds, hardware, seed and scores of the shipped run."""
        return record(self.name)

    def train(
        self, run_folder: str | Path, weights_folder: str | Path = FOLDER, steps: int | None = None
    ) -> dict[str, Any]:
        """Train from the start, or go on; save the averaged weights, their curve and record; return the record's facts.

        run_folder holds the checkpoint and the log; interrupt with Ctrl-C and call again to go on. Under `torchrun` the
        first process alone measures and saves; the others return {}.
        """
        model = self.untrained().to(pick_device())
        steps = self.steps if steps is None else steps
        *_, last = deque(fit(model, self.draw(), steps, seed=self.seed, path=run_folder, **self.options), maxlen=1)
        if int(os.environ.get("RANK", "0")) > 0:
            return {}
        average = last.ema.eval()
        self.finish(average)
        if self.bits == 8:
            kept = restored(stored(average.state_dict(), self.bits, self.apart))
            average.load_state_dict(average.state_dict() | kept)
        device, threads = next(model.parameters()).device.type, torch.get_num_threads()
        facts = {
            "command": f"minidiff train {self.name}" + (f" --steps {steps}" if steps != self.steps else ""),
            "steps": last.step,
            "seconds": round(last.seconds),
            "hardware": f"{platform.machine()} {device}, {threads} thread(s)",
            "parameters": sum(p.numel() for p in model.parameters()),
            "seed": self.seed,
            "trained": time.strftime("%Y-%m-%d"),
            "torch": torch.__version__,
            "scores": self.scores(average),
        }
        save_weights(self.name, average, facts, weights_folder, self.bits, self.apart)
        save_curve(self.name, Path(run_folder) / "log.csv", weights_folder)
        return facts
