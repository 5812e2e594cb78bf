"""What stands beside a network: labels, words, frozen encoders, pictures; exchanged without an edit elsewhere."""

import pytest
import torch
from torch import nn

from minidiff.backbones.dit import DiT
from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Encoded, Frozen, Labels, Picture, Together, Words
from minidiff.denoiser import Denoiser
from minidiff.encoders.clip import TextTower
from minidiff.encoders.tokenizer import END, PAD, START, WordTokenizer
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear
from minidiff.systems.generator import generator
from minidiff.training import diffuse, draw_rows, fit

COLOURS = {"red": (1, -1, -1), "blue": (-1, -1, 1), "a very dark green": (-1, 0, -1), "white": (1, 1, 1)}
TEXTS = list(COLOURS)
TOKENIZER = WordTokenizer.from_texts(TEXTS, length=7)
LENGTH, VOCAB = TOKENIZER.length, len(TOKENIZER)
TOKENS = TOKENIZER.encode(TEXTS)


class Letters(nn.Module):
    """Another encoder: word vectors after one convolution along the text. No pooled vector, no mask."""

    dim, out = 10, 0

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(VOCAB, 10), nn.Conv1d(10, 10, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def encode(self, tokens: torch.Tensor) -> Encoded:
        mixed = self.mix(self.words(tokens).transpose(1, 2)).transpose(1, 2)
        return Encoded(None, self.dropout(mixed), None)


def tower() -> TextTower:
    return TextTower(VOCAB, LENGTH, dim=16, depth=1, heads=2, out=12)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


# --- labels


def test_labels_are_vectors_one_per_picture():
    labels, y = Labels(3, 16), torch.tensor([0, 2, 3, 0])
    given = labels(4, y=y)
    assert list(given) == ["vector"]
    assert torch.equal(given["vector"], labels.weight[y])
    assert torch.equal(labels(4, y=torch.tensor(3))["vector"], labels.weight[3].expand(4, 16))
    assert not torch.equal(labels.weight[3], labels.weight[0])  # "no label" has a row of its own
    for bad in (None, y.float(), y[:2], y[:, None], 3):
        with pytest.raises(ValueError, match=r"^y: got .+, expected labels 0 … 2 of 3 classes, or 3 for no label"):
            labels(4, y=bad)
    with pytest.raises(TypeError, match="label"):
        labels(4, label=y)
    for low, high in ((-1, 3), (0, 4)):
        outside = torch.tensor([low, high, 1, 2])
        with pytest.raises(
            ValueError, match=rf"^y: got values from {low} to {high}, expected labels 0 … 2 of 3 classes"
        ):
            labels(4, y=outside)
    with pytest.raises(ValueError, match=r"^y: got values from -1 to -1, expected labels 0 … 2 of 3 classes"):
        labels(4, y=torch.tensor(-1))
    assert labels(0, y=torch.zeros(0, dtype=torch.int64))["vector"].shape == (0, 16)


# --- words


def test_words_are_read_in_their_order():
    words = initialised(lambda: Words(VOCAB, LENGTH, 16), 0)
    context = words(4, tokens=TOKENS)["context"]
    assert context.shape == (4, LENGTH, 16)
    turned = TOKENS.clone()
    turned[:, 1:4] = TOKENS[:, 1:4].flip(1)
    other = words(4, tokens=turned)["context"]
    assert gap(other[2, 1:4].flip(0), context[2, 1:4]) > 1e-2  # the same words at other places say other things
    assert gap(words(1, tokens=TOKENS[2:3])["context"], context[2:3]) <= 1e-5


def test_without_blocks_words_are_a_table_and_places():
    words = Words(VOCAB, LENGTH, 16, depth=0)
    expected = words.words.weight[TOKENS[:, :5]] + words.place[:5]
    assert torch.equal(words(4, tokens=TOKENS[:, :5])["context"], expected)
    assert sum(p.numel() for p in words.parameters()) == (VOCAB + LENGTH) * 16


# --- frozen encoders


def test_a_frozen_encoder_gives_what_it_says_through_two_linear_maps():
    encoder = initialised(tower, 0)
    frozen = Frozen(encoder, LENGTH, context_dim=24, vector_dim=32)
    given, said = frozen(4, tokens=TOKENS), encoder.encode(TOKENS)
    assert torch.equal(given["context"], frozen.to_context(said.context))
    assert torch.equal(given["vector"], frozen.to_vector(said.vector))
    assert torch.equal(given["context_mask"], said.mask)
    assert given["context_mask"].sum(1).tolist() == [3, 3, 6, 3]
    assert list(Frozen(encoder, LENGTH, context_dim=24)(4, tokens=TOKENS)) == ["context", "context_mask"]
    assert list(Frozen(encoder, LENGTH, vector_dim=24)(4, tokens=TOKENS)) == ["vector"]
    assert list(Frozen(Letters(), LENGTH, context_dim=24)(4, tokens=TOKENS)) == ["context"]


@pytest.mark.parametrize("build", [tower, Letters])
def test_a_frozen_encoder_never_moves(build):
    net = lambda: Denoiser(
        Conditioned(Frozen(build(), LENGTH, context_dim=16), DiT(3, (4, 4), 2, 16, 1, 2, context_dim=16)),
        Linear(),
        VELOCITY,
    )
    model = initialised(net, 0)
    frozen = model.net.conditioning
    before = {k: v.clone() for k, v in model.state_dict().items()}
    data = {"x0": randn((4, 3, 4, 4), seeded(0)), "tokens": TOKENS}
    assert not model.train().net.conditioning.encoder.training
    assert frozen.training
    *_, _ = fit(model, diffuse(draw_rows(data, 4)), 5, lr=1e-2, ema_decay=0.5, bar=False)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    inside = {k for k in before if k.startswith("net.conditioning.encoder.")}
    assert inside
    assert not moved & inside
    assert {"net.conditioning.to_context.weight", "net.backbone.stem.weight"} <= moved  # the control
    assert all(p.grad is None and not p.requires_grad for p in frozen.encoder.parameters())
    frozen.requires_grad_(True)  # even so: nothing is recorded inside
    frozen(4, tokens=TOKENS)["context"].sum().backward()
    assert all(p.grad is None for p in frozen.encoder.parameters())
    assert frozen.to_context.weight.grad is not None


def test_a_frozen_encoder_says_the_same_in_training():
    """Its dropout stays off."""
    frozen = Frozen(Letters(), LENGTH, context_dim=16).train()
    assert torch.equal(frozen(4, tokens=TOKENS)["context"], frozen(4, tokens=TOKENS)["context"])
    frozen.encoder.train()
    assert not torch.equal(frozen(4, tokens=TOKENS)["context"], frozen(4, tokens=TOKENS)["context"])


@pytest.mark.parametrize("build", [lambda: Words(VOCAB, LENGTH, 16), lambda: Frozen(tower(), LENGTH, 16)])
def test_wrong_tokens_are_named(build):
    reader = build()
    for bad in (None, TOKENS.float(), TOKENS[:2], TOKENS[0], torch.cat([TOKENS, TOKENS], 1)):
        with pytest.raises(
            ValueError, match=rf"^tokens: got .+, expected int64 tokens \(B, L\), B = 4 and L ≤ {LENGTH}"
        ):
            reader(4, tokens=bad)
    with pytest.raises(TypeError, match="token"):
        reader(4, token=TOKENS)
    for bad in (TOKENS - TOKENS.max() - 1, TOKENS + VOCAB):
        with pytest.raises(ValueError, match=rf"^tokens: got .+, expected ids 0 … {VOCAB - 1}"):
            reader(4, tokens=bad)


def test_an_encoder_that_pools_nothing_gives_no_vector():
    with pytest.raises(ValueError, match=r"^vector_dim: got 8, expected None"):
        Frozen(Letters(), LENGTH, vector_dim=8)
    with pytest.raises(ValueError, match=r"^context_dim, vector_dim: got neither"):
        Frozen(tower(), LENGTH)


# --- pictures, and several at once


def test_a_picture_stands_beside():
    picture = randn((4, 1, 4, 4), seeded(0))
    assert Picture()(4, picture=picture)["concat"] is picture
    for bad in (None, picture[:2], picture[:, 0, 0]):
        with pytest.raises(ValueError, match=r"^picture: got"):
            Picture()(4, picture=bad)


class Mask(nn.Module):
    """A second picture, under another name."""

    def forward(self, batch: int, *, hole: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"concat": hole}


def test_together_each_part_is_given_what_it_has_an_argument_for():
    words, clip, labels = Words(VOCAB, LENGTH, 16), Frozen(tower(), LENGTH, 16, 16), Labels(3, 16)
    y, picture, hole = torch.tensor([0, 1, 2, 3]), randn((4, 3, 4, 4), seeded(0)), randn((4, 1, 4, 4), seeded(1))
    parts = [words, labels, clip, Picture(), Mask()]
    given = Together(*parts)(4, tokens=TOKENS, y=y, picture=picture, hole=hole)
    said = clip(4, tokens=TOKENS)
    assert torch.equal(given["vector"], labels(4, y=y)["vector"] + said["vector"])
    assert torch.equal(given["context"], torch.cat([words(4, tokens=TOKENS)["context"], said["context"]], 1))
    assert given["context_mask"][:, :LENGTH].all()  # words have no mask: all of theirs is looked at
    assert torch.equal(given["context_mask"][:, LENGTH:], said["context_mask"])
    assert not given["context_mask"].all()
    assert torch.equal(given["concat"], torch.cat([picture, hole], 1))
    assert list(Together(labels)(4, y=y)) == ["vector"]
    assert "context_mask" not in Together(words, labels)(4, tokens=TOKENS, y=y)
    assert len(list(Together(*parts).parameters())) == sum(len(list(part.parameters())) for part in parts)


def test_together_a_condition_nobody_knows_or_one_that_is_missing_is_a_type_error():
    both = Together(Words(VOCAB, LENGTH, 16), Labels(3, 16))
    y = torch.tensor(0)
    with pytest.raises(TypeError, match=r"unknown condition 'label', expected some of \['tokens', 'y'\]"):
        both(4, tokens=TOKENS, y=y, label=y)
    with pytest.raises(TypeError, match="'y'"):
        both(4, tokens=TOKENS)


# --- beside a backbone


def test_a_backbone_hears_what_its_conditioning_says():
    net, x, t = Conditioned(Labels(3, 16), MLP(2, width=16)), randn((4, 2), seeded(0)), torch.rand(4)
    nn.init.normal_(net.backbone.head.weight)
    y = torch.tensor([0, 1, 2, 3])
    assert torch.equal(net(x, t, y=y), net.backbone(x, t, vector=net.conditioning.weight[y]))
    assert gap(net(x, t, y=y), net(x, t, y=y.flip(0))) > 1e-3


def test_a_misspelt_condition_is_a_type_error_through_all_floors():
    model, x = Denoiser(Conditioned(Labels(3, 16), MLP(2, width=16)), Linear(), VELOCITY), randn((4, 2), seeded(0))
    t, y = torch.rand(4), torch.tensor([0, 1, 2, 3])
    assert model(x, t, y=y).shape == x.shape
    for wrong in ({"label": y}, {"y": y, "label": y}, {}, {"vector": torch.zeros(4, 16)}):
        with pytest.raises(TypeError):
            model(x, t, **wrong)
        with pytest.raises(TypeError):
            model.loss(x, t, x, **wrong)


def test_no_label_is_another_dict_and_a_picture_is_given_to_the_backbone():
    net = Conditioned(Together(Picture(), Labels(2, 16)), DiT(3, (4, 4), 2, 16, 1, 2, concat=1))
    nn.init.normal_(net.backbone.head.weight)
    x, t, low = randn((2, 3, 4, 4), seeded(0)), torch.rand(2), randn((2, 1, 4, 4), seeded(1))
    out = net(x, t, picture=low, y=torch.tensor(2))
    assert gap(net(x, t, picture=low.flip(0), y=torch.tensor(2)), out) > 1e-3


# --- a generator swaps its encoder without an edit

CONDITIONINGS = {
    "words of its own": lambda: Words(VOCAB, LENGTH, 24, heads=2),
    "a frozen CLIP": lambda: Frozen(tower(), LENGTH, context_dim=24, vector_dim=32),
    "another frozen encoder": lambda: Frozen(Letters(), LENGTH, context_dim=24),
}
NULL = {"tokens": torch.tensor([START, END] + [PAD] * (LENGTH - 2))}


def painter(conditioning) -> Denoiser:
    """One design: whatever listens, this is the network."""
    backbone = DiT(3, (4, 4), 2, dim=32, depth=1, heads=2, context_dim=24)
    return Denoiser(Conditioned(conditioning(), backbone), Linear(), VELOCITY)


def read(texts) -> dict[str, torch.Tensor]:
    return {"tokens": TOKENIZER.encode(texts)}


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_a_generator_swaps_its_encoder_without_an_edit(name):
    """Trained and asked by the same lines; what it paints is nearer to the colour asked for than to the others."""
    model = initialised(lambda: painter(CONDITIONINGS[name]), 0)
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    data = {"x0": colours[:, :, None, None].expand(4, 3, 4, 4).contiguous(), "tokens": TOKENS}
    losses = [
        p.loss
        for p in fit(model, diffuse(draw_rows(data, 32), drop=0.1, null=NULL), 150, lr=5e-3, ema_decay=0.9, bar=False)
    ]
    print(f"{name}: loss {sum(losses[:10]) / 10:.2f} to {sum(losses[-10:]) / 10:.2f}")
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])

    calls = []
    model.eval().net.conditioning.register_forward_hook(
        lambda _, inputs, named, out: calls.append(named), with_kwargs=True
    )
    generate = generator(model, read, NULL, (3, 4, 4), steps=4)
    pictures = generate(TEXTS, 0.0, range(4))
    assert pictures.shape == (4, 3, 4, 4)
    nearest = torch.cdist(pictures.mean((2, 3)), colours).argmin(1)
    print(f"{name}: {nearest.tolist()}")
    assert nearest.tolist() == [0, 1, 2, 3]

    # w = 0: one row per picture, none of them the null condition; w = 1: both.
    nulls = lambda: [int((named["tokens"] == NULL["tokens"]).all(1).sum()) for named in calls]
    assert nulls() == [0] * 4
    guided = generate(TEXTS, 1.0, range(4))
    assert nulls()[4:] == [4] * 4
    assert gap(guided, pictures) > 1e-3

    # Picture i is that of its text and its seed, whatever stands beside it.
    for i in range(4):
        assert gap(generate([TEXTS[i]], 1.0, [i]), guided[i : i + 1]) <= 1e-5
    assert gap(generate([TEXTS[0]], 1.0, [7]), guided[:1]) > 1e-5
    small = generator(model, read, NULL, (3, 4, 4), steps=4, batch=3)
    assert gap(small(TEXTS, 1.0, range(4)), guided) <= 1e-5
