"""What the benchmarks of chapter 09 measure with."""

import math

import pytest
import torch

from benchmarks import bottlenecks
from benchmarks import stable_diffusion as changes
from minidiff import times
from minidiff.codecs.vae import VAE
from minidiff.codecs.vqvae import VQVAE
from minidiff.schedules import Linear
from minidiff.systems import latent


def test_power_stands_where_the_cycles_are():
    side = torch.arange(64) / 64
    waves = torch.cos(2 * math.pi * 5 * side).expand(1, 3, 64, 64)
    power = bottlenecks.power(waves)
    assert power.shape == (33,)
    assert int(power.argmax()) == 5
    assert float(power[5]) > 1e6 * float(power[12])
    noise = bottlenecks.power(torch.randn(200, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert float(noise[1:].max() / noise[1:].min()) < 1.3  # the control: white noise is as strong everywhere
    assert torch.allclose(bottlenecks.power(3 * waves)[5], 9 * power[5])


@torch.no_grad()
def test_rates_by_hand(monkeypatch):
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    monkeypatch.setattr(bottlenecks, "pictures", lambda split, n: x)
    vq = VQVAE(16, 4, width=8).eval()
    rated = bottlenecks.rated_vq(vq, x)
    assert rated["bits of the indices"] == 256 * 4
    assert rated["bits"] == pytest.approx(256 * math.log2(float(vq.quantizer.perplexity(vq.encode(x)))), abs=0.1)
    vae = VAE(4, width=8).eval()
    coarse, fine = (bottlenecks.rounded(vae, x, step)["bits"] for step in (1.0, 0.5))
    assert coarse + 800 < fine <= coarse + 1100  # half the step: one bit more for each of 1024 numbers
    vae.body.encoder[-1].weight[4:], vae.body.encoder[-1].bias[4:] = 0.0, -20.0
    narrow = bottlenecks.rated_kl(vae, x)["bits"]
    vae.body.encoder[-1].bias[4:] = -20.0 + 2 * math.log(2)  # twice the standard deviation
    assert narrow - bottlenecks.rated_kl(vae, x)["bits"] == pytest.approx(1024, abs=1)


def test_start_is_where_stable_diffusion_starts():
    alpha, sigma = Linear()(times.shifted(50, latent.SHIFT, changes.start())[:1])
    assert float(sigma / alpha) == pytest.approx(0.99766 / 0.06826, rel=2e-3)  # √(1 − ᾱ)/√ᾱ of its last step
