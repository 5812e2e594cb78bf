# %% [markdown]
# # 14 One transformer for both: Transfusion, HunyuanImage 3.0, and a guess
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. The models are shipped.
#
# In every system so far something read the sentence and something else drew. Chapter 13 let both kinds of tokens pass the same blocks, but only one of them was ever asked for anything. Now the words are asked, too: what comes next? Then one set of weights draws what a sentence says *and* says what a picture shows. Transfusion does it with two losses on one sequence. HunyuanImage 3.0 is such a model with 80 billion parameters: it chooses the shape of its picture as it would choose a word, and sees its earlier pictures when it is told to change them. How GPT-4o draws is not published; we build the **guess** that fits its only public sketch.
#
# **What you will learn.** How words and squares share a sequence, and a mask that keeps the future out; why the two losses need a weight between them and what it decides; how a model switches from words to squares and back; what an instruction to edit costs when the earlier picture simply stands in the sequence; what changes if the squares are tokens like words, and diffusion comes last.
#
# **Parts.** *Core*: sections 1 to 6, about 105 minutes. *Extra*: sections 7 to 9, about 40 minutes.
#
# **Before.** Chapters 08 (pictures as words), 12 (next-word training), 13 (joint attention). **Read along:** [lecture](../lectures/14_one_transformer.md) (the derivations). **Then do:** [exercises](../exercises/14_one_transformer.ipynb).

# %%
import json
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.data.aspects import asked, aspects_of
from minidiff.data.captions import captions
from minidiff.data.edits import instructs
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import END, PAD, START

# %%
from minidiff.guidance import bind
from minidiff.judges.scorecard import matches, shows
from minidiff.nn import masks, rope
from minidiff.predictions import X0
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear

# %%
from minidiff.show.chat import chat
from minidiff.show.figures import one_transformer as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import guess, hunyuan, transfusion
from minidiff.systems.guess_codes import paint
from minidiff.systems.scenes_text import tokenizer
from minidiff.training import fit, pick_device, step_generator
from minidiff.weights import curve, record

# %%
device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks; the short training says so
facts = json.loads(Path("../benchmarks/results/one_transformer.json").read_text(encoding="utf-8"))
both = transfusion.MODEL.load().to(device)
words = tokenizer(transfusion.LENGTH)

# %% [markdown]
# **There and back.** The same weights draw eleven unseen captions (upper row) and then say what they see in the eleven pictures (under it). **Predict**: will a description repeat the caption word by word, where the drawing is right?

# %%
asked_0 = transfusion.WORLD.prompts(11, 5, "test")
made_0 = transfusion.pictures_of(both, 25)(captions(asked_0), 1.0, range(11)).cpu()
said_0 = transfusion.texts_of(both, made_0)
right_0, true_0 = matches(asked_0, made_0), transfusion.true_of(said_0, made_0)
other_0 = transfusion.true_of(said_0[1:] + said_0[:1], made_0)
assert right_0.sum() >= 7
assert true_0.sum() >= 8 > 3 > other_0.sum()  # the control: the next description
draw.there_and_back(captions(asked_0), made_0, said_0, right_0.tolist(), "Above: asked for. Below: said of the picture")

# %% [markdown]
# It does not: *a left of b* and *b right of a* are both true of one picture, and the model was shown either. So a description is right here if the judge finds in the picture what it says, and nothing else.
#
# ## 1. Two orders, one sequence (core, 15 minutes)
#
# A text is START, words, END. A picture is BEGIN, 16 squares of 4×4 pixels, FINISH. To draw, the text stands first; to describe, the picture does. Nothing else tells the two tasks apart. The mask: words look back only, because each is asked for the next; squares of one picture look at one another, because all are denoised at once. **Predict** how the mask looks in both orders.


