"""The page of DiT: its sizes, what is the same in all of them, and the errors that the exact denoiser tells apart."""

from dataclasses import replace

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.exact_scenes import ExactScenes, floor
from minidiff.data.prompts import World, place
from minidiff.data.real import FASHION_NAMES
from minidiff.data.scenes import render
from minidiff.randomness import seeded
from minidiff.schedules import Linear
from minidiff.systems import dit, fashion, scenes_text
from minidiff.training import step_generator

FEW = 24


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def untrained(size: str, patch: int) -> dit.Denoiser:
    """With nothing at zero, so that it answers, and hears its caption."""
    model, generator = dit.FAMILY[f"dit-{size}-{patch}"].untrained().requires_grad_(False).eval(), step_generator(0, 0)
    for p in model.parameters():
        p += 0.3 * torch.randn(p.shape, generator=generator)
    return model


# --- the family


def test_nine_models_of_three_sizes_and_three_patches():
    assert list(dit.FAMILY) == [f"dit-{s}-{p}" for s in "sml" for p in (8, 4, 2)]
    for name, model in dit.FAMILY.items():
        assert model.name == name
        assert (model.steps, model.seed, model.options, model.draw) == (
            dit.STEPS, 0, dit.OPTIONS, scenes_text.TEXT.draw
        )  # fmt: skip
    assert [dit.tokens_of(p) for p in dit.PATCHES] == [4, 16, 64]
    assert [len(dit.build("s", p).net.backbone.place) for p in dit.PATCHES] == [4, 16, 64]


def test_patches_change_the_work_and_hardly_the_parameters():
    work = {(s, p): dit.forward_gflops(dit.build(s, p)) for s in dit.SIZES for p in dit.PATCHES}
    count = {key: size(dit.build(*key)) for key in work}
    for s in dit.SIZES:
        assert 7 < work[s, 2] / work[s, 8] < 16
        assert max(count[s, p] for p in dit.PATCHES) < 1.15 * min(count[s, p] for p in dit.PATCHES)
    for p in dit.PATCHES:
        assert work["l", p] > 2.9 * work["m", p] > 10 * work["s", p]
    assert [round(count[s, 4], -3) for s in "sml"] == [75_000, 337_000, 1_004_000]
    assert count["l", 4] == size(scenes_text.build(dit.LENGTH))  # the network of chapter 07's page


def test_work_by_hand():
    """Words and blocks of S/8 by the formula: every multiplication and addition of a matrix product counts."""
    width, blocks, n, words, patch = 32, 3, 4, dit.LENGTH, 8
    pixels = 3 * patch**2
    reader = 12 * words * width**2 + 2 * words**2 * width
    block = 12 * n * width**2 + 2 * words * width**2 + 2 * n * (n + words) * width
    outside = 64 * width + width**2 + 6 * width**2 + 2 * width**2 + 2 * n * pixels * width
    assert dit.forward_gflops(dit.build("s", 8)) * 1e9 == pytest.approx(2 * (reader + blocks * block + outside))
    assert dit.gflops(lambda: torch.zeros(5, 7) @ torch.zeros(7, 3)) == 2 * 5 * 7 * 3 / 1e9


def test_all_of_them_see_the_same_batches():
    first, second = (dit.FAMILY[name].draw()(step_generator(0, 3)) for name in ("dit-s-8", "dit-l-2"))
    assert first.keys() == second.keys() == {"x0", "t", "eps", "tokens"}
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["x0"], dit.S8.draw()(step_generator(0, 4))["x0"])


def test_an_unknown_size_is_named():
    with pytest.raises(ValueError, match="size: got 'xl', expected one of"):
        dit.build("xl", 2)
    with pytest.raises(ValueError, match="patch: got"):
        dit.build("s", 3)


# --- errors


def test_the_exam_is_the_exact_denoisers():
    asked, schedule = dit.exam(FEW), Linear()
    assert asked.x_t.shape == asked.mean.shape == (len(dit.TIMES), FEW, 3, 16, 16)
    for k in (1, 4):
        mean, left = ExactScenes(asked.prompts, schedule).moments(asked.x_t[k], torch.tensor(dit.TIMES[k]))
        assert torch.equal(mean, asked.mean[k])
        assert torch.equal(left, asked.left[k])
    assert {p.split for p in asked.prompts} == {"test"}
    assert dit.exam(FEW) is asked  # made once
    assert dit.exam(8, World(families=("one",)), None).prompts[0].relation is None


def test_the_exam_agrees_with_the_floor_of_exact_scenes():
    """Other noise, the same expectation: within three standard errors of the two."""
    asked, g = dit.exam(96), torch.Generator().manual_seed(5)
    wanted, deviation = floor(asked.prompts, Linear(), torch.tensor(dit.TIMES[3:]), g)
    found = asked.left[3:]
    both = (deviation**2 + found.var(1) / len(asked.prompts)) ** 0.5
    assert bool(((found.mean(1) - wanted).abs() <= 3 * both).all())


def test_the_exact_denoiser_has_no_excess_and_any_other_has():
    asked = dit.exam(96)
    exact = ExactScenes(asked.prompts, Linear())
    moved = lambda x_t, t: exact(x_t, t) + 0.1
    for row, worse in zip(dit.errors_of(exact, asked), dit.errors_of(moved, asked)):
        assert row["excess"] == 0
        assert row["floor"] == worse["floor"]
        assert worse["excess"] == pytest.approx(0.01, rel=1e-4)
        if row["t"] >= 0.8:  # where the floor's mean does not hang on a few pictures
            assert row["loss"] == pytest.approx(row["floor"], rel=0.25)
            assert worse["loss"] == pytest.approx(row["floor"] + 0.01, rel=0.25)
    floors = [row["floor"] for row in dit.errors_of(exact, asked)]
    assert floors == sorted(floors)  # the noisier, the less can be known


