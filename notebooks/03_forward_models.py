# %% [markdown]
# # 03 Plug in a forward model
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded, the weights are shipped.
#
# You know how a measurement comes about: a camera blurs, a scanner loses pixels, a painter uses a broad brush, a caption
# describes. That is a **forward model** $p(y|x)$. Chapter 01 says what to do with it: add $\nabla \log p(y|x_t)$ to the score.
# So *one* diffusion model of pictures, trained once and without any condition, can inpaint, deblur, colourise, enlarge, follow
# brush strokes and obey sentences. This chapter does all of it with the same weights, and asserts that they stay the same.
#
# **You will learn** why $p(y|x_t)$ is not $p(y|x)$, and what is lost if one pretends it is (DPS, arXiv 2209.14687); how that
# compares with naive projection; SDEdit (arXiv 2108.01073) and its closed form; and a captioner as a forward model.
#
# **Parts.** *Core*: sections 1 to 5, about 65 minutes. *Extra*: sections 6 to 8, about 45 minutes.
#
# **Before.** Chapters [01](01_bayes_rule.ipynb) (Bayes' rule for scores) and [02](02_conditional_training.ipynb) (samplers).
# **Read along:** [lecture](../lectures/03_forward_models.md) (the derivations). **Then do:**
# [exercises](../exercises/03_forward_models.ipynb).

# %%
import torch
from torch import Tensor

from minidiff import operators, show, times
from minidiff.guidance import bind, classifier, likelihood, project
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.show.figures import forward_models as draw
from minidiff.training import pick_device

float64, device, schedule = torch.float64, pick_device(), Linear()
level = lambda t: torch.tensor(t, dtype=float64)

# %% [markdown]
# ## 1. A measurement of points (core, 5 minutes)
#
# First a world without secrets: eight round clouds on a circle. Somebody draws a point $x$ and tells you one number about it,
# $y = x_1 + \tfrac12 x_2 + 0.3\,n$, with $n$ standard normal noise: $y = 0.9$. A Gaussian mixture with a linear measurement
# stays a Gaussian mixture, so `Mixture.observed` gives $p(x|y)$ exactly.
#
# **Predict.** The measurement says "near this line". Eight clouds, one line: how many clouds are left?

# %%
from minidiff.data.mixtures import ring

world, A, y, noise = ring(8), torch.tensor([[1.0, 0.5]], dtype=float64), torch.tensor([0.9], dtype=float64), 0.3
posterior = world.observed(A, y, noise)
log_prior = lambda x: world.log_prob(x, level(0.0), schedule)
log_posterior = lambda x: posterior.log_prob(x, level(0.0), schedule)
before_and_after = {"Before: $p(x)$": log_prior, "After: $p(x|y = 0.9)$": log_posterior}
draw.densities(before_and_after, lambda x: 2 * (0.9 - x), "$x_1 + x_2/2 = 0.9$")

# %% [markdown]
# ## 2. What is missing: $p(y|x_t)$ (core, 15 minutes)
#
# Bayes' rule wants $\nabla \log p(y|x_t)$ at *noisy* points. The forward model speaks of clean ones. The link is an average over
# all clean points that $x_t$ may have come from,
#
# $$p(y|x_t) = \int p(y|x_0)\,p(x_0|x_t)\,dx_0 \qquad\text{against DPS's}\qquad p(y|x_t) \approx p\big(y \,\big|\, \hat x_0(x_t)\big),$$
#
# which puts the *mean* $\hat x_0 = E[x_0|x_t]$ in place of the average. Here is DPS's guided guess, whole. The gradient goes
# *through* the denoiser; the library's `likelihood` does the same.

# %%
prior, op = bind(world.denoiser(schedule)), operators.matrix(A)


def dps_guess(x_t: Tensor, t: Tensor) -> Tensor:
    """x̂0 + (σ²/α)·∇_{x_t} log p(y | x̂0(x_t))"""
    x_t = x_t.detach().requires_grad_()
    x0 = prior(x_t, t)
    log_p = -(y - op(x0)).square().sum() / (2 * noise**2)
    (gradient,) = torch.autograd.grad(log_p, x_t)
    alpha, sigma = schedule(t)
    return (x0 + sigma**2 / alpha * gradient).detach()


