"""SDXL before it is trained: what its parts hear, what training shows them, which network takes which step."""

import pytest
import torch

from minidiff.conditioning import Sized
from minidiff.data.captions import captions
from minidiff.data.photos import MARGIN, SIDE, crop, sheet
from minidiff.data.prompts import place
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import END, PAD, START, split
from minidiff.randomness import randn, seeded
from minidiff.systems import latent, sdxl, sdxl_scores, text_lm
from minidiff.training import fit, step_generator

TEXTS = ["a cat left of a dog", "an astronaut riding a horse", "a cat in the snow"]
SIZES = torch.tensor([[64.0, 64, 0, 0, 64, 64], [96, 64, 17, 0, 64, 64], [16, 24, 0, 9, 64, 64]])


@pytest.fixture(scope="module")
def base() -> Denoiser:
    return shaken(sdxl.BASE.untrained().eval())


@pytest.fixture(scope="module")
def refiner() -> Denoiser:
    return shaken(sdxl.REFINER.untrained().eval())


@pytest.fixture(scope="module")
def autoencoder():
    return latent.AUTOENCODER.load()


def shaken(model: Denoiser) -> Denoiser:
    """Layers that start at zero are moved, so that a network listens before it is trained."""
    for p in model.parameters():
        if p.requires_grad and not bool(p.any()):
            p.data = 0.1 * torch.randn(p.shape, generator=seeded(0))
    return model.requires_grad_(False)


def x0(model: Denoiser, texts=TEXTS, sizes=SIZES, t: float = 0.7, **told) -> torch.Tensor:
    z = randn((len(texts), *latent.LATENT_SHAPE), seeded(1))
    return model(z, torch.tensor(t), **sdxl.conditions(model, texts, sizes, **told))


def moves(a: torch.Tensor, b: torch.Tensor) -> list[bool]:
    return ((a - b).abs().amax((1, 2, 3)) > 1e-4).tolist()


def test_both_tokenizers_make_the_same_tokens_of_every_caption():
    prompts = sdxl.WORLD.prompts(400, 0) + latent.WORLD.prompts(400, 0)
    texts = [*captions(prompts), *latent.spoken(prompts, seeded(0)), ""]
    ours, other = latent.tokenizer().encode(texts), text_lm.tokenizer().encode(texts)[:, : latent.LENGTH]
    assert torch.equal(sdxl.translated()[ours], other)
    assert not torch.equal(ours, other)  # the control: the numbers themselves differ
    assert {int(sdxl.translated()[k]) for k in (PAD, START, END)} == {PAD, START, END}
    assert max(len(split(text)) for text in texts) + 2 <= latent.LENGTH


def test_what_each_network_hears(base, refiner):
    """All of the sentence and of the sizes, but the refiner no target, and a score instead; UNSIZED no size."""
    other = SIZES.clone()
    other[1, 2] = 18
    assert moves(x0(base), x0(base, sizes=other)) == [False, True, False]
    assert moves(x0(refiner), x0(refiner, sizes=other)) == [False, True, False]
    assert moves(x0(base), x0(base, texts=[*TEXTS[:2], "a dog in the snow"])) == [False, False, True]
    assert moves(x0(refiner), x0(refiner, texts=[*TEXTS[:2], "a dog in the snow"])) == [False, False, True]
    target = SIZES.clone()
    target[0, 4] = 96
    assert moves(x0(base), x0(base, sizes=target)) == [True, False, False]
    assert moves(x0(refiner), x0(refiner, sizes=target)) == [False] * 3
    assert moves(x0(refiner), x0(refiner, score=2.0)) == [True] * 3
    assert moves(x0(base), x0(base, score=2.0)) == [False] * 3
    unsized = shaken(sdxl.UNSIZED.untrained().eval())
    assert set(sdxl.conditions(unsized, TEXTS, SIZES)) == {"tokens"}
    assert moves(x0(unsized), x0(unsized, sizes=other)) == [False] * 3


@torch.no_grad()
def test_a_muted_encoder_leaves_the_other_as_it_was():
    tokens = latent.tokenizer().encode(TEXTS)
    both, clip, texts = (sdxl.reader(heard).encode(tokens) for heard in (sdxl.ENCODERS, ["clip"], ["texts"]))
    width = 80
    assert both.context.shape == (3, latent.LENGTH, width + 64)
    assert torch.equal(clip.context[..., :width], both.context[..., :width])
    assert torch.equal(texts.context[..., width:], both.context[..., width:])
    assert not bool(clip.context[..., width:].any() | texts.context[..., :width].any())
    assert both.context[..., :width].any()
    assert torch.equal(texts.vector, both.vector)
    assert not bool(clip.vector.any())  # the pooled vector is the second's
    for heard in ((), ("clip", "t5")):
        with pytest.raises(ValueError, match=r"^heard: got"):
            sdxl.reader(heard)


