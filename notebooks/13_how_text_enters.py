# %% [markdown]
# # 13 How text enters: cross-attention, double stream, single stream
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Six transformers with equally many parameters are shipped.
#
# Chapter 12 asked what reads the sentence. Now the reader is fixed, a chat model's states, and we ask how its tokens *meet* the picture's. There are three answers in use. The picture looks at the words and the words never change (cross-attention: DiT's users, PixArt, Stable Diffusion 1). Words and picture are two streams with weights of their own and one softmax (Stable Diffusion 3, Qwen-Image; at first Flux). Or both are one sequence with one set of weights (Z-Image; Flux later on).
# We build each block, prove how they are related, look inside trained ones in both directions, take parts away, and compare six designs with equal parameters, data and noise.
#
# **What you will learn.** Why joint attention is self-attention and cross-attention with a gate between them; what a double block is, line by line; attention beside an MLP; where words "stand" next to a grid of patches, and when their order cannot be seen; what becomes of the words on their way; what each design costs and brings here; how Stable Diffusion 3, Flux 1 and 2, Qwen-Image and Z-Image are made, counted block by block.
#
# **Parts.** *Core*: sections 1 to 7, about 110 minutes. *Extra*: sections 8 to 10, about 30 minutes.
#
# **Before.** Chapters 07 (attention to words), 11 (DiT), 12 (the reader). **Read along:** [lecture](../lectures/13_how_text_enters.md) (the derivations). **Then do:** [exercises](../exercises/13_how_text_enters.ipynb).

# %%
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import show
from minidiff.backbones import flux2, mmdit, single_stream
from minidiff.data.captions import captions
from minidiff.judges.scorecard import matches
from minidiff.nn import rope
from minidiff.nn.block import Block, joint
from minidiff.nn.parallel import Parallel

# %%
from minidiff.randomness import initialised, randn, seeded
from minidiff.show.figures import how_text_enters as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.show.streams import MEAN, Looked, both_ways
from minidiff.systems import cuts, readers, streams, ways_in
from minidiff.training import fit, pick_device
from minidiff.weights import curve

# %%
device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks; the short training says so
facts = json.loads(Path("../benchmarks/results/ways_in.json").read_text(encoding="utf-8"))
models = {design: shipped.load().to(device) for design, shipped in ways_in.MODELS.items()}
RELATION = replace(readers.WORLD, families=("relation",))

# %% [markdown]
# **One reader, six ways in.** The same sentences and noise. All six have 600,000 parameters (± 0.5 %), took the same 3,000 steps on the same batches, and stopped early on purpose, so that there is something to compare. **Predict** which row is best. It will turn out that eleven pictures, and one seed, say little about that.


# %%
def drawn(design: str, texts: list[str], seeds: range, w: float = 1.0, steps: int = 20) -> Tensor:
    return ways_in.pictures_of(models[design], steps)(texts, w, seeds).cpu()


asked_0 = RELATION.prompts(11, 4, "test")
rows_0 = {design: drawn(design, captions(asked_0), range(11)) for design in models}
right_0 = {design: int(matches(asked_0, x).sum()) for design, x in rows_0.items()}
other_0 = {design: int(matches(asked_0[1:] + asked_0[:1], x).sum()) for design, x in rows_0.items()}
assert sum(right_0.values()) > 22 > 4 > sum(other_0.values())  # the control: the next sentence
named_0 = {f"{design}: {right_0[design]} of 11": x for design, x in rows_0.items()}
same_noise(named_0, captions(asked_0), "One reader, six ways in")

# %% [markdown]
# ## 1. Two softmaxes or one (core, 20 minutes)
#
# *Cross-attention*: a picture's token asks the words, in a softmax over words alone. Before or after that it asks the picture, in another. *Joint attention*: one softmax over words and picture. **Predict**: is what joint attention gives to a picture's token a mixture of the other two? With which weights?

# %%
g = seeded(0)
q, k_picture, v_picture = (randn((1, 1, 16, 8), g) for _ in range(3))  # a picture of 16 tokens
k_words, v_words = (2 * randn((1, 1, 5, 8), g) for _ in range(2))  # 5 words


