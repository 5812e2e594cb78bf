"""Edits of scenes in words: one object gets another colour or another shape, or is removed, and the rest stays.

What an edited picture has to show is known exactly, so that a generator's edit is right or wrong. `told` reads an
instruction back, whoever wrote it.
"""

import re
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
_FORMS = {
    "colour": re.compile(r"make (?P<named>it|the .+) (?P<new>\w+)"),
    "kind": re.compile(r"turn (?P<named>it|the .+) into an? (?P<new>\w+)"),
    "remove": re.compile(r"remove (?P<named>it|the .+)"),
}
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


def told(text: str, objects: Sequence[Object]) -> list[Object] | None:
    """The scene after an instruction in words, `edit_of` read back; None where there is an `objection`.

    "make the red circle blue", "turn the red circle into a star", "remove the red circle". "now" may come first; "the
    circle", "the red one" and "it" will do where they mean exactly one object. What is already so stays as it is.
    """
    found = _followed(text, objects)
    return None if isinstance(found, str) else found


def objection(text: str, objects: Sequence[Object]) -> str | None:
    """Why `told` cannot say what the scene is after `text`, in a sentence: nothing or several things are meant, …"""
    found = _followed(text, objects)
    return found if isinstance(found, str) else None


def instructs(text: str) -> bool:
    """Does the text have the form of an instruction, whatever it names?"""
    return any(form.fullmatch(_tidied(text)) for form in _FORMS.values())


def _tidied(text: str) -> str:
    return " ".join(text.lower().strip(" .").split()).removeprefix("now ")


def _names(thing: Object) -> tuple[str, ...]:
    """What an object may be called."""
    kind, colour = thing[:2]
    return "it", f"the {kind}", *([f"the {colour} {kind}", f"the {colour} one"] if colour else [])


def _followed(text: str, objects: Sequence[Object]) -> list[Object] | str:
    """The scene after an instruction, or a sentence that says why there is none."""
    said = _tidied(text)
    what, found = next(((what, m) for what, form in _FORMS.items() if (m := form.fullmatch(said))), ("", None))
    if found is None:
        return "No instruction: make the … blue, turn the … into a …, remove the …"
    named = found["named"]
    meant = [i for i, thing in enumerate(objects) if named in _names(thing)]
    if len(meant) != 1:
        return f"“{named}” could be {len(meant)} things" if meant else f"There is no “{named}” in the picture"
    (i,), rest = meant, [thing for thing in objects if named not in _names(thing)]
    if what == "remove":
        return rest
    kind, colour, *where = objects[i]
    new, known = found["new"], COLOURS if what == "colour" else SHAPES
    if new not in known or colour is None:
        return f"“{new}” is none of {', '.join(known)}" if colour else f"A {kind} cannot be changed"
    look = (kind, new) if what == "colour" else (new, colour)
    if look in {thing[:2] for thing in rest}:
        return f"There is a {look[1]} {look[0]} already"
    return [*objects[:i], (*look, *where), *objects[i + 1 :]]  # type: ignore[list-item]


def edits(n: int, generator: Generator | int, split: str, what: str | None = None) -> list[Edit]:
    """n edits of scenes of one split."""
    prompts = EDITED.prompts(n, generator, split)
    scenes, rng = place(prompts, generator), Random(repr(prompts))
    return [edit_of(scenes.objects(i), rng, what) for i in range(n)]


def before(found: Sequence[Edit]) -> Tensor:
    return render(assemble([edit.before for edit in found]))


def after(found: Sequence[Edit]) -> Tensor:
    return render(assemble([edit.after for edit in found]))
