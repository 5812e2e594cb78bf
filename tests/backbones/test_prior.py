"""unCLIP's prior: who sees whom, padding, what it fits into."""

import pytest
import torch
from torch import Tensor

from minidiff import times
from minidiff.backbones.prior import LAST, Prior
from minidiff.conditioning import Conditioned, Frozen
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import TextTower
from minidiff.encoders.tokenizer import END, PAD, START, WordTokenizer
from minidiff.guidance import bind
from minidiff.nn import masks
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.training import diffuse, draw_rows, fit

CHANNELS, LENGTH, DIM, BATCH = 6, 5, 16, 3


@pytest.fixture
def net() -> Prior:
    """None of its weights at its initial 0."""
    net = Prior(CHANNELS, LENGTH, DIM, depth=2, heads=2)
    generator = seeded(0)
    for parameter in net.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return net.eval().requires_grad_(False)


def inputs(words: int = LENGTH) -> dict[str, Tensor]:
    draw = lambda seed, *shape: randn((BATCH, *shape), seeded(seed))
    t = torch.tensor([0.1, 0.5, 0.9])
    return {"x_t": draw(1, CHANNELS), "t": t, "vector": draw(2, DIM), "context": draw(3, words, DIM)}


def states(net: Prior, given: dict[str, Tensor]) -> Tensor:
    """(B, L + 4, dim) after the last block."""
    found = []
    handle = net.blocks[-1].register_forward_hook(lambda module, args, output: found.append(output))
    net(**given)
    handle.remove()
    return found[0]


PLACES = [*range(LENGTH), "vector", "t", "x_t"]
"""What stands at 0 … L + 2; the query is last."""


def changed(given: dict[str, Tensor], what: int | str) -> dict[str, Tensor]:
    """With something else there, and no constant added, which a norm would take away."""
    given = {name: value.clone() for name, value in given.items()}
    changing = given["context"][:, what] if isinstance(what, int) else given[what]
    changing += 0.05 if what == "t" else torch.linspace(-1, 1, changing.shape[-1])
    return given


@pytest.mark.parametrize("what", PLACES)
def test_what_comes_later_changes_nothing_before_it_and_the_query_sees_everything(net: Prior, what: int | str) -> None:
    given = inputs()
    place = PLACES.index(what)
    delta = (states(net, changed(given, what)) - states(net, given)).abs().amax((0, 2))  # (L + 4,)
    assert torch.equal(delta[:place], torch.zeros(place))
    assert float(delta[place:].min()) > 1e-4
    assert (net(**changed(given, what)) - net(**given)).abs().amax() > 1e-4


def test_without_the_mask_everything_leaks(net: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "causal", lambda n, device: torch.ones(n, n, dtype=torch.bool))
    given = inputs()
    delta = (states(net, changed(given, "x_t")) - states(net, given)).abs().amax((0, 2))
    assert float(delta.min()) > 1e-4


def test_padding_is_not_looked_at_and_may_be_cut_off(net: Prior) -> None:
    given, told = inputs(), torch.tensor([[1, 1, 1, 0, 0]] * BATCH, dtype=torch.bool)
    other = given | {"context": torch.cat([given["context"][:, :3], randn((BATCH, 2, DIM), seeded(9))], 1)}
    assert torch.equal(net(**given, context_mask=told), net(**other, context_mask=told))
    assert (net(**given) - net(**other)).abs().max() > 1e-3
    short = given | {"context": given["context"][:, :3]}
    whole = net(**given, context_mask=told)
    assert (net(**short) - whole).abs().max() <= 1e-6
    net.place[LENGTH:] = net.place[3 : 3 + LAST].clone()  # the last four, counted from the words' end
    assert (net(**short) - whole).abs().max() > 1e-3


def test_a_caption_of_nothing_but_padding_is_no_nan(net: Prior) -> None:
    given, nobody = inputs(), torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    out = net(**given, context_mask=nobody)
    assert torch.isfinite(out).all()
    assert torch.equal(out, net(**changed(given, 2), context_mask=nobody))


def test_it_learns_which_embedding_belongs_to_which_caption() -> None:
    """Through the reader that stands beside it, in a denoiser, with a sampler."""
    tokenizer = WordTokenizer.from_texts(["red", "blue", "green"], length=LENGTH)
    tower = TextTower(len(tokenizer), LENGTH, dim=DIM, depth=1, heads=2, out=8)
    reader = Frozen(tower, LENGTH, context_dim=DIM, vector_dim=DIM)
    model = Denoiser(Conditioned(reader, Prior(CHANNELS, LENGTH, DIM, depth=2, heads=2)), Linear(), X0, velocity_weight)
    tokens = tokenizer.encode(["red", "blue", "green"])
    assert {PAD, START, END} <= set(tokens.flatten().tolist())
    data = {"x0": torch.eye(CHANNELS)[:3] * CHANNELS**0.5, "tokens": tokens}
    *_, last = fit(model, diffuse(draw_rows(data, 32)), 150, lr=1e-2, ema_decay=0.9, bar=False)
    noise = randn((6, CHANNELS), seeded(range(6)))
    denoise = bind(last.ema.eval(), tokens=tokens.repeat(2, 1))
    *_, z = sample(denoise, noise, times.linear(10), ddpm(model.schedule), seeded(range(6)))
    found = (z @ data["x0"].T / CHANNELS).argmax(1)
    assert found.tolist() == [0, 1, 2, 0, 1, 2]
    assert z.shape == (6, CHANNELS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x_t", torch.zeros(BATCH, CHANNELS + 1)),
        ("t", torch.zeros(BATCH, 1)),
        ("vector", torch.zeros(BATCH, DIM + 1)),
        ("context", torch.zeros(BATCH, LENGTH + 1, DIM)),
        ("context", torch.zeros(BATCH, LENGTH, DIM + 1)),
        ("context", torch.zeros(1, LENGTH, DIM)),
        ("context_mask", torch.ones(BATCH, LENGTH)),
    ],
)
def test_bad_arguments_are_named(net: Prior, name: str, value: Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got"):
        net(**(inputs() | {name: value}))


def test_the_last_tokens_are_four() -> None:
    assert Prior(CHANNELS, LENGTH, DIM, heads=2).place.shape == (LENGTH + LAST, DIM) == (9, 16)
