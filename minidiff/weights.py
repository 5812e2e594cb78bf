"""Shipped weights: of each model X, three files that stand together.

X.safetensors   the weights in half precision, or matrices in 8 bits
X.csv           the training curve
X.json          the record: SHA-256 and size of the file; command, steps, seconds, hardware, seed, scores of the run
"""

import csv
import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidiff.checkpoints import load_tensors, save_tensors, write_whole
from minidiff.validate import require

FOLDER = Path(__file__).parent / "assets" / "weights"
SCALE = ":scale"
"""Behind the name of a matrix in 8 bits: its rows' scales."""


def shipped_names(folder: str | Path = FOLDER) -> list[str]:
    """The models of `folder`, sorted: those that have a record."""
    return sorted(path.stem for path in Path(folder).glob("*.json"))


def record(name: str, folder: str | Path = FOLDER) -> dict[str, Any]:
    """{"sha256", "bytes", "command", "steps", "seconds", "hardware", "seed", "scores", …} of one model.

    `ValueError` if the name is unknown, or its record is cut off.
    """
    known = shipped_names(folder)
    near = get_close_matches(name, known, n=3)
    expected = f"one of {known}" + (f"; did you mean {near[0]!r}?" if near else "")
    require(name in known, "name", repr(name), expected)
    path = Path(folder) / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"name: got {name!r}, whose record {path} is cut off or not JSON ({error})") from error


def save_weights(
    name: str, model: nn.Module, facts: Mapping[str, Any], folder: str | Path = FOLDER, bits: int = 16, apart: str = ""
) -> Path:
    """Write `model` as fp16 to `folder`/name.safetensors, and its record with `facts` (JSON values) beside it.

    bits 8: matrices as `quantised`. apart: tensors with this in their names are left out, because building the model
    brings them from another shipped file; the record keeps their `fingerprint`, and `load_weights` compares it.
    `ValueError` that names a tensor with values that fp16 cannot hold: beyond ±65,504, or not a number.
    """
    require(bits in (8, 16), "bits", bits, "8 or 16")
    tensors = stored(model.state_dict(), bits, apart)
    path = Path(folder) / f"{name}.safetensors"
    save_tensors(path, tensors, {"name": name})
    entry = {"sha256": _sha256(path), "bytes": path.stat().st_size, **facts}
    if apart:
        entry |= {"apart": {"names": apart, "fingerprint": _told(_named(model.state_dict(), apart))}}
    text = json.dumps(entry, indent=2, ensure_ascii=False) + "\n"
    write_whole(path.with_suffix(".json"), lambda temporary: (temporary.write_text(text, encoding="utf-8"), None)[1])
    return path


def stored(state: Mapping[str, Tensor], bits: int = 16, apart: str = "") -> dict[str, Tensor]:
    """What a file holds of a state dict: fp16, or with bits = 8 matrices in 8 bits and the scales of their rows."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if apart and apart in name:
            continue
        if bits == 8 and value.is_floating_point() and value.ndim >= 2:
            found[name], found[name + SCALE] = quantised(name, value)
        else:
            found[name] = _halved(name, value) if value.is_floating_point() else value
    return found


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in float32 that `stored` kept."""
    found = {}
    for name, value in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        if scale is not None:
            value = value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))
        found[name] = value.float() if value.is_floating_point() else value
    return found


def quantised(name: str, value: Tensor) -> tuple[Tensor, Tensor]:
    """int8 in −127 … 127 and an fp16 scale per row (the first axis): value ≈ int8·scale, to half a scale.

    The largest of a row becomes ±127 (arXiv 2004.09602, section 3). Small scales of fp16 are held at its least number.
    """
    rows = value.detach().flatten(1)
    scale = _halved(name, rows.abs().amax(1) / 127).clamp(min=2**-24)
    return (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).reshape(value.shape), scale


def _halved(name: str, value: Tensor) -> Tensor:
    half = value.to(torch.float16)
    lost = value[~torch.isfinite(half)].tolist()
    got = f"{name} with {len(lost)} values like {lost[:1]}"
    require(not lost, "model", got, "numbers that half precision can hold, up to ±65,504")
    return half


def load_weights(name: str, folder: str | Path = FOLDER) -> dict[str, Tensor]:
    """The state dict of shipped weights in float32, ready for `model.load_state_dict`.

    `ValueError` if the name is unknown, or the file is missing, cut off, or not the one its record vouches for.
    """
    wanted, path = record(name, folder)["sha256"], Path(folder) / f"{name}.safetensors"
    missing = f"{name!r}, whose file {path} is missing"
    require(path.exists(), "name", missing, "the file that came with the repository")
    found = _sha256(path)
    require(
        found == wanted,
        "name",
        f"{name!r} with SHA-256 {found[:12]}…",
        f"{wanted[:12]}…, its record's: the file was changed or cut off",
    )
    tensors, _ = load_tensors(path)
    return restored(tensors)


def load_into(model: nn.Module, name: str, folder: str | Path = FOLDER) -> nn.Module:
    """`model` with shipped weights; those that its file leaves out stay as they were built, if they are the same ones.

    `ValueError` as of `load_weights`, and where what was left out is not what the record vouches for.
    """
    loaded, apart = load_weights(name, folder), record(name, folder).get("apart")
    if apart is not None:
        built = _named(model.state_dict(), apart["names"])
        found, wanted = _told(built), apart["fingerprint"]
        expected = f"{wanted[:12]}…, those it was trained beside"
        require(found == wanted, "model", f"{apart['names']!r} with fingerprint {found[:12]}…", expected)
        loaded |= built
    model.load_state_dict(loaded)
    return model


def save_curve(name: str, log: str | Path, folder: str | Path = FOLDER, rows: int = 200) -> Path:
    """Thin a run's `log.csv` to `rows` averages of the loss and keep it beside the weights as `name`.csv."""
    with Path(log).open(newline="", encoding="utf-8") as file:
        points = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    size = max(1, -(-len(points) // rows))
    bins = [points[i : i + size] for i in range(0, len(points), size)]
    lines = ["step,loss", *(f"{b[-1][0]},{sum(loss for _, loss in b) / len(b):.5f}" for b in bins)]
    path = Path(folder) / f"{name}.csv"
    write_whole(path, lambda temporary: (temporary.write_text("\n".join(lines) + "\n", encoding="utf-8"), None)[1])
    return path


def curve(name: str, folder: str | Path = FOLDER) -> tuple[list[int], list[float]]:
    """The recorded training curve of shipped weights: steps, and the mean loss since the step before."""
    path = Path(folder) / f"{name}.csv"
    require(path.exists(), "name", repr(name), f"one of {sorted(found.stem for found in Path(folder).glob('*.csv'))}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a module's names, dtypes and numbers: equal before and after if nothing has trained it."""
    return _told(model.state_dict())


def _named(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if part in name}


def _told(state: Mapping[str, Tensor]) -> str:
    told = hashlib.sha256()
    for name, value in state.items():
        told.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        told.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
