"""The claims of chapter 09, each with a control that must fail."""

import json
import math
import re

import pytest
import torch
from _pages import table_rows

from minidiff.codecs.losses import PatchGAN, adaptive_weight, pixel_loss
from minidiff.codecs.vae import VAE, Posterior
from minidiff.codecs.vqvae import Quantizer
from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE, place
from minidiff.data.scenes import render
from minidiff.guidance import cfg
from minidiff.judges.scorecard import matches
from minidiff.predictions import EPS, V
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Cosine
from minidiff.systems import clip_sprites, latent, latent_strings, stable_diffusion
from minidiff.training import step_generator


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return randn(shape, seeded(seed), dtype=torch.float64)


# ---------------------------------------------------------------- bits and stages


def test_a_bit_for_every_number_is_six_decibels():
    x = torch.rand(200_000, generator=seeded(0), dtype=torch.float64)
    error = lambda step: float(((x / step).round() * step - x).square().mean())
    for step in (1 / 8, 1 / 32):
        assert error(step) == pytest.approx(step**2 / 12, rel=0.02)
        assert 10 * math.log10(error(step) / error(step / 2)) == pytest.approx(6.02, abs=0.1)
    assert math.ceil(2 * (math.log2(10) + math.log2(3) + 8) + 1) == 27


def test_the_rate_is_information_and_a_divergence_that_stage_2_alone_can_lower():
    """Equation (2) on a table q(z | x) of 4 pictures and 6 latents."""
    q, prior = draws(4, 6).softmax(1), draws(6, seed=1).softmax(0)
    mean = q.mean(0)
    kl = lambda a, b: (a * (a / b).log()).sum(-1)
    rate, information = kl(q, prior).mean(), kl(q, mean).mean()
    assert float(rate) == pytest.approx(float(information + kl(mean, prior)), abs=1e-12)
    assert float(kl(q, mean).mean()) < float(rate)  # the best prior is the law of the latents
    assert abs(float(rate - information - kl(prior, mean))) > 1e-3  # the control: the other way round


def test_the_table_of_costs_says_what_the_benchmark_measured(root, lecture):
    found = json.loads((root / "benchmarks" / "results" / "latent_cost.json").read_text(encoding="utf-8"))
    calls = found["calls"]
    (cheap,) = told_rows(lecture, "transformer, latents in 2×2")
    assert cheap[0] == f"{calls['transformer, latents']['MFLOP']:.0f}"
    for name, key in (("pixels in 4×4", "transformer, pixels"), ("pixels in 2×2", "transformer, pixels in 2×2")):
        ratio = found[f"{key}, to latents"]
        mflop, to_latents, seconds = told_rows(lecture, name)[0]  # the second is the U-Net's
        assert float(mflop) == pytest.approx(calls[key]["MFLOP"], abs=0.5)
        assert float(to_latents) == pytest.approx(ratio["FLOP"], rel=0.01)
        assert float(seconds) == pytest.approx(ratio["CPU seconds"], rel=0.01)


def test_after_equally_many_steps_latents_draw_more(root, lecture):
    found = json.loads((root / "benchmarks" / "results" / "latent_cost.json").read_text(encoding="utf-8"))["training"]
    latents, pixels = found["latents"], found["pixels"]
    (line,) = (line for line in lecture.splitlines() if line.startswith("Lone sprites after"))
    said = [latents["steps"], latents["one, right"], pixels["one, right"], pixels["cpu_s"] / latents["cpu_s"]]
    assert [float(x) for x in re.findall(r"\d*\.?\d+", line)] == pytest.approx(said, abs=0.05)
    assert latents["steps"] == pixels["steps"]
    assert latents["one, right"] > pixels["one, right"] > pixels["one, another caption"]


# ---------------------------------------------------------------- the autoencoder


