# %% [markdown]
# # Start here: conditional generation with diffusion models
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded.
#
# A diffusion model turns noise into a sample. On its own it gives you *some* sample: some digit, some shoe,
# some picture. This course is about the word **conditional**: how to make it give you the sample you *asked*
# for, from the one line of algebra that everything rests on (Bayes' rule) to text, video and sound.
#
# One line of thought runs through every chapter, every file of the library, and this page:
#
# **data → condition → model → guidance → sampler → picture → judge**
#
# This page gives you a taste of that line in about 20 seconds, checks your machine, and shows the map.
#
# New to JupyterLab? Click a cell and press **Shift + Enter** to run it and move on. The menu *Run → Run All
# Cells* runs the whole page.

# %% [markdown]
# ## A taste: ask for a class, and choose how hard you insist
#
# **Data.** Our first world is small enough to know everything about it: points in the plane, in eight
# overlapping clouds on a circle. Every second cloud belongs to class 0, the others to class 1. Because each
# cloud is a Gaussian, the *best possible* denoiser can be written down. So what you see below is guidance
# itself, not the flaws of a trained network.

# %%
import matplotlib.pyplot as plt
import torch

from minidiff import show, times
from minidiff.data.mixtures import ring
from minidiff.guidance import bind, extrapolate
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m, sample
from minidiff.schedules import Linear

# %% [markdown]
# **Condition, model, guidance, sampler**, a line each:
#
# - the *model* is the exact denoiser $\hat x_0(x_t, t)$: its best guess of the clean point behind a noisy point
#   $x_t$ at noise level $t$ (from $t=1$, pure noise, to $t=0$, data);
# - the *condition* is bound to it: `bind(model, y=0)` is the guess if you know that the class is 0,
#   `bind(model)` the guess if you do not know the class;
# - *guidance* goes beyond the first, away from the second: $\hat x_0(y) + w\,(\hat x_0(y) - \hat x_0)$. The
#   number $w$ is how hard you insist: $w=-1$ does not ask at all, $w=0$ just asks, $w>0$ exaggerates;
# - the *sampler* walks from noise to data in 20 steps.

# %%
world, schedule = ring(std=0.4), Linear()
model = world.denoiser(schedule)
noise = randn((500, 2), seeded(0), dtype=torch.float64)


def guided_points(w: float) -> torch.Tensor:
    guided = extrapolate(bind(model, y=0), bind(model), w)
    *_, x = sample(guided, noise, times.linear(20), dpmpp_2m(schedule))
    return x  # (500, 2)


def looks_like(x: torch.Tensor) -> torch.Tensor:
    """The judge: for each point the class that the exact p(y|x) finds more likely."""
    return world.posterior_label(x, torch.tensor(0.0), schedule).argmax(1)  # (500,)


# %% [markdown]
# **Picture and judge.** Before you run the next cell, guess: with $w=0$ you asked for class 0. Do all points
# come out in its clouds? And what happens to the *spread* of the points when $w$ grows?


# %%
def clouds(w: float, ax: plt.Axes) -> None:
    x = guided_points(w)
    y = looks_like(x)
    show.density(lambda at: world.log_prob(at, torch.tensor(0.0), schedule), limit=3.0, ax=ax, cmap="Greys", alpha=0.4)
    title = f"w = {w:g}: {(y == 0).double().mean():.0%} look like class 0"
    show.points(x, y, ax=ax, limit=3.0, title=title, size=8, alpha=0.8)


figure, axes = show.panels(1, 3, size=(3.3, 3.3))
for ax, w in zip(axes, (-1.0, 0.0, 3.0)):
    clouds(w, ax)
figure.suptitle("Asking picks the clouds of class 0 (blue); insisting squeezes them and pushes them outwards")
plt.show()

# %% [markdown]
# Shades of grey show where the data are; blue points look more like class 0, orange ones more like class 1.
# With $w=-1$ about half are blue: nobody asked. With $w=0$ the points follow class 0 *as it is*, overlaps
# included, so some still look like class 1. With $w=3$ none does. But look what it cost: the round clouds have
# become thin lines that reach outwards, to where class 1 is even less likely, and so are the data. **More of
# what you asked for, less of the variety**: that trade is the theme of chapter 05, which also derives why the
# points do not land where the usual formula says.
#
# Now you: move the slider.


