"""A picture of what a generator got wrong: what was asked, what was drawn, what was read."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minidiff.judges.scorecard import Scorecard
from minidiff.validate import require


def failures(card: Scorecard, columns: int = 6) -> Figure:
    """One row per question with its share and up to `columns` wrong pictures: the caption above, the reading below.

    `ValueError` for a scorecard without failures, or for no columns.
    """
    require(columns >= 1, "columns", columns, "at least 1")
    wrong = {question: found[:columns] for question, found in card.failures.items() if found}
    require(bool(wrong), "card", "a scorecard without failures", "at least one wrong picture")
    figure, axes = plt.subplots(len(wrong), columns, figsize=(1.7 * columns, 2.3 * len(wrong)), squeeze=False)
    for row, (question, found) in zip(axes, wrong.items()):
        for ax in row:
            ax.axis("off")
        row[0].text(
            -0.25, 0.5, f"{question}\n{card.scores[question]}", transform=row[0].transAxes, ha="right", fontsize=8
        )
        for ax, (caption, read, picture) in zip(row, found):
            ax.imshow((picture.clamp(-1, 1).permute(1, 2, 0).cpu().numpy() + 1) / 2, interpolation="nearest")
            ax.set_title(textwrap.fill(caption[-60:], 22), fontsize=6, loc="center")
            ax.text(0.5, -0.05, textwrap.fill(read, 24), transform=ax.transAxes, ha="center", va="top", fontsize=6)
    figure.suptitle("Asked (above), drawn, and read (below): the wrong ones", fontsize=9)
    return figure
