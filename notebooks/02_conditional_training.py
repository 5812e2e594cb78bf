# %% [markdown]
# # 02 Training a conditional model
#
# Chapter 01 knew every score in closed form. Pictures come without a formula. This chapter asks: **how does a network
# learn the arrows from examples alone, and how does it learn them for every label at once?** The answer is a
# regression so plain that it hardly looks like the heart of the matter: show the network a noisy example and its
# label, ask for the noise, punish the squared error.
#
# **You will learn** why that regression ends at the score of $p(x \mid y)$; what $\varepsilon$-, $x_0$-, $v$- and
# velocity-prediction have in common and where they differ; every line of a training step, written out; how to train on
# points and on small pictures (live) and what an hour of it gives on Fashion-MNIST (shipped weights); how many network
# calls a good sampler saves.
#
# **Budget: 60 s on two CPU cores, 2 GiB of memory.** You need chapter 01 (score, denoiser, noise levels) and PyTorch.
#
# | part | | minutes |
# |---|---|---|
# | 1 to 3: the regression and what it ends at | core | 20 |
# | 4: four targets | extra | 10 |
# | 5 to 7: a training step written out; training; asking for a label | core | 40 |
# | 8: samplers | extra | 15 |
# | 9 and 10: small pictures, live; what the label adds | core | 15 |
# | 11: Fashion-MNIST | extra | 5 |
#
# [Lecture](../lectures/02_conditional_training.md) (the derivations) ·
# [exercises](../exercises/02_conditional_training.ipynb) · [start page](00_start.ipynb)

# %%
import matplotlib.pyplot as plt
import torch

from minidiff import show, times
from minidiff.data.mixtures import ring, three_modes
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import DDPM, Cosine, Linear
from minidiff.shapes import expand_like
from minidiff.show.figures import conditional_training as figures
from minidiff.training import pick_device

float64, device = torch.float64, pick_device()
level = lambda t: torch.tensor(t, dtype=float64)
summary = {}  # the numbers of the closing table

# %% [markdown]
# ## 1. What the network gets to see (core, 5 minutes)
#
# The world: eight clouds on a circle, every second one of class 0. The network sees a noisy point
# $x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon$, the time $t$, and the label $y$. **Predict:** at which of the three
# noise levels below could you read the label off the place alone? The best possible classifier, $p(y \mid x_t)$, is
# known in closed form.

# %%
world, schedule = ring(), Cosine()
clean, label_of = world.sample(2000, seeded(0))
noise = randn(clean.shape, seeded(1), float64)
figure, axes = show.panels(1, 3, size=(3.1, 3.2))
readable = []
for ax, at in zip(axes, (0.05, 0.25, 0.6)):
    cloud = schedule.add_noise(clean, noise, level(at))
    read = world.posterior_label(cloud, level(at), schedule).argmax(1)
    readable.append(float((read == label_of).double().mean()))
    show.points(cloud, label_of, ax=ax, limit=3.0, title=f"t = {at:g}: label readable in {readable[-1]:.0%}")
plt.show()
assert readable[0] > 0.99
assert readable[0] > readable[1] > readable[2]
assert readable[2] < 0.65

# %% [markdown]
# For little noise the label is superfluous, as the place gives it away. For much noise it says something that nobody
# could read off $x_t$.
#
# ## 2. Ask for the noise, and you get its average (core, 10 minutes)
#
# Many pairs $(x_0, \varepsilon)$ lead to the same $x_t$, so nobody can name the noise exactly. The guess with the
# least mean squared error is the *average* of all the noises that could have led here: $E[\varepsilon \mid x_t, y]$.
# No network is needed to see that. On a line, draw 200,000 pairs, sort them into bins of $x_t$, and average.
# **Predict:** will the averages for the three labels lie on one curve, or on three?

# %%
line, cosine, at = three_modes(), Cosine(), level(0.3)


def exact_eps(world, x_t, t, schedule, y=None):
    """E[ε | x_t, y] from the exact E[x0 | x_t, y], as x_t = α·x0 + σ·ε."""
    alpha, sigma = schedule(expand_like(t, x_t))
    return (x_t - alpha * world.denoise(x_t, t, schedule, y)) / sigma


hills, hill = line.sample(200_000, seeded(2))
added = randn(hills.shape, seeded(3), float64)
shaken = cosine.add_noise(hills, added, at)
edges = torch.linspace(-1.5, 1.5, 31, dtype=float64)
middle, box = (edges[1:] + edges[:-1])[:, None] / 2, torch.bucketize(shaken[:, 0].contiguous(), edges) - 1

# %%
curves = {}
for label in (None, 0, 1, 2):
    rows = (hill >= 0) if label is None else (hill == label)
    groups = [added[rows & (box == k), 0] for k in range(30)]
    means = torch.stack([group.mean() if len(group) > 500 else level(float("nan")) for group in groups])[:, None]
    known = exact_eps(line, middle, at, cosine, label)
    curves["no label" if label is None else f"y = {label}"] = means, torch.where(means.isnan(), means, known)
