"""The exercises of chapter 12: wrong answers that look right, and right ones beside them."""

from functools import partial
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from _answers import answers
from torch import Tensor

from minidiff.course.exercise import find
from minidiff.encoders.clip import contrastive_loss
from minidiff.encoders.language import LanguageModel, Layers
from minidiff.judges.ranking import winoground
from minidiff.randomness import initialised, randn, seeded
from minidiff.systems import llm

# ---------------------------------------------------------------- three scores


def told_by(
    text=lambda s: (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0]),
    image=lambda s: (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1]),
    group=lambda text, image, s: text & image,
    join=lambda parts: torch.stack(parts, 1),
):
    def three_scores(similarity):
        a, b = text(similarity), image(similarity)
        return join([a, b, group(a, b, similarity)])

    return three_scores


SCORES = {
    "argmax, so that ties go to the first": told_by(
        text=lambda s: (s.argmax(2) == torch.arange(2)).all(1), image=lambda s: (s.argmax(1) == torch.arange(2)).all(1)
    ),
    "one picture for two": told_by(text=lambda s: s[:, 0, 0] > s[:, 0, 1]),
    "one caption for two": told_by(image=lambda s: s[:, 0, 0] > s[:, 1, 0]),
    "transposed": lambda s: told_by()(s.mT),
    "the group by the larger of all": told_by(
        group=lambda text, image, s: s.diagonal(dim1=1, dim2=2).sum(1) > s.mT.flip(1).diagonal(dim1=1, dim2=2).sum(1)
    ),
    "ties within rounding": told_by(group=lambda text, image, s: text & image & (s[:, 0, 0] - s[:, 0, 1] > 0.05)),
    "group first": told_by(join=lambda parts: torch.stack(parts[::-1], 1)),
    "along the other axis": told_by(join=lambda parts: torch.stack(parts)),
    "means": lambda s: told_by()(s).double().mean(0),
    "numbers": lambda s: told_by()(s).double(),
    "only what wins either": lambda s: told_by()(s)[told_by()(s).any(1)],
}

# ---------------------------------------------------------------- joined


def put(
    loud=lambda heard, k: heard[:, k],
    first=lambda parts: torch.cat(parts, 2),
    wide=lambda first, behind: max(first.shape[2], behind.shape[2]),
    fill=lambda x, n: F.pad(x, (0, n)),
    join=lambda first, behind: torch.cat([first, behind], 1),
):
    def joined(side_by_side, behind, heard):
        silent = lambda x, k: x * loud(heard, k).to(x)[:, None, None]
        x = first([silent(part, k) for k, part in enumerate(side_by_side)])
        y = silent(behind, -1)
        n = wide(x, behind)
        return join(fill(x, n - x.shape[2]), fill(y, n - y.shape[2]))

    return joined


JOINED = {
    "the language model is always heard": put(loud=lambda heard, k: heard[:, k] | (k == -1)),
    "the first decides for all": put(loud=lambda heard, k: heard[:, 0]),
    "columns from the end": put(loud=lambda heard, k: heard.flip(1)[:, k]),
    "dropped where it is heard": put(loud=lambda heard, k: ~heard[:, k]),
    "the first row for all": put(loud=lambda heard, k: heard[:1, k].expand(len(heard))),
    "as wide as the language model": put(wide=lambda first, behind: behind.shape[2]),
    "as wide as all together": put(wide=lambda first, behind: first.shape[2] + behind.shape[2]),
    "ones as padding": put(fill=lambda x, n: F.pad(x, (0, n), value=1.0) if n > 0 else x),
    "the last channel again": put(fill=lambda x, n: torch.cat([x, x[..., -1:].expand(*x.shape[:2], max(n, 0))], 2)),
    "the CLIPs added": put(first=lambda parts: torch.cat([parts[0] + sum(p.mean() for p in parts), *parts[1:]], 2)),
    "the first CLIP alone": put(first=lambda parts: parts[0]),
    "behind one another": put(first=lambda parts: parts[0] if len(parts) < 2 else torch.cat(
        [F.pad(p, (0, max(q.shape[2] for q in parts) - p.shape[2])) for p in parts], 1)),
    "float32": lambda side, behind, heard: put()([x.float() for x in side], behind.float(), heard),
}  # fmt: skip

# ---------------------------------------------------------------- states


def taken(
    which=lambda states, k: states[k],
    norm=lambda x: F.layer_norm(x, x.shape[-1:]),
    keep=lambda x, cut: x[:, cut:],
    join=lambda parts: torch.cat(parts, 2),
    told=lambda tokens, cut: (tokens != 0)[:, cut:],
):
    def caption_states(states, tokens, layers, cut):
        return join([keep(norm(which(states, k)), cut) for k in layers]), told(tokens, cut)

    return caption_states


