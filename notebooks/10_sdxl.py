# %% [markdown]
# # 10 SDXL
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Nothing is trained here; five models are shipped.
#
# Stable Diffusion drew heads cut off at the top, and nobody had asked for it. Its pictures were squares cut out of photographs, and nobody had told it where. SDXL's answer is not to clean
# the data but to *tell*: how large the file was, from which corner the square was cut. Then one asks for the corner (0, 0) and a large file, and gets what one wants.
#
# **What you will learn.** What a network learns from faulty pictures, told and not told; six numbers as waves; how to command a corner and read it back; two text encoders side by
# side in channels; a refiner for the last steps; and what changed from Stable Diffusion 1 to 2 to SDXL, on the same seeds.
#
# **Parts.** *Core*: sections 1 to 8, about 100 minutes. *Extra*: sections 9 and 10, about 20 minutes.
#
# **Before.** Chapter 09 (Stable Diffusion). **Read along:** [lecture](../lectures/10_sdxl.md) (the derivations). **Then do:** [exercises](../exercises/10_sdxl.ipynb).

# %%
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.data.captions import captions
from minidiff.data.photos import detail, photographs, sheet, stored
from minidiff.data.prompts import LECTURE, place
from minidiff.judges.framing import corner, cut_off, explained, flaws
from minidiff.judges.scorecard import matches
from minidiff.randomness import randn, seeded

# %%
from minidiff.show.figures import sdxl as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import latent, sdxl
from minidiff.systems.sdxl_scores import PLAIN, SNOW, asked, upright, wide
from minidiff.training import pick_device

device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks
codec = latent.AUTOENCODER.load().to(device)
base, refiner, unsized = (model.load().to(device) for model in (sdxl.BASE, sdxl.REFINER, sdxl.UNSIZED))


def paint(texts, sizes=sdxl.FRAMED, model=base, last=None, steps=20, **more) -> Tensor:
    """Pictures of texts, w = 1 (scale 2), seeds 0, 1, …; sizes (6,) or (B, 6)."""
    told = {"sizes": sizes, "steps": steps, **more}
    return sdxl.pictures_of(model, codec, last, **told)(texts, 1.0, range(len(texts))).cpu()


# %% [markdown]
# Two of the lecture's prompts, base and refiner, the first six seeds. In training no astronaut was ever with a horse, and no cat alone in the snow.

# %%
asked_0 = ["an astronaut riding a horse", "a cat in the snow"]
first_0 = paint([text for text in asked_0 for _ in range(6)], last=refiner)
shown_0 = matches([LECTURE[text] for text in asked_0 for _ in range(6)], first_0)
assert float(shown_0.float().mean()) > 0.4
show.grid(first_0, columns=6, rows=asked_0, scale=1.2, title="First seeds, nothing selected")

# %% [markdown]
# ## 1. Photographs with faults (core, 10 minutes)
#
# A file may be too small, and then a loader enlarges it; or it is not square, and then the loader cuts a square out of it. Each picture of this chapter's data is a piece of a 96×96 *sheet*, and with it
# comes what was done to it: height and width of the file, top and left of the cut, the size that the network draws (64×64).
# **Predict.** Where does an object go that stands at row 40 of its sheet, when the square is cut from (17, 0)? And what does a file of 24×16 pixels look like in 64×64?