def test_what_a_model_that_says_nothing_errs():
    """Untrained it answers 0: loss is the pictures' mean square, at every time."""
    rows, x0 = dit.errors(dit.S8.untrained().eval(), FEW), dit.exam(FEW).x0
    assert [row["t"] for row in rows] == list(dit.TIMES)
    for row in rows:
        assert row["loss"] == pytest.approx(float(x0.square().mean()), rel=1e-5)
    other = dit.errors(untrained("s", 8), FEW)
    assert all(abs(a["loss"] - b["loss"]) > 1e-3 for a, b in zip(rows, other))


def test_captions_are_told_in_the_order_of_the_exam():
    model, asked = untrained("s", 4), dit.exam(FEW)
    tokens, t = scenes_text.tokenizer(dit.LENGTH).encode(captions(asked.prompts)), torch.tensor(dit.TIMES[3])
    with torch.no_grad():
        far = (model(asked.x_t[3], t, tokens=tokens) - asked.mean[3]).square().mean()
        wrong = (model(asked.x_t[3], t, tokens=tokens.flip(0)) - asked.mean[3]).square().mean()
    assert dit.errors(model, FEW)[3]["excess"] == pytest.approx(float(far), rel=1e-5)
    assert float(wrong) != pytest.approx(float(far), rel=1e-5)


def test_scores_hold_all_that_the_benchmark_reads():
    found = dit.scores(untrained("s", 8), 4, FEW)
    assert found["tokens"] == 4
    assert found["forward Gflops"] == pytest.approx(dit.forward_gflops(dit.build("s", 8)), abs=1e-6)
    assert {f"{kind}, t={t:g}" for kind in ("loss", "floor", "excess") for t in dit.TIMES} <= found.keys()
    both = {
        f"{f}{of}, w={w}" for f in ("one", "relation", "objects") for w in (0, 1) for of in ("", ", another caption")
    }
    assert both <= found.keys()
    assert len(found) == 2 + 18 + 2 * (6 + 1)


def test_what_is_shown_of_right_pictures_and_of_those_of_other_captions():
    """Pictures that are right by construction score 1, those drawn for the next caption what the control scores."""
    world, n = scenes_text.WORLD, 40

    def drawn(shift: int):
        def generate(texts, w, seeds):
            family = "relation" if "of" in texts[0] or "above" in texts[0] or "below" in texts[0] else "one"
            prompts = replace(world, families=(family,)).prompts(n, 0, "test")
            assert captions(prompts) == list(texts)
            return render(place(prompts[shift:] + prompts[:shift], seeded(3)))

        return generate

    right, next_ones = dit.shown(drawn(0), 0.0, n), dit.shown(drawn(1), 0.0, n)
    for name in ("one", "relation", "objects", "readable"):
        assert right[name] == 1.0
    for name in ("one", "relation", "objects"):
        assert right[f"{name}, another caption"] < 0.5
        assert next_ones[f"{name}, another caption"] == 1.0
    assert next_ones["readable"] == 1.0


# --- garments


def test_garments_by_class():
    model = dit.FASHION.untrained().requires_grad_(False).eval()
    assert abs(size(model) / size(fashion.build_denoiser()) - 1) < 0.1
    assert len(model.net.backbone.place) == 49
    assert model.net.backbone.conditioning == "adaLN-Zero"
    work = dit.gflops(lambda: model(torch.zeros(1, 1, 28, 28), torch.tensor(0.5), y=torch.tensor(1)))
    assert 0.065 < work < 0.08
    pictures = dit.fashion_of(model, steps=2)([FASHION_NAMES[3], "9"], 1.0, [0, 1])
    assert pictures.shape == (2, 1, 28, 28)
    again = dit.fashion_of(model, steps=2)(["9"], 1.0, [1])
    assert torch.allclose(again[0], pictures[1], atol=1e-5)
    with pytest.raises(ValueError, match="name: got"):
        dit.fashion_of(model, steps=2)(["sock"], 1.0, [0])


def test_what_garments_are_scored_by(fashion_mnist_root, monkeypatch):
    """Real pictures have scores of their own; grey ones are no garments."""
    monkeypatch.setenv("MINIDIFF_DATA", str(fashion_mnist_root))
    grey = lambda texts, w, seeds: torch.zeros(len(texts), 1, 28, 28)
    monkeypatch.setattr(fashion, "pictures_of", lambda model, steps: grey)
    found = dit.fashion_scores(dit.FASHION.untrained(), per_class=4)
    assert found["real, precision"] > 0.4
    assert found["real, recall"] > 0.4
    for w in ("0.0", "1.0", "3.0"):
        assert found[f"judge accuracy at w={w}"] <= 0.15  # all the same grey: at most one class is right
        assert found[f"recall at w={w}"] == 0  # one point, drawn many times, reaches nothing
    batch = dit.draw_fashion(4)(step_generator(0, 0))
    assert batch["x0"].shape == (4, 1, 28, 28)
    assert batch["y"].dtype == torch.int64
