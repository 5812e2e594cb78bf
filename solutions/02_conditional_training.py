# %% [markdown]
# # Exercises 02: Training a conditional model
#
# Six small functions: the loss, the conversions and the steps that the [chapter](../notebooks/02_conditional_training.ipynb)
# took from the library ([lecture](../lectures/02_conditional_training.md)). Predict, write, check. About an hour in all.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from minidiff import show, times
from minidiff.course import check, hint
from minidiff.data.mixtures import ring, three_modes
from minidiff.guidance import bind
from minidiff.judges.wasserstein import floor, w1
from minidiff.predictions import EPS, V, VELOCITY, X0
from minidiff.randomness import randn, seeded
from minidiff.samplers import sample
from minidiff.schedules import DDPM, Cosine, Linear
from minidiff.shapes import expand_like

plane, line = ring(), three_modes()  # exact worlds: eight clouds in the plane, three hills on a line

# %% [markdown]
# ## Exercise 02-velocity-loss
#
# **Predict first.** A network with unlimited capacity, trained for ever: does this loss go to 0? And is it smaller or
# larger for a network that also sees the label?
#
# **Derivation.** On the straight path $x_t = (1-t)\,x_0 + t\,\varepsilon$.
#
# 1. The target is the velocity $dx_t/dt$ at fixed $x_0$ and $\varepsilon$. Differentiate.
# 2. The network (`net`) sees $x_t$, $t$ of shape (B,), and the label `y`.
# 3. The loss of a picture is the *mean* over channels and pixels of (output − target)². One number per picture: (B,).
#
# In code: `net(x_t, t, y=y)`. Mind the shapes: `t` is (B,), pictures are (B, C, H, W).


