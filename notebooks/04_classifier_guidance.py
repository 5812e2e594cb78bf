# %% [markdown]
# # 04 Classifier guidance
#
# You have a diffusion model that draws *some* picture. You also have a classifier. **Can the classifier steer?** By
# Bayes' rule (chapter 01) its gradient is exactly what the model lacks, if the classifier has learned to see through
# noise. This chapter builds both published algorithms, checks them on worlds where the answer is known, trains a
# classifier that guides and one that cannot, and lets both loose on pictures of clothes.
#
# **You will learn** how the gradient of a classifier enters the noise guess, the picture guess and the mean of a step;
# Algorithm 1 and Algorithm 2 of arXiv 2105.05233 and when they agree; what $w > 1$ really does; why the classifier must
# be trained on noisy pictures; and why the judge of the result must be somebody else.
#
# **Budget: 60 s on two CPU cores**, 2 GiB of memory. Sections 1 to 7 are **core** (75 minutes), section 8 is **extra**
# (15 minutes). You need chapters [01](01_bayes_rule.ipynb) and [02](02_conditional_training.ipynb). Weights are shipped;
# two small classifiers are trained live.
#
# [Lecture](../lectures/04_classifier_guidance.md) (the derivations) ·
# [exercises](../exercises/04_classifier_guidance.ipynb) · [start page](00_start.ipynb)

# %%
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.data.mixtures import decoys, three_modes
from minidiff.guidance import bind, classifier
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, randn_like, seeded
from minidiff.samplers import ddim, ddpm, sample
from minidiff.schedules import DDPM, Linear
from minidiff.show.figures import classifier_guidance as figures
from minidiff.training import pick_device

# %%
float64, device = torch.float64, pick_device()
exact_device = device if device.type != "mps" else torch.device("cpu")  # Apple's GPUs have no float64
results = {}  # the closing table: what was measured, and what it is to be compared with


def note(what: str, measured: float | Tensor, beside: str) -> None:
    results[what] = [f"{float(measured):.3g}", beside]


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=float64)


# %% [markdown]
# ## 1. What a classifier says when it looks through noise
#
# *Core · 6 minutes.* The first world is the line of chapter 01: three hills, at −1.2, 0.2 and 1.2, with 50 %, 20 % and
# 30 % of the points, and the schedule of DDPM, as in the paper. Here $p(y|x_t)$, the best possible classifier of *noisy*
# points, is known: which share of the density at $x_t$ comes from hill $y$?
#
# **Predict.** Ask it about the hill in the middle, $y = 1$. What does it say at $t = 1$, where everything is noise? And
# where is the slope of its *logarithm*, the arrow that guides, large: at little noise or at much?

# %%
world, schedule, x = three_modes(), DDPM(), show.line(3.0)
noise_levels = (0.02, 0.1, 0.2, 0.4, 1.0)


def share_of_hill(y: int, x_t: Tensor, t: Tensor) -> Tensor:
    """p(y|x_t) by hand: hill k at noise level t is N(α·m_k, α²·s_k² + σ²), and counts by its weight."""
    alpha, sigma = schedule(t)
    mean, variance = alpha * world.means[:, 0], alpha**2 * world.covariances[:, 0, 0] + sigma**2
    height = world.weights * (-((x_t - mean) ** 2) / (2 * variance)).exp() / variance.sqrt()  # (N, 3)
    return (height / height.sum(1, keepdim=True))[:, y]


# %%
said = {t: share_of_hill(1, x, level(t)) for t in noise_levels}
push = {t: world.score(x, level(t), schedule, 1) - world.score(x, level(t), schedule) for t in noise_levels}
figures.answers(x, said, push)
library = {t: world.posterior_label(x, level(t), schedule)[:, 1] for t in noise_levels}
assert all(torch.allclose(said[t], library[t], atol=1e-12) for t in noise_levels)
assert (said[1.0] - 0.2).abs().max() < 0.02
assert (said[0.02] - 0.2).abs().max() > 0.7  # the control: little noise, a definite answer

# %% [markdown]
# At $t = 1$ it says 0.2 everywhere: how common class 1 is. The arrow is steep where the classifier leans towards another
# class, and vanishes at $t = 1$, where nothing is decided yet.
#
# ## 2. The arrow enters the noise guess
#
# *Core · 8 minutes.* The model's guess of the noise is $\varepsilon = -\sigma_t \nabla \log p_t(x_t)$ (chapter 01, section 3: the
# denoiser is the score). Guidance adds $w\,\nabla \log p(y|x_t)$ to the score, so it *subtracts* from the guess of the noise:
#
# $$\hat\varepsilon = \varepsilon - w\,\sigma_t \nabla \log p(y|x_t), \qquad
# \hat x_0^{\text{guided}} = (x_t - \sigma_t \hat\varepsilon) / \alpha_t.$$
#
# > **Two meanings of w.** Here $w$ counts from the *unconditional* model: $w = 0$ is no guidance and $w = 1$ is Bayes' rule. The
# > paper calls it `classifier_scale`. In *classifier-free* guidance (chapter 05) $w$ counts from the *conditional* model, so that
# > $w = 0$ is Bayes' rule; the number in other programs is $1 + w$, as in "w = 6.5 (scale 7.5)".
#
# **Predict.** At $w = 1$ and with the exact classifier: how far is the guided guess from $E[x_0|x_t, y]$?


