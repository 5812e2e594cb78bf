# %% [markdown]
# # 03 Plug in a forward model
#
# You know how a measurement comes about: a camera blurs, a scanner loses pixels, a painter uses a broad brush, a caption
# describes. That is a **forward model** $p(y|x)$. Chapter 01 says what to do with it: add $\nabla \log p(y|x_t)$ to the score.
# So *one* diffusion model of pictures, trained once and without any condition, can inpaint, deblur, colourise, enlarge, follow
# brush strokes and obey sentences. This chapter does all of it with the same weights, and asserts that they stay the same.
#
# **You will learn** why $p(y|x_t)$ is not $p(y|x)$, and what is lost if one pretends it is (DPS, arXiv 2209.14687); how that
# compares with naive projection; SDEdit (arXiv 2108.01073) and its closed form; and a captioner as a forward model.
#
# **Budget: 90 s on two CPU cores.** You need chapter [01](01_bayes_rule.ipynb). Weights are shipped.
#
# [Lecture](../lectures/03_forward_models.md) (the derivations) · [exercises](../exercises/03_forward_models.ipynb) ·
# [start page](00_start.ipynb)

# %%
import hashlib

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minidiff import operators, show, times
from minidiff.data.captions import captions
from minidiff.data.mixtures import ring
from minidiff.data.prompts import World, place
from minidiff.data.scenes import COLOURS, LIGHT, PALETTE, Scenes, render
from minidiff.guidance import bind, classifier, likelihood, project
from minidiff.judges.scenes import names, parse, same
from minidiff.judges.scorecard import matches
from minidiff.judges.wasserstein import floor, w1
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.show.painter import paint
from minidiff.systems import scenes_captioner, scenes_unconditional
from minidiff.editing import gaussian_sdedit, sdedit
from minidiff.training import pick_device

float64, device, schedule = torch.float64, pick_device(), Linear()
exact_device = device if device.type != "mps" else torch.device("cpu")  # Apple's GPUs have no float64
results = {}  # the numbers of the closing table

# %% [markdown]
# ## 1. A measurement of points
#
# First a world without secrets: eight round clouds on a circle. Somebody draws a point $x$ and tells you one number about it,
# $y = x_1 + \tfrac12 x_2 + 0.3\,n$, with $n$ standard normal noise: $y = 0.9$. Where is the point? A Gaussian mixture with a
# linear measurement stays a Gaussian mixture, so `Mixture.observed` gives $p(x|y)$ exactly.


# %%
def level(t: float) -> Tensor:
    return torch.tensor(t, dtype=float64)


world, A, y, noise = ring(8), torch.tensor([[1.0, 0.5]], dtype=float64), torch.tensor([0.9], dtype=float64), 0.3
posterior = world.observed(A, y, noise)
figure, axes = show.panels(1, 2, size=(3.2, 3.2))
show.density(lambda x: world.log_prob(x, level(0.0), schedule), ax=axes[0], title="Before: $p(x)$")
show.density(lambda x: posterior.log_prob(x, level(0.0), schedule), ax=axes[1], title="After: $p(x|y = 0.9)$")
line = torch.linspace(-2.5, 2.5, 2)
for ax in axes:
    ax.plot(line, 2 * (0.9 - line), "--", color=show.style.ORANGE, label="$x_1 + x_2/2 = 0.9$")
    ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# ## 2. What is missing: $p(y|x_t)$
#
# Bayes' rule wants $\nabla \log p(y|x_t)$ at *noisy* points. The forward model speaks of clean ones. The link is an average over
# all clean points that $x_t$ may have come from,
#
# $$p(y|x_t) = \int p(y|x_0)\,p(x_0|x_t)\,dx_0 \qquad\text{against DPS's}\qquad p(y|x_t) \approx p\big(y \,\big|\, \hat x_0(x_t)\big),$$
#
# which puts the *mean* $\hat x_0 = E[x_0|x_t]$ in place of the average. In this world the integral is known. **Expect**: with it,
# `classifier` gives the exact posterior's denoiser, to rounding, at every noise level. **Predict** where DPS's shortcut is good.

