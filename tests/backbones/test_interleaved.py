"""One sequence of texts and pictures of several shapes: who sees whom, to the bit; what is asked for; ratios."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.backbones.interleaved import Interleaved, Signs, pictures_in
from minidiff.nn import masks, rope
from minidiff.predictions import velocity_weight
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear
from minidiff.shapes import patchify

VOCAB, SHAPES = 12, [(2, 2), (2, 3), (3, 1)]
SIGNS = Signs(VOCAB, SHAPES)
BEGIN, TIME, SQUARE = SIGNS.begin, SIGNS.time, SIGNS.square
T = torch.tensor([0.3, 0.8])
# A text, a picture of 2×3, a text, a picture of 3×1, a text; and a picture at once, a text, one of 2×2: row by row.
PARTS = [[[1, 7, 8, 2], 1, [1, 5, 2], 2, [1, 9, 2]], [0, [1, 9, 4, 5, 2], 0]]


def tokens_of(parts: list) -> list[int]:
    return [i for part in parts for i in (SIGNS.picture(part) if isinstance(part, int) else part)]


ROWS = [tokens_of(parts) for parts in PARTS]
LONG = max(map(len, ROWS))
TOKENS = torch.tensor([row + [0] * (LONG - len(row)) for row in ROWS])
PIXELS = randn((2, LONG, 12), seeded(0))


def model(**options) -> Interleaved:
    make = lambda: Interleaved(
        VOCAB, SHAPES, patch=2, dim=16, depth=2, heads=2, hidden=8, weigh=velocity_weight, **options
    )
    net = initialised(make, 0).eval()
    with torch.no_grad():  # nothing is zero, so that nothing is hidden
        for k, p in enumerate(net.parameters()):
            p.add_(0.1 * randn(p.shape, seeded(k)))
    return net.requires_grad_(False)


def spans(row: list[int]) -> list[tuple[int, int]]:
    """Where the squares of each picture stand."""
    starts = [i + 1 for i, token in enumerate(row) if token == TIME]
    return [(a, a + row[a:].index(SIGNS.finish)) for a in starts]


def test_signs_stand_behind_the_vocabulary():
    assert len(SIGNS) == VOCAB + 4 + 3
    assert SIGNS.picture(2) == [12, 18, 14, 15, 15, 15, 13]
    assert [len(SIGNS.picture(k)) for k in range(3)] == [8, 10, 7]


def test_ratios_tell_the_layout():
    """Mask and positions of each row, as `masks.spans` and `rope.interleaved` have them for its parts."""
    net, found = model(), pictures_in(TOKENS, SIGNS)
    assert [p.shape for p in found] == SHAPES
    assert [(p.row.tolist(), p.last.tolist()) for p in found] == [
        ([1, 1], [False, True]),
        ([0], [False]),
        ([0], [True]),
    ]
    mask, rotate = net.layout(TOKENS, found)
    laid = [[4 + 3, (2, 3), 1 + 3 + 3, (3, 1), 1 + 3], [3, (2, 2), 1 + 5 + 3, (2, 2), 1]]  # the marks are words here
    for i, row in enumerate(ROWS):
        assert torch.equal(mask[i], masks.spans(LONG, spans(row)))
        places = rope.interleaved(*laid[i], LONG - len(row))
        assert torch.equal(rotate.cos[i], rope.Rotary(places, (4, 4), woven=True).cos)
    assert net.last(TOKENS).sum(1).tolist() == [3, 4]


def reached(token: int, row: list[int]) -> list[bool]:
    """What may differ when a token does: all from it on, or from the beginning of its picture on."""
    first = next((a for a, b in spans(row) if a <= token < b), token)
    return [i >= first for i in range(len(row))]


@pytest.mark.parametrize("i", [0, 1])
def test_nothing_leaks_back_and_everything_goes_on(i):
    """Exactly, token by token: logits differ wherever the mask opens, and nowhere else by as much as a bit."""
    net, row = model(), torch.tensor(ROWS[i])[None]
    pixels, t = PIXELS[i : i + 1, : row.shape[1]], T[i : i + 1]
    whole = net.read(row, pixels, t)
    for token, kind in enumerate(ROWS[i]):
        other, others = row.clone(), pixels.clone()
        if kind == SQUARE:
            others[0, token] += 1
        elif kind < VOCAB:
            other[0, token] = 3 if kind != 3 else 4
        else:
            continue  # a mark is not exchanged: it is the layout
        answer = net.read(other, others, t)
        assert (answer.words != whole.words).any(-1)[0].tolist() == reached(token, ROWS[i])


def test_the_time_is_the_last_pictures_alone():
    """Nothing before its TIME knows it, to the bit; earlier pictures are at t = 0 whatever it is."""
    net = model()
    a, b = net.read(TOKENS, PIXELS, T), net.read(TOKENS, PIXELS, 1 - T)
    for i, row in enumerate(ROWS):
        time = max(k for k, token in enumerate(row) if token == TIME)
        assert torch.equal(a.words[i, :time], b.words[i, :time])
        assert bool((a.words[i, time:] != b.words[i, time:]).any(-1).all())
    early = net.read(TOKENS[1:, :8], PIXELS[1:, :8], torch.zeros(1))  # there, the first picture is the last one
    assert torch.allclose(early.words, a.words[1:, :8], atol=1e-6)
    assert not torch.allclose(net.read(TOKENS[1:, :8], PIXELS[1:, :8], T[1:]).words, a.words[1:, :8], atol=1e-3)


def test_an_earlier_picture_reaches_the_drawing_and_what_is_no_square_does_not():
    net, last = model(), model().last(TOKENS)
    a = net.read(TOKENS, PIXELS, T).picture
    assert torch.equal(a != 0, last[..., None].expand_as(a))
    moved = PIXELS + 1.0 * ((TOKENS == SQUARE) & ~last)[..., None]
    assert bool((net.read(TOKENS, moved, T).picture - a)[last].abs().amin() > 0)
    beside = PIXELS + 1.0 * (TOKENS != SQUARE)[..., None]
    assert torch.equal(net.read(TOKENS, beside, T).picture, a)


def test_a_row_is_read_alike_alone_and_beside_longer_ones():
    net = model()
    together = net.read(TOKENS, PIXELS, T)
    for i, row in enumerate(ROWS):
        n = len(row)
        alone = net.read(torch.tensor([row]), PIXELS[i : i + 1, :n], T[i : i + 1])
        assert torch.allclose(alone.words[0], together.words[i, :n], atol=1e-5)
        assert torch.allclose(alone.picture[0], together.picture[i, :n], atol=1e-5)


def test_places_are_relative():
    """Queries and keys of a conversation meet alike after seven more words: only differences of places count."""
    net, row = model(), torch.tensor([ROWS[1]])
    later = F.pad(row, (7, 0), value=3)
    (_, near), (_, far) = (net.layout(tokens, pictures_in(tokens, SIGNS)) for tokens in (row, later))
    q = randn((1, 2, row.shape[1], 8), seeded(1))
    dots = lambda turn, x: turn(x) @ turn(x).transpose(-1, -2)
    shifted = dots(far, F.pad(q, (0, 0, 7, 0)))[..., 7:, 7:]
    assert torch.allclose(dots(near, q), shifted, atol=1e-4)
    assert float((dots(near, q) - q @ q.transpose(-1, -2)).abs().max()) > 1  # the control: not turned at all


def test_rounding_down_shows_where_one_side_is_odd_alone():
    """2×3 loses half a step, 2×2 and 3×1 do not."""
    exact, rounded = (model(truncated=cut).read(TOKENS, PIXELS, T).words for cut in (False, True))
    first = ROWS[0].index(SQUARE)
    assert torch.equal(exact[1], rounded[1])
    assert torch.equal(exact[0, :first], rounded[0, :first])
    assert bool((exact[0, first:] != rounded[0, first:]).any(-1).all())


def test_forward_puts_the_picture_at_its_squares():
    net, x_t = model(), randn((2, 3, 4, 4), seeded(2))
    tokens = torch.tensor([ROWS[1], [1, *[7] * 11, 2, *ROWS[1][13:]]])  # after a picture and a text; after a text
    pixels = PIXELS[:, : tokens.shape[1]].clone()
    drawn = net(x_t, torch.tensor(0.7), tokens=tokens, pixels=pixels)
    mine = net.last(tokens)
    pixels[mine] = patchify(x_t, 2).flatten(0, 1)
    read = net.read(tokens, pixels, torch.full((2,), 0.7))
    assert torch.equal(patchify(drawn, 2).flatten(0, 1), read.picture[mine])
    with pytest.raises(ValueError, match=r"x_t: .*expected \[3, 4\] squares"):
        net(x_t, T, tokens=TOKENS, pixels=PIXELS)


def test_losses_are_cross_entropy_of_what_is_asked_and_the_error_of_the_velocity():
    net, eps = model(), randn(PIXELS.shape, seeded(1))
    words, picture = net.losses(PIXELS, T, eps, TOKENS)
    last = net.last(TOKENS)[..., None]
    read = net.read(TOKENS, torch.where(last, Linear().add_noise(PIXELS, eps, T), PIXELS), T)
    log_p = F.log_softmax(read.words, -1)
    free = {0, 1, 3, TIME, SQUARE, SIGNS.finish}  # padding, START, UNKNOWN, and what follows from a ratio
    for i, row in enumerate(ROWS):
        asked = [(j, token) for j, token in enumerate(row[1:]) if token not in free]
        assert {BEGIN, SIGNS.ratio + PARTS[i][[1, 0][i]], 2} <= {token for _, token in asked} | {BEGIN}
        by_hand = -sum(float(log_p[i, j, token]) for j, token in asked) / len(asked)
        assert float(words[i]) == pytest.approx(by_hand, rel=1e-5)
        wrong = (read.picture[i] - PIXELS[i])[last[i, :, 0]].square().mean() * velocity_weight(Linear(), T)[i]
        assert float(picture[i]) == pytest.approx(float(wrong), rel=1e-5)
    assert torch.allclose(net.loss(PIXELS, T, eps, TOKENS), words + 5 * picture)
    dropped = torch.where(TOKENS == 9, 3, TOKENS)
    assert not torch.allclose(net.losses(PIXELS, T, eps, dropped)[0], words)


def test_noise_is_on_the_last_picture_alone():
    net, eps = model(), randn(PIXELS.shape, seeded(1))
    last = net.last(TOKENS)[..., None]
    a, b = net.losses(PIXELS, T, eps, TOKENS), net.losses(PIXELS, T, eps + 1.0 * ~last, TOKENS)
    c = net.losses(PIXELS, T, eps + 1.0 * last, TOKENS)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[1], c[1])


def test_both_losses_reach_the_same_blocks():
    eps, grads = randn(PIXELS.shape, seeded(1)), []
    for which in (0, 1):
        net = model().requires_grad_(True)
        net.losses(PIXELS, T, eps, TOKENS)[which].sum().backward()
        grads.append({k for k, p in net.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 0})
    assert {k for k, _ in model().named_parameters() if k.startswith(("blocks.", "into."))} <= grads[0] & grads[1]
    assert "next_word.weight" in grads[0] - grads[1]
    assert "out.conv.weight" in grads[1] - grads[0]


def test_ratios_are_the_words_after_begin():
    net = model()
    rows = [[*ROWS[0][:4], BEGIN], [*ROWS[1][:13], BEGIN]]
    tokens = torch.tensor([row + [0] * (14 - len(row)) for row in rows])
    pixels = PIXELS[:, :14]
    log_p = net.ratios(tokens, pixels)
    assert log_p.shape == (2, 3)
    assert log_p.exp().sum(1).tolist() == pytest.approx([1, 1])
    alone = net.read(tokens[:1, :5], pixels[:1, :5], torch.zeros(1)).words[0, -1, SIGNS.ratio :]
    assert torch.allclose(log_p[0], alone.log_softmax(-1), atol=1e-5)
    with pytest.raises(ValueError, match=r"tokens: .*expected BEGIN as the last token"):
        net.ratios(tokens[:, :12], pixels[:, :12])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Signs(5, []), "shapes: "),
        (lambda: Signs(5, [(0, 2)]), "shapes: "),
        (lambda: pictures_in(TOKENS[:, :9], SIGNS), "tokens: got a ratio without its squares"),
        (lambda: pictures_in(TOKENS[:, 7:], SIGNS), r"tokens: got \d+ squares, expected"),
        (lambda: model().read(TOKENS.float(), PIXELS, T), "tokens: .*int64"),
        (lambda: model().read(TOKENS + 9, PIXELS, T), "tokens: .*ids below 19"),
        (lambda: model().read(TOKENS, PIXELS[..., :11], T), r"pixels: .*shape \(2, 27, 12\)"),
        (lambda: model().read(TOKENS, PIXELS, T[:1]), "t: "),
        (lambda: model().losses(PIXELS, T, PIXELS[:1], TOKENS), "eps: "),
    ],
    ids=["no shapes", "empty shape", "cut", "beheaded", "float", "ids", "pixels", "times", "noise"],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