dps = likelihood(prior, operators.log_likelihood(op, y[None], noise), schedule)
some = randn((100, 2), seeded(0), float64)
assert float((dps_guess(some, level(0.4)) - dps(some, level(0.4))).abs().max()) < 1e-12
assert float((dps_guess(some, level(0.4)) - prior(some, level(0.4))).abs().max()) > 0.1  # control: no guidance

# %% [markdown]
# In this world the integral is known, and with it `classifier` must give the exact posterior's denoiser, to rounding, at every
# noise level. *Naive projection* does without a gradient: it moves $\hat x_0$ onto the measurement, $\hat x_0 + A^+(y - A\hat x_0)$.
#
# **Predict.** At which noise levels is DPS's guess good, and how far off is it at worst: 0.1, 1, or 10? (The clouds lie 1.5 from
# the middle.)

# %%
guides = {
    "exact": classifier(prior, lambda x, t: world.log_prob_observation(x, t, schedule, A, y, noise), schedule),
    "DPS": dps,
    "projection": project(prior, op, operators.pseudo_inverse(op, (2,)), y[None]),
}
levels = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
errors = {name: [] for name in guides}
for t in map(level, levels):
    x_t = schedule.add_noise(posterior.sample(1000, seeded(0))[0], randn((1000, 2), seeded(1), float64), t)
    for name, guide in guides.items():
        away = guide(x_t, t) - posterior.denoise(x_t, t, schedule)
        errors[name].append(float(away.square().sum(1).mean().sqrt()))

# %%
shown = {name: errors[name] for name in ("DPS", "projection")}
draw.errors_against_t(
    levels, shown, f"On the exact path DPS's guess is good at little noise only (exact: {max(errors['exact']):.0e})"
)
assert max(errors["exact"]) < 1e-8
assert errors["DPS"][0] < 0.02 < 1 < max(errors["DPS"])

# %% [markdown]
# DPS forgets *how unsure* $\hat x_0$ is: given $x_t$, the measurement scatters with variance $0.3^2 + A V A^\top$, where $V$ is the
# covariance of $x_0$ given $x_t$. DPS leaves $V$ out (lecture, section 3: a guess instead of an average).
#
# ## 3. A guess far off, and samples that are good (core, 15 minutes)
#
# A guess that is off by several times the size of the world should spoil everything. **Predict**: by how much are the *samples*
# of DPS off? Which of the guides misses the spread along the measured direction $(1, \tfrac12)$, and which one misses the
# direction that was not measured? And what happens if DPS guides only where its guess is good, at $t \le 0.5$?

# %%
from minidiff.guidance import within

guides["DPS for t ≤ 0.5"] = within(dps, prior, 0.0, 0.5)
cpu_if_needed = device if device.type != "mps" else torch.device("cpu")  # Apple's GPUs have no float64
n, target, drawn = 1000, posterior.sample(40_000, seeded(9))[0], {}
for name, guide in guides.items():
    start = randn((n, 2), seeded(0), float64, cpu_if_needed)
    *_, x = sample(guide, start, times.linear(150, start=0.999), ddpm(schedule), seeded(1))
    drawn[name] = x.cpu()
title = f"{n:,} samples each: DPS is pulled towards the line, projection ends on it"
draw.clouds({"true posterior": target[:n], **drawn}, log_prior, title)

# %%
from minidiff.judges.wasserstein import floor, w1

seen = A[0] / A[0].norm()
ways = (seen, torch.stack([-seen[1], seen[0]]))
rows = {name: [w1(x @ way, target @ way) for way in ways] for name, x in drawn.items()}
rows["floor: two exact samples"] = [floor(lambda k, g, u=u: posterior.sample(k, g)[0] @ u, n)[0] for u in ways]
assert rows["exact"][0] < 0.03
assert rows["exact"][1] < rows["floor: two exact samples"][1] + 0.03
assert min(rows["DPS"]) > 0.03
assert rows["projection"][0] > 0.15
assert abs(rows["DPS for t ≤ 0.5"][0] - rows["DPS"][0]) < 0.02
show.table(rows, ["W1 to the posterior", "measured direction", "unmeasured"])

# %% [markdown]
# The guess is off by up to 12, the samples of DPS by about 0.1, and leaving the early part out changes next to nothing. Why? The
# figure asked DPS where the *exact* sampler would be. **Predict**: how far off is its guess on its own path?

