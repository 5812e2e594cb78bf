# %% [markdown]
# # Exercises 05: classifier-free guidance and the effect of w
#
# Six exercises, about an hour. Each asks you to predict something, then to write one small function. The cell below your
# function checks it against the library on many inputs and, where it can, tells you which mistake it sees. A wrong answer
# never stops the notebook: it goes on with the library's version and says so.
#
# The ideas are in the [lecture](../lectures/05_classifier_free_guidance.md) and in the
# [notebook](../notebooks/05_classifier_free_guidance.ipynb). Throughout, $w$ counts from the conditional branch: $w=0$ is the
# plain conditional model, $w=-1$ the unconditional one. Other libraries' `guidance_scale` is $1+w$.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.mixtures import lookalikes
from minidiff.guidance import bind
from minidiff.judges.coverage import precision
from minidiff.randomness import randn, seeded
from minidiff.samplers import euler, heun, sample
from minidiff.schedules import Karras, Linear

world, schedule = lookalikes(), Linear()
model = world.denoiser(schedule)  # the exact denoiser of a 2-D mixture with two classes
noise = randn((500, 2), seeded(0), torch.float64)


def share_of_class_0(x: Tensor) -> float:
    """The judge: the share of points whose exact p(y|x) is largest for class 0."""
    return float((world.posterior_label(x, torch.tensor(0.0), schedule).argmax(1) == 0).double().mean())


# %% [markdown]
# ## Exercise 05-combine-branches
#
# **Predict first.** Which $w$ gives back the conditional branch, and which the unconditional one? And what goes wrong if a
# batch of 4 pictures, 4 pixels wide, meets a `w` of shape (4,)?
#
# **Derivation.** Both branches see the same $x_t$; one knows the condition (`cond`), one does not (`null`).
#
# 1. Bayes: $\nabla\log p(y|x_t) = \nabla\log p(x_t|y) - \nabla\log p(x_t)$. So `cond - null` points towards "more like $y$".
# 2. Start at the conditional branch and go $w$ times that far again: `cond` $+\,w\cdot($`cond` $-$ `null`$)$.
# 3. Here every picture has its own strength: `w` has shape (B,), the branches (B, …).