gap = max(float((means - known).nan_to_num().abs().max()) for means, known in curves.values())
titles = "Averages of bins lie on the exact curve", f"One curve per label (largest gap {gap:.2f})"
figures.averages(shaken, added, middle, curves, titles)
plt.show()
summary["average noise of a bin, largest gap to the exact curve"] = gap
assert gap < 0.15
assert float((curves["y = 0"][0] - curves["no label"][1]).nan_to_num().abs().max()) > 0.3  # control: another curve

# %% [markdown]
# ## 3. That average is the score (core, 5 minutes)
#
# Tweedie's formula ([lecture 01](../lectures/01_bayes_rule.md) proves it, and it holds with a label as without) says
#
# $$\nabla_x \log p_t(x_t \mid y) = -\frac{E[\varepsilon \mid x_t, y]}{\sigma_t}.$$
#
# So a network that has learned to name the average noise knows the arrows of $p(x \mid y)$. **Predict:** how far apart
# are the two sides, the left by automatic differentiation of the exact log-density? The control uses another label's
# average.

# %%
place = show.lattice(2.0, 9)


def disagreement(schedule, t: float, label: int, other: int) -> float:
    """Largest relative difference of score and −E[ε | x_t, other]/σ on a lattice."""
    x = place.clone().requires_grad_()
    (arrows,) = torch.autograd.grad(world.log_prob(x, level(t), schedule, label).sum(), x)
    tweedie = -exact_eps(world, place, level(t), schedule, other) / schedule(level(t))[1]
    return float((tweedie - arrows).abs().max() / arrows.abs().max())


gaps = {
    type(path).__name__: [max(disagreement(path, t, y, y ^ flip) for t in (0.02, 0.2, 0.5, 0.8) for y in (0, 1)) for flip in (0, 1)]
    for path in (Linear(), Cosine(), DDPM())
}  # fmt: skip
assert max(own for own, _ in gaps.values()) < 1e-10 < min(other for _, other in gaps.values())
show.table(gaps, ["schedule", "its own label", "control: the other label"], digits=1)

# %%
shorten = lambda v: v * (3 / v.norm(dim=1, keepdim=True)).clamp(max=1)  # far arrows would hide the near ones
figure, axes = show.panels(1, 3, size=(3.2, 3.4))
for ax, label, cmap in zip(axes, (None, 0, 1), ("Greys", "Blues", "Oranges")):
    show.density(lambda x, k=label: world.log_prob(x, level(0.3), schedule, k), ax=ax, cmap=cmap, alpha=0.8)
    arrows = lambda x, k=label: shorten(-exact_eps(world, x, level(0.3), schedule, k) / schedule(level(0.3))[1])
    title = "no label: uphill to any cloud" if label is None else f"y = {label}: uphill to its own clouds"
    show.field(arrows, ax=ax, n=15, scale=70.0, title=title)
plt.show()

# %% [markdown]
# ## 4. Four targets, one piece of information (extra, 10 minutes)
#
# A network may be asked for the noise $\varepsilon$ (DDPM), the clean $x_0$, for $v = \alpha\varepsilon - \sigma x_0$,
# or for the velocity $u = \alpha' x_0 + \sigma' \varepsilon$ (flow matching). As $x_t = \alpha x_0 + \sigma\varepsilon$
# is known, each is two linear equations away from the others. **Predict** what is lost on the way from a target back to
# $x_0$, in float64 and in float32.

# %%
from minidiff.predictions import EPS, VELOCITY, X0, V

targets, lost = (EPS, X0, V, VELOCITY), {asked.name: [] for asked in (EPS, X0, V, VELOCITY)}
for dtype in (torch.float64, torch.float32):
    picture, grain = (randn((64, 1, 8, 8), seeded(k), float64).to(dtype) for k in (4, 5))
    t = expand_like(torch.linspace(0.05, 0.95, 64, dtype=float64), picture)
    for asked in targets:
        errors = []
        for path in (Linear(), Cosine(), DDPM()):
            alpha, sigma = (v.to(dtype) for v in path(t))
            back = asked.to_x0(path, alpha * picture + sigma * grain, asked.target(path, picture, grain, t), t)
            errors.append(((back - picture) * alpha).abs().max())  # × α: what it means for x_t
        lost[asked.name].append(max(errors))
assert max(float(row[0]) for row in lost.values()) < 1e-12 < 1e-5 > max(float(row[1]) for row in lost.values())
show.table(lost, ["target", "float64", "float32"], digits=1)

