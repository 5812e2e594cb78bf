# %% [markdown]
# # Exercises 04: Classifier guidance
#
# Six small functions: together they are classifier guidance, from the loss of the classifier to the samples. The
# [notebook](../notebooks/04_classifier_guidance.ipynb) takes them from the library, the
# [lecture](../lectures/04_classifier_guidance.md) derives them. Predict, write, check. About an hour in all.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so. All worlds here are
# Gaussian mixtures, so that every claim can be compared with the exact answer; nothing is trained.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.mixtures import decoys, three_modes
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.schedules import DDPM, Linear, Schedule

float64 = torch.float64
plane, line = decoys(), three_modes()  # exact worlds: three classes in the plane, three hills on a line
straight, steps_of_ddpm = Linear(), DDPM()


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=float64)


def exact_logits(x_t: Tensor, t: Tensor) -> Tensor:
    """log p(x_t, y) for every class y, (B, 3): logits of the exact classifier p(y|x_t) on `plane`."""
    joint = [plane.log_prob(x_t, t, straight, y) for y in range(3)]
    return torch.stack(joint, dim=1) + plane.log_prior_label(x_t)


# %% [markdown]
# ## Exercise 04-classifier-gradient
#
# **Predict first.** A classifier is sure that $x_t$ is *not* of class $y$: $f(y|x_t) = 10^{-6}$. Is the gradient of
# $f(y|x_t)$ large or small there? And that of $\log f(y|x_t)$?
#
# **Derivation.**
#
# 1. Guidance adds $\nabla_{x_t} \log f(y|x_t, t)$ to the score: the gradient with respect to the *picture*.
# 2. A network returns logits $\ell_k$, with $\log f(y|x_t) = \ell_y - \log \sum_k e^{\ell_k}$ (`log_softmax`).
# 3. PyTorch differentiates a single number. Picture $i$ appears only in term $i$ of $\sum_i \log f(y_i|x_i)$, so the
#    gradient of this sum holds every picture's own gradient.
#
# In code: `classifier(x_t, t)` gives the logits (B, K); `y` (B,) is the class wanted for each picture.


