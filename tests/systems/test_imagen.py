"""Imagen on sprites: the frozen reader, the first pixels, the stages that enlarge them."""

import pytest
import torch
from torch import Tensor

from minidiff.cascade import lowered, noised, staged
from minidiff.data.captions import captions
from minidiff.denoiser import Denoiser
from minidiff.guidance import bind
from minidiff.judges.scorecard import matches
from minidiff.randomness import randn, seeded
from minidiff.systems import clip_sprites, imagen, text_lm
from minidiff.training import step_generator

SENTENCES = ["an astronaut riding a horse", "a cat in the snow", "a cat left of a dog", "a tree and a fish"]


@pytest.fixture(scope="module")
def base() -> Denoiser:
    return imagen.BASE.load()


@pytest.fixture(scope="module")
def up() -> Denoiser:
    return imagen.UP_32.load()


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_reader_is_the_one_that_has_read_texts_only(base: Denoiser, up: Denoiser) -> None:
    """To the bit, in every stage, after all of their training; and CLIP's tower is CLIP's."""
    alone = text_lm.MODEL.load()
    large = imagen.UP_64.load()
    for reader in (base.net.conditioning.encoder, *(m.net.conditioning.parts[0].encoder for m in (up, large))):
        assert same(reader, alone)
    assert not same(text_lm.MODEL.untrained(), alone)
    assert same(imagen.BASE_CLIP.load().net.conditioning.encoder, clip_sprites.MODEL.load().text)


def test_a_step_of_training_moves_the_maps_to_the_reader_but_not_the_reader() -> None:
    model = imagen.BASE.untrained()
    before = {name: p.clone() for name, p in model.named_parameters()}
    batch = {name: value[:4] for name, value in imagen.BASE.draw()(step_generator(0, 0)).items()}
    for _ in range(4):  # the last layers begin at zero: nothing behind them has a gradient in the first steps
        model.loss(**batch).mean().backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert "net.conditioning.to_context.weight" in moved
    assert not any("encoder" in name for name in moved)


def test_held_out_sentences_become_pictures(base: Denoiser) -> None:
    prompts = imagen.WORLD.prompts(20, 5, "test")
    texts = imagen.captions(prompts)
    seen = imagen.seen(imagen.small_of(base, steps=25)(texts, 0.0, range(20)))
    assert matches(prompts, seen).float().mean() >= 0.7
    assert matches(prompts[1:] + prompts[:1], seen).float().mean() <= 0.3


def test_a_picture_does_not_depend_on_its_batch_and_stages_have_noise_of_their_own(up: Denoiser) -> None:
    _, texts, x = imagen.pairs(3, 32)
    low = lowered(x, 2)
    draw = lambda batch, rows: imagen.enlarger(up, 32, 0.3, steps=3, batch=batch)(
        low[rows], texts[rows], 1.0, [7, 8, 9][rows]
    )
    together = draw(20, slice(0, 3))
    assert (together - draw(2, slice(0, 3))).abs().max() <= 1e-5
    assert (together[2:] - draw(20, slice(2, 3))).abs().max() <= 1e-5
    assert (together[:1] - imagen.enlarger(up, 32, 0.3, steps=3)(low[:1], texts[:1], 1.0, [8])).abs().max() > 1e-3
    assert len({seed for stage in (16, 32, 33, 64, 65) for seed in imagen.own_seeds(range(1000), stage)}) == 5000


def test_a_stage_keeps_what_it_is_given(up: Denoiser) -> None:
    prompts, texts, x = imagen.pairs(10, 32)
    low = lowered(x, 2)
    large = imagen.enlarger(up, 32, steps=10)(low, texts, 0.0, range(10))
    assert matches(prompts, imagen.seen(large)).float().mean() >= 0.9
    rms = lambda a, b: float((a - b).square().mean().sqrt())
    assert rms(lowered(large, 2), low) < 0.05 < 0.15 < rms(lowered(large, 2), low.roll(1, 0))