# %%
grid, own = times.linear(150, start=0.999), []
path = [start := randn((1000, 2), seeded(0), float64), *sample(dps, start, grid, ddpm(schedule), seeded(1))]
for t in levels:
    i = int((grid - t).abs().argmin())
    away = dps(path[i], grid[i]) - posterior.denoise(path[i], grid[i], schedule)
    own.append(float(away.square().sum(1).mean().sqrt()))
shown = {"DPS, asked on the exact path": errors["DPS"], "DPS, on its own path": own}
draw.errors_against_t(levels, shown, "On its own path DPS's guess soon gets better")
at = levels.index(0.7)
assert own[at] < 0.3 * errors["DPS"][at]
assert own[-1] > 5  # it begins as far off

# %% [markdown]
# Three reasons why the samples are good:
#
# - The push corrects itself. A point that was pushed too far has a smaller misfit, and is pushed less the next time.
# - Early on a step hardly listens to $\hat x_0$: of 150 steps one at $t = 0.9$ takes 1.4 % of it and adds noise of 0.3.
# - What decides where a sample ends comes late, and late $V \to 0$ and DPS is right.
#
# What remains is a *bias*, and no number of steps repairs it. But DPS asks for nothing but the denoiser and the forward model. On
# pictures nobody knows the integral, and DPS is what one uses.
#
# ## 4. One model of scenes, and its fingerprint (core, 5 minutes)
#
# Now pictures: 16×16 pixels, one or two coloured shapes. The model has seen 512,000 of them, and nothing else: no labels, no
# captions. We take a fingerprint of its weights, and compare at the end. `parse` reads a picture back: shape, colour and place of
# every object, exactly. It is the judge, and is told nothing of the measurement.

# %%
import hashlib

from minidiff.systems import scenes_unconditional

model, N = scenes_unconditional.MODEL.load().to(device), 32


def fingerprint() -> str:
    weights = b"".join(v.cpu().numpy().tobytes() for v in model.state_dict().values())
    return hashlib.sha256(weights).hexdigest()


def pictures(guided, n: int = N, steps: int = 30, seed: int = 0) -> Tensor:
    """Picture i from the noise of seed + i, ancestral sampling."""
    start = randn((n, 3, 16, 16), seeded(range(seed, seed + n)), device=device)
    *_, x = sample(guided, start, times.linear(steps), ddpm(schedule), seeded(range(seed + 1000, seed + 1000 + n)))
    return x


# %%
from minidiff.judges.scenes import parse, same

first_fingerprint, plain = fingerprint(), pictures(bind(model))
readable = float(parse(plain).readable.double().mean())
assert readable > 0.9
show.grid(plain[:20], columns=10, title=f"What the model draws by itself ({readable:.0%} can be read as a scene)")

# %% [markdown]
# ## 5. Four measurements, four posteriors (core, 25 minutes)
#
# Each forward model is one line: 25 % of the pixels; a Gaussian blur of 1.5 pixels; grey values; means of 2×2 blocks. Noise with
# standard deviation 0.1 is added (pictures lie in [−1, 1]). The 32 scenes are of a kind the model never saw: their combinations of
# shape and colour were held out.
#
# **Predict.** For which of the four does the measurement leave the colours open? For which is pasting the measurement in
# (projection) as good as DPS?

# %%
from minidiff.data.prompts import place
from minidiff.data.scenes import Scenes, render

truth = place(scenes_unconditional.WORLD.prompts(N, 7, "test"), 8)
x0, kept = render(truth).to(device), torch.rand(16, 16, generator=seeded(3)) < 0.25
problems = {"inpaint": operators.mask(kept), "deblur": operators.blur(1.5), "colourise": operators.grey()}
problems["enlarge"] = operators.downsample(2)
measured = {name: operators.observe(forward, x0, 0.1, seeded(1)) for name, forward in problems.items()}
measured["inpaint"] = measured["inpaint"] * kept.to(device)  # a pixel that was not seen has no noise either
by_dps, by_projection = {}, {}
for name, forward in problems.items():
    guided = likelihood(bind(model), operators.log_likelihood(forward, measured[name], 0.1), schedule)
    by_dps[name] = pictures(guided)
    inverse = operators.pseudo_inverse(forward, (3, 16, 16), rtol=0.3)  # less, and the inverse of blur explodes
    by_projection[name] = pictures(project(bind(model), forward, inverse, measured[name]))


