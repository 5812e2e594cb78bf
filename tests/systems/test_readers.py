"""One generator, four readers: what differs is what stands beside it, and what each cannot hear it cannot draw."""

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.judges.scorecard import matches
from minidiff.systems import clip_scenes, llm, readers
from minidiff.systems.readers import ALL, LEFT_OUT, READERS
from minidiff.training import step_generator
from minidiff.weights import fingerprint

TEXTS = ["a red circle left of a blue square", "three green stars"]


def test_the_generators_differ_in_what_they_read_alone():
    """The same network but for the keys and values of a context, which one vector does not need."""
    nets = {name: shipped.untrained().net.backbone for name, (shipped, _) in READERS.items()}
    names = {name: {k: v.shape for k, v in net.state_dict().items()} for name, net in nets.items()}
    assert names["CLIP, tokens"] == names["chat model"] == names["all joined"]
    more = names["CLIP, tokens"].keys() - names["CLIP, pooled"].keys()
    assert {name.split(".")[2] for name in more} == {"context_k", "context_v"}
    assert {(s.steps, s.seed) for s, _ in READERS.values()} == {(6000, 0)}


def test_encoders_are_the_shipped_ones_to_the_bit():
    for name, module in (("CLIP, tokens", clip_scenes.MODEL.load().text), ("chat model", llm.MODEL.load())):
        encoder = READERS[name][0].load().net.conditioning.encoder
        inner = encoder.tower if name == "CLIP, tokens" else encoder.model
        assert fingerprint(inner) == fingerprint(module)


def test_batches_are_short_or_long_and_a_tenth_is_silent():
    draw = readers.draw_scenes(32, readers.read_clip)
    batches = [draw(step_generator(0, step)) for step in range(60)]
    long = [batch for batch in batches if batch["tokens"].shape[1] == 77]
    assert 5 <= len(long) <= 20  # a fifth of 60
    silent = [(batch["tokens"] == 2).float().argmax(1) == 1 for batch in batches]
    assert float(torch.cat(silent).float().mean()) == pytest.approx(0.1, abs=0.025)
    heard = torch.cat([readers.draw_scenes(32, readers.read_joined)(step_generator(0, s))["heard"] for s in range(30)])
    assert heard.float().mean(0).tolist() == pytest.approx([1 - readers.DROP] * 3, abs=0.05)


def test_null_is_as_long_as_the_texts_and_hears_nobody():
    cond, null = readers.with_null(readers.read_joined, TEXTS)
    assert cond["heard"].tolist() == [list(ALL)] * 2
    assert not bool(null["heard"].any())
    assert all(null[k].shape == cond[k].shape[1:] for k in cond)


def test_a_picture_does_not_depend_on_its_neighbours():
    shipped, reads = READERS["chat model"]
    draw = readers.pictures_of(shipped.load(), reads, steps=25)
    both = draw(TEXTS, 1.0, [5, 6])
    assert torch.allclose(both[1:], draw(TEXTS[1:], 1.0, [6]), atol=1e-4)
    assert not torch.allclose(both[:1], draw(TEXTS[:1], 1.0, [7]), atol=0.1)


def test_the_chat_model_is_heard_where_clip_is_not():
    """Relations: an order that this CLIP has thrown away."""
    prompts = readers.replace(readers.WORLD, families=("relation",)).prompts(30, 5, "test")
    found = {}
    for name in ("CLIP, tokens", "chat model"):
        shipped, reads = READERS[name]
        pictures = readers.pictures_of(shipped.load(), reads, steps=25)(captions(prompts), 1.0, range(30))
        found[name] = float(matches(prompts, pictures).float().mean())
        assert float(matches(prompts[1:] + prompts[:1], pictures).float().mean()) <= 0.1  # the next caption
    assert found["chat model"] >= 0.85
    assert found["CLIP, tokens"] <= 0.5


def test_the_records_hold_the_bars_that_hold_and_say_which_do_not():
    scores = {name: shipped.record()["scores"] for name, (shipped, _) in READERS.items()}
    pooled, tokens, chat, joined = (scores[name] for name in READERS)
    for question in ("relation", "relation, long", "pair, long", "relation, paraphrase"):
        assert chat[question] >= max(pooled[question], tokens[question]) + 0.15
    for question in ("relation, long", "pair, long"):  # only the chat model reads that far
        assert joined[f"{question}, all three"] >= joined[f"{question}, without the chat model"] + 0.4
        assert joined[f"{question}, all three"] - joined[f"{question}, without both CLIPs"] < 0.25
    for question in ("one", "pair", "negation", "relation"):  # and nothing else is lost with it
        assert joined[f"{question}, all three"] - joined[f"{question}, without the chat model"] < 0.15
    heard = [joined[f"relation, without the {which} CLIP"] for which in ("first", "second")]
    assert heard[0] >= heard[1] + 0.1  # the second was trained with swaps
    assert tokens["pair"] >= pooled["pair"] + 0.15  # which colour is whose: in the tokens, not in their sum
    assert chat["negation, paraphrase"] < tokens["negation, paraphrase"]  # not a bar: it fell short
    for each in scores.values():
        assert all(value <= 0.35 for name, value in each.items() if name.endswith("another caption"))


def test_leaving_out_is_named_for_every_encoder():
    assert {sum(heard) for heard in LEFT_OUT.values()} == {1, 2, 3}
    assert readers.read_joined(TEXTS, (True, False, True))["heard"].tolist() == [[True, False, True]] * 2