def test_the_kl_of_a_gaussian_in_closed_form():
    """(5), by the mean of log q − log p over samples."""
    q = Posterior(torch.tensor([[1.5]]).double(), torch.tensor([[-2.0]]).double())
    z = q.mean + q.std * draws(400_000, 1)
    normal = torch.distributions.Normal
    sampled = float((normal(q.mean, q.std).log_prob(z) - normal(0.0, 1.0).log_prob(z)).mean())
    assert float(q.kl()) == pytest.approx(sampled, abs=0.01)
    assert abs(0.5 * float(q.mean**2 + q.std**2 - 1) - sampled) > 0.5  # the control: without ln s²


@pytest.mark.parametrize(("slope", "beta"), [(1.0, 2.0), (3.0, 0.1), (0.0, 0.5)])
def test_the_noise_of_a_latent_goes_by_how_sensitive_the_decoder_is(slope, beta):
    """s² = β/(β + 2J²); question 1: with β = 2J² a half."""
    s = torch.linspace(0.01, 1.5, 150_000, dtype=torch.float64)
    cost = slope**2 * s**2 + beta / 2 * (s**2 - 1 - 2 * s.log())
    best = float(s[cost.argmin()])
    assert best**2 == pytest.approx(beta / (beta + 2 * slope**2), rel=1e-3)


def test_equal_pull_at_the_last_layer_and_scores_without_a_unit():
    """(4): λ·‖∇gan‖ = ‖∇rec‖, and scores times 100 have a hundredth of the weight."""
    codec, critic = initialised(lambda: VAE(width=16), 0).double(), initialised(lambda: PatchGAN(width=8), 1).double()
    x = draws(4, 3, 32, 32).clamp(-1, 1)
    y = codec(x, seeded(0))[0]
    rec, gan, last = pixel_loss(y, x).mean(), -critic(y).mean(), codec.body.last
    size = lambda loss: float(torch.autograd.grad(loss, last, retain_graph=True)[0].norm())
    weight = float(adaptive_weight(rec, gan, last))
    assert weight * size(gan) == pytest.approx(size(rec), rel=0.02)
    louder = float(adaptive_weight(rec, 100 * gan, last))
    assert louder * 100 == pytest.approx(weight, rel=0.02)
    assert size(100 * gan) > 50 * size(gan)  # the control: unweighed, it would pull a hundred times as hard


def test_an_unscaled_latent_meets_another_time():
    acts_as = lambda t, r: t / (t + r * (1 - t))
    r = 1 / 0.18215
    assert r == pytest.approx(5.49, abs=0.005)
    assert acts_as(0.5, r) == pytest.approx(0.154, abs=5e-4)
    assert acts_as(0.5, 3) == 0.25  # question 1
    z, eps = draws(1000), draws(1000, seed=1)
    for t in (0.2, 0.5, 0.9):
        noised, factor = (1 - t) * r * z + t * eps, r * (1 - t) + t
        at = lambda s, factor=factor: factor * ((1 - s) * z + s * eps)
        assert torch.allclose(noised, at(acts_as(t, r)), atol=1e-9)
        assert not torch.allclose(noised, at(t), atol=0.1)


def test_the_autoencoders_record_says_what_the_lecture_says(lecture):
    scores = latent.AUTOENCODER.record()["scores"]
    for told in (scores["psnr"], scores["read as drawn, noise 0"], scores["std of held-out latents"]):
        assert f"{told:g}".lstrip("0") in lecture
    assert f"{scores['psnr'] + 1:g}" not in lecture  # the control


# ---------------------------------------------------------------- codes


def test_straight_through_borrows_the_gradient_at_the_code():
    """The error is H·(e − z): exact for a quadratic."""
    book = initialised(lambda: Quantizer(16, 2, decay=None), 0).double()
    z = draws(3, 2, 4, 4).requires_grad_()
    curvature = torch.tensor([1.0, 5.0], dtype=torch.float64)[:, None, None]
    loss = lambda y: (0.5 * curvature * y.square()).sum()
    quantised = book(z)[0]
    (borrowed,) = torch.autograd.grad(loss(quantised), z)
    (right,) = torch.autograd.grad(loss(z), z)
    assert torch.allclose(borrowed - right, (curvature * (quantised - z)).detach(), atol=1e-9)
    assert not torch.allclose(borrowed, right, atol=0.1)