# %%
def who_looks(owner: Tensor) -> Tensor:
    """owner (L,): which picture each token belongs to, −1 for words → (L, L) bool, True where row may look at column."""
    n = len(owner)
    past = torch.arange(n)[:, None] >= torch.arange(n)  # (L, L), causal
    together = (owner[:, None] == owner) & (owner >= 0)[:, None]  # the same picture
    return past | together


text_1, picture_1 = [-1] * 7, [-1, *[0] * 16, -1]  # START, five words, END; BEGIN, squares, FINISH
orders_1 = {"text first": text_1 + picture_1, "picture first": picture_1 + text_1}
masks_1 = {name: who_looks(torch.tensor(owner)) for name, owner in orders_1.items()}
assert torch.equal(masks_1["text first"], masks.spans(25, [(8, 24)]))
assert torch.equal(masks_1["picture first"], masks.spans(25, [(1, 17)]))
assert not torch.equal(masks_1["text first"], masks.causal(25))
draw.looks(masks_1, orders_1, "Who may look at whom (row looks at column)")

# %% [markdown]
# A mask is a promise about *numbers*: what may not be seen must not change anything, not by the last bit. So we test it on the whole trained model. Change one token at a time (columns) and see by how much each answer moves (rows). **Predict** which cells are exactly 0 when the text comes first, and which when the picture does.


# %%
def moved(picture_first: bool) -> dict[str, list[float]]:
    """By how much the answers at a word, at END and at a square move when one input is another."""
    tokens = words.encode(["a red star left of a blue circle"]).to(device)
    x = randn((1, 3, 16, 16), seeded(1)).to(device)
    t = torch.full((1,), 0.2 if picture_first else 0.6, device=device)
    early, late, corner = tokens.clone(), tokens.clone(), x.clone()
    early[0, 2], late[0, 8], corner[..., 12:, 12:] = tokens[0, 7], tokens[0, 2], 0.5  # one colour, one kind, one square
    plain = both.read(tokens, x, t, picture_first)
    rows = {"second word": [], "END": [], "first square": []}
    for other in ((early, x), (late, x), (tokens, corner)):
        read = both.read(*other, t, picture_first)
        for row, at in (("second word", 1), ("END", 9)):
            rows[row].append(float((read.words[0, at] - plain.words[0, at]).abs().max()))
        rows["first square"].append(float((read.picture - plain.picture)[..., :4, :4].abs().max()))
    return rows


# %%
leaks_1 = {"text first": moved(False), "picture first": moved(True)}
assert leaks_1["text first"]["second word"] == [0, 0, 0] == [*leaks_1["picture first"]["first square"][:2], 0]
assert leaks_1["text first"]["END"][2] == 0 < min(leaks_1["text first"]["first square"])
assert min(leaks_1["picture first"]["END"]) > 0  # the control: what may be seen is
rows_1 = {f"{name}: {row}": v for name, found in leaks_1.items() for row, v in found.items()}
show.table(rows_1, ["answers at", "third token exchanged", "ninth token", "last square"], digits=6)

# %% [markdown]
# ## 2. Two losses (core, 20 minutes)
#
# Words are discrete: the network gives a distribution over the next one, the loss is its cross-entropy. Squares are numbers: the network gives the clean picture, the loss is its squared error. Then
#
# $$\mathcal L=\mathcal L_{\text{words}}+\lambda\,\mathcal L_{\text{picture}}.$$
#
# **Predict**: after a caption's END, what is the next token that has to be foretold?


# %%
def two_losses(tokens: Tensor, x0: Tensor, t: Tensor, eps: Tensor, lam: float) -> Tensor:
    """Text first: (B, L) tokens, (B, 3, 16, 16) pictures, times and noise → (B,) losses."""
    alpha, sigma = (part[:, None, None, None] for part in both.schedule(t))
    logits, x0_hat = both.read(tokens, alpha * x0 + sigma * eps, t)
    wanted = F.pad(tokens[:, 1:], (0, 1), value=PAD)  # each token is asked for the next one
    wanted[tokens == END] = both.begin  # and END for the sign that a picture begins
    each = F.cross_entropy(logits.mT, wanted, reduction="none", ignore_index=PAD)  # (B, L) nats
    spoken = each.sum(1) / (wanted != PAD).sum(1)
    drawn = (x0_hat - x0).square().flatten(1).mean(1) * both.weigh(both.schedule, t)  # as an error in velocity
    return spoken + lam * drawn


