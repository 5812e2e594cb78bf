# %% [markdown]
# # 09 Latent diffusion and Stable Diffusion
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Two small systems are trained live for a moment; six models are shipped.
#
# You type "an astronaut riding a horse" and get 64×64 pixels. Yet the network that reads your sentence never sees a pixel: it writes 1,024 numbers, and a second network, which
# never read a word, paints them out. This chapter takes that apart, from the bits of a picture to Stable Diffusion.
#
# **What you will learn.** Why pixels are the wrong place to think; an autoencoder's loss and why its latents are scaled; the same two stages for *sentences*; codebooks and their
# collapse; Stable Diffusion 1 and 2 part by part; ε against v; negative prompts, img2img and inpainting.
#
# **Parts.** *Core*: sections 1 to 6, 8 to 10, about 115 minutes. *Extra*: sections 7 and 11, about 25 minutes.
#
# **Before.** Chapters 05 (guidance) and 07 (cross-attention). **Read along:** [lecture](../lectures/09_latent_diffusion.md) (the derivations). **Then do:**
# [exercises](../exercises/09_latent_diffusion.ipynb).

# %%
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE, Prompt, place
from minidiff.data.scenes import render
from minidiff.guidance import bind, cfg
from minidiff.judges.scenes import parse, same
from minidiff.judges.scorecard import matches
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddpm, sample

# %%
from minidiff.show.figures import latent_diffusion as draw
from minidiff.show.figures.text_to_pixels import previews, same_noise
from minidiff.systems import latent
from minidiff.training import pick_device

device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks; the two short trainings say so
codec, model = latent.AUTOENCODER.load().to(device), latent.LATENT.load().to(device)
generate = latent.pictures_of(model, codec, steps=25)

# %% [markdown]
# **The lecture's own prompts**, the first four seeds of each. In training no astronaut was ever with a horse, no plant with a lightbulb, no cat alone in the snow.

# %%
asked_0 = ["an astronaut riding a horse", "a cat in the snow", "plants surrounding a lightbulb"]
first_0 = generate([text for text in asked_0 for _ in range(4)], 1.0, list(range(4)) * 3).cpu()
shown_0 = matches([LECTURE[text] for text in asked_0 for _ in range(4)], first_0)
assert float(shown_0.float().mean()) > 0.7
show.grid(first_0, columns=4, rows=asked_0, scale=1.3, title="First seeds, nothing selected")

# %% [markdown]
# ## 1. Why pixels are the wrong place (core, 15 minutes)
#
# Two sprites, each of ten kinds, three sizes and at most 256 places, and the ground: 27 bits. The pixels have 98,304. How many of them does a reader of the picture need?
# Round every number to steps of a certain width: the entropy of what is left, by channel, is what a simple coder pays. Do that with the pixels, and with the 16×16×4 numbers of the autoencoder, which
# has never seen these pictures. **Predict.** Both are rounded until the judge can no longer read what is there. Which of the two gets by with fewer bits, and by what factor?


# %%
def rounded(numbers: Tensor, step: float) -> tuple[Tensor, float]:
    """Numbers (B, C, h, w) as multiples of step; the bits of a picture, by the entropy of single numbers."""
    whole, bits = (numbers / step).round(), 0.0
    for channel in whole.transpose(0, 1).flatten(1):
        share = channel.unique(return_counts=True)[1] / channel.numel()
        bits += float(torch.special.entr(share).sum()) / math.log(2) * numbers[0, 0].numel()
    return whole * step, bits


prompts_1 = latent.WORLD.prompts(100, 1, "test")
real = render(place(prompts_1, 1), 64).to(device)
truth = parse(real[:20].cpu()).scenes


def read_right(pictures: Tensor) -> float:
    found = parse(pictures.cpu())
    return float((same(truth, found.scenes) & found.readable).double().mean())


# %%
curves_1: dict[str, tuple[list, list]] = {"pixels, rounded": ([], []), "latents, rounded": ([], [])}
z_real = codec.latents(real)
for step_1, z_step in ((0.1, 0.5), (0.3, 1.5), (0.5, 3.0), (0.7, 5.0)):
    kept, bits = rounded(real, step_1)
    curves_1["pixels, rounded"][0].append(bits)
    curves_1["pixels, rounded"][1].append(read_right(kept[:20]))
    kept, bits = rounded(z_real, z_step)
    curves_1["latents, rounded"][0].append(bits)
    curves_1["latents, rounded"][1].append(read_right(codec.decode(kept[:20], clamp=True)))
needed = {name: min(b for b, right in zip(*curve) if right >= 0.9) for name, curve in curves_1.items()}
assert needed["latents, rounded"] < needed["pixels, rounded"]
draw.rates(curves_1, f"Nine of ten are read from {min(needed.values()):.0f} bits")

# %% [markdown]
# Another bit for every number divides its squared error by four: 6.02 dB. **Predict** what becomes of the squared error of uniform numbers, in dB, when the step is halved five times.

# %%
from itertools import pairwise

uniform_1 = torch.rand(200_000, generator=seeded(0), dtype=torch.float64)
steps_1 = [2.0**-k for k in range(3, 9)]
decibels = [float(10 * torch.log10(((uniform_1 / s).round() * s - uniform_1).square().mean())) for s in steps_1]
per_bit = [a - b for a, b in pairwise(decibels)]
assert all(abs(gain - 20 * math.log10(2)) < 0.1 for gain in per_bit)
show.table({f"step 1/{round(1 / s)}": [d] for s, d in zip(steps_1, decibels)}, ["rounded to", "error in dB"], digits=4)

# %% [markdown]
# **What a step costs.** The same transformer on latents in squares of 2×2, on pixels in 4×4, and in 2×2. FLOPs are counted as it runs. **Predict** the two factors: 64 places against 256 and 1,024.

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minidiff.backbones.dit import DiT


def operations(shape: tuple[int, int, int], patch: int) -> int:
    """FLOPs of one call for one picture, with the width, depth and words of `latent.build`."""
    net = DiT(shape[0], shape[1:], patch, 96, 6, context_dim=96, reads="merged", shared=True, activation=F.silu)
    words = torch.zeros(1, latent.LENGTH, 96)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, *shape), torch.tensor([0.5]), context=words)
    return counter.get_total_flops()


