# %% [markdown]
# # 05 Classifier-free guidance and the effect of $w$
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded.
#
# **What you will learn.** A conditional and an unconditional denoiser hold a classifier between them; classifier-free guidance
# uses it. You will derive the rule, train both branches in one network, see what the strength $w$ buys and what it costs (on
# exact mixtures and on Fashion-MNIST), see with numbers which distribution guidance does *not* sample, and meet three relatives
# that are the same line of code: negative prompts, guidance intervals, autoguidance.
#
# **Parts.** *Core*: sections 1 to 6, about 75 minutes. *Extra*: sections 7 and 8, about 35 minutes.
#
# **Before.** Chapters [01](01_bayes_rule.ipynb) (Bayes' rule for scores), [02](02_conditional_training.ipynb) (training),
# [04](04_classifier_guidance.ipynb) (classifier guidance).
# **Read along:** [lecture](../lectures/05_classifier_free_guidance.md). **Then do:**
# [exercises](../exercises/05_classifier_free_guidance.ipynb).

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minidiff import show, times
from minidiff.data.mixtures import lookalikes
from minidiff.guidance import bind, extrapolate
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import Linear
from minidiff.show.figures import classifier_free_guidance as draw
from minidiff.training import pick_device

schedule, device = Linear(), pick_device()
level = lambda t: torch.tensor(t, dtype=torch.float64)
clean = level(0.0)

# %% [markdown]
# ## The world: typical points and lookalikes (core, 5 minutes)
#
# Two classes, three clouds each. One cloud per class is *typical*: nothing of the other class is near. The other two
# are *lookalikes*: nearly on top of a cloud of the other class, as a shirt is near a T-shirt. Everything about this world
# is known in closed form, so every claim below has an oracle.
#
# **Predict.** A point lies in the centre of a lookalike cloud of class 0. How sure can anybody be that it is of class 0?

# %%
world = lookalikes()
exact = world.denoiser(schedule)
points, labels = world.sample(1500, seeded(0))
names = ["class 0", "class 1"]
title = "Each class: one cloud of its own, two lookalikes"
show.points(points, labels, limit=2.8, names=names, title=title)
# %%
sure = world.posterior_label(world.means, clean, schedule)[torch.arange(6), world.labels]
assert sure[0] > 0.99
assert 0.5 < sure[1] < 0.8
kinds = {"typical cloud": [sure[0]], "lookalike, above": [sure[1]], "lookalike, below": [sure[2]]}
show.table(kinds, ["centre of a cloud of class 0", "p(class 0 | x)"])

# %% [markdown]
# ## 1. The classifier that is already there (core, 10 minutes)
#
# Chapter 04 needed an extra network for $\nabla\log p(y|x_t)$. Bayes' rule gives it for free, at every noise level:
#
# $$\nabla\log p_t(x|y)-\nabla\log p_t(x)=\nabla\log p_t(y|x).$$
#
# **Predict.** The right-hand side is found by automatic differentiation of the exact classifier. By how much do the two sides
# differ? And which way do the arrows of the difference point, in a cloud of class 0 and in one of class 1?

# %%
at = show.lattice(2.2, 15)
differences = {}
for noise_level in (0.1, 0.3, 0.5, 0.9):
    at_x, at_t = at.clone().requires_grad_(), level(noise_level)
    gradient = torch.autograd.grad(world.log_prob_label(at_x, at_t, schedule, 0).sum(), at_x)[0]
    implied = world.score(at, at_t, schedule, 0) - world.score(at, at_t, schedule)
    wrong = world.score(at, level(noise_level + 0.05), schedule, 0) - world.score(at, at_t, schedule)  # control
    differences[f"t = {noise_level}"] = [f"{(v - gradient).abs().max():.0e}" for v in (implied, wrong)]
    assert float((implied - gradient).abs().max()) < 1e-9 < 1e-3 < float((wrong - gradient).abs().max())
show.table(differences, ["largest difference", "same noise level", "control: levels 0.05 apart"])

