"""An architecture drawn from what ran: the calls, their order and shapes, and who looked at the words."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from minidiff.backbones.unet import UNet
from minidiff.conditioning import Conditioned, Words
from minidiff.nn.conv import PixelAttention, PixelTransformer, ResBlock
from minidiff.show.architecture import diagram, trace

KINDS = (ResBlock, PixelTransformer, PixelAttention, nn.Conv2d, Words)


@pytest.fixture(scope="module")
def calls():
    net = UNet(3, (8, 16), depth=1, embedding=16, context_dim=8, attention_levels=(1,))
    model = Conditioned(Words(9, 5, 8), net)
    batch = torch.randn(2, 3, 8, 8), torch.full((2,), 0.5)
    return trace(model, lambda: model(*batch, tokens=torch.ones(2, 5, dtype=torch.int64)), KINDS)


def test_every_call_has_its_shape_in_order(calls):
    assert calls[0].kind == "Words"
    assert calls[0].shapes == {"context": (5, 8)}
    assert calls[1].name == "backbone.stem"
    assert calls[1].shapes == {"": (8, 8, 8)}
    assert calls[-1].shapes == {"": (3, 8, 8)}
    assert min(call.shapes[""][-1] for call in calls[1:]) == 4


def test_who_looks_at_the_words_is_seen_and_not_declared(calls):
    looking = [call for call in calls if call.looks_at is not None]
    assert {call.kind for call in looking} == {"PixelTransformer", "PixelAttention"}
    assert {call.looks_at for call in looking} == {5}
    alone = [call for call in calls if call.kind == "PixelAttention" and call.looks_at is None]
    assert [call.name for call in alone] == ["backbone.attention"], "the control: pixels that look at pixels"
    assert all(call.looks_at is None for call in calls if call.kind == "ResBlock")


def test_modules_inside_a_traced_one_are_part_of_it(calls):
    convolutions = [call.name for call in calls if call.kind == "Conv2d"]
    assert all("block" not in name for name in convolutions)
    (block, *_) = [call for call in calls if call.kind == "ResBlock"]
    assert block.parameters > 8 * 8 * 9


def test_hooks_are_gone_afterwards(calls):
    net = UNet(3, (8,), depth=1, attention=False, embedding=8)
    run = lambda: net(torch.zeros(1, 3, 4, 4), torch.zeros(1))
    assert len(trace(net, run, KINDS)) == len(trace(net, run, KINDS))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_run_without_such_modules_is_refused():
    with pytest.raises(ValueError, match=r"kinds: got \['Conv2d'\]"):
        trace(nn.Linear(2, 2), lambda: None, (nn.Conv2d,))


def test_the_diagram_has_a_box_for_every_map_and_an_arrow_for_every_look(calls):
    ax = diagram(calls, "as it ran")
    boxes = [call for call in calls if len(call.shapes.get("", ())) == 3]
    assert len(ax.patches) == len(boxes)
    arrows = [text for text in ax.texts if text.get_text() == ""]
    assert len(arrows) == sum(call.looks_at is not None for call in boxes) > 0
    assert any("context 5×8" in text.get_text() for text in ax.texts)
    plt.close("all")