# %%
def one_panel(w: float) -> plt.Figure:
    figure, (ax,) = show.panels(1, 1, size=(4.4, 4.4))
    clouds(w, ax)
    return figure


explorer = show.explore(one_panel, w=show.Slider(-1.0, 7.0, 0.5, start=0.0))

# %% [markdown]
# The claim as numbers, checked. Every step of the course ends like this, so that what you read is what your
# machine measured. "Width" is how far the points lie, on average, to the side of the line from the origin
# through their cloud's centre.


# %%
def width(x: torch.Tensor) -> float:
    rays = torch.nn.functional.normalize(world.of_class(0).means, dim=1)  # (4, 2)
    along = (x @ rays.T).max(dim=1).values  # the point's progress along the nearest of the four rays
    return float((x.square().sum(1) - along.square()).clamp(min=0).sqrt().mean())


asked, insisted = guided_points(0.0), guided_points(3.0)
shares = [float((looks_like(x) == 0).double().mean()) for x in (guided_points(-1.0), asked, insisted)]
print("share that looks like class 0, at w = -1, 0, 3:", *(f"{s:.2f}" for s in shares))
print(f"width of the clouds: {width(asked):.2f} at w = 0, {width(insisted):.2f} at w = 3")
assert abs(shares[0] - 0.5) < 0.1
assert shares[2] > 0.98 > shares[1]
assert width(insisted) < width(asked) / 2

# %% [markdown]
# ## The same line with pictures
#
# Now the data are real: Fashion-MNIST, small grey pictures of ten kinds of clothes. Nobody can write down *their* best
# denoiser, so the *model* is a network (1.1 million numbers, trained on the 60,000 pictures by `minidiff train
# fashion-denoiser` and shipped with the course). The *judge* is another network, trained apart: it never guides, it only
# names what it sees. Condition, guidance and sampler are the very functions from above.
#
# Each column starts from the same noise. Which row will look most like a catalogue?

# %%
from minidiff.systems import fashion

garments, judge = fashion.DENOISER.load(), fashion.JUDGE.load()
strengths, labels = (-1.0, 0.0, 3.0), range(10)
sheets = {w: fashion.pictures(labels, w, per_class=1, model=garments) for w in strengths}

right = {w: int((judge.predict(sheet) == torch.arange(10)).sum()) for w, sheet in sheets.items()}
print("pictures of 10 that the judge names as what we asked for:", {f"w = {w:g}": n for w, n in right.items()})
assert right[-1.0] <= 4 < 6 <= right[0.0] <= right[3.0]

rows = [f"w = {w:g}" for w in strengths]
show.grid(torch.cat(list(sheets.values())), rows=rows, scale=0.85)
plt.xticks([(i + 0.5) * 30 for i in labels], fashion.FASHION_NAMES, rotation=30)
plt.title("The same noise, asked for ten garments: not at all, plainly, firmly")
plt.show()

# %% [markdown]
# Ask for a garment of your own. Every picture keeps its noise when you move $w$, so you see what insisting does to it.


# %%
def wardrobe(garment: str, w: float) -> plt.Figure:
    pictures = fashion.pictures([fashion.label(garment)], w, per_class=10, model=garments)
    right = int((judge.predict(pictures) == fashion.label(garment)).sum())
    title = f"{garment}, w = {w:g}: the judge agrees on {right} of 10"
    return show.grid(pictures, title=title, scale=0.85).figure


names = ["ankle boot", *fashion.FASHION_NAMES[:-1]]
wishes = show.explore(wardrobe, garment=names, w=show.Slider(-1.0, 7.0, 0.5, start=1.0))

# %% [markdown]
# ## Is this machine ready?
#
# The next cell looks at what the course will run on. *ok* means enough. *look* comes with what to do about it.

# %%
from minidiff.course import health

health.examine()

