# %% [markdown]
# # Exercises 03: Plug in a forward model
#
# Six small functions: what a measurement says, what it leaves open, four ways to bring it into sampling, and what each
# way gets wrong. The [notebook](../notebooks/03_forward_models.ipynb) takes them from the library, the
# [lecture](../lectures/03_forward_models.md) derives them. Predict, write, check. About an hour in all.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so. One world is enough for
# most of it: a Gaussian in the plane, whose posterior can be computed. The last two exercises end with pictures.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.captions import captions
from minidiff.data.mixtures import gaussian
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.encoders.tokenizer import END, N_SPECIALS, PAD, START
from minidiff.guidance import bind, classifier
from minidiff.judges.scorecard import matches
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, sample
from minidiff.schedules import Linear, Schedule
from minidiff.systems import scenes_captioner, scenes_unconditional

float64, straight = torch.float64, Linear()
prior_mean = torch.zeros(2, dtype=float64)
prior_covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=float64)
world = gaussian(prior_mean, prior_covariance)  # two numbers that go together: who knows one can guess the other
first_only = torch.tensor([[1.0, 0.0]], dtype=float64)  # A: only the first of them is measured
measured = torch.tensor([1.5], dtype=float64)  # y


def guess(x_t: Tensor, t: Tensor) -> Tensor:
    """The exact denoiser E[x0 | x_t] of this world."""
    return world.denoise(x_t, t, straight)


# %% [markdown]
# ## Exercise 03-log-likelihood
#
# **Predict first.** You insert the *true* picture. How large is the log-likelihood of 12 measured numbers, on average?
# Does it depend on how noisy the measurement was?
#
# **Derivation.** A measurement is $y = A(x_0) + \sigma_y n$ with $n \sim N(0, I)$, $m$ numbers in all.
#
# 1. Given $x_0$, each number is Gaussian: $\log p(y_i|x_0) = -(y_i - A(x_0)_i)^2 / (2\sigma_y^2) + \text{const}$.
# 2. The noises are independent, so the logarithms add: $\log p(y|x_0) = -\|y - A(x_0)\|^2 / (2\sigma_y^2) + \text{const}$.
# 3. If $A$ is a matrix, the gradient is $A^\top(y - A x_0)/\sigma_y^2$: the misfit, carried back to where it came from.
#
# In code: `operator` is $A$, `noise` is $\sigma_y$. Leave the constant out, it has no gradient.


# %% answer="03-log-likelihood"
def log_likelihood(operator: Callable, x0: Tensor, y: Tensor, noise: float) -> Tensor:
    """log p(y | x0) without its constant, one value per picture.

    operator(x0) → (B, …), another shape than x0's.  x0: (B, …).  y: like operator(x0).  noise > 0: the standard
    deviation of the measurement.  Returns (B,), same dtype.
    """
    ### BEGIN SOLUTION
    # Everything but the batch axis is one measurement: independent numbers, whose log-probabilities add.
    return -((y - operator(x0)) ** 2).flatten(1).sum(1) / (2 * noise**2)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Twelve numbers are measured of twenty, with little noise and with much. And the gradient: does autograd find
# $A^\top(y - A x_0)/\sigma_y^2$?

# %%
generator, means = seeded(0), {}
matrix, truth = randn((12, 20), generator, float64), randn((4000, 20), generator, float64)
for noise in (0.1, 2.0):
    y = truth @ matrix.T + noise * randn((4000, 12), generator, float64)
    means[noise] = float(checked_log_likelihood(lambda x: x @ matrix.T, truth, y, noise).mean())
leaf = torch.zeros_like(truth).requires_grad_()
(gradient,) = torch.autograd.grad(checked_log_likelihood(lambda x: x @ matrix.T, leaf, y, 2.0).sum(), leaf)
gap = float((gradient - y @ matrix / 2.0**2).abs().max())
print("at the true picture, on average:", {k: round(v, 2) for k, v in means.items()}, f"gradient off by {gap:.0e}")
assert all(abs(value + 6) < 0.25 for value in means.values())
assert gap < 1e-11

