"""The exercises of chapter 09: wrong answers that look right, and right ones beside them."""

from itertools import pairwise
from math import log

import pytest
import torch
from _answers import answers
from torch import Generator

from minidiff.course.exercise import find

# ---------------------------------------------------------------- bits

NAT = log(2)  # of a bit


def counted(
    logarithm=lambda v: v,
    square=lambda mean: mean**2,
    constant=1.0,
    half=0.5,
    total=lambda terms: terms.flatten(1).sum(1),
    unit=NAT,
):
    def kl_bits(mean, log_variance):
        return half * total(square(mean) + log_variance.exp() - constant - logarithm(log_variance)) / unit

    return kl_bits


BITS = {
    "two units": counted(logarithm=lambda v: v / log(2)),
    "nothing for the mean": counted(square=lambda mean: 0 * mean),
    "the mean as it is": counted(square=lambda mean: mean.abs()),
    "without the one": counted(constant=0.0),
    "without the half": counted(half=1.0),
    "over the channels only": counted(total=lambda terms: terms.sum(1)),
    "the mean of the batch": counted(total=lambda terms: terms.flatten(1).sum(1).mean().expand(len(terms))),
    "always float64": counted(total=lambda terms: terms.double().flatten(1).sum(1)),
    "bytes": counted(unit=8 * log(2)),
}

# ---------------------------------------------------------------- standardised latents


def standardised(
    of=lambda batches, z: torch.cat(batches),
    mean=lambda every: every.mean((0, 2, 3)),
    spread=lambda every: every.std((0, 2, 3), correction=0),
    back=lambda z, m, s: z * s + m,
):
    def standardise(batches, z):
        every = of(batches, z)
        shift, scale = mean(every), spread(every)
        m, s = shift[:, None, None], scale[:, None, None]
        return shift, scale, (z - m) / s, back(z, m, s)

    return standardise


def last_axis(batches, z):
    every = torch.cat(batches)
    shift, scale = every.mean((0, 2, 3)), every.std((0, 2, 3), correction=0)
    return shift, scale, (z - shift) / scale, z * scale + shift


STANDARDISED = {
    "divided by N - 1": standardised(spread=lambda every: every.std((0, 2, 3))),
    "the first batch": standardised(of=lambda batches, z: batches[0]),
    "the last batch": standardised(of=lambda batches, z: batches[-1]),
    "the latents at hand": standardised(of=lambda batches, z: z),
    "not centred": standardised(spread=lambda every: every.square().mean((0, 2, 3)).sqrt()),
    "the absolute deviation": standardised(
        spread=lambda every: (every - every.mean((0, 2, 3), keepdim=True)).abs().mean((0, 2, 3))
    ),
    "no shift on the way back": standardised(back=lambda z, m, s: z * s),
    "the last axis": last_axis,
    "back is where it was": standardised(back=lambda z, m, s: z),
}

# ---------------------------------------------------------------- codes


def chosen(
    distance=lambda gap: gap.square().sum(-1),
    choose=lambda d: d.argmin(-1),
    straight=lambda z, vectors: z + (vectors - z).detach(),
    shares=lambda codes, size: (torch.bincount(codes.flatten(), minlength=size) / codes.numel())[None],
    shape=lambda codes: codes,
):
    """shares: several rows are averaged over."""

    def quantize(z, codebook):
        codes = choose(distance(z.detach().movedim(1, -1)[..., None, :] - codebook))
        vectors = codebook[codes].movedim(-1, 1)
        perplexity = torch.special.entr(shares(codes, len(codebook))).sum(1).exp().mean()
        return straight(z, vectors), shape(codes), float(perplexity)

    return quantize


def of_pictures(codes, size):
    return torch.stack([torch.bincount(each.flatten(), minlength=size) / each.numel() for each in codes])


