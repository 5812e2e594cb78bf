"""The encoder of texts: what is hidden and how often, what padding may not do, and what its loss is by hand."""

import pytest
import torch
from torch import nn

from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Frozen
from minidiff.denoiser import Denoiser
from minidiff.encoders.text_lm import TextLM, corrupt
from minidiff.encoders.tokenizer import N_SPECIALS, PAD, WordTokenizer
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear
from minidiff.training import diffuse, draw_rows, fit

TEXTS = ["a red circle", "a blue square and a red star", "nothing", "a circle , a star and a square"]
TOKENIZER = WordTokenizer.from_texts(TEXTS, length=10)
VOCAB, TOKENS = len(TOKENIZER), TOKENIZER.encode(TEXTS)
WORDS = TOKENS >= N_SPECIALS


def model() -> TextLM:
    return initialised(lambda: TextLM(VOCAB, 10, dim=16, depth=2, heads=2), 0).eval()


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_words_are_chosen_at_the_rate_and_specials_never(rate):
    many = TOKENS.repeat(500, 1)
    inputs, targets, chosen = corrupt(many, VOCAB, seeded(0), rate)
    words = many >= N_SPECIALS
    n = int(words.sum())
    six = lambda p, k: 6 * (k * p * (1 - p)) ** 0.5  # standard deviations of a binomial
    assert not bool(chosen[~words].any())
    assert torch.equal(inputs[~chosen], many[~chosen])
    assert torch.equal(targets, torch.where(chosen, many, -100))
    picked = int(chosen.sum())
    assert abs(picked - rate * n) <= six(rate, n)
    assert abs(picked - (rate + 0.1) * n) > six(rate, n)  # the control
    hidden, kept = int((inputs[chosen] == VOCAB).sum()), int((inputs[chosen] == many[chosen]).sum())
    assert abs(hidden - 0.8 * picked) <= six(0.8, picked)
    same = 0.1 + 0.1 / (VOCAB - N_SPECIALS)  # a random word is the right one now and then
    assert abs(kept - same * picked) <= six(same, picked)
    assert set(inputs[chosen].unique().tolist()) == set(range(N_SPECIALS, VOCAB + 1))


def test_corruption_belongs_to_its_generator_and_row_by_row_to_its_row():
    a, b, c = (corrupt(TOKENS, VOCAB, seeded(seed), 0.5)[0] for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    every = corrupt(TOKENS, VOCAB, seeded(range(4)), 0.5)[0]
    for i in range(4):
        assert torch.equal(corrupt(TOKENS[i : i + 1], VOCAB, seeded([i]), 0.5)[0], every[i : i + 1])
    short = TOKENS[:1, :5]  # the same text with no padding behind it
    assert torch.equal(corrupt(short, VOCAB, seeded([0]), 0.5)[0], every[:1, :5])
    assert not torch.equal(corrupt(TOKENS[1:2], VOCAB, seeded([7]), 0.5)[0], every[1:2])


def test_everything_or_nothing_can_be_hidden():
    inputs, _, chosen = corrupt(TOKENS, VOCAB, seeded(0), 1.0, hidden=1.0, wrong=0.0)
    assert torch.equal(chosen, WORDS)
    assert bool((inputs[WORDS] == VOCAB).all())
    inputs, targets, chosen = corrupt(TOKENS, VOCAB, seeded(0), 0.0)
    assert torch.equal(inputs, TOKENS)
    assert bool((targets == -100).all())
    assert not chosen.any()


def test_both_sides_are_read_and_padding_is_not():
    net = model()
    said = net.encode(TOKENS)
    assert said.context.shape == (4, 10, 16)
    assert torch.equal(said.mask, TOKENS != PAD)
    assert gap(net.encode(TOKENS[:1, :5]).context, said.context[:1, :5]) <= 1e-5
    assert gap(net.encode(TOKENS[:1, :5]).vector, said.vector[:1]) <= 1e-5
    for place in (1, 3):  # a word reaches the one before it and the one behind
        other = TOKENS[:1].clone()
        other[0, place] = TOKENS[1, 2]
        assert gap(net.encode(other).context[0, 2], said.context[0, 2]) > 1e-3
    mean = said.context[0, :5].mean(0)
    assert gap(said.vector[0], mean) <= 1e-5
    assert gap(said.vector[0], said.context[0].mean(0)) > 1e-3  # the mean with padding is another


def test_the_loss_is_the_cross_entropy_at_targets_alone():
    net = model()
    inputs, targets, chosen = corrupt(TOKENS, VOCAB, seeded(2), 0.5)
    losses = net.loss(targets, inputs)
    surprise = -net.logits(net.features(inputs)).log_softmax(-1)
    assert losses.shape == (4,)
    for i in range(4):
        places = chosen[i].nonzero()[:, 0]
        by_hand = surprise[i, places, TOKENS[i, places]].mean() if len(places) else torch.zeros(())
        assert gap(losses[i], by_hand) <= 1e-5
    assert float(losses.detach().max()) > 0.1
    assert torch.equal(net.loss(torch.full_like(TOKENS, -100), inputs), torch.zeros(4))
    with pytest.raises(ValueError, match="inputs: got"):
        net.loss(targets, inputs[:, :5])


def test_hidden_words_are_learnt_where_the_rest_tells_them():
    """Four known sentences: after a few steps the hidden word is named; not where the sentence is another's."""
    net = initialised(lambda: TextLM(VOCAB, 10, dim=16, depth=1, heads=2), 0)

    def draw(generator):
        rows = TOKENS[torch.randint(4, (32,), generator=generator)]
        inputs, targets, _ = corrupt(rows, VOCAB, generator, 0.2)
        return {"tokens": targets, "inputs": inputs}

    losses = [p.loss for p in fit(net, draw, 120, lr=1e-2, ema_decay=0.9, bar=False)]
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])


