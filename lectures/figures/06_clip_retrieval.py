"""The figures of lecture 06: `python lectures/figures/06_clip_retrieval.py` writes lectures/figures/06_*.png.

Less than a minute on one core: nothing is trained.
"""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops
from torch import Generator, Tensor

from minidiff import show
from minidiff.data import emoji
from minidiff.data.captions import captions
from minidiff.data.prompts import minimal_pairs, place
from minidiff.data.scenes import render
from minidiff.data.web import collect
from minidiff.encoders.clip import CLIP, contrastive_loss
from minidiff.judges.ranking import recall_at
from minidiff.randomness import initialised
from minidiff.retrieval import Index, hide_duplicates, match_scores, near_duplicates
from minidiff.systems import clip_emoji, clip_scenes
from minidiff.weights import curve

HERE = Path(__file__).parent
MODEL = clip_scenes.MODEL.load()


def save(figure: plt.Figure, name: str) -> None:
    with Image.open(io.BytesIO(show.png(figure))) as picture:
        picture = picture.convert("RGB")
        box, (width, height) = ImageChops.invert(picture).getbbox(), picture.size
        picture = picture.crop(
            (max(box[0] - 8, 0), max(box[1] - 8, 0), min(box[2] + 8, width), min(box[3] + 8, height))
        )
        picture.save(HERE / f"06_{name}.png", optimize=True)


def read(texts: list[str], model: CLIP = MODEL) -> Tensor:
    return model.encode_text(clip_scenes.tokens(texts))


def table() -> None:
    """Cosines of eight held-out pairs, before and after training, and the recorded training curve."""
    prompts = clip_scenes.held_out(8, seed=4)
    x0 = render(place(prompts, 0))
    figure, axes = show.panels(1, 4, size=(3.1, 3.6), width_ratios=[0.3, 1, 1, 1.1])
    show.grid(x0, columns=1, ax=axes[0])
    for ax, (name, model) in zip(axes[1:], (("untrained", initialised(clip_scenes.build, 0)), ("trained", MODEL))):
        cosines = model.encode_image(x0) @ read(captions(prompts), model).T
        image = ax.imshow(cosines, vmin=-1, vmax=1, cmap="PuOr_r")
        right = int((cosines.argmax(1) == torch.arange(8)).sum())
        ax.set(
            title=f"{name}: {right} of 8 found", xlabel="caption", ylabel="picture", xticks=range(8), yticks=range(8)
        )
        ax.grid(False)
    figure.colorbar(image, ax=axes[2], label="cosine", shrink=0.7)
    axes[3].plot(*curve("clip-scenes"), linewidth=1)
    axes[3].axhline(torch.tensor(64.0).log(), color="black", linestyle=":", linewidth=1)
    axes[3].set(xlabel="step", ylabel="loss", ylim=(0, 4.4), title="Training: from ln 64 down")
    save(figure, "table")


def scale() -> None:
    prompts = clip_scenes.held_out(50, seed=0)
    images, texts = MODEL.encode_image(render(place(prompts, 0))), read(captions(prompts))
    mixed = texts[torch.randperm(50, generator=Generator().manual_seed(0))]
    scales, learned = torch.logspace(-1, 2.5, 80), float(MODEL.scale)
    figure, ax = plt.subplots(figsize=(5.6, 3.1))
    for name, other in (("pairs", texts), ("pairs, shuffled", mixed)):
        ax.plot(scales, [float(contrastive_loss(images, other, s).mean()) for s in scales], label=name)
    best = torch.log1p(49 * torch.exp(-scales * 50 / 49))
    ax.plot(scales, best, color=show.style.GREEN, linestyle="--", label="the best that any vectors allow")
    ax.axhline(torch.tensor(50.0).log(), color="black", linestyle=":", label=r"chance, $\ln 50$")
    ax.axvline(learned, color="grey", linestyle="--", linewidth=1, label=f"learned, {learned:.0f}")
    ax.set(
        xscale="log", ylim=(0, 9.5), xlabel="scale $s$", ylabel="loss", title="Being sure pays only if you are right"
    )
    ax.legend(loc="upper left", fontsize=8)
    save(figure, "scale")


