"""The claims of chapter 07, each with a control that must fail. Thresholds: three seeds, with a margin."""

import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from minidiff import thresholding, times
from minidiff.cascade import lowered
from minidiff.codecs.losses import psnr
from minidiff.data.captions import captions
from minidiff.data.prompts import World, place
from minidiff.data.scenes import assemble, render
from minidiff.encoders.tokenizer import split
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.nn import masks
from minidiff.nn.block import Attend, Attention, Block, attention_maps
from minidiff.randomness import initialised, randn, seeded
from minidiff.retrieval import auc
from minidiff.systems import imagen, scenes_text, text_lm


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return randn(shape, seeded(seed), dtype=torch.float64)


# ---------------------------------------------------------------- cross-attention


def test_attention_is_the_posterior_mean_of_a_message():
    """Equation (1): keys blurred by a variance of √d, prior e^{‖k‖²/2√d}; and no other answer has a smaller error."""
    d, q, k, v = 8, draws(1, 8), draws(5, 8, seed=1), draws(5, 3, seed=2)
    prior = (k.square().sum(1) / (2 * d**0.5)).exp()
    likelihood = (-(q - k).square().sum(1) / (2 * d**0.5)).exp()
    posterior = prior * likelihood / (prior * likelihood).sum()
    mean = posterior @ v
    given = Attend()(q[None, None], k[None, None], v[None, None])[0, 0, 0]
    assert torch.allclose(given, mean, atol=1e-12)
    flat = likelihood / likelihood.sum()
    assert not torch.allclose(flat @ v, mean, atol=1e-3)  # the control: another prior
    error = lambda o: float(posterior @ (v - o).square().sum(1))
    assert all(error(mean) < error(mean + 0.1 * draws(3, seed=s)) for s in range(3, 8))


def test_scores_have_variance_one_after_the_root():
    q, k = draws(4000, 64), draws(4000, 64, seed=1)
    assert float((q * k).sum(1).var() / 64) == pytest.approx(1.0, rel=0.1)


def test_a_mask_is_exact_and_zeros_are_no_mask():
    attention, words = Attention(8, 2, 4).double(), draws(1, 3, 4)
    x, padded = draws(1, 6, 8, seed=1), torch.cat([words, draws(1, 4, 4, seed=2)], 1)
    told = (torch.arange(7) < 3)[None]
    with torch.no_grad():
        short, long = attention(x, words), attention(x, padded, masks.keys(told))
        assert torch.allclose(short, long, atol=1e-12)
        zeroed = attention(x, padded * told[..., None])
    assert float((zeroed - short).norm() / short.norm()) > 0.01


def test_the_gradient_makes_words_compete():
    """∂loss/∂s_j = a_j·gᵀ(v_j − o)."""
    s, v, g = draws(5).requires_grad_(), draws(5, 3, seed=1), draws(3, seed=2)
    a = s.softmax(0)
    (a @ v @ g).backward()
    o = (a @ v).detach()
    assert torch.allclose(s.grad, a.detach() * ((v - o) @ g), atol=1e-12)
    assert not torch.allclose(s.grad, a.detach() * (v @ g), atol=1e-3)  # the control: no competition


def test_words_are_a_bag_and_trading_keys_is_trading_messages():
    q, k, v = draws(1, 1, 6, 8), draws(1, 1, 5, 8, seed=1), draws(1, 1, 5, 8, seed=2)
    look, order = Attend(), torch.tensor([0, 3, 2, 1, 4])
    plain = look(q, k, v)
    assert torch.allclose(look(q, k[:, :, order], v[:, :, order]), plain, atol=1e-12)
    keys, messages = look(q, k[:, :, order], v), look(q, k, v[:, :, order])
    assert torch.allclose(keys, messages, atol=1e-12)
    assert not torch.allclose(messages, plain, atol=1e-2)