def errors(model: Denoiser, told: float, texts: list[str], low: Tensor, x: Tensor) -> float:
    """Of x̂0 in the middle of the way, where the small picture has the noise 0.6."""
    x_t = model.schedule.add_noise(x, randn(x.shape, seeded(1)), torch.tensor(0.7))
    given = {"low": noised(low, 0.6, seeded(0)), "level": torch.full((len(x),), told), **imagen.read(texts)}
    with torch.no_grad():
        return float((bind(model, **given)(x_t, torch.tensor(0.7)) - x).square().mean())


def test_the_stage_listens_to_the_level_and_to_the_sentence(up: Denoiser) -> None:
    _, texts, x = imagen.pairs(16, 32)
    low = lowered(x, 2)
    told = errors(up, 0.6, texts, low, x)
    assert errors(up, 0.0, texts, low, x) > 1.3 * told  # a lie about the noise
    assert errors(up, 0.6, texts[1:] + texts[:1], low, x) > 1.5 * told


def test_what_the_sentence_and_the_noise_in_training_are_worth() -> None:
    """As shipped: a stage without the sentence errs where the small picture is noisy; one trained on clean pictures
    takes blur for detail."""
    scores = {m.name: m.record()["scores"] for m in (imagen.UP_32, imagen.UP_32_BLIND, imagen.UP_32_PLAIN)}
    own, blind, plain = scores.values()
    assert own["level 0.6"] - blind["level 0.6"] >= 0.3
    assert own["blurred, level 0.3"] - blind["blurred, level 0.3"] >= 0.2
    assert own["blurred, level 0.1, psnr"] - plain["blurred, level 0, psnr"] >= 1


def test_a_blind_stage_hears_nothing() -> None:
    blind = imagen.UP_32_BLIND.load()
    _, texts, x = imagen.pairs(2, 32)
    draw = imagen.enlarger(blind, 32, steps=2, blind=True)
    assert torch.equal(draw(lowered(x, 2), texts, 3.0, [0, 1]), draw(lowered(x, 2), ["", ""], 0.0, [0, 1]))


def test_all_three_sizes(base: Denoiser, up: Denoiser) -> None:
    first = imagen.small_of(base, steps=2)(SENTENCES[:2], 0.0, [0, 1])
    ups = [imagen.enlarger(model, side, steps=1) for model, side in ((up, 32), (imagen.UP_64.load(), 64))]
    assert [x.shape[2] for x in staged(first, ups, SENTENCES[:2], 0.0, [0, 1])] == list(imagen.SIDES)
    assert imagen.pictures_of([imagen.small_of(base, steps=2), *ups])(SENTENCES[:2], 0.0, [0, 1]).shape == (
        2,
        3,
        64,
        64,
    )


@pytest.mark.parametrize(
    ("name", "low", "seeds"),
    [
        ("low", torch.zeros(2, 3, 8, 8), [0, 1]),
        ("low", torch.zeros(1, 3, 16, 16), [0, 1]),
        ("seeds", torch.zeros(2, 3, 16, 16), [0]),
        ("level", torch.zeros(2, 3, 16, 16), [0, 1]),
    ],
)
def test_bad_arguments_are_named(up: Denoiser, name: str, low: Tensor, seeds: list[int]) -> None:
    level = 1.5 if name == "level" else 0.1
    with pytest.raises(ValueError, match=name):
        imagen.enlarger(up, 32, level)(low, SENTENCES[:2], 0.0, seeds)


def test_each_base_is_told_in_the_words_of_its_own_reader() -> None:
    """All three draw what their captions say, and not what the next ones say."""
    prompts = imagen.WORLD.prompts(12, 2, "test")
    for base in imagen.ENCODERS.values():
        first, *_ = imagen.shipped(base)
        pictures = first(captions(prompts), 1.0, range(len(prompts)))
        right = [int(matches(told, imagen.seen(pictures)).sum()) for told in (prompts, prompts[1:] + prompts[:1])]
        assert right[0] >= right[1] + 4
