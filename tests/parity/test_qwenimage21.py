"""The mask of texts with pictures in them is the one of diffusers' QwenImage21Transformer2DModel.

Qwen-Image 2.1 and HunyuanImage 3.0 have the same: (q ≥ kv) or the same picture. Here it is compared with the function
that builds it, and with what the whole model does when one of its tokens is another.
"""

import pytest
import torch
from _copied import shaken
from diffusers.models.transformers.transformer_qwenimage21 import (
    QwenImage21Transformer2DModel,
    build_qwenimage21_block_causal_mask,
)
from torch import Tensor

from minidiff.nn import masks
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
LAYOUTS = {
    "picture last": [3, (2, 2)],
    "a picture before": [2, (2, 4), 3, (4, 2)],
    "two that touch": [1, (2, 2), (2, 4), 2, (2, 2)],
    "picture first": [(4, 2), 2, (2, 2)],
}


def spans_of(parts: list) -> tuple[int, list[tuple[int, int]]]:
    """How many tokens, and where the pictures are."""
    n, whole = 0, []
    for part in parts:
        size = part if isinstance(part, int) else part[0] * part[1]
        whole += [] if isinstance(part, int) else [(n, n + size)]
        n += size
    return n, whole


def slots(parts: list) -> tuple[Tensor, Tensor, list[tuple[int, int, int]]]:
    """Theirs, in a language model's slots: which are pictures, one for each 2×2 tokens; which tokens; their shapes."""
    sizes = [(part, False) if isinstance(part, int) else (part[0] * part[1], True) for part in parts]
    coarse = [picture for n, picture in sizes for _ in range(n // 4 if picture else n)]
    fine = [picture for n, picture in sizes for _ in range(n)]
    return torch.tensor([coarse]), torch.tensor(fine), [(1, *part) for part in parts if not isinstance(part, int)]


@pytest.mark.parametrize("parts", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_mask_is_theirs(parts):
    n, whole = spans_of(parts)
    _, fine, shapes = slots(parts)
    owner, _ = QwenImage21Transformer2DModel.build_token_metadata(fine, shapes)
    theirs = build_qwenimage21_block_causal_mask(owner, None, 1, torch.device("cpu")).mask_mod
    q, kv = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    dense = theirs(torch.zeros_like(q), torch.zeros_like(q), q, kv)
    assert torch.equal(masks.spans(n, whole), dense)
    assert torch.equal(masks.blocks(owner), dense)
    assert not torch.equal(masks.causal(n), dense)  # the control: without the pictures' own blocks


def net():
    return shaken(
        QwenImage21Transformer2DModel(
            patch_size=1, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
            context_in_dim=16, axes_dims_rope=(4, 6, 6),
        )
    )  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("parts", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_whole_model_leaks_where_the_mask_says_and_nowhere_else(parts):
    """Exactly: an output differs, or is the same to the bit. Two layers reach no further than one: it is transitive."""
    coarse, fine, shapes = slots(parts)
    n, whole = spans_of(parts)
    model, mask = net(), masks.spans(n, whole)
    pixels, words = randn((1, int(fine.sum()), 4), seeded(0)), randn((1, coarse.shape[1], 16), seeded(1))
    words = words[:, : coarse.shape[1] - shapes[-1][1] * shapes[-1][2] // 4]  # the last picture is no input of a VLM
    run = lambda pixels, words: model(pixels, words, torch.tensor([0.6]), [shapes], coarse).sample[0]
    whole_answer, text = run(pixels, words), (~coarse[0]).nonzero()[:, 0].tolist()
    for token in range(n):
        other_pixels, other_words = pixels.clone(), words.clone()
        if bool(fine[token]):
            other_pixels[0, int(fine[:token].sum())] += 1
        else:
            slot = text[int((~fine[:token]).sum())]
            other_words[0, slot] = randn((16,), seeded(2))
        changed = (run(other_pixels, other_words) != whole_answer).any(-1)
        assert changed.tolist() == mask[:, token].tolist()