# %%
def guided_by_hand(x_t: Tensor, t: Tensor, y: int, w: float) -> Tensor:
    (alpha, sigma), leaf = schedule(t), x_t.detach().requires_grad_()
    log_p = world.log_prob_label(leaf, t, schedule, y)  # the exact classifier, one number per point
    gradient = torch.autograd.grad(log_p.sum(), leaf)[0]  # with respect to the point
    eps = -sigma * world.score(x_t, t, schedule)
    eps = eps - w * sigma * gradient
    return (x_t - sigma * eps) / alpha


def log_py(y: int | Tensor):
    return lambda x_t, t: world.log_prob_label(x_t, t, schedule, y)


prior = bind(world.denoiser(schedule))  # (x_t, t) → E[x0|x_t]

# %% [markdown]
# In the library this is `classifier(denoise, log_prob, schedule, w)`: from a denoiser to a guided denoiser. At $w = 0$ it
# returns the very same denoiser, not just the same numbers.

# %%
at_once, gaps = classifier(prior, log_py(1), schedule, w=1.0), {}
for t in map(level, (0.001, 0.01, 0.1, 0.3, 0.6, 1.0)):
    hand, wanted = guided_by_hand(x, t, 1, w=1.0), world.denoise(x, t, schedule, 1)
    moved = (prior(x, t) - wanted).abs().max()
    gaps[f"{float(t):g}"] = [(hand - at_once(x, t)).abs().max(), (hand - wanted).abs().max(), moved]
note("guided guess at w = 1, distance from E[x0|x_t, y]", max(g[1] for g in gaps.values()), "0, up to rounding")
assert max(max(g[:2]) for g in gaps.values()) < 1e-9 < min(g[2] for g in gaps.values())
assert classifier(prior, log_py(1), schedule, w=0.0) is prior
show.table(gaps, ["t", "by hand − library", "by hand − E[x0|x_t, y]", "control: unguided − E[x0|x_t, y]"], digits=1)

# %% [markdown]
# ## 3. Algorithm 1: shift the mean of a random step
#
# *Core · 12 minutes.* Ancestral sampling draws $x_s \sim N(\mu, \Sigma)$ at every step. Conditioned on $y$, that density must be
# multiplied by $p(y|x_s)$. If the step is small, $\log p(y|x_s)$ is nearly a straight line across the Gaussian, and a Gaussian
# times the exponential of a line is the same Gaussian, moved: $N(\mu + \Sigma g, \Sigma)$, where $g$ is the slope (lecture, section 4:
# a random step).
#
# **Predict.** One step from $x_t = 0.7$, between two hills, towards the left one of the two. Which share of the probability
# does the moved Gaussian put in the wrong place, for a step of a tenth of the way, and of a hundredth?


