# %% [markdown]
# # 02 Training a conditional model
#
# Chapter 01 knew every score in closed form. Pictures come without a formula. This chapter asks: **how does a network
# learn the arrows from examples alone, and how does it learn them for every label at once?** The answer is a
# regression so plain that it hardly looks like the heart of the matter: show the network a noisy example and its
# label, ask for the noise, punish the squared error.
#
# **You will learn** why that regression ends at the score of $p(x \mid y)$; what $\varepsilon$-, $x_0$-, $v$- and
# velocity-prediction have in common and where they differ; how to train on points, on handwritten digits (live) and
# on Fashion-MNIST (shipped weights); how many network calls a good sampler saves.
#
# **Budget: 90 s on two CPU cores.** You need chapter 01 (score, denoiser, noise levels) and PyTorch.
#
# [Lecture](../lectures/02_conditional_training.md) (the derivations) ·
# [exercises](../exercises/02_conditional_training.ipynb) · [start page](00_start.ipynb)

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.svm import SVC

from minidiff import show, times
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.backbones.unet import UNet
from minidiff.data.mixtures import ring, three_modes
from minidiff.data.real import FASHION_NAMES, digits, fashion_mnist
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.wasserstein import floor, w1
from minidiff.predictions import EPS, V, VELOCITY, X0
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, ddpm, dpmpp_2m, euler, heun, sample
from minidiff.schedules import DDPM, Cosine, Linear
from minidiff.shapes import expand_like
from minidiff.systems import fashion
from minidiff.randomness import initialised
from minidiff.training import diffuse, draw_rows, fit, pick_device
from minidiff.weights import curve, record

float64, device = torch.float64, pick_device()
results = {}  # the numbers of the closing table


def level(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=float64)


# %% [markdown]
# ## 1. What the network gets to see
#
# The world: eight clouds on a circle, every second one of class 0. The network sees a noisy point
# $x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon$, the time $t$, and the label $y$. **Expect** that for little noise the
# label is superfluous, as the place gives it away; and that for more and more noise it says something that nobody
# could read off $x_t$. How much exactly is known: the best possible classifier is $p(y \mid x_t)$, in closed form.

# %%
world, schedule = ring(), Cosine()
x0, y = world.sample(2000, seeded(0))
eps = randn(x0.shape, seeded(1), float64)
figure, axes = show.panels(1, 3, size=(3.1, 3.2))
readable = []
for ax, t in zip(axes, (0.05, 0.25, 0.6)):
    x_t = schedule.add_noise(x0, eps, level(t))
    readable.append(float((world.posterior_label(x_t, level(t), schedule).argmax(1) == y).double().mean()))
    show.points(x_t, y, ax=ax, limit=3.0, title=f"t = {t:g}: label readable in {readable[-1]:.0%}")
plt.show()
assert readable[0] > 0.99
assert readable[0] > readable[1] > readable[2]
assert readable[2] < 0.65

# %% [markdown]
# ## 2. Ask for the noise, and you get its average
#
# Many pairs $(x_0, \varepsilon)$ lead to the same $x_t$, so nobody can name the noise exactly. The guess with the
# least mean squared error is the *average* of all the noises that could have led here: $E[\varepsilon \mid x_t, y]$.
# No network is needed to see that. On a line, draw 200,000 pairs, sort them into bins of $x_t$, and average.
# **Expect** the averages (dots) on the exact curve (line), and another curve for each label.

# %%
line, t, cosine = three_modes(), level(0.3), Cosine()


def exact_eps(world, x_t, t, schedule, y=None):
    """E[ε | x_t, y] from the exact E[x0 | x_t, y], as x_t = α·x0 + σ·ε."""
    alpha, sigma = schedule(expand_like(t, x_t))
    return (x_t - alpha * world.denoise(x_t, t, schedule, y)) / sigma


x0, y = line.sample(200_000, seeded(2))
eps = randn(x0.shape, seeded(3), float64)
x_t = cosine.add_noise(x0, eps, t)
edges = torch.linspace(-1.5, 1.5, 31, dtype=float64)
middle, box = (edges[1:] + edges[:-1])[:, None] / 2, torch.bucketize(x_t[:, 0].contiguous(), edges) - 1