# %%
prior, op = bind(world.denoiser(schedule)), operators.matrix(A)
guides = {
    "exact": classifier(prior, lambda x, t: world.log_prob_observation(x, t, schedule, A, y, noise), schedule),
    "DPS": likelihood(prior, operators.log_likelihood(op, y[None], noise), schedule),
    "projection": project(prior, op, operators.pseudo_inverse(op, (2,)), y[None]),
}
levels = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
errors = {name: [] for name in guides}
for t in levels:
    x_t = schedule.add_noise(posterior.sample(1000, seeded(0))[0], randn((1000, 2), seeded(1), float64), level(t))
    true = posterior.denoise(x_t, level(t), schedule)
    for name, guide in guides.items():
        errors[name].append(float((guide(x_t, level(t)) - true).square().sum(1).mean().sqrt()))

# %%
figure, ax = plt.subplots(figsize=(5.6, 3.0))
for name in ("DPS", "projection"):
    ax.semilogy(levels, errors[name], marker="o", markersize=3, label=name)
ax.set(xlabel="noise level $t$", ylabel="error of the guided guess", ylim=(1e-3, 30))
ax.set_title(f"DPS is right at little noise only (exact: {max(errors['exact']):.0e})")
ax.legend()
plt.show()
results["largest error of the guided guess: exact; DPS; projection"] = "; ".join(
    f"{max(errors[name]):.0e}" if name == "exact" else f"{max(errors[name]):.2f}" for name in guides
)
assert max(errors["exact"]) < 1e-8
assert max(errors["DPS"]) > 0.1

# %% [markdown]
# DPS is good where $\hat x_0$ is sure of itself, at little noise. At more noise it forgets *how unsure* $\hat x_0$ is: given $x_t$,
# the measurement scatters with variance $0.3^2 + A V A^\top$, where $V$ is the covariance of $x_0$ given $x_t$. DPS leaves $V$ out, and
# pushes more than ten times too hard when $A V A^\top \approx 1$ (lecture, section 3: a guess instead of an average).
#
# ## 3. Three samplers
#
# *Naive projection* does without a gradient: it moves $\hat x_0$ onto the measurement, $\hat x_0 + A^+(y - A\hat x_0)$. For a mask
# that is "paste the known pixels". **Predict**: which of the three misses the spread along the measured direction
# $(1, \tfrac12)$? Which one misses the direction that was not measured?

# %%
n, target = 3000, posterior.sample(60_000, seeded(9))[0]
seen = A[0] / A[0].norm()
unseen = torch.stack([-seen[1], seen[0]])
drawn = {}
for name, guide in guides.items():
    start = randn((n, 2), seeded(0), float64, exact_device)
    *_, x = sample(guide, start, times.linear(200, start=0.999), ddpm(schedule), seeded(1))
    drawn[name] = x.cpu()

# %%
figure, axes = show.panels(1, 4, size=(2.6, 2.8))
for ax, (name, x) in zip(axes, {"true posterior": target[:n], **drawn}.items()):
    show.density(lambda x: world.log_prob(x, level(0.0), schedule), ax=ax, cmap="Greys", alpha=0.4)
    show.points(x, ax=ax, limit=2.4, size=2, alpha=0.3, title=name)
figure.suptitle("3,000 samples each: DPS is pulled towards the line, projection ends on it")
plt.show()
rows = {name: (w1(x @ seen, target @ seen), w1(x @ unseen, target @ unseen)) for name, x in drawn.items()}
lowest = [floor(lambda k, g, u=u: posterior.sample(k, g)[0] @ u, n)[0] for u in (seen, unseen)]
for name, pair in {**rows, "floor: two exact samples": lowest}.items():
    results[f"points, W1 along (1, ½) and across: {name}"] = f"{pair[0]:.3f}, {pair[1]:.3f}"
    print(f"{name:25s} W1 measured direction {pair[0]:.3f}, unmeasured {pair[1]:.3f}")
assert rows["exact"][0] < 0.03
assert rows["exact"][1] < lowest[1] + 0.03
assert min(rows["DPS"]) > 0.03
assert rows["projection"][0] > 0.15

# %% [markdown]
# DPS is *biased*, and no number of steps repairs it. But it asks for nothing but the denoiser and the forward model. On pictures
# nobody knows the integral, and DPS is what one uses. Keep the bias in mind when you read the next sections.
#
# ## 4. One model of scenes, and its fingerprint
#
# Now pictures: 16×16 pixels, one or two coloured shapes. The model has seen 512,000 of them, and nothing else: no labels, no
# captions. We take a fingerprint of its weights, and compare at the end. `parse` reads a picture back: shape, colour and place of
# every object, exactly. It is the judge, and is told nothing of the measurement.