def test_training_shows_photographs_and_drops_sentences_never_sizes(autoencoder):
    draws = [sdxl.draw_photos(8, autoencoder) for _ in range(2)]
    first, again = (draw(step_generator(0, 70)) for draw in draws)
    assert all(torch.equal(first[k], again[k]) for k in first)
    rows = [draws[0](step_generator(0, step)) for step in range(64, 128)]
    rows = {k: torch.cat([row[k] for row in rows]) for k in first}
    assert {k: tuple(v.shape[1:]) for k, v in rows.items()} == {"x0": (4, 16, 16), "tokens": (18,), "sizes": (6,)}
    _, counts = rows["x0"].flatten(1).unique(dim=0, return_counts=True)
    assert counts.tolist() == [latent.REUSE] * (512 // latent.REUSE)
    silent = (rows["tokens"] == latent.null()["tokens"]).all(1)
    assert silent.float().mean().item() == pytest.approx(sdxl.SILENT, abs=0.05)
    assert len(rows["sizes"][silent].unique(dim=0)) > 10
    scored = sdxl.draw_photos(8, autoencoder, scored=True)(step_generator(0, 70))
    assert torch.equal(scored["sizes"][:, :4], first["sizes"][:, :4])
    assert bool(((scored["sizes"][:, 4] >= 0) & (scored["sizes"][:, 4] <= 10.001)).all())
    assert set(sdxl.draw_photos(8, autoencoder, ("tokens",))(step_generator(0, 70))) == {"x0", "tokens"}


def test_the_refiner_learns_the_last_times_alone():
    t = sdxl.late(400, seeded(0))
    assert bool(((t >= 0) & (t < sdxl.SWITCH)).all())
    assert ((t * 10 / sdxl.SWITCH).long().bincount() == 40).all()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha2 = torch.cumprod(1 - betas, 0)  # Stable Diffusion's schedule
    ratio = ((1 - alpha2) / alpha2).sqrt()
    assert float(ratio[199] / (1 + ratio[199])) == pytest.approx(sdxl.SWITCH, abs=0.02)
    last = float(ratio[-1] / (1 + ratio[-1]))
    s = sdxl.start()
    assert latent.SHIFT * s / (1 + (latent.SHIFT - 1) * s) == pytest.approx(last, abs=0.001)


@pytest.mark.parametrize("model", [sdxl.BASE, sdxl.UNSIZED, sdxl.REFINER], ids=lambda model: model.name)
def test_a_step_of_training_leaves_the_encoders_alone(model):
    net = model.untrained()
    assert sum(p.numel() for p in net.parameters()) <= 1.5e6
    before = {k: v.clone() for k, v in net.state_dict().items()}
    list(fit(net, model.draw(), 1, **model.options, bar=False))
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert not [name for name in moved if "encoder" in name]
    assert any(name.startswith("net.conditioning.mlp") for name in moved) == isinstance(net.net.conditioning, Sized)


def test_each_expert_takes_its_steps():
    seen = []
    note = lambda name: lambda x, t: (seen.append((name, float(t))), x)[1]
    walk = sdxl.experts(note("early"), note("last"), 0.35)
    for t in (1.0, 0.36, 0.35, 0.34, 0.1):
        walk(torch.zeros(1), torch.tensor(t, dtype=torch.float64))
    assert [name for name, _ in seen] == ["early", "early", "early", "last", "last"]


def test_pictures_are_framed_one_by_one(base, refiner, autoencoder):
    draw = lambda sizes, batch=50, refine=None, **more: sdxl.pictures_of(
        base, autoencoder, refine, sizes=sizes, steps=3, batch=batch, **more
    )
    x = draw(SIZES)(TEXTS, 1.0, [4, 5, 6])
    assert x.shape == (3, 3, SIDE, SIDE)
    assert (x - draw(SIZES, batch=2)(TEXTS, 1.0, [4, 5, 6])).abs().max() < 1e-3
    alone = draw(SIZES[1])(TEXTS[1:2], 1.0, [5])
    assert (x[1:2] - alone).abs().max() < 1e-3
    assert (x[:1] - draw(SIZES[1])(TEXTS[:1], 1.0, [4])).abs().max() > 1e-3  # the control: another framing
    by = lambda switch: draw(SIZES, refine=refiner, switch=switch)(TEXTS, 1.0, [4, 5, 6])
    assert (by(0.7) - x).abs().max() > 1e-3  # the last of three steps begins at 0.6
    assert torch.equal(by(0.5), x)
    again = sdxl.refined(refiner, autoencoder, x, TEXTS, 0.0, [1, 2, 3], steps=2)
    assert again.shape == x.shape
    assert (again - x).abs().max() > 1e-3
    for bad in (torch.ones(5), torch.ones(2, 6), torch.ones(3, 5)):
        with pytest.raises(ValueError, match=r"^sizes: got"):
            draw(bad)(TEXTS, 1.0, [4, 5, 6])
    with pytest.raises(ValueError, match=r"^seeds: got"):
        draw(SIZES)(TEXTS, 1.0, [4])


def test_the_measures_read_what_they_are_shown():
    """Real photographs stand for a network that does as it is told, and for one that does not."""

    def draws(refiner=None, *, sizes=sdxl.FRAMED, listens=True):
        def generate(texts, w, seeds):
            prompts, told = sdxl_scores.asked(sdxl_scores.SNOW if "snow" in texts[0] else sdxl_scores.PLAIN, len(texts))
            assert told == list(texts)
            corner = torch.as_tensor(sizes).float().expand(len(texts), 6)[:, 2:4].long() * int(listens)
            return crop(sheet(place(prompts, 3)), *corner.unbind(1))

        return generate

    deaf = lambda *args, **more: draws(*args, **more, listens=False)
    heard = sdxl_scores.corners(draws, every=8)
    assert heard["top of the crop, R²"] == heard["left of the crop, R²"] == 1.0
    assert heard["top of the crop, R², another corner"] < 0
    assert sdxl_scores.corners(deaf, every=8)["top of the crop, R²"] < 0
    cut = [sdxl_scores.cuts(draws(sizes=sdxl_scores.upright(top)), n=40) for top in (0, 16, MARGIN)]
    assert cut[0] == 0.0 < 0.2 < cut[1]
    assert sdxl_scores.wide(9, 16) == [16, 24, 0, 9, SIDE, SIDE]