# %%
batch_2 = {name: value.to(device) for name, value in transfusion.draw_both(64)(step_generator(5, 0)).items()}
last_2 = ~batch_2["picture_first"]
rows_2 = {name: batch_2[name][last_2] for name in ("tokens", "x0", "t", "eps")}
by_hand = two_losses(**rows_2, lam=both.weight)
assert torch.allclose(by_hand, both.loss(**batch_2)[last_2], rtol=1e-4)
assert not torch.allclose(by_hand, two_losses(**rows_2, lam=5.0), rtol=1e-2)  # the control: another λ

# %% [markdown]
# Both losses are one number, and their gradients add up in the same weights. *One transformer for both* would be an empty phrase if each loss used a part of its own. **Predict**: which modules hear from only one of them? And do the two pull in the same direction?


# %%
def pulls(order: bool) -> list[dict[str, Tensor]]:
    """The gradient of each loss, for every parameter: [of the words', of the picture's]."""
    rows = batch_2["picture_first"] == order
    parameters = dict(both.named_parameters())
    for p in parameters.values():
        p.requires_grad_(True)
    found = []
    with torch.enable_grad():
        for loss in both.losses(*(batch_2[name][rows] for name in ("x0", "t", "eps", "tokens")), order):
            made = torch.autograd.grad(loss.mean(), list(parameters.values()), allow_unused=True, retain_graph=True)
            found.append({name: g for name, g in zip(parameters, made) if g is not None and bool(g.any())})
    both.requires_grad_(False)
    return found


# %%
of_words_2, of_picture_2 = pulls(False)
modules_2 = {name.split(".")[0] for name, _ in both.named_parameters()}
hear_2 = [{name.split(".")[0] for name in found} for found in (of_words_2, of_picture_2)]
assert hear_2[0] - hear_2[1] == {"next_word"}
assert hear_2[1] - hear_2[0] >= {"head", "stem", "time"}
table_2 = {name: ["yes" if name in heard else "" for heard in hear_2] for name in sorted(modules_2)}
show.table(table_2, ["text first: who hears of", "the words' loss", "the picture's loss"])

# %%
cosines_2 = {}
for order, name in ((False, "text first"), (True, "picture first")):
    said, drawn = pulls(order)
    shared = [k for k in said if k in drawn and k.startswith("blocks") and said[k].ndim == 2]
    by_block = {}
    for k in shared:
        by_block.setdefault(int(k.split(".")[1]), []).append((said[k].flatten(), drawn[k].flatten()))
    pairs = [tuple(torch.cat(part) for part in zip(*by_block[i])) for i in sorted(by_block)]
    cosines_2[name] = [float(F.cosine_similarity(a, b, dim=0)) for a, b in pairs]
assert all(abs(c) < 0.5 for row in cosines_2.values() for c in row)
show.table(
    dict(cosines_2.items()),
    ["cosine of the two gradients", *(f"block {i + 1}" for i in range(6))],
)

# %% [markdown]
# ## 3. What λ decides (core, 15 minutes)
#
# Transfusion's authors took λ = 5. We trained a small network for 1,000 steps in a small world, again and again: four λ, four shares of rows whose picture comes first. None of these runs is long enough to draw well, so we compare what they were asked for: the error of the picture, and the cross-entropy of a description. **Predict** the two curves: what does a larger λ bring, and what does it cost?