# %%
t = level(0.4)
vectors = {
    "conditional score, class 0 (blue)": lambda x: world.score(x, t, schedule, 0),
    "unconditional score": lambda x: world.score(x, t, schedule),
    "difference (arrows 3 times as long)": lambda x: world.score(x, t, schedule, 0) - world.score(x, t, schedule),
}
draw.fields(
    vectors, (130, 130, 43), points * 0.6, labels, "The branches differ by a push to the side of class 0 (t = 0.4)"
)
# %% [markdown]
# ## 2. The rule, in two spellings and any coordinates (core, 10 minutes)
#
# Start at the conditional branch and go $w$ times the difference further: $(1+w)\cdot\text{cond}-w\cdot\text{uncond}$. Other
# libraries start at the unconditional one: $\text{uncond}+s\,(\text{cond}-\text{uncond})$ with `guidance_scale` $s=1+w$.
#
# > **Two meanings of "strength".** Here $w=0$ is the plain conditional model. In most other libraries the number counts from
# > the unconditional one: their scale 1 is our $w=0$, their 7.5 is $w=6.5$ (scale 7.5). In chapter 04 the classifier's weight
# > counts from the unconditional model, too: it is $s$.
#
# **Predict.** Networks predict $\hat x_0$, $\varepsilon$, a velocity … Does it matter which of them you guide? And does it matter
# whether you clip $\hat x_0$ to the range of the data before guiding or after?

# %%
from minidiff.guidance import from_guidance_scale

x_t, strength = randn((500, 2), seeded(1), torch.float64), 3.0
cond, null = exact(x_t, t, y=0), exact(x_t, t)
guided = (1 + strength) * cond - strength * null  # the mechanism, in one line
assert torch.allclose(guided, null + (1 + strength) * (cond - null))  # their s = 4 is our w = 3
assert torch.allclose(guided, extrapolate(bind(exact, y=0), bind(exact), strength)(x_t, t))  # the library's
assert from_guidance_scale(7.5) == 6.5