def test_colours_that_trade_messages_trade_places():
    """Pictures of "a red circle left of a blue star": tokens 2 and 7 are the colours, 1 and 6 the articles."""
    model, world = scenes_text.TEXT.load(), World(families=("relation",))
    related = [p for p in world.prompts(700, 3, "test") if p.relation == "left of"]
    asked = [p for p in related if len({g.colour for g in p.groups}) == len({g.kind for g in p.groups}) == 2][:24]
    layers = [m for m in model.modules() if isinstance(m, Block) and m.merged]

    def shown(i, j, parts):
        order = list(range(10))
        order[i], order[j] = j, i
        of = [getattr(m, f"context_{part}") for m in layers for part in parts]
        hooks = [layer.register_forward_hook(lambda module, given, out: out[:, order]) for layer in of]
        seen = parse(scenes_text.pictures_of(model, 10, steps=25)(captions(asked), 0.0, range(len(asked))))
        for hook in hooks:
            hook.remove()
        turned = [p.swapped() for p in asked]
        return [float(matches(prompts, seen).float().mean()) for prompts in (asked, turned)]

    assert len(layers) == 6
    plain, articles, both = shown(0, 0, ""), shown(1, 6, "v"), shown(2, 7, "kv")
    assert min(plain[0], articles[0], both[0]) > 0.85
    assert max(plain[1], articles[1], both[1]) < 0.1
    said, turned = shown(2, 7, "v")
    assert said < 0.1
    assert turned > 0.3


# ---------------------------------------------------------------- the cascade


def chain(table: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """p(16), p(32 | 16), p(64 | 32) of a table over 8 pictures; 32 px know their half, 16 px their quarter."""
    middle = table.reshape(4, 2).sum(1)
    small = middle.reshape(2, 2).sum(1)
    return small, middle.reshape(2, 2) / small[:, None], table.reshape(4, 2) / middle[:, None]


def test_the_chain_rule_is_exact_and_its_divergences_add_up():
    p, q = draws(8).softmax(0), draws(8, seed=1).softmax(0)
    kl = lambda a, b: (a * (a / b).log()).sum(-1)
    (p16, p32, p64), (q16, q32, q64) = chain(p), chain(q)
    assert torch.allclose((p16[:, None] * p32).flatten()[:, None] * p64, p.reshape(4, 2), atol=1e-14)
    p_middle, q_middle = (p16[:, None] * p32).flatten(), (q16[:, None] * q32).flatten()
    parts = kl(p16, q16) + p16 @ kl(p32, q32) + p_middle @ kl(p64, q64)
    assert float(parts) == pytest.approx(float(kl(p, q)), abs=1e-12)
    sampled = kl(p16, q16) + q16 @ kl(p32, q32) + q_middle @ kl(p64, q64)
    assert abs(float(sampled - kl(p, q))) > 1e-3  # the control: stages judged where the *model* has small pictures


def test_noise_brings_two_laws_closer_and_stays_below_the_bound():
    x, other = draws(6), draws(6, seed=1) + 0.5  # two laws of six points each
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)

    def noised(points, s):
        spread = torch.distributions.Normal((1 - s) * points, s)
        return spread.log_prob(grid[:, None]).exp().mean(1).clamp(min=1e-300)

    falling = []
    for s in (0.1, 0.2, 0.3, 0.5, 0.7):
        p, q = noised(x, s), noised(other, s)
        falling.append(float((p * (p / q).log()).sum() * (grid[1] - grid[0])))
        bound = (1 - s) ** 2 / (2 * s**2) * float((x - other).square().mean())
        assert 0 <= falling[-1] <= bound
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > 10 * falling[-1]


# ---------------------------------------------------------------- thresholding


def test_guidance_leaves_the_range_as_far_as_the_lecture_says():
    cond, mean, share, w = 0.9, 0.5, 0.5, 15
    null = share * cond + (1 - share) * mean
    guided = cond + w * (cond - null)
    assert guided == pytest.approx(cond + w * (1 - share) * (cond - mean)) == pytest.approx(3.9)
    assert 1 + w * (1 - -1) == 1 + 2 * w  # both branches at the ends of the range


def test_diffusers_dynamic_threshold_is_static_unless_told_otherwise():
    from diffusers import DDPMScheduler

    x = 3 * randn((8, 3, 16, 16), seeded(0))
    ended = lambda **options: float(
        (DDPMScheduler(thresholding=True, **options)._threshold_sample(x).abs() >= 1).double().mean()
    )
    assert ended() == pytest.approx(0.74, abs=0.01) == pytest.approx(math.erfc(1 / 3 / 2**0.5), abs=0.01)
    assert ended(sample_max_value=100.0) == pytest.approx(0.005, abs=0.002)