# %%
table_3 = facts["runs"]["table"]
asked_3 = ("nats a word, picture first", "error of velocity")
losses_of = lambda arm: [(table_3[arm][name]["mean"], table_3[arm][name]["sd"]) for name in asked_3]
by_share_3 = {"0": "picture first: 0", "0.25": "λ = 25", "0.5": "picture first: 0.5", "1": "picture first: 1"}
curves_3 = {
    "λ (a quarter of the rows describes)": {f"λ = {x}": losses_of(f"λ = {x}") for x in (1, 5, 25, 125)},
    "share of rows that describe (λ = 25)": {share: losses_of(arm) for share, arm in by_share_3.items()},
}
nats_3, error_3 = ({arm: table_3[arm][name]["mean"] for arm in table_3} for name in asked_3)
assert nats_3["λ = 1"] < nats_3["λ = 25"] < nats_3["λ = 125"]
assert error_3["λ = 125"] < error_3["λ = 1"]
draw.trade(curves_3, ("nats a word of a description", "error of the picture"), "What each loss costs the other")

# %% [markdown]
# A small λ leaves the picture unheard, a large one the words. With all rows in one order, the other direction is never learned: the mask keeps the two tasks apart even though the weights are the same.
#
# And the mask? In the last arm the squares of a picture are causal like words, as if the picture were a text. **Predict** what it costs to denoise the first square without looking at the others.

# %%
rows_3 = {
    name: [f"{value['mean']:.4f} ± {value['sd']:.4f}" for value in (table_3[arm][kind] for kind in asked_3[::-1])]
    for name, arm in {"squares look at one another": "λ = 25", "squares are causal": "causal squares"}.items()
}
assert error_3["causal squares"] > error_3["λ = 25"]
show.table(rows_3, ["", "error of the picture", "nats a word of a description"])

# %% [markdown]
# ## 4. The switch (core, 15 minutes)
#
# Nobody tells the model when to draw. It writes; if the next token is BEGIN, we put 16 squares of noise behind it and denoise them, everything before them held fixed; then FINISH, and it writes on. **Predict**: give it nothing but START. What comes?


# %%
def write(tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, bool]:
    """(1, L) tokens go on, word by word, drawn from the model, until END; and whether BEGIN follows."""
    while int(tokens[0, -1]) != END and tokens.shape[1] < transfusion.LENGTH:
        nothing = torch.zeros(1, 3, 16, 16, device=device)
        logits = both.read(tokens, nothing, torch.ones(1, device=device)).words[:, -1]
        chosen = torch.multinomial(logits.softmax(-1).cpu(), 1, generator=generator).to(device)
        tokens = torch.cat([tokens, chosen], 1)
    logits = both.read(tokens, torch.zeros(1, 3, 16, 16, device=device), torch.ones(1, device=device)).words[:, -1]
    return tokens, int(logits.argmax()) == both.begin


# %%
def denoised(tokens: Tensor, generators: list[torch.Generator], steps: int = 25) -> Tensor:
    """The squares behind BEGIN, from noise: (1, 3, 16, 16)."""
    denoise = bind(Denoiser(both, Linear(), X0), tokens=tokens)
    noise = randn((len(tokens), 3, 16, 16), generators, device=device)
    *_, x = sample(denoise, noise, times.linear(steps), ddpm(Linear()), generators)
    return x.cpu()


# %%
dreams_4 = []
for seed in range(9):
    g_4 = seeded(seed)
    told_4, drawing_4 = write(torch.tensor([[START]], device=device), g_4)
    assert drawing_4  # it asks for a picture by itself
    dreams_4.append((words.decode(told_4.cpu())[0], denoised(told_4, [g_4])[0]))
texts_4, pictures_4 = [text for text, _ in dreams_4], torch.stack([x for _, x in dreams_4])
true_4 = transfusion.true_of(texts_4, pictures_4)
right_4 = [good or not text for text, good in zip(texts_4, true_4.tolist())]  # without words nothing is asked
shown_4 = [text or "(no words)" for text in texts_4]
draw.there_and_back(shown_4, pictures_4, [""] * 9, right_4, "From START alone: a sentence, then its picture")

