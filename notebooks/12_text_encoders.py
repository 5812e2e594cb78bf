# %% [markdown]
# # 12 What CLIP cannot tell apart, and better text encoders
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Two tiny CLIPs are trained live, ten models are shipped.
#
# Since chapter 07 something has read the sentence for us: a frozen encoder, taken as it was. This chapter asks what it hears. A generator cannot draw what its reader has thrown away, however large the generator is.
# We measure five failures of CLIP on pairs that differ in one thing, find where the difference is lost, and put three other readers beside the very same generator: two CLIPs and a language model joined, a chat model, and a chat model that has seen pictures.
#
# **What you will learn.** Minimal pairs and Winoground's three scores; which of CLIP's failures come from its data, its loss, its length; why a contrastive loss may ignore word order, and the one-line repair; what each reader costs a generator; how Stable Diffusion 3 joins three encoders;
# which states of a language model one takes, and what one cuts away; a reader that sees.
#
# **Parts.** *Core*: sections 1 to 7, about 120 minutes. *Extra*: sections 8 to 10, about 30 minutes.
#
# **Before.** Chapters 06 (CLIP), 07 (attention to a sentence), 09 and 10 (readers of Stable Diffusion). **Read along:** [lecture](../lectures/12_text_encoders.md) (the derivations). **Then do:** [exercises](../exercises/12_text_encoders.ipynb).

# %%
import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import show
from minidiff.data.captions import caption, captions
from minidiff.data.prompts import LECTURE, Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.encoders.clip import TextTower, contrastive_loss

# %%
from minidiff.data import edits
from minidiff.encoders.joined import join
from minidiff.encoders.language import Layers
from minidiff.judges.ranking import recall_at, winoground
from minidiff.judges.scorecard import matches
from minidiff.nn.block import Block
from minidiff.randomness import initialised, seeded
from minidiff.show.figures import text_encoders as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import clip_failures, clip_scenes, clip_sprites, llm, readers, vlm
from minidiff.training import pick_device

# %%
device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks; the short trainings say so
facts = json.loads(Path("../benchmarks/results/text_encoders.json").read_text(encoding="utf-8"))
generators = {name: (shipped.load().to(device), reads) for name, (shipped, reads) in readers.READERS.items()}
records = {name: shipped.record()["scores"] for name, (shipped, _) in readers.READERS.items()}

# %% [markdown]
# **The same generator, the same sentences, the same noise.** All four networks have the same blocks and were trained on the same scenes for the same number of steps. Only what reads the sentence differs. **Predict** which rows will have left and right wrong.


# %%
def drawn(name: str, texts: list[str], seeds: range, w: float = 1.0, steps: int = 20) -> Tensor:
    model, reads = generators[name]
    return readers.pictures_of(model, reads, steps)(texts, w, seeds).cpu()


related_0 = replace(readers.WORLD, families=("relation",)).prompts(8, 4, "test")
first_0 = {name: drawn(name, captions(related_0), range(8)) for name in generators}
right_0 = {name: int(matches(related_0, x).sum()) for name, x in first_0.items()}
assert right_0["chat model"] > right_0["CLIP, tokens"]
assert int(matches(related_0[1:] + related_0[:1], first_0["chat model"]).sum()) <= 1  # the control: the next sentence
rows_0 = {f"{name}: {right_0[name]} of 8": x for name, x in first_0.items()}
same_noise(rows_0, captions(related_0), "Four readers, one generator")

# %% [markdown]
# ## 1. Two captions, two pictures (core, 15 minutes)
#
# A *minimal pair*: two captions with the same words, and a picture of each. CLIP gives four cosines. **Predict** the table of a CLIP that finds the right caption among fifty in more than nine cases of ten.

# %%
arms = {name: shipped.load().to(device) for name, (shipped, _) in clip_failures.ARMS.items()}
a_1 = Prompt((Group("cat"), Group("dog")), "left of")
pair_1 = [a_1, a_1.swapped()]
pictures_1 = render(place(pair_1, 0), 64)


def cosines(model, pictures: Tensor, texts: list[str]) -> Tensor:
    """(pictures, texts)."""
    tokens = clip_sprites.tokens(texts).to(device)
    return (model.encode_image(pictures.to(device)) @ model.encode_text(tokens).T).cpu()


tables_1 = {name: cosines(model, pictures_1, captions(pair_1)) for name, model in arms.items()}
gap_1 = {name: float((t[:, 0] - t[:, 1]).abs().max()) for name, t in tables_1.items()}
assert gap_1["plain"] < 0.1 < gap_1["hard negatives"]
draw.matrices(pictures_1, captions(pair_1), tables_1, "Cosines of a minimal pair (bold: the larger of a row)")

