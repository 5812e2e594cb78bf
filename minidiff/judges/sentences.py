"""Reading a sentence back: the grammar of short captions, written a second time and from the other end.

`captions.caption` goes from a prompt to words. Here words become a prompt, or None where they are no sentence of that
grammar; so a sentence that a model made up has a yes or no for an answer, and so has what it says.

    sentence    = "an empty picture" | ( scene [ " and no " kind ] [ " in the snow" ] )
    scene       = nouns | noun relation noun
    nouns       = noun | noun { ", " noun } " and " noun
    noun        = ( "a" | "an" ) [ size ] [ colour ] kind | number [ size ] [ colour ] kinds
    around      = ( "a" | "an" | "some" ) [ colour ] kind or kinds       the nouns of "surrounding", which name no size
"""

from dataclasses import replace

from minidiff.data.captions import NUMBERS, caption
from minidiff.data.prompts import HOLLOW, RELATIONS, Group, Prompt
from minidiff.data.scenes import COLOURS, KINDS, SIZES

_IRREGULAR = {"crosses": "cross", "fish": "fish", "snowmen": "snowman"}
_PLURALS = {kind + "s": kind for kind in KINDS if kind not in _IRREGULAR.values()} | _IRREGULAR


def read(sentence: str) -> Prompt | None:
    """The prompt whose short caption `sentence` is, or None. Sizes and numbers around something are the usual ones."""
    if sentence == "an empty picture":
        return Prompt()
    rest, snow = _without(sentence, " in the snow")
    rest, absent = _split_last(rest, " and no ")
    relation = next((name for name in RELATIONS if f" {name} " in rest), None)
    parts = rest.split(f" {relation} ") if relation else _listed(rest)
    groups = [_noun(part, around=relation == "surrounding") for part in parts]
    if None in groups or (relation and len(groups) != 2):
        return None
    found = [group for group in groups if group is not None]
    try:
        if relation == "surrounding":
            found = _around(*found)
        prompt = Prompt(tuple(found), relation, absent, "snow" if snow else "plain")
    except ValueError:  # of what cannot be drawn: five objects, a large one among others, an unknown kind
        return None
    # The grammar has one way to say each thing: whatever else was let through above differs from it.
    return prompt if caption(prompt) == sentence else None


def _without(text: str, ending: str) -> tuple[str, bool]:
    return text.removesuffix(ending), text.endswith(ending)


def _split_last(text: str, mark: str) -> tuple[str, str | None]:
    before, found, after = text.rpartition(mark)
    return (before, after) if found else (text, None)


def _listed(text: str) -> list[str]:
    before, found, last = text.rpartition(" and ")
    return [*before.split(", "), last] if found else [text]


def _noun(text: str, around: bool) -> Group | None:
    words = text.split()
    if len(words) < 2:
        return None
    first, *between, last = words
    some = around and first == "some"
    count = 3 if some else 1 if first in ("a", "an") else NUMBERS.index(first) if first in NUMBERS[2:] else 0
    kind = _PLURALS.get(last) if count > 1 else last
    size = between.pop(0) if between and between[0] in SIZES else "medium"
    colour = between.pop(0) if between and between[0] in COLOURS else None
    if count == 0 or kind is None or between:
        return None
    try:
        return Group(kind, colour, size, count)
    except ValueError:
        return None


def _around(outer: Group, inner: Group) -> list[Group]:
    """The sizes that go without saying: one large around small ones, or small ones around another."""
    large = outer.count == 1 and outer.kind in HOLLOW
    return [replace(outer, size="large" if large else "small"), replace(inner, size="small")]


def distance(a: str, b: str) -> int:
    """Levenshtein's distance in words: how many must be put in, taken out or exchanged (1966)."""
    first, second = a.split(), b.split()
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]