# %%
def moments(x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """μ and Σ of an unguided step (chapter 02)."""
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    fresh = sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2  # the noise that the way from s to t adds
    mean = alpha / alpha_s * sigma_s**2 / sigma**2 * x_t + alpha_s * fresh / sigma**2 * prior(x_t, t)
    return mean, fresh * sigma_s**2 / sigma**2


def arrow(x_t: Tensor, t: Tensor, y: int | Tensor) -> Tensor:
    """∇ log p(y|x_t), by Bayes' rule the difference of two scores."""
    return world.score(x_t, t, schedule, y) - world.score(x_t, t, schedule)


# %%
def one_step(n: int, y: int = 1) -> tuple[Tensor, Tensor, Tensor, float]:
    """A step of 1/n from x_t = 0.7: N(μ, Σ), its product with p(y|x_s), N(μ + Σ·g, Σ), and the share misplaced."""
    at, t, s = torch.full((1, 1), 0.7, dtype=float64), level(0.2), level(0.2 - 1 / n)
    mean, variance = moments(at, t, s)
    plain, moved = (-((x - m) ** 2)[:, 0] / (2 * variance) for m in (mean, mean + variance * arrow(at, t, y)))
    product, moved = (plain + log_py(y)(x, s)).softmax(0), moved.softmax(0)
    return plain.softmax(0), product, moved, float((product - moved).abs().sum() / 2)


steps_shown = {n: one_step(n) for n in (10, 100)}
figures.steps(x, steps_shown)
note("one step of 1/100: share misplaced", steps_shown[100][3], f"a step of 1/10: {steps_shown[10][3]:.2g}")
assert steps_shown[100][3] < 0.03 < 5 * steps_shown[100][3] < steps_shown[10][3]

# %% [markdown]
# Step after step this is Algorithm 1. In the library it is `ddpm(schedule, shift=...)`: the mean of every step moves by $\Sigma$
# times what `shift` returns. All three classes travel in one batch, 800 points each.


# %%
def algorithm_1_by_hand(w: float, y: Tensor, noise: Tensor, grid: Tensor, generator) -> Tensor:
    x_t = noise
    for t, s in pairwise(grid):
        mean, variance = moments(x_t, t, s)
        x_t = mean + w * variance * arrow(x_t, t, y)
        if variance > 0:  # the last step, to t = 0, draws nothing
            x_t = x_t + variance.sqrt() * randn_like(x_t, generator)
    return x_t


def algorithm_1(w: float, y: Tensor, seed: int = 0, steps: int = 200) -> Tensor:
    step, generator = ddpm(schedule, shift=lambda x_t, t: w * arrow(x_t, t, y)), seeded(seed)
    noise = randn((len(y), 1), generator, float64, exact_device)
    *_, points = sample(prior, noise, times.linear(steps), step, generator)
    return points.cpu()


# %%
labels = torch.arange(3).repeat_interleave(800)
generator = seeded(0)
by_hand = algorithm_1_by_hand(1.0, labels, randn((2400, 1), generator, float64), times.linear(10), generator)
assert torch.allclose(by_hand, algorithm_1(1.0, labels, steps=10), atol=1e-10)
assert not torch.allclose(by_hand, algorithm_1(0.9, labels, steps=10), atol=1e-2)  # the control: another strength

# %% [markdown]
# ## 4. Algorithm 2: a deterministic step has no $\Sigma$
#
# *Core · 8 minutes.* DDIM draws nothing, so there is no Gaussian to move. But it uses a guess of the noise, and that can be
# guided: put $\hat\varepsilon$ of section 2 in its place, both times that the step uses it. (The paper's listing announces a strength
# $s$ for Algorithm 2 and then does not use it. We put $w$ in; $w = 1$ is the listing.)


# %%
def ddim_step_by_hand(x_t: Tensor, t: Tensor, s: Tensor, y: int, w: float) -> Tensor:
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x0 = guided_by_hand(x_t, t, y, w)
    eps = (x_t - alpha * x0) / sigma  # the guided guess of the noise: x_t = α·x̂0 + σ·ε̂
    return alpha_s * x0 + sigma_s * eps


def algorithm_2(w: float, y: Tensor, seed: int = 0, steps: int = 200) -> Tensor:
    noise = randn((len(y), 1), seeded(seed), float64, exact_device)
    *_, points = sample(classifier(prior, log_py(y), schedule, w), noise, times.linear(steps), ddim(schedule))
    return points.cpu()


one = ddim(schedule)(classifier(prior, log_py(1), schedule, 1.0), x, level(0.5), level(0.4))
assert torch.allclose(ddim_step_by_hand(x, level(0.5), level(0.4), 1, 1.0), one, atol=1e-10)

# %% [markdown]
# **Predict.** Do both algorithms sample $p(x|y)$ at $w = 1$? The oracle is the Wasserstein distance W1 to exact samples, beside
# the *floor*: the distance between two exact samples of the same size.

# %%
ALGORITHMS = {"Algorithm 1": algorithm_1, "Algorithm 2": algorithm_2}
exact = [world.of_class(y).sample(800, seeded(100 + y))[0] for y in range(3)]
floors = [floor(lambda n, g, y=y: world.of_class(y).sample(n, g)[0], 800)[0] for y in range(3)]
densities = [world.log_prob(show.line(2.5), level(0.0), schedule, y).exp() for y in range(3)]
at_1 = {name: run(1.0, labels).split(800) for name, run in ALGORITHMS.items()}
figures.hills(at_1, densities, "At w = 1 both algorithms come close to p(x|y) (bars: sampled, lines: exact)", top=3.5)

# %%
distances = {name: [w1(points, true) for points, true in zip(classes, exact)] for name, classes in at_1.items()}
for name, found in distances.items():
    note(f"W1 to p(x|y = 1), {name}, w = 1", found[1], f"floor {floors[1]:.2g}")
    assert all(distance < lowest + 0.025 for distance, lowest in zip(found, floors))
unguided = [w1(at_1["Algorithm 1"][0], true) for true in exact]
assert min(unguided[1:]) > 0.5  # the control: the class that was not asked for
table = distances | {"floor: two exact samples": floors, "control: the samples of y = 0": unguided}
show.table(table, ["W1 to p(x|y), 200 steps", "y = 0", "y = 1", "y = 2"], digits=2)

# %% [markdown]
# ## 5. A larger $w$ is not a sharper Bayes
#
# *Core · 10 minutes.* People use $w > 1$ to insist. At $t = 0$ the weighted arrows belong to $p(x)\,p(y|x)^w$, and our hills
# hardly overlap, so that $p(y|x)^3$ is 0 or 1 almost everywhere: one would expect $w = 3$ to sample nearly the same as $w = 1$.
#
# **Predict.** What is the variance of the middle class at $w = 3$, for each algorithm? That of $p(x|y = 1)$ is 0.0225.

# %%
at_3 = {name: run(3.0, labels).split(800) for name, run in ALGORITHMS.items()}
figures.hills(at_3, densities, "At w = 3 the middle class is narrower than p(x|y), and nearly a point in Algorithm 2")

# %%
line_x = show.line(4.0, 4001)
power = (world.log_prob(line_x, level(0.0), schedule) + 3 * log_py(1)(line_x, level(0.0))).softmax(0)
by_power = float(power @ (line_x - power @ line_x) ** 2)
variances = {"p(x|y = 1), exact": [0.15**2], "p(x) p(y = 1|x)³, by integration": [by_power]}
variances |= {f"{name}, w = 3": [classes[1].var()] for name, classes in at_3.items()}
variances |= {f"control: {name}, w = 1": [classes[1].var()] for name, classes in at_1.items()}
for name in ALGORITHMS:
    note(f"variance of the middle class, {name}, w = 3", variances[f"{name}, w = 3"][0], f"power {by_power:.3g}")
assert variances["Algorithm 1, w = 3"][0] < 0.8 * by_power
assert variances["Algorithm 2, w = 3"][0] < 0.01 * by_power
assert variances["control: Algorithm 2, w = 1"][0] > 0.8 * by_power
show.table(variances, ["samples or density", "variance of the middle class"])

# %% [markdown]
# The middle class has neighbours on both sides, and Algorithm 2 squeezes it to *almost a single point*. The reason is in
# lecture 01, section 7, on the exponent: at $t > 0$ the arrows $\nabla \log p_t + w \nabla \log p(y|x_t)$ belong to no noised density when $w$ is
# neither 0 nor 1. At middle noise levels they push three times as hard as they should, from both sides. Algorithm 1 suffers less: its
# fresh noise in every step lets the points forget part of what was done to them at higher noise.
#
# So: $w = 1$ for Bayes, $w > 1$ for something else, which is often useful and never $p(x|y)$. The next figure was recorded with
# `python benchmarks/classifier_guidance_algorithms.py` (5,000 points, three seeds): the error at $w = 1$ against the number of steps.

# %%
import json
from pathlib import Path

ladder = json.loads(Path("../benchmarks/results/classifier_guidance_algorithms.json").read_text(encoding="utf-8"))
ladder_steps = (50, 100, 250, 1000)


def mean_w1(method: str, steps: int) -> float:
    (row,) = [r for r in ladder["rows"] if (r["method"], r["steps"], r["w"], r["y"]) == (method, steps, 1.0, 1)]
    return sum(row["w1"]) / len(row["w1"])


methods = ("Algorithm 1", "Algorithm 1, large variance", "Algorithm 2")
ladder_curves = {method: [mean_w1(method, n) for n in ladder_steps] for method in methods}
figures.errors(
    ladder_steps, ladder_curves, ladder["floor"]["y=1"], "At w = 1 the error of all three falls towards the floor"
)

# %% [markdown]
# **Now you.** Choose the algorithm and the class, and move $w$. Look for the $w$ from which Algorithm 2 gives a single line.


# %%
def explore_strength(w: float, algorithm: str, y: int):
    points = ALGORITHMS[algorithm](w, torch.full((1000,), y), steps=60)
    return figures.one_hill(points, densities[y], f"{algorithm}, w = {w:g}: variance {float(points.var()):.5f}")


explorer = show.explore(
    explore_strength, static=({}, {"w": 3.0}), w=show.Slider(0.0, 6.0, 0.5, start=1.0),
    algorithm=["Algorithm 2", "Algorithm 1"], y=[1, 0, 2],
)  # fmt: skip

# %% [markdown]
# ## 6. A learned classifier, and one that never saw noise
#
# *Core · 20 minutes.* Nobody hands you $p(y|x_t)$ for pictures. It is learned: draw a picture, draw a noise level, add the
# noise, and train a classifier that is told $t$ with the ordinary cross-entropy. Its best answer is $p(y|x_t)$ (lecture,
# section 2: training).
#
# To see how good its *gradient* is, we train on a world where the exact one is known. In `decoys` each class has a main cloud,
# and 12 % of its points in a small cloud on the other side, behind the other two classes. From afar, through noise, a class is
# where its main cloud is; up close, it is in both places. So the right arrow depends on the noise level.

# %%
plane, straight = decoys(), Linear()
ax = show.points(*plane.sample(1500, seeded(0)), limit=2.6, names=["class 0", "class 1", "class 2"], size=8)
ax.set_title("Three classes, each with a decoy")
ax.figure.set_size_inches(4, 4)

# %% [markdown]
# The network is small: waves of several lengths tell it the noise level, three layers mix them with the point, and a head
# gives one logit per class. These seven lines are all that `PointClassifier` computes.


# %%
from minidiff.guides.classifier import PointClassifier
from minidiff.randomness import initialised
from minidiff.training import decayed, diffuse, fit, step_generator


def new_network() -> PointClassifier:
    return initialised(lambda: PointClassifier(straight, dim=2, n_classes=3), seed=0).to(exact_device)


def logits_by_hand(net, x_t: Tensor, t: Tensor) -> Tensor:
    when = F.silu(net.time(t))  # (B, 64): sines and cosines of t, mixed
    h = net.stem(x_t)  # (B, 2) → (B, 64)
    for shift, mix in zip(net.shift, net.mix):
        h = h + mix(F.silu(h + shift(when)))
    return net.head(F.silu(h))  # (B, 3)


# %% [markdown]
# And the training, in full: one batch, one noise level per point, the cross-entropy, one step of AdamW. The library's `fit` with a
# draw from `diffuse` does the same and keeps a moving average of the weights beside it.


# %%
def train_by_hand(steps: int) -> PointClassifier:
    model = new_network()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for step in range(steps):
        generator = step_generator(0, step)  # the randomness of a step is a function of (seed, step)
        x0, y = plane.sample(256, generator)
        t, eps = torch.rand(256, generator=generator), torch.randn(x0.shape, generator=generator)
        x_t = straight.add_noise(x0.float(), eps, t).to(exact_device)
        loss = F.cross_entropy(logits_by_hand(model.net, x_t, t.to(exact_device)), y.to(exact_device))
        optimizer.param_groups[0]["lr"] = decayed(step, steps, 3e-3)  # warm-up, flat, then down to 0
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


# %%
def trained(clock, steps: int):
    """The last state of a training run: `.model` and its moving average `.ema`."""
    *_, last = fit(new_network(), diffuse(plane.draw(256), clock), steps, lr=3e-3, bar=False)
    return last


hand, library_run = train_by_hand(25), trained(times.uniform, 25).model
apart = [float((a - b).detach().abs().max()) for a, b in zip(hand.parameters(), library_run.parameters())]
learned = [float((a - b).detach().abs().max()) for a, b in zip(hand.parameters(), new_network().parameters())]
assert max(apart) < 1e-5 < 1e-3 < max(learned)
show.table({"by hand − fit": [max(apart)], "by hand − before training": [max(learned)]},
           ["after 25 steps", "largest difference of a weight"], digits=1)  # fmt: skip

# %% [markdown]
# Two classifiers with the same network: one is trained on points at all noise levels, one, the *control*, on clean points only,
# which is what you would have if you downloaded some classifier. About 12 seconds.


# %%
def clean_clock(batch: int, generator) -> Tensor:
    return torch.zeros(batch)  # always t = 0


rivals = {
    "exact": lambda x_t, t: plane.posterior_label(x_t, t, straight).log(),
    "noise-aware": trained(times.uniform, 1500).ema,
    "clean only": trained(clean_clock, 500).ema,
}

# %% [markdown]
# **Predict.** Both classify clean points well. With noise nobody can be right all the time; the exact classifier shows the
# limit. How far below it will the clean one fall, in the share of points named right? And in its *loss* (cross-entropy), where a
# wrong answer is the more expensive the surer it was?


# %%
def noisy_points(t: float, n: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    (x0, y), at = plane.sample(n, seeded(7)), level(t)
    x_t = straight.add_noise(x0, randn(x0.shape, seeded(8), float64), at)
    return x_t.to(exact_device), at, y.to(exact_device)


@torch.no_grad()
def quality(model, t: float) -> list[float]:
    x_t, at, y = noisy_points(t)
    log_p = model(x_t, at).log_softmax(1)
    return [t, float((log_p.argmax(1) == y).double().mean()), float(F.nll_loss(log_p, y))]


levels = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
qualities = {name: torch.tensor([quality(model, t) for t in levels]) for name, model in rivals.items()}
ignorance = float(torch.tensor(3.0).log())
figures.quality(qualities, ignorance)

# %%
below = {name: (qualities["exact"] - curve)[:, 1].max() for name, curve in qualities.items() if name != "exact"}
costs = {name: (curve - qualities["exact"])[:, 2].max() for name, curve in qualities.items() if name != "exact"}
for name in below:
    note(f"share named right, most below the exact one, {name}", below[name], "exact 0")
assert max(below.values()) < 0.04
assert costs["noise-aware"] < 0.1 < ignorance < costs["clean only"]
show.table({name: [below[name], costs[name]] for name in below},
           ["worst of 11 noise levels", "named right: below the exact one by", "loss: above the exact one by"], digits=2)  # fmt: skip

# %% [markdown]
# In this world noise hardly changes *which* class is likeliest, and the clean classifier names nearly as many points right as
# the best possible one. But it does not know that it looks through noise. It is as sure as if there were none, and from
# $t \approx 0.4$ on its answers are worth less than knowing nothing. (Section 7 shows whether that is so on clothes, too.)
#
# Guidance uses the gradient of the answers, and there it shows. For points $x_t \sim p_t$ with their labels, compare the learned
# $\nabla \log f(y|x_t, t)$ with the exact one, in direction (cosine) and in length. Where the exact arrow is nearly zero its
# direction decides nothing, so each point counts by the length of the exact arrow; the plain average is reported too.
#
# **Predict.** A cosine of 1 is perfect, 0 is guessing. What do the two reach, averaged over noise levels? By which factor are the
# arrows of the clean one too long at $t = 0.98$?


# %%
def learned_arrow(model, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    x_t = x_t.detach().requires_grad_()
    return torch.autograd.grad(model.log_prob(x_t, t, y).sum(), x_t)[0]


def agreement(model, t: float) -> list[float]:
    """t; cosine weighed by the exact length; plain mean of the cosine; how many times too long the arrows are."""
    x_t, at, y = noisy_points(t)
    right = plane.score(x_t, at, straight, y) - plane.score(x_t, at, straight)
    got, length = learned_arrow(model, x_t, at, y), right.norm(dim=1)
    cosine = F.cosine_similarity(got, right, dim=1, eps=1e-30)
    weighed = (length * cosine).sum() / length.sum()
    return [t, float(weighed), float(cosine.mean()), float(got.norm(dim=1).mean() / length.mean())]


# %%
arrows = {name: torch.tensor([agreement(rivals[name], t) for t in levels]) for name in ("noise-aware", "clean only")}
figures.agreement(arrows)
for name, curve in arrows.items():
    note(f"cosine to the exact gradient, {name}", curve[:, 1].mean(), "exact 1")
    note(f"length of the gradient at t = 0.98, {name}", curve[-1, 3], "exact 1")
assert arrows["noise-aware"][:, 1].mean() > 0.95
assert arrows["clean only"][8, 1] < arrows["noise-aware"][8, 1] - 0.2
summary = {name: [*curve[:, 1:3].mean(0), curve[-1, 3]] for name, curve in arrows.items()}
show.table(summary, ["11 noise levels", "cosine, weighed", "cosine, plain", "length / exact at t = 0.98"])

# %% [markdown]
# Now let each guide the *exact* denoiser of this world towards class 0, at $w = 1$, so that whatever goes wrong is the
# classifier's doing. **Predict** what the clean one does.


# %%
def guided_by(log_prob, n: int = 600) -> Tensor:
    guided = classifier(bind(plane.denoiser(straight)), log_prob, straight, w=1.0)
    noise = randn((n, 2), seeded(3), float64, exact_device)
    *_, points = sample(guided, noise, times.linear(50), ddim(straight))
    return points.cpu()


zero = torch.tensor(0, device=exact_device)
guides = {"exact": lambda x_t, t: plane.log_prob_label(x_t, t, straight, 0)}
guides |= {name: lambda x_t, t, f=rivals[name]: f.log_prob(x_t, t, zero) for name in ("noise-aware", "clean only")}
target = plane.of_class(0).sample(600, seeded(5))[0]
clouds = {name: guided_by(log_prob) for name, log_prob in guides.items()}

# %%
far = {name: (points, w1(points, target)) for name, points in clouds.items()}
lowest, _ = floor(lambda n, g: plane.of_class(0).sample(n, g)[0], 600, repeats=3)
figures.clouds(far, target, lowest)
for name, (_, distance) in far.items():
    note(f"W1 in the plane, guided by {name}", distance, f"floor {lowest:.2g}")
assert far["noise-aware"][1] < lowest + 0.15
assert far["clean only"][1] > 5 * far["noise-aware"][1]

# %% [markdown]
# Is it the direction of the clean arrows or their length that ruins the samples? That is the open experiment of the exercises.
#
# ## 7. Pictures of clothes
#
# *Core · 12 minutes.* Now the real thing: Fashion-MNIST. Four networks are shipped (trained by `minidiff train NAME` on the real
# 60,000 pictures):
#
# - the **denoiser** of chapter 02; its "no label" branch is our unconditional model;
# - a **noise-aware classifier**, which guides: a small convolutional network, trained by the loop of section 6;
# - the same classifier trained on **clean** pictures only, the control;
# - an independent **judge**, another network with other training, which never guides anybody.
#
# **Predict.** Ten classes; at $t = 0.5$ half of every pixel is noise. Which share of real test pictures does each of the two classifiers
# still name right? (The shares were recorded at the end of their training.)

# %%
from minidiff.systems import fashion
from minidiff.weights import record

denoiser, judge = fashion.DENOISER.load().to(device), fashion.JUDGE.load().to(device)
guide = {
    "noise-aware": fashion.NOISY_CLASSIFIER.load().to(device),
    "clean only": fashion.CLEAN_CLASSIFIER.load().to(device),
}

# %%
boot_levels = (0.0, 0.3, 0.5, 0.7, 0.9)
shares = {
    name: [record(f"fashion-{kind}-classifier")["scores"][f"test accuracy at t={t}"] for t in boot_levels]
    for name, kind in (("noise-aware", "noisy"), ("clean only", "clean"))
}
boot = fashion.pictures([9], w=1.0, per_class=1, seed=3, model=denoiser).expand(5, 1, 28, 28)
noise = randn((1, 1, 28, 28), seeded(0), device=device).expand_as(boot)
figures.boots(denoiser.schedule.add_noise(boot, noise, torch.tensor(boot_levels)), boot_levels, shares)
assert shares["noise-aware"][3] > shares["clean only"][3] + 0.1

# %% [markdown]
# Guide. One row per setting, one column per class, four pictures of each (the first is shown): 20 steps of DPM-Solver++, every
# row from the same noise. **Predict.** Exact Bayes is $w = 1$. Will it be enough here? And what does the clean classifier draw?


# %%
from minidiff.samplers import dpmpp_2m


def dress(f, w: float, per_class: int = 4) -> Tensor:
    """Pictures of class 0, 1, …, 9, 0, 1, … guided by classifier f with strength w, from the unconditional branch."""
    y = torch.arange(10, device=device).repeat(per_class)
    noise = randn((len(y), 1, 28, 28), seeded(range(len(y))), device=device)
    plain = bind(denoiser, y=torch.tensor(10, device=device))  # 10 is "no label"
    guided = classifier(plain, lambda x_t, t: f.log_prob(x_t, t, y), denoiser.schedule, w)
    *_, pictures = sample(guided, noise, times.linear(20), dpmpp_2m(denoiser.schedule))
    return pictures


# %%
import time

settings = [("noise-aware", w) for w in (0.0, 1.0, 2.0, 4.0, 8.0)] + [("clean only", 8.0)]
dressed, seconds = {}, {}
for name, w in settings:
    began = time.process_time()
    dressed[name, w] = dress(guide[name], w)
    seconds[name, w] = time.process_time() - began

# %%
asked = torch.arange(10, device=device).repeat(4)
right = {key: float((judge.predict(pictures) == asked).double().mean()) for key, pictures in dressed.items()}
rows = [f"{'no guidance' if w == 0 else f'{name}, w = {w:g}'}: {right[name, w]:.0%}" for name, w in settings]
title = "Wanted: the class below. %: judged right, of 40"
figures.wardrobe(list(dressed.values()), rows, fashion.FASHION_NAMES, title)
for name, w in settings:
    note(f"judged right of 40 clothes, {name}, w = {w:g}", right[name, w], "chance 0.1")
assert right["noise-aware", 8.0] > 0.8 > right["noise-aware", 0.0] + 0.5
assert right["clean only", 8.0] < 0.5

# %%
price_of_one = seconds["noise-aware", 1.0] / seconds["noise-aware", 0.0]
note("CPU time of guided pictures / of unguided ones", price_of_one, "one classifier, forward and back")
show.table({f"{name}, w = {w:g}": [right[name, w], seconds[name, w]] for name, w in settings},
           ["40 pictures", "judged right", "CPU seconds"], digits=2)  # fmt: skip

# %% [markdown]
# At $w = 1$ fewer than half of the pictures are of the class that was asked for; at $w = 8$ nearly all are. The clean classifier at
# the same strength hardly steers at all.
#
# ## 8. The price, and who may judge
#
# *Extra · 15 minutes.* Forty pictures a row are few. The next figure was recorded with
# `python benchmarks/fashion_classifier_guidance.py`: 500 pictures a point, one seed. On the left the share of pictures of the wanted
# class, once according to the **judge** (solid) and once according to the **guide itself** (dotted), which has a stake in the answer.
# Then what guidance costs: the diversity within a class (root-mean-square distance of two pictures in the judge's features), and
# recall, the share of real pictures that lie among the samples. Dashed: real pictures, compared with other real pictures.
#
# **Predict.** Which of the two shares is higher, and does it matter whether the guide has seen noise?

# %%
folder = Path("../benchmarks/results")
recorded = json.loads((folder / "fashion_classifier_guidance.json").read_text(encoding="utf-8"))["rows"]
recorded = [row for row in recorded if row["seed"] == 0]  # the seed that is complete
real = json.loads((folder / "fashion_cfg.json").read_text(encoding="utf-8"))["real"]


def recorded_curve(guide_name: str, key: str) -> tuple[list[float], list[float]]:
    """Strengths and recorded values. Unguided rows (w = 0) belong to both guides."""
    chosen = [r for r in recorded if not r["labelled"] and (r["guide"] == guide_name or r["w"] == 0)]
    pairs = sorted((r["w"], r[key]) for r in chosen)
    return [w for w, _ in pairs], [value for _, value in pairs]


KEYS = ("accuracy", "guide_accuracy", "diversity", "recall")
kinds = {"noise-aware": "noisy", "clean only": "clean"}
figures.price({name: {key: recorded_curve(kind, key) for key in KEYS} for name, kind in kinds.items()}, real)

# %% [markdown]
# Three things to read off:
#
# - **$w = 1$ is not enough.** A perfect denoiser with a perfect classifier would need no more. Here the judge finds only about half of
#   the pictures right, and the guide itself is sure of its class only half of the time. The paper saw the same on ImageNet and scaled
#   its gradients up (lecture, section 7: what $w > 1$ does).
# - **The guide flatters itself.** At every strength it finds more pictures right than the judge does. The clean guide at $w = 16$ is the
#   clearest case: its gradient has found pictures that *it* takes for the wanted class, and nobody else does. A gradient can change what a
#   classifier says without changing what a person sees; such changes are called *adversarial*. That is why the judge must
#   not have had a hand in the game.
# - **Strength costs variety.** (At $w = 0$ the pictures are of any class, hence the large spread.) From $w = 2$ on they are more alike
#   than real ones of their class. The clean guide leaves the classes mixed, and with them the variety.
#
# The flattery is measurable. The test: the same guide judges pictures that it did *not* guide, drawn by the denoiser that was told the
# label (chapter 02), and pictures that it did.


# %%
def says(labelled: bool, w: float, guide_name: str) -> list[float]:
    """Share found right by the guide, by the judge, and the difference in points."""
    key = {"guide": guide_name, "labelled": labelled, "w": w}
    (row,) = [r for r in recorded if key.items() <= r.items()]
    return [row["guide_accuracy"], row["accuracy"], 100 * (row["guide_accuracy"] - row["accuracy"])]


flattery = {"told the label, not guided": says(True, 0.0, "noisy"), "guided, w = 2": says(False, 2.0, "noisy")}
flattery["guided by clean only, w = 16"] = says(False, 16.0, "clean")
for name, (_, _, gap) in flattery.items():
    note(f"guide minus judge, {name}, in points", gap, "an honest guide: about 0")
untouched, touched, fooled = (gap for _, _, gap in flattery.values())
assert untouched < 1 < touched < fooled
show.table(flattery, ["pictures (500 each)", "the guide finds right", "the judge", "difference in points"])

# %% [markdown]
# Pictures it did not touch, the guide finds right a little *less* often than the judge, who is the better classifier. Pictures it
# guided, it finds right more often.
#
# ## What you measured

# %%
show.table(results, ["what", "measured", "to compare with"])

# %% [markdown]
# ## What to try next
#
# - In section 3, move `x_t`, or evaluate the gradient at $\mu$ and at level $s$, where the derivation has it. Which step size needs it?
# - In section 6, start the grid at 0.999 instead of 1 (`times.linear(50, start=0.999)`). The noise-aware guide ends at a W1 of about 0.7.
#   Lecture, section 8 (what is known not to work), says why.
# - In section 7, guide the branch that knows the label (`y=y` in place of 10). Half of the paper's models work like this: which $w$
#   suffices now?
# - In section 7, guide with `guidance.within(guided, plain, 0.0, 0.9)`: is the first step needed?
#
# Then the [exercises](../exercises/04_classifier_guidance.ipynb): the gradient, the loss, Algorithm 2, and the paper's own sampler to
# build. A classifier is needed for every kind of wish, and it must be trained on noise.
# [Chapter 05](05_classifier_free_guidance.ipynb) gets rid of it.