# %% [markdown]
# Both models found their captions among fifty: .93 and .95. What to ask of four numbers? *Text*: does each picture prefer its own caption? *Image*: does each caption prefer its own picture? *Group*: both (Winoground, arXiv 2204.03162). **Predict** what chance is for each. It is not ½.


# %%
def three_scores(s: Tensor) -> tuple[bool, bool, bool]:
    """s (2, 2): picture a with caption b."""
    text = bool(s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0])  # along a row: one picture, two captions
    image = bool(s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1])  # along a column
    return text, image, text and image


orders_1 = torch.tensor(list(permutations(range(4))), dtype=torch.float32).reshape(24, 2, 2)
chance = torch.tensor([three_scores(order) for order in orders_1]).float().mean(0)
assert torch.allclose(chance, torch.tensor([1 / 4, 1 / 4, 1 / 6]))  # of the 24 orders of four numbers
assert torch.equal(winoground(orders_1)["group"], torch.tensor([three_scores(o)[2] for o in orders_1]))

# %%
pairs_1 = clip_failures.pairs("relation", 100, clip_failures.SPRITES)
rows_1: dict[str, list] = {"by chance": [0.5, *chance.tolist(), ""]}
for name, model in arms.items():
    measured = clip_failures.told_apart(model, "relation", clip_failures.SPRITES, 100)
    found_1 = clip_failures.ARMS[name][0].record()["scores"]["R@1 of 50, caption for a picture"]
    rows_1[name] = [*measured.values(), found_1]
assert rows_1["hard negatives"][3] > 0.6 > 1 / 6 > rows_1["plain"][3]
show.table(rows_1, ["100 pairs of relations", "choice", "text", "image", "group", "recall among 50"])

# %% [markdown]
# Recall says: excellent. The minimal pair says: knows nothing of left and right, in fact *less* than chance in the group score, because its two captions have nearly the same embedding and one of them wins for both pictures.
#
# ## 2. Five failures, one by one (core, 20 minutes)
#
# The lecture's list: relations, negation, counting, the length limit, dropped details. Two arms at 64 pixels, *plain* and *hard negatives*, had the same pictures, captions, steps and seed (section 3 says what differs). A third CLIP, of 16-pixel scenes, has read "no" and long captions while it was trained; the first two never have. **Predict** the bars: which failures are of CLIP, and which of its data?

# %%
panels_2 = facts["failures"]["panels"]
groups_2: dict[str, dict[str, float]] = {}
for panel, what in clip_failures.PANELS.items():
    found = {arm: panels_2.get(f"{arm}, {panel}, choice") for arm in ("plain", "hard negatives", "scenes")}
    groups_2[f"{panel}: {what}"] = {arm: share for arm, share in found.items() if share is not None}
live_2 = clip_failures.told_apart(arms["plain"], "count", clip_failures.SPRITES, 60)
assert abs(live_2["choice"] - panels_2["plain, count, choice"]) < 0.1
assert min(v for k, v in panels_2.items() if "count, choice" in k) > 0.9  # no failure
assert panels_2["plain, relation, choice"] < 0.6 < panels_2["hard negatives, relation, choice"]
title_2 = "A picture prefers its own caption (400 pairs; dashed: chance)"
draw.bars(groups_2, 0.5, "share of pictures", title_2)

# %% [markdown]
# Read it slowly.
#
# - **Relation**: chance without hard negatives, .94 with them. A failure of the *loss*.
# - **Negation**: near chance (.58 and .46) for both arms that never read "no" in a caption; 1.00 for the third, which did. A failure of the *data*: captions of the web seldom say what is not there.
# - **Count, attribute, detail**: no failure here. With fifteen kinds, six colours and captions that are always exact, the words that matter do tell batch mates apart. On the web they rarely do, and there CLIP miscounts.
# - **Length**: 0, below chance, for two cosines that are equal prefer nothing. That one is worth a look of its own.
#
# And the lecture's own pair, "some plants surrounding a lightbulb" and "a lightbulb surrounding some plants"? **Predict**, then look.

# %%
names_2 = list(LECTURE)[:2]
own_2 = {arm: found["group"] for arm, found in facts["failures"]["lecture pair"].items()}
asked_2 = [LECTURE[name] for name in names_2]
now_2 = {name: cosines(model, render(place(asked_2, 3), 64), captions(asked_2)) for name, model in arms.items()}
assert all(winoground(table[None])["group"] for table in now_2.values())
assert min(own_2.values()) > 0.95
draw.matrices(render(place(asked_2, 3), 64), captions(asked_2), now_2, "The famous pair is easy here")

