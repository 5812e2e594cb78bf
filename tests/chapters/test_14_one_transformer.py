"""The claims of chapter 14, each with a control that must fail."""

import json
import math
import re

import pytest
import torch
from _pages import same, table_rows

from minidiff.nn import masks, rope
from minidiff.randomness import randn, seeded
from minidiff.systems import guess, hunyuan, transfusion
from minidiff.systems.scenes_text import tokenizer
from minidiff.training import step_generator
from minidiff.weights import record


@pytest.fixture(scope="module")
def lecture(root):
    return (root / "lectures" / "14_one_transformer.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(root):
    return json.loads((root / "benchmarks" / "results" / "one_transformer.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def both():
    return transfusion.MODEL.load()


# ---------------------------------------------------------------- derivations


def test_what_may_be_seen_and_what_may_not(lecture, both):
    """Section 2's table: exactly 0 where it says 0, and more elsewhere."""
    tokens = tokenizer(transfusion.LENGTH).encode(["a red star left of a blue circle"])
    early, late = tokens.clone(), tokens.clone()
    early[0, 2], late[0, 8] = tokens[0, 7], tokens[0, 2]
    x = randn((1, 3, 16, 16), seeded(1))
    corner = x.clone()
    corner[..., 12:, 12:] = 0.5
    rows = {row[0]: row[1:] for row in table_rows(lecture, "answer at")}
    assert len(rows) == 6
    for order, name in ((False, "text first"), (True, "picture first")):
        plain = both.read(tokens, x, torch.tensor([0.3]), order)
        for k, (text, picture) in enumerate(((early, x), (late, x), (tokens, corner))):
            read = both.read(text, picture, torch.tensor([0.3]), order)
            moved = {
                "second word": (read.words - plain.words)[0, 1],
                "END": (read.words - plain.words)[0, 9],
                "first square": (read.picture - plain.picture)[..., :4, :4],
            }
            for at, by in moved.items():
                assert (float(by.abs().max()) == 0) == (rows[f"{name}: {at}"][k] == "0"), (name, at, k)


def test_ones_of_the_mask(lecture):
    """Question 1."""
    mask = masks.spans(28, [(11, 27)])
    assert int(mask.sum()) == 526
    assert "Together 526" in lecture
    assert int(masks.causal(28).sum()) == 406


def test_a_share_of_the_step():
    """(5) and question 3, with vectors at right angles; at other angles it is wrong."""
    words, picture = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.2])
    share = lambda lam, g=words: float(torch.cosine_similarity(g + lam * picture, picture, dim=0))
    assert share(15.0) == pytest.approx(math.cos(math.pi / 4))
    assert share(5.0) == pytest.approx(0.316, abs=5e-4)
    formula = 5 * 0.2 / math.hypot(3, 5 * 0.2)
    assert share(5.0) == pytest.approx(formula)
    assert abs(share(5.0, torch.tensor([2.0, 2.2])) - formula) > 0.1


def test_a_picture_stands_in_the_middle_of_its_words():
    """(7) and question 2."""
    places = rope.interleaved(12, (4, 6), 3, truncated=False)
    picture = places[12:36]
    assert picture.min(0).values.tolist() == [22, 21]
    assert picture.max(0).values.tolist() == [25, 26]
    assert picture.mean(0).tolist() == [23.5, 23.5] == [12 + 23 / 2] * 2
    assert places[36].tolist() == [36, 36]
    column = rope.interleaved(5, (7, 1), truncated=False)[5:, 0]
    assert column.tolist() == list(range(5, 12))  # one column: rows are where words would be
    assert float(rope.interleaved(5, (7, 2), truncated=False)[5, 0]) == 5 + 7 / 2  # the control: two columns


def test_texts_before_a_picture_are_asked_for_its_beginning(both):
    """Section 3: END is asked for BEGIN, and the trained model says so; after a picture it is not asked."""
    tokens = tokenizer(transfusion.LENGTH).encode(["a red star", "two blue crosses"])
    x, t = torch.zeros(2, 3, 16, 16), torch.ones(2)
    end = (tokens == 2).nonzero()[:, 1]
    said = both.read(tokens, x, t).words[[0, 1], end].argmax(-1)
    assert said.tolist() == [both.begin] * 2
    assert bool((both.read(tokens, x, t).words[[0, 1], end - 1].argmax(-1) != both.begin).all())


# ---------------------------------------------------------------- what was measured


def test_the_gradients_are_nearly_at_right_angles(lecture, both):
    batch = transfusion.draw_both(64)(step_generator(5, 0))
    model = transfusion.MODEL.load().requires_grad_(True)
    blocks = {name: p for name, p in model.named_parameters() if name.startswith("blocks") and p.ndim == 2}
    rows = {row[0]: row[1:] for row in table_rows(lecture, "cosine")}
    for order, name in ((False, "text first"), (True, "picture first")):
        take = batch["picture_first"] == order
        losses = model.losses(*(batch[k][take] for k in ("x0", "t", "eps", "tokens")), order)
        said, drawn = (
            torch.autograd.grad(loss.mean(), list(blocks.values()), retain_graph=True) for loss in losses
        )  # fmt: skip
        for i, told in enumerate(rows[name]):
            ours = [k for k, block in enumerate(blocks) if block.startswith(f"blocks.{i}.")]
            a, b = (torch.cat([g[k].flatten() for k in ours]) for g in (said, drawn))
            cosine = float(torch.cosine_similarity(a, b, dim=0))
            assert cosine == pytest.approx(float(told.replace("−", "-")), abs=0.006)
            assert abs(cosine) < 0.2
            share = 25 * b.norm() / torch.hypot(a.norm(), 25 * b.norm())  # (5), as if at right angles
            assert float(torch.cosine_similarity(a + 25 * b, b, dim=0)) == pytest.approx(float(share), abs=0.1)


def test_what_the_weight_and_the_order_decide(lecture, facts):
    table = facts["runs"]["table"]
    rows = {row[0]: row[1:] for row in table_rows(lecture, "nats a word of a description")}
    assert list(rows) == list(table)
    for arm, row in rows.items():
        assert table[arm]["seeds"] == 3
        for said, column, places in zip(row, ("nats a word, picture first", "error of velocity"), (3, 4), strict=False):
            mean, spread = said.split("±")
            same(mean, table[arm][column]["mean"], places)
            same(spread, table[arm][column]["sd"], places)
        same(row[2], table[arm]["relation, described"]["mean"])
        same(row[3], table[arm]["one, drawn, w=1"]["mean"])
    nats, error = (
        {arm: table[arm][c]["mean"] for arm in rows} for c in ("nats a word, picture first", "error of velocity")
    )
    weights = [f"λ = {weight}" for weight in (1, 5, 25, 125)]
    assert [nats[arm] for arm in weights] == sorted(nats[arm] for arm in weights)
    assert error["λ = 1"] > 1.05 * error["λ = 125"]
    assert error["causal squares"] > 1.05 * error["λ = 25"]
    assert nats["picture first: 0"] > 2 * nats["picture first: 1"]


def test_both_directions(lecture):
    scores = record("transfusion")["scores"]
    rows = {row[0]: row[1:] for row in table_rows(lecture, "drawn, w = 0")}
    assert list(rows) == list(transfusion.WORLD.families)
    columns = ("drawn, w=0", "drawn, w=1", "drawn, w=1, another caption", "described", "described, another picture")
    for family, row in rows.items():
        for said, column in zip(row, columns, strict=True):
            same(said, scores[f"{family}, {column}"])


def test_a_round_trip_and_noisy_pictures(lecture, facts):
    trips = facts["trips"]
    (said,) = re.findall(r"Round trip of 200 captions with a relation: (.*?): chance", lecture)
    keys = (
        "drawn",
        "described with a relation",
        "drawn again, its objects",
        "drawn again",
        "drawn again, another caption",
    )
    for text, key in zip(re.findall(r"(?<!\d)\d?\.\d\d", said), keys, strict=True):
        same(text, trips[key], 2)
    assert trips["drawn again"] < 0.4 < 0.8 < trips["drawn again, its objects"]
    for k, name in enumerate(("true descriptions", "the next one's")):
        (row,) = (row[1:] for row in table_rows(lecture, "noise level of the picture") if row[0] == name)
        for cell, found in zip(row, trips["noise"].values(), strict=True):
            same(cell, found[k])


def test_a_conversation_with_pictures_of_several_shapes(lecture):
    scores = record("hunyuan")["scores"]
    rows = {row[0]: row[1:] for row in table_rows(lecture, "held out, of 100")}
    keys = {
        "the shape (one object)": ("one, ratio", "another caption"),
        "one object, drawn, w = 1": ("one, drawn, w=1", "another caption"),
        "relation, drawn, w = 1": ("relation, drawn, w=1", "another caption"),
        "edited as told": ("edited, w=0", "another picture"),
        "what was not named is kept": ("edited, the rest kept, w=0", "another picture"),
    }
    for name, (key, other) in keys.items():
        same(rows[name][0], scores[key])
        same(rows[name][1], scores[f"{key}, {other}"])
    same(rows["second turn: its own picture, edited"][0], scores["second turn, w=0"])


def test_the_guess_turn_by_turn(lecture):
    scores = record("guess-words")["scores"]
    rows = {row[0]: row[1:] for row in table_rows(lecture, "another conversation's codes")}
    for turn in (1, 2):
        for what in ("as told", "kept"):
            row = rows[f"edit {turn}, {what}"]
            same(row[0], scores[f"edit {turn}, {what}"])
            same(row[1], scores[f"edit {turn}, {what}, another conversation's codes"])


def test_it_says_guess_wherever_it_names_what_is_not_published(root):
    """Every paragraph that names GPT-4o or Nano Banana says that it is a guess, or what alone is known."""
    folders = ("lectures", "notebooks", "solutions", "minidiff")
    files = [f for folder in folders for f in (root / folder).rglob("*") if f.suffix in (".md", ".py")]
    texts = [f.read_text(encoding="utf-8").split("## References")[0] for f in (*files, root / "README.md")]
    assert sum("GPT-4o" in text for text in texts) > 5
    for text in texts:
        for part in re.split(r"\n#? ?\n", text):
            if re.search("GPT-4o|Nano Banana", part):
                assert re.search("guess|not published", part, re.IGNORECASE), part[:200]
    assert "guess" in str(guess.__doc__)


def test_shipped_models_do_as_their_records_say(both):
    """Few pictures, drawn anew; another's caption is the control."""
    found = transfusion.scores(both, 24, transfusion.World(families=("one", "relation")), (1.0,), 20)
    scores = record("transfusion")["scores"]
    for family in ("one", "relation"):
        assert found[f"{family}, drawn, w=1"] >= scores[f"{family}, drawn, w=1"] - 0.2
        assert found[f"{family}, described"] >= scores[f"{family}, described"] - 0.2
        assert found[f"{family}, described, another picture"] < 0.45
    model = hunyuan.MODEL.load()
    prompts, aspects, _ = hunyuan.stories(60, hunyuan.WORLD, 0, "test")
    told = [hunyuan.asked(text, a) for text, a in zip(hunyuan.captions(prompts), aspects.tolist(), strict=True)]
    chosen = hunyuan.choose(model, [[text] for text in told])
    assert float((chosen == aspects).float().mean()) >= 0.95  # the bar
    assert float((chosen == aspects.roll(1)).float().mean()) < 0.6
