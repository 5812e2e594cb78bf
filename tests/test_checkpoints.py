"""Files that are whole or not there: torn writes, damaged files, leftovers, deferred signals."""

import json
import random
import signal
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minidiff import checkpoints
from minidiff.checkpoints import (
    Run,
    load_facts,
    load_tensors,
    packed,
    save_tensors,
    uninterrupted,
    unpacked,
    write_whole,
)

few = settings(max_examples=25, deadline=None)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


def tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "c": torch.ones(3, dtype=torch.bfloat16)}


@few
@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 2**31))
def test_round_trip_is_exact(tmp_path_factory, dtype, shape, seed):
    path = tmp_path_factory.mktemp("trip") / "x.safetensors"
    value = (100 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)
    facts = {"step": seed, "recipe": {"lr": 1e-3, "name": "ü", "list": [1, None, True]}}
    save_tensors(path, {"x": value, "transposed": value.t() if value.ndim == 2 else value.clone()}, facts)
    loaded, again = load_tensors(path)
    assert again == facts == load_facts(path)
    assert load_facts(str(path)) == load_tensors(str(path))[1] == facts
    save_tensors(str(path.with_name("as text")), {}, facts)
    assert load_facts(path.with_name("as text")) == facts
    assert (loaded["x"].dtype, loaded["x"].shape) == (value.dtype, value.shape)
    assert torch.equal(loaded["x"], value)
    assert torch.equal(loaded["transposed"], value.t() if value.ndim == 2 else value)


def test_cut_off_at_any_byte_is_a_clear_error(tmp_path):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_tensors(whole, tensors(), {"step": 3})
    data = whole.read_bytes()
    assert 200 < len(data) < 2000
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"path: got .*cut\.safetensors, which is cut off or not safetensors"):
            load_tensors(path)
    path.write_bytes(data)
    assert load_facts(path) == {"step": 3}


def test_any_damaged_byte_of_the_header_loads_or_is_a_value_error(tmp_path):
    """No crash and no other exception, whichever bit flips. (Flips in the numbers go unseen; weights have SHA-256.)"""
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors(), {"step": 3})
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    chance = random.Random(0)
    refused = 0
    for position in range(header):
        damaged = bytearray(data)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            load_tensors(path)
        except ValueError as error:
            refused += "cut off or not safetensors" in str(error)
    assert refused > header / 2