# %% [markdown]
# Easy, for both. In this world what surrounds alone is large and what is surrounded is small, and every caption with "surrounding" is about that: the order of the words decides *which* thing is large, and that alone tells many a picture from its batch mates. A famous example is no measurement.
#
# **The length limit.** CLIP's tower has 77 places. Here are two captions that differ behind them. **Predict** the difference of their embeddings.

# %%
long_2 = clip_failures.pairs("length", 1, clip_failures.SCENES)[0]
texts_2 = captions(long_2, "long")
tower_2, tokenizer_2 = clip_scenes.MODEL.load().text, clip_scenes.tokenizer()
assert texts_2[0] != texts_2[1]
assert torch.equal(*tower_2(tokenizer_2.encode(texts_2)))  # to the last bit
assert not torch.equal(*tower_2(tokenizer_2.encode(captions(long_2))))  # the control: the same two, said shortly
n_2 = tokenizer_2.lengths(texts_2).tolist()
rows_2 = {f"caption {i}": [n, "…" + text[-68:]] for i, (n, text) in enumerate(zip(n_2, texts_2))}
show.table(rows_2, ["", "tokens", "its end, which nobody reads"])

# %% [markdown]
# ## 3. Why, and the repair (core, 20 minutes)
#
# InfoNCE rewards what tells a caption from its *batch mates*. If no two captions of a batch have the same words in another order, the words in a bag are enough to reach the minimum of the loss (lecture, section 3: bags), and nothing ever teaches the order. The repair is one line: put the swapped caption into the batch (arXiv 2210.01936).
# Live, on a toy: a "picture" is an ordered pair of things, its caption is "thing — left of — thing". **Predict** recall and swap test of both.


# %%
class Toy(nn.Module):
    """Two small towers with one block each; pictures and captions are pairs (B, 2) of `kinds` things."""

    def __init__(self, kinds: int = 40, dim: int = 32):
        super().__init__()
        self.kinds, self.text = kinds, TextTower(5 + kinds, 5, dim, 1, 2, dim)
        self.look, self.spot = nn.Embedding(kinds, dim), nn.Parameter(0.3 * torch.randn(2, dim))
        self.block, self.out = Block(dim, 2), nn.Linear(dim, dim)

    def pictures(self, pair: Tensor) -> Tensor:
        return F.normalize(self.out(self.block(self.look(pair) + self.spot).mean(1)), dim=-1)

    def captions(self, pair: Tensor) -> Tensor:
        start, left_of, end = (torch.full((len(pair), 1), i) for i in (1, 4 + self.kinds, 2))
        return F.normalize(self.text(torch.cat([start, 4 + pair[:, :1], left_of, 4 + pair[:, 1:], end], 1)), dim=-1)


def pairs_of(n: int, kinds: int, generator) -> Tensor:
    first = torch.randint(kinds, (n,), generator=generator)
    return torch.stack([first, (first + 1 + torch.randint(kinds - 1, (n,), generator=generator)) % kinds], 1)


# %%
def trained(beside: bool, steps: int = 300, seed: int = 0) -> tuple[Toy, list[float]]:
    model, generator, losses = initialised(Toy, seed), seeded(seed), []
    rule = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = pairs_of(16 if beside else 32, model.kinds, generator)
        if beside:
            batch = torch.cat([batch, batch.flip(1)])  # the repair: each pair beside its swap
        loss = contrastive_loss(model.pictures(batch), model.captions(batch), 14.0).mean()
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


# %%
with torch.enable_grad():
    toys = {"plain": trained(False)[0], "swaps in the batch": trained(True)[0]}
rows_3 = {}
for name, toy in toys.items():
    test_3 = pairs_of(500, toy.kinds, seeded(9))
    seen, said, other = toy.pictures(test_3), toy.captions(test_3), toy.captions(test_3.flip(1))
    swap_3 = float(((seen * said).sum(1) > (seen * other).sum(1)).float().mean())
    rows_3[name] = [recall_at(seen[:50] @ said[:50].T), swap_3]
assert min(row[0] for row in rows_3.values()) > 0.75
assert rows_3["plain"][1] < 0.8 < 0.97 < rows_3["swaps in the batch"][1]
show.table(rows_3, ["300 steps, live", "recall among 50", "itself or its swap"])