# %%
model, judge_noise = scenes_unconditional.MODEL.load().to(device), 0.1


def fingerprint() -> str:
    weights = b"".join(v.cpu().numpy().tobytes() for v in model.state_dict().values())
    return hashlib.sha256(weights).hexdigest()


def draw(guided, n: int, steps: int = 50, seed: int = 0) -> Tensor:
    """Picture i from the noise of seed + i, ancestral sampling."""
    start = randn((n, 3, 16, 16), seeded(range(seed, seed + n)), device=device)
    *_, x = sample(guided, start, times.linear(steps), ddpm(schedule), seeded(range(seed + 1000, seed + 1000 + n)))
    return x


first_fingerprint, plain = fingerprint(), draw(bind(model), 64)
show.grid(plain[:20], columns=10, title="What the model draws by itself")
plt.show()
readable = float(parse(plain).readable.double().mean())
results["unguided pictures that can be read"] = f"{readable:.2f}"
assert readable > 0.95

# %% [markdown]
# ## 5. Four measurements, four posteriors
#
# Each forward model is one line: 25 % of the pixels; a Gaussian blur of 1.5 pixels; grey values; means of 2×2 blocks. Noise with
# standard deviation 0.1 is added (pictures lie in [−1, 1]). The 64 scenes are of a kind the model never saw: their combinations of
# shape and colour were held out. Each row below: the truth, what was measured, naive projection, DPS.

# %%
truth = place(scenes_unconditional.WORLD.prompts(64, 7, "test"), 8)
x0 = render(truth).to(device)
kept = torch.rand(16, 16, generator=seeded(3)) < 0.25
problems = {
    "inpaint": operators.mask(kept), "deblur": operators.blur(1.5), "colourise": operators.grey(),
    "enlarge": operators.downsample(2),
}  # fmt: skip
measured, restored, projected = {}, {}, {}
for name, forward in problems.items():
    measured[name] = operators.observe(forward, x0, judge_noise, seeded(1))
    if name == "inpaint":
        measured[name] = forward(measured[name])  # a pixel that was not seen has no noise either
    guided = likelihood(bind(model), operators.log_likelihood(forward, measured[name], judge_noise), schedule)
    restored[name] = draw(guided, 64)


# %%
def correct(x: Tensor, colour: bool = True) -> float:
    """Share of pictures that read as the true scene; without colour: right shapes at the right places."""
    read = parse(x)
    hide = lambda s: s if colour else Scenes(s.kind, torch.where(s.kind >= 0, 0, -1), s.size, s.row, s.column, s.ground)
    return float((read.readable & same(hide(read.scenes), hide(truth))).double().mean())


def misfit(name: str, x: Tensor) -> float:
    """Root mean square of y − A(x), over the numbers that were measured."""
    share = float(kept.double().mean()) if name == "inpaint" else 1.0
    return float(operators.residual(problems[name], x, measured[name]).square().mean().sqrt()) / share**0.5


# %%
for name, forward in problems.items():
    # rtol: a smaller one lets the inverse of blur explode the noise
    inverse = operators.pseudo_inverse(forward, (3, 16, 16), rtol=0.3)
    projected[name] = draw(project(bind(model), forward, inverse, measured[name]), 64)
    minimal = inverse(measured[name])
    figure, ax = plt.subplots(figsize=(7.0, 2.9))
    shown = torch.cat([x0[:12], minimal[:12], projected[name][:12], restored[name][:12]])
    show.grid(shown, columns=12, rows=["truth", "measured ($A^+y$)", "projection", "DPS"], ax=ax)
    rates = [correct(v, name != "colourise") for v in (restored[name], projected[name], minimal, plain)]
    ax.set_title(f"{name}: the true scene in {rates[0]:.0%} of DPS's pictures, {rates[1]:.0%} of projection's")
    plt.show()
    fits = [misfit(name, v) for v in (x0, restored[name], plain)]
    results[f"{name}: residual of truth, DPS, unguided (noise 0.1)"] = ", ".join(f"{v:.3f}" for v in fits)
    results[f"{name}: scene right with DPS, projection, A⁺y, unguided"] = ", ".join(f"{v:.2f}" for v in rates)
    assert fits[1] < 2 * judge_noise < fits[2]
    assert rates[0] > rates[3] + 0.2
    assert fingerprint() == first_fingerprint
