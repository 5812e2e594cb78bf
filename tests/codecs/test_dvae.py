"""The discrete VAE: its noise and its KL against closed forms, its annealing, and that an interrupted run goes on."""

import math
from collections import deque

import pytest
import torch

from minidiff.codecs.dvae import DVAE, gumbel_softmax, kl_uniform
from minidiff.data.prompts import World, place
from minidiff.data.scenes import SHAPES, render
from minidiff.randomness import gumbel, initialised, randn, seeded
from minidiff.training import chunked, draw_rows, fit

LOGITS = randn((3, 5, 2, 2), seeded(0)) * 1.5


def small(**options) -> DVAE:
    given = {"size": 16, "dim": 8, "factor": 4, "width": 16, "depth": (1, 1), "anneal": 10} | options
    return initialised(lambda: DVAE(**given), 0)


def pictures(n: int, side: int = 16) -> torch.Tensor:
    return render(place(World(SHAPES[:3], families=("one",)).prompts(n, 0), 0), side)


# --- the draw


def test_at_a_low_temperature_the_soft_draw_is_the_argmax_of_the_perturbed_logits():
    noise = gumbel(LOGITS.shape, seeded(7))
    hard = torch.nn.functional.one_hot((LOGITS + noise).argmax(1), 5).movedim(-1, 1)
    assert (gumbel_softmax(LOGITS, 1e-3, seeded(7)) - hard).abs().max() < 1e-6
    # Controls: without the noise the argmax is another one somewhere; at a high temperature every code has its share.
    assert not torch.equal((LOGITS + noise).argmax(1), LOGITS.argmax(1))
    assert (gumbel_softmax(LOGITS, 1e4, seeded(7)) - 0.2).abs().max() < 1e-3


def test_draws_are_as_frequent_as_softmax_says():
    n, logits = 40_000, torch.tensor([2.0, 0.0, -1.0, 1.0])
    drawn = gumbel_softmax(logits[None, :, None].expand(1, 4, n), 0.1, seeded(1)).argmax(1).flatten()
    share = torch.bincount(drawn, minlength=4) / n
    wanted = logits.softmax(0)
    assert ((share - wanted).abs() < 4 * (wanted * (1 - wanted) / n).sqrt()).all()
    colder = (2 * logits).softmax(0)  # the control: another law is told apart
    assert not ((share - colder).abs() < 4 * (colder * (1 - colder) / n).sqrt()).all()


def test_gumbel_noise_has_its_mean_and_variance_and_belongs_to_a_picture():
    noise = gumbel((2, 200_000), seeded([3, 4]))
    assert noise.mean() == pytest.approx(0.577216, abs=0.01)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.02)
    assert torch.equal(noise[1:], gumbel((1, 200_000), seeded([4])))
    assert bool(torch.isfinite(noise).all())


def test_gradients_are_those_of_the_closed_form():
    logits = LOGITS.double().requires_grad_()
    y = gumbel_softmax(logits, 0.5, seeded(2))
    slope = randn(y.shape, seeded(3)).to(y)
    (gradient,) = torch.autograd.grad((y * slope).sum(), logits)
    y = y.detach()
    by_hand = y * (slope - (y * slope).sum(1, keepdim=True)) / 0.5
    assert (gradient - by_hand).abs().max() < 1e-12
    assert (gradient - 2 * by_hand).abs().max() > 0.1  # the control: the temperature counts


# --- the KL


def test_kl_to_the_uniform_law():
    q = LOGITS.double().softmax(1)
    by_hand = (q * (q * 5).log()).sum((1, 2, 3))
    assert torch.allclose(kl_uniform(LOGITS.double()), by_hand, atol=1e-12)
    assert kl_uniform(torch.zeros(2, 8, 3, 3)).abs().max() < 1e-6
    sure = torch.zeros(1, 8, 3, 3)
    sure[:, 2] = 1e3
    assert kl_uniform(sure).item() == pytest.approx(9 * math.log(8), rel=1e-6)
    # Two codes of eight, equally likely: ln 8 − ln 2 at each of nine places.
    sure[:, 5] = 1e3
    assert kl_uniform(sure).item() == pytest.approx(9 * math.log(4), rel=1e-6)


# --- the model


def test_codes_and_pictures_have_their_shapes_and_mixtures_of_one_code_are_that_code():
    model, x = small().eval(), pictures(3)
    codes = model.encode(x)
    assert codes.shape == (3, 4, 4)
    assert codes.dtype == torch.int64
    assert model.decode(codes).shape == x.shape
    assert torch.equal(model.reconstruct(x), model.decode(codes))
    one_hot = torch.nn.functional.one_hot(codes, 16).movedim(-1, 1).float()
    assert torch.allclose(model.mix(one_hot), model.decode(codes), atol=1e-5)
    assert not torch.allclose(model.mix(one_hot.roll(1, 1)), model.decode(codes), atol=1e-2)
    assert float(model.decode(codes, clamp=True).detach().abs().max()) <= 1


