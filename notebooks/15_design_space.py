# %% [markdown]
# # 15 The design space
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. The models are shipped.
#
# Every system so far made the same few choices, each in another way. Here we lay the choices out as a map, ask which of them contradict each other, show that two of them are less different than their names, build a cell from its five words, and measure. Then we learn to read a table of results without being fooled.
#
# **What you will learn.** The five axes and why only 40 of 72 cells exist; why a DDPM network *is* a flow-matching network, and what is really different; how to go from a config to samples; what an interval says, what the best of twenty systems says, and what eight corners of the space do with equal work.
#
# **Parts.** *Core*: sections 1 to 6, about 90 minutes. *Extra*: sections 7 and 8, about 30 minutes.
#
# **Before.** Chapters 09 (latents), 11 (DiT), 13 (how text enters), 14 (one sequence). **Read along:** [lecture](../lectures/15_design_space.md) (the derivations). **Then do:** [exercises](../exercises/15_design_space.ipynb).

# %%
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from minidiff import show, times
from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE
from minidiff.guidance import Denoise, bind
from minidiff.judges.scorecard import Score, matches
from minidiff.predictions import velocity_weight
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddim, euler, sample
from minidiff.schedules import DDPM, Linear, Schedule

# %%
from minidiff.show.designer import designer
from minidiff.show.figures import design_space as draw
from minidiff.systems import atlas, corners, imagen, latent, leaderboard
from minidiff.systems.design import AXES, Design, cells, differing, noise_weight, valid
from minidiff.training import fit, pick_device

# %%
device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks; the short training says so
found = leaderboard.read()
board = leaderboard.sections(found)
nets = {name: model.load().to(device) for name, model in corners.MODELS.items()}

# %% [markdown]
# **Eight corners.** Eight networks of 0.6 million parameters, each built as another famous model, each trained with the same number of operations, all asked for the same unseen sentences with the same seeds. **Predict** which row you will like best.

# %%
asked_0 = [*list(LECTURE.values())[2:], *imagen.WORLD.prompts(6, 17, "test")]
texts_0 = captions(asked_0)
rows_0 = {name: corners.readable(name, net, 25)(texts_0, 1.0, range(8)).cpu() for name, net in nets.items()}
right_0 = {name: matches(asked_0, row).tolist() for name, row in rows_0.items()}
other_0 = sum(int(matches(asked_0[1:] + asked_0[:1], row).sum()) for row in rows_0.values())
assert sum(map(sum, right_0.values())) > 3 * other_0  # the control: the next sentence
draw.drawn(rows_0, texts_0, right_0, "Eight corners of the design space, equal work, the same seeds")

# %% [markdown]
# Two of the rows are 16-pixel pictures, repeated four times each way: their cells denoise pixels. Whether the row you like best *is* best is what this chapter is about.
#
# ## 1. Five choices (core, 15 minutes)
#
# What is the network asked for; what is the noise added to; what removes it; who reads the sentence; how does what was read meet the picture? Two, two, two, three and three answers. **Predict** how many of the 72 combinations contradict themselves. Two rules are enough: a U-Net cannot carry words along, and in one sequence the transformer is itself the reader.


# %%
def contradicts(design: Design) -> bool:
    """Can this cell not be?"""
    if design.architecture == "U-Net":
        return design.conditioning != "cross-attention"
    return design.conditioning == "one sequence" and design.encoder != "language model"


left_1 = [design for design in cells() if not contradicts(design)]
assert left_1 == valid()
assert (len(cells()), len(left_1)) == (72, 40)
here_1 = {real.design for real in atlas.MODELS}
assert len(here_1) == 11
draw.space("40 of 72 cells can be built (grey: cannot); twenty real models sit in eleven")

# %% [markdown]
# Most cells are empty, and nothing forbids them: none of the twenty puts flow matching on a U-Net of pixels that CLIP reads for. Where a cell cannot be, the library says which two choices clash:

# %%
show.table(
    {str(design): [(design.reason or "").split(":")[0]] for design in cells()[:24] if design.reason},
    ["the first cells that cannot be", "why"],
)

