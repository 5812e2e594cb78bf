"""Training: closed forms of its parts, learning, and runs that stop anywhere and end bit for bit the same."""

import contextlib
import csv
import functools
import gc
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minidiff import checkpoints, times
from minidiff.backbones.mlp import MLP
from minidiff.checkpoints import load_facts, load_tensors
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.mixtures import ring
from minidiff.denoiser import Denoiser
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, seeded
from minidiff.schedules import Linear
from minidiff.training import EMA, chunked, decayed, diffuse, draw_rows, drop_condition, fit, step_generator

few = settings(max_examples=25, deadline=None)
STEPS = 24
NULL = {"y": torch.tensor(2)}


class Stormy(nn.Module):
    """Everything that a resumed run could forget: dropout, batch-norm statistics, a counter, tied weights."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.drop = nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.second.weight = self.first.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def loss(self, x0, t, eps, y):
        self.calls += 1
        h = self.drop(torch.relu(self.norm(self.stem(x0 + eps * t[:, None]))))
        return (self.head(self.second(torch.relu(self.first(h)))) - x0).square().mean(1) + 0.0 * y


class Sparing(torch.optim.Optimizer):
    """Descent whose steps grow shorter; it remembers how far it is in all the ways an optimizer may."""

    def __init__(self, params, defaults, where):
        super().__init__(params, {**defaults, "k": 0})
        self.where = where

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state |= {
                        "k": 0,
                        "mode": "even",
                        "none": None,
                        "pair": (1, 0.5),
                        "numpy": np.float32(0.1),
                        "sum": torch.zeros((), dtype=torch.float64),
                    }
                    state |= {"odd": object()} if "odd" in group and group["odd"] is None else {}
                place = group if self.where == "group" else state
                assert state["mode"] == ("even" if state["k"] % 2 == 0 else "odd!")
                assert state["none"] is None
                p.sub_(p.grad, alpha=group["lr"] * 0.9 ** place["k"] / (1 + float(state["sum"])) * state["pair"][1])
                state["sum"] += 1e-9 * float(p.grad.double().norm())
                state["pair"] = (state["pair"][0] + 1, 1 / (1 + state["pair"][0]))
                state["numpy"] = state["numpy"] * np.float32(1.1)  # in Python's float it would round elsewhere
                assert type(state["numpy"]) is np.float32
                state["k"] += 1
                state["mode"] = "even" if state["k"] % 2 == 0 else "odd!"
            group["k"] += 1


def storm() -> Stormy:
    return initialised(Stormy, seed=1)


def calm() -> Denoiser:
    return initialised(
        lambda: Denoiser(Conditioned(Labels(2, 16), MLP(2, width=16, depth=1)), Linear(), VELOCITY), seed=1
    )


def draw(generator):
    return diffuse(ring().draw(16), drop=0.2, null=NULL)(generator)


def run(model, folder=None, steps: Any = STEPS, **options):
    options = {"lr": 1e-2, "seed": 5, "every": 7, "bar": False, **options}
    return fit(model, draw, steps, path=folder, **options)


def whole(build, folder=None, **options):
    model = build()
    (*_, last) = run(model, folder, **options)
    return last


@functools.cache
def uninterrupted_end(build) -> tuple[dict, dict, tuple[float, ...]]:
    """The state dicts of model and average after a run that nothing stopped, and its losses."""
    model = build()
    progress = list(run(model))
    return model.state_dict(), progress[-1].ema.state_dict(), tuple(p.loss for p in progress)


def assert_same_end(build, folder: Path) -> None:
    """The files of a resumed run hold, to the bit, what an uninterrupted run ends with; the log has every step once."""
    model, average, losses = uninterrupted_end(build)
    tensors, facts = load_tensors(folder / "checkpoint.safetensors")
    assert facts["step"] == STEPS
    for prefix, wanted in (("model.", model), ("ema.", average)):
        for name, value in wanted.items():
            assert torch.equal(tensors[prefix + name], value), prefix + name
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert [float(row["loss"]) for row in rows] == list(losses)
    assert [float(row["lr"]) for row in rows] == [decayed(step, STEPS, 1e-2) for step in range(STEPS)]
    assert [float(row["seconds"]) for row in rows] == sorted(float(row["seconds"]) for row in rows)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.safetensors", "log.csv"]


def whole_tensors(*modules: nn.Module) -> list[torch.Tensor]:
    return [value for module in modules for value in module.state_dict().values()]


builds = pytest.mark.parametrize("build", [calm, storm])


class TestParts:
    @few
    @given(st.floats(0.0, 0.9999), st.integers(1, 40), st.integers(0, 2**31))
    def test_ema_is_its_closed_form(self, decay, updates, seed):
        """a_n = ∏d·a_0 + Σ_k (1 − d_k)·∏_{j>k} d_j·p_k with d_k = min(decay, (1 + k)/(10 + k))."""
        values = torch.randn(updates + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        module = nn.Linear(1, 1).double()
        nn.init.constant_(module.weight, float(values[0]))
        ema = EMA(module, decay)
        for k in range(updates):
            nn.init.constant_(module.weight, float(values[k + 1]))
            ema.update(module, k)
        decays = [min(decay, (1 + k) / (10 + k)) for k in range(updates)]
        share = lambda k: math.prod(decays[k:])
        want = share(0) * values[0] + sum((1 - decays[k]) * share(k + 1) * values[k + 1] for k in range(updates))
        assert float(ema.module.weight.detach()) == pytest.approx(float(want), abs=1e-12)

    def test_ema_copies_buffers_and_needs_no_gradient(self):
        module = nn.BatchNorm1d(2)
        ema = EMA(module, 0.99)
        module(torch.randn(8, 2, generator=seeded(0)))
        ema.update(module, 0)
        assert torch.equal(ema.module.running_mean, module.running_mean)
        assert int(ema.module.num_batches_tracked) == 1
        assert not ema.module.training
        assert not any(p.requires_grad for p in ema.module.parameters())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_coarse_parameters_are_averaged_in_fp32(self, dtype):
        """10,000 ones after .5: in bf16 itself, .5 + .001·(1 − .5) is .5, and the average never moves."""
        module = nn.Linear(1, 1, bias=False).to(dtype)
        nn.init.constant_(module.weight, 0.5)
        ema, twin = EMA(module, 0.999), EMA(module, 0.999)
        nn.init.constant_(module.weight, 1.0)
        for k in range(2000):
            ema.update(module, 9000 + k)
            if k == 700:
                twin.load_state_dict(ema.state_dict())
            if k > 700:
                twin.update(module, 9000 + k)
        want = 1 - 0.5 * 0.999**2000
        assert float(ema.state_dict()["weight"]) == pytest.approx(want, abs=1e-4)
        assert ema.state_dict()["weight"].dtype == torch.float32
        assert ema.module.weight.dtype == dtype  # what is handed out takes the inputs that the model takes
        assert float(ema.module.weight) == pytest.approx(want, abs=4e-3)
        assert torch.equal(twin.state_dict()["weight"], ema.state_dict()["weight"])
        assert torch.lerp(torch.tensor(0.5, dtype=dtype), torch.tensor(1.0, dtype=dtype), 0.0002) == 0.5  # the control

    def test_learning_rate_rises_stays_and_falls(self):
        rates = [decayed(step, 2000, 3e-3) for step in range(2000)]
        assert rates[0] == pytest.approx(3e-5)
        assert rates[99] == rates[999] == 3e-3
        assert rates[1500] == pytest.approx(1.5e-3)
        assert rates[-1] == pytest.approx(3e-6)
        assert min(decayed(step, steps, 1.0) for steps in (1, 2, 9) for step in range(steps)) > 0

    @few
    @given(st.integers(0, 2**40), st.integers(0, 10**6))
    def test_each_step_has_its_own_generator(self, seed, step):
        numbers = lambda a, b: torch.randn(4, generator=step_generator(a, b))
        assert torch.equal(numbers(seed, step), numbers(seed, step))
        for other in ((seed + 1, step), (seed, step + 1), (seed + 2**32, step)):
            assert not torch.equal(numbers(*other), numbers(seed, step))

    @few
    @given(st.integers(0, 10**6), st.integers(0, 10**6))
    def test_seed_and_step_are_not_interchangeable(self, seed, step):
        one, other = (step_generator(*pair).initial_seed() for pair in ((seed, step), (step, seed)))
        assert (one == other) == (seed == step)

    def test_generators_stay_what_shipped_weights_were_trained_with(self):
        seeds = [step_generator(*pair).initial_seed() for pair in ((0, 0), (5, 9), (1, 12000))]
        assert seeds == [321982955, 2477887957, 4228632032]

    def test_a_cpu_generator_heeds_32_bits(self):
        """Why the upper half of a seed is mixed in by hand."""
        one, other = (torch.randn(4, generator=seeded(number)) for number in (7, 7 + 2**32))
        assert torch.equal(one, other)

    def test_generators_of_many_seeds_and_steps_do_not_collide(self):
        first = {float(torch.rand((), generator=step_generator(a, b), dtype=torch.float64))
                 for a, b in itertools.product(range(40), range(40))}  # fmt: skip
        assert len(first) == 1600

    def test_rows_are_drawn_together_and_evenly(self):
        data = {"x0": torch.arange(10.0)[:, None], "y": torch.arange(10)}
        batch = draw_rows(data, 20_000)(seeded(0))
        assert torch.equal(batch["x0"][:, 0].long(), batch["y"])
        counts = batch["y"].bincount(minlength=10).double()
        assert float(((counts - 2000) ** 2 / 2000).sum()) < 28  # χ² with 9 degrees of freedom, p > 0.001
        with pytest.raises(ValueError, match="data: got"):
            draw_rows({"x0": torch.zeros(3), "y": torch.zeros(4)}, 2)

    @pytest.mark.parametrize("p", [0.0, 0.15, 1.0])
    def test_conditions_are_dropped_whole_and_at_the_rate(self, p):
        n = 20_000
        cond = {"y": torch.ones(n, dtype=torch.int64), "text": torch.ones(n, 3, 2)}
        dropped = drop_condition(cond, {"y": torch.tensor(0), "text": torch.zeros(3, 2)}, p, seeded(0))
        share = float((dropped["y"] == 0).float().mean())
        assert abs(share - p) <= 4 * (p * (1 - p) / n) ** 0.5
        assert torch.equal(dropped["text"].mean((1, 2)), dropped["y"].float())  # both keys of a picture, or none
        assert bool((cond["y"] == 1).all())  # the data are not written to

    def test_diffuse_draws_times_and_noise(self):
        batch = diffuse(ring().draw(5000), times.logit_normal(), drop=0.5, null=NULL)(seeded(0))
        assert {k: tuple(v.shape) for k, v in batch.items()} == {
            "x0": (5000, 2), "t": (5000,), "eps": (5000, 2), "y": (5000,),
        }  # fmt: skip
        assert abs(float(batch["eps"].mean())) < 4 / 100
        assert abs(float(batch["eps"].var()) - 1) < 4 * 0.0142
        assert abs(float((batch["y"] == 2).float().mean()) - 0.5) < 0.03

    @pytest.mark.parametrize(
        ("call", "argument"),
        [
            (lambda: drop_condition({"y": torch.ones(2)}, {"y": torch.tensor(0)}, 1.5, seeded(0)), "p"),
            (lambda: drop_condition({"y": torch.ones(2)}, {"label": torch.tensor(0)}, 0.5, seeded(0)), "null"),
            (lambda: drop_condition({"y": 1}, {"y": torch.tensor(0)}, 0.5, seeded(0)), "cond"),
            (lambda: drop_condition({"y": torch.ones(2)}, {"y": 0}, 0.5, seeded(0)), "null"),
            (lambda: diffuse(draw, drop=0.1), "null"),
            (lambda: diffuse(draw, drop=0.1, null={"y": 2}), "null"),
            (lambda: diffuse(draw, drop=1.5, null=NULL), "drop"),
            (lambda: draw_rows({"x0": torch.zeros(3)}, 0), "batch_size"),
            (lambda: next(run(calm(), groups=lambda m: [{"params": list(m.parameters()), "lr": "fast"}])), "lr"),
            (lambda: next(run(calm(), lr_at=lambda *_: math.nan)), "lr_at"),
            (lambda: next(run(calm(), lr_at=lambda *_: None)), "lr_at"),
            (lambda: EMA(nn.Linear(1, 1), 1.0), "decay"),
            (lambda: fit(nn.Linear(1, 1), draw, 3), "model"),
            (lambda: fit(calm(), draw, 0), "steps"),
            (lambda: fit(calm(), draw, 2.5), "steps"),
            (lambda: fit(calm(), draw, True), "steps"),
            (lambda: fit(calm(), draw, 3, clip=0.0), "clip"),
            (lambda: fit(calm(), draw, 3, clip=math.nan), "clip"),
            (lambda: fit(calm(), draw, 3, every=0), "every"),
            (lambda: fit(calm(), draw, 3, lr="fast"), "lr"),
            (lambda: fit(calm(), draw, 3, lr=math.inf), "lr"),
            (lambda: fit(calm(), draw, 3, ema_decay=1.0), "ema_decay"),
            (lambda: fit(calm(), draw, 3, seed=0.5), "seed"),
            (lambda: fit(calm(), None, 3), "draw"),
            (lambda: fit(calm(), draw, 3, optimizer="AdamW"), "optimizer"),
            (lambda: next(fit(calm(), draw, 3, optimizer=lambda p, lr: None)), "optimizer"),
            (lambda: chunked(lambda n: ring().draw(n), 4)(seeded(0)), "generator"),
            (lambda: chunked(lambda n: ring().draw(7), 4)(step_generator(0, 0)), "rows"),
            (lambda: chunked(lambda n: ring().draw(n), 0), "batch_size"),
        ],
    )
    def test_bad_arguments_are_named(self, call, argument):
        with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
            call()

    def test_a_loss_that_is_not_one_per_picture_is_named(self):
        class Mean(nn.Linear):
            def loss(self, x0, **others):
                return self(x0).mean()

        with pytest.raises(ValueError, match=r"model\.loss: got .* expected one value per picture"):
            next(run(Mean(2, 2)))


class TestSteps:
    def test_it_comes_nearer_to_the_exact_denoiser(self):
        """300 small steps already take off more than half of the error at t = 0.6; chapter 02 goes to the end."""
        world, t = ring(), torch.tensor(0.6, dtype=torch.float64)
        x0, y = world.sample(512, seeded(0))
        x_t = Linear().add_noise(x0, torch.randn(512, 2, generator=seeded(1), dtype=torch.float64), t)
        exact = world.denoise(x_t, t, Linear(), y).float()
        error = lambda model: float((model(x_t.float(), t, y=y) - exact).detach().square().mean())
        *_, last = fit(calm(), diffuse(world.draw(64)), 300, lr=1e-2, bar=False)
        assert error(last.ema) < 0.5 * error(calm())

    def test_one_step_is_the_hand_written_one(self):
        """Clip to norm 1, then AdamW, on exactly the batch of (seed, step)."""
        model, reference = calm(), calm()
        (progress,) = run(model, steps=1, clip=0.05)
        optimizer = torch.optim.AdamW(reference.parameters(), lr=decayed(0, 1, 1e-2), fused=True)
        loss = reference.loss(**draw(step_generator(5, 0))).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        optimizer.step()
        assert norm > 0.05  # the clip did something
        assert progress.loss == float(loss.detach())
        for a, b in zip(model.parameters(), reference.parameters()):
            assert torch.equal(a, b)

    def test_clipping_bounds_the_step_of_plain_descent(self):
        for clip in (0.01, 1e9):
            last = whole(calm, steps=1, clip=clip, optimizer=torch.optim.SGD, lr_at=lambda *_: 1.0)
            pairs = zip(last.model.parameters(), calm().parameters())
            moved = torch.cat([(a - b).detach().flatten() for a, b in pairs]).norm()
            assert (float(moved) <= 0.01 + 1e-6) == (clip == 0.01)

    def test_progress_says_what_happened(self):
        model = calm()
        steps = list(run(model))
        assert [p.step for p in steps] == list(range(1, STEPS + 1))
        assert [p.lr for p in steps] == [decayed(k, STEPS, 1e-2) for k in range(STEPS)]
        assert all(p.model is model and p.ema is steps[0].ema for p in steps)
        assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(steps))

    def test_a_seed_fixes_the_run_whatever_the_global_generator(self):
        def losses(seed, noise):
            with torch.random.fork_rng():
                torch.manual_seed(noise)
                return [p.loss for p in run(storm(), seed=seed)]

        assert losses(5, 0) == losses(5, 1)
        assert losses(5, 0) != losses(6, 0)

    def test_numbers_of_numpy_and_tensors_are_as_good_as_pythons(self):
        numpy = {"lr": np.float32(1e-2), "ema_decay": np.float64(0.99), "clip": torch.tensor(1.0), "seed": np.int64(3)}
        plain = {"lr": float(np.float32(1e-2)), "ema_decay": 0.99, "clip": 1.0, "seed": 3}
        one, two = (whole(storm, **options) for options in ({**numpy, "steps": np.int64(6)}, {**plain, "steps": 6}))
        assert one.step == 6
        for a, b in zip(whole_tensors(one.model, one.ema), whole_tensors(two.model, two.ema)):
            assert torch.equal(a, b)

    def test_numbers_of_numpy_can_be_resumed_with_pythons(self, tmp_path):
        stop_by_closing(tmp_path, calm, 4)
        whole(calm, tmp_path, seed=np.int64(5), lr=np.float64(1e-2), clip=torch.tensor(1), steps=torch.tensor(STEPS))
        assert_same_end(calm, tmp_path)

    def test_rates_of_any_kind_train_the_same_and_are_kept(self, tmp_path):
        """A rate of NumPy in a group, or out of `lr_at`: it failed at the first checkpoint, after `every` steps."""
        ends = []
        for k, n in enumerate((float, np.float32, torch.tensor)):
            groups = lambda m, n=n: [{"params": list(m.parameters()), "lr": n(0.25)}]
            options = {"groups": groups, "lr_at": lambda step, steps, peak, n=n: n(peak / 8)}
            stopped = run(calm(), tmp_path / str(k), **options)
            for _ in range(9):
                next(stopped)
            stopped.close()
            ends.append(whole(calm, tmp_path / str(k), **options))
        for end in ends[1:]:
            assert type(end.lr) is float
            for a, b in zip(whole_tensors(end.model, end.ema), whole_tensors(ends[0].model, ends[0].ema)):
                assert torch.equal(a, b)

    @pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
    def test_training_without_gradients_is_named(self, off):
        """It blamed the loss: "element 0 of tensors does not require grad"."""
        steps = run(calm())
        with (
            off(),
            pytest.raises(ValueError, match=r"^gradients: got none, expected training outside of"),
        ):
            next(steps)

    def test_the_global_generator_is_left_alone(self):
        before = torch.get_rng_state()
        whole(storm)
        assert torch.equal(torch.get_rng_state(), before)


def stop_by_closing(folder, build, at):
    progress = run(build(), folder)
    for _ in range(at):
        next(progress)
    progress.close()


def stop_by_break(folder, build, at):
    for p in run(build(), folder):
        if p.step == at:
            break


def stop_by_error_outside(folder, build, at):
    def loop():
        for p in run(build(), folder):
            if p.step == at:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()


def stop_by_ctrl_c_in_a_step(folder, build, at):
    """SIGINT while the batch is drawn, inside the loss, or after the weights have moved: the step is finished first."""
    calls = 0

    def interrupted_draw(generator):
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGINT)
        return draw(generator)

    model = build()
    with pytest.raises(KeyboardInterrupt):
        for _ in fit(model, interrupted_draw, STEPS, lr=1e-2, seed=5, every=7, bar=False, path=folder):
            pass
    assert load_facts(folder / "checkpoint.safetensors")["step"] == at


def stop_by_ctrl_c_outside(folder, build, at):
    def loop():
        for p in run(build(), folder):
            if p.step == at:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop()


def die_writing(folder: str, build: str, save: int, threads: int) -> None:
    """Train in `folder`; kill this process when half of its checkpoint number `save` is written."""
    torch.set_num_threads(threads)
    saves, real = itertools.count(1), checkpoints.save_file

    def torn(flat, path, metadata):
        real(flat, path, metadata=metadata)
        if next(saves) == save:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_file = torn
    whole(globals()[build], Path(folder))


def stop_in_the_middle_of_writing(folder, build, at):
    """The process dies with half a checkpoint written: nothing after that line runs, not even `finally`.

    A new process, not a fork: the threads of autograd and OpenMP do not survive a fork, and their locks stay shut.
    """
    call = f"die_writing({str(folder)!r}, {build.__name__!r}, {at % 3 + 1}, {torch.get_num_threads()})"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_training as m; m.{call}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


STOPS = [
    stop_by_closing, stop_by_break, stop_by_error_outside, stop_by_ctrl_c_in_a_step, stop_by_ctrl_c_outside,
    stop_in_the_middle_of_writing,
]  # fmt: skip


class TestResume:
    @builds
    @pytest.mark.parametrize("stop", STOPS)
    def test_a_stopped_run_ends_bit_for_bit_the_same(self, stop, build, tmp_path):
        at = random.randrange(1, STEPS)
        print(f"stopped at step {at}")  # pytest shows it if the test fails
        stop(tmp_path, build, at)
        whole(build, tmp_path)
        assert_same_end(build, tmp_path)

    def test_stopped_again_and_again(self, tmp_path):
        chance = random.Random(0)
        for _ in range(8):
            stop_by_closing(tmp_path, storm, at=chance.randrange(1, 4))
        whole(storm, tmp_path)
        assert_same_end(storm, tmp_path)

    def test_stopping_loses_no_step(self, tmp_path):
        for at in (3, 11):
            stop_by_closing(tmp_path, calm, 3 if at == 3 else 8)
            assert load_facts(tmp_path / "checkpoint.safetensors")["step"] == at

    def test_without_the_seeded_layers_dropout_would_differ(self, tmp_path, monkeypatch):
        """The control of `Stormy`: with dropout left to the global generator, the resumed run ends elsewhere."""
        monkeypatch.setattr("minidiff.loop.seeded_layers", lambda seed, device: contextlib.nullcontext())
        with torch.random.fork_rng():
            torch.manual_seed(0)
            stop_by_closing(tmp_path, storm, 5)
            torch.manual_seed(1)
            whole(storm, tmp_path)
        with pytest.raises(AssertionError):
            assert_same_end(storm, tmp_path)

    def test_an_old_generator_does_not_roll_back_a_finished_run(self, tmp_path):
        """In a notebook, Ctrl-C between two steps leaves the generator alive in the traceback; the cell runs again."""
        stale = run(calm(), tmp_path)
        for _ in range(10):
            next(stale)
        whole(calm, tmp_path)
        stale.close()
        assert_same_end(calm, tmp_path)

    def test_a_finished_run_yields_its_end_once(self, tmp_path):
        whole(storm, tmp_path)
        files = {path: path.read_bytes() for path in tmp_path.iterdir()}
        (last,) = run(storm(), tmp_path)
        assert last.step == STEPS
        assert math.isnan(last.loss)
        assert files == {path: path.read_bytes() for path in tmp_path.iterdir()}
        for a, b in zip(last.ema.state_dict().values(), uninterrupted_end(storm)[1].values()):
            assert torch.equal(a, b)

    @pytest.mark.parametrize(
        "change",
        [{"seed": 6}, {"lr": 2e-2}, {"steps": 25}, {"ema_decay": 0.9}, {"clip": 2.0}, {"optimizer": torch.optim.Adam}],
    )
    def test_another_recipe_in_the_same_folder_is_refused(self, tmp_path, change):
        stop_by_closing(tmp_path, calm, 4)
        before = (tmp_path / "checkpoint.safetensors").read_bytes()
        with pytest.raises(ValueError, match=r"path: got a run with .* expected one with "):
            next(run(calm(), tmp_path, **change))
        assert (tmp_path / "checkpoint.safetensors").read_bytes() == before

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_a_cut_off_checkpoint_is_a_clear_error(self, tmp_path, share):
        stop_by_closing(tmp_path, calm, 4)
        path = tmp_path / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ValueError, match="cut off or not safetensors"):
            next(run(calm(), tmp_path))

    def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(self, tmp_path):
        def poisoned(generator):
            batch = draw(generator)
            if generator.initial_seed() == step_generator(5, 9).initial_seed():
                batch["t"] = batch["t"].clamp(max=0.0)
                batch["x0"] = batch["x0"] * 1e30
            return batch

        with pytest.raises(ValueError, match=r"loss: got (inf|nan) at step 9, expected a finite loss"):
            for _ in fit(calm(), poisoned, STEPS, lr=1e-2, seed=5, every=7, bar=False, path=tmp_path):
                pass
        assert load_facts(tmp_path / "checkpoint.safetensors")["step"] == 7
        whole(calm, tmp_path)  # with the data mended, it goes on
        assert_same_end(calm, tmp_path)

    @pytest.mark.parametrize(
        "optimizer",
        [
            lambda p, lr: Sparing(p, {"lr": lr}, where="group"),
            lambda p, lr: Sparing(p, {"lr": lr}, where="state"),
            lambda p, lr: torch.optim.AdamW(p, lr=lr, fused=True, amsgrad=True),
            torch.optim.NAdam,
            torch.optim.Rprop,
        ],
    )
    @pytest.mark.parametrize("at", [5, 13])
    def test_every_optimizer_goes_on_where_it_was(self, tmp_path, optimizer, at):
        model, resumed = storm(), storm()
        list(run(model, optimizer=optimizer))
        stopped = run(storm(), tmp_path, optimizer=optimizer)
        for _ in range(at):
            next(stopped)
        stopped.close()
        list(run(resumed, tmp_path, optimizer=optimizer))
        assert all(torch.equal(a, b) for a, b in zip(whole_tensors(model), whole_tensors(resumed)))

    def test_with_pytorchs_loading_alone_it_would_not(self, tmp_path, monkeypatch):
        """The control of `Sparing`: strings come back as something else, and fp64 sums as fp32."""
        monkeypatch.setattr(checkpoints, "load_optimizer", lambda optimizer, saved: optimizer.load_state_dict(saved))
        with pytest.raises(AssertionError, match="odd!"):
            self.test_every_optimizer_goes_on_where_it_was(tmp_path, lambda p, lr: Sparing(p, {"lr": lr}, "state"), 5)

    @pytest.mark.parametrize(
        "optimizer",
        [
            lambda p, lr: torch.optim.AdamW(p, lr=lr, betas=(0.8, 0.999)),
            lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.1),
            lambda p, lr: torch.optim.AdamW([{"params": [q]} for q in p], lr=lr),
            lambda p, lr: torch.optim.AdamW([{"params": list(p), "lr": 2 * lr}], lr=lr),
        ],
    )
    def test_other_settings_of_the_optimizer_are_refused(self, tmp_path, optimizer):
        stop_by_closing(tmp_path, calm, 4)
        with pytest.raises(ValueError, match=r"path: got a run with .*optimizer\.\d+\..* expected one with "):
            next(run(calm(), tmp_path, optimizer=optimizer))

    @pytest.mark.parametrize("where", ["group", "state"])
    def test_state_that_cannot_be_kept_is_refused_at_the_start(self, tmp_path, where):
        odd = lambda p, lr: Sparing(p, {"lr": lr, "odd": object() if where == "group" else None}, where)
        with pytest.raises(ValueError, match=r"optimizer: got optimizer.*odd = object .* expected state of tensors"):
            next(run(calm(), tmp_path, optimizer=odd))
        assert not (tmp_path / "checkpoint.safetensors").exists()

    def test_what_is_there_at_the_start_and_cannot_be_kept_is_refused_before_the_first_step(self, tmp_path):
        """State made by the optimizer's __init__, a tensor that safetensors does not know, extra state of a layer."""

        def prepared(p, lr, odd):
            optimizer = torch.optim.SGD(p, lr=lr)
            optimizer.state[optimizer.param_groups[0]["params"][0]]["odd"] = odd
            return optimizer

        class Wrapped(torch.optim.SGD):
            def state_dict(self):
                return {"inner": super().state_dict()}

        class Remembering(type(calm())):
            def get_extra_state(self):
                return {"seen": 3}

            def set_extra_state(self, state):
                pass

        model = calm()
        model.__class__ = Remembering
        before = [p.detach().clone() for p in calm().parameters()]
        for options, words in (
            ({"optimizer": lambda p, lr: prepared(p, lr, object())}, "odd = object"),
            ({"optimizer": lambda p, lr: prepared(p, lr, torch.zeros(2, dtype=torch.complex128))}, "complex128"),
            ({"optimizer": lambda p, lr: prepared(p, lr, torch.eye(2).to_sparse())}, "sparse"),
            ({"optimizer": Wrapped}, r"optimizer: got a state_dict of \['inner'\]"),
            ({"model": model}, r"path: got model._extra_state = dict"),
        ):
            trained = options.pop("model", calm())
            with pytest.raises(ValueError, match=words):
                next(run(trained, tmp_path, **options))
            assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), before))
        assert list(tmp_path.iterdir()) == []

    def test_without_a_path_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        whole(calm)
        assert list(tmp_path.iterdir()) == []

    def test_a_finished_generator_frees_the_model(self):
        model = calm()
        reference = weakref.ref(model)
        for _ in run(model, steps=2):
            pass
        del model, _
        gc.collect()
        assert reference() is None


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from test_training import run, storm
from pathlib import Path
print("ready", flush=True)
import time
for p in run(storm(), Path({folder!r}), every=2):
    print(p.step, flush=True)
    time.sleep(0.01)
"""


def start(folder: Path) -> subprocess.Popen:
    program = PROGRAM.format(tests=str(Path(__file__).parent), folder=str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # the last bits depend on it
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, encoding="utf-8", env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_real_signals_at_random_moments(tmp_path, kind):
    """A real process, stopped at a random moment again and again until it gets to its end."""
    chance, finished = random.Random(1), False
    for attempt in range(6):
        process = start(tmp_path)
        assert process.stdout is not None
        while process.stdout.readline().strip() not in ("ready", ""):
            pass
        try:
            process.wait(timeout=chance.uniform(0.02, 0.25) if attempt < 4 else 120)
            finished = process.returncode == 0
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
            process.wait(timeout=60)
        process.stdout.close()
        if finished:
            break
    assert finished
    assert attempt >= 2  # it was stopped at least twice
    assert_same_end(storm, tmp_path)
