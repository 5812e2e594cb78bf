"""CLIP: the loss in numpy, the scale's bound, reading at END, causality, what 77 tokens cut away, learning."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minidiff.encoders.clip import CLIP, ImageTower, TextTower, contrastive_loss
from minidiff.encoders.tokenizer import END, PAD, START, WordTokenizer
from minidiff.randomness import initialised, randn, seeded
from minidiff.training import fit

VOCAB, LENGTH = 20, 10


def build() -> CLIP:
    text = TextTower(VOCAB, LENGTH, dim=16, depth=2, heads=2, out=12)
    return CLIP(text, ImageTower(channels=3, side=8, patch=4, dim=16, depth=2, heads=2, out=12))


@pytest.fixture
def model() -> CLIP:
    return initialised(build, seed=0).eval()


def units(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(randn((n, d), seeded(seed)), dim=1)


def captions(n: int, seed: int, content: int = 6) -> torch.Tensor:
    """START, `content` words, END, PAD."""
    words = torch.randint(3, VOCAB, (n, content), generator=seeded(seed))
    sides = [torch.full((n, k), i) for k, i in ((1, START), (1, END), (LENGTH - content - 2, PAD))]
    return torch.cat([sides[0], words, *sides[1:]], dim=1)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_a_two_way_cross_entropy(seed):
    image, text = units(7, 5, seed), units(7, 5, 10 + seed)
    s = 14.3 * image.numpy().astype(np.float64) @ text.numpy().astype(np.float64).T
    of_rows = np.diag(np.log(np.exp(s) / np.exp(s).sum(1, keepdims=True)))
    of_columns = np.diag(np.log(np.exp(s) / np.exp(s).sum(0, keepdims=True)))
    assert np.allclose(contrastive_loss(image, text, 14.3).numpy(), -(of_rows + of_columns) / 2, atol=1e-5)
    assert not np.allclose(contrastive_loss(image, text, 14.3).numpy(), -of_rows, atol=1e-2)  # one-way


def test_chance_is_ln_b():
    """At scale 0 for any pairs; at any scale for embeddings that are all the same; and shuffled pairs lose more."""
    image, text = units(32, 64, 0), units(32, 64, 1)
    assert torch.allclose(contrastive_loss(image, text, 0.0), torch.tensor(math.log(32)))
    assert torch.allclose(
        contrastive_loss(image[:1].expand(32, -1), text[:1].expand(32, -1), 50.0), torch.tensor(32.0).log()
    )
    true, shuffled = contrastive_loss(image, image, 20.0).mean(), contrastive_loss(image, image.roll(1, 0), 20.0).mean()
    assert true < 1e-3
    assert shuffled > math.log(32)


def test_the_loss_does_not_depend_on_the_order_of_pairs_or_the_names_of_the_sides():
    image, text, order = units(9, 6, 0), units(9, 6, 1), torch.randperm(9, generator=seeded(2))
    loss = contrastive_loss(image, text, 10.0)
    assert torch.allclose(contrastive_loss(image[order], text[order], 10.0), loss[order], atol=1e-6)
    assert torch.allclose(contrastive_loss(text, image, 10.0), loss, atol=1e-6)


def test_the_scale_starts_at_its_published_value_and_never_passes_100(model):
    assert model.scale.item() == pytest.approx(1 / 0.07, rel=1e-6)
    for value in (4.0, 4.7, 60.0):
        with torch.no_grad():
            model.log_scale.fill_(value)
        assert model.scale.item() == pytest.approx(min(math.exp(value), 100.0), rel=1e-6)


def test_beyond_the_bound_the_scale_has_no_gradient_but_training_brings_it_back(model):
    with torch.no_grad():
        model.log_scale.fill_(6.0)
    assert torch.autograd.grad(model.scale, model.log_scale)[0] == 0
    assert model.scale.item() == pytest.approx(100.0)
    loss = model.loss(randn((4, 3, 8, 8), seeded(0)), captions(4, 0)).mean()
    assert float(model.log_scale.detach()) == pytest.approx(math.log(100.0))
    assert torch.autograd.grad(loss, model.log_scale)[0].abs() > 1e-3


def test_embeddings_are_unit_vectors_and_logits_their_scaled_products(model):
    pictures, tokens = randn((5, 3, 8, 8), seeded(0)), captions(4, 1)
    image, text = model.encode_image(pictures), model.encode_text(tokens)
    assert torch.allclose(image.norm(dim=1), torch.ones(5), atol=1e-6)
    assert torch.allclose(text.norm(dim=1), torch.ones(4), atol=1e-6)
    assert torch.allclose(model.logits(pictures, tokens), (image @ text.T) / 0.07, atol=1e-4)


def test_a_caption_is_read_at_its_first_end(model):
    """Padding, its length, and whatever follows END change nothing; what precedes it does."""
    tokens = captions(4, 0)
    embedding = model.encode_text(tokens)
    noise = tokens.clone()
    noise[:, 8:] = torch.randint(0, VOCAB, (4, 2), generator=seeded(1))
    noise[0, 8] = END
    assert torch.allclose(model.encode_text(noise), embedding, atol=1e-6)
    assert torch.allclose(model.encode_text(tokens[:, :8]), embedding, atol=1e-6)
    changed = tokens.clone()
    changed[:, 1] = (changed[:, 1] - 2) % (VOCAB - 3) + 3
    assert float((model.encode_text(changed) - embedding).norm(dim=1).min()) > 1e-3


def test_a_later_token_leaves_earlier_features(model):
    tokens = captions(3, 0)
    features = model.text.features(tokens)
    for position in (2, 5):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] - 2) % (VOCAB - 3) + 3
        apart = (model.text.features(changed) - features).abs().amax(dim=(0, 2))
        assert apart[:position].max() <= 1e-6
        assert apart[position:].min() > 1e-4


def test_encode_says_three_things_of_a_caption(model):
    """Its vector, one per token, and which of them stand at or before END: with those alone nothing more is seen."""
    tokens = torch.cat([captions(2, 0, content=6), captions(2, 1, content=3)])
    vector, context, mask = model.text.encode(tokens)
    assert torch.equal(vector, model.text(tokens))
    assert torch.equal(context, model.text.features(tokens))
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [8, 8, 5, 5]
    assert torch.equal(mask, torch.arange(LENGTH) < torch.tensor([8, 8, 5, 5])[:, None])
    other = torch.where(mask, tokens, torch.randint(0, VOCAB, tokens.shape, generator=seeded(3)))
    seen = model.text.encode(other)
    assert torch.equal(seen.mask, mask)
    apart = (seen.context - context).abs().amax(-1)
    assert apart[mask].max() <= 1e-6
    assert apart[~mask & (other != tokens)].min() > 1e-4
    assert (model.text.dim, model.text.out) == (context.shape[-1], vector.shape[-1]) == (16, 12)


def test_captions_that_agree_on_75_tokens_are_one_to_clip():
    tokenizer = WordTokenizer(["a", "b", "c"])
    tower = initialised(lambda: TextTower(len(tokenizer), tokenizer.length, 16, 1, 2, 8), seed=0)
    out = tower(tokenizer.encode(["a " * 75 + "b", "a " * 75 + "c", "a " * 74 + "b", "a " * 74 + "c"]))
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[2], out[3])


def test_the_picture_tower_sees_places_and_passes_over_no_patch(model):
    pictures = randn((2, 3, 8, 8), seeded(0))
    embedding = model.encode_image(pictures)
    assert float((model.encode_image(pictures.flip(3)) - embedding).norm(dim=1).min()) > 1e-3
    for row, column in ((0, 0), (4, 0), (0, 4), (4, 4)):
        painted = pictures.clone()
        painted[:, :, row : row + 4, column : column + 4] = 1.0
        assert float((model.encode_image(painted) - embedding).norm(dim=1).min()) > 1e-3


def test_normalisation_is_that_of_pixels_from_0_to_1():
    make = lambda **stats: initialised(lambda: ImageTower(3, 8, 4, 16, 1, 2, 8, **stats), seed=0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    pictures = 2 * torch.rand((2, 3, 8, 8), generator=seeded(0)) - 1
    by_hand = ((pictures + 1) / 2 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.allclose(make(mean=mean, std=std)(pictures), make()(by_hand), atol=1e-5)
    assert not torch.allclose(make(mean=mean, std=std)(pictures), make()(pictures), atol=1e-2)


def pairs(shuffled: bool):
    """A draw of pictures of one flat colour (r, g, b in steps), with the colour's words; or with another's words."""

    def draw(generator):
        levels = torch.randint(0, 5, (32, 3), generator=generator)
        x0 = (levels / 2 - 1.0)[:, :, None, None].expand(-1, -1, 8, 8).contiguous()
        words = levels[torch.randperm(32, generator=generator)] if shuffled else levels
        tokens = torch.cat(
            [torch.full((32, 1), START), words + 3 + torch.tensor([0, 5, 10]), torch.full((32, 1), END)], 1
        )
        return {"x0": x0, "tokens": tokens}

    return draw


@pytest.mark.slow
def test_it_learns_true_pairs_and_nothing_from_shuffled_ones():
    """Seeds 0 to 2 name 78 to 81 % of 32 texts right after true pairs, 0 to 9 % after shuffled ones (chance: 3 %)."""
    found, seed = {}, 0
    for shuffled in (False, True):
        model = initialised(build, seed)
        *_, last = fit(model, pairs(shuffled), 150, lr=3e-3, seed=seed, bar=False)
        batch = pairs(shuffled=False)(seeded(99))
        right = (model.eval().logits(batch["x0"], batch["tokens"]).argmax(1) == torch.arange(32)).float().mean()
        found[shuffled] = (float(right), last.loss)
    assert found[False][0] >= 0.5
    assert found[True][0] <= 0.2
    assert found[True][1] >= 0.9 * math.log(32)


def test_embeddings_of_mixed_precision():
    one, other = units(5, 4, 0), units(5, 4, 1)
    exact = contrastive_loss(one.double(), other.double(), 7.0)
    for a, b in ((one, other.double()), (one.double(), other), (one.half(), other)):
        assert torch.allclose(contrastive_loss(a, b, 7.0).double(), exact, atol=1e-2 if a.dtype == torch.half else 1e-5)


def test_unusable_input_is_named(model):
    pictures, tokens = randn((2, 3, 8, 8), seeded(0)), captions(2, 0)
    for bad in (tokens[0], tokens.float(), torch.cat([tokens, tokens], 1), tokens + VOCAB, tokens.clamp(min=3)):
        with pytest.raises(ValueError, match="tokens: got"):
            model.encode_text(bad)
    for bad in (pictures[0], pictures[:, :1], pictures[..., :4], tokens):
        with pytest.raises(ValueError, match="pictures: got"):
            model.encode_image(bad)
    with pytest.raises(ValueError, match="text_embeddings: got"):
        contrastive_loss(units(3, 4, 0), units(2, 4, 0), 1.0)
    with pytest.raises(ValueError, match="patch: got"):
        ImageTower(3, 8, 3, 16, 1, 2, 8)
    with pytest.raises(ValueError, match="mean: got"):
        ImageTower(3, 8, 4, 16, 1, 2, 8, mean=(0.5,))
    with pytest.raises(ValueError, match=r"mean: got \(\), expected 3 numbers"):  # nothing is not "by default"
        ImageTower(3, 8, 4, 16, 1, 2, 8, mean=())
    with pytest.raises(ValueError, match="heads: got"):
        TextTower(VOCAB, LENGTH, 16, 1, 3, 8)
    with pytest.raises(ValueError, match="text, image: got"):
        CLIP(TextTower(VOCAB, LENGTH, 16, 1, 2, 8), ImageTower(3, 8, 4, 16, 1, 2, 9))
