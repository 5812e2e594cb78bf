"""Muon against its closed form, one matrix at a time, and PyTorch's own; AdamW to the bit; `fit` with groups."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minidiff.backbones.dit import DiT
from minidiff.denoiser import Denoiser
from minidiff.optim import POLAR, Muon, muon_groups, nearly_orthogonal
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, seeded
from minidiff.schedules import Linear
from minidiff.training import decayed, diffuse, draw_rows, fit, step_generator

SHAPES = [(6, 6), (6, 24), (24, 6), (6, 6), (5, 9), (24, 6), (1, 4)]


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def parameters(shapes=SHAPES, dtype=torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(randn(*shape, seed=k, dtype=dtype)) for k, shape in enumerate(shapes)]


def give_gradients(params, step: int) -> None:
    for k, p in enumerate(params):
        p.grad = randn(*p.shape, seed=1000 * (step + 1) + k, dtype=p.dtype)


def polynomials(s: torch.Tensor) -> torch.Tensor:
    """What the three polynomials make of singular values, in float64."""
    for a, b, c in POLAR:
        s = a * s + b * s**3 + c * s**5
    return s


def orthogonal(n: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(randn(n, n, seed=seed, dtype=torch.float64))[0]


class TestNearlyOrthogonal:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**20), st.floats(1e-9, 1e9))
    def test_it_keeps_the_singular_vectors_and_maps_the_values(self, rows, more, seed, scale):
        u, v = orthogonal(rows, seed), orthogonal(rows + more, seed + 1)[:rows]
        s = torch.rand(rows, generator=seeded(seed), dtype=torch.float64) + 0.01
        want = u @ torch.diag(polynomials(s / (1.01 * s.norm()))) @ v
        got = nearly_orthogonal((scale * u @ torch.diag(s) @ v)[None].float())[0]
        assert float((got - want).abs().max()) < 2e-4

    def test_values_over_three_decades_end_near_one(self):
        s = torch.logspace(-3, 0, 10_000, dtype=torch.float64) / 1.01
        assert float(polynomials(s).min()) > 0.13
        assert float(polynomials(s).max()) < 1.87
        assert float(polynomials(s / 1e3).min()) < 0.01  # the control: what is far smaller stays small

    def test_it_is_near_the_orthogonal_factor(self):
        x = randn(8, 32, 96)
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        cosine = lambda y: float(nn.functional.cosine_similarity(y.flatten(1), (u @ v).flatten(1)).min())
        assert cosine(nearly_orthogonal(x)) > 0.89
        skewed = x * torch.logspace(0, -2, 32)[:, None]
        u, _, v = torch.linalg.svd(skewed, full_matrices=False)
        assert cosine(nearly_orthogonal(skewed)) > 0.8 > 0.65 > cosine(skewed)

    def test_nothing_becomes_nothing(self):
        assert torch.equal(nearly_orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def by_hand(p, grad, momentum, lr, beta=0.9, decay=0.01):
    """One Muon step of one matrix, in the order of Keller Jordan's: momentum, Nesterov, orthogonal, decay, step."""
    momentum = beta * momentum + (1 - beta) * grad
    ahead = beta * momentum + (1 - beta) * grad
    x = ahead / (1.01 * ahead.norm())
    for a, b, c in POLAR:
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return p * (1 - lr * decay) - lr * 0.2 * max(p.shape) ** 0.5 * x, momentum


