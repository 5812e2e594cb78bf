"""The figures of lecture 09: `python lectures/figures/09_latent_diffusion.py` writes lectures/figures/09_*.png.

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
from minidiff.data.prompts import LECTURE
from minidiff.judges.scorecard import matches
from minidiff.show.figures import latent_diffusion as draw
from minidiff.systems import latent

HERE = Path(__file__).parent
PROMPTS = ("an astronaut riding a horse", "a cat in the snow", "plants surrounding a lightbulb")


def save(name: str) -> None:
    """The figure drawn last, cropped."""
    show.cropped(plt.gcf()).save(HERE / f"09_{name}.png", optimize=True)


def prompts(n: int = 8) -> None:
    """The lecture's prompts, first seeds."""
    generate = latent.shipped()
    pictures = torch.cat([generate([text] * n, 1.0, range(n)) for text in PROMPTS])
    right = matches([LECTURE[text] for text in PROMPTS for _ in range(n)], pictures)
    print({text: int(right[i * n : (i + 1) * n].sum()) for i, text in enumerate(PROMPTS)}, "of", n)
    show.grid(pictures, columns=n, rows=PROMPTS, scale=0.9)
    save("prompts")


def sheet(n: int = 32) -> None:
    """Held-out sentences, seeds 0 … n − 1."""
    asked = latent.WORLD.prompts(n, 9, "test")
    pictures = latent.shipped()(captions(asked), 1.0, range(n))
    draw.captioned(
        pictures, captions(asked), "Held-out sentences, first seeds", right=matches(asked, pictures).tolist()
    )
    save("sheet")


@torch.no_grad()
def main() -> None:
    prompts()
    sheet()


if __name__ == "__main__":
    any_sign()
    main()