# %%
def right(x: Tensor, colour: bool = True) -> Tensor:
    """(B,) bool: which pictures read as the true scene; without colour: right shapes at the right places."""
    read = parse(x)
    hide = lambda s: s if colour else Scenes(s.kind, torch.where(s.kind >= 0, 0, -1), s.size, s.row, s.column, s.ground)
    return read.readable & same(hide(read.scenes), hide(truth))


def verdicts(x: Tensor) -> list[str]:
    """One caption a picture."""
    pairs = zip(right(x).tolist(), right(x, colour=False).tolist())
    return ["right" if whole else "other colour" if shapes else "other scene" for whole, shapes in pairs]


def show_restored(name: str) -> None:
    rows = {"truth": x0, "measured: y": measured[name], "projection": by_projection[name], "DPS": by_dps[name]}
    whole, shapes = right(by_dps[name]), right(by_dps[name], colour=False)
    told = f"{name}, DPS: {int(whole.sum())} of {N} are the true scene, {int(shapes.sum())} if colours do not count"
    below = {way: verdicts(rows[way])[:10] for way in ("projection", "DPS")}
    draw.sheet({way: x[:10] for way, x in rows.items()}, told, below)


# %%
show_restored("inpaint")  # a grey pixel in y was not measured

# %%
show_restored("deblur")

# %%
show_restored("colourise")  # y has one channel

# %%
show_restored("enlarge")  # y has 8×8 pixels


# %% [markdown]
# The verdict stands under each picture. "Colourise" is the case to think about: green, red and blue can have about the same grey,
# so a good posterior draws all of them, and "the true scene" is the wrong thing to ask for. Shapes and places are the fair
# question there.


# %%
def misfit(name: str, x: Tensor) -> float:
    """Root mean square of y − A(x), over the numbers that were measured."""
    share = float(kept.double().mean()) if name == "inpaint" else 1.0
    return float(operators.residual(problems[name], x, measured[name]).square().mean().sqrt()) / share**0.5


# %%
share = lambda hits: float(hits.double().mean())
rows, ways = (
    {},
    {"truth": lambda name: x0, "DPS": by_dps.get, "projection": by_projection.get, "unguided": lambda name: plain},
)
for name in problems:
    for way, of in ways.items():
        x = of(name)
        rows[f"{name}: {way}"] = [misfit(name, x), share(right(x)), share(right(x, colour=False))]
    assert rows[f"{name}: DPS"][0] < 0.2 < rows[f"{name}: unguided"][0]
    assert rows[f"{name}: DPS"][2] > rows[f"{name}: unguided"][2] + 0.2
show.table(rows, ["", "misfit (noise 0.1)", "scene right", "right without colour"], digits=2)

# %% [markdown]
# The misfit of DPS is near the noise: what was measured is explained, and not more. Projection's is far below: it explains the
# noise, too, and shows it. And a small misfit proves nothing of the rest: see projection's column for "inpaint".
#
# **Clothes, and how strong the push should be.** Another model, of 28×28 pictures of garments (chapters 04 and 05), asked without a
# label. It restores garments from the means of 4×4 blocks: 49 numbers instead of 784. Bayes' rule says: strength $1/2\nu^2$. The
# paper takes $\zeta/r$ with $r = \Vert y - A\hat x_0\Vert$, here $\zeta = 3$. **Predict**: which one fits the 49 numbers better, and
# which one the garment?

# %%
from minidiff import guidance
from minidiff.systems import fashion

wardrobe, blocks = fashion.DENOISER.load().to(device), operators.downsample(4)
garments = fashion.pictures(range(10), w=1.0, per_class=1, steps=12, model=wardrobe).to(device)
seen_blocks = operators.observe(blocks, garments, 0.1, seeded(1))
no_label, sheets = bind(wardrobe, **fashion.NULL), {"truth": garments, "measured: y": seen_blocks}
pushes = {
    "DPS, 1/2ν²": likelihood(no_label, operators.log_likelihood(blocks, seen_blocks, 0.1), schedule),
    "DPS, ζ/r": guidance.dps(no_label, blocks, seen_blocks, schedule, 3.0),
}
for name, guided in pushes.items():
    begin = randn((10, 1, 28, 28), seeded(range(10)), device=device)
    *_, sheets[name] = sample(guided, begin, times.linear(20, start=0.98), ddpm(schedule), seeded(0))

