# %% [markdown]
# # Exercises 01: Bayes' rule for scores
#
# Each exercise asks you to predict something, then to write one small function. The cell below your function checks
# it: it compares your answer with the exact one on many inputs and, if it can, tells you which mistake it sees.
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# Six exercises, about 55 minutes. [Lecture](../lectures/01_bayes_rule.md) · [notebook](../notebooks/01_bayes_rule.ipynb)
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.mixtures import ring, three_modes
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import Linear
from minidiff.shapes import expand_like

float64, schedule = torch.float64, Linear()


def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=float64)


# %% [markdown]
# ## Exercise 01-posterior-score
#
# **Predict first.** At w = 0, what should be left of the formula? And at w = 1? Write both down before you code.
#
# **Derivation.** We want the score of p(x|y), the direction in which x becomes more likely *given* the condition y.
#
# 1. Bayes' rule: log p(x|y) = log p(x) + log p(y|x) − log p(y).
# 2. Differentiate with respect to x. p(y) does not contain x, so its term vanishes:
#    ∇ log p(x|y) = ∇ log p(x) + ∇ log p(y|x).
# 3. Let a strength w weigh the term that speaks of y: ∇ log p(x) + w·∇ log p(y|x).
#
# In code: ∇ log p(x) is `prior_score`, ∇ log p(y|x) is `likelihood_score`, both of shape (B, …).


