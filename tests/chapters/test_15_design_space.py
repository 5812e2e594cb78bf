"""The claims of chapter 15, each with a control that must fail."""

import math
from dataclasses import astuple

import pytest
import torch
from _pages import table_rows

from minidiff.guidance import bind
from minidiff.judges.scorecard import Score
from minidiff.predictions import velocity_weight
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddim, euler, sample
from minidiff.schedules import DDPM, Cosine, Linear
from minidiff.systems import atlas, corners, imagen, leaderboard
from minidiff.systems.design import AXES, cells, differing, noise_weight, valid


@pytest.fixture(scope="module")
def lecture(root):
    return (root / "lectures" / "15_design_space.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def board():
    return leaderboard.sections(leaderboard.read())


# ---------------------------------------------------------------- derivations


def test_the_cells_are_counted(lecture):
    """Section 1, and question 3."""
    clash = lambda *axes: sum(bool(cell.reason) and all(axis in cell.reason for axis in axes) for cell in cells())
    assert len(cells()) == math.prod(map(len, AXES.values())) == 72
    assert (clash("'joint attention'", "'U-Net'"), clash("'one sequence'", "'U-Net'")) == (12, 12)
    assert clash("encoder", "'one sequence'") == 8
    assert len(valid()) == 72 - 12 - 12 - 8 == 40
    assert "$72-12-12-8=40$" in lecture
    nets = [cell for cell in valid() if cell.architecture == "U-Net"]
    assert len(nets) == 12
    assert len(valid()) - sum(cell.encoder == "language model" for cell in nets) == 36


def test_one_path_is_another_renamed():
    """(1) and question 1; without the factor it is another picture."""
    x0, eps = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for schedule in (DDPM(), Cosine()):
        for t in (0.1, 0.3, 0.5):
            alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64))
            time = sigma / (alpha + sigma)
            straight = (1 - time) * x0 + time * eps
            torch.testing.assert_close(straight, (alpha * x0 + sigma * eps) / (alpha + sigma))
            assert (straight - (alpha * x0 + sigma * eps)).abs().mean() > 0.05
    assert pytest.approx(0.429, abs=5e-4) == 0.6 / 1.4
    assert pytest.approx(0.714, abs=5e-4) == 1 / 1.4


def test_a_ddpm_network_walks_the_straight_path():
    """Section 2 on a shipped network: DDIM's walk is Euler's, renamed."""
    net = corners.PIXART.load()
    denoise = bind(net, **corners.cell("PixArt-α").read(["a cat", "a dog left of a tree"]))
    grid = torch.linspace(1, 0, 6, dtype=torch.float64)
    alpha, sigma = DDPM()(grid)
    share = sigma / (alpha + sigma)
    named = {float(s): t for s, t in zip(share, grid)}

    def straight(x, t):
        a, s = DDPM()(named[float(t)])
        return denoise(x * float(a + s), named[float(t)])

    noise = randn((2, 4, 16, 16), seeded([0, 1]))
    *_, one = sample(denoise, noise, grid, ddim(DDPM()))
    *_, other = sample(straight, noise / float(alpha[0] + sigma[0]), share, euler(Linear()))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    *_, wrong = sample(lambda x, t: denoise(x, named[float(t)]), noise, share, euler(Linear()))
    assert (one - wrong).abs().mean() > 0.05