# %%
def load(sheets: Tensor, sizes: Tensor) -> Tensor:
    """What a loader makes of files of these sizes (B, 6): shorter side to 64, then 64×64 from (top, left)."""
    squares = []
    for x, (height, width, top, left, *_) in zip(sheets, sizes.long().tolist()):
        short = min(height, width)
        if short < 64:  # so much the file holds of every 64 pixels
            file = F.interpolate(x[None], size=[96 * short // 64] * 2, mode="area")
            x = F.interpolate(file, size=(96, 96), mode="bilinear", align_corners=False)[0]
        squares.append(x[:, top : top + 64, left : left + 64])
    return torch.stack(squares)


scenes_1 = place(sdxl.WORLD.prompts(60, 5, "train"), 5)
found_1, sheets_1 = photographs(scenes_1, seeded(5)), sheet(scenes_1)
by_hand_1 = load(sheets_1, found_1["sizes"])
assert torch.allclose(by_hand_1, found_1["x0"], atol=1e-6)
assert not torch.allclose(by_hand_1, found_1["x0"].roll(1, 0), atol=0.1)  # the control: the next one's

# %%
sizes_1 = found_1["sizes"]
faulty = (sizes_1[:, :2].amin(1) < 64) | (sizes_1[:, 2:4].amax(1) > 8)
chosen_1 = faulty.nonzero().flatten()[:9]
text_1 = [
    f"{h}×{w}, cut ({top}, {left})\nscore {score:.1f}"
    for (h, w, top, left, *_), score in zip(sizes_1[chosen_1].long().tolist(), found_1["score"][chosen_1].tolist())
]
draw.loaded(
    sheets_1[chosen_1], sizes_1[chosen_1, 2:4], found_1["x0"][chosen_1], text_1, "Sheets, and what the loader hands on"
)

# %% [markdown]
# The *score* is for the refiner: what a rater would give (here a formula: how much of the detail and of the objects is left).
#
# **Predict**: of 1000 photographs, how many are too small, how many not square, and in how many does an object reach the border? (All on plain ground, where the judge can tell an object from the ground.)

# %%
plain_1 = place(PLAIN.prompts(1000, 6, "train"), 6)
photos_1 = photographs(plain_1, seeded(6))
file_1, uncut_1 = photos_1["sizes"][:, :2], sheet(plain_1[:200])[..., :64, :64]
share_1 = lambda yes: float(yes.float().mean())
rows_1 = {
    "smaller than 64 pixels": [share_1(file_1.amin(1) < 64)],
    "not square": [share_1(file_1[:, 0] != file_1[:, 1])],
    "an object is cut off": [share_1(cut_off(photos_1["x0"]))],
    "… in scenes without a cut (control, of 200)": [share_1(cut_off(uncut_1))],
}
assert rows_1["… in scenes without a cut (control, of 200)"][0] == 0 < 0.2 < rows_1["an object is cut off"][0]
show.table(rows_1, ["of 1000 photographs", "share"], digits=2)

# %% [markdown]
# ## 2. Six numbers as waves (core, 15 minutes)
#
# How does one hand 17 to a network? Not as one number beside hundreds, and not as a word either: 17 and 18 are nearly the same. It becomes cosines and sines of 16 frequencies. All six stand side by side, the sentence's
# pooled vector beside them, and an MLP makes of this what is added to the time embedding. **Predict** the width of what the MLP reads: here (32 waves a number, 64 numbers of the sentence) and in SDXL (256 and 1280).


# %%
def waves_by_hand(x: Tensor, features: int = 32) -> Tensor:
    rank = torch.arange(features // 2) / (features // 2)
    angles = x[..., None] * torch.exp(-math.log(10_000.0) * rank)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def vector_by_hand(conditioning, tokens: Tensor, sizes: Tensor) -> Tensor:
    """What is added to the time embedding: (B, 96)."""
    pooled = conditioning.inner(len(sizes), tokens=tokens)["vector"]  # (B, 64)
    joined = torch.cat([pooled, waves_by_hand(sizes).flatten(1)], 1)  # (B, 64 + 6·32)
    first, _, second = conditioning.mlp
    return F.linear(F.silu(F.linear(joined, first.weight, first.bias)), second.weight, second.bias)


# %%
told_2 = base.net.conditioning
tokens_2 = latent.tokenizer().encode(["a cat in the snow", "a dog"]).to(device)
sizes_2 = torch.tensor([sdxl.FRAMED, upright(17)], device=device).float()
theirs_2 = told_2(2, tokens=tokens_2, sizes=sizes_2)["vector"]
assert torch.equal(vector_by_hand(told_2, tokens_2, sizes_2), theirs_2)  # to the bit
swapped_2 = sizes_2[:, [1, 0, 3, 2, 5, 4]]  # the control: width for height, left for top
assert not torch.allclose(vector_by_hand(told_2, tokens_2, swapped_2)[1], theirs_2[1], atol=0.01)
read_by = lambda model: model.net.conditioning.mlp[0].in_features
assert (read_by(base), read_by(refiner)) == (6 * 32 + 64, 5 * 32 + 64)
rows_2 = {"base": [read_by(base), 6 * 256 + 1280], "refiner": [read_by(refiner), 5 * 256 + 1280]}
show.table(rows_2, ["numbers that the MLP reads", "here", "SDXL"], digits=4)

# %% [markdown]
# Why waves? Two claims, each with a control. How alike two embeddings are depends on the *difference* of the numbers alone. And to add 5 pixels is to turn each pair of features by a fixed angle, a linear map that is the same at
# 3 as at 20. **Predict** the same two for plain numbers, $x\cdot y$ and $x+5$.

# %%
line_2 = torch.arange(33.0)
embedded = waves_by_hand(line_2)  # (33, 32)
like_2 = lambda a, b: float(embedded[a] @ embedded[b])
assert abs(like_2(3, 10) - like_2(20, 27)) < 1e-4
assert abs(line_2[3] * line_2[10] - line_2[20] * line_2[27]) > 100  # the control: plain numbers
angle_2 = 5 * torch.exp(-math.log(10_000.0) * torch.arange(16) / 16)
cos_2, sin_2 = embedded[:28].chunk(2, 1)
turned = torch.cat([cos_2 * angle_2.cos() - sin_2 * angle_2.sin(), sin_2 * angle_2.cos() + cos_2 * angle_2.sin()], 1)
assert torch.allclose(turned, embedded[5:], atol=1e-5)
assert not torch.allclose(turned, embedded[4:32], atol=0.1)  # the control: by 4
draw.wavy(line_2, embedded, "33 corners as 32 waves")

# %% [markdown]
# ## 3. Command a corner, read it back (core, 15 minutes)
#
# The same sentence, the same noise, another corner told. **Predict** what moves: the cat, the horizon, or both? And how exactly: what R² between the corner that was told and the one that a judge reads in the snow (who knows the
# horizon and every snowflake)?

# %%
at_3 = [0, 6, 12, 18, 24, 30]
told_3 = torch.tensor([upright(at) for at in at_3] + [wide(at) for at in at_3])
snow_text = "a cat in the snow"
one_noise = sdxl.pictures_of(base, codec, sizes=told_3, steps=20)([snow_text] * 12, 1.0, [3] * 12).cpu()
strip_3 = {"(top, 0) told": one_noise[:6], "(0, left) told": one_noise[6:]}
same_noise(strip_3, [f"{at} px" for at in at_3], f"“{snow_text}”, one noise, twelve framings")

# %% [markdown]
# Now other sentences, other noise, and the judge. The controls: the corner of another picture, and pictures that were all told (0, 0).

# %%
many_3 = list(range(0, 33, 3))
sizes_3 = torch.tensor([upright(at) for at in many_3] + [wide(at) for at in many_3])
wanted_3, n_3 = sizes_3[:, 2:4].long(), len(many_3)
texts_3 = asked(SNOW, 2 * n_3)[1]
read_3, free_3 = corner(paint(texts_3, sizes_3)), corner(one_noise[[0, 6]]).repeat(n_3, 1)
rows_3, panels_3 = {}, {}
for name_3, rows, axis in (("top", slice(0, n_3), 0), ("left", slice(n_3, None), 1)):
    told, read = wanted_3[rows, axis], read_3[rows, axis]
    rows_3[name_3] = [explained(told, read), explained(told.flip(0), read), explained(told, free_3[rows, axis])]
    panels_3[f"{name_3} of the crop: R² = {rows_3[name_3][0]:.2f}"] = told, read
assert all(right > 0.8 > 0 > other for right, other, _ in rows_3.values())
draw.told_and_read(panels_3, "Where each picture was cut from: told, and read in the picture")
show.table(rows_3, ["R²", "told", "another picture's (control)", "(0, 0) told (control)"], digits=2)

# %% [markdown]
# ## 4. Nothing cut off (core, 15 minutes)
#
# Three times the same sentences: a network that saw the very same photographs and was never told of sizes; the base, told (0, 0); the base, told that 16 pixels are missing at the top.
# **Predict** the share of pictures with an object cut off, for each. Section 1 has measured it for the photographs, and a network that is not told *samples its training data*, faults and all.

# %%
prompts_4, texts_4 = asked(PLAIN, 16)
drawn_4 = {"not told": paint(texts_4, model=unsized), "told (0, 0)": paint(texts_4)}
drawn_4["told (16, 0)"] = paint(texts_4, upright(16))
cut_4 = {name: cut_off(x) for name, x in drawn_4.items()}
some_4 = {name: x[:10] for name, x in drawn_4.items()}
draw.marked(some_4, texts_4[:10], cut_4, "Red: an object is cut off")

# %%
records = {name: m.record()["scores"] for name, m in (("base", sdxl.BASE), ("unsized", sdxl.UNSIZED))}
told_4 = {
    "the photographs": rows_1["an object is cut off"][0], "not told": records["unsized"]["an object is cut off"],
    "told (0, 0)": records["base"]["an object is cut off, corner (0, 0)"],
    "told (16, 0)": records["base"]["an object is cut off, corner (16, 0)"],
}  # fmt: skip
live_4 = lambda name: cut_4[name].float().mean() if name in cut_4 else "–"
rows_4 = {name: [live_4(name), share] for name, share in told_4.items()}
assert told_4["told (0, 0)"] < told_4["not told"] < told_4["the photographs"] < told_4["told (16, 0)"]
show.table(rows_4, ["an object is cut off", "of these 16", "of 100 (record; the photographs: 1000)"], digits=2)

# %% [markdown]
# Not told, it draws somewhat fewer cut objects than it was shown. That is guidance's doing: away from "no sentence" is towards frames in which the sentence is easy to see. **Predict** both columns at w = 0 and at w = 3.

# %%
by_w = {w: sdxl.pictures_of(unsized, codec, steps=20)(texts_4, w, range(16)).cpu() for w in (0.0, 3.0)}
by_w[1.0] = drawn_4["not told"]
rows_w = {f"not told, w = {w:g}": [share_1(cut_off(by_w[w])), float(detail(by_w[w]).mean())] for w in (0.0, 1.0, 3.0)}
framed_4 = drawn_4["told (0, 0)"]
rows_w["told (0, 0), w = 1 (control)"] = [share_1(cut_off(framed_4)), float(detail(framed_4).mean())]
assert rows_w["not told, w = 0"][1] < rows_w["not told, w = 3"][1] < rows_w["told (0, 0), w = 1 (control)"][1]
show.table(rows_w, ["16 pictures", "an object is cut off", "detail"], digits=2)

# %% [markdown]
# **And guidance?** Away from ∅: but what is ∅ told of sizes? Take a world in one dimension in which all is known: two sentences, three framings, each pair a Gaussian. Bayes' rule says that with the *same* size in both branches the
# difference is $\nabla\log p(y|x,a)$: the sentence alone. **Predict** what comes in addition if ∅ is told no size at all.

# %%
means_4 = torch.tensor([[-2.0, 0.0, 3.0], [1.0, 2.5, -1.0]], dtype=torch.float64)  # sentence y, framing a


def log_p(x: Tensor, y: list[int], a: list[int]) -> Tensor:
    """log p(x | y in …, a in …), sentences and framings equally likely."""
    some = means_4[y][:, a].flatten()
    return torch.logsumexp(-0.5 * (x[:, None] - some).square(), 1) - math.log(len(some))


def slope(f) -> Tensor:
    with torch.enable_grad():
        x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(f(x).sum(), x)[0]


# %%
all_y, all_a, y_4, a_4 = [0, 1], [0, 1, 2], [0], [2]
same_size = slope(lambda x: log_p(x, y_4, a_4) - log_p(x, all_y, a_4))
no_size = slope(lambda x: log_p(x, y_4, a_4) - log_p(x, all_y, all_a))
classifier = slope(lambda x: log_p(x, y_4, a_4) - torch.logaddexp(log_p(x, [0], a_4), log_p(x, [1], a_4)))
of_framing = slope(lambda x: log_p(x, all_y, a_4) - log_p(x, all_y, all_a))
assert torch.allclose(same_size, classifier)  # ∇log p(y | x, a)
assert torch.allclose(no_size, classifier + of_framing)  # … and ∇log p(a | x) on top of it
assert not torch.allclose(no_size, classifier, atol=0.1)  # the control
told_away = {"same sizes": [float((same_size - classifier).abs().max()), float(same_size.abs().mean())]}
told_away["no sizes"] = [float((no_size - classifier).abs().max()), float(no_size.abs().mean())]
show.table(told_away, ["∅ is told", "largest difference from ∇log p(y|x,a)", "mean length"], digits=2)

# %% [markdown]
# So `sdxl.guided` gives both branches the same sizes, and they were never dropped in training.
#
# ## 5. The size moves the sharpness (core, 10 minutes)
#
# A small file is a blurred picture. **Predict**: the base is told 16, 24, 32, 48, 64 pixels, all else the same. Does what it draws have as little detail as real pictures of such files? (The real ones go
# through the autoencoder as well: its decoder has seen sharp pictures only, and sharpens.)

# %%
sides_5 = [16, 24, 32, 48, 64]
prompts_5, texts_5 = asked(sdxl.WORLD, 6, 12)
whole_5 = sheet(place(prompts_5, 12))[..., :64, :64]
drawn_5 = {side: paint(texts_5, (side, side, 0, 0, 64, 64)) for side in sides_5}
real_5 = {side: stored(whole_5, torch.full((6,), side)) for side in sides_5}
through = lambda x: codec.decode(codec.latents(x.to(device)), clamp=True).cpu()
sharp = lambda x: float(detail(x).mean())
lines_5 = {"drawn, told so": [sharp(drawn_5[side]) for side in sides_5]}
lines_5["real files, through the autoencoder"] = [sharp(through(real_5[side])) for side in sides_5]
lines_5["real files"] = [sharp(real_5[side]) for side in sides_5]
lines_5["drawn, not told (control)"] = [sharp(paint(texts_5, model=unsized))] * 5

# %%
assert lines_5["drawn, told so"] == sorted(lines_5["drawn, told so"])
assert lines_5["drawn, told so"][-1] > 1.3 * lines_5["drawn, told so"][0]
strip_5 = {"drawn, told so": torch.stack([drawn_5[side][4] for side in sides_5])}
strip_5["real files"] = torch.stack([real_5[side][4] for side in sides_5])
same_noise(
    strip_5,
    [f"{side} px" for side in sides_5],
    f"“{texts_5[4]}”: one noise, five sizes told; and one scene, five files",
)
draw.curves(sides_5, lines_5, "told: pixels a side of the file", "detail (rms)", "Told smaller, drawn softer")

# %% [markdown]
# ## 6. Two encoders, side by side in channels (core, 15 minutes)
#
# The sentence is read twice: by CLIP's tower (which learnt beside pictures; its block before the last) and by an encoder that has read texts only. Their vectors of one word are put one behind the other: 80 + 64 channels here, 768 + 1280 in
# SDXL. A linear map of the pair is a *sum* of two maps, so that keys and values of a word are a sum of two opinions of it. **Predict** what happens if the second encoder's words are moved by one place.

# %%
from minidiff.encoders.clip import Hidden
from minidiff.systems import clip_sprites, text_lm

reads, projection = told_2.inner.encoder, told_2.inner.to_context  # both encoders; 144 → 64
tower, other_6 = Hidden(clip_sprites.MODEL.load().text, skip=1).to(device), text_lm.MODEL.load().to(device)
ids_6 = latent.tokenizer().encode(["a cat left of a dog"]).to(device)
theirs_6 = sdxl.translated().to(device)[ids_6]  # the second has a vocabulary of its own: START, a token a word, END
one_6, two_6 = tower.encode(ids_6).context, other_6.encode(theirs_6)
both_6 = torch.cat([one_6, two_6.context], 2)
assert torch.equal(both_6, reads.encode(ids_6).context)
sum_6 = one_6 @ projection.weight[:, :80].T + two_6.context @ projection.weight[:, 80:].T + projection.bias
assert torch.allclose(sum_6, projection(both_6), atol=1e-4)

# %%
shape_6 = lambda x: "×".join(map(str, x.shape[1:]))
rows_6 = {
    "tokens": [shape_6(ids_6), "77"],
    "CLIP, the block before the last": [shape_6(one_6), "77×768"],
    "the second encoder": [shape_6(two_6.context), "77×1280"],
    "side by side": [shape_6(both_6), "77×2048"],
    "pooled, of the second": [shape_6(two_6.vector), "1280"],
    "what pixels look at": [shape_6(projection(both_6)), "77×2048"],
    "beside the sizes": [shape_6(told_2.inner(1, tokens=ids_6)["vector"]), "1280"],
}
show.table(rows_6, ["one sentence", "here", "SDXL"])

# %% [markdown]
# Now mute one of them in the shipped base: zeros where it would speak. And move the second's words by one place. The same noise throughout.

# %%
import copy


class Shifted(sdxl.Channels):
    """The second encoder's tokens one place further, so that a channel's neighbour speaks of another word."""

    def encode(self, tokens: Tensor):
        found = super().encode(tokens)
        return found._replace(context=torch.cat([found.context[..., :80], found.context[..., 80:].roll(1, 1)], 2))


def hearing(encoder) -> torch.nn.Module:
    other = copy.deepcopy(base)
    other.net.conditioning.inner.encoder = encoder.to(device).eval()
    return other


# %%
shifted = Shifted(list(sdxl.reader().encoders), [None, sdxl.translated()])
models_6 = {"both": base, "words one place off": hearing(shifted)}
models_6 |= {f"{name} alone": hearing(sdxl.reader([name])) for name in sdxl.ENCODERS}
prompts_6, texts_6 = asked(sdxl.WORLD, 8, 5)
drawn_6 = {name: paint(texts_6, model=model, steps=16) for name, model in models_6.items()}
wrong_6 = {name: ~matches(prompts_6, x) for name, x in drawn_6.items()}
draw.marked(drawn_6, texts_6, wrong_6, "Red: not what was asked. Trained with both, drawn with …")

# %% [markdown]
# Eight pictures say little. The error of $\hat x_0$ near the noise says more: 64 held-out pictures, each with its own sentence. **Predict** the order, and where "everybody gets the next one's sentence" stands.

# %%
asked_6 = sdxl.WORLD.prompts(64, 8, "test")
z_6 = codec.latents(sheet(place(asked_6, 8))[..., :64, :64].to(device))
z_t6 = base.schedule.add_noise(z_6, randn(z_6.shape, seeded(8), device=device), torch.tensor(0.95))


def missed(model, texts: list[str]) -> float:
    told = {k: v.to(device) for k, v in sdxl.conditions(model, texts, torch.tensor(sdxl.FRAMED)).items()}
    return float((model(z_t6, torch.tensor(0.95, device=device), **told) - z_6).square().mean())


said_6 = captions(asked_6)
rows_missed = {name: [missed(model, said_6)] for name, model in models_6.items()}
rows_missed["both, the next one's sentence (control)"] = [missed(base, said_6[1:] + said_6[:1])]
errors_6 = [row[0] for row in rows_missed.values()]
assert errors_6[0] < min(errors_6[1:])
show.table(rows_missed, ["heard", "error of x̂0 at t = .95"])

# %% [markdown]
# That says only that this base relies on both. What each is *worth* needs three trainings (`benchmarks/sdxl.py`, short ones of equal length). **Predict**: three networks, with both, with CLIP alone, with the encoder of texts alone. Whose error of
# $\hat x_0$ grows most when it is told another sentence? And when the two objects are exchanged ("b left of a")?

# %%
ablation = json.loads(Path("../benchmarks/results/sdxl.json").read_text(encoding="utf-8"))
runs_6, times_6 = ablation["runs"], ablation["times"]
names_6 = {"both": "both", "clip": "CLIP alone", "texts": "texts alone"}
gap_6 = lambda run, kind: [a - b for a, b in zip(run["x0_error"][kind], run["x0_error"]["right"])]
panels_6 = {
    title: {names_6[k]: gap_6(run, kind) for k, run in runs_6.items()}
    for kind, title in (("next", "told another sentence"), ("swapped", "told “b left of a”"))
}
draw.heard(times_6, panels_6, f"What each network hears after {ablation['steps']} steps")

# %%
at_6 = times_6.index(0.95)
rows_runs = {
    names_6[k]: [run["x0_error"][kind][at_6] for kind in ("right", "next", "swapped")] for k, run in runs_6.items()
}
further = lambda name, column: rows_runs[name][column] - rows_runs[name][0]
assert min(rows_runs, key=lambda name: rows_runs[name][0]) == "both"
assert further("texts alone", 1) > further("CLIP alone", 1)  # which objects
assert further("CLIP alone", 2) > further("texts alone", 2)  # which is on which side
show.table(rows_runs, ["error of x̂0 at t = .95", "own sentence", "another", "objects exchanged"])

# %% [markdown]
# The encoder of texts makes clearer *which* objects, CLIP *which is on which side*; with both the network hears both. (One run each, far from the end: at this length none of the three draws relations yet.)
#
# ## 7. The refiner (core, 20 minutes)
#
# Another network takes the last steps. It was trained on times below .35 only, where an object already stands far out of the noise; it hears the second encoder, and five numbers: original size, corner, and a rater's score.
# First the question that it was trained for: noise on *real* pictures, one answer $\hat x_0$ of each network. **Predict** at which times the refiner is better in the finest band (a picture less its blur).

# %%
from minidiff.data.photos import fine

prompts_7, texts_7 = asked(sdxl.WORLD, 8, 7)
z_7 = codec.latents(sheet(place(prompts_7, 7))[..., :64, :64].to(device))
known_7 = fine(codec.decode(z_7, clamp=True))
rows_fine = {}
for t_7 in (torch.tensor(t, device=device) for t in (0.1, 0.2, 0.3, 0.5)):
    noised = base.schedule.add_noise(z_7, randn(z_7.shape, seeded(7), device=device), t_7)
    off = []
    for model in (base, refiner):
        told = sdxl.conditions(model, texts_7, torch.tensor(sdxl.FRAMED))
        answer = codec.decode(sdxl.guided(model, told, 0.0)(noised, t_7), clamp=True)
        off.append(float((fine(answer) - known_7).square().mean().sqrt()))
    rows_fine[f"t = {float(t_7):.1f}"] = [*off, off[1] / off[0]]

# %%
assert rows_fine["t = 0.1"][2] < 0.5
assert rows_fine["t = 0.5"][2] > 1.2  # the control: where it has never been
late_7 = json.loads(Path("../benchmarks/results/sdxl.json").read_text(encoding="utf-8"))["late"]
lines_7 = {name: late_7[name] for name in ("base", "refiner")}
draw.curves(late_7["times"], lines_7, "t", "error of x̂0 (latents)", "128 photographs, all sizes told", log="y")
show.table(rows_fine, ["8 real pictures: error in the finest band", "base", "refiner", "ratio"], digits=2)

# %% [markdown]
# An expert indeed. Now let it draw: above the switch the base steps, below it the refiner, from the same $x_t$. The whole mechanism is one word in a loop. **Predict** how many of 20 steps it takes from .35 on, and what happens from .6 on.

# %%
from itertools import pairwise

from minidiff.samplers import ddpm


def two_experts(texts: list[str], switch: float, steps: int = 20) -> Tensor:
    framed, step, generators = torch.tensor(sdxl.FRAMED), ddpm(base.schedule), seeded(range(len(texts)))
    early = sdxl.guided(base, sdxl.conditions(base, texts, framed), 1.0)
    last = sdxl.guided(refiner, sdxl.conditions(refiner, texts, framed, score=10.0), 1.0)
    z = randn((len(texts), 4, 16, 16), generators, device=device)
    grid = times.shifted(steps, latent.SHIFT)
    for t, s in pairwise(grid):
        z = step(last if float(t) < switch else early, z, t, s, generators)
    return codec.decode(z, clamp=True).cpu()


# %%
drawn_7 = {"base alone": paint(texts_7)}
drawn_7 |= {f"refiner from {s:g}": paint(texts_7, last=refiner, switch=s) for s in (0.2, 0.35, 0.6)}
drawn_7["img2img from 0.35"] = sdxl.refined(
    refiner, codec, drawn_7["base alone"].to(device), texts_7, 1.0, range(8)
).cpu()
by_hand_7 = two_experts(texts_7[:2], 0.35)
assert float((by_hand_7 - drawn_7["refiner from 0.35"][:2]).abs().max()) < 1e-3
assert float((by_hand_7 - drawn_7["base alone"][:2]).abs().max()) > 0.01  # the control
taken_7 = {s: int((times.shifted(20, latent.SHIFT)[:-1] < s).sum()) for s in (0.2, 0.35, 0.6)}
some_7 = {name: drawn_7[name][:4] for name in ("base alone", "refiner from 0.35", "refiner from 0.6")}
draw.zoomed(some_7, texts_7[:4], "The same noise; to the right of each picture a quarter of it, twice as large")

# %% [markdown]
# What changed is too fine to be counted by eye. *Flaws*: the judge reads the picture, draws what it has read anew, and compares the finest bands. **Predict** the order of the rows: flaws, and the share that shows its sentence.

# %%
told_7 = sdxl.REFINER.record()["scores"]
kept_7 = lambda name: [told_7[f"{name}, flaws of the base"], told_7[f"{name}, flaws"], told_7[f"{name}, right"]]
flaw_7 = lambda name: float(flaws(drawn_7[name]).nanmean())
rows_7 = {"base alone": [0, flaw_7("base alone"), "–", "–", told_7["base alone, right"]]}
for s in (0.2, 0.35, 0.6):
    rows_7[f"refiner from {s:g}"] = [taken_7[s], flaw_7(f"refiner from {s:g}"), *kept_7(f"from {s:g}")]
rows_7["img2img from 0.35"] = [8, flaw_7("img2img from 0.35"), *kept_7("as img2img")]
floor_7 = told_7["real, flaws"]
rows_7["real, through the autoencoder (floor)"] = ["–", "–", "–", floor_7, "–"]
assert abs(told_7["from 0.2, flaws"] / told_7["from 0.2, flaws of the base"] - 1) < 0.05
assert told_7["from 0.6, right"] < told_7["from 0.35, right"] - 0.1 < told_7["base alone, right"]
heads_7 = ["", "its steps of 20", "flaws, these 8", "of 100: base", "of 100: with refiner", "right, of 100"]
show.table(rows_7, heads_7)

# %% [markdown]
# **An expert that does not help.** From .2 on it changes nothing that can be measured, from .35 on it makes flaws worse, from .6 on it ruins pictures. Why, if its errors are so much smaller? It learnt on noised *real* pictures. In use $x_t$ comes from
# the base, and what the base has drawn wrongly is in $x_t$ like everything else. The better an expert keeps what it sees, the better it keeps that. (The base, below .2, draws its own cat once more.)
#
# And the score? Told 2, 6 and 10, from .35 on. **Predict**: does it change what is drawn, or how sharply?

# %%
rows_score = {}
for score in (2.0, 6.0, 10.0):
    x = paint(texts_7, last=refiner, score=score, steps=16)
    rows_score[f"score {score:g}"] = [
        sharp(x),
        told_7[f"score {score:g}, detail"],
        float(matches(prompts_7, x).float().mean()),
    ]
assert told_7["score 10, detail"] > told_7["score 2, detail"]
show.table(rows_score, ["the refiner is told", "detail, these 8", "detail, of 33 (record)", "right, of 8"])

# %% [markdown]
# ## 8. Stable Diffusion 1, 2, SDXL (core, 15 minutes)
#
# The same sentences, the same noise. Version 1 reads CLIP's last block and predicts ε; version 2 the block before it and $v$; then come sizes, two encoders, a refiner. **Predict** who wins on which family; then read what
# they were trained for: 1 and 2 learnt ten families of sentences from sharp, whole pictures, SDXL five, from photographs with faults.

# %%
from minidiff.systems import stable_diffusion

prompts_8, texts_8 = asked(sdxl.WORLD, 10, 12)
by_sd = lambda model, **more: latent.pictures_of(model.load().to(device), codec, steps=20, batch=50, **more)
drawn_8 = {
    "Stable Diffusion 1": by_sd(sdxl.SD_1, start=sdxl.start())(texts_8, 1.0, range(10)).cpu(),
    "Stable Diffusion 2": by_sd(stable_diffusion.MODEL)(texts_8, 1.0, range(10)).cpu(),
    "SDXL": paint(texts_8, last=refiner),
}
wrong_8 = {name: ~matches(prompts_8, x) for name, x in drawn_8.items()}
draw.marked(drawn_8, texts_8, wrong_8, "Same sentences, same noise; red: not what was asked")

# %%
models_8 = dict(zip(drawn_8, (sdxl.SD_1, stable_diffusion.MODEL, sdxl.BASE)))
rows_8 = {}
for name, shipped_model in models_8.items():
    entry = shipped_model.record()
    own = [entry["scores"][f"{family}, w=1"] for family in sdxl.WORLD.families]
    others = [entry["scores"][f"{family}, w=1, another caption"] for family in sdxl.WORLD.families]
    rows_8[name] = [*own, sum(others) / 5, entry["steps"], round(entry["seconds"] / 60)]
    assert sum(own) / 5 > sum(others) / 5
heads_8 = ["50 held-out sentences a family", *sdxl.WORLD.families, "another's (control)", "steps", "minutes"]
show.table(rows_8, heads_8, digits=2)

# %% [markdown]
# (SDXL's row is the base's, told (0, 0) and 64 pixels: a refiner does not change what is there.) None of the three was trained as long as the others, so this says what was shipped, not what an idea is worth.
#
# ## 9. The network as it ran (extra, 10 minutes)
#
# One sentence through the base: what each module made of it. **Predict** where the six numbers enter, and where the words.

# %%
from minidiff.nn.conv import PixelAttention, PixelTransformer, ResBlock
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.show.architecture import diagram, trace

given_9 = {"tokens": ids_6, "sizes": sizes_2[1:]}
noise_9, at_9 = randn((1, 4, 16, 16), seeded([0]), device=device), torch.tensor([0.9], device=device)
kinds_9 = (sdxl.Sized, TimeEmbedding, torch.nn.Conv2d, ResBlock, PixelTransformer, PixelAttention)
calls_9 = trace(base.net, lambda: base.net(noise_9, at_9, **given_9), kinds_9)
assert calls_9[0].shapes == {"vector": (96,), "context": (18, 64), "context_mask": (18,)}
looking_9 = [call for call in calls_9 if call.looks_at]
assert {call.kind for call in looking_9} == {"PixelTransformer", "PixelAttention"}
diagram(calls_9, "SDXL's base here, as it ran; arrows: looks at the words")

# %%
parts_9 = trace(base.net.conditioning, lambda: base.net.conditioning(1, **given_9), (torch.nn.Linear, torch.nn.SiLU))
own_9 = [call for call in parts_9 if "encoders" not in call.name]  # the two towers are frozen, and known
rows_9 = {f"{i + 1}. {call.name}": [call.kind, call.text, call.parameters] for i, call in enumerate(own_9)}
assert [call.shapes[""] for call in own_9] == [(64,), (18, 64), (96,), (96,), (96,)]
show.table(rows_9, ["what learns in the conditioning", "is a", "what comes out", "parameters"])

# %% [markdown]
# ## 10. Your turn: frame it yourself (extra, 10 minutes)
#
# Drag the frame over the sheet (or move the sliders), say how large the file was, take the refiner or leave it. The model is told where the frame is, and draws; it has never seen this sheet. Which is the smallest file at which you still know the sprite?
# Ask for a corner that no photograph had: files are upright or wide, so never (20, 20).

# %%
from minidiff.show.framer import frame
from minidiff.show.playground import row


def framed(top: float, left: float, file: int, by: str, sentence: str, seed: float):
    sizes = upright(top, file) if top else wide(left, file) if left else [file, file, 0, 0, 64, 64]
    last = refiner if by == "base + refiner" else None
    draws = sdxl.pictures_of(base, codec, last, sizes=sizes, steps=16)
    pictures = draws([sentence] * 3, 1.0, range(int(seed), int(seed) + 3)).cpu()
    title = f"“{sentence}” · told: a file of {sizes[0]:.0f}×{sizes[1]:.0f}, cut at ({top:.0f}, {left:.0f}) · {by}"
    return row(pictures, title)


# %%
sentences_10 = ["a cat in the snow", "a house in the snow", "an astronaut riding a horse", "a dog left of a tree"]
cat_10 = sheet(place([LECTURE["a cat in the snow"]], 2))[0]
framing = frame(
    framed, cat_10, 64, file=[64, 48, 32, 16], by=["base + refiner", "base"], sentence=sentences_10,
    seed=show.Slider(0, 99, 1, start=0),
    static=[{"top": 24.0}, {"left": 24.0}, {"file": 16}],
)  # fmt: skip

# %% [markdown]
# **The three prompts** of the playground. SDXL's world has no "surrounding": it says so instead of drawing something else.

# %%
from minidiff.encoders.tokenizer import split
from minidiff.show.playground import refusal, tidy

vocabulary = {word for text in captions(sdxl.WORLD.prompts(1000, 0)) for word in split(text)}


def play(prompt: str, w: float, seed: float, by: str):
    text = tidy(prompt)
    if refused := refusal([text], vocabulary, latent.LENGTH - 2):
        return refused
    draws = sdxl.pictures_of(base, codec, refiner if by == "base + refiner" else None, steps=16)
    pictures = draws([text] * 4, w, range(int(seed), int(seed) + 4)).cpu()
    return row(pictures, f"“{text}” · w = {w:g} (scale {1 + w:g}) · {by}")


# %%
playground = show.explore(
    play, prompt="an astronaut riding a horse", w=show.Slider(0, 6, 0.5, start=1), seed=show.Slider(0, 99, 1, start=0),
    by=["base + refiner", "base"],
    static=[{}, {"prompt": "a cat in the snow"}, {"prompt": "some plants surrounding a lightbulb"}],
)  # fmt: skip

# %% [markdown]
# ## What to try next
#
# - In section 2, tell the base a *target* of 96×96. Nothing in its training ever moved these two numbers; does it know?
# - In section 3, tell it (20, 20), or a corner of 60. What does the judge read?
# - In section 4, give ∅ the size of a small file (`told | latent.null() | {"sizes": …}` in `sdxl.guided`). Is what is drawn sharper than any photograph?
# - In section 7, let the refiner draw from pure noise. What does a network make of times it has never seen?
# - In section 7, give base and refiner different sentences.
#
# Then the [exercises](../exercises/10_sdxl.ipynb). [Chapter 11](11_dit.ipynb) exchanges the U-Net for a transformer: DiT.