class TestMuon:
    def test_batched_steps_are_those_of_one_matrix_at_a_time(self):
        params = parameters()
        optimizer = Muon(params, lr=0.02)
        values, momenta = [p.detach().double() for p in params], [torch.zeros(p.shape).double() for p in params]
        for step in range(5):
            give_gradients(params, step)
            optimizer.step()
            for k, p in enumerate(params):
                values[k], momenta[k] = by_hand(values[k], p.grad.double(), momenta[k], 0.02)
        assert max(float((p.detach() - v).abs().max()) for p, v in zip(params, values)) < 1e-5
        other, _ = by_hand(values[0], params[0].grad.double(), momenta[0], 0.02, beta=0.8)  # the control
        assert float((params[0].detach() - other).abs().max()) > 1e-3

    def test_it_goes_the_way_of_pytorchs_own(self):
        """PyTorch's differs in its polynomials (five of another kind, in bf16): the same directions, other lengths."""
        ours, theirs = parameters([(32, 96), (96, 32), (48, 48)]), parameters([(32, 96), (96, 32), (48, 48)])
        start = [p.detach().clone() for p in ours]
        optimizers = [
            Muon(ours, lr=0.01, weight_decay=0.0),
            torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        ]
        give_gradients(ours, 0)
        give_gradients(theirs, 0)
        for optimizer in optimizers:
            optimizer.step()
        for a, b, p in zip(ours, theirs, start):
            one, two = (a - p).detach().flatten(), (b - p).detach().flatten()
            assert float(nn.functional.cosine_similarity(one, two, dim=0)) > 0.8
            assert 0.6 < float(one.norm() / two.norm()) < 1.7

    def test_the_other_groups_are_pytorchs_fused_adamw_to_the_bit(self):
        shapes = [(7,), (3, 4), (2, 3, 4)]
        ours, theirs, matrices = parameters(shapes), parameters(shapes), parameters()
        rest = {"params": ours, "muon": False, "lr": 3e-3, "weight_decay": 0.1}
        optimizer = Muon([{"params": matrices}, rest], lr=0.02, betas=(0.8, 0.95))
        reference = torch.optim.AdamW(theirs, lr=3e-3, betas=(0.8, 0.95), weight_decay=0.1, fused=True)
        for step in range(5):
            for params in (ours, theirs, matrices):
                give_gradients(params, step)
            optimizer.step()
            reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
        assert not any(torch.equal(a, b) for a, b in zip(ours, parameters(shapes)))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_averages_of_coarse_gradients_are_kept_in_fp32(self, dtype):
        """Gradients of 1, 2,000 steps, β₂ = .999: in bf16 itself the average of their squares soon stands still."""
        params = [nn.Parameter(torch.ones(3, dtype=dtype)), nn.Parameter(torch.eye(3, dtype=dtype))]
        groups = [{"params": params[1:]}, {"params": params[:1], "muon": False}]
        optimizer = Muon(groups, lr=1e-6, betas=(0.9, 0.999))
        for _ in range(2000):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()
        state = optimizer.state[params[0]]
        assert state["exp_avg_sq"].dtype == optimizer.state[params[1]]["momentum"].dtype == torch.float32
        assert float(state["exp_avg_sq"][0]) == pytest.approx(1 - 0.999**2000, rel=1e-3)
        assert [p.dtype for p in params] == [dtype, dtype]
        still = torch.zeros((), dtype=torch.bfloat16)
        for _ in range(2000):
            still.lerp_(torch.ones((), dtype=torch.bfloat16), 0.001)
        assert float(still) < 0.5  # the control

    def test_coarse_parameters_go_where_fine_ones_go(self):
        coarse = [nn.Parameter(p.detach().bfloat16()) for p in parameters([(8, 12), (12, 8), (7,)])]
        fine = [nn.Parameter(p.detach().float()) for p in coarse]
        for params in (coarse, fine):
            optimizer = Muon([{"params": params[:2]}, {"params": params[2:], "muon": False}], lr=0.05)
            for step in range(4):
                give_gradients(params, step)
                for p in params:
                    p.grad = p.grad.bfloat16().to(p.dtype)
                optimizer.step()
        for a, b in zip(coarse, fine):
            assert float((a.float() - b).detach().abs().max()) < 0.02 * float(b.detach().abs().max())

    def test_parameters_without_a_gradient_stay(self):
        params = parameters()
        optimizer = Muon([{"params": params[:3]}, {"params": params[3:], "muon": False}], lr=0.02)
        give_gradients(params, 0)
        params[1].grad = params[4].grad = None
        optimizer.step()
        still = [k for k, (p, q) in enumerate(zip(params, parameters())) if torch.equal(p, q)]
        assert still == [1, 4]

    def test_state_dict_goes_on_to_the_bit(self):
        def build():
            params = parameters()
            return params, Muon([{"params": params[:4]}, {"params": params[4:], "muon": False}], lr=0.02)

        (one, first), (two, second) = build(), build()
        for step in range(3):
            give_gradients(one, step)
            first.step()
        second.load_state_dict(deepcopy(first.state_dict()))  # PyTorch would share the tensors
        with torch.no_grad():
            for a, b in zip(two, one):
                a.copy_(b)
        for params, optimizer in ((one, first), (two, second)):
            give_gradients(params, 9)
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(one, two))

    def test_schedulers_move_every_group(self):
        params = parameters()
        optimizer = Muon([{"params": params[:4]}, {"params": params[4:], "muon": False, "lr": 1e-3}], lr=0.02)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        give_gradients(params, 0)
        assert optimizer.step(lambda: 7.0) == 7.0
        scheduler.step()
        assert [group["lr"] for group in optimizer.param_groups] == [0.01, 5e-4]

    @pytest.mark.parametrize(
        ("call", "argument"),
        [
            (lambda: Muon([nn.Parameter(torch.zeros(3))]), "params"),
            (lambda: Muon([{"params": [nn.Parameter(torch.zeros(3, 3, 2, 2))]}]), "params"),
            (lambda: Muon(parameters(), lr=-1.0), "lr"),
            (lambda: Muon(parameters(), momentum=1.0), "momentum"),
            (lambda: Muon(parameters(), weight_decay=-0.1), "weight_decay"),
            (lambda: Muon(parameters(), betas=(0.9, 1.0)), "betas"),
            (lambda: muon_groups(nn.Linear(2, 2)), "model"),
        ],
    )
    def test_bad_arguments_are_named(self, call, argument):
        with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
            call()


