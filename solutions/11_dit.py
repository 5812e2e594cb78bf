# %% [markdown]
# # Exercises 11: DiT
#
# Four short exercises, one thing to build and one open experiment: about two hours. How a transformer is told time and label, what a picture costs it,
# where its tokens are, a whole DiT that begins as nothing, and whether its loss is normal. The
# [notebook](../notebooks/11_dit.ipynb) takes them from the library, the
# [lecture](../lectures/11_dit.md) derives them. Predict, write, check.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from functools import partial
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import show
from minidiff.backbones.dit import CONDITIONINGS, DiT
from minidiff.course import check, hint
from minidiff.data.captions import captions
from minidiff.data.scenes import COLOURS, SHAPES, assemble, render
from minidiff.judges.scenes import parse
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify, unpatchify
from minidiff.systems import dit as systems
from minidiff.systems import scenes_text, scenes_unconditional

# %% [markdown]
# ## Exercise 11-in-context
#
# **Predict first.** Two more tokens: by how much do they lengthen the work at 16 tokens, by how much at 256? And by how much does another label change the answer
# of a network that nobody has trained yet: in-context, by cross-attention, with adaLN, with adaLN-Zero?
#
# **Derivation.** In-context conditioning, arXiv 2212.09748, section 3.2.
#
# 1. A block maps tokens to tokens, however many there are: what it is to know can stand among them. One token for time, one for the label.
# 2. They are no patches: they have no place, and nothing is to be drawn of them at the end.
# 3. Between the first block and the last they are tokens like all others. What do they learn of the picture on the way?
#
# In code: `z` (B, N, dim) are patches, already mapped, but without their places. Without a label there is the time alone.


# %% answer="11-in-context"
def in_context(blocks, z: Tensor, place: Tensor, times: Tensor, label: Tensor | None) -> Tensor:
    """The picture's tokens after all blocks, with time and label as two more tokens of the sequence.

    blocks: a list of functions (B, M, dim) → (B, M, dim), for any M, which know no order. z: (B, N, dim), float32 or
    float64; place: (N, dim); times: (B, dim); label: (B, dim), or None. Same dtype. Returns (B, N, dim), same dtype.
    """
    ### BEGIN SOLUTION
    told = torch.stack([times] if label is None else [times, label], 1)  # (B, 2, dim)
    x = torch.cat([z + place, told], 1)
    for block in blocks:
        x = block(x)
    return x[:, : z.shape[1]]
    ### END SOLUTION


# %% [markdown]
# **Use it.** Your function with the blocks of the library's network, untrained. It should be the library's whole forward pass.

# %%
noisy, moment = randn((2, 3, 16, 16), seeded(0)), torch.tensor([0.3, 0.8])
one, other = randn((2, 2, 64), seeded(1))  # two labels
listener = initialised(lambda: DiT(dim=64, depth=3, conditioning="in-context"), 0).requires_grad_(False)


def by_hand(label: Tensor | None) -> Tensor:
    """DiT's forward pass with your sequence in its middle."""
    tokens = checked_in_context(
        listener.blocks, listener.stem(patchify(noisy, 4)), listener.place, listener.time(moment), label
    )
    return unpatchify(listener.head(listener.last(tokens)), 4, (16, 16))


assert torch.allclose(by_hand(one), listener(noisy, moment, vector=one), atol=1e-5)
assert torch.allclose(by_hand(None), listener(noisy, moment), atol=1e-5)
assert not torch.allclose(by_hand(other), listener(noisy, moment, vector=one), atol=1e-3)  # the control


# %%
def new(how: str, seed: int = 0, patch: int = 4) -> DiT:
    return initialised(lambda: DiT(patch=patch, dim=64, depth=3, conditioning=how), seed).requires_grad_(False)


def work_of(how: str, patch: int) -> float:
    return systems.gflops(partial(new(how, 0, patch), noisy[:1], moment[:1], vector=one[:1]))