# %%
figure, (left, right) = show.panels(1, 2, size=(4.4, 3.2), sharey=True)
left.plot(x_t[:4000], eps[:4000], ".", color="grey", markersize=1.5, alpha=0.5)
gaps = []
for ax, label, rows in [(left, None, y >= 0)] + [(right, k, y == k) for k in range(3)]:
    means = torch.stack([eps[rows & (box == k), 0].mean() for k in range(30)])[:, None]
    enough = torch.tensor([(rows & (box == k)).sum() > 500 for k in range(30)])
    known = exact_eps(line, middle, t, cosine, label)
    gaps.append(float((means - known)[enough].abs().max()))
    drawn = ax.plot(middle[enough], known[enough], label="no label" if label is None else f"y = {label}")
    ax.plot(middle[enough], means[enough], "o", markersize=4, color=drawn[0].get_color())
left.set(xlabel="$x_t$", ylabel=r"noise $\varepsilon$", title="The average noise at $x_t$ lies on the exact curve")
right.set(xlabel="$x_t$", title="Given the label, another curve each")
right.legend()
plt.show()
results["average noise in bins, largest gap to the exact curve"] = max(gaps)
assert max(gaps) < 0.15

# %% [markdown]
# ## 3. That average is the score
#
# The lecture proves (Tweedie's formula) that
#
# $$\nabla_x \log p_t(x_t \mid y) = -\frac{E[\varepsilon \mid x_t, y]}{\sigma_t}.$$
#
# So a network that has learned to name the average noise knows the arrows of $p(x \mid y)$. **Expect** agreement to
# rounding, the left-hand side by automatic differentiation of the log-density, for three schedules and five times.

# %%
at, worst = show.lattice(2.0, 9), 0.0
for other in (Linear(), Cosine(), DDPM()):
    for t in (0.02, 0.2, 0.5, 0.8, 1.0):
        for label in (None, 0, 1):
            x = at.clone().requires_grad_()
            (arrows,) = torch.autograd.grad(world.log_prob(x, level(t), other, label).sum(), x)
            tweedie = -exact_eps(world, at, level(t), other, label) / other(level(t))[1]
            worst = max(worst, float((tweedie - arrows).abs().max() / arrows.abs().max()))
results["Tweedie with a label, largest relative error"] = worst
print(f"score by autograd against −E[ε|x_t, y]/σ: largest relative error {worst:.1e}")
assert worst < 1e-10

# %%
shorten = lambda v: v * (3 / v.norm(dim=1, keepdim=True)).clamp(max=1)  # far arrows would hide the near ones
figure, axes = show.panels(1, 3, size=(3.2, 3.4))
for ax, label, cmap in zip(axes, (None, 0, 1), ("Greys", "Blues", "Oranges")):
    show.density(lambda x, k=label: world.log_prob(x, level(0.3), schedule, k), ax=ax, cmap=cmap, alpha=0.8)
    arrows = lambda x, k=label: shorten(-exact_eps(world, x, level(0.3), schedule, k) / schedule(level(0.3))[1])
    title = "no label: to the nearest cloud" if label is None else f"y = {label}: to the nearest of its own"
    show.field(arrows, ax=ax, n=15, scale=70.0, title=title)
plt.show()

# %% [markdown]
# ## 4. Four targets, one piece of information
#
# A network may be asked for the noise $\varepsilon$ (DDPM), the clean $x_0$, for $v = \alpha\varepsilon - \sigma x_0$,
# or for the velocity $u = \alpha' x_0 + \sigma' \varepsilon$ (flow matching). As $x_t = \alpha x_0 + \sigma\varepsilon$
# is known, each is two linear equations away from the others. **Expect** round trips without loss: from the target
# back to $x_0$, and from a $v$-network's output to the $\varepsilon$, $u$ of the same $x_0$.

