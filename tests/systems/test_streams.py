"""Inside the six designs: who reads whom adds up, words that see no picture do not change with it."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt
from minidiff.encoders.tokenizer import END
from minidiff.randomness import initialised, randn, seeded
from minidiff.systems import cuts, readers, streams, ways_in

PROMPTS = replace(readers.WORLD, families=("relation",)).prompts(6, 0, "test")
TEXTS, T = captions(PROMPTS), 0.5
X = streams.noised(PROMPTS, T)[1]
BOTH = [design for design in ways_in.DESIGNS if design != "cross-attention"]


def shaken(design: str):
    """Away from the start, where all gates are closed."""
    model = initialised(lambda: ways_in.build(design), 0).eval().requires_grad_(False)
    for k, p in enumerate(streams.backbone_of(model).parameters()):
        p.add_(0.1 * randn(p.shape, seeded(k)))
    return model


@pytest.fixture(scope="module")
def models():
    return {design: shaken(design) for design in ways_in.DESIGNS}


def blocks(design: str) -> int:
    """Where words and picture meet."""
    return {"cross-attention": 6, "double": 3, "double, centred": 3}.get(design, 5)


@pytest.mark.parametrize("design", ways_in.DESIGNS)
def test_rows_of_both_kinds_are_parts_of_one_softmax(models, design):
    found = streams.reads(models[design], X, T, TEXTS)
    assert len(found) == blocks(design)
    for _, of_words, of_picture in found:
        m = of_words.shape[-1]
        assert of_words.shape == (6, 4, 16, m)
        assert m >= max(len(streams.words(text)) for text in TEXTS)
        if design == "cross-attention":
            assert of_picture is None
            assert torch.allclose(of_words.sum(-1), torch.ones(6, 4, 16))
        else:
            assert of_picture.shape == (6, 4, m, 16)
            for share in (of_words.sum(-1), of_picture.sum(-1)):
                assert 0 < float(share.min()) <= float(share.max()) < 1  # of the rest its own kind has some


def test_words_are_the_tokens_that_the_backbone_sees():
    ids = readers.read_chat(TEXTS)["tokens"][:, streams.llm.CUT :]
    tokenizer = streams.llm.tokenizer()
    for text, row, told in zip(TEXTS, ids, streams.spoken(TEXTS)):
        said = streams.words(text)
        assert int(told.sum()) == len(said)
        each = [tokenizer.decode(torch.stack([token, torch.tensor(END)])[None])[0] for token in row[: len(said) - 1]]
        assert [*each, "END"] == said
        assert int(row[len(said) - 1]) == END


@pytest.mark.parametrize("design", ways_in.DESIGNS)
def test_the_share_of_the_picture_is_nothing_where_no_word_has_seen_it(models, design):
    shares = list(streams.of_the_picture(models[design], PROMPTS[0], T, 8).values())
    assert len(shares) == blocks(design)
    assert shares[0] < 1e-12  # what enters the first block has only been read
    if design == "cross-attention":
        assert max(shares) == 0
    else:
        assert shares[-1] > 1e-4


@pytest.mark.parametrize("design", BOTH)
def test_one_way_leaves_words_without_the_picture_and_the_picture_with_words(models, design):
    model = models[design]
    before = model(X, torch.tensor(T), **readers.read_chat(TEXTS))
    with cuts.one_way(model):
        assert max(streams.of_the_picture(model, PROMPTS[0], T, 8).values()) < 1e-12  # rounding, row by row
        assert max(float(of_picture.max()) for _, _, of_picture in streams.reads(model, X, T, TEXTS)) == 0
        closed = model(X, torch.tensor(T), **readers.read_chat(TEXTS))
        other = model(X, torch.tensor(T), **readers.read_chat(TEXTS[1:] + TEXTS[:1]))
    assert float((closed - before).abs().max()) > 1e-4
    assert float((closed - other).abs().max()) > 1e-4  # the picture still hears
    assert torch.equal(model(X, torch.tensor(T), **readers.read_chat(TEXTS)), before)  # and all is as it was


@pytest.mark.parametrize("design", ways_in.DESIGNS)
def test_words_move_wherever_they_are_a_stream(models, design):
    far = list(streams.moved(models[design], X, T, TEXTS).values())
    assert far[0] == 0
    assert (max(far) > 1e-2) == (design != "cross-attention")
    if design != "cross-attention":
        with cuts.still(models[design]):
            assert max(streams.moved(models[design], X, T, TEXTS).values()) == 0  # the control


def test_a_network_that_is_closed_stays_so_in_its_copies():
    model = shaken("double")
    cuts.close(streams.backbone_of(model))
    assert max(streams.of_the_picture(deepcopy(model), PROMPTS[0], T, 4).values()) < 1e-12
    with pytest.raises(ValueError, match="backbone: got DiT, expected one in which words look at the picture"):
        cuts.close(streams.backbone_of(shaken("cross-attention")))


@pytest.mark.parametrize("design", BOTH)
def test_still_words_are_the_same_before_every_block(models, design):
    model = models[design]
    moving = streams.states(model, X, T, TEXTS)
    assert float((moving[-1].text - moving[0].text).abs().max()) > 1e-3
    before = model(X, torch.tensor(T), **readers.read_chat(TEXTS))
    with cuts.still(model):
        found = streams.states(model, X, T, TEXTS)
        assert all(torch.equal(state.text, found[0].text) for state in found)
        assert float((found[-1].picture - found[0].picture).abs().max()) > 1e-3
    assert torch.equal(model(X, torch.tensor(T), **readers.read_chat(TEXTS)), before)


def test_squares_are_where_the_object_is():
    """The first is left of the second; the two share no square."""
    asked = [Prompt((Group("circle", "red"), Group("star", "blue")), "left of")] * 5
    first, second = (streams.squares_of(asked, which).reshape(5, 4, 4) for which in (0, 1))
    assert bool(first[:, :, :2].flatten(1).any(1).all())
    assert not bool(first[:, :, 3].any())
    assert not bool(second[:, :, 0].any())
    assert not bool((first & second).any())


def test_words_of_a_trained_network_point_and_those_of_an_untrained_one_do_not():
    asked = replace(readers.WORLD, families=("relation",)).prompts(40, 3, "test")
    best = {}
    for name, model in (("trained", ways_in.DOUBLE.load()), ("untrained", ways_in.DOUBLE.untrained().eval())):
        rows = streams.pointing(model, asked, T).values()
        best[name] = max(row["colour, of words"] - row["colour, of words, other"] for row in rows)
    assert best["trained"] > 0.3 > best["untrained"] + 0.05
    with pytest.raises(ValueError, match="prompts: got other numbers of objects, expected two objects each"):
        streams.pointing(ways_in.DOUBLE.untrained(), [Prompt((Group("circle", "red"),))], T)


def test_words_read_no_more_than_everything(models):
    for design, model in models.items():
        for share, back in streams.masses(model, X, T, TEXTS).values():
            assert 0 < share <= 1 + 1e-6
            assert (back is None) == (design == "cross-attention")
            assert back is None or 0 < back < 1
