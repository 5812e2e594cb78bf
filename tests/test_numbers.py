"""A number is a number, whoever made it: Python's, NumPy's and 0-d tensors give the same to the bit, everywhere.

What is no number (a truth value, a text, a list, a complex one) is a `ValueError` that names the argument.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, nn

from minidiff import editing, operators, times
from minidiff.backbones.dit import DiT
from minidiff.backbones.mlp import MLP
from minidiff.backbones.unet import UNet
from minidiff.conditioning import Labels
from minidiff.data.mixtures import isotropic, ring
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind, cfg, classifier, dps, extrapolate, likelihood, mix_conditions, within
from minidiff.guides.captioner import Captioner
from minidiff.loop import EMA, step_generator
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import initialised, seeded
from minidiff.samplers import ddim, sample
from minidiff.schedules import DDPM, Karras, Linear
from minidiff.systems.generator import generator
from minidiff.training import chunked, diffuse, draw_rows, drop_condition
from minidiff.validate import integer, not_negative, number, positive

Number = Callable[[float], Any]

KINDS: dict[str, Number] = {  # each makes a number of its kind of one of Python's
    "numpy, 32 bits": lambda v: np.int32(v) if isinstance(v, int) else np.float32(v),
    "numpy, 64 bits": lambda v: np.int64(v) if isinstance(v, int) else np.float64(v),
    "0-d tensor": torch.tensor,
    "0-d array": np.array,
}
NO_NUMBERS = [True, "3", [1.0], (2,), None, 1 + 1j, torch.ones(1), np.ones(2), np.bool_(True), torch.tensor(True)]

WORLD, T = ring(), torch.tensor(0.5, dtype=torch.float64)
X = torch.randn(3, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
A = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
PICTURES = torch.randn(2, 3, 8, 8, generator=Generator().manual_seed(0))
GOOD, BAD = bind(WORLD.denoiser(Linear()), y=0), bind(WORLD.denoiser(Linear()))
COND, NULL = {"y": torch.tensor([0, 1, 1])}, {"y": torch.tensor(-1)}
ROWS = {"x0": torch.arange(12.0).reshape(6, 2), "y": torch.arange(6)}


class Half(nn.Module):
    """A network without a condition's opinion: half of x_t."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, x_t, t, *, y):
        return self.share * x_t


def captions(n: Number) -> torch.Tensor:
    model = initialised(lambda: Captioner(Linear(), 9, 4, side=8, dim=8, depth=1, heads=2), 0)
    return model.write(PICTURES, T.float(), n(0.5), seeded(0))


def muon(n: Number) -> list[torch.Tensor]:
    one, two = nn.Parameter(torch.eye(2)), nn.Parameter(torch.ones(3))
    groups = [{"params": [one]}, {"params": [two], "muon": False}]
    optimizer = Muon(groups, n(0.5), n(0.25), n(0.125), (n(0.5), n(0.75)), n(2.0**-20))
    for p in (one, two):
        p.grad = torch.arange(float(p.numel())).reshape(p.shape)
    optimizer.step()
    return [one.detach(), two.detach()]


def average(n: Number) -> torch.Tensor:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    ema = EMA(module, n(0.0625))
    nn.init.constant_(module.weight, 0.0)
    ema.update(module, 9)
    return ema.module.weight.detach()


def generated(n: Number) -> torch.Tensor:
    model = Denoiser(Half(), Linear(), X0)
    read = lambda texts: {"y": torch.zeros(len(texts), dtype=torch.int64)}
    make = generator(model, read, {"y": torch.tensor(1)}, (2,), steps=n(3), batch=n(2))
    return make(["a", "b", "c"], n(1.5), [n(4), n(5), n(6)])