CODES = {
    "the last of ties": chosen(choose=lambda d: d.shape[-1] - 1 - d.flip(-1).argmin(-1)),
    "the farthest": chosen(choose=lambda d: d.argmax(-1)),
    "distances along the axes": chosen(distance=lambda gap: gap.abs().sum(-1)),
    "the largest difference": chosen(distance=lambda gap: gap.abs().amax(-1)),
    "twice the gradient": chosen(straight=lambda z, vectors: vectors + 2 * (z - z.detach())),
    "the gradient of a mean": chosen(straight=lambda z, vectors: vectors + (z - z.detach()) / len(z)),
    "z itself": chosen(straight=lambda z, vectors: z),
    "the sum": chosen(straight=lambda z, vectors: z + vectors.detach()),
    "the perplexity of each picture": chosen(shares=of_pictures),
    "flat codes": chosen(shape=lambda codes: codes.flatten()),
    "codes from 1": chosen(shape=lambda codes: codes + 1),
}

# ---------------------------------------------------------------- v


def turned(
    levels=lambda schedule, t: schedule(t),
    whole=lambda a, s: a**2 + s**2,
    target=lambda a, s, x0, eps, v: a * eps - s * x0,
    noise=lambda a, s, x_t, v, w: (s * x_t + a * v) / w,
):
    def v_prediction(schedule, x0, eps, x_t, v, t):
        a, s = levels(schedule, t)
        w = whole(a, s)
        return target(a, s, x0, eps, v), (a * x_t - s * v) / w, noise(a, s, x_t, v, w)

    return v_prediction


def by_alpha(schedule, x0, eps, x_t, v, t):
    a, s = schedule(t)
    noise = (s * x_t + a * v) / (a**2 + s**2)
    return a * eps - s * x0, (x_t - s * noise) / a, noise