def test_use_and_perplexity():
    model = small()
    codes = torch.tensor([[[0, 0], [3, 3]]])
    assert model.use(codes) == 2 / 16
    assert float(model.perplexity(codes)) == pytest.approx(2.0)
    everything = torch.arange(16).reshape(1, 4, 4)
    assert model.use(everything) == 1.0
    assert float(model.perplexity(everything)) == pytest.approx(16.0)


def test_temperature_and_weight_are_annealed_by_what_was_seen_in_training():
    model, x = small(temperatures=(2.0, 0.5), kl_weights=(0.0, 0.1)), pictures(2)
    temperatures, weights = [], []
    for _ in range(12):
        temperatures.append(float(model.temperature))
        weights.append(float(model.kl_weight))
        model.loss(x, seeded(0))
    assert temperatures[0] == 2.0
    assert temperatures[5] == pytest.approx(1.25)  # half a cosine: the middle half-way
    assert temperatures[10:] == [0.5, 0.5]
    assert weights[5] == pytest.approx(0.05)
    assert sorted(temperatures, reverse=True) == temperatures
    model.eval().loss(x, seeded(0))
    assert int(model.seen) == 12  # measuring is no training
    assert float(small(temperatures=(1.0, 1.0)).annealed((1.0, 1.0))) == 1.0


def test_loss_is_reconstruction_and_weighed_kl():
    x, generator = pictures(3), lambda: seeded(5)
    models = [small(kl_weights=(w, w)).eval() for w in (0.0, 0.5)]
    plain, weighed = (model.loss(x, generator()) for model in models)
    places = 16
    wanted = 0.5 * kl_uniform(models[0].logits(x)) / places
    assert torch.allclose(weighed - plain, wanted, atol=1e-6)
    assert (wanted > 0.1).all()  # the control: the term is not nothing


def test_an_interrupted_run_goes_on_at_its_temperature(tmp_path):
    data = {"x0": pictures(8)}

    def run(folder, stop: int = 8) -> tuple[DVAE, DVAE]:
        for progress in fit(small(), draw_rows(data, 4), 8, path=folder, every=2, bar=False):
            if progress.step == stop:
                break
        return progress.model, progress.ema

    run(tmp_path / "parts", stop=4)
    parts, whole = run(tmp_path / "parts"), run(tmp_path / "whole")
    for ours, theirs in zip(parts, whole):
        assert int(ours.seen) == 8
        assert float(ours.temperature) < 0.2
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    # The control: another temperature at the start would have led elsewhere.
    *_, last = fit(small(temperatures=(0.5, 1 / 16)), draw_rows(data, 4), 8, bar=False)
    assert not torch.equal(last.model.codebook.codebook, whole[0].codebook.codebook)


def hard_and_soft(temperatures: tuple[float, float]) -> tuple[float, float]:
    """After 150 steps, the mean squared error from codes, and from the mixtures that the decoder was trained on."""
    rows = lambda n: lambda g: {"x0": render(place(World(SHAPES[:3], families=("one",)).prompts(n, g), g), 16)}
    model = small(temperatures=temperatures, kl_weights=(0.0, 0.0), anneal=100, spread=1.0)
    options = {"lr": 5e-3, "ema_decay": 0.9, "bar": False}
    *_, last = deque(fit(model, chunked(rows, 16, chunk=8), 150, **options), maxlen=1)
    x, ema = pictures(64), last.ema
    with torch.no_grad():
        hard, soft = ema.reconstruct(x), ema(x, seeded(0))[0]
    return tuple(float((y - x).square().mean()) for y in (hard, soft))


def test_annealing_closes_the_gap_between_mixtures_and_codes():
    hard, soft = hard_and_soft((1.0, 1 / 16))
    assert hard < 1.2 * soft
    # The control: at a high temperature the decoder learns to read mixtures, and does not know codes.
    control, mixed = hard_and_soft((5.0, 5.0))
    assert control > 1.35 * mixed
    assert control > 1.5 * hard


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: DVAE(temperatures=(1.0, 0.0)), "temperatures"),
        (lambda: DVAE(kl_weights=(-1.0, 0.0)), "kl_weights"),
        (lambda: DVAE(anneal=0), "anneal"),
        (lambda: small().encode(torch.zeros(1, 3, 18, 18)), "x"),
        (lambda: small().decode(torch.full((1, 4, 4), 16)), "codes"),
        (lambda: small().mix(torch.zeros(1, 15, 4, 4)), "shares"),
        (lambda: gumbel_softmax(LOGITS, 0.0), "temperature"),
        (lambda: kl_uniform(torch.zeros(2, 3, dtype=torch.int64)), "logits"),
    ],
)
def test_bad_input_is_named(call, names):
    with pytest.raises(ValueError, match=f"^{names}: got "):
        call()
