"""One sequence of words and squares: who sees whom, to the bit; two losses that reach the same weights."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.backbones.transfusion import Transfusion
from minidiff.encoders.tokenizer import END, PAD
from minidiff.nn import masks
from minidiff.predictions import velocity_weight
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear

TOKENS = torch.tensor([[1, 7, 8, 2, 0], [1, 9, 4, 5, 2]])
X, T = randn((2, 3, 8, 8), seeded(0)), torch.tensor([0.3, 0.8])


def model(**options) -> Transfusion:
    make = lambda: Transfusion(12, 6, size=(8, 8), patch=4, dim=16, depth=2, heads=2, weigh=velocity_weight, **options)
    return initialised(make, 0).eval()


def test_spans_are_open_inside_and_causal_outside():
    mask = masks.spans(6, [(2, 4)])
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1] * 6,
    ]  # fmt: skip
    assert torch.equal(masks.spans(6, []), masks.causal(6))
    with pytest.raises(ValueError, match=r"whole: got \(2, 7\), expected spans within 0 … 6"):
        masks.spans(6, [(2, 7)])


@pytest.mark.parametrize("picture_first", [False, True], ids=["text first", "picture first"])
def test_nothing_leaks_back(picture_first):
    """What comes second leaves no trace in what came first, to the bit; the other way round it does."""
    net, words = model(), TOKENS.clone()
    words[:, 1] = 3
    a = net.read(TOKENS, X, T, picture_first)
    other_words, other_picture = net.read(words, X, T, picture_first), net.read(TOKENS, X.flip(-1), T, picture_first)
    if picture_first:
        assert torch.equal(a.picture, other_words.picture)
        assert not torch.equal(a.words, other_picture.words)
    else:
        assert torch.equal(a.words, other_picture.words)
        assert not torch.equal(a.picture, other_words.picture)
    later = TOKENS.clone()
    later[:, 2] = 3
    assert torch.equal(net.read(later, X, T, picture_first).words[:, :2], a.words[:, :2])
    assert not torch.equal(net.read(later, X, T, picture_first).words[:, 2], a.words[:, 2])


@pytest.mark.parametrize("picture_first", [False, True], ids=["text first", "picture first"])
def test_a_time_that_modulates_reaches_the_squares_alone(picture_first):
    net = model(modulated=True)
    a = net.read(TOKENS, X, T, picture_first)
    bare = net.next_word(net.norm(net.word(TOKENS) + net.place[:5]))
    assert torch.allclose(a.words, bare, atol=1e-6)  # at first every block is the identity
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.add_(0.1 * randn(p.shape, seeded(k)))
    later = [net.read(TOKENS, X, t, picture_first) for t in (T, 1 - T)]
    assert not torch.allclose(later[0].picture, later[1].picture, atol=1e-3)
    assert torch.equal(later[0].words, later[1].words) == (not picture_first)  # words before the picture know no time


def test_squares_see_one_another_both_ways():
    net, moved = model(), X.clone()
    moved[:, :, 4:, 4:] += 1  # the last of four squares
    a, b = (net.read(TOKENS, x, T).picture for x in (X, moved))
    assert bool(((a - b).abs().flatten(1).amax(1) > 0).all())
    assert not torch.equal(a[:, :, :4, :4], b[:, :, :4, :4])  # the first square has seen the last


def test_padding_between_a_text_and_its_picture_says_nothing():
    net = model()
    short, long = net.read(TOKENS[:1, :4], X[:1], T[:1]).picture, net.read(TOKENS[:1], X[:1], T[:1]).picture
    assert torch.allclose(short, long, atol=1e-6)


def test_losses_are_cross_entropy_and_the_error_of_the_velocity():
    net, eps = model(), randn(X.shape, seeded(1))
    read = net.read(TOKENS, Linear().add_noise(X, eps, T), T)
    log_p = F.log_softmax(read.words, -1).detach()
    words, picture = net.losses(X, T, eps, TOKENS, False)
    wanted = [[7, 8, 2, net.begin], [9, 4, 5, 2, net.begin]]  # END is asked for BEGIN
    by_hand = [-sum(float(log_p[i, j, k]) for j, k in enumerate(row)) / len(row) for i, row in enumerate(wanted)]
    assert words.tolist() == pytest.approx(by_hand, rel=1e-5)
    error = (read.picture - X).square().flatten(1).mean(1) * velocity_weight(Linear(), T)
    assert torch.allclose(picture, error)
    words, _ = net.losses(X, T, eps, TOKENS, True)
    log_p = F.log_softmax(net.read(TOKENS, Linear().add_noise(X, eps, T), T, True).words, -1).detach()
    by_hand = [-sum(float(log_p[i, j, k]) for j, k in enumerate(r[:-1])) / len(r[:-1]) for i, r in enumerate(wanted)]
    assert words.tolist() == pytest.approx(by_hand, rel=1e-5)  # after a picture nothing follows END


def test_each_row_is_trained_in_its_own_order():
    net, eps, order = model(weight=2.0), randn(X.shape, seeded(1)), torch.tensor([True, False])
    loss = net.loss(X, T, eps, TOKENS, order)
    for i in range(2):
        words, picture = net.losses(X[i : i + 1], T[i : i + 1], eps[i : i + 1], TOKENS[i : i + 1], bool(order[i]))
        assert float(loss[i].detach()) == pytest.approx(float((words + 2 * picture).detach()), rel=1e-5)
    flipped = net.loss(X, T, eps, TOKENS, ~order)
    assert not torch.allclose(loss, flipped, rtol=1e-3)


def test_both_losses_reach_the_same_blocks():
    """One set of weights: each block gets a gradient from words alone, and from pictures alone."""
    eps, grads = randn(X.shape, seeded(1)), []
    for which in (0, 1):
        net = model()
        sum(net.losses(X, T, eps, TOKENS, order)[which].sum() for order in (True, False)).backward()
        grads.append(
            {name for name, p in net.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 0}
        )
    blocks = {name for name, _ in model().named_parameters() if name.startswith("blocks.")}
    assert blocks <= grads[0] & grads[1]
    assert "next_word.weight" in grads[0] - grads[1]
    assert "head.weight" in grads[1] - grads[0]


def test_descriptions_are_the_most_probable_words():
    net = model()
    said = net.describe(X, torch.tensor(1))
    row = torch.tensor([[1]])
    for k in range(1, said.shape[1]):
        logits = net.read(row, X[:1], torch.zeros(1), True).words[:, -1, :12]
        word = PAD if bool((row == END).any()) else int(logits.argmax(-1))
        assert int(said[0, k]) == word
        row = torch.cat([row, torch.tensor([[word]])], 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model().read(TOKENS.float(), X, T), r"tokens: .*int64 \(B, L\), L ≤ 6"),
        (lambda: model().read(F.pad(TOKENS, (0, 2)), X, T), "tokens: .*L ≤ 6"),
        (lambda: model().read(TOKENS, X[:1], T), r"x_t: .*shape \(2, 3, 8, 8\)"),
        (lambda: model().read(TOKENS, X, T[:1]), "t: "),
        (lambda: model().loss(X, T, X[:1], TOKENS, torch.tensor([True, True])), "eps: "),
    ],
    ids=["float", "long", "batch", "times", "noise"],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
