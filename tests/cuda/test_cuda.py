"""The same code on a GPU: run only where there is one (`pytest -m cuda`); numbers are compared with the CPU's."""

from pathlib import Path

import pytest
import torch

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.mixtures import ring
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, cfg, classifier, extrapolate
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Linear
from minidiff.systems import fashion
from minidiff.training import diffuse, draw_rows, drop_condition, fit

pytestmark = pytest.mark.cuda
CPU, GPU = torch.device("cpu"), torch.device("cuda")
STEPS = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), DDPM()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("name", STEPS)
def test_samplers_on_exact_denoisers_agree_with_the_cpu(name, schedule):
    world, ends = ring(), {}
    for device in (CPU, GPU):
        y = torch.zeros(16, dtype=torch.int64, device=device)
        guided = extrapolate(bind(world.denoiser(schedule), y=y), bind(world.denoiser(schedule)), w=1.5)
        noise = randn((16, 2), seeded(range(16)), torch.float64, device)
        *_, x = sample(guided, noise, times.linear(20, start=0.999), STEPS[name](schedule), seeded(range(16)))
        assert x.device.type == device.type
        ends[device.type] = x.cpu()
    assert float((ends["cpu"] - ends["cuda"]).abs().max()) <= 1e-9


def test_classifier_guidance_agrees_with_the_cpu():
    world, schedule, ends = ring(), Linear(), {}
    for device in (CPU, GPU):
        log_prob = lambda x, t: world.log_prob_label(x, t, schedule, 0)
        guided = classifier(bind(world.denoiser(schedule)), log_prob, schedule, w=2.0)
        noise = randn((16, 2), seeded(range(16)), torch.float64, device)
        *_, x = sample(guided, noise, times.linear(20, start=0.999), ddim(schedule))
        ends[device.type] = x.cpu()
    assert float((ends["cpu"] - ends["cuda"]).abs().max()) <= 1e-9


def test_fashion_pictures_agree_with_the_cpu():
    on_cpu = fashion.pictures([0, 7], w=1.0, per_class=2, steps=8)
    on_gpu = fashion.pictures([0, 7], w=1.0, per_class=2, steps=8, model=fashion.DENOISER.load().to(GPU))
    assert on_gpu.device.type == "cuda"
    assert float((on_cpu - on_gpu.cpu()).abs().mean()) <= 0.02  # TF32 and other kernels, twenty calls in a row


def test_cfg_takes_conditions_from_the_cpu():
    model = fashion.DENOISER.load().to(GPU)
    guided = cfg(model, {"y": torch.tensor([3, 5])}, fashion.NULL, w=2.0)
    assert guided(torch.zeros(2, 1, 28, 28, device=GPU), torch.tensor(0.5)).device.type == "cuda"


def test_fit_agrees_with_the_cpu_and_resumes(tmp_path):
    def losses(device, folder=None):
        model = initialised(
            lambda: Denoiser(Conditioned(Labels(2, 32), MLP(2, width=32)), Linear(), VELOCITY), seed=3
        ).to(device)
        draw = diffuse(ring().draw(64), times.uniform, drop=0.2, null={"y": torch.tensor(2)})
        return [p.loss for p in fit(model, draw, 30, lr=1e-2, bar=False, path=folder, every=10)]

    cpu, gpu = torch.tensor(losses(CPU)), torch.tensor(losses(GPU, tmp_path))
    assert float((cpu - gpu).abs().max()) <= 1e-3
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_rows_drawn_on_the_cpu_train_a_model_on_the_gpu():
    model = fashion.build_classifier().to(GPU)
    data = {"x0": torch.zeros(8, 1, 28, 28), "y": torch.arange(8)}
    (first,) = fit(model, diffuse(draw_rows(data, 4)), 1, bar=False)
    assert first.loss == pytest.approx(2.3, abs=0.5)  # log 10: it knows nothing yet


def test_conditions_that_are_on_the_gpu_already_are_dropped_there():
    rows, null = torch.arange(64), {"y": torch.tensor(-1)}
    on = {str(d): drop_condition({"y": rows.to(d)}, null, 0.5, seeded([3])[0])["y"] for d in (CPU, GPU)}
    assert on["cuda"].device.type == "cuda"
    assert torch.equal(on["cpu"], on["cuda"].cpu())
    assert 10 < int((on["cpu"] == -1).sum()) < 54


@pytest.mark.slow
def test_the_first_notebook_runs_there():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    path = Path(__file__).resolve().parents[2] / "notebooks" / "01_bayes_rule.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