# %%
(alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
eps_of = lambda x0: (x_t - alpha * x0) / sigma
coordinates = {
    "ε": eps_of,
    "score": lambda x0: (alpha * x0 - x_t) / sigma**2,
    "v": lambda x0: alpha * eps_of(x0) - sigma * x0,
    "velocity": lambda x0: d_alpha * x0 + d_sigma * eps_of(x0),
    "x̂0, clipped (control)": lambda x0: x0.clamp(-1, 1),
}
apart = {
    k: float((f(guided) - (1 + strength) * f(cond) + strength * f(null)).abs().max()) for k, f in coordinates.items()
}
assert max(list(apart.values())[:4]) < 1e-12
assert apart["x̂0, clipped (control)"] > 0.1
show.table({name: [f"{gap:.0e}"] for name, gap in apart.items()}, ["guide this, not x̂0", "largest difference"])

# %% [markdown]
# ## 3. One network, both branches: drop the condition (core, 15 minutes)
#
# During training the label is replaced by "no label" (here 2) with probability 0.15, for each point on its own. The same
# network then learns $E[x_0|x_t,y]$ and $E[x_0|x_t]$. Here is the whole of it: a network that listens to labels, and the loop.


# %%
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.denoiser import Denoiser
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised
from minidiff.training import step_generator


def new_network() -> Denoiser:
    """A table with a row for each label and one for "no label" (2), beside three layers of width 64."""
    build = lambda: Denoiser(Conditioned(Labels(2, 64), MLP(2, width=64)), schedule, VELOCITY)
    return initialised(build, seed=0).to(device)


# %%
def train_by_hand(network: Denoiser, steps: int, p: float = 0.15) -> Denoiser:
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(steps):
        g = step_generator(0, step)  # all randomness of this step
        x0, y = world.draw(256)(g).values()
        at_t, eps = torch.rand(256, generator=g), torch.randn(256, 2, generator=g)
        y = torch.where(torch.rand(256, generator=g) < p, 2, y)  # one coin for each point
        noisy = (1 - at_t[:, None]) * x0 + at_t[:, None] * eps
        velocity = network.net(noisy.to(device), at_t.to(device), y=y.to(device))
        loss = (velocity - (eps - x0).to(device)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


# %% [markdown]
# The library's `diffuse` draws noise and drops conditions, its `fit` is this loop (with an average of the weights, a limit for
# gradients and a course of the learning rate, all switched off here). **Predict.** After 20 steps, are the weights the same?

# %%
from minidiff.training import diffuse, fit

drop_15 = diffuse(world.draw(256), drop=0.15, null={"y": torch.tensor(2)})
plain_recipe = {"lr": 3e-3, "lr_at": lambda step, steps, peak: peak, "clip": float("inf"), "bar": False}
*_, after_20 = fit(new_network(), drop_15, 20, **plain_recipe)
weights_of = lambda network: torch.cat([v.detach().flatten() for v in network.parameters()])
mine, theirs = weights_of(train_by_hand(new_network(), 20)), weights_of(after_20.model)
other = weights_of(train_by_hand(new_network(), 20, p=0.0))
assert float((mine - theirs).abs().max()) < 1e-4 < 1e-2 < float((mine - other).abs().max())
gaps = {"your loop and fit": [f"{(mine - theirs).abs().max():.0e}"]}
gaps["with and without dropping (control)"] = [f"{(mine - other).abs().max():.0e}"]
show.table(gaps, ["weights after 20 steps", "largest difference"])

# %% [markdown]
# Now 900 steps, once with dropping and once without. **Predict.** The error of both branches against the exact ones: which of the
# four is out of line? (Relative $L_2$ norm of $\hat\varepsilon-\varepsilon^*$ over $0.02\le t\le0.98$.)

# %%
from copy import deepcopy


def train(drop: float) -> tuple[Denoiser, Denoiser]:
    """The averaged network after 900 steps, and (for section 8) what it was after 150."""
    noisy = diffuse(world.draw(256), drop=drop, null={"y": torch.tensor(2)})
    for progress in fit(new_network(), noisy, steps=900, lr=3e-3, ema_decay=0.99, bar=False):
        if progress.step == 150:
            early = deepcopy(progress.ema)
    return progress.ema, early


(model, weak_model), (never_dropped, _) = train(0.15), train(0.0)


# %%
@torch.no_grad()
def error(network: Denoiser, with_label: bool) -> float:
    g = seeded(5)
    x0, y = world.sample(4000, g)
    at_t = 0.02 + 0.96 * torch.rand(4000, generator=g, dtype=torch.float64)
    noisy = schedule.add_noise(x0, randn(x0.shape, g, torch.float64), at_t)
    seen = y if with_label else torch.full_like(y, 2)
    learned = network(noisy.float().to(device), at_t.float().to(device), y=seen.to(device)).cpu().double()
    true = exact(noisy, at_t, y=y if with_label else None)
    eps, eps_true = ((noisy - (1 - at_t[:, None]) * x) / at_t[:, None] for x in (learned, true))
    return float((eps - eps_true).norm() / eps_true.norm())


# %%
errors = {
    "drop 15 %: cond branch": error(model, True), "drop 15 %: null branch": error(model, False),
    "never drop: cond branch": error(never_dropped, True), "never drop: null branch": error(never_dropped, False),
}  # fmt: skip
assert errors["drop 15 %: cond branch"] < 0.11
assert errors["drop 15 %: null branch"] < 0.15
assert errors["never drop: null branch"] > 0.25
title = "Without dropping, the null branch is far off; the other is not"
draw.bars(errors, "relative error of ε against the exact branch", title)

# %% [markdown]
# ## 4. The sampler (core, 5 minutes; the clock: extra)
#
# Guidance does not change the sampler: at each step it hands it another $\hat x_0$. Written out for the simplest sampler, with an
# interval of $t$ outside which the plain conditional branch steps:


# %%
from itertools import pairwise


@torch.no_grad()
def guided_walk(network, y: Tensor, w: float, x: Tensor, steps: int = 25, low: float = 0.0, high: float = 1.0):
    grid, nothing = times.linear(steps), torch.full_like(y, 2)
    for at_t, s in pairwise(grid):
        x0 = network(x, at_t, y=y)
        if low <= at_t <= high:
            x0 = x0 + w * (x0 - network(x, at_t, y=nothing))  # guidance
        eps = (x - (1 - at_t) * x0) / at_t
        x = (1 - s) * x0 + s * eps  # Euler's step; it does not know that it is guided
    return x


# %% [markdown]
# The library's `cfg` asks for both branches in one call, on a batch twice as long. **Predict.** Are the points the same? Is it
# faster for 16 points? For 1024? (That depends on your machine: where a call has a fixed cost one call is faster, where
# arithmetic dominates it is not.)

# %%
from minidiff.guidance import cfg
from minidiff.samplers import euler

y_64, none, noise_64 = (
    (torch.arange(64) % 2).to(device),
    {"y": torch.tensor(2, device=device)},
    randn((64, 2), seeded(2)),
)
together = cfg(model, {"y": y_64}, none, 3.0)
*_, theirs_64 = sample(together, noise_64.to(device), times.linear(25), euler(schedule))
mine_64 = guided_walk(model, y_64, 3.0, noise_64.to(device))
late_64 = guided_walk(model, y_64, 3.0, noise_64.to(device), high=0.3)  # control: another interval, other points
assert float((mine_64 - theirs_64).abs().max()) < 1e-3 < 0.1 < float((late_64 - theirs_64).abs().max())


# %%
def milliseconds(denoise, n: int, repeats: int = 15) -> float:
    from time import perf_counter

    x, taken = randn((n, 2), seeded(2)).to(device), []
    for _ in range(repeats):
        began = perf_counter()
        denoise(x, torch.tensor(0.5))
        taken.append(perf_counter() - began)
    return 1000 * sorted(taken)[repeats // 2]


one_label = {"y": torch.tensor(0, device=device)}
apart_calls = extrapolate(bind(model, **one_label), bind(model, **none), 3.0)
clock = {n: [milliseconds(d, n) for d in (apart_calls, cfg(model, one_label, none, 3.0))] for n in (16, 1024)}
show.table({f"{n} points": took for n, took in clock.items()}, ["milliseconds", "two calls", "one call"])

# %% [markdown]
# ## 5. The effect of $w$, on exact ground truth (core, 20 minutes)
#
# Now the sweep, with the exact denoiser: 1,000 points of each class, the same noise for every $w$. Four numbers:
# *accuracy*, the share whose exact $p(y|x)$ favours the wanted class; *diversity*, the root-mean-square distance between two
# samples of a class; *recall*, the share of fresh data points that lie near some sample; and the share *outside*, where the
# data's density is below that of 99 % of the data.
#
# **Predict** the direction of all four for $w$ from −1 to 15, and from which $w$ on each of them no longer moves.

# %%
strengths = (-1.0, 0.0, 1.0, 3.0, 7.0, 15.0)
y = torch.arange(2).repeat_interleave(1000)
noise = randn((2000, 2), seeded(0), torch.float64)


def generate(denoise, noise: Tensor = noise, steps: int = 25) -> Tensor:
    *_, x = sample(denoise, noise, times.linear(steps), heun(schedule))
    return x.cpu().double()


# %%
from minidiff.judges.coverage import diversity, recall

fresh = [world.of_class(c).sample(1000, seeded(100 + c))[0] for c in (0, 1)]
many = [world.of_class(c).sample(20_000, seeded(7))[0] for c in (0, 1)]
rare = [world.log_prob(x, clean, schedule, c).quantile(0.01) for c, x in enumerate(many)]
far = lambda x: float((x[:, 1].abs() > 0.75).double().mean())  # the share in lookalike clouds


def facts(x: Tensor) -> list[float]:
    """Accuracy, diversity, recall, outside."""
    accuracy = (world.posterior_label(x, clean, schedule).argmax(1) == y).double().mean()
    by_class = [(c, x[y == c]) for c in (0, 1)]
    low = [(world.log_prob(part, clean, schedule, c) < rare[c]).double().mean() for c, part in by_class]
    reached = [recall(fresh[c], part) for c, part in by_class]
    return [float(accuracy), diversity(x, y), sum(reached) / 2, float(sum(low)) / 2]


# %%
conditional, unconditional = bind(exact, y=y), bind(exact)
sweep = {w: generate(extrapolate(conditional, unconditional, w)) for w in strengths}
measured = {w: facts(x) for w, x in sweep.items()}
assert float((sweep[-1.0] - generate(unconditional)).abs().max()) < 1e-9  # w = −1 is the null branch
shown = {f"w = {w:g}: accuracy {measured[w][0]:.2f}": x for w, x in sweep.items()}
title = "The lookalike clouds empty, the typical ones shrink and move out (colour: class asked for)"
draw.clouds(shown, y, title)
# %%
from scipy.stats import spearmanr

columns = ["accuracy", "diversity", "recall", "outside"]
curves = {name: [[measured[w][k] for w in strengths]] for k, name in enumerate(columns)}
rho = {name: float(spearmanr(strengths, values).statistic) for name, (values,) in curves.items()}
assert rho["accuracy"] >= 0.9
assert max(rho["diversity"], rho["recall"]) <= -0.9
draw.against_w(curves, strengths, "Most of the accuracy is bought by w = 1; diversity and recall go on falling")
# %%
swept = {f"w = {w:g}": [*measured[w], far(sweep[w])] for w in strengths}
swept["rank correlation with w"] = [f"{rho[name]:+.2f}" for name in columns] + [""]
show.table(swept, ["exact denoiser", *columns, "in lookalike clouds"])

# %% [markdown]
# **Two controls.** *Condition shuffled*: guide each point towards a random label and judge it against the list. *Another world*:
# a ring of six clouds without lookalikes. **Predict.** Does diversity fall in every world?

# %%
from minidiff.data.mixtures import ring

shuffled = y[torch.randperm(2000, generator=seeded(3))]
by_chance = facts(generate(extrapolate(bind(exact, y=shuffled), unconditional, 3.0)))[0]
assert abs(by_chance - 0.5) < 0.05
circle = ring(n=6, std=0.3, n_classes=3)
on_ring, ring_data = circle.denoiser(schedule), circle.of_class(0).sample(1000, seeded(1))[0]
rings = {w: generate(extrapolate(bind(on_ring, y=0), bind(on_ring), w), noise[:1000]) for w in (0.0, 3.0, 7.0)}
ring_facts = {w: [diversity(x, torch.zeros(1000, dtype=torch.int64)), recall(ring_data, x)] for w, x in rings.items()}
assert ring_facts[0.0][0] < ring_facts[3.0][0] < ring_facts[7.0][0]  # it rises
assert ring_facts[0.0][1] > ring_facts[3.0][1] > ring_facts[7.0][1]
show.table({f"w = {w:g}": values for w, values in ring_facts.items()}, ["ring", "diversity", "recall"])

# %% [markdown]
# On the ring every cloud lies outside the centre, and guidance pushes all of them outwards: the distances *grow*. "Guidance
# lowers diversity" is a statement about data with lookalikes.
#
# **The trained network.** An error $e$ of either branch reaches the sample multiplied by up to $1+2w$. **Predict.** At which
# $w$ does the learned model part from the exact one, and in which of the four numbers?

# %%
noise_32 = noise.float().to(device)
paired = {}
for w in (0.0, 1.0, 3.0, 15.0):
    learned = facts(generate(cfg(model, {"y": y.to(device)}, none, w), noise_32))
    paired[f"w = {w:g}, learned"], paired[f"w = {w:g}, exact"] = learned, measured[w]
assert abs(paired["w = 1, learned"][0] - measured[1.0][0]) < 0.04
assert paired["w = 15, learned"][3] > measured[15.0][3] + 0.1
show.table(paired, ["", *columns])

# %% [markdown]
# Your turn: move $w$, and the interval of $t$ in which guidance is on (section 8 says why one would want that).


# %%
def picture(w: float, low: float, high: float) -> plt.Figure:
    from minidiff.guidance import within

    few = y[::7]
    plain = bind(exact, y=few)
    x = generate(within(extrapolate(plain, unconditional, w), plain, min(low, high), max(low, high)), noise[::7], 20)
    right = float((world.posterior_label(x, clean, schedule).argmax(1) == few).double().mean())
    figure, (ax,) = show.panels(1, 1, size=(4.2, 4.0))
    title = f"w = {w:g} for {low:g} ≤ t ≤ {high:g}\naccuracy {right:.2f}, in lookalike clouds {far(x):.2f}"
    show.points(x, few, ax=ax, limit=2.8, size=10, title=title)
    return figure


# %%
explorer = show.explore(
    picture,
    static=[{"w": 0.0}, {"w": 3.0}, {"w": 3.0, "high": 0.3}],
    w=show.Slider(-1.0, 15.0, 0.5, start=3.0),
    low=show.Slider(0.0, 1.0, 0.1, start=0.0),
    high=show.Slider(0.0, 1.0, 0.1, start=1.0),
)

# %% [markdown]
# ## 6. The effect of $w$ on real pictures (core, 10 minutes)
#
# The class-conditional U-Net of chapter 02, trained on the 60,000 pictures of Fashion-MNIST with 15 % of the labels dropped
# (`minidiff train fashion-denoiser`). Columns are the ten classes, rows are $w$; the noise of a column is the same in every row,
# and nothing is selected: these are the first seeds. An independent judge names each picture.
#
# **Predict.** What does the row $w=-1$ look like, and what is wrong with the row $w=15$, though the judge will like it?

# %%
from minidiff.systems import fashion

denoiser, judge = fashion.DENOISER.load().to(device), fashion.JUDGE.load().to(device)
wanted = torch.arange(10)
rows = {w: fashion.pictures(range(10), w, per_class=1, steps=15, model=denoiser).cpu() for w in strengths}
title = "From ignoring the label (top) to harsh black and white (bottom)"
draw.clothes(torch.cat(list(rows.values())), strengths, fashion.FASHION_NAMES, title)
# %%
verdicts = {w: judge.predict(x.to(device)).cpu() for w, x in rows.items()}
beyond = {w: float((x.abs() > 1.05).double().mean()) for w, x in rows.items()}
right = {w: int((named == wanted).sum()) for w, named in verdicts.items()}
shifted = {w: int((named == wanted.roll(1)).sum()) for w, named in verdicts.items()}  # control: the next class's label
assert right[3.0] >= right[-1.0] + 4 > shifted[3.0]
assert beyond[15.0] > beyond[0.0] + 0.02
heading = ["", "judged right, of 10", "control: as the next class", "pixels beyond ±1.05"]
show.table({f"w = {w:g}": [right[w], shifted[w], f"{beyond[w]:.1%}"] for w in strengths}, heading)

# %% [markdown]
# Ten pictures are enough to see, not to measure. The recorded run (`python benchmarks/fashion_cfg.py`) has three seeds of 500
# pictures for every $w$, and compares them with real test pictures.
#
# **Predict.** From $w=-1$ to $w=0$, does recall rise or fall? And from there on?

# %%
import json
from pathlib import Path

from minidiff.course.build import find_root

path_to_run = find_root(Path.cwd()) / "benchmarks" / "results" / "fashion_cfg.json"
run = json.loads(path_to_run.read_text(encoding="utf-8"))
whole = [row for row in run["rows"] if (row["low"], row["high"]) == (0.0, 1.0)]
keys = {"accuracy": "accuracy", "diversity": "diversity", "recall": "recall", "out_of_range": "pixels beyond ±1.05"}
told = {name: [[row[key] for row in whole if row["seed"] == s] for s in range(3)] for key, name in keys.items()}

# %%
real = {name: run["real"][key] for key, name in keys.items()}
title = """From w = 0 on every step costs diversity and recall; from w = 3 on there is no accuracy left to buy
(500 pictures a point; a colour for each of three seeds; dotted: real test pictures)"""
draw.against_w(told, strengths, title, real)

# %%
for s in range(3):  # the title, number by number
    accuracies, diversities, recalls, _ = (values[s] for values in told.values())
    assert accuracies[0] < 0.15 < 0.85 < accuracies[1] < accuracies[2] < accuracies[3]
    assert min(accuracies[3:]) >= 0.995
    assert diversities[1:] == sorted(diversities[1:], reverse=True)
    assert recalls[1:] == sorted(recalls[1:], reverse=True)
    assert recalls[0] < recalls[1]  # up to w = 0 it rises
ranks = run["rank_correlation_with_w"]["w >= 0"]
listed = ["accuracy", "diversity", "recall", "saturation", "out_of_range"]
show.table({k.replace("_", " "): ranks[k] for k in listed}, ["rank correlation with w ≥ 0", "seed 0", "1", "2"])

# %% [markdown]
# ## 7. What guidance does *not* sample (extra, 15 minutes)
#
# At every noise level the guided score is that of the tilted density $p_t(x|y)^{1+w}\,p_t(x)^{-w}$. Does guidance therefore
# sample $p(x|y)^{1+w}p(x)^{-w}$? The simplest case decides: $p(x|y)=N(0,1)$, $p(x)=N(0,2)$, $\gamma=1+w$. The lecture derives
#
# $$\text{ODE: } 2^{1-\gamma},\qquad \text{SDE: } \frac{2-2^{2-2\gamma}}{2\gamma-1},\qquad \text{tilted: } \frac{2}{\gamma+1}.$$
#
# **Predict.** Of a deterministic and a stochastic sampler, which ends narrower? Is either as wide as the tilted density?

# %%
from minidiff.samplers import ddpm
from minidiff.schedules import Karras

path = Karras(sigma_min=0.01, sigma_max=20.0)


def variance(gamma: float, step, steps: int) -> float:
    """Mean over three seeds of the variance of 20,000 guided points."""
    good, bad = ((lambda x, t, v=v: v / (v + path(t)[1] ** 2) * x) for v in (1.0, 2.0))  # E[x0|x_t] of N(0, v)
    found = []
    for g in map(seeded, range(3)):
        start = 20.0 * randn((20_000, 1), g, torch.float64)
        *_, x = sample(extrapolate(good, bad, gamma - 1), start, times.linear(steps), step, g)
        found.append(float(x.var()))
    return sum(found) / 3


# %%
gammas = (1.0, 2.0, 3.0, 4.0)
ode = {gamma: variance(gamma, heun(path), 60) for gamma in gammas}
sde = {gamma: variance(gamma, ddpm(path, "large"), 400) for gamma in gammas}
derived = {
    "ODE": lambda g: 2 ** (1 - g), "SDE": lambda g: (2 - 2 ** (2 - 2 * g)) / (2 * g - 1),
    "tilted density": lambda g: 2 / (g + 1),
}  # fmt: skip
gamma_line = torch.linspace(1, 4.2, 100)
lines = {name: formula(gamma_line) for name, formula in derived.items()}
draw.variances(gamma_line, lines, {"ODE": ode, "SDE": sde}, "Neither sampler follows the tilted density")
# %%
compared = {}
for g in gammas:
    ode_theory, sde_theory, tilted_theory = (formula(g) for formula in derived.values())
    compared[f"γ = {g:g} (w = {g - 1:g})"] = [ode_theory, ode[g], sde_theory, sde[g], tilted_theory]
    assert abs(ode[g] / ode_theory - 1) < 0.03
    assert abs(sde[g] / sde_theory - 1) < 0.03
    assert g == 1 or sde[g] < 0.95 * tilted_theory  # control: not the tilted density
show.table(compared, ["variance", "ODE, derived", "ODE", "SDE, derived", "SDE", "tilted density"])

# %% [markdown]
# Means move as well. In one dimension, two classes at $\pm1$ with standard deviation 0.5. If both densities were single Gaussians
# of equal width, with means 1 and 0, the guided mean would be exactly $1+w$ (lecture, section 6: what guidance does not sample).
# **Predict.** Is the guided mean of the mixture larger or smaller than $1+w$, and larger or smaller than that of the tilted
# density?

# %%
from minidiff.data.mixtures import isotropic

pair = isotropic(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.5)
one, both = bind(pair.denoiser(schedule), y=1), bind(pair.denoiser(schedule))
line = torch.linspace(-1, 4, 1001, dtype=torch.float64)[:, None]
log_p, log_y = pair.log_prob(line, clean, schedule, 1), pair.log_prob_label(line, clean, schedule, 1)
share = {w: (log_p + w * log_y).softmax(0) for w in (0.0, 3.0, 15.0)}  # sums to 1 over the grid
hits = {w: generate(extrapolate(one, both, w), randn((4000, 1), seeded(0), torch.float64), 50) for w in share}
means = {w: [float(hits[w].mean()), float(share[w] @ line[:, 0])] for w in share}
assert means[0.0][0] < 1.05 < means[3.0][0] < means[15.0][0]
assert means[15.0][0] > means[15.0][1] + 0.1
show.table({f"w = {w:g}": [*m, 1 + w] for w, m in means.items()}, ["mean", "guided", "tilted density", "1 + w"])

# %%
densities = {w: weight / 0.005 for w, weight in share.items()}  # 0.005: the spacing of the grid
title = "Guided samples overshoot the mode at 1, and the tilted density as well"
draw.overshoot(line[:, 0], log_p.exp(), hits, densities, title)
# %% [markdown]
# ## 8. The same line of code, three more names (extra, 20 minutes)
#
# **Negative prompt.** `bad` is not "no label" but the label to keep away from. Here nothing is asked for (`good` is the
# unconditional branch) except *not class 2*, on a ring of three classes. **Predict** the shares of the three classes.

# %%
avoided = {}
for w in (0.0, 1.0, 3.0):
    x = generate(extrapolate(bind(on_ring), bind(on_ring, y=2), w), noise)
    avoided[w] = circle.posterior_label(x, clean, schedule).argmax(1).bincount(minlength=3) / len(x)
assert float(avoided[3.0][2]) < 0.02
assert float(avoided[3.0][:2].min()) > 0.4
show.table({f"w = {w:g}": list(found) for w, found in avoided.items()}, ["share of", "class 0", "class 1", "class 2"])

# %% [markdown]
# **Guidance interval** (arXiv 2404.07724). At large $t$ a sample decides which cloud to go to; guidance there empties the
# lookalikes. At small $t$ it only decides where in the cloud. We compare $w=1$ everywhere with $w=3$ for $t\le0.3$.
# **Predict** the share in lookalike clouds (data: 0.67) of both.

# %%
from minidiff.guidance import within

plain, guided_3 = bind(exact, y=y), extrapolate(bind(exact, y=y), unconditional, 3.0)
settings = {
    "w = 0": plain,
    "w = 1 everywhere": extrapolate(plain, unconditional, 1.0),
    "w = 3 for t ≤ 0.3": within(guided_3, plain, 0.0, 0.3),
    "w = 3 for t ≥ 0.3 (control)": within(guided_3, plain, 0.3, 1.0),
    "w = 3 everywhere": guided_3,
}
kept = {name: generate(denoise) for name, denoise in settings.items()}
assert far(kept["w = 3 for t ≤ 0.3"]) > far(kept["w = 1 everywhere"]) + 0.1
assert far(kept["w = 3 for t ≥ 0.3 (control)"]) < far(kept["w = 3 for t ≤ 0.3"]) - 0.2
show.table({name: [*facts(x), far(x)] for name, x in kept.items()}, ["", *columns, "in lookalike clouds"])

# %% [markdown]
# **Autoguidance** (arXiv 2406.02507). `bad` is a *worse version of the same model with the same condition*: here our network
# after 150 of its 900 steps. The difference then points not towards "more like $y$" but towards "what more training taught".
# **Predict.** An exact sampler has 1 % of its points outside the data. Which of the four rows below comes nearest, and
# which loses diversity?

# %%
good, weak = (bind(network, y=y.to(device)) for network in (model, weak_model))
ways = {
    "learned model, w = 0": good,
    "autoguidance, w = 1": extrapolate(good, weak, 1.0),
    "autoguidance, w = 3": extrapolate(good, weak, 3.0),
    "CFG, w = 1": cfg(model, {"y": y.to(device)}, none, 1.0),
}
auto = {name: facts(generate(denoise, noise_32)) for name, denoise in ways.items()}
assert auto["autoguidance, w = 1"][3] < auto["learned model, w = 0"][3]
assert abs(auto["autoguidance, w = 1"][1] / auto["learned model, w = 0"][1] - 1) < 0.05
assert auto["CFG, w = 1"][1] < 0.95 * auto["learned model, w = 0"][1]
show.table(auto, ["", *columns])

# %% [markdown]
# Too much of it ($w=3$) costs recall as well: the points crowd in the middle of each cloud. Nothing in this section needed new
# code: `extrapolate` with another `bad`, or `within` around it.
#
# **What to try next**
#
# - Train with `train(0.5)`, then with `train(0.02)`. Which branch suffers, and which do you see in guided samples?
# - Give every point its own $w$ (a tensor of shape (B,)): `extrapolate` takes it as it is.
# - Replace `heun` by `ddpm` in section 5. Is the diversity at $w=3$ larger or smaller? The variances of section 7 predict it.
# - Find a world in which an interval at *large* $t$ would be the better one.
#
# Now the [exercises](../exercises/05_classifier_free_guidance.ipynb). Next: part II, from labels to text,
# begins with [chapter 06](06_clip_retrieval.ipynb).