PLACES: dict[str, Callable[[Number], Any]] = {
    "linear": lambda n: times.linear(n(10), n(0.75), n(0.25)),
    "shifted": lambda n: times.shifted(n(10), n(3.0), n(0.75), n(0.25)),
    "karras": lambda n: times.karras(n(10), n(0.75), n(0.25), n(3.0)),
    "linear_quadratic": lambda n: times.linear_quadratic(n(10), n(100), n(0.75)),
    "logit_normal": lambda n: times.logit_normal(n(0.5), n(2.0))(5, seeded(0)),
    "DDPM": lambda n: DDPM(n(100), n(2.0**-10), n(0.125))(T),
    "Karras": lambda n: Karras(n(0.25), n(8.0), n(3.0))(T),
    "ddim": lambda n: list(sample(GOOD, X, times.linear(3), ddim(Linear(), n(0.5)), seeded(0))),
    "extrapolate": lambda n: extrapolate(GOOD, BAD, n(2.5))(X, T),
    "mix_conditions": lambda n: mix_conditions(WORLD.denoiser(Linear()), COND, (NULL, n(2)))(X, T),
    "cfg": lambda n: cfg(WORLD.denoiser(Linear()), COND, NULL, n(2.5))(X, T),
    "classifier": lambda n: classifier(BAD, lambda x, t: -x.square().sum(1), Linear(), n(0.5))(X, T),
    "likelihood": lambda n: likelihood(BAD, lambda x0: -x0.square().sum(1), Linear(), n(0.5))(X, T),
    "dps": lambda n: dps(BAD, operators.matrix(A), torch.ones(1, 1), Linear(), n(0.5))(X, T),
    "within": lambda n: within(GOOD, BAD, n(0.25), n(0.5))(X, T),
    "blur": lambda n: operators.blur(n(0.75), n(5))(PICTURES),
    "downsample": lambda n: operators.downsample(n(2))(PICTURES),
    "strokes": lambda n: operators.strokes(n(2))(PICTURES),
    "observe": lambda n: operators.observe(operators.grey(), PICTURES, n(0.5), seeded(0)),
    "log_likelihood": lambda n: operators.log_likelihood(operators.matrix(A), torch.ones(1, 1), n(0.5))(X),
    "pseudo_inverse": lambda n: operators.pseudo_inverse(operators.matrix(A), (2,), n(0.125))(torch.ones(1, 1)),
    "sdedit": lambda n: editing.sdedit(GOOD, X, n(0.5), ddim(Linear()), Linear(), n(3), seeded(0)),
    "gaussian_sdedit": lambda n: editing.gaussian_sdedit(n(0.5), n(2.0), n(0.25), n(0.5), Linear()),
    "seeded": lambda n: torch.randn(3, generator=seeded(n(7))),
    "seeded, a list": lambda n: [torch.randn(3, generator=g) for g in seeded([n(7), n(-1)])],
    "initialised": lambda n: initialised(lambda: nn.Linear(2, 2), n(3)).state_dict(),
    "step_generator": lambda n: torch.randn(3, generator=step_generator(n(2**30), n(2**20))),
    "draw_rows": lambda n: draw_rows(ROWS, n(4))(seeded(0)),
    "drop_condition": lambda n: drop_condition(COND, NULL, n(0.5), seeded(0)),
    "diffuse": lambda n: diffuse(draw_rows(ROWS, 4), drop=n(0.5), null=NULL)(seeded(0)),
    "chunked": lambda n: chunked(lambda rows: draw_rows(ROWS, rows), n(2), n(3))(step_generator(0, 4)),
    "EMA": average,
    "Muon": muon,
    "muon_groups": lambda n: [float(g["lr"]) for g in muon_groups(DiT(dim=8, depth=1, heads=2), n(0.5), n(0.25))],
    "velocity_weight": lambda n: velocity_weight(Linear(), T, n(0.75)),
    "Captioner.write": captions,
    "Labels": lambda n: Labels(n(3), n(8)).weight.shape,
    "Mixture.of_class": lambda n: WORLD.of_class(n(1)).means,
    "Mixture.sample": lambda n: WORLD.sample(n(3), seeded(0)),
    "Mixture.denoise": lambda n: WORLD.denoise(X, T, Linear(), n(1)),
    "Mixture.log_prob_label": lambda n: WORLD.log_prob_label(X, T, Linear(), n(1)),
    "Mixture.observed": lambda n: WORLD.observed(A, torch.ones(1, dtype=torch.float64), n(0.5)).means,
    "isotropic": lambda n: isotropic(WORLD.means, n(0.5)).covariances,
    "ring": lambda n: ring(n(6), n(1.5), n(0.25), n(3)).means,
    "generator": generated,
}  # fmt: skip


def flat(value: Any) -> list[Any]:
    """Every tensor and number in it, in order."""
    if isinstance(value, Mapping):
        return [part for key in sorted(value) for part in flat(value[key])]
    return [part for item in value for part in flat(item)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_kind_of_number_gives_the_same(place, kind):
    plain, other = flat(place(lambda v: v)), flat(place(kind))
    assert len(plain) == len(other) > 0
    for a, b in zip(plain, other):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


def test_another_number_gives_something_else():
    """The control: the places above do use their numbers."""
    more = lambda v: v + 1 if isinstance(v, int) else v / 2
    for name in ("linear", "DDPM", "extrapolate", "dps", "seeded", "EMA", "Muon", "observe", "diffuse", "generator"):
        plain, other = flat(PLACES[name](lambda v: v)), flat(PLACES[name](more))
        assert not all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(plain, other)), name


