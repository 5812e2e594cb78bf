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
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a dict of JSON facts to one safetensors file, whole or not at all."""
    # safetensors refuses tensors that share memory (tied weights): each gets its own copy.
    flat = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    write_whole(path, lambda temporary: save_file(flat, temporary, metadata={"facts": json.dumps(facts)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a file written by `save_tensors`. `ValueError` if it is missing, cut off or not ours."""
    with _opened(path) as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads((file.metadata() or {}).get("facts", "{}"))


def load_facts(path: Path) -> dict[str, Any]:
    """The facts alone, without reading the tensors. `ValueError` as for `load_tensors`."""
    with _opened(path) as file:
        return json.loads((file.metadata() or {}).get("facts", "{}"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    require(path.is_file(), "path", str(path), "an existing .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: got {path}, which is cut off or not safetensors ({error})") from error


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
    if pending:
        signal.raise_signal(signal.SIGINT)


def _write_rows(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


class Run:
    """The folder of one training run: `checkpoint.safetensors` and `log.csv`. As a context manager it saves on leaving.

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
        self.rows: list[list[Any]] = []  # the whole log: it is rewritten with every checkpoint, so that both agree

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        return tensors

    def resume(self) -> tuple[int, float]:
        """Load the checkpoint, if any; returns (steps done, seconds spent). `ValueError` if it is another run's."""
        if self.folder is None:
            return 0, 0.0
        if self.writes:
            for leftover in self.folder.glob(".*.tmp"):  # of a process killed while it wrote
                leftover.unlink()
        if not self._checkpoint.exists():
            return 0, 0.0
        tensors, facts = load_tensors(self._checkpoint)
        require(
            facts.get("recipe") == self.recipe,
            "path",
            f"a run with {facts.get('recipe')}",
            f"one with {self.recipe}",
        )
        try:
            self._restore(tensors)
            self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path: got {self._checkpoint}, which does not fit this model ({error})") from error
        self.saved, self.rows = self.step, self._logged()
        return self.step, self.seconds

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        self.model.load_state_dict(part("model."))
        self.average.load_state_dict(part("ema."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    @property
    def _checkpoint(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoint.safetensors"

    @property
    def _log(self) -> Path:
        return self._checkpoint.with_name("log.csv")

    def _logged(self) -> list[list[Any]]:
        """The log's rows up to the checkpoint: later steps will be taken again."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [row for row in csv.reader(lines) if row and row[0].isdigit() and int(row[0]) <= self.step]

    def record(self, step: int, loss: float, lr: float, seconds: float) -> None:
        self.step, self.seconds = step, seconds
        self.rows.append([step, loss, lr, round(seconds, 3)])

    def save(self) -> None:
        """Write the log, then the checkpoint."""
        if self.folder is None or not self.writes or self.saved == self.step or self._overtaken():
            return
        rows = [["step", "loss", "lr", "seconds"], *self.rows]
        write_whole(self._log, lambda temporary: _write_rows(temporary, rows))
        facts = {"step": self.step, "seconds": self.seconds, "recipe": self.recipe}
        save_tensors(self._checkpoint, self._tensors(), facts)
        self.saved = self.step

    def _overtaken(self) -> bool:
        """Whether the folder now holds another run, or more of this one.

        After Ctrl-C a notebook keeps the old generator alive for a while; run again, the cell goes on from the last
        checkpoint, and when the old generator is closed at last it must not put its older state over the newer one.
        """
        if not self._checkpoint.exists():
            return False
        facts = load_facts(self._checkpoint)
        return facts.get("recipe") != self.recipe or facts.get("step", 0) > self.step

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # Also on Ctrl-C and on a closed generator: the state here is that of a whole step. But a step that failed
        # half-way (an exception inside it) may have moved the weights: then the last checkpoint on disk stands.
        if kind is None or kind in (KeyboardInterrupt, GeneratorExit):
            self.save()
