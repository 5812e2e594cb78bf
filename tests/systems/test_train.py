"""`minidiff train` and `minidiff sample` as a user types them, and the recipes behind."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from minidiff import weights
from minidiff.cli import main
from minidiff.randomness import initialised
from minidiff.systems import catalogue, scenes_any
from minidiff.systems.catalogue import shipped, table
from minidiff.systems.shipped import Shipped
from minidiff.training import draw_rows

ROOT = Path(__file__).resolve().parents[2]


class Line(nn.Module):
    """y ≈ a·x: enough of a trainable."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, x0, y):
        return (self.layer(x0) - y).square()[:, 0]


def line(seed: int = 0) -> Shipped[Line]:
    x = torch.linspace(-1, 1, 64)[:, None]
    scores = lambda model: {"slope": round(float(model.layer.weight), 3)}
    return Shipped(
        name="line", purpose="a slope", build=Line, draw=lambda: draw_rows({"x0": x, "y": 3 * x}, 16), steps=300,
        scores=scores, options={"lr": 0.1, "bar": False}, seed=seed,
    )  # fmt: skip


def test_train_writes_weights_record_and_curve(tmp_path):
    facts = line().train(tmp_path / "run", tmp_path / "out")
    assert facts["scores"]["slope"] == pytest.approx(3.0, abs=0.05)
    assert facts["steps"] == 300
    assert facts["command"] == "minidiff train line"
    loaded = weights.load_weights("line", tmp_path / "out")
    assert float(loaded["layer.weight"]) == pytest.approx(3.0, abs=0.05)
    steps, losses = weights.curve("line", tmp_path / "out")
    assert steps[-1] == 300
    assert losses[-1] < losses[0] / 100


def test_what_is_measured_after_training_is_set_before_scores_and_weights(tmp_path):
    def finish(model):
        model.layer.bias.data.fill_(5.0)

    scores = lambda model: {"bias": float(model.layer.bias)}
    facts = replace(line(), finish=finish, scores=scores).train(tmp_path / "run", tmp_path / "out", steps=3)
    assert facts["scores"] == {"bias": 5.0}
    assert float(weights.load_weights("line", tmp_path / "out")["layer.bias"]) == 5.0
    plain = replace(line(), scores=scores).train(tmp_path / "plain", tmp_path / "out", steps=3)
    assert plain["scores"]["bias"] != 5.0  # the control


def test_the_same_command_gives_the_same_weights_and_another_seed_others(tmp_path):
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        line(seed).train(tmp_path / name, tmp_path / name)
        hashes.append(weights.record("line", tmp_path / name)["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_finished_run_is_saved_again_not_trained_again(tmp_path):
    first = line().train(tmp_path / "run", tmp_path / "out")
    before = weights.record("line", tmp_path / "out")["sha256"]
    again = line().train(tmp_path / "run", tmp_path / "out")
    assert weights.record("line", tmp_path / "out")["sha256"] == before
    assert again["steps"] == first["steps"]


def test_initialised_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    a, b, c = (initialised(Line, seed).layer.weight for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_no_steps_are_no_default(tmp_path):
    with pytest.raises(ValueError, match="steps: got int 0"):
        line().train(tmp_path / "run", tmp_path / "out", steps=0)
    assert line().train(tmp_path / "run", tmp_path / "out", steps=7)["steps"] == 7  # the control
    assert weights.record("line", tmp_path / "out")["command"] == "minidiff train line --steps 7"


@pytest.mark.slow
def test_of_the_processes_of_torchrun_one_measures_and_saves(tmp_path):
    """Each says what `train` returned: one the facts, the other {}; the other's folder is never made."""
    program = tmp_path / "program.py"
    program.write_text(
        "import importlib.util, os, sys\nfrom pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('test_train', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        "rank, folder = os.environ['RANK'], Path(sys.argv[1])\n"
        "facts = module.line().train(folder / 'run', folder / f'out{rank}', steps=20)\n"
        "print('RANK', rank, sorted(facts) and facts['steps'])\n",
        encoding="utf-8",
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([*launch, str(tmp_path)], env=environment, capture_output=True, encoding="utf-8", timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert sorted(line for line in ran.stdout.splitlines() if "RANK" in line) == ["RANK 0 20", "RANK 1 []"]
    assert weights.load_weights("line", tmp_path / "out0")
    assert not (tmp_path / "out1").exists()


def test_every_shipped_file_has_its_page_and_the_other_way_round():
    assert sorted(shipped()) == weights.shipped_names()
    assert len(table().splitlines()) == 1 + len(shipped())


def test_two_models_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(catalogue, "vars", lambda module: {"A": line(), "B": line(1)}, raising=False)
    with pytest.raises(ValueError, match="name: got line"):
        catalogue.shipped.__wrapped__()


BEGUN = {"scenes-any": scenes_any.FIRST}
"""What begins as another shipped model, whatever its seed."""


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_page_builds_what_was_shipped(name):
    each = shipped()[name]
    model, entry = each.load(), each.record()
    assert sum(p.numel() for p in model.parameters()) == entry["parameters"]
    assert (each.steps, each.seed) == (entry["steps"], entry["seed"])
    assert weights.curve(name)[0][-1] == each.steps
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    first, again = (next(each.untrained(s).parameters()) for s in (None, each.seed))
    assert torch.equal(first, again)
    begins = BEGUN[name].load() if name in BEGUN else each.untrained(9)
    same = [torch.equal(a, b) for a, b in zip(each.untrained().parameters(), begins.parameters())]
    assert all(same) if name in BEGUN else not all(same)
    assert each.purpose in table()


def test_cli_train_runs_the_real_recipe(tmp_path, capsys, fashion_mnist_root, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(fashion_mnist_root))
    arguments = ["train", "fashion-clean-classifier", "--steps", "3", "--run", str(tmp_path / "run")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["command"] == "minidiff train fashion-clean-classifier --steps 3"
    assert facts["scores"]["test accuracy at t=0.0"] < 0.6  # three steps teach little; the shipped one has 0.90
    assert weights.load_weights("fashion-clean-classifier", tmp_path / "out")


def test_cli_lists_what_each_model_is_for_and_refuses_what_it_cannot_do(capsys):
    assert main(["train"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"fashion-denoiser +12000 +\d+ +2\.\d +garments by class", told)
    for arguments, message in (
        (["fashion-denoizer"], "fashion-denoiser"),
        (["clip-german", "--steps", "0"], "--steps: got 0, expected a positive integer"),
    ):
        assert main(["train", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_cli_sample_writes_a_picture_or_says_why_not(tmp_path, capsys):
    out = tmp_path / "two.png"
    assert main(["sample", "sneaker", "bag", "-n", "2", "--steps", "4", "-o", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(["sample", "sock", "-o", str(tmp_path / "no.png")]) == 2
    assert "T-shirt" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()