# %% answer="02-velocity-loss"
def velocity_loss(net, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Flow matching's loss of each picture.

    net(x_t, t, y=y) → like x_t.  x0, eps: (B, …), same dtype.  t: (B,) in [0, 1].  y: (B,) int64.
    Returns (B,): the mean of the squared error over all axes but the first.
    """
    ### BEGIN SOLUTION
    # t needs trailing ones to multiply pictures; the network gets it as it came.
    t_ = expand_like(t, x0)
    x_t = (1 - t_) * x0 + t_ * eps
    target = eps - x0  # the derivative of the line above with respect to t
    return (net(x_t, t, y=y) - target).square().flatten(1).mean(1)
    ### END SOLUTION


# %% [markdown]
# **Use it.** The best possible networks for the eight clouds are known: the average velocity given $(x_t, y)$, and, for
# one that does not look at the label, given $x_t$ alone. Their losses are the floors that no training gets below.

# %%
x0, y = plane.sample(20_000, seeded(0))
eps, t = randn(x0.shape, seeded(1), torch.float64), torch.rand(20_000, generator=seeded(2), dtype=torch.float64)


def best(x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    """The average velocity (x_t − x̂0)/t, as ε − x0 = (x_t − x0)/t on the straight path."""
    return (x_t - plane.denoise(x_t, t, Linear(), y)) / t[:, None]


informed = checked_velocity_loss(lambda x_t, t, y: best(x_t, t, y), x0, eps, t, y).mean()
blind = checked_velocity_loss(lambda x_t, t, y: best(x_t, t, None), x0, eps, t, y).mean()
print(f"least possible loss: {informed:.3f} with the label, {blind:.3f} without")
assert 0.5 < informed < blind - 0.05

# %% [markdown]
# **Want more?** Which times contribute most to the floor? Average the loss in ten bins of $t$ and plot it.
#
# ## Exercise 02-x0-and-eps
#
# **Predict first.** On the straight path $\hat x_0 = x_t - t\,u$. Will the same formula do on the cosine schedule?
#
# **Derivation.** Two equations, two unknowns ($\alpha', \sigma'$ are the derivatives with respect to $t$):
#
# 1. $x_t = \alpha\,x_0 + \sigma\,\varepsilon$
# 2. $u = \alpha'\,x_0 + \sigma'\,\varepsilon$
# 3. Multiply and subtract so that one unknown cancels; then divide. Do the same for the other.
#
# In code: `alpha, sigma = schedule(t)` and `d_alpha, d_sigma = schedule.rates(t)`, numbers here.


# %% answer="02-x0-and-eps"
def x0_and_eps(schedule, x_t: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The x0 and ε of which x_t and the velocity u are made; also where σ = 0 or α = 0.

    x_t, u: (B, …), same dtype.  t: a scalar tensor.  Returns (x0, eps), each like x_t.
    """
    ### BEGIN SOLUTION
    # σ'·(1) − σ·(2) has no ε left, α·(2) − α'·(1) no x0; both leave the same factor, the determinant.
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma  # 1 on Linear, π/2 on Cosine; it does not vanish at either end
    return (d_sigma * x_t - sigma * u) / determinant, (alpha * u - d_alpha * x_t) / determinant
    ### END SOLUTION


# %% [markdown]
# **Use it.** There and back on three schedules: the pair should survive to rounding.

# %%
t, worst = torch.tensor(0.4, dtype=torch.float64), 0.0
for schedule in (Linear(), Cosine(), DDPM()):
    x0, eps = randn((64, 1, 8, 8), seeded(3), torch.float64), randn((64, 1, 8, 8), seeded(4), torch.float64)
    u = VELOCITY.target(schedule, x0, eps, t)
    back = checked_x0_and_eps(schedule, schedule.add_noise(x0, eps, t), u, t)
    worst = max(worst, float((back[0] - x0).abs().max()), float((back[1] - eps).abs().max()))
print(f"largest error of the round trip: {worst:.1e}")
assert worst < 1e-12

# %% [markdown]
# ## Exercise 02-loss-weights
#
# **Predict first.** A denoiser is wrong by 1 % of a pixel, at little noise ($t = 0.1$) and at much ($t = 0.9$). Which
# of the two does the loss of $\varepsilon$ care about?
#
# **Derivation.** Let $e = \hat x_0 - x_0$ be the error of a guess. $x_t$ is given, so
# $\alpha\hat x_0 + \sigma\hat\varepsilon = x_t = \alpha x_0 + \sigma\varepsilon$.
#
# 1. Solve for $\hat\varepsilon - \varepsilon$: a factor times $e$.
# 2. Put it into $v = \alpha\varepsilon - \sigma x_0$ and into $u = \alpha' x_0 + \sigma'\varepsilon$: two more factors times $e$.
# 3. The losses are squares: so are the weights of $\lVert e \rVert^2$.


# %% answer="02-loss-weights"
def loss_weights(schedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The weights of ‖x̂0 − x0‖² in the losses of ε, of v, and of the velocity u, in this order.

    t: any shape, in (0, 1).  Returns three tensors like t.  For every schedule, also where α² + σ² ≠ 1.
    """
    ### BEGIN SOLUTION
    # ε̂ − ε = −(α/σ)·e, so v̂ − v = −(α²/σ + σ)·e and û − u = (α' − σ'·α/σ)·e.
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    eps = alpha / sigma
    v = (alpha**2 + sigma**2) / sigma
    velocity = (alpha * d_sigma - d_alpha * sigma) / sigma
    return eps**2, v**2, velocity**2
    ### END SOLUTION


# %% [markdown]
# **Use it.** One flawed denoiser, its losses in three coordinates, divided by its loss in $x_0$.

# %%
schedule, t = Linear(), torch.tensor(0.1, dtype=torch.float64)
alpha, sigma = schedule(t)
x0, eps, flaw = (randn((64, 2), seeded(k), torch.float64) for k in (5, 6, 7))
guess = x0 + 0.01 * flaw
guess_eps = (schedule.add_noise(x0, eps, t) - alpha * guess) / sigma
loss = {
    asked.name: (asked.target(schedule, guess, guess_eps, t) - asked.target(schedule, x0, eps, t)).square().mean()
    for asked in (EPS, V, VELOCITY, X0)
}
for name, formula in zip(("eps", "v", "velocity"), checked_loss_weights(schedule, t)):
    print(f"{name:<9} loss / loss of x0 = {loss[name] / loss['x0']:.2f}, formula {formula:.2f}")
    assert abs(loss[name] / loss["x0"] / formula - 1) < 1e-9

# %% [markdown]
# **Want more?** With which clock (density of training times) would the loss of $x_0$ weigh every time as the loss of
# $\varepsilon$ does with the uniform clock on $[0.1, 0.9]$?
#
# ## Exercise 02-ddim-step
#
# **Predict first.** What does the step return at $s = 0$, where $\alpha_s = 1$ and $\sigma_s = 0$?
#
# **Derivation.** The state is $x_t = \alpha_t x_0 + \sigma_t \varepsilon$ with unknown $x_0$ and $\varepsilon$.
#
# 1. One call of the denoiser gives $\hat x_0$.
# 2. What is left of $x_t$ is noise: solve for $\hat\varepsilon$.
# 3. Mix the two anew with the levels of $s$.
#
# In code: `denoise(x_t, t)` is $\hat x_0$; `alpha_t, sigma_t = schedule(t)`.


# %% answer="02-ddim-step"
def ddim_step(denoise, x_t: Tensor, t: Tensor, s: Tensor, schedule) -> Tensor:
    """From time t to time s < t.

    denoise(x, t) → x̂0 like x.  x_t: (B, …).  t, s: scalar tensors (float64).  Returns (B, …), same dtype as x_t.
    """
    ### BEGIN SOLUTION
    # Take x_t apart with the levels of t, put it together with those of s.
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    x0 = denoise(x_t, t)
    eps = (x_t - alpha_t * x0) / sigma_t
    return alpha_s * x0 + sigma_s * eps
    ### END SOLUTION


# %% [markdown]
# **Use it.** Sixteen steps from noise to the three hills, and how far the result is from exact samples. The floor is the
# distance of two exact samples.

# %%
cosine = Cosine()
step = lambda denoise, x, t, s, generator: checked_ddim_step(denoise, x, t, s, cosine)
noise = randn((2000, 1), seeded(0), torch.float64)
stations = [noise, *sample(bind(line.denoiser(cosine)), noise, times.linear(16), step)]
distance = w1(stations[-1], line.sample(2000, seeded(100))[0])
lowest, _ = floor(lambda n, g: line.sample(n, g)[0], 2000)
show.river(
    lambda x, t: line.log_prob(x, t, cosine), times.linear(16), torch.stack(stations)[:, :40, 0],
    title=f"16 steps of DDIM: W1 {distance:.3f} (floor {lowest:.3f})",
)  # fmt: skip
plt.show()
assert distance < 0.12

# %% [markdown]
# ## Exercise 02-heun-step
#
# **Predict first.** You halve all steps. By which factor does the error fall with Euler's method? With Heun's?
#
# **Derivation.** Points move with $dx/dt = u(x, t)$; the step is $h = s - t < 0$.
#
# 1. Euler goes to $\tilde x = x_t + h\,u(x_t, t)$, as if the slope stayed what it is.
# 2. Ask for the slope where Euler arrived, at time $s$. Go again from $x_t$ with the *mean* of both slopes.
# 3. At $s = 0$ the slope is 0/0, as $\hat\varepsilon = (x - \alpha\hat x_0)/\sigma$. Then step 1 is all.
#
# In code: `velocity(x, t)` is $u$; every call costs a run of the network, so do not call it more often than needed.


# %% answer="02-heun-step"
def heun_step(velocity, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """From time t to time s < t; at s = 0 with one call of `velocity`, else with two.

    velocity(x, t) → like x.  x_t: (B, …).  t, s: scalar tensors (float64).  Returns (B, …), same dtype as x_t.
    """
    ### BEGIN SOLUTION
    # The trial step is only for asking; the real one starts again from x_t.
    slope = velocity(x_t, t)
    x_s = x_t + (s - t) * slope
    if s == 0:
        return x_s
    return x_t + (s - t) * (slope + velocity(x_s, s)) / 2
    ### END SOLUTION


# %% [markdown]
# **Use it.** From $t = 0.98$ to $0.02$ on the straight path, with 32 and 64 steps, against 1,000.

# %%
straight = Linear()
velocity = lambda x, t: (x - line.denoise(x, t, straight)) / t  # ε̂ − x̂0 on the straight path


def travel(steps: int, velocity) -> Tensor:
    x = randn((200, 1), seeded(0), torch.float64)
    for t, s in pairwise(times.linear(steps, start=0.98, end=0.02)):
        x = checked_heun_step(velocity, x, t, s)
    return x


exact = travel(1000, velocity)
error = {steps: float((travel(steps, velocity) - exact).abs().mean()) for steps in (32, 64)}
print(f"error with 32 steps {error[32]:.1e}, with 64 {error[64]:.1e}: it falls by a factor {error[32] / error[64]:.2f}")
assert 3 < error[32] / error[64] < 5.5

# %% [markdown]
# ## Exercise 02-observed-order
#
# **Predict first.** With a learned network the error of Heun's method stops falling somewhere. Fit a line through *all*
# points of the log-log plot: is the order you read off too small or too large?
#
# **Derivation.** A method of order $p$ has error $\approx C\,n^{-p}$ after $n$ calls.
#
# 1. Take logarithms: $\log(\text{error}) = \log C - p\,\log n$, a straight line.
# 2. Near the `plateau` (rounding, the network's own error) the points do not follow it: keep errors above 10 × plateau.
# 3. Fit a line to what is left (`np.polyfit(x, y, 1)` gives slope and offset). Which sign has $p$?


# %% answer="02-observed-order"
def observed_order(calls: Tensor, errors: Tensor, plateau: float) -> float:
    """The order p in error ≈ C·calls^(−p), by least squares on the points with errors > 10·plateau.

    calls, errors: (N,) float64, positive.  plateau: a number ≥ 0.  Returns a number.
    """
    ### BEGIN SOLUTION
    # Only the points that still follow the power law count; the slope is −p.
    use = errors > 10 * plateau
    slope, _ = np.polyfit(calls[use].log().numpy(), errors[use].log().numpy(), 1)
    return -float(slope)
    ### END SOLUTION


# %% [markdown]
# **Use it.** A network is never exact. Here its velocity is off by up to 0.0001, so the error of the samples stops
# falling however many steps you take. What order do you read off all points, and what if you leave the plateau out?

# %%
learned = lambda x, t: velocity(x, t) + 1e-4 * torch.sin(8 * x)
steps = [8, 16, 32, 64, 128, 256, 512]
calls = 2 * torch.tensor(steps, dtype=torch.float64)
errors = torch.tensor([float((travel(n, learned) - exact).abs().mean()) for n in steps], dtype=torch.float64)
naive, careful = (checked_observed_order(calls, errors, plateau) for plateau in (0.0, float(errors.min())))
figure, ax = plt.subplots(figsize=(5.2, 3.4))
ax.loglog(calls, errors, marker="o")
ax.axhline(10 * float(errors.min()), color="black", linewidth=1, linestyle="--", label="10 × plateau")
title = f"Heun's order: {careful:.2f} above the line, {naive:.2f} with all points"
ax.set(xlabel="calls of the velocity", ylabel="mean error", title=title)
ax.legend()
plt.show()
assert naive < careful - 0.3
assert abs(careful - 2) < 0.4

# %% [markdown]
# **Want more?** Replace Heun's step by the midpoint rule, $x_s = x_t + h\,u(x_t + \tfrac h2 u(x_t, t),\ t + \tfrac h2)$. Same
# number of calls, same order. Which of the two has the smaller error here, and does the midpoint rule need an end case?