STATES = {
    "without what enters the first block": taken(which=lambda states, k: states[1:][k if k < 0 else max(k - 1, 0)]),
    "the last one always": taken(which=lambda states, k: states[-1]),
    "counted from the end": taken(which=lambda states, k: states[-1 - k]),
    "length 1": taken(norm=lambda x: F.normalize(x, dim=-1)),
    "not centred": taken(norm=lambda x: x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()),
    "over tokens, too": taken(norm=lambda x: F.layer_norm(x, x.shape[-2:])),
    "another epsilon": taken(norm=lambda x: F.layer_norm(x, x.shape[-1:], eps=0.1)),
    "divided by D − 1": taken(norm=lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)),
    "one more cut": taken(
        keep=lambda x, cut: x[:, min(cut + 1, x.shape[1] - 1) :],
        told=lambda tokens, cut: (tokens != 0)[:, min(cut + 1, tokens.shape[1] - 1) :],
    ),
    "nothing cut": taken(keep=lambda x, cut: x, told=lambda tokens, cut: tokens != 0),
    "channels interleaved": taken(join=lambda parts: torch.stack(parts, 3).flatten(2)),
    "one layer after another on the sequence": taken(join=lambda parts: torch.cat(parts, 1)),
    "layers in the order of depth": lambda states, tokens, layers, cut: taken()(
        states, tokens, sorted(k % len(states) for k in layers), cut
    ),
    "a layer once": lambda states, tokens, layers, cut: taken()(states, tokens, list(dict.fromkeys(layers)), cut),
    "a mask of all": taken(told=lambda tokens, cut: torch.ones_like(tokens[:, cut:], dtype=torch.bool)),
    "a mask of padding": taken(told=lambda tokens, cut: (tokens == 0)[:, cut:]),
    "padding set to zero": lambda states, tokens, layers, cut: tuple(
        part * (taken()(states, tokens, layers, cut)[1][..., None] if part.dtype != torch.bool else True)
        for part in taken()(states, tokens, layers, cut)
    ),
}

# ---------------------------------------------------------------- registers


def filled(
    more=lambda context, learned: len(learned) - context.shape[1],
    told=lambda told, n: F.pad(told, (0, n)),
    choose=lambda told, x, learned: torch.where(told[..., None], x, learned[: x.shape[1]]),
):
    def registers(context, told_, learned):
        n = more(context, learned)
        return choose(told(told_, n), F.pad(context, (0, 0, 0, n)), learned)

    return registers


REGISTERS = {
    "zeros beyond the longest": filled(told=lambda told, n: F.pad(told, (0, n), value=True)),
    "one register for all": filled(choose=lambda told, x, learned: torch.where(told[..., None], x, learned[:1])),
    "registers backwards": filled(choose=lambda told, x, learned: torch.where(told[..., None], x, learned.flip(0))),
    "until the first hole": filled(told=lambda told, n: F.pad(told, (0, n)).int().cummin(1).values.bool()),
    "up to the last word": filled(
        told=lambda told, n: F.pad(told, (0, n)).int().flip(1).cummax(1).values.flip(1).bool()
    ),
    "where the context is zero": lambda context, told, learned: filled()(context, context.abs().sum(2) > 0, learned),
    "the longest of the batch for all": filled(told=lambda told, n: F.pad(told.any(0).expand_as(told), (0, n))),
    "one more register": lambda context, told, learned: torch.cat(
        [filled()(context, told, learned), learned[-1:].expand(len(context), -1, -1)], 1
    ),
    "registers of size 1": lambda context, told, learned: filled()(context, told, F.normalize(learned, dim=1)),
    "float64": lambda context, told, learned: filled()(context, told, learned).double(),
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "global randomness": ("randperm(len(pictures), generator=generator)", "randperm(len(pictures))"),
    "with replacement": (
        "randperm(len(pictures), generator=generator)[:batch]",
        "randint(len(pictures), (batch,), generator=generator)",
    ),
    "drawn twice": ("swaps = swapped[rows]", "swaps = swapped[rows[torch.randperm(len(rows), generator=generator)]]"),
    "the swaps of all pictures": ("swaps = swapped[rows]", "swaps = swapped"),
    "the first swap for all": ("swaps = swapped[rows]", "swaps = swapped[:1].expand(len(rows), -1)"),
    "not the word 0": ("(swaps >= 0)", "(swaps > 0)"),
    "the captions again": ("read(now, swaps)", "read(now, tokens[rows])"),
    "swaps of longer than 1": ("c = F.normalize(read(now, swaps), dim=1)", "c = read(now, swaps)"),
    "swaps frozen": ("read(now, swaps), dim=1)", "read(now, swaps), dim=1).detach()"),
    "captions frozen": ("read(now, tokens[rows]), dim=1)", "read(now, tokens[rows]), dim=1).detach()"),
    "pictures frozen": ("look(now,", "look(weights,"),
    "over the batch": ("pictures[rows]), dim=1)", "pictures[rows]), dim=0)"),
    "swaps first": ("torch.cat([b, c])", "torch.cat([c, b])"),
    "swaps are pictures": ("wide, back = scale * a @ torch.cat([b, c]).T, scale * b @ a.T",
        "wide, back = scale * a @ b.T, scale * b @ torch.cat([a, c]).T"),
    "only the wide table": ("(F.cross_entropy(wide, right) + F.cross_entropy(back, right)) / 2",
        "F.cross_entropy(wide, right)"),
    "the sum of both": ("back, right)) / 2", "back, right))"),
    "the same question twice": ("F.cross_entropy(back, right)", "F.cross_entropy(wide[:, : len(rows)], right)"),
    "a wide table without scale": ("scale * a @", "a @"),
    "a temperature": ("scale * a @ torch.cat([b, c]).T, scale * b @", "a @ torch.cat([b, c]).T / scale, b / scale @"),
    "decayed weights": ("torch.optim.Adam(", "torch.optim.AdamW("),
    "gradients add up": ("        optimizer.zero_grad()\n", ""),
    "one step too few": ("range(steps)", "range(steps - 1)"),
    "losses after the step": ("losses.append(loss.detach())", "losses.append(loss.detach() / 2)"),
    "the first weights": ("[w.detach() for w in now]", "[w.detach() for w in weights]"),
    "in place": ("w.clone().requires_grad_()", "w.requires_grad_()"),
}  # fmt: skip


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "12-hard-negatives", {"torch": torch, "F": F, "Tensor": Tensor})


