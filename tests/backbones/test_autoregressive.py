"""The causal transformer of captions and codes: nothing that comes later leaks; one token at a time is the same."""

from collections import deque

import pytest
import torch

from minidiff.backbones.autoregressive import Reader, TextToCodes, choose
from minidiff.encoders.tokenizer import PAD
from minidiff.nn import masks
from minidiff.nn.block import Block, Past
from minidiff.randomness import gumbel, initialised, randn, seeded
from minidiff.training import fit

VOCAB, LENGTH, SIZE, SIDE = 20, 9, 11, 4
TOKENS = torch.tensor([[1, 5, 6, 7, 2, PAD, PAD], [1, 8, 2, PAD, PAD, PAD, PAD], [1, 9, 10, 11, 12, 13, 2]])
NULL = torch.tensor([1, 2, PAD])


def small(**options) -> TextToCodes:
    return initialised(lambda: TextToCodes(VOCAB, LENGTH, SIZE, SIDE, dim=32, depth=2, **options), 0).eval()


def codes(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(SIZE, (n, SIDE, SIDE), generator=seeded(seed))


# --- who sees whom


@torch.no_grad()
def test_a_later_token_changes_nothing_before_it():
    model, drawn = small(), codes(3)
    words, pictures = model(TOKENS, drawn)
    for place in range(SIDE**2):
        other = drawn.flatten(1).clone()
        other[:, place] = (other[:, place] + 1) % SIZE
        changed_words, changed = model(TOKENS, other.unflatten(1, (SIDE, SIDE)))
        assert torch.equal(changed_words, words)
        assert torch.equal(changed[:, : place + 1], pictures[:, : place + 1])  # Δ = 0, to the bit
        if place + 1 < SIDE**2:
            assert (changed[:, place + 1 :] - pictures[:, place + 1 :]).abs().amax((0, 2)).min() > 0  # the control
    for place in range(1, 3):
        other = TOKENS[:1].clone()
        other[:, place] += 5
        changed_words, changed = model(other, drawn[:1])
        assert torch.equal(changed_words[:, :place], words[:1, :place])
        assert not torch.equal(changed_words[:, place:], words[:1, place:])
        assert not torch.equal(changed[:, 0], pictures[:1, 0])  # every code hears the caption


@torch.no_grad()
def test_without_the_mask_it_would_leak(monkeypatch):
    model, drawn = small(), codes(3)
    monkeypatch.setattr(masks, "causal", lambda n, device=None: torch.ones(n, n, dtype=torch.bool))
    before = model(TOKENS, drawn)[1]
    other = drawn.clone()
    other[:, -1, -2] = (other[:, -1, -2] + 1) % SIZE
    assert not torch.equal(model(TOKENS, other)[1][:, 0], before[:, 0])


@torch.no_grad()
def test_padding_means_nothing():
    model, drawn = small(), codes(2)
    short = model(TOKENS[:2, :5], drawn)[1]
    assert (short - model(TOKENS[:2], drawn)[1]).abs().max() < 1e-5
    said = torch.tensor([[1, 5, 6, 7, 2, 4, 4], [1, 8, 2, 4, 4, 4, 4]])
    assert (short - model(said, drawn)[1]).abs().max() > 1e-2  # the control: words in its place do


# --- keys and values that are kept


@torch.no_grad()
def test_a_block_reads_token_by_token_as_it_reads_at_once():
    block, x = initialised(lambda: Block(16, 4, qk_norm=True), 0), randn((2, 6, 16), seeded(0))
    whole, past = block(x, mask=masks.causal(6)), Past()
    first = block(x[:, :3], mask=masks.causal(3), past=past)
    parts = [first, *(block(x[:, i : i + 1], past=past) for i in range(3, 6))]
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-6
    assert past.kept is not None
    assert past.kept[0].shape == (2, 4, 6, 4)
    assert (block(x[:, 5:], past=Past()) - whole[:, 5:]).abs().max() > 1e-2  # the control: without a past


@torch.no_grad()
def test_codes_read_one_by_one_get_the_logits_of_the_whole():
    model, drawn = small(), codes(3)
    whole, reader = model(TOKENS, drawn)[1], Reader(model, TOKENS)
    found = [reader.logits]
    for place in range(SIDE**2 - 1):
        reader.read(drawn.flatten(1)[:, place : place + 1])
        found.append(reader.logits)
    assert (torch.stack(found, 1) - whole).abs().max() <= 1e-5
    wrong = Reader(model, TOKENS)
    wrong.read(drawn.flatten(1)[:, 1:2])
    assert (wrong.logits - whole[:, 1]).abs().max() > 1e-2  # the control: another code


# --- sampling


def test_choose_draws_from_the_softmax_at_a_temperature_among_the_k_largest():
    n, logits = 40_000, torch.tensor([1.0, 3.0, 2.0, 0.0, 2.5])
    noise = gumbel((n, 5), seeded(0))
    for temperature, top_k in ((1.0, None), (0.5, None), (2.0, 3)):
        drawn = choose(logits.expand(n, 5), noise, temperature, top_k)
        law = (logits / temperature).softmax(0)
        if top_k == 3:
            law = law * torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]) / law[[1, 2, 4]].sum()
        share = torch.bincount(drawn, minlength=5) / n
        assert ((share - law).abs() <= 4 * (law * (1 - law) / n).sqrt()).all()
        assert not ((share - logits.softmax(0).flip(0)).abs() <= 4 * (law * (1 - law) / n).sqrt()).all()
    assert set(choose(logits.expand(n, 5), noise, 0.0).tolist()) == {1}
    assert set(choose(logits.expand(n, 5), noise, 1.0, 1).tolist()) == {1}
    assert torch.equal(choose(logits.expand(n, 5), noise, 1.0, 9), choose(logits.expand(n, 5), noise))


