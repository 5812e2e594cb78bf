"""Edits of scenes in words: one object gets another colour or another shape, or is removed, and the rest stays.

What an edited picture has to show is known exactly, so that a generator's edit is right or wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from torch import Generator, Tensor

from minidiff.data.prompts import World, place
from minidiff.data.scenes import COLOURS, SHAPES, Object, assemble, render


@dataclass(frozen=True)
class Edit:
    """An instruction, the scene before and the scene after: objects as `Scenes.objects` gives them."""

    text: str
    before: list[Object]
    after: list[Object]


KINDS_OF_EDIT = ("colour", "kind", "remove")
EDITED = World(families=("one", "pair", "relation", "several"))
"""Scenes to edit: one to four different objects."""


def edit_of(objects: list[Object], rng: Random, what: str | None = None) -> Edit:
    """A random edit of one object: another colour, another kind, or gone. The others stay where they are."""
    what = rng.choice(KINDS_OF_EDIT) if what is None else what
    i = rng.randrange(len(objects))
    kind, colour, size, row, column = objects[i]
    named = f"the {colour} {kind}"
    looks = {thing[:2] for thing in objects}
    if what == "remove":
        return Edit(f"remove {named}", objects, objects[:i] + objects[i + 1 :])
    if what == "colour":
        new = (kind, rng.choice([c for c in COLOURS if (kind, c) not in looks]))
        text = f"make {named} {new[1]}"
    else:
        new = (rng.choice([k for k in SHAPES if (k, colour) not in looks]), colour)
        text = f"turn {named} into a {new[0]}"
    return Edit(text, objects, [*objects[:i], (new[0], new[1], size, row, column), *objects[i + 1 :]])


def edits(n: int, generator: Generator | int, split: str, what: str | None = None) -> list[Edit]:
    """n edits of scenes of one split."""
    prompts = EDITED.prompts(n, generator, split)
    scenes, rng = place(prompts, generator), Random(repr(prompts))
    return [edit_of(scenes.objects(i), rng, what) for i in range(n)]


def before(found: Sequence[Edit]) -> Tensor:
    return render(assemble([edit.before for edit in found]))


def after(found: Sequence[Edit]) -> Tensor:
    return render(assemble([edit.after for edit in found]))
