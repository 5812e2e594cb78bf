"""The claims of chapter 12, each with a control that must fail."""

import json
import math
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from _pages import number, same, table_rows

from minidiff.data.captions import caption, captions
from minidiff.data.prompts import OPPOSITE, place
from minidiff.data.scenes import render
from minidiff.encoders.clip import contrastive_loss
from minidiff.encoders.joined import join
from minidiff.judges.ranking import winoground
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.judges.sentences import read
from minidiff.randomness import randn, seeded
from minidiff.systems import clip_failures, clip_scenes, clip_sprites, llm, readers, vlm


@pytest.fixture(scope="module")
def lecture(root):
    return (root / "lectures" / "12_text_encoders.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(root):
    return json.loads((root / "benchmarks" / "results" / "text_encoders.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- derivations


def test_an_encoder_without_order_scores_nothing_where_pictures_are_alike():
    """Section 1: v₁ = v₀ + δ and u₀ ≈ u₁; against pictures that differ."""
    v = F.normalize(randn((2000, 1, 16), seeded(0)) + 0.01 * randn((2000, 2, 16), seeded(1)), dim=-1)
    shares = []
    for apart in (0.02, 3.0):
        u = F.normalize(randn((2000, 1, 16), seeded(2)) + apart * randn((2000, 2, 16), seeded(3)), dim=-1)
        found = winoground(u @ v.transpose(1, 2))
        shares.append(float(found["text"].float().mean()))
    assert shares[0] < 0.03 < 0.2 < shares[1]


def test_equal_captions_win_nothing():
    """Question 1: v(c) = v(c̄); captions that differ in the least (the control) win something."""
    equal = randn((2000, 2, 1), seeded(0)).expand(-1, -1, 2)
    assert not any(bool(score.any()) for score in winoground(equal).values())
    assert 0 < float(winoground(equal + 1e-3 * randn((2000, 2, 2), seeded(1)))["text"].float().mean()) < 0.3


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


@pytest.mark.parametrize(("contents", "batch"), [(40, 8), (1000, 64)])
def test_how_often_a_swap_is_a_batch_mate(contents, batch):
    """Section 3: at most (B − 1)/R; with swaps beside (the control) always."""
    mates = torch.randint(contents, (20_000, batch - 1), generator=seeded(0))
    found = float((mates == 0).any(1).float().mean())  # content 0 is the swap
    exact = 1 - (1 - 1 / contents) ** (batch - 1)
    assert found == pytest.approx(exact, abs=4 * (exact / 20_000) ** 0.5)
    assert 0.7 * (batch - 1) / contents < exact <= (batch - 1) / contents < 1


def test_the_bound_holds_for_every_encoder():
    """(2), for random vectors; without the swaps in the sum (the control) it does not."""
    u, v, swaps = (F.normalize(randn((200, 8), seeded(k)), dim=1) for k in range(3))
    loss = lambda others: F.cross_entropy(5 * u @ torch.cat([v, *others]).T, torch.arange(200), reduction="none")
    bound = F.softplus(5 * (u * (swaps - v)).sum(1))
    assert bool((loss([swaps]) >= bound - 1e-5).all())
    few = F.cross_entropy(5 * u[:2] @ v[:2].T, torch.arange(2), reduction="none")
    assert bool((few < F.softplus(5 * (u * (u - v)).sum(1))[:2]).any())


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
    assert q == pytest.approx(readers.DROP)
    assert [round(100 * share) for share in (1 - q, (1 - q) ** 3, q**2 * (1 - q))] == [54, 15, 12]
    assert "in 54 % of steps, all three at once in $(1-q)^3$, 15 %" in lecture
    assert q**3 == pytest.approx(0.1)
    assert round(100 * 0.2**3, 1) == 0.8  # question 2


def test_three_encoders_are_joined_as_drawn():
    """(3), at Stable Diffusion 3's widths."""
    clips, t5 = [torch.ones(1, 77, 768), 2 * torch.ones(1, 77, 1280)], 3 * torch.ones(1, 5, 4096)
    context = join(clips, t5)
    assert context.shape == (1, 77 + 5, 4096)
    assert [set(context[0, 0, a:b].tolist()) for a, b in ((0, 768), (768, 2048), (2048, 4096))] == [{1}, {2}, {0}]
    assert set(context[0, 77].tolist()) == {3}
    assert not torch.equal(context, join(clips[::-1], t5))  # the control


def test_minutes_add_up(lecture):
    minutes = [int(n) for n in re.findall(r"^## \d.*\(core, (\d+) minutes\)", lecture, re.MULTILINE)]
    assert len(minutes) == 7
    assert f"sections 1 to 7 ({sum(minutes)} minutes)" in lecture


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
    assert seen == 14
    assert [panels[f"{arm}, surrounding, choice"] for arm in arms[:2]] == [1.0, 1.0]
    recall = [shipped.record()["scores"]["R@1 of 50, caption for a picture"] for shipped in
              (clip_sprites.PLAIN, clip_sprites.MODEL, clip_scenes.MODEL)]  # fmt: skip
    assert [f"{value:.2f}" for value in recall] == ["0.93", "0.95", "1.00"]
    assert facts["failures"]["equal to the bit"] == 1.0
    assert min(found["group"] for found in facts["failures"]["lecture pair"].values()) == 1.0


def test_longer_training_is_what_was_measured(lecture, facts):
    rows = table_rows(lecture, "| step | recall among 50 |")
    assert [row[0] for row in rows] == ["250", "1,500", "3,000", "4,500"]
    for step, recall, swap in rows:
        found = facts["longer"][step.replace(",", "")]
        same(recall, found["R@1 of 50, caption for a picture"])
        same(swap, found["relation or its swap (chance 0.5)"])
    assert clip_sprites.MODEL.record()["scores"]["relation or its swap (chance 0.5)"] > 0.95


def test_the_probes_are_what_was_measured(lecture, facts):
    probes = facts["failures"]["probes"]
    at, who = clip_failures.RELATION, clip_failures.WHO
    rows = table_rows(lecture, "| | untrained | plain | hard negatives |")
    arms = ("plain, untrained", "plain, trained", "hard negatives, trained")
    for row, (question, left_out) in zip(rows, [(at, 0), (at, 2), (who, 0)], strict=True):
        for arm, cell in zip(arms, row[1:], strict=True):
            same(cell, probes[f"{arm}, {left_out} blocks left out"][question])
    assert "two to choose from (.52)" in lecture
    same(".52", probes["plain, trained, 0 blocks left out"][f"{who}, bag of words"])
    assert probes["plain, trained, 0 blocks left out"][f"{at}, bag of words"] == 1.0  # "one word says so"


@torch.no_grad()
def test_what_the_bag_has_is_kept_and_pictures_give_up_the_order_too(lecture):
    """Section 3's two predictions: the axis exchanged; pictures of a swap beside more pictures of one caption."""
    across = {"left of": "above", "above": "left of", "right of": "below", "below": "right of"}
    axis, swapped, again = table_rows(lecture, "| | plain | hard negatives | scenes |")
    arms, near = clip_failures.ARMS | {"scenes": clip_failures.BESIDES["scenes"]}, []
    for i, (shipped, on) in enumerate(arms.values(), 1):
        model, pairs = shipped.load(), clip_failures.pairs("relation", 400, on)
        turned = [(a, replace(a, relation=across[str(a.relation)])) for a, _ in pairs]
        scores = clip_failures.similarities(model, turned, "relation", on)
        choice = torch.stack([scores[:, 0, 0] > scores[:, 0, 1], scores[:, 1, 1] > scores[:, 1, 0]]).float().mean()
        same(axis[i].split("/")[0], float(choice))
        same(axis[i].split("/")[1], float(winoground(scores)["group"].float().mean()))
        look = lambda k, seed, on=on, pairs=pairs, model=model: model.encode_image(
            render(place([pair[k] for pair in pairs], seed), on.side)
        )
        cosines = [float((look(0, 0) * other).sum(1).mean()) for other in (look(1, 1), look(0, 7))]
        assert [number(swapped[i]), number(again[i])] == pytest.approx(cosines, abs=6e-4)
        near.append(cosines[1] - cosines[0])
    assert max(near[0], near[2]) < 0.006
    assert near[1] > 0.1  # the control: with swaps in the batch


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


def drawn(name: str, family: str):
    """What a reader's generator shows of the 100 held-out captions of its record, and their prompts."""
    shipped, reads = readers.READERS[name]
    prompts = replace(readers.WORLD, families=(family,)).prompts(100, 0, "test")
    with torch.no_grad():
        return prompts, parse(readers.pictures_of(shipped.load(), reads)(captions(prompts), 1.0, range(100)))


def test_two_objects_crowd_one_vector_but_keep_their_colours(lecture):
    """Section 4, 1: what is wrong in pictures of pairs."""
    prompts, seen = drawn("CLIP, pooled", "pair")
    wrong = Counter()
    for i, prompt in enumerate(prompts):
        things = [thing[:2] for thing in seen.scenes.objects(i)] if seen.readable[i] else []
        wanted = [(group.kind, group.colour) for group in prompt.groups]
        alike = [sorted(a) == sorted(b) for a, b in zip(zip(*things), zip(*wanted))] if len(things) == 2 else []
        if sorted(things) != sorted(wanted):
            wrong[tuple(alike)] += 1  # kinds alike, colours alike
    assert abs(sum(wrong.values()) - 66) <= 2
    assert abs(wrong[False, True] - 43) <= 2
    assert abs(wrong[True, True] - 2) <= 1
    assert "Of 66 wrong pairs 43 have a wrong kind, 2 exchanged colours" in lecture
    assert readers.POOLED.record()["scores"]["one"] == 0.97


def test_relations_by_tokens_are_chance(lecture):
    """Section 4, 2: any relation of the right objects, and the right one; the chat model's is always the right one."""
    shown = {}
    for name in ("CLIP, tokens", "chat model"):
        prompts, seen = drawn(name, "relation")
        ways = [matches([replace(p, relation=way) for p in prompts], seen) for way in OPPOSITE]
        shown[name] = int(torch.stack(ways).any(0).sum()), int(matches(prompts, seen).sum())
    assert [abs(a - b) <= 2 for a, b in zip(shown["CLIP, tokens"], (93, 28))] == [True, True]
    assert shown["chat model"][1] >= shown["chat model"][0] - 2
    assert "93 of 100 pictures have the two objects in a relation, 28 in the right one" in lecture


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
    fell = [scores[f"{q}, all three"] - scores[f"{q}, without the chat model"] for q in readers.QUESTIONS]
    assert sorted(round(100 * value) for value in fell)[-3:] == [9, 55, 58]
    chat = readers.LANGUAGE.record()["scores"]
    assert [chat["pair"], chat["relation"]] == [0.82, 0.98]
    assert chat["relation, long"] > scores["relation, long, all three"] + 0.3


def test_states_and_wordings_are_what_was_measured(lecture, facts):
    named = {"layer 0 (words)": "layer 0 (words alone)"}
    for name, loss, relation in table_rows(lecture, "| states | loss · 1000 |"):
        found = facts["states"][named.get(name, name)]
        same(loss, 1000 * found["loss"])
        same(relation, found["relation"])
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


@torch.no_grad()
def test_later_layers_are_louder(lecture):
    tokens = llm.chat(captions(readers.WORLD.prompts(100, 0, "test")))
    told = tokens[:, llm.CUT :] != 0
    length = [float(h[:, llm.CUT :].norm(dim=-1)[told].mean()) for h in llm.MODEL.load().states(tokens)]
    assert length == sorted(length)
    assert "grows from 10 to 264" in lecture
    assert [length[0], length[-1]] == pytest.approx([9.7, 264], rel=0.01)
    assert round(llm.MODEL.record()["parameters"] / 1e6, 2) == 0.49


def test_what_is_said_shortly_is_mostly_right_and_else_exchanges_colours(lecture):
    right, exchanged = [], 0
    for family in ("relation", "negation", "pair"):
        prompts = replace(readers.WORLD, families=(family,)).prompts(100, 0, "test")
        said = llm.shortly(llm.MODEL.load(), captions(prompts, "paraphrase"))
        bag = lambda prompt: (sorted(map(str, prompt.groups)), prompt.absent)
        where = lambda prompt: prompt.relation and {str(prompt), str(prompt.turned())}
        meant = [read(text) for text in said]
        good = [a is not None and bag(a) == bag(p) and where(a) == where(p) for a, p in zip(meant, prompts)]
        right.append(sum(good))
        words = lambda text: Counter(text.replace(",", "").split())
        ways = [{caption(p), caption(p.turned()) if p.relation else ""} for p in prompts]
        exchanged += sum(any(words(a) == words(b) for b in way) for a, way, ok in zip(said, ways, good) if not ok)
    assert right == pytest.approx([95, 89, 70], abs=1)
    assert "it says 95, 89, 70 of 100 rightly, else mostly exchanges colours" in lecture
    assert exchanged > 0.75 * (300 - sum(right))


def test_the_seeing_model_and_its_editor_are_what_their_records_say(lecture):
    looks, edited = vlm.SEEING.record()["scores"], vlm.EDITOR.record()["scores"]
    asked = {"is there …": "present", "what colour": "colour", "who is left of …": "relation"}
    for name, *cells in table_rows(lecture, "| 300 questions |"):
        for cell, way in zip(cells, ("", ", the next picture", ", no picture"), strict=True):
            same(cell, looks[asked[name] + way])
    told = {"another colour": "colour", "another kind": "kind", "remove": "remove"}
    for name, *cells in table_rows(lecture, "| 100 edits, w = 1 |"):
        for cell, way in zip(cells, ("", ", in place", ", the next picture"), strict=True):
            same(cell, edited[told[name] + way])


def test_one_vector_per_sentence_is_what_was_measured(lecture, facts):
    named = {"CLIP, plain": "scenes", "CLIP with swaps": "scenes, hard negatives",
             "chat model, averaged": "chat model", "MiniLM": "MiniLM"}  # fmt: skip
    rows = table_rows(lecture, "| nearer than its … | swap | negation |")
    assert len(rows) == 4
    for name, swap, negation in rows:
        same(swap, facts["nearer"][named[name]]["nearer than its swap"])
        same(negation, facts["nearer"][named[name]]["nearer than its negation"])


def test_nothing_is_left_to_fill_in(root, lecture):
    scripts = [root / folder / "12_text_encoders.py" for folder in ("notebooks", "solutions")]
    pages = [lecture, *(script.read_text(encoding="utf-8") for script in scripts)]
    assert not any(re.search(r"TODO|TBD|\?\?\?|XXX", page) for page in pages)
    assert len(lecture.split()) <= 3000
