# %% [markdown]
# # Exercises 07: from text to pixels
#
# Four short exercises, one thing to build and one open experiment: about two hours. Where a word is looked
# at, a layer that lets a trained model listen, two parts of Imagen, and the frontier of cost and quality. The
# [notebook](../notebooks/07_text_to_pixels.ipynb) takes them from the library, the
# [lecture](../lectures/07_text_to_pixels.md) derives them. Predict, write, check.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import COLOURS, SHAPES, assemble, render
from minidiff.guidance import bind, cfg
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.nn.block import Attend
from minidiff.randomness import randn, seeded
from minidiff.retrieval import auc
from minidiff.samplers import ddim, ddpm, sample
from minidiff.systems import scenes_text, scenes_unconditional
from minidiff.thresholding import saturated, static

# %%
model = scenes_text.TEXT.load()  # trained before: a caption becomes a 16-px scene
world, tokenizer = scenes_text.WORLD, scenes_text.tokenizer(10)
ONE, TWO = World(families=("one",)), World(families=("relation",))  # one object; two, and where


@torch.no_grad()
def drawn(denoise, n: int, steps: int = 20, step=ddpm, seed: int = 0) -> Tensor:
    """n pictures, picture i from the noise of seed + i."""
    generators = seeded(range(seed, seed + n))
    *_, x = sample(denoise, randn((n, 3, 16, 16), generators), times.linear(steps), step(model.schedule), generators)
    return x


def share(right: Tensor) -> float:
    return float(right.double().mean())


# %% [markdown]
# ## Exercise 07-word-map
#
# **Predict first.** "a red circle left of a blue square": over which pixels does the map of *blue* light up, and over which that of *square*?
# Which of the two is the better detector of the square?
#
# **Derivation.**
#
# 1. A pixel asks ($q_i$), words answer ($k_j$): $a_{ij}=\mathrm{softmax}_j(q_i\cdot k_j/\sqrt d)$, so that each pixel hands out exactly 1.
# 2. Padding is no word: its score is $-\infty$. Every head hands out a 1 of its own; a map is the mean over heads.
# 3. A word may have several columns (a rare word is cut into pieces), or none. Its share is the sum of theirs.
# 4. Pixels are numbered row by row: pixel $i$ stands in row $\lfloor i/W\rfloor$.
#
# In code: `q` (B, heads, L, d) with L = `height`·`width`; `k` (B, heads, M, d); `mask` and `word` (B, M).


# %% answer="07-word-map"
def word_map(q: Tensor, k: Tensor, mask: Tensor, word: Tensor, height: int, width: int) -> Tensor:
    """The attention that each pixel pays to a word, averaged over heads.

    q: (B, heads, height·width, d). k: (B, heads, M, d), same dtype. mask: (B, M) bool, False for padding; every row has
    at least one True. word: (B, M) bool, the columns of the word, any number. Returns (B, height, width), same dtype.
    """
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    shares = scores.softmax(-1).mean(1)  # (B, L, M): one softmax a head, then the mean
    return (shares * word[:, None, :]).sum(-1).reshape(len(q), height, width)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Sixty scenes of two objects, half noise (t = 0.5). In this model one softmax goes over the 4×4 patches and the 10 tokens of the
# caption, so `word` marks one of 26 columns. Your map is judged as a detector: the AUC of the patches where the word's object is against those
# where it is not.

# %%
prompts = TWO.prompts(60, 3, "test")
texts, scenes = captions(prompts), place(prompts, 0)
spoken = [text.split() for text in texts]
held: list[tuple[Tensor, Tensor]] = []  # Q and K of every attention that a call goes through