def test_a_generator_on_top_trains_and_the_encoder_does_not_move():
    build = lambda: Denoiser(
        Conditioned(Frozen(model(), 10, 16, 16), DiT(3, (4, 4), 2, 16, 1, 2, context_dim=16)), Linear(), VELOCITY
    )
    net = initialised(build, 0)
    digest = lambda module: [p.detach().clone() for p in module.parameters()]
    encoder, rest = net.net.conditioning.encoder, net.net.backbone
    before, backbone = digest(encoder), digest(rest)
    data = {"x0": randn((4, 3, 4, 4), seeded(0)), "tokens": TOKENS}
    for _ in fit(net, diffuse(draw_rows(data, 8)), 5, bar=False):
        pass
    assert all(torch.equal(a, b) for a, b in zip(before, digest(encoder)))
    assert any(not torch.equal(a, b) for a, b in zip(backbone, digest(rest)))


@pytest.mark.parametrize(("dim", "depth", "heads"), [(32, 1, 2), (64, 2, 4), (128, 4, 4)])
def test_sizes_are_arguments(dim, depth, heads):
    net = TextLM(VOCAB, 10, dim, depth, heads)
    assert (net.dim, net.out) == (dim, dim)
    assert net.encode(TOKENS).context.shape == (4, 10, dim)
    blocks = depth * (12 * dim**2 + 13 * dim)
    assert sum(p.numel() for p in net.parameters()) == blocks + (VOCAB + 1 + 10 + 2) * dim + VOCAB
    assert isinstance(net.blocks, nn.ModuleList)


WRONG = [
    (lambda: corrupt(TOKENS.float(), VOCAB, None), "tokens"),
    (lambda: corrupt(TOKENS, 3, None), "vocab"),
    (lambda: corrupt(TOKENS, VOCAB, None, 1.5), "rate"),
    (lambda: corrupt(TOKENS, VOCAB, None, 0.5, 0.8, 0.3), "hidden, wrong"),
    (lambda: corrupt(TOKENS, VOCAB, seeded([1, 2])), "generator"),
    (lambda: model().encode(TOKENS.repeat(1, 2)), "tokens"),
    (lambda: model().encode(TOKENS + VOCAB), "tokens"),
    (lambda: model().encode(TOKENS[0]), "tokens"),
]


@pytest.mark.parametrize(("call", "name"), WRONG)
def test_wrong_inputs_are_named(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .+, expected .+"):
        call()