def test_an_averaged_code_is_the_weighted_mean_of_what_chose_it():
    gamma, count, total = 0.9, 0.0, 0.0
    batches = [draws(5, seed=k) for k in range(20)]
    for batch in batches:
        count = gamma * count + (1 - gamma) * len(batch)
        total = gamma * total + (1 - gamma) * float(batch.sum())
    weights = [gamma**age for age in reversed(range(20))]
    mean = sum(w * float(b.sum()) for w, b in zip(weights, batches)) / sum(5 * w for w in weights)
    assert total / count == pytest.approx(mean, abs=1e-12)
    assert abs(total / count - float(torch.cat(batches).mean())) > 1e-3  # the control: all ages alike


def test_restarts_end_a_collapse():
    """Perplexity of 64 codes for eight clouds: at least doubled; and question 2."""

    def clouds(n, generator):
        angle = torch.randint(8, (n,), generator=generator) * math.pi / 4
        return (2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.2 * randn((n, 2), generator))[..., None, None]

    def followed(restart, start=None):
        book = initialised(lambda: Quantizer(64, 2, decay=0.9, restart=restart), 0)
        if start is not None:
            book.load_state_dict(start.state_dict())
        for step in range(100):
            generator = step_generator(0, step)
            book.train()(clouds(256, generator), generator)
        return book.eval()

    collapsed = followed(0.0)
    points = clouds(2000, seeded(5))
    used = lambda book: float(book.perplexity(book.nearest(points)))
    assert used(followed(0.03, collapsed)) > 2 * used(collapsed)
    assert used(followed(0.0, collapsed)) == pytest.approx(used(collapsed), rel=0.2)  # the control: more steps alone
    half = Quantizer(512, 2)
    assert float(half.perplexity(torch.arange(256).repeat(4))) == pytest.approx(256, rel=1e-4)
    assert 256 * math.log2(256) == 2048
    assert 256 * math.log2(512) == 2304


# ---------------------------------------------------------------- Stable Diffusion


def test_clip_asks_its_last_block_at_end_alone():
    model = clip_sprites.MODEL.load().requires_grad_(True)
    prompts = latent.WORLD.prompts(16, 1, "test")
    ids, heard = clip_sprites.tokens(captions(prompts)), []
    hooks = [b.register_forward_hook(lambda m, given, out: heard.append(out)) for b in model.text.blocks[-2:]]
    loss = model.loss(x0=render(place(prompts, 1), 64), tokens=ids).mean()
    before, last = torch.autograd.grad(loss, heard)
    for hook in hooks:
        hook.remove()
    end = ids == model.text.end
    words = model.text.told(ids) & ~end
    assert float(last[words].abs().max()) == 0.0
    assert float(last[end].abs().max()) > 0
    assert float(before[words].norm()) > 1e-6


def test_eps_and_v_are_a_rotation():
    """(6) and (7)."""
    circle, x0, eps = Cosine(), draws(50), draws(50, seed=1)
    for t in torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64):
        alpha, sigma = circle(t)
        x_t, v = alpha * x0 + sigma * eps, V.target(circle, x0, eps, t)
        assert torch.allclose(alpha * x_t - sigma * v, x0, atol=1e-12)
        assert torch.allclose(sigma * x_t + alpha * v, eps, atol=1e-12)
        assert torch.allclose(V.to_x0(circle, x_t, v + 0.01, t), x0 - sigma * 0.01, atol=1e-12)
        if float(alpha) > 0:
            assert torch.allclose((eps - sigma * x_t) / alpha, v, atol=1e-9)
            assert torch.allclose(EPS.to_x0(circle, x_t, eps + 0.01, t), x0 - sigma / alpha * 0.01, atol=1e-9)
    with pytest.raises(ValueError, match=r"^t: got"):
        EPS.to_x0(circle, x0, eps, torch.tensor(1.0, dtype=torch.float64))