# %% [markdown]
# **Where they differ: what they care about.** A wrong guess $\hat x_0$ costs $\lVert \hat x_0 - x_0 \rVert^2$ times a
# weight that depends on the target (lecture, section 4: weights and clocks). **Predict:** which loss counts an error at
# $t = 0.05$ most, and which one nothing at $t = 1$? The dots are `Denoiser.loss` of one and the same flawed denoiser.

# %%
from minidiff.denoiser import Denoiser

straight = Linear()
flaw, point, dust = 0.1 * randn((64, 2), seeded(6), float64), *(randn((64, 2), seeded(k), float64) for k in (7, 8))


def loss_of(asked, t: torch.Tensor) -> float:
    """The loss of a network whose every guess is x0 + flaw, in the coordinates of `asked`."""
    alpha, sigma = straight(t)
    guess_eps = (straight.add_noise(point, dust, t) - alpha * (point + flaw)) / sigma
    guess = asked.target(straight, point + flaw, guess_eps, t)
    return float(Denoiser(lambda x_t, t: guess, straight, asked).loss(point, t, dust).mean())


# %%
grid, dots_at = torch.linspace(0.02, 0.98, 49, dtype=float64), (0.05, 0.15, 0.3, 0.5, 0.7, 0.9)
formulas = {
    "eps": lambda t: ((1 - t) / t) ** 2, "x0": lambda t: t**0,
    "v": lambda t: (((1 - t) ** 2 + t**2) / t) ** 2, "velocity": lambda t: 1 / t**2,
}  # fmt: skip
dots = {a.name: [loss_of(a, level(t)) / loss_of(X0, level(t)) for t in dots_at] for a in targets}
clocks = {"uniform": times.uniform(50_000, seeded(9)), "logit-normal": times.logit_normal()(50_000, seeded(9))}
figures.weights_and_clocks(grid, {name: f(grid) for name, f in formulas.items()}, dots_at, dots, clocks)
plt.show()
for name, formula in formulas.items():
    assert all(abs(dot / formula(t) - 1) < 1e-6 for dot, t in zip(dots[name], dots_at))
summary["weight of an error in the loss of ε at t = 0.05"] = dots["eps"][0]

# %% [markdown]
# ## 5. A training step, written out (core, 20 minutes)
#
# Everything so far was known. Now a small network learns it from samples. The library does that in three calls,
# `diffuse`, `Denoiser` and `fit`. Nothing in them is hidden: here is each one by hand, and the library's version must
# agree **to the last bit**.
#
# **The batch.** Points and labels from the data; for each point its own time, its own noise, and its own coin: whose coin
# shows a number below 0.15 loses the label, so that one network learns the conditional *and* the unconditional arrows.
# **Predict:** how many of 256 labels will be "no label" (the number 2 here)?

# %%
from minidiff.training import diffuse, step_generator

points, nothing = world.draw(256), world.n_classes  # labels are 0 and 1; 2 stands for "no label"


def noisy_by_hand(generator):
    batch = points(generator)
    t = torch.rand(256, generator=generator)
    eps = torch.randn(256, 2, generator=generator)
    lost = torch.rand(256, generator=generator) < 0.15
    return {"x0": batch["x0"], "t": t, "eps": eps, "y": torch.where(lost, nothing, batch["y"])}


noisy_points = diffuse(points, times.uniform, drop=0.15, null={"y": torch.tensor(nothing)})
by_hand, librarys = noisy_by_hand(step_generator(0, 0)), noisy_points(step_generator(0, 0))
assert all(torch.equal(by_hand[name], librarys[name]) for name in ("x0", "t", "eps", "y"))
shown = {name: [tuple(v.shape).__str__(), ", ".join(f"{n:.3g}" for n in v[0].flatten())] for name, v in by_hand.items()}
shown["labels lost"] = ["", f"{int((by_hand['y'] == nothing).sum())} of 256"]
show.table(shown, ["", "shape", "of the first point"])

# %% [markdown]
# `step_generator(seed, step)` is a random generator that depends on nothing but its two numbers: step 1,234 is the same
# whether the run came there in one go or was interrupted.
#
# **The network.** $t$ becomes 32 cosines and 32 sines of different frequencies, and two layers make of them a vector. The
# label is the number of a *row in a table* of learned vectors. The two vectors are **added**, and the sum shifts every
# layer. That is all there is to "conditional". **Predict:** with the table's rows set equal, what does the network do?

# %%
import math
import torch.nn.functional as F

from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels


def answer_by_hand(table, mlp, x_t, t, y):
    """x_t (B, 2), t (B,), y (B,) → (B, 2); table (3, 64)."""
    angles = t[:, None] * (1000 * torch.exp(-math.log(10_000) * (torch.arange(32) / 32)))  # (B, 32)
    when = mlp.time.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))
    about = F.silu(when + table[y])  # (B, 64): the time and the label
    h = mlp.stem(x_t)
    for shift, mix in zip(mlp.shift, mlp.mix):
        h = h + mix(F.silu(h + shift(about)))
    return mlp.head(F.silu(h))