def moved(how: str, seed: int) -> tuple[float, float]:
    """The size of a new network's answer, and the share of it that another label moves."""
    first, second = (new(how, seed)(noisy, moment, vector=label) for label in (one, other))
    return float(first.square().mean().sqrt()), float((first - second).norm() / first.norm().clamp(min=1e-12))


untrained = {}
for how in CONDITIONINGS:
    more = [f"{100 * (work_of(how, patch) / work_of('adaLN-Zero', patch) - 1):+.1f} %" for patch in (4, 1)]
    sizes = torch.tensor([moved(how, seed) for seed in range(5)])
    untrained[how] = [*more, float(sizes[:, 0].mean()), f"{sizes[:, 1].mean():.2f} ± {sizes[:, 1].std():.2f}"]
assert untrained["adaLN-Zero"][2] == 0 < min(untrained[how][2] for how in CONDITIONINGS[:3])
show.table(untrained, ["never trained", "Gflops, 16 tokens", "256 tokens", "size of the answer", "moved by the label"])

# %% [markdown]
# **Want more?** Put both tokens in front instead, and cut there. Does your function still pass, and why?

# %% [markdown]
# ## Exercise 11-gflops
#
# **Predict first.** The paper's largest network, DiT-XL/2, has 28 blocks of width 1152; a picture of 256 px is a latent of 4×32×32, in patches of 2. The paper says
# 118.6 Gflops. What do you get? And with patches half as wide: twice, four times, sixteen times as much?
#
# **Derivation.** Everything from $x_t$ and the vector of the condition (both given) to the answer; a multiplication and an addition are two operations.
#
# 1. $r$ rows, each mapped from $n$ numbers to $m$: $2rnm$ operations. The addition of a bias, norms and activations are not counted.
# 2. A block has maps Q, K, V, O, up (to $4\,$dim) and down, on every token. Its attention multiplies matrices twice more. Of which sizes?
# 3. Its modulation makes six vectors, of time and label alone. How often for a picture?
# 4. At the ends: patches to tokens, two vectors of modulation, tokens to patches.
#
# In code: `size` is (H, W), of a picture or a latent; a head's width does not matter. Why?