# %% [markdown]
# ## 2. Two paradigms, one family (core, 25 minutes)
#
# "DDPM" and "flow matching" are the loudest names on the map. But let two schedules have the same ratio of picture to noise, $\alpha/\sigma=\alpha'/\sigma'$. Then $\alpha'x_0+\sigma'\epsilon$ is $\alpha x_0+\sigma\epsilon$ times $\sigma'/\sigma$: the same picture, brighter or darker. For the straight path that means $t'=\sigma/(\alpha+\sigma)$ and a factor $1/(\alpha+\sigma)$. So a network of one is a network of the other, renamed.


# %%
def time_of(schedule: Schedule, share: Tensor) -> Tensor:
    """The t at which σ/(α + σ) is `share`: by halving, as it rises with t."""
    low, high = torch.zeros_like(share), torch.ones_like(share)
    for _ in range(60):
        middle = (low + high) / 2
        alpha, sigma = schedule(middle)
        rises = sigma / (alpha + sigma) < share
        low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
    return (low + high) / 2


# %%
def renamed(denoise: Denoise, schedule: Schedule, factor: bool = True) -> Denoise:
    """A denoiser of `schedule` as one of the straight path."""

    def straight(x: Tensor, t: Tensor) -> Tensor:
        time = time_of(schedule, t.double())
        alpha, sigma = schedule(time)
        return denoise(x * float(alpha + sigma) if factor else x, time)

    return straight


# %% [markdown]
# The network of PixArt's cell was trained as a DDPM. Let it walk twice from the same noise: with DDIM's steps on its own schedule, and, renamed, with Euler's steps along the straight path. **Predict** how far apart the two walks end.


# %%
def two_walks(factor: bool) -> tuple[list[float], Tensor, Tensor]:
    """Mean distance of the walks at every step, as the straight path has it; where each ends."""
    own = bind(nets["PixArt-α"], **corners.cell("PixArt-α").read(texts_0[:3]))
    noise, grid_2 = randn((3, *latent.LATENT_SHAPE), seeded(range(3))).to(device), times.linear(25)
    alpha, sigma = DDPM()(grid_2)
    share = sigma / (alpha + sigma)
    a = list(sample(own, noise, grid_2, ddim(DDPM())))
    b = list(sample(renamed(own, DDPM(), factor), noise / float(alpha[0] + sigma[0]), share, euler(Linear())))
    scale = [float(s) for s in (alpha + sigma)[1:]]
    return [float((x / s - y).abs().mean()) for x, y, s in zip(a, b, scale)], a[-1], b[-1]


# %%
walks_2 = {"renamed": two_walks(True), "renamed, the factor forgotten": two_walks(False)}
share_2 = [float(s / (a + s)) for a, s in [DDPM()(t) for t in times.linear(25)[1:]]]
ends_2 = {name: float((a - b).abs().mean()) for name, (_, a, b) in walks_2.items()}
assert ends_2["renamed"] < 1e-4 < 0.05 < ends_2["renamed, the factor forgotten"]
draw.paths({name: (share_2, apart) for name, (apart, _, _) in walks_2.items()}, "One network, two paradigms, one walk")

# %% [markdown]
# The same walk, to rounding. (Euler's step along the straight path *is* DDIM's step, renamed.) What the network is asked for makes no difference to a *trained* network, either: $\hat\epsilon$, $\hat v$ and $\hat x$ give one another, by $x_t$ alone. It makes a difference to *training*: an error $e$ of $\hat x$ is an error $-\frac\alpha\sigma e$ of the noise, and $-\frac1t e$ of the velocity. **Predict** at which noise the two losses differ most.