# %%
build_net = lambda: Conditioned(Labels(world.n_classes, 64), MLP(2, width=64))
trial = initialised(build_net, seed=0)
torch.nn.init.normal_(trial.backbone.head.weight, generator=seeded(1))  # it begins at 0, and 0 = 0 would prove nothing
table, inputs = trial.conditioning.weight, (by_hand["x0"], by_hand["t"], by_hand["y"])
with torch.no_grad():
    written_out, same_rows = (
        answer_by_hand(rows, trial.backbone, *inputs) for rows in (table, table[:1].expand(3, -1))
    )
    assert torch.equal(written_out, trial(inputs[0], inputs[1], y=inputs[2]))
others = inputs[2] != 0
answers = {"the table as it is": written_out, "control: all rows equal row 0": same_rows}
changed = {
    name: [(v - same_rows)[others].abs().mean(), (v - same_rows)[~others].abs().max()] for name, v in answers.items()
}
show.table(changed, ["network with", "label 1 or 2 moves the answer by", "label 0 by"], digits=2)

# %% [markdown]
# **The loss.** Form $x_t$, ask the network for $v$, square the difference: one number per point. `Denoiser` puts network,
# schedule and target into one object, so that the same three lines train every model of the course.
#
# `initialised` does nothing but seed the first weights: PyTorch draws them from its global generator, and nowhere else
# in this course is that one used.


# %%
def loss_by_hand(net, x0, t, eps, y):
    alpha, sigma = schedule(t[:, None])
    v = alpha * eps - sigma * x0
    return (net(alpha * x0 + sigma * eps, t, y=y) - v).square().mean(1)  # (B,)


def seeded_by_hand(build, seed: int):
    with torch.random.fork_rng():  # puts the global generator back afterwards
        torch.manual_seed(seed)
        return build()


build_points = lambda: Denoiser(build_net(), schedule, V)
fresh, twin = seeded_by_hand(build_points, 0), initialised(build_points, seed=0)
assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), twin.parameters()))
assert torch.equal(loss_by_hand(fresh.net, **by_hand), twin.loss(**by_hand))

# %% [markdown]
# **The loop.** Gradients to zero, backward, step; then the *average* of the weights follows
# ($\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta$). The learning rate warms up, stays, and falls to zero in the
# second half (`decayed`); gradients longer than 1 are shortened. **Predict:** which of these lines would you miss least?

# %%
from copy import deepcopy
from minidiff.training import decayed


def fit_by_hand(model, draw, steps: int, lr: float, decay: float):
    average, optimizer = deepcopy(model), torch.optim.AdamW(model.parameters(), fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = decayed(step, steps, lr)
        loss = model.loss(**draw(step_generator(0, step))).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        d = min(decay, (1 + step) / (10 + step))  # early averages forget quickly
        for mean, now in zip(average.parameters(), model.parameters()):
            mean.data.lerp_(now.data, 1 - d)
    return average


# %%
from minidiff.training import fit

mine = fit_by_hand(initialised(build_points, 0), noisy_points, 40, lr=4e-3, decay=0.9)
*_, last = fit(initialised(build_points, 0), noisy_points, 40, lr=4e-3, ema_decay=0.9, bar=False)
far = lambda one, other: max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters()))
apart = {"library's averaged weights": [far(mine, last.ema)], "control: its last weights": [far(mine, last.model)]}
assert apart["library's averaged weights"][0] == 0 < apart["control: its last weights"][0]
show.table(apart, ["the loop by hand, against the", "largest difference of a weight"])

# %% [markdown]
# From here on the library's calls stand for these lines. (It also keeps checkpoints, resumes, and spreads a batch over
# several processes.) The exercise "Build it" asks you for the loop from an empty page.
#
# ## 6. Train, and compare with the truth (core, 10 minutes)
#
# **Predict:** does the loss go to zero?


# %%
def train(build, draw, steps: int, **options):
    """Train a fresh model; returns its averaged weights and the loss of every step."""
    run = list(fit(initialised(build, seed=0).to(device), draw, steps, **options))
    return run[-1].ema, [progress.loss for progress in run]


learned, losses = train(build_points, noisy_points, 1500, lr=4e-3, ema_decay=0.99)

# %% [markdown]
# The loss stops falling well above zero, and should: what is left is the spread of the target around its average, which
# no network can predict. With the exact denoiser in place of the network, that remainder can be computed.

# %%
x0, y = world.sample(20_000, seeded(10))
eps, t = randn(x0.shape, seeded(11), float64), torch.rand(20_000, generator=seeded(12), dtype=float64).clamp(min=1e-3)
x_t = schedule.add_noise(x0, eps, t)
alpha, sigma = schedule(t[:, None])