def watched(x_t: Tensor, t: float, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    held.clear()
    keep = lambda module, given: held.append(given[:2])
    hooks = [m.register_forward_pre_hook(keep) for m in model.net.backbone.modules() if isinstance(m, Attend)]
    with torch.no_grad():
        model(x_t, torch.full((len(x_t),), t), tokens=tokens)
    for hook in hooks:
        hook.remove()
    return list(held)


def patches_of(which: int) -> Tensor:
    """(B, 4, 4) bool: where the first (0) or second (1) object is."""
    looks = [prompt.groups[which].look for prompt in prompts]
    alone = assemble([[o for o in scenes.objects(i) if o[:2] == look] for i, look in enumerate(looks)])
    painted = (render(alone) - render(assemble([[]]))).abs().amax(1, keepdim=True) > 0.2
    return F.avg_pool2d(painted.double(), 4)[:, 0] > 0.3


# %%
def maps(which: int, part: str, t: float = 0.5) -> Tensor:
    """(B, 4, 4): the map of the first or second object's colour or kind, the mean over all blocks."""
    x_t = (1 - t) * render(scenes) + t * randn((len(prompts), 3, 16, 16), seeded(1))
    word = torch.zeros(len(prompts), 26, dtype=torch.bool)
    for i, words in enumerate(spoken):  # 16 patches, START, then "a red circle …"
        word[i, 17 + (1 if which == 0 else len(words) - 2) + (part == "kind")] = True
    every = torch.ones_like(word)  # this model was trained to see padding as a word like others
    seen = watched(x_t, t, tokenizer.encode(texts))
    return torch.stack([checked_word_map(q, k, every, word, 4, 4) for q, k in seen]).mean(0)


def detector(found: Tensor, where: Tensor) -> float:
    pairs = [(m.flatten().double(), w.flatten()) for m, w in zip(found, where) if w.any() and not w.all()]
    return sum(auc(m, w) for m, w in pairs) / len(pairs)


looks = {(which, part): maps(which, part) for which in (0, 1) for part in ("colour", "kind")}
figure, axes = show.panels(1, 5, size=(2, 2.3))
axes[0].imshow((render(scenes)[0].permute(1, 2, 0) + 1) / 2)
axes[0].set_title("the scene", fontsize=9)
for ax, ((which, part), found) in zip(axes[1:], looks.items()):
    ax.imshow(found[0], cmap="magma")
    ax.set_title(spoken[0][(1 if which == 0 else len(spoken[0]) - 2) + (part == "kind")], fontsize=9)
figure.suptitle(f"“{texts[0]}”: which patches look at which word")
for ax in axes:
    ax.axis("off")

# %%
detected = {
    f"{('first', 'second')[which]} object's {part}": [detector(found, patches_of(w)) for w in (which, 1 - which)]
    for (which, part), found in looks.items()
}
assert detected["first object's colour"][0] > 0.95 > 0.5 > detected["first object's colour"][1]
show.table(detected, ["the map of the", "AUC: its object", "AUC: the other object"], digits=2)

# %% [markdown]
# **Want more?** Draw the maps at t = 0.9 and t = 0.1. Which words are looked at when nothing can be seen yet? Then look at the blocks one by one.

# %% [markdown]
# ## Exercise 07-cross-attention
#
# **Predict first.** A trained model has never heard a word. You put your new layer into it and train nothing: what does it draw? And how many
# steps does it take until "red" is red?
#
# **Build** the layer of Imagen and Stable Diffusion by which pixels listen to words (lecture, section 2: cross-attention, derived).
#
# 1. *Weights.* Four matrices, no biases: Q (channels, channels), K and V (dim, channels), O (channels, channels). Draw Q, K and V in this order
#    from `generator`: `torch.randn`, divided by the root of the number of rows. O begins at zero.
# 2. *Question and answer.* Rows of pixels, normalised over the channels (`F.layer_norm`, no weights), times Q; words times K, and times V. The
#    channels fall into `heads` equal parts, head $h$ being the $h$-th part.
# 3. *Mask.* Nobody looks at padding. A caption without any word changes nothing.
# 4. *Back.* The heads side by side, times O, to a picture again, plus x.


# %% answer="07-cross-attention"
def cross_layer(channels: int, dim: int, heads: int, generator: Generator):
    """A new cross-attention of `heads` heads: pixels of `channels` numbers look at words of `dim` numbers.

    Returns (weights, layer). weights: the list [Q, K, V, O] of float32 matrices, none of which requires a gradient yet.

    layer(weights, x, words, mask) → (B, channels, H, W), float32. It takes any list like `weights`, and gradients flow.
    x: (B, channels, H, W). words: (B, M, dim). mask: (B, M) bool, False for padding; some rows may be False throughout.
    """
    ### BEGIN SOLUTION
    weights = [torch.randn(n, channels, generator=generator) / n**0.5 for n in (channels, dim, dim)]
    weights.append(torch.zeros(channels, channels))  # so that a new layer is the identity

    def split(rows: Tensor) -> Tensor:  # (B, L, channels) → (B, heads, L, d)
        return rows.unflatten(-1, (heads, -1)).transpose(1, 2)

    def layer(weights, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        to_q, to_k, to_v, out = weights
        rows = x.flatten(2).transpose(1, 2)  # (B, H·W, channels)
        pixels = F.layer_norm(rows, (channels,))
        q, k, v = split(pixels @ to_q), split(words @ to_k), split(words @ to_v)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, heads, H·W, M)
        seen = mask[:, None, None, :]
        # A row of −∞ alone would be NaN; the lowest number is not, and what it lets through is set to 0.
        shares = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1) * seen
        read = (shares @ v).transpose(1, 2).flatten(2) @ out  # (B, H·W, channels)
        return x + read.transpose(1, 2).reshape(x.shape)

    return weights, layer
    ### END SOLUTION


