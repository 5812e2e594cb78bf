# %% [markdown]
# # 01 Bayes' rule for scores
#
# A diffusion model follows arrows. This chapter asks one question: **if you know the arrows that lead to any
# picture, how must they turn so that they lead to the picture you asked for?** The answer is one line of algebra,
# and everything later in the course (classifier guidance, classifier-free guidance, prompts) is a way to use it.
#
# **You will learn** what a score is and why models learn it; why noise is added; Bayes' rule for scores; why it
# needs a classifier that has seen noise; what the strength $w$ does, and what it does not do.
#
# **Budget: 90 s on two CPU cores** (about 16 s of CPU time). You need calculus, a little probability, and
# PyTorch. No trained network appears here: the worlds are Gaussian mixtures, whose every score is known exactly, so each
# claim is checked to many digits.
#
# [Lecture](../lectures/01_bayes_rule.md) (the derivations) · [exercises](../exercises/01_bayes_rule.ipynb) ·
# [start page](00_start.ipynb)

# %%
import matplotlib.pyplot as plt
import torch

from minidiff import show, times
from minidiff.data.mixtures import ring, three_modes
from minidiff.guidance import bind, classifier
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import DDPM, Cosine, Karras, Linear
from minidiff.training import pick_device

float64, device = torch.float64, pick_device()  # 16 digits, so that "equal" can mean equal
device = device if device.type != "mps" else torch.device("cpu")  # Apple's GPUs have no float64
results = {}  # the numbers of the closing table

# %% [markdown]
# ## 1. A score is an arrow that points uphill
#
# Our first world lives on a line: three hills of data, at −1.2, 0.2 and 1.2, with 50 %, 20 % and 30 % of the points.
# The **score** is the slope of the logarithm of the density, $\nabla_x \log p(x)$. On a line it is a number: positive
# means "more data to the right", negative "more data to the left".
#
# **Expect** arrows that climb the nearest hill, and next to none at a summit or in the middle of a valley. As a check,
# PyTorch differentiates $\log p$ by itself (`slope`) and must find what the formula of the library (`score`) says.


# %%
def level(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=float64)


