"""Shipped weights: each record tells the truth; a changed, cut-off or missing file is refused with a clear error."""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from minidiff.weights import (
    FOLDER,
    SCALE,
    curve,
    load_into,
    load_weights,
    quantised,
    record,
    restored,
    save_curve,
    save_weights,
    shipped_names,
)

FIELDS = {
    "sha256",
    "bytes",
    "command",
    "steps",
    "seconds",
    "hardware",
    "parameters",
    "seed",
    "trained",
    "torch",
    "scores",
}
MB = 2**20


@pytest.fixture
def shipped(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save_weights("small", model, {"steps": 7}, tmp_path)
    return tmp_path, model


def test_round_trip_in_half_precision(shipped):
    folder, model = shipped
    loaded = load_weights("small", folder)
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == (torch.float32 if value.is_floating_point() else value.dtype)
        assert torch.allclose(loaded[name].float(), value.float(), rtol=1e-3, atol=1e-7)
    assert record("small", folder)["steps"] == 7
    model.load_state_dict(loaded)


def test_folders_may_be_text(tmp_path):
    folder, log = str(tmp_path / "new"), str(tmp_path / "log.csv")
    Path(log).write_text("step,loss\n1,0.5\n2,0.25\n", encoding="utf-8")
    save_weights("small", nn.Linear(3, 4), {"steps": 7}, folder)
    save_curve("small", log, folder)
    assert shipped_names(folder) == ["small"]
    assert record("small", folder)["steps"] == 7
    assert load_weights("small", folder)["weight"].shape == (4, 3)
    assert curve("small", folder) == ([1, 2], [0.5, 0.25])
    for read in (load_weights, curve):
        with pytest.raises(ValueError, match="name: got 'other'"):
            read("other", folder)


@pytest.mark.parametrize(("value", "shown"), [(1e6, "1000000"), (-65520.0, "-65520"), (math.nan, "nan")])
def test_numbers_that_half_precision_cannot_hold_are_refused(tmp_path, value, shown):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = value
    with pytest.raises(ValueError, match=rf"^model: got 1\.weight with 1 values like \[{shown}.*\], expected numbers"):
        save_weights("large", model, {}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with torch.no_grad():
        model[1].weight[0, 0] = 65504.0  # the largest that fits
    save_weights("large", model, {}, tmp_path)
    assert float(load_weights("large", tmp_path)["1.weight"][0, 0]) == 65504.0


def test_a_second_file_leaves_the_first_entry(shipped):
    folder, _ = shipped
    save_weights("other", nn.Linear(1, 1), {}, folder)
    assert shipped_names(folder) == ["other", "small"]
    assert load_weights("small", folder)


@pytest.mark.parametrize("damage", ["one bit", "cut off", "empty", "missing"])
def test_damaged_files_are_refused(shipped, damage):
    folder, _ = shipped
    path = folder / "small.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "one bit":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut off" else b"")
    with pytest.raises(ValueError, match="name: got 'small'"):
        load_weights("small", folder)


def test_even_with_a_forged_hash_a_cut_off_file_is_a_clear_error(shipped):
    folder, _ = shipped
    path = folder / "small.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    entry = record("small", folder) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "small.json").write_text(json.dumps(entry), encoding="utf-8")
    with pytest.raises(ValueError, match="cut off or not safetensors"):
        load_weights("small", folder)


def test_unknown_names_get_a_suggestion(shipped):
    folder, _ = shipped
    with pytest.raises(ValueError, match=r"name: got 'smal', expected one of \['small'\]; did you mean 'small'"):
        load_weights("smal", folder)
    with pytest.raises(ValueError, match=r"expected one of \[\]"):
        load_weights("small", folder / "nowhere")


@pytest.mark.parametrize("text", ["", '{"sha256": "12', "→"])
def test_a_record_that_is_cut_off_is_a_clear_error(shipped, text):
    folder, _ = shipped
    (folder / "small.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"name: got 'small', whose record .* is cut off or not JSON"):
        load_weights("small", folder)


def test_records_are_read_and_written_in_utf8_whatever_the_machine_says(tmp_path):
    """The control writes the same text in the machine's own encoding: under ASCII it cannot."""
    code = (
        "from pathlib import Path; from torch import nn; from minidiff.weights import record, save_weights\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "save_weights('arrow', nn.Linear(1, 1), {'scores': {'a → b': 1.0}}, folder)\n"
        "assert record('arrow', folder)['scores'] == {'a → b': 1.0}; assert record('clip-emoji')\n"
        "try:\n    (folder / 'own').write_text('→')\nexcept UnicodeEncodeError: print('cannot')\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "cannot"


def test_a_write_that_fails_leaves_what_was_there(shipped, monkeypatch):
    folder, _ = shipped
    before = (folder / "small.safetensors").read_bytes()

    def half(tensors, path, metadata=None):
        path.write_bytes(b"half a fi")
        raise OSError("disk full")

    monkeypatch.setattr("minidiff.checkpoints.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save_weights("small", nn.Linear(9, 9), {}, folder)
    assert (folder / "small.safetensors").read_bytes() == before
    assert load_weights("small", folder)
    assert not list(folder.glob(".*.tmp"))


def test_curve_keeps_the_mean_loss(tmp_path):
    rows = [f"{i},{loss},0.1,{i}" for i, loss in enumerate(range(1000, 0, -1), start=1)]
    (tmp_path / "log.csv").write_text("\n".join(["step,loss,lr,seconds", *rows]) + "\n", encoding="utf-8")
    save_curve("line", tmp_path / "log.csv", tmp_path, rows=100)
    steps, losses = curve("line", tmp_path)
    assert steps == list(range(10, 1001, 10))
    assert losses[0] == pytest.approx(995.5)
    assert sum(losses) / 100 == pytest.approx(500.5)
    with pytest.raises(ValueError, match=r"name: got 'circle', expected one of \['line', 'log'\]"):
        curve("circle", tmp_path)


@pytest.mark.parametrize("name", shipped_names())
def test_a_record_vouches_for_every_shipped_file(name):
    entry = record(name)
    assert entry.keys() >= FIELDS
    data = (FOLDER / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert len(data) == entry["bytes"] <= 3 * MB
    assert entry["command"] == f"minidiff train {name}"
    assert entry["steps"] > 0
    assert entry["seconds"] > 0
    assert entry["scores"]
    assert all(bool(torch.isfinite(v).all()) for v in load_weights(name).values())
    assert curve(name)[0][-1] == entry["steps"]


def test_all_weights_together_stay_small_and_listed():
    files = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
    assert files == shipped_names()
    assert sum(record(name)["bytes"] for name in shipped_names()) <= 100 * MB


# ---------------------------------------------------------------- 8 bits, and what is left out


def test_a_matrix_in_8_bits_is_off_by_half_a_scale_at_most():
    weight = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 6)[:, None, None]
    small, scale = quantised("weight", weight)
    assert small.dtype == torch.int8
    assert small.flatten(1).abs().amax(1).tolist() == [127] * 6
    back = restored({"weight": small, "weight" + SCALE: scale})["weight"]
    off = (back - weight).abs().flatten(1).amax(1) / (weight.flatten(1).abs().amax(1) / 127)
    assert float(off.max()) <= 0.5 + 127 * 2**-11  # and what rounding the scale to fp16 adds
    assert torch.equal(restored({"weight": quantised("w", back)[0], "weight" + SCALE: scale})["weight"], back)
    one_scale = weight.abs().max() / 127  # the control: one scale for all rows loses the small ones
    assert bool(((weight[0] / one_scale).round() == 0).all())


def test_only_matrices_are_in_8_bits_and_zeros_stay_zeros(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    nn.init.zeros_(model[2].weight)
    save_weights("small", model, {}, tmp_path, bits=8)
    loaded, state = load_weights("small", tmp_path), model.state_dict()
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["2.weight"], state["2.weight"])
    assert torch.equal(loaded["0.bias"], state["0.bias"].half().float())
    assert 0 < float((loaded["0.weight"] - state["0.weight"]).abs().max()) < 0.01
    with pytest.raises(ValueError, match="bits: got 4, expected 8 or 16"):
        save_weights("small", model, {}, tmp_path, bits=4)


def test_what_is_left_out_has_to_be_the_same_when_it_is_built(tmp_path):
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    path = save_weights("reader", model, {}, tmp_path, apart="encoder.")
    assert set(load_weights("reader", tmp_path)) == {"head.weight", "head.bias"}
    again = nn.ModuleDict({"encoder": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    with pytest.raises(ValueError, match=r"model: got 'encoder\.' with fingerprint .*, expected .*trained beside"):
        load_into(again, "reader", tmp_path)
    again["encoder"].load_state_dict(model["encoder"].state_dict())
    load_into(again, "reader", tmp_path)
    assert torch.allclose(again["head"].weight, model["head"].weight, atol=1e-3)
    whole = save_weights("whole", model, {}, tmp_path)
    assert path.stat().st_size < whole.stat().st_size