@pytest.mark.parametrize("kind", ["numpy, 32 bits", "numpy, 64 bits"])
def test_networks_take_sizes_of_numpy(kind):
    n = KINDS[kind]
    nets = (
        DiT(n(3), (n(8), n(8)), n(4), n(8), n(1), n(2), concat=n(0)),
        DiT(n(3), (n(8), n(8)), (n(2), n(4)), n(8), n(1), n(2), rotary=(n(2), n(2))),
        UNet(n(3), (n(4), n(8)), n(1), n(2), embedding=n(8)),
    )
    for net in nets:
        assert net(PICTURES, T.float().expand(2)).shape == PICTURES.shape
    assert MLP(n(2), n(8), n(1))(X.float(), T.float().expand(3)).shape == (3, 2)


WRONG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "steps": ("steps", lambda v: times.linear(v)),
    "shift": ("shift", lambda v: times.shifted(4, v)),
    "n": ("n", lambda v: DDPM(v)),
    "sigma_max": ("sigma_min, sigma_max", lambda v: Karras(0.1, v)),
    "eta": ("eta", lambda v: ddim(Linear(), v)),
    "noise": ("noise", lambda v: operators.observe(operators.grey(), PICTURES, v, None)),
    "rtol": ("rtol", lambda v: operators.pseudo_inverse(operators.matrix(A), (2,), v)),
    "t0": ("t0", lambda v: editing.sdedit(GOOD, X, v, ddim(Linear()), Linear(), 3, None)),
    "low": ("low, high", lambda v: within(GOOD, BAD, v, 0.5)),
    "p": ("p", lambda v: drop_condition(COND, NULL, v, seeded(0))),
    "drop": ("drop", lambda v: diffuse(draw_rows(ROWS, 4), drop=v, null=NULL)),
    "decay": ("decay", lambda v: EMA(nn.Linear(1, 1), v)),
    "momentum": ("momentum", lambda v: Muon([nn.Parameter(torch.eye(2))], momentum=v)),
    "n_classes": ("n_classes", lambda v: Labels(v, 8)),
    "label": ("y", lambda v: WORLD.of_class(v)),
    "zeta": ("zeta", lambda v: dps(BAD, operators.matrix(A), A, Linear(), v)),
    "seed": ("seed", lambda v: initialised(lambda: nn.Linear(1, 1), v)),
}


@pytest.mark.parametrize(("argument", "call"), WRONG.values(), ids=WRONG)
def test_what_is_no_number_is_named(argument, call):
    several = [torch.ones(1)] if argument == "zeta" else []  # strengths may be one per picture
    for value in NO_NUMBERS:
        if not any(value is one for one in several) and not (argument == "zeta" and isinstance(value, torch.Tensor)):
            with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
                call(value)


@pytest.mark.parametrize("seeds", ["12", [1.5], 2.5, [True], None, 2**64, -(2**63) - 1, ["1"], torch.tensor([0.5])])
def test_seeds_that_are_no_integers_are_named(seeds):
    """`int()` would read "12" as two seeds and 1.5 as 1, and two different runs would be one."""
    with pytest.raises(ValueError, match=r"^seeds: got .+, expected an integer"):
        seeded(seeds)


def test_the_widest_seeds_are_taken():
    for seed in (2**64 - 1, -(2**63), np.uint64(2**64 - 1)):
        assert isinstance(seeded(seed), Generator)


def test_the_checks_themselves():
    assert type(number("x", np.float32(0.5), "any", lambda v: True)) is float
    assert type(integer("x", torch.tensor(3))) is int
    assert positive("x", np.int64(2)) == not_negative("x", 2) == 2.0
    assert not_negative("x", 0) == 0.0
    for call in (lambda: positive("x", 0), lambda: positive("x", math.inf), lambda: not_negative("x", -1e-9)):
        with pytest.raises(ValueError, match=r"^x: got .+, expected a "):
            call()
    with pytest.raises(ValueError, match=r"^x: got int 1000.*, expected a positive number"):
        positive("x", 10**400)
