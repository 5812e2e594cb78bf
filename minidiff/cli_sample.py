"""`minidiff sample`: classes of clothes or captions of scenes, from the command line to a grid of pictures."""

import argparse
import math
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from textwrap import fill

from torch import Tensor

from minidiff.checkpoints import write_whole
from minidiff.data.captions import captions
from minidiff.encoders.tokenizer import split
from minidiff.judges.scorecard import Generate
from minidiff.systems import fashion, scenes_text
from minidiff.validate import require

CLOTHES = fashion.DENOISER.name
_KNOWN = (  # the model, the world that it has learned, the tokens that it reads
    (scenes_text.FAMILIES, scenes_text.MANY, 18),
    (scenes_text.SURROUNDING, scenes_text.RINGS, 18),
    (scenes_text.TEXT, scenes_text.WORLD, 10),
)
SCENES = {model.name: (model, world, length) for model, world, length in _KNOWN}
STEPS = {CLOTHES: 20} | dict.fromkeys(SCENES, 50)


def sample(args: argparse.Namespace) -> int:
    """Write the PNG. `ValueError`, before anything is drawn, for what a model cannot read or do."""
    name = _model(args.texts) if args.model is None else args.model
    require(name in STEPS, "--model", repr(name), f"one of {list(STEPS)}")
    steps = STEPS[name] if args.steps is None else args.steps
    require(args.n >= 1, "-n", args.n, "at least 1")
    require(steps >= 1, "--steps", steps, "at least 1")
    require(math.isfinite(args.w), "-w", args.w, "a finite number")
    require(0 <= args.seed < 2**32, "--seed", args.seed, "0 to 4294967295")
    require(not args.out.is_dir(), "--out", args.out, "a file, such as samples.png")
    rows = clothes(args.texts) if name == CLOTHES else [caption(text, name) for text in args.texts]
    texts = [text for text in rows for _ in range(args.n)]
    pictures = _generate(name, steps)(texts, args.w, range(args.seed, args.seed + len(texts)))
    _draw(pictures, rows, f"{name}, w = {args.w:g} (scale {1 + args.w:g})", args.n, args.out)
    print(f"wrote {args.out}: {len(texts)} pictures by {name}")
    return 0


def _model(texts: Sequence[str]) -> str:
    """Clothes where every text is one of their classes; else the model of rings, or the one of all other captions."""
    try:
        clothes(texts)
    except ValueError:
        rings = any("surrounding" in split(text) for text in texts)
        return (scenes_text.SURROUNDING if rings else scenes_text.FAMILIES).name
    return CLOTHES


def clothes(texts: Sequence[str]) -> list[str]:
    """The classes by their full names. `ValueError` if a text is none of them, nor a number from 0 to 9."""
    return [fashion.FASHION_NAMES[fashion.label(text)] for text in texts]


def caption(text: str, name: str) -> str:
    """`text` as the model `name` reads it. `ValueError` for words that it never saw, or more of them than it reads."""
    known, length = _words(name), SCENES[name][2]
    clean = " ".join(text.lower().strip(" .").split())
    words = split(clean)
    unknown = list(dict.fromkeys(word for word in words if word not in known))
    near = [match for word in unknown for match in get_close_matches(word, known, n=1)]
    hint = f" (did you mean {' and '.join(map(repr, near))}?)" if near else ""
    got = f"{text!r}" + (f", in which {name} cannot read {', '.join(map(repr, unknown))}" if unknown else "")
    clothing = f"classes of clothes alone: {', '.join(fashion.FASHION_NAMES)}"
    expected = f"a caption of these words{hint}: {' '.join(sorted(known))}; or {clothing}"
    require(bool(words) and not unknown, "TEXT", got, expected)
    room = length - 2  # START and END take a place each
    require(len(words) <= room, "TEXT", f"{text!r}, {len(words)} words and commas", f"at most {room} for {name}")
    return clean


@cache
def _words(name: str) -> set[str]:
    """The words of the captions that the model has learned from; its tokenizer has ids for more."""
    return {word for each in captions(SCENES[name][1].prompts(1000, 0)) for word in split(each)}


def _generate(name: str, steps: int) -> Generate:
    if name == CLOTHES:
        return fashion.pictures_of(steps=steps)
    shipped, _, length = SCENES[name]
    return scenes_text.pictures_of(shipped.load(), length, steps)


def _draw(pictures: Tensor, rows: list[str], title: str, columns: int, out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")  # a command has no window to show
    import matplotlib.pyplot as plt

    from minidiff.show import grid, png

    labels = [fill(row, 24) for row in rows]
    beside = 0.3 + 0.09 * max(len(line) for label in labels for line in label.split("\n"))  # inches
    figure, ax = plt.subplots(figsize=(max(0.8 * columns + beside, 3.5), 0.8 * len(rows) + 0.6))
    grid(pictures, columns=columns, rows=labels, ax=ax)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    picture = png(figure, dpi=150)
    write_whole(out, lambda temporary: (temporary.write_bytes(picture), None)[1])