def attended(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(QKᵀ/√d)V, and the log of the softmax's denominator for every query."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v, scores.logsumexp(-1, keepdim=True)


own, z_own = attended(q, k_picture, v_picture)
crossed, z_words = attended(q, k_words, v_words)
both, _ = attended(q, torch.cat([k_words, k_picture], 2), torch.cat([v_words, v_picture], 2))
gate = torch.sigmoid(z_words - z_own)  # (1, 1, 16, 1)
assert torch.allclose(both, gate * crossed + (1 - gate) * own, atol=1e-6)
assert not torch.allclose(both, (crossed + own) / 2, atol=0.1)  # the control: a fixed mixture

# %% [markdown]
# So one softmax is both of them, and a gate that the query sets for itself: the share that words have in the denominator. In a cross-attention block nothing competes: every token of the picture reads exactly one sentence's worth in every block, whether it needs words or not.
#
# What do trained networks do with the gate? For each block and head: of what a picture's token reads, how much is words? If all scores were equal, 12 words beside 16 squares would get .43. **Predict** whether words are read more when the picture is nearly noise, t = 0.9, or nearly done, t = 0.3.

# %%
prompts_1 = RELATION.prompts(40, 3, "test")
texts_1 = captions(prompts_1)


def gates_of(design: str, t: float) -> Tensor:
    """(blocks, heads): the share of words in what the picture's tokens read."""
    found = streams.reads(models[design], streams.noised(prompts_1, t)[1], t, texts_1)
    spoken = streams.spoken(texts_1, found[0].of_words.shape[-1])[:, None, None].float()
    return torch.stack([(each.of_words * spoken).sum(-1).mean((0, 2)) for each in found])


gates_1 = {f"{design}, t = {t}": gates_of(design, t) for design in ("double", "single") for t in (0.9, 0.3)}
assert gates_1["double, t = 0.9"].mean() > gates_1["double, t = 0.3"].mean()
assert gates_of("cross-attention", 0.9).min() > 1 - 1e-5  # nothing but words
draw.gates(gates_1, "Of what a picture's token reads: how much is words")

# %% [markdown]
# ## 2. Two streams (core, 20 minutes)
#
# A **double block** (MM-DiT, arXiv 2403.03206). Each stream has its own everything: norm, modulation by the time, queries, keys, values, output map, MLP. Only the softmax is common. Here it is, from the modules of two ordinary blocks. **Predict**: at the start all gates are zero. What does the block do to words and picture?


# %%
def double_block(text: Block, picture: Block, c: Tensor, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
    """c (B, M, dim) words, x (B, N, dim) squares, cond (B, dim) the time → both, one block on."""
    streams_, q, k, v, gates = [c, x], [], [], [], []
    for block, stream in zip((text, picture), streams_):
        h, gate_ = block.norm1(stream, cond)  # the time scales and shifts, each stream in its own way
        for kept, made in zip((q, k, v), block.attention.heads(h)):
            kept.append(made)
        gates.append(gate_)
    mixed = F.scaled_dot_product_attention(*(torch.cat(part, 2) for part in (q, k, v)))  # one softmax
    parts = mixed.split([c.shape[1], x.shape[1]], 2)
    for i, block in enumerate((text, picture)):
        streams_[i] = streams_[i] + gates[i] * block.attention.back(parts[i])
        h, gate_ = block.norm2(streams_[i], cond)
        streams_[i] = streams_[i] + gate_ * block.down(block.activation(block.up(h)))
    return streams_[0], streams_[1]


# %%
def shaken(module: nn.Module, by: float = 0.1) -> nn.Module:
    for i, p in enumerate(module.parameters()):
        p.add_(by * randn(p.shape, seeded(i)))
    return module


pair_2 = [initialised(lambda: Block(32, 4, cond_dim=32, qk_norm=True), seed) for seed in (0, 1)]
c_2, x_2, cond_2 = randn((2, 5, 32), seeded(2)), randn((2, 16, 32), seeded(3)), randn((2, 32), seeded(4))
untouched = double_block(*pair_2, c_2, x_2, cond_2)
assert torch.equal(untouched[0], c_2)
assert torch.equal(untouched[1], x_2)
pair_2 = [shaken(block) for block in pair_2]
by_hand, library = double_block(*pair_2, c_2, x_2, cond_2), joint(pair_2, [c_2, x_2], cond_2)
assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(by_hand, library))
apart_2 = [block(stream, cond_2) for block, stream in zip(pair_2, (c_2, x_2))]
assert not torch.allclose(by_hand[1], apart_2[1], atol=1e-2)  # the control: two softmaxes

# %% [markdown]
# `nn.block.joint` is this function for any number of streams. The whole chapter is three ways to put blocks on one another; here they are drawn from the very modules of our six networks. **Predict**: at equal parameters, which column multiplies least?

# %%
backbones = {design: streams.backbone_of(model) for design, model in models.items()}
layers_2 = {design: draw.layers_of(net) for design, net in backbones.items()}
draw.layouts(layers_2, "Where text and picture have weights of their own")

# %%
work_2 = {design: ways_in.forward_gflops(model) * 1e3 for design, model in models.items()}
size_2 = {design: sum(p.numel() for p in net.parameters()) for design, net in backbones.items()}
assert max(size_2.values()) < 1.005 * min(size_2.values())
assert max(work_2[d] for d in ("double", "cross-attention")) < 0.65 * min(work_2[d] for d in ("shared", "single"))
rows_2 = {design: [size_2[design], len(layers_2[design]), work_2[design]] for design in models}
show.table(rows_2, ["", "parameters", "blocks", "Mflop a call (16 squares, 12 words)"])

# %% [markdown]
# Weights for both are used by every token, weights of one's own by one's own tokens only. So with as many parameters two streams do about half of the work. Keep it in mind for section 7: *equal parameters* is not *equal work*, and there is no comparison that is fair in both.
#
# ## 3. One set of weights, and an MLP beside the attention (core, 15 minutes)
#
# Flux has double blocks first, then **single** ones: text and picture in a row, one `Block` on their concatenation. And its single block does not even wait for the attention: $x + g\,W_o[\text{attention}(h),\ \text{MLP}(h)]$ with one $h$, one gate, one map in and one out. **Predict**: two blocks with small branches, one after the other or beside each other. How does their difference shrink when the branches are halved?


# %%
def parallel(block: Parallel, x: Tensor, cond: Tensor) -> Tensor:
    h, gate_ = block.norm(x, cond)
    q, k, v, inside = block.into(h).split(block.parts, -1)  # one map makes all four
    q, k, v = (part.unflatten(-1, (block.count, -1)).transpose(1, 2) for part in (q, k, v))
    mixed = F.scaled_dot_product_attention(block.norm_q(q), block.norm_k(k), v).transpose(1, 2).flatten(2)
    return x + gate_ * block.out(torch.cat([mixed, block.activation(inside)], -1))


block_3 = shaken(initialised(lambda: Parallel(32, 4, cond_dim=32), 5))
both_3 = torch.cat([c_2, x_2], 1)  # text, then picture: one sequence
assert torch.allclose(parallel(block_3, both_3, cond_2), block_3(both_3, cond_2), atol=1e-5)

# %%
plain_3 = initialised(lambda: Block(32, 4), 6)
attention_3 = lambda x, s: s * plain_3.attention(plain_3.norm1(x)[0])
mlp_3 = lambda x, s: s * plain_3.down(plain_3.activation(plain_3.up(plain_3.norm2(x)[0])))
apart_3 = {}
for s in (1.0, 0.5, 0.25, 0.125):
    first = both_3 + attention_3(both_3, s)
    in_turn, beside_each_other = first + mlp_3(first, s), first + mlp_3(both_3, s)
    apart_3[s] = float((in_turn - beside_each_other).norm() / (in_turn - both_3).norm())
ratio_3 = [apart_3[a] / apart_3[b] for a, b in ((0.5, 0.25), (0.25, 0.125))]
assert all(1.7 < r < 2.3 for r in ratio_3)  # relative to what the block does: half the branch, half the difference
show.table({f"branches × {s}": [d] for s, d in apart_3.items()}, ["", "difference / what the block does"])

# %% [markdown]
# In a deep network each block does little, so hardly anything is lost, and the machine multiplies two large matrices in place of six small ones. Flux 2 goes on: SwiGLU in that MLP, no biases, and **one modulation for all blocks of a kind**. How much is that? In Flux 1 every block maps the time to its own scales, shifts and gates. **Predict** their share of its 11.9 billion parameters.


# %%
def without_numbers(build) -> nn.Module:
    with torch.device("meta"):  # shapes alone: 20 billion parameters fit into no laptop
        return build()


def share_of_modulation(net: nn.Module) -> tuple[int, float]:
    size = {name: p.numel() for name, p in net.named_parameters()}
    told = sum(n for name, n in size.items() if "modulation" in name or name in FLUX2_TOLD)
    return sum(size.values()), told / sum(size.values())


FLUX2_TOLD = {"text.weight", "picture.weight", "both.weight"}  # its three maps, made once
shares_3 = {name: share_of_modulation(without_numbers(make)) for name, make in {
    "Flux 1": mmdit.flux1, "Flux 2": flux2.flux2,
}.items()}  # fmt: skip
assert shares_3["Flux 1"][1] > 0.25 > 0.02 > shares_3["Flux 2"][1]
show.table({name: [n / 1e9, f"{share:.1%}"] for name, (n, share) in shares_3.items()}, ["", "billions", "modulation"])

# %% [markdown]
# ## 4. Where does a word stand? (core, 15 minutes)
#
# The picture's tokens have a row and a column, and RoPE turns queries and keys by them. The words are in the same softmax, so they need a place, too. Three conventions: all at the origin (Flux 1); on the diagonal that goes on from the picture's corner, with the picture centred (Qwen-Image); on an axis of their own (Z-Image, Flux 2). **Predict**: exchange two words, with all they carry. Which networks can notice?

# %%
text_4, picture_4 = 6, (4, 4)
z_4 = backbones["single"].places(text_4, 16, picture_4)
cut_4 = lambda places: (places[:text_4, 1:3], places[text_4:, 1:3])
shown_4 = {
    "Flux 1": cut_4(rope.at_origin(text_4, *picture_4)),
    "Qwen-Image": cut_4(rope.centred(text_4, *picture_4)),
    "Z-Image, Flux 2: words on a third axis": (z_4[16:, 1:], z_4[:16, 1:]),
}
draw.places(shown_4, "Row and column of every token")

# %%
words_4 = randn((1, 6, ways_in.WIDTH), seeded(1)).to(device)
order_4 = torch.tensor([3, 1, 5, 0, 4, 2])
noticed_4 = {}
for design, net in backbones.items():
    answer = partial(net, randn((1, 3, 16, 16), seeded(2)).to(device), torch.full((1,), 0.5, device=device))
    plain, mixed_up = answer(context=words_4), answer(context=words_4[:, order_4])
    noticed_4[design] = float((plain - mixed_up).abs().max())
blind_4 = {"cross-attention", "double", "double, single"}
assert all((noticed_4[design] < 1e-5) == (design in blind_4) for design in models)
show.table({d: [f"{v:.0e}", "yes" if v > 1e-5 else "no"] for d, v in noticed_4.items()}, ["", "|Δ|", "notices"])

# %% [markdown]
# A softmax does not know in which order its keys came. Words at one place (or at none, in cross-attention) are a *set* of vectors; that "left of" stands between red and blue only the reader's states can tell. They do (chapter 12), which is why Flux 1 may put all words at the origin.
#
# **Padding.** Sentences of a batch have different lengths. Qwen-Image masks what is padded; Stable Diffusion 3 and Flux 1 let it be looked at; Z-Image puts a learned vector there, which is looked at, too. Ours mask, but for *single*. **Predict** how much of its attention the padding of a short sentence gets, in a batch with a long one.

# %%
long_4 = captions(readers.LONG.prompts(1, 5), "long")[0]
short_4 = "a red circle"
noise_4 = streams.noised(prompts_1[:1], 0.7)[1].expand(2, -1, -1, -1)
read_4, pads_4 = {}, ~streams.spoken([short_4, long_4])[0]
for design in ("double", "single"):
    found = streams.reads(models[design], noise_4, 0.7, [short_4, long_4])
    width = min(len(pads_4), found[0].of_words.shape[-1])  # filled up, there are more
    shares_4 = [float(each.of_words[0, ..., :width][..., pads_4].sum(-1).mean()) for each in found]
    read_4[design] = sum(shares_4) / len(shares_4)
assert read_4["double"] == 0 < read_4["single"]
show.table({d: [int(pads_4.sum()), v] for d, v in read_4.items()}, ["", "pads", "their share of reading"], digits=2)

# %% [markdown]
# What is looked at is part of the input. So the same sentence is *another* input in another batch, unless all sentences are filled up to one length, as Z-Image's are (to a multiple of 32; ours of 16). We found out the hard way: our first *single* did not. It was trained on mixed batches, in which short sentences nearly always have padding behind them. **Predict** what it drew when all sentences of a batch were short, and no padding was needed.

# %%
lengths_4 = {
    "as they are" if least == "0" else f"padded to {least}": [found["one"], found["relation"]]
    for least, found in facts["unfilled"]["at least"].items()
}
assert lengths_4["as they are"][0] < 0.1 < 0.8 < lengths_4["padded to 12"][0]
show.table(lengths_4, ["tokens (150 captions each)", "one object", "relation"], digits=2)

# %% [markdown]
# ## 5. What becomes of the words (core, 15 minutes)
#
# With cross-attention every block reads the same words. In a stream of their own they may change, for two reasons: the blocks transform them, and they look at the picture. **Predict** how far from the first block's words those before the last are (1: as far as they are long), and which part of that the picture has done.

# %%
inside = {design: facts["streams"][design] for design in models}
lines_5 = {design: list(found["moved"]["0.5"].values()) for design, found in inside.items()}
live_5 = streams.moved(models["double"], streams.noised(prompts_1, 0.5)[1], 0.5, texts_1)
assert max(lines_5["cross-attention"]) == 0 < 0.1 < list(live_5.values())[-1]
draw.by_block(lines_5, "‖change‖ / ‖before the first block‖", "Words change from block to block (t = 0.5)")

# %% [markdown]
# And the picture's part? Take one sentence and 64 noisy pictures. Whatever varies in a word's state between them, the picture has put there: ρ, its share of the variance. What is left is what words are among one another.

# %%
picture_5 = {d: found["of the picture"] for d, found in inside.items()}
rho_5 = streams.of_the_picture(models["double"], prompts_1[0], 0.5, 16)
assert next(iter(rho_5.values())) < 1e-9 < list(rho_5.values())[-1]
rows_5 = {d: [list(found[f"{t:g}"].values())[-1] for t in (0.9, 0.7, 0.5, 0.3)] for d, found in picture_5.items()}
show.table(rows_5, ["ρ before the last block", "t = 0.9", "0.7", "0.5", "0.3"], digits=2)

# %% [markdown]
# ## 6. Who points at what (core, 15 minutes)
#
# Two maps for each word: where in the picture is it *read* (a column of the picture's rows), and where in the picture does it *read* (its own row)? We take scenes of two objects and ask: does the first object's colour word point to the first object's squares? AUC: ½ is chance. The other object's squares are the control. **Predict** which of the two maps is sharper.

# %%
scene_6 = prompts_1[3]
x0_6, x_t_6 = streams.noised([scene_6], 0.5, seed=1)
text_6 = captions([scene_6])
said_6 = streams.words(text_6[0])
spots_6 = [i for i, word in enumerate(said_6) if word in (*scene_6.groups[0].look, *scene_6.groups[1].look)]


def sharpest(design: str) -> tuple[Tensor, Tensor]:
    """Mean maps (M, 16) of the last block but one: read by the picture, reading the picture."""
    each = streams.reads(models[design], x_t_6, 0.5, text_6)[-2]
    return each.of_words[0].mean(0).T, each.of_picture[0].mean(0)


rows_6 = [sharpest(design) for design in ("double, single", "shared")]
named_6 = [f"{said_6[i]} {way}" for way in ("is read", "reads") for i in spots_6]
flat_6 = [torch.cat([table[spots_6] for table in pair]).reshape(-1, 4, 4) for pair in rows_6]
draw.pointing(x0_6[0], named_6, dict(zip(("double, single", "shared"), flat_6)), f"“{text_6[0]}”")

# %%
point = {design: facts["streams"][design]["pointing"]["0.5"] for design in models}
best_6 = {}
for design, found in point.items():
    for way in ("of words", "of picture"):
        rows = [row for row in found.values() if f"colour, {way}" in row]
        if rows:
            row = max(rows, key=lambda row, way=way: row[f"colour, {way}"])
            best_6[f"{design}: {'read by the picture' if way == 'of words' else 'reads the picture'}"] = [
                row[f"colour, {way}"], row[f"colour, {way}, other"],
            ]  # fmt: skip
is_read = [row for name, row in best_6.items() if "read by" in name]
reading = [row for name, row in best_6.items() if "reads" in name]
assert all(own > 0.85 > 0.5 > other for own, other in is_read)
assert sum(own - other < 0.15 for own, other in reading) == 4  # of five: they find objects, whichever
show.table(best_6, ["the first colour word's map, t = 0.5, best block", "AUC: its object", "the other (control)"])

# %% [markdown]
# The picture knows which word is about it. The words find *things* in the picture, but in four of five designs not their own. A map is a direction, and whoever shows one has to say which.
#
# ## 7. Six designs, equal parameters (core, 15 minutes)
#
# Now the comparison that the chapter is about. Three seeds each, the same steps, batches and noise; loss above the exact floor (chapter 11), and 150 pictures a question. First, as always, the beginning of a run, live, beside the recorded curve.

# %%
shipped_7, losses_7 = ways_in.DOUBLE, []
with torch.enable_grad():
    run = fit(
        shipped_7.untrained().to(device), shipped_7.draw(), shipped_7.steps, seed=0, bar=False, **shipped_7.options
    )
    for progress in run:
        losses_7.append(progress.loss)
        if progress.step == 25:
            break
first_7, later_7 = sum(losses_7[:5]) / 5, sum(losses_7[-5:]) / 5
assert later_7 < 0.8 * first_7
end_7 = sum(curve(shipped_7.name)[1][-10:]) / 10
assert end_7 < 0.2 * later_7
show.table({"steps 1 to 5": [first_7], "21 to 25": [later_7], "the end, as recorded": [end_7]}, ["", "loss"])

# %%
table_7 = facts["runs"]["table"]
pm = lambda cell, scale=1.0, digits=2: f"{scale * cell['mean']:.{digits}f} ± {scale * cell['sd']:.{digits}f}"
spent_7 = {design: facts["seconds"]["with gradients"][design]["cpu_ratio"]["median"] for design in models}
rows_7 = {
    design: [spent_7[design], pm(row["excess"], 1e3, 1), *(pm(row[q]) for q in ("one", "relation", "pair"))]
    for design, row in table_7.items() if design in models
}  # fmt: skip
excess_7 = {design: table_7[design]["excess"]["mean"] for design in models}
assert excess_7["double"] > max(excess_7[d] for d in ("cross-attention", "shared", "single")) + 5e-4
assert table_7["single"]["pair"]["mean"] > table_7["cross-attention"]["pair"]["mean"] + 0.1
show.table(rows_7, ["three seeds", "CPU time of a step", "excess · 1000", "one", "relation", "pair"])

# %%
asked_7 = ("relation", "pair", "count", "relation, long")
panels_7 = {q: {d: (table_7[d][q]["mean"], table_7[d][q]["sd"]) for d in models} for q in asked_7}
draw.compared(panels_7, "right", "Equal parameters, equal steps: 3 seeds × 150 pictures")

# %% [markdown]
# *Double* is behind, clearly: with equal parameters it does half of the work, and text and picture meet three times. Cross-attention, *shared* and *single* have the same error within their spread, but two whole things (a pair) come out of one set of weights more often. And relations differ between seeds of one design as much as between designs: one seed could have told any story.
#
# ## 8. Taken away (extra, 10 minutes)
#
# Does it matter that words change? Take it away from the trained networks. *Still*: every block reads the words as they entered. *One way*: words may look at words, but not at the picture. **Predict** which costs more, and whether a network that *never* had the second misses it.

# %%
taken_8 = {d: facts["streams"][d]["less"] for d in models if d != "cross-attention"}
with cuts.one_way(models["double"]):
    assert list(streams.of_the_picture(models["double"], prompts_1[0], 0.5, 8).values())[-1] < 1e-9
bars_8 = {d: {way: found["relation"] for way, found in ways.items()} for d, ways in taken_8.items()}
assert bars_8["double"]["still"] < 0.4 * bars_8["double"]["as trained"]
assert abs(bars_8["single"]["still"] - bars_8["single"]["as trained"]) < 0.1  # it does not need it
draw.taken(bars_8, "Relations that are right, with something taken away")

# %% [markdown]
# The more weights are shared, the less words have to change. But a network may only have come to need what it had. So train *double* once more from the start, with words that never see the picture. **Predict** what it loses.

# %%
never_8 = {"words look at the picture": table_7["double"], "never": table_7["closed"]}
rows_8 = {
    name: [pm(row["excess"], 1e3, 1), *(pm(row[q]) for q in ("one", "relation", "pair"))]
    for name, row in never_8.items()
}
assert abs(never_8["never"]["excess"]["mean"] - table_7["double"]["excess"]["mean"]) < 1e-3  # within the spread
show.table(rows_8, ["double, trained from the start", "excess · 1000", "one", "relation", "pair"])

# %% [markdown]
# Nothing, as far as three seeds can tell. What a trained network cannot do without is not always what it had to have: a sentence says everything here before the picture begins.
#
# ## 9. The real ones, counted (extra, 10 minutes)
#
# The library's presets are these very classes at full size. Nobody can run them here, but without numbers they can be built, and their parameters counted; the tests compare them with diffusers' classes, exactly, and give tiny ones the same weights: the answers differ by less than 2·10⁻⁵. **Predict** which has the largest share of its parameters in weights for both.

# %%
PRESETS = {
    "Stable Diffusion 3 medium": mmdit.sd3_medium, "SD 3.5 large": mmdit.sd35_large, "Flux 1": mmdit.flux1,
    "Qwen-Image": mmdit.qwen_image, "Flux 2": flux2.flux2, "Z-Image": single_stream.z_image,
}  # fmt: skip
rows_9 = {}
for name, make in PRESETS.items():
    net = without_numbers(make)
    count = lambda blocks: sum(p.numel() for p in blocks.parameters()) if blocks is not None else 0
    kinds = [draw.layers_of(net).count(kind) for kind in ("double", "both", "refiners")]
    for_both = count(getattr(net, "single_blocks", None) or getattr(net, "joint_blocks", None))
    total = sum(p.numel() for p in net.parameters())
    rows_9[name] = [*kinds, total / 1e9, f"{for_both / total:.0%}"]
assert rows_9["Qwen-Image"][:2] == [60, 0]
assert rows_9["Flux 1"][:2] == [19, 38]
show.table(rows_9, ["", "double", "for both", "refiners", "billions", "in blocks for both"])

# %% [markdown]
# ## 10. Your turn: look inside (extra, 10 minutes)
#
# Type a sentence, choose a design, a block, a head and a time. Above: where the picture reads each word. Below: where each word reads the picture. (*circle, square, triangle, star, cross; red, green, blue, yellow, purple, black; left of, right of, above, below; and; and no; two, three, four*.)

# %%
vocabulary = set(" ".join(captions(readers.WORLD.prompts(1500, 0))).split())


def look(design: str, text: str, t: float, seed: int) -> Looked:
    model = models[design]
    x_t, guess = streams.on_the_way(model, text, t, seed)
    found = streams.reads(model, x_t, t, [text])
    ways = [{each.name: each.of_words[0] for each in found}]
    ways.append({each.name: None if each.of_picture is None else each.of_picture[0] for each in found})
    return Looked(x_t[0].cpu(), guess[0].cpu(), streams.words(text), *ways)


n_blocks = {design: len(streams.reads(models[design], noise_4, 0.5, [short_4] * 2)) for design in models}
play = both_ways(look, vocabulary, n_blocks)

# %%
numbers = [MEAN, *map(str, range(1, 7))]
playground = show.explore(
    play, sentence="a red circle left of a blue square", design=list(models)[1:] + list(models)[:1], block=numbers,
    head=[MEAN, "1", "2", "3", "4"], t=show.Slider(0, 1, 0.05, start=0.5), seed=show.Slider(0, 99, 1, start=0),
    static=[{"block": "3"}, {"design": "single", "block": "4", "head": "1"}],
)  # fmt: skip
assert playground.values["design"] == "double"

# %% [markdown]
# ## What to try next
#
# - In section 4, exchange two words *in the sentence* and not in its states. Who notices now?
# - In section 6, take the map of "left" or "above". Does it point anywhere?
# - In section 7, give `double` the *work* of `single` in place of its parameters: `width_of` and `forward_gflops` help.
# - In section 10, find a head that reads only one word, whatever the sentence.
#
# Then the [exercises](../exercises/13_how_text_enters.ipynb), and [chapter 14](14_one_transformer.ipynb), where the same blocks are asked for words, too.