# %% answer="11-gflops"
def dit_work(size, patch: int, channels: int, dim: int, depth: int) -> tuple[int, int]:
    """(tokens, operations) of one forward pass of DiT with adaLN-Zero, for one picture.

    size: (H, W), divisible by patch. channels: of x_t and of the answer. Returns two whole numbers.
    """
    ### BEGIN SOLUTION
    tokens = (size[0] // patch) * (size[1] // patch)
    ends = 2 * tokens * patch**2 * channels * dim + 2 * dim**2
    maps = 12 * tokens * dim**2 + 6 * dim**2  # per token 4 + 4 + 4, per picture 6
    attention = 2 * tokens**2 * dim  # Q·Kᵀ, and the shares times V
    return tokens, 2 * (ends + depth * (maps + attention))
    ### END SOLUTION


# %% [markdown]
# **Use it.** Your count against PyTorch's own counter, on the widths and depths of this chapter's S, M and L; then on the paper's network.

# %%
costs = {}
for name, (dim, depth) in systems.SIZES.items():
    for patch in systems.PATCHES:
        sized = DiT(patch=patch, dim=dim, depth=depth)
        counted = systems.gflops(partial(sized, noisy[:1], moment[:1])) - systems.gflops(
            partial(sized.time, moment[:1])
        )
        n, work = checked_dit_work((16, 16), patch, 3, dim, depth)
        costs[f"{name.upper()}/{patch}"] = [n, work / 1e9, 4 * n**2 * dim * depth / work]
        assert round(1e9 * counted) == work
n, work = checked_dit_work((32, 32), 2, 4, 1152, 28)
costs["XL/2 at 256 px"] = [n, work / 1e9, 4 * n**2 * 1152 * 28 / work]
assert abs(work / 2e9 - 118.6) < 0.1  # the paper counts multiply-adds
show.table(costs, ["DiT", "tokens", "Gflops", "share of the squares"])

# %%
sides = [64 * 2**k for k in range(7)]
figure, axes = show.panels(1, 2, size=(3.6, 2.7))
for patch in (8, 4, 2):
    counts = [checked_dit_work((side // 8, side // 8), patch, 4, 1152, 28) for side in sides]
    axes[0].plot(sides, [work / 1e9 for _, work in counts], "o-", label=f"XL/{patch}")
    axes[1].plot(sides, [4 * n**2 * 1152 * 28 / work for n, work in counts], "o-", label=f"XL/{patch}")
axes[0].set(title="What a picture costs", ylabel="Gflops", yscale="log")
axes[1].set(title="The squares take over late", ylabel="share of N² terms", ylim=(0, 1))
for ax in axes:
    ax.set(xlabel="side of the picture, px", xscale="log")
    ax.legend(fontsize=8)

# %% [markdown]
# **Want more?** Between patches of 4 and of 2 the parameters hardly change, and the work does. Which of the two does the loss follow? (The lecture measured it.)

# %% [markdown]
# ## Exercise 11-places
#
# **Predict first.** 8×8 patches. You number them 0 … 63 in one line and tell each its number by sines and cosines, as words in a sentence are told. To which tokens does
# token 27 look alike? And if row and column are told apart?
#
# **Derivation.** arXiv 2212.09748, section 3.2: "the standard frequency-based positional embeddings (the sine-cosine version)", in two dimensions.
#
# 1. A number $a$ becomes $\sin(a\omega_k)$ for all $k$, followed by $\cos(a\omega_k)$ for all $k$.
# 2. An axis gets half of the numbers, dim/2. How many frequencies are that? They are $\omega_k=10000^{-k/n}$ for $k=0,\dots,n-1$.
# 3. As in the paper's code the column comes first, then the row.
#
# In code: row n of the result belongs to token n; tokens are numbered row by row, from the top left.


# %% answer="11-places"
def places(height: int, width: int, dim: int) -> Tensor:
    """Sines and cosines of column and row: what is added to each of height·width tokens.

    dim: a multiple of 4. Returns (height·width, dim) float32.
    """
    ### BEGIN SOLUTION
    rate = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (column, row)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], 1)
    ### END SOLUTION


# %% [markdown]
# **Use it.** How alike is token 27 (row 3, column 3) to every other: the dot product of what they are told, as a share of its largest.

# %%
line = checked_places(1, 64, 128)[:, :64]  # one row of 64: its column alone
told = {"row and column": checked_places(8, 8, 64), "one line of 64": line}
alike = {name: (rows @ rows[27] / (rows[27] @ rows[27])).reshape(8, 8) for name, rows in told.items()}
figure, axes = show.panels(1, 2, size=(3.2, 2.9))
for ax, (name, values) in zip(axes, alike.items()):
    shown = ax.imshow(values, cmap="magma", vmin=0.4, vmax=1)
    ax.plot(3, 3, "w+", markersize=10)
    ax.set(title=name, xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, shrink=0.8, label="as alike to + as …")
near = {name: [float(values[3, 4]), float(values[4, 3]), float(values[7, 3])] for name, values in alike.items()}
assert abs(near["row and column"][0] - near["row and column"][1]) < 1e-5  # beside and below are equally near
assert near["one line of 64"][0] > near["one line of 64"][1] + 0.1
show.table(near, ["told", "the one beside it", "the one below", "four below"], digits=2)

# %% [markdown]
# **Want more?** In the chapter's networks the places are learned. Do those of a trained one, `systems.M4.load().net.backbone.place`, look like yours?

# %% [markdown]
# ## Exercise 11-network
#
# **Predict first.** You load trained weights into your network and shut all gates. What does it draw? And what does a *new* one answer, and which of its weights have a gradient
# in the first step?
#
# **Build** a DiT with adaLN-Zero (arXiv 2212.09748, figure 3), from patches to patches. `linear(name, fan_in, fan_out, zero=False)` makes a map with
# a bias, a function of (…, fan_in); where `zero`, a new one has zeros. Make all maps first, each once; then return `net`.
#
# 1. *Maps.* "stem" (a patch to dim); for each block i "blocks.i.q", ".k", ".v", ".out" (dim to dim), ".up", ".down" (4·dim between them), ".modulation"
#    (dim to 6·dim); "last" (dim to 2·dim), "head" (dim to a patch). Which of them begin at zero, so that every block is the identity and the answer 0?
# 2. *Patches* row by row, and in each the pixels row by row, the channels of a pixel side by side: p·p·C numbers. Tokens are stem plus `place`.
# 3. *Block.* Of SiLU(cond), "modulation" makes scale, shift, gate for the attention, then the same for the MLP. Twice
#    $x\mathrel{+}=\mathrm{gate}\cdot\mathrm{branch}(\mathrm{norm}(x)\cdot(1+\mathrm{scale})+\mathrm{shift})$; `F.layer_norm` without weights; head h has the h-th part of Q, K, V, O
#    comes last; `F.gelu(…, approximate="tanh")` between up and down.
# 4. *End.* "last" makes scale and shift of SiLU(cond) for one more norm; "head"; patches back in their places.


# %% answer="11-network"
import torch.nn.functional as F


def dit(linear, place: Tensor, channels: int, patch: int, depth: int, heads: int):
    """A diffusion transformer with adaLN-Zero: net(x_t, cond) → (B, channels, H, W), same dtype.

    linear(name, fan_in, fan_out, zero=False) → a map (…, fan_in) → (…, fan_out). place: (N, dim), float32 or float64,
    added to the tokens; heads divides dim. x_t: (B, channels, H, W) with H/patch · W/patch = N; cond: (B, dim), the sum
    of the embeddings of time and label. Gradients reach everything.
    """
    ### BEGIN SOLUTION
    dim, inside, blocks = place.shape[1], patch * patch * channels, []
    stem = linear("stem", inside, dim)
    for i in range(depth):
        made = {name: linear(f"blocks.{i}.{name}", dim, dim) for name in ("q", "k", "v", "out")}
        made["up"] = linear(f"blocks.{i}.up", dim, 4 * dim)
        made["down"] = linear(f"blocks.{i}.down", 4 * dim, dim)
        made["modulation"] = linear(f"blocks.{i}.modulation", dim, 6 * dim, zero=True)
        blocks.append(made)
    last, head = linear("last", dim, 2 * dim, zero=True), linear("head", dim, inside, zero=True)

    def modulated(x, scale, shift):
        return F.layer_norm(x, (dim,)) * (1 + scale) + shift

    def attention(m, x):
        q, k, v = (m[name](x).unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv")
        shares = (q @ k.mT / (dim // heads) ** 0.5).softmax(-1)
        return m["out"]((shares @ v).transpose(1, 2).flatten(2))

    def net(x_t, cond):
        b, _, height, width = x_t.shape
        tiles = x_t.reshape(b, channels, height // patch, patch, width // patch, patch)
        x = stem(tiles.permute(0, 2, 4, 3, 5, 1).reshape(b, len(place), inside)) + place
        cond = F.silu(cond)[:, None]  # (B, 1, dim): the same for all tokens
        for m in blocks:
            scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = m["modulation"](cond).chunk(6, -1)
            x = x + gate_1 * attention(m, modulated(x, scale_1, shift_1))
            hidden = F.gelu(m["up"](modulated(x, scale_2, shift_2)), approximate="tanh")
            x = x + gate_2 * m["down"](hidden)
        x = head(modulated(x, *last(cond).chunk(2, -1)))
        tiles = x.reshape(b, height // patch, width // patch, patch, patch, channels)
        return tiles.permute(0, 5, 1, 3, 2, 4).reshape(x_t.shape)

    return net
    ### END SOLUTION


# %% [markdown]
# **Use it.** Your network with weights that were trained before, those of chapter 03's prior of scenes: width 128, four blocks, 16 tokens. It has no label, so that `cond`
# is the time alone, and it tells $\hat x_0$. `trained` finds each map by the name you ask for.

# %%
prior = scenes_unconditional.MODEL.load().net.requires_grad_(False)
weights = prior.state_dict()


def trained(name: str, fan_in: int, fan_out: int, zero: bool = False, open: bool = True):
    """The map of this name; the library keeps a block's modulation in two halves, one for each norm. open: the gates."""
    *block, last = name.split(".")
    parts = ["norm1.modulation", "norm2.modulation"] if last == "modulation" else [last]
    parts = [f"attention.{last}"] if last in ("q", "k", "v", "out") else parts
    weight, bias = (
        torch.cat([weights[".".join([*block, part, kind])] for part in parts]) for kind in ("weight", "bias")
    )
    if last == "modulation" and not open:
        weight, bias = weight.clone(), bias.clone()
        for values in (weight, bias):
            values.unflatten(0, (6, -1))[[2, 5]] = 0
    return lambda x: F.linear(x, weight, bias)


ready = (3, 4, 4, 4)  # channels, patch, blocks, heads
networks = {
    "yours": checked_dit(trained, weights["place"], *ready),
    "places reversed": checked_dit(trained, weights["place"].flip(0), *ready),
    "gates shut": checked_dit(partial(trained, open=False), weights["place"], *ready),
}


# %%
@torch.no_grad()
def drawn_by(net, n: int = 24, steps: int = 16, seed: int = 0) -> Tensor:
    """n pictures from noise, by DDIM; picture i has the seed seed + i."""
    x = randn((n, 3, 16, 16), seeded(range(seed, seed + n)))
    for t, s in pairwise(torch.linspace(1, 0, steps + 1)):
        x = s / t * x + (1 - s / t) * net(x, prior.time(t.expand(n)))
    return x


def scenes_in(x: Tensor) -> float:
    """The share that can be read and shows one object or two, as all pictures of that world."""
    seen = parse(x.clamp(-1, 1))
    objects = (seen.scenes.kind >= 0).sum(1)
    return float((seen.readable & (objects >= 1) & (objects <= 2)).float().mean())


sheets = {name: drawn_by(net) for name, net in networks.items()}
late = torch.tensor([0.4, 0.9])
assert torch.allclose(networks["yours"](noisy, prior.time(late)), prior(noisy, late), atol=1e-4)  # the library's
show.grid(torch.cat([x[:12] for x in sheets.values()]), 12, rows=list(sheets), title="Trained weights in your network")

# %%
scenes_drawn = {name: [scenes_in(x)] for name, x in sheets.items()}
assert scenes_drawn["yours"][0] > 0.7 > 0.3 > max(scenes_drawn[name][0] for name in ("places reversed", "gates shut"))
show.table(scenes_drawn, ["24 pictures", "share with one or two whole objects"], digits=2)

# %% [markdown]
# **Want more?** The chapter's network of garments has the same blocks (`systems.FASHION`, one channel, 28 px, width 96, six blocks), and a label: `cond` is the sum of
# both embeddings. Draw some with yours.

# %% [markdown]
# ## Exercise 11-excess
#
# **Predict first.** On 16 scenes at $t=0.95$ a network's loss comes out *below* the loss of the best denoiser there is. Has it found something better?
#
# **Derivation.** What a network guesses for $x_0$ depends on $x_t$ and the caption alone; $m=E[x_0\mid x_t,\text{caption}]$ is known for these scenes.
#
# 1. $|\hat x_0-x_0|^2=|\hat x_0-m|^2+|m-x_0|^2+2(\hat x_0-m)\cdot(m-x_0)$. What is the mean of the last term, over everything that $x_0$ may be, given $x_t$?
# 2. So $E|\hat x_0-m|^2$, the excess, is known in two ways: directly, and as loss minus floor, picture by picture.
# 3. The mean over $B$ pictures is off by its standard error: their spread (divided by $B-1$), over $\sqrt B$. The numbers of *one* picture are no $B$ observations.
#
# In code: a picture's squared error is the mean over its numbers. `guess` is $\hat x_0$, `mean` is $m$.


# %% answer="11-excess"
def excess(guess: Tensor, x0: Tensor, mean: Tensor) -> tuple[float, float, float, float]:
    """(loss − floor, its standard error; the excess directly, its standard error), over B pictures.

    guess, x0, mean: (B, …) with B ≥ 2, float32 or float64. Returns four numbers.
    """
    ### BEGIN SOLUTION
    far = lambda a, b: (a - b).square().flatten(1).mean(1)  # (B,)
    by_subtraction = far(guess, x0) - far(mean, x0)  # each picture's own difference
    told = lambda values: (float(values.mean()), float(values.std() / len(values) ** 0.5))
    return *told(by_subtraction), *told(far(guess, mean))
    ### END SOLUTION


# %% [markdown]
# **Use it.** Two shipped networks of this chapter, S/4 and M/4, on 96 held-out captioned scenes at six times.

# %%
asked = systems.exam(96)
spoken = scenes_text.tokenizer(systems.LENGTH).encode(captions(asked.prompts))


@torch.no_grad()
def judged_at(model, rows: slice = slice(None)) -> dict[float, tuple]:
    """Your four numbers at each time."""
    found = {}
    for t, x_t, mean in zip(systems.TIMES, asked.x_t, asked.mean):
        guess = model(x_t[rows], torch.tensor(t), tokens=spoken[rows])
        found[t] = checked_excess(guess, asked.x0[rows], mean[rows])
    return found


models = {"S/4": systems.S4.load(), "M/4": systems.M4.load()}
known = {name: judged_at(model) for name, model in models.items()}
floor = dict(zip(systems.TIMES, asked.left.mean(1).tolist()))
figure, axes = show.panels(1, 2, size=(3.6, 2.8))
for name, found in known.items():
    for k, (way, style) in enumerate((("loss − floor", "s:"), ("directly", "o-"))):
        values, errors = zip(*[four[2 * k : 2 * k + 2] for four in found.values()])
        axes[k].errorbar(systems.TIMES, values, errors, fmt=style, capsize=3, label=name)
        axes[k].set(title=f"The excess, {way}", xlabel="time t", ylabel="squared error")
axes[1].set_ylim(axes[0].get_ylim())
for ax in axes:
    ax.axhline(0, color="grey", lw=0.8)
    ax.legend(fontsize=8)

# %%
normal = {}
for t in systems.TIMES:
    a, a_error, b, b_error = known["M/4"][t]
    assert abs(a - b) < 4 * (a_error + b_error)  # both ways say the same, within what they know
    normal[f"t = {t:g}"] = [floor[t], f"{a:.4f} ± {a_error:.4f}", f"{b:.4f} ± {b_error:.4f}", b / (floor[t] + b)]
assert all(known["M/4"][t][2] < known["S/4"][t][2] for t in systems.TIMES)
show.table(normal, ["M/4", "floor", "loss − floor", "excess, directly", "excess in the loss"], digits=4)

# %% [markdown]
# **Want more?** At small t the floor is 0, and both ways agree to the last digit. Why is the first so poor near t = 1?

# %% [markdown]
# ## Exercise 11-which-zeros
#
# **Predict first.** Four ways to begin the same network: zeros as in your build; gates at 1 and the rest as in your build; zeros in "head" alone; no zeros at all. After 25
# steps, which is ahead? After 200, is it still?
#
# **The question.** The paper found adaLN-Zero better than adaLN, both at 400,000 steps. What is it that helps: that the *answer* begins at 0, that a new *block* is the identity, or that
# the condition begins *silent*? `measure` trains small networks of yours and says how far they are from the best denoiser of this world, which is known:
# a label has nine pictures, one for each place.
#
# **A good answer** (about ten lines) has all four ways at two learning rates or more, with mean and spread over at least 5 seeds, early and at the end; a control (the excess of a network
# that answers 0); compares differences of the *same* seed, not only two means; says what the zeros buy and what they do not; and ends with one sentence that could
# be wrong.

# %%
LOOKS = list(product(SHAPES[:3], COLOURS[:4]))
SPOTS = list(product((4, 8, 12), repeat=2))
pictures = render(assemble([[(kind, colour, "medium", *spot)] for kind, colour in LOOKS for spot in SPOTS]))
labels = torch.arange(len(LOOKS)).repeat_interleave(len(SPOTS))


def best(x_t: Tensor, t: float, y: Tensor) -> Tensor:
    """E[x0 | x_t, y]: the nine pictures of a label, weighted by how likely each is."""
    own = pictures.unflatten(0, (-1, len(SPOTS)))[y]
    far = (x_t[:, None] - (1 - t) * own).square().flatten(2).sum(2)
    return torch.einsum("bk,bkchw->bchw", (-far / (2 * t**2)).softmax(1), own)


class Small(nn.Module):
    """Your network with embeddings of time and label. begin: "asked", "gates 1", "head" or "nowhere"."""

    def __init__(self, begin: str, dim: int = 64, depth: int = 3):
        super().__init__()
        self.begin, self.maps = begin, nn.ModuleDict()
        self.time, self.label = TimeEmbedding(dim), nn.Embedding(len(LOOKS), dim)
        self.net = checked_dit(self.linear, checked_places(4, 4, dim), 3, 4, depth, 4)

    def linear(self, name: str, fan_in: int, fan_out: int, zero: bool = False) -> nn.Linear:
        layer = self.maps[name.replace(".", "_")] = nn.Linear(fan_in, fan_out)
        if zero and (self.begin in ("asked", "gates 1") or (self.begin, name) == ("head", "head")):
            layer.requires_grad_(False).weight.zero_()
            layer.bias.zero_()
            if self.begin == "gates 1" and "modulation" in name:
                layer.bias.unflatten(0, (6, -1))[[2, 5]] = 1
        return layer.requires_grad_()

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.net(x_t, self.time(t) + self.label(y))


# %%
@torch.no_grad()
def off(model, moments=(0.3, 0.5, 0.7, 0.9)) -> float:
    """The excess over all 108 pictures, mean over times; the model tells the velocity. None: it answers 0."""
    found = []
    for t in moments:
        x_t = (1 - t) * pictures + t * randn(pictures.shape, seeded(9))
        v = 0 * x_t if model is None else model(x_t, torch.full((len(labels),), t), labels)
        found.append(checked_excess(x_t - t * v, pictures, best(x_t, t, labels))[2])
    return sum(found) / len(found)


def run(
    begin: str, seed: int, rate: float = 8e-3, steps: int = 200, looks=(25, 100, 200), batch: int = 32
) -> list[float]:
    """The excess after each of `looks` steps of Adam; the rate falls to 0 over the second half."""
    model, g, found = initialised(lambda: Small(begin), 1000 + seed), seeded(seed), []
    optimizer = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.99))
    for step in range(1, max(looks) + 1):
        optimizer.param_groups[0]["lr"] = rate * min(1, 2 * (1 - (step - 1) / steps))
        rows = torch.randint(len(pictures), (batch,), generator=g)
        t, eps = torch.sigmoid(0.3 + randn((batch,), g)), randn((batch, 3, 16, 16), g)
        x_t = torch.lerp(pictures[rows], eps, t[:, None, None, None])
        loss = (model(x_t, t, labels[rows]) - (eps - pictures[rows])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found += [off(model)] if step in looks else []
    return found


def measure(begin: str, seeds=range(5), **options) -> list[str]:
    """`run`, mean ± spread over seeds."""
    found = torch.tensor([run(begin, seed, **options) for seed in seeds])
    return [f"{m:.4f} ± {s:.4f}" for m, s in zip(found.mean(0).tolist(), found.std(0).tolist())]


# %%
tried = {begin: measure(begin, range(2), looks=(10, 25)) for begin in ("asked", "nowhere")}
tried["an answer of 0 (control)"] = [f"{off(None):.4f}", ""]
show.table(tried, ["zeros, 2 seeds", "excess after 10 steps", "after 25"])

# %% [markdown] answer="11-which-zeros"
# Excess over the best denoiser, mean over four times; mean ± spread over 4 or 5 seeds, Adam, 200 steps of 32 pictures. The last column is the difference to "as asked" *with the same
# seed*, which begins with the same random maps and sees the same batches.
#
# | zeros | rate | 25 steps | 100 | 200 | more than as asked |
# |---|---|---|---|---|---|
# | as asked | 0.002 | 0.4281 ± 0.0044 | 0.0842 ± 0.0053 | 0.0425 ± 0.0018 |  |
# | gates 1 | 0.002 | 0.4387 ± 0.0005 | 0.3192 ± 0.0426 | 0.0703 ± 0.0049 | +0.0278 ± 0.0035 |
# | head alone | 0.002 | 0.4310 ± 0.0027 | 0.0925 ± 0.0053 | 0.0440 ± 0.0027 | +0.0013 ± 0.0028 |
# | nowhere | 0.002 | 0.4125 ± 0.0058 | 0.1151 ± 0.0129 | 0.0557 ± 0.0056 | +0.0129 ± 0.0062 |
# | as asked | 0.008 | 0.1971 ± 0.0090 | 0.0399 ± 0.0015 | 0.0273 ± 0.0004 |  |
# | gates 1 | 0.008 | 0.4360 ± 0.0067 | 0.1566 ± 0.0728 | 0.0418 ± 0.0076 | +0.0146 ± 0.0074 |
# | head alone | 0.008 | 0.2629 ± 0.0243 | 0.0438 ± 0.0028 | 0.0285 ± 0.0012 | +0.0012 ± 0.0011 |
# | nowhere | 0.008 | 0.2823 ± 0.0386 | 0.0433 ± 0.0016 | 0.0284 ± 0.0010 | +0.0012 ± 0.0011 |
#
# Control: a network that answers 0 has 0.6970.
#
# What helps most is that gates begin *small*, not that they begin at nothing. With gates of 1 a new network is three blocks of random maps at full strength; at both rates it is by far
# the last, at 100 steps three to four times as far off as the zeros that were asked for. The ordinary start has small gates, too, since a new map makes small numbers: so "nowhere" is nothing like "gates 1", though
# both have blocks that are no identity. What makes gates of 1 slow is not that the condition is silent there: it is so in "as asked" as well.
#
# The rest is less. A head of zeros takes away what a random answer costs, and with it alone nearly all is gained: at 200 steps the gates' own zeros bring 0.001 of 0.028 at the larger
# rate, and at the smaller one nothing that the spread does not cover. "Nowhere" is behind at both, by 0.013 at the small rate and by 0.002 at the large one. At 25 steps of the small rate it is
# *ahead*, perhaps since its gates are open and those of "as asked" must open first; at the large rate it is behind even then.
#
# The rate matters more than all zeros but the gates of 1: four times the rate takes a third to a half off every row. Who compares starts at one rate compares the rate.
#
# Not tried: more than three blocks, where random branches add up, and many more steps. The paper's networks are nine times as deep.
#
# Could be wrong: that all of this is a matter of the first hundred steps. I would expect that at 2,000 steps the three starts with small gates cannot be told apart
# here, and that with 28 blocks they can.
