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
# **Budget: 60 s on two CPU cores**, 2 GiB of memory (it takes about 20 s). Sections 1 to 7, 9 and 10 are **core** (60 minutes),
# sections 8 and 11 **extra** (20 minutes). You need calculus, a little probability, and PyTorch. No trained network appears
# here: the worlds are Gaussian mixtures, whose every score is known exactly, so each claim is checked to many digits.
#
# [Lecture](../lectures/01_bayes_rule.md) (the derivations) · [exercises](../exercises/01_bayes_rule.ipynb) ·
# [start page](00_start.ipynb)

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from minidiff import show, times
from minidiff.data.mixtures import ring, three_modes
from minidiff.randomness import randn, seeded
from minidiff.schedules import Linear
from minidiff.show.figures import bayes_rule as figures
from minidiff.training import pick_device

float64, device = torch.float64, pick_device()  # 16 digits, so that "equal" can mean equal
device = device if device.type != "mps" else torch.device("cpu")  # Apple's GPUs have no float64
results = {}  # the numbers of the closing table: what was measured, and what it is to be compared with

# %% [markdown]
# ## 1. A score is an arrow that points uphill
#
# *Core · 6 minutes.* Our first world lives on a line: three hills of data, at −1.2, 0.2 and 1.2, with 50 %, 20 % and 30 %
# of the points. The **score** is the slope of the logarithm of the density, $\nabla_x \log p(x)$. On a line it is a number:
# positive means "more data to the right", negative "more data to the left".
#
# **Predict.** Where is the score zero? Name five places.
#
# Here it is by hand: every hill pulls towards its centre, $(m_k - x)/s_k^2$, and counts by its share of the density at $x$.


# %%
def level(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=float64)


def slope(f, x: torch.Tensor) -> torch.Tensor:
    """∇f(x) by automatic differentiation: f maps (B, D) to (B,), the result is (B, D)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def score_by_hand(x: torch.Tensor) -> torch.Tensor:
    m, s, weight = world.means[:, 0], world.covariances[:, 0, 0].sqrt(), world.weights
    share = (weight.log() - s.log() - (x - m) ** 2 / (2 * s**2)).softmax(1)  # (B, 3)
    return (share * (m - x) / s**2).sum(1, keepdim=True)


# %%
world, schedule, clean = three_modes(), Linear(), level(0.0)
log_p = lambda x, t=clean: world.log_prob(x, t, schedule)
score = lambda x, t=clean: world.score(x, t, schedule)  # the library's version
line = show.line(3.0)
show.hill(log_p, score, title="The score points uphill: green to the right, red to the left")
plt.show()
gaps = [float((score(line) - other).abs().max()) for other in (score_by_hand(line), slope(log_p, line))]
results["score: library against autograd"] = gaps[1], "0"
assert max(gaps) < 1e-12
show.table({"by hand": gaps[:1], "autograd": gaps[1:]}, ["the library against", "largest difference"], digits=1)

# %% [markdown]
# Zero at three summits and in the middle of two valleys.
#
# ## 2. Follow the arrows
#
# *Core · 6 minutes.* Arrows are enough to draw samples. Let walkers take many small steps uphill, with a random kick each:
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


# %%
start = (1.2 + 0.1 * randn((1000, 1), seeded(0), float64)).to(device)
trace = walk(start, steps=400, h=0.005, generator=seeded(1))
left_hill = float((trace[-1] < -0.5).double().mean())
figures.walkers(trace, log_p, f"After 400 steps {left_hill:.0%} of the walkers are on the left hill")
plt.show()
results["share of walkers on the left hill"] = left_hill, "0.50"
assert left_hill < 0.15, "the long run has not been reached"
show.table({"walkers": [left_hill], "data": [0.5]}, ["", "share on the left hill"], digits=2)

# %% [markdown]
# Each walker finds a hill and explores it, but the valley is so deep that hardly anyone crosses it. The arrows there
# point back. The cure is noise: **blur the world until the valleys are gone, then unblur it slowly.**
#
# ## 3. Noise levels
#
# *Core · 8 minutes.* A noisy point is $x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon$ with $\varepsilon \sim N(0, I)$. At
# $t = 0$ it is data ($\alpha = 1, \sigma = 0$), at $t = 1$ noise. Here $\alpha_t = 1 - t$ and $\sigma_t = t$. Every noise
# level has its own density $p_t$ and its own score. A sampler starts with noise and takes one step at a time: guess the clean
# point, take the noise that goes with the guess, and put both together again at the next, lower level.
#
# **Predict.** 2,000 walkers start from one and the same hill of noise. What share of them ends on each of the three hills?


# %%
def down(denoise, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Follow the guesses of `denoise` down the levels of `grid`, with every station on the way: (steps + 1, n, 1)."""
    stations = [x]
    for t, s in pairwise(grid):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
        x0_hat = denoise(x, t)
        eps_hat = (x - alpha * x0_hat) / sigma
        x = alpha_s * x0_hat + sigma_s * eps_hat
        stations.append(x)
    return torch.stack(stations)