# %%
predictions, worst = (EPS, X0, V, VELOCITY), {}
for dtype in (torch.float64, torch.float32):
    x0, eps = (randn((64, 1, 8, 8), seeded(k), float64).to(dtype) for k in (4, 5))
    t, errors = expand_like(torch.linspace(0.05, 0.95, 64, dtype=float64), x0), []
    for other in (Linear(), Cosine(), DDPM()):
        alpha, sigma = (v.to(dtype) for v in other(t))
        x_t = alpha * x0 + sigma * eps
        for asked in predictions:
            back = asked.to_x0(other, x_t, asked.target(other, x0, eps, t), t)
            errors.append(float(((back - x0) * alpha).abs().max()))  # × α: what it means for x_t
    worst[dtype] = results[f"round trips of the four targets, {str(dtype)[6:]}"] = max(errors)
print("largest error:", {str(dtype)[6:]: f"{error:.0e}" for dtype, error in worst.items()})
assert worst[torch.float64] < 1e-12
assert worst[torch.float32] < 1e-5

# %% [markdown]
# **Where they differ: what they care about.** A wrong guess $\hat x_0$ costs $\lVert \hat x_0 - x_0 \rVert^2$ times a
# weight that depends on the target: the signal-to-noise ratio $\alpha^2/\sigma^2$ for $\varepsilon$, 1 for $x_0$, and in
# between for $v$ and $u$. **Expect** the loss of $\varepsilon$ to shout about little noise and to go silent near $t = 1$.
# (Lines: the lecture's formulas. Dots: `Denoiser.loss` of one and the same flawed denoiser.) The other knob is the
# *clock*, the density of training times: `logit_normal` looks more often at the middle.

# %%
grid, flaw = torch.linspace(0.02, 0.98, 49, dtype=float64), 0.1 * randn((64, 2), seeded(6), float64)
x0, eps = (randn((64, 2), seeded(k), float64) for k in (7, 8))
line_path, t_dots = Linear(), (0.05, 0.15, 0.3, 0.5, 0.7, 0.9)
alpha, sigma = line_path(grid)
weight = {"eps": (alpha / sigma) ** 2, "x0": torch.ones_like(grid), "v": ((alpha**2 + sigma**2) / sigma) ** 2}
weight["velocity"] = 1 / sigma**2


def loss_of(asked, t: torch.Tensor) -> float:
    """The loss of a network whose every guess is x0 + flaw, in the coordinates of `asked`."""
    alpha, sigma = line_path(t)
    guess = asked.target(line_path, x0 + flaw, (line_path.add_noise(x0, eps, t) - alpha * (x0 + flaw)) / sigma, t)
    return float(Denoiser(lambda x_t, t: guess, line_path, asked).loss(x0, t, eps).mean())


# %%
figure, (left, right) = show.panels(1, 2, size=(4.4, 3.3))
for asked in predictions:
    dots = torch.tensor([loss_of(asked, level(t)) / loss_of(X0, level(t)) for t in t_dots])
    drawn = left.semilogy(grid, weight[asked.name], label=asked.name)
    left.plot(t_dots, dots, "o", markersize=4, color=drawn[0].get_color())
    formula = weight[asked.name][[int((grid - t).abs().argmin()) for t in t_dots]]
    assert ((dots / formula).log().abs() < 0.7).all()  # the grid's nearest time, not the same one
left.set(xlabel="$t$", ylabel=r"weight of $\|\hat x_0 - x_0\|^2$", title="At t = 0.05, ε counts an error 361 times")
left.legend()
draws = torch.stack([clock(50_000, seeded(9)) for clock in (times.uniform, times.logit_normal())], dim=1)
right.hist(draws.numpy(), bins=40, density=True, histtype="step", linewidth=1.8, label=["uniform", "logit-normal"])
right.set(xlabel="$t$", ylabel="density", title="Clocks: how often a time is trained")
right.legend(loc="lower center")
plt.show()
results["weight of ε against x0 at t = 0.05 (361)"] = loss_of(EPS, level(0.05)) / loss_of(X0, level(0.05))
assert abs(results["weight of ε against x0 at t = 0.05 (361)"] - 361) < 1e-6

