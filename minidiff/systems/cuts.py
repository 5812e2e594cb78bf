"""Networks of `ways_in` with something taken away: words that see no picture, words that no block changes (chapter 13).

`one_way` and `still` do it to a trained network while it draws. What the thing was worth from the start only a network
can tell that never had it: `close`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minidiff.backbones.single_stream import SingleStream
from minidiff.denoiser import Denoiser
from minidiff.nn import masks
from minidiff.nn.block import Attend
from minidiff.systems.streams import SQUARES, apart, backbone_of, shared_rows
from minidiff.validate import require


def _closed(module: Attend, inputs: tuple[Any, ...], picture_first: bool) -> tuple[Any, ...]:
    """The arguments of an attention, with a mask in which no word looks at the picture."""
    q, k, v, *mask = inputs
    allowed = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device)
    if picture_first:
        allowed[SQUARES:, :SQUARES] = False
    else:
        allowed[:-SQUARES, -SQUARES:] = False
    return q, k, v, masks.both(mask[0] if mask else None, allowed)


def close(backbone: nn.Module) -> list[RemovableHandle]:
    """From now on words look at words alone; the picture goes on looking at everything. So do copies of the network."""
    both = shared_rows(backbone)
    require(len(both) > 0, "backbone", type(backbone).__name__, "one in which words look at the picture")
    hook = partial(_closed, picture_first=isinstance(backbone, SingleStream))
    return [module.register_forward_pre_hook(hook) for module in both.values()]


@contextmanager
def one_way(model: Denoiser) -> Iterator[Denoiser]:
    """`close` for a while."""
    handles = close(backbone_of(model))
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _kept(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, picture_first: bool) -> Tensor:
    """What a block of both answers, with the words as they came in."""
    text, picture = apart(picture_first, output.shape[1])
    parts = (output[:, picture], inputs[0][:, text])
    return torch.cat(parts if picture_first else parts[::-1], 1)


@contextmanager
def still(model: Denoiser) -> Iterator[Denoiser]:
    """For a while no block changes the words: each reads them as they were before the first (behind the refiners)."""
    backbone, handles = backbone_of(model), []
    hook = partial(_kept, picture_first=isinstance(backbone, SingleStream))
    words = [m for name, m in backbone.named_modules() if name.startswith("double_blocks") and name.endswith(".text")]
    ended = [block.ends for block in words]
    for name, module in backbone.named_children():
        if name in ("single_blocks", "joint_blocks"):
            handles += [block.register_forward_hook(hook) for block in module]  # type: ignore[attr-defined]
    for block in words:
        block.ends = True  # type: ignore[assignment]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()
        for block, was in zip(words, ended):
            block.ends = was