# %%
costs = {"latents in 2×2": ((4, 16, 16), 2), "pixels in 4×4": ((3, 64, 64), 4), "pixels in 2×2": ((3, 64, 64), 2)}
flops_1 = {name: operations(*how) for name, how in costs.items()}
timed = json.loads(Path("../benchmarks/results/latent_cost.json").read_text(encoding="utf-8"))["calls"]
keys_1 = ["transformer, latents", "transformer, pixels", "transformer, pixels in 2×2"]
seconds_1 = [timed[key]["cpu_s"] for key in keys_1]
of_latents = lambda value: value / flops_1["latents in 2×2"]
rows_cost = {name: [f / 1e6, of_latents(f), s / seconds_1[0]] for (name, f), s in zip(flops_1.items(), seconds_1)}
assert of_latents(flops_1["pixels in 4×4"]) > 4 < 30 < of_latents(flops_1["pixels in 2×2"])
show.table(rows_cost, ["one call", "MFLOP", "to latents", "CPU time to latents (benchmark)"])

# %% [markdown]
# Five, or thirty-six? That depends on which of them draws as well as latents do. Equal places (4×4) let one token stand for 48 numbers; equal patches see every detail. The lecture says what was measured.
#
# ## 2. The autoencoder (core, 20 minutes)
#
# Here is what runs when pictures become latents and pictures again, as it was called. **Predict.** Which share of a picture's numbers do the latents have?

# %%
from minidiff.codecs.vae import Posterior
from minidiff.nn.conv import Residual
from minidiff.show.architecture import diagram, trace

parts_2 = (torch.nn.Conv2d, torch.nn.PixelUnshuffle, torch.nn.PixelShuffle, Residual)
calls_2 = trace(codec, lambda: codec.decode(codec.latents(real[:1])), parts_2)
shapes_2 = [call.shapes[""] for call in calls_2]
assert (8, 16, 16) in shapes_2  # means and log-variances of 4×16×16
assert z_real[0].numel() * 12 == real[0].numel()
rows_2 = {f"{i + 1}. {call.kind}": [call.text, call.parameters] for i, call in enumerate(calls_2)}
show.table(rows_2, ["one picture through", "what comes out", "parameters"])

# %% [markdown]
# The encoder says a Gaussian for each number: $\mu$ and $s^2$. The loss: pixels, and a trace of $KL=\tfrac12(\mu^2+s^2-1-\ln s^2)$. **Predict.** Does the closed form agree with a mean over samples of $\log q(z)-\log p(z)$?


# %%
from minidiff.codecs.losses import pixel_loss, psnr


def vae_loss(codec, x: Tensor, beta: float, generator) -> Tensor:
    posterior = codec.encode(x)
    mean, variance = posterior.mean, posterior.log_variance.exp()
    z = mean + variance.sqrt() * randn(mean.shape, generator, device=x.device)
    kl = 0.5 * (mean.square() + variance - 1 - variance.log()).flatten(1).mean(1)
    return pixel_loss(codec.body.decode(z), x) + beta * kl


ours_2 = vae_loss(codec, real[:4], 1e-3, seeded(0))
theirs_2 = codec.loss(real[:4], seeded(0))
forgot = vae_loss(codec, real[:4], 1.0, seeded(0))
assert torch.allclose(ours_2, theirs_2, rtol=1e-4)
assert not torch.allclose(forgot, theirs_2, rtol=1e-2)  # the control: with the weight 1 of an evidence bound

# %%
q_2 = Posterior(torch.tensor([[1.5]]), torch.tensor([[-2.0]]))
z_2 = q_2.mean + q_2.std * randn((400_000, 1), seeded(0))
normal = torch.distributions.Normal
told_2 = normal(q_2.mean, q_2.std).log_prob(z_2) - normal(0.0, 1.0).log_prob(z_2)
rows_kl = {"closed form": [float(q_2.kl())], "mean over samples": [float(told_2.mean())]}
rows_kl["without ln s² (control)"] = [0.5 * float(q_2.mean**2 + q_2.std**2 - 1)]
assert abs(rows_kl["closed form"][0] - rows_kl["mean over samples"][0]) < 0.01
assert abs(rows_kl["without ln s² (control)"][0] - rows_kl["closed form"][0]) > 0.5
show.table(rows_kl, ["KL of N(1.5, e⁻²)", "nats"])

# %% [markdown]
# **Equal pull.** The adversary's scores have no unit. VQGAN weighs them by the lengths of the gradients at the decoder's last layer, $\lambda=\lVert\nabla L_{rec}\rVert/\lVert\nabla L_{gan}\rVert$.
# **Predict** what happens to $\lambda$ if the adversary's scores are multiplied by 100, and to the two pulls.

# %%
from minidiff.codecs.losses import PatchGAN, adaptive_weight

critic = initialised(lambda: PatchGAN(width=24), 0)
with torch.enable_grad():
    student = latent.AUTOENCODER.untrained(1)
    y_2, x_2 = student(real[:8].cpu(), seeded(1))[0], real[:8].cpu()
    rec, fooled = pixel_loss(y_2, x_2).mean(), -critic(y_2).mean()
    pull = lambda loss: float(torch.autograd.grad(loss, student.body.last, retain_graph=True)[0].norm())
    rows_pull = {}
    for name_2, gan in (("scores as they are", fooled), ("scores times 100", 100 * fooled)):
        weight_2 = float(adaptive_weight(rec, gan, student.body.last))
        rows_pull[name_2] = [weight_2, pull(rec), pull(gan), weight_2 * pull(gan)]
assert rows_pull["scores times 100"][1] == rows_pull["scores as they are"][1]
assert all(abs(row[3] / row[1] - 1) < 0.1 for row in rows_pull.values())
assert rows_pull["scores times 100"][2] > 50 * rows_pull["scores as they are"][2]  # the control: not weighed
show.table(rows_pull, ["adversary", "λ", "pull of pixels", "its own pull", "λ times its own"])