# %% [markdown]
# A tenth of the texts in training are empty, so some dreams have no words. This is a sample of the *joint* distribution, $p(\text{text})\,p(\text{picture}\mid\text{text})$; drawing fixes the first factor, describing needs the other order, $p(\text{picture})\,p(\text{text}\mid\text{picture})$. **Predict** what survives a round trip: draw held-out captions such as *a red star left of a blue circle*, let the model describe its pictures, and draw the descriptions.

# %%
asked_4 = transfusion.World(families=("relation",)).prompts(40, 3, "test")
first_4 = transfusion.pictures_of(both, 25)(captions(asked_4), 1.0, range(40)).cpu()
between_4 = transfusion.texts_of(both, first_4)
second_4 = transfusion.pictures_of(both, 25)(between_4, 1.0, range(100, 140)).cpu()
objects_4 = [replace(prompt, relation=None) for prompt in asked_4]
share_4 = lambda right: float(right.float().mean())

# %%
trip_4 = {
    "first picture: objects and relation": share_4(matches(asked_4, first_4)),
    "description is true": share_4(transfusion.true_of(between_4, first_4)),
    "second picture: the objects": share_4(matches(objects_4, second_4)),
    "second picture: objects and relation": share_4(matches(asked_4, second_4)),
    "second picture: the next caption's objects": share_4(matches(objects_4[1:] + objects_4[:1], second_4)),
}  # fmt: skip
assert min(list(trip_4.values())[:3]) > 0.8 > 0.55 > trip_4["second picture: objects and relation"]
assert list(trip_4.values())[-1] < 0.2  # the control
show.table({name: [value] for name, value in trip_4.items()}, ["a round trip of 40 captions", "share"], digits=2)

# %%
show.table({a: [b] for a, b in list(zip(captions(asked_4), between_4))[:4]}, ["asked for", "said of the picture"])

# %% [markdown]
# Every sentence was true, and the relation is gone. The *likeliest* true sentence is the one that fits most pictures: "and" fits all arrangements, "left of" one in four. A judge that asks for truth alone gives such a description full marks; whoever describes in order to draw again needs one that says *more* (DALL-E 3's recaptioning is trained to).

# %% [markdown]
# ## 5. Both directions, in numbers (core, 10 minutes)
#
# First the beginning of the run, live, beside the recorded curve.

# %%
losses_5 = []
with torch.enable_grad():
    run_5 = fit(
        transfusion.MODEL.untrained().to(device), transfusion.MODEL.draw(), transfusion.MODEL.steps, seed=0, bar=False,
        **transfusion.MODEL.options,
    )  # fmt: skip
    for progress in run_5:
        losses_5.append(progress.loss)
        if progress.step == 25:
            break
first_5, later_5 = sum(losses_5[:5]) / 5, sum(losses_5[-5:]) / 5
end_5 = sum(curve(transfusion.MODEL.name)[1][-10:]) / 10
assert later_5 < 0.8 * first_5
assert end_5 < 0.1 * later_5
show.table({"steps 1 to 5": [first_5], "21 to 25": [later_5], "the end, as recorded": [end_5]}, ["", "loss"])

# %%
scores_5 = record(transfusion.MODEL.name)["scores"]
rows_5 = {
    family: [
        scores_5[f"{family}, drawn, w=0"], scores_5[f"{family}, drawn, w=1"],
        scores_5[f"{family}, drawn, w=1, another caption"], scores_5[f"{family}, described"],
        scores_5[f"{family}, described, another picture"],
    ]
    for family in transfusion.WORLD.families
}  # fmt: skip
headings_5 = ["held out, of 200", "drawn, w = 0", "w = 1 (scale 2)", "another caption", "described", "another picture"]
show.table(rows_5, headings_5, digits=2)

# %% [markdown]
# **How clean must a picture be to be described?** In rows that describe, the picture is at most 30 % noisy; the paper limits it to half. **Predict** the curve beyond.