# ---------------------------------------------------------------- coarse first


def test_a_band_is_half_settled_where_its_signal_is_as_strong_as_the_noise():
    """(4): the error of the best linear guess, P/(1 + SNR), and question 5."""
    for power, told in ((100.0, 0.91), (1.0, 0.5), (0.01, 0.09)):
        t = math.sqrt(power) / (1 + math.sqrt(power))
        assert t == pytest.approx(told, abs=0.005)
        x0, eps = power**0.5 * draws(200_000), draws(200_000, seed=1)
        x_t = (1 - t) * x0 + t * eps
        gain = (x_t @ x0) / (x_t @ x_t)
        assert float((x0 - gain * x_t).square().mean()) == pytest.approx(power / 2, rel=0.02)


def test_a_smaller_picture_sees_less_noise_by_the_shift_of_stable_diffusion_3():
    k, t = 4, 0.8
    smaller = t / (t + k * (1 - t))
    assert smaller == pytest.approx(0.5)
    assert float(times.shifted(2, k)[1]) == pytest.approx(t)  # ½, shifted
    eps = randn((400, 1, 64, 64), seeded(0))
    assert float(F.avg_pool2d(eps, k).std()) == pytest.approx(1 / k, rel=0.02)
    assert (1 - smaller) / smaller == pytest.approx(k * (1 - t) / t)


# ---------------------------------------------------------------- Imagen


@pytest.fixture(scope="module")
def base():
    return imagen.BASE.load()


def pictures(model, prompts, w=0.0, threshold=thresholding.static):
    return imagen.small_of(model, steps=25, threshold=threshold)(captions(prompts), w, range(len(prompts)))


def shown_of(prompts, drawn) -> float:
    return float(matches(prompts, imagen.seen(drawn)).float().mean())


def test_the_reader_is_frozen_to_the_bit(base):
    inside, alone = base.net.conditioning.encoder.state_dict(), text_lm.MODEL.load().state_dict()
    assert all(torch.equal(inside[name], alone[name]) for name in alone)
    other = initialised(text_lm.build, 0).state_dict()
    assert not all(torch.equal(inside[name], other[name]) for name in alone)


def test_nouns_look_at_their_objects(base):
    """Mean AUC of a noun's map (heads, layers, the steps after t = 0.8) against the mask of the object that is read."""
    prompts = [p for p in imagen.WORLD.prompts(150, 5, "test") if p.relation in ("left of", "right of", "above")][:24]
    empty, found = render(assemble([[]]), 64), {"own": [], "other": [], "untrained": []}
    untrained = initialised(lambda: imagen.build(imagen.frozen_text), 0).eval()
    drawn, looks = None, {}
    for name, model in (("trained", base), ("untrained", untrained)):
        with attention_maps(model) as kept:
            given = pictures(model, prompts)
        drawn = given if name == "trained" else drawn
        looks[name] = word_maps(kept)
    scenes = imagen.seen(drawn).scenes
    for i, prompt in enumerate(prompts):
        kinds, words = [g.kind for g in prompt.groups], split(captions([prompt])[0])
        for thing in scenes.objects(i):
            if thing[0] in kinds:
                mask = (lowered(render(assemble([[thing]]), 64) - empty, 4).abs().amax(1) > 0.1).flatten()
                own = 1 + words.index(thing[0])
                other = 1 + words.index(next(k for k in kinds if k != thing[0]))
                found["own"].append(auc(looks["trained"][i, own], mask))
                found["other"].append(auc(looks["trained"][i, other], mask))
                found["untrained"].append(auc(looks["untrained"][i, own], mask))
    mean = {name: sum(values) / len(values) for name, values in found.items()}
    assert mean["own"] >= 0.85
    assert mean["other"] < mean["own"] - 0.1
    assert mean["untrained"] < 0.65


