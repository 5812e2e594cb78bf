# %% [markdown]
# # Exercises 10: SDXL
#
# Four short exercises, one thing to build and one open experiment: about two hours. A score for obedience, two encoders side by side, guidance by one thing
# at a time, a loader that keeps a record of what it does to a picture, and a network for the last steps. The [notebook](../notebooks/10_sdxl.ipynb)
# takes them from the library, the [lecture](../lectures/10_sdxl.md) derives them. Predict, write, check.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import show, times
from minidiff.conditioning import Encoded
from minidiff.course import check, hint
from minidiff.data.photos import SIDE, STORED, crop, detail, photographs, sheet
from minidiff.data.prompts import place
from minidiff.judges.framing import corner, flaws
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.systems import latent, sdxl
from minidiff.systems.imagen import WORLD
from minidiff.systems.sdxl_scores import SNOW, asked, upright, wide

# %% [markdown]
# **The world.** Photographs of 64 pixels a side, cut out of sheets of 96: upright ones lost something above or below, wide ones left or right; many were stored
# with 16 to 48 pixels and enlarged. In a snowy scene the horizon and the flakes tell from which corner it was cut, to the pixel. All models are loaded.

# %%
base, autoencoder = sdxl.BASE.load(), latent.AUTOENCODER.load().requires_grad_(False)
TOPS = torch.tensor([(top, 0) for top in range(0, 25, 3)])
CORNERS = torch.cat([TOPS, TOPS.flip(1)])  # (18, 2): nine corners each way
snowy = sheet(place(SNOW.prompts(len(CORNERS), 0, "test"), 0))  # (18, 3, 96, 96)


def drawn(denoise, seeds, steps: int = 15) -> Tensor:
    """Pictures (B, 3, 64, 64) of a guided denoiser of latents; picture i has the noise of seeds[i]."""
    own = seeded(seeds)
    grid = times.shifted(steps, latent.SHIFT)
    with torch.no_grad():
        *_, z = sample(denoise, randn((len(seeds), *latent.LATENT_SHAPE), own), grid, ddpm(base.schedule), own)
        return autoencoder.decode(z, clamp=True)


# %% [markdown]
# ## Exercise 10-explained
#
# **Predict first.** A network is told corners from 0 to 24 and always cuts half of what it is told. What is the squared correlation of told and read? Does it obey?
#
# **Derivation.** How much of the commands is in the pictures?
#
# 1. Somebody who does not listen does best to say the same always: the mean of the commands. His squared errors sum to $\sum_i(a_i-\bar a)^2$.
# 2. A picture that obeys shows $b_i=a_i$: no slope and no intercept may be fitted first. Its errors are $b_i-a_i$.
# 3. $R^2$ is the share of the first sum that the second does *not* leave over: 1 for obedience. What is it for who does not listen, what for who does the opposite?
#
# In code: `told` is $a$, `read` is $b$; each column is a quantity of its own.


# %% answer="10-explained"
def explained(told: Tensor, read: Tensor) -> Tensor:
    """R² of read = told in each column, without a fitted line.

    told, read: (N, K), int64, float32 or float64; no column of told is the same throughout. Returns (K,) float64.
    """
    ### BEGIN SOLUTION
    told, read = told.double(), read.double()
    left_over = (read - told).square().sum(0)
    return 1 - left_over / (told - told.mean(0)).square().sum(0)  # the rival says the mean
    ### END SOLUTION


# %% [markdown]
# **Use it.** Four photographers are told corners and cut them out of real sheets; `corner` reads in the pictures what they did. One obeys, one cuts half,
# one 8 pixels too far, one does not listen.

# %%
shuffled = CORNERS[torch.randperm(len(CORNERS), generator=seeded(0))]
cuts = {
    "obeys": CORNERS,
    "cuts half": CORNERS // 2,
    "8 too far": CORNERS + 8 * (CORNERS > 0),
    "does not listen": shuffled,
}
shots = {name: crop(snowy, *at.T) for name, at in cuts.items()}
reads = {name: corner(x) for name, x in shots.items()}
squared = lambda read: torch.stack(
    [torch.corrcoef(torch.stack([a, b]).double())[0, 1] ** 2 for a, b in zip(CORNERS.T, read.T)]
)
obedience = {name: [*checked_explained(CORNERS, read), *squared(read)] for name, read in reads.items()}
row = torch.stack([x[[0, 2, 4, 6, 8]] for x in shots.values()]).flatten(0, 1)
show.grid(row, 5, rows=list(shots), title="Told: 0, 6, 12, 18 and 24 pixels from the top", scale=0.9)

