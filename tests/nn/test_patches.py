"""Patches of space and time: clips and pictures of any aspect, there and back, and packed in one row."""

import pytest
import torch

from minidiff.nn import masks, rope
from minidiff.nn.block import Block
from minidiff.randomness import randn, seeded
from minidiff.shapes import patchify, unpatchify

DIM = 16


def shaken(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """All parameters random, so that nothing is 0 or 1 by construction."""
    generator = seeded(seed)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("size", [(1, 8, 8), (4, 8, 8), (3, 4, 12), (8, 6, 2)])
@pytest.mark.parametrize("patch", [(1, 2, 2), (1, 1, 2)])
def test_clips_and_pictures_of_any_aspect_come_back_from_their_patches(size, patch):
    x = randn((2, 3, *size), seeded(0))
    tokens = patchify(x, patch)
    assert tokens.shape[1] == size[0] * size[1] * size[2] // (patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(tokens, patch, size), x)
    if size[0] == 1:  # a picture is a clip of one frame
        assert torch.equal(tokens, patchify(x[:, :, 0], patch[1:]))
    if size[1] != size[2]:  # the sides in another order give another clip
        assert not torch.equal(unpatchify(tokens, patch, (size[0], size[2], size[1])).transpose(3, 4), x)


def test_one_patch_spans_frames():
    x = randn((1, 3, 4, 2, 2), seeded(0))
    tokens = patchify(x, (2, 2, 2))
    assert tokens.shape == (1, 2, 24)
    assert torch.equal(tokens[:, 1], patchify(x[:, :, 2:], (2, 2, 2))[:, 0])


def test_clips_and_pictures_packed_in_one_row_are_as_if_alone():
    """A clip of 4 frames, a wide one of 2 and a picture, through two blocks with RoPE on three axes."""
    sizes, axes = [(4, 2, 2), (2, 1, 3), (1, 3, 2)], (2, 4, 2)
    parts = [randn((1, torch.Size(size).numel(), DIM), seeded(i)) for i, size in enumerate(sizes)]
    blocks = [shaken(Block(DIM, 2), seed) for seed in (0, 1)]

    def through(x, places, mask=None):
        for block in blocks:
            x = block(x, mask=mask, rotate=rope.Rotary(places, axes))
        return x

    alone = torch.cat([through(x, rope.grid(*size)) for x, size in zip(parts, sizes)], 1)
    row, places = torch.cat(parts, 1), torch.cat([rope.grid(*size) for size in sizes])
    owner = torch.arange(3).repeat_interleave(torch.tensor([x.shape[1] for x in parts]))
    assert gap(through(row, places, masks.packed(owner)), alone) <= 1e-5
    assert gap(through(row, places), alone) > 1e-2  # without the mask they leak into one another
    assert gap(through(row, torch.arange(len(owner))[:, None] * torch.ones(3), masks.packed(owner)), alone) > 1e-2