# %%
ell_2 = torch.tensor([-6.0, -3.0, 0.0, 3.0])
t_2 = torch.sigmoid(-ell_2 / 2)  # on the straight path (1 − t)/t = exp(ℓ/2)
weights_2 = {
    "noise: exp(ℓ)": [*(float(w) for w in noise_weight(Linear(), t_2, floor=0.01))],
    "velocity: (1 + exp(ℓ/2))²": [*(float(w) for w in velocity_weight(Linear(), t_2, floor=0.01))],
}
assert torch.allclose(torch.tensor(weights_2["noise: exp(ℓ)"]), ell_2.exp(), rtol=1e-4)
assert torch.allclose(torch.tensor(weights_2["velocity: (1 + exp(ℓ/2))²"]), (1 + (ell_2 / 2).exp()) ** 2, rtol=1e-4)
show.table(weights_2, ["weight of ‖x̂ − x₀‖² at ℓ =", "−6 (t = .95)", "−3", "0", "3"])

# %% [markdown]
# At much noise DDPM's loss hardly asks; flow matching's does. And at much noise it is decided what will be where. Together with *how often* a level of noise is met, a weight and a clock are nearly all that is left of the paradigm. (Nearly: a network errs in what it is asked, see the lecture and the open experiment.) Four combinations:


# %%
def looked_at(schedule: Schedule, clock: times.Clock, weight: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Density of ℓ in training times the weight of an error of x̂0, relative to ℓ = 0."""
    alpha, sigma = schedule(clock(400_000, torch.Generator().manual_seed(0)).clamp(1e-3, 1 - 1e-3))
    edges = torch.linspace(-8, 6, 57)
    often = torch.histc(2 * (alpha / sigma).log(), 56, -8, 6)
    middle = (edges[1:] + edges[:-1]) / 2
    found = often * weight(middle)
    return middle, found / found[middle.abs() < 0.2].mean()


# %%
flow_clock = times.logit_normal(*latent.CLOCK)
of_eps, of_v = torch.exp, lambda ell: (1 + (ell / 2).exp()) ** 2
draw.emphasis(
    {
        "DDPM: ε, all times alike": looked_at(DDPM(), times.uniform, of_eps),
        "DDPM's times, weight of v": looked_at(DDPM(), times.uniform, of_v),
        "flow matching: v, noisy times": looked_at(Linear(), flow_clock, of_v),
        "flow matching's times, weight of ε": looked_at(Linear(), flow_clock, of_eps),
    }, "What a paradigm is: how much each level of noise counts",
)  # fmt: skip

# %% [markdown]
# ## 3. From five words to samples (core, 15 minutes)
#
# Nothing else is needed to build a system than the five words. Take a cell where nobody sits. **Predict** whether forty steps of training show anything.

# %%
cell_3 = Design("flow matching", "pixels", "transformer", "CLIP", "joint attention")
assert not atlas.models_of(cell_3)
net_3, losses_3 = initialised(cell_3.build, 0).to(device), []
with torch.enable_grad():
    for progress in fit(net_3, cell_3.draw(32), 5000, bar=False, **corners.OPTIONS):
        losses_3.append(progress.loss)
        if progress.step == 40:
            break
first_3, last_3 = sum(losses_3[:5]) / 5, sum(losses_3[-5:]) / 5
assert last_3 < 0.8 * first_3
made_3 = cell_3.pictures_of(net_3, steps=25)(texts_0[:4], 0.0, range(4))
assert made_3.shape == (4, 3, 16, 16)
show.table({"steps 1 to 5": [first_3], "36 to 40": [last_3]}, ["loss", "mean"])

# %%
right_3 = {"after 40 steps": [False] * 4, "SD 3's cell, 2,836 steps": right_0["Stable Diffusion 3"][:4]}
rows_3 = {"after 40 steps": made_3.cpu(), "SD 3's cell, 2,836 steps": rows_0["Stable Diffusion 3"][:4]}
draw.drawn(rows_3, texts_0[:4], right_3, "Five words build a system; work makes it draw")

# %% [markdown]
# And a cell that cannot be says so before it costs anything:

# %%
try:
    Design("DDPM", "latents", "U-Net", "CLIP", "joint attention").build()
except ValueError as error:
    print(error)

# %% [markdown]
# ## 4. What a cell costs (core, 10 minutes)
#
# All our cells have 0.6 million parameters in the part that removes noise. **Predict**: do they cost the same?

# %%
rows_4 = {}
for name, model in corners.MODELS.items():
    row = found["systems"][f"{name}'s cell"]
    each = corners.step_gflops(corners.cell(name), batch=2) * 16
    rows_4[name] = [row["parameters"] / 1e6, each, model.steps, each * model.steps / 1e3, row["gflops"]]
work_4 = [values[3] for values in rows_4.values()]
assert max(work_4) < 1.1 * min(work_4)  # equal work
assert rows_4["Transfusion"][1] > 2 * rows_4["Stable Diffusion 1"][1]  # at equal parameters
show.table(rows_4, ["the cell of", "10⁶ parameters", "Gflops a step of 32", "steps", "10¹² in all", "Gflops a picture"])

# %% [markdown]
# A convolution of the U-Net's inner level works on 16 places, its outer one on 64; the transformer's weights all work on all tokens, and in one sequence on the words' tokens, too. So at equal parameters a step costs twice as much here as there. A comparison has to say what it holds equal. Ours holds *work* equal: who is dear learns from fewer pictures.
#
# ## 5. Where the real ones sit (core, 10 minutes)
#
# Twenty models, in the order in which this course meets their ideas. **Predict** on how many axes Stable Diffusion 1 and Flux 2 differ.

# %%
SHORT = {"flow matching": "flow", "CLIP + language model": "both", "language model": "LM", "transformer": "DiT"}
axes_5 = lambda d: [SHORT.get(getattr(d, axis), getattr(d, axis)) for axis in AXES]
show.table({str(real): [*axes_5(real.design), real.source] for real in atlas.MODELS}, ["", *AXES, "source"])

# %%
changed = lambda a, b: differing(atlas.model(a).design, atlas.model(b).design)
path_5 = ["Stable Diffusion 1", "PixArt-α", "SANA", "Flux 2"]
apart_5 = {f"{a} → {b}": [", ".join(changed(a, b))] for a, b in pairwise(path_5)}
assert len(changed("Stable Diffusion 1", "Flux 2")) == 4
same_5 = [str(real) for real in atlas.models_of(atlas.model("Flux 2").design)]
assert len(same_5) == 6
show.table(apart_5, ["", "axes that change"])

# %% [markdown]
# Four of five axes, and nearly one at a time. And six models share Flux 2's cell, with block plans that have little in common (chapter 13): a cell says what *kind* of thing a model is, not how good.
#
# ## 6. How to read a leaderboard (core, 20 minutes)
#
# Before we look at ours, three ways to be fooled. The first: a share without an interval. $k$ right of $n$ is a draw from a binomial distribution. The usual $\hat p\pm1.96\sqrt{\hat p(1-\hat p)/n}$ is 0 wide at $k=n$. **Predict** how often it holds the truth when the truth is .98 and $n=100$.


# %%
def holds(interval: Callable[[int, int], tuple[float, float]], p: float, n: int) -> float:
    """How often the interval of k of n holds p, when k is binomial."""
    often = torch.distributions.Binomial(n, torch.tensor(p, dtype=torch.float64))
    inside = [low <= p <= high for low, high in (interval(k, n) for k in range(n + 1))]
    return float((often.log_prob(torch.arange(n + 1.0)).exp() * torch.tensor(inside)).sum())


def usual(k: int, n: int) -> tuple[float, float]:
    share = k / n
    wide = 1.96 * (share * (1 - share) / n) ** 0.5
    return share - wide, share + wide


# %%
p_6 = torch.linspace(0.5, 0.995, 100)
wilson = lambda k, n: Score(k, n).interval
often_6 = {name: torch.tensor([holds(way, float(p), 100) for p in p_6]) for name, way in
           (("Wilson", wilson), ("p ± 1.96 sd", usual))}  # fmt: skip
assert often_6["Wilson"].min() > 0.9 > 0.87 > holds(usual, 0.98, 100)
draw.covers(
    p_6, often_6, 0.95, "100 pictures: Wilson's interval holds nearly what it promises, the usual one fails near 1"
)

# %% [markdown]
# The second: the best of many. **Predict** the best of twenty systems that are all right in 80 of 100 cases.

# %%
rounds_6 = torch.distributions.Binomial(100, torch.tensor(0.8)).sample((4000, 20)) / 100
best_6 = float(rounds_6.amax(1).mean())
assert 0.86 < best_6 < 0.89
draw.best_of(rounds_6, 0.8, f"Twenty equal systems: the best one shows {best_6:.2f}, and is no better")

# %% [markdown]
# The third: questions without a control. The red crosses below are the share of pictures that are right *for another caption*. And here is every system of shapes that the course has shipped, with the exact sampler on top: pictures drawn by Bayes' rule from all arrangements of the caption, so that nothing can be better. **Predict** which question keeps systems apart.

# %%
as_scores = lambda counts: (leaderboard.score(counts), leaderboard.score(counts, "other"))
shapes_6 = next(rows for section, rows in board.items() if section.startswith("shapes"))
rows_6 = {name: {q: as_scores(c) for q, c in row["asked"].items()} for name, row in shapes_6.items()}
rows_6 = {name: row for name, row in rows_6.items() if "position" in row}  # all but the one of rings
draw.board(
    rows_6, ["one object", "position", "two objects", "counting"], "Every system of shapes: 100 pictures a question"
)

# %% [markdown]
# One object is nearly solved everywhere, *position* and *counting* are not. Two systems that were asked the *same* prompts with the same seeds can be told apart better than by their intervals: count only the pictures where one is right and the other is not. If they are equal, each such picture is a coin toss (McNemar). **Predict**: SANA's cell and PixArt's, 8 sentences each from above: how many decide?


# %%
def coin(a: list[bool], b: list[bool]) -> tuple[int, int, float]:
    """Pictures that only a, only b got right, and how likely equals would differ at least so much."""
    only_a, only_b = (sum(x and not y for x, y in zip(u, v, strict=True)) for u, v in ((a, b), (b, a)))
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(torch.distributions.Binomial(n, torch.tensor(0.5)).log_prob(torch.arange(k + 1.0)).exp()) if n else 1.0
    return only_a, only_b, min(1.0, 2 * float(tail))


pair_6 = {f"{a} and {b}": coin(right_0[a], right_0[b]) for a, b in (("SANA", "PixArt-α"), ("Flux 2", "SANA"))}
assert coin([True] * 60 + [False] * 40, [True] * 50 + [False] * 50)[2] < 0.003  # ten of ten decide
assert coin([True] * 9 + [False] * 9, [False] * 9 + [True] * 9)[2] == 1.0
show.table({name: [*values] for name, values in pair_6.items()}, ["the cells of", "only one", "only the other", "p"])

# %% [markdown]
# ## 7. Corners at equal work (extra, 15 minutes)
#
# The eight networks of the first picture, asked 100 sentences of five families. **Predict** which axis matters most here.

# %%
FAMILIES = imagen.WORLD.families
records_7 = {name: model.record()["scores"] for name, model in corners.MODELS.items()}
of_100 = lambda share: Score(round(100 * share), 100)
rows_7 = {
    name: {f: (of_100(scores[f]), of_100(scores[f"{f}, another caption"])) for f in FAMILIES}
    for name, scores in records_7.items()
}
draw.board(rows_7, FAMILIES, "Equal work, equal data, one seed: 100 pictures a family")

# %%
pairs_7 = [("PixArt-α", "SANA"), ("Transfusion", "HunyuanImage 3.0"), ("SANA", "Flux 2"),
           ("Flux 2", "HunyuanImage 3.0"), ("Stable Diffusion 3", "Flux 2")]  # fmt: skip
total_7 = {name: sum(right.share for right, _ in row.values()) / 5 for name, row in rows_7.items()}
assert all(len(changed(*pair)) == 1 for pair in pairs_7)
assert all(total_7[b] - total_7[a] > 0.4 for a, b in pairs_7[:2])  # the paradigm alone
show.table(
    {f"{a} → {b}": [*changed(a, b), total_7[a], total_7[b]] for a, b in pairs_7},
    ["one choice changes", "which", "right before", "after"], digits=2,
)  # fmt: skip

# %%
show.table(
    {
        name: [str(corners.cell(name)), corners.MODELS[name].steps, total_7[name]]
        for name in sorted(total_7, key=total_7.get)[::-1]
    },
    ["the cell of", "choices", "steps", "right, mean of five families"],
)

# %% [markdown]
# Five pairs of cells differ on one axis alone. *Paradigm*: PixArt-α to SANA, Transfusion to HunyuanImage 3.0: by far the largest steps. *Conditioning*: SANA to Flux 2 to HunyuanImage 3.0 goes down. *Encoder*: Stable Diffusion 3 to Flux 2. But these shares ask for all of a caption and nothing else. Look at the first picture again: PixArt's cell mostly draws what was asked, uncleanly. The leaderboard's question *position* asks only whether both things are there, one beside the other as told. **Predict** what it says.

# %%
asked_7 = ["one object", "position", "two objects"]
cells_7 = {name: found["systems"][f"{name}'s cell"] for name in corners.MODELS}
rows_7b = {
    name: [100 * total_7[name], *(100 * leaderboard.score(row["asked"][q]).share for q in asked_7)]
    for name, row in cells_7.items()
}
assert rows_7b["PixArt-α"][2] > 70 > 30 > rows_7b["PixArt-α"][0]
assert min(rows_7b[name][2] for name in ("SANA", "Flux 2", "HunyuanImage 3.0")) > 90
show.table(rows_7b, ["right, of 100", "all of it, clean", *asked_7], digits=2)

# %% [markdown]
# PixArt's cell obeys, and is not clean; Transfusion's does not obey yet. From SANA to Flux 2 to HunyuanImage 3.0 *position* stays where it was. And the paradigm is no law: Stable Diffusion 1's cell is a DDPM, too, and its U-Net does well.
#
# So the ladder that the years suggest is not what ten minutes of one core show: with equal, little work, the newest corners do not draw best. One seed, one learning rate for all; what a thousand times the work would say is another question.
#
# ## 8. Your turn: five choices (extra, 15 minutes)
#
# Pick the five. The map shows where you are; the text says which real model that is, or what would have to change; below it, what our network of that cell draws, if one of the eight was trained there.


# %%
trained_8 = {corners.cell(name): name for name in corners.MODELS}


def samples(cell: Design, sentence: str, seed: int) -> tuple[str, Tensor | None]:
    """Four pictures by the network of that cell, if it was trained."""
    if cell.reason:
        return "", None
    if cell not in trained_8:
        return f"It can be built, but was not trained here: minidiff's {cell.side}-px pictures of it are noise.", None
    name = trained_8[cell]
    pictures = corners.readable(name, nets[name], 25)([sentence] * 4, 1.0, range(seed, seed + 4)).cpu()
    return f"“{sentence}”, by the network of {name}'s cell, w = 1", pictures


# %%
first_8 = atlas.model("Stable Diffusion 3").design
choices_8 = {a: sorted(v, key=lambda x, a=a: x != getattr(first_8, a)) for a, v in AXES.items()}
space_8 = show.explore(
    designer(samples), **choices_8, sentence=list(LECTURE)[2:], seed=show.Slider(0, 99, 1, start=0),
    static=[{}, {"architecture": "U-Net"}],
)  # fmt: skip
assert Design(**{axis: space_8.values[axis] for axis in AXES}) == first_8

# %% [markdown]
# ## What to try next
#
# - In section 2, rename SANA's network into a DDPM, and sample it with ancestral steps.
# - In section 3, take another empty cell, and train it over night.
# - In section 6, ask how many pictures it takes to tell .90 from .95, by simulation, with and without pairs.
# - In section 8, find the cell that differs from every real model on the most axes.
#
# Then the [exercises](../exercises/15_design_space.ipynb).
