"""The figures of lecture 10: `python lectures/figures/10_sdxl.py` writes lectures/figures/10_*.png.

Half a minute on one core: nothing is trained.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from minidiff import show
from minidiff.console import any_sign
from minidiff.judges.scorecard import matches
from minidiff.show.figures import sdxl as draw
from minidiff.systems import latent, sdxl, stable_diffusion
from minidiff.systems.sdxl_scores import asked, upright, wide

HERE = Path(__file__).parent
TOLD = {
    "“a cat in the snow”, told\n(0, 0), (6, 0) … (30, 0)": [upright(at) for at in range(0, 36, 6)],
    "“a cat in the snow”, told\n(0, 0), (0, 6) … (0, 30)": [wide(at) for at in range(0, 36, 6)],
    "“an astronaut riding a horse”\na file of 16, 20, 24, 32, 48, 64 px": [
        [side, side, 0, 0, 64, 64] for side in (16, 20, 24, 32, 48, 64)
    ],
}


def save(name: str) -> None:
    """The figure drawn last, cropped."""
    show.cropped(plt.gcf()).save(HERE / f"10_{name}.png", optimize=True)


def framed() -> None:
    """One noise a row: seed 3 for the cat, 1 for the astronaut."""
    rows = []
    for name, sizes in TOLD.items():
        text = name.split("”")[0][1:]
        generate = sdxl.pictures_of(sdxl.BASE.load(), latent.AUTOENCODER.load(), sizes=torch.tensor(sizes).float())
        rows.append(generate([text] * 6, 1.0, [3 if "cat" in text else 1] * 6))
    show.grid(torch.cat(rows), columns=6, rows=list(TOLD), scale=1.3)
    save("framed")


def three(n: int = 10) -> None:
    """Held-out sentences by all three, seeds 0 … n − 1."""
    prompts, texts = asked(sdxl.WORLD, n, 12)
    codec, by = latent.AUTOENCODER.load(), {}
    by["Stable Diffusion 1"] = latent.pictures_of(sdxl.SD_1.load(), codec, 30, start=sdxl.start())
    by["Stable Diffusion 2"] = latent.pictures_of(stable_diffusion.MODEL.load(), codec, 30)
    by["SDXL, base"] = sdxl.pictures_of(sdxl.BASE.load(), codec)
    drawn = {name: generate(texts, 1.0, range(n)) for name, generate in by.items()}
    wrong = {name: ~matches(prompts, x) for name, x in drawn.items()}
    print({name: n - int(bad.sum()) for name, bad in wrong.items()}, "of", n)
    draw.marked(drawn, texts, wrong, "Same sentences, same noise; red: not what was asked", scale=0.95)
    save("three")


@torch.no_grad()
def main() -> None:
    framed()
    three()


if __name__ == "__main__":
    any_sign()
    main()
