# %% [markdown]
# # Exercises 08: DALL-E 1 and 2
#
# Four short exercises, one thing to build and one open experiment: about two hours. How a choice among codes gets a
# gradient, the loss of a sequence of words and codes, the choice of the next code, a transformer that writes pictures,
# and a picture moved by a difference of two sentences. The
# [notebook](../notebooks/08_dalle.ipynb) takes them from the library, the
# [lecture](../lectures/08_dalle.md) derives them. Predict, write, check.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from itertools import product
from math import log

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show
from minidiff.course import check, hint
from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import COLOURS, SHAPES, SPRITES, assemble, render
from minidiff.judges.scenes import parse
from minidiff.randomness import gumbel, seeded
from minidiff.systems import clip_sprites

# %% [markdown]
# **The world** of the first four exercises: 12 looks in 9 places, 16 px. A picture has 4×4 patches of 4×4 pixels, and in all 108 pictures only 49
# different patches occur. So a codebook needs no training here: it is the list of them, and every picture is 16 codes without any loss. A quarter
# of the pictures is kept back.

# %%
LOOKS = list(product(SHAPES[:3], COLOURS[:4]))
SPOTS = list(product((4, 8, 12), repeat=2))
every = [(kind, colour, "medium", *spot) for kind, colour in LOOKS for spot in SPOTS]
shown = torch.tensor([(i // 9 + i % 9) % 4 != 0 for i in range(len(every))])  # the others are kept back
pictures = render(assemble([[thing] for thing in every]))
patches = F.pixel_unshuffle(pictures, 4).movedim(1, -1)  # (108, 4, 4, 48)
codebook, codes = torch.unique(patches.flatten(0, 2), dim=0, return_inverse=True)
codes = codes.reshape(len(every), 16)

PAD, START = 0, 1  # then four colours and three kinds
WORDS = ["PAD", "START", *COLOURS[:4], *SHAPES[:3]]
told = torch.tensor([[START, WORDS.index(colour), WORDS.index(kind)] for kind, colour, *_ in every])


def painted(codes: Tensor) -> Tensor:
    """(B, 16) → (B, 3, 16, 16)."""
    return F.pixel_shuffle(codebook[codes].unflatten(1, (4, 4)).movedim(-1, 1), 4)


assert torch.equal(painted(codes), pictures)  # nothing is lost
print(f"{len(codebook)} codes for {len(every)} pictures, {int(shown.sum())} of them shown; the words: {WORDS}")

# %% [markdown]
# ## Exercise 08-gumbel-softmax
#
# **Predict first.** A softened draw has a gradient, at every temperature τ. Is it the right one, on average, at τ = 2? At τ = 0.1? And at which of the
# two does it scatter more from draw to draw?
#
# **Derivation.** Gumbel-softmax, arXiv 1611.01144 and 1611.00712; the discrete VAE of DALL-E, 2102.12092, section 2.1.
#
# 1. For $u$ uniform in $(0,1)$, $g=-\ln(-\ln u)$ has $P(g\le a)=\exp(-e^{-a})$. Then $\arg\max_k(\ell_k+g_k)$ is a draw from $\mathrm{softmax}(\ell)$.
# 2. An argmax has no gradient. Replace it by a softmax of the same noisy numbers, divided by $\tau$: one-hot as $\tau\to0$, even as $\tau\to\infty$.
# 3. Straight through: a tensor with the *value* of the one-hot draw and the *gradient* of the softened one.
#
# In code: `logits` is $\ell$, (B, K, h, w): at each place its K codes compete. Of equal ones the first counts.


# %% answer="08-gumbel-softmax"
import torch.nn.functional as F


def gumbel_softmax(logits: Tensor, u: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, soft, straight): a draw from softmax(logits) at every place, from the uniform numbers u.

    logits: (B, K, h, w), float32 or float64, may require gradients. u: the same shape and dtype, 0 < u < 1.
    temperature > 0. Returns codes (B, h, w) int64; soft (B, K, h, w), the softened one-hot; straight (B, K, h, w), the
    one-hot with the gradient of soft. Same dtype.
    """
    ### BEGIN SOLUTION
    noisy = logits - torch.log(-torch.log(u))
    codes, soft = noisy.argmax(1), (noisy / temperature).softmax(1)
    hard = F.one_hot(codes, logits.shape[1]).movedim(-1, 1).to(soft.dtype)  # (B, h, w, K) → (B, K, h, w)
    # The two `soft` cancel in value, but only one of them has a gradient.
    return codes, soft, soft + (hard - soft).detach()
    ### END SOLUTION


# %% [markdown]
# **Use it.** Eight codes, one patch to be matched: what does it cost on average, and which way should the logits go? With so few codes the gradient of
# the average is known exactly, $p_k(f_k-\sum_jp_jf_j)$ for the cost $f_k$ of code $k$. Yours is averaged over 40,000 draws.

# %%
g = seeded(0)
some = codebook[torch.randperm(len(codebook), generator=g)[:8]]
target, logits = codebook[torch.randint(len(codebook), (1,), generator=g)], torch.randn(8, generator=g)
cost = lambda mixture: (mixture[:, :, 0, 0] @ some - target).square().mean(1)  # (n, 8, 1, 1) → (n,)
chances, costs = logits.softmax(0), (some - target).square().mean(1)
exact = chances * (costs - chances @ costs)


def estimate(temperature: float, n: int = 40_000, seed: int = 1) -> list[float]:
    """How far the mean gradient is off, and how much one draw scatters: soft, then straight through; as parts of the exact one."""
    u = torch.rand(n, 8, 1, 1, generator=seeded(seed)).clamp(1e-6, 1 - 1e-6)
    rows, found = logits[None, :, None, None].repeat(n, 1, 1, 1).requires_grad_(), []
    for mixture in checked_gumbel_softmax(rows, u, temperature)[1:]:
        (each,) = torch.autograd.grad(cost(mixture).sum(), rows, retain_graph=True)
        mean = each[:, :, 0, 0].mean(0)
        scatter = (each[:, :, 0, 0] - mean).square().sum(1).mean().sqrt()
        found += [float((mean - exact).norm() / exact.norm()), float(scatter / exact.norm())]
    return found


# %%
moments = (4, 2, 1, 0.5, 0.25, 0.12)
errors = torch.tensor([estimate(temperature) for temperature in moments])
figure, axes = show.panels(1, 2, size=(3.6, 2.7))
for i, name in enumerate(("softened", "straight through")):
    axes[0].plot(moments, errors[:, 2 * i], "os"[i] + "-", label=name)
    axes[1].plot(moments, errors[:, 2 * i + 1], "os"[i] + "-", label=name)
axes[0].set(title="Cold draws: less bias …", ylabel="error of the mean gradient")
axes[1].set(title="… and more scatter", ylabel="scatter of one draw", yscale="log")
for ax in axes:
    ax.set(xlabel="temperature τ", xscale="log")
    ax.set_xticks(moments, [f"{temperature:g}" for temperature in moments])
    ax.minorticks_off()
    ax.legend(fontsize=8)
draws = checked_gumbel_softmax(
    logits[None, :, None, None].expand(4000, 8, 1, 1), torch.rand(4000, 8, 1, 1, generator=g), 1.0
)[0]
assert float((torch.bincount(draws.flatten(), minlength=8) / 4000 - chances).abs().max()) < 0.04  # the right shares
assert errors[0, 0] > 2 * errors[-1, 0]  # softened: bias falls with τ,
assert errors[-1, 1] > 4 * errors[0, 1]  # scatter rises

# %% [markdown]
# **Want more?** This is why τ is annealed. Where would you stop for 1,000 draws, where for 100,000: at which τ is the error of the *average* least?

# %% [markdown]
# ## Exercise 08-two-losses
#
# **Predict first.** Nine words, 49 codes. What is the loss of a model that holds everything equally likely? And of one that knows only which code
# follows which?
#
# **Derivation.** DALL-E, arXiv 2102.12092, section 2.2: one sequence [words; codes], and each token is asked for the next.
#
# 1. A token costs $-\ln$ of the chance that was given to it, in nats: the cross-entropy of its logits.
# 2. Words and codes have a mean each: over the caption's *real* next words, over the picture's codes. A caption without any costs 0.
# 3. The sum weights the picture by $\lambda=7$ against 1 of the words, and is divided by $1+\lambda$.
#
# In code: row i of `words` was computed after tokens 0 … i, and is asked for token i + 1. Row i of `drawn` is asked for code i. `weight` is $\lambda$.


# %% answer="08-two-losses"
import torch.nn.functional as F


def weighted_loss(words: Tensor, tokens: Tensor, drawn: Tensor, codes: Tensor, weight: float) -> Tensor:
    """(text + weight·picture)/(1 + weight) of each caption with its picture, in nats.

    words: (B, L − 1, V) logits; tokens: (B, L) int64, START first, 0 for padding, which comes last. drawn: (B, N, K)
    logits, same dtype; codes: (B, N) int64. Returns (B,), the logits' dtype (float32 or float64).
    """
    ### BEGIN SOLUTION
    wanted = tokens[:, 1:]
    real = wanted != 0
    text = F.cross_entropy(words.transpose(1, 2), wanted, reduction="none")  # (B, L − 1)
    picture = F.cross_entropy(drawn.transpose(1, 2), codes, reduction="none")  # (B, N)
    # `clamp`: a caption without a next word has 0/1.
    return ((text * real).sum(1) / real.sum(1).clamp(min=1) + weight * picture.mean(1)) / (1 + weight)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Three guesses that need no network: all equally likely; as often as in the pictures shown; and as often *after the code before*. A third of
# the captions names only the kind, so that it is padded.


# %%
def spoken(rows: Tensor, generator) -> Tensor:
    """The captions of these pictures; of a third of them the colour is left out."""
    brief = torch.stack([told[rows, 0], told[rows, 2], torch.full_like(rows, PAD)], 1)
    return torch.where(torch.rand(len(rows), 1, generator=generator) < 1 / 3, brief, told[rows])


def counted(before: Tensor, after: Tensor, n: int) -> Tensor:
    """Logits (n before, n after): how often `after` came behind `before`, one more for each so that nothing is impossible."""
    table = torch.bincount((before * n + after).flatten(), minlength=n * n).reshape(n, n) + 0.1
    return (table / table.sum(1, keepdim=True)).log()


rows = shown.nonzero()[:, 0].repeat(4)
heard, K, V = spoken(rows, seeded(0)), len(codebook), len(WORDS)
behind = lambda codes: F.pad(codes[:, :-1], (1, 0), value=K)  # K stands for BEGIN
follows = counted(behind(codes[rows]), codes[rows], K + 1)[:, :K]
often = counted(0 * codes[rows], codes[rows], K + 1)[:1, :K]
next_word = counted(heard[:, :-1], heard[:, 1:], V)

# %%
rest = (~shown).nonzero()[:, 0].repeat(4)  # judged on what is kept back
asked, seen = spoken(rest, seeded(1)), codes[rest]
flat = torch.zeros(len(rest), 2, V)
guesses = {
    "all equally likely": (flat, torch.zeros(len(rest), 16, K)),
    "as often as shown": (next_word[asked[:, :-1]], often.expand(len(rest), 16, K)),
    "after the code before": (next_word[asked[:, :-1]], follows[behind(seen)]),
}
nats = {
    name: [float(checked_weighted_loss(words, asked, drawn, seen, weight).mean()) for weight in (0.0, 1e9, 7.0)]
    for name, (words, drawn) in guesses.items()
}
assert abs(nats["all equally likely"][2] - (log(V) + 7 * log(K)) / 8) < 1e-4
assert nats["after the code before"][1] < 0.75 * nats["as often as shown"][1] < 0.75 * log(K)
show.table(nats, ["nats, of pictures kept back", "a word", "a code", "the loss, λ = 7"])

# %% [markdown]
# **Want more?** Let the padding count. How much better does the first column look?

# %% [markdown]
# ## Exercise 08-next-code
#
# **Predict first.** You draw pictures from the last of these guesses, each code by the one before. What do they show? And at $\tau=0$?
#
# **Derivation.** The draw of exercise 1 once more, with a $\tau$ that means another thing.
#
# 1. $\arg\max_k(\ell_k+g_k)$ is a draw from $\mathrm{softmax}(\ell)$. A colder one is drawn from $\mathrm{softmax}(\ell/\tau)$. What is the argmax of
#    $\ell/\tau+g$, times $\tau$? It has a meaning at $\tau=0$, too.
# 2. Top-k: only the k largest *logits* of a row may come. Those equal to the last of them may come, too.
#
# In code: `noise` is $g$, already drawn; so your function has no randomness of its own.


# %% answer="08-next-code"
def choose(logits: Tensor, noise: Tensor, temperature: float, top_k: int) -> Tensor:
    """A draw from softmax(logits/temperature) among the top_k largest of each row.

    logits, noise: (B, K), float32 or float64. temperature ≥ 0; at 0 the largest comes, of equal ones the first.
    top_k ≥ 1, may exceed K. Returns (B,) int64.
    """
    ### BEGIN SOLUTION
    bar = logits.topk(min(top_k, logits.shape[-1]), -1).values[:, -1:]
    allowed = logits.masked_fill(logits < bar, float("-inf"))
    return (allowed + temperature * noise).argmax(-1)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Sixteen codes, one after another, each by the one before.


# %%
def remembered(temperature: float, top_k: int, n: int, seed: int = 0) -> Tensor:
    """n pictures of codes (n, 16) from `follows`."""
    noise, found = gumbel((n, 16, K), seeded(seed)), torch.full((n, 1), K)
    for i in range(16):
        code = checked_choose(follows[found[:, -1]], noise[:, i], temperature, top_k)
        found = torch.cat([found, code[:, None]], 1)
    return found[:, 1:]


def objects_of(codes: Tensor) -> list[list]:
    """What each picture shows; nothing where it cannot be read."""
    read = parse(painted(codes).clamp(-1, 1))
    return [read.scenes.objects(i) if read.readable[i] else [] for i in range(len(codes))]


ways = {"τ = 1": (1.0, K), "τ = 1, top 3": (1.0, 3), "τ = 0": (0.0, K)}
memories = {name: remembered(*way, 60) for name, way in ways.items()}
one = {name: [sum(len(some) == 1 for some in objects_of(codes)) / 60] for name, codes in memories.items()}
one["pictures kept back (control)"] = [sum(len(some) == 1 for some in objects_of(codes[~shown])) / int((~shown).sum())]
show.grid(
    torch.cat([painted(codes[:12]) for codes in memories.values()]),
    12,
    rows=list(ways),
    title="Each code by the one before: no plan",
)

# %%
assert one["τ = 1"][0] < 0.5 < one["pictures kept back (control)"][0]
show.table(one, ["drawn", "show one whole object"], digits=2)

# %% [markdown]
# **Want more?** Why is the picture of τ = 0 what it is? What would a memory of *two* codes need to know?

# %% [markdown]
# ## Exercise 08-write-codes
#
# **Predict first.** The best model of this world knows the caption and where the pictures shown have their object: $\ln 6.75=1.91$ nats for a whole
# picture. What does a transformer need that has learnt it for a few seconds? And for pictures that were kept back?
#
# **Build** DALL-E's second stage (lecture: one sequence, one transformer): it reads a caption and codes, asks for the next, and draws what is missing.
#
# 1. *Tokens.* `word[tokens] + place`; then `begin`; then `code[codes] + row + column` of each code's place, row by row.
# 2. *Block*, six matrices (Q, K, V, O, up, down), none with a bias: $x\mathrel{+}=\mathrm{attention}(\mathrm{norm}\,x)$, O last; then
#    $x\mathrel{+}=\mathrm{gelu}(\mathrm{norm}\,x\cdot\mathrm{up})\cdot\mathrm{down}$. `F.layer_norm` without weights, `F.gelu`; head h is the h-th part of the channels.
# 3. *Mask.* A token sees itself and what is before it; nobody sees padding.
# 4. *Logits* of the normalised end: a word's token is asked for the next word (times `next_word`), BEGIN for the first code, each code for the next
#    (times `next_code`).
# 5. *Loop.* Codes that are given stay. Place i gets `choose(logits, noise[:, i])` without gradients. The logits you return have them.


# %% answer="08-write-codes"
import torch.nn.functional as F


def write_codes(weights: list[Tensor], heads: int, tokens: Tensor, codes: Tensor, noise: Tensor, choose):
    """(words, drawn, codes): the picture completed, and the logits of all its tokens.

    weights: [word (V, D), code (K, D), place (≥ L, D), row (side, D), column (side, D), begin (D,), next_word (D, V),
    next_code (D, K), then six of every block: Q, K, V, O (D, D), up (D, 4D), down (4D, D)], all of one dtype.
    tokens: (B, L) int64, START first, 0 for padding. codes: (B, n) int64, the first n of N = side² places, 0 ≤ n ≤ N.
    noise: (B, N, K). choose(logits (B, K), noise (B, K)) → (B,) int64.

    Returns words (B, L − 1, V), drawn (B, N, K), codes (B, N) int64.
    """
    ### BEGIN SOLUTION
    word, code, place, row, column, begin, next_word, next_code, *layers = weights
    (b, told), dim = tokens.shape, word.shape[1]
    grid = (row[:, None] + column).flatten(0, 1)  # (N, D): row by row
    split = lambda y: y.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, M, D) → (B, heads, M, d)
    norm = lambda x: F.layer_norm(x, (dim,))

    def logits(codes: Tensor):
        """After each word but the last; after BEGIN and each of these codes."""
        pictured = code[codes] + grid[: codes.shape[1]]
        x = torch.cat([word[tokens] + place[:told], begin.expand(b, 1, dim), pictured], 1)  # (B, M, D)
        real = F.pad(tokens != 0, (0, x.shape[1] - told), value=True)
        seen = real[:, None, None, :] & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        for i in range(0, len(layers), 6):
            q, k, v, out, up, down = layers[i : i + 6]
            h = norm(x)
            scores = split(h @ q) @ split(h @ k).mT / (dim // heads) ** 0.5
            shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            x = x + (shares @ split(h @ v)).transpose(1, 2).flatten(2) @ out
            x = x + F.gelu(norm(x) @ up) @ down
        x = norm(x)
        return x[:, : told - 1] @ next_word, x[:, told:] @ next_code

    with torch.no_grad():
        for i in range(codes.shape[1], noise.shape[1]):
            new = choose(logits(codes)[1][:, -1], noise[:, i])
            codes = torch.cat([codes, new[:, None]], 1)
    return *logits(codes[:, :-1]), codes  # the last code has no next
    ### END SOLUTION


# %% [markdown]
# **Use it.** One block of width 64, trained on the 81 pictures shown with your loss; drawn with your choice of the next code.


# %%
def fresh(width: int = 64, blocks: int = 1, seed: int = 0) -> list[Tensor]:
    """First weights."""
    g = seeded(seed)
    draw = lambda *shape: torch.randn(shape, generator=g)
    matrix = lambda n, m: draw(n, m) / n**0.5
    weights = [0.3 * draw(n, width) for n in (V, K, 3, 4, 4)] + [0.3 * draw(width)]
    weights += [matrix(width, V), matrix(width, K)]
    for _ in range(blocks):
        weights += [matrix(width, width) for _ in range(4)] + [matrix(width, 4 * width), matrix(4 * width, width)]
    return weights


# %%
def taught(steps: int = 300, batch: int = 32, lr: float = 1e-2, seed: int = 0) -> list[Tensor]:
    """Weights that have seen the pictures shown: Adam, to 0 along a line."""
    g, weights, ids = seeded(seed), [w.requires_grad_() for w in fresh(seed=seed)], shown.nonzero()[:, 0]
    optimizer, none = torch.optim.Adam(weights, lr=lr), torch.zeros(1, 1, 1).expand(batch, 16, K)
    for step in range(steps):
        rows = ids[torch.randint(len(ids), (batch,), generator=g)]
        tokens = spoken(rows, g)
        words, drawn, _ = checked_write_codes(weights, 4, tokens, codes[rows], none, None)
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        checked_weighted_loss(words, tokens, drawn, codes[rows], 7.0).mean().backward()
        optimizer.step()
    return [w.detach() for w in weights]


weights = taught()


# %%
def drawn_for(
    tokens: Tensor, temperature: float = 1.0, top_k: int = 99, seed: int = 0, given: Tensor | None = None, by=weights
):
    """Codes (B, 16); picture i has the noise of 1000·seed + i."""
    noise = gumbel((len(tokens), 16, K), seeded(range(1000 * seed, 1000 * seed + len(tokens))))
    first = torch.empty(len(tokens), 0, dtype=torch.int64) if given is None else given
    choose = lambda logits, noise: checked_choose(logits, noise, temperature, top_k)
    return checked_write_codes(by, 4, tokens, first, noise, choose)[2]


asked = told[::9].repeat(8, 1)  # 96 captions: the 12 looks, eight times
drawn = drawn_for(asked)
upper = codes[4:108:9, :8]  # the upper half of each look, in the middle
completed = drawn_for(told[::9].roll(3, 0), given=upper, seed=5)
lines = {"a caption": painted(drawn[:12]), "again": painted(drawn[12:24]), "completed": painted(completed)}
show.grid(
    torch.cat(list(lines.values())),
    12,
    rows=list(lines),
    title="Sixteen codes each. Last row: the upper half is given, the caption is another",
)


# %%
def cost_of(rows: Tensor, other: bool = False) -> float:
    """Nats for the 16 codes of these pictures, told their captions (or those of another look)."""
    tokens = told[rows].roll(9, 0) if other else told[rows]
    words, logits, _ = checked_write_codes(weights, 4, tokens, codes[rows], torch.zeros(len(rows), 16, K), None)
    return 16 * float(checked_weighted_loss(words, tokens, logits, codes[rows], 1e9).mean())


def right(objects: list[list], tokens: Tensor) -> float:
    """Share of pictures with one object, of the caption's kind and colour."""
    looks = [[(WORDS[kind], WORDS[colour])] for _, colour, kind in tokens.tolist()]
    return sum([o[:2] for o in some] == look for some, look in zip(objects, looks)) / len(looks)


objects = objects_of(drawn)
hidden = [[thing] for thing, seen in zip(every, shown.tolist()) if not seen]
follow = 16 * nats["after the code before"][1]
found = {
    "a picture that was shown": [cost_of(shown.nonzero()[:, 0]), "1.91 at best"],
    "one that was kept back": [cost_of((~shown).nonzero()[:, 0]), f"{follow:.2f} by the code before"],
    "shown, another caption (control)": [cost_of(shown.nonzero()[:, 0], other=True), ""],
    "drawn right": [right(objects, asked), f"another caption: {right(objects, asked.roll(1, 0)):.2f}"],
    "drawn, and was kept back": [sum(some in hidden for some in objects) / len(objects), "0.25 if all were equal"],
}
assert 1.85 < found["a picture that was shown"][0] < 2.6 < found["one that was kept back"][0] < follow
assert found["drawn right"][0] > 0.6
show.table(found, ["", "nats, or share of 96", "beside it"], digits=2)

# %% [markdown]
# **Want more?** Take `.tril()` out of your solution, train, and compare both numbers: the loss and what is drawn. Then widen the world: does the price
# of a picture that was kept back fall if fewer are?

# %% [markdown]
# ## Exercise 08-text-diff
#
# **Predict first.** A picture of a cat left of a tree, and the sentences "a cat left of a tree" and "a dog left of a tree". You turn the picture's
# embedding by a fraction $f$ of the way towards their difference. At which $f$ is a dog's picture the nearest? Is the tree still there?
#
# **Derivation.** DALL-E 2, arXiv 2204.06125, section 3.3. CLIP's embeddings are unit vectors.
#
# 1. What two sentences differ by is a direction: $d=(z_{to}-z_{from})/\Vert z_{to}-z_{from}\Vert$.
# 2. The way from $z$ to $d$ runs on the sphere, in the plane of both: $az+bd$, of length 1, at the angle $f\theta$ from $z$ and $(1-f)\theta$ from $d$,
#    with $\cos\theta=z\cdot d$.
# 3. Multiply $az+bd$ by $z$ and by $d$: two linear equations for $a$ and $b$. By $\sin(x-y)=\sin x\cos y-\cos x\sin y$ each is a quotient of two sines.
# 4. Where $z$ and $d$ are the same there is no way to go, and 0/0 in the formula.
#
# In code: `z` (B, d), each picture with an angle of its own; `fraction` is $f$.


# %% answer="08-text-diff"
import torch.nn.functional as F


def text_diff(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    """Unit vectors on the arc from each row of z to the direction of z_to − z_from, at this fraction of the angle.

    z: (B, d), rows of length 1, none opposite to that direction, but perhaps equal to it. z_from, z_to: (d,), different,
    of length 1. float32 or float64. fraction: from 0 to 1. Returns (B, d), same dtype.
    """
    ### BEGIN SOLUTION
    way = F.normalize(z_to - z_from, dim=0)
    angle = torch.acos((z @ way).clamp(-1, 1))[:, None]  # (B, 1); rounding may lead out of [−1, 1]
    there = ((1 - fraction) * angle).sin() * z + (fraction * angle).sin() * way
    return torch.where(angle.sin() > 1e-6, there / angle.sin(), z)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Sprites at 64 px, and the shipped CLIP. No decoder is needed to see what an embedding says: take the nearest of 180 pictures, two of each
# ordered pair of kinds side by side. The pictures to be moved are not among them.

# %%
clip = clip_sprites.MODEL.load().requires_grad_(False)
pairs = [(a, b) for a in SPRITES for b in SPRITES if a != b]
beside = lambda pairs: [Prompt((Group(a), Group(b)), "left of") for a, b in pairs]
gallery = render(place(beside(pairs * 2), 1), 64)
shelf = clip.encode_image(gallery)  # (180, 64)


def moved(first: str, second: str, fraction: float, others, seed: int = 2):
    """Pictures of `first` left of others, turned towards `second` left of them: where from, and the nearest's numbers."""
    before, after = ([(kind, other) for other in others] for kind in (first, second))
    x = render(place(beside(before), seed), 64)
    sentences = [clip.encode_text(clip_sprites.tokens(captions(beside(p)))) for p in (before, after)]
    z = clip.encode_image(x)
    rows = [checked_text_diff(z[i : i + 1], sentences[0][i], sentences[1][i], fraction) for i in range(len(x))]
    return x, (torch.cat(rows) @ shelf.T).argmax(1)


others = [kind for kind in SPRITES if kind not in ("cat", "dog")]
fractions = (0.0, 0.15, 0.3, 0.45)
nearest = {f"f = {f:g}": moved("cat", "dog", f, others)[1] for f in fractions}
strips = torch.cat([moved("cat", "dog", 0, others)[0], *(gallery[i] for i in nearest.values())])
show.grid(
    strips,
    len(others),
    rows=["pictures", *nearest],
    title="Nearest of 180: from “a cat left of …” towards “a dog left of …”",
)

# %%
CHANGES = [("cat", "dog"), ("house", "tree"), ("fish", "snowman"), ("plant", "horse")]


def told_by(fraction: float) -> list[float]:
    """Shares of the nearest pictures: the first kind is the old one, the new one; the other object is the same, on its right."""
    found = []
    for first, second in CHANGES:
        others = [kind for kind in SPRITES if kind not in (first, second)]
        near = [pairs[i % len(pairs)] for i in moved(first, second, fraction, others)[1].tolist()]
        found += [(a == first, a == second, b == other) for (a, b), other in zip(near, others)]
    return torch.tensor(found, dtype=torch.float64).mean(0).tolist()


turned = {f"f = {f:g}": told_by(f) for f in (0, 0.1, 0.2, 0.3, 0.4, 0.6, 1)}
assert turned["f = 0"][0] > 0.8 > turned["f = 0.3"][0] + 0.6  # the old kind, then no more
assert turned["f = 0.3"][2] > 0.6 > turned["f = 1"][2]  # what was not spoken of stays, but not for ever
show.table(turned, ["32 pictures", "old kind", "new kind", "the other as it was"], digits=2)

# %% [markdown]
# **Want more?** Turn towards the second *sentence* instead of the difference. What is left of the picture at the fraction at which the kind changes?

# %% [markdown]
# ## Exercise 08-how-cold
#
# **Predict first.** At $\tau=0$ each caption has one picture, and it is right. At $\tau=1$ the model draws what it believes. Which share is right then,
# and how many of the nine places come up in ten draws? Is there a $\tau$ between that loses nothing?
#
# **The question.** What does a temperature, or a top-k, cost in variety, and what does it gain in correctness? `measure` draws ten pictures of each of the
# 12 looks and says how many are right, in how many places the right ones of a caption stand, and how many were kept back from training.
#
# **A good answer** (about ten lines) has at least six temperatures and three values of k with mean and spread over at least 5 *trainings*; the controls (what
# ten even draws among the places shown would give; the caption of another look); says whether top-k reaches a point that no temperature reaches; where the
# pictures that were kept back appear, and why; and ends with one sentence that could be wrong.


# %%
def judged(temperature: float, top_k: int, by: list[Tensor], seed: int) -> list[float]:
    """Share right; places per caption, of right pictures; share of all that were kept back from training."""
    tokens = told[::9].repeat(10, 1)
    objects = objects_of(drawn_for(tokens, temperature, top_k, seed, by=by))
    looks = [(WORDS[kind], WORDS[colour]) for _, colour, kind in tokens.tolist()]
    good = {(look, some[0][3:]) for some, look in zip(objects, looks) if [o[:2] for o in some] == [look]}
    kept = sum(some in hidden for some in objects) / len(objects)
    return [right(objects, tokens), len(good) / len(LOOKS), kept]


models = {0: weights}  # seed → weights; more by `taught(seed=1)`, a few seconds each


def measure(temperature: float, top_k: int = 99, seeds=(0, 1)) -> list[str]:
    """`judged` over these draws with each of the models, mean ± spread."""
    found = torch.tensor([judged(temperature, top_k, by, seed) for by in models.values() for seed in seeds])
    return [f"{m:.2f} ± {s:.2f}" for m, s in zip(found.mean(0).tolist(), found.std(0).tolist())]


# %%
tried = {f"τ = {temperature:g}": measure(temperature) for temperature in (0.3, 1.0)}
show.table(tried, ["1 training, 2 draws of 120", "right", "places", "kept back"])

# %% [markdown] answer="08-how-cold"
# Ten pictures of each look, mean ± spread over 5 trainings (seeds 0 to 4), each with noise of its own. "Several" or "nothing": what else is read.
#
# | | right | places | kept back | nothing | several |
# |---|---|---|---|---|---|
# | τ = 0 | 1.00 ± 0.00 | 1.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |
# | τ = 0.2 | 1.00 ± 0.00 | 2.17 ± 0.20 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |
# | τ = 0.4 | 1.00 ± 0.00 | 3.55 ± 0.24 | 0.01 ± 0.02 | 0.00 ± 0.00 | 0.00 ± 0.00 |
# | τ = 0.6 | 0.99 ± 0.02 | 4.80 ± 0.47 | 0.03 ± 0.02 | 0.00 ± 0.00 | 0.00 ± 0.00 |
# | τ = 0.8 | 0.96 ± 0.02 | 5.18 ± 0.32 | 0.03 ± 0.03 | 0.01 ± 0.01 | 0.01 ± 0.01 |
# | τ = 1 | 0.89 ± 0.06 | 5.20 ± 0.38 | 0.05 ± 0.02 | 0.04 ± 0.01 | 0.01 ± 0.00 |
# | τ = 1.3 | 0.65 ± 0.09 | 4.30 ± 0.45 | 0.05 ± 0.03 | 0.18 ± 0.03 | 0.08 ± 0.02 |
# | τ = 1, top 5 | 0.92 ± 0.07 | 5.30 ± 0.38 | 0.05 ± 0.02 | 0.02 ± 0.01 | 0.01 ± 0.01 |
# | τ = 1, top 3 | 0.95 ± 0.05 | 5.40 ± 0.35 | 0.05 ± 0.02 | 0.02 ± 0.01 | 0.00 ± 0.00 |
# | τ = 1, top 2 | 0.99 ± 0.01 | 5.52 ± 0.22 | 0.05 ± 0.02 | 0.01 ± 0.01 | 0.00 ± 0.00 |
#
# Controls: ten even draws among the 6 or 7 places shown would meet 5.38 of them, among all nine 6.23. By the caption of another look at most
# 0.02 ± 0.01 are right.
#
# Variety is hardly touched down to τ = 0.8 and lost below 0.6. At the first place where the object could begin, "begin here" has a chance of 1/7 and "not yet"
# 6/7, and a cold draw takes "not yet" until it is too late for anything else: of 300 pictures at τ = 0.2, 290 have their object in the lowest of the three rows, at
# τ = 0 all. What the cold gains is gained elsewhere: where only one code fits, the model leaves the others a small share, and sixteen small shares make one picture
# in ten wrong. Above 1 both get worse, since wrong pictures have no place.
#
# Top 2 gets both: as right as τ = 0.6 and as varied as τ = 1, the best of each column within the spread. The reason is this world: where a picture
# is undecided there are two codes to choose from, "the object begins here" and "not yet". Top 2 leaves that choice as it was learnt, and takes all else away.
#
# Pictures that were kept back come with τ, 0.05 ± 0.02 at 1 (0.25 if all places were equal). The model has learnt by heart which places a look was shown in,
# and believes it less than wholly: 5.2 nats for such a picture are 3.1 more than for one that was shown, a chance of e⁻³·¹ = 0.05 against it.
# Cold draws sharpen just that: at τ = 0.4 nearly none is left.
#
# Could be wrong: "top-k beats temperature". With 128 codes of photographs no k fits all places: where a texture goes on, dozens of codes are right,
# and top 2 would make it a pattern. I would expect top-k to win only where the number of right codes is small and the same everywhere.
