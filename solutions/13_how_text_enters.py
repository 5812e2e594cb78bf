# %% [markdown]
# # Exercises 13: how text enters
#
# Four short exercises, one thing to build and one open experiment: about two and a half hours. Where words and patches stand in one sequence, a block with two sets of weights and one softmax, attention beside the MLP, what two sets of weights cost, and
# what a joint attention map says in both directions. The [notebook](../notebooks/13_how_text_enters.ipynb) takes them from the library, the [lecture](../lectures/13_how_text_enters.md) derives them. Predict, write, check.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import show
from minidiff.course import check, hint
from minidiff.data.scenes import COLOURS, SHAPES, assemble, render
from minidiff.nn.block import Block, attention_maps, gelu_tanh, joint
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.nn.init import zeroed
from minidiff.nn.rope import Rotary
from minidiff.optim import Muon, muon_groups
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify, unpatchify
from minidiff.systems.dit import gflops

# %% [markdown]
# ## Exercise 13-placed
#
# **Predict first.** A block with rotary positions reads five words and 16 patches. You exchange the vectors of two words. By how much do the patches change, if all words stand at the origin, and if they stand on a diagonal?
#
# **Derivation.** RoPE turns queries and keys by positions on three axes: a free one, row, column. Both ways put text first, then the picture row by row.
#
# 1. *Flux 1.* The patch of row i and column j is at (0, i, j). All words are at the origin: which of them is first, the text encoder has to say.
# 2. *Qwen-Image* (MSRoPE, arXiv 2508.02324, section 2.3). A side of n patches goes from −⌈n/2⌉ to ⌊n/2⌋ − 1, so that the middle of the picture is near 0 at every size. The first axis is 0.
# 3. There, words go on where the picture ends: word k has the same number on all three axes, ⌊n/2⌋ of the longer side plus k. Can a word stand where a patch stands?