# %% [markdown]
# **Use it.** The prior of scenes (chapter 03) is a transformer of four blocks with no input but $x_t$ and $t$. Two layers of yours go in, after the
# first block and after the third; the prior itself stays frozen. Only your eight matrices and the vectors of 60-odd words are trained, on single
# objects.

# %%
prior = scenes_unconditional.MODEL.load().requires_grad_(False)
SITES = (0, 2)


def heard(x_t: Tensor, t: Tensor, tokens: Tensor, vectors: Tensor, parts: list[list[Tensor]]) -> Tensor:
    """The prior's x̂0, with layers of yours. vectors: (vocabulary, 64), of words; parts: the weights of each layer."""
    words, mask = vectors[tokens], tokens > 0  # 0 is padding

    def after(weights: list[Tensor]):
        def listen(block, given, out: Tensor) -> Tensor:  # (B, 16, 128): the 4×4 patches of a picture
            x = layer(weights, out.transpose(1, 2).unflatten(2, (4, 4)), words, mask)
            return x.flatten(2).transpose(1, 2)

        return listen

    hooks = [prior.net.blocks[i].register_forward_hook(after(weights)) for i, weights in zip(SITES, parts)]
    x0 = prior(x_t, t.expand(len(x_t)))
    for hook in hooks:
        hook.remove()
    return x0


# %%
def trained(steps: int = 60, batch: int = 24, lr: float = 8e-3, seed: int = 0):
    """The vectors and the weights of both layers, by Adam written out (without its correction of the first steps)."""
    g = seeded(seed)
    first = [torch.randn(len(tokenizer), 64, generator=g), *new[0], *new[1]]
    now = [w.clone().requires_grad_() for w in first]
    means, squares = ([torch.zeros_like(w) for w in now] for _ in range(2))
    for step in range(steps):
        prompts = ONE.prompts(batch, g, "train")
        x0, tokens = render(place(prompts, g)), tokenizer.encode(captions(prompts))
        t = torch.sigmoid(1 + torch.randn(batch, generator=g))  # mostly noisy: there the words are needed
        x_t = torch.lerp(x0, torch.randn(x0.shape, generator=g), t[:, None, None, None])
        loss = (heard(x_t, t, tokens, now[0], [now[1:5], now[5:]]) - x0).square().mean()
        gradients = torch.autograd.grad(loss, now)
        with torch.no_grad():
            for w, g_w, mean, square in zip(now, gradients, means, squares):
                mean.lerp_(g_w, 0.1)
                square.lerp_(g_w**2, 0.05)
                w -= lr * (1 - step / steps) * mean / (square.sqrt() + 1e-8)
    return now[0].detach(), [[w.detach() for w in part] for part in (now[1:5], now[5:])]


new, (layer, _) = zip(*(checked_cross_layer(128, 64, 4, seeded(site)) for site in SITES))
vectors, parts = trained()

# %%
asked = ONE.prompts(24, 9)
tokens = tokenizer.encode(captions(asked))
runs = {
    "the prior alone": drawn(bind(prior), 24),
    "with trained layers": drawn(lambda x, t: heard(x, t, tokens, vectors, parts), 24),
}
untrained = drawn(lambda x, t: heard(x, t, tokens[:4], vectors, new), 4)
assert torch.allclose(runs["the prior alone"][:4], untrained, atol=1e-5)  # a new layer is the identity
show.grid(torch.cat([x[:12] for x in runs.values()]), 12, rows=list(runs), title=", ".join(captions(asked)[:4]) + ", …")