# %%
fit = {name: float(operators.residual(blocks, sheets[name], seen_blocks).square().mean().sqrt()) for name in pushes}
off = {name: float((sheets[name] - garments).square().mean().sqrt()) for name in pushes}
assert fit["DPS, 1/2ν²"] < fit["DPS, ζ/r"] < 0.3
assert off["DPS, ζ/r"] < 0.8 * off["DPS, 1/2ν²"]
(a, b), (c, d) = fit.values(), off.values()
draw.sheet(sheets, f"1/2ν² fits y to {a:.2f}, ζ/r to {b:.2f}; from the garment they are {c:.2f} and {d:.2f} away")

# %% [markdown]
# The full strength tears the pictures into stripes: a push that is too hard leaves the pictures on which the network was trained,
# and what it answers there is anything. The 49 numbers fit all the same. That is the bias of section 2, on pictures. Scenes are
# simple enough to survive it; for clothes the bounded push is needed.
#
# ## 6. Strokes: SDEdit (extra, 10 minutes)
#
# Another way to ask: paint roughly what you want, and let the model make a picture of it. SDEdit needs no forward model at all. It
# adds noise to the painting, up to a time $t_0$, and runs the reverse process from there. The noise drowns what is wrong with
# the painting, the reverse process puts in what the model knows.
#
# For one Gaussian cloud $N(m, s^2)$ and a guide $y$ the result is known: mean $m + k\alpha(y - m)$ and variance $k^2\sigma^2 + v$
# with $k = \alpha s^2/(\alpha^2 s^2 + \sigma^2)$ and $v = s^2\sigma^2/(\alpha^2 s^2 + \sigma^2)$ (lecture, section 6: strokes). **Predict** what comes out
# at small $t_0$, and at $t_0 = 1$.

# %%
from minidiff.editing import gaussian_sdedit, sdedit

m, s, guide_value = 0.4, 0.3, -0.9


def one_cloud(x_t: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    return m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x_t - alpha * m)


def by_hand(guide: Tensor, t0: float, steps: int, seed: int) -> Tensor:
    generator = seeded(seed)
    x = schedule.add_noise(guide, randn(guide.shape, generator, guide.dtype), level(t0))
    *_, x = sample(one_cloud, x, times.linear(steps, start=t0), ddpm(schedule), generator)
    return x


# %%
starts, painted_value = (0.2, 0.5, 0.8), torch.full((20_000, 1), guide_value, dtype=float64)
ends = [by_hand(painted_value, t0, 400, seed) for seed, t0 in enumerate(starts, start=3)]
assert torch.equal(ends[0], sdedit(one_cloud, painted_value, 0.2, ddpm(schedule), schedule, 400, seeded(3)))
found = torch.tensor([[float(x.mean()), float(x.var())] for x in ends])
closed_form = lambda t0: [float(v) for v in gaussian_sdedit(m, s, guide_value, t0, schedule)]
line = torch.linspace(0.01, 1.0, 100).tolist()
curves, theory = torch.tensor([closed_form(t0) for t0 in line]), torch.tensor([closed_form(t0) for t0 in starts])
off = (found - theory).abs() / torch.stack([torch.full((3,), m - guide_value), theory[:, 1]], dim=1)
assert off.max() < 0.03
title = f"SDEdit from a guide at −0.9, cloud N(0.4, 0.3²): samples within {off.max():.1%} of the formula"
draw.closed_form(line, curves, starts, found, ("mean", "variance"), title)

# %% [markdown]
# ## 7. Faithful or real? (extra, 15 minutes)
#
# For the scenes we make the painting from a true one: every 4×4 block gets its mean colour, as if painted with a broad brush. Two
# numbers: *faithfulness*, how far the strokes of the result are from the guide's, and *realism*, how far the result is from the
# nearest picture that the world of scenes contains (the error of `parse`). **Predict** both curves against $t_0$. If the brush is
# known, it can be plugged in as a forward model: where does that land?