# %% [markdown]
# It is $-m/2$, whatever $\sigma_y$: the true picture fits no better than the noise allows. A sampler whose pictures fit *much*
# better than that has fitted the noise.
#
# **Want more?** A photon counter has $y_i \sim \text{Poisson}(A(x_0)_i)$. Write its log-likelihood. What is the gradient?

# %% [markdown]
# ## Exercise 03-gaussian-posterior
#
# **Predict first.** Two numbers with variance 1 and correlation 0.9. The first is measured as 1.5, with as much noise as
# it varies ($\sigma_y = 1$). Where is it now, on average: at 1.5? And the second, which nobody measured?
#
# **Derivation.** $x_0 \sim N(\mu, C)$ and $y = A x_0 + \sigma_y n$ are jointly Gaussian.
#
# 1. $E[y] = A \mu$, $\;\text{Cov}(y) = A C A^\top + \sigma_y^2 I$, $\;\text{Cov}(x_0, y) = C A^\top$.
# 2. For jointly Gaussian $x_0, y$ the best guess is linear: $E[x_0|y] = \mu + K(y - A \mu)$ with $K = \text{Cov}(x_0, y)\,\text{Cov}(y)^{-1}$.
# 3. What is left: $\text{Cov}(x_0|y) = C - K A C$. It does not depend on $y$. ($K$ is Kalman's gain.)
#
# In code: `mean` is $\mu$ (D,), `covariance` is $C$ (D, D), `matrix` is $A$ (m, D), `noise` is $\sigma_y$.


