"""The claims of chapter 08, each with a control that must fail."""

import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minidiff.backbones.autoregressive import TextToCodes
from minidiff.codecs.dvae import gumbel_softmax, kl_uniform
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.scenes import render
from minidiff.encoders.clip import contrastive_loss
from minidiff.randomness import gumbel, initialised, randn, seeded
from minidiff.systems import clip_sprites, dalle1, imagen, latent, unclip
from minidiff.systems.unclip import slerp


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return randn(shape, seeded(seed), dtype=torch.float64)


def kl(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * (a / b).log()).sum(-1).mean())


# ---------------------------------------------------------------- a picture as integers


def test_the_bound_splits_into_two_stages():
    """(1) on a table of 5 pictures and 4 codes: never below, equal for the posterior."""
    decoder, prior = draws(4, 5).softmax(1), draws(4, seed=1).softmax(0)  # p(x | c), p(c | y)
    joint = decoder * prior[:, None]
    evidence = -joint.sum(0).log()  # −ln p(x | y)
    bound = lambda q: (q * (-decoder.log() - prior.log()[:, None] + q.log())).sum(0)
    posterior, other = joint / joint.sum(0), draws(4, 5, seed=2).softmax(0)
    assert torch.allclose(bound(posterior), evidence, atol=1e-12)
    assert bool((bound(other) > evidence + 1e-3).all())
    assert bool(((other * (-decoder.log() - prior.log()[:, None])).sum(0) > bound(other)).all()), "without −H"


def test_the_rate_against_a_prior_that_knows_nothing():
    """(2): ln K − entropy."""
    logits = draws(3, 6, 1, 1)
    q = logits.flatten(1).softmax(1)
    told = math.log(6) - torch.special.entr(q).sum(1)
    assert torch.allclose(kl_uniform(logits), told, atol=1e-9)
    assert float(kl_uniform(torch.zeros(1, 6, 1, 1))) == pytest.approx(0, abs=1e-6)
    assert float((told - torch.special.entr(q).sum(1)).abs().max()) > 0.1, "control"


@pytest.mark.parametrize("logits", [[2.0, 1.0, 0.0, -2.0], [math.log(2), 0.0]])
def test_the_largest_of_logits_and_gumbel_noise_is_a_draw_from_softmax(logits):
    """By the integral of the proof; with normal noise of the same variance it is not."""
    told = torch.tensor(logits, dtype=torch.float64)
    g = torch.linspace(-12, 40, 200_001, dtype=torch.float64)
    cdf = lambda x: (-(-x).exp()).exp()
    pdf = lambda x: (-x - (-x).exp()).exp()
    wins = []
    for k in range(len(told)):
        others = torch.stack([cdf(g - told[j]) for j in range(len(told)) if j != k]).prod(0)
        wins.append(torch.trapezoid(pdf(g - told[k]) * others, g))
    assert torch.allclose(torch.stack(wins), told.softmax(0), atol=1e-6)
    normal = torch.distributions.Normal(0.0, math.pi / 6**0.5)
    below = torch.stack([normal.cdf(g - v) for v in told[:-1]]).prod(0)
    last = float(torch.trapezoid(normal.log_prob(g - told[-1]).exp() * below, g))
    assert abs(last - float(told.softmax(0)[-1])) > 0.005, "control"
    n, noise = 20_000, gumbel((20_000, len(told)), seeded(0))
    drawn = torch.bincount((told + noise).argmax(1), minlength=len(told)) / n
    assert torch.allclose(drawn.double(), told.softmax(0), atol=0.02)


