"""CLIP, its loss and the search among its embeddings, on a GPU: the same numbers as on the CPU."""

import pytest
import torch

from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.randomness import initialised, randn, seeded
from minidiff.retrieval import Index, auc, match_scores
from minidiff.systems.clip_german import SecondLanguage, align

pytestmark = pytest.mark.cuda
TEXTS = ["a red circle", "a blue star", "a green heart above a red square", "nothing"]
tokenizer = WordTokenizer.from_texts(TEXTS, length=12)


def build() -> CLIP:
    return CLIP(TextTower(len(tokenizer), 12, 32, 2, 4, 16), ImageTower(3, 16, 4, 32, 2, 4, 16))


def test_embeddings_and_losses_agree_with_the_cpu():
    model, tokens, pictures = initialised(build, 0), tokenizer.encode(TEXTS), randn((4, 3, 16, 16), seeded(0))
    on_cpu = (model.encode_text(tokens), model.encode_image(pictures), model.loss(pictures, tokens))
    model, tokens, pictures = model.cuda(), tokens.cuda(), pictures.cuda()
    on_gpu = (model.encode_text(tokens), model.encode_image(pictures), model.loss(pictures, tokens))
    for cpu, gpu in zip(on_cpu, on_gpu):
        assert gpu.device.type == "cuda"
        assert float((cpu - gpu.cpu()).detach().abs().max()) <= 1e-2  # TF32 where it is on


def test_embeddings_from_a_gpu_can_be_searched_and_aligned():
    model, tokens = initialised(build, 0).cuda(), tokenizer.encode(TEXTS).cuda()
    with torch.no_grad():
        texts = model.encode_text(tokens)
    assert [hits[0].index for hits in Index.build(texts).search(texts, 2)] == [0, 1, 2, 3]
    scores = match_scores(texts, texts.roll(1, 0))
    assert auc(scores, torch.tensor([True, False, True, False], device="cuda")) in (0.0, 0.25, 0.5, 0.75, 1.0)
    student = SecondLanguage(initialised(lambda: TextTower(len(tokenizer), 12, 32, 1, 4, 16), 1)).cuda()
    *_, last = align(student, model, tokens, tokenizer.encode(TEXTS), 5, batch=4, bar=False)
    assert last.loss < 4.0