def least_loss(told) -> float:
    """The loss of v with the exact average in place of a network; told: labels or None."""
    best = alpha * exact_eps(world, x_t, t, schedule, told) - sigma * world.denoise(x_t, t, schedule, told)
    return float((best - (alpha * eps - sigma * x0)).square().mean())


# %%
floors = {"best possible, 15 % without a label": 0.85 * least_loss(y) + 0.15 * least_loss(None)}
floors["best possible, nobody told"] = least_loss(None)
smooth = torch.tensor(losses).unfold(0, 50, 50).mean(1)
ended = float(smooth[-8:].mean())
title = f"The loss ends at {ended:.3f}, near the best possible"
figures.loss_curve(range(50, len(losses) + 1, 50), smooth, floors, title)
plt.show()
assert abs(ended - floors["best possible, 15 % without a label"]) < 0.02

# %% [markdown]
# **The exam.** How far is the learned $\varepsilon$ from the exact $E[\varepsilon \mid x_t, y]$? The relative $L_2$ error
# over noisy points of all times, and in ten bins of $t$. **Predict:** at which end is it smallest? The control tells the
# network the wrong label.


# %%
@torch.no_grad()
def learned_eps(model, x_t, t, labels):
    """The learned noise, computed on the model's device and brought back in float64."""
    guess = model(x_t.float().to(device), t.float().to(device), y=labels.to(device)).cpu().double()
    alpha, sigma = model.schedule(expand_like(t, x_t))
    return (x_t - alpha * guess) / sigma


exact = exact_eps(world, x_t, t, schedule, y)
truthful, lied_to = (learned_eps(learned, x_t, t, told) for told in (y, 1 - y))

# %%
off = lambda guess, rows=slice(None): float((guess - exact)[rows].norm() / exact[rows].norm())
bins = [(t >= k / 10) & (t < (k + 1) / 10) for k in range(10)]
told = {"told the label": truthful, "control: told the other label": lied_to}
in_bins = {name: [off(guess, rows) for rows in bins] for name, guess in told.items()}
title = f"Over all times {off(truthful):.1%}; the error is largest at small $t$"
figures.error_by_time(torch.arange(10) / 10 + 0.05, in_bins, title)
plt.show()
summary["learned ε against the exact one, relative error"] = off(truthful)
summary["control: told the wrong label"] = off(lied_to)
assert off(truthful) < 0.07 < off(lied_to) / 3
assert max(range(10), key=in_bins["told the label"].__getitem__) == 0

# %% [markdown]
# ## 7. Ask for a label; ask for none (core, 10 minutes)
#
# Sampling follows the learned arrows from noise to data. On any path, Euler's step from $t$ to $s$ goes along
# $dx/dt = \alpha'\hat x_0 + \sigma'\hat\varepsilon$. By hand that is a loop of five lines, and the library's `sample`
# with `euler` gives the same points.

# %%
from itertools import pairwise

from minidiff.guidance import bind
from minidiff.samplers import euler, heun, sample