def right_look(prompts: list[Prompt], x: Tensor) -> list[float]:
    """Shares of the pictures with the right colour, with the right kind."""
    read = parse(x)
    told = [(p.groups[0], read.scenes.objects(i) if read.readable[i] else []) for i, p in enumerate(prompts)]
    colour = [any(o[1] == group.colour for o in objects) for group, objects in told]
    return [
        sum(colour) / len(told),
        sum(any(o[0] == group.kind for o in objects) for group, objects in told) / len(told),
    ]


scores = {name: right_look(asked, x) for name, x in runs.items()}
scores["trained, the next caption"] = right_look(asked[1:] + asked[:1], runs["with trained layers"])
assert scores["with trained layers"][0] > 0.5 > 0.35 > scores["trained, the next caption"][0]
show.table(scores, ["", "colour right", "kind right"], digits=2)

# %% [markdown]
# **Want more?** Put in a layer whose O is drawn like Q. What does the model draw before training, and how much has it caught up after the same 60 steps?

# %% [markdown]
# ## Exercise 07-dynamic-threshold
#
# **Predict first.** Guidance with $w=5$ drives 7 % of the numbers of these pictures out of $[-1,1]$, though the data keep to $[-0.9,0.9]$. You clip
# every guess at 1: what share of the finished pictures is at the limit? You threshold dynamically at the quantile 0.995: what share then?
#
# **Derivation.** Imagen (arXiv 2205.11487, section 2.3), for the guess $\hat x_0$ at every step:
#
# 1. Static: clip $\hat x_0$ to $[-1,1]$. What was too bright becomes equally bright.
# 2. Dynamic: let $s$ be a high quantile of $|\hat x_0|$ over the numbers of *one* picture. Clip to $[-s,s]$, then divide by $s$.
# 3. Where a picture is within range, $s$ would stretch it. It must not: $s$ is at least 1.
#
# In code: `x0` (B, …), `quantile` from 0 to 1 (between two numbers linearly, as `torch.quantile` does).


# %% answer="07-dynamic-threshold"
def dynamic_threshold(x0: Tensor, quantile: float) -> Tensor:
    """Every picture of x0 clipped at a size of its own and divided by it.

    x0: (B, …), float32 or float64. quantile: in [0, 1]. Returns (B, …), same dtype, within [−1, 1].
    """
    ### BEGIN SOLUTION
    s = torch.quantile(x0.abs().flatten(1), quantile, dim=1).clamp(min=1)
    s = s.reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-s, s) / s
    ### END SOLUTION


# %% [markdown]
# **Use it.** Sixteen captions, guided with $w=5$ in 16 steps; the threshold stands around the guided guess in every step.

# %%
wanted = world.prompts(16, 5, "test")
told = {"tokens": tokenizer.encode(captions(wanted))}


def dynamic(quantile: float):
    return lambda denoise: lambda x, t: checked_dynamic_threshold(denoise(x, t), quantile)


thresholds = {"none": lambda denoise: denoise, "static": static, "0.995": dynamic(0.995), "0.97": dynamic(0.97)}


def guided(w: float, threshold, seed: int = 0) -> Tensor:
    both = threshold(cfg(model, told, scenes_text.null(10), w))
    return drawn(both, len(wanted), 16, ddim, seed)


finished = {name: guided(5.0, threshold) for name, threshold in thresholds.items()} | {"data": render(place(wanted, 0))}
show.grid(torch.cat([x[:10] for x in finished.values()]), 10, rows=list(finished), title="Thresholds at w = 5")

# %%
thresholded = {
    name: [float(saturated(x).mean()), float(x.clamp(-1, 1).std()), share(matches(wanted, x))]
    for name, x in finished.items()
}
assert thresholded["static"][0] > 0.06 > 0.05 > thresholded["0.97"][0] > 0.015 > thresholded["0.995"][0]
show.table(thresholded, ["threshold", "at the limit", "contrast", "right"], digits=2)