# %% [markdown]
# The same number of captions seen, the same recall, and another model. At full size it is the same. Or does the plain arm only need more time? Here it is trained three times as long. **Predict** which of its two curves will have moved.

# %%
longer = {int(step): scores for step, scores in facts["longer"].items()}
recall_3 = [scores["R@1 of 50, caption for a picture"] for scores in longer.values()]
swap_3 = [scores["relation or its swap (chance 0.5)"] for scores in longer.values()]
assert min(recall_3) > 0.9
hard_3 = clip_sprites.MODEL.record()["scores"]["relation or its swap (chance 0.5)"]
assert max(swap_3[:4]) < 0.55 < swap_3[-1] < hard_3 - 0.2
lines_3 = {
    "recall among 50, plain": (list(longer), recall_3),
    "itself or its swap, plain": (list(longer), swap_3),
    "itself or its swap, hard negatives": ([clip_sprites.MODEL.steps], [hard_3]),
}
draw.course(lines_3, 0.5, "Recall is done at step 250; the order is still hardly heard at 4,500")

# %% [markdown]
# Recall was done at step 250, and says nothing of what came after. The swap test leaves chance late, .66 after three times as many steps: among batch mates that share nearly all words, order pays a little in the end. With swaps in the batch it is .96 after a third of that.
#
# **Where is it lost?** Linear probes ask the states of the text tower two things. At the token of the second object: is *this* the left (or upper) one? One word, which came before, says so; has it arrived? And the pooled vector: *which kind* is on the left? Words without their order leave two to choose from. An *untrained* tower is the control that everybody forgets. **Predict** its bars.

# %%
probes, at, who = facts["failures"]["probes"], clip_failures.RELATION, clip_failures.WHO
runs_3 = {"untrained": "plain, untrained", "plain": "plain, trained", "hard negatives": "hard negatives, trained"}
ask_3 = lambda run, left_out, question: probes[f"{run}, {left_out} blocks left out"][question]
names_3 = {"last block": 0, "one before": 1, "two before": 2}
groups_3 = {f"{at}: {layer}": {n: ask_3(run, k, at) for n, run in runs_3.items()} for layer, k in names_3.items()}
bag_3 = ask_3("plain, trained", 0, f"{who}, bag of words")
groups_3[who] = {n: ask_3(run, 0, who) for n, run in runs_3.items()} | {"a bag of the words": bag_3}
live_3 = clip_failures.probed(clip_sprites.PLAIN.load().text, clip_failures.SPRITES, 800, 300)
assert live_3[at] < 0.8 < 0.99 < live_3[f"{at}, bag of words"]
assert abs(live_3[who] - live_3[f"{who}, bag of words"]) < 0.12  # the control: which words, but not in which order
assert groups_3[who]["untrained"] > bag_3 + 0.2 > 0.6 > groups_3[who]["plain"]
draw.bars(groups_3, 0.5, "share of 1,000 held-out captions", "Training without swaps throws the order away")

# %% [markdown]
# And the words themselves? The cosine of two word vectors of the text tower. **Predict** which pair the plain tower takes for one word.

# %%
ids_3, pairs_3 = (
    clip_sprites.tokenizer().ids,
    [("left", "right"), ("above", "below"), ("left", "above"), ("cat", "dog")],
)
towers_3 = {
    "untrained": clip_sprites.PLAIN.untrained(), "plain": clip_sprites.PLAIN.load(),
    "hard negatives": clip_sprites.MODEL.load(),
}  # fmt: skip
rows_words = {}
for name, model in towers_3.items():
    vectors = F.normalize(model.text.token.weight, dim=1)
    rows_words[name] = [float(vectors[ids_3[a]] @ vectors[ids_3[b]]) for a, b in pairs_3]
assert rows_words["plain"][0] > 0.8 > 0.4 > max(rows_words[name][0] for name in ("untrained", "hard negatives"))
show.table(rows_words, ["cosine of", *(f"{a}, {b}" for a, b in pairs_3)], digits=2)

# %% [markdown]
# A random tower hands the word "left" on for nothing: attention mixes it into the token after it, and its pooled vector still knows who is on the left in .83 of all cases. Plain training does not fail to *learn* the order. It *removes* it, down to what a bag of words knows (.52): it is of no use to the loss and costs room on the sphere.
#
# ## 4. What a generator loses (core, 20 minutes)
#
# One design, 16-pixel scenes, 6,000 steps. The reader is CLIP's pooled vector; CLIP's tokens, as in Stable Diffusion 1; the tokens of a chat model that has read texts only, as in Z-Image; or all of it joined. This CLIP is the plain one of section 2's third arm. **Predict** the table: for each question, which is the first reader that can?