print("\n".join(f"{k}: {v}" for k, v in results.items() if ":" in k and "points" not in k))

# %% [markdown]
# All residuals are near the noise: what was measured is explained, and not more (below the noise would be *over*-fitting). For
# "colourise", shape and place count, not the colour: red and green can be the same grey, and a good posterior samples both.
#
# ## 6. Strokes: SDEdit
#
# Another way to ask: paint roughly what you want, and let the model make a picture of it. SDEdit needs no forward model at all. It
# adds noise to the painting, up to a time $t_0$, and runs the reverse process from there. The noise drowns what is wrong with
# the painting, the reverse process puts in what the model knows.
#
# For one Gaussian cloud $N(m, s^2)$ and a guide $y$ the result is known: mean $m + k\alpha(y - m)$ and variance $k^2\sigma^2 + v$
# with $k = \alpha s^2/(\alpha^2 s^2 + \sigma^2)$ and $v = s^2\sigma^2/(\alpha^2 s^2 + \sigma^2)$ (lecture, section 6: strokes). **Expect** samples on the
# lines: at small $t_0$ the guide comes back, at $t_0 = 1$ the model's own cloud.

# %%
m, s, guide_value = 0.4, 0.3, -0.9


def one_cloud(x_t: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    return m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x_t - alpha * m)


starts, found = (0.2, 0.5, 0.8), []
cloud_guide = torch.full((60_000, 1), guide_value, dtype=float64)
for seed, t0 in enumerate(starts, start=3):
    x = sdedit(one_cloud, cloud_guide, t0, ddpm(schedule), schedule, 1000, seeded(seed))
    found.append([float(x.mean()), float(x.var())])
closed_form = lambda t0: [float(v) for v in gaussian_sdedit(m, s, guide_value, t0, schedule)]
line = torch.linspace(0.01, 1.0, 100).tolist()
curves, theory, found = (torch.tensor(v) for v in (list(map(closed_form, line)), list(map(closed_form, starts)), found))

# %%
figure, axes = show.panels(1, 2, size=(3.8, 2.7))
for ax, k, name in ((axes[0], 0, "mean"), (axes[1], 1, "variance")):
    ax.plot(line, curves[:, k], color="black", label="closed form")
    ax.plot(starts, found[:, k], "o", color=show.style.ORANGE, label="60,000 samples")
    ax.set(xlabel="$t_0$", ylabel=name)
axes[0].set_title("From the guide to the cloud's mean …")
axes[1].set_title("… and from no spread to the cloud's")
axes[0].legend()
plt.show()
off = (found - theory).abs() / torch.stack([torch.full((3,), m - guide_value), theory[:, 1]], dim=1)
results["SDEdit, one cloud: largest error of mean and variance"] = f"{off[:, 0].max():.2%}, {off[:, 1].max():.2%}"
print(results["SDEdit, one cloud: largest error of mean and variance"])
assert off.max() < 0.02

# %% [markdown]
# ## 7. Faithful or real?
#
# For the scenes we make the painting from a true one: every 4×4 block gets its mean colour, as if painted with a broad brush. Two
# numbers: *faithfulness*, how far the strokes of the result are from the guide's, and *realism*, how far the result is from the
# nearest picture that the world of scenes contains (the error of `parse`). **Expect** a trade: more noise, more real, less
# faithful.

# %%
brush = operators.strokes(4)
guide, sweep = brush(x0), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
edits = {
    t0: sdedit(bind(model), guide, t0, ddpm(schedule), schedule, max(5, round(30 * t0)), seeded(range(64)))
    for t0 in sweep
}
guided = likelihood(bind(model), operators.log_likelihood(brush, guide, judge_noise), schedule)
by_likelihood = draw(guided, 64)


def price(x: Tensor) -> tuple[float, float]:
    return float(operators.residual(brush, x, guide).mean()), float(parse(x).error.mean())