# %% [markdown]
# **Want more?** At the limit is what you allowed, 1 − quantile; the price is contrast, and pale colours are other colours. Which quantile would you take at
# $w=1$? At $w=15$?

# %% [markdown]
# ## Exercise 07-noise-augment
#
# **Predict first.** The second stage was trained on small pictures of the data, and is given what the first stage drew: a shade too pale, or blurred.
# Which of the two mistakes does a little noise hide? And how much noise would hide the other?
#
# **Derivation.** Noise conditioning augmentation (arXiv 2106.15282, section 4; Imagen, arXiv 2205.11487, section 2.4):
#
# 1. Every small picture $z$ of the batch gets its own level $s$: $z_s=(1-s)\,z+s\,\varepsilon$, the path that data take to noise in this course.
# 2. The network works at the large size: $z_s$ is enlarged (`F.interpolate`, bilinear, as it is by default) and stands beside $x_t$.
# 3. The network is told $s$. In training $s$ is drawn at random, in sampling chosen.
#
# In code: `low` is $z$, `levels` (B,) are $s$, and both sides grow `factor` times.


# %% answer="07-noise-augment"
def augment(low: Tensor, levels: Tensor, factor: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """What a super-resolution network is given beside x_t, and the levels that it is told.

    low: (B, C, h, w) float32. levels: (B,) float32 in [0, 1]. One draw of noise from `generator`, of the shape of low.
    Returns ((B, C, factor·h, factor·w) float32, (B,) float32).
    """
    ### BEGIN SOLUTION
    s = levels[:, None, None, None]
    noisy = (1 - s) * low + s * torch.randn(low.shape, generator=generator)
    return F.interpolate(noisy, scale_factor=factor, mode="bilinear"), levels
    ### END SOLUTION


# %% [markdown]
# **Use it.** A small picture $z$ of the data, and the same with a mistake, $z+\delta$. Both get noise. Could anybody tell which is which? The best way is
# to project on $\delta$; it is right in a share $\Phi\big(\tfrac{(1-s)\lVert\delta\rVert}{\sqrt2\,s}\big)$ of pairs: its AUC. Half is a coin. (`factor` is 1: nothing is enlarged.)

# %%
clean = render(place(TWO.prompts(1, 0), 0))
drawings = {
    "a shade paler": clean.lerp(render(assemble([[]])), 0.1),  # a tenth of the way to the empty picture
    "blurred": F.avg_pool2d(F.pad(clean, (1, 1, 1, 1), mode="replicate"), 3, stride=1),
}


def told_apart(drawing: Tensor, s: float, n: int = 1000, seed: int = 0) -> float:
    """AUC of the best detector of the mistake, among n noisy pictures with it and n without."""
    g, delta = seeded(seed), drawing - clean
    with_it, without = (
        checked_augment(low.expand(n, -1, -1, -1), torch.full((n,), s), 1, g)[0] for low in (drawing, clean)
    )
    signs = (torch.cat([with_it, without]) * delta).sum((1, 2, 3))
    return auc(signs.double(), torch.arange(2 * n) < n)


def in_theory(drawing: Tensor, s: float) -> float:
    return float(torch.special.ndtr((1 - s) * (drawing - clean).norm() / (s * 2**0.5)))


noise_levels = (0.1, 0.3, 0.5, 0.7, 0.9)
hidden = {s: [f(drawing, s) for drawing in drawings.values() for f in (told_apart, in_theory)] for s in noise_levels}
assert all(abs(a - b) < 0.04 and abs(c - d) < 0.04 for a, b, c, d in hidden.values())
assert hidden[0.5][0] < 0.8 < 0.95 < hidden[0.5][2]
show.table({f"s = {s:g}": row for s, row in hidden.items()}, ["told apart", "paler", "theory", "blurred", "theory "])

# %% [markdown]
# **Want more?** Average 2×2 pixels after `augment` with `factor=2`: what is left of the noise, compared with noise that was added *after* enlarging?

# %% [markdown]
# ## Exercise 07-frontier
#
# **Predict first.** Guidance at $w=1$ doubles the cost of a step. At equal cost, would you rather guide, or take twice as many steps? And which
# sampler: DDIM, or ancestral steps with fresh noise?
#
# **Derivation.** Imagen's authors compared sizes of text encoders and of generators; a reader wants to know which runs are worth their cost.
#
# 1. Run $j$ beats run $i$ if it costs no more and scores no less, and is strictly better in at least one of the two.
# 2. The frontier holds the runs that no other beats. Twins, equal in both, do not beat each other.
#
# In code: `cost` and `score` (N,), in any order and any unit.


# %% answer="07-frontier"
def on_frontier(cost: Tensor, score: Tensor) -> Tensor:
    """Which runs no other run beats. cost, score: (N,) float64, N ≥ 1. Returns (N,) bool."""
    ### BEGIN SOLUTION
    as_good = (cost <= cost[:, None]) & (score >= score[:, None])  # row i: the runs that are no worse than run i
    better = (cost < cost[:, None]) | (score > score[:, None])
    return ~(as_good & better).any(1)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Twelve ways to draw the same 16 pictures: 2, 4 or 8 steps, two samplers, guided or not. Cost: calls of the network for a picture.


# %%
def run(step, steps: int, w: float, seed: int = 0) -> tuple[float, float]:
    denoise = bind(model, **told) if w == 0 else cfg(model, told, scenes_text.null(10), w)
    pictures = drawn(denoise, len(wanted), steps, step, seed)
    return steps * (1.0 if w == 0 else 2.0), share(matches(wanted, pictures))


ways = [(step, steps, w) for step in (ddim, ddpm) for w in (0.0, 1.0) for steps in (2, 4, 8)]
cost, score = torch.tensor([run(*way) for way in ways], dtype=torch.float64).T
best = checked_on_frontier(cost, score)

# %%
figure, ax = plt.subplots(figsize=(4.6, 3.0))
for step, w, mark in ((ddim, 0.0, "o"), (ddim, 1.0, "s"), (ddpm, 0.0, "v"), (ddpm, 1.0, "^")):
    mine = torch.tensor([way[0] is step and way[2] == w for way in ways])
    name = f"{'DDIM' if step is ddim else 'ancestral'}, w = {w:g}"
    ax.plot(cost[mine], score[mine], mark, label=name)
order = cost[best].argsort()
ax.step(cost[best][order], score[best][order], where="post", color="black", linewidth=1, label="frontier")
ax.set(xlabel="calls of the network", ylabel="right, of 16", title="12 ways to draw the same captions")
ax.set_xscale("log", base=2)
ax.set_xticks([2, 4, 8, 16], ["2", "4", "8", "16"])
ax.legend(fontsize=7)
plain, twice = (score[[way[1:] == pair for way in ways]].mean() for pair in ((4, 0.0), (2, 1.0)))
assert plain > twice + 0.1  # at 4 calls, two more steps are worth more than guidance

# %% [markdown]
# **Want more?** The frontier takes the best of noisy numbers, so it flatters. Draw the ways on it again with `seed=100`: are they as good?

# %% [markdown]
# ## Exercise 07-when-words-speak
#
# **Predict first.** A picture is drawn in 20 steps, from $t=1$ down to 0. Down to $t=t_c$ the model hears one caption, from there on another. At which
# $t_c$ does the second come too late to change a colour? A kind? Who stands where?
#
# **The question.** Which words are heard when? `measure` switches captions that differ in one thing only, and says how many pictures show the
# first caption, the second, or neither. Which $t_c$, samplers and strengths to try is up to you.
#
# **A good answer** (about ten lines) has at least four $t_c$ for each of the three changes, with mean and spread over at least 5 sets of seeds; the two
# controls, $t_c=1$ and $t_c=0$; compares the sampler that adds fresh noise with the one that does not; says what happens to the pictures that show
# *neither*; and ends with one sentence that could be wrong.


# %%
def changed(what: str, n: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """n prompts, and the same with another colour, another kind, or the two objects exchanged."""
    if what == "places":
        prompts = TWO.prompts(n, seed)
        return prompts, [prompt.swapped() for prompt in prompts]
    prompts, values = ONE.prompts(n, seed), COLOURS if what == "colour" else SHAPES
    other = lambda group: values[(values.index(getattr(group, what)) + 2) % len(values)]
    return prompts, [Prompt((replace(p.groups[0], **{what: other(p.groups[0])}),)) for p in prompts]


def switched(what: str, t_c: float, step, n: int, seed: int) -> list[float]:
    """Shares of n pictures that show the first caption, heard while t > t_c; the second, heard after; and neither."""
    pair = changed(what, n, seed)
    first, second = (tokenizer.encode(captions(prompts)) for prompts in pair)
    switching = lambda x, t: model(x, t.expand(len(x)), tokens=first if t > t_c + 1e-6 else second)
    x = drawn(switching, n, step=step, seed=1000 * seed)
    shown = [share(matches(prompts, x)) for prompts in pair]
    return [*shown, 1 - sum(shown)]


def measure(what: str, t_c: float, step=ddpm, n: int = 12, seeds=range(2)) -> list[str]:
    """`switched` over sets of n pictures, mean ± spread."""
    found = torch.tensor([switched(what, t_c, step, n, seed) for seed in seeds])
    return [f"{m:.2f} ± {s:.2f}" for m, s in zip(found.mean(0).tolist(), found.std(0).tolist())]


# %%
tried = {f"{what}, t_c = {t_c:g}": measure(what, t_c) for what, t_c in (("colour", 0.2), ("places", 0.2))}
show.table(tried, ["12 pictures, 2 sets", "first", "second", "neither"])

# %% [markdown] answer="07-when-words-speak"
# Shares of 24 pictures that show the second caption, mean ± spread over 5 sets, ancestral steps (fresh noise) and DDIM (none). 20 steps each.
#
# | t_c | places: fresh | places: DDIM | kind: fresh | kind: DDIM | colour: fresh | colour: DDIM |
# |---|---|---|---|---|---|---|
# | 1 (second only) | 1.00 ± 0.00 | 0.92 ± 0.08 | 0.94 ± 0.02 | 0.90 ± 0.07 | 0.98 ± 0.02 | 0.93 ± 0.08 |
# | 0.6 | 0.97 ± 0.03 | 0.90 ± 0.06 | 0.93 ± 0.04 | 0.92 ± 0.05 | 0.96 ± 0.04 | 0.92 ± 0.08 |
# | 0.4 | 0.88 ± 0.04 | 0.77 ± 0.10 | 0.89 ± 0.09 | 0.74 ± 0.17 | 0.98 ± 0.02 | 0.93 ± 0.06 |
# | 0.3 | 0.80 ± 0.07 | 0.66 ± 0.08 | 0.81 ± 0.09 | 0.61 ± 0.10 | 0.96 ± 0.04 | 0.92 ± 0.04 |
# | 0.2 | 0.66 ± 0.12 | 0.49 ± 0.05 | 0.62 ± 0.08 | 0.45 ± 0.05 | 0.93 ± 0.07 | 0.90 ± 0.05 |
# | 0.1 | 0.22 ± 0.09 | 0.13 ± 0.05 | 0.28 ± 0.07 | 0.24 ± 0.02 | 0.79 ± 0.09 | 0.69 ± 0.09 |
# | 0 (first only) | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |
#
# Until t = 0.6 it does not matter what was said: the first eight steps leave nothing that the second caption could not undo. Places and kinds
# are settled between 0.4 and 0.1, at about the same time; a colour not before 0.1, when places and kinds are lost. That is the order of the
# bands: where something is takes coarse structure, its colour can still be filled in when all outlines stand.
#
# Hardly any picture goes back to the first caption (at t_c = 0.1 from 0.02 to 0.17): what comes too late spoils. Of the pictures that show neither
# at t_c = 0.2 (places, three sets), 16 of 26 hold three or four objects: the new ones were drawn beside the old ones. Of those of kinds 20 of
# 29 hold two: the new kind over the old.
#
# Fresh noise helps where it is late: at t_c = 0.3 and 0.2 by 0.14 to 0.20 for places and kinds, more than the spread; each step forgets a little of what was there. So
# does guidance with w = 2 (fresh noise): at t_c = 0.2 places 0.83 ± 0.12 and kinds 0.80 ± 0.05, at 0.1 places 0.44 ± 0.09 and kinds 0.59 ± 0.08.
#
# Could be wrong: "text speaks late". The pictures are 16 pixels wide, so that even a shape is coarse; at 64 pixels I would expect everything to be
# settled at larger t. And this model was trained with most of its times near t = 0.57, on flat colours, which are easily changed.
