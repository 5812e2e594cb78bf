# %% [markdown]
# # 11 DiT
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Two small networks are trained live for a moment; eleven models are shipped.
#
# Until here a U-Net or a transformer did the denoising, and nobody asked which, or how large. DiT (arXiv 2212.09748) asked: cut the picture into patches, take them as words, and make the network larger.
# This chapter builds it, tells it what to draw in four ways, and then asks the question that decides what a training run is worth: what does one get for more work?
#
# **What you will learn.** What a patch costs; positions that a matrix can shift; the four conditionings of the paper at equal parameters; why gates begin at zero and which weights wake first; loss against Gflops; how to tell whether *your*
# loss is normal; why more sampling steps do not make up for a small model.
#
# **Parts.** *Core*: sections 1 to 7, about 110 minutes. *Extra*: sections 8 to 10, about 25 minutes.
#
# **Before.** Chapters 05 (guidance), 07 (attention to a sentence), 09 (why not every pixel). **Read along:** [lecture](../lectures/11_dit.md) (the derivations). **Then do:** [exercises](../exercises/11_dit.ipynb).

# %%
import json
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.backbones.dit import CONDITIONINGS, DiT, equal_hidden
from minidiff.data.captions import captions
from minidiff.data.prompts import World, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.nn.block import Block
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify

# %%
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches, objects_there
from minidiff.show.figures import dit as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import dit, fashion, scenes_text
from minidiff.training import pick_device

device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks; the short trainings say so
facts = json.loads(Path("../benchmarks/results/dit.json").read_text(encoding="utf-8"))
called = {name: name.removeprefix("dit-").upper().replace("-", "/") for name in dit.FAMILY}  # dit-s-8 is S/8
family = {called[name]: shipped.load().to(device) for name, shipped in dit.FAMILY.items()}
records = {called[name]: shipped.record() for name, shipped in dit.FAMILY.items()}

# %% [markdown]
# **The same sentences, the same noise, the same two thousand steps of training on the same batches.** All that differs is the work of one call: the last network does a hundred times as much as the first.

# %%
asked_0 = scenes_text.WORLD.prompts(8, 21, "test")
first_0 = {name: dit.pictures_of(family[name], 25)(captions(asked_0), 1.0, range(8)).cpu() for name in ("S/8", "L/2")}
right_0 = {name: float(matches(asked_0, x).float().mean()) for name, x in first_0.items()}
assert right_0["L/2"] > right_0["S/8"]
same_noise(first_0, captions(asked_0), "The smallest and the largest of nine, first seeds")

# %% [markdown]
# ## 1. A picture becomes tokens (core, 15 minutes)
#
# Cut the picture into squares of p×p pixels, row by row; the numbers of a square, in a row, are one token. **Predict.** How many tokens has a picture of 16×16 at p = 8, 4, 2? And what is lost on the way there and back?


