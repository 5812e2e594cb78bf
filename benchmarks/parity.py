"""The samplers beside diffusers' schedulers: same network, same noise, float32, every state of the trajectory compared.

    python -m benchmarks.parity        prints a table, writes benchmarks/results/parity.json

The network is a random convolution: nonlinear, never trained. diffusers sees its raw output (ε, v, x0 or velocity)
through `scheduler.step`; minidiff sees it through `Denoiser`. tests/parity asserts ≤ 1e-5.

diffusers multiplies up ᾱ in float32; its σ² = 1 − ᾱ is then 2e-4 off at the smallest noise, which alone moves pictures
by 2e-5. The rows compare the steps, so they give the scheduler the same ᾱ in float64; the last rows leave its own.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from minidiff import times
from minidiff.console import any_sign
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, classifier, extrapolate
from minidiff.predictions import EPS, VELOCITY, X0, Prediction, V
from minidiff.randomness import seeded
from minidiff.samplers import Step, ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Karras, Linear, Schedule
from minidiff.shapes import expand_like

RESULTS = Path(__file__).parent / "results" / "parity.json"
SHAPE = (4, 3, 8, 8)
W = 2.0
Network = Callable[[Tensor, float], Tensor]
NAMES = {EPS: "epsilon", X0: "sample", V: "v_prediction"}


class Net(nn.Module):
    """A picture in [−1, 1] guessed from x_t by a random convolution, asked for in the form of `prediction`.

    So the output is one that a trained network could give: bounded pictures, ε̂ that carries the noise of x_t.
    """

    def __init__(self, schedule: Schedule, prediction: Prediction):
        super().__init__()
        self.schedule, self.prediction = schedule, prediction
        generator = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(0.1 * torch.randn(3, 3, 3, 3, generator=generator), requires_grad=False)
        self.pattern = nn.Parameter(0.5 * torch.randn(SHAPE[1:], generator=generator), requires_grad=False)

    def forward(self, x_t: Tensor, t: Tensor, *, y: float = 0.0) -> Tensor:
        at = expand_like(t, x_t)
        alpha, sigma = self.schedule(at)
        seen = x_t / (alpha**2 + sigma**2).sqrt()
        x0 = nn.functional.conv2d(seen, self.kernel, padding=1) + self.pattern + torch.sin(3 * at) + 0.3 * y
        x0 = torch.tanh(x0)
        return self.prediction.target(self.schedule, x0, (x_t - alpha * x0) / sigma, at)


def noise() -> Tensor:
    return torch.randn(SHAPE, generator=seeded(1))


def raw(schedule: Schedule, prediction: Prediction, y: float = 0.0) -> Network:
    """The network as a pipeline calls it: (x, t) → output."""
    net = Net(schedule, prediction)
    return lambda x, t: net(x, torch.full((len(x),), t), y=y)


def log_prob(x: Tensor, t: Tensor) -> Tensor:
    """Stands in for log f_φ(y|x_t): smooth, nonlinear, bounded slope."""
    return -torch.sqrt(1 + (x - 0.5).square()).flatten(1).sum(1)


def gradient(x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(log_prob(leaf, torch.tensor(0.5)).sum(), leaf)[0]


def ours(
    step: Step, schedule: Schedule, prediction: Prediction, grid: Tensor, start: Tensor, guide=None
) -> list[Tensor]:
    """All states of minidiff's trajectory. `guide` takes the network's denoiser and its label to a guided denoiser."""
    model = Denoiser(Net(schedule, prediction), schedule, prediction)
    return list(sample(guide(model) if guide else bind(model), start, grid, step, seeded(2)))


def theirs(
    scheduler: Any, start: Tensor, at: Callable[[int], float], output: Network, moved=None, **options: Any
) -> list[Tensor]:
    """All states of a scheduler driven as its pipelines drive it. `at(i)`: the network's time at call i, in [0, 1].

    A Heun scheduler takes two calls per step (one in the last): a state counts when its second call is done.
    `moved(x, k, previous)` stands in for what guided-diffusion does to the state after the step.
    """
    x, states, stages = start, [], scheduler.order
    for i, k in enumerate(scheduler.timesteps):
        if isinstance(scheduler, diffusers.EulerDiscreteScheduler):
            scheduler.scale_model_input(x, k)  # it insists; its scaled input is not used, as our network sees x itself
        after = scheduler.step(output(x, at(i)), k, x, **options).prev_sample
        x = moved(after, k, x) if moved else after
        if stages == 1 or i % 2 == 1 or i == len(scheduler.timesteps) - 1:
            states.append(x)
    return states


def from_table(
    name: str, scheduler: Any, step: Step, prediction: Prediction, steps: int, **extra: Any
) -> dict[str, Any]:
    """A scheduler on DDPM's table: index k is t = (k + 1)/1000, and the last step goes to t = 0."""
    if extra.pop("float64_table", True):
        scheduler.alphas_cumprod = torch.exp(DDPM().log_alpha_bar[1:])
    guide, output, moved = (
        extra.pop(key, default)
        for key, default in (("guide", None), ("output", raw(DDPM(), prediction)), ("moved", None))
    )
    scheduler.set_timesteps(steps)
    grid = torch.cat([(scheduler.timesteps.double() + 1) / 1000, torch.zeros(1, dtype=torch.float64)])
    them = theirs(scheduler, noise(), lambda i: float(grid[i]), output, moved, generator=seeded(2), **extra)
    return row(name, scheduler, ours(step, DDPM(), prediction, grid, noise(), guide), them)


