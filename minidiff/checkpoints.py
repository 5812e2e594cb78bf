"""Files that are either whole or not there, and runs that go on where they stopped.

Everything is safetensors (never pickle), written to a temporary file, flushed to disk, then renamed: a process killed
in the middle of writing leaves the old file untouched.
"""

import contextlib
import csv
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minidiff.validate import require


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)`, then rename the temporary file to `path`; on any failure `path` is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a dict of JSON facts to one safetensors file, whole or not at all."""
    flat = {k: v.detach().to("cpu").contiguous() for k, v in tensors.items()}
    write_whole(path, lambda temporary: save_file(flat, temporary, metadata={"facts": json.dumps(facts)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a file written by `save_tensors`. `ValueError` if it is missing, cut off or not ours."""
    require(path.is_file(), "path", str(path), "an existing .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: got {path}, which is cut off or not safetensors ({error})") from error
    return tensors, facts


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done, so that a training step is taken whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *received: pending.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending and callable(before):
        before(*pending[0])


class Run:
    """The folder of one training run: `checkpoint.safetensors` and `log.csv`. A context manager that saves on the way out.

    A path of None keeps nothing. `writes` is False on all but one process of a distributed run: they only read.
    """

    def __init__(
        self,
        path,
        model: nn.Module,
        average: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: dict,
        writes: bool,
    ):
        self.folder = None if path is None else Path(path)
        self.model, self.average, self.optimizer, self.recipe, self.writes = (
            model,
            average,
            optimizer,
            recipe,
            writes,
        )
        self.step, self.seconds, self.saved = 0, 0.0, -1
        self.rows: list[list[float]] = []

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        # safetensors refuses tensors that share memory (tied weights): each gets its own copy.
        return {k: v.detach().cpu().clone() for k, v in tensors.items()}

    def resume(self) -> tuple[int, float]:
        """Load the checkpoint if there is one; returns (steps done, seconds spent). `ValueError` if it is another run's."""
        if self.folder is None or not (self.folder / "checkpoint.safetensors").exists():
            return 0, 0.0
        tensors, facts = load_tensors(self.folder / "checkpoint.safetensors")
        require(
            facts.get("recipe") == self.recipe,
            "path",
            f"a run with {facts.get('recipe')}",
            f"one with {self.recipe}",
        )
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        self.model.load_state_dict(part("model."))
        self.average.load_state_dict(part("ema."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step = self.saved = facts["step"]
        self.seconds = facts["seconds"]
        if self.writes:
            self._cut_log()
        return self.step, self.seconds

    @property
    def _log(self) -> Path:
        assert self.folder is not None
        return self.folder / "log.csv"

    def _cut_log(self) -> None:
        """Drop log rows of steps after the checkpoint: they will be taken again."""
        if self._log.exists():
            kept = self._log.read_text().splitlines()[: 1 + self.step]  # a header, then one row per step
            write_whole(self._log, lambda temporary: (temporary.write_text("\n".join(kept) + "\n"), None)[1])

    def record(self, step: int, loss: float, lr: float, seconds: float) -> None:
        self.step, self.seconds = step, seconds
        self.rows.append([step, loss, lr, round(seconds, 3)])

    def save(self) -> None:
        """Write the log rows, then the checkpoint."""
        if self.folder is None or not self.writes or self.saved == self.step:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        new = not self._log.exists()
        with self._log.open("a", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["step", "loss", "lr", "seconds"]] * new + self.rows)
        self.rows.clear()
        facts = {"step": self.step, "seconds": self.seconds, "recipe": self.recipe}
        save_tensors(self.folder / "checkpoint.safetensors", self._tensors(), facts)
        self.saved = self.step

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # Also on Ctrl-C and on a closed generator: the state here is that of a whole step. But a step that failed half-way
        # (an exception inside it) may have moved the weights: then the last checkpoint on disk stands.
        if kind is None or kind in (KeyboardInterrupt, GeneratorExit):
            self.save()