# %%
prices = torch.tensor([price(guide), *(price(x) for x in edits.values())])
figure, axes = show.panels(1, 2, size=(3.8, 2.9))
axes[0].plot([0.0, *sweep], prices[:, 0], marker="o", label="distance to the strokes")
axes[0].plot([0.0, *sweep], prices[:, 1], marker="o", label="distance to a real scene")
axes[0].set(xlabel="$t_0$", ylabel="root mean square", title="More noise: more real, less faithful")
axes[0].legend()
axes[1].plot(*prices.T, marker="o", color=show.style.GREEN, label="SDEdit, $t_0$ from 0 to 1")
axes[1].plot(*price(by_likelihood), "*", markersize=13, color=show.style.RED, label="strokes as likelihood")
axes[1].set(
    xlabel="distance to the strokes",
    ylabel="distance to a real scene",
    title="Knowing the brush: faithful, nearly as real",
)
axes[1].legend()
plt.show()
rising, falling = prices[1:, 0].diff(), prices[1:7, 1].diff()
results["strokes: distance to strokes, to a scene; SDEdit at 0.5"] = "{:.3f}, {:.3f}".format(*prices[5])
results["strokes: the same, stroke operator as likelihood"] = "{:.3f}, {:.3f}".format(*price(by_likelihood))
assert rising.min() > -0.005
assert prices[0, 1] > 2 * prices[5, 1]
assert price(by_likelihood)[0] < prices[1, 0]

# %%
rows = ["scene", "strokes", *(f"$t_0$ = {t0:g}" for t0 in (0.2, 0.4, 0.6, 0.8)), "likelihood"]
shown = [x0, guide, *(edits[t0] for t0 in (0.2, 0.4, 0.6, 0.8)), by_likelihood]
show.grid(
    torch.cat([x[:12] for x in shown]), columns=12, rows=rows, title="Small t0 keeps the blocks, large t0 the world"
)
plt.show()

# %% [markdown]
# SDEdit knows nothing of brushes: it takes the guide for a *noisy picture*. If we do know the brush, we can plug it in: the red
# star is `strokes(4)` as forward model with DPS. It is several times closer to the strokes than SDEdit at any $t_0$ tried, and as real
# as SDEdit at a small $t_0$, though not quite as real as at a large one.
#
# **Now you.** Choose a colour, paint with the mouse, press *sample*. Upper row: SDEdit from your $t_0$. Lower row: your
# strokes as a likelihood, with a brush of 2 pixels and a noise of 0.4 (nobody paints exactly).

# %%
palette = {"ground": (LIGHT,) * 3, **dict(zip(COLOURS, PALETTE.tolist()))}
start = torch.full((3, 16, 16), 2 * LIGHT - 1)
start[:, 4:9, 2:7] = 2 * PALETTE[0][:, None, None] - 1
start[:, 7:12, 10:14] = 2 * PALETTE[2][:, None, None] - 1


def from_strokes(painted: Tensor, t0: float) -> plt.Figure:
    wanted = painted.to(device).expand(8, 3, 16, 16)
    edited = sdedit(bind(model), wanted, t0, ddpm(schedule), schedule, 20, seeded(range(8)))
    brush, figure = operators.strokes(2), plt.figure(figsize=(6.0, 1.7))
    guided = likelihood(bind(model), operators.log_likelihood(brush, brush(wanted), 0.4), schedule)
    pictures = torch.cat([painted[None].to(device), edited, painted[None].to(device), draw(guided, 8, steps=25)])
    show.grid(pictures, columns=9, rows=[f"SDEdit, $t_0$ = {t0:g}", "likelihood"], ax=figure.gca())
    figure.gca().set_title("Left: painted; then eight samples each")
    return figure


painter = paint(from_strokes, palette, start, show.Slider(0.1, 1.0, 0.05, start=0.5))

# %% [markdown]
# ## 8. A captioner is a forward model too
#
# A captioner writes, word by word, $p(\text{caption}|x) = \prod_k p(y_k | y_{<k}, x)$. This one was trained by itself, on *noisy*
# scenes, so it is a model of $p(y|x_t)$ itself and needs no DPS. Its guidance is the gradient of the summed log-probabilities of the words
# (BLIP, arXiv 2201.12086, is a large model of this kind). The diffusion network has no text input at all.

# %%
captioner = scenes_captioner.MODEL.load().to(device)
prompts = scenes_unconditional.WORLD.prompts(64, 11, "test")
tokens = scenes_captioner.tokens(captions(prompts))
x_t, t = schedule.add_noise(x0[:4], randn((4, 3, 16, 16), seeded(5), device=device), level(0.3)), level(0.3)
written = scenes_captioner.tokenizer().decode(captioner.write(x_t, t).cpu())
show.grid(x_t, columns=4, scale=1.2, title="What the captioner reads in noisy pictures (t = 0.3):")
plt.show()
print("\n".join(f"{a:45s} (true: {', '.join(b)})" for a, b in zip(written, names(truth))))
assert model.net.context_dim is None
try:
    model(x_t, t, tokens=tokens[:4])
