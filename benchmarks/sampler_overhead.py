"""What a sampler costs beyond the calls of the network it makes, here and in three other libraries.

    python -m benchmarks.sampler_overhead           writes benchmarks/results/sampler_overhead.json

The base is the bare loop: the same number of calls of the same network on a picture that does not change, nothing else.
A ratio of 1.05 means that 5 % of the time goes elsewhere. Two networks: the U-Net of the Fashion-MNIST chapters on
16 pictures of 28×28, and a tiny one on 4 pictures of 8×8, where a call takes so little that anything else shows.

Every library samples with the same network. Ours is a velocity on the straight path; diffusers' FlowMatchEuler takes it
as it is, its DPMSolver with use_flow_sigmas; azula gets x̂0 = x − t·v through a Denoiser of its own; smalldiffusion
takes it for its ε, which costs the same. Their pipelines' and progress bars' work is not counted.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._timing import alternate, machine
from minidiff import times
from minidiff.backbones.unet import UNet
from minidiff.conditioning import Conditioned, Labels
from minidiff.console import any_sign
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, cfg
from minidiff.predictions import VELOCITY
from minidiff.randomness import randn, seeded
from minidiff.samplers import Step, ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import Linear

RESULTS = Path(__file__).parent / "results" / "sampler_overhead.json"
BAR = 1.05
STEPS = 20
Run = Callable[[], object]


def networks() -> dict[str, tuple[UNet, Tensor, int]]:
    """name → network, noise, and how often a round repeats the trajectory."""
    small = Conditioned(Labels(10, 128), UNet(channels=1, widths=(48, 80), depth=1, patch=2, embedding=128))
    tiny = Conditioned(Labels(10, 32), UNet(channels=1, widths=(8, 16), depth=1, embedding=32, attention=False))
    return {
        "U-Net, 16 x 28x28": (small.eval().requires_grad_(False), randn((16, 1, 28, 28), seeded(range(16))), 1),
        "tiny U-Net, 4 x 8x8": (tiny.eval().requires_grad_(False), randn((4, 1, 8, 8), seeded(range(4))), 4),
    }


@torch.no_grad()
def bare(net: nn.Module, x: Tensor, y: Tensor, calls: int) -> None:
    t = torch.full((len(x),), 0.5)
    for _ in range(calls):
        net(x, t, y=y)


def ours(net: nn.Module, noise: Tensor, y: Tensor, step: Step) -> Run:
    denoise = bind(Denoiser(net, Linear(), VELOCITY), y=y)
    generator = seeded(range(len(noise)))
    return lambda: [None for _ in sample(denoise, noise, times.linear(STEPS), step, generator)]


def guided(net: nn.Module, noise: Tensor, y: Tensor) -> Run:
    denoise = cfg(Denoiser(net, Linear(), VELOCITY), {"y": y}, {"y": torch.tensor(10)}, 2.0)
    return lambda: [None for _ in sample(denoise, noise, times.linear(STEPS), dpmpp_2m(Linear()))]


def in_diffusers(net: nn.Module, noise: Tensor, y: Tensor, scheduler: Any) -> Run:
    @torch.no_grad()
    def run() -> None:
        scheduler.set_timesteps(STEPS)
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, (t / 1000).expand(len(x)), y=y), t, x, return_dict=False)[0]

    return run


def in_azula(net: nn.Module, noise: Tensor, y: Tensor) -> Run:
    from azula.denoise import Denoiser as AzulaDenoiser
    from azula.denoise import DiracPosterior
    from azula.noise import RectifiedSchedule
    from azula.sample import DDIMSampler

    class Straight(AzulaDenoiser):
        def __init__(self):
            super().__init__()
            self.net, self.schedule = net, RectifiedSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
            return DiracPosterior(mean=x_t - t * self.net(x_t, t.expand(len(x_t)), y=y))

    sampler = DDIMSampler(Straight(), steps=STEPS, silent=True)
    return lambda: sampler(noise)


def in_smalldiffusion(net: nn.Module, noise: Tensor, y: Tensor) -> Run:
    from accelerate import Accelerator
    from smalldiffusion import ScheduleFlow, samples
    from smalldiffusion.model import ModelMixin

    class Wrapped(nn.Module, ModelMixin):
        input_dims = tuple(noise.shape[1:])

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
            return self.net(x, sigma.expand(len(x)), y=y)

    model, sigmas, accelerator = Wrapped(), ScheduleFlow().sample_sigmas(STEPS), Accelerator(cpu=True)
    return lambda: [None for _ in samples(model, sigmas, xt=noise, accelerator=accelerator)]


def contestants(net: nn.Module, noise: Tensor) -> dict[str, Run]:
    import diffusers

    y = torch.arange(len(noise)) % 10
    path = Linear()
    flow_solver = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", final_sigmas_type="zero"
    )
    return {
        "bare": lambda: bare(net, noise, y, STEPS),
        "minidiff ddim": ours(net, noise, y, ddim(path)),
        "minidiff euler": ours(net, noise, y, euler(path)),
        "minidiff dpmpp_2m": ours(net, noise, y, dpmpp_2m(path)),
        "minidiff ddpm": ours(net, noise, y, ddpm(path)),
        "diffusers FlowMatchEuler": in_diffusers(net, noise, y, diffusers.FlowMatchEulerDiscreteScheduler()),
        "diffusers DPMSolverMultistep": in_diffusers(net, noise, y, flow_solver),
        "azula DDIM": in_azula(net, noise, y),
        "smalldiffusion (as DDIM)": in_smalldiffusion(net, noise, y),
    }


def more_calls(net: nn.Module, noise: Tensor) -> list[tuple[str, dict[str, Run]]]:
    """Samplers that make other calls than one per step: each against its own bare loop."""
    y = torch.arange(len(noise)) % 10
    twice = torch.cat([noise, noise]), torch.cat([y, torch.full_like(y, 10)])
    two_calls = {
        "bare": lambda: bare(net, noise, y, 2 * STEPS - 1),
        "minidiff heun": ours(net, noise, y, heun(Linear())),
    }
    double_batch = {"bare": lambda: bare(net, *twice, STEPS), "minidiff dpmpp_2m with cfg": guided(net, noise, y)}
    return [("two calls", two_calls), ("both branches of CFG", double_batch)]


def repeated(run: Run, times: int) -> Run:
    return lambda: [run() for _ in range(times)]


def measure(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (net, noise, repeats) in networks().items():
        rows = alternate({k: repeated(v, repeats) for k, v in contestants(net, noise).items()}, "bare", rounds)
        for title, pair in more_calls(net, noise):
            both = alternate({k: repeated(v, repeats) for k, v in pair.items()}, "bare", rounds)
            rows |= {k if k != "bare" else f"bare, {title}": v for k, v in both.items()}
        found[name] = rows
        print(f"\n{name}: {STEPS} steps, ratio to the bare calls (median, quartiles)")
        for k, v in rows.items():
            wall, cpu = v["wall_ratio"], v["cpu_ratio"]
            spread = f"({wall['low']:.3f} … {wall['high']:.3f})"
            print(f"  {k:30s} wall {wall['median']:.3f} {spread}   CPU {cpu['median']:.3f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    facts = {
        "command": "python -m benchmarks.sampler_overhead",
        "bar": BAR,
        "rounds": rounds,
        "steps": STEPS,
        **machine(),
    }
    RESULTS.write_text(json.dumps({**facts, "ratios": measure(rounds)}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    any_sign()
    main()