# %% answer="03-gaussian-posterior"
def gaussian_posterior(
    mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of p(x0 | y) for x0 ~ N(mean, covariance) and y = matrix @ x0 + noise·n.

    mean: (D,).  covariance: (D, D), may be singular.  matrix: (m, D).  y: (m,).  noise ≥ 0.  One dtype throughout.
    """
    ### BEGIN SOLUTION
    seen = matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix)).to(matrix)  # Cov(y), (m, m)
    gain = torch.linalg.solve(seen, matrix @ covariance).T  # K = C·Aᵀ·Cov(y)⁻¹, as Cov(y) and C are symmetric
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance
    ### END SOLUTION


# %% [markdown]
# **Use it.** An oracle that needs no algebra: take a million draws from the prior and weigh each by its likelihood, which
# you have just written.

# %%
mean, covariance = checked_gaussian_posterior(prior_mean, prior_covariance, first_only, measured, 0.5)
draws, _ = world.sample(1_000_000, seeded(0))
weights = checked_log_likelihood(lambda x: x @ first_only.T, draws, measured.expand(len(draws), 1), 0.5).softmax(0)
weighed = weights @ draws
print(f"mean {mean.tolist()}, variances {covariance.diag().tolist()}, weighed draws: mean {weighed.tolist()}")
assert torch.allclose(mean, weighed, atol=0.01)
assert torch.allclose(covariance, (weights[:, None] * (draws - weighed)).T @ (draws - weighed), atol=0.01)

# %% [markdown]
# The noisy picture is a measurement too: $x_t = \alpha x_0 + \sigma \varepsilon$ has $A = \alpha I$ and $\sigma_y = \sigma$. So the same
# function must be the exact denoiser of this world:

# %%
alpha, sigma = straight(torch.tensor(0.4, dtype=float64))
x_t = randn((2,), seeded(0), float64)
denoised, _ = checked_gaussian_posterior(
    prior_mean, prior_covariance, alpha * torch.eye(2, dtype=float64), x_t, float(sigma)
)
gap = float((denoised - guess(x_t[None], torch.tensor(0.4, dtype=float64))[0]).abs().max())
print(f"difference from E[x0|x_t]: {gap:.0e}")
assert gap < 1e-12

# %% [markdown]
# **Want more?** Measure the first number a hundred times with $\sigma_y = 5$, or once with $\sigma_y = 0.5$. Which tells more?

# %% [markdown]
# ## Exercise 03-project
#
# **Predict first.** In every step, the sampler's guess of the measured number is overwritten by the measurement. Then the
# first number is right at the end. And the second: does it land where the posterior has it?
#
# **Derivation.** Change $\hat x_0$ as little as possible so that it fits a measurement without noise, $A \hat x_0' = y$.
#
# 1. The correction $d$ must satisfy $A d = y - A \hat x_0$.
# 2. Its shortest solution lies in the range of $A^\top$: $d = A^\top \lambda$, so $A A^\top \lambda = y - A \hat x_0$.
# 3. Hence $d = A^\top (A A^\top)^{-1} (y - A \hat x_0) = A^+ (y - A \hat x_0)$. If $A$ picks pixels, $A A^\top = I$: inpainting.
#
# In code: rows are pictures, so $A \hat x_0$ is `x0 @ matrix.T`; `torch.linalg.pinv` is $A^+$.


# %% answer="03-project"
def project(x0: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
    """The picture nearest to x0 that fits the measurement exactly.

    x0: (B, D).  matrix: (m, D), its rows linearly independent.  y: (B, m).  Returns (B, D), same dtype.
    """
    ### BEGIN SOLUTION
    # Only what the measurement sees is changed: A⁺ maps into the range of Aᵀ.
    return x0 + (y - x0 @ matrix.T) @ torch.linalg.pinv(matrix).T
    ### END SOLUTION


# %% [markdown]
# **Use it.** The first number is 1.5, without noise. Sample with your projection in every step, and compare with the
# posterior of Exercise 2.


# %%
def sampled(denoise: Callable, seed: int = 0, n: int = 4000, steps: int = 100) -> Tensor:
    """n points, by ancestral sampling: DDIM with η = 1."""
    noise, generator = randn((n, 2), seeded(seed), float64), seeded(1000 + seed)
    *_, x = sample(denoise, noise, times.linear(steps, start=0.999), ddim(straight, eta=1.0), generator)
    return x


mean, covariance = checked_gaussian_posterior(prior_mean, prior_covariance, first_only, measured, 0.0)
projected = sampled(lambda x, t: checked_project(guess(x, t), first_only, measured.expand(len(x), 1)))
print(f"second number: projected {projected[:, 1].mean():.2f} ± {projected[:, 1].std():.2f}, "
      f"posterior {mean[1]:.2f} ± {covariance[1, 1].sqrt():.2f}")  # fmt: skip
assert float((projected[:, 0] - 1.5).abs().max()) < 1e-9
assert 0.8 < float(projected[:, 1].mean()) < 1.05 < float(mean[1])

# %%
exact = gaussian(mean, covariance).sample(4000, seeded(1))[0]
bins = torch.linspace(-1.5, 3.5, 51).tolist()
figure, (ax,) = show.panels(1, 1, size=(6.4, 2.8))
for name, x in {"posterior": exact, "projected in every step": projected}.items():
    ax.hist(x[:, 1].numpy(), bins=bins, density=True, alpha=0.6, label=f"{name}: mean {float(x[:, 1].mean()):.2f}")
ax.set(xlabel="the number that was not measured", ylabel="density", title="Overwriting tells the others too little")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# The denoiser never hears that the first number is *known*. It sees it only in $x_t$, under noise, and trusts it no more
# than any other noisy number. By the time it is sure, the second number has been settled.
#
# **Want more?** Let the last column of pixels of a picture be measured *with* noise. What does the projection do to it?

# %% [markdown]
# ## Exercise 03-dps
#
# **Predict first.** Only the first number is measured. Which of the two does the gradient of
# $\log p(y|\hat x_0)$ with respect to $\hat x_0$ move? And the gradient with respect to $x_t$?
#
# **Derivation.** Bayes asks for $\nabla_{x_t} \log p(y|x_t)$, but the physics is known for clean pictures only.
#
# 1. $p(y|x_t) = \int p(y|x_0)\,p(x_0|x_t)\,dx_0$. Diffusion posterior sampling puts the mean in: $p(y|x_t) \approx p(y|\hat x_0(x_t))$.
# 2. The chain rule goes through the denoiser: $\nabla_{x_t} \log p(y|\hat x_0(x_t)) = J^\top \nabla_{\hat x_0} \log p(y|\hat x_0)$,
#    $J = \partial \hat x_0 / \partial x_t = (\alpha/\sigma^2)\,\text{Cov}[x_0|x_t]$: what goes together is moved together.
# 3. By Tweedie's formula, adding $g$ to the score adds $(\sigma^2/\alpha)\,g$ to $\hat x_0$. The strength is $w$.
#
# In code: `log_likelihood(x0)` has $y$ built in and returns (B,); `schedule(t)` gives $\alpha, \sigma$.


# %% answer="03-dps"
def dps(denoise: Callable, log_likelihood: Callable, x_t: Tensor, t: Tensor, schedule: Schedule, w: float) -> Tensor:
    """The guided guess of the clean picture: x̂0 + w·σ²/α·∇_{x_t} log p(y | x̂0(x_t)), arXiv 2209.14687.

    denoise(x_t, t) → like x_t.  log_likelihood(x0) → (B,).  x_t: (B, …).  t: a scalar with α(t) > 0.
    Returns (B, …), same dtype. Does not change its arguments.
    """
    ### BEGIN SOLUTION
    leaf = x_t.detach().requires_grad_()
    x0 = denoise(leaf, t)  # tracked: the gradient must come back through the denoiser to x_t
    (gradient,) = torch.autograd.grad(log_likelihood(x0).sum(), leaf)
    alpha, sigma = schedule(t)
    return x0.detach() + w * sigma**2 / alpha * gradient
    ### END SOLUTION


# %% [markdown]
# **Use it.** The first number is 1.5, measured with $\sigma_y = 0.5$. Once as derived; and once with the covariance that
# step 1 left out: given $x_t$, the clean $x_0$ is still uncertain by $V = \text{Cov}[x_0|x_t]$, so $y$ has the variance
# $\sigma_y^2 + A V A^\top$. In this world $V$ is known, from Exercise 2. Predict which way plain DPS errs.


# %%
def guided(uncertain: bool) -> Callable:
    """DPS, with the noise of the measurement alone or with the uncertainty of x0 given x_t as well."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():  # the sampler itself runs without gradients
            (alpha, sigma), eye = straight(t), torch.eye(2, dtype=float64)
            _, v = checked_gaussian_posterior(prior_mean, prior_covariance, alpha * eye, x[0], float(sigma))
            noise = float(0.5**2 + uncertain * v[0, 0]) ** 0.5
            y = measured.expand(len(x), 1)
            return checked_dps(
                guess, lambda x0: checked_log_likelihood(lambda z: z @ first_only.T, x0, y, noise), x, t, straight, 1.0
            )

    return denoise


# %%
mean, covariance = checked_gaussian_posterior(prior_mean, prior_covariance, first_only, measured, 0.5)
clouds = {"posterior": gaussian(mean, covariance).sample(4000, seeded(1))[0]}
clouds |= {"plain DPS": sampled(guided(uncertain=False)), "with Cov[x0|x_t]": sampled(guided(uncertain=True))}
for name, x in clouds.items():
    print(f"{name:17} mean {x.mean(0)[0]:.2f}, {x.mean(0)[1]:.2f}  variance {x.var(0)[0]:.2f}, {x.var(0)[1]:.2f}")
plain, corrected = clouds["plain DPS"], clouds["with Cov[x0|x_t]"]
assert torch.allclose(corrected.mean(0), mean, atol=0.05)
assert torch.allclose(corrected.var(0), covariance.diag(), atol=0.05)
assert bool((plain.mean(0) > mean + 0.2).all())
assert bool((plain.var(0) < 0.75 * covariance.diag()).all())

# %%
figure, axes = show.panels(1, 3, size=(2.9, 2.9), sharex=True, sharey=True)
for ax, (name, x) in zip(axes, clouds.items()):
    show.points(x, ax=ax, title=f"{name}\nmean {x.mean(0)[0]:.2f}, {x.mean(0)[1]:.2f}", size=3, alpha=0.3, limit=3.0)
    ax.axvline(1.5, color="black", linewidth=0.8)
figure.suptitle("Plain DPS believes the measurement (the line) too much", y=1.08)
plt.show()

# %% [markdown]
# Early on $\hat x_0$ is a vague average, and it is *expected* to miss $y$. Plain DPS takes that for a misfit, pushes $V/\sigma_y^2$
# times too hard, and ends too far and too narrow. With a network nobody knows $V$; DPS tunes its step size instead.
#
# **Want more?** Try $w = 0.5$. Can any single $w$ get both the mean and the variance right?

# %% [markdown]
# ## Exercise 03-sdedit-gaussian
#
# **Predict first.** SDEdit noises a guide up to a time $t_0$ and lets the sampler walk back from there. What comes out at
# $t_0 = 0$, and at $t_0 = 1$? In between, are the results spread more or less widely than the data?
#
# **Derivation.** One pixel: prior $N(m, s^2)$, guide $g$, start $x_{t_0} = \alpha g + \sigma \varepsilon$.
#
# 1. A stochastic sampler draws $x_0 \sim p(x_0|x_{t_0})$: Exercise 2 with $A = \alpha$, $\sigma_y = \sigma$ gives the mean
#    $m + k(x_{t_0} - \alpha m)$ with $k = \alpha s^2 / (\alpha^2 s^2 + \sigma^2)$, and the variance $s^2 \sigma^2 / (\alpha^2 s^2 + \sigma^2)$.
# 2. But $x_{t_0}$ is random. The mean over $\varepsilon$: put $E[x_{t_0}] = \alpha g$ in.
# 3. The total variance is the mean of the variance plus the *variance of the mean*, which moves with $k \sigma \varepsilon$.
#
# In code: `mean`, `std` are $m$, $s$; `guide` is $g$; `schedule(t0)` gives $\alpha, \sigma$.


# %% answer="03-sdedit-gaussian"
def sdedit_gaussian(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean and variance of what SDEdit (arXiv 2108.01073, stochastic sampler) makes of a guide; prior N(mean, std²).

    std > 0.  guide: any shape.  t0: a scalar in [0, 1].  Returns the mean, like guide, and the variance, a scalar like t0.
    """
    ### BEGIN SOLUTION
    alpha, sigma = schedule(t0)
    seen = alpha**2 * std**2 + sigma**2  # the variance of x_t0 over the data
    gain = alpha * std**2 / seen
    # Two sources of spread: the noise in x_t0, seen through the gain, and the draw from p(x0 | x_t0).
    return mean + gain * alpha * (guide - mean), gain**2 * sigma**2 + std**2 * sigma**2 / seen
    ### END SOLUTION


# %% [markdown]
# **Use it.** Prior $N(0.3, 0.5^2)$, a guide at 2, far out. The sampler (dots) against your formula (lines).


# %%
def edited(denoise: Callable, guide: Tensor, t0: float, steps: int, seed: int) -> Tensor:
    """SDEdit: noise the guide up to t0, then walk back with fresh noise in every step."""
    x = straight.add_noise(guide, randn(guide.shape, seeded(seed), guide.dtype), torch.tensor(t0, dtype=float64))
    *_, x = sample(denoise, x, times.linear(steps, start=t0), ddim(straight, eta=1.0), seeded(1000 + seed))
    return x


pixel = gaussian(torch.tensor([0.3], dtype=float64), torch.tensor([[0.25]], dtype=float64)).denoiser(straight)
guide, levels = torch.full((4000, 1), 2.0, dtype=float64), torch.linspace(0.1, 0.9, 9).tolist()
outcomes = [edited(pixel, guide, t0, steps=200, seed=0) for t0 in levels]
theory = [checked_sdedit_gaussian(0.3, 0.5, guide[:1], torch.tensor(t0, dtype=float64), straight) for t0 in levels]
off = [abs(float(x.mean() - m)) for x, (m, _) in zip(outcomes, theory)]
ratios = [float(x.var() / v) for x, (_, v) in zip(outcomes, theory)]
print(f"means off by up to {max(off):.3f}; variances {min(ratios):.2f} to {max(ratios):.2f} of the formula's")
assert max(off) < 0.03
assert 0.85 < min(ratios) <= max(ratios) < 1.1

# %%
figure, axes = show.panels(1, 2, size=(3.7, 2.7))
for ax, curve, dots, name in zip(
    axes, zip(*theory), ([x.mean() for x in outcomes], [x.var() for x in outcomes]), ("mean", "variance")
):
    ax.plot(levels, [float(v) for v in curve], label="formula")
    ax.plot(levels, dots, "o", label="sampler")
    ax.set(xlabel="$t_0$", ylabel=f"{name} of the results")
axes[0].set(title="The guide (2) fades into the prior (0.3)")
axes[1].set(title="… and the results spread")
axes[0].legend()
plt.show()

# %% [markdown]
# The sampler's variances are a few per cent too small: 200 steps are not infinitely many.
#
# With pictures: a red circle and a blue square, painted with a brush four pixels wide. The prior is a network that has
# seen coloured shapes, and no strokes. Which rows will keep the colours, and which the places? And the shapes?

# %%
shapes = Prompt((Group("circle", "red"), Group("square", "blue")), "left of")
clean = render(place([shapes] * 8, 0), 16)
strokes = F.interpolate(F.avg_pool2d(clean, 4), scale_factor=4)
prior, rows, misfits = bind(scenes_unconditional.MODEL.load()), {"picture": clean, "strokes": strokes}, []
for t0 in (0.2, 0.6, 0.95):
    rows[f"t0 = {t0}"] = x = edited(prior, strokes, t0, steps=40, seed=0)
    misfits.append(float((F.avg_pool2d(x - strokes, 4) ** 2).mean().sqrt()))
show.grid(torch.cat(list(rows.values())), 8, list(rows), "The smaller t0, the truer to the strokes", scale=0.8)
plt.show()
print("distance from the strokes:", [round(m, 2) for m in misfits])
assert misfits == sorted(misfits)

# %% [markdown]
# At $t_0 = 0.2$ places and colours stay. The shapes do not: the brush has wiped them out, and the network puts in some it
# knows. No measurement is fitted here; SDEdit only starts near the guide.
#
# **Want more?** Walk back with `eta=0.0`. The mean then keeps *more* of the guide: $k$ becomes $s/\sqrt{\alpha^2 s^2 + \sigma^2}$. Why?

# %% [markdown]
# ## Exercise 03-caption-log-prob
#
# **Predict first.** A captioner finds "a red circle" likely, 0.5 per word. How likely is the caption? If you guide with the
# *mean* log-probability per word instead: which captions are guided less, short ones or long ones?
#
# **Derivation.** A captioner is a forward model that speaks: $p(y|x_t)$ for a sentence $y$.
#
# 1. Word by word, $p(y|x_t) = \prod_k p(y_{k+1} | y_1 \dots y_k, x_t)$, from START up to and including END.
# 2. `logits[:, k]` is about the token *after* the tokens $0 \dots k$: it belongs to `tokens[:, k + 1]`.
# 3. The logarithms add. PAD is no word: it fills up the rows after END, and counts for nothing.
#
# In code: `tokens` holds START, words, END, PAD, …; `PAD` is a number. `log_softmax` over the vocabulary.


# %% answer="03-caption-log-prob"
def caption_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p(caption), one value per picture.

    logits: (B, L − 1, V), of the token after each of tokens[:, :-1].  tokens: (B, L) int64: START, words, END, then PAD.
    Returns (B,), the dtype of logits.
    """
    ### BEGIN SOLUTION
    target = tokens[:, 1:]
    log_p = logits.log_softmax(2).gather(2, target[..., None])[..., 0]  # (B, L − 1)
    return (log_p * (target != PAD)).sum(1)
    ### END SOLUTION


# %% [markdown]
# **Use it.** A language of two words and at most three words per caption has 15 captions. Their probabilities must add up
# to 1, whatever the captioner. Without END in the sum, what do they add up to?

# %%
captions_of_2 = [[]]
for n in range(3):
    captions_of_2 += [[*c, word] for c in captions_of_2 if len(c) == n for word in (N_SPECIALS, N_SPECIALS + 1)]
tokens = torch.tensor([[START, *c, END] + [PAD] * (3 - len(c)) for c in captions_of_2])  # (15, 5)
table = torch.full((N_SPECIALS + 2, N_SPECIALS + 2), -100.0, dtype=float64)  # the next token, given the last one
table[:, [END, N_SPECIALS, N_SPECIALS + 1]] = 2 * randn((N_SPECIALS + 2, 3), seeded(0), float64)
logits = table[tokens[:, :-1]]  # (15, 4, 6)
logits[:, 3, END] = 100.0  # after three words comes END
total = float(checked_caption_log_prob(logits, tokens).exp().sum())
endless = float(checked_caption_log_prob(logits, tokens.where(tokens != END, PAD)).exp().sum())
print(f"{len(tokens)} captions: sum {total:.12f}; without END {endless:.3f}")
assert abs(total - 1) < 1e-12
assert endless > 1.2

# %% [markdown]
# Now it guides. The same network as above knows nothing of words; a captioner, trained by itself on noisy pictures, reads
# what is there. Sixteen pictures, two captions. ($w = 1$ would do if this were the exact $p(y|x_t)$. It is a learned one,
# and gets only 3 of 16 right then; $w = 16$ makes up for its timid gradient.)

# %%
wanted = [shapes] * 8 + [Prompt((Group("star", "yellow"),))] * 8
tokens, captioner = scenes_captioner.tokens(captions(wanted)), scenes_captioner.MODEL.load()


def says(x_t: Tensor, t: Tensor) -> Tensor:
    return checked_caption_log_prob(captioner(x_t, t, tokens[:, :-1]), tokens)


noise = randn((16, 3, 16, 16), seeded(range(16)))
walk = times.linear(50, start=0.98), ddim(straight, eta=1.0)
pictures = {w: [*sample(classifier(prior, says, straight, w), noise, *walk, seeded(0))][-1] for w in (0.0, 16.0)}
right = {w: int(matches(wanted, x).sum()) for w, x in pictures.items()}
swapped = int(matches(wanted[8:] + wanted[:8], pictures[16.0]).sum())
print(f"as the caption says, of 16: {right[0.0]} at w = 0, {right[16.0]} at w = 16; with captions swapped {swapped}")
assert right[0.0] <= 2
assert right[16.0] >= 5
assert swapped == 0

# %%
titles = captions([wanted[0], wanted[-1]])
names = ["w = 0"] * 2 + ["w = 16"] * 2
title = f"At w = 16, {right[16.0]} of 16 show “{titles[0]}” or “{titles[1]}”"
show.grid(torch.cat([pictures[0.0], pictures[16.0]]), 8, names, title, scale=0.8)
plt.show()

# %% [markdown]
# **Want more?** Guide with the mean per word. Which of the two captions suffers? (Which has more words?)
