"""`fit` under torchrun: two processes on gloo take the steps that one process takes on the same global batch."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minidiff.checkpoints import load_tensors

PROGRAM = """
import sys
import torch
from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.mixtures import ring
from minidiff.denoiser import Denoiser
from minidiff.predictions import VELOCITY
from minidiff.schedules import Linear
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import initialised
from minidiff.training import alternate, chunked, diffuse, fit

torch.set_num_threads(1)
batch, folder, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
model = initialised(lambda: Denoiser(Conditioned(Labels(2, 32), MLP(2, width=32)), Linear(), VELOCITY), seed=3)
draw = diffuse(ring().draw(batch), times.uniform, drop=0.2, null={"y": torch.tensor(2)})
options = dict(lr=1e-2, path=folder, every=15, bar=False, seed=5)
if kind == "fit":
    steps = fit(model, draw, 40, **options)
if kind == "muon":
    draw = diffuse(chunked(ring().draw, batch, chunk=7), times.uniform, drop=0.2, null={"y": torch.tensor(2)})
    groups = lambda model: muon_groups(model, lr=0.02, adam_lr=1e-2, inside="net")
    steps = fit(model, draw, 40, groups=groups, optimizer=Muon, **options)
if kind == "alternate":
    class Doubter(torch.nn.Linear):
        def loss(self, model, x0, t, eps, y):
            return (self(model(x0, t, y=y)) - self(x0))[:, 0].add(1).relu()

    class Fooler(Denoiser):
        def loss(self, doubter, x0, t, eps, y):
            own = super().loss(x0, t, eps, y=y)
            return own if doubter is None else own - 0.1 * doubter(self(x0, t, y=y))[:, 0]

    model = initialised(lambda: Fooler(Conditioned(Labels(2, 32), MLP(2, width=32)), Linear(), VELOCITY), seed=3)
    steps = alternate(model, initialised(lambda: Doubter(2, 1), seed=4), draw, 40, start=10, **options)
for _ in steps:
    pass
"""


def run(processes: int, batch: int, folder: Path, kind: str = "fit") -> subprocess.CompletedProcess:
    program = folder.parent / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *launch, str(program), str(batch), str(folder), kind],
        env=environment, capture_output=True, encoding="utf-8", timeout=240,
    )  # fmt: skip


def losses(folder: Path) -> torch.Tensor:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))  # one process writes, each step once
    return torch.tensor([float(row["loss"]) for row in rows], dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fit", pytest.param("muon", marks=pytest.mark.stress)])
def test_two_processes_give_the_loss_curve_and_the_weights_of_one(tmp_path, kind):
    for processes in (1, 2):
        result = run(processes, 64, tmp_path / str(processes), kind)
        assert result.returncode == 0, result.stderr[-2000:]
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    # Muon makes a weak direction's rounding error as large as a strong direction: its runs drift apart sooner.
    near, far = (1e-3, 2e-3) if kind == "muon" else (1e-5, 1e-4)
    assert float((one - two)[:8].abs().max()) <= 1e-5
    assert float((one - two).abs().max()) <= near
    assert one[-10:].mean() < 0.9 * one[:5].mean()  # it was learning, so the agreement is not one of standing still
    a, _ = load_tensors(tmp_path / "1" / "checkpoint.safetensors")
    b, _ = load_tensors(tmp_path / "2" / "checkpoint.safetensors")
    assert a.keys() == b.keys()
    assert max(float((a[k] - b[k]).abs().max()) for k in a if a[k].is_floating_point()) <= far

    # Control: another global batch gives another curve.
    assert run(1, 32, tmp_path / "other", kind).returncode == 0
    assert float((losses(tmp_path / "other") - one).abs().max()) > 1e-2


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    result = run(2, 33, tmp_path / "odd")
    assert result.returncode != 0
    assert "batch: got 33 rows, expected a multiple of the 2 processes" in result.stderr


@pytest.mark.slow
def test_an_adversary_is_refused_in_two_processes(tmp_path):
    result = run(2, 64, tmp_path / "two", "alternate")
    assert result.returncode != 0
    assert "processes: got 2, expected 1" in result.stderr
    assert run(1, 64, tmp_path / "one", "alternate").returncode == 0  # the control