def test_a_cold_softmax_has_the_right_slope_on_average_and_a_wild_one():
    """(3), by integrals over the logistic Λ, beside the library's own slopes."""
    delta = 1.0
    q = 1 / (1 + math.exp(-delta))
    x = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    density = x.sigmoid() * (-x).sigmoid()

    def moments(tau: float) -> tuple[float, float]:
        s = ((delta + x) / tau).sigmoid()
        slope = s * (1 - s) / tau
        return float(torch.trapezoid(slope * density, x)), float(torch.trapezoid(slope**2 * density, x))

    mean, square = moments(1 / 16)
    assert mean == pytest.approx(q * (1 - q), rel=0.01)
    assert square == pytest.approx(q * (1 - q) / (6 / 16), rel=0.02)
    assert moments(4.0)[0] < 0.5 * q * (1 - q), "control: a warm one is biased"
    two = torch.tensor([[delta, 0.0]], dtype=torch.float64).repeat(50_000, 1).requires_grad_()
    for tau in (0.25, 1.0):
        (slope,) = torch.autograd.grad(gumbel_softmax(two, tau, seeded(1))[:, 0].sum(), two)
        mean, square = moments(tau)
        assert float(slope[:, 0].mean()) == pytest.approx(mean, rel=0.05)
        assert float(slope[:, 0].square().mean()) == pytest.approx(square, rel=0.05)


def test_the_share_of_the_largest_of_flat_logits(lecture):
    (line,) = re.findall(r"Mean of the largest .*", lecture)
    told = [float(x) for x in re.findall(r"(?<=\$ )\.\d\d", line)]
    flat = torch.zeros(4000, 64)
    found = [float(gumbel_softmax(flat, tau, seeded(0)).amax(1).mean()) for tau in (1.0, 1 / 4, 1 / 16)]
    assert told == pytest.approx(found, abs=0.01)
    assert found[0] < 0.5 < 0.9 < found[2] < 1


def test_the_best_encoder_is_a_softmax_of_distortions():
    """(4): no other q is cheaper."""
    d, beta = draws(5).abs(), 0.3
    price = lambda q: float(q @ d + beta * (q * (5 * q).log()).sum())
    best = (-d / beta).softmax(0)
    others = [(-d / beta + 0.3 * draws(5, seed=k)).softmax(0) for k in range(1, 20)]
    assert all(price(q) > price(best) for q in others)
    assert price((-d / (2 * beta)).softmax(0)) > price(best) + 1e-3, "control: another temperature"


# ---------------------------------------------------------------- one sequence


def model(side: int = 8, dim: int = 32, depth: int = 2) -> TextToCodes:
    made = initialised(lambda: TextToCodes(30, 18, 16, side, dim, depth), 0)
    return made.eval().requires_grad_(False)


def test_a_later_token_changes_nothing_before_it():
    net = model()
    tokens = torch.tensor([[1, 5, 9, 2]])
    codes = torch.randint(16, (1, 64), generator=seeded(0))
    other = codes.clone()
    other[0, 40] = (other[0, 40] + 1) % 16
    logits = [net(tokens, c.view(1, 8, 8))[1] for c in (codes, other)]
    assert float((logits[0] - logits[1])[:, :41].abs().max()) == 0.0
    assert float((logits[0] - logits[1])[:, 41:].abs().min(1).values.max()) > 0

    def open_to_all(c: torch.Tensor) -> torch.Tensor:
        x = torch.cat([net.caption(tokens), net.picture(c[:, :-1])], 1)
        for block in net.blocks:
            x = block(x)
        return net.next_code(net.norm(x))[:, 4:]

    assert float((open_to_all(codes) - open_to_all(other))[:, :41].abs().max()) > 0, "control: no mask"