@torch.no_grad()
def test_drawn_codes_follow_the_models_own_law():
    """The first two codes of many pictures of one caption, against p(first)·p(second | first)."""
    model, n = initialised(lambda: TextToCodes(VOCAB, LENGTH, 3, 2, dim=16, depth=1), 1).eval(), 8000
    drawn = model.sample(TOKENS[:1].expand(n, -1), seeded(0)).flatten(1)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    logits = model(TOKENS[:1].expand(9, -1), torch.cat([pairs, pairs], 1).unflatten(1, (2, 2)))[1].log_softmax(-1)
    law = (logits[:, 0].gather(1, pairs[:, :1]) + logits[:, 1].gather(1, pairs[:, 1:])).exp().flatten()
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-5)
    share = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / n
    assert ((share - law).abs() < 4 * (law * (1 - law) / n).sqrt()).all()
    swapped = torch.bincount(3 * drawn[:, 1] + drawn[:, 0], minlength=9) / n  # the control: the order counts
    assert not ((swapped - law).abs() < 4 * (law * (1 - law) / n).sqrt()).all()


def test_a_picture_belongs_to_its_seed_and_not_to_its_batch():
    model = small()
    drawn = model.sample(TOKENS, seeded([4, 5, 6]), temperature=0.9, top_k=7)
    assert drawn.shape == (3, SIDE, SIDE)
    for i in range(3):
        assert torch.equal(model.sample(TOKENS[i : i + 1], seeded([4 + i]), 0.9, 7), drawn[i : i + 1])
    assert not torch.equal(model.sample(TOKENS, seeded([5, 6, 7]), 0.9, 7), drawn)


def test_guidance_extrapolates_the_logits():
    model = small()
    plain = model.sample(TOKENS, seeded([4, 5, 6]))
    assert torch.equal(model.sample(TOKENS, seeded([4, 5, 6]), w=0.0, null=NULL), plain)
    # w = −1 is the unconditional model: the caption no longer counts …
    alone = model.sample(TOKENS, seeded([4, 5, 6]), w=-1.0, null=NULL)
    assert torch.equal(alone, model.sample(NULL.expand(3, -1), seeded([4, 5, 6])))
    assert not torch.equal(alone, plain)  # … and otherwise it does
    first = [Reader(model, tokens).logits for tokens in (TOKENS, NULL.expand(3, -1))]
    noise = gumbel((3, SIDE**2, SIZE), seeded([4, 5, 6]))[:, 0]
    wanted = choose(first[0] + 2.5 * (first[0] - first[1]), noise)
    assert torch.equal(model.sample(TOKENS, seeded([4, 5, 6]), w=2.5, null=NULL)[:, 0, 0], wanted)
    with pytest.raises(ValueError, match=r"^null: got None"):
        model.sample(TOKENS, seeded([4, 5, 6]), w=1.0)


# --- the loss


@torch.no_grad()
def test_the_loss_is_an_eighth_of_words_and_seven_of_codes():
    model, drawn = small(), codes(3)
    words, pictures = model(TOKENS, drawn)
    log_words, log_codes = words.log_softmax(-1), pictures.log_softmax(-1)
    for i in range(3):
        said = [j for j in range(1, TOKENS.shape[1]) if TOKENS[i, j] != PAD]
        text = -sum(float(log_words[i, j - 1, TOKENS[i, j]]) for j in said) / len(said)
        picture = -sum(float(log_codes[i, j, drawn[i].flatten()[j]]) for j in range(SIDE**2)) / SIDE**2
        assert float(model.loss(TOKENS, drawn)[i]) == pytest.approx((text + 7 * picture) / 8, abs=1e-5)
        assert float(model.loss(TOKENS, drawn)[i]) != pytest.approx((text + picture) / 2, abs=1e-3)
    assert small(weight=1.0).loss(TOKENS, drawn)[0] != model.loss(TOKENS, drawn)[0]


def test_it_learns_which_picture_a_caption_means():
    """Three captions, three pictures: after 120 steps the likeliest codes are the caption's, and not another's."""
    data, model = {"tokens": TOKENS, "codes": codes(3, 5)}, small()
    deque(fit(model, lambda generator: data, 120, lr=3e-3, bar=False), maxlen=0)
    assert float(model.losses(**data)[1].detach().max()) < 0.05
    assert torch.equal(model.sample(TOKENS, seeded([0, 1, 2]), temperature=0.0), data["codes"])
    assert not torch.equal(model.sample(TOKENS.roll(1, 0), seeded([0, 1, 2]), temperature=0.0), data["codes"])


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda m: m(TOKENS, codes(2)), "codes"),
        (lambda m: m(TOKENS, codes(3) + SIZE), "codes"),
        (lambda m: m(TOKENS + VOCAB, codes(3)), "tokens"),
        (lambda m: m(torch.ones(3, LENGTH + 1, dtype=torch.int64), codes(3)), "tokens"),
        (lambda m: m.sample(TOKENS, seeded([0, 1])), "generator"),
        (lambda m: m.sample(TOKENS, seeded(0), temperature=-1.0), "temperature"),
        (lambda m: m.sample(TOKENS, seeded(0), top_k=0), "top_k"),
        (lambda m: m.picture(torch.zeros(3, 5, dtype=torch.int64), 12), "codes"),
        (lambda m: small(weight=-1.0), "weight"),
    ],
)
def test_bad_input_is_named(call, names):
    with pytest.raises(ValueError, match=f"^{names}: got "):
        call(small())