@few
@given(st.binary(max_size=300))
def test_rubbish_is_a_clear_error(tmp_path_factory, rubbish):
    path = tmp_path_factory.mktemp("rubbish") / "x.safetensors"
    path.write_bytes(rubbish)
    with pytest.raises(ValueError, match="cut off or not safetensors"):
        load_tensors(path)


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match=r"path: got .*, expected an existing \.safetensors file"):
            load_tensors(path)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_write_that_stops_leaves_the_old_file(tmp_path, monkeypatch, share):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors(), {"step": 1})
    before, real = path.read_bytes(), checkpoints.save_file

    def torn(flat, file, metadata):
        real(flat, file, metadata=metadata)
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))])
        raise Stopped

    monkeypatch.setattr(checkpoints, "save_file", torn)
    with pytest.raises(Stopped):
        save_tensors(path, {"a": torch.zeros(1)}, {"step": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_new_folders_are_made(tmp_path):
    write_whole(
        tmp_path / "a" / "b" / "x.txt", lambda temporary: (temporary.write_text("whole", encoding="utf-8"), None)[1]
    )
    assert (tmp_path / "a" / "b" / "x.txt").read_text(encoding="utf-8") == "whole"


class TestUninterrupted:
    def test_the_signal_waits_for_the_end_of_the_block(self):
        done = []

        def interrupted_twice():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                done.append("whole")

        with pytest.raises(KeyboardInterrupt):
            interrupted_twice()
        assert done == ["whole"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_nothing_happens_without_a_signal(self):
        with uninterrupted():
            pass
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_an_exception_inside_comes_through(self):
        with pytest.raises(Stopped), uninterrupted():
            raise Stopped
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_handler_of_the_callers_own_is_called_once(self):
        calls, before = [], signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, lambda *received: calls.append(received))
        try:
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                assert calls == []
            assert len(calls) == 1
        finally:
            signal.signal(signal.SIGINT, before)

    def test_an_ignored_signal_stays_ignored(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_the_systems_own_handler_still_ends_the_process(self):
        """matplotlib users set SIG_DFL: Ctrl-C must end such a program after the step, not vanish."""
        code = (
            "import signal; from minidiff.checkpoints import uninterrupted\n"
            "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
            "with uninterrupted(): signal.raise_signal(signal.SIGINT); print('finished', flush=True)\n"
            "print('went on')"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
        assert ended.returncode == -signal.SIGINT, ended.stderr
        assert ended.stdout.split() == ["finished"]

    def test_other_threads_are_left_alone(self):
        seen = []
        thread = threading.Thread(target=lambda: [seen.append(1) for _ in [0] if uninterrupted().__enter__() is None])
        thread.start()
        thread.join()
        assert seen == [1]


RECIPE = {"seed": 0, "steps": 9, "lr": 0.1}


def run(folder, size: int = 3, recipe=RECIPE, optimizer=torch.optim.AdamW) -> Run:
    model, average = nn.Linear(size, 2), nn.Linear(size, 2)
    optimizers = {"optimizer": optimizer(model.parameters(), lr=0.1)}
    return Run(folder, {"model": model, "ema": average}, optimizers, recipe, writes=True)


def take(run: Run, step: int) -> None:
    model = run.parts["model"]
    model(torch.ones(1, model.in_features)).sum().backward()
    run.optimizers["optimizer"].step()
    run.record(step, 1.0 / step, 0.1, float(step))


def log(folder) -> list[str]:
    return [line.split(",")[0] for line in (folder / "log.csv").read_text(encoding="utf-8").splitlines()]


class TestRun:
    @pytest.mark.parametrize(
        "optimizer",
        [
            torch.optim.AdamW,
            torch.optim.SGD,
            torch.optim.RMSprop,
            torch.optim.Adagrad,
            lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
            lambda p, lr: torch.optim.AdamW(p, lr=lr, amsgrad=True),
        ],
    )
    def test_model_average_and_optimizer_come_back(self, tmp_path, optimizer):
        first, second = (run(tmp_path, optimizer=optimizer) for _ in range(2))
        for step in (1, 2, 3):
            take(first, step)
        first.save()
        assert second.resume() == (3, 3.0)
        for step in (4, 5):
            for each in (first, second):
                each.optimizers["optimizer"].zero_grad()
                take(each, step)
        for part in ("model", "ema"):
            for a, b in zip(first.parts[part].parameters(), second.parts[part].parameters()):
                assert torch.equal(a, b)

    def test_tied_weights_and_frozen_ones(self, tmp_path):
        def tied():
            model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
            model[1].weight = model[0].weight
            model[1].bias.requires_grad_(False)
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
            return Run(tmp_path, {"model": model}, {"optimizer": optimizer}, RECIPE, writes=True)

        first, second = tied(), tied()
        first.parts["model"](torch.ones(1, 3)).sum().backward()
        first.optimizers["optimizer"].step()
        first.record(1, 0.5, 0.1, 1.0)
        first.save()
        second.resume()
        model = second.parts["model"]
        assert model[1].weight is model[0].weight
        assert torch.equal(model[1].weight, first.parts["model"][0].weight)

    def test_another_recipe_and_another_model_are_refused(self, tmp_path):
        first = run(tmp_path)
        take(first, 1)
        first.save()
        with pytest.raises(ValueError, match=r"path: got a run with .*'lr': 0\.1.*, expected one with .*'lr': 0\.2"):
            run(tmp_path, recipe={**RECIPE, "lr": 0.2}).resume()
        with pytest.raises(ValueError, match=r"(?s)path: got .*which does not fit this model .*size mismatch"):
            run(tmp_path, size=4).resume()

    @pytest.mark.parametrize("facts", [{}, {"recipe": RECIPE}, {"recipe": RECIPE, "step": None, "seconds": 1}])
    def test_a_file_without_the_facts_is_refused(self, tmp_path, facts):
        first = run(tmp_path)
        save_tensors(tmp_path / "checkpoint.safetensors", first._state()[0], facts)
        with pytest.raises(ValueError, match="path: got"):
            first.resume()

    def test_leftovers_of_a_killed_process_are_removed(self, tmp_path):
        leftovers = [tmp_path / f".checkpoint.safetensors.{pid}.tmp" for pid in (11, 12)]
        for path in leftovers:
            path.write_bytes(b"half a fi")
        assert run(tmp_path).resume() == (0, 0.0)
        assert not any(path.exists() for path in leftovers)

    def test_log_rows_beyond_the_checkpoint_are_taken_again(self, tmp_path):
        """Killed between the log and the checkpoint: the log is ahead, even before the first checkpoint."""
        (tmp_path / "log.csv").write_text("step,loss,lr,seconds\n1,9,9,9\n2,9,9,9\n3,9,9,9\n", encoding="utf-8")
        first = run(tmp_path)
        assert first.resume() == (0, 0.0)
        take(first, 1)
        first.save()
        assert log(tmp_path) == ["step", "1"]
        (tmp_path / "log.csv").write_text(
            (tmp_path / "log.csv").read_text(encoding="utf-8") + "2,9,9,9\n3,9", encoding="utf-8"
        )
        second = run(tmp_path)
        assert second.resume()[0] == 1
        take(second, 2)
        second.save()
        assert log(tmp_path) == ["step", "1", "2"]
        assert (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()[2].startswith("2,0.5,")

    def test_an_older_state_never_replaces_a_newer_one(self, tmp_path):
        old, new = run(tmp_path), run(tmp_path)
        take(old, 1)
        for step in (1, 2, 3):
            take(new, step)
        new.save()
        before = (tmp_path / "checkpoint.safetensors").read_bytes(), (tmp_path / "log.csv").read_bytes()
        old.save()
        assert before == ((tmp_path / "checkpoint.safetensors").read_bytes(), (tmp_path / "log.csv").read_bytes())
        assert json.loads(json.dumps(load_facts(tmp_path / "checkpoint.safetensors")))["step"] == 3

    def test_a_reader_writes_nothing(self, tmp_path):
        reader = run(tmp_path)
        reader.writes = False
        take(reader, 1)
        reader.save()
        assert list(tmp_path.iterdir()) == []


@few
@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(),
            st.floats(width=32, allow_nan=False).map(np.float32), st.floats(allow_nan=False).map(np.float64),
            st.integers(-100, 100).map(np.int8), st.integers(0, 2**63).map(np.uint64), st.booleans().map(np.bool_),
            st.sampled_from(DTYPES).map(lambda d: torch.tensor([0, 1, 3]).to(d)),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.one_of(st.text(), st.integers()), inner, max_size=3),
        ),
        max_leaves=8,
    )
)  # fmt: skip
def test_what_an_optimizer_holds_comes_back_in_value_and_kind(value):
    tensors: dict = {}
    text = json.dumps(packed(value, "optimizer", tensors))
    back = unpacked(json.loads(text), tensors)
    assert repr(back) == repr(value)


@pytest.mark.parametrize("odd", [object(), {1, 2}, {(1, 2): 3}, b"bytes", 1 + 1j, np.ones(2), np.longdouble(1), len])
def test_what_json_cannot_hold_is_named(odd):
    with pytest.raises(ValueError, match=r"^optimizer: got group.k = .+, expected state of tensors, numbers, strings"):
        packed({"k": odd}, "group", {})