# %% answer="01-posterior-score"
def posterior_score(prior_score: Tensor, likelihood_score: Tensor, w: float) -> Tensor:
    """∇ log p(x|y), the likelihood weighed by w.

    prior_score, likelihood_score: (B, …), same dtype.  w: any number.  Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # The scores add, as the logarithms do; w weighs the likelihood alone. At w = 0 the prior's score must be left.
    return prior_score + w * likelihood_score
    ### END SOLUTION


# %% [markdown]
# **Use it.** A standard normal prior and the observation y = x + noise of variance 1: the scores are −x and y − x,
# and the exact conditional is N(y/2, 1/2), whose score is −2·(x − y/2).

# %%
x, y = torch.linspace(-3, 3, 7, dtype=float64)[:, None], 1.0
exact = -2 * (x - y / 2)
difference = (checked_posterior_score(-x, y - x, w=1.0) - exact).abs().max()
print(f"largest difference from the exact conditional score: {difference:.1e}")
assert difference < 1e-12

# %% [markdown]
# **Want more?** At w = 2, which Gaussian has the score you get? Work it out by hand (mean and variance), then check it
# here.

# %% [markdown]
# ## Exercise 01-mixture-score
#
# Every picture of this chapter needs the score of a mixture of hills, p(x) = Σ_k π_k N(x; m_k, s_k²).
#
# **Predict first.** Exactly halfway between two hills of equal weight and width: how long is the arrow?
#
# **Derivation.**
#
# 1. The slope of a logarithm: ∇ log p = ∇p / p.
# 2. One hill: ∇N(x; m_k, s_k²) = N(x; m_k, s_k²)·(m_k − x)/s_k². It pulls towards m_k, the harder the narrower it is.
# 3. All hills: ∇ log p(x) = Σ_k r_k(x)·(m_k − x)/s_k², with the *responsibilities* r_k(x) = π_k N_k / Σ_j π_j N_j.
# 4. The r_k sum to 1: they are a softmax over k of log π_k − log s_k − (x − m_k)²/(2s_k²).
#
# In code: x is `x` (B,); m_k, s_k, π_k are `means`, `stds`, `weights`, each (K,).


# %% answer="01-mixture-score"
def mixture_score(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    """∇ log p(x) of the mixture Σ_k weights[k]·N(means[k], stds[k]²), also far from all hills.

    x: (B,).  means, stds, weights: (K,), same dtype as x.  Returns (B,), same dtype.
    """
    ### BEGIN SOLUTION
    away = x[:, None] - means  # (B, K)
    # A softmax of the logarithms: exp of each alone would underflow to 0 far from the hills, and 0/0 is NaN.
    log_share = weights.log() - stds.log() - 0.5 * (away / stds) ** 2
    return (log_share.softmax(dim=1) * (-away / stds**2)).sum(dim=1)
    ### END SOLUTION


# %% [markdown]
# **Use it.** The three hills of the lecture, drawn with your score. At the centre of a hill the arrow should be next to
# nothing.

# %%
world = three_modes()
means, stds, weights = world.means[:, 0], world.covariances[:, 0, 0].sqrt(), world.weights
at_centres = checked_mixture_score(means, means, stds, weights)
print("score at the three centres:", [f"{s:.3f}" for s in at_centres.tolist()])
show.hill(
    lambda x: world.log_prob(x, level(0.0), schedule),
    lambda x: checked_mixture_score(x[:, 0], means, stds, weights)[:, None],
    title="The arrows climb the three hills",
)
plt.show()
assert at_centres.abs().max() < 0.05

# %% [markdown]
# **Want more?** Add noise: at time t the hills are N(α·m_k, α²s_k² + σ²). Change the call above so that the arrows of
# t = 0.5 appear. How many summits are left?

# %% [markdown]
# ## Exercise 01-langevin
#
# Arrows are enough to draw samples: climb, and get kicked.
#
# **Predict first.** Walkers on the single hill N(1, 0.5²) climb *without* kicks. What is their variance in the end?
#
# **Derivation.**
#
# 1. One step of Langevin's walk: x ← x + h·∇log p(x) + √(2h)·z with z ~ N(0, I).
# 2. On N(m, s²) the score is (m − x)/s², so one step shrinks the distance to m by the factor 1 − h/s².
# 3. Variances of independent terms add: v ← (1 − h/s²)²·v + 2h.
# 4. It stands still at v = s²/(1 − h/(2s²)): the variance of the hill, in the limit of small steps.
#
# In code: h is `step`; the kicks z of all steps are given, `noise` of shape (n, B, D), so that the answer is definite.


# %% answer="01-langevin"
def langevin(score, x: Tensor, step: float, noise: Tensor) -> Tensor:
    """n steps of Langevin's walk, the i-th with the kick noise[i]; where the walkers are in the end.

    score: a function (B, D) → (B, D).  x: (B, D), the start.  noise: (n, B, D).  Returns (B, D).
    """
    ### BEGIN SOLUTION
    for kick in noise:
        x = x + step * score(x) + (2 * step) ** 0.5 * kick  # the score anew at every step: the walker has moved
    return x
    ### END SOLUTION


# %% [markdown]
# **Use it.** 20,000 walkers on N(1, 0.5²), all starting at 0. Step 4 of the derivation says which variance they reach.

# %%
noise = randn((200, 20_000, 1), seeded(0), float64)
walkers = checked_langevin(lambda x: (1 - x) / 0.25, torch.zeros(20_000, 1, dtype=float64), 0.02, noise)
expected = 0.25 / (1 - 0.02 / (2 * 0.25))
print(f"mean {walkers.mean():.3f} (should be 1), variance {walkers.var():.4f} (should be {expected:.4f})")
assert abs(walkers.mean() - 1) < 0.03
assert abs(walkers.var() - expected) < 0.015

# %% [markdown]
# **Want more?** At which step size does the formula of step 4 break down, and what do the walkers do there? Try h = 0.4
# and h = 0.51.

# %% [markdown]
# ## Exercise 01-guided-guess
#
# Samplers ask for a guess of the clean point, x̂0, not for a score. So guidance must be translated into guesses.
#
# **Predict first.** At which end, little noise or much, does the same gradient move the guess more?
#
# **Derivation.**
#
# 1. Tweedie's formula: ∇log p(x_t) = (α·x̂0 − x_t)/σ².
# 2. Solved for the guess: x̂0 = (x_t + σ²·∇log p(x_t))/α.
# 3. Replace the score by ∇log p(x_t) + w·g with g = ∇log p(y|x_t): the guess moves by w·(σ²/α)·g.
# 4. Pure noise (α = 0) says nothing about y: there g = 0, and the guess must come back as it was.
#
# In code: x̂0 is `x0_hat` (B, …), g is `gradient` (B, …), and every picture has its own noise level: `alpha`, `sigma` (B,).


# %% answer="01-guided-guess"
def guided_guess(x0_hat: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """The guess of x0 after w·gradient was added to the score.

    x0_hat, gradient: (B, …): points (B, D) or pictures (B, C, H, W).  alpha, sigma: (B,); alpha may be 0 where the
    gradient is 0.  Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # Trailing ones, or (B,) would be laid along the last axis. The clamp keeps 1/0 away; the gradient there is 0.
    alpha, sigma = expand_like(alpha, x0_hat), expand_like(sigma, x0_hat)
    return x0_hat + w * sigma**2 / alpha.clamp(min=1e-12) * gradient
    ### END SOLUTION


