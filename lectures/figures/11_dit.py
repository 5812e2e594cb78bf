"""The figures of lecture 11: `python lectures/figures/11_dit.py` writes lectures/figures/11_*.png.

Half a minute on one core: nothing is trained.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from minidiff import show
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.real import FASHION_NAMES
from minidiff.judges.scorecard import matches
from minidiff.show.figures import dit as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import dit, fashion, scenes_text

HERE = Path(__file__).parent


def save(name: str) -> None:
    """The figure drawn last, cropped."""
    show.cropped(plt.gcf()).save(HERE / f"11_{name}.png", optimize=True)


def family() -> None:
    """Six held-out sentences, seeds 0 … 5, by all nine."""
    asked = scenes_text.WORLD.prompts(6, 45, "test")
    drawn, right = {}, {}
    for name, shipped in dit.FAMILY.items():
        model = shipped.load()
        title = f"{name.removeprefix('dit-').upper().replace('-', '/')}: {1e3 * dit.forward_gflops(model):.3g} Mflop"
        drawn[title] = dit.pictures_of(model, 25)(captions(asked), 1.0, range(6))
        right[title] = matches(asked, drawn[title]).tolist()
    print({name: sum(shown) for name, shown in right.items()}, "of", len(asked))
    draw.family(drawn, right, captions(asked), "")
    save("family")


def garments() -> None:
    """Both draw every class from the same noise, w = 0."""
    models = {"DiT": dit.FASHION.load(), "U-Net": fashion.DENOISER.load()}
    drawn = {name: fashion.pictures(range(10), 0.0, 3, model=model) for name, model in models.items()}
    rows = {f"{name}, {k + 1}": x[k::3] for name, x in drawn.items() for k in range(3)}
    same_noise(rows, FASHION_NAMES, "")
    save("garments")


@torch.no_grad()
def main() -> None:
    family()
    garments()


if __name__ == "__main__":
    any_sign()
    main()
