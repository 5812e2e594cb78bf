"""The captioner: a proper distribution over sentences, causal, and its gradient is a gradient."""

from itertools import product

import pytest
import torch

from minidiff.encoders.tokenizer import END, PAD, START
from minidiff.guides.captioner import Captioner
from minidiff.schedules import Linear


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(0)
    net = Captioner(Linear(), vocabulary=7, length=4, side=8, patch=4, dim=16, depth=2, heads=2).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def x_and_t(batch=2):
    g = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 8, 8, generator=g, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)


def test_sentences_have_probability_one_in_all(model):
    """Over every sequence of three tokens after START (no padding): Σ p = 1. Dividing by the length would break it."""
    x, t = x_and_t(1)
    words = [w for w in range(7) if w != PAD]
    every = torch.tensor([[START, *rest] for rest in product(range(7), repeat=3)])
    full = every[(every[:, 1:] != PAD).all(1)]
    log_p = model.log_prob(x.expand(len(full), -1, -1, -1), t, full)
    logits = model(x, t, torch.tensor([[START, 4, 4]]))
    assert logits.shape == (1, 3, 7)
    # With PAD never drawn the mass is 1 − Σ (sequences with a PAD), which is counted here one by one.
    lost = 0.0
    for row in every[(every[:, 1:] == PAD).any(1)]:
        p = model(x, t, row[None, :-1]).log_softmax(-1)[0]
        lost += float(p.gather(1, row[1:, None]).sum().exp())
    assert float(log_p.exp().sum()) + lost == pytest.approx(1.0, abs=1e-9)
    assert len(words) == 6


def test_log_prob_sums_token_log_probabilities_and_skips_padding(model):
    x, t = x_and_t()
    tokens = torch.tensor([[START, 5, END, PAD], [START, 4, 6, END]])
    log_p = model(x, t, tokens[:, :-1]).log_softmax(-1)
    by_hand = [log_p[0, 0, 5] + log_p[0, 1, END], log_p[1, 0, 4] + log_p[1, 1, 6] + log_p[1, 2, END]]
    torch.testing.assert_close(model.log_prob(x, t, tokens), torch.stack(by_hand))


def test_a_word_does_not_see_the_words_after_it(model):
    x, t = x_and_t(1)
    a, b = model(x, t, torch.tensor([[START, 4, 5]])), model(x, t, torch.tensor([[START, 4, 6]]))
    torch.testing.assert_close(a[:, :2], b[:, :2], atol=1e-12, rtol=0)
    assert float((a[:, 2] - b[:, 2]).abs().max()) > 1e-3


def test_the_gradient_of_the_summed_log_probability(model):
    """Against central differences in fp64: the gradient that guides."""
    x, t = x_and_t(1)
    tokens = torch.tensor([[START, 5, 6, END]])
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(model.log_prob(leaf, t, tokens).sum(), leaf)[0]
    for index in ((0, 0, 0, 0), (0, 1, 3, 5), (0, 2, 7, 7)):
        step = torch.zeros_like(x)
        step[index] = 1e-5
        difference = (model.log_prob(x + step, t, tokens) - model.log_prob(x - step, t, tokens)) / 2e-5
        assert float(gradient[index]) == pytest.approx(float(difference), rel=1e-5, abs=1e-8)
    swapped = torch.autograd.grad(model.log_prob(leaf, t, torch.tensor([[START, 6, 5, END]])).sum(), leaf)[0]
    assert float((gradient - swapped).norm() / gradient.norm()) > 0.05


def test_writing_takes_the_likeliest_word_and_stops_at_end(model):
    x, t = x_and_t(3)
    tokens = model.write(x, t)
    assert tokens.shape == (3, 4)
    for row, picture in zip(tokens, x):
        said = [START]
        for _ in range(3):
            said.append(int(model(picture[None], t, torch.tensor([said]))[0, -1].argmax()) if END not in said else PAD)
        assert row.tolist() == said
    generators = [torch.Generator().manual_seed(s) for s in (5, 5, 6)]
    a, b, c = (model.write(x.expand(3, -1, -1, -1).repeat(8, 1, 1, 1), t, 1.0, g) for g in generators)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_bad_input_is_named(model):
    x, t = x_and_t()
    for bad in ([[START, 7, END, PAD]] * 2, [[START, 4, 4, 9]] * 2, [[START, -1, END, PAD]] * 2):
        with pytest.raises(ValueError, match=r"^tokens: got values from .+, expected ids 0 … 6 of a vocabulary of 7"):
            model.log_prob(x, t, torch.tensor(bad))
    for bad in (None, torch.zeros(2, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"^tokens: got .+, expected int64 tokens \(B, length\)"):
            model.log_prob(x, t, bad)
    with pytest.raises(ValueError, match=r"tokens: got .*L < 4"):
        model(x, t, torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="x_t: got"):
        model(x[:, :2], t, torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"temperature: got float -1\.0"):
        model.write(x, t, -1.0)


def test_a_caption_without_words_costs_nothing(model):
    """0/0 in one picture of a batch would make the loss of all of them NaN."""
    x, t = x_and_t()
    tokens = torch.tensor([[START, 4, END, PAD], [START, PAD, PAD, PAD]])
    loss = model.loss(x, t.expand(2), torch.zeros_like(x), tokens)
    assert float(loss[1]) == 0.0
    assert float(loss[0]) > 0.0