# %%
asked_4 = [question for question in readers.QUESTIONS if "paraphrase" not in question]
told_4 = lambda name, question: records[name].get(question, records[name].get(f"{question}, all three"))
rows_4 = {question: [told_4(name, question) for name in records] for question in asked_4}
others_4 = max(v for scores in records.values() for k, v in scores.items() if k.endswith("another caption"))
assert others_4 <= 0.35  # the control: the next caption's share, over all questions and readers
assert rows_4["pair"][1] > rows_4["pair"][0] + 0.15
assert rows_4["relation"][2] > rows_4["relation"][1] + 0.15
assert rows_4["relation, long"][2] > rows_4["relation, long"][1] + 0.15
show.table(rows_4, ["100 held-out captions, w = 1 (scale 2)", *records])

# %% [markdown]
# Three steps down the list. *Pooled*: one object comes out of one vector, two do not; most often one of them has a wrong kind (lecture, section 4: a generator loses). *Tokens*: both objects come, for attention can go from a place to a word. But left and right are where the plain CLIP left them: a quarter of relations come out right, as by chance, since
# a picture of two objects has one of four relations. *The chat model* has the order, because it has had to answer questions about it; and it reads to the end of a long caption.
#
# 64 pictures of the chat model's generator, the first 64 seeds, nothing selected:

# %%
many_4 = readers.WORLD.prompts(64, 11, "test")
sheet_4 = drawn("chat model", captions(many_4), range(64), steps=12)
right_4 = float(matches(many_4, sheet_4).float().mean())
next_4 = float(matches(many_4[1:] + many_4[:1], sheet_4).float().mean())
assert right_4 > 0.5 > 3 * next_4
show.grid(sheet_4, columns=16, title=f"64 unselected samples in 12 steps: {right_4:.2f} show their caption wholly")

# %% [markdown]
# ## 5. Joined, as in Stable Diffusion 3 (core, 20 minutes)
#
# CLIP is not bad, it is *different*: it knows what things look like. So take both (arXiv 2403.03206). Two CLIPs read the same tokens: their vectors stand side by side in *channels*. The language model has tokens of its own: they follow on the *sequence*. What is narrower is filled up with zeros, and the two pooled vectors go to the time embedding. **Predict** the shape for 10 tokens of width 96 and 96, and 12 of width 80.


# %%
def joined(side_by_side: list[Tensor], behind: Tensor) -> Tensor:
    first = torch.cat(side_by_side, -1)  # channels: (B, L, d1 + d2)
    wide = max(first.shape[-1], behind.shape[-1])
    fill = lambda x: torch.cat([x, x.new_zeros(*x.shape[:2], wide - x.shape[-1])], -1)
    return torch.cat([fill(first), fill(behind)], 1)  # sequence: (B, L + M, wide)


text_5 = [captions(related_0)[0]]
towers_5 = [model.load().text for model in (clip_scenes.MODEL, clip_scenes.HARD)]
chat = llm.MODEL.load()
parts_5 = [tower.encode(clip_scenes.tokens(text_5)).context for tower in towers_5]
behind_5 = Layers(chat, (-2,), cut=llm.CUT).encode(llm.chat(text_5)).context
context_5 = joined(parts_5, behind_5)
assert torch.equal(context_5, join(parts_5, behind_5))  # the library's, and diffusers' (tests/parity/test_sd3.py)
assert not torch.equal(context_5, joined(parts_5[::-1], behind_5))  # the control: the other CLIP first

# %%
(_, l_5, d_5), (_, m_5, e_5) = parts_5[0].shape, behind_5.shape
boxes_5 = {"first CLIP": (0, l_5, 0, d_5), "second CLIP": (0, l_5, d_5, d_5), "chat model": (l_5, m_5, 0, e_5)}
draw.layout(context_5[0], boxes_5, f"“{text_5[0]}”: {tuple(context_5.shape[1:])}")

# %% [markdown]
# While it is trained, each encoder is *dropped by itself* with probability $.1^{1/3} \approx .46$: then any of them can be left out later, and all three are missing in a tenth of all cases, which is the unconditional branch. In Stable Diffusion 3 that lets one do without the 4.7 billion parameters of T5. **Predict** which question is lost without the chat model.