TestAnswers = answers(
    chapter="12_text_encoders",
    build="12-hard-negatives",
    experiment="12-where-it-goes",
    wrong={"12-winoground": SCORES, "12-join": JOINED, "12-states": STATES, "12-registers": REGISTERS},
    right={"12-winoground": told_by(), "12-join": put(), "12-states": taken(), "12-registers": filled()},
    slips=SLIPS,
)


def test_chance_is_a_quarter_a_quarter_and_a_sixth():
    orders = torch.tensor(list(permutations(range(4)))).reshape(24, 2, 2)
    found = find("12-winoground").reference(orders)
    assert found.sum(0).tolist() == [6, 6, 4]
    assert torch.equal(found[:, 2], winoground(orders)["group"])
    assert told_by(text=lambda s: s[:, 0, 0] > s[:, 0, 1])(orders).sum(0).tolist() != [6, 6, 4]  # the control


def towers():
    """Look and read by hand, their weights, and 12 pairs."""
    g = seeded(3)
    weights = [randn(shape, g) for shape in ((4, 5), (7, 5), (3, 1))]
    look = lambda w, x: x @ w[0]
    read = lambda w, t: (w[1][t] * w[2]).sum(1)
    return look, read, weights, randn((12, 4), g), torch.randint(7, (12, 3), generator=g)


@pytest.mark.parametrize("own", [True, False], ids=["the master's", "the reference"])
def test_without_swaps_the_loss_is_clips(built, own):
    look, read, weights, x, t = towers()
    run = built() if own else find("12-hard-negatives").reference
    first = lambda swapped: run(look, read, weights, x, t, swapped, 1, 12, 0.01, 5.0, seeded(0))[1]
    unit = lambda v: F.normalize(v, dim=1)
    plain = contrastive_loss(unit(look(weights, x)), unit(read(weights, t)), 5.0).mean()
    assert torch.allclose(first(torch.full_like(t, -1))[0], plain, atol=1e-5)
    assert first(t.flip(1))[0] > plain + 0.05  # the control: more to choose from is harder


def test_the_states_are_those_that_a_generator_looks_at():
    model = initialised(lambda: LanguageModel(len(llm.tokenizer()), llm.LENGTH, dim=16, depth=3), 0).requires_grad_(
        False
    )
    tokens = llm.chat(["a red circle", "a red circle left of a blue square"])
    run = find("12-states").reference
    for layers in ([-2], [0, 2, 3]):
        context, told = run(model.states(tokens), tokens, layers, llm.CUT)
        theirs = Layers(model, layers, llm.CUT).encode(tokens)
        assert torch.equal(context, theirs.context)
        assert torch.equal(told, theirs.mask)
    assert not torch.equal(
        run(model.states(tokens), tokens, [-1], llm.CUT)[0], Layers(model, (-2,), llm.CUT).encode(tokens)[1]
    )