# %% [markdown]
# ## 5. Train
#
# Everything so far was known; now a small network (an MLP of 40,000 weights) learns it from samples alone. Each step:
# draw points and labels, draw $t$ and $\varepsilon$, and now and then (15 %) replace the label by "no label", so that
# one network learns the conditional *and* the unconditional arrows. **Predict:** does the loss go to zero?
#
# `initialised` seeds the first weights, `fit` trains and averages them (`ema`), `diffuse` adds noise to data.


# %%
def train(build, draw, steps: int, **options):
    """Train a fresh model; returns its averaged weights and the loss of every step."""
    run = list(fit(initialised(build, seed=0).to(device), draw, steps, **options))
    return run[-1].ema, [progress.loss for progress in run]


no_label = {"y": torch.tensor(world.n_classes)}
build_mlp = lambda: Denoiser(Conditioned(Labels(world.n_classes, 64), MLP(2, width=64)), schedule, V)
noisy_points = diffuse(world.draw(512), times.uniform, drop=0.15, null=no_label)
learned, losses = train(build_mlp, noisy_points, 2200, lr=4e-3, ema_decay=0.995)

# %% [markdown]
# The loss stops falling well above zero, and should: what is left is the spread of the noise around its average, which
# no network can predict. With the exact denoiser in place of the network, that remainder can be computed.

# %%
x0, y = world.sample(20_000, seeded(10))
eps, t = randn(x0.shape, seeded(11), float64), torch.rand(20_000, generator=seeded(12), dtype=float64)
x_t = schedule.add_noise(x0, eps, t)
alpha, sigma = schedule(t[:, None])
best_v = alpha * exact_eps(world, x_t, t, schedule, y) - sigma * world.denoise(x_t, t, schedule, y)
best_v_blind = alpha * exact_eps(world, x_t, t, schedule) - sigma * world.denoise(x_t, t, schedule)
target = alpha * eps - sigma * x0
least, blind = (float((best - target).square().mean()) for best in (best_v, best_v_blind))
smooth = torch.tensor(losses).unfold(0, 50, 50).mean(1)
figure, ax = plt.subplots(figsize=(5.6, 3.0))
ax.plot(range(50, len(losses) + 1, 50), smooth, label="training loss (mean of 50 steps)")
ax.axhline(0.85 * least + 0.15 * blind, color="black", linewidth=1, label="best possible, 15 % without a label")
ax.set(xlabel="step", ylabel="loss", title=f"The loss ends at {smooth[-10:].mean():.3f}; the best possible is not 0")
ax.legend()
plt.show()
results["loss at the end (best possible)"] = f"{smooth[-10:].mean():.3f} ({0.85 * least + 0.15 * blind:.3f})"
assert abs(float(smooth[-10:].mean()) - 0.85 * least - 0.15 * blind) < 0.02

# %% [markdown]
# **The exam.** How far is the learned $\varepsilon$ from the exact $E[\varepsilon \mid x_t, y]$? We measure the relative
# $L_2$ error over noisy points of all times. **Expect** a few per cent, and not evenly: smallest near $t = 1$,
# where there is little to know.


# %%
@torch.no_grad()
def learned_eps(model, x_t, t, labels):
    """The learned noise, computed on the model's device and brought back in float64."""
    guess = model(x_t.float().to(device), t.float().to(device), y=labels.to(device)).cpu().double()
    alpha, sigma = model.schedule(expand_like(t, x_t))
    return (x_t - alpha * guess) / sigma


def relative(got, want) -> float:
    return float((got - want).norm() / want.norm())


t = t.clamp(min=1e-3)
exact = exact_eps(world, x_t := schedule.add_noise(x0, eps, t), t, schedule, y)
error = results["learned ε against the exact one (at most 0.05)"] = relative(learned_eps(learned, x_t, t, y), exact)
wrong = relative(learned_eps(learned, x_t, t, 1 - y), exact)
print(f"relative L2 error of the learned ε: {error:.3f}; told the wrong label: {wrong:.3f}")
assert error < 0.05 < wrong / 3

# %%
levels, own, other = torch.linspace(0.0, 1.0, 11)[:-1] + 0.05, [], []
for low in levels - 0.05:
    rows = (t >= low) & (t < low + 0.1)
    own.append(relative(learned_eps(learned, x_t[rows], t[rows], y[rows]), exact[rows]))
    other.append(relative(learned_eps(learned, x_t[rows], t[rows], 1 - y[rows]), exact[rows]))