# %% [markdown]
# ## How a chapter works
#
# Every chapter has one number, one name, and three parts. Read the **lecture** first (the question, the
# derivation, every step of the algebra), then run the **notebook** (the same story in code, in small steps,
# with a slider to play with), then do the **exercises**. In an exercise you write one small function, and
#
# ```python
# check("01-posterior-score", posterior_score)
# ```
#
# compares it with the exact answer. If it is wrong, it tells you *which* mistake it recognises.
# `hint("01-posterior-score")` helps in three steps. A wrong answer never stops the page: it goes on with the
# library's version and says so.
#
# ## The map
#
# | | chapter | read | run | do |
# |---|---|---|---|---|
# | **I** | **Control the score** | | | |
# | 01 | Bayes' rule for scores | [lecture](../lectures/01_bayes_rule.md) | [notebook](01_bayes_rule.ipynb) | [exercises](../exercises/01_bayes_rule.ipynb) |
# | 02 | Training a conditional model | [lecture](../lectures/02_conditional_training.md) | [notebook](02_conditional_training.ipynb) | [exercises](../exercises/02_conditional_training.ipynb) |
# | 03 | Plug in a forward model: inverse problems, strokes, a captioner | [lecture](../lectures/03_forward_models.md) | [notebook](03_forward_models.ipynb) | [exercises](../exercises/03_forward_models.ipynb) |
# | 04 | Classifier guidance | [lecture](../lectures/04_classifier_guidance.md) | [notebook](04_classifier_guidance.ipynb) | [exercises](../exercises/04_classifier_guidance.ipynb) |
# | 05 | Classifier-free guidance and the effect of w | [lecture](../lectures/05_classifier_free_guidance.md) | [notebook](05_classifier_free_guidance.ipynb) | [exercises](../exercises/05_classifier_free_guidance.ipynb) |
# | **II** | **Text to image** | | | |
# | 06 | CLIP and retrieval | [lecture](../lectures/06_clip_retrieval.md) | [notebook](06_clip_retrieval.ipynb) | [exercises](../exercises/06_clip_retrieval.ipynb) |
# | 07 | From text to pixels: the framework, cross-attention, Imagen, cascades | [lecture](../lectures/07_text_to_pixels.md) | [notebook](07_text_to_pixels.ipynb) | [exercises](../exercises/07_text_to_pixels.ipynb) |
# | 08 | DALL-E 1 and 2 | [lecture](../lectures/08_dalle.md) | [notebook](08_dalle.ipynb) | [exercises](../exercises/08_dalle.ipynb) |
# | 09 | Latent diffusion and Stable Diffusion | [lecture](../lectures/09_latent_diffusion.md) | [notebook](09_latent_diffusion.ipynb) | [exercises](../exercises/09_latent_diffusion.ipynb) |
# | 10 | SDXL | [lecture](../lectures/10_sdxl.md) | [notebook](10_sdxl.ipynb) | [exercises](../exercises/10_sdxl.ipynb) |
# | 11 | DiT | [lecture](../lectures/11_dit.md) | [notebook](11_dit.ipynb) | [exercises](../exercises/11_dit.ipynb) |
# | 12 | What CLIP cannot tell apart, and better text encoders | [lecture](../lectures/12_text_encoders.md) | [notebook](12_text_encoders.ipynb) | [exercises](../exercises/12_text_encoders.ipynb) |
# | 13 | How text enters: cross-attention, double stream, single stream | [lecture](../lectures/13_how_text_enters.md) | [notebook](13_how_text_enters.ipynb) | [exercises](../exercises/13_how_text_enters.ipynb) |
# | 14 | One transformer for both: Transfusion, Hunyuan, the GPT-4o guess | [lecture](../lectures/14_one_transformer.md) | [notebook](14_one_transformer.ipynb) | [exercises](../exercises/14_one_transformer.ipynb) |
# | 15 | The design space: 72 cells, a leaderboard, corners at equal work | [lecture](../lectures/15_design_space.md) | [notebook](15_design_space.ipynb) | [exercises](../exercises/15_design_space.ipynb) |
# | **III** | **Video** | | | |
# | 16 | From images to video: Sora patches, Imagen Video, Make-A-Video |  | |  |
# | 17 | Tune-A-Video and inversion |  | |  |
# | 18 | Temporal fine-tuning (Video LDM) |  | |  |
# | 19 | Genie: a playable world |  | |  |
# | 20 | Movie Gen |  | |  |
# | 21 | Wan and VACE: one model to a workflow |  | |  |
# | **IV** | **Sound and picture** | | | |
# | 22 | LTX: audio-video cross-attention |  | |  |
# | 23 | Omni models: Sora 2, Veo 3.1, Seedance |  | |  |
#
# Chapters without links are planned. Ready? Open [chapter 01](01_bayes_rule.ipynb).
