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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from minidiff.validate import describe, require


def write_whole(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)`, then rename the temporary file to `path`; on any failure `path` is as it was."""
    path = Path(path)
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


def save_tensors(path: str | Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a dict of JSON facts to one safetensors file, whole or not at all."""
    # safetensors refuses tensors that share memory (tied weights): each gets its own copy.
    flat = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    write_whole(path, lambda temporary: save_file(flat, temporary, metadata={"facts": json.dumps(facts)}))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a file written by `save_tensors`. `ValueError` if it is missing, cut off or not ours."""
    with _opened(path) as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads((file.metadata() or {}).get("facts", "{}"))


def load_facts(path: str | Path) -> dict[str, Any]:
    """The facts alone, without reading the tensors. `ValueError` as for `load_tensors`."""
    with _opened(path) as file:
        return json.loads((file.metadata() or {}).get("facts", "{}"))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    require(Path(path).is_file(), "path", str(path), "an existing .safetensors file")
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
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON that `unpacked` turns back exactly; its tensors are put aside in `tensors`, named `name`…

    Takes tensors, None, booleans, numbers (also NumPy's), strings, and tuples, lists and dicts of these; else a
    `ValueError`.
    """
    if isinstance(value, Tensor):
        require(name not in tensors, "optimizer", f"two tensors with the name {name}", "different names")
        tensors[name] = value
        return {"tensor": name}
    if type(value) in (tuple, list):
        return {type(value).__name__: [packed(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"numpy": [value.dtype.name, value.item()]}  # not as Python's: float32 computes in float32
    if isinstance(value, dict) and all(isinstance(k, (int, str)) for k in value):
        return {"dict": [[k, packed(v, f"{name}.{k}", tensors)] for k, v in value.items()]}
    fits = value is None or isinstance(value, (bool, int, float, str))
    require(fits, "optimizer", f"{name} = {describe(value)}", "state of tensors, numbers, strings and None")
    return value


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `packed` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {k: unpacked(v, tensors) for k, v in inner}
    if kind == "numpy":
        return np.dtype(inner[0]).type(inner[1])
    return {"tuple": tuple, "list": list}[kind](unpacked(v, tensors) for v in inner)


def _placed(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _placed(v, device) for k, v in value.items()}
    return type(value)(_placed(v, device) for v in value) if isinstance(value, (tuple, list)) else value


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """`optimizer.load_state_dict(saved)`, exactly: PyTorch casts state to its parameter's dtype and spoils strings."""
    optimizer.load_state_dict(saved)
    for index, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for k, v in saved["state"].get(index, {}).items():
            there = optimizer.state[p][k]
            optimizer.state[p][k] = _placed(v, there.device if isinstance(there, Tensor) else p.device)


def _settings(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The groups of a fresh optimizer as JSON, for a checkpoint to agree on."""
    groups = optimizer.state_dict()["param_groups"]
    plain = json.loads(json.dumps(groups, default=lambda value: value.tolist()))  # tensors and NumPy's numbers
    named = [(f"{name}.{i}.{k}", v) for i, group in enumerate(plain) for k, v in group.items()]
    return {k: len(v) if k.endswith(".params") else v for k, v in named}


def _require_storable(tensors: Mapping[str, Tensor]) -> None:
    """`ValueError` that names a tensor of a kind that safetensors does not know, such as complex128 or a sparse one."""
    for (dtype, layout), name in {(v.dtype, v.layout): name for name, v in tensors.items()}.items():
        try:
            save({"x": torch.empty(0, dtype=dtype)})
            known = layout is torch.strided
        except (KeyError, ValueError, SafetensorError):
            known = False
        require(known, "path", f"{name}, a {layout} tensor of {dtype}", "tensors that safetensors can keep")


class Run:
    """The folder of one training run: `checkpoint.safetensors` and `log.csv`. As a context manager it saves on leaving.

    parts: what has a state_dict of tensors (the model, its average, …), by name. optimizers: by name; their whole
    state_dict is kept. recipe: facts in JSON's types that a checkpoint must agree on, to which the optimizers' groups
    are added. A path of None keeps nothing. `writes` is False on all but one process of a distributed run: they only
    read. Raises `ValueError` for what cannot be kept: at once, or at the first `record`, after the first step, if it is
    in state that an optimizer makes only then.
    """

    def __init__(
        self,
        path: str | Path | None,
        parts: Mapping[str, Any],
        optimizers: Mapping[str, torch.optim.Optimizer],
        recipe: dict[str, Any],
        writes: bool,
    ):
        self.folder = None if path is None else Path(path)
        self.parts, self.optimizers, self.writes = parts, optimizers, writes
        self.recipe = dict(recipe)
        self.step, self.seconds, self.saved, self.examined = 0, 0.0, -1, self.folder is None
        if self.folder:
            _require_storable(self._state()[0])
            for name, optimizer in optimizers.items():
                self.recipe |= _settings(name, optimizer)
        self.rows: list[list[Any]] = []  # the whole log: it is rewritten with every checkpoint, so that both agree

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything as tensors, and the optimizers' other state as JSON."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            for k, v in part.state_dict().items():
                require(isinstance(v, Tensor), "path", f"{name}.{k} = {describe(v)}", "a state of tensors only")
                tensors[f"{name}.{k}"] = v
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        for name, state in optimizers.items():
            fits = {"state", "param_groups"} <= state.keys()
            require(fits, name, f"a state_dict of {sorted(state)}", "one with state and param_groups, as PyTorch's")
        return tensors, {name: packed(state, name, tensors) for name, state in optimizers.items()}

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
        found, wanted = self._differences(facts)
        require(not found and not wanted, "path", f"a run with {found}", f"one with {wanted}")
        try:
            self._restore(tensors, facts)
            self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path: got {self._checkpoint}, which does not fit this model ({error})") from error
        self.saved, self.rows = self.step, self._logged()
        return self.step, self.seconds

    def _differences(self, facts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the checkpoint's recipe has that this run's has not, and the reverse."""
        found, wanted = facts.get("recipe") or {}, self.recipe
        if "optimizers" not in facts:  # written before the groups were part of the recipe
            wanted = {k: v for k, v in wanted.items() if k in found}
        less = lambda a, b: {k: v for k, v in a.items() if k not in b or b[k] != v}
        return less(found, wanted), less(wanted, found)

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        inside = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for name, part in self.parts.items():
            part.load_state_dict(inside(f"{name}."))
        for name, optimizer in self.optimizers.items():
            if "optimizers" in facts:
                saved = unpacked(facts["optimizers"][name], tensors)
            else:  # an older file: tensors alone, optimizer.<index>.<name>
                saved = {"state": {}, "param_groups": optimizer.state_dict()["param_groups"]}
                for key, value in inside(f"{name}.").items():
                    index, key = key.split(".", 1)
                    saved["state"].setdefault(int(index), {})[key] = value
            load_optimizer(optimizer, saved)

    @property
    def _checkpoint(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoint.safetensors"

    @property
    def _log(self) -> Path:
        return self._checkpoint.with_name("log.csv")

    def _logged(self) -> list[list[Any]]:
        """The log's rows up to the checkpoint: later steps will be taken again."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        return [row for row in csv.reader(lines) if row and row[0].isdigit() and int(row[0]) <= self.step]

    def record(self, step: int, loss: float, lr: float, seconds: float, *more: float) -> None:
        """Note a step. more: the adversaries' losses."""
        if not self.examined:
            _require_storable(self._state()[0])
            self.examined = True
        self.step, self.seconds = step, seconds
        self.rows.append([step, loss, lr, round(seconds, 3), *more])

    def save(self) -> None:
        """Write the log, then the checkpoint."""
        if self.folder is None or not self.writes or self.saved == self.step or self._overtaken():
            return
        more = ["adversary_loss"] if "adversary" in self.parts else []
        rows = [["step", "loss", "lr", "seconds", *more], *self.rows]
        write_whole(self._log, lambda temporary: _write_rows(temporary, rows))
        tensors, optimizers = self._state()
        facts = {"step": self.step, "seconds": self.seconds, "recipe": self.recipe, "optimizers": optimizers}
        save_tensors(self._checkpoint, tensors, facts)
        self.saved = self.step

    def _overtaken(self) -> bool:
        """Whether the folder now holds another run, or more of this one.

        After Ctrl-C a notebook keeps the old generator alive for a while; run again, the cell goes on from the last
        checkpoint, and when the old generator is closed at last it must not put its older state over the newer one.
        """
        if not self._checkpoint.exists():
            return False
        facts = load_facts(self._checkpoint)
        return any(self._differences(facts)) or facts.get("step", 0) > self.step

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # Also on Ctrl-C and on a closed generator: the state here is that of a whole step. But a step that failed
        # half-way (an exception inside it) may have moved the weights: then the last checkpoint on disk stands.
        if kind is None or kind in (KeyboardInterrupt, GeneratorExit):
            self.save()