# %%
assert (l_5, m_5, *context_5.shape[1:]) == (10, 12, 22, 192)  # as predicted above
ways_5 = {"all three": readers.ALL, "no chat model": (True, True, False), "no CLIP": (False, False, True)}
net_5, drawn_5 = generators["all joined"][0], {}
for way, heard in ways_5.items():
    reads_5 = lambda texts, heard=heard: readers.read_joined(texts, heard)
    drawn_5[way] = readers.pictures_of(net_5, reads_5, 20)(captions(related_0), 1.0, range(8)).cpu()
table_5 = {way: [records["all joined"][f"{q}, {way}"] for q in asked_4] for way in readers.LEFT_OUT}
short_5 = dict(zip(asked_4, zip(table_5["all three"], table_5["without the chat model"])))
assert short_5["relation, long"][0] > short_5["relation, long"][1] + 0.15
same_noise(drawn_5, captions(related_0), "One network; what is left out is left out while it draws")

# %%
show.table(table_5, ["joined, w = 1", *asked_4], digits=2)

# %% [markdown]
# Without the chat model the long captions are lost, .59 and .60 become .01 and .05: nobody else reads that far. Nothing else loses more than .09. The relation is *not* lost, .85 for .87, because the second CLIP here was trained with swaps and hears the order; without that one it falls to .68. Without both CLIPs colours suffer most: pairs fall from .80 to .47.
# And a caution: joined is not better than the chat model alone (.98 of relations, above). One reason may be that an encoder which is silent in 46 % of all steps is heard in little more than half of the training.
#
# ## 6. Inside a language model (core, 20 minutes)
#
# The chat model is small (0.49 million parameters) and knows one subject. Talk to it. **Predict** what it says when the two nouns trade places.

# %%
said_6 = "there is a blue square with a red circle on its left"
asks_6 = ["what is left of the blue square ?", "how many circles are there ?", "is there a star ?", llm.SHORTLY]
answers_6 = llm.ask(chat, [f"user : {said_6} . {ask} assistant :" for ask in asks_6])
assert answers_6[0] == "a red circle"
assert answers_6[3] == "a red circle left of a blue square"
other_6 = "there is a red circle with a blue square on its left"  # the control: the same words, the other order
assert llm.shortly(chat, [other_6]) == ["a blue square left of a red circle"]
show.table({ask: [a] for ask, a in zip(asks_6, answers_6)}, [said_6, "the chat model"])

# %% [markdown]
# For a generator we take not what it *says* but what stands in its layers while it reads. Three decisions.
#
# **Cut.** A chat model wants its template: "user : draw this picture : … . assistant :". Under a causal mask the tokens before the caption cannot know the caption. **Predict** what is lost by cutting them (Qwen-Image cuts 34).

# %%
two_6 = llm.chat(["a red circle", "three blue stars and a green cross"])
states_6 = chat.states(two_6)
for layer in states_6:
    assert torch.equal(layer[0, : llm.CUT], layer[1, : llm.CUT])  # the same, to the bit: nothing is lost
    assert not torch.allclose(layer[0, llm.CUT :], layer[1, llm.CUT :], atol=0.1)  # the control: the caption's tokens
rows_6 = {}
for name_6, tokens_6 in zip(("template", "caption and what follows"), states_6[-2].tensor_split([llm.CUT], 1)):
    rows_6[name_6] = [tokens_6.shape[1], float((tokens_6[0] - tokens_6[1]).abs().max())]
show.table(rows_6, ["layer −2", "tokens", "largest difference between two captions"])

# %% [markdown]
# **Which layer?** The last one is shaped for one purpose: to name the next word. Z-Image takes the one before, Flux 2 three in the middle, side by side, LTX-2 all of them. **Registers** (LTX-2): learned vectors in place of padding, so that nothing is masked. One generator each, 2,000 steps, one seed. **Predict** the row of layer 0, which is words without any context.

# %%
heads_6 = ("one", "relation", "pair", "count", "negation", "relation, long")
rows_states = {
    name: [1e3 * found["loss"], *(found[question] for question in heads_6)] for name, found in facts["states"].items()
}
assert rows_states["layer 0 (words alone)"][0] > rows_states["layer −2"][0]  # context helps
assert min(rows_states[name][0] for name in ("layers 2, 4, 6", "layer −2, registers")) > rows_states["layer −2"][0]
assert rows_states["layer −2, template left in"][0] < rows_states["layer −2"][0] + 1
show.table(rows_states, ["2,000 steps, one seed", "loss · 1000", *heads_6])

