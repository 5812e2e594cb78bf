"""The figure of lecture 14: `python lectures/figures/14_one_transformer.py` writes 14_there_and_back.png beside it.

Captions of the held-out split, drawn by the shipped weights and then described by them.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from minidiff import show
from minidiff.data.captions import captions
from minidiff.judges.scorecard import matches
from minidiff.show.figures import one_transformer as draw
from minidiff.systems import transfusion

HERE = Path(__file__).parent


def main() -> None:
    model = transfusion.MODEL.load()
    prompts = transfusion.WORLD.prompts(9, 21, "test")
    pictures = transfusion.pictures_of(model)(captions(prompts), 1.0, range(9))
    right = matches(prompts, pictures).tolist()
    draw.there_and_back(captions(prompts), pictures, transfusion.texts_of(model, pictures), right, "")
    show.cropped(plt.gcf()).save(HERE / "14_there_and_back.png", optimize=True)


if __name__ == "__main__":
    main()