# %%
brush = operators.strokes(4)
guide, sweep = brush(x0), [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
edits = {
    t0: sdedit(bind(model), guide, t0, ddpm(schedule), schedule, max(5, round(20 * t0)), seeded(range(N)))
    for t0 in sweep
}
by_likelihood = pictures(likelihood(bind(model), operators.log_likelihood(brush, guide, 0.1), schedule))
price = lambda x: (float(operators.residual(brush, x, guide).mean()), float(parse(x).error.mean()))
prices, star = torch.tensor([price(guide), *(price(x) for x in edits.values())]), price(by_likelihood)
assert prices[1:, 0].diff().min() > -0.005
assert prices[0, 1] > 2 * prices[3, 1]
assert star[0] < prices[1, 0]
draw.trade(
    [0.0, *sweep], prices, star, ("More noise: more real, less faithful", "Knowing the brush: far more faithful")
)

# %%
count = lambda x: (parse(x).scenes.kind >= 0).sum(1)
objects = (truth.kind >= 0).sum(1)
results = {f"SDEdit, t0 = {t0:g}": x for t0, x in edits.items() if t0 in (0.2, 0.4, 0.6, 0.8)} | {
    "likelihood": by_likelihood
}
rows = {name: [share(count(x) == objects), share(right(x))] for name, x in results.items()}
told = f"At t0 = 0.2 objects vanish: the number is right in {rows['SDEdit, t0 = 0.2'][0]:.0%}"
told += f" (likelihood: {rows['likelihood'][0]:.0%})"
draw.sheet({name: x[:12] for name, x in {"truth": x0, "strokes": guide, **results}.items()}, told)
show.table(rows, ["", "number of objects right", "scene right"], digits=2)

# %% [markdown]
# SDEdit knows nothing of brushes: it takes the guide for a *noisy picture*. Between two objects that share pale blocks it
# chooses, and one goes. If we do know the brush, we can plug it in: the red star is `strokes(4)` as forward model with DPS. It is
# several times closer to the strokes than SDEdit at any $t_0$ tried, and as real as SDEdit at a small $t_0$, though not as real as
# at a large one.
#
# **Now you.** Choose a colour, paint with the mouse, press *sample*. Upper row: SDEdit from your $t_0$. Lower row: your
# strokes as a likelihood, with a brush of 2 pixels and a noise of 0.4 (nobody paints exactly).

# %%
from minidiff.data.scenes import COLOURS, LIGHT, PALETTE
from minidiff.show.painter import paint

palette = {"ground": (LIGHT,) * 3, **dict(zip(COLOURS, PALETTE.tolist()))}
canvas = torch.full((3, 16, 16), 2 * LIGHT - 1)
canvas[:, 4:9, 2:7] = 2 * PALETTE[0][:, None, None] - 1
canvas[:, 7:12, 10:14] = 2 * PALETTE[2][:, None, None] - 1


def answers(painted: Tensor, t0: float) -> Tensor:
    """The painting and eight of SDEdit's answers, then the painting and eight by likelihood."""
    wanted, narrow = painted.to(device).expand(8, 3, 16, 16), operators.strokes(2)
    edited = sdedit(bind(model), wanted, t0, ddpm(schedule), schedule, 15, seeded(range(8)))
    guided = likelihood(bind(model), operators.log_likelihood(narrow, narrow(wanted), 0.4), schedule)
    return torch.cat([wanted[:1], edited, wanted[:1], pictures(guided, 8, steps=20)])


# %%
def from_strokes(painted: Tensor, t0: float):
    title, rows = "Left: painted; then eight samples each", [f"SDEdit, $t_0$ = {t0:g}", "likelihood"]
    return show.grid(answers(painted, t0), columns=9, rows=rows, title=title).figure


painter = paint(from_strokes, palette, canvas, show.Slider(0.1, 1.0, 0.05, start=0.5))

# %% [markdown]
# ## 8. A captioner is a forward model too (extra, 20 minutes)
#
# A captioner writes, word by word, $p(\text{caption}|x) = \prod_k p(y_k | y_{<k}, x)$. This one was trained by itself, on *noisy*
# scenes, so it is a model of $p(y|x_t)$ itself and needs no DPS. Its guidance is the gradient of the summed log-probabilities of the words
# (BLIP, arXiv 2201.12086, is a large model of this kind). The diffusion network has no text input at all.

# %%
from minidiff.data.captions import captions
from minidiff.systems import scenes_captioner

captioner = scenes_captioner.MODEL.load().to(device)
prompts = scenes_unconditional.WORLD.prompts(N, 11, "test")
tokens, t = scenes_captioner.tokens(captions(prompts)), level(0.3)
x_t = schedule.add_noise(x0[:5], randn((5, 3, 16, 16), seeded(5), device=device), t)

# %%
written = scenes_captioner.tokenizer().decode(captioner.write(x_t, t).cpu())
words = {"clean": captions(scenes_unconditional.WORLD.prompts(N, 7, "test")[:5]), "noisy, t = 0.3": written}
agree = sum(a == b for a, b in zip(*words.values()))
draw.sheet(
    {"clean": x0[:5], "noisy, t = 0.3": x_t},
    f"True captions above, what it reads in the noise below: {agree} of 5",
    words,
    1.4,
)

# %%
assert model.net.context_dim is None
try:
    model(x_t, t, tokens=tokens[:5])
except TypeError as error:
    print("the diffusion model, asked to read text:", error)

# %% [markdown]
# The sum over words, written out: logits of the next word, the entry of the word that comes, everything but padding. And is its
# gradient the right one? Compare with a finite difference, in double precision, along a random direction. **Predict**: by what
# factor is the *mean* over words off, a popular slip?

# %%
double, at = scenes_captioner.MODEL.load().double(), x_t[:1].cpu().double()  # not every accelerator has float64


def log_p(x: Tensor) -> Tensor:
    logits, coming = double(x, t, tokens[:1, :-1]), tokens[:1, 1:]
    return (logits.log_softmax(2).gather(2, coming[..., None])[..., 0] * (coming != 0)).sum(1)


assert torch.allclose(log_p(at), double.log_prob(at, t, tokens[:1]))
leaf, direction, h = at.clone().requires_grad_(), randn(at.shape, seeded(6), float64), 1e-5
slope = float((torch.autograd.grad(log_p(leaf).sum(), leaf)[0] * direction).sum())
difference = float((log_p(at + h * direction) - log_p(at - h * direction)) / (2 * h))
n_words = int((tokens[0, 1:] != 0).sum())
assert abs(slope - difference) < 1e-5 * abs(difference)
assert abs(slope / n_words - difference) > 0.1 * abs(difference)

# %%
rows = {
    "gradient of the sum": [slope],
    "finite difference": [difference],
    f"mean over {n_words} words": [slope / n_words],
}
show.table(rows, ["", "slope"], digits=7)


# %%
from minidiff.judges.scorecard import matches


def obey(texts: list[str], w: float) -> Tensor:
    asked = scenes_captioner.tokens(texts)
    return pictures(classifier(bind(model), lambda x, t: captioner.log_prob(x, t, asked), schedule, w), len(texts))


told = obey(captions(prompts), w=12.0)
by_chance = torch.stack([matches(prompts, plain.roll(k, 0)).double() for k in range(16)]).mean()
obeyed = share(matches(prompts, told))
assert obeyed > 4 * by_chance
assert obeyed > 0.35
title = f"Guided by sentences, w = 12: {obeyed:.0%} of {N} pictures show theirs (by chance: {by_chance:.0%})"
draw.sheet({"": told[:8]}, title, {"": captions(prompts[:8])}, scale=1.25)

# %% [markdown]
# "By chance": every unguided picture against 16 captions that were never asked for. Does the captioner use the *order* of the
# words? Swap the two objects around the relation, keep the noise, and draw again. **Predict**: how many pictures obey the other
# sentence, made of the same words?

# %%
from minidiff.data.prompts import World

pairs = World(families=("relation",)).prompts(12, 5, "train")
swapped = [prompt.swapped() for prompt in pairs]
one, other = obey(captions(pairs), 12.0), obey(captions(swapped), 12.0)
own = share(torch.cat([matches(pairs, one), matches(swapped, other)]))
crossed = share(torch.cat([matches(swapped, one), matches(pairs, other)]))
assert own > crossed + 0.2
both = {"as said": captions(pairs[:7]), "swapped": captions(swapped[:7])}
title = f"The same words the other way round: {own:.0%} show their own sentence, {crossed:.0%} the other"
draw.sheet({"as said": one[:7], "swapped": other[:7]}, title, both, scale=1.25)

# %% [markdown]
# ## The same weights throughout
#
# Four inverse problems, strokes, sentences: nothing was trained, and not a bit of the model changed.

# %%
assert fingerprint() == first_fingerprint
show.table(
    {"before": [first_fingerprint[:24]], "after": [fingerprint()[:24]]}, ["the model of scenes", "SHA-256 begins"]
)

# %% [markdown]
# **What to take along.** A score model is a prior; a condition is whatever you can write as $p(y|x)$. The catch is the noise:
# $p(y|x_t)$ needs an average that DPS replaces by a guess, and pays for with a bias. Train the forward model on noisy pictures, as
# the captioner was, and the bias is gone, at the price of training it. Chapter [04](04_classifier_guidance.ipynb) does that for class labels.
