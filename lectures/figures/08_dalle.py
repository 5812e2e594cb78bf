"""The figures of lecture 08: `python lectures/figures/08_dalle.py` writes lectures/figures/08_*.png.

About two minutes on one core: nothing is trained.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from minidiff import show
from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.judges.scorecard import matches
from minidiff.show.figures import dalle as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import dalle1, imagen, unclip

HERE = Path(__file__).parent


def save(name: str) -> None:
    """The figure drawn last, cropped."""
    show.cropped(plt.gcf()).save(HERE / f"08_{name}.png", optimize=True)


def systems(n: int = 6) -> None:
    """Held-out sentences, seeds 0 … n − 1: one sample, the best of 32, unCLIP."""
    asked = imagen.WORLD.prompts(n, 29, "test")
    texts, generate = captions(asked), dalle1.shipped()
    drawn = {
        "DALL-E 1,\none sample": generate(texts, 0.0, range(n)),
        "DALL-E 1,\nbest of 32": dalle1.best_of(generate)(texts, 0.0, range(n)),
        "unCLIP": unclip.shipped().generate(texts, 0.0, range(n)),
    }
    print({name: int(matches(asked, x).sum()) for name, x in drawn.items()}, "of", n)
    same_noise(drawn, texts, "")
    save("dalle")


def codes() -> None:
    dvae = dalle1.DVAE.load()
    x = render(place(imagen.WORLD.prompts(300, 1, "test"), 1), 64)
    numbers = dvae.encode(x)
    uses = torch.bincount(numbers.flatten(), minlength=dvae.size)
    squares = x.unflatten(2, (8, 8)).unflatten(4, (8, 8)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    sums = torch.zeros(dvae.size, 3, 8, 8).index_add_(0, numbers.flatten(), squares)
    draw.codebook(sums / uses[:, None, None, None], uses, "")
    save("codes")


def manipulations() -> None:
    model = unclip.shipped()
    asked = imagen.WORLD.prompts(2, 43, "test")
    source = render(place(asked, 8), 64)
    cat, dog, tree = Group("cat"), Group("dog"), Group("tree")
    prompts = [Prompt((kind, tree), "left of") for kind in (cat, dog)]
    before, after = captions(prompts)
    turned = render(place(prompts[:1], 2), 64)[0]
    steps = [0, 0.2, 0.4, 0.6, 0.8, 1]
    rows = {
        "a picture, variations": torch.cat([source[:1], model.variations(source[0], 5, seed=8)]),
        "on the way to another": model.interpolate(source[0], source[1], steps, seed=3),
        f"from “{before}”\nto “{after}”": model.text_diff(turned, before, after, [f / 2 for f in steps], seed=3),
    }
    draw.walk(rows, [], "")
    save("unclip")


@torch.no_grad()
def main() -> None:
    codes()
    manipulations()
    systems()


if __name__ == "__main__":
    any_sign()
    main()
