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
from minidiff.randomness import initialised
from minidiff.training import diffuse, fit

torch.set_num_threads(1)
batch, folder = int(sys.argv[1]), sys.argv[2]
model = initialised(lambda: Denoiser(Conditioned(Labels(2, 32), MLP(2, width=32)), Linear(), VELOCITY), seed=3)
draw = diffuse(ring().draw(batch), times.uniform, drop=0.2, null={"y": torch.tensor(2)})
for _ in fit(model, draw, 40, lr=1e-2, path=folder, every=15, bar=False, seed=5):
    pass
"""


def run(processes: int, batch: int, folder: Path) -> subprocess.CompletedProcess:
    program = folder.parent / "program.py"
    program.write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *launch, str(program), str(batch), str(folder)],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def losses(folder: Path) -> torch.Tensor:
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))  # one process writes, each step once
    return torch.tensor([float(row["loss"]) for row in rows], dtype=torch.float64)


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_and_the_weights_of_one(tmp_path):
    for processes in (1, 2):
        result = run(processes, 64, tmp_path / str(processes))
        assert result.returncode == 0, result.stderr[-2000:]
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert float((one - two).abs().max()) <= 1e-5
    assert one[-10:].mean() < 0.9 * one[:5].mean()  # it was learning, so the agreement is not one of standing still
    a, _ = load_tensors(tmp_path / "1" / "checkpoint.safetensors")
    b, _ = load_tensors(tmp_path / "2" / "checkpoint.safetensors")
    assert a.keys() == b.keys()
    assert max(float((a[k] - b[k]).abs().max()) for k in a if a[k].is_floating_point()) <= 1e-4

    # Control: another global batch gives another curve.
    assert run(1, 32, tmp_path / "other").returncode == 0
    assert float((losses(tmp_path / "other") - one).abs().max()) > 1e-2


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    result = run(2, 33, tmp_path / "odd")
    assert result.returncode != 0
    assert "batch: got 33 rows, expected a multiple of the 2 processes" in result.stderr