def word_maps(kept) -> torch.Tensor:
    """(B, M, 256)."""
    found = []
    for name, steps in kept.items():
        if "backbone" in name and "cross" in name:
            weights = torch.stack(steps[5:]).mean((0, 2))
            side = math.isqrt(weights.shape[1])
            squares = weights.transpose(1, 2).unflatten(2, (side, side))
            found.append(F.interpolate(squares, size=(16, 16), mode="bilinear").flatten(2))
    return torch.stack(found).mean(0)


def test_dynamic_thresholding_saturates_less_at_w_15(base):
    prompts = imagen.WORLD.prompts(12, 31, "test")
    ended = {}
    for rule in (thresholding.static, thresholding.dynamic):
        ended[rule.__name__] = float(thresholding.saturated(pictures(base, prompts, 15.0, rule)).mean())
    mild = float(thresholding.saturated(pictures(base, prompts, 0.0)).mean())
    assert ended["dynamic"] < 0.02 < 2 * mild < ended["static"]  # real grounds are white in places, too
    wild = pictures(base, prompts, 15.0, lambda denoise: denoise)
    assert float(wild.abs().max()) > 1.5


def test_low_bands_settle_first(base):
    prompts, seen = imagen.WORLD.prompts(24, 41, "test"), []
    watch = lambda denoise: lambda x_t, t: seen.append((float(t), denoise(x_t, t))) or seen[-1][1]
    final = pictures(base, prompts, threshold=watch)
    rest = torch.stack([bands(x0 - final) for _, x0 in seen])
    half = [max(t for (t, _), left in zip(seen, rest[:, k]) if left <= rest[0, k] / 2) for k in range(8)]
    power = bands(lowered(render(place(imagen.WORLD.prompts(300, 4, "train"), 0), 64), 4))
    assert bool((power.diff() < 0).all())
    assert spearmanr(half, power).statistic >= 0.9
    assert abs(spearmanr(half, power[[3, 0, 6, 1, 7, 2, 5, 4]]).statistic) < 0.9


def bands(x: torch.Tensor) -> torch.Tensor:
    waves = torch.fft.fft2(x.double(), norm="ortho").abs().square().mean((0, 1))
    f = torch.fft.fftfreq(x.shape[-1], 1 / x.shape[-1])
    ring = (f[:, None] ** 2 + f[None] ** 2).sqrt().round()
    return torch.stack([waves[ring == k].mean() for k in range(1, 9)])


class Enlarged:
    """Ten real 32-px pictures, their halves, and what a stage makes of them."""

    prompts = imagen.WORLD.prompts(10, 21, "test")
    texts, others = captions(prompts), captions(prompts[1:] + prompts[:1])
    real = lowered(render(place(prompts, 2), 64), 2)
    small = lowered(real, 2)

    def made(self, stage, low, texts, level, **how):
        return imagen.enlarger(stage.load(), 32, level=level, **how)(low, texts, 0.0, range(10))

    def quality(self, drawn) -> float:
        return float(psnr(drawn, self.real).mean())


def test_a_stage_that_has_seen_noise_repairs_a_fault():
    set_up = Enlarged()
    faulty = imagen.blurred(set_up.small)
    noisy = set_up.quality(set_up.made(imagen.UP_32, faulty, set_up.texts, 0.1))
    assert noisy > set_up.quality(set_up.made(imagen.UP_32_PLAIN, faulty, set_up.texts, 0.0)) + 2
    assert noisy > set_up.quality(set_up.made(imagen.UP_32, faulty, set_up.texts, 0.6)) + 2  # the control: too much


def test_the_sentence_tells_what_a_noisy_small_picture_does_not():
    set_up = Enlarged()
    made = lambda stage, texts, **how: set_up.made(stage, set_up.small, texts, 0.6, **how)
    told, others = made(imagen.UP_32, set_up.texts), made(imagen.UP_32, set_up.others)
    blind = made(imagen.UP_32_BLIND, set_up.texts, blind=True)
    assert shown_of(set_up.prompts, told) > max(shown_of(set_up.prompts, x) for x in (others, blind)) + 0.2
    assert set_up.quality(told) > max(set_up.quality(x) for x in (others, blind))


def told_in(lecture: str, start: str) -> list[float]:
    """The shares and decibels in the paragraph that begins so."""
    (paragraph,) = (block for block in lecture.split("\n\n") if block.startswith(start))
    return [float(number) for number in re.findall(r"(?<![\d.$=])(?:\d+\.\d|1\.00|\.\d\d)(?![\d])", paragraph)]