# %% [markdown]
# **Use it.** Six clouds in the plane, three classes of two opposite clouds. The denoiser below never hears of classes;
# your function leads its samples to class 0. The first step is taken at t = 1, where α = 0.

# %%
plane = ring(6, radius=1.6, std=0.35, n_classes=3)


def slope(f, x: Tensor) -> Tensor:
    with torch.enable_grad():  # samplers switch gradients off
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]


def guided(x_t: Tensor, t: Tensor) -> Tensor:
    gradient = slope(lambda x: plane.log_prob_label(x, t, schedule, 0), x_t)
    alpha, sigma = (v.expand(len(x_t)) for v in schedule(t))
    return checked_guided_guess(plane.denoise(x_t, t, schedule), gradient, alpha, sigma, w=1.0)


# %%
*_, points = sample(guided, randn((1000, 2), seeded(0), float64), times.linear(20), heun(schedule))
looks = plane.posterior_label(points, level(0.0), schedule).argmax(1)
share = float((looks == 0).double().mean())
ax = show.density(lambda x: plane.log_prob(x, level(0.0), schedule), limit=3.0, cmap="Greys", alpha=0.4)
show.points(points, looks, ax=ax, limit=3.0, title=f"{share:.1%} look like class 0 (blue)")
plt.show()
assert share > 0.95

# %% [markdown]
# **Want more?** Try w = 3. More points look like class 0, but do they still look like the clouds?

# %% [markdown]
# ## Exercise 01-noisy-classifier
#
# Bayes' rule at noise level t needs p(y|x_t), a classifier that has seen noise. From labelled data you can write one
# down.
#
# **Predict first.** At very large noise, which probability does it give to each class, wherever x_t is?
#
# **Derivation.** The data are N labelled points; before we look, each is as likely as the others to be the origin of x_t.
#
# 1. Given x0, x_t = α·x0 + σ·ε is N(α·x0, σ²I): its density is proportional to exp(−|x_t − α·x0|²/(2σ²)).
# 2. Bayes' rule for the origin: p(x0_i|x_t) is exp(−|x_t − α·x0_i|²/(2σ²)), divided by the sum of this over all i.
# 3. y depends on x0 alone, so p(y|x_t) = Σ_i p(y|x0_i)·p(x0_i|x_t): the shares of the points that carry the label y.
#
# In code: the data are `x0` (N, D) with `labels` (N,), where all of 0 … C − 1 occur; x_t is `x_t` (B, D).