def transformer() -> Denoiser:
    return initialised(lambda: Denoiser(DiT(1, (8, 8), 4, dim=16, depth=2, heads=2), Linear(), VELOCITY), 1)


def draw(generator):
    pictures = randn(64, 1, 8, 8).clamp(-1, 1)
    return diffuse(draw_rows({"x0": pictures}, 8))(generator)


def run(model, steps=12, **options):
    return fit(model, draw, steps, **{"groups": muon_groups, "optimizer": Muon, "bar": False, "every": 5, **options})


class TestFit:
    def test_each_parameter_is_in_one_group(self):
        model = transformer()
        first, rest = muon_groups(model)
        name = {p: k for k, p in model.named_parameters()}
        assert sorted([name[p] for p in [*first["params"], *rest["params"]]]) == sorted(name.values())
        assert all("blocks." in name[p] and name[p].endswith("weight") for p in first["params"])
        assert {p.ndim for p in first["params"]} == {2}
        assert not any("blocks." in name[p] and p.ndim == 2 for p in rest["params"])

    def test_every_group_has_its_own_peak(self):
        made = []

        def optimizer(groups, lr):
            made.append(torch.optim.SGD(groups, lr=lr))
            return made[-1]

        halves = lambda model: [{"params": model.head.parameters(), "lr": 0.5}, {"params": model.stem.parameters()}]
        model = nn.Module()
        model.head, model.stem = nn.Linear(2, 1), nn.Linear(2, 2)
        model.loss = lambda x0: model.head(model.stem(x0)).square().mean(1)
        rows = draw_rows({"x0": randn(8, 2)}, 4)
        for p in fit(model, rows, 40, lr=0.1, groups=halves, optimizer=optimizer, bar=False):
            assert [g["lr"] for g in made[0].param_groups] == [decayed(p.step - 1, 40, peak) for peak in (0.5, 0.1)]
            assert p.lr == decayed(p.step - 1, 40, 0.5)

    def test_one_step_clips_adamws_gradients_only(self):
        model, reference = transformer(), transformer()
        (_,) = run(model, steps=1, clip=0.01)
        first, rest = muon_groups(reference)
        optimizer = Muon([first, rest])
        reference.loss(**draw(step_generator(0, 0))).mean().backward()
        assert nn.utils.clip_grad_norm_(rest["params"], 0.01) > 0.01  # the clip did something
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = (decayed(0, 1, x) for x in (5e-3, 4e-3))
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters()))

    def test_a_stopped_run_ends_bit_for_bit_the_same(self, tmp_path):
        whole, parts = transformer(), transformer()
        *_, last = run(whole)
        stopped = run(transformer(), path=tmp_path)
        for _ in range(7):
            next(stopped)
        stopped.close()
        *_, end = run(parts, path=tmp_path)
        assert [last.step, end.step] == [12, 12]
        assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))
        assert all(torch.equal(a, b) for a, b in zip(last.ema.parameters(), end.ema.parameters()))
        assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), transformer().parameters()))
