"""The widget of chapter 15: what it shows of a cell, and that it asks for pictures of no cell that cannot be."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from minidiff.show import explore
from minidiff.show.designer import designer, mapped
from minidiff.show.style import RED, SKY
from minidiff.systems import atlas
from minidiff.systems.design import AXES, Design, cells

FIRST = {"paradigm": "DDPM", "space": "latents", "architecture": "U-Net", "encoder": "CLIP",
         "conditioning": "cross-attention", "sentence": "a cat", "seed": 3.0}  # fmt: skip


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure) -> str:
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    found += [ax.get_title("left") for outer in figure.axes for ax in outer.child_axes]
    return " ".join(" ".join(found).split())


def test_the_map_has_a_square_for_each_cell_and_a_frame_around_one():
    _, ax = plt.subplots()
    chosen = atlas.model("Flux 2").design
    mapped(ax, chosen)
    assert len(ax.patches) == 72
    colours = [to_hex(patch.get_facecolor()) for patch in ax.patches]
    assert colours.count(SKY.lower()) == 11
    assert sum(to_hex(patch.get_edgecolor()) == RED.lower() for patch in ax.patches) == 1
    framed = next(patch for patch in ax.patches if to_hex(patch.get_edgecolor()) == RED.lower())
    inside = [
        text.get_text() for text in ax.texts if text.get_position() == (framed.get_x() + 0.5, framed.get_y() + 0.5)
    ]
    assert "Z-Image" in inside[0].replace("\n", " ")
    grey = [colour for colour in colours if colour not in (SKY.lower(), "#ffffff")]
    assert len(grey) == sum(cell.reason is not None for cell in cells()) == 32


def test_a_real_model_is_named_and_its_pictures_are_shown():
    asked = []

    def samples(cell, sentence, seed):
        asked.append((cell, sentence, seed))
        return f"“{sentence}” by it", torch.zeros(2, 3, 64, 64)

    figure = designer(samples)(**FIRST)
    ((cell, sentence, seed),) = asked
    assert cell == atlas.model("SDXL").design
    assert (sentence, seed) == ("a cat", 3)
    assert "Stable Diffusion 1" in texts(figure)
    assert "“a cat” by it" in texts(figure)
    assert len(figure.axes[1].child_axes) == 1


def test_what_cannot_be_and_what_nobody_built_is_said():
    draw = designer(lambda cell, sentence, seed: ("not trained here", None))
    clash = texts(draw(**FIRST | {"conditioning": "joint attention"}))
    assert "Cannot be built" in clash
    assert "architecture 'U-Net' and conditioning 'joint attention'" in clash
    empty = draw(**FIRST | {"paradigm": "flow matching", "space": "pixels"})
    assert "No model here is known" in texts(empty)
    assert "not trained here" in texts(empty)
    assert empty.axes[1].child_axes == []
    with pytest.raises(ValueError, match="encoder"):
        draw(**FIRST | {"encoder": "T5"})


def test_its_controls_draw_anew(capsys):
    seen: list[Design] = []
    draw = designer(lambda cell, sentence, seed: (seen.append(cell), ("", None))[1])
    explorer = explore(draw, **{axis: list(values) for axis, values in AXES.items()}, sentence=["a cat"], seed=[0, 1])
    before = explorer.picture.value
    explorer.set(architecture="transformer", conditioning="joint attention")
    assert seen[-1].architecture == "transformer"
    assert explorer.picture.value != before