def web() -> None:
    """Scores of right, wrong and turned texts; four queries and what they find."""
    found = collect(6000, seed=6)
    images = torch.cat([MODEL.encode_image(x) for x in found.pictures.split(500)])
    texts = torch.cat([read(found.texts[i : i + 500]) for i in range(0, len(found), 500)])
    scores, pairs = match_scores(images, texts), minimal_pairs("relation", 1000, 0)
    turned = match_scores(
        MODEL.encode_image(render(place([p[0] for p in pairs], 0))), read(captions([p[1] for p in pairs]))
    )
    figure, ax = plt.subplots(figsize=(5.6, 3.0))
    parts = {"right text": scores[found.matched], "wrong text": scores[~found.matched], "text turned round": turned}
    for (name, part), style in zip(parts.items(), ("stepfilled", "stepfilled", "step")):
        alpha = 0.6 + 0.4 * (style == "step")
        ax.hist(part, bins=60, range=(-0.5, 1), density=True, alpha=alpha, histtype=style, label=name)
    ax.set(xlabel="cosine of picture and text", ylabel="density")
    ax.set_title("Wrong texts score low, texts turned round do not")
    ax.legend()
    save(figure, "scores")
    queries = [
        "three yellow triangles",
        "a large blue square",
        "a red circle left of a blue star",
        "a black cross and a star",
    ]
    pixels = F.normalize(found.pictures.flatten(1) - found.pictures.flatten(1).mean(1, keepdim=True), dim=1)
    groups = near_duplicates(pixels, 0.97)
    hits = [hide_duplicates(row, groups)[:8] for row in Index.build(images).search(read(queries), 60)]
    ax = show.grid(found.pictures[[h.index for row in hits for h in row]], columns=8, rows=queries, scale=0.75)
    for i, row in enumerate(hits):
        for j, hit in enumerate(row):
            ax.text(18 * j + 1, 18 * i + 17, f"{hit.similarity:.2f}", fontsize=6, color="dimgrey")
    ax.set_title("The eight nearest: right things, in any order")
    save(ax.figure, "search")


def real_pictures() -> None:
    """Recall on held-out concepts, beside the bag of words; eight of them, drawn at random, and what is found."""
    model, (train, test) = clip_emoji.MODEL.load(), emoji.split()
    names = [emoji.load().names[i] for i in test.tolist()]
    told, ks = [clip_emoji.told(i) for i in test.tolist()], range(1, len(test) + 1)
    figure, axes = show.panels(1, 2, size=(4.0, 3.1), sharey=True)
    for ax, style in zip(axes, emoji.STYLES):
        seen = model.encode_image(emoji.pictures(style)[test])
        for texts, name, color in ((names, "names", show.style.BLUE), (told, "names and keywords", show.style.ORANGE)):
            said = model.encode_text(clip_emoji.emoji_tokens(texts)) @ seen.T
            bag = clip_emoji.baseline_table(style, texts, test, train)
            for similarity, kind, line in ((said, "", "-"), (bag, "bag of words, ", ":")):
                found = [recall_at(similarity, k) for k in ks]
                ax.plot(ks, found, line, color=color, label=kind + name)
        ax.plot(ks, [k / len(test) for k in ks], color="black", linestyle="--", linewidth=1, label="chance")
        ax.set(xlabel="pictures looked at, of 123", xscale="log", title=f"{style}: ahead of a bag of words on names")
    axes[0].set_ylabel("share found")
    axes[0].legend(fontsize=8)
    save(figure, "emoji")
    order = model.encode_text(clip_emoji.emoji_tokens(told)) @ model.encode_image(emoji.pictures("fluent")[test]).T
    rank, best = (order >= order.diagonal()[:, None]).sum(1), order.argsort(1, descending=True)
    chosen = torch.randperm(len(test), generator=Generator().manual_seed(3))[:8].tolist()
    sheet = torch.stack([emoji.pictures("fluent")[test[j]] for i in chosen for j in [i, *best[i, :6].tolist()]])
    ax = show.grid(sheet, columns=7, rows=[f"{names[i]} (place {rank[i]})" for i in chosen], scale=0.7)
    ax.set_xticks([17 + 34 * i for i in range(7)], ["right", "1st", "2nd", "3rd", "4th", "5th", "6th"])
    save(ax.figure, "concepts")


@torch.no_grad()
def main() -> None:
    table()
    scale()
    web()
    real_pictures()


if __name__ == "__main__":
    main()