# %%
seen_5 = transfusion.World(families=("relation",)).prompts(60, 8, "test")
x0_5 = render(place(seen_5, 8))


def described_at(t: float) -> tuple[float, float]:
    """The share of true descriptions of noisy pictures; and what the next picture's description is worth."""
    noisy = Linear().add_noise(x0_5, randn(x0_5.shape, seeded(3)), torch.full((60,), t))
    said = words.decode(both.describe(noisy.to(device), torch.tensor(START), t).cpu())
    return tuple(float(transfusion.true_of(s, x0_5).float().mean()) for s in (said, said[1:] + said[:1]))


levels_5 = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
found_5 = {t: described_at(t) for t in levels_5}
lines_5 = {
    "its own": {t: a for t, (a, _) in found_5.items()},
    "the next one's": {t: b for t, (_, b) in found_5.items()},
}
assert lines_5["its own"][0.0] > 0.8 > 0.3 > lines_5["its own"][0.9]
draw.over_noise(lines_5, transfusion.SEEN, "What can be described of a noisy picture")

# %% [markdown]
# It could not have been otherwise: the curve falls where training stopped looking. (A picture that stands in a sequence to be *described* has to be seen, so its noise is limited. A picture that is to be *drawn* begins as noise alone.)
#
# ## 6. The shape is a word (core, 15 minutes)
#
# HunyuanImage 3.0 (arXiv 2509.23951) takes the idea to 80 billion parameters. Three things are new. Between BEGIN and the squares stands a **ratio** token: whether the picture is wide or tall is foretold like any word, and then as many squares follow as it says. Pictures stand anywhere in a conversation, and the last one is being drawn. And all tokens have **two-dimensional positions**. A word that is the $p$-th token stands at $(p,p)$. A picture of $h\times w$ squares that begins as token $L$ is centred on that diagonal, row $i$ at $\beta_y+i$, column $j$ at $\beta_x+j$. **Predict** $\beta_y$: where must a picture begin so that its middle is where the middle of $h\cdot w$ words would be?


# %%
def places_of(parts: list[int | tuple[int, int]]) -> Tensor:
    """Numbers of words, and (rows, columns) of pictures → (L, 2): row and column of every token."""
    found, first = [], 0
    for part in parts:
        if isinstance(part, int):
            found += [(first + p, first + p) for p in range(part)]
            first += part
        else:
            h, w = part
            top, left = first + (h * w - h) / 2, first + (h * w - w) / 2
            found += [(top + i, left + j) for i in range(h) for j in range(w)]
            first += h * w  # text goes on where that many words would have ended
    return torch.tensor(found)


# %%
story_6: list[int | tuple[int, int]] = [5, (4, 6), 6, (5, 2), 3]
assert torch.equal(places_of(story_6), rope.interleaved(*story_6, truncated=False))
rounded_6 = rope.interleaved(*story_6)
assert (places_of(story_6) - rounded_6).max() == 0.5 > (places_of(story_6) - rounded_6).min() == 0
draw.diagonal(places_of(story_6), story_6, "Five words, a wide picture, six words, a tall one, three words")

# %% [markdown]
# (The public code rounds positions down; where one side is odd and the other even, that moves a picture half a step. Ours does as the code does.)
#
# Our miniature has 1.7 million parameters, pictures of 16×16, 16×24 and 24×16 pixels, captions such as *a wide picture of a red circle*, and instructions to change a picture. First its choice of shape. **Predict** what it answers to a caption that names none.

# %%
drawer = hunyuan.MODEL.load().to(device)
caption_6 = "a red circle left of a blue square"
asks_6 = {f"a {word}picture of {caption_6}": word for word in ("", "wide ", "tall ")}
given_6 = hunyuan.written([[text] for text in asks_6], [hunyuan.SIGNS.begin])
odds_6 = drawer.ratios(**{name: value.to(device) for name, value in given_6.items()}).exp().cpu()
assert odds_6.argmax(1).tolist() == [0, 1, 2]
show.table({text: row.tolist() for text, row in zip(asks_6, odds_6)}, ["", "square", "wide", "tall"])