def test_what_an_error_counts(lecture):
    """(2), (3) and question 2."""
    x0, eps, guess = torch.randn(3, 4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    error = ((guess - x0) ** 2).mean()
    for t in (0.1, 0.5, 0.9):
        x_t, ell = (1 - t) * x0 + t * eps, 2 * math.log((1 - t) / t)
        noise, velocity = (x_t - (1 - t) * guess) / t, (x_t - guess) / t
        assert float(((noise - eps) ** 2).mean() / error) == pytest.approx(math.exp(ell))
        assert float(((velocity - (eps - x0)) ** 2).mean() / error) == pytest.approx((1 + math.exp(ell / 2)) ** 2)
        at = torch.tensor([t], dtype=torch.float64)
        assert float(noise_weight(Linear(), at)) == pytest.approx(math.exp(ell))
        assert float(velocity_weight(Linear(), at)) == pytest.approx(1 / t**2)
    assert pytest.approx(0.0123, abs=5e-5) == (0.1 / 0.9) ** 2
    assert pytest.approx(1.23, abs=5e-3) == 1 / 0.81
    assert "(.1/.9)² = .0123" in lecture


def seen(n: int, one: float = 0.9, other: float = 0.95, rounds: int = 20_000) -> float:
    """How often two shares of n pictures each are 1.96 standard deviations apart."""
    draws = torch.Generator().manual_seed(n)
    a, b = (torch.binomial(torch.full((rounds,), float(n)), torch.tensor(p), generator=draws) / n for p in (one, other))
    wide = ((a * (1 - a) + b * (1 - b)) / n).sqrt()
    return float(((b - a) > 1.96 * wide).float().mean())


def test_intervals_and_how_many_pictures(lecture):
    """(4), and question 4."""
    low, high = Score(100, 100).interval
    assert (round(low, 3), high) == (0.963, 1.0)
    for k, told in ((190, (0.910, 0.973)), (180, (0.851, 0.934))):
        assert Score(k, 200).interval == pytest.approx(told, abs=5e-4)
    z, one, other = 1.96, 0.9, 0.95
    n = z**2 * (one * (1 - one) + other * (1 - other)) / (one - other) ** 2
    assert round(n) == 211
    assert "takes 211 pictures" in lecture
    assert z * math.sqrt((one * (1 - one) + other * (1 - other)) / 200) == pytest.approx(0.051, abs=5e-4)
    assert seen(211) == pytest.approx(0.5, abs=0.04)  # an even chance
    assert seen(422) == pytest.approx(0.8, abs=0.03)  # four of five
    best = torch.randn(40_000, 20, generator=torch.Generator().manual_seed(0)).amax(1).mean()
    assert float(best) == pytest.approx(1.87, abs=0.02)


# ---------------------------------------------------------------- tables


def test_the_table_of_real_models_is_the_atlas(lecture):
    short = {
        "flow": "flow matching", "LM": "language model", "CLIP, LM": "CLIP + language model",
        "cross": "cross-attention", "joint": "joint attention", "one": "one sequence",
    }  # fmt: skip
    told = {
        row[0]: tuple(short.get(value, value) for value in row[1:6]) for row in table_rows(lecture, "|model|paradigm")
    }
    assert told == {
        ", ".join(map(str, atlas.models_of(cell))): astuple(cell)
        for cell in dict.fromkeys(real.design for real in atlas.MODELS)
    }


def test_the_table_of_systems_is_the_leaderboard(lecture):
    """What the page shows of it, to the per cent."""
    rows = table_rows(lecture, "|system|10⁶ parameters")
    heads = next(line for line in lecture.splitlines() if line.startswith("|system|")).strip("|").split("|")
    found = leaderboard.read()["systems"]
    assert len(rows) >= 8
    for name, *shown in rows:
        cells_of = dict(zip(heads[1:], shown, strict=True))
        row = found[name]
        for question in heads[4:-1]:
            if cells_of[question]:
                assert int(cells_of[question]) == round(100 * leaderboard.score(row["asked"][question]).share), name
            else:
                assert question not in row["asked"], (name, question)
        assert int(cells_of["another caption"]) == round(100 * leaderboard.score(row["whole"], "other").share)
        if row["parameters"]:
            assert float(cells_of["10⁶ parameters"]) == pytest.approx(row["parameters"] / 1e6, rel=0.05)


def test_the_table_of_corners_is_their_records(lecture):
    rows = {row[0]: row[1:] for row in table_rows(lecture, "|the cell of|steps")}
    assert rows.keys() == corners.MODELS.keys()
    means = []
    for name, shown in rows.items():
        scores = corners.MODELS[name].record()["scores"]
        own = [100 * scores[family] for family in imagen.WORLD.families]
        other = [100 * scores[f"{family}, another caption"] for family in imagen.WORLD.families]
        assert int(shown[0].replace(",", "")) == corners.MODELS[name].steps
        assert [int(cell) for cell in shown[1:6]] == [round(share) for share in own]
        assert int(shown[6]) == pytest.approx(sum(own) / 5, abs=0.51)
        assert int(shown[7]) == pytest.approx(sum(other) / 5, abs=0.51)
        means.append(sum(own) / 5)
    assert means == sorted(means, reverse=True)


def test_work_of_a_step(lecture):
    """Section 4: at equal parameters the work differs."""
    told = [corners.step_gflops(corners.cell(name)) for name in ("Stable Diffusion 1", "SANA", "Transfusion")]
    assert "{:.1f}, {:.1f} and {:.1f}·10⁹ operations a step of 32 pictures".format(*told) in lecture
    assert told[2] > 2 * told[0]


def test_what_position_alone_says_of_the_corners(lecture):
    """Section 7's text: obeying and drawing cleanly are two things."""
    asked = {name: leaderboard.read()["systems"][f"{name}'s cell"]["asked"] for name in corners.MODELS}
    share = lambda name, question: round(100 * leaderboard.score(asked[name][question]).share)
    told = {name: share(name, "position") for name in asked}
    assert f"PixArt's cell is right in {told['PixArt-α']} of 100, SANA's in {told['SANA']}" in lecture
    assert f"Transfusion's cell ({told['Transfusion']})" in lecture
    assert f"HunyuanImage 3.0's ({told['HunyuanImage 3.0']})" in lecture
    ladder = [share(name, "two objects") for name in ("SANA", "Flux 2", "HunyuanImage 3.0")]
    assert "*two objects*: {}, {}, {}".format(*ladder) in lecture
    means = {n: sum(m.record()["scores"][f] for f in imagen.WORLD.families) / 5 for n, m in corners.MODELS.items()}
    for a, b in (("PixArt-α", "SANA"), ("Transfusion", "HunyuanImage 3.0"), ("Stable Diffusion 3", "Flux 2")):
        assert len(differing(corners.cell(a), corners.cell(b))) == 1
        assert f"{means[a]:.2f} → {means[b]:.2f}".replace("0.", ".") in lecture
