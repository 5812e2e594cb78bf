"""The claims of chapter 02 that no test of the library holds, each beside a control that must fail; wrong answers."""

import json
import math

import pytest
import torch
from torch import Tensor

from minidiff import times
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.course.diagnosis import judge, try_out
from minidiff.course.exercise import find
from minidiff.data.mixtures import ring, three_modes
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.wasserstein import w1
from minidiff.predictions import EPS, VELOCITY, X0, Prediction, V
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Linear, Schedule
from minidiff.shapes import expand_like
from minidiff.training import diffuse, fit

FLOAT64 = torch.float64
WORLD, LINE = ring(), three_modes()


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=FLOAT64)


def noisy(n: int, schedule: Schedule) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x0, y, ε, t, x_t for n points of the ring, all times."""
    x0, y = WORLD.sample(n, seeded(0))
    eps, t = randn(x0.shape, seeded(1), FLOAT64), torch.rand(n, generator=seeded(2), dtype=FLOAT64).clamp(min=1e-3)
    return x0, y, eps, t, schedule.add_noise(x0, eps, t)


def exact_eps(x_t: Tensor, t: Tensor, schedule: Schedule, y: Tensor | int | None = None) -> Tensor:
    alpha, sigma = schedule(t[:, None] if t.ndim else t)
    return (x_t - alpha * WORLD.denoise(x_t, t, schedule, y)) / sigma


def relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


# ----------------------------------------------------------------------------------------- claim 1: the best answer


def test_the_loss_of_any_answer_is_the_floor_plus_its_distance_to_the_average():
    _, y, eps, t, x_t = noisy(200_000, Cosine())
    best = exact_eps(x_t, t, Cosine(), y)
    floor = (best - eps).square().mean()
    for flaw in (0.3 * torch.sin(3 * x_t), 0.2 * (1 - t[:, None]) * x_t):
        excess = (best + flaw - eps).square().mean() - floor
        assert abs(float(excess / flaw.square().mean()) - 1) < 0.05
    not_a_function_of_x_t = 0.3 * eps  # control: it knows the noise itself, so the cross term stays
    excess = (best + not_a_function_of_x_t - eps).square().mean() - floor
    assert abs(float(excess / not_a_function_of_x_t.square().mean()) - 1) > 0.5


def test_a_label_that_means_something_lowers_the_floor_and_a_shuffled_one_does_not():
    _, y, eps, t, x_t = noisy(50_000, Linear())
    loss = lambda label: float((exact_eps(x_t, t, Linear(), label) - eps).square().mean())
    assert loss(y) < loss(None) - 0.05
    assert loss(y[torch.randperm(len(y), generator=seeded(3))]) > loss(None)


# --------------------------------------------------------------------------------------------- Tweedie, with a label


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), DDPM()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("label", [None, 0, 1])
def test_the_average_noise_is_the_score(schedule, label):
    x = randn((200, 2), seeded(4), FLOAT64).requires_grad_()
    for t in (0.02, 0.3, 0.7, 1.0):
        (score,) = torch.autograd.grad(WORLD.log_prob(x, level(t), schedule, label).sum(), x)
        eps = exact_eps(x.detach(), level(t), schedule, label)
        assert relative(-eps / schedule(level(t))[1], score) < 1e-10
    other = exact_eps(x.detach(), level(0.3), schedule, None if label is not None else 0)  # control: another label's
    (score,) = torch.autograd.grad(WORLD.log_prob(x, level(0.3), schedule, label).sum(), x)
    assert relative(-other / schedule(level(0.3))[1], score) > 0.1


# --------------------------------------------------------------------------------- targets, weights


def weight(schedule: Schedule, prediction: Prediction, t: float) -> float:
    """The loss of a network whose every guess is x0 + flaw, over the mean of flaw²: through `Denoiser.loss`."""
    x0, eps, flaw = (randn((64, 2), seeded(k), FLOAT64) for k in (5, 6, 7))
    alpha, sigma = schedule(level(t))
    guess_eps = (schedule.add_noise(x0, eps, level(t)) - alpha * (x0 + flaw)) / sigma
    output = prediction.target(schedule, x0 + flaw, guess_eps, level(t))
    net = torch.nn.Module()
    net.forward = lambda x_t, t: output
    return float(Denoiser(net, schedule, prediction).loss(x0, level(t), eps).mean() / flaw.square().mean())


@pytest.mark.parametrize("t", [0.05, 0.3, 0.8])
def test_every_loss_is_the_error_of_x0_times_the_lectures_weight(t):
    for schedule in (Linear(), Cosine()):
        (alpha, sigma), (d_alpha, d_sigma) = (map(float, f(level(t))) for f in (schedule, schedule.rates))
        expected = {
            EPS: (alpha / sigma) ** 2,
            X0: 1.0,
            V: ((alpha**2 + sigma**2) / sigma) ** 2,
            VELOCITY: ((alpha * d_sigma - d_alpha * sigma) / sigma) ** 2,
        }
        for prediction, value in expected.items():
            assert weight(schedule, prediction, t) == pytest.approx(value, rel=1e-9)
    snr_plus_1 = (1 - t) ** 2 / t**2 + 1  # control: the formula of the circle, on the line
    assert weight(Linear(), V, t) != pytest.approx(snr_plus_1, rel=0.05)


def test_v_is_the_velocity_on_the_circle_up_to_a_constant_and_not_on_the_line():
    x0, eps, t = randn((9, 2), seeded(8), FLOAT64), randn((9, 2), seeded(9), FLOAT64), level(0.3)
    v, velocity = (p.target(Cosine(), x0, eps, t) for p in (V, VELOCITY))
    assert torch.allclose(velocity, math.pi / 2 * v, rtol=1e-12)
    v, velocity = (p.target(Linear(), x0, eps, t) for p in (V, VELOCITY))
    assert float((velocity / v).std()) > 0.1


# ------------------------------------------------------------------------------------------------ sampling


def test_ddim_is_euler_on_the_line_and_nowhere_else():
    noise = randn((50, 2), seeded(10), FLOAT64)

    def gap(schedule: Schedule) -> float:
        ends = [
            list(sample(bind(WORLD.denoiser(schedule), y=0), noise, times.linear(10), step))[-1]
            for step in (ddim(schedule), euler(schedule))
        ]
        return float((ends[0] - ends[1]).abs().max())

    assert gap(Linear()) < 1e-12
    assert gap(Cosine()) > 0.01


def errors_against_calls(step, calls_per_step: int, end: float, work: tuple[int, ...]) -> list[float]:
    """Mean distance to the end point of 400 steps of Heun, on the straight path of the ring."""
    denoise, noise = bind(WORLD.denoiser(Linear()), y=0), randn((100, 2), seeded(15), FLOAT64)
    grid = lambda steps: times.linear(steps, start=1 - end, end=end)
    *_, reference = sample(denoise, noise, grid(400), heun(Linear()))
    ends = [list(sample(denoise, noise, grid(n // calls_per_step), step))[-1] for n in work]
    return [float((x - reference).norm(dim=1).mean()) for x in ends]


def test_orders_between_the_ends_and_what_the_last_step_costs():
    order = lambda errors: math.log2(errors[0] / errors[-1]) / (len(errors) - 1)
    inner = lambda step, calls: order(errors_against_calls(step, calls, 0.02, (16, 32, 64, 128)))
    assert abs(inner(euler(Linear()), 1) - 1) < 0.1
    assert inner(heun(Linear()), 2) > 1.6
    assert inner(dpmpp_2m(Linear()), 1) > 1.6
    # All the way to t = 0, DPM++ 2M loses its order between 32 and 128 calls: its last step is of first order.
    whole_way = errors_against_calls(dpmpp_2m(Linear()), 1, 0.0, (32, 64, 128))
    assert order(whole_way) < 1.3


def test_heun_is_ahead_between_the_ends_and_2m_over_the_whole_way():
    work, heuns, twos = (8, 32), heun(Linear()), dpmpp_2m(Linear())
    ahead = lambda end: [
        a < b for a, b in zip(*(errors_against_calls(f, n, end, work) for f, n in ((heuns, 2), (twos, 1))))
    ]
    assert ahead(0.02) == [True, True]
    assert ahead(0.0) == [False, False]


def eight_calls(schedule: Schedule, step, steps: int = 8) -> float:
    """Mean W1 to exact samples of the three hills, three seeds, with the exact denoiser."""
    distances = []
    for seed in range(3):
        noise, exact = randn((2000, 1), seeded(seed), FLOAT64), LINE.sample(2000, seeded(100 + seed))[0]
        *_, x = sample(bind(LINE.denoiser(schedule)), noise, times.linear(steps), step, seeded(200 + seed))
        distances.append(w1(x, exact))
    return sum(distances) / 3


def test_with_eight_calls_the_straight_path_beats_ddpm_and_the_credit_is_the_schedules():
    # Measured over 3 seeds: DDPM 0.21, DDIM on its schedule 0.17, Euler 0.12, DDIM on cosine 0.11, 2M 0.04.
    flow, old = eight_calls(Linear(), euler(Linear())), DDPM()
    assert flow < 0.75 * eight_calls(old, ddim(old))
    assert flow < 0.65 * eight_calls(old, ddpm(old))
    assert eight_calls(Linear(), dpmpp_2m(Linear())) < 0.5 * flow
    assert abs(eight_calls(Cosine(), ddim(Cosine())) - flow) < 0.03  # control: another schedule, no flow matching
    assert eight_calls(old, ddpm(old), 64) < 0.06  # and with many steps DDPM arrives as well


# ------------------------------------------------------------------------------------------------ training


def trained(draw, steps: int, drop: float = 0.15) -> Denoiser:
    null = {"y": torch.tensor(WORLD.n_classes)}
    model = initialised(
        lambda: Denoiser(Conditioned(Labels(WORLD.n_classes, 64), MLP(2, width=64)), Cosine(), V), seed=1
    )
    noisy_draw = diffuse(draw, times.uniform, drop=drop, null=null)
    *_, last = fit(model, noisy_draw, steps, lr=4e-3, ema_decay=0.995, seed=1, bar=False)
    return last.ema


@torch.no_grad()
def error_to(model: Denoiser, told: Tensor, label: Tensor | None, x_t: Tensor, t: Tensor) -> float:
    alpha, sigma = model.schedule(t[:, None])
    learned = (x_t - alpha * model(x_t.float(), t.float(), y=told).double()) / sigma
    return relative(learned, exact_eps(x_t, t, Cosine(), label))


@pytest.mark.slow
def test_the_network_learns_the_exact_conditional_noise():
    model = trained(WORLD.draw(256), 1000)  # measured below: 0.07, 0.85, 0.13, 0.35
    _, y, _, t, x_t = noisy(20_000, Cosine())
    assert error_to(model, y, y, x_t, t) < 0.1
    assert error_to(model, 1 - y, y, x_t, t) > 0.5  # control: told the wrong label
    none = torch.full_like(y, WORLD.n_classes)
    assert error_to(model, none, None, x_t, t) < 0.2  # the label dropped: the marginal (15 % of the training) ...
    assert error_to(model, none, y, x_t, t) > 0.27  # ... and not the conditional


# 9. what speeds up training: the recorded runs


def test_the_table_of_recipes_is_the_recorded_one_and_says_what_the_lecture_says(root):
    run = json.loads((root / "benchmarks" / "results" / "training_recipes.json").read_text(encoding="utf-8"))
    told = (root / "lectures" / "02_conditional_training.md").read_text(encoding="utf-8").split("## 9. Extra")[1]
    of = lambda name: [row for row in run["rows"] if row["recipe"] == name]
    for name in ("plain", "beside", "muon"):
        assert len(of(name)) >= 3
        errors = torch.tensor([row["x0_mse"] for row in of(name)]).mean(0)
        assert " | ".join(f"{1000 * float(e):.1f}" for e in errors) in told
        assert bool((errors > 0.95 * torch.tensor(run["floor"])).all())  # nobody is below the floor
    at = run["times"].index(0.8)
    above = {name: [row["x0_mse"][at] - run["floor"][at] for row in of(name)] for name in ("plain", "beside", "muon")}
    assert max(above["muon"]) < min(above["beside"])
    assert max(above["beside"]) < min(above["plain"])
    spent = [row["cpu_seconds"] for row in run["rows"]]
    assert max(spent) < 1.35 * min(spent)  # equal processor time, as near as the first steps foretold it


# ------------------------------------------------------------------------------- plausible wrong answers are refused


def expanded_time(net, x0, eps, t, y):
    t = expand_like(t, x0)
    return (net((1 - t) * x0 + t * eps, t, y=y) - (eps - x0)).square().flatten(1).mean(1)


def labels_as_numbers(net, x0, eps, t, y):
    t_ = expand_like(t, x0)
    return (net((1 - t_) * x0 + t_ * eps, t, y=y.to(x0)) - (eps - x0)).square().flatten(1).mean(1)


def expanded_labels(net, x0, eps, t, y):
    t_ = expand_like(t, x0)
    return (net((1 - t_) * x0 + t_ * eps, t, y=expand_like(y, x0)) - (eps - x0)).square().flatten(1).mean(1)


def velocity_is_eps_minus_x0_where_sigma_is_0(schedule, x_t, u, t):
    x0 = VELOCITY.to_x0(schedule, x_t, u, t)
    alpha, sigma = schedule(t)
    return (x0, u + x0) if sigma == 0 else (x0, (x_t - alpha * x0) / sigma)


def a_line_or_a_circle(schedule, x_t, u, t):
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    if isinstance(schedule, Linear):
        return x_t - t * u, x_t + (1 - t) * u
    speed = (d_alpha**2 + d_sigma**2).sqrt()
    return alpha * x_t - sigma * u / speed, sigma * x_t + alpha * u / speed


def ddim_with(sigma_least: float = 0.0, clip: float = 9.0, times_each: bool = False):
    def ddim_step(denoise, x_t, t, s, schedule):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x0 = denoise(x_t, expand_like(t.expand(len(x_t)), x_t) if times_each else t).clamp(-clip, clip)
        return alpha_s * x0 + sigma_s * (x_t - alpha_t * x0) / sigma_t.clamp(min=sigma_least)

    return ddim_step


def heun_with(euler_below: float = 0.0, least: float = 0.0, times_each: bool = False):
    def heun_step(velocity, x_t, t, s):
        each = (lambda v: expand_like(v.expand(len(x_t)), x_t)) if times_each else lambda v: v
        slope = velocity(x_t, each(t))
        x_s = x_t + (s - t) * slope
        if s <= euler_below:
            return x_s
        return x_t + (s - t) * (slope + velocity(x_s, each(s.clamp(min=least)))) / 2

    return heun_step


def loop_with(fault: str = ""):
    """The loop of the build exercise with one fault that is not among its named mistakes; "" is right."""

    def train(net, weights, draw, steps, lr, decay, drop, generator):
        now = {name: value.clone().requires_grad_() for name, value in weights.items()}
        average = {name: value.clone() for name, value in weights.items()}
        trained = [value for name, value in now.items() if not (fault == "table not trained" and name == "labels")]
        optimizer, losses = torch.optim.AdamW(trained, lr=lr), []
        for step in range(steps):
            x0, y = draw(step)
            g = torch.default_generator if fault == "global randomness" else generator
            t = torch.rand(1 if fault == "one time" else len(x0), generator=g).expand(len(x0))
            eps = torch.randn(x0.shape, generator=g)
            coins = torch.rand(1 if fault == "one coin" else len(x0), generator=g)
            gone = (coins < drop).expand(len(x0))
            y = torch.where(gone, 0 if fault == "null is 0" else len(now["labels"]) - 1, y)
            t_ = expand_like(t, x0)
            output = net(now, (1 - t_) * x0 + t_ * eps, t, now["labels"][y])
            loss = (output - (eps - x0)).square().flatten(1)
            loss = loss.sum(1).mean() if fault == "sum" else loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            d = decay if fault == "no warm-up" else min(decay, (1 + step + (fault == "one late")) / (10 + step))
            with torch.no_grad():
                for name, value in now.items():
                    average[name].lerp_(value, d if fault == "d exchanged" else 1 - d)
            losses.append(float(loss.detach()))
        return {name: value.detach() for name, value in now.items()}, average, torch.tensor(losses)

    return train


def writes_into_the_weights(net, weights, draw, steps, lr, decay, drop, generator):
    trained, average, losses = loop_with()(net, weights, draw, steps, lr, decay, drop, generator)
    for name, value in weights.items():
        value.copy_(trained[name])
    return trained, average, losses


FAULTS = (
    "table not trained",
    "global randomness",
    "one time",
    "one coin",
    "null is 0",
    "sum",
    "no warm-up",
    "one late",
)
WRONG = {
    "02-velocity-loss": (expanded_time, labels_as_numbers, expanded_labels),
    "02-x0-and-eps": (velocity_is_eps_minus_x0_where_sigma_is_0, a_line_or_a_circle),
    "02-ddim-step": (ddim_with(sigma_least=1e-3), ddim_with(clip=1.0), ddim_with(times_each=True)),
    "02-heun-step": (heun_with(euler_below=0.01), heun_with(least=1e-3), heun_with(times_each=True)),
    "02-train": (*map(loop_with, (*FAULTS, "d exchanged")), writes_into_the_weights),
}
CONTROLS = {"02-ddim-step": ddim_with(), "02-heun-step": heun_with(), "02-train": loop_with()}


@pytest.mark.parametrize(("id", "k"), [(id, k) for id, wrong in WRONG.items() for k in range(len(wrong))])
def test_plausible_wrong_answers_are_refused(id, k):
    exercise = find(id)
    assert judge(exercise, try_out(exercise, WRONG[id][k], seeds=(0,))).kind != "passed"


@pytest.mark.parametrize("id", CONTROLS)
def test_the_same_functions_without_the_fault_pass(id):
    assert judge(find(id), try_out(find(id), CONTROLS[id])).kind == "passed"