# %% [markdown]
# One seed and a third of the training: take differences of a few hundredths for noise. The loss is the steadier measure. Words alone come last, as they should; the rest is not what the big systems would let one hope.
# Three layers side by side are no better than one (their loss is that of words alone), registers are no better than a mask, and leaving the template in did no harm. A choice that pays at 12 billion parameters need not pay here.
#
# **Paraphrases.** The generators were trained on short and long captions, never on a paraphrase. Both readers know paraphrases: CLIP has seen them beside pictures, the chat model beside other sentences. **Predict** who draws what was never said to it in this way.

# %%
said_short = facts["rewritten"]
asks_para = ("relation, paraphrase", "negation, paraphrase", "pair, paraphrase")
rows_para = {}
for name in ("CLIP, tokens", "chat model"):
    for way in ("", ", said shortly"):
        rows_para[name + way] = [said_short[f"{name}, {question}{way}"] for question in asks_para]
assert rows_para["chat model, said shortly"][0] > rows_para["CLIP, tokens"][0] + 0.15
assert rows_para["chat model"][1] < rows_para["CLIP, tokens"][1]  # it is not better at everything
show.table(rows_para, ["100 held-out paraphrases", "relation", "negation", "pair"])

# %% [markdown]
# A surprise, and not the one that the lecture's slide promises. A bag of words does not care how a sentence is built, so CLIP's reader hardly notices a paraphrase. The chat model's states change with the wording, and its generator has never seen these: of "a red cross without a star" it makes two red crosses. But a language model can be asked to *say it shortly first*, in the words
# that the generator knows. That is what DALL·E 3 and Z-Image do with prompts before they draw, and it repairs most of it.

# %%
free_6 = "there is a green star with a yellow cross under it"
prompt_6 = Prompt((Group("cross", "yellow"), Group("star", "green")), "below")
short_6 = llm.shortly(chat, [free_6])
assert short_6 == [caption(prompt_6)] or short_6 == [caption(prompt_6.turned())]
ways_6 = {"as it was typed": [free_6] * 8, f"“{short_6[0]}”": short_6 * 8}
same_noise({w: drawn("chat model", t, range(8)) for w, t in ways_6.items()}, [""] * 8, f"“{free_6}”")

# %% [markdown]
# ## 7. A reader that has seen pictures (core, 15 minutes)
#
# Put the picture before the text: 16 squares, one linear map, 16 more tokens of the same model, trained on. Now it can be asked about a picture. **Predict** which question is hardest.

# %%
seeing, asked_7 = vlm.SEEING.load(), vlm.WORLD.prompts(6, 21, "test")
scenes_7 = render(place(asked_7, 2))
told_7 = llm.ask(seeing, [vlm.DESCRIBE] * 6, scenes_7)
book_7 = vlm.SEEING.record()["scores"]
assert book_7["colour"] > 0.9 > 0.4 > book_7["colour, the next picture"]
same_noise({"it is shown": scenes_7}, told_7, "“what is there ?”, and what it says")

# %%
kinds_7 = ("present", "colour", "number", "relation")
rows_7 = {k: [book_7[k], book_7[f"{k}, the next picture"], book_7[f"{k}, no picture"]] for k in kinds_7}
show.table(rows_7, ["300 held-out questions", "its picture", "the next picture (control)", "none (control)"])

# %% [markdown]
# Now a generator reads *its* states, of a picture and an instruction, and draws. It never gets the picture itself. So whatever it keeps, the language model has told it. **Predict**: the same instruction with another picture.

# %%
editor_7 = vlm.editor(vlm.EDITOR.load().to(device), 20)
found_7 = edits.edits(8, 13, "test")
texts_7, shown_7 = [edit.text for edit in found_7], edits.before(found_7)
drawn_7 = editor_7(shown_7, texts_7, 1.0, range(8)).cpu()
same_7, _ = vlm.done(found_7, drawn_7)
wrong_7, _ = vlm.done(found_7, editor_7(shown_7.roll(1, 0), texts_7, 1.0, range(8)).cpu())
assert int(same_7.sum()) >= 3 > int(wrong_7.sum())  # the control: shown the next picture
draw.edited(
    {"shown": shown_7, "drawn": drawn_7}, texts_7, same_7.tolist(), "Edits by a reader that sees (✓: exactly as told)"
)

# %%
book_edits, ways_7 = vlm.EDITOR.record()["scores"], ("", ", in place", ", the next picture", ", grey")
rows_edits = {what: [book_edits[what + way] for way in ways_7] for what in edits.KINDS_OF_EDIT}
assert all(row[0] > 0.5 > 0.2 > row[2] for row in rows_edits.values())
show.table(
    rows_edits,
    ["100 held-out scenes, w = 1", "as told", "and in its place", "next picture (control)", "grey (control)"],
)