TURNED = {
    "the straight path only": turned(levels=lambda schedule, t: (1 - t, t)),
    "the circle only": turned(levels=lambda schedule, t: (torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2))),
    "over the root": turned(whole=lambda a, s: torch.hypot(a, s)),
    "the output for the target": turned(target=lambda a, s, x0, eps, v: v),
    "the velocity of the straight path": turned(target=lambda a, s, x0, eps, v: eps - x0),
    "noise without the division": turned(noise=lambda a, s, x_t, v, w: s * x_t + a * v),
    "a picture over alpha": by_alpha,
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "stage 1 is thrown away": ("codec = trained(codec", "_ = trained(codec"),
    "stage 2 is thrown away": ("prior = trained(prior", "_ = trained(prior"),
    "the steps of stage 2": ("rebuilt, steps[0]", "rebuilt, steps[1]"),
    "the given weights are trained": ("w.clone().requires_grad_()", "w.requires_grad_()"),
    "gradients add up": ("            optimizer.zero_grad()\n", ""),
    "divided by N - 1": ("z.std(axes, correction=0, ", "z.std(axes, "),
    "one scale for all": ("z.std(axes, correction=0, keepdim=True)", "z.std(correction=0)"),
    "not centred": ("z = (z - shift) / scale", "z = z / scale"),
    "the wrong way back": ("x * scale + shift", "(x + shift) * scale"),
    "the shift forgotten": ("x * scale + shift", "x * scale"),
    "one coin for all": ("torch.rand(batch, 1, generator=generator)", "torch.rand(1, 1, generator=generator)"),
    "a coin for every word": (
        "torch.where(torch.rand(batch, 1, generator=generator) < p, 0, tokens[rows])",
        "tokens[rows] * (torch.rand(tokens[rows].shape, generator=generator) >= p)",
    ),
    "the coin upside down": ("< p, 0,", ">= p, 0,"),
    "times upside down": ("(1 - t_) * z[rows] + t_ * eps", "t_ * z[rows] + (1 - t_) * eps"),
    "noise is added": ("(1 - t_) * z[rows] + t_ * eps", "z[rows] + t_ * eps"),
    "one time for all": ("torch.rand(batch, generator=generator)", "torch.rand(1, generator=generator).expand(batch)"),
    "global times": ("torch.rand(batch, generator=generator)", "torch.rand(batch)"),
    "global noise in training": ("torch.randn(z[rows].shape, generator=generator)", "torch.randn(z[rows].shape)"),
    "global noise in drawing": (", generator=Generator().manual_seed(seed))", ")"),
    "the trainer's generator draws": ("generator=Generator().manual_seed(seed)", "generator=generator"),
    "the network guesses noise": ("t, told) - z[rows])", "t, told) - eps)"),
    "one time too few": ("steps + 1", "max(steps, 2)"),
    "only the last guess": ("x = s / t * x + (1 - s / t) * denoise", "x = denoise"),
    "noise that is never removed": ("x = s / t * x + (1 - s / t)", "x = s * x + (1 - s)"),
    "captions left out": ("t.expand(len(x)), tokens)", "t.expand(len(x)), torch.zeros_like(tokens))"),
    "the first encoder": ("        z = encode(codec, pictures)", "        z = encode(first, pictures)"),
}


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed; `first` is the autoencoder before it is trained."""
    first = ("    ### BEGIN SOLUTION\n", "    first = codec\n")
    return lambda *changes: master(
        "09-two-stages", {"torch": torch, "Generator": Generator, "pairwise": pairwise}, *changes, first
    )


TestAnswers = answers(
    chapter="09_latent_diffusion",
    build="09-two-stages",
    experiment="09-what-stays",
    wrong={"09-kl-bits": BITS, "09-standardise": STANDARDISED, "09-quantize": CODES, "09-v-and-eps": TURNED},
    right={
        "09-kl-bits": counted(),
        "09-standardise": standardised(),
        "09-quantize": chosen(),
        "09-v-and-eps": turned(),
    },
    slips=SLIPS,
)


def test_one_number_off_by_its_own_deviation_costs_half_a_nat():
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    found = find("09-kl-bits").reference(one, zero)
    assert float(found) == pytest.approx(0.5 / log(2))
    assert float(find("09-kl-bits").reference(zero, zero)) == 0  # the control: nothing is said


def test_stage_1_is_frozen_while_stage_2_trains(built):
    encode, decode, denoise, *others = find("09-two-stages").draw(0)[0]
    encoders, decoders, gradients = [], [], []

    def watched(codec, x):
        encoders.append([w.detach().clone() for w in codec])
        return encode(codec, x)

    def watched_decoder(codec, z):
        decoders.append([w.detach().clone() for w in codec])
        return decode(codec, z)

    def watched_denoiser(prior, z_t, t, tokens):
        gradients.append(z_t.requires_grad)
        return denoise(prior, z_t, t, tokens)

    draw = built()(watched, watched_decoder, watched_denoiser, *others)
    stage_1, stage_2 = others[4]
    assert (len(encoders), len(gradients)) == (stage_1 + 1, stage_2)  # it encodes all pictures once
    assert not any(gradients)
    draw(others[3][:2], [1, 2], 3)
    assert all(torch.equal(a, b) for a, b in zip(encoders[-1], decoders[-1]))
    assert not torch.equal(encoders[0][0], decoders[-1][0])  # the control: stage 1 has moved it


def test_the_denoiser_is_shown_latents_of_unit_variance(built):
    *models, pictures, tokens, _, _, lr, p, generator = find("09-two-stages").draw(0)[1]
    whole = ("torch.randint(len(pictures), (batch,), generator=generator)", "torch.arange(len(pictures))")
    clean = ("torch.rand(batch, generator=generator)", "torch.zeros(batch)")
    raw = ("z = (z - shift) / scale", "z = 1 * z")
    for changes, unit in (((whole, clean), True), ((whole, clean, raw), False)):
        seen, (encode, decode, denoise, codec, prior) = [], models

        def watched(prior, z_t, t, told, seen=seen, denoise=denoise):
            seen.append(z_t.detach())
            return denoise(prior, z_t, t, told)

        run = built(*changes)
        run(encode, decode, watched, codec, prior, pictures, tokens, (2, 1), len(pictures), lr, p, generator)
        axes = (0, *range(2, seen[0].ndim))
        mean, spread = seen[0].mean(axes), seen[0].std(axes, correction=0)
        assert (bool(mean.abs().max() < 1e-5) and bool((spread - 1).abs().max() < 1e-5)) is unit
