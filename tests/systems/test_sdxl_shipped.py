"""The shipped SDXL: what it was told is read back from what it drew."""

import pytest
import torch

from minidiff.data.photos import SIDE, detail
from minidiff.judges.framing import corner, cut_off, explained
from minidiff.systems import clip_sprites, latent, sdxl, sdxl_scores, stable_diffusion, text_lm
from minidiff.weights import fingerprint


@pytest.fixture(scope="module")
def base():
    return sdxl.BASE.load()


def pictures(base, texts, sizes, w=1.0):
    draw = sdxl.pictures_of(base, latent.AUTOENCODER.load(), sizes=torch.tensor(sizes, dtype=torch.float32), steps=20)
    return draw(texts, w, range(len(texts)))


def test_a_told_corner_is_read_back(base):
    told = [0, 8, 16, 24, 32]
    texts = sdxl_scores.asked(sdxl_scores.SNOW, 10)[1]
    read = corner(pictures(base, texts, [sdxl_scores.upright(k) for k in told] + [sdxl_scores.wide(k) for k in told]))
    wanted = torch.tensor([(k, 0) for k in told] + [(0, k) for k in told])
    assert explained(wanted[:5, 0], read[:5, 0]) > 0.85
    assert explained(wanted[5:, 1], read[5:, 1]) > 0.85
    assert explained(wanted[:5, 0].flip(0), read[:5, 0]) < 0  # the control: another picture's corner


def test_a_told_size_is_seen_and_a_far_corner_cuts(base):
    texts = sdxl_scores.asked(sdxl_scores.PLAIN, 8)[1]
    blown_up, framed = ([*texts], [[side, side, 0, 0, SIDE, SIDE] for side in (16, SIDE)])
    soft, sharp = (pictures(base, blown_up, [sizes] * 8) for sizes in framed)
    assert detail(sharp).mean() > 1.5 * detail(soft).mean()
    moved = pictures(base, texts, [sdxl_scores.upright(24)] * 8)
    assert cut_off(sharp).sum() <= 1 < 4 <= cut_off(moved).sum()


def test_the_bars_of_micro_conditioning():
    """Of the records: 100 pictures for what is cut off, 17 corners an axis."""
    told, untold = sdxl.BASE.record()["scores"], sdxl.UNSIZED.record()["scores"]
    for axis in ("top", "left"):
        assert told[f"{axis} of the crop, R²"] >= 0.9
        assert told[f"{axis} of the crop, R², another corner"] < 0
        assert told[f"{axis} of the crop, R², not told"] < 0
    assert told["an object is cut off, corner (0, 0)"] <= untold["an object is cut off"] / 3
    sizes = (16, 24, 32, 48, SIDE)
    drawn = [told[f"detail at {side} px"] for side in sizes]
    assert drawn == sorted(drawn)
    assert drawn == pytest.approx([told[f"detail at {side} px, real"] for side in sizes], rel=0.12)


def test_the_refiners_times_are_done_better_by_the_refiner():
    """Of the record: on real pictures, noised and redrawn. In pictures that the base began it mends nothing."""
    found = sdxl.REFINER.record()["scores"]
    for switch in ("0.1", "0.2", "0.35"):
        base, refiner = (f"real, from {switch} by the {name}" for name in ("base", "refiner"))
        assert found[f"{refiner}, error"] < found[f"{base}, error"]
        assert found[f"{refiner}, right"] == found["real, right"] == 1 > found[f"{base}, right"]
    assert found["from 0.6, right"] < 0.6 * found["base alone, right"]  # the control: times that it has not learnt
    assert found["from 0.35, flaws"] > found["from 0.35, flaws of the base"]
    details = [found[f"score {score}, detail"] for score in (2, 6, 10)]
    assert details == sorted(details)


def test_frozen_readers_are_the_shipped_ones(base):
    """Training has moved neither encoder: their weights are those of the pages they come from, as fp16 keeps them."""
    kept = base.net.conditioning.inner.encoder
    assert fingerprint(kept) == fingerprint(sdxl.reader())
    clip, texts = kept.encoders
    assert fingerprint(clip.tower) != fingerprint(clip_sprites.MODEL.untrained().text)  # the control
    assert fingerprint(texts) != fingerprint(text_lm.MODEL.untrained())


def test_stable_diffusion_1_reads_the_last_block_and_predicts_the_noise():
    first, second = sdxl.SD_1.load(), stable_diffusion.MODEL.load()
    assert (first.prediction.name, second.prediction.name) == ("eps", "v")
    skip = [model.net.conditioning.encoder.skip for model in (first, second)]  # type: ignore[union-attr]
    assert skip == [0, 1]