# %% [markdown]
# ## 8. A real encoder beside them (extra, 10 minutes)
#
# all-MiniLM-L6-v2 has read more than a billion pairs of sentences. Is a paraphrase nearer to a caption than the caption with its objects exchanged? **Predict** its row, and that of the chat model when its states are averaged to one vector.

# %%
columns_8 = ("nearer than its swap", "cosine with its swap", "nearer than its negation", "cosine with its negation")
rows_8 = {name: [found[column] for column in columns_8] for name, found in facts["nearer"].items()}
assert rows_8["MiniLM"][0] < 0.5 < 0.9 < rows_8["scenes, hard negatives"][0]
show.table(rows_8, ["300 captions", *columns_8])

# %% [markdown]
# At the swap both fail, and so does the plain CLIP, by another way: an average over tokens is near to every average over nearly the same words, and a paraphrase has other words. Only the CLIP that met swaps in its batches takes the paraphrase. One vector for a sentence is a decision about what shall count as the same. What a generator needs are the tokens.
#
# ## 9. What real systems take (extra, 10 minutes)

# %%
systems = {
    "Imagen": ["T5-XXL", "last", "4096"], "Stable Diffusion 1": ["CLIP-L", "last", "768"],
    "Stable Diffusion 2": ["OpenCLIP-H", "−2", "1024"], "SDXL": ["CLIP-L ⊕ bigG", "−2", "2048, pooled 1280"],
    "Stable Diffusion 3": ["CLIP-L ⊕ bigG, T5-XXL", "−2, last", "4096, pooled 2048"],
    "Flux 1": ["T5-XXL, CLIP-L", "last", "4096, pooled 768"], "Flux 2": ["Mistral 3", "10, 20, 30", "3·5120"],
    "Z-Image": ["Qwen3-4B", "−2", "2560"], "Qwen-Image": ["Qwen2.5-VL-7B", "last, 34 tokens cut", "3584"],
    "LTX-2": ["Gemma 3 12B", "all 49, 128 registers", "49·3840"],
}  # fmt: skip
show.table(systems, ["system", "reads with", "layer", "width"])

# %% [markdown]
# ## 10. Your turn: two sentences, four readers (extra, 10 minutes)
#
# Type two captions that differ in one thing. Above the pictures: CLIP's cosine of the two, and the chat model's (its states averaged). (*circle, square, triangle, star, cross; red, green, blue, yellow, purple, black; left of, right of, above, below; and; and no; two, three, four*.)

# %%
from minidiff.encoders.tokenizer import split
from minidiff.show.encoders import two_captions

vocabulary = {word for text in captions(readers.WORLD.prompts(1500, 0)) for word in split(text)}
clip_10, states_10 = clip_scenes.MODEL.load(), readers.chat_model()

# %%


def alike_clip(texts: list[str]) -> float:
    """The cosine of two captions' pooled vectors."""
    a, b = clip_10.encode_text(clip_scenes.tokens(texts))
    return float(a @ b)


def alike_chat(texts: list[str]) -> float:
    """The cosine of two captions' states, averaged over their tokens."""
    read = states_10.encode(llm.chat(texts))
    a, b = F.normalize((read.context * read.mask[..., None]).sum(1), dim=-1)
    return float(a @ b)


painters = {name: readers.pictures_of(model, reads, 10) for name, (model, reads) in generators.items()}
play = two_captions(painters, {"CLIP's cosine": alike_clip, "the chat model's": alike_chat}, vocabulary)

# %%
playground = show.explore(
    play, first="a red circle left of a blue square", second="a blue square left of a red circle",
    w=show.Slider(0, 4, 0.5, start=1), seed=show.Slider(0, 99, 1, start=0),
    static=[{}, {"first": "a red circle and a black star", "second": "a red circle and no star"}],
)  # fmt: skip
assert playground.values["w"] == 1

# %% [markdown]
# ## What to try next
#
# - In section 3, put the swap of *half* of the pairs into the batch. How few are enough?
# - In section 4, take `w = 3`. Does guidance bring back what the reader has lost?
# - In section 7, ask for an edit of something that is not there.
# - In section 10, find two captions that CLIP's cosine cannot tell apart and whose pictures differ all the same.
#
# Then the [exercises](../exercises/12_text_encoders.ipynb). [Chapter 13](13_how_text_enters.ipynb) asks where its tokens meet the picture.