# %% [markdown]
# The library has this loop as `sample`, this step as `ddim`, and as `heun` a better one (chapter 02), which we take from
# here on. The first time is 0.999; section 9 says why not 1.

# %%
from minidiff.guidance import bind
from minidiff.samplers import ddim, heun, sample

grid = times.linear(50, start=0.999)
noise = schedule(grid[0])[1] * randn((2000, 1), seeded(0), float64).to(device)
prior = bind(world.denoiser(schedule))  # (x_t, t) → the best guess; section 4 says what that is


def travel(denoise, step=None, over: torch.Tensor = grid) -> torch.Tensor:
    return torch.stack([noise, *sample(denoise, noise, over, step or heun(schedule))])


by_hand, by_library = down(prior, noise, grid)[-1], travel(prior, ddim(schedule))[-1]
assert torch.allclose(by_hand, by_library, atol=1e-12)

# %%
from minidiff.judges.wasserstein import floor, w1


def hill_of(x: torch.Tensor) -> torch.Tensor:
    return world.posterior_label(x, clean, schedule).argmax(1)  # (N,): 0, 1 or 2, the most likely hill


free = travel(prior)
exact = world.sample(2000, seeded(100))[0]
free_w1, free_floor = w1(free[-1], exact), floor(lambda n, g: world.sample(n, g)[0], 2000)
shares = hill_of(free[-1]).bincount(minlength=3).cpu() / 2000
results["W1 of samples from noise"] = free_w1, "floor {:.3f} ± {:.3f}".format(*free_floor)

# %%
show.river(log_p, grid, free[:, :40, 0], hill_of(free[-1, :40]), title="One lake of noise parts into three rivers")
plt.show()
stuck_w1 = w1(trace[-1][:, None], exact)  # the control: the walkers of section 2
assert free_w1 < free_floor[0] + 0.05 < 10 * free_w1 < stuck_w1
assert (shares - world.weights).abs().max() < 0.05
percent = lambda v: [f"{share:.0%}" for share in v.tolist()]
where = {
    "walked from noise": [*percent(shares), free_w1],
    "exact": [*percent(world.weights), free_floor[0]],
    "walkers of section 2": [*percent(hill_of(trace[-1][:, None]).bincount(minlength=3) / 1000), stuck_w1],
}
show.table(where, ["", "hill 0", "hill 1", "hill 2", "W1 to exact samples"], digits=2)

# %% [markdown]
# *W1* is the Wasserstein distance: how far, on average, points must be moved to turn one sample into the other. Two
# samples of the *same* density are not at distance 0 either; that is the floor, and it is always measured beside.
#
# ## 4. What the network learns: the best guess behind the noise
#
# *Core · 8 minutes.* The **denoiser** is $\hat x_0(x_t, t) = E[x_0 \mid x_t]$, the average of all clean points that the
# noisy point may have come from. By brute force: average 200,000 clean points, each weighed by how well it explains $x_t$.
#
# **Predict.** What does the guess look like as a function of $x_t$, for hardly any noise, and for nothing but noise?