def test_stable_diffusions_schedule_does_not_end():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha = float(torch.cumprod(1 - betas, 0)[-1].sqrt())
    assert alpha == pytest.approx(0.068, abs=5e-4)
    sigma = (1 - alpha**2) ** 0.5
    assert alpha / (sigma / 64) == pytest.approx(4.4, abs=0.05)
    assert sigma / alpha * 0.01 == pytest.approx(0.15, abs=0.005)  # question 4


def test_a_negative_prompt_is_a_difference_of_sentences():
    """Equal to the prompt, or at w = 0, it does nothing; else something."""
    model, z, t = latent.LATENT.load(), randn((1, 4, 16, 16), seeded(0)), torch.tensor(0.7)
    told = {text: latent.tokenizer().encode([text]) for text in ("a cat", "a dog", "")}
    ask = lambda negative, w: cfg(model, {"tokens": told["a cat"]}, {"tokens": told[negative][0]}, w)(z, t)
    with torch.no_grad():
        plain = model(z, t, tokens=told["a cat"])
        assert torch.allclose(ask("a cat", 5.0), plain, atol=1e-4)
        assert torch.allclose(ask("a dog", 0.0), plain, atol=1e-5)
        assert not torch.allclose(ask("a dog", 5.0), ask("", 5.0), atol=0.01)


def test_the_lectures_prompts_are_drawn():
    """First seeds; beside what another prompt asked for."""
    texts = ["an astronaut riding a horse", "a cat in the snow"]
    generate = latent.pictures_of(latent.LATENT.load(), latent.AUTOENCODER.load(), steps=30)
    pictures = generate([text for text in texts for _ in range(6)], 1.0, [*range(6)] * 2)
    asked = [LECTURE[text] for text in texts for _ in range(6)]
    assert all(latent.WORLD.split_of(prompt) == "test" for prompt in asked)
    assert float(matches(asked, pictures).float().mean()) >= 0.8
    assert float(matches(asked[6:] + asked[:6], pictures).float().mean()) == 0.0


# ---------------------------------------------------------------- the texts


@pytest.fixture(scope="module")
def lecture(root) -> str:
    return (root / "lectures" / "09_latent_diffusion.md").read_text(encoding="utf-8")


def told_rows(text: str, name: str) -> list[list[str]]:
    return [[cell.strip() for cell in row[1:]] for row in table_rows(text, "to latents") if row[0].strip() == name]


@pytest.mark.parametrize(("row", "model"), [("U-Net", stable_diffusion.MODEL), ("transformer", latent.LATENT)])
def test_the_systems_records_say_what_the_lecture_says(lecture, row, model):
    entry = model.record()
    (cells,) = (line for line in lecture.splitlines() if line.startswith("| ") and row in line and " steps, " in line)
    told = [float(number) for number in re.findall(r"\.\d\d", cells.split("|", 2)[2])]
    families = ("one", "relation", "pair", "count", "riding", "snow")
    said = [entry["scores"][f"{f}, w=1{kind}"] for f in families for kind in ("", ", another caption")]
    assert told == pytest.approx(said, abs=0.0051)
    steps = entry["steps"]
    assert (f"{steps:,} steps" if steps >= 10_000 else f"{steps} steps") in cells
    assert f"{round(entry['seconds'] / 60)} min" in cells