# %%
assert obedience["obeys"][0] == 1
assert obedience["cuts half"][2] > 0.99 > 0.6 > obedience["cuts half"][0]
assert obedience["does not listen"][0] < 0
show.table(obedience, ["18 pictures", "R², top", "R², left", "correlation², top", "correlation², left"], digits=2)

# %% [markdown]
# **Want more?** Which constant answer gets R² = 0, and which photographer who listens gets less than 0?

# %% [markdown]
# ## Exercise 10-two-readers
#
# **Predict first.** By mistake the second encoder gets the ids of the first. No error is raised. Does the picture show another sentence, or nothing at all?
#
# **Derivation.** SDXL, arXiv 2307.01952, section 2.1.
#
# 1. A pixel looks at one vector for each token. With two encoders each token has two, of $D_1$ and $D_2$ numbers, made of the same words.
# 2. They become *one* vector of the token; there are as many tokens as before. Which axis grows?
# 3. Two encoders were trained apart: "red" is 7 for one and 12 for the other. `ids[i]` is what the second calls the word $i$ of the first.
# 4. Each says which tokens it heard. Half a vector is not a vector.
#
# In code: an encoder returns (vector (B, P) or None, context (B, L, D), mask (B, L) bool or None); a mask None: it hears all. SDXL pools the second alone.