# %% answer="13-placed"
def placed(text: int, rows: int, columns: int):
    """Positions of `text` ≥ 0 words, then of rows × columns patches: (Flux 1's, Qwen-Image's).

    Two tensors of shape (text + rows·columns, 3), float32; axes: free, row, column.
    """
    ### BEGIN SOLUTION
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))  # row by row
    picture = torch.cat([torch.zeros(len(grid), 1), grid], 1)
    middle = torch.tensor([0, rows - rows // 2, columns - columns // 2])  # ⌈n/2⌉
    diagonal = (max(rows, columns) // 2 + torch.arange(text))[:, None].expand(-1, 3)
    return torch.cat([torch.zeros(text, 3), picture]), torch.cat([diagonal, picture - middle])
    ### END SOLUTION


# %% [markdown]
# **Use it.** Both ways for five words and 4 × 4 patches, seen along rows and columns; and the exchange, in an untrained block.

# %%
torch.set_grad_enabled(False)
ways = dict(zip(("Flux 1", "Qwen-Image"), checked_placed(5, 4, 4)))
figure, axes = show.panels(1, 2, size=(3.2, 3.2))
for ax, (name, places) in zip(axes, ways.items()):
    ax.scatter(*places[5:, 1:].flip(1).T, marker="s", s=90, color="lightgray", label="patches")
    ax.scatter(*places[:5, 1:].flip(1).T, color="tab:blue", label="words")
    ax.set(title=name, xlabel="column", ylabel="row")
    ax.set(xlim=(-3, 7), ylim=(7, -3), aspect="equal")
axes[0].legend(loc="lower right")
assert len(ways["Qwen-Image"].unique(dim=0)) == 21
assert len(ways["Flux 1"].unique(dim=0)) == 16  # all words and the first patch stand in one place


# %%
def moved(places: Tensor, seed: int = 0) -> float:
    """How far patches move when words 1 and 4 are exchanged: root mean square, in units of their spread."""
    x = randn((2, 21, 24), seeded(seed))
    block = initialised(lambda: Block(24, 1, qk_norm=True), seed)
    other = x[:, [0, 4, 2, 3, 1, *range(5, 21)]]
    one, two = (block(tokens, rotate=Rotary(places, (8, 8, 8)))[:, 5:] for tokens in (x, other))
    return float((one - two).square().mean().sqrt() / one.std())


exchanged = {name: [moved(places)] for name, places in ways.items()}
assert exchanged["Flux 1"][0] < 1e-6 < 0.01 < exchanged["Qwen-Image"][0]
show.table(exchanged, ["two words exchanged", "patches move by"], digits=3)

# %% [markdown]
# **Want more?** Which way tells a picture of 8 × 8 patches from the upper left quarter of a larger one? Look at the positions of both.

# %% [markdown]
# ## Exercise 13-joint
#
# **Predict first.** Your block becomes a network of three that is trained for 150 steps. It is asked for scenes that it has never seen, then, from the same noise, for the caption of *another* scene: what does it draw? And in its last block: which maps of the *text* get no gradient?
#
# **Build** a double-stream block (MM-DiT, arXiv 2403.03206, figure 2). Each stream has maps of its own: `F.linear(x, *weights["text"]["q"])` is a map with its bias.
#
# 1. *Modulation.* Of SiLU(cond), each stream's "modulation" makes six vectors: scale, shift, gate for the attention, then scale, shift, gate for the MLP.
# 2. *Attention.* Each stream makes q, k, v of norm(x)·(1 + scale) + shift; the norm is `F.layer_norm` without weights, with eps = 1e-6. Head h has the h-th part of their numbers.
#    Then one softmax of q·k / √(width of a head) over the sequence [text; picture]. Nobody looks at a word that is not `told`. Which rows may look at which columns otherwise?
# 3. *Back.* Each stream takes its tokens, "out" maps them, times the gate, plus x.
# 4. *MLP.* The same way with the other three vectors: norm, "up", `F.gelu(…, approximate="tanh")`, "down", gate, plus x.


# %% answer="13-joint"
import torch.nn.functional as F


def double_block(text: Tensor, picture: Tensor, cond: Tensor, told: Tensor, weights, heads: int):
    """One block of MM-DiT. Returns (text, picture), shapes and dtype as given; gradients reach everything.

    text: (B, M, dim); picture: (B, N, dim); cond: (B, dim), the time; told: (B, M) bool, True for real words.
    weights: {"text": maps, "picture": maps}; maps: {name: (weight (out, in), bias (out,))} for "modulation" (dim to
    6·dim), "q", "k", "v", "out" (dim to dim), "up", "down" (through the hidden width). heads divides dim.
    What comes out in place of padding counts for nothing, but is finite.
    """
    ### BEGIN SOLUTION
    m, n, dim = text.shape[1], picture.shape[1], text.shape[2]
    streams, own = (text, picture), (weights["text"], weights["picture"])

    def modulated(x, scale, shift):
        return F.layer_norm(x, (dim,), eps=1e-6) * (1 + scale) + shift

    six = [F.linear(F.silu(cond), *w["modulation"])[:, None].chunk(6, -1) for w in own]
    parts = []
    for x, w, made in zip(streams, own, six):
        h = modulated(x, *made[:2])
        parts.append([F.linear(h, *w[name]).unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv"])
    q, k, v = (torch.cat(both, 2) for both in zip(*parts))  # (B, heads, M + N, dim / heads)
    seen = F.pad(told, (0, n), value=True)[:, None, None]  # every row looks at all columns but padding
    scores = (q @ k.mT / (dim // heads) ** 0.5).masked_fill(~seen, -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2).split([m, n], 1)
    found = []
    for x, y, w, made in zip(streams, mixed, own, six):
        x = x + made[2] * F.linear(y, *w["out"])
        h = F.gelu(F.linear(modulated(x, *made[3:5]), *w["up"]), approximate="tanh")
        found.append(x + made[5] * F.linear(h, *w["down"]))
    return found[0], found[1]
    ### END SOLUTION


# %% [markdown]
# **Use it.** A world of 156 scenes: two things side by side, or one alone. "red circle left blue square" and "blue square right red circle" mean the same picture; a thing alone has two words, and padding. Some of all are held out: whatever they show was seen, but not so together.

# %%
WORDS = ["", *COLOURS[:4], *SHAPES[:3], "left", "right"]
LOOKS = list(product(SHAPES[:3], COLOURS[:4]))
named = [[WORDS.index(colour), WORDS.index(kind)] for kind, colour in LOOKS]
PAIRS = list(product(range(12), range(12)))
left_of, right_of = ([WORDS.index(word)] for word in ("left", "right"))
ways_to_say = [(named[a] + left_of + named[b], named[b] + right_of + named[a]) for a, b in PAIRS]
ways_to_say += [(named[a] + [0, 0, 0],) * 2 for a in range(12)]
sentences = torch.tensor(ways_to_say)  # (156, 2, 5)
scenes = [[(*LOOKS[a], "medium", 8, 4), (*LOOKS[b], "medium", 8, 11)] for a, b in PAIRS]
pictures = render(assemble(scenes + [[(*look, "medium", 8, 8)] for look in LOOKS]))
unseen = torch.tensor([(3 * a + b) % 8 == 1 for a, b in PAIRS] + [a % 6 == 1 for a in range(12)])


# %%
def maps(dim: int = 64, hidden: int = 128) -> nn.ModuleDict:
    """One set of weights. Modulations begin at zero."""
    shapes = dict.fromkeys(("q", "k", "v", "out"), (dim, dim)) | {"up": (dim, hidden), "down": (hidden, dim)}
    made = {name: nn.Linear(*shape) for name, shape in shapes.items()}
    return nn.ModuleDict(made | {"modulation": zeroed(nn.Linear(dim, 6 * dim))})


def streams(double: int, sets: int = 6) -> nn.ModuleList:
    """`double` blocks with a set of weights for each stream, then blocks with one for both; `sets` in all."""
    own = [(maps(), maps()) for _ in range(double)] + [(maps(),) * 2 for _ in range(sets - 2 * double)]
    return nn.ModuleList(nn.ModuleDict({"text": text, "picture": picture}) for text, picture in own)


# %%
class Listener(nn.Module):
    """x_t (B, 3, 16, 16), t (B,), tokens (B, 5) → x̂_0: 16 patches and 5 words through `streams(double)`."""

    def __init__(self, double: int = 3, dim: int = 64):
        super().__init__()
        self.blocks, self.time = streams(double), TimeEmbedding(dim)
        self.words, self.order = nn.Embedding(len(WORDS), dim), nn.Parameter(torch.randn(5, dim))
        self.stem, self.place = nn.Linear(48, dim), nn.Parameter(0.3 * torch.randn(16, dim))
        self.last, self.head = zeroed(nn.Linear(dim, 2 * dim)), zeroed(nn.Linear(dim, 48))

    def begin(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """text, picture, cond, told: what the first block is given."""
        return self.words(tokens) + self.order, self.stem(patchify(x_t, (4, 4))) + self.place, self.time(t), tokens > 0

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        text, picture, cond, told = self.begin(x_t, t, tokens)
        for block in self.blocks:
            weights = {side: {k: (m.weight, m.bias) for k, m in own.items()} for side, own in block.items()}
            text, picture = checked_double_block(text, picture, cond, told, weights, 4)
        scale, shift = self.last(F.silu(cond))[:, None].chunk(2, -1)
        return unpatchify(self.head(F.layer_norm(picture, (64,)) * (1 + scale) + shift), (4, 4), (16, 16))


# %%
def loss_of(model: Listener, g: torch.Generator, batch: int = 24) -> Tensor:
    """x0-prediction, weighed as a velocity; either of two sentences."""
    rows = torch.nonzero(~unseen)[torch.randint(int((~unseen).sum()), (batch,), generator=g), 0]
    tokens = sentences[rows, torch.randint(2, (batch,), generator=g)]
    t, eps = torch.sigmoid(1 + randn((batch,), g)), randn((batch, 3, 16, 16), g)
    x_t = torch.lerp(pictures[rows], eps, t[:, None, None, None])
    off = (model(x_t, t, tokens) - pictures[rows]).square().mean((1, 2, 3))
    return (off / t.clamp(min=0.1) ** 2).mean()


# %%
def train(double: int = 3, seed: int = 0, steps: int = 150) -> Listener:
    """Muon; its rates rise for 10 steps and fall to 0 over the second half."""
    model, g = initialised(lambda: Listener(double), seed), seeded(seed)
    optimizer = Muon(muon_groups(model, 0.02, 0.01))
    rates = [group["lr"] for group in optimizer.param_groups]
    with torch.enable_grad():  # the rest of this page only looks
        for step in range(steps):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * min(1, (step + 1) / 10, 2 * (1 - step / steps))
            optimizer.zero_grad()
            loss_of(model, g).backward()
            optimizer.step()
    return model


# %%
def drawn(model: Listener, tokens: Tensor, steps: int = 10, seed: int = 0) -> Tensor:
    """One picture a caption from noise, by DDIM."""
    x = randn((len(tokens), 3, 16, 16), seeded(seed))
    for t, s in pairwise(torch.linspace(1, 0, steps + 1)):
        x = s / t * x + (1 - s / t) * model(x, t.expand(len(x)), tokens)
    return x


def nearest(x: Tensor) -> Tensor:
    """Which of the 156 scenes each picture is nearest to."""
    return torch.cdist(x.flatten(1), pictures.flatten(1)).argmin(1)


# %%
listener = train()
asked = torch.nonzero(unseen)[:, 0]
text_maps = dict(listener.blocks[-1]["text"].named_parameters())
with torch.enable_grad():
    pulls = torch.autograd.grad(loss_of(listener, seeded(1)), [*text_maps.values()], materialize_grads=True)
idle = {name.split(".")[0] for name, pull in zip(text_maps, pulls) if not pull.any()}
assert idle == {"q", "out", "up", "down"}  # of the text, in the last block

# %%
own, other = drawn(listener, sentences[asked, 0]), drawn(listener, sentences[asked.roll(1), 0])
share = lambda x, rows: float((nearest(x) == rows).double().mean())
listened = {"its own caption": [share(own, asked)], "the caption before it": [share(other, asked)]}
assert listened["its own caption"][0] > 0.7 > 0.2 > listened["the caption before it"][0]
assert share(other, asked.roll(1)) > 0.7  # it draws what that caption says
rows = ["asked", "drawn", "another's"]
show.grid(torch.cat([pictures[asked[:10]], own[:10], other[:10]]), 10, rows=rows, title="Scenes never seen, from noise")

# %%
show.table(listened, ["unseen scenes, 150 steps; drawn from", "nearest to the scene asked for"], digits=2)

# %% [markdown]
# **Want more?** In the last block the text's "q", "out", "up" and "down" do nothing, since nobody reads its words any more. Stable Diffusion 3 leaves out the last three. How many of your network's parameters are that?

# %% [markdown]
# ## Exercise 13-parallel
#
# **Predict first.** A parallel block and an ordinary one with the same weights answer differently. You make the gates ten times smaller, so that each changes x ten times less. How many times smaller is the difference between the two?
#
# **Derivation.** The single block of Flux (arXiv 2302.05442, section 2, for the form).
#
# 1. In turn: $y = x + g\,A(x)$, then $y + g\,M(y)$. Side by side: $x + g\,A(x) + g\,M(x)$. What is left of the difference, to first order in g?
# 2. Both read the same h = norm(x)·(1 + scale) + shift, with `F.layer_norm` without weights, eps = 1e-6. So one map makes q, k, v and the MLP's hidden numbers, in this order; how many hidden ones there are, its width tells.
# 3. Queries and keys of each head are divided by their root mean square, `F.rms_norm(q, (d,), eps=1e-6)`, and turned by `rotate`; values are not. Then attention.
# 4. Hidden numbers: GELU (tanh), or, where `gated`, SwiGLU: first half · SiLU(second half). One map takes [attention's, hidden] back. One gate.


# %% answer="13-parallel"
import torch.nn.functional as F


def parallel(x: Tensor, cond: Tensor, into, out, rotate, heads: int, gated: bool) -> Tensor:
    """A block with attention beside the MLP: (B, L, dim) → (B, L, dim), same dtype.

    cond: (B, 3·dim): scale, shift, gate. into: a function (B, L, dim) → (B, L, 3·dim + hidden), or 3·dim + 2·hidden
    where gated; out: (B, L, dim + hidden) → (B, L, dim). rotate: (B, heads, L, d) → the same, d = dim / heads.
    """
    ### BEGIN SOLUTION
    dim = x.shape[2]
    scale, shift, gate = cond[:, None].chunk(3, -1)
    made = into(F.layer_norm(x, (dim,), eps=1e-6) * (1 + scale) + shift)
    *qkv, inside = made.split([dim, dim, dim, made.shape[2] - 3 * dim], -1)
    q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in qkv)  # (B, heads, L, d)
    q, k = (rotate(F.rms_norm(y, (dim // heads,), eps=1e-6)) for y in (q, k))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    if gated:
        value, turned_on = inside.chunk(2, -1)
        inside = value * F.silu(turned_on)
    else:
        inside = F.gelu(inside, approximate="tanh")
    return x + gate * out(torch.cat([mixed, inside], -1))
    ### END SOLUTION


# %% [markdown]
# **Use it.** The same weights side by side and in turn: in turn is your block twice, the first time with the MLP's numbers set to zero, the second time with the attention's.


# %%
def apart(gate: float, seed: int = 0, dim: int = 32, hidden: int = 64) -> tuple[float, float]:
    """(how much the parallel block changes x, how far the block in turn is from it), root mean squares."""
    g, shapes = seeded(seed), ((dim, 3 * dim + 2 * hidden), (dim + hidden, dim))
    first, second = (randn(shape, g).double() / shape[0] ** 0.5 for shape in shapes)
    x, attention = randn((4, 20, dim), g).double(), torch.arange(dim + hidden) < dim
    cond = torch.tensor([0.0, 0.0, gate]).repeat_interleave(dim).expand(4, -1).double()
    into, still = lambda h: h @ first, lambda q: q
    run = lambda x, kept: checked_parallel(x, cond, into, lambda y: y * kept @ second, still, 4, True)
    beside, in_turn = run(x, attention | True), run(run(x, attention), ~attention)
    return tuple(float((a - b).square().mean().sqrt()) for a, b in ((beside, x), (in_turn, beside)))


# %%
gates = [1.0, 0.3, 0.1, 0.03, 0.01]
changes = torch.tensor([apart(gate) for gate in gates])
steeper = (changes[2] / changes[4]).log() / torch.tensor(10.0).log()  # from gate 0.1 to 0.01: powers of ten
figure, (ax,) = show.panels(1, 1, size=(4.6, 3))
for values, name in zip(changes.T, ("a block changes x by", "in turn and side by side differ by")):
    ax.loglog(gates, values, marker="o", label=name)
ax.set(xlabel="gate", ylabel="root mean square", title=f"Slopes {steeper[0]:.2f} and {steeper[1]:.2f}")
ax.legend()
assert 0.99 < steeper[0] < 1.01 < 1.95 < steeper[1] < 2.05

# %% [markdown]
# **Want more?** How many maps does a token go through in turn, how many side by side? Time both at dim 64 and at dim 1,024.

# %% [markdown]
# ## Exercise 13-counted
#
# **Predict first.** You have weights for six sets. Three blocks in which text and picture have a set each, or six blocks with one set for both: which does more work for a picture, and how many times more?
#
# **Derivation.** M words, N patches; the block of 13-joint. Every map has a bias. Count multiplications of matrix products, without biases, norms and gates.
#
# 1. A map of a to b numbers: how many parameters, and how many multiplications for n tokens?
# 2. Four maps of dim to dim, two of the MLP (dim to hidden and back), the modulation: dim to 6·dim, made once for a picture. Which of them does a word go through, which a patch?
# 3. Scores, and what is mixed by them: whom does a token look at? Does it matter whose weights made q and k?
# 4. `shared`: one set of weights, for all M + N tokens, and one modulation. Else there are two of each.


# %% answer="13-counted"
def counted(text: int, picture: int, dim: int, hidden: int, shared: bool) -> tuple[int, int]:
    """(parameters, multiplications) of one block, of which `shared` says whether it has one set of weights, or two."""
    ### BEGIN SOLUTION
    sets, tokens = 1 if shared else 2, text + picture
    attention, mlp, modulation = 4 * dim**2, 2 * dim * hidden, 6 * dim**2
    biases = 4 * dim + hidden + dim + 6 * dim
    # Each token goes through one set of maps, whichever: work grows with tokens, not with sets.
    work = tokens * (attention + mlp) + 2 * tokens**2 * dim + sets * modulation
    return sets * (attention + mlp + modulation + biases), work
    ### END SOLUTION


# %% [markdown]
# **Use it.** First against PyTorch's own counter, with two blocks of the library. Then at equal parameters: six sets of weights of the network above, as 0 to 3 double blocks with shared ones behind.

# %%
blocks = [Block(64, 4, cond_dim=64, hidden=128) for _ in range(2)]
tokens = [torch.zeros(1, n, 64) for n in (5, 16)]
real = sum(p.numel() for block in blocks for p in block.parameters())
operations = 1e9 * gflops(lambda: joint(blocks, tokens, torch.zeros(1, 64)))  # a multiplication and an addition each
assert checked_counted(5, 16, 64, 128, False) == (real, round(operations / 2))

# %%
budget = {}
for double in range(4):
    row = []
    for size in ((5, 16, 64, 128), (512, 4096, 3072, 12288)):  # Flux 1: 512 words, 1024 pixels a side
        (some, much), (fewer, less) = (checked_counted(*size, shared) for shared in (False, True))
        single = 6 - 2 * double
        row += [double * some + single * fewer, (double * much + single * less) / 1e9]
    budget[f"{double} double, then {single} shared"] = row
own_sets, one_set = budget["3 double, then 0 shared"], budget["0 double, then 6 shared"]
assert own_sets[0::2] == one_set[0::2]  # parameters, to the last
assert 0.5 < own_sets[3] / one_set[3] < own_sets[1] / one_set[1] < 0.55
columns = ["six sets of weights", "parameters", "10⁹ products", "parameters, Flux 1's sizes", "10⁹ products"]
show.table(budget, columns, digits=4)

# %% [markdown]
# **Want more?** At equal *work*: what do two sets cost then, and what is gained? Say it in parameters, in memory, and in rounds in which words and patches meet.

# %% [markdown]
# ## Exercise 13-both-ways
#
# **Predict first.** The network of 13-joint reads "red circle left blue square". Patches in the left half: which words do they read in the first block, and in the last? (From which word does one know that red is on the left?)
#
# **Derivation.** A joint map has a row for every token that looks and a column for every token that is looked at, text first; each row adds up to 1.
#
# 1. Take the mean over heads *first*. Which corner has patches that look at words, which has words that look at patches?
# 2. First answer: of what a patch reads *of words*, each word's part. It adds up to 1 over words; where no words are read at all, it is 0 everywhere.
# 3. Second answer: how much of its attention a patch gives to words, all together.
# 4. Third answer: how much of its attention a word gives to the picture. Padding is looked at by nobody, but it has rows: there the answer is 0.


# %% answer="13-both-ways"
def both_ways(shares: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What patches read of words, and words of patches.

    shares: (B, heads, M + N, M + N), a joint attention map, text first; columns of padding are 0. told: (B, M) bool,
    True for real words. Returns (B, N, M), (B, N) and (B, M), in the dtype of shares.
    """
    ### BEGIN SOLUTION
    m, mean = told.shape[1], shares.mean(1)
    read = mean[:, m:, :m]  # rows look, columns are looked at
    heard = read.sum(2)
    part = read / heard.clamp(min=1e-30)[..., None]  # 0 over almost nothing is 0
    return part, heard, mean[:, :m, m:].sum(2) * told
    ### END SOLUTION


# %% [markdown]
# **Use it.** The listener's weights in blocks of the library, whose maps can be kept. Unseen pairs, said both ways; patches that show the left thing: whose words do they read?


# %%
def filled(own: nn.ModuleDict) -> Block:
    """A block of the library with one set of weights; it keeps the modulation in two halves, one for each norm."""
    block = Block(64, 4, cond_dim=64, hidden=128, activation=gelu_tanh, eps=1e-6)
    for kind in ("weight", "bias"):
        halves = getattr(own["modulation"], kind).chunk(2)
        for norm, half in zip((block.norm1, block.norm2), halves):
            getattr(norm.modulation, kind).copy_(half)
    for name in ("q", "k", "v", "out", "up", "down"):
        where = block if name in ("up", "down") else block.attention
        getattr(where, name).load_state_dict(own[name].state_dict())
    return block


# %%
def maps_of(model: Listener, x_t: Tensor, t: Tensor, tokens: Tensor) -> list[Tensor]:
    """The joint map of every block: (B, heads, 21, 21) each."""
    (text, picture, cond, told), found = model.begin(x_t, t, tokens), []
    mask = F.pad(told, (0, 16), value=True)[:, None]
    for block in model.blocks:
        pair = nn.ModuleList(filled(block[side]) for side in ("text", "picture"))
        with attention_maps(pair) as kept:
            text, picture = joint([*pair], [text, picture], cond, mask)
        found += [shares for (shares,) in kept.values()]
    return found


# %%
couples = asked[asked < len(PAIRS)]
left_patches = torch.tensor([4, 5, 8, 9])  # the left half of the two rows in the middle
x_t = torch.lerp(pictures[couples], randn((len(couples), 3, 16, 16), seeded(1)), 0.9)
late, left, right = torch.full((len(couples),), 0.9), slice(0, 2), slice(3, 5)


def readings(model: Listener) -> dict[str, list[float]]:
    """By block: what patches on the left read of the words for their thing and for the other, in both sentences."""
    found = {}
    for way, (word, mine, other) in enumerate((("left", left, right), ("right", right, left))):
        tokens = sentences[couples, way]
        told = [checked_both_ways(shares, tokens > 0) for shares in maps_of(model, x_t, late, tokens)]
        for name, some in (("the left thing's words", mine), ("the other's", other)):
            found[f"“… {word} …”: {name}"] = [float(part[:, left_patches, some].sum(2).mean()) for part, _, _ in told]
    found["patches give to words"] = [float(heard.mean()) for _, heard, _ in told]
    found["words give to patches"] = [float(back.mean()) for _, _, back in told]
    return found


# %%
read = readings(listener)
a, b, c, d, *_ = (row[-1] for row in read.values())
assert min(a - b, c - d) > 0.4  # in the last block they read of their own thing, wherever its words stand
show.table(read, ["patches on the left", *(f"block {i + 1}" for i in range(3))], digits=2)

# %% [markdown]
# **Want more?** The control: a listener that nobody has trained, `readings(initialised(Listener, 0))`. What do its patches read, and how much of their attention goes to five words among 21 tokens?

# %% [markdown]
# ## Exercise 13-when-to-merge
#
# **Predict first.** Six sets of weights: how many double blocks should come before the shared ones? From 0 (six shared blocks) to 3 (no shared ones): which hears best after 75 steps, which after 150? Which does the least work?
#
# **The question.** Stable Diffusion 3 never merges, Flux 1 after 19 of 57 blocks, Flux 2 after 8 of 56, Z-Image has one set of weights from the start. At equal parameters a double block costs a round: text and picture meet less often. `measure` trains listeners of
# yours; a shared block is your double block with the same weights for both streams. `off` says how far their answers at t = 0.9 are from scenes that they have never seen. The sentence tells the scene wholly, so that a perfect listener is off by nothing.
#
# **A good answer** (about ten lines) has all four numbers of double blocks with mean and spread over at least 5 seeds, early and at the end; a control (the caption of another scene); the work of each arm, from your `counted`; compares the arms at equal *steps* and at equal *work*;
# says what else differs between the arms but the merging; and ends with one sentence that could be wrong.


# %%
def off(model: Listener, shift: int = 0, moment: float = 0.9) -> float:
    """Mean squared error of x̂_0 over unseen scenes, both sentences of each; shift: of the scene so many before."""
    x_t = torch.lerp(pictures[asked], randn((len(asked), 3, 16, 16), seeded(5)), moment)
    t = torch.full((len(asked),), moment)
    told = [model(x_t, t, sentences[asked.roll(shift), way]) for way in (0, 1)]
    return float(torch.stack([(x - pictures[asked]).square().mean() for x in told]).mean())


def work(double: int) -> float:
    """10⁶ multiplications of all blocks for one picture, with your `counted`."""
    two, one = (checked_counted(5, 16, 64, 128, shared)[1] for shared in (False, True))
    return (double * two + (6 - 2 * double) * one) / 1e6


# %%
def measure(double: int, seeds=range(2), steps=(75, 150)) -> list[str]:
    """For each number of steps, trained that long: `off`, mean ± spread over seeds; then with another's caption."""
    found = []
    for n in steps:
        models = [train(double, seed, n) for seed in seeds]
        for shift in [0] if n < max(steps) else [0, 1]:
            values = torch.tensor([off(model, shift) for model in models])
            found.append(f"{values.mean():.4f} ± {values.std():.4f}")
    return found


# %%
tried = {f"{double} double": [f"{work(double):.2f}", *measure(double, range(2), (8,))] for double in (1, 3)}
show.table(tried, ["2 seeds, 8 steps", "10⁶ multiplications", "off by", "with another's caption"])

# %% [markdown] answer="13-when-to-merge"
# Mean squared error of the answers at t = 0.9 to 21 unseen scenes, both sentences of each; mean ± spread over 5 seeds, 24 scenes a step. The last two columns: trained for as many steps as cost the work of 150 steps of three double blocks; and the difference to three double blocks after 150
# steps *with the same seed*, which sees the same batches.
#
# | double, shared | 10⁶ products | 75 steps | 150 steps | 150, another's caption | at equal work | 150 steps, more than 3 double |
# |---|---|---|---|---|---|---|
# | 0, 6 | 4.61 | 0.0818 ± 0.0050 | 0.0110 ± 0.0052 | 0.1655 ± 0.0110 | 77 steps: 0.0811 ± 0.0050 | +0.0036 ± 0.0074 |
# | 1, 4 | 3.87 | 0.0791 ± 0.0034 | 0.0065 ± 0.0012 | 0.1747 ± 0.0024 | 92 steps: 0.0586 ± 0.0150 | −0.0009 ± 0.0034 |
# | 2, 2 | 3.13 | 0.0811 ± 0.0039 | 0.0060 ± 0.0007 | 0.1765 ± 0.0013 | 114 steps: 0.0185 ± 0.0029 | −0.0013 ± 0.0030 |
# | 3, 0 | 2.38 | 0.0824 ± 0.0043 | 0.0074 ± 0.0036 | 0.1738 ± 0.0048 | 150 steps: 0.0074 ± 0.0036 | |
#
# At equal parameters and equal *steps* the four cannot be told apart here. After 75 steps none has found who is where (all near 0.08, against 0.13 with another's caption). After 150 all have. The means favour one or two double blocks, but no difference to three is larger than its spread over seeds.
# Six shared blocks have the worst mean and the widest spread; even that difference, +0.0036 ± 0.0074, could be chance with five seeds.
#
# At equal *work* they differ clearly: the fewer double blocks, the further off, from 0.007 to 0.081. A shared block costs as much as a double one and holds half the weights, so that six of them get 77 steps where three double ones get 150. The control says that all of them listen: with another's caption the
# error is 15 to 30 times larger.
#
# What differs besides the merging: six shared blocks are six rounds of attention, three double ones three; and "equal work" means fewer pictures and a schedule that ends sooner, not a smaller batch. So this does not say that shared weights are worse, only that rounds are not worth their work in a world that two
# rounds can solve (13-both-ways: with most seeds patches know their words from the second block on).
#
# Not tried: the same number of blocks for all, with wider shared ones; sentences of more than five words; more than 150 steps, where the last thousandths would count.
#
# Could be wrong: that depth is not needed. Where a caption takes more rounds than there are double blocks, I would expect shared blocks to be ahead at equal parameters, and perhaps at equal work.