def test_what_keeping_keys_and_values_saves():
    """82 tokens against 3,232: a factor of 39 by the blocks' weights."""
    m, last = 19, 19 + 63
    assert (last, last * (last + 1) // 2 - m * (m - 1) // 2) == (82, 3232)
    assert pytest.approx(39, abs=0.5) == 3232 / 82
    d = 96
    work = lambda i: 12 * d**2 + 2 * i * d
    ratio = sum(i * work(i) for i in range(m, last + 1)) / sum(map(work, range(1, last + 1)))
    assert ratio > 39

    # counted too, with a picture of 4×4
    small = initialised(lambda: TextToCodes(30, 18, 16, 4, 32, 1), 0).eval().requires_grad_(False)
    tokens, blocks = torch.ones(1, 18, dtype=torch.int64), small.blocks

    def operations(run) -> int:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    def anew() -> None:
        for j in range(16):
            x = torch.cat([small.caption(tokens), small.picture(torch.zeros(1, j, dtype=torch.int64))], 1)
            for block in blocks:
                x = block(x, mask=torch.ones(len(x[0]), len(x[0]), dtype=torch.bool).tril())

    tokens_once, tokens_again = 19 + 15, sum(range(19, 35))
    saved = operations(anew) / operations(lambda: small.sample(tokens, seeded(0)))
    assert saved == pytest.approx(tokens_again / tokens_once, rel=0.1)


def test_one_mistake_in_64_draws_is_enough():
    assert pytest.approx(0.27, abs=0.005) == (1 - 0.02) ** 64
    assert (torch.tensor([2.0, 1.0]) ** 2 / 5).tolist() == pytest.approx([0.8, 0.2])  # question 1, at T = ½
    logits, noise = draws(200, 7), gumbel((200, 7), seeded(3)).double()
    assert torch.equal((logits / 0.5 + noise).argmax(1), (logits + 0.5 * noise).argmax(1))
    assert not torch.equal((logits / 0.5 + noise).argmax(1), (logits + 2 * noise).argmax(1))


def test_guided_steps_are_not_a_guided_picture():
    """Two codes of two kinds: the product of guided conditionals against p(c|y)·[p(c|y)/p(c)]^w."""
    with_y, without = draws(4).softmax(0).view(2, 2), draws(4, seed=1).softmax(0).view(2, 2)
    tilt = lambda p, q, w: p * (p / q) ** w / (p * (p / q) ** w).sum(-1, keepdim=True)
    first = lambda p: p.sum(1)
    then = lambda p: p / p.sum(1, keepdim=True)
    steps = lambda w: tilt(first(with_y), first(without), w)[:, None] * tilt(then(with_y), then(without), w)
    whole = lambda w: with_y * (with_y / without) ** w / (with_y * (with_y / without) ** w).sum()
    assert torch.allclose(steps(0.0), whole(0.0), atol=1e-12)
    assert not torch.allclose(steps(2.0), whole(2.0), atol=1e-3)


# ---------------------------------------------------------------- the best of n


@pytest.mark.parametrize(("n", "nats"), [(2, 0.19), (32, 2.5), (512, 5.2)])
def test_the_best_of_n_is_so_many_nats_away(n, nats):
    """(7), and n/(n + 1)."""
    u = torch.linspace(1e-9, 1, 2_000_001, dtype=torch.float64)
    density = n * u ** (n - 1)
    assert float(torch.trapezoid(density * u, u)) == pytest.approx(n / (n + 1), abs=1e-5)
    away = float(torch.trapezoid(density * density.clamp(min=1e-300).log(), u))
    assert away == pytest.approx(math.log(n) - (n - 1) / n, abs=1e-4)
    assert away == pytest.approx(nats, abs=0.05)
    assert abs(away - math.log(n)) > 0.3, "control"


def test_reranking_multiplies_by_the_rank_and_by_n_at_most():
    """(6) on a table, by all samples of n = 3; with ties the divergence is no larger."""
    n, p = 3, draws(4).softmax(0)

    def best(score: list[float]) -> torch.Tensor:
        found = torch.zeros(4, dtype=torch.float64)
        for a in range(4):
            for b in range(4):
                for c in range(4):
                    top = max(score[a], score[b], score[c])
                    winners = [x for x in (a, b, c) if score[x] == top]
                    for x in winners:
                        found[x] += p[a] * p[b] * p[c] / len(winners)
        return found

    ordered, tied = best([0, 1, 2, 3]), best([0, 1, 1, 3])
    below = p.cumsum(0)
    assert torch.allclose(ordered, below**n - (below - p) ** n, atol=1e-12)
    assert bool((ordered <= n * p + 1e-12).all())
    limit = math.log(n) - (n - 1) / n
    assert kl(tied, p) < kl(ordered, p) < limit
    assert kl(F.one_hot(torch.tensor(3), 4).double().clamp(min=1e-12), p) > limit, "control: always the best"


def test_what_the_best_of_n_can_do():
    q = 0.1
    assert 1 - (1 - q) ** 8 == pytest.approx(0.57, abs=0.005)  # question 3
    assert all(1 - (1 - q) ** n <= n * q for n in range(1, 50))


def test_many_candidates_drawn_by_clip_count_the_caption_twice():
    """Self-normalised: among n draws from p(x|y), chosen with weights p(y|x)/p(y)."""
    prior, likelihood = draws(3).softmax(0), draws(3, seed=1).sigmoid()
    posterior = prior * likelihood / (prior * likelihood).sum()
    n, rounds = 300, 20_000
    drawn = torch.multinomial(posterior.expand(rounds, -1), n, replacement=True, generator=seeded(0))
    weights = likelihood[drawn]
    chosen = drawn.gather(1, torch.multinomial(weights, 1, generator=seeded(1)))[:, 0]
    found = torch.bincount(chosen, minlength=3).double() / rounds
    twice = posterior * likelihood / (posterior * likelihood).sum()
    assert torch.allclose(found, twice, atol=0.012)
    assert not torch.allclose(found, posterior, atol=0.012)


# ---------------------------------------------------------------- embeddings


def test_clips_loss_sees_differences_only():
    """A shift of all captions: rows never notice; columns do not, where pictures are alike."""
    z, h = (F.normalize(draws(6, 16, seed=k), dim=1) for k in (0, 1))
    a = draws(16, seed=2)
    rows = lambda texts: (5 * z @ texts.T).log_softmax(1)
    columns = lambda texts: (5 * z @ texts.T).log_softmax(0)
    assert torch.allclose(rows(h), rows(h + a), atol=1e-9)
    assert not torch.allclose(columns(h), columns(h + a), atol=0.1)
    alike = torch.linalg.svd(z - z.mean(0), full_matrices=True).Vh[5:].sum(0)
    assert torch.allclose(contrastive_loss(z, h, 5.0), contrastive_loss(z, h + alike, 5.0), atol=1e-9)
    assert not torch.allclose(contrastive_loss(z, h, 5.0), contrastive_loss(z, h + a, 5.0), atol=0.1)


def test_the_mean_of_unit_vectors_is_shorter():
    z = F.normalize(draws(500, 8) + 1, dim=1)
    mean = z.mean(0)
    assert float(mean.square().sum()) == pytest.approx(1 - float((z - mean).square().sum(1).mean()), abs=1e-12)
    assert float(mean.norm()) < 0.97


def test_an_unscaled_embedding_is_lost_in_noise():
    acts_as = lambda t, r: t / (t + r * (1 - t))
    assert acts_as(0.5, 1 / 8) == pytest.approx(0.89, abs=0.005)
    z, eps = F.normalize(draws(64), dim=0), draws(64, seed=1)
    assert float(z.square().mean()) == pytest.approx(1 / 64)
    noised, s = 0.5 * z + 0.5 * eps, acts_as(0.5, 1 / 8)
    factor = 0.5 / 8 + 0.5
    assert torch.allclose(noised, factor * ((1 - s) * 8 * z + s * eps), atol=1e-12)
    assert not torch.allclose(noised, factor * (0.5 * 8 * z + 0.5 * eps), atol=0.1)


def test_the_great_circle_at_even_speed():
    """(9), its two conditions, and the chord's middle."""
    a, b = (F.normalize(draws(8, seed=k), dim=0) for k in (0, 1))
    theta, f = torch.acos(a @ b), torch.linspace(0, 1, 7, dtype=torch.float64)
    way = slerp(a, b, f)
    assert torch.allclose(way @ a, torch.cos(f * theta), atol=1e-9)
    assert torch.allclose(way @ b, torch.cos((1 - f) * theta), atol=1e-9)
    assert float((a + b).norm()) / 2 == pytest.approx(math.cos(float(theta) / 2), abs=1e-12)
    straight = F.normalize(torch.lerp(a, b, f[:, None]), dim=1)
    assert not torch.allclose(straight @ a, torch.cos(f * theta), atol=1e-2), "control: a straight line"


def test_the_gap_is_as_the_lecture_says(lecture):
    """As in the notebook: 90 held-out captions, two pictures of each."""
    many = imagen.WORLD.prompts(900, 1, "test")
    prompts = list(dict(zip(captions(many), many)).values())[:90]
    clip = clip_sprites.MODEL.load()
    with torch.no_grad():
        z, again = (clip.encode_image(render(place(prompts, seed), 64)) for seed in (1, 2))
        h = clip.encode_text(clip_sprites.tokens(captions(prompts)))
    apart, half = ~torch.eye(90, dtype=torch.bool), 45
    rule, middle = z[:half].mean(0) - h[:half].mean(0), 0.5 * (z[:half].mean(0) + h[:half].mean(0))
    right = torch.cat([(z[half:] - middle) @ rule > 0, (h[half:] - middle) @ rule < 0])
    found = [(z * h).sum(1), (z @ h.T)[apart], (z @ z.T)[apart], (h @ h.T)[apart], (z * again).sum(1), right.float()]
    (line,) = re.findall(r"Held-out pairs. Mean cosine, .*", lecture)
    assert [float(x) for x in re.findall(r"\.\d\d", line)] == pytest.approx([float(x.mean()) for x in found], abs=0.006)
    assert float(found[4].mean()) > float(found[0].mean()) + 0.03, "control: a caption is not one more picture"


# ---------------------------------------------------------------- the text


@pytest.fixture(scope="module")
def lecture(root) -> str:
    return (root / "lectures" / "08_dalle.md").read_text(encoding="utf-8")


FAMILIES = imagen.WORLD.families
WHOLE = r"(?<![\w.$])(?:\d?\.\d\d|1\.00)(?!\d)"


def row(lecture: str, name: str) -> list[float]:
    (line,) = (line for line in lecture.splitlines() if line.startswith(f"| {name}"))
    return [float(x) for x in re.findall(WHOLE, line)]


def numbers(lecture: str, beginning: str) -> list[float]:
    (line,) = (line for line in lecture.splitlines() if line.startswith(beginning))
    return [float(x) for x in re.findall(WHOLE, line)]


def test_the_discrete_vaes_record_says_what_the_lecture_says(lecture):
    scores = dalle1.DVAE.record()["scores"]
    (line,) = (line for line in lecture.splitlines() if line.startswith("1000 held-out pictures"))
    told = [float(x) for x in re.findall(r"(?<![\d,])\d*\.\d+", line)]
    assert told == pytest.approx([*scores.values()], abs=0.05)
    assert scores["read as drawn"] > 0.9 > 0.1 > scores["read as drawn, another's codes"]
    assert scores["codes in use"] >= 0.6
    assert 64 * math.log2(dalle1.SIZE) == 384
    assert 64 * 64 * 3 * 8 == 98_304


def test_dalle_1s_record_says_what_the_lecture_says(lecture):
    scores = dalle1.PRIOR.record()["scores"]
    for name, split in (("training contents", "train"), ("held out |", "test")):
        said = [scores[f"{f}, {split}{other}"] for f in FAMILIES for other in ("", ", another caption")]
        assert row(lecture, name) == pytest.approx(said, abs=0.0051)
    names = [f"nats per code, {split}{other}" for other in ("", ", another caption") for split in ("train", "test")]
    said = [scores[name] for name in (*names, *(f"{f}, w=1" for f in FAMILIES))]
    assert numbers(lecture, "Nats a code:") == pytest.approx(said, abs=0.0051)
    said = [scores[f"{f}, {way}"] for f in FAMILIES for way in ("one sample", f"best of {dalle1.BEST_OF}")]
    assert numbers(lecture, "Held-out captions shown wholly, 40") == pytest.approx(said, abs=0.0051)
    assert sum(said[1::2]) >= sum(said[::2]) + 0.5, "ten points and more"


def test_unclips_records_say_what_the_lecture_says(lecture):
    prior, decoder = unclip.PRIOR.record()["scores"], unclip.DECODER.record()["scores"]
    said = [prior[f"{f}{other}"] for f in FAMILIES for other in ("", ", another caption")]
    assert row(lecture, "the prior's embedding") == pytest.approx(said, abs=0.0051)
    captions_own = [decoder[f"{f}, the caption's own embedding"] for f in FAMILIES]
    assert row(lecture, "the caption's embedding") == pytest.approx(captions_own, abs=0.0051)
    assert row(lecture, "a real picture's") == pytest.approx([decoder[f] for f in FAMILIES], abs=0.0051)
    assert sum(said[::2]) > sum(said[1::2]) + 1.0, "control: another caption"
    means = [sum(said[::2]) / 5, sum(captions_own) / 5]
    (line,) = (line for line in lecture.splitlines() if line.startswith("The prior was to beat"))
    assert [float(x) for x in re.findall(WHOLE, line)] == pytest.approx(means, abs=0.0051)
    assert means[0] < means[1] + 0.1, "the bar is missed, as the lecture says"
    words = [imagen.BASE_CLIP.record()["scores"][f"{f}, w=1"] for f in ("relation", "riding", "snow")]
    both = [x for f, w in zip(("relation", "riding", "snow"), words) for x in (decoder[f], w)]
    assert numbers(lecture, "One vector, from a real picture")[-6:] == pytest.approx(both, abs=0.0051)
    told = numbers(lecture, "Held-out pictures, one variation each")
    diffs = [
        decoder[f"text diff {x:g}, {how}, read as wanted"]
        for how in ("the picture's noise", "other noise")
        for x in (0.25, 0.5, 0.75)
    ]
    ways = [decoder[f"on the way, at 0.5, read as the {end}"] for end in ("first", "second")]
    said = [decoder["variations read as their picture"], *ways, 0.25, 0.75, *diffs]
    assert told == pytest.approx(said, abs=0.0051)


def test_beside_chapter_09s_transformer(root, lecture):
    """By the records; by the benchmark, where the lecture tells it."""
    mean = lambda scores, how: sum(scores[f"{f}, {how}"] for f in FAMILIES) / 5
    one, other = mean(dalle1.PRIOR.record()["scores"], "test"), mean(latent.LATENT.record()["scores"], "w=0")
    assert numbers(lecture, "Held-out captions shown, mean") == pytest.approx([one, other], abs=0.0051)
    assert round(dalle1.PRIOR.record()["seconds"] / 60) == 13
    (line,) = re.findall(r"Same width and depth.*", lecture)
    found = json.loads((root / "benchmarks" / "results" / "autoregressive.json").read_text(encoding="utf-8"))
    first, second = found["autoregressive"], found["diffusion"]
    share = [run["shares"]["all"]["share"] for run in (first, second)]
    assert [float(x) for x in re.findall(WHOLE, line)] == pytest.approx(share, abs=0.0051)
    spent = [run["cpu_ms_per_picture"] for run in (first, second)]
    assert [float(x) for x in re.findall(r"takes (\d+) and (\d+) ms", line)[0]] == pytest.approx(spent, abs=0.51)
    assert all(abs(run["cpu_s"] - 240) < 30 for run in (first, second)), "equal time, up to the last chunk of pictures"


def test_what_the_notebook_asks_to_predict_is_folded_away(lecture):
    assert lecture.count("<details>") == lecture.count("</details>") >= 10
    shown = re.sub(r"<details>.*?</details>", "", lecture, flags=re.DOTALL)
    for told in ("Mean of the largest", "codes in use .", "Nats a code", "best of 32: one", "Mean cosine"):
        assert told in lecture
        assert told not in shown
    assert "ln n-" in shown, "control: what is derived stays in sight"