# %% answer="01-noisy-classifier"
def noisy_classifier(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    """p(y|x_t) for every class y, if the data are exactly the N given points; also where x_t is far from all of them.

    x_t: (B, D).  x0: (N, D), same dtype.  labels: (N,) int64.  alpha, sigma > 0: numbers.
    Returns (B, C), same dtype, rows that sum to 1.
    """
    ### BEGIN SOLUTION
    square_gap = (x_t[:, None] - alpha * x0).square().sum(dim=-1)  # (B, N): |x_t − α·x0|²
    share = (-square_gap / (2 * sigma**2)).softmax(dim=1)  # p(x0|x_t): a softmax, as exp alone would underflow
    return share @ torch.nn.functional.one_hot(labels).to(share)
    ### END SOLUTION


# %% [markdown]
# **Use it.** 4,000 labelled points make a classifier of noisy points at t = 0.5. Beside it, the classifier of *clean*
# points, exact, but asked about the noisy x_t.

# %%
generator, t = seeded(0), level(0.5)
(x0, labels), (fresh, _) = plane.sample(4000, generator), plane.sample(500, generator)
x_t = schedule.add_noise(fresh, randn(fresh.shape, generator, float64), t)
exact = plane.posterior_label(x_t, t, schedule)
from_data = checked_noisy_classifier(x_t, x0, labels, 0.5, 0.5)
clean = plane.posterior_label(x_t, level(0.0), schedule)
error, clean_error = float((from_data - exact).abs().mean()), float((clean - exact).abs().mean())
print(f"mean error of p(y|x_t): {error:.3f} from labelled points, {clean_error:.3f} by the clean classifier")
print(f"mean of the largest probability: clean {clean.max(1)[0].mean():.2f}, exact {exact.max(1)[0].mean():.2f}")
assert error < 0.03 < 0.15 < clean_error

# %% [markdown]
# **Want more?** How few points may there be until the error at t = 0.5 exceeds 0.05? And at t = 0.1? Why does the answer
# depend on t?

# %% [markdown]
# ## Exercise 01-bayes-gap
#
# Somebody hands you a classifier and wants to guide with it. Measure whether it may.
#
# **Predict first.** A classifier is twice as sure as it should be: its log p(y|x) is multiplied by 2. Is its gap larger
# than that of no classifier at all, smaller, or the same?
#
# **Derivation.** The right classifier makes ∇log p(x) + ∇log p(y|x) − ∇log p(x|y) zero at every x. So, over a batch,
#
# gap = ‖∇log p(x) + ∇log p(y|x) − ∇log p(x|y)‖ / ‖∇log p(x|y)‖,   ‖·‖ the root of the sum of squares over all entries.
#
# In code: `log_prior`, `log_likelihood`, `log_posterior` map (B, D) to (B,); `torch.autograd.grad` differentiates them.


# %% answer="01-bayes-gap"
def bayes_gap(log_prior, log_likelihood, log_posterior, x: Tensor) -> float:
    """The relative gap in Bayes' rule for scores over the batch x, 0 for a perfect classifier.

    log_prior, log_likelihood, log_posterior: functions (B, D) → (B,).  x: (B, D).  Returns a number.
    """

    ### BEGIN SOLUTION
    def gradient(f) -> Tensor:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(f(leaf).sum(), leaf)[0]  # f of one point knows nothing of the others: sums are safe

    posterior = gradient(log_posterior)
    gap = gradient(log_prior) + gradient(log_likelihood) - posterior
    return float(gap.norm() / posterior.norm())
    ### END SOLUTION


# %% [markdown]
# **Use it.** Five classifiers apply for the job at noise level t = 0.5. Before you run the cell: which two may guide?

# %%
log_prior = lambda x: plane.log_prob(x, t, schedule)
log_posterior = lambda x: plane.log_prob(x, t, schedule, 0)
right = lambda x: plane.log_prob_label(x, t, schedule, 0)
applicants = {
    "exact": right,
    "exact, plus a constant": lambda x: right(x) + 5.0,
    "twice as sure": lambda x: 2 * right(x),
    "told t = 0.4": lambda x: plane.log_prob_label(x, level(0.4), schedule, 0),
    "never saw noise": lambda x: plane.log_prob_label(x, level(0.0), schedule, 0),
}
gaps = {name: checked_bayes_gap(log_prior, f, log_posterior, x_t) for name, f in applicants.items()}
for name, gap in gaps.items():
    print(f"{name:<24} gap {gap:8.1e}   {'may guide' if gap < 1e-6 else 'may not'}")
assert [gap < 1e-6 for gap in gaps.values()] == [True, True, False, False, False]

# %% [markdown]
# **Want more?** Plot the gap of "never saw noise" against t. Where does it pass the gap of no classifier at all, so that
# no guidance would be closer?