figure, ax = plt.subplots(figsize=(5.6, 3.0))
ax.semilogy(levels, own, marker="o", label="told the label")
ax.semilogy(levels, other, marker="s", linestyle="--", label="control: told the other label")
ax.axhline(0.05, color="black", linewidth=1)
ax.text(0.95, 0.053, "5 %", fontsize=9, ha="right")
ax.set(
    xlabel="noise level $t$", ylabel="relative error of ε", title=f"Over all times {error:.1%}; most of it at small $t$"
)
ax.legend()
plt.show()

# %% [markdown]
# ## 6. Ask for a label; ask for none
#
# Now sample with the learned arrows (Heun's method, next section). **Expect** three different clouds of points from
# *the same* network and *the same* noise: class 0, class 1, and, without a label, everything. W1 is the distance to
# exact samples; the floor is the W1 of two exact samples (chapter 01).
#
# The control is a second network, trained in the same way but with the labels of each batch *shuffled*, so that they
# mean nothing. **Predict** what it draws when asked for class 0.


# %%
def shuffled(draw):
    """The same data with labels that belong to other points."""

    def batch(generator):
        found = draw(generator)
        return {**found, "y": found["y"][torch.randperm(len(found["y"]), generator=generator)]}

    return batch


def drawn(model, label: int, n: int = 1000) -> torch.Tensor:
    noise = randn((n, 2), seeded(13)).to(device)
    *_, x = sample(bind(model, y=torch.tensor(label, device=device)), noise, times.linear(32), heun(model.schedule))
    return x.cpu().double()


fooled, _ = train(build_mlp, diffuse(shuffled(world.draw(512))), 600, lr=4e-3, ema_decay=0.99)

# %%
truth = {"y = 0": world.of_class(0), "y = 1": world.of_class(1), "no label": world}
excess = []  # of W1 over its floor
figure, axes = show.panels(1, 4, size=(2.7, 3.2))
for ax, (name, exact_world) in zip(axes, [*truth.items(), ("shuffled labels, y = 0", world)]):
    model, label = (fooled, 0) if "shuffled" in name else (learned, list(truth).index(name))
    x = drawn(model, label)
    distance = w1(x, exact_world.sample(1000, seeded(14))[0])
    lowest, spread = floor(lambda n, g, d=exact_world: d.sample(n, g)[0], 1000, repeats=3)
    results[f"W1, {name} (floor)"] = f"{distance:.3f} ({lowest:.3f} ± {spread:.3f})"
    show.density(lambda x, d=exact_world: d.log_prob(x, level(0.02), schedule), ax=ax, cmap="Greys", alpha=0.4)
    show.points(x, world.posterior_label(x, level(0.0), schedule).argmax(1), ax=ax, size=4, limit=2.5)
    ax.set_title(f"{name}\nW1 {distance:.2f} (floor {lowest:.2f})")
    excess.append(distance - lowest)
plt.show()
assert (excess[0] + excess[1]) / 2 < 0.05  # the mean of both classes: one W1 of 1,000 points wobbles by 0.02
assert max(excess) < 0.1
far = w1(drawn(fooled, 0), world.of_class(0).sample(1000, seeded(14))[0])
results["control: shuffled labels, W1 to class 0"] = far
print(f"asked for class 0, the network with shuffled labels is at W1 {far:.2f} from class 0: it draws everything")
assert far > 0.3

# %% [markdown]
# Without meaning in the labels the regression has nothing to gain from them and ends at the average over both classes.
# So a condition is never *enforced* by training; it is used exactly as far as it helps to predict the noise.
#
# ## 7. Samplers: fewer calls for the same answer
#
# Sampling follows an ordinary differential equation from noise to data, and a network call is the expensive part. To
# see the error of the *sampler* alone, take the exact denoiser. Two lines of theory:
#
# - Euler's method and DDIM keep the slope of the step's beginning: first order, error ∝ 1/calls;
# - Heun's method averages the slopes of both ends (two calls), DPM-Solver++ (2M) remembers the last call (one):
#   second order, error ∝ 1/calls².
#
# On the straight path, DDIM *is* Euler's method: **expect** the same numbers to the last digits.