# %% [markdown]
# **The scale.** Nothing in the loss fixes how large latents are; so shift and scale of each channel are measured once, on training pictures. **Predict**: held-out pictures' standard deviation before and after, and whether the
# channels look Gaussian.

# %%
raw_2 = codec.encode(real).mean.cpu()
draw.spread({"the encoder's own": raw_2, "shifted and scaled": z_real.cpu()}, "Four channels of held-out latents")
rows_spread = {
    f"channel {k}": [raw_2[:, k].mean(), raw_2[:, k].std(), z_real[:, k].mean(), z_real[:, k].std()] for k in range(4)
}
assert all(abs(float(row[3]) - 1) < 0.2 for row in rows_spread.values())
show.table(rows_spread, ["latents", "mean, raw", "std, raw", "mean", "std"], digits=2)

# %% [markdown]
# What if we forgot? With a standard deviation $r$ the time $t$ acts as $t'=t/(t+r(1-t))$: the very same numbers, but for a factor. **Predict** $t'$ for Stable Diffusion's raw latents, $r=1/.18215$, at $t=\tfrac12$.

# %%
acts_as = lambda t, r: t / (t + r * (1 - t))
r_sd = 1 / 0.18215
unit, eps_2 = randn((1000,), seeded(0)), randn((1000,), seeded(1))
rows_time = {}
for t_2 in (0.3, 0.5, 0.9):
    raw_noised, t_new = (1 - t_2) * r_sd * unit + t_2 * eps_2, acts_as(t_2, r_sd)
    same_as = lambda t: (1 - t) * unit + t * eps_2
    factor = r_sd * (1 - t_2) + t_2
    assert torch.allclose(raw_noised, factor * same_as(t_new), atol=1e-5)
    assert not torch.allclose(raw_noised, factor * same_as(t_2), atol=0.1)  # the control
    rows_time[f"t = {t_2}"] = [t_new]
show.table(rows_time, ["unscaled latents (r = 5.49) at", "act as"])

# %% [markdown]
# ## 3. What the decoder forgets (core, 10 minutes)
#
# Stage 2 can be perfect, and still draw nothing that stage 1 cannot say. Draw stripes of one, two, four and eight pixels over real pictures, encode, decode. **Predict** how much of the stripes' contrast is left.


# %%
def stripes(width: int) -> Tensor:
    """Vertical stripes of ±1 in the upper left quarter of (64, 64), zero elsewhere."""
    pattern, sign = torch.zeros(64, 64), torch.arange(32) // width % 2 * 2.0 - 1
    pattern[:32, :32] = sign
    return pattern.to(device)


rows_3, looks_3 = {}, {"real": [], "decoded": []}
for width_3 in (1, 2, 4, 8):
    mark = stripes(width_3)
    marked = torch.where(mark != 0, 0.5 * mark, real[:40])
    back = codec.decode(codec.latents(marked))
    left = (back.mean(1) * mark).sum((1, 2)) / (marked.mean(1) * mark).sum((1, 2))
    rows_3[f"{width_3} px"] = [float(left.mean()), float(psnr(back, marked).mean())]
    looks_3["real"].append(marked[0].cpu())
    looks_3["decoded"].append(back[0].cpu().clamp(-1, 1))

# %%
rows_3["no stripes (control)"] = [1.0, float(psnr(codec.decode(z_real), real).mean())]
assert rows_3["no stripes (control)"][1] > max(row[1] for name, row in rows_3.items() if "px" in name) + 3
assert rows_3["1 px"][0] < rows_3["8 px"][0]
names_3 = [f"stripes of {w} px" for w in (1, 2, 4, 8)]
same_noise({name: torch.stack(x) for name, x in looks_3.items()}, names_3, "Stage 1 alone, no diffusion anywhere")
show.table(rows_3, ["stripes of", "contrast left", "PSNR"], digits=2)

# %% [markdown]
# This is Stable Diffusion's trouble with small text and faces: before you blame the prompt, *reconstruct* a picture.
#
# ## 4. Two stages (core, 15 minutes)
#
# Train the autoencoder, freeze it, train a denoiser on what it says. That is all; here it is whole. **Predict** two checksums: which parts move in stage 1, which in stage 2?

# %%
from minidiff.training import step_generator
from minidiff.weights import fingerprint