# %% answer="05-combine-branches"
def combine(cond: Tensor, null: Tensor, w: Tensor) -> Tensor:
    """(1 + w)·cond − w·null, with one strength per picture.

    cond, null: (B, …).  w: (B,), same dtype.  Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # w of shape (B,) would line up with the last axis; with trailing ones it lines up with the pictures.
    w = w.reshape(-1, *[1] * (cond.ndim - 1))
    return cond + w * (cond - null)
    ### END SOLUTION


# %% [markdown]
# **Use it.** The same 500 noises, guided towards class 0 with $w=0$ and $w=3$.


# %%
def guided_points(w: float) -> Tensor:
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return checked_combine(model(x_t, t, y=0), model(x_t, t), torch.full((len(x_t),), w, dtype=x_t.dtype))

    *_, x = sample(denoise, noise, times.linear(25), heun(schedule))
    return x


shares = {w: share_of_class_0(guided_points(w)) for w in (-1.0, 0.0, 3.0)}
print("share of class 0:", {w: f"{share:.3f}" for w, share in shares.items()})
assert shares[-1.0] < 0.6 < 0.75 < shares[0.0] < 0.9 < 0.98 < shares[3.0]

# %% [markdown]
# **Want more?** What does $w=-2$ do? Write down in words what it asks for, then look at the points.

# %% [markdown]
# ## Exercise 05-drop-labels
#
# **Predict first.** A batch holds 64 pictures and $p=0.15$. How many labels go in a typical batch? In what share of the
# batches does *none* go?
#
# **Derivation.** One network learns both branches if it sometimes does not see the label.
#
# 1. With probability $p$ (`p`) a picture's label `y[i]` is replaced by $\varnothing$ (`null`, a number that no class has).
# 2. For the pictures with a label the best output is $E[x_0|x_t,y]$. For those without, it is $E[x_0|x_t]$, but only if what
#    goes is independent of everything else: of $x_0$, of the noise, and of the label itself.
# 3. So: one coin per picture, thrown with `generator`.


# %% answer="05-drop-labels"
def drop_labels(y: Tensor, null: int, p: float, generator: torch.Generator) -> Tensor:
    """Each label becomes `null` with probability p, independently of the others.

    y: (B,) int64.  p: in [0, 1].  Returns a new (B,) int64; y itself stays as it is.
    """
    ### BEGIN SOLUTION
    # B random numbers for B labels; torch.where makes a new tensor and leaves y alone.
    dropped = torch.rand(len(y), generator=generator) < p
    return torch.where(dropped, null, y)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Three classes of 2,000 labels each, in order of class as a careless loader might deliver them.

# %%
labels = torch.arange(3).repeat_interleave(2000)
dropped = checked_drop_labels(labels, 3, 0.15, seeded(0)) == 3
per_class = [float(dropped[labels == c].double().mean()) for c in range(3)]
print(f"dropped: {float(dropped.double().mean()):.3f} of all, by class {[f'{share:.3f}' for share in per_class]}")
assert all(abs(share - 0.15) < 0.04 for share in per_class)

# %% [markdown]
# **Want more?** With two conditions (a class and a style), would you drop them together or each on its own? What could you
# guide with afterwards that you could not guide with otherwise?

# %% [markdown]
# ## Exercise 05-velocity-guidance
#
# **Predict first.** A network predicts ε, your sampler wants a velocity. Does it matter whether you guide before or after the
# change of coordinates?
#
# **Derivation.** Linear path, `x_t` $=(1-t)\,x_0+t\,\varepsilon$; the velocity is $dx/dt=\varepsilon-x_0$.
#
# 1. The guided noise is $\varepsilon=$ `eps_cond` $+\,w\,($`eps_cond` $-$ `eps_null`$)$.
# 2. Solve the path for the clean point: $x_0=(x_t-t\,\varepsilon)/(1-t)$.
# 3. Put it into $\varepsilon-x_0$ and collect the terms. How many times does `x_t` survive, and why not $1+w$ times?


# %% answer="05-velocity-guidance"
def guided_velocity(x_t: Tensor, t: Tensor, eps_cond: Tensor, eps_null: Tensor, w: float) -> Tensor:
    """The guided velocity of the Linear path, from the two predictions of ε.

    x_t, eps_cond, eps_null: (B, …), same dtype.  t: a scalar in (0, 1).  Returns (B, …), same dtype.
    """
    ### BEGIN SOLUTION
    # ε − x0 = ε − (x_t − t·ε)/(1 − t) = (ε − x_t)/(1 − t). The weights 1 + w and −w add up to 1, so one x_t is left.
    eps = eps_cond + w * (eps_cond - eps_null)
    return (eps - x_t) / (1 - t)
    ### END SOLUTION


# %% [markdown]
# **Use it.** Guide the two velocities instead of the two ε: the same arrow, to the last digits.

# %%
at, t, w = randn((1000, 2), seeded(1), torch.float64), torch.tensor(0.4, dtype=torch.float64), 3.0
eps_cond, eps_null = ((at - (1 - t) * model(at, t, y=y)) / t for y in (0, None))
before = checked_guided_velocity(at, t, eps_cond, eps_null, w)
u_cond, u_null = (checked_guided_velocity(at, t, eps, eps, 0.0) for eps in (eps_cond, eps_null))
after = (1 + w) * u_cond - w * u_null
print(f"largest difference: {float((before - after).abs().max()):.1e}")
assert float((before - after).abs().max()) < 1e-12

# %% [markdown]
# **Want more?** Clip $\hat x_0$ to $[-1,1]$ in each branch before you combine, then after. Is it still the same arrow? Which of
# the two would you want for pictures?

# %% [markdown]
# ## Exercise 05-cfg-variance
#
# **Predict first.** $p(x|y)=N(0,1)$, $p(x)=N(0,2)$, $w=2$. Which variance do guided samples have? And which one does the
# density $p(x|y)^{1+w}\,p(x)^{-w}$ have? Are these two questions the same?
#
# **Derivation.** $\alpha=1$, $u=\sigma^2$; noised variances are $c+u$ (conditional, `c`) and $d+u$ (unconditional, `d`).
#
# 1. Tilted: $\log p_w=(1+w)\log p(x|y)-w\log p(x)$. Compare the coefficients of $-x^2/2$: precisions combine.
# 2. Guided score: $-x\,\big(\tfrac{1+w}{c+u}-\tfrac{w}{d+u}\big)$. The ODE is $dx/du=-\tfrac12\cdot$score.
# 3. Integrate: $\log x^2=(1+w)\log(c+u)-w\log(d+u)+$ constant.
# 4. The constant: sampling starts at $u\to\infty$ with $E[x^2]=u$. Evaluate at $u=0$.


# %% answer="05-cfg-variance"
def cfg_variances(c: float, d: float, w: float) -> tuple[float, float]:
    """(variance that the guided ODE samples, variance of the tilted density), for p(x|y) = N(0, c) and p(x) = N(0, d).

    c, d: positive.  w: such that (1 + w)/c > w/d.  Returns two positive numbers.
    """
    ### BEGIN SOLUTION
    # ODE: (c + u)^(1+w)·(d + u)^(−w)/u → 1 as u → ∞, so the constant is 0 and u = 0 gives c^(1+w)·d^(−w).
    # Tilted: precisions 1/c and 1/d combine with the weights 1 + w and −w.
    return c ** (1 + w) * d**-w, 1 / ((1 + w) / c - w / d)
    ### END SOLUTION


# %% [markdown]
# **Use it.** The library's sampler on the variance-exploding path, 20,000 points, against your two formulas.

# %%
path = Karras(sigma_min=0.01, sigma_max=20.0)


def gaussian_denoiser(variance: float):
    return lambda x, t: variance / (variance + path(t)[1] ** 2) * x  # E[x0|x_t] for N(0, variance)


w, start = 2.0, 20.0 * randn((20_000, 1), seeded(0), torch.float64)
good, bad = gaussian_denoiser(1.0), gaussian_denoiser(2.0)
*_, x = sample(lambda x, t: good(x, t) + w * (good(x, t) - bad(x, t)), start, times.linear(100), heun(path))
ode, tilted = checked_cfg_variances(1.0, 2.0, w)
print(f"measured {float(x.var()):.3f}; your formulas: ODE {ode:.3f}, tilted {tilted:.3f}")
assert abs(float(x.var()) / ode - 1) < 0.06

# %% [markdown]
# **Want more?** Let $p(x|y)=N(1,1)$ and $p(x)=N(0,1)$: same width, different means. Where does the mean of the guided samples go?

# %% [markdown]
# ## Exercise 05-guidance-interval
#
# **Predict first.** Guidance is on only for $0\le t\le 0.4$. How many evaluations of the network do you save?
# What do you expect to keep, the accuracy or the variety?
#
# **Derivation.** A guidance interval (arXiv 2404.07724) is a decision that is made at every step.
#
# 1. At large $t$ the sampler decides *which* cloud to go to; guidance there empties the clouds that are not typical.
# 2. At small $t$ it decides where in the cloud; guidance there moves points away from the other class.
# 3. So: while `low` $\le t\le$ `high`, `cond + w·(cond − null)`; outside, the plain conditional branch, one evaluation only.


# %% answer="05-guidance-interval"
def interval(model, y: Tensor, null: Tensor, w: float, low: float, high: float):
    """Classifier-free guidance while low ≤ t ≤ high (ends included), the plain conditional branch outside.

    model: called as model(x_t, t, y=labels).  y, null: (B,) int64.  Returns a function (x_t, t) → x̂0, t a scalar.
    """

    ### BEGIN SOLUTION
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        cond = model(x_t, t, y=y)
        if not low <= float(t) <= high:
            return cond  # before the null branch is evaluated: that is the saving
        return cond + w * (cond - model(x_t, t, y=null))

    return denoise
    ### END SOLUTION


# %% [markdown]
# **Use it.** Class 0 of our world has one typical cloud (left) and two that look like class 1. How many points reach those two?

# %%
zeros = torch.zeros(len(noise), dtype=torch.int64)
found = {}
for name, high in {"guided everywhere": 1.0, "guided for t ≤ 0.4": 0.4}.items():
    denoise = checked_interval(model, zeros, zeros - 1, 3.0, 0.0, high)  # −1 is "no label" for the exact model
    *_, x = sample(denoise, noise, times.linear(25), heun(schedule))
    found[name] = share_of_class_0(x), float((x[:, 1].abs() > 0.75).double().mean())
for name, (share, far) in found.items():
    print(f"{name}: {share:.3f} judged class 0, {far:.2f} in the clouds that look like class 1 (data: 0.67)")
assert found["guided for t ≤ 0.4"][1] > found["guided everywhere"][1] + 0.2

# %% [markdown]
# **Want more?** Find the interval with the best trade: accuracy at least 0.98 and as many points in the far clouds as possible.

# %% [markdown]
# ## Exercise 05-neighbour-recall
#
# **Predict first.** Guided samples crowd together in the middle of the data. What happens to the share of fakes that look like
# data (precision)? And to the share of the data that the fakes can reach (recall)?
#
# **Derivation.** Neighbour recall (arXiv 1904.06991): let balls around the fakes stand for all that the sampler can make.
#
# 1. Fake $j$ (`fake[j]`) gets a ball whose radius is the distance to its `k`-th nearest *other* fake.
# 2. Real point $i$ (`real[i]`) is covered if it lies in, or on, at least one ball.
# 3. Recall is the share of real points that are covered.


# %% answer="05-neighbour-recall"
def neighbour_recall(real: Tensor, fake: Tensor, k: int) -> float:
    """Share of real points inside at least one ball around a fake point.

    real: (N, D).  fake: (M, D).  k: 1 ≤ k < M.  Returns a number from 0 to 1.
    """
    ### BEGIN SOLUTION
    # Sorted distances among the fakes start with 0, the point itself; so entry k is the k-th nearest other one.
    radius = torch.cdist(fake, fake).sort(dim=1).values[:, k]
    return float((torch.cdist(real, fake) <= radius).any(dim=1).double().mean())
    ### END SOLUTION


# %% [markdown]
# **Use it.** Your measure beside the share judged right: what $w$ buys, and what it costs.

# %%
real, _ = world.of_class(0).sample(500, seeded(9))
strengths = (0.0, 1.0, 3.0, 7.0)
samples = [guided_points(w) for w in strengths]
lines = {
    "judged class 0": [share_of_class_0(x) for x in samples],
    "precision": [precision(real, x) for x in samples],
    "recall": [checked_neighbour_recall(real, x, 3) for x in samples],
}
figure, (ax,) = show.panels(1, 1, size=(5.0, 3.2))
for (name, values), marker in zip(lines.items(), "os^"):
    ax.plot(strengths, values, marker=marker, label=name)
ax.set(xlabel="guidance strength w", ylabel="share", ylim=(0, 1.05), title="Recall pays for the last percent")
ax.legend()
plt.show()
print({name: [f"{v:.2f}" for v in values] for name, values in lines.items()})
assert lines["recall"][0] > 0.9 > 0.4 > lines["recall"][3]
assert min(lines["precision"]) > 0.85

# %% [markdown]
# **Want more?** Recall depends on the number of fakes. Halve it at $w=0$: by how much does recall fall, though nothing is wrong
# with the sampler? What does that tell you about comparing recalls from two papers?