# %%
def average_origin(x_t: torch.Tensor, t: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
    alpha, sigma = schedule(t)
    weight = (-((x_t - alpha * pool.T) ** 2) / (2 * sigma**2)).softmax(1)  # (B, N): p(x0|x_t) for every point
    return weight @ pool


pool, probes, seen = world.sample(200_000, seeded(2))[0], show.line(2.0, 9), (0.1, 0.3, 0.6, 1.0)
averages = {t: average_origin(probes, level(t), pool) for t in seen}
off = {t: (world.denoise(probes, level(t), schedule) - averages[t]).abs().max() for t in seen}
curves = {t: world.denoise(line, level(t), schedule) for t in seen}  # the library's version
figures.guesses(curves, probes, averages, "Little noise: near $x_t$. Only noise: the mean (dots: brute force)")
plt.show()
assert max(off.values()) < 0.03
show.table({f"{t:g}": [gap] for t, gap in off.items()}, ["t", "library against 200,000 points"], digits=1)

# %% [markdown]
# Tweedie's formula says that the denoiser is the score in other clothes (lecture, section 3: the denoiser):
#
# $$\nabla \log p_t(x_t) = \frac{\alpha_t\,\hat x_0(x_t, t) - x_t}{\sigma_t^2}.$$
#
# **Predict.** For which of the library's four schedules does it hold? The last column is a control: $\sigma_t$ in place of
# $\sigma_t^2$.

# %%
from minidiff.schedules import DDPM, Cosine, Karras


def tweedie_error(other, t: torch.Tensor, power: int = 2) -> float:
    alpha, sigma = other(t)
    tweedie = (alpha * world.denoise(line, t, other) - line) / sigma**power
    target = world.score(line, t, other)
    return float((tweedie - target).abs().max() / target.abs().max())


schedules, five = (Linear(), Cosine(), DDPM(), Karras()), [level(t) for t in (0.01, 0.1, 0.5, 0.9, 1.0)]
tweedie = {type(s).__name__: [max(tweedie_error(s, t, p) for t in five) for p in (2, 1)] for s in schedules}
results["Tweedie's formula, relative error"] = max(row[0] for row in tweedie.values()), "0"
assert all(right < 1e-10 < 0.5 < wrong for right, wrong in tweedie.values())
show.table(tweedie, ["schedule", "relative error, at most", "with σ for σ²"], digits=2)

# %% [markdown]
# ## 5. Bayes' rule for scores
#
# *Core · 8 minutes.* Now you ask for something: hill $y = 2$, the one on the right. Bayes' rule says
# $p(x \mid y) = p(x)\,p(y \mid x)/p(y)$. Take the logarithm, then the gradient with respect to $x$:
#
# $$\nabla_x \log p(x \mid y) = \nabla_x \log p(x) + \nabla_x \log p(y \mid x) - \underbrace{\nabla_x \log p(y)}_{=\,0}$$
#
# **Predict**, at noise level $t = 0.3$: the prior's arrows know nothing of your wish. Where do the classifier's arrows point,
# and where are they longest? The exact classifier is the share that hill $y$ has in the density at $x$.

# %%
t3 = level(0.3)


def classifier_by_hand(x: torch.Tensor, t: torch.Tensor, y: int) -> torch.Tensor:
    """log p(y|x_t): the density of hill y alone, times its weight, as a share of the whole."""
    alpha, sigma = schedule(t)
    spread = (alpha**2 * world.covariances[:, 0, 0] + sigma**2).sqrt()  # (3,)
    hills = world.weights * torch.exp(-(((x - alpha * world.means[:, 0]) / spread) ** 2) / 2) / spread
    return (hills[:, y] / hills.sum(1)).log()


log_py = lambda x, t, y: world.log_prob_label(x, t, schedule, y)  # the library's version
assert torch.allclose(log_py(line, t3, 2), classifier_by_hand(line, t3, 2), atol=1e-12)

# %%
arrows = lambda x: slope(lambda v: log_py(v, t3, 2), x)
summed = lambda x: score(x, t3) + arrows(x)
target = world.score(line, t3, schedule, 2)  # the score of p(x|y) in closed form, without Bayes
error, without = ((field(line) - target).abs().max() for field in (summed, lambda x: score(x, t3)))
terms = [
    (lambda x: log_p(x, t3), lambda x: score(x, t3), "The prior leads to every hill"),
    (lambda x: log_py(x, t3, 2), arrows, "+ the classifier only says: further right"),
    (lambda x: world.log_prob(x, t3, schedule, 2), summed, "= to the hill you asked for"),
]
figures.sum_on_a_line(terms, target, f"The sum is exact: error {error:.0e}")
plt.show()
assert error < 1e-12 < 1 < without
show.table({"prior + classifier": [error], "prior alone": [without]}, ["against p(x|y)", "largest error"], digits=2)

# %% [markdown]
# **Constants are free.** That $\nabla_x \log p(y) = 0$ means that nobody needs to know $p(y)$: a classifier may be off by
# any factor $e^{c(y)}$ that depends on the class only, and guide just as well. For the same reason models learn scores
# and not densities: if $p(x) = f(x)/Z$, the slope of $\log Z$ is zero, and nobody needs $Z$.
#
# **Predict.** Which of these three changes the arrows, and by how much?

# %%
shift_z = slope(lambda x: log_p(x, t3) + 1000.0, line) - slope(lambda x: log_p(x, t3), line)
shift_y = slope(lambda x: log_py(x, t3, 2) + 123.0 * (2 + 1), line) - arrows(line)
shift_x = slope(lambda x: log_py(x, t3, 2) + 0.5 * x[:, 0], line) - arrows(line)
changes = {"log Z wrong by 1000": shift_z, "c(y) = 123 (y + 1)": shift_y, "c(x) = x/2": shift_x}
results["arrows, with any c(y) added"] = float(shift_y.abs().max()), "0"
assert [bool(change.any()) for change in changes.values()] == [False, False, True]
show.table({name: [v.abs().max()] for name, v in changes.items()}, ["added", "the arrows change by"])

# %% [markdown]
# ## 6. At every noise level, for every schedule
#
# *Core · 6 minutes.* Samplers use the scores of *all* noise levels, so the rule must hold at each: with $p_t(x_t)$,
# $p(y \mid x_t)$ and $p_t(x_t \mid y)$, every term at the same $t$.
#
# **Predict.** Leave the classifier's term out: at which end, $t \to 0$ or $t \to 1$, is the error larger, and why?


# %%
def rule_errors(other, t: torch.Tensor, y: int) -> tuple[float, float]:
    """Largest |prior + classifier − conditional| over 300 points; the same without the classifier."""
    x0 = world.sample(300, seeded(3))[0]
    x_t = other.add_noise(x0, randn(x0.shape, seeded(4), float64), t)
    wanted = world.score(x_t, t, other, y)
    without = world.score(x_t, t, other)
    # From the shares of the hills: no conditional density is used.
    term = slope(lambda x: world.posterior_label(x, t, other)[:, y].log(), x_t)
    return float((without + term - wanted).abs().max()), float((without - wanted).abs().max())


levels = [0.0, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1 - 1e-9, 1.0]
by_level = {
    type(s).__name__: torch.tensor([[rule_errors(s, level(t), y) for y in range(3)] for t in levels]).amax(1)
    for s in schedules
}  # (15, 2) each

# %%
worst = max(float(row[:, 0].max()) for row in by_level.values())
results["Bayes' rule, largest error at any t"] = worst, "0"
title = f"The rule holds to {worst:.0e} at every $t$ (dashed: term left out)"
figures.errors_by_level(levels, by_level, 1e-6, title)
plt.show()
assert worst < 1e-12
assert all(float(row[torch.tensor(levels) <= 0.1, 1].min()) > 1.0 for row in by_level.values())

# %% [markdown]
# The dashed curves fall at the right: pure noise says nothing about $y$, and the less there is to say, the less one can get
# wrong.
#
# ## 7. In the plane: arrows add
#
# *Core · 4 minutes.* Two dimensions, six clouds on a circle, three classes of two opposite clouds each. The shades show
# $p_t(x)$, $p(y \mid x_t)$ and $p_t(x \mid y)$. **Predict.** In the middle of the circle the prior's arrow is zero. And
# the classifier's?

# %%
plane, t4 = ring(6, radius=1.6, std=0.35, n_classes=3), level(0.4)
plane_py = lambda x, t, y: plane.log_prob_label(x, t, schedule, y)
plane_prior = lambda x: plane.score(x, t4, schedule)
plane_arrows = lambda x: slope(lambda v: plane_py(v, t4, 0), x)
plane_sum = lambda x: plane_prior(x) + plane_arrows(x)
figures.sum_in_the_plane([
    (lambda x: plane.log_prob(x, t4, schedule), plane_prior, "The prior: to any cloud"),
    (lambda x: plane_py(x, t4, 0), plane_arrows, "+ classifier: away from the others"),
    (lambda x: plane.log_prob(x, t4, schedule, 0), plane_sum, "= posterior: to class 0 alone"),
])  # fmt: skip
plt.show()
at = show.lattice(2.4, 15)
plane_error = float((plane_sum(at) - plane.score(at, t4, schedule, 0)).abs().max())
results["Bayes' rule in the plane, largest error"] = plane_error, "0"
assert plane_error < 1e-12 < 1 < (plane_prior(at) - plane.score(at, t4, schedule, 0)).abs().max()

# %% [markdown]
# One arrow scale for all three panels, so you can add them by eye. In the middle both are zero, by symmetry.
#
# ## 8. Play
#
# *Extra · 8 minutes.* Slide the noise level $t$ from 1 to 0 and watch one hill fall apart into the hills that you asked for.
# Then slide the strength $w$, which multiplies the classifier's arrows: 0 ignores your wish, 1 is Bayes' rule, more
# exaggerates. Left, the line: all data in grey, $p_t(x)\,p(y \mid x_t)^w$ in colour. Right, the same in the plane.
# (This $w$ is that of *classifier* guidance. Classifier-free guidance counts from the conditional model, so that Bayes'
# rule is $w = 0$ there, and $w = 6.5$ is what other libraries call scale 7.5: lecture, section 7, at the exponent's end.)


# %%
def both_worlds(t: float, w: float, y: int) -> plt.Figure:
    t = level(t)
    weighted = lambda x: log_p(x, t) + w * log_py(x, t, y)
    log_z = (weighted(line).exp() * 0.02).sum().log()  # the points of `line` are 0.02 apart
    share = ((weighted(line) - log_z + log_py(line, t, y)).exp() * 0.02).sum()
    in_plane = lambda x: plane.log_prob(x, t, schedule) + w * plane_py(x, t, y)
    return figures.weighted_worlds(
        (lambda x: log_p(x, t), lambda x: weighted(x) - log_z, lambda x: slope(weighted, x)),
        (in_plane, lambda x: slope(in_plane, x)),
        (f"t = {t:.2f}, w = {w:g}: {share:.0%} look like class {y}", f"class {y} in the plane"),
    )


# %%
explorer = show.explore(
    both_worlds, static=[{"t": 0.7}, {"t": 0.2}, {"t": 0.2, "w": 3.0}],
    t=show.Slider(0.02, 1.0, 0.02, start=0.4, label="noise level t"),
    w=show.Slider(0.0, 5.0, 0.5, start=1.0, label="strength w"), y=[2, 1, 0],
)  # fmt: skip

# %% [markdown]
# ## 9. Ask, and get it
#
# *Core · 10 minutes.* Now the sampler of section 3 with the new arrows. By Tweedie's formula, adding $g$ to the score means
# adding $(\sigma_t^2/\alpha_t)\,g$ to the guess $\hat x_0$. So guidance is a function that takes a denoiser and returns a
# denoiser. The prior's denoiser never hears of $y$; only the classifier does.


# %%
def guided_by_hand(denoise, log_prob, w: float):
    def guess(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = schedule(t)
        with torch.enable_grad():  # samplers switch gradients off
            g = slope(lambda v: log_prob(v, t), x)
        return denoise(x, t) + w * sigma**2 / alpha * g

    return guess


# %%
from minidiff.guidance import classifier


def guided(log_prob, w: float = 1.0):
    return classifier(prior, log_prob, schedule, w)  # the library's version


ask_2 = lambda x, t: log_py(x, t, 2)
assert torch.allclose(guided_by_hand(prior, ask_2, 1.5)(line, t3), guided(ask_2, 1.5)(line, t3), atol=1e-12)

# %% [markdown]
# **Why not start at $t = 1$?** There $\alpha = 0$ and $g = 0$, and the shift is $\infty \cdot 0$. **Predict:** what does
# $(\sigma_t^2/\alpha_t)\,g$ tend to as $t \to 1$? The library's value *at* $t = 1$, zero, is a convention.


# %%
def shift(t: float) -> list[float]:
    x = randn((500, 1), seeded(7), float64)
    moved = guided(ask_2)(x, level(t)) - prior(x, level(t))
    return [float(moved.mean()), float(moved.std())]


limit = float(world.of_class(2).means.mean() - world.weights @ world.means[:, 0])  # E[x0|y] − E[x0]
near_one = {f"{t:g}": shift(t) for t in (0.5, 0.9, 0.99, 0.999, 1.0)}
assert abs(near_one["0.999"][0] - limit) < 0.01 < near_one["0.9"][1]
assert near_one["1"] == [0.0, 0.0]
show.table({**near_one, "E[x0|y] − E[x0]": [limit, 0.0]}, ["t", "the guess moves by", "± over x_t"])

# %% [markdown]
# The guess moves from the mean of all data to the mean of the class: much, and no gradient at $t = 1$ itself can say so.
#
# **Predict.** The very noise of section 3 is led to the hill of your choice. How many of the 2,000 walkers miss it?

# %%
asked_for, arrived = {}, []
for y in range(3):
    arrived.append(travel(guided(lambda x, t, y=y: log_py(x, t, y))))
    draw = lambda n, g, y=y: world.of_class(y).sample(n, g)[0]
    wanted_y, (low, spread) = draw(2000, seeded(200 + y)), floor(draw, 2000)
    near, far = w1(arrived[y][-1], wanted_y), w1(free[-1], wanted_y)
    missed = [f"{(hill_of(x) != y).double().mean():.1%}" for x in (arrived[y][-1], wanted_y)]
    asked_for[f"y = {y}"] = [*missed, f"{near:.3f} (floor {low:.3f} ± {spread:.3f})", far]
    results[f"W1 to p(x|y={y})"] = near, f"floor {low:.3f} ± {spread:.3f}; unguided {far:.2f}"
    assert near < low + 0.02 < far / 10

# %%
log_pxy = [lambda x, t, y=y: world.log_prob(x, t, schedule, y) for y in range(3)]
figures.rivers(log_pxy, grid, arrived, [f"asked for y = {y}" for y in range(3)])
plt.show()
columns = ["asked for", "look like another hill", "exact samples do", "W1 to p(x|y)", "W1 without guidance"]
show.table(asked_for, columns)

# %% [markdown]
# ## 10. The classifier must have seen noise
#
# *Core · 10 minutes.* A tempting short cut: take a classifier of *clean* points, $p(y \mid x_0)$, and feed it the noisy
# $x_t$, or $x_t/\alpha_t$ to undo the shrinking. Why is that not Bayes' rule? Because the right classifier has to say what
# $y$ *was* when all it sees is $x_t$, and so it must average over everything that $x_0$ may have been:
#
# $$p(y \mid x_t) = \int p(y \mid x_0)\;p(x_0 \mid x_t)\,dx_0 \;=\; E\big[\,p(y \mid x_0)\;\big|\;x_t\big].$$
#
# **Predict.** Which of the three has the right gradient: clean at $x_t$, clean at $x_t/\alpha_t$, or the average? And what
# does a wrong one do to samples: are they better or worse than without any guidance?

# %%
clean_py = lambda x, t: log_py(x, clean, 2)  # pretends that x_t is clean
rescaled_py = lambda x, t: log_py(x / schedule(t)[0], clean, 2)  # undoes α_t first


def averaged_py(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """log E[p(y=2|x0) | x_t], by a sum over a fine grid of x0."""
    x0, (alpha, sigma) = show.line(4.0, 2001), schedule(t)
    origin = (log_p(x0) - (x - alpha * x0.T) ** 2 / (2 * sigma**2)).softmax(1)  # p(x0|x_t), (B, 2001)
    return (origin @ log_py(x0, clean, 2).exp()).log()


def wrongness(log_prob, t: torch.Tensor) -> float:
    """Relative error of ∇log_prob against ∇log p(y|x_t), over 1,000 points of noise level t."""
    x0 = world.sample(1000, seeded(5))[0]
    x_t = schedule.add_noise(x0, randn(x0.shape, seeded(6), float64), t)
    right = slope(lambda x: log_py(x, t, 2), x_t)
    return float((slope(lambda x: log_prob(x, t), x_t) - right).norm() / right.norm())


# %%
some, fewer = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], [0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
off_by = {
    "clean, at $x_t$": (some, [wrongness(clean_py, level(t)) for t in some]),
    r"clean, at $x_t/\alpha_t$": (some, [wrongness(rescaled_py, level(t)) for t in some]),
    "clean, averaged": (fewer, [wrongness(averaged_py, level(t)) for t in fewer]),  # finer than the grid below 0.03
}
from_one = travel(guided(clean_py), over=times.linear(50))[-1]  # the convention at t = 1 spares it the first push
led_by = {"right classifier": arrived[2][-1], "clean classifier": from_one}
others = {"clean classifier, from t = 0.999": travel(guided(clean_py))[-1], "no guidance": free[-1]}
reached = {name: w1(x, world.of_class(2).sample(2000, seeded(202))[0]) for name, x in {**led_by, **others}.items()}
results["averaged classifier, relative error"] = max(off_by["clean, averaged"][1]), "0"
results["clean classifier: W1 to p(x|y=2)"] = reached["clean classifier"], f"unguided {reached['no guidance']:.2f}"

# %%
at_09 = off_by["clean, at $x_t$"][1][-1]
titles = f"Clean, $t$ = 0.9: off by {at_09:.0f} times the truth", "Led by the clean one, many fly past the hill"
figures.gradients_and_samples(off_by, led_by, lambda x: world.log_prob(x, clean, schedule, 2), titles)
plt.show()
assert max(off_by["clean, averaged"][1]) < 1e-9
assert off_by["clean, at $x_t$"][1][0] < 0.01 < 10 < at_09
assert reached["clean classifier"] > reached["no guidance"] > 10 * reached["right classifier"]
show.table({name: [d] for name, d in reached.items()}, ["samples led by", "W1 to p(x|y = 2)"], digits=2)

# %% [markdown]
# ## 11. The strength w is an exponent, at t = 0
#
# *Extra · 12 minutes.* Weighing the classifier's arrows by $w$ means, before the logarithm, $p(x)\,p(y \mid x)^w$. On clean
# data that is exactly where the arrows point. So one may think that a sampler run with $w = 3$ draws from
# $q_0 \propto p(x)\,p(y \mid x)^3$. It would need the scores of $q_0$ *with noise added*, $q_t$; what it gets is
# $\nabla\log p_t(x) + w\,\nabla\log p(y \mid x_t)$. **Predict:** for which $w$ are the two equal at $t > 0$? And where do
# the samples with $w = 3$ lie, compared with $q_0$: further in or further out, closer together or wider?

# %%
fine = show.line(6.0, 2401)  # 0.005 apart


def tilted(w: float) -> torch.Tensor:
    """q0 ∝ p(x)·p(y=2|x)^w on the grid, as probabilities that sum to 1: (2401,)."""
    return (log_p(fine) + w * log_py(fine, clean, 2)).softmax(0)


def mismatch(w: float, t: torch.Tensor) -> float:
    """How far the w-weighted arrows are from the score of q_t: relative error, averaged over q_t."""
    x, (alpha, sigma) = show.line(3.0, 201), schedule(t)
    log_joint = tilted(w).log() - (x - alpha * fine.T) ** 2 / (2 * sigma**2)  # (201, 2401)
    q_score = (alpha * log_joint.softmax(1) @ fine - x) / sigma**2  # Tweedie's formula for q_t
    gap = score(x, t) + w * slope(lambda v: log_py(v, t, 2), x) - q_score
    mass = log_joint.logsumexp(1).softmax(0)[:, None]
    return float((mass * gap**2).sum().sqrt() / (mass * q_score**2).sum().sqrt())


# %%
tested, strengths = [0.02, 0.1, 0.3, 0.5, 0.8], (0.0, 0.5, 1.0, 2.0, 3.0)
mismatches = {w: [mismatch(w, level(t)) for t in tested] for w in strengths}
draw_q0 = lambda n, g: fine[torch.multinomial(tilted(3.0), n, replacement=True, generator=g)]
strong, wanted_q0 = travel(guided(ask_2, w=3.0))[-1], draw_q0(2000, seeded(300))
strong_w1, q0_floor = w1(strong, wanted_q0), floor(draw_q0, 2000)
equal = max(mismatches[0.0] + mismatches[1.0])
results["w = 0 and w = 1: largest mismatch"] = equal, "0"
results["w = 3: mismatch at t = 0.5"] = mismatches[3.0][3], "0, if q_t were followed"
results["w = 3: W1 to p(x) p(y|x)^3"] = strong_w1, "floor {:.3f} ± {:.3f}".format(*q0_floor)

# %%
titles = "Of these $w$, only 0 and 1 agree", "The samples lie further out, closer together"
figures.exponents(tested, mismatches, fine, tilted(3.0) / 0.005, strong, titles)
plt.show()
assert equal < 1e-9
assert min(mismatches[w][3] for w in (0.5, 2.0, 3.0)) > 0.1
assert strong_w1 > q0_floor[0] + 0.2
assert strong.mean() > wanted_q0.mean() + 0.2
assert strong.std() < wanted_q0.std()
moments = {"sampled with w = 3": [strong.mean(), strong.std()], "q0": [wanted_q0.mean(), wanted_q0.std()]}
show.table(moments, ["2,000 points", "mean", "standard deviation"])

# %% [markdown]
# So $w = 1$ is a law, and any other $w$ is a *habit*: it pushes in a useful direction, but it samples a density that nobody
# wrote down. Chapter 05 computes what it is.
#
# ## What you measured

# %%
digits = lambda v: f"{v:.1e}" if v < 1e-3 else f"{v:.3f}"
show.table({name: [digits(v), other] for name, (v, other) in results.items()}, ["", "measured", "to compare with"])

# %% [markdown]
# **What to try next**
#
# - Section 2: start the walkers from `randn` instead, or take 20,000 steps. What becomes of the left-hand hill?
# - Section 8: at $t = 0.2$ slide $w$ from 1 to 5. In the plane, which way do the clouds move, and away from what?
# - Section 9: replace `Linear()` by `Cosine()` in section 1 and run everything again. Which numbers change?
# - Section 10: use $y = 1$, the narrow hill. How far do the samples of the clean classifier fly?
#
# Now write the pieces yourself: [exercises 01](../exercises/01_bayes_rule.ipynb). After that: where do the arrows come
# from when no formula gives them? [Chapter 02](02_conditional_training.ipynb) trains a network, and
# [chapter 04](04_classifier_guidance.ipynb) a classifier that has seen noise.