def slope(f, x: torch.Tensor) -> torch.Tensor:
    """∇f(x) by automatic differentiation: f maps (B, D) to (B,), the result is (B, D)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


world, schedule, clean = three_modes(), Linear(), level(0.0)
log_p = lambda x, t=clean: world.log_prob(x, t, schedule)
score = lambda x, t=clean: world.score(x, t, schedule)

# %%
show.hill(log_p, score, title="The score points uphill: green to the right, red to the left")
plt.show()
x = show.line(3.0)
gap = results["score, formula against autograd"] = float((score(x) - slope(log_p, x)).abs().max())
print(f"largest difference between the formula and automatic differentiation: {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# ## 2. Follow the arrows
#
# Arrows are enough to draw samples. Let walkers take many small steps uphill, with a random kick each time:
#
# $$x \leftarrow x + h\,\nabla\log p(x) + \sqrt{2h}\;z, \qquad z \sim N(0, 1).$$
#
# This is *Langevin's* walk; the kick is exactly as strong as it must be so that in the long run the walkers are
# spread like $p$. **Predict:** all 1,000 walkers start on the right-hand hill. After 400 steps, how many of them are
# on the left-hand one, where half of the data are?


# %%
def walk(x: torch.Tensor, steps: int, h: float, generator: torch.Generator) -> torch.Tensor:
    trace = [x]
    for _ in range(steps):
        x = x + h * score(x) + (2 * h) ** 0.5 * randn(x.shape, generator, float64).to(x)
        trace.append(x)
    return torch.stack(trace)[..., 0]  # (steps + 1, N)


start = (1.2 + 0.1 * randn((1000, 1), seeded(0), float64)).to(device)
trace = walk(start, steps=400, h=0.005, generator=seeded(1))
share = results["walkers on the left hill (0.5 should be)"] = float((trace[-1] < -0.5).double().mean())
figure, (ax, side) = plt.subplots(1, 2, figsize=(7.2, 3.0), width_ratios=(3, 1), sharey=True)
ax.plot(trace[:, :40].cpu(), linewidth=0.5, alpha=0.7)
ax.set(xlabel="step", ylabel="$x$", title=f"Stuck: {share:.0%} of the walkers reach the left hill, 50% should")
side.hist(trace[-1].cpu(), bins=50, range=(-2.5, 2.5), density=True, orientation="horizontal", alpha=0.5)
side.plot(log_p(show.line(2.5)).exp(), show.line(2.5)[:, 0], color="black")
side.set(xlabel="density", title="walkers, and $p$")
plt.show()
assert share < 0.15, "the long run has not been reached"

# %% [markdown]
# Each walker finds a hill and explores it, but the valley is so deep that hardly anyone crosses it. The arrows there
# point back. The cure is noise: **blur the world until the valleys are gone, then unblur it slowly.**
#
# ## 3. Noise levels
#
# A noisy point is $x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon$ with $\varepsilon \sim N(0, I)$. At $t = 0$ it is data
# ($\alpha = 1, \sigma = 0$), at $t = 1$ noise. Here $\alpha_t = 1 - t$ and $\sigma_t = t$. Every noise level has its
# own density $p_t$ and its own score. **Expect** one lake on the left that parts into three rivers: at $t = 1$ there
# is a single hill, and whoever starts there and follows the scores of falling $t$ ends on one of the three hills, *in
# the right proportion*. (The step that does it, Heun's, is the subject of chapter 02. Here it is enough that it works.)


# %%
def travel(denoise, n: int = 2000, seed: int = 0, steps: int = 50) -> torch.Tensor:
    """n points from pure noise to data, with every station on the way: (steps + 1, n, 1)."""
    noise = randn((n, 1), seeded(seed), float64).to(device)
    return torch.stack([noise, *sample(denoise, noise, times.linear(steps), heun(schedule))])


def hill_of(x: torch.Tensor) -> torch.Tensor:
    return world.posterior_label(x, clean, schedule).argmax(1)  # (N,): 0, 1 or 2, the most likely hill


stations = travel(bind(world.denoiser(schedule)))
exact, _ = world.sample(2000, seeded(100))
distance, (lowest, spread) = w1(stations[-1], exact), floor(lambda n, g: world.sample(n, g)[0], 2000)
results["W1 of samples from noise"] = f"{distance:.3f} (floor {lowest:.3f} ± {spread:.3f})"

# %%
title = f"From noise to data: W1 to the truth {distance:.3f} (floor {lowest:.3f})"
show.river(log_p, times.linear(50), stations[:, :40, 0], hill_of(stations[-1, :40]), title=title)
plt.show()
shares = hill_of(stations[-1]).bincount(minlength=3) / 2000
print("share of each hill:", [f"{s:.2f}" for s in shares.tolist()], "(should be 0.50, 0.20, 0.30)")
assert distance < lowest + 0.05
assert abs(float(shares[0]) - 0.5) < 0.05

# %% [markdown]
# *W1* is the Wasserstein distance: how far, on average, points must be moved to turn one sample into the other. Two
# samples of the *same* density are not at distance 0 either; that is the floor, and it is always measured beside.
#
# ## 4. What the network learns: the best guess behind the noise
#
# The code above said `denoiser`, not `score`. The **denoiser** is $\hat x_0(x_t, t) = E[x_0 \mid x_t]$, the average of
# all clean points that the noisy point may have come from. Tweedie's formula says that it is the score in other clothes:
#
# $$\nabla \log p_t(x_t) = \frac{\alpha_t\,\hat x_0(x_t, t) - x_t}{\sigma_t^2}.$$
#
# **Expect**, for little noise, a guess that stays near $x_t$; for noise alone, one number: the mean of all data. The
# oracle is brute force: average 200,000 clean points, each weighed by how well it explains $x_t$.

# %%
pool, probes = world.sample(200_000, seeded(2))[0], show.line(2.0, 9)
figure, ax = plt.subplots(figsize=(5.4, 3.2))
for t in (0.1, 0.3, 0.6, 1.0):
    alpha, sigma = schedule(level(t))
    brute = (-((probes - alpha * pool.T) ** 2) / (2 * sigma**2)).softmax(1) @ pool  # (9, 1)
    error = (world.denoise(probes, level(t), schedule) - brute).abs().max()
    ax.plot(x, world.denoise(x, level(t), schedule), label=f"$t$ = {t:g}")
    ax.plot(probes, brute, "k.", markersize=5)
    print(f"t = {t:g}: the formula and the average of 200,000 points differ by {error:.4f}")
    assert error < 0.03
title = "Little noise: near $x_t$. Only noise: the mean (dots: brute force)"
ax.set(xlabel="$x_t$", ylabel=r"best guess $\hat x_0$", title=title)
ax.legend()
plt.show()

# %%
worst = 0.0
for other in (Linear(), Cosine(), DDPM(), Karras()):
    for t in (0.01, 0.1, 0.5, 0.9, 1.0):
        alpha, sigma = other(level(t))
        tweedie = (alpha * world.denoise(x, level(t), other) - x) / sigma**2
        target = world.score(x, level(t), other)
        worst = max(worst, float((tweedie - target).abs().max() / target.abs().max()))
results["Tweedie's formula, relative error"] = worst
print(f"Tweedie's formula, four schedules, five noise levels: largest relative error {worst:.1e}")
assert worst < 1e-10

# %% [markdown]
# ## 5. Bayes' rule for scores
#
# Now you ask for something: hill $y = 2$, the one on the right. Bayes' rule says
# $p(x \mid y) = p(x)\,p(y \mid x)/p(y)$. Take the logarithm, then the gradient with respect to $x$:
#
# $$\nabla_x \log p(x \mid y) = \nabla_x \log p(x) + \nabla_x \log p(y \mid x) - \underbrace{\nabla_x \log p(y)}_{=\,0}$$
#
# The last term is zero because $p(y)$ is a number: how common the class is does not depend on where $x$ is.
# **Expect**, at noise level $t = 0.3$, the arrows of the prior, which knows nothing of your wish; those of a
# classifier, which only says "further right"; and their sum, which leads to the right-hand hill alone. The classifier
# is the exact one: the share that hill $y$ has in the density at $x$.

# %%
y, t = 2, level(0.3)
log_py = lambda x, t=t, y=y: world.posterior_label(x, t, schedule)[:, y].log()  # log p(y|x_t)
summed = lambda x: score(x, t) + slope(log_py, x)
target = world.score(x, t, schedule, y)  # the score of p(x|y) in closed form, without Bayes
figure, (prior, likelihood, posterior, ax) = show.panels(2, 2, size=(4.0, 2.6))
show.hill(lambda x: log_p(x, t), lambda x: score(x, t), ax=prior, title="The prior leads to every hill")
show.hill(log_py, lambda x: slope(log_py, x), ax=likelihood, color="#E69F00", name="p(y|x)")
likelihood.set_title("+ the classifier only says: further right")
show.hill(lambda x: world.log_prob(x, t, schedule, y), summed, ax=posterior, color="#009E73", name="p(x|y)")
posterior.set_title("= to the hill you asked for")
ax.plot(x, torch.cat([score(x, t), slope(log_py, x), target], dim=1), label=["prior", "+ classifier", "exact $p(x|y)$"])
ax.plot(x[::12], summed(x)[::12], "k.", markersize=5, label="= their sum")
ax.set(xlabel="$x$", ylabel="score", title=f"The sum is exact: error {(summed(x) - target).abs().max():.0e}")
ax.legend()
plt.show()
assert (summed(x) - target).abs().max() < 1e-12

# %% [markdown]
# **Constants are free.** That $\nabla_x \log p(y) = 0$ means that nobody needs to know $p(y)$: a classifier may be off by
# any factor $e^{c(y)}$ that depends on the class only, and guide just as well. For the same reason models learn scores
# and not densities: a density must integrate to 1, and for a picture of 784 pixels nobody can compute that integral; but
# if $p(x) = f(x)/Z$, the slope of $\log Z$ is zero. A factor that depends on $x$ is another matter. Try all three.

# %%
changes = {
    "log Z, wrong by 1000": slope(lambda x: log_p(x, t) + 1000.0, x) - slope(lambda x: log_p(x, t), x),
    "c(y) = 123 (y + 1)": slope(lambda x: log_py(x) + 123.0 * (y + 1), x) - slope(log_py, x),
    "c(x) = x/2": slope(lambda x: log_py(x) + 0.5 * x[:, 0], x) - slope(log_py, x),
}
for name, change in changes.items():
    print(f"adding {name:<22} changes the arrows by {change.abs().max():.3g}")
results["adding any c(y) changes the arrows by"] = float(changes["c(y) = 123 (y + 1)"].abs().max())
assert [bool(change.any()) for change in changes.values()] == [False, False, True]

# %% [markdown]
# ## 6. At every noise level, for every schedule
#
# Samplers use the scores of *all* noise levels, so the rule must hold at each: with $p_t(x_t)$, $p(y \mid x_t)$ and
# $p_t(x_t \mid y)$, every term at the same $t$. **Expect** rounding errors only, for times from 0 to 1, on all four
# schedules of the library. The dashed curves are the control: the same comparison with the classifier's term left out.
# They fall at the right, as pure noise says nothing about $y$: the less there is to say, the less one can get wrong.


# %%
def errors(schedule, t: torch.Tensor) -> tuple[float, float]:
    """Largest |prior + classifier − conditional| over 300 points and 3 classes; the same without the classifier."""
    x0, gaps = world.sample(300, seeded(3))[0], []
    x_t = schedule.add_noise(x0, randn(x0.shape, seeded(4), float64), t)
    prior = world.score(x_t, t, schedule)
    for y in range(3):
        target = world.score(x_t, t, schedule, y)
        term = slope(lambda x, y=y: world.posterior_label(x, t, schedule)[:, y].log(), x_t)
        gaps.append([float((prior + term - target).abs().max()), float((prior - target).abs().max())])
    return tuple(max(column) for column in zip(*gaps))


levels = [0.0, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1 - 1e-9, 1.0]
schedules = (Linear(), Cosine(), DDPM(), Karras())
table = {type(s).__name__: torch.tensor([errors(s, level(t)) for t in levels]) for s in schedules}  # (15, 2) each

# %%
worst = max(float(row[:, 0].max()) for row in table.values())
results["Bayes' rule, largest error at any t"] = worst
figure, ax = plt.subplots(figsize=(5.6, 3.4))
for name, row in table.items():
    line = ax.loglog(levels[1:], row[1:, 0].clamp(min=1e-17), marker=".", label=name)
    ax.loglog(levels[1:], row[1:, 1].clamp(min=1e-17), "--", linewidth=1, color=line[0].get_color())
ax.axhline(1e-6, color="black", linewidth=0.8)
ax.text(1.0, 2e-6, "the claim: below this line ", ha="right")
title = f"The rule holds to {worst:.0e} at every $t$ (dashed: term left out)"
ax.set(xlabel="noise level $t$", ylabel="largest error", ylim=(1e-17, 1e4), title=title)
ax.legend(ncol=2, loc=(0.02, 0.3))
plt.show()
assert worst < 1e-12
assert all(float(row[torch.tensor(levels) <= 0.1, 1].min()) > 1.0 for row in table.values())

# %% [markdown]
# ## 7. In the plane: arrows add
#
# Two dimensions, six clouds on a circle, three classes of two opposite clouds each. **Expect** the same sum, drawn:
# the prior's arrows lead to whatever is near, the classifier's away from the other classes, and their sum to the two
# clouds of class 0. The shades show $p_t(x)$, $p(y \mid x_t)$ and $p_t(x \mid y)$. One arrow scale for all three
# panels, so you can add them by eye.

# %%
plane, t = ring(6, radius=1.6, std=0.35, n_classes=3), level(0.4)
plane_py = lambda x, t=t, y=0: plane.posterior_label(x, t, schedule)[:, y].log()
prior = lambda x: plane.score(x, t, schedule)
likelihood = lambda x: slope(plane_py, x)
summed = lambda x: prior(x) + likelihood(x)
shades = (lambda x: plane.log_prob(x, t, schedule), plane_py, lambda x: plane.log_prob(x, t, schedule, 0))
titles = ("The prior: to any cloud", "+ classifier: away from the others", "= posterior: to class 0 alone")
figure, axes = show.panels(1, 3, size=(3.3, 3.5))
for ax, shade, vectors, cmap, title in zip(
    axes, shades, (prior, likelihood, summed), ("Blues", "Oranges", "Greens"), titles
):
    show.density(shade, ax=ax, limit=2.4, cmap=cmap, alpha=0.8)
    show.field(vectors, ax=ax, limit=2.4, n=15, scale=90.0, title=title)
plt.show()
at = show.lattice(2.4, 15)
gap = float((summed(at) - plane.score(at, t, schedule, 0)).abs().max())
results["the same in the plane"] = gap
print(f"sum of the fields against the closed form of p(x|y): {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# ## 8. Play
#
# Slide the noise level $t$ from 1 to 0 and watch one hill fall apart into the hills that you asked for. Then slide the
# strength $w$, which multiplies the classifier's arrows: 0 ignores your wish, 1 is Bayes' rule, more exaggerates.
# Left, the line: all data in grey, $p_t(x)\,p(y \mid x_t)^w$ in colour. Right, the same in the plane. (From here on
# $\log p(y \mid x_t)$ comes from `log_prob_label`: the same number, also where $p(y \mid x_t)$ is too small for a float.)


# %%
log_py = lambda x, t, y: world.log_prob_label(x, t, schedule, y)
plane_py = lambda x, t, y: plane.log_prob_label(x, t, schedule, y)
assert torch.allclose(log_py(x, level(0.3), 2), world.posterior_label(x, level(0.3), schedule)[:, 2].log(), atol=1e-12)


def draw_line(ax: plt.Axes, t: torch.Tensor, w: float, y: int) -> None:
    x, weighted = show.line(3.0), lambda x: log_p(x, t) + w * log_py(x, t, y)
    log_z = (weighted(x).exp() * 0.02).sum().log()  # the points of x are 0.02 apart
    share = ((weighted(x) - log_z + log_py(x, t, y)).exp() * 0.02).sum()
    ax.fill_between(x[:, 0], log_p(x, t).exp(), color="grey", alpha=0.3, linewidth=0)
    show.hill(lambda x: weighted(x) - log_z, lambda x: slope(weighted, x), ax=ax, name=r"p_t(x)\,p(y|x)^w")
    ax.set_title(f"t = {t:.2f}, w = {w:g}: {share:.0%} look like class {y}")


def draw_plane(ax: plt.Axes, t: torch.Tensor, w: float, y: int) -> None:
    weighted = lambda x: plane.log_prob(x, t, schedule) + w * plane_py(x, t, y)
    top = weighted(show.lattice(3.0, 60)).max()
    show.density(lambda x: weighted(x) - top, ax=ax, limit=3.0, n=60)
    shorten = lambda v: v * (15 / v.norm(dim=1, keepdim=True)).clamp(max=1)  # arrows far out would hide the rest
    show.field(lambda x: shorten(slope(weighted, x)), ax=ax, limit=3.0, n=13, scale=150.0, title=f"class {y}")


# %%
def both_worlds(t: float, w: float, y: int) -> plt.Figure:
    figure, (left, right) = show.panels(1, 2, size=(4.2, 3.7))
    draw_line(left, level(t), w, y)
    draw_plane(right, level(t), w, y)
    return figure


explorer = show.explore(
    both_worlds, static=[{"t": 0.7}, {"t": 0.2}, {"t": 0.2, "w": 3.0}],
    t=show.Slider(0.02, 1.0, 0.02, start=0.4, label="noise level t"),
    w=show.Slider(0.0, 5.0, 0.5, start=1.0, label="strength w"), y=[2, 1, 0],
)  # fmt: skip

# %% [markdown]
# ## 9. Ask, and get it
#
# Now the sampler of step 3 with the new arrows. `classifier(denoise, log_prob, schedule, w)` adds the term to the
# denoiser: by Tweedie's formula, adding $g$ to the score means adding $(\sigma_t^2/\alpha_t)\,g$ to the guess
# $\hat x_0$. The prior's denoiser never hears of $y$; only the classifier does.
#
# **Expect** the very noise of step 3 to be led to the hill of your choice, at a distance to the exact $p(x \mid y)$ near
# the floor. As a control, the table at the end also has the unguided samples against the same $p(x \mid y)$.


# %%
def guided(log_prob, w: float = 1.0):
    return classifier(bind(world.denoiser(schedule)), log_prob, schedule, w)


figure, axes = show.panels(1, 3, size=(3.1, 2.9), sharey=True)
for y, ax in enumerate(axes):
    arrived = travel(guided(lambda x, t, y=y: log_py(x, t, y)))
    wanted, label = world.of_class(y).sample(2000, seeded(200 + y))[0], torch.full((40,), y)
    distance, unguided = w1(arrived[-1], wanted), w1(stations[-1], wanted)
    lowest, spread = floor(lambda n, g, y=y: world.of_class(y).sample(n, g)[0], 2000)
    results[f"W1 to p(x|y={y})"] = f"{distance:.3f} (floor {lowest:.3f} ± {spread:.3f}; unguided {unguided:.2f})"
    log_pxy = lambda x, t, y=y: world.log_prob(x, t, schedule, y)
    show.river(log_pxy, times.linear(50), arrived[:, :40, 0], label, ax=ax)
    ax.set_title(f"y = {y}: W1 {distance:.3f} (floor {lowest:.3f})")
    assert distance < lowest + 0.02 < unguided / 10
figure.suptitle("Prior + classifier reproduces the conditional: every path ends on the hill asked for")
plt.show()

# %% [markdown]
# ## 10. The classifier must have seen noise
#
# A tempting short cut: take a classifier of *clean* points, $p(y \mid x_0)$, and feed it the noisy $x_t$, or $x_t/\alpha_t$
# to undo the shrinking. Why is that not Bayes' rule? Because the right classifier has to say what $y$ *was* when all it
# sees is $x_t$, and so it must average over everything that $x_0$ may have been:
#
# $$p(y \mid x_t) = \int p(y \mid x_0)\;p(x_0 \mid x_t)\,dx_0 \;=\; E\big[\,p(y \mid x_0)\;\big|\;x_t\big].$$
#
# The clean classifier is *sure* about a point that the noise may have carried anywhere. **Expect** that average to be
# exact, the clean classifier to agree as $t \to 0$, and then a gap that grows and grows. **Predict** what the gap does
# to samples: are they better or worse than without any guidance?

# %%
clean_py = lambda x, t: log_py(x, clean, 2)  # pretends that x_t is clean
rescaled_py = lambda x, t: log_py(x / (1 - t), clean, 2)  # undoes α_t first


def averaged_py(x, t, y=2):  # log E[p(y|x0) | x_t], by a sum over a fine grid of x0
    grid, (alpha, sigma) = show.line(4.0, 2001), schedule(t)
    weights = (log_p(grid) - (x - alpha * grid.T) ** 2 / (2 * sigma**2)).softmax(1)  # p(x0|x_t), (B, 2001)
    return (weights @ log_py(grid, clean, 2).exp()).log()


def wrongness(log_prob, t: torch.Tensor) -> float:
    """Relative error of ∇log_prob against ∇log p(y|x_t), over 1,000 points of noise level t."""
    x0 = world.sample(1000, seeded(5))[0]
    x_t = schedule.add_noise(x0, randn(x0.shape, seeded(6), float64), t)
    right = slope(lambda x: log_py(x, t, 2), x_t)
    return float((slope(lambda x: log_prob(x, t), x_t) - right).norm() / right.norm())


# %%
levels = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
candidates = {"clean, at $x_t$": clean_py, r"clean, at $x_t/\alpha_t$": rescaled_py, "clean, averaged": averaged_py}
curves = {name: [wrongness(f, level(t)) for t in levels[3 * (f is averaged_py) :]] for name, f in candidates.items()}
wanted = world.of_class(2).sample(2000, seeded(202))[0]
arrived = {"noisy": travel(guided(lambda x, t: log_py(x, t, 2)))[-1], "clean": travel(guided(clean_py))[-1]}
distance = {name: w1(points, wanted) for name, points in arrived.items()}
unguided = w1(stations[-1], wanted)
results["p(y|x_t) as an average of p(y|x0), error"] = max(curves["clean, averaged"])
others = f"noisy: {distance['noisy']:.3f}, no guidance: {unguided:.2f}"
results["clean classifier: W1 to p(x|y=2)"] = f"{distance['clean']:.2f} ({others})"
assert max(curves["clean, averaged"]) < 1e-9
assert curves["clean, at $x_t$"][0] < 0.01 < 10 < curves["clean, at $x_t$"][-1]
assert distance["clean"] > unguided > 10 * distance["noisy"]

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4))
for name, curve in curves.items():
    left.loglog(levels[-len(curve) :], curve, marker="o", markersize=4, label=name)
title = f"At $t$ = 0.9 the error is {curves['clean, at $x_t$'][-1]:.0f} times the truth"
left.set(xlabel="noise level $t$", ylabel="relative error of the gradient", title=title)
left.legend(loc="center right")
for name, points in arrived.items():
    label = f"{name} classifier: W1 = {distance[name]:.2f}"
    right.hist(points[:, 0].cpu(), bins=80, range=(-1, 6), density=True, alpha=0.6, label=label)
truth = world.log_prob(show.line(6.0), clean, schedule, 2).exp()
right.plot(show.line(6.0), truth, color="black", label="exact $p(x|y)$")
title = f"Guided by the clean one: W1 {distance['clean']:.1f}; by none: {unguided:.1f}"
right.set(xlim=(-1, 6), xlabel="$x$", ylabel="density", title=title)
right.legend(loc="upper right")
plt.show()

# %% [markdown]
# ## 11. The strength w is an exponent, at t = 0
#
# Weighing the classifier's arrows by $w$ means, before the logarithm, $p(x)\,p(y \mid x)^w$: Bayes' rule with the
# likelihood to the power of $w$. On clean data that is exactly where the arrows point. So one may think that a sampler
# run with $w = 3$ draws from $q_0 \propto p(x)\,p(y \mid x)^3$. It does not. It would need the scores of $q_0$ *with
# noise added*, $q_t$; what it gets is $\nabla\log p_t(x) + w\,\nabla\log p(y \mid x_t)$. **Predict:** for which $w$ are
# the two equal at $t > 0$?

# %%
grid = show.line(6.0, 2401)  # 0.005 apart


def tilted(w: float, y: int = 2) -> torch.Tensor:
    """q0 ∝ p(x)·p(y|x)^w on the grid, as probabilities that sum to 1: (2401,)."""
    return (log_p(grid) + w * log_py(grid, clean, y)).softmax(0)


def mismatch(w: float, t: torch.Tensor, y: int = 2) -> float:
    """How far the w-weighted arrows are from the score of q_t: relative error, averaged over q_t."""
    x, (alpha, sigma) = show.line(3.0, 201), schedule(t)
    log_joint = tilted(w, y).log() - (x - alpha * grid.T) ** 2 / (2 * sigma**2)  # (201, 2401)
    q_score = (alpha * log_joint.softmax(1) @ grid - x) / sigma**2  # Tweedie's formula for q_t
    gap = score(x, t) + w * slope(lambda x: log_py(x, t, y), x) - q_score
    mass = log_joint.logsumexp(1).softmax(0)[:, None]
    return float((mass * gap**2).sum().sqrt() / (mass * q_score**2).sum().sqrt())


# %%
levels = [0.02, 0.1, 0.3, 0.5, 0.8]
rows = {w: [mismatch(w, level(t)) for t in levels] for w in (0.0, 0.5, 1.0, 2.0, 3.0)}
strong = travel(guided(lambda x, t: log_py(x, t, 2), w=3.0))[-1]
draw = lambda n, g: grid[torch.multinomial(tilted(3.0), n, replacement=True, generator=g)]
distance, (lowest, spread) = w1(strong, draw(2000, seeded(300))), floor(draw, 2000)
equal = results["w = 0 and w = 1: largest mismatch"] = max(rows[0.0] + rows[1.0])
results["w = 3: mismatch at t = 0.5"] = rows[3.0][3]
results["w = 3: W1 to p(x) p(y|x)^3"] = f"{distance:.2f} (floor {lowest:.3f} ± {spread:.3f})"
assert equal < 1e-9
assert min(rows[w][3] for w in (0.5, 2.0, 3.0)) > 0.1
assert distance > lowest + 0.2

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4))
for w, row in rows.items():
    left.semilogy(levels, torch.tensor(row).clamp(min=1e-16), marker="o", markersize=4, label=f"$w$ = {w:g}")
left.set(xlabel="noise level $t$", ylabel="relative mismatch", ylim=(1e-17, 1e2), title="Equal at w = 0 and w = 1 only")
left.legend(ncol=2, loc="center right")
right.plot(grid, tilted(3.0) / 0.005, color="black", label="$q_0 \\propto p(x)\\,p(y|x)^3$")
right.hist(strong[:, 0].cpu(), bins=60, range=(0, 3), density=True, alpha=0.5, label="sampled with $w$ = 3")
title = f"The samples miss $q_0$: W1 {distance:.2f} (floor {lowest:.2f})"
right.set(xlim=(0, 3), xlabel="$x$", ylabel="density", title=title)
right.legend(loc="upper left")
plt.show()

# %% [markdown]
# So $w = 1$ is a law, and any other $w$ is a *habit*: it pushes in a useful direction, but it samples a density that nobody
# wrote down. Here the samples lie further out and closer together than $q_0$ says. Chapter 05 computes what they are.
#
# ## What you measured

# %%
for name, value in results.items():
    small = isinstance(value, float) and value < 0.01
    print(f"{name:<44}", f"{value:.1e}" if small else f"{value:.2f}" if isinstance(value, float) else value)

# %% [markdown]
# **What to try next**
#
# - Step 2: start the walkers from `randn` instead, or take 20,000 steps. What becomes of the left-hand hill?
# - Step 8: at $t = 0.2$ slide $w$ from 1 to 5. In the plane, which way do the clouds move, and away from what?
# - Step 9: replace `Linear()` by `Cosine()` in step 1 and run everything again. Which numbers change? (In step 10,
#   replace `1 - t` by `schedule(t)[0]`.)
# - Step 10: use $y = 1$, the narrow hill. How far do the samples of the clean classifier fly?
#
# Now write the pieces yourself: [exercises 01](../exercises/01_bayes_rule.ipynb). After that: where do the arrows come
# from when no formula gives them? [Chapter 02](02_conditional_training.ipynb) trains a network, and
# [chapter 04](04_classifier_guidance.ipynb) a classifier that has seen noise.