# %%
straight, start, errors = Linear(), randn((100, 2), seeded(15), float64), {}
denoise = bind(world.denoiser(straight), y=0)
window = lambda steps: times.linear(steps, start=0.98, end=0.02)  # away from both ends, where formulas change
*_, reference = sample(denoise, start, window(400), heun(straight))
for name, step, calls in (
    ("Euler", euler(straight), 1), ("DDIM", ddim(straight), 1),
    ("Heun", heun(straight), 2), ("DPM++ 2M", dpmpp_2m(straight), 1),
):  # fmt: skip
    work = [8, 16, 32, 64, 128]
    ends = [list(sample(denoise, start, window(n // calls), step))[-1] for n in work]
    errors[name] = work, [float((x - reference).norm(dim=1).mean()) for x in ends]
twins = max(abs(a - b) for a, b in zip(errors["Euler"][1], errors.pop("DDIM")[1]))
errors = {"Euler = DDIM": errors.pop("Euler"), **errors}
results["DDIM against Euler on the straight path"] = twins
assert twins < 1e-12

# %%
title = "Twice the calls: half the error for Euler, a quarter for Heun and 2M"
show.slopes(errors, ylabel="mean distance to the exact end point", title=title)
plt.show()
slope = {name: -float(torch.tensor(e[1]).log2().diff().mean()) for name, e in errors.items()}
results["orders of Euler, Heun, 2M (1, 2, 2)"] = " · ".join(
    f"{slope[k]:.2f}" for k in ("Euler = DDIM", "Heun", "DPM++ 2M")
)
print("measured orders:", {name: f"{order:.2f}" for name, order in slope.items()})
assert abs(slope["Euler = DDIM"] - 1) < 0.15
assert slope["Heun"] > 1.6
assert slope["DPM++ 2M"] > 1.6

# %% [markdown]
# **DDPM against flow matching with eight calls.** Both know the same exact denoiser; they differ in the path
# (schedule) and the step. DDPM adds fresh noise at every step (`ddpm`); its deterministic sibling is `ddim` on the same
# schedule; flow matching walks the straight path. **Expect** DDPM to need many more steps. Look at the fourth row of
# the table as well: who deserves the credit, flow matching or its schedule?

# %%
old, contestants = DDPM(), {}
contestants["DDPM: ancestral"] = old, ddpm(old), 1
contestants["DDIM on DDPM's schedule"] = old, ddim(old), 1
contestants["flow matching: Euler, straight path"] = straight, euler(straight), 1
contestants["DDIM on the cosine schedule"] = cosine, ddim(cosine), 1
contestants["Heun, straight path"] = straight, heun(straight), 2
contestants["DPM++ 2M, straight path"] = straight, dpmpp_2m(straight), 1


def distance(name: str, calls: int, seed: int) -> float:
    path, step, per_step = contestants[name]
    noise, exact = randn((2000, 1), seeded(seed), float64), line.sample(2000, seeded(100 + seed))[0]
    walk = sample(bind(line.denoiser(path)), noise, times.linear(calls // per_step), step, seeded(200 + seed))
    return w1(list(walk)[-1], exact)


found = {n: torch.tensor([[distance(n, c, s) for s in range(3)] for c in (4, 8, 16, 32)]) for n in contestants}

# %%
figure, ax = plt.subplots(figsize=(6.2, 3.6))
for name, values in found.items():
    mean, spread = values.mean(1), values.std(1)
    ax.errorbar((4, 8, 16, 32), mean, spread, marker="o", markersize=4, capsize=2, label=name)
    results[f"W1 with 8 calls, {name}"] = f"{mean[1]:.3f} ± {spread[1]:.3f}"
lowest, _ = floor(lambda n, g: line.sample(n, g)[0], 2000)
ax.axhspan(0.01, lowest, color="grey", alpha=0.2, label="floor: two exact samples", linewidth=0)
ax.set(xscale="log", yscale="log", ylim=(0.02, 0.6), xlabel="calls of the denoiser", ylabel="W1 to exact samples")
ax.set_xticks([4, 8, 16, 32], ["4", "8", "16", "32"])
ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
ax.minorticks_off()
ax.set_title("With 8 calls DDPM is far behind the straight path")
ax.legend(fontsize=8)
plt.show()
eight = {name: float(values[1].mean()) for name, values in found.items()}
assert eight["flow matching: Euler, straight path"] < 0.75 * eight["DDIM on DDPM's schedule"]
assert eight["DDIM on DDPM's schedule"] < eight["DDPM: ancestral"]

# %% [markdown]
# The cosine schedule with DDIM does as well as flow matching: what costs DDPM so much is that its schedule spends most
# of its times at nearly pure noise, and that it throws fresh noise into every step. "Flow matching" is above all a
# choice of path and clock.
#
# ## 8. Real pictures: handwritten digits, live
#
# 1,500 scanned digits of 8×8 pixels, ten labels. Nothing changes but the network: a small U-Net in place of the MLP.
# **Expect** after half a minute digits that you can read. The judge knows nothing of diffusion: a support vector
# machine trained on the real digits. Chance is 10 %.

# %%
real, unseen = digits(), digits(train=False)
judge = SVC().fit(real["x0"].flatten(1), real["y"])
judged = lambda x: torch.from_numpy(judge.predict(x.cpu().clamp(-1, 1).flatten(1).numpy()))
human = float((judged(unseen["x0"]) == unseen["y"]).double().mean())
build_unet = lambda: Denoiser(
    Conditioned(Labels(10, 96), UNet(1, widths=(64,), depth=1, patch=2, embedding=96)), Linear(), VELOCITY
)
noisy_digits = diffuse(draw_rows(real, 64), times.uniform, drop=0.1, null={"y": torch.tensor(10)})
writer, losses = train(build_unet, noisy_digits, 350, lr=4e-3, ema_decay=0.98)
print(f"the judge reads {human:.1%} of real digits it has never seen; the loss ended at {sum(losses[-50:]) / 50:.3f}")

# %%
labels = torch.arange(10).repeat_interleave(10)
noise = randn((100, 1, 8, 8), seeded(range(100))).to(device)
asked = {"with labels": labels.to(device), "control, no label": torch.full_like(labels, 10).to(device)}
figure, axes = show.panels(1, 2, size=(4.2, 4.5))
for ax, (name, y) in zip(axes, asked.items()):
    *_, x = sample(bind(writer, y=y), noise, times.linear(16), dpmpp_2m(writer.schedule))
    share = results[f"digits, {name}: judge agrees"] = float((judged(x) == labels).double().mean())
    show.grid(x, rows=list("0123456789"), ax=ax, title=f"{name}: judge reads the row's digit in {share:.0%}")
plt.show()
assert results["digits, with labels: judge agrees"] > 0.8
assert results["digits, control, no label: judge agrees"] < 0.25

# %% [markdown]
# The same noise, the same network: with labels each row is one digit; without, the rows are a mixture of all ten, and
# the judge agrees by chance only.
#
# ## 9. Play: what the label adds at each noise level
#
# Slide $t$. First row: eight real digits with that much noise. Then the network's guess $\hat x_0$, told the right
# label, told nothing, told a wrong one. **Watch** at which noise level the guess begins to follow the label instead of
# the picture; that is the moment when conditions decide what a sampler draws.

# %%
first = [int((unseen["y"] == k).nonzero()[0]) for k in (0, 2, 3, 4, 5, 6, 8, 9)]
clean, truth = unseen["x0"][first], unseen["y"][first]
noise = randn(clean.shape, seeded(range(8)))


def guesses(t: float) -> plt.Figure:
    x_t = writer.schedule.add_noise(clean, noise, torch.tensor(t)).to(device)
    told = {"right label": truth, "no label": torch.full_like(truth, 10), "wrong label": (truth + 1) % 10}
    with torch.no_grad():
        guess = {name: writer(x_t, torch.tensor(t), y=y.to(device)).cpu() for name, y in told.items()}
    hits = {name: int((judged(x) == truth).sum()) for name, x in guess.items()}
    rows = ["noisy", *(f"{name} ({hits[name]}/8)" for name in told)]
    figure, ax = plt.subplots(figsize=(6.4, 3.3))
    title = f"t = {t:.2f}: guesses, and how many show the true digit"
    show.grid(torch.cat([x_t.cpu(), *guess.values()]), columns=8, rows=rows, ax=ax, title=title)
    return figure


explorer = show.explore(
    guesses, static=[{"t": 0.3}, {"t": 0.8}], t=show.Slider(0.02, 1.0, 0.02, start=0.5, label="noise level t")
)

# %% [markdown]
# ## 10. Fashion-MNIST from shipped weights
#
# The same code, longer: a U-Net of 1.1 million weights, trained on the 60,000 real pictures of Fashion-MNIST by the
# command below. A record beside its file holds the hash, the command and the scores.
# **Expect** ten kinds of clothing, unselected: the first ten seeds of each class. The judge is a CNN, trained apart.

# %%
entry, (steps, losses) = record("fashion-denoiser"), curve("fashion-denoiser")
for key in ("command", "steps", "seconds", "hardware", "parameters", "bytes", "scores"):
    print(f"{key:<11} {entry[key]}")
figure, ax = plt.subplots(figsize=(5.6, 2.6))
ax.semilogx(steps, losses)
ax.set(
    xlabel="step",
    ylabel="loss",
    title=f"The recorded run: {entry['steps']:,} steps in {entry['seconds'] / 60:.0f} minutes",
)
plt.show()

# %%
tailor, critic = fashion.DENOISER.load().to(device), fashion.JUDGE.load().to(device)
labels = torch.arange(10).repeat_interleave(10)
clothes = fashion.pictures(range(10), w=0.0, per_class=10, steps=12, model=tailor)
share = float((critic.predict(clothes).cpu() == labels).double().mean())
results["Fashion-MNIST, 100 samples: judge agrees"] = share
title = f"One row per class, first ten seeds: the judge agrees in {share:.0%}"
show.grid(clothes, rows=list(FASHION_NAMES), title=title, scale=0.5)
plt.show()
assert share > 0.6

# %% [markdown]
# If the data are on this machine, the next cell takes the first steps of that very training, to show that nothing is
# hidden: the loss starts near 1.5 and falls at once. If they are not, it says so and goes on.

# %%
try:
    data = fashion_mnist(download=False)
    noisy_clothes = diffuse(draw_rows(data, 32), times.logit_normal(), drop=0.15, null=fashion.NULL)
    _, losses = train(fashion.build_denoiser, noisy_clothes, 10, lr=1e-3)
    print("loss of the first steps:", " ".join(f"{loss:.2f}" for loss in losses))
    assert losses[-1] < losses[0]
except RuntimeError:
    print("Fashion-MNIST is not on this machine. With internet, minidiff.data.real.fashion_mnist() brings it.")

# %% [markdown]
# ## What you measured

# %%
for name, value in results.items():
    shown = value if isinstance(value, str) else f"{value:.0%}" if "agrees" in name else f"{value:.3g}"
    print(f"{name:<58} {shown}")

# %% [markdown]
# **What to try next.**
#
# - In step 5, ask for `EPS` instead of `V`. At which noise levels does it lose? (Look at the weights in step 4.)
# - Train the MLP with `times.logit_normal()`: which end of the error curve pays for the better middle?
# - Sample the digits with 4 and with 64 steps. When does the judge stop seeing a difference? When do you?
# - Ask the digit network for class 3 with the noise of a picture of class 8. What stays the same?
# - Let `minidiff train fashion-denoiser` run for an hour, and compare.
#
# **Next:** the [exercises](../exercises/02_conditional_training.ipynb), then
# [chapter 03](03_forward_models.ipynb), which conditions a model that was trained without any condition,
# [chapter 04](04_classifier_guidance.ipynb), which steers a model by a classifier, and
# [chapter 05](05_classifier_free_guidance.ipynb), which turns the label up beyond what was trained.