# %%
prompts_6, aspects_6, _ = hunyuan.stories(9, hunyuan.World(families=("one", "relation")), 7, "test")
texts_6 = [asked(text, aspect) for text, aspect in zip(captions(prompts_6), aspects_6.tolist())]
made_6 = hunyuan.generate(drawer, [[text] for text in texts_6], 1.0, range(9), steps=25)
right_6 = [bool(things) and shows(prompt, things) for prompt, things in zip(prompts_6, hunyuan.read(made_6))]
assert torch.equal(aspects_of(made_6), aspects_6)
draw.shapes(texts_6, made_6, right_6, "Asked for, and drawn in the shape that it chose itself")

# %% [markdown]
# ## 7. Changing a picture by looking at it (core, 15 minutes)
#
# No mechanism is needed for editing: the earlier picture stands in the sequence, clean, then the instruction, then a new picture is drawn that may look at both. **Predict** what happens if another picture stands there, with the same instruction.

# %%
_, aspects_7, edits_7 = hunyuan.stories(8, hunyuan.World(families=("relation",)), 11, "test")
before_7 = hunyuan.pictures_of([edit.before for edit in edits_7], aspects_7)
after_7 = hunyuan.generate(drawer, [[x, e.text] for x, e in zip(before_7, edits_7)], 0.0, range(8), steps=25)
told_7 = [hunyuan.as_told(e.after, things) for e, things in zip(edits_7, hunyuan.read(after_7))]
assert sum(told_7) >= 5
draw.edited(before_7, [edit.text for edit in edits_7], after_7, told_7, "Shown, told, drawn")

# %%
scores_7 = record(hunyuan.MODEL.name)["scores"]
rows_7 = {
    name: [scores_7[key], scores_7[f"{key}, another {other}"]]
    for name, key, other in (
        ("the shape (one object)", "one, ratio", "caption"), ("drawn: one object, w = 1", "one, drawn, w=1", "caption"),
        ("drawn: relation, w = 1", "relation, drawn, w=1", "caption"), ("edited as told, w = 0", "edited, w=0", "picture"),
        ("what was not named is kept", "edited, the rest kept, w=0", "picture"),
    )
}  # fmt: skip
rows_7["second turn: its own picture, edited"] = [scores_7["second turn, w=0"], ""]
show.table(rows_7, ["held out, of 100", "right", "with another caption, or picture"], digits=2)

# %% [markdown]
# What may look at what is again a promise about numbers. The new picture's noise and time must not reach anything before it, or the earlier part would have to be computed again at every step of the sampler. (Because they do not, keys and values of the conversation are computed once. That is why earlier pictures stand at $t=0$.)

# %%
talk_7 = hunyuan.written([[texts_6[0], made_6[0], "make the red circle blue", made_6[0]]])
tokens_7, pixels_7 = talk_7["tokens"].to(device), talk_7["pixels"].to(device)
first_7 = int(drawer.last(tokens_7)[0].nonzero()[0])
other_7 = pixels_7.clone()
other_7[:, first_7:] = 0.0  # another state of the picture that is being drawn
reads_7 = [
    drawer.read(tokens_7, p, torch.full((1,), t, device=device)).words for p, t in ((pixels_7, 0.1), (other_7, 0.9))
]
gap_7 = (reads_7[0] - reads_7[1]).abs().amax(-1)[0].cpu()
assert gap_7[: first_7 - 1].max() == 0 < gap_7[first_7:].max()
moved_7 = {
    "the conversation": [float(gap_7[: first_7 - 1].max())],
    "from the time on": [float(gap_7[first_7 - 1 :].max())],
}
show.table(moved_7, ["answers at", "change when the last picture is another"])