def test_the_stages_records_say_what_the_lecture_says(root, lecture):
    read = lambda name: json.loads((root / "minidiff" / "assets" / "weights" / f"{name}.json").read_text("utf-8"))[
        "scores"
    ]
    up, blind = read("imagen-32"), read("imagen-32-blind")
    kinds = ("", ", no sentence", ", another's sentence")
    said = [up[f"level {level}{kind}"] for kind in kinds for level in (0.3, 0.6)]
    said += [blind[f"level {level}"] for level in (0.3, 0.6)]
    told = told_in(lecture, "32 px from real 16 px")
    assert [round(x, 2) for x in said] == pytest.approx(told, abs=0.0101)
    plain = read("imagen-32-plain")
    said = [plain[f"blurred, level 0{kind}"] for kind in (", psnr", "")]
    said += [up[f"blurred, level {level}{kind}"] for level in ("0", "0.1", "0.3") for kind in (", psnr", "")]
    said += [plain["level 0, psnr"], plain["level 0"]]
    said += [up[f"level {level}{kind}"] for level in ("0", "0.1", "0.3") for kind in (", psnr", "")]
    assert said == pytest.approx(told_in(lecture, "32-px stage, held-out"), abs=0.0501)


# ---------------------------------------------------------------- the texts


@pytest.fixture(scope="module")
def lecture(root) -> str:
    return (root / "lectures" / "07_text_to_pixels.md").read_text(encoding="utf-8")


def test_the_readers_record_says_what_the_lecture_says(root, lecture):
    scores = json.loads((root / "minidiff" / "assets" / "weights" / "text-lm.json").read_text("utf-8"))["scores"]
    who, colour = "left or upper object or the other, at its word", "colour of an object, at its word"
    pooled = "colour of the left or upper object, pooled"
    said = [scores[who + kind] for kind in ("", ", untrained", ", bag of words")]
    said += [scores[colour + kind] for kind in ("", ", untrained", ", bag of words")]
    said += [scores[pooled], scores[pooled + ", bag of words"]]
    (paragraph,) = re.findall(r"<details><summary>Measured: who is on the left\?.*?</details>", lecture, re.DOTALL)
    told = [float(number) for number in re.findall(r"(?<![\d.])\.\d+", paragraph)]
    assert len(told) == len(said)
    assert all(abs(a - b) <= 0.0051 for a, b in zip(told, said)), list(zip(told, said))


def test_a_cascade_beats_one_stage_at_equal_operations_as_the_lecture_says(root, lecture):
    found = json.loads((root / "benchmarks" / "results" / "cascade.json").read_text(encoding="utf-8"))
    (line,) = (line for line in lecture.splitlines() if line.startswith("Cascade against one stage"))
    families = ("relation", "pair", "snow", "riding", "one")
    kinds = ("cascade", "one stage")
    said = [found[kind][f"{family}, w=0"] for family in families for kind in kinds]
    assert [float(x) for x in re.findall(r"\d?\.\d\d", line)] == pytest.approx(said, abs=0.0051)
    assert found["n"] == 30
    calls, steps = found["operations of a call"], {"16": imagen.BASE, "32": imagen.UP_32, "64": imagen.UP_64}
    spent = sum(calls[side] * model.record()["steps"] for side, model in steps.items())
    assert calls["one stage"] * found["steps of the one stage"] == pytest.approx(spent, rel=1e-3)  # equal, as told
    for family in families[:3]:
        right, other = (found["one stage"][f"{family}, w=0{kind}"] for kind in ("", ", another caption"))
        assert found["cascade"][f"{family}, w=0"] > right > other, family


def test_what_the_notebook_asks_to_predict_is_folded_away(lecture):
    assert lecture.count("<details>") == lecture.count("</details>") >= 12
    shown = re.sub(r"<details>.*?</details>", "", lecture, flags=re.DOTALL)
    for told in (".81 right", "34.1", "static .28", ".85, .10", ".00, .52", ": .97. *The other"):
        assert told in lecture
        assert told not in shown
    assert "3.9" in shown, "control: what is derived stays in sight"
