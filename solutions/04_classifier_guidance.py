# %% [markdown]
# # Exercises 04: Classifier guidance
#
# Four short functions, one larger thing to build, and one open experiment: together they are classifier guidance, from
# the loss of the classifier to pictures. The [notebook](../notebooks/04_classifier_guidance.ipynb) takes most of it from
# the library, the [lecture](../lectures/04_classifier_guidance.md) derives it. Predict, write, check. Two hours in all;
# the short ones take forty minutes.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so. Most worlds here are
# Gaussian mixtures, so that claims can be compared with the exact answer. Two small classifiers are trained, with your
# loss. **Budget: 60 s on two CPU cores.**
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.mixtures import Mixture, decoys, three_modes
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import DDPM, Linear, Schedule

# %%
float64 = torch.float64
plane, line = decoys(), three_modes()  # exact worlds: three classes in the plane, three hills on a line
straight, steps_of_ddpm = Linear(), DDPM()


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=float64)


def exact_classifier(world: Mixture, schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """(x_t, t) → log p(x_t, y) for every class y, (B, 3): logits of the best possible classifier."""
    joint = lambda x_t, t: [world.log_prob(x_t, t, schedule, y) for y in range(3)]
    return lambda x_t, t: torch.stack(joint(x_t, t), dim=1) + world.log_prior_label(x_t)


# %% [markdown]
# ## Exercise 04-classifier-gradient
#
# **Predict first.** A classifier is sure that $x_t$ is *not* of class $y$: $f(y|x_t) = 10^{-6}$. Is the gradient of
# $f(y|x_t)$ large or small there? And that of $\log f(y|x_t)$? What if $f$ is so small that it rounds to 0?
#
# **Derivation.**
#
# 1. Guidance adds $\nabla_{x_t} \log f(y|x_t, t)$ to the score: the gradient with respect to the *picture*.
# 2. A network returns logits $\ell_k$. What is $\log f(y|x_t)$ in terms of them, without ever computing $f$?
# 3. PyTorch differentiates a single number, and there are $B$ pictures, each with a class of its own. Picture $i$ has
#    influence on its own $\log f(y_i|x_i)$ only. Which single number has all $B$ gradients in it, undisturbed?
#
# In code: `classifier(x_t, t)` gives the logits (B, K); `y` (B,) is the class wanted for each picture.


# %% answer="04-classifier-gradient"
def classifier_gradient(classifier: Callable, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇ log f(y|x_t, t) with respect to x_t, one gradient per picture.

    classifier(x_t, t) → logits (B, K).  x_t: (B, …).  t: a scalar in [0, 1].  y: (B,) int64 in 0 … K − 1.
    Returns (B, …), same dtype as x_t, finite however sure the classifier is. Does not change its arguments.
    """
    ### BEGIN SOLUTION
    x_t = x_t.detach().requires_grad_()  # a leaf of our own: PyTorch tracks it, the caller's tensor stays as it was
    log_f = classifier(x_t, t).log_softmax(1).gather(1, y[:, None])  # (B, 1)
    return torch.autograd.grad(log_f.sum(), x_t)[0]
    ### END SOLUTION


# %% [markdown]
# **Use it.** By Bayes' rule (chapter 01) the gradient of the *exact* classifier is the difference of two scores,
# $\nabla \log p(y|x_t) = \nabla \log p(x_t|y) - \nabla \log p(x_t)$, both known here.

# %%
generator_1, gradient_gaps = seeded(0), {}
points_1, labels_1 = 2 * randn((500, 2), generator_1, float64), torch.randint(3, (500,), generator=generator_1)
for t in (0.0, 0.1, 0.5, 0.9, 1.0):
    exact = plane.score(points_1, level(t), straight, labels_1) - plane.score(points_1, level(t), straight)
    got = checked_classifier_gradient(exact_classifier(plane, straight), points_1, level(t), labels_1)
    gradient_gaps[f"{t:g}"] = [exact.norm(dim=1).mean(), (got - exact).abs().max()]
assert max(gap for _, gap in gradient_gaps.values()) < 1e-11
show.table(gradient_gaps, ["t", "mean length of the exact gradient", "largest error of yours"], digits=2)

# %% [markdown]
# **Want more?** Plot the length of $\nabla f$ and of $\nabla \log f$ along a line from one class to another. Which of
# the two still pushes when the classifier is sure of the wrong class?

# %% [markdown]
# ## Exercise 04-noise-aware-loss
#
# **Predict first.** At $t = 0.9$ almost everything is noise. What should a perfect classifier of three equally common
# classes answer there, and what is its loss? Is a *surer* classifier better?
#
# **Derivation.**
#
# 1. The classifier will be asked by a sampler, about its $x_t$, at every noise level. It must have seen just that.
# 2. Which loss of a guess $f(\cdot|x_t, t)$ is smallest, on average, where the guess is $p(\cdot|x_t)$ (lecture,
#    section 2: training)?
# 3. One batch can teach all noise levels at once if every picture of it has its own.
#
# In code: `schedule` has $\alpha$ and $\sigma$; `t` has one entry per picture. Keep one value per picture.


# %% answer="04-noise-aware-loss"
def noise_aware_loss(classifier: Callable, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The loss that makes a classifier of noisy pictures.

    classifier(x_t, t) → logits (B, K), with t of shape (B,).  x0, eps: (B, …), same dtype.  y: (B,) int64.
    t: (B,) in [0, 1], both ends included.
    Returns (B,), one value per picture, finite however sure the classifier is; its mean can be trained on.
    """
    ### BEGIN SOLUTION
    x_t = schedule.add_noise(x0, eps, t)  # gives t trailing ones, so that each picture gets its own α and σ
    return F.cross_entropy(classifier(x_t, t), y, reduction="none")
    ### END SOLUTION


# %% [markdown]
# **Use it.** Train with it. The same network twice: once at all noise levels, once, as a control, on clean points only.
# A few seconds.


# %%
def trained(noisiest: float, steps: int, seed: int = 0):
    """A small network, trained with your loss at noise levels from 0 to `noisiest`."""
    from minidiff.guides.classifier import PointClassifier

    network, generator = initialised(lambda: PointClassifier(straight, dim=2, n_classes=3), seed), seeded(seed)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    for step in range(steps):
        x0, y = plane.sample(256, generator)
        t, eps = noisiest * torch.rand(256, generator=generator), randn(x0.shape, generator)
        loss = checked_noise_aware_loss(network, straight, x0.float(), y, t, eps).mean()
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, 2 - 2 * step / steps)  # flat, then down to 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


# %%
networks = {"noise-aware": trained(1.0, steps=500), "clean": trained(0.0, steps=200)}

# %% [markdown]
# Five classifiers, asked at $t = 0.6$: the exact $p(y|x_t)$; your two networks; the exact classifier of *clean* points,
# which takes $x_t$ for a clean one; and one that knows nothing and always answers one third. **Predict** the order of
# their losses, then run the cell.

# %%
best = exact_classifier(plane, straight)
rivals = {"exact": best, "yours, all noise levels": networks["noise-aware"], "yours, clean points": networks["clean"]}
rivals |= {"exact for clean points": lambda x_t, t: best(x_t, 0 * t), "knows nothing": lambda x_t, t: 0 * best(x_t, t)}
points_2, labels_2 = plane.sample(4000, seeded(0))
noise_2, levels_2 = randn(points_2.shape, seeded(1), float64), torch.full((4000,), 0.6, dtype=float64)
batch_2 = (straight, points_2, labels_2, levels_2, noise_2)
with torch.no_grad():
    losses = {name: checked_noise_aware_loss(f, *batch_2).mean() for name, f in rivals.items()}
assert losses["yours, all noise levels"] < losses["exact"] + 0.05
assert losses["knows nothing"] < min(losses["yours, clean points"], losses["exact for clean points"])
show.table({name: [loss] for name, loss in losses.items()}, ["classifier", "loss at t = 0.6"], digits=4)

# %% [markdown]
# The perfect classifier of clean points is *worse than knowing nothing*: it is sure, and often wrong. Yours
# that was trained on clean points is no better off. A classifier that is trained with your loss at all noise levels never gets the chance to be that sure.
#
# **Want more?** At which noise level does the clean classifier become worse than knowing nothing?

# %% [markdown]
# ## Exercise 04-guided-x0
#
# **Predict first.** The same gradient, at $t = 0.1$ and at $t = 0.9$ of the straight path: where does it move the guess
# $\hat x_0$ further, and by what factor? What happens at $t = 1$?
#
# **Derivation.**
#
# 1. Guidance adds $w\,\nabla \log f$ to the score. By definition $\varepsilon = -\sigma_t \cdot \text{score}$, and
#    $x_t = \alpha_t \hat x_0 + \sigma_t \varepsilon$ holds for the guesses, before and after guidance, with the same $x_t$.
# 2. So which multiple of $\nabla \log f$ does $\hat x_0$ gain?
# 3. Where $\alpha = 0$, this multiple does not exist. By convention the guess is returned as it came.
#
# In code: `x0` is the unguided guess, `gradient` is $\nabla \log f$, `alpha` and `sigma` are $\alpha_t$, $\sigma_t$. Here $w = 1$ is
# Bayes' rule and $w = 0$ is no guidance.


# %% answer="04-guided-x0"
def guided_x0(x0: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """The guided guess of the clean picture; where alpha = 0, the guess as it came.

    x0, gradient: (B, …), same dtype.  alpha, sigma: scalars ≥ 0, of any schedule.  w: any number.
    Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # −σ/α·(−w·σ·∇log f): the first σ turns a score into noise, the second noise into a picture.
    if alpha == 0:
        return x0
    return x0 + w * sigma**2 / alpha * gradient
    ### END SOLUTION


# %% [markdown]
# **Use it.** At $w = 1$ the guided guess must be the exact $E[x_0 | x_t, y]$, at every noise level but the very last.


# %%
def distance_from_exact(t: Tensor) -> Tensor:
    """Of the guided guesses at 100 points, the one that is furthest from E[x0|x_t, y]."""
    points, y = plane.sample(100, seeded(0))
    x_t = straight.add_noise(points, randn(points.shape, seeded(1), float64), t)
    gradient = plane.score(x_t, t, straight, y) - plane.score(x_t, t, straight)
    guess = checked_guided_x0(plane.denoise(x_t, t, straight), gradient, *straight(t), w=1.0)
    return (guess - plane.denoise(x_t, t, straight, y)).norm(dim=1).max()


# %%
guess_gaps = {f"{t:g}": [distance_from_exact(level(t))] for t in (0.0, 0.2, 0.5, 0.9, 0.99, 1.0)}
assert max(float(gap) for t, (gap,) in guess_gaps.items() if t != "1") < 1e-11
assert guess_gaps["1"][0] > 0.5
show.table(guess_gaps, ["t", "largest distance from E[x0|x_t, y]"], digits=2)

# %% [markdown]
# Why not at $t = 1$? There $x_1$ says nothing about $y$ and the gradient is 0, but knowing $y$ still moves the guess, from
# $E[x_0]$ to $E[x_0|y]$. As $t \to 1$ the gradient shrinks like $\alpha_t$ and the factor grows like $1/\alpha_t$: their product
# has a limit, but $\infty \cdot 0$ at $t = 1$ no longer knows it. Samplers with an exact gradient start a little below 1.
#
# **Want more?** A *learned* gradient is off by 0.01 at $t = 0.99$. By how much is the guess off?

# %% [markdown]
# ## Exercise 04-algorithm-2
#
# **Predict first.** DDIM adds no noise: $\Sigma = 0$. Algorithm 1 moves the mean of a step by $w\,\Sigma\,\nabla \log f$. What would it
# do with DDIM?
#
# **Derivation.**
#
# 1. The score is $-\varepsilon/\sigma_t$; guidance adds $w\,\nabla \log f$ to it. Which guess of the noise belongs to the guided score?
# 2. A DDIM step (chapter 02) uses its guess of the noise twice: to find $\hat x_0$, and to put noise back at the next level.
# 3. For the guided pair $x_t = \alpha_t \hat x_0 + \sigma_t \hat\varepsilon$ must still hold. Which of the two uses is guided?
#
# In code: `eps_model(x, t)` is $\varepsilon$, `gradient(x, t)` is $\nabla \log f$; `schedule(t)` gives $\alpha_t, \sigma_t$;
# `pairwise(times)` gives the pairs (t, s).


# %% answer="04-algorithm-2"
def algorithm_2(
    eps_model: Callable, gradient: Callable, x: Tensor, times: Tensor, schedule: Schedule, w: float
) -> Tensor:
    """Classifier-guided DDIM, Algorithm 2 of arXiv 2105.05233 with a strength w.

    eps_model(x, t), gradient(x, t) → like x.  x: noise at times[0], (B, …).  times: decreasing, 1-D, in [0, 1], with
    α(times[0]) > 0, in steps of any size.  schedule(t) → (α, σ).  w: any number.  Returns x at times[-1], (B, …).
    """
    ### BEGIN SOLUTION
    for t, s in pairwise(times):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
        eps = eps_model(x, t) - sigma * w * gradient(x, t)
        x0 = (x - sigma * eps) / alpha
        x = alpha_s * x0 + sigma_s * eps  # the same guided eps: the two guesses belong together
    return x
    ### END SOLUTION


# %% [markdown]
# **Use it.** Ask for the hill in the middle, which has neighbours on both sides, with $w = 1$ and with $w = 3$. Predict the
# width of the samples at $w = 3$: a little narrower than $p(x|y)$, or much?


# %%
def toward(y: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact ∇ log p(y|x_t) on the line, as a function of (x_t, t)."""
    return lambda x, t: line.score(x, t, steps_of_ddpm, y) - line.score(x, t, steps_of_ddpm)


def line_eps(x: Tensor, t: Tensor) -> Tensor:
    return -steps_of_ddpm(t)[1] * line.score(x, t, steps_of_ddpm)


def deterministic(w: float, seed: int = 0) -> Tensor:
    noise = randn((2000, 1), seeded(seed), float64)
    return checked_algorithm_2(line_eps, toward(1), noise, times.linear(100), steps_of_ddpm, w)


# %%
middle = lambda n, generator: line.of_class(1).sample(n, generator)[0]
hills = {"exact": middle(2000, seeded(50))} | {f"w = {w:g}": deterministic(w) for w in (1.0, 3.0)}
assert w1(hills["w = 1"], hills["exact"]) < 0.02
assert hills["w = 3"].var() < 0.001
columns = ["samples", "W1 to exact samples", "variance"]
show.table({"floor: two exact samples": [floor(middle, 2000)[0], 0.15**2]} | {
    name: [w1(x, hills["exact"]), x.var()] for name, x in hills.items() if name != "exact"
}, columns, digits=2)  # fmt: skip

# %%
_, axes = show.panels(1, 3, size=(3.1, 2.4), sharex=True)
for ax, (name, x) in zip(axes, hills.items()):
    ax.hist(x[:, 0].numpy(), bins=torch.linspace(-0.5, 0.9, 71).tolist(), density=True)
    ax.set(xlabel="x", ylabel="density (scales differ)", title=f"{name}: variance {float(x.var()):.5f}")
plt.show()

# %% [markdown]
# At $w = 1$ the samples are those of $p(x|y = 1)$. At $w = 3$ they are nearly one point (lecture, section 7: what w > 1 does).
#
# **Want more?** With the unguided $\varepsilon$ in one of the two places, what becomes of the samples at 10 steps, and at 200?

# %% [markdown]
# ## Exercise 04-guided-sampler
#
# Now build the sampler with which the paper drew its pictures: Algorithm 1, from a *network's* logits, for pictures that
# each have a class and a strength of their own, with a **learned variance**. It is 15 to 25 lines. Nothing of the
# library does this.
#
# **Predict first.** A step moves the mean by $w\,\Sigma\,\nabla \log f$. The variance may be chosen between two bounds that
# differ by $\sigma_s^2/\sigma_t^2$. Which of the two guides more? Do they differ at the first steps, or at the last?
#
# **Derivation.**
#
# 1. From $x_t$ to $x_s$: write $f = \sigma_t^2 - (\alpha_t/\alpha_s)^2 \sigma_s^2$ for the noise that the way from $s$ to $t$ adds. The
#    mean $\mu$ is that of DDPM: of $N(x_s; \alpha_s \hat x_0, \sigma_s^2)\, N(x_t; \tfrac{\alpha_t}{\alpha_s} x_s, f)$ as a function of $x_s$.
# 2. Its variance is at least $f \sigma_s^2/\sigma_t^2$ (as if $x_0$ were known) and at most $f$. The network gives, for every pixel, a
#    share $v \in [0, 1]$; the *logarithm* of $\Sigma$ is the average of the two logarithms with shares $1 - v$ and $v$ (arXiv
#    2102.09672, eq. 15).
# 3. Times $p(y|x_s)^w$ near $\mu$, with $\log p(y|x_s) \approx \text{const} + (x_s - \mu)^\top g$: complete the square. Which mean, which
#    variance does the guided step have?
# 4. A step to $\sigma_s = 0$ draws nothing and returns $\mu$. What would your formula for $\Sigma$ give there at $v = 1$?
#
# In code: `model(x_t, t)` returns the pair $(\varepsilon, v)$. Like the paper's listing, take $g$ at $x_t$ and $t$. The test is
# exact, so draw in this order: first the start, then once for each step that needs noise, each time the whole batch:
# `torch.randn(shape, generator=generator, dtype=w.dtype)`.


# %% answer="04-guided-sampler"
def guided_sampler(
    model: Callable, classifier: Callable, schedule: Schedule, times: Tensor, y: Tensor, w: Tensor,
    shape: tuple[int, ...], generator: Generator,
) -> Tensor:  # fmt: skip
    """Algorithm 1 of arXiv 2105.05233 with learned variances, from noise at times[0] to x at times[-1].

    model(x_t, t) → (eps, v), both like x_t, v in [0, 1].  classifier(x_t, t) → logits (B, K).  schedule(t) → (α, σ).
    times: decreasing, 1-D float64, in [0, 1], with α(times[0]) > 0 and a last σ that may be 0.  y: (B,) int64.
    w: (B,), one strength per picture, any numbers.  shape: (B, …), that of the pictures.  generator: of all noise.
    Returns (B, …), the dtype of w.
    """
    ### BEGIN SOLUTION
    draw = lambda: torch.randn(shape, generator=generator, dtype=w.dtype)
    w_each = w.reshape(-1, *[1] * (len(shape) - 1))  # (B, 1, …): a strength belongs to a picture, not to a column
    x = schedule(times[0])[1] * draw()
    for t, s in pairwise(times):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)

        leaf = x.detach().requires_grad_()
        log_f = classifier(leaf, t).log_softmax(1).gather(1, y[:, None])
        gradient = torch.autograd.grad(log_f.sum(), leaf)[0]

        eps, v = model(x, t)
        x0 = (x - sigma * eps) / alpha
        fresh = sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2
        mean = alpha / alpha_s * sigma_s**2 / sigma**2 * x + alpha_s * fresh / sigma**2 * x0
        if sigma_s == 0:  # without this, small^(1 − v) is 0^0 = 1 where v = 1
            x = mean
        else:
            small, large = fresh * sigma_s**2 / sigma**2, fresh
            variance = small ** (1 - v) * large**v  # averages the logarithms
            x = mean + w_each * variance * gradient + variance.sqrt() * draw()
    return x
    ### END SOLUTION


# %% [markdown]
# **Use it, first where the answer is known.** Three hills, the middle one wanted, exact $\varepsilon$ and classifier, only 50 steps.
# Which $v$ do you expect to be best? With many steps all would be right.


# %%
def hill_by_steps(v: float, seed: int = 0, n: int = 1000) -> Tensor:
    asked, once = torch.full((n,), 1), torch.ones(n, dtype=float64)
    model = lambda x, t: (line_eps(x, t), torch.full_like(x, v))
    exact = exact_classifier(line, steps_of_ddpm)
    return checked_guided_sampler(model, exact, steps_of_ddpm, times.linear(50), asked, once, (n, 1), seeded(seed))


# %%
by_share = {f"v = {v:g}": hill_by_steps(v) for v in (0.0, 0.5, 1.0)}
share_rows = {name: [w1(x, hills["exact"]), x.var()] for name, x in by_share.items()}
assert 2 * share_rows["v = 1"][0] < share_rows["v = 0"][0]
show.table(share_rows | {"floor: two exact samples": [floor(middle, 2000)[0], 0.15**2]}, columns, digits=2)

# %% [markdown]
# The small variance guides too little when steps are large: some points stay with the neighbours, so that the variance
# is *larger* than that of $p(x|y)$ (lecture, section 5: how Algorithms 1 and 2 are related).
#
# **Then on pictures.** The denoiser of chapter 02 without a label, a classifier trained on noisy clothes, and a judge who
# has nothing to do with either. Three strengths, ten classes, one batch.

# %%
from minidiff.systems import fashion

denoiser, guide, judge = (each.load() for each in (fashion.DENOISER, fashion.NOISY_CLASSIFIER, fashion.JUDGE))


@torch.no_grad()
def clothes_model(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    x0, (alpha, sigma) = denoiser(x_t, t, y=fashion.NULL["y"]), straight(t)
    return (x_t - alpha * x0) / sigma, torch.full_like(x_t, SHARE)


# %%
SHARE, strengths = 0.5, (0.0, 2.0, 8.0)  # SHARE: this denoiser has learned no variance, so one for all
asked = torch.arange(10).repeat(len(strengths))  # the ten classes, once for each strength
strength_of = torch.tensor(strengths).repeat_interleave(10)


def wardrobe(seed: int) -> Tensor:
    shape, generator, grid = (len(asked), 1, 28, 28), seeded(seed), times.linear(20, start=0.98)
    return checked_guided_sampler(clothes_model, guide, straight, grid, asked, strength_of, shape, generator)


# %%
pictures = wardrobe(seed=0)
judged_right = (judge.predict(pictures) == asked).reshape(len(strengths), 10)
rows = [f"w = {w:g}: {int(right.sum())} of 10" for w, right in zip(strengths, judged_right)]
sheet = show.grid(pictures, rows=rows, scale=0.9, title="Wanted: the class below. Counts: judged right")
sheet.set_xticks([30 * i + 15 for i in range(10)], fashion.FASHION_NAMES, fontsize=8, rotation=40, ha="right")
plt.show()
assert judged_right[0].sum() <= 4 < 7 <= judged_right[-1].sum()

# %% [markdown]
# **Want more?** Give every picture a strength that depends on $t$: guide only while $0.2 < t < 0.9$. Is anything lost?

# %% [markdown]
# ## Exercise 04-direction-or-length
#
# Your clean network makes a bad guide. Its arrows are wrong in two ways: they point in wrong *directions*, and they have
# the wrong *length*. **Which of the two ruins the samples?** The harness builds a guide with the directions of one
# network and the mean lengths of another (one number per noise level), and lets it steer an exact denoiser to the three
# classes of `decoys`. Three judges look at the result, none of them a guide: the exact classifier of clean points, the
# share of points in the small cloud behind the other classes (12 % of each class belong there), and W1 to $p(x|y)$.
#
# Predict first, then vary: directions and lengths of "clean", "noise-aware" and "exact"; $w$ from 0.5 to 4; seeds.
# **A good answer** holds a table with a spread over at least three seeds, a control that must fail and one that must
# succeed, a decision, what the share in the class hides, and a sentence that another experiment could prove wrong.


# %%
def arrow(source: str, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇ log f(y|x_t, t) of one of your networks, or the exact one."""
    network = best if source == "exact" else networks[source]
    return checked_classifier_gradient(network, x_t, t, y)


@cache
def mean_length(source: str, t: float) -> Tensor:
    """Of the arrows of 2,000 points x_t with their own labels. After training anew: `mean_length.cache_clear()`."""
    x0, y = plane.sample(2000, seeded(7))
    x_t = straight.add_noise(x0, randn(x0.shape, seeded(8), float64), level(t))
    return arrow(source, x_t, level(t), y).norm(dim=1).mean()


# %%
def steered(direction: str, length: str, w: float, seed: int = 0, n: int = 300) -> list[Tensor]:
    """n points of each class, (n, 2), by Algorithm 2."""
    y = torch.arange(3).repeat_interleave(n)
    same, grid = direction == length, times.linear(50, start=0.98)
    factor = lambda t: 1.0 if same else mean_length(length, float(t)) / mean_length(direction, float(t))
    gradient = lambda x, t: factor(t) * arrow(direction, x, t, y)
    eps_model = lambda x, t: -straight(t)[1] * plane.score(x, t, straight)
    noise = straight(grid[0])[1] * randn((3 * n, 2), seeded(seed), float64)
    return list(checked_algorithm_2(eps_model, gradient, noise, grid, straight, w).split(n))


# %%
def verdicts(clouds: list[Tensor], seed: int = 0) -> list[float]:
    """In the class, says the exact classifier of clean points; in the small cloud; W1: each the mean of the classes."""
    found = []
    for y, x in enumerate(clouds):
        right = plane.posterior_label(x, level(0.0), straight)[:, y].mean()
        small = (x - plane.means[3 + y]).norm(dim=1) < 0.7
        exact = plane.of_class(y).sample(len(x), seeded(900 + 10 * seed + y))[0]
        found.append([float(right), float(small.double().mean()), w1(x, exact)])
    return torch.tensor(found).mean(0).tolist()


# %%
held = {
    f"directions {d}, lengths {l}, w = 1": verdicts(steered(d, l, 1.0))
    for d, l in (("noise-aware",) * 2, ("clean",) * 2)
}
held["exact samples"] = verdicts([plane.of_class(y).sample(300, seeded(y))[0] for y in range(3)])
held["control: no guidance, w = 0"] = verdicts(steered("clean", "clean", 0.0))
show.table(held, ["guide", "in the class", "in the small cloud", "W1"], digits=2)

# %% [markdown] answer="04-direction-or-length"
# **Mostly the length.** Five training seeds (three where $w > 1$), 900 points each, mean ± standard deviation:
#
# | directions | lengths | $w$ | in the class | in the small cloud | W1 |
# |---|---|---|---|---|---|
# | *exact samples* | | | 0.98 ± 0.00 | 0.12 ± 0.01 | 0.12 ± 0.02 |
# | exact | exact | 1 | 0.98 ± 0.00 | 0.12 ± 0.01 | 0.14 ± 0.03 |
# | noise-aware | noise-aware | 1 | 0.95 ± 0.01 | 0.10 ± 0.01 | 0.16 ± 0.03 |
# | clean | noise-aware | 1 | 0.93 ± 0.01 | 0.23 ± 0.01 | 0.51 ± 0.04 |
# | clean | exact | 1 | 0.93 ± 0.01 | 0.22 ± 0.01 | 0.50 ± 0.04 |
# | clean | clean | 1 | 0.78 ± 0.01 | 0.08 ± 0.02 | 2.11 ± 0.10 |
# | exact | clean | 1 | 1.00 ± 0.00 | 0.00 ± 0.00 | 5.2 ± 0.2 |
# | noise-aware | clean | 1 | 0.71 ± 0.10 | 0.00 ± 0.00 | 16 ± 6 |
# | noise-aware | noise-aware | 4 | 1.00 ± 0.00 | 0.01 ± 0.00 | 0.86 ± 0.04 |
# | clean | noise-aware | 4 | 1.00 ± 0.00 | 0.26 ± 0.01 | 0.53 ± 0.02 |
# | clean | clean | 4 | 0.61 ± 0.04 | 0.04 ± 0.01 | 8.58 ± 0.09 |
# | *control: no guidance* | | 0 | 0.33 ± 0.02 | 0.04 ± 0.00 | 0.95 ± 0.03 |
#
# - One number per noise level takes away 1.6 of the 1.95 by which the clean guide's W1 exceeds the noise-aware one's, about four
#   fifths. And the best directions do not help an arrow that is far too long: exact ones with the clean lengths end at 5.2, five times
#   further away than no guidance at all.
# - The rest, 0.35, is the direction, ten times its spread. It has a place: twice as many points as there should be end in the small
#   cloud. A classifier of clean points takes a noisy $x_t$ near the small cloud for a member of it, while in truth noise has carried it
#   there from the large one.
# - The share in the class hides both. It finds 0.93 and 0.95 for guides whose W1 are 0.51 and 0.16, and 1.00 for points that were
#   thrown far beyond their class. Whoever reports only it would call the repaired clean guide as good as the noise-aware one.
# - At $w = 4$ the repaired clean guide is even *nearer* to $p(x|y)$ than the noise-aware one, which obeys and empties the small cloud.
#   That is no merit: two errors happen to pull in opposite directions.
#
# A sentence that could be wrong: *on clothes, too, dividing the clean classifier's gradient by one number per noise level lets it guide
# at $w = 8$: the judge's share rises from about a quarter to more than a half.* There the clean classifier also names fewer pictures right
# (45 % against 84 % at $t = 0.5$), so its directions may be too bad for that. And the lengths here were measured at points of $p_t$,
# not where guided samples go.
