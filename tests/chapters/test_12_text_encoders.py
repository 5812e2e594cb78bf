"""The claims of chapter 12, each with a control that must fail."""

import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from _pages import table_rows

from minidiff.encoders.clip import contrastive_loss
from minidiff.randomness import randn, seeded
from minidiff.systems import clip_failures, clip_scenes, clip_sprites, readers, vlm


@pytest.fixture(scope="module")
def lecture(root):
    return (root / "lectures" / "12_text_encoders.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(root):
    return json.loads((root / "benchmarks" / "results" / "text_encoders.json").read_text(encoding="utf-8"))


def number(text: str) -> float:
    return float(re.findall(r"\d*\.?\d+", text.replace(",", ""))[0])


def same(said: str, measured: float) -> None:
    """As the lecture rounds it: to two places, or to one where it is in thousands."""
    assert number(said) == pytest.approx(measured, abs=0.0051 if abs(measured) <= 1 else 0.051), (said, measured)


# ---------------------------------------------------------------- derivations


def test_an_encoder_without_order_scores_nothing_where_pictures_are_alike():
    """Section 1: v₁ = v₀ + δ and u₀ ≈ u₁; against pictures that differ."""
    v = F.normalize(randn((2000, 1, 16), seeded(0)) + 0.01 * randn((2000, 2, 16), seeded(1)), dim=-1)
    shares = []
    for apart in (0.02, 3.0):
        u = F.normalize(randn((2000, 1, 16), seeded(2)) + apart * randn((2000, 2, 16), seeded(3)), dim=-1)
        found = clip_failures.winoground(u @ v.transpose(1, 2))
        shares.append(float(found["text"].float().mean()))
    assert shares[0] < 0.03 < 0.2 < shares[1]


def test_a_bag_reaches_the_loss_of_a_batch_and_not_of_a_batch_with_swaps():
    """Section 3, the claim and (2): one vector per bag; with its swap beside it a caption loses log 2 at least."""
    u = F.normalize(randn((6, 8), seeded(0)), dim=1)
    ordered = F.normalize(u + 0.1 * randn((6, 8), seeded(1)), dim=1)
    bags = {frozenset({i, i + 10}): v for i, v in enumerate(ordered)}
    told = torch.stack([bags[frozenset({i + 10, i})] for i in range(6)])  # read from the other side
    assert torch.equal(contrastive_loss(u, told, 20.0), contrastive_loss(u, ordered, 20.0))
    rows = lambda captions: F.cross_entropy(20.0 * u @ captions.T, torch.arange(6), reduction="none")
    assert bool((rows(torch.cat([told, told])) >= math.log(2) - 1e-6).all())  # swaps have the same bags
    swaps = F.normalize(randn((6, 8), seeded(2)), dim=1)
    assert bool((rows(torch.cat([told, swaps])) < math.log(2)).any())  # the control: an encoder with order


def test_what_a_compromise_costs():
    for theta in (0.05, 0.2):
        u, other = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(theta), math.sin(theta)])
        v = F.normalize(u + other, dim=0)
        assert float(u @ v) == pytest.approx(math.cos(theta / 2), rel=1e-5)
        assert 1 - math.cos(theta / 2) == pytest.approx(theta**2 / 8, rel=0.01)
        assert 1 - math.cos(theta / 2) != pytest.approx(theta**2 / 4, rel=0.4)  # the control


def test_how_often_encoders_are_heard(lecture):
    q = 0.1 ** (1 / 3)
    assert round(q, 3) == 0.464
    assert "=.464" in lecture
    assert round(1 - q, 2) == 0.54
    assert q**3 == pytest.approx(0.1)
    assert pytest.approx(0.1, abs=0.05) != 0.2**3


# ---------------------------------------------------------------- numbers


def test_the_five_failures_are_what_was_measured(lecture, facts):
    panels = facts["failures"]["panels"]
    arms = ("plain", "hard negatives", "scenes")
    seen = 0
    for panel, *cells in table_rows(lecture, "| pair | plain | hard negatives | scenes |"):
        for arm, cell in zip(arms, cells):
            known = panels.get(f"{arm}, {panel}, choice")
            assert (known is None) == (cell == "–")
            if known is not None:
                choice, group = cell.split("/")
                same(choice, known)
                same(group, panels[f"{arm}, {panel}, group"])
                seen += 1
    assert seen == 16
    recall = [shipped.record()["scores"]["R@1 of 50, caption for a picture"] for shipped in
              (clip_sprites.PLAIN, clip_sprites.MODEL, clip_scenes.MODEL)]  # fmt: skip
    assert [f"{value:.2f}" for value in recall] == ["0.93", "0.95", "1.00"]
    assert facts["failures"]["equal to the bit"] == 1.0
    assert min(found["group"] for found in facts["failures"]["lecture pair"].values()) == 1.0


def test_longer_training_is_what_was_measured(lecture, facts):
    rows = table_rows(lecture, "| step | recall among 50 |")
    assert [row[0] for row in rows] == ["250", "1,500", "3,000", "4,500"]
    for step, recall, swap, group in rows:
        found = facts["longer"][step.replace(",", "")]
        same(recall, found["R@1 of 50, caption for a picture"])
        same(swap, found["relation or its swap (chance 0.5)"])
        same(group, found["group"])
    assert clip_sprites.MODEL.record()["scores"]["relation or its swap (chance 0.5)"] > 0.95


