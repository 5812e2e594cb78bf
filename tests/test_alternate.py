"""A model and its adversary in turn: a tiny GAN that learns, its control, and runs that stop anywhere."""

import csv

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minidiff.checkpoints import load_facts
from minidiff.optim import Muon
from minidiff.randomness import initialised
from minidiff.training import alternate, step_generator

STEPS, RATES = 20, {"lr": 0.02, "adversary_lr": 0.02}


class Shift(nn.Module):
    """z ~ N(0, 1) to z + shift; to be told from N(3, 1)."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def loss(self, adversary, x0, z):
        if adversary is None:
            return 0.0 * self.shift * z
        return F.softplus(-adversary(z + self.shift))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.head = nn.Linear(1, 16), nn.Dropout(0.1), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.drop(F.silu(self.first(x[:, None]))))[:, 0]

    def loss(self, model, x0, z):
        assert not model.shift.requires_grad
        return F.softplus(-self(x0)) + F.softplus(self(z + model.shift))


def draw(generator):
    z = torch.randn(2, 64, generator=generator)
    return {"x0": 3 + z[0], "z": z[1]}


def pair() -> tuple[Shift, Critic]:
    return Shift(), initialised(Critic, seed=1)


def run(sides=None, steps=STEPS, **options):
    return alternate(*(sides or pair()), draw, steps, **{"bar": False, "every": 6, **RATES, **options})


def test_the_shift_is_learned_and_only_through_the_adversary():
    *_, last = run(steps=600, ema_decay=0.98, lr_at=lambda step, steps, peak: peak)
    assert abs(float(last.ema.shift) - 3) < 0.2
    *_, control = run(steps=50, start=50)
    assert float(control.model.shift.detach()) == 0.0
    assert control.adversary_loss is None


def test_one_step_is_the_hand_written_one():
    """The model's step against the adversary of before; then the adversary's, against the model of after."""
    model, critic = pair()
    one, two = pair()
    (progress,) = run((one, two), steps=1, clip=0.01)
    a, b = (torch.optim.AdamW(m.parameters(), lr=0.02, fused=True) for m in (model, critic))
    batch = draw(step_generator(0, 0))
    with torch.random.fork_rng():
        torch.manual_seed(step_generator(0, 0).initial_seed())
        model.loss(critic, **batch).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        a.step()
        critic.zero_grad()
        model.requires_grad_(False)
        loss = critic.loss(model, **batch).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 0.01)
        b.step()
    assert progress.adversary_loss == float(loss.detach())
    for x, y in zip([*one.parameters(), *two.parameters()], [*model.parameters(), *critic.parameters()]):
        assert torch.equal(x, y)


def test_the_other_sides_parameters_come_out_as_they_were():
    model, critic = pair()
    critic.head.bias.requires_grad_(False)  # frozen by its owner: it stays frozen
    before = critic.head.bias.clone()
    deque = list(run((model, critic)))
    assert len(deque) == STEPS
    assert torch.equal(critic.head.bias, before)
    assert [p.requires_grad for p in critic.parameters()] == [True, True, True, False]
    assert model.shift.requires_grad
    assert not torch.equal(critic.head.weight, pair()[1].head.weight)


def end(folder=None, at=None, **options):
    """Both state dicts, and the average's, after a run; `at`: stopped there once, then gone on with fresh networks."""
    if at is not None:
        stopped = run(path=folder, **options)
        for _ in range(at):
            next(stopped)
        stopped.close()
        assert load_facts(folder / "checkpoint.safetensors")["step"] == at
    sides = pair()
    *_, last = run(sides, path=folder, **options)
    return [value for module in (*sides, last.ema) for value in module.state_dict().values()]


MUON = {"adversary_optimizer": Muon, "adversary_groups": lambda critic: [
    {"params": [critic.first.weight, critic.head.weight]},
    {"params": [critic.first.bias, critic.head.bias], "muon": False, "lr": 1e-3},
]}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"start": 9}, MUON], ids=["plain", "late adversary", "Muon"])
@pytest.mark.parametrize("at", [3, 9, 14])
def test_a_stopped_run_ends_bit_for_bit_the_same(tmp_path, options, at):
    wanted = end(**options)
    got = end(tmp_path, at, **options)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted))
    other = end(seed=1, **options)  # the control
    assert not all(torch.equal(a, b) for a, b in zip(other, wanted))


def test_the_log_has_both_losses(tmp_path):
    steps = list(run(path=tmp_path, start=3, steps=6))
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [p.loss for p in steps]
    assert [row["adversary_loss"] and float(row["adversary_loss"]) for row in rows[3:]] == [
        p.adversary_loss for p in steps[3:]
    ]
    assert [p.adversary_loss for p in steps[:3]] == [None] * 3


@pytest.mark.parametrize("change", [{"adversary_lr": 0.01}, {"start": 2}, {"adversary_optimizer": torch.optim.SGD}])
def test_another_recipe_is_refused(tmp_path, change):
    next(run(path=tmp_path)).step  # noqa: B018
    with pytest.raises(ValueError, match=r"path: got a run with .* expected one with "):
        next(run(path=tmp_path, **change))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: run((nn.Linear(1, 1), pair()[1])), "model"),
        (lambda: run((pair()[0], nn.Linear(1, 1))), "adversary"),
        (lambda: run((pair()[0],) * 2), "adversary"),
        (lambda: run(adversary_lr=-1.0), "adversary_lr"),
        (lambda: run(start=-1), "start"),
        (lambda: run(adversary_groups=None), "adversary_groups"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        call()