except TypeError as error:
    print("the diffusion model, asked to read text:", error)

# %% [markdown]
# Is the gradient really that of the sum over words? Compare it with a finite difference, in double precision, along a random
# direction. **Expect** agreement to many digits, and disagreement for the *mean* over words, a popular slip.

# %%
# On the CPU: not every accelerator has float64.
double, at = scenes_captioner.MODEL.load().double(), x_t[:1].cpu().double()
log_p = lambda x: double.log_prob(x, t, tokens[:1])
leaf = at.clone().requires_grad_()
gradient = torch.autograd.grad(log_p(leaf).sum(), leaf)[0]
direction = randn(at.shape, seeded(6), float64)
step = 1e-5
difference = float((log_p(at + step * direction) - log_p(at - step * direction)) / (2 * step))
slope = float((gradient * direction).sum())
words = int((tokens[0, 1:] != 0).sum())
print(
    f"gradient · direction {slope:.8f}, finite difference {difference:.8f}; mean over {words} words: {slope / words:.4f}"
)
results["captioner: gradient against finite difference"] = f"{abs(slope / difference - 1):.0e} (relative)"
assert abs(slope - difference) < 1e-5 * abs(difference)
assert abs(slope / words - difference) > 0.1 * abs(difference)


# %%
def obey(texts: list[str], w: float) -> Tensor:
    asked = scenes_captioner.tokens(texts)
    return draw(classifier(bind(model), lambda x, t: captioner.log_prob(x, t, asked), schedule, w), len(texts))


told = obey(captions(prompts), w=12.0)
by_chance = torch.stack([matches(prompts, plain.roll(k, 0)).double() for k in range(16)]).mean()
right = float(matches(prompts, told).double().mean())
results["captions obeyed: guided (w = 12), unguided"] = f"{right:.2f}, {by_chance:.3f}"
print(results["captions obeyed: guided (w = 12), unguided"])
show.grid(told[:10], columns=10, title=f"Guided by sentences: {right:.0%} of 64 pictures show theirs")
plt.show()
print("\n".join(captions(prompts[:10])))
assert right > 4 * by_chance
assert right > 0.35

# %% [markdown]
# Compared with chance (every unguided picture against 16 captions that were never asked for), that is many times more. Does the
# captioner use the *order* of the words? Swap the two objects around the relation, keep the noise, and draw again. **Expect**
# different pictures, which obey their own sentence and not the other one, made of the same words.

# %%
pairs = World(families=("relation",)).prompts(24, 5, "train")
swapped = [prompt.swapped() for prompt in pairs]
one, other = obey(captions(pairs), 12.0), obey(captions(swapped), 12.0)
own = float(torch.cat([matches(pairs, one), matches(swapped, other)]).double().mean())
crossed = float(torch.cat([matches(swapped, one), matches(pairs, other)]).double().mean())
results["relations obeyed: own sentence, the same words swapped"] = f"{own:.2f}, {crossed:.2f}"
show.grid(
    torch.cat([one[:10], other[:10]]),
    columns=10,
    rows=["as said", "swapped"],
    title="The same words, the other way round",
)
plt.show()
print("\n".join(f"{a}  |  {b}" for a, b in zip(captions(pairs[:4]), captions(swapped[:4]))))
print(results["relations obeyed: own sentence, the same words swapped"])
assert own > crossed + 0.2

# %% [markdown]
# ## 9. The same weights throughout, and the numbers
#
# Four inverse problems, strokes, sentences: nothing was trained, and not a bit of the model changed.

# %%
assert fingerprint() == first_fingerprint
results["SHA-256 of the weights, before and after"] = f"{first_fingerprint[:12]}…, {fingerprint()[:12]}…"
width = max(map(len, results))
for name, value in results.items():
    print(f"{name:{width}s}  {value}")

# %% [markdown]
# **What to take along.** A score model is a prior; a condition is whatever you can write as $p(y|x)$. The catch is the noise:
# $p(y|x_t)$ needs an average that DPS replaces by a guess, and pays for with a bias. Train the forward model on noisy pictures, as
# the captioner was, and the bias is gone, at the price of training it. Chapter [04](04_classifier_guidance.ipynb) does that for class labels.