# %% [markdown]
# ## 8. The guess: codes first, pixels last (extra, 20 minutes)
#
# How GPT-4o draws is not published, nor how Nano Banana does. There is a whiteboard in one of the pictures with which GPT-4o's drawing was announced: *compose autoregressive prior with a powerful decoder*, and *tokens → [transformer] → [diffusion] → pixels*. What follows is a **guess** that fits it, built like an open system with that plan, GLM-Image. A picture becomes 4×4 codes. A causal transformer writes texts and codes, turn by turn, everything before in view. A diffusion model paints pixels from the codes alone. **Predict** what the painter makes of codes that are all dropped.

# %%
guess_8 = guess.Guess.load()
talk_8 = ["a red circle left of a blue star", "make the red circle green", "remove the blue star"]
turns_8 = guess.converse(guess_8, [talk_8] * 2, 0.0, range(2))
codes_8 = guess.decide(guess_8, [[talk_8[0]]] * 2, 0.0, range(2))
blind_8 = paint(guess_8.pixels, codes_8, range(2), dropped=True)
same_noise({f"noise {i}": torch.stack([*(turn[i] for turn in turns_8), blind_8[i]]) for i in range(2)},
           [*talk_8, "painted without the codes"], "One conversation, two painters' noises")  # fmt: skip

# %%
scores_8 = guess.WORDS.record()["scores"]
rows_8 = {
    name: [scores_8[f"{key}"], scores_8[f"{key}, another conversation's codes"]]
    for name, key in (
        ("first edit as told", "edit 1, as told"), ("second edit as told", "edit 2, as told"),
        ("first edit: not named, kept", "edit 1, kept"), ("second edit: not named, kept", "edit 2, kept"),
    )
}  # fmt: skip
assert min(row[0] for row in rows_8.values()) > 0.5 > max(row[1] for row in rows_8.values())
show.table(rows_8, ["held out, of 400", "right", "with another conversation's codes"], digits=2)

# %% [markdown]
# Two designs, one conversation. In the first, one network does all, and the earlier picture is seen as it is. In the guess, what the transformer knows of a picture is 16 codes; two noises of the painter show the same objects in the same places, because the codes have decided. What the codes do not say, the painter invents.
#
# ## 9. Your turn: ask, look, ask again (extra, 15 minutes)
#
# Ask for a picture, then change it. Beneath every picture stands what the judge reads in it, whether the instruction was followed, and whether what it did not name is still there. (*circle, square, triangle, star, cross; red, green, blue, yellow, purple, black; make the red circle blue; turn the red circle into a star; remove the red circle.*)


# %%
def reply(history, text: str, seed: int) -> Tensor:
    """The next picture of a conversation, by section 7's model: it sees the last picture, and the instruction."""
    if history and instructs(text):
        return hunyuan.generate(drawer, [[history[-1], text]], 0.0, [seed], steps=25)[0]
    return hunyuan.generate(
        drawer, [[text if "picture of" in text else f"a picture of {text}"]], 1.0, [seed], steps=25
    )[0]


known_9 = set(" ".join(hunyuan.TOKENS.words).split())
opening_9 = ["a wide picture of a red circle left of a blue star", "make the red circle green", "remove the blue star"]
talk_9 = chat(reply, known_9, opening_9)
assert len(talk_9.turns) == 3
assert talk_9.refused("make the purple cross red")  # there is none

# %% [markdown]
# ## What to try next
#
# - In section 1, let the squares of a picture look at the words *behind* it. Which cells of the table become larger than 0, and what would that break in the sampler?
# - In section 4, draw the first word at a higher temperature. Which sentences does the model invent, and does it draw them?
# - In section 7, tell it to do two things in one instruction. It has never read such a sentence.
# - In section 8, paint the same codes with ten noises. What varies?
#
# Then the [exercises](../exercises/14_one_transformer.ipynb), and [chapter 15](15_design_space.ipynb), which lays all of these systems on one map.