# %% answer="04-classifier-gradient"
def classifier_gradient(classifier: Callable, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇ log f(y|x_t, t) with respect to x_t, one gradient per picture.

    classifier(x_t, t) → logits (B, K).  x_t: (B, …).  t: a scalar in [0, 1].  y: (B,) int64 in 0 … K − 1.
    Returns (B, …), same dtype as x_t. Does not change its arguments.
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
generator = seeded(0)
x_t, y = 2 * randn((500, 2), generator, float64), torch.randint(3, (500,), generator=generator)
worst = 0.0
for t in map(level, (0.0, 0.1, 0.5, 0.9, 1.0)):
    exact = plane.score(x_t, t, straight, y) - plane.score(x_t, t, straight)
    worst = max(worst, float((checked_classifier_gradient(exact_logits, x_t, t, y) - exact).abs().max()))
print(f"largest difference from the exact gradient, at five noise levels: {worst:.1e}")
assert worst < 1e-11

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
# 1. The sampler will ask about $x_t = \alpha_t x_0 + \sigma_t \varepsilon$ at every $t$, so that is what it must learn.
# 2. The cross-entropy $-\log f(y|x_t, t)$, averaged over data, times and noise, is smallest where
#    $f(y|x_t, t) = p(y|x_t)$ (lecture, section 2).
# 3. Every picture of a batch gets its own $t$ and its own $\varepsilon$.
#
# In code: `schedule.add_noise(x0, eps, t)` makes $x_t$; `F.cross_entropy` takes logits. Keep one value per picture.


# %% answer="04-noise-aware-loss"
def noise_aware_loss(classifier: Callable, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The loss that makes a classifier of noisy pictures.

    classifier(x_t, t) → logits (B, K).  x0, eps: (B, …), same dtype.  y: (B,) int64.  t: (B,) in [0, 1].
    Returns (B,), one value per picture.
    """
    ### BEGIN SOLUTION
    x_t = schedule.add_noise(x0, eps, t)  # gives t trailing ones, so that each picture gets its own α and σ
    return F.cross_entropy(classifier(x_t, t), y, reduction="none")
    ### END SOLUTION


# %% [markdown]
# **Use it.** Three classifiers, asked at $t = 0.6$: the exact $p(y|x_t)$; the exact classifier of *clean* points, which
# takes $x_t$ for a clean one; and one that knows nothing and always answers one third. Predict the order of their losses.


# %%
def clean_logits(x_t: Tensor, t: Tensor) -> Tensor:
    return exact_logits(x_t, torch.zeros_like(t))


generator = seeded(0)
x0, y = plane.sample(4000, generator)
eps, t = randn(x0.shape, generator, float64), torch.full((4000,), 0.6, dtype=float64)
rivals = {"exact": exact_logits, "clean": clean_logits, "knows nothing": lambda x_t, t: 0 * exact_logits(x_t, t)}
losses = {k: float(checked_noise_aware_loss(f, straight, x0, y, t, eps).mean()) for k, f in rivals.items()}
print(", ".join(f"{name}: {value:.3f}" for name, value in losses.items()))
assert losses["exact"] < losses["knows nothing"] < losses["clean"]

# %% [markdown]
# The perfect classifier of clean points is *worse than knowing nothing*: it is sure, and often wrong. A classifier that
# is trained with your loss never gets the chance to be that sure.
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
# 1. Guidance adds $w\,\nabla \log f$ to the score, and $\varepsilon = -\sigma_t \cdot \text{score}$. So
#    $\hat\varepsilon = \varepsilon - w\,\sigma_t \nabla \log f$.
# 2. The guess of the picture is $\hat x_0 = (x_t - \sigma_t \varepsilon)/\alpha_t$. Put $\hat\varepsilon$ in and see what is added.
# 3. On the straight path $\alpha = 0$ at $t = 1$. There, return the guess as it came.
#
# In code: `x0` is the unguided guess, `gradient` is $\nabla \log f$, `alpha` and `sigma` are $\alpha_t$, $\sigma_t$.


# %% answer="04-guided-x0"
def guided_x0(x0: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """The guided guess of the clean picture; where alpha = 0, the guess as it came.

    x0, gradient: (B, …), same dtype.  alpha, sigma: scalars ≥ 0.  w: any number.  Returns (B, …), same dtype.
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
generator, gaps = seeded(0), {}
for t in torch.linspace(0, 1, 101, dtype=float64):
    x0, y = plane.sample(100, generator)
    x_t = straight.add_noise(x0, randn(x0.shape, generator, float64), t)
    gradient = plane.score(x_t, t, straight, y) - plane.score(x_t, t, straight)
    guess = checked_guided_x0(plane.denoise(x_t, t, straight), gradient, *straight(t), w=1.0)
    gaps[float(t)] = float((guess - plane.denoise(x_t, t, straight, y)).norm(dim=1).max())
at_one = gaps.pop(1.0)
print(f"largest distance from E[x0|x_t, y]: {max(gaps.values()):.1e} for t ≤ 0.99, {at_one:.2f} at t = 1")
assert max(gaps.values()) < 1e-11
assert at_one > 0.5

# %% [markdown]
# Why not at $t = 1$? There $x_1$ says nothing about $y$ and the gradient is 0, but knowing $y$ still moves the guess, from
# $E[x_0]$ to $E[x_0|y]$. As $t \to 1$ the gradient shrinks like $\alpha_t$ and the factor grows like $1/\alpha_t$: their product
# has a limit, but $\infty \cdot 0$ at $t = 1$ no longer knows it. Samplers with an exact gradient start a little below 1.
#
# **Want more?** A *learned* gradient is off by 0.01 at $t = 0.99$. By how much is the guess off?

# %% [markdown]
# ## Exercise 04-algorithm-1-step
#
# **Predict first.** The last step of a sampler goes to $\sigma = 0$ and has $\Sigma = 0$. How strong is guidance there?
#
# **Derivation.** Unguided, a step draws $x_s \sim N(\mu, \Sigma)$. With the condition, its density is proportional to
# $N(x_s; \mu, \Sigma)\; p(y|x_s)^w$.
#
# 1. Near $\mu$: $\log p(y|x_s) \approx \text{const} + (x_s - \mu)^\top g$, where $g$ is the gradient.
# 2. Collect: $-\tfrac12 (x_s - \mu)^\top \Sigma^{-1} (x_s - \mu) + w\,(x_s - \mu)^\top g$.
# 3. Complete the square. Which mean, and which covariance, does the result have?
#
# In code: `mean` is $\mu$, `variance` the diagonal of $\Sigma$ (a scalar, or like `mean`), `noise` is standard normal.


# %% answer="04-algorithm-1-step"
def algorithm_1_step(mean: Tensor, variance: Tensor, gradient: Tensor, w: float, noise: Tensor) -> Tensor:
    """One guided draw of Algorithm 1 (arXiv 2105.05233), made of the given noise.

    mean, gradient, noise: (B, …), same dtype.  variance ≥ 0: a scalar or (B, …).  w: any number.
    Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # Completing the square moves the mean by w·Σ·g and leaves Σ alone; a draw with covariance Σ is √Σ·noise.
    return mean + w * variance * gradient + variance.sqrt() * noise
    ### END SOLUTION


# %% [markdown]
# **Use it.** Ancestral sampling on three hills, asking for the left one (y = 0). The mean and the variance of an unguided
# step are those of DDPM (chapter 02); your line does the rest.


# %%
def toward(y: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact ∇ log p(y|x_t) on the line, as a function of (x_t, t)."""
    return lambda x, t: line.score(x, t, steps_of_ddpm, y) - line.score(x, t, steps_of_ddpm)


def ancestral(y: int, w: float, seed: int, n: int = 2000, steps: int = 200) -> Tensor:
    generator = seeded(seed)
    x = randn((n, 1), generator, float64)
    for t, s in pairwise(times.linear(steps)):
        (alpha, sigma), (alpha_s, sigma_s) = steps_of_ddpm(t), steps_of_ddpm(s)
        fresh = sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2  # the noise that the way from s to t adds
        x0 = line.denoise(x, t, steps_of_ddpm)
        mean = alpha / alpha_s * sigma_s**2 / sigma**2 * x + alpha_s * fresh / sigma**2 * x0
        noise = randn((n, 1), generator, float64)
        x = checked_algorithm_1_step(mean, fresh * sigma_s**2 / sigma**2, toward(y)(x, t), w, noise)
    return x


# %%
def left(n: int, generator: torch.Generator) -> Tensor:
    return line.of_class(0).sample(n, generator)[0]


lowest, spread = floor(left, 2000)
distance = w1(ancestral(y=0, w=1.0, seed=0), left(2000, seeded(50)))
print(f"W1 to exact samples of p(x|y = 0): {distance:.4f}; two exact samples: {lowest:.4f} ± {spread:.4f}")
assert distance < 0.03

# %% [markdown]
# **Want more?** Replace `toward(y)(x, t)` by the gradient at `mean` and at the level `s`, where the derivation has it. Does
# W1 change with 200 steps? With 20?

# %% [markdown]
# ## Exercise 04-algorithm-2
#
# **Predict first.** DDIM adds no noise: $\Sigma = 0$. What would Algorithm 1 do with it?
#
# **Derivation.**
#
# 1. The score is $-\varepsilon/\sigma_t$. Guidance makes it $-\varepsilon/\sigma_t + w\,\nabla \log f$.
# 2. Multiply by $-\sigma_t$ to get the guided guess of the noise, $\hat\varepsilon$.
# 3. DDIM with it: $\hat x_0 = (x_t - \sigma_t \hat\varepsilon)/\alpha_t$, then $x_s = \alpha_s \hat x_0 + \sigma_s \hat\varepsilon$.
#
# In code: `eps_model(x, t)` is $\varepsilon$, `gradient(x, t)` is $\nabla \log f$; `schedule(t)` gives $\alpha_t, \sigma_t$;
# `pairwise(times)` gives the pairs (t, s).


# %% answer="04-algorithm-2"
def algorithm_2(
    eps_model: Callable, gradient: Callable, x: Tensor, times: Tensor, schedule: Schedule, w: float
) -> Tensor:
    """Classifier-guided DDIM, Algorithm 2 of arXiv 2105.05233 with a strength w.

    eps_model(x, t), gradient(x, t) → like x.  x: noise at times[0], (B, …).  times: decreasing, 1-D, in [0, 1], with
    α(times[0]) > 0.  schedule(t) → (α, σ).  Returns x at times[-1], (B, …).
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
def deterministic(y: int, w: float, seed: int) -> Tensor:
    def eps_model(x: Tensor, t: Tensor) -> Tensor:
        return -steps_of_ddpm(t)[1] * line.score(x, t, steps_of_ddpm)

    noise = randn((2000, 1), seeded(seed), float64)
    return checked_algorithm_2(eps_model, toward(y), noise, times.linear(200), steps_of_ddpm, w)


target = line.of_class(1).sample(2000, seeded(50))[0]
samples = {"exact": target} | {f"w = {w:g}": deterministic(1, w, seed=0) for w in (1.0, 3.0)}
distance = w1(samples["w = 1"], target)
print(f"W1 at w = 1: {distance:.4f}; variances:", {k: f"{float(x.var()):.5f}" for k, x in samples.items()})
assert distance < 0.02
assert float(samples["w = 3"].var()) < 0.001

# %%
figure, axes = show.panels(1, 3, size=(3.1, 2.4), sharex=True)
for ax, (name, x) in zip(axes, samples.items()):
    ax.hist(x[:, 0].numpy(), bins=torch.linspace(-0.5, 0.9, 71).tolist(), density=True)
    ax.set(xlabel="x", ylabel="density", title=f"{name}: variance {float(x.var()):.5f}")
figure.suptitle("w = 1 gives p(x|y = 1); w = 3 gives nearly one point")
plt.show()

# %% [markdown]
# **Want more?** Let Algorithm 1 ask for the middle hill with $w = 3$ (`ancestral(1, 3.0, seed=0)`). Its variance is about
# 200 times larger. What does its noise do that DDIM cannot?

# %% [markdown]
# ## Exercise 04-mean-cosine
#
# **Predict first.** In the middle of a cloud of class $y$, far from all others, what is the exact gradient
# $\nabla \log p(y|x_t)$? Does it matter there whether a classifier's gradient points the right way?
#
# **Derivation.** Two vectors $a$, $b$ enclose the angle with $\cos(a, b) = \langle a, b \rangle / (\|a\| \|b\|)$.
#
# 1. Each point has its own pair: the learned gradient and the exact one. One cosine per point.
# 2. Points where the exact gradient is almost zero should not count. Weigh each cosine by $\|\text{exact}\|$:
#    $\sum_i \|e_i\| \cos(g_i, e_i) \,/\, \sum_i \|e_i\|$.
# 3. Where the learned gradient is zero, it says nothing: cosine 0.
#
# In code: `got` and `exact` have shape (B, …); a picture's gradient is one vector of all its numbers.


# %% answer="04-mean-cosine"
def mean_cosine(got: Tensor, exact: Tensor) -> Tensor:
    """How well the directions of `got` agree with `exact`, weighed by the length of `exact`: a scalar in [−1, 1].

    got, exact: (B, …), same shape and dtype; single rows may be zero, but not all rows of `exact`.
    """
    ### BEGIN SOLUTION
    got, exact = got.flatten(1), exact.flatten(1)
    length = exact.norm(dim=1)
    # cosine_similarity divides by at least a small number, so that a zero row has cosine 0 and not NaN.
    return (length * F.cosine_similarity(got, exact, dim=1, eps=1e-12)).sum() / length.sum()
    ### END SOLUTION


# %% [markdown]
# **Use it.** Even a *perfect* classifier of clean points guides badly at noisy ones. How wrong are its arrows: in
# direction, and in length?

# %%
generator, levels, cosines, lengths = seeded(0), (0.1, 0.3, 0.5, 0.7, 0.9), [], []
for t in map(level, levels):
    x0, y = plane.sample(4000, generator)
    x_t = straight.add_noise(x0, randn(x0.shape, generator, float64), t)
    exact, clean = (plane.score(x_t, at, straight, y) - plane.score(x_t, at, straight) for at in (t, level(0.0)))
    cosines.append(float(checked_mean_cosine(clean, exact)))
    lengths.append(float(clean.norm(dim=1).mean() / exact.norm(dim=1).mean()))
assert cosines[-1] < 0.7
assert lengths[-1] > 50

# %%
figure, axes = show.panels(1, 2, size=(3.8, 2.6))
axes[0].plot(levels, cosines, marker="o")
axes[0].set(
    ylim=(0, 1.02), xlabel="noise level t", ylabel="mean cosine", title=f"Direction: {cosines[-1]:.2f} at t = 0.9"
)
axes[1].semilogy(levels, lengths, marker="o")
axes[1].set(xlabel="noise level t", ylabel="length, clean / exact", title=f"Length: {lengths[-1]:.0f} times too long")
plt.show()

# %% [markdown]
# The directions get worse with noise, but what ruins samples first is the length: a classifier that takes noise for data
# is far too sure. This one was even exact. A *learned* clean classifier is worse still (notebook, section 6: one
# that never saw noise).
#
# **Want more?** Divide the clean gradient by the factor in the right-hand plot, at every $t$. Does it guide now?