# %%
def cut(x: Tensor, p: int) -> Tensor:
    """(B, C, H, W) → (B, N, p²·C)."""
    b, c, h, w = x.shape
    tiles = x.reshape(b, c, h // p, p, w // p, p)  # row of the patch, row in it, column of the patch, column in it
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(b, h // p * (w // p), p * p * c)


def glue(tokens: Tensor, p: int, side: int = 16) -> Tensor:
    tiles = tokens.reshape(len(tokens), side // p, side // p, p, p, -1)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, side, side)


scene_1 = render(place(asked_0, 1))
for p in dit.PATCHES:
    assert torch.equal(cut(scene_1, p), patchify(scene_1, p))  # the library's, exactly
    assert torch.equal(glue(cut(scene_1, p), p), scene_1)  # there and back
    assert not torch.equal(glue(cut(scene_1, p).flip(1), p), scene_1)  # the control: tokens have an order
draw.patches(scene_1[1], dit.PATCHES, f"“{captions(asked_0)[1]}”, cut three ways")

# %% [markdown]
# Nothing is lost: it is a permutation. What changes is the *work*. In one block of width $d$, four maps and an MLP cost $24Nd^2$ operations, the attention itself $4N^2d$ (lecture, section 1: tokens). **Predict** the factor from one row to the next.


# %%
def by_hand(n: int, d: int) -> int:
    """Operations of a block: a multiplication is one, an addition too."""
    maps = 4 * 2 * n * d * d  # q, k, v, out
    attention = 2 * 2 * n * n * d  # every query with every key, and the mean of the values
    mlp = 2 * 2 * n * d * 4 * d  # up to 4·d, and down again
    return maps + attention + mlp


rows_1 = {}
for p in dit.PATCHES:
    n_1, block_1 = dit.tokens_of(p), Block(96, 4)
    counted = round(1e9 * dit.gflops(partial(block_1, torch.zeros(1, n_1, 96))))
    assert counted == by_hand(n_1, 96)
    assert counted != by_hand(n_1, 96) - 4 * n_1**2 * 96  # the control: without the attention
    rows_1[f"p = {p}"] = [n_1, 3 * p * p, counted / 1e6, 4 * n_1**2 * 96 / counted]
show.table(rows_1, ["one block, d = 96", "tokens", "numbers a token", "Mflop", "of it attention"], digits=4)

# %% [markdown]
# By hand, and by PyTorch's counter: the same to the last operation. (The paper's own "Gflops" count a multiplication and its addition as *one*: DiT-XL/2 has 28 blocks of width 1152 and 256 tokens, and 118.6 of them.) **Predict** what the formula says.

# %%
xl = 28 * by_hand(256, 1152) / 1e9
rows_xl = {"28 blocks by the formula": [xl], "half of it": [xl / 2], "the paper says": [118.64]}
assert abs(xl / 2 / 118.64 - 1) < 0.005
show.table(rows_xl, ["DiT-XL/2", "Gflop a call"], digits=5)

# %% [markdown]
# ## 2. Positions (core, 15 minutes)
#
# A transformer does not know that tokens have places. **Predict.** Exchange two tokens at the input of a block: what happens at its output?

# %%
block_2, z_2 = initialised(lambda: Block(96, 4), 0), randn((1, 16, 96), seeded(1))
order_2 = torch.randperm(16, generator=seeded(2))
where_2 = randn((16, 96), seeded(3))  # something that differs from place to place
assert torch.allclose(block_2(z_2[:, order_2]), block_2(z_2)[:, order_2], atol=1e-5)  # nothing but the exchange
moved_2 = block_2(z_2[:, order_2] + where_2) - block_2(z_2 + where_2)[:, order_2]
assert float(moved_2.abs().max()) > 0.1  # the control: with places added, it is another picture


# %% [markdown]
# So a place is *added* to each token: sines and cosines of many frequencies, half of the numbers for the column, half for the row. **Predict.** Going one patch to the right changes the vector of a place. Is there *one matrix* that does this to every place?


# %%
def sines(n: int, features: int) -> Tensor:
    """Places 0 … n − 1 → (n, features): sines, then cosines, of frequencies 1 … 1/10,000."""
    rate = 10_000.0 ** (-torch.arange(features // 2) / (features // 2))
    angle = torch.arange(n)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)


def shift(by: int, features: int) -> Tensor:
    """The matrix with sines(…)[m + by] = shift(by, …) @ sines(…)[m]: each pair is turned by its own angle."""
    angle = by * 10_000.0 ** (-torch.arange(features // 2) / (features // 2))
    cos, sin = angle.cos().diag(), angle.sin().diag()
    return torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])


e_2 = sines(12, 48)
for by in (1, 3):
    assert torch.allclose(e_2[by:], e_2[:-by] @ shift(by, 48).T, atol=1e-5)
    assert not torch.allclose(e_2[by:], e_2[:-by] @ shift(by + 1, 48).T, atol=0.1)  # the control
    assert torch.allclose(shift(by, 48) @ shift(by, 48).T, torch.eye(48), atol=1e-5)  # a rotation

# %% [markdown]
# One rotation for all places; so one pair of matrices Q and K can say "look two to the left". Now two axes, and the cosine of every place with one of them. Beside it: what DiT-L/2 has *learned*, whose places began as noise. **Predict** both maps.


# %%
def alike(places: Tensor, at: tuple[int, int]) -> Tensor:
    """Places (side², d) → (side, side): the cosine of each with the one at (row, column), the mean taken away."""
    side = int(len(places) ** 0.5)
    unit = F.normalize(places - places.mean(0), dim=1).unflatten(0, (side, side))
    return unit @ unit[at]


axis_2 = sines(8, 48)
fixed_2 = torch.cat([axis_2.expand(8, 8, -1), axis_2[:, None].expand(8, 8, -1)], -1).flatten(0, 1)
maps_2, rows_2 = {"sines": alike(fixed_2, (2, 5))}, torch.arange(8)
for name_2, model_2 in (("learned by L/2", family["L/2"]), ("as L/2 began", dit.L2.untrained())):
    maps_2[name_2] = alike(model_2.net.backbone.place.detach().cpu(), (2, 5))
near_2 = ((rows_2[:, None] - 2).abs() + (rows_2 - 5).abs()) == 1
closer_2 = {name: float(m[near_2].mean() - m[~near_2].mean()) for name, m in maps_2.items()}
assert min(closer_2["sines"], closer_2["learned by L/2"]) > 0.2
assert abs(closer_2["as L/2 began"]) < 0.2  # the control
draw.similarity(maps_2, (2, 5), "How alike the 64 places are to one of them")

# %% [markdown]
# ## 3. The block, and why it begins at zero (core, 20 minutes)
#
# The time and the label, each a vector, are added to $c$. One linear map of SiLU(c) gives six vectors for each block: scale, shift and *gate* of its attention, and of its MLP. Here is the whole block, on the library's own weights. **Predict** what it does to its input before training, when that map is zero.


# %%
def adaln_zero(block: Block, z: Tensor, c: Tensor) -> Tensor:
    """z (B, N, d), c (B, d) → (B, N, d)."""
    scale1, shift1, gate1 = block.norm1.modulation(F.silu(c))[:, None].chunk(3, -1)
    scale2, shift2, gate2 = block.norm2.modulation(F.silu(c))[:, None].chunk(3, -1)
    plain, a = (lambda y: F.layer_norm(y, y.shape[-1:])), block.attention
    heads = lambda y: y.unflatten(-1, (a.count, -1)).transpose(1, 2)  # (B, heads, N, d/heads)
    h = plain(z) * (1 + scale1) + shift1
    q, k, v = heads(a.q(h)), heads(a.k(h)), heads(a.v(h))
    looked = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    z = z + gate1 * a.out(looked.transpose(1, 2).flatten(2))
    h = plain(z) * (1 + scale2) + shift2
    return z + gate2 * block.down(block.activation(block.up(h)))


# %%
def shaken(net, size: float = 0.2):
    """The network with noise on all its weights, so that nothing is zero."""
    for k, p in enumerate(net.parameters()):
        p.add_(size * randn(p.shape, seeded(k)))
    return net


z_3, c_3 = randn((2, 16, 48), seeded(0)), randn((2, 48), seeded(1))
new_3 = initialised(lambda: Block(48, 4, cond_dim=48), 0)
assert torch.equal(new_3(z_3, c_3), z_3)  # the identity, to the bit
plain_3 = initialised(lambda: Block(48, 4, cond_dim=48, zero=False), 0)
assert float((plain_3(z_3, c_3) - z_3).abs().max()) > 0.1  # the control: adaLN
old_3 = shaken(new_3)
assert torch.allclose(adaln_zero(old_3, z_3, c_3), old_3(z_3, c_3), atol=1e-4)
assert not torch.allclose(old_3(z_3, c_3), old_3(z_3, c_3.flip(0)), atol=0.1)  # it listens to c

# %% [markdown]
# The last map is zero, too, and so the whole network says 0. But if everything is multiplied by zero: **predict** which weights get a gradient at all in the first step, which in the second, which in the third.

# %%
PARTS = ("head", "gates", "last modulation", "stem, places", "scales, shifts", "attention, MLP", "time")


def part_of(name: str) -> str:
    first = name.split(".")[0]
    known = {"head": "head", "last": "last modulation", "stem": "stem, places", "place": "stem, places", "time": "time"}
    return known.get(first, "attention, MLP")


def touched(net: DiT) -> dict[str, float]:
    """The largest gradient of each part; of a block's modulation the last third of the rows makes the gates."""
    found = dict.fromkeys(PARTS, 0.0)
    for name, p in net.named_parameters():
        pieces = {part_of(name): p.grad}
        if "modulation" in name:
            pieces = {"scales, shifts": p.grad[: 2 * net.dim], "gates": p.grad[2 * net.dim :]}
        found |= {part: max(found[part], float(grad.abs().max())) for part, grad in pieces.items()}
    return found


# %%
net_3 = initialised(lambda: DiT(3, (16, 16), 4, 48, 4), 0)
x_3, t_3 = randn((8, 3, 16, 16), seeded(2)), torch.linspace(0.1, 0.9, 8)
assert torch.equal(net_3(x_3, t_3), torch.zeros_like(x_3))  # the whole network: 0
assert float(initialised(lambda: DiT(3, (16, 16), 4, 48, 4, conditioning="adaLN"), 0)(x_3, t_3).abs().mean()) > 0.05
steps_3, rule = [], torch.optim.SGD(net_3.parameters(), lr=0.5)
with torch.enable_grad():
    for _ in range(3):
        rule.zero_grad()
        (net_3(x_3, t_3) - scene_1).square().mean().backward()
        steps_3.append(touched(net_3))
        rule.step()
awake = [{part for part, grad in step.items() if grad > 0} for step in steps_3]
assert awake == [{"head"}, {"head", "gates", "last modulation", "stem, places"}, set(PARTS)]
rows_3 = {part: [f"{step[part]:.0e}" if step[part] else "0" for step in steps_3] for part in PARTS}
show.table(rows_3, ["largest gradient", "step 1", "step 2", "step 3"])

# %% [markdown]
# From the outside in, exactly as the lecture derives. And what is it good for? Twenty-four blocks, not trained. **Predict** how the size of the tokens grows with depth, with and without gates at zero.

# %%
rows_deep: dict[str, list[float]] = {}
for how in ("adaLN", "adaLN-Zero"):
    deep, rows_deep[how] = initialised(partial(DiT, 3, (16, 16), 4, 96, 24, conditioning=how), 0), []
    note = lambda values, block, given, out: values.append(float(out.var()))
    for block_3 in deep.blocks:
        block_3.register_forward_hook(partial(note, rows_deep[how]))
    deep(x_3, t_3)
    rows_deep[how] = [v / rows_deep[how][0] for v in rows_deep[how]]
assert max(rows_deep["adaLN-Zero"]) == min(rows_deep["adaLN-Zero"]) == 1.0
assert rows_deep["adaLN"][-1] > 3
lines_3 = {how: (range(1, 25), values) for how, values in rows_deep.items()}
draw.curves(lines_3, "block", "to that after block 1", "Before training: variance of the tokens", log=False)

# %% [markdown]
# ## 4. Four ways to say it (core, 25 minutes)
#
# The paper compares four; its code ships one, and in three issues its users asked for the others. Here they are, one block each, as they ran: one picture through, what leaves each module, its parameters on the right. **Predict** where you will see 18 tokens instead of 16, and which of the four has the fewest parameters.

# %%
from minidiff.nn.block import Attend, Attention
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.show.architecture import trace

one_4 = {"dim": 48, "depth": 1, "patch": 4}
kinds_4 = (TimeEmbedding, torch.nn.Linear, torch.nn.LayerNorm, Attend, Attention)
columns_4, said_4 = {}, randn((1, 48), seeded(0))
for how in CONDITIONINGS:
    net_4 = initialised(partial(DiT, **one_4, conditioning=how), 0)
    columns_4[how] = trace(net_4, partial(net_4, x_3[:1], t_3[:1], vector=said_4), kinds_4)
rows_seen = {call.shapes[""][0] for call in columns_4["in-context"] if len(call.shapes.get("", ())) == 2}
assert rows_seen == {16, 18}
assert any(call.looks_at == 2 for call in columns_4["cross-attention"])
assert not any(call.looks_at for call in columns_4["adaLN-Zero"])
draw.told(columns_4, 16, "One block, told in four ways (orange: where time and label take part)")

# %% [markdown]
# What do they cost? **Predict** parameters in units of $d^2$, and which is dear in *work*: a map that is applied to every token, or one that is applied once for the picture.

# %%
count, rows_4, d_4 = (lambda net: sum(p.numel() for p in net.parameters())), {}, 1152
with torch.device("meta"):  # shapes alone: XL/2's width would be 20 million numbers a block
    blocks_4 = {
        "in-context": Block(d_4, 16), "cross-attention": Block(d_4, 16, context_dim=d_4),
        "adaLN": Block(d_4, 16, cond_dim=d_4, zero=False), "adaLN-Zero": Block(d_4, 16, cond_dim=d_4),
    }  # fmt: skip
    for how, block_4 in blocks_4.items():
        z_4 = torch.zeros(1, 258 if how == "in-context" else 256, d_4)
        c_4, words_4 = torch.zeros(1, d_4), torch.zeros(1, 2, d_4) if how == "cross-attention" else None
        work_4 = dit.gflops(partial(block_4, z_4, c_4, words_4))
        rows_4[how] = [(count(block_4) - count(blocks_4["in-context"])) / d_4**2, 1e9 * work_4 / by_hand(256, d_4) - 1]
assert [round(row[0]) for row in rows_4.values()] == [0, 4, 4, 6]
assert rows_4["cross-attention"][1] > 0.15 > 0.01 > rows_4["adaLN-Zero"][1]
rows_said = {how: [f"{more:.2f} d²", f"{100 * work:.2f} %"] for how, (more, work) in rows_4.items()}
show.table(rows_said, ["a block of XL/2", "more parameters", "more operations"])

# %% [markdown]
# **Which is best?** At equal parameters: those without modulation get wider MLPs. One object, told by its label, of 30 = 5 kinds × 6 colours; two of the four live, from the same seed, on the same batches. **Predict** who is ahead after 150 steps.

# %%
from minidiff.conditioning import Conditioned, Labels
from minidiff.denoiser import Denoiser
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear

looks = [(kind, colour) for kind in SHAPES for colour in COLOURS]
ONE, small = World(families=("one",)), {"dim": 48, "depth": 4, "patch": 4}


def build_told(how: str) -> Denoiser:
    options = {**small, "conditioning": how, "hidden": equal_hidden(how, **small), "place_std": 0.3}
    net = DiT(**options, activation=F.silu)
    return Denoiser(Conditioned(Labels(len(looks), 48), net), Linear(), X0, velocity_weight)


numbers_4 = {how: count(build_told(how)) for how in CONDITIONINGS}
assert max(numbers_4.values()) / min(numbers_4.values()) < 1.002
assert count(DiT(**small, conditioning="in-context")) < 0.7 * count(DiT(**small))  # the control: MLPs of 4·dim

# %%
from minidiff.guidance import bind
from minidiff.training import diffuse, draw_rows, fit


def labelled(n: int, seed: int) -> dict[str, Tensor]:
    prompts = ONE.prompts(n, seeded(seed))
    y = torch.tensor([looks.index(prompt.groups[0].look) for prompt in prompts])
    return {"x0": render(place(prompts, seeded(seed + 1))), "y": y}


rows_of = diffuse(draw_rows(labelled(2000, 5), 32), times.logit_normal(0.3, 1.0, stratified=True))
courses, live_4 = {}, {}
for how in ("in-context", "adaLN-Zero"):
    with torch.enable_grad():
        run = fit(initialised(partial(build_told, how), 0), rows_of, 150, bar=False, **dit.OPTIONS)
        *progress, last = [(p.loss, p.ema) for p in run]
    courses[how], live_4[how] = [loss for loss, _ in [*progress, last]], last[1].eval()

# %%
exam_4 = dit.exam(200, ONE, None)
y_4 = torch.tensor([looks.index(prompt.groups[0].look) for prompt in exam_4.prompts])
mean_of = lambda rows, name: sum(row[name] for row in rows) / len(rows)
above_4 = {}
for how, model_4 in live_4.items():
    own, others = (mean_of(dit.errors_of(bind(model_4, y=y), exam_4), "excess") for y in (y_4, y_4.roll(1)))
    above_4[how] = [own, others]
    assert own < others  # the control: another's label
smooth = lambda x: torch.tensor(x).unfold(0, 15, 1).mean(1).tolist()
draw.curves({h: (range(8, 144), smooth(c)) for h, c in courses.items()}, "step", "loss", "150 steps live, one seed")
show.table(above_4, ["told", "above the floor, own label", "another's label (control)"])

# %% [markdown]
# That is one seed, and the beginning. The benchmark did all four, three seeds each, for ten times as long. The measure is the squared error *above the floor*, the least possible, which is known here exactly (section 6). **Predict** the order; the paper's, by FID: in-context worst, adaLN-Zero best.

# %%
table_4 = facts["conditionings"]["table"]
seeds_4 = lambda how: [run for name, run in facts["conditionings"]["runs"].items() if name.startswith(f"{how}, seed")]
dots_4 = {how: [mean_of(run["errors"], "excess") for run in seeds_4(how)] for how in CONDITIONINGS}
assert all(len(values) == 3 for values in dots_4.values())
spread = lambda told, k=1.0: f"{k * told['mean']:.3g} ± {k * told['sd']:.2g}"
rows_bench = {
    how: [row["parameters"], 1e3 * row["forward Gflops"], spread(row["excess"], 1e3), spread(row["right"])]
    for how, row in table_4.items()
}
assert all(row["right"]["mean"] > 5 * row["another label"]["mean"] for row in table_4.values())  # the control
draw.ranges(dots_4, "squared error above the floor", "1,500 steps, three seeds, equal parameters")
show.table(rows_bench, ["told", "parameters", "Mflop a call", "above the floor · 1000", "shown"])

# %% [markdown]
# Mind the third column: equal parameters are not equal work. An MLP is run for each token, a modulation once for the picture.
#
# ## 5. Scaling (core, 20 minutes)
#
# Three sizes × three patches, one recipe, the same 2,000 batches. **Predict.** Order the nine by their loss, then by the work of a call: how alike are the two orders? And by parameters instead?

# %%
rows_5 = {called[row["model"]]: row for row in facts["scaling"]["rows"]}
points_5 = {name: (rows_5[name]["forward Gflops"], rows_5[name]["excess"]) for name in family}


def spearman(a: list[float], b: list[float]) -> float:
    """The correlation of ranks: 1 − 6·Σ(difference of ranks)² / (n·(n² − 1))."""
    rank = lambda values: torch.tensor(values).double().argsort().argsort().double()
    return float(1 - 6 * (rank(a) - rank(b)).square().sum() / (len(a) * (len(a) ** 2 - 1)))


columns_5 = ("forward Gflops", "parameters")
loss_5 = [rows_5[name]["loss"] for name in family]
by_5 = {what: spearman([rows_5[name][what] for name in family], loss_5) for what in columns_5}
assert abs(by_5["forward Gflops"] - facts["scaling"]["spearman with forward Gflops"]["loss"]) < 1e-3
assert by_5["forward Gflops"] <= -0.9
told_5 = ", ".join(f"{value:.2f} with {what.removeprefix('forward ')}" for what, value in by_5.items())
draw.scaling(points_5, "squared error above the floor", f"Ranks of the loss: {told_5}")

# %%
show.table(
    {
        name: [row["parameters"], 1e3 * row["forward Gflops"], 1e3 * row["excess"], row["objects, w=1"]]
        for name, row in rows_5.items()
    },
    ["cheapest first", "parameters", "Mflop a call", "above the floor · 1000", "objects that are there, w = 1"],
)

# %% [markdown]
# One network has the same parameters at p = 8, 4 and 2 (but for stem and head), and a hundred times the work lies between the corners. Now with your eyes: six sentences, six seeds, the same for all nine. **Predict** what small networks get wrong first: colours, kinds, places, or sharp edges?

# %%
asked_5 = scenes_text.WORLD.prompts(6, 45, "test")
drawn_5 = {name: dit.pictures_of(model, 25)(captions(asked_5), 1.0, range(6)).cpu() for name, model in family.items()}
right_5 = {name: matches(asked_5, x).tolist() for name, x in drawn_5.items()}
next_5 = {name: matches(asked_5[1:] + asked_5[:1], x).tolist() for name, x in drawn_5.items()}
assert sum(map(sum, right_5.values())) > 2 * sum(map(sum, next_5.values()))  # the control: the next one's sentence
titles_5 = {name: f"{name}: {1e3 * rows_5[name]['forward Gflops']:.3g} Mflop" for name in family}
renamed = lambda found: {titles_5[name]: value for name, value in found.items()}
draw.family(renamed(drawn_5), renamed(right_5), captions(asked_5), "Nine networks, the same sentences and noise")

# %% [markdown]
# ## 6. Is your loss normal? (core, 20 minutes)
#
# A loss of .05: is that good? It depends on $t$, and on what *cannot* be known. The error of $\hat x_0$ is **floor + excess**: how far the best denoiser is from the truth, and how far yours is from the best denoiser. In this world the best
# denoiser is a finite sum, so both can be measured. **Predict** the cross term between the two, and at which $t$ the floor is nearly all of the loss.

# %%
exam_6 = dit.exam(128)
tokens_6 = scenes_text.tokenizer(dit.LENGTH).encode(captions(exam_6.prompts))
live_6 = {}
for name in ("S/8", "M/4", "L/2"):
    rows_6 = []
    for t_6, x_6, best, left in zip(dit.TIMES, exam_6.x_t, exam_6.mean, exam_6.left):
        guess = family[name](x_6.to(device), torch.tensor(t_6, device=device), tokens=tokens_6.to(device)).cpu()
        loss, excess = (float((guess - to).square().mean()) for to in (exam_6.x0, best))
        cross = float(2 * ((guess - best) * (best - exam_6.x0)).mean())
        rows_6.append({"t": t_6, "loss": loss, "floor": float(left.mean()), "excess": excess, "cross": cross})
    live_6[name] = rows_6
theirs_6 = dit.errors(dit.M4.load(), 128)
assert all(abs(a["excess"] - b["excess"]) < 1e-5 for a, b in zip(live_6["M/4"], theirs_6))

# %%
off = lambda row: abs(row["cross"]) / row["loss"]
assert all(off(row) < 0.25 for row in live_6["L/2"])  # it would be 0 over all scenes and all noise
assert all(row["loss"] > 0.5 * row["floor"] for rows in live_6.values() for row in rows)
beside_6 = {f"t = {row['t']:g}": [row["loss"], row["floor"], row["excess"], row["cross"]] for row in live_6["M/4"]}
above_6 = {name: [row["excess"] for row in rows] for name, rows in live_6.items()}
draw.stacked(dit.TIMES, [row["floor"] for row in live_6["M/4"]], above_6, "What nobody can know, and what is missing")
show.table(beside_6, ["M/4, 128 scenes", "loss", "floor", "excess", "cross term"])

# %% [markdown]
# At large $t$ nearly all of the loss is the floor: two networks that differ by a factor in what they know differ there by a few per cent in loss. So here is what you came for, for all nine, 512 scenes each. **Use it**: train your own with `minidiff train dit-s-4`, and compare at the same $t$.

# %%
heads_6 = [f"t = {t:g}" for t in dit.TIMES]
rows_normal = {"floor": [1e3 * records["L/2"]["scores"][f"floor, t={t:g}"] for t in dit.TIMES]}
rows_normal |= {
    name: [1e3 * record["scores"][f"excess, t={t:g}"] for t in dit.TIMES] for name, record in records.items()
}
assert all(a < b for a, b in zip(rows_normal["L/2"], rows_normal["S/8"]))
show.table(rows_normal, ["· 1000; above the floor:", *heads_6], digits=3)

# %% [markdown]
# ## 7. More steps do not make up for a small model (core, 15 minutes)
#
# Work can be spent in another place: a small network, asked more often. L/4 in ten steps costs as much as S/4 in 147. **Predict** which of the two pictures of each column is the better one.

# %%
asked_7, works_7 = asked_5, {name: rows_5[name]["forward Gflops"] for name in ("S/4", "L/4")}
steps_7 = {"L/4": 10, "S/4": round(10 * works_7["L/4"] / works_7["S/4"])}
drawn_7 = {
    f"{name}, {n} steps": dit.pictures_of(family[name], n)(captions(asked_7), 1.0, range(6)).cpu()
    for name, n in sorted(steps_7.items(), reverse=True)
}
spent_7 = {name: 2 * steps_7[name] * work for name, work in works_7.items()}
assert abs(spent_7["S/4"] / spent_7["L/4"] - 1) < 0.01
same_noise(drawn_7, captions(asked_7), f"{spent_7['L/4']:.2f} Gflops for each picture, w = 1 (scale 2)")

# %% [markdown]
# And the benchmark, 200 pictures a point; how many of the objects named are there, in kind and colour. **Predict** where the three curves end, and whether any small one catches up.

# %%
asked_live = scenes_text.WORLD.prompts(40, 23, "test")
fresh = parse(dit.pictures_of(family["L/4"], 10)(captions(asked_live), 1.0, range(40)).cpu())
live_7, others_7 = (objects_there(asked, fresh) for asked in (asked_live, asked_live[1:] + asked_live[:1]))
assert live_7 > others_7  # the control: the next one's sentence
lines_7 = {}
for shipped in (dit.S4, dit.M4, dit.L4):
    own_7 = [row for row in facts["sampling"]["rows"] if row["model"] == shipped.name]
    lines_7[called[shipped.name]] = ([row["Gflops"] for row in own_7], [row["objects"] for row in own_7])
    assert all(row["objects"] > row["objects, another caption"] for row in own_7)
assert max(lines_7["S/4"][1]) < max(lines_7["L/4"][1])
draw.sampling(lines_7, ("L/4, live (40)", spent_7["L/4"], live_7), "Named objects that are there, 5 to 250 steps")

# %% [markdown]
# Steps make the path exact: but the path of *this* network, and it ends in *its* law. What it has not learned, no number of steps can add.
#
# ## 8. Against a U-Net (extra, 5 minutes)
#
# A U-Net of about the work of L/4 a call, the same batches, the same steps, the same recipe. **Predict** who wins, and at which times.

# %%
rivals = {"DiT-L/4": facts["unet"]["dit-l-4"], "U-Net": facts["unet"]["U-Net"]}
work_8 = {"DiT-L/4": facts["unet"]["U-Net"]["forward Gflops of L/4"], "U-Net": rivals["U-Net"]["forward Gflops"]}
names_8 = ("objects", "one", "relation")
shown_8 = lambda own: [f"{own[f'{name}, w=1']:.2f}" for name in (*names_8, "objects, another caption")]
rows_8 = {
    name: [1e3 * work_8[name], 1e3 * mean_of(own["errors"], "excess"), *shown_8(own)] for name, own in rivals.items()
}
assert all(own["objects, w=1"] > own["objects, another caption, w=1"] for own in rivals.values())
lines_8 = {name: (dit.TIMES, [row["excess"] for row in own["errors"]]) for name, own in rivals.items()}
draw.curves(lines_8, "t", "above the floor", "Equal steps, about equal work a call, one seed each")
show.table(rows_8, ["", "Mflop a call", "above the floor · 1000", *names_8, "objects of another's (control)"])

# %% [markdown]
# ## 9. Garments (extra, 10 minutes)
#
# Pictures that nobody here drew: Fashion-MNIST by class, with DiT and adaLN-Zero, beside chapter 02's U-Net of as many parameters. The judge is a network of its own, which neither has ever seen. **Predict** the judge's shares, and look at the last columns: steps and minutes were not equal.

# %%
from minidiff.data.real import FASHION_NAMES

garments, tailor = dit.FASHION.load(), fashion.DENOISER.load()
told_9 = {
    "DiT": lambda w, n: fashion.pictures(range(10), w, n, steps=12, model=garments),
    "U-Net": lambda w, n: fashion.pictures(range(10), w, n, steps=12, model=tailor),
}
drawn_9 = {name: pictures(0.0, 2) for name, pictures in told_9.items()}
labels_9, judge = torch.arange(10).repeat_interleave(2), fashion.JUDGE.load()
named_9 = {name: judge.predict(x) for name, x in drawn_9.items()}
share_9 = lambda seen, y: float((seen == y).float().mean())
assert all(share_9(seen, labels_9) > 0.5 > share_9(seen, (labels_9 + 1) % 10) for seen in named_9.values())
rows_9 = {f"{name}, {k + 1}": x[k::2] for name, x in drawn_9.items() for k in range(2)}
same_noise(rows_9, FASHION_NAMES, "The same labels and the same noise, w = 0, twelve steps")

# %%
books_9 = {"DiT": dit.FASHION.record(), "U-Net": fashion.DENOISER.record()}
rows_judge = {
    name: [*(book["scores"][f"judge accuracy at w={w}"] for w in (0.0, 1.0, 3.0)), book["parameters"], book["steps"]]
    for name, book in books_9.items()
}
rows_judge = {name: [*row, round(books_9[name]["seconds"] / 60)] for name, row in rows_judge.items()}
assert all(row[1] >= row[0] for row in rows_judge.values())
heads_9 = ["200 pictures each", "w = 0", "w = 1 (scale 2)", "w = 3 (scale 4)", "parameters", "steps", "minutes"]
show.table(rows_judge, heads_9, digits=3)

# %% [markdown]
# ## 10. Your turn: the family (extra, 10 minutes)
#
# Type a sentence, pick a size, a patch and a number of steps. Which corner of the family is the cheapest that draws it? (*circle, square, triangle, star, cross; red, green, blue, yellow, purple, black; left of, right of, above, below*.)

# %%
from minidiff.encoders.tokenizer import split
from minidiff.show.playground import refusal, tidy

vocabulary = {word for text in captions(scenes_text.WORLD.prompts(1000, 0)) for word in split(text)}


def play(sentence: str, size: str, patch: int, steps: float, seed: float):
    text, name = tidy(sentence), f"{size}/{patch}"
    if refused := refusal([text], vocabulary, dit.LENGTH - 2):
        return refused
    draws, once = dit.pictures_of(family[name], int(steps)), rows_5[name]["forward Gflops"]
    pictures = draws([text] * 4, 1.0, range(int(seed), int(seed) + 4)).cpu()
    work = f"{dit.tokens_of(patch)} tokens, {1e3 * once:.3g} Mflop a call, {2 * int(steps) * once:.2g} Gflop a picture"
    return draw.page({name: pictures}, f"“{text}” · {work}")


# %%
playground = show.explore(
    play, sentence="a red square left of a blue star", size=["S", "M", "L"], patch=[4, 8, 2],
    steps=show.Slider(5, 100, 5, start=20), seed=show.Slider(0, 99, 1, start=0),
    static=[{"patch": 8}, {"size": "M"}, {"size": "L", "patch": 2}],
)  # fmt: skip
assert playground.values["size"] == "S"

# %% [markdown]
# ## What to try next
#
# - In section 3, begin the *head* as any layer begins, and leave the gates at zero. What wakes in step 1? And with gates *and* `down` at zero?
# - In section 4, give all four an MLP of 4·dim. Who gains?
# - In section 6, divide each excess by the floor. At which $t$ is a network of this family worst, relative to what can be known?
# - In section 7, take `w = 0`. Does the small model still not catch up?
#
# Then the [exercises](../exercises/11_dit.ipynb). [Chapter 12](12_text_encoders.ipynb) asks what reads the sentence, and what it does not hear.
