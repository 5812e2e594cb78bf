"""`minidiff sample`: classes of clothes or captions of scenes, from the command line to a grid of pictures."""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from textwrap import fill

from torch import Tensor

from minidiff.checkpoints import write_whole
from minidiff.data.captions import captions
from minidiff.data.prompts import World
from minidiff.data.scenes import SPRITES
from minidiff.encoders.tokenizer import split
from minidiff.judges.scorecard import Generate
from minidiff.systems import fashion, latent, leaderboard, scenes_text
from minidiff.systems.shipped import Shipped
from minidiff.validate import require

CLOTHES = fashion.DENOISER.name


@dataclass(frozen=True)
class Known:
    """A model of scenes: the world that it has learned, the tokens it reads, (steps, negative) → its `generate`."""

    world: World
    length: int
    generate: Callable[[int, str], Generate]


def _of_scenes(model: Shipped, world: World, length: int) -> Known:
    return Known(world, length, lambda steps, _: scenes_text.pictures_of(model.load(), length, steps))


SCENES = {
    scenes_text.FAMILIES.name: _of_scenes(scenes_text.FAMILIES, scenes_text.MANY, 18),
    scenes_text.SURROUNDING.name: _of_scenes(scenes_text.SURROUNDING, scenes_text.RINGS, 18),
    latent.LATENT.name: Known(latent.WORLD, latent.LENGTH, lambda steps, no: latent.shipped(steps, True, no)),
    scenes_text.TEXT.name: _of_scenes(scenes_text.TEXT, scenes_text.WORLD, 10),
}
STEPS = {CLOTHES: 20} | dict.fromkeys(SCENES, 50)


def sample(args: argparse.Namespace) -> int:
    """Write the PNG, or without a TEXT say which words there are. `ValueError`, before anything is drawn, for what a
    model cannot read or do. With --leaderboard, print that instead."""
    if args.leaderboard:
        require(not args.texts, "--leaderboard", f"it with {args.texts}", "no TEXT beside it: it draws nothing")
        print(leaderboard.table(leaderboard.read()))
        return 0
    if not args.texts:
        print(known_words())
        return 0
    name = _model(args.texts) if args.model is None else args.model
    require(name in STEPS, "--model", repr(name), f"one of {list(STEPS)}")
    steps = STEPS[name] if args.steps is None else args.steps
    require(args.n >= 1, "-n", args.n, "at least 1")
    require(steps >= 1, "--steps", steps, "at least 1")
    require(math.isfinite(args.w), "-w", args.w, "a finite number")
    require(0 <= args.seed < 2**32, "--seed", args.seed, "0 to 4294967295")
    require(not args.out.is_dir(), "--out", args.out, "a file, such as samples.png")
    fits = not args.negative or name == latent.LATENT.name
    require(fits, "--negative", repr(args.negative), f"a text for {latent.LATENT.name} only, here {name} draws")
    negative = caption(args.negative, name) if args.negative else ""
    rows = clothes(args.texts) if name == CLOTHES else [caption(text, name) for text in args.texts]
    texts = [text for text in rows for _ in range(args.n)]
    pictures = _generate(name, steps, negative)(texts, args.w, range(args.seed, args.seed + len(texts)))
    _draw(pictures, rows, f"{name}, w = {args.w:g} (scale {1 + args.w:g})", args.n, args.out)
    unsaid = ", an empty TEXT being no condition at all" if "" in texts else ""
    print(f"wrote {args.out}: {len(texts)} pictures by {name}{unsaid}")
    return 0


def _model(texts: Sequence[str]) -> str:
    """Clothes where every text is one of their classes; else the model of scenes that has the most of the words."""
    try:
        clothes(texts)
    except ValueError:
        if not any(text.strip(" .") for text in texts):
            return latent.LATENT.name
        rings = any("surrounding" in split(text) for text in texts)
        first = scenes_text.SURROUNDING if rings else scenes_text.FAMILIES
        names = (first.name, latent.LATENT.name)
        sprites = any(kind in text.lower() for text in texts for kind in SPRITES)
        return min(reversed(names) if sprites else names, key=lambda name: _strange(texts, name, near=not sprites))
    return CLOTHES


def _strange(texts: Sequence[str], name: str, near: bool) -> tuple[int, int]:
    """How many words of the texts the model cannot read; with `near`, how many of them are not even like one it can."""
    unknown = {word for text in texts for word in split(text.lower().strip(" ."))} - _words(name)
    return len(unknown), near and sum(not get_close_matches(word, _words(name), n=1) for word in unknown)


def known_words() -> str:
    """Of each model of scenes its words and an example; the classes of clothes."""
    told = [f"{CLOTHES}: {', '.join(fashion.FASHION_NAMES)}"]
    for name, known in SCENES.items():
        example = captions(known.world.prompts(1, 5))[0]
        told.append(f"{name}: {' '.join(sorted(_words(name) - {','}))}; for example {example!r}")
    return "\n\n".join(told)


def clothes(texts: Sequence[str]) -> list[str]:
    """The classes by their full names. `ValueError` if a text is none of them, nor a number from 0 to 9."""
    return [fashion.FASHION_NAMES[fashion.label(text)] for text in texts]


def caption(text: str, name: str) -> str:
    """`text` as the model `name` reads it; "" is no condition.

    `ValueError` for words that it never saw, or more of them than it reads.
    """
    known, length = _words(name), SCENES[name].length
    clean = " ".join(text.lower().strip(" .").split())
    words = split(clean)
    unknown = list(dict.fromkeys(word for word in words if word not in known))
    near = [match for word in unknown for match in get_close_matches(word, known, n=1)]
    hint = f" (did you mean {' and '.join(map(repr, near))}?)" if near else ""
    got = f"{text!r}" + (f", in which {name} cannot read {', '.join(map(repr, unknown))}" if unknown else "")
    clothing = f"classes of clothes alone: {', '.join(fashion.FASHION_NAMES)}"
    require(not unknown, "TEXT", got, f"a caption of these words{hint}: {' '.join(sorted(known))}; or {clothing}")
    room = length - 2  # START and END take a place each
    require(len(words) <= room, "TEXT", f"{text!r}, {len(words)} words and commas", f"at most {room} for {name}")
    return clean


@cache
def _words(name: str) -> set[str]:
    """The words of the captions that the model has learned from; its tokenizer has ids for more."""
    return {word for each in captions(SCENES[name].world.prompts(1000, 0)) for word in split(each)}


def _generate(name: str, steps: int, negative: str) -> Generate:
    return fashion.pictures_of(steps=steps) if name == CLOTHES else SCENES[name].generate(steps, negative)


def _draw(pictures: Tensor, rows: list[str], title: str, columns: int, out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")  # a command has no window to show
    import matplotlib.pyplot as plt

    from minidiff.show import grid, png

    labels = [fill(row or "(no text)", 24) for row in rows]
    beside = 0.3 + 0.13 * max(len(line) for label in labels for line in label.split("\n"))  # inches
    inches = 0.8 if pictures.shape[-1] <= 32 else 1.1
    figure, ax = plt.subplots(figsize=(max(inches * columns + beside, 3.5), inches * len(rows) + 0.6))
    grid(pictures, columns=columns, rows=labels, ax=ax)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    picture = png(figure, dpi=150)
    write_whole(out, lambda temporary: (temporary.write_bytes(picture), None)[1])