def test_the_benchmarks_say_what_the_lecture_says(root, lecture):
    found = json.loads((root / "benchmarks" / "results" / "bottlenecks.json").read_text(encoding="utf-8"))
    told = lambda pattern: [float(x) for x in re.findall(r"\d*\.?\d+", re.search(pattern, lecture)[1])]
    kinds = ("pixels", "pixels, features", "pixels, features, adversary")
    power = [found["spectrum"][kind]["power against pictures, by cycles per side"]["17–31"] for kind in kinds]
    assert told(r"against that of pictures: (pixels .*)\n") == pytest.approx(power, abs=0.005)
    rates = [found["rates"][name][what] for name in ("KL 0.01", "VQ 1024") for what in ("bits", "psnr")]
    assert told(r"bottlenecks.py`\): (KL .*?dB, VQ .*?dB)") == pytest.approx(rates, rel=0.003)
    seeds = found["collapse"]["seeds"]
    used = [seed[name]["perplexity"] for name in ("without restarts", "with") for seed in seeds]
    assert told(r"collapsed (.*)\n") == pytest.approx(used, abs=0.05)
    channels = found["channels"]
    sharp = [channels[c]["codec"]["psnr"] for c in ("4", "16")]
    drawn = [channels[c]["prior"]["one, right"] for c in ("4", "16")]
    after = channels["steps of the prior"]
    assert told(r"Decoded (.* and .18)\.") == pytest.approx([*sharp, after, *drawn], abs=0.051)

    found = json.loads((root / "benchmarks" / "results" / "stable_diffusion.json").read_text(encoding="utf-8"))
    v, eps, last = found["runs"].values()
    far = [run["x0_error"]["right caption"][found["times"].index(0.99)] for run in (v, eps)]
    assert told(r"at \$t=.99\$: \$v\$ (.*?); lone") == pytest.approx(far, rel=0.01)
    assert told(r"sprites shown: (.22, .*)\n") == [run["one, w=1"] for run in (v, eps, last)]


def test_the_strings_record_says_what_the_lecture_says(lecture):
    scores = latent_strings.LATENT.record()["scores"]
    (line,) = (line for line in lecture.splitlines() if line.startswith("Held-out sentences come back whole"))
    names = ("valid", "of the family", "new among the valid", "different among the valid")
    said = [scores[f"{name}, w={w}"] for name in names for w in (0, 1)]
    assert [float(x) for x in re.findall(r"\.\d{3}", line)[2:]] == pytest.approx(said, abs=0.0006)
    assert min(said[:2]) >= 0.95
    assert min(said[4:6]) >= 0.5
    (line,) = (line for line in lecture.splitlines() if line.startswith("New ones are"))
    name = "words to the nearest known one,"
    far = [scores[f"{name} {kind}"] for kind in ("new ones, w=0", "new ones, w=1", "held-out real ones")]
    assert [float(x) for x in re.findall(r"\d\.\d\d", line)] == pytest.approx(far, abs=0.006)
    assert min(far[:2]) > far[2] > 1, "a model that copied with a slip would be nearer than real sentences"


def test_what_the_u_net_keeps_apart_and_the_transformer_does_not(lecture):
    ours, other = (model.record()["scores"] for model in (latent.LATENT, latent.UNET))
    (line,) = (line for line in lecture.splitlines() if line.startswith("- **Ours.**"))
    (told,) = re.findall(r"Pairs (\S+), several (\.\d\d): .*?: (\S+), (\S+), but relation (\S+)\. More", line)
    said = [ours["pair, w=1"], ours["several, w=1"], *(other[f"{f}, w=1"] for f in ("pair", "several", "relation"))]
    assert [float(x) for x in told] == pytest.approx(said, abs=0.0051)
    assert other["pair, w=1"] > ours["pair, w=1"] + 0.1
    assert ours["relation, w=1"] > other["relation, w=1"] + 0.2


def test_what_the_notebook_asks_to_predict_is_folded_away(lecture):
    assert lecture.count("<details>") == lecture.count("</details>") >= 10
    shown = re.sub(r"<details>.*?</details>", "", lecture, flags=re.DOTALL)
    for told in ("3830", "4.9", "32.9 dB", ".973", ".573", ".38", "nine of ten keep the dog"):
        assert told in lecture
        assert told not in shown
    assert ".154" in shown, "control: what is derived stays in sight"