# %% answer="10-two-readers"
def read_both(first, second, ids: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(vector, context, mask): what two encoders say of one caption, side by side in channels.

    first, second: functions of tokens (B, L) int64. ids: (V,) int64. tokens: (B, L) int64, ids of the first.
    Returns vector (B, P), the second's; context (B, L, D1 + D2), the first's channels first; mask (B, L) bool.
    """
    ### BEGIN SOLUTION
    (_, one, seen), (vector, other, heard) = first(tokens), second(ids[tokens])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for each in (seen, heard):
        if each is not None:
            mask = mask & each
    return vector, torch.cat([one, other], 2), mask
    ### END SOLUTION


# %% [markdown]
# **Use it.** `sdxl-base` with your reader in the place of its own, and with readers that have one thing wrong.


# %%
class Reader(nn.Module):
    """Your function as a text encoder: of both towers, CLIP's and the one of texts alone."""

    def __init__(self, ids: Tensor, muted: tuple[bool, bool] = (False, False)):
        super().__init__()
        self.towers, self.ids = deepcopy(base.net.conditioning.inner.encoder.encoders), ids
        self.towers = nn.ModuleList(sdxl.Muted(t) if m else t for t, m in zip(self.towers, muted))

    def encode(self, tokens: Tensor) -> Encoded:
        first, second = self.towers
        return Encoded(*checked_read_both(first.encode, second.encode, self.ids, tokens))


def with_reader(*given) -> nn.Module:
    model = deepcopy(base)
    model.net.conditioning.inner.encoder = Reader(*given)
    return model


# %%
ids = sdxl.translated()
readers = {
    "yours": with_reader(ids),
    "ids not translated": with_reader(torch.arange(len(ids))),
    "CLIP muted": with_reader(ids, (True, False)),
    "texts muted": with_reader(ids, (False, True)),
}
prompts, texts = asked(WORLD, 64, 0)
shot = photographs(place(prompts, 0), seeded(0))
z0 = autoencoder.latents(shot["x0"])
told = sdxl.conditions(base, texts, shot["sizes"])


def off(model, told: dict, t: float) -> float:
    """Mean squared error of x̂0 of the photographs' latents, whose variance is 1."""
    with torch.no_grad():
        z_t = model.schedule.add_noise(z0, randn(z0.shape, seeded(1)), torch.tensor(t))
        return float((model(z_t, torch.tensor(t), **told) - z0).square().mean())


# %%
moments = (0.8, 0.95)
errors = {name: [off(model, told, t) for t in moments] for name, model in readers.items()}
errors["another caption (control)"] = [
    off(readers["yours"], told | {"tokens": told["tokens"].roll(1, 0)}, t) for t in moments
]
assert abs(errors["yours"][0] - off(base, told, 0.8)) < 1e-5  # as the library reads
assert errors["ids not translated"][0] > errors["yours"][0]
few = {name: value[:6] for name, value in sdxl.conditions(base, texts, torch.tensor(sdxl.FRAMED)).items()}
rows = [drawn(lambda z, t, m=readers[name]: m(z, t, **few), range(6)) for name in ("yours", "ids not translated")]
show.grid(torch.cat(rows), 6, rows=["yours", "ids not translated"], title="; ".join(texts[:3]) + "; …", scale=1.0)

# %%
show.table(errors, ["error of x̂0, variance 1", *(f"t = {t:g}" for t in moments)])

# %% [markdown]
# **Want more?** Roll the second's ids by one token: each word then stands beside its neighbour. Is that as bad as another caption?

# %% [markdown]
# ## Exercise 10-branches
#
# **Predict first.** Guidance of $w=3$ goes away from "no sentence". By mistake that branch also gets the sizes 0, 0, 0, 0, 0, 0. What will be wrong with the pictures:
# their sentence, their corner or their sharpness?
#
# **Derivation.** Guidance with two branches, as in lecture 05, for a network that is told a sentence and sizes.
#
# 1. $D(c,s)$ is the prediction as told. A branch says what *one* thing does: exchange that one, keep all others, and take the difference.
# 2. Without a sentence: $D(\varnothing,s)$. With another size, one that we do not want: $D(c,s')$. Sizes are never dropped in training, so that there is no $\varnothing$ for them.
# 3. Both differences start from $D(c,s)$, and both are added to it, $w$ times the first and $v$ times the second.
#
# In code: `told` holds rows of "tokens" and "sizes"; `null` only a row of tokens, `away` only a row of sizes. `denoise(x_t, t, tokens=…, sizes=…)`.


# %% answer="10-branches"
def guided(denoise, x_t: Tensor, t: Tensor, told: dict, null: dict, away: dict, w: float, v: float) -> Tensor:
    """x̂0, guided by the sentence with strength w and away from another size with strength v.

    x_t: (B, …), float32 or float64; t: a time, or (B,). told: {"tokens": (B, L), "sizes": (B, 6)}; null: {"tokens": (L,)};
    away: {"sizes": (6,)}. The denoiser wants a row of each for every picture. w, v: any sign. Returns (B, …), same dtype.
    """

    ### BEGIN SOLUTION
    def but(other: dict) -> Tensor:
        """As told, but for one thing."""
        rows = {name: row.expand_as(told[name]) for name, row in other.items()}
        return denoise(x_t, t, **(told | rows))  # in a | b, b wins

    full = but({})
    return full + w * (full - but(null)) + v * (full - but(away))
    ### END SOLUTION


# %% [markdown]
# **Use it.** Four snowy scenes, cut and sharp, are commanded with $w=3$: by your function, and with six zeros in the branch without a sentence.

# %%
lines = [upright(top) for top in TOPS[:, 0].tolist()] + [wide(left) for left in TOPS[:, 0].tolist()]
frames, snow_texts = torch.tensor(lines).float(), asked(SNOW, len(CORNERS), 0)[1]
four = {name: value[:4] for name, value in sdxl.conditions(base, snow_texts, frames).items()}
silent, small = latent.null(), {"sizes": torch.tensor([16.0, 16, 0, 0, SIDE, SIDE])}
ways = {"w = 3": (silent, 3.0), "w = 3, zeros": (silent | {"sizes": torch.zeros(6)}, 3.0)}
led = {
    name: drawn(lambda z, t, null=null, w=w: checked_guided(base, z, t, four, null, small, w, 0.0), range(4))
    for name, (null, w) in ways.items()
}
led["real"] = autoencoder.decode(autoencoder.latents(crop(snowy[:4], *CORNERS[:4].T)), clamp=True)
show.grid(torch.cat(list(led.values())), 4, rows=list(led), title="The same noise, the same frame", scale=0.9)

# %%
sharp = {name: [detail(x).mean(), (corner(x) - CORNERS[:4]).abs().double().mean()] for name, x in led.items()}
assert sharp["w = 3"][0] < 1.2 * sharp["real"][0] < sharp["w = 3, zeros"][0]
show.table(sharp, ["4 pictures", "detail", "corner is off by, pixels"], digits=2)

# %% [markdown]
# **Want more?** Set w = 0 and v = 1, away from 16 pixels. The open experiment below goes on from there.

# %% [markdown]
# ## Exercise 10-micro-conditioning
#
# **Predict first.** You command corners of 0, 3, 6, …, 24 pixels. The network draws latents, each of whose places is 4 pixels wide. What do you expect to read in the pictures?
#
# **Build** micro-conditioning (lecture: sizes), from the files to what a backbone takes.
#
# 1. *Load.* A file is (3, h, w), of any size. Bring its shorter side to `side` (`F.interpolate`, bilinear, `align_corners=False`; each side
#    becomes $n\cdot$`side`$/\min(h,w)$, rounded by `round`). Draw the corner: top, then left, each by `torch.randint(…, (1,), generator=generator)`, all that fit equally likely. Cut.
# 2. *Keep a record*: height and width of the *file*; top and left, in pixels of the enlarged picture; the target, `side` twice.
# 3. *Waves.* Each of the six numbers $n$ becomes $\cos(n f_k)$ for all $k$, then $\sin(nf_k)$; $f_k=10000^{-k/K}$, $k=0\dots K-1$, $K=$ `features`/2.
# 4. *Join.* Behind the pooled sentence stand the waves of the first number, of the second, …; two layers with a SiLU between them make one vector of all this.
# 5. *Tell.* What `read` says of the sentence goes on to the backbone, with that vector in the place of the pooled one.


# %% answer="10-micro-conditioning"
import torch.nn.functional as F


def micro_conditioning(pictures: list[Tensor], side: int, generator, read, weights: list[Tensor], features: int):
    """(x0, sizes, tell): a batch with the record of what was done to it, and what a network is told of any sizes.

    pictures: B files (3, h, w), float32. read(tokens (B, L)) → {"vector": (B, P), "context": …, …}, float32.
    weights: [(P + 6·features, E), (E,), (E, E), (E,)], float32; features is even.

    Returns x0 (B, 3, side, side); sizes (B, 6) float32; tell(tokens (B, L), sizes (B, 6)) → a dict like `read`'s, whose
    vector is (B, E).
    """
    ### BEGIN SOLUTION
    x0, sizes = [], []
    for picture in pictures:
        h, w = picture.shape[1:]
        size = [round(n * side / min(h, w)) for n in (h, w)]
        large = F.interpolate(picture[None], size=size, mode="bilinear", align_corners=False)[0]
        top, left = (int(torch.randint(n - side + 1, (1,), generator=generator)) for n in size)
        x0.append(large[:, top : top + side, left : left + side])
        sizes.append([h, w, top, left, side, side])

    W1, b1, W2, b2 = weights
    half = features // 2
    pace = 10_000 ** (-torch.arange(half) / half)

    def tell(tokens: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        given = read(tokens)
        angles = sizes[..., None] * pace  # (B, 6, K)
        waves = torch.cat([angles.cos(), angles.sin()], 2).flatten(1)  # (B, 6·features): number by number
        hidden = F.silu(torch.cat([given["vector"], waves], 1) @ W1 + b1)
        return given | {"vector": hidden @ W2 + b2}

    return torch.stack(x0), torch.tensor(sizes, dtype=torch.float32), tell
    ### END SOLUTION


# %% [markdown]
# **Use it: the record.** Files of many shapes and sizes go through your loader. The judge of corners has never seen your record; he reads the pictures.


# %%
def files(sheets: Tensor, seed: int) -> list[Tensor]:
    """Photographs as they lie on a disk: square, upright or wide, stored with 16 to 64 pixels."""
    g, found = seeded(seed), []
    for whole in sheets:
        h, w = [(64, 64), (96, 64), (64, 96)][int(torch.randint(3, (1,), generator=g))]
        kept = [*STORED, 64, 64, 64][int(torch.randint(len(STORED) + 3, (1,), generator=g))]
        found.append(F.interpolate(whole[None, :, :h, :w], size=(h * kept // 64, w * kept // 64), mode="area")[0])
    return found


conditioning = base.net.conditioning
layers = [
    conditioning.mlp[0].weight.T,
    conditioning.mlp[0].bias,
    conditioning.mlp[2].weight.T,
    conditioning.mlp[2].bias,
]
read = lambda tokens: conditioning.inner(len(tokens), tokens=tokens)
disk = files(snowy, 0)
x0, sizes, tell = checked_micro_conditioning(disk, SIDE, seeded(1), read, layers, conditioning.features)
loaded = checked_explained(sizes[:, 2:4], corner(x0))
figure, axes = show.panels(2, 6, size=(1.5, 1.55))
for i, ax in enumerate(axes[:6]):
    h, w, top, left = sizes[i, :4].int().tolist()
    for panel, x, title in ((ax, disk[i], f"file {h}×{w}"), (axes[6 + i], x0[i], f"corner ({top}, {left})")):
        panel.imshow(((x.clamp(-1, 1) + 1) / 2).permute(1, 2, 0))
        panel.set_title(title, fontsize=8)
        panel.set(xticks=[], yticks=[])
        panel.grid(False)
        panel.spines[:].set_visible(True)
assert loaded.min() > 0.9  # the record is what the pictures show

# %% [markdown]
# **Use it: the command.** The shipped network with your `tell` in the place of its own conditioning: nine corners from the top, nine from the left.

# %%
with torch.no_grad():
    tokens = latent.tokenizer().encode(snow_texts)
    told_by_you = tell(tokens, frames)
    uncut = tell(tokens, torch.tensor(sdxl.FRAMED).float().expand(18, 6))
    by_library = conditioning(18, tokens=tokens, sizes=frames)
assert torch.allclose(told_by_you["vector"], by_library["vector"], atol=1e-4)
seen = {}
for name, given in (("corners", told_by_you), ("(0, 0) for all", uncut)):
    seen[name] = drawn(lambda z, t, given=given: base.net.backbone(z, t.to(z).expand(len(z)), **given), range(18))
row = torch.cat([seen["corners"][[0, 2, 4, 6, 8]], seen["corners"][[9, 11, 13, 15, 17]]])
show.grid(row, 5, rows=["from the top", "from the left"], title="Commanded: 0, 6, 12, 18 and 24 pixels", scale=1.0)

# %%
figure, (axis,) = show.panels(1, 1, size=(3.6, 3.2))
for name, rows, column in (("top", slice(9), 0), ("left", slice(9, 18), 1)):
    axis.plot(CORNERS[rows, column], corner(seen["corners"])[rows, column], "os"[column], label=name, alpha=0.7)
axis.plot([0, 28], [0, 28], color="grey", lw=1, label="obedience")
axis.set(xlabel="corner that was told, pixels", ylabel="read in the picture", title="Told and read")
axis.set_yticks(range(0, 29, 4))
axis.legend(fontsize=8)

# %%
scores = {
    "told, read": checked_explained(CORNERS, corner(seen["corners"])),
    "another's corner (control)": checked_explained(CORNERS.flip(0), corner(seen["corners"])),
    "not told (control)": checked_explained(CORNERS, corner(seen["(0, 0) for all"])),
    "your loader, its record": loaded,
}
assert scores["told, read"].min() > 0.8 > 0.3 > scores["not told (control)"].max()
show.table({name: [*value] for name, value in scores.items()}, ["R²", "top", "left"], digits=2)

# %% [markdown]
# **Want more?** Command (32, 0), and 40, and 64. Photographs have corners up to 32. Where does obedience end?

# %% [markdown]
# ## Exercise 10-experts
#
# **Predict first.** The refiner has learnt the times below 0.35 and nothing else, in 1,000 steps where the base took 4,500. Is its error smaller than the base's at all of them? Where
# would you switch?
#
# **Derivation.** An ensemble of expert denoisers, eDiff-I, arXiv 2211.01324; SDXL's refiner, section 2.5.
#
# 1. One walk from $t=1$ to 0 needs a network at each time, and not always the same.
# 2. `last` takes the times *below* `switch`, `early` all others: `switch` itself, too.
# 3. Rows of a batch may have different times. Each network sees its own rows, with their times and what is told of them, and is not called for none.
#
# In code: `t` is a single time or (B,); the networks want (n,) for n rows. Row i of the result belongs to row i of `x_t`.


# %% answer="10-experts"
def experts(early, last, switch: float, x_t: Tensor, t: Tensor, told: dict[str, Tensor]) -> Tensor:
    """x̂0 of each row by the network of its time.

    early, last: functions of (x (n, …), t (n,), **told) → (n, …), n ≥ 1. x_t: (B, …), float32 or float64; t: a time, or
    (B,). told: tensors (B, …), one row a picture; both networks take all of them. Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    t, x0 = t.expand(len(x_t)), torch.empty_like(x_t)
    late = t < switch
    for denoise, rows in ((early, ~late), (last, late)):
        if rows.any():  # most steps need one network only
            x0[rows] = denoise(x_t[rows], t[rows], **{name: value[rows] for name, value in told.items()})
    return x0
    ### END SOLUTION


# %% [markdown]
# **Use it: errors.** One batch of held-out photographs at times from 0 to 0.5, all different. Each network tells about all of them; yours asks the expert.

# %%
refiner = sdxl.REFINER.load()
early = lambda x, t, tokens, sizes, score: base(x, t, tokens=tokens, sizes=sizes)
last = lambda x, t, tokens, sizes, score: refiner(
    x, t, tokens=tokens, sizes=torch.cat([sizes[:, :4], score[:, None]], 1)
)
known = told | {"score": shot["score"]}
clock = 0.5 * (torch.arange(64) + 0.5)[torch.randperm(64, generator=seeded(3))] / 64
with torch.no_grad():
    z_t = base.schedule.add_noise(z0, randn(z0.shape, seeded(2)), clock)
    guesses = {
        "base": early(z_t, clock, **known),
        "refiner": last(z_t, clock, **known),
        "yours": checked_experts(early, last, sdxl.SWITCH, z_t, clock, known),
    }
misses = {name: (x - z0).square().flatten(1).mean(1) for name, x in guesses.items()}
wanted = torch.where(clock < sdxl.SWITCH, misses["refiner"], misses["base"])
assert torch.allclose(misses["yours"], wanted, rtol=1e-3)

# %%
bins = {f"{a:g} ≤ t < {b:g}": (clock >= a) & (clock < b) for a, b in ((0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.5))}
by_time = {name: [x[rows].mean() for rows in bins.values()] for name, x in misses.items()}
assert by_time["refiner"][0] < by_time["base"][0] / 3
show.table(by_time, ["error of x̂0", *bins], digits=2)

# %% [markdown]
# **Use it: pictures.** The same noise to its end, by the base alone and with the refiner on the last steps. A flaw is what differs, in the finest detail, from
# the same scene drawn without one.

# %%
plain = {name: value[:6] for name, value in sdxl.conditions(base, texts, torch.tensor(sdxl.FRAMED)).items()}
plain["score"] = torch.full((6,), sdxl.BEST)
ends = {
    name: drawn(lambda z, t, s=s: checked_experts(early, last, s, z, t.to(z), plain), range(6))
    for name, s in (("base alone", 0.0), ("refiner below 0.2", 0.2))
}
ends["real"] = autoencoder.decode(autoencoder.latents(sheet(place(prompts[:6], 0))[..., :SIDE, :SIDE]), clamp=True)
show.grid(
    torch.cat(list(ends.values())), 6, rows=list(ends), title="The same noise; real: through the autoencoder", scale=1.0
)

# %%
wrong = {name: flaws(x) for name, x in ends.items()}
readable = torch.stack(list(wrong.values())).isfinite().all(0)
flawed = {name: [wrong[name][readable].mean(), detail(x)[readable].mean()] for name, x in ends.items()}
show.table(flawed, [f"{int(readable.sum())} pictures", "flaws", "detail"])

# %% [markdown]
# **Want more?** Switch at 0.6, where the refiner has never been. Tell it a score of 2. And begin with a finished picture: noise it to t = 0.35 and let the refiner alone walk the rest (image to image).

# %% [markdown]
# ## Exercise 10-negative-size
#
# **Predict first.** The base draws a little softer than real pictures are. You guide it away from pictures that were stored with 16 pixels, with strength $v$. At which $v$ is it as
# sharp as a real picture, and what is wrong with a picture at $v=4$?
#
# **The question.** SDXL's users may give a *negative* size. Is that another name for sharpening, or does it draw better? `measure` has, for a size to go away from
# and a strength: the detail (how much there is in the finest band), the flaws (how much of that is wrong), and the share of pictures that show their sentence.
#
# **A good answer** (about ten lines) has at least five strengths, with mean and spread over at least 5 sets of pictures; two sizes to go away from; two controls (away from the size that is
# commanded, and another way to the same end: a larger commanded size, or a filter that sharpens finished pictures); the same numbers of real pictures; says what is bought with what;
# and ends with one sentence that could be wrong.


# %%
def measured(v: float, side: int, w: float, command: int, n: int, seed: int) -> list[float]:
    """Detail, flaws and share right of n pictures, guided by v away from pictures stored with `side` pixels."""
    prompts, texts = asked(WORLD, n, seed)
    told = sdxl.conditions(base, texts, torch.tensor([command, command, 0, 0, SIDE, SIDE]))
    away = {"sizes": torch.tensor([side, side, 0, 0, SIDE, SIDE]).float()}
    x = drawn(
        lambda z, t: checked_guided(base, z, t, told, latent.null(), away, w, v), range(1000 * seed, 1000 * seed + n)
    )
    seen = parse(x)
    return [float(detail(x).mean()), float(flaws(x, seen).nanmean()), float(matches(prompts, seen).float().mean())]


def measure(v: float, side: int = 16, w: float = 0.0, command: int = SIDE, n: int = 3, seeds=range(2)) -> list[str]:
    """`measured` over sets of n pictures, mean ± spread."""
    found = torch.tensor([measured(v, side, w, command, n, seed) for seed in seeds])
    return [f"{m:.3f} ± {s:.3f}" for m, s in zip(found.mean(0).tolist(), found.std(0).tolist())]


# %%
tried = {f"v = {v:g}": measure(v) for v in (0.0, 2.0)}
show.table(tried, ["3 pictures, 2 sets", "detail", "flaws", "right"])

# %% [markdown] answer="10-negative-size"
# 10 pictures, mean ± spread over 5 sets, 15 steps, $w=0$, commanded size 64. Detail is how much there is in the finest band, flaws how much of it is wrong.
#
# | | detail | flaws | right |
# |---|---|---|---|
# | real, through the autoencoder | 0.040 ± 0.002 | 0.024 ± 0.002 | 1.00 ± 0.00 |
# | v = 0 (the same as away from 64, the commanded size: a control) | 0.036 ± 0.002 | 0.028 ± 0.002 | 0.78 ± 0.13 |
# | away from 16, v = 0.25 | 0.041 ± 0.002 | 0.027 ± 0.002 | 0.84 ± 0.09 |
# | v = 0.5 | 0.045 ± 0.002 | 0.027 ± 0.002 | 0.86 ± 0.15 |
# | v = 1 | 0.052 ± 0.003 | 0.031 ± 0.001 | 0.84 ± 0.09 |
# | v = 2 (one set) | 0.061 | 0.043 | 0.70 |
# | v = 4 (one set) | 0.080 | 0.067 | 0.70 |
# | a filter on the pictures of v = 0: x + 0.25·fine(x) (control) | 0.041 ± 0.002 | 0.028 ± 0.002 | 0.78 ± 0.13 |
# | x + 0.5·fine(x) | 0.046 ± 0.003 | 0.029 ± 0.002 | 0.76 ± 0.15 |
# | x + fine(x) | 0.055 ± 0.003 | 0.034 ± 0.002 | 0.76 ± 0.15 |
#
# At v = 0.25 the pictures are as sharp as real ones. Above it they are sharper than anything the network has seen: sharpness is no limit to guidance, it goes where the
# difference points. The flaws hardly change up to 0.5 and grow then; at v = 4 there is twice the detail of a real picture, and most of it is wrong.
#
# Is it a filter? Nearly. At equal detail (0.041, 0.045 and 0.046, 0.052 and 0.055) guidance has the fewer flaws each time, by 0.001 to 0.003, which is one spread or
# less. It costs a second call of the network at every step; the filter costs nothing.
#
# More pictures show their sentence (0.84 to 0.86 for 0.78), but the spread over sets is as large as that. The sets are the same for all rows, so that a comparison
# picture by picture could settle it; this table does not. Not tried: v of 2 and 4 with a spread; sizes other than 16; w = 1, where w and v add up.
#
# Could be wrong: that guidance beats the filter because it knows where edges belong. If so, the filter should lose by more on pictures with many objects.