def descend(module, loss_of, steps: int, lr: float) -> list[float]:
    """A training loop: one module, one optimizer. `loss_of` a generator is (B,)."""
    optimizer, course = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=lr), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - step / steps))  # down to 0 over the second half
        loss = loss_of(step_generator(0, step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(float(loss.detach()))
    return course


# %%
def two_stages(autoencoder, denoiser, pictures: Tensor, tokens: Tensor, steps: tuple[int, int]) -> dict:
    rows = lambda g: torch.randint(len(pictures), (16,), generator=g)
    first = descend(autoencoder, lambda g: autoencoder.loss(pictures[rows(g)], g), steps[0], lr=3e-3)
    autoencoder.eval().requires_grad_(False).standardise(pictures.split(64))  # the end of stage 1
    before, z = fingerprint(autoencoder), autoencoder.latents(pictures)

    def noisy(g) -> Tensor:
        i, t = rows(g), times.logit_normal(*latent.CLOCK)(16, g)
        return denoiser.loss(z[i], t, torch.randn(z[i].shape, generator=g), tokens=tokens[i])

    second = descend(denoiser, noisy, steps[1], lr=1e-3)
    return {"stage 1": first, "stage 2": second, "before": before, "after": fingerprint(autoencoder)}


# %%
alone_4 = [p for p in latent.WORLD.prompts(2000, 3, "train") if len(p.groups) == 1][:256]
pictures_4, tokens_4 = render(place(alone_4, 0), 64), latent.tokenizer().encode(captions(alone_4))
young = latent.AUTOENCODER.untrained(0)
unborn = fingerprint(young)
beginner = initialised(lambda: latent.build(dim=64, depth=2), 0)
newborn = fingerprint(beginner)
with torch.enable_grad():
    run_4 = two_stages(young, beginner, pictures_4, tokens_4, (50, 25))
assert run_4["before"] == run_4["after"] != unborn  # stage 2 left it alone; stage 1 (the control) did not
assert fingerprint(beginner) != newborn
mean_of = lambda course: sum(course) / len(course)
rows_4 = {name: [mean_of(run_4[name][:10]), mean_of(run_4[name][-10:])] for name in ("stage 1", "stage 2")}
assert all(end < begin for begin, end in rows_4.values())
show.table(rows_4, ["loss of", "first ten steps", "last ten"], digits=2)

# %%
pairs_4 = {"real": pictures_4[:8], "after 50 steps": young.decode(young.latents(pictures_4[:8]), clamp=True)}
pairs_4["after 2,500 (shipped)"] = codec.decode(codec.latents(pictures_4[:8].to(device)), clamp=True).cpu()
same_noise(pairs_4, captions(alone_4)[:8], "Stage 1 after fifty steps, and as shipped")

# %% [markdown]
# `minidiff train sprites-autoencoder` and `minidiff train sprites-latent` do the same for longer. The shipped systems' records say how long, and what they score.
#
# ## 5. Stage 2 draws (core, 20 minutes)
#
# A latent denoiser is sampled like any other; the decoder comes last, once. **Predict**: does this give the library's very pictures, and what do other seeds give?


# %%
def draw_by_hand(texts: list[str], w: float, seeds: list[int], steps: int = 25) -> tuple[Tensor, list]:
    tokens = latent.tokenizer().encode(texts).to(device)
    null = {name: value.to(device) for name, value in latent.null().items()}  # the tokens of ""
    guided, generators, seen = cfg(model, {"tokens": tokens}, null, w), seeded(seeds), []
    watched = lambda z_t, t: seen.append((float(t), guided(z_t, t))) or seen[-1][1]
    noise = randn((len(texts), 4, 16, 16), generators, device=device)
    *_, z = sample(watched, noise, times.shifted(steps, latent.SHIFT), ddpm(model.schedule), generators)
    return codec.decode(z, clamp=True).cpu(), seen


by_hand, seen_5 = draw_by_hand(asked_0, 1.0, [0, 0, 0])
by_library = generate(asked_0, 1.0, [0, 0, 0]).cpu()
assert float((by_hand - by_library).abs().max()) < 1e-3
assert float((by_hand - draw_by_hand(asked_0, 1.0, [1, 1, 1])[0]).abs().max()) > 0.1  # the control

# %%
at_5 = [0, 4, 8, 12, 16, 20]
decoded_5 = [codec.decode(seen_5[j][1], clamp=True).cpu() for j in at_5]
strip_5 = torch.stack([x for i in range(3) for x in (*(d[i] for d in decoded_5), by_hand[i])])
previews(strip_5, [seen_5[j][0] for j in at_5] + [0.0], "What would be decoded if it had to stop at t")

# %% [markdown]
# **Sixty-four sentences that it never read**, seeds 0 to 63, nothing selected; red: the judge does not see what was asked. **Predict** the share that is right, and the share if everybody gets the next one's sentence.

# %%
asked_5 = latent.WORLD.prompts(64, 9, "test")
sheet = latent.pictures_of(model, codec, steps=16)(captions(asked_5), 1.0, range(64)).cpu()
seen_there = parse(sheet)
right_5, others_5 = (matches(asked, seen_there) for asked in (asked_5, asked_5[1:] + asked_5[:1]))
rows_5 = {"its own sentence": [float(right_5.float().mean())]}
rows_5["the next one's (control)"] = [float(others_5.float().mean())]
assert rows_5["its own sentence"][0] > 0.5 > 0.3 > rows_5["the next one's (control)"][0]
draw.captioned(sheet, captions(asked_5), "64 held-out sentences, seeds 0 … 63", right=right_5.tolist())
show.table(rows_5, ["pictures show", "share"], digits=2)

# %% [markdown]
# Which sentences fail is no accident; here is what 100 pictures of each family said after training. **Predict** the two families that hardly ever work.

# %%
told_5 = latent.LATENT.record()["scores"]
rows_family = {
    family: [told_5[f"{family}, w=1"], told_5[f"{family}, w=1, another caption"], told_5[f"{family}, w=0"]]
    for family in latent.FAMILIES
}
assert min(rows_family, key=lambda family: rows_family[family][0]) == "sizes"
assert all(own >= other for own, other, _ in rows_family.values())
show.table(rows_family, ["family", "w = 1", "another's caption (control)", "w = 0"], digits=2)

# %% [markdown]
# *Sizes*: a large horse is never shown in training, and that a horse can be large does not follow from a large cat. *Several*: three or four kinds, and one is drawn twice.
#
# ## 6. Any type of data: sentences (core, 15 minutes)
#
# Noise cannot be added to a word. But 18 tokens can become 6 latents of 16 numbers, and these can be diffused. **Predict.** Half a standard deviation of noise on the latents of a
# sentence: how many come back whole? And in pictures nothing ever comes back whole: why here?

# %%
from minidiff.judges.sentences import distance, read
from minidiff.systems import latent_strings as strings

text_codec, text_model = strings.AUTOENCODER.load(), strings.LATENT.load()
held_6 = strings.held_out(300, 7)
tokens_6 = strings.tokenizer().encode(held_6)
z_6 = text_codec.latents(tokens_6)  # (300, 16, 6)
whole = lambda codec, noise: float(
    (codec.decode(z_6 + noise * randn(z_6.shape, seeded(0))) == tokens_6).all(1).double().mean()
)
rows_6 = {f"noise of {s:g}": [whole(text_codec, s)] for s in (0.0, 0.5, 1.0, 2.0)}
rows_6["untrained (control)"] = [whole(strings.AUTOENCODER.untrained(), 0.0)]
assert rows_6["noise of 0.5"][0] > 0.9 > rows_6["noise of 2"][0]
assert rows_6["untrained (control)"][0] == 0
show.table(rows_6, ["18 tokens → 6×16 numbers → 18 tokens", "held-out sentences whole"])

# %% [markdown]
# An argmax has cells: whoever comes near enough gets the very sentence. Now make new ones, of five families. Three questions, each of which could be cheated alone: *valid* (a grammar written apart), *new* (not among the 5,597 trained on), and
# how far, in words, from the nearest known one. **Predict** each, beside three controls: words drawn at random, a training sentence with one word exchanged, held-out real ones.

# %%
families_6 = [i % 5 for i in range(150)]
made_6 = strings.sentences_of(text_model, text_codec, families_6, w=1.0, steps=30)
known_6 = strings.training_set()[0]
words_6 = sorted({word for text in known_6[::20] for word in text.split()})
pick = lambda seed, n: torch.randint(n, (150,), generator=seeded(seed)).tolist()
six = lambda k: torch.randint(len(words_6), (6,), generator=seeded(k)).tolist()
at_random = [" ".join(words_6[i] for i in six(k)) for k in range(150)]


def one_exchanged(k: int) -> str:
    row = known_6[pick(1, len(known_6))[k]].split()
    row[pick(2, len(row))[k]] = words_6[pick(3, len(words_6))[k]]
    return " ".join(row)


# %%
some_known = known_6[::25]
near = lambda texts: mean_of(strings.nearest([text for text in texts if text][:50], some_known))
groups_6 = {"made by diffusion": made_6, "held-out (real)": held_6[:150]}
groups_6 |= {"a known one, one word exchanged": [one_exchanged(k) for k in range(150)], "random words": at_random}
rows_made = {}
for name_6, texts_6 in groups_6.items():
    judged = strings.judged(texts_6, families_6)
    shares_6 = [judged[name] for name in ("valid", "new among the valid", "different among the valid")]
    rows_made[name_6] = [*shares_6, near(texts_6)]
assert rows_made["made by diffusion"][0] > 0.9 > rows_made["a known one, one word exchanged"][0]
assert rows_made["random words"][0] < 0.05
assert rows_made["made by diffusion"][1] > 0.4
show.table(rows_made, ["150 sentences", "valid", "new", "different", "words to a known one"], digits=2)

# %%
new_6 = [(strings.FAMILIES[y], text) for y, text in zip(families_6, made_6) if read(text) and text not in {*known_6}]
closest = lambda text: min(known_6[::3], key=lambda other: distance(text, other))
rows_new = {text: [family, closest(text)] for family, text in new_6[:8]}
show.table(rows_new, ["new", "family asked for", "nearest of a third of those known"])

# %% [markdown]
# ## 7. Codes (extra, 15 minutes)
#
# The other bottleneck: of each vector only the number of its nearest code is kept. `argmin` has no slope; so forward the code is used, backward it is ignored. **Predict** the gradient that reaches $z$, and that of a plain lookup.

# %%
from minidiff.codecs.vqvae import VQVAE, Quantizer

book_7 = initialised(lambda: Quantizer(16, 2, decay=None), 0)
with torch.enable_grad():
    z_7 = randn((3, 2, 4, 4), seeded(0)).requires_grad_()
    hard = book_7.lookup(book_7.nearest(z_7.detach()))
    through = z_7 + (hard - z_7).detach()
    (slope,) = torch.autograd.grad(through.square().sum(), z_7)
    (theirs_7,) = torch.autograd.grad(book_7(z_7)[0].square().sum(), z_7)
assert torch.allclose(through, hard, atol=1e-6)
assert torch.allclose(slope, 2 * hard, atol=1e-5)  # the slope at the code, handed to z
assert torch.allclose(slope, theirs_7, atol=1e-5)
assert not torch.allclose(slope, 2 * z_7, atol=0.1)  # the control: the slope at z itself

# %% [markdown]
# **Collapse and restarts**, where one can see them: points of eight clouds, 64 codes that begin near the origin and follow the points that chose them, as running means. **Predict** how many are ever used; then dead codes begin anew at a
# random point of the batch.


# %%
def clouds(n: int, generator) -> Tensor:
    """(n, 2): eight Gaussians on a circle."""
    angle = torch.randint(8, (n,), generator=generator) * math.pi / 4
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.2 * randn((n, 2), generator)


def followed(restart: float, start: Quantizer | None = None) -> Quantizer:
    book = initialised(lambda: Quantizer(64, 2, decay=0.9, restart=restart), 0)
    if start is not None:
        book.load_state_dict(start.state_dict())
    for step in range(100):
        g = step_generator(0, step)
        book.train()(clouds(256, g)[..., None, None], g)
    return book.eval()


# %%
points_7 = clouds(2000, seeded(5))[..., None, None]
collapsed = followed(0.0)
books = {"no restarts": collapsed, "then with restarts": followed(0.03, collapsed)}
used_7 = {name: float(book.perplexity(book.nearest(points_7))) for name, book in books.items()}
error_of = lambda book: float((book.lookup(book.nearest(points_7)) - points_7).square().mean())
rows_7 = {name: [used_7[name], error_of(book), math.log2(used_7[name])] for name, book in books.items()}
assert used_7["then with restarts"] > 2 * used_7["no restarts"]
assert rows_7["then with restarts"][1] < rows_7["no restarts"][1]
draw.codes(points_7[..., 0, 0], {name: book.codebook for name, book in books.items()}, "64 codes")
show.table(rows_7, ["codebook", "perplexity (at most 64)", "squared error", "bits a vector"], digits=2)

# %% [markdown]
# Codes or Gaussians? The same encoder and decoder, 25 steps each on the same pictures: only a direction, both are far from their end (`benchmarks/bottlenecks.py` trains longer). **Predict** which has fewer bits, and which the better picture.


# %%
def short(module) -> float:
    with torch.enable_grad():
        rows = lambda g: pictures_4[torch.randint(256, (16,), generator=g)]
        descend(module.train(), lambda g: module.loss(rows(g), g), 25, 3e-3)
    return float(psnr(module.eval().reconstruct(pictures_4[:64]), pictures_4[:64]).mean())


gauss_7, coded_7 = latent.AUTOENCODER.untrained(0), initialised(lambda: VQVAE(512), 0)
quality_7 = {"KL": short(gauss_7), "VQ, 512 codes": short(coded_7)}
codes_7 = coded_7.encode(pictures_4[:64])  # (64, 16, 16)
bits_7 = {"KL": float(gauss_7.encode(pictures_4[:64]).kl().mean()) / math.log(2)}
bits_7["VQ, 512 codes"] = 256 * math.log2(float(coded_7.quantizer.perplexity(codes_7)))
assert codes_7.shape == (64, 16, 16)
assert bits_7["VQ, 512 codes"] <= 256 * 9 + 1e-3
rows_short = {name: [bits_7[name], quality_7[name]] for name in bits_7}
show.table(rows_short, ["bottleneck", "bits a picture", "PSNR after 25 steps"])

# %% [markdown]
# ## 8. Stable Diffusion, part by part (core, 20 minutes)
#
# Its parts are three trained networks: CLIP's text tower, frozen; a U-Net of latents; the decoder, frozen. Everything that one picture needs, with its shapes. **Predict** for Stable Diffusion 1 at 512 px
# (77 tokens of width 768, a latent for 8×8 pixels) the shapes in the second column.

# %%
from minidiff.systems import clip_sprites, stable_diffusion

sd = stable_diffusion.MODEL.load().to(device)
words_8, unet = sd.net.conditioning, sd.net.backbone
tokens_8 = latent.tokenizer().encode(["a cat in the snow"]).to(device)
given_8 = words_8(1, tokens=tokens_8)
noise_8 = randn((1, 4, 16, 16), seeded([0]), device=device)
v_8 = unet(noise_8, torch.tensor([0.9], device=device), **given_8)
size = lambda x: "×".join(map(str, x.shape[1:]))
rows_8 = {
    "tokens": [size(tokens_8), "77", "77"],
    "the frozen tower says": [size(words_8.encoder.encode(tokens_8).context), "77×768", "77×1024"],
    "what pixels look at": [size(given_8["context"]), "77×768", "77×1024"],
    "noise, and v": [size(v_8), "4×64×64", "4×96×96"],
    "decoded": [size(codec.decode(v_8)), "3×512×512", "3×768×768"],
}

# %%
tower = clip_sprites.MODEL.load().text
assert fingerprint(words_8.encoder.tower) == fingerprint(tower)  # frozen to the bit
assert fingerprint(clip_sprites.MODEL.untrained().text) != fingerprint(tower)  # the control
assert v_8.shape == noise_8.shape
assert (latent.SIDE // 16, 512 // 64, 768 // 96) == (4, 8, 8)
show.table(rows_8, ["what goes through", "here", "Stable Diffusion 1", "Stable Diffusion 2 (768 px)"])

# %% [markdown]
# The U-Net as it ran. An arrow: there, pixels looked at the words. **Predict** where they look.

# %%
from minidiff.nn.conv import PixelAttention, PixelTransformer, ResBlock

kinds_8 = (torch.nn.Conv2d, ResBlock, PixelTransformer, PixelAttention)
calls_8 = trace(unet, lambda: unet(noise_8, torch.tensor([0.9], device=device), **given_8), kinds_8)
looking_8 = [call for call in calls_8 if call.looks_at]
assert {call.kind for call in looking_8} == {"PixelTransformer", "PixelAttention"}
assert {call.shapes[""][-1] for call in looking_8} == {8, 4}  # both resolutions
diagram(calls_8, "Stable Diffusion's U-Net here, as it ran")

# %% [markdown]
# **Which block of the tower?** Stable Diffusion 1 reads the last one, 2 the one before. CLIP's loss sees the last block at END alone. **Predict** the gradient of CLIP's loss at the *other* words: after the last block, and after the one before it.

# %%
clip = clip_sprites.MODEL.load()
heard, texts_8 = {}, captions(prompts_1[:32])
hooks_8 = [
    block.register_forward_hook(lambda module, given, out, k=k: heard.update({k: out}))
    for k, block in zip(("the one before", "the last"), clip.text.blocks[-2:])
]
with torch.enable_grad():
    ids_8 = clip_sprites.tokens(texts_8)
    clip.text.token.weight.requires_grad_(True)  # so that there is a graph
    matching = clip.loss(x0=real[:32].cpu(), tokens=ids_8).mean()
    slopes_8 = dict(zip(heard, torch.autograd.grad(matching, list(heard.values()))))
for hook in hooks_8:
    hook.remove()

# %%
at_end = ids_8 == clip.text.end
inner = clip.text.told(ids_8) & ~at_end
rows_block = {name: [float(g[inner].norm()), float(g[at_end].norm())] for name, g in slopes_8.items()}
assert rows_block["the last"][0] == 0 < rows_block["the one before"][0]
show.table(rows_block, ["gradient after block", "at the other words", "at END"], digits=2)

# %% [markdown]
# Nothing ever asked the last block to say something at "cat". Now let it draw, beside the transformer of section 5, from the same noise. **Predict** who is better; then look at the last columns: neither steps nor minutes were equal.

# %%
from minidiff.data.sprites import SpriteWorld

by_sd = latent.pictures_of(sd, codec, steps=25)
asked_8 = SpriteWorld(families=("one", "relation", "riding", "snow")).prompts(12, 2, "test")
told_8 = captions(asked_8)
drawn_8 = {"Stable Diffusion": by_sd(told_8, 1.0, range(12)), "the transformer": generate(told_8, 1.0, range(12))}
facts_8 = {"Stable Diffusion": stable_diffusion.MODEL.record(), "the transformer": latent.LATENT.record()}

# %%
score_8 = lambda x, prompts: float(matches(prompts, x.cpu()).float().mean())
cost_8 = lambda name: [facts_8[name]["steps"], facts_8[name]["seconds"] // 60]
scored_8 = lambda x: [score_8(x, asked_8), score_8(x, asked_8[1:] + asked_8[:1])]
rows_sd = {name: scored_8(x) + cost_8(name) for name, x in drawn_8.items()}
assert all(row[0] > row[1] for row in rows_sd.values())
same_noise({name: x[:8].cpu() for name, x in drawn_8.items()}, captions(asked_8)[:8], "Same sentences, same noise")
heads_8 = ["drawn by", "12 sentences shown", "the next one's (control)", "steps of training", "minutes"]
show.table(rows_sd, heads_8, digits=5)

# %% [markdown]
# ## 9. ε and v (core, 15 minutes)
#
# On the circle $\alpha=\cos\varphi$, $\sigma=\sin\varphi$ the pair $(x_0,\varepsilon)$ is turned by $\varphi$ into $(x_t,v)$. **Predict** how one gets ε out of a network that says $v$, and at which times that is impossible.

# %%
from minidiff.predictions import EPS, V
from minidiff.schedules import Cosine

circle, x0_9, eps_9 = Cosine(), randn((2, 4, 16, 16), seeded(2)).double(), randn((2, 4, 16, 16), seeded(3)).double()
for t_9 in torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64):
    alpha, sigma = circle(t_9)
    x_t, v = alpha * x0_9 + sigma * eps_9, alpha * eps_9 - sigma * x0_9
    assert torch.allclose(alpha * x_t - sigma * v, x0_9)  # turned back
    assert torch.allclose(sigma * x_t + alpha * v, eps_9)
    assert torch.allclose(V.to_x0(circle, x_t, v, t_9), x0_9)
    assert not torch.allclose(alpha * x_t + sigma * v, x0_9, atol=0.1)  # the control: the wrong sign
    if float(alpha) > 0:
        assert torch.allclose((eps_9 - sigma * x_t) / alpha, v)  # from ε to v: only where there is a picture left

# %% [markdown]
# The shipped network says $v$, on the straight path (there (α, σ) has not the length 1, and one divides by its square). **Predict**: if its answer is converted into ε, and read as one, how far is $\hat x_0$ from before?

# %%
rows_9 = {}
for t_9 in torch.tensor([0.2, 0.5, 0.8, 0.95], dtype=torch.float64):
    z_t = sd.schedule.add_noise(z_real[:8].cpu().double(), randn((8, 4, 16, 16), seeded(4)).double(), t_9)
    given_9 = (z_t.float().to(device), t_9.float().expand(8).to(device))
    out = sd.net(*given_9, tokens=tokens_8.expand(8, -1)).cpu().double()
    z0 = V.to_x0(sd.schedule, z_t, out, t_9)
    alpha, sigma = sd.schedule(t_9)
    said_eps = (z_t - alpha * z0) / sigma
    again, misread = (EPS.to_x0(sd.schedule, z_t, answer, t_9) for answer in (said_eps, out))
    rows_9[f"t = {float(t_9)}"] = [float((again - z0).abs().max()), float((misread - z0).abs().max())]
assert all(converted < 1e-6 < 0.1 < unconverted for converted, unconverted in rows_9.values())
show.table(rows_9, ["at", "largest difference, converted", "v read as if it were ε (control)"], digits=1)

# %% [markdown]
# **What is the difference, then?** An error of the answer becomes an error of $\hat x_0$: times $\sigma/\alpha$ for ε, times $\sigma$ for $v$. And Stable Diffusion's own schedule never reaches $\alpha=0$. **Predict** $\alpha$ at its last step,
# and by how many standard deviations a channel's *mean* of 1 still stands out there (64×64 places).

# %%
phi = torch.linspace(0.05, 1.55, 200)
curves_9 = {"ε is off by 1": phi.tan(), "v is off by 1": phi.sin()}
draw.amplified(phi, curves_9, "What an error of the answer becomes")
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
last_alpha = float(torch.cumprod(1 - betas, 0)[-1].sqrt())
noise_of_mean = float(randn((2000, 64, 64), seeded(6)).mean((1, 2)).std()) * (1 - last_alpha**2) ** 0.5
rows_end = {"α at the last step": [last_alpha], "noise of one number there": [(1 - last_alpha**2) ** 0.5]}
rows_end |= {
    "noise of a channel's mean": [noise_of_mean],
    "a mean of 1, in standard deviations": [last_alpha / noise_of_mean],
}
assert 4 < last_alpha / noise_of_mean < 5
show.table(rows_end, ["Stable Diffusion's schedule", "value"], digits=2)

# %% [markdown]
# So a trained network knew, at its noisiest, how bright the picture was going to be; a sampler that begins with pure noise tells it "medium". Only $v$ (or $x_0$) can be asked at $\alpha=0$. **Predict** what the library says to an ε-network there.

# %%
try:
    EPS.to_x0(circle, x0_9, eps_9, torch.tensor(1.0, dtype=torch.float64))
    refused = ""
except ValueError as error:
    refused = str(error)
assert refused.startswith("t: got")
assert torch.allclose(V.to_x0(circle, eps_9, -x0_9, torch.tensor(1.0, dtype=torch.float64)), x0_9)
refused

# %% [markdown]
# ## 10. Negative prompts, img2img, inpainting (core, 20 minutes)
#
# A negative prompt takes ∅'s place: $(1+w)\,\hat z(c)-w\,\hat z(c^-)$. **Predict** three pictures: of a negative prompt at $w=0$; of one that is the prompt itself; of a prompt without words and "in the snow" as the negative.

# %%
half_t = torch.tensor(0.7)
z_10 = randn((2, 4, 16, 16), seeded([0, 1]), device=device)
told = lambda text: {"tokens": latent.tokenizer().encode([text]).to(device)}
cat, dog, nothing = (told(text)["tokens"] for text in ("a cat", "a dog in the snow", ""))
plain = bind(model, tokens=cat.expand(2, -1))(z_10, half_t)
versus = lambda negative, w: cfg(model, {"tokens": cat.expand(2, -1)}, {"tokens": negative[0]}, w)(z_10, half_t)
assert torch.allclose(versus(cat, 3.0), plain, atol=1e-4)  # itself: the plain conditional, whatever w
assert torch.allclose(versus(dog, 0.0), plain, atol=1e-5)  # w = 0: not even looked at
assert not torch.allclose(versus(dog, 3.0), versus(nothing, 3.0), atol=0.01)  # the control

# %%
free = ["a cat and a tree"] * 6
negative_rows = {}
for name_10, negative in (("negative: nothing", ""), ("negative: a tree", "a tree"), ("negative: a cat", "a cat")):
    away = latent.pictures_of(model, codec, steps=20, negative=negative)
    negative_rows[name_10] = away(free, 2.0, range(6)).cpu()
difference = lambda name: float((negative_rows[name] - negative_rows["negative: nothing"]).abs().mean())
assert min(difference("negative: a tree"), difference("negative: a cat")) > 0.01
same_noise(negative_rows, free, "“a cat and a tree” at w = 2 (scale 3), away from something")

# %% [markdown]
# It is no "not": it is away from what tells one sentence from the other.
#
# **img2img**: noise a picture's latents up to $t_0$, walk back with another sentence. **Predict** from which $t_0$ on the dog becomes a tree, and from which on the snowman no longer stays where it is.

# %%
from minidiff.data.prompts import Group

before_10 = [Prompt((Group("snowman"), Group("dog")), "left of")] * 6
after_10 = [Prompt((Group("snowman"), Group("tree")), "left of")] * 6
source, told_10 = render(place(before_10, 0), 64), captions(after_10)


def img2img(pictures: Tensor, texts: list[str], w: float, t0: float, seeds: range, steps: int = 20) -> Tensor:
    z, generators = codec.latents(pictures), seeded(seeds)
    guided = cfg(model, {"tokens": latent.tokenizer().encode(texts).to(device)}, latent.null(), w)
    z_t = model.schedule.add_noise(z, randn(z.shape, generators, device=device), torch.tensor(t0))
    *_, z0 = sample(guided, z_t, times.linear(steps, start=t0), ddpm(model.schedule), generators)
    return codec.decode(z0, clamp=True)


# %%
from minidiff.systems.latent_edits import image_to_image, inpainted

edited = {t0: img2img(source.to(device), told_10, 1.0, t0, range(6)).cpu() for t0 in (0.2, 0.8, 0.97)}
library_10 = image_to_image(model, codec, source.to(device), told_10, 1.0, 0.8, range(6), steps=20).cpu()
assert float((edited[0.8] - library_10).abs().max()) < 1e-2
share_10 = lambda prompts, x: float(matches(prompts, x).float().mean())
moved = lambda x: float((x[..., :32] - source[..., :32]).square().mean().sqrt())
rows_edit = {f"t0 = {t0}": [share_10(before_10, x), share_10(after_10, x), moved(x)] for t0, x in edited.items()}
assert rows_edit["t0 = 0.2"][0] > 0.5 > rows_edit["t0 = 0.2"][1]
assert rows_edit["t0 = 0.8"][1] > 0.5 > rows_edit["t0 = 0.8"][0]
assert rows_edit["t0 = 0.97"][2] > rows_edit["t0 = 0.2"][2]
show.table(rows_edit, ["told “… left of a tree”", "still the dog", "a tree", "left half changed (rms)"], digits=2)

# %% [markdown]
# **Inpainting**: keep the left half, draw the right one anew. **Predict.** The kept latents are put back at every step. Are the kept *pixels* then exact?

# %%
keep_10 = torch.zeros(64, 64, dtype=torch.bool)
keep_10[:, :32] = True
painted = inpainted(model, codec, source.to(device), keep_10, told_10, 1.0, range(6), steps=20).cpu()
only_latents = codec.decode(codec.latents(source.to(device)), clamp=True).cpu()
assert torch.equal(painted[..., :32], source[..., :32])  # the old pixels were put back …
assert float((only_latents - source)[..., :32].abs().max()) > 0.02  # … as the decoder alone is not exact
assert share_10(after_10, painted) > 0.4
columns = {"picture": source, "img2img, t0 = 0.2": edited[0.2], "img2img, t0 = 0.8": edited[0.8], "inpainted": painted}
same_noise({name: x[:6] for name, x in columns.items()}, [f"seed {k}" for k in range(6)], "“a snowman left of a tree”")

# %% [markdown]
# ## 11. Your turn: the playground (extra, 10 minutes)
#
# The ten sprites: *lightbulb, plant, cat, dog, astronaut, horse, tree, house, snowman, fish*; *left of, right of, above, below, riding, surrounding, and, in the snow; small, large; two, three, four*. How few steps will do? At which $w$ do
# pictures get worse? What is left of "a cat in the snow" with the negative "a cat"?

# %%
from minidiff.encoders.tokenizer import split
from minidiff.show.playground import refusal, row, tidy

vocabulary = {word for text in captions(latent.WORLD.prompts(1000, 0)) for word in split(text)}


def play(prompt: str, negative: str, w: float, steps: float, seed: float):
    texts = [tidy(prompt), tidy(negative)]
    if refused := refusal(texts, vocabulary, latent.LENGTH - 2):
        return refused
    paint = latent.pictures_of(model, codec, steps=int(steps), negative=texts[1])
    title = f"“{texts[0]}”" if texts[0] else "no prompt, so no condition"
    pictures = paint([texts[0]] * 4, w, range(int(seed), int(seed) + 4))
    return row(pictures.cpu(), f"{title} · w = {w:g} (scale {1 + w:g})")


# %%
playground = show.explore(
    play, prompt="an astronaut riding a horse", negative="", w=show.Slider(0, 8, 0.5, start=1),
    steps=show.Slider(5, 50, 5, start=20), seed=show.Slider(0, 99, 1, start=0),
    static=[{}, {"prompt": "a cat in the snow"}, {"prompt": "a unicorn in the snow"}],
)  # fmt: skip

# %% [markdown]
# The same as a tool: `minidiff sample "a cat in the snow" -o cat.png`.
#
# ## What to try next
#
# - In section 1, round each latent channel with another step. Which one can be coarse?
# - In section 3, write a letter of 5×7 pixels. Is it legible?
# - In section 4, let stage 2's loss reach the encoder (leave out `requires_grad_(False)` and encode anew at each step). How small does the loss get, and what do the pictures look like?
# - In section 7, use 512 codes and `decay=None`. Does the codebook loss avoid the collapse?
# - In section 10, mask the *latents* with an oval. How broad is the seam?
#
# Then the [exercises](../exercises/09_latent_diffusion.ipynb). [Chapter 10](10_sdxl.ipynb) tells the network how large the picture was: SDXL.