def test_the_probes_are_what_was_measured(lecture, facts):
    probes = facts["failures"]["probes"]
    at, who = clip_failures.RELATION, clip_failures.WHO
    rows = table_rows(lecture, "| | untrained | plain | hard negatives | bag of words |")
    arms = ("plain, untrained", "plain, trained", "hard negatives, trained")
    for row, (question, left_out) in zip(rows, [(at, 0), (at, 1), (at, 2), (who, 0)], strict=True):
        for arm, cell in zip(arms, row[1:4]):
            same(cell, probes[f"{arm}, {left_out} blocks left out"][question])
        if row[4]:
            same(row[4], probes["plain, trained, 0 blocks left out"][f"{question}, bag of words"])


def test_left_and_right_have_become_near_synonyms(lecture):
    ids, found = clip_sprites.tokenizer().ids, []
    for shipped in (clip_sprites.PLAIN, clip_sprites.MODEL):
        a, b = F.normalize(shipped.load().text.token.weight[[ids["left"], ids["right"]]], dim=1)
        found.append(float(a @ b))
    assert [round(value, 2) for value in found] == [0.90, 0.25]
    assert "is .90, with swaps .25" in lecture


def test_the_readers_are_what_their_records_say(lecture):
    rows = table_rows(lecture, "| question | CLIP, pooled | CLIP, tokens | chat model | all joined |")
    assert len(rows) == 6
    for question, *cells in rows:
        for cell, (shipped, _) in zip(cells, readers.READERS.values(), strict=True):
            scores = shipped.record()["scores"]
            same(cell, scores.get(question, scores.get(f"{question}, all three")))
            other = scores.get(f"{question}, another caption", scores.get(f"{question}, all three, another caption"))
            assert other <= 0.16 + 1e-9


def test_what_is_left_out_is_what_the_record_says(lecture):
    scores, ways = readers.JOINED.record()["scores"], tuple(readers.LEFT_OUT)
    rows = table_rows(lecture, "| question | all three | no chat model |")
    assert len(rows) == 4
    for question, *cells in rows:
        for cell, way in zip(cells, ways, strict=True):
            same(cell, scores[f"{question}, {way}"])
    lost = [
        scores[f"{q}, all three"] - scores[f"{q}, without the chat model"] for q in ("relation, long", "pair, long")
    ]
    assert [round(100 * value) for value in lost] == [58, 55]
    assert round(100 * (scores["relation, all three"] - readers.TOKENS.record()["scores"]["relation"])) == 59


def test_states_and_wordings_are_what_was_measured(lecture, facts):
    named = {"layer 0 (words)": "layer 0 (words alone)"}
    for name, loss, relation, long in table_rows(lecture, "| states | loss · 1000 |"):
        found = facts["states"][named.get(name, name)]
        same(loss, 1000 * found["loss"])
        same(relation, found["relation"])
        same(long, found["relation, long"])
    names = {"said shortly first": ", said shortly"}
    for name, *cells in table_rows(lecture, "| reader | relation | negation | pair |"):
        reader, _, way = name.partition(", said")
        for cell, question in zip(cells, ("relation", "negation", "pair"), strict=True):
            same(cell, facts["rewritten"][f"{reader}, {question}, paraphrase" + (names["said" + way] if way else "")])
    assert facts["without"] == {"the absent one is there": 0.0, "more objects than named": 0.69}
    assert "in none of 100 pictures, but in 69" in lecture
    chat, clip = (facts["rewritten"][f"{who}, relation, paraphrase{how}"] for who, how in
                  (("chat model", ", said shortly"), ("CLIP, tokens", "")))  # fmt: skip
    assert round(100 * (chat - clip)) == 64
    assert facts["rewritten"]["chat model, negation, paraphrase, said shortly"] == pytest.approx(
        facts["rewritten"]["CLIP, tokens, negation, paraphrase"] - 0.13
    )


def test_the_seeing_model_and_its_editor_are_what_their_records_say(lecture):
    looks, edited = vlm.SEEING.record()["scores"], vlm.EDITOR.record()["scores"]
    asked = {"is there …": "present", "what colour": "colour", "who is left of …": "relation"}
    for name, *cells in table_rows(lecture, "| 300 questions |"):
        for cell, way in zip(cells, ("", ", the next picture", ", no picture"), strict=True):
            same(cell, looks[asked[name] + way])
    told = {"another colour": "colour", "another kind": "kind", "remove": "remove"}
    for name, *cells in table_rows(lecture, "| 100 edits, w = 1 |"):
        for cell, way in zip(cells, ("", ", in place", ", the next picture", ", grey"), strict=True):
            same(cell, edited[told[name] + way])


def test_one_vector_per_sentence_is_what_was_measured(lecture, facts):
    named = {"CLIP, plain": "scenes", "CLIP with swaps": "scenes, hard negatives",
             "chat model, states averaged": "chat model", "all-MiniLM-L6-v2": "MiniLM"}  # fmt: skip
    rows = table_rows(lecture, "| encoder | nearer than its swap |")
    assert len(rows) == 4
    for name, swap, negation in rows:
        same(swap, facts["nearer"][named[name]]["nearer than its swap"])
        same(negation, facts["nearer"][named[name]]["nearer than its negation"])


def test_nothing_is_left_to_fill_in(root, lecture):
    scripts = [root / folder / "12_text_encoders.py" for folder in ("notebooks", "solutions")]
    pages = [lecture, *(script.read_text(encoding="utf-8") for script in scripts)]
    assert not any(re.search(r"TODO|TBD|\?\?\?|XXX", page) for page in pages)
    assert len(lecture.split()) <= 3000