def on_straight_path(name: str, scheduler: Any, step: Step, prediction: Prediction, steps: int, **setting: Any):
    """A flow-matching scheduler: its sigmas are our times, used to the last bit."""
    scheduler.set_timesteps(**(setting or {"num_inference_steps": steps}))
    sigmas = scheduler.sigmas.double()
    grid = torch.cat([sigmas[:1], sigmas[1:][sigmas.diff() != 0]])
    times_of_calls = (lambda i: float(grid[i])) if scheduler.order == 1 else (lambda i: float(grid[(i + 1) // 2]))
    them = theirs(scheduler, noise(), times_of_calls, raw(Linear(), prediction))
    return row(name, scheduler, ours(step, Linear(), prediction, grid, noise()), them)


def on_karras(
    name: str, scheduler: Any, make_step: Callable[[Schedule], Step], steps: int, prediction=EPS, output=None
):
    """A scheduler with Karras' sigmas, σ_max … σ_min, 0: `steps` − 1 steps of ours and, to σ = 0, x̂0 itself."""
    scheduler.set_timesteps(steps)
    high, low = float(scheduler.sigmas[0]), float(scheduler.sigmas[-2])
    schedule, grid = Karras(low, high, 7.0), times.linear(steps - 1)
    start = high * noise()
    call = (lambda i: float(grid[i])) if scheduler.order == 1 else (lambda i: float(grid[(i + 1) // 2]))
    us = ours(make_step(schedule), schedule, prediction, grid, start)
    us.append(Denoiser(Net(schedule, prediction), schedule, prediction)(us[-1], grid[-1]))
    return row(name, scheduler, us, theirs(scheduler, start, call, output or raw(schedule, prediction)))


def row(name: str, scheduler: Any, us: list[Tensor], them: list[Tensor]) -> dict[str, Any]:
    """Largest differences: of the pictures, and of any state in units of its size (an early state may be near 80)."""
    assert len(us) == len(them), (name, len(us), len(them))
    gaps = [float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for a, b in zip(us, them)]
    return {
        "minidiff": name,
        "diffusers": type(scheduler).__name__,
        "steps": len(us),
        "picture": float((us[-1] - them[-1]).abs().max()),
        "trajectory": max(gaps),
        "size": float(them[-1].abs().max()),
    }


def table_cases() -> Iterator[dict[str, Any]]:
    table = {"beta_schedule": "linear", "clip_sample": False}
    for variance, theirs_name in (("small", "fixed_small"), ("large", "fixed_large")):
        for steps in (50, 1000):
            scheduler = diffusers.DDPMScheduler(variance_type=theirs_name, **table)
            yield from_table(f"ddpm, {variance}, EPS", scheduler, ddpm(DDPM(), variance), EPS, steps)
    for prediction in (X0, V):
        scheduler = diffusers.DDPMScheduler(prediction_type=NAMES[prediction], **table)
        yield from_table(f"ddpm, small, {prediction.name.upper()}", scheduler, ddpm(DDPM()), prediction, 50)
    for eta in (0.0, 0.5, 1.0):
        yield from_table(
            f"ddim, η = {eta:g}, EPS", diffusers.DDIMScheduler(**table), ddim(DDPM(), eta), EPS, 50, eta=eta
        )
    for prediction in (X0, V):
        scheduler = diffusers.DDIMScheduler(prediction_type=NAMES[prediction], **table)
        yield from_table(f"ddim, η = 0, {prediction.name.upper()}", scheduler, ddim(DDPM()), prediction, 50)
    for prediction in (EPS, X0, V):
        scheduler = diffusers.DPMSolverMultistepScheduler(
            beta_start=1e-4, beta_end=0.02, prediction_type=NAMES[prediction], final_sigmas_type="zero"
        )
        yield from_table(f"dpmpp_2m, {prediction.name.upper()}", scheduler, dpmpp_2m(DDPM()), prediction, 20)


def straight_cases() -> Iterator[dict[str, Any]]:
    for shift in (1.0, 3.0):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        yield on_straight_path(f"euler, shift {shift:g}", scheduler, euler(Linear()), VELOCITY, 30)
        scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift)
        yield on_straight_path(f"heun, shift {shift:g}", scheduler, heun(Linear()), VELOCITY, 30)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    sigmas = times.linear(30)[:-1].tolist()
    yield on_straight_path("ddim, our own grid", scheduler, ddim(Linear()), VELOCITY, 30, sigmas=sigmas)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
    )
    yield on_straight_path("dpmpp_2m, Linear", scheduler, dpmpp_2m(Linear()), VELOCITY, 20)


def karras_cases() -> Iterator[dict[str, Any]]:
    yield on_karras("heun, Karras", diffusers.HeunDiscreteScheduler(use_karras_sigmas=True), heun, 20)
    yield on_karras("ddim, Karras", diffusers.EulerDiscreteScheduler(use_karras_sigmas=True), ddim, 20)
    # EDM's schedulers precondition the network themselves: hand them the F that makes their x̂0 our network's output.
    data = 0.5

    def preconditioned(x: Tensor, t: float) -> Tensor:
        sigma = float(Karras()(torch.tensor(t, dtype=torch.float64))[1])
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2) ** 0.5
        return (raw(Karras(), X0)(x, t) - skip * x) / out

    yield on_karras("ddim, Karras, X0", diffusers.EDMEulerScheduler(), ddim, 20, X0, preconditioned)
    solver = diffusers.EDMDPMSolverMultistepScheduler(final_sigmas_type="zero")
    yield on_karras("dpmpp_2m, Karras, X0", solver, dpmpp_2m, 20, X0, preconditioned)


def guided_cases() -> Iterator[dict[str, Any]]:
    table, cfg_scale = {"beta_schedule": "linear", "clip_sample": False}, 1 + W

    def pipeline_cfg(x: Tensor, t: float) -> Tensor:
        uncond, cond = raw(DDPM(), EPS)(x, t), raw(DDPM(), EPS, y=1.0)(x, t)
        return uncond + cfg_scale * (cond - uncond)

    guide = lambda model: extrapolate(bind(model, y=1.0), bind(model), W)
    name = f"extrapolate, w = {W:g}; ddim"
    yield from_table(name, diffusers.DDIMScheduler(**table), ddim(DDPM()), EPS, 50, guide=guide, output=pipeline_cfg)

    # Algorithm 1 of arXiv 2105.05233: the step's mean, moved by w·Σ·gradient at x_t, with diffusers' own Σ.
    scheduler = diffusers.DDPMScheduler(**table)
    moved = lambda after, k, x: after + W * scheduler._get_variance(int(k)) * gradient(x)
    step = ddpm(DDPM(), shift=lambda x, t: W * gradient(x))
    yield from_table(f"ddpm with shift (Algorithm 1), w = {W:g}", scheduler, step, EPS, 50, moved=moved)

    # Algorithm 2: ε̂ = ε − √(1 − ᾱ)·w·gradient, with diffusers' own ᾱ.
    scheduler = diffusers.DDIMScheduler(**table)
    sigma = lambda t: float((1 - scheduler.alphas_cumprod[round(1000 * t) - 1]).sqrt())
    shifted = lambda x, t: raw(DDPM(), EPS)(x, t) - sigma(t) * W * gradient(x)
    guide = lambda model: classifier(bind(model), log_prob, DDPM(), W)
    name = f"classifier (Algorithm 2), w = {W:g}; ddim"
    yield from_table(name, scheduler, ddim(DDPM()), EPS, 50, guide=guide, output=shifted)


def shipped_table_cases() -> Iterator[dict[str, Any]]:
    table = {"beta_schedule": "linear", "clip_sample": False}
    for name, scheduler, step in (
        ("ddpm, small, EPS", diffusers.DDPMScheduler(**table), ddpm(DDPM())),
        ("ddim, η = 0, EPS", diffusers.DDIMScheduler(**table), ddim(DDPM())),
    ):
        yield from_table(f"{name}; diffusers' own ᾱ", scheduler, step, EPS, 50, float64_table=False)


def cases() -> Iterator[dict[str, Any]]:
    yield from table_cases()
    yield from straight_cases()
    yield from karras_cases()
    yield from guided_cases()
    yield from shipped_table_cases()


def table(rows: list[dict[str, Any]]) -> str:
    line = "{:38s} {:34s} {:>5} {:>9} {:>10}".format
    head = line("minidiff", "diffusers", "steps", "picture", "trajectory")
    body = [
        line(
            *(str(r[k]) for k in ("minidiff", "diffusers", "steps")),
            *(f"{r[k]:.1e}" for k in ("picture", "trajectory")),
        )
        for r in rows
    ]
    return "\n".join([head, *body])


def main() -> None:
    rows = list(cases())
    print(table(rows))
    facts = {"torch": torch.__version__, "diffusers": diffusers.__version__, "dtype": "float32", "shape": list(SHAPE)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"command": "python -m benchmarks.parity", **facts, "max_abs_difference": rows}, indent=2) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    any_sign()
    main()