@torch.no_grad()
def sample_by_hand(model, x, grid, y):
    for t, s in pairwise(grid):
        (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
        guess = model(x, t, y=y)
        x = x + (s - t) * (d_alpha * guess + d_sigma * ((x - alpha * guess) / sigma))
    return x


start, zero = randn((500, 2), seeded(13)).to(device), torch.tensor(0, device=device)
*_, librarys = sample(bind(learned, y=zero), start, times.linear(16), euler(schedule))
assert float((sample_by_hand(learned, start, times.linear(16), zero) - librarys).abs().max()) < 1e-5  # rounding

# %% [markdown]
# **Predict** what comes out for $y = 0$, for $y = 1$, and for "no label", from *the same* network and *the same* noise.
# And then what a second network draws for $y = 0$ that was trained in the same way, but with the labels of each batch
# *shuffled*, so that they mean nothing. W1 is the distance to exact samples; the floor is the W1 of two exact samples
# (chapter 01).


# %%
def shuffled(generator):
    """The same data with labels that belong to other points."""
    found = points(generator)
    return {**found, "y": found["y"][torch.randperm(256, generator=generator)]}


def drawn(model, label: int, n: int = 1000) -> torch.Tensor:
    first = randn((n, 2), seeded(13)).to(device)
    *_, x = sample(bind(model, y=torch.tensor(label, device=device)), first, times.linear(32), heun(model.schedule))
    return x.cpu().double()


fooled, _ = train(build_points, diffuse(shuffled), 500, lr=4e-3, ema_decay=0.98)

# %%
from minidiff.judges.wasserstein import floor, w1

zeros, ones = world.of_class(0), world.of_class(1)
asked_for = {
    "y = 0": (learned, 0, zeros), "y = 1": (learned, 1, ones), "no label": (learned, 2, world),
    "shuffled labels, y = 0": (fooled, 0, world),
}  # fmt: skip
ends, far_from = {name: drawn(model, label) for name, (model, label, _) in asked_for.items()}, {}
samples_of = {one: one.sample(1000, seeded(14))[0] for one in (zeros, ones, world)}
for name, x in ends.items():
    far_from[name] = [w1(x, samples_of[one]) for one in (zeros, ones, world)]
floors_of = [floor(lambda n, g, d=one: d.sample(n, g)[0], 1000, repeats=2)[0] for one in (zeros, ones, world)]
show.table({**far_from, "two exact samples": floors_of}, ["asked for", "W1 to class 0", "to class 1", "to both"])

# %%
figure, axes = show.panels(1, 4, size=(2.7, 3.2))
for ax, (name, (_, _, truth)) in zip(axes, asked_for.items()):
    show.density(lambda x, d=truth: d.log_prob(x, level(0.02), schedule), ax=ax, cmap="Greys", alpha=0.4)
    nearest = world.posterior_label(ends[name], level(0.0), schedule).argmax(1)
    show.points(
        ends[name], nearest, ax=ax, size=4, limit=2.5, title=f"{name}:\n{(nearest == 0).double().mean():.0%} in class 0"
    )
plt.show()
# %%
own = far_from["y = 0"][0], far_from["y = 1"][1], far_from["no label"][2], far_from["shuffled labels, y = 0"][2]
assert max(own) < 0.2
assert far_from["y = 0"][1] > 0.5
assert far_from["shuffled labels, y = 0"][0] > 0.3  # asked for class 0, it draws everything
summary |= {
    "W1 to class 0, asked for it": own[0],
    "control: shuffled labels, W1 to class 0": far_from["shuffled labels, y = 0"][0],
}

# %% [markdown]
# Without meaning in the labels the regression has nothing to gain from them and ends at the average over both classes.
# So a condition is never *enforced* by training; it is used exactly as far as it helps to predict the noise.
#
# ## 8. Samplers: fewer calls for the same answer (extra, 15 minutes)
#
# A network call is the expensive part of sampling. To see the error of the *sampler* alone, take the exact denoiser.
#
# - Euler's method and DDIM keep the slope of the step's beginning: first order. For small steps, twice the calls halve
#   the error.
# - Heun's method averages the slopes of both ends (two calls), DPM-Solver++ (2M) remembers the last call (one): second
#   order. For small steps, twice the calls quarter it.
#
# **Predict:** between 8 and 128 calls, are the steps already small? And by how much do DDIM and Euler differ on the
# straight path?

# %%
from minidiff.samplers import ddim, dpmpp_2m

begin, denoise, work = randn((100, 2), seeded(15), float64), bind(world.denoiser(straight), y=0), (8, 16, 32, 64, 128)
window = lambda steps: times.linear(steps, start=0.98, end=0.02)  # away from both ends, where formulas change
*_, limit = sample(denoise, begin, window(400), heun(straight))


def error_of(step, calls: int, per_step: int = 1) -> float:
    *_, x = sample(denoise, begin, window(calls // per_step), step)
    return float((x - limit).norm(dim=1).mean())


solvers = {"Euler": (euler(straight), 1), "Heun": (heun(straight), 2), "DPM++ 2M": (dpmpp_2m(straight), 1)}
errors = {name: (work, [error_of(step, n, per) for n in work]) for name, (step, per) in solvers.items()}
assert abs(error_of(ddim(straight), 32) - errors["Euler"][1][2]) < 1e-12  # DDIM is Euler's method here

# %%
falls = {name: (row[-1] / row[0]) ** (1 / 4) for name, (_, row) in errors.items()}
title = "Twice the calls: error × " + ", ".join(f"{share:.2f} ({name})" for name, share in falls.items())
show.slopes(
    errors, ylabel="mean distance to the exact end point", title=title, ax=show.panels(1, 1, size=(6.4, 3.5))[1][0]
)
plt.show()
assert abs(falls["Euler"] - 0.5) < 0.05
assert 0.25 < falls["Heun"] < 0.33
assert 0.25 < falls["DPM++ 2M"] < 0.33
assert all(a < b for a, b in zip(errors["Heun"][1], errors["DPM++ 2M"][1]))  # in this window Heun is ahead

# %% [markdown]
# **DDPM against flow matching with eight calls.** All know the same exact denoiser; they differ in the path (schedule)
# and the step. DDPM adds fresh noise at every step (`ddpm`); its deterministic sibling is `ddim` on the same schedule;
# flow matching walks the straight path with Euler's step. **Predict** who wins, and then who deserves the credit: the
# straight path, or just another schedule than DDPM's? (Look for the cosine schedule.)

# %%
from minidiff.samplers import ddpm

old = DDPM()
contestants = {
    "DDPM: ancestral": (old, ddpm(old), 1), "DDPM: DDIM": (old, ddim(old), 1), "cosine: DDIM": (cosine, ddim(cosine), 1),
    "straight: Euler": (straight, euler(straight), 1), "straight: Heun": (straight, heun(straight), 2),
    "straight: DPM++ 2M": (straight, dpmpp_2m(straight), 1),
}  # fmt: skip


def distance(name: str, calls: int, seed: int) -> float:
    path, step, per_step = contestants[name]
    first, exact = randn((2000, 1), seeded(seed), float64), line.sample(2000, seeded(100 + seed))[0]
    *_, x = sample(bind(line.denoiser(path)), first, times.linear(calls // per_step), step, seeded(200 + seed))
    return w1(x, exact)


found = {n: torch.tensor([[distance(n, c, s) for s in range(3)] for c in (4, 8, 16, 32)]) for n in contestants}

# %%
lowest, _ = floor(lambda n, g: line.sample(n, g)[0], 2000)
title = "With 8 calls and first-order steps DDPM's schedule is behind; cosine and straight are level"
figures.distances((4, 8, 16, 32), found, lowest, title)
plt.show()
eight = {name: float(values[1].mean()) for name, values in found.items()}
assert eight["straight: Euler"] < 0.8 * eight["DDPM: DDIM"] < eight["DDPM: ancestral"]
assert abs(eight["straight: Euler"] - eight["cosine: DDIM"]) < 0.04  # the credit is the schedule's
show.table(
    {n: [f"{m:.3f} ± {s:.3f}" for m, s in zip(v.mean(1), v.std(1))] for n, v in found.items()},
    ["W1 with", "4 calls", "8", "16", "32"],
)

# %% [markdown]
# The cosine schedule with DDIM does as well as flow matching. What costs DDPM so much is that its schedule spends most
# of its times at nearly pure noise, and that it throws fresh noise into every step. A better *step* brings more than a
# better path.
#
# ## 9. Small pictures, live (core, 10 minutes)
#
# Eight emoji in two drawn styles, mirrored and shifted by a pixel: 288 real pictures of 16×16 pixels, eight labels.
# Nothing changes but the network, a small U-Net in place of the MLP, and the target. Each picture is folded into 16
# patches of 48 numbers for speed. With so few steps a network that is asked for the velocity still draws noise; asked
# for $x_0$, with the velocity's weight on its errors (`velocity_weight`), it need not reproduce the noise to be right.
#
# **Predict:** what will the rows look like when the same network is told "no label"? The judge takes the label of the
# nearest training picture; chance is 1 in 8.

# %%
from minidiff.data import emoji

names = ["red apple", "dog face", "rose", "fire", "light bulb", "umbrella", "panda", "tulip"]
rows = [emoji.load().names.index(name) for name in names]
drawings = torch.stack([emoji.pictures(style, 16, background=1.0)[rows] for style in emoji.STYLES])  # (2, 8, 3, 16, 16)
framed = torch.nn.functional.pad(torch.stack([drawings, drawings.flip(-1)]), (1, 1, 1, 1), value=1.0)
moved = [pair[..., dy : dy + 16, dx : dx + 16] for pair in framed for dx in range(3) for dy in range(3)]
album = {"x0": torch.cat(moved).flatten(0, 1), "y": torch.arange(8).repeat(len(moved) * 2)}


def judged(x: torch.Tensor) -> torch.Tensor:
    nearest = torch.cdist(x.cpu().clamp(-1, 1).flatten(1), album["x0"].flatten(1)).argmin(1)
    return album["y"][nearest]


# %%
title = "What it learns from: each also mirrored and moved"
show.grid(drawings.flatten(0, 1), columns=8, rows=list(emoji.STYLES), title=title, scale=0.9)
plt.show()

# %%
from minidiff.backbones.unet import UNet
from minidiff.predictions import velocity_weight
from minidiff.training import draw_rows

small_unet = lambda: Conditioned(Labels(8, 96), UNet(3, widths=(64,), depth=1, patch=4, embedding=96))
build_painter = lambda: Denoiser(small_unet(), straight, X0, velocity_weight)
noisy_emoji = diffuse(draw_rows(album, 64), times.uniform, drop=0.1, null={"y": torch.tensor(8)})
painter, painter_losses = train(build_painter, noisy_emoji, 200, lr=4e-3, ema_decay=0.98)

# %%
labels = torch.arange(8).repeat_interleave(8)
static = randn((64, 3, 16, 16), seeded(range(64))).to(device)
sheets, agree = {}, {}
for name, told in (("told the row's label", labels), ("control: no label", torch.full_like(labels, 8))):
    *_, x = sample(bind(painter, y=told.to(device)), static, times.linear(16), dpmpp_2m(straight))
    agree[name] = float((judged(x) == labels).double().mean())
    sheets[f"{name}: {agree[name]:.0%} read as the row's"] = x
figures.side_by_side(sheets, names, columns=8)
plt.show()
summary["emoji, told the label: judge agrees"] = agree["told the row's label"]
summary["emoji, control, no label: judge agrees"] = agree["control: no label"]
assert agree["told the row's label"] > 0.75
assert agree["control: no label"] < 0.35

# %% [markdown]
# The same noise, the same network: with labels each row is one thing; without, the rows are a mixture of all eight. They
# are still rough, after 200 steps of about a tenth of a second.
#
# ## 10. Play: what the label adds at each noise level (core, 5 minutes)
#
# Slide $t$. First row: eight emoji with that much noise. Then the network's guess $\hat x_0$, told the right label, told
# nothing, told a wrong one. **Predict** at which noise level the guess begins to follow the label instead of the
# picture; that is the moment when conditions decide what a sampler draws.

# %%
shots, shown = drawings[0], torch.arange(8)
veil = randn(shots.shape, seeded(range(8)))


def guesses(t: float) -> plt.Figure:
    covered = straight.add_noise(shots, veil, torch.tensor(t)).to(device)
    told = {"right label": shown, "no label": torch.full_like(shown, 8), "wrong label": (shown + 1) % 8}
    with torch.no_grad():
        guess = {name: painter(covered, torch.tensor(t), y=y.to(device)).cpu() for name, y in told.items()}
    hits = {name: int((judged(x) == shown).sum()) for name, x in guess.items()}
    named = ["noisy", *(f"{name}: {hits[name]} of 8" for name in told)]
    title = f"t = {t:.2f}: guesses, and how many are read as what was there"
    return show.grid(torch.cat([covered.cpu(), *guess.values()]), 8, named, title, scale=0.8).figure


# %%
knob = show.Slider(0.02, 1.0, 0.02, start=0.5, label="noise level t")
explorer = show.explore(guesses, static=[{"t": 0.4}, {"t": 0.9}], t=knob)

# %% [markdown]
# ## 11. Fashion-MNIST from shipped weights (extra, 5 minutes)
#
# The same calls, longer: a U-Net of 1.1 million weights, trained on the 60,000 real pictures of Fashion-MNIST. A record
# beside its file holds the hash, the command and the scores.

# %%
from minidiff.weights import curve, record

entry, (recorded, recorded_losses) = record("fashion-denoiser"), curve("fashion-denoiser")
minutes = f"{entry['seconds'] / 60:.0f} minutes"
figures.recorded_run(recorded, recorded_losses, f"The recorded run: {entry['steps']:,} steps in {minutes}")
plt.show()
facts = {"command": entry["command"], "weights": f"{entry['parameters']:,}", "time": minutes, "on": entry["hardware"]}
show.table({name: [value] for name, value in facts.items()}, ["fashion-denoiser", ""])

# %% [markdown]
# **Predict** how many of 60 unselected pictures, the first six seeds of each class, an independently trained judge (a
# CNN) reads as the class that was asked for.

# %%
from minidiff.data.real import FASHION_NAMES
from minidiff.systems import fashion

tailor, critic = fashion.DENOISER.load().to(device), fashion.JUDGE.load().to(device)
garments = torch.arange(10).repeat_interleave(6)
clothes = fashion.pictures(range(10), w=0.0, per_class=6, steps=12, model=tailor)
share = float((critic.predict(clothes).cpu() == garments).double().mean())
columns = clothes.unflatten(0, (10, 6)).transpose(0, 1).flatten(0, 1)  # a class in each column
ax = show.grid(columns, title=f"One column per class, six seeds each: the judge agrees in {share:.0%}", scale=0.8)
ax.set_xticks([30 * k + 15 for k in range(10)], FASHION_NAMES, rotation=30, fontsize=8)
plt.show()
summary["Fashion-MNIST, 60 samples: judge agrees"] = share
assert share > 0.6

# %% [markdown]
# ## What you measured

# %%
shown = {name: [f"{value:.0%}" if "judge" in name else f"{value:.3g}"] for name, value in summary.items()}
show.table(shown, ["", "measured"])

# %% [markdown]
# **What to try next.**
#
# - In section 6, ask for `EPS` instead of `V`. At which noise levels does it lose? (Look at the weights in section 4.)
# - Train the MLP with `times.logit_normal()`: which end of the error curve pays for the better middle? (The open
#   experiment of the exercises goes on from here.)
# - Let `build_painter` ask for `VELOCITY` without a weight. How many steps does it need for pictures like these?
# - Sample the emoji with 4 and with 64 steps. When does the judge stop seeing a difference? When do you?
# - Let `minidiff train fashion-denoiser` run for an hour, and compare.
#
# **Next:** the [exercises](../exercises/02_conditional_training.ipynb), then
# [chapter 03](03_forward_models.ipynb), which conditions a model that was trained without any condition,
# [chapter 04](04_classifier_guidance.ipynb), which steers a model by a classifier, and
# [chapter 05](05_classifier_free_guidance.ipynb), which turns the label up beyond what was trained.
