"""Captions: prompts in words. Short, paraphrased, long (past CLIP's 77 tokens), and short in German.

"a red circle left of a blue square" · "there is a blue square with a red circle to its left" · …
"""

from collections.abc import Sequence
from itertools import product
from random import Random
from types import SimpleNamespace
from typing import cast

from minidiff.data.prompts import OPPOSITE, RELATIONS, Group, Prompt
from minidiff.data.scenes import COLOURS, KINDS, SHAPES, SIZES
from minidiff.validate import require

STYLES = ("short", "paraphrase", "long", "german")
NUMBERS = ("no", "one", "two", "three", "four")


def caption(prompt: Prompt, style: str = "short", rng: Random | None = None) -> str:
    """`prompt` in words, all lower case, without a full stop in the short styles. `rng` picks the paraphrase."""
    require(style in STYLES, "style", repr(style), f"one of {STYLES}")
    if style == "long":
        return _long(prompt)
    if style == "german":
        return _german(prompt)
    return _paraphrase(prompt, rng or Random(0)) if style == "paraphrase" else _short(prompt)


def captions(prompts: Sequence[Prompt], style: str = "short", seed: int = 0) -> list[str]:
    """One caption per prompt."""
    rng = Random(seed)
    return [caption(prompt, style, rng) for prompt in prompts]


def noun(group: Group, article: bool = True, some: bool = False) -> str:
    """ "a small red circle", "three red circles", "some red circles"; the size is left out where it is medium."""
    size = "" if group.size == "medium" or some else group.size
    words = " ".join(word for word in (size, group.colour, group.kind) if word)
    if group.count == 1:
        return f"{_article(words)} {words}" if article else words
    number = "some" if some else NUMBERS[group.count]
    return f"{number} {words.removesuffix(group.kind)}{_PLURAL.get(group.kind, group.kind + 's')}"


_PLURAL = {"cross": "crosses", "fish": "fish", "snowman": "snowmen"}


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _nouns(prompt: Prompt) -> list[str]:
    """Around something, sizes go without saying and a number is "some"."""
    if prompt.relation != "surrounding":
        return [noun(group) for group in prompt.groups]
    return [noun(Group(g.kind, g.colour, "medium", g.count), some=True) for g in prompt.groups]


def _short(prompt: Prompt) -> str:
    if not prompt.groups:
        text = "an empty picture"
    else:
        text = f" {prompt.relation} ".join(_nouns(prompt)) if prompt.relation else _listed(_nouns(prompt))
    return (
        text
        + (f" and no {prompt.absent}" if prompt.absent else "")
        + (" in the snow" if prompt.ground == "snow" else "")
    )


_RELATED = {
    "left of": ("{a} to the left of {b}", "there is {b} with {a} on its left", "{a} is left of {b}"),
    "right of": ("{a} to the right of {b}", "there is {b} with {a} on its right", "{a} is right of {b}"),
    "above": ("{a} is above {b}", "there is {b} with {a} over it", "{a} on top of {b}"),
    "below": ("{a} is below {b}", "there is {b} with {a} under it", "{a} underneath {b}"),
    "surrounding": ("{a} around {b}", "{b} with {a} around it", "{b} surrounded by {a}"),
    "riding": ("{a} on the back of {b}", "{b} carrying {a}", "{a} rides {b}"),
}
_PLAIN = ("a picture of {all}", "there is {all}", "this shows {all}")
_NONE = ("nothing at all", "a picture of nothing", "there is nothing here")
_WITHOUT = (" without {any}", " but not {any}", " and there is no {kind}")


def _paraphrase(prompt: Prompt, rng: Random) -> str:
    if not prompt.groups:
        return rng.choice(_NONE)
    nouns = _nouns(prompt)
    if prompt.relation:
        if prompt.relation in OPPOSITE and rng.random() < 0.25:  # the same scene seen from the other object
            text = f"{nouns[1]} {OPPOSITE[prompt.relation]} {nouns[0]}"
        else:
            text = rng.choice(_RELATED[prompt.relation]).format(a=nouns[0], b=nouns[1])
    else:
        order = rng.sample(nouns, len(nouns))
        text = rng.choice(_PLAIN).format(all=_listed(order))
    if prompt.absent:
        text += rng.choice(_WITHOUT).format(any=f"{_article(prompt.absent)} {prompt.absent}", kind=prompt.absent)
    return text + (", in snow" if prompt.ground == "snow" else "")


_OPENING = (
    "this is a small and tidy picture that somebody made with great care on a quiet afternoon. the light is even, the"
    " colours are clear, and nothing is hidden behind anything else unless we say so. please look at it slowly, from"
    " the top to the bottom and from one side to the other, before you read on."
)
_BEFORE_LAST = " take your time with it, because what we name at the very end is as important as what we named first."


def _long(prompt: Prompt) -> str:
    """More than 77 words. All but the last group come early; the last one, the relation and what is absent after 77."""
    nouns = _nouns(prompt)
    early = f" first of all we see {_listed(nouns[:-1])}." if len(nouns) > 1 else ""
    text = _OPENING + early + _BEFORE_LAST
    if not nouns:
        return text + " there is nothing in it."
    text += f" last of all we see {nouns[-1]}."
    if prompt.relation:
        text += f" so it shows {nouns[0]} {prompt.relation} {nouns[1]}."
    if prompt.absent:
        text += f" there is no {prompt.absent}."
    return text + (" all of it is in the snow." if prompt.ground == "snow" else "")


# ---------------------------------------------------------------- a second language

_DE = {  # gender, singular, plural
    "circle": "m kreis kreise", "square": "n quadrat quadrate", "triangle": "n dreieck dreiecke",
    "cross": "n kreuz kreuze", "star": "m stern sterne", "lightbulb": "f glühbirne glühbirnen",
    "plant": "f pflanze pflanzen", "cat": "f katze katzen", "dog": "m hund hunde",
    "astronaut": "m astronaut astronauten", "horse": "n pferd pferde", "tree": "m baum bäume",
    "house": "n haus häuser", "snowman": "m schneemann schneemänner", "fish": "m fisch fische",
}  # fmt: skip
_DE_COLOUR = {"red": "rot", "green": "grün", "blue": "blau", "yellow": "gelb", "purple": "lila", "black": "schwarz"}
_DE_SIZE = {"small": "klein", "large": "groß"}
_DE_NUMBER = ("kein", "ein", "zwei", "drei", "vier")
_DE_RELATION = {
    "left of": "links von", "right of": "rechts von", "above": "über", "below": "unter", "surrounding": "rund um",
    "riding": "reitet auf",
}  # fmt: skip
# Endings of the article "ein…" and of the adjective after it, by case and gender.
_DE_ENDING = {
    ("nominative", "m"): ("", "er"), ("nominative", "f"): ("e", "e"), ("nominative", "n"): ("", "es"),
    ("accusative", "m"): ("en", "en"), ("accusative", "f"): ("e", "e"), ("accusative", "n"): ("", "es"),
    ("dative", "m"): ("em", "en"), ("dative", "f"): ("er", "en"), ("dative", "n"): ("em", "en"),
}  # fmt: skip


def _german_noun(group: Group, case: str, some: bool) -> str:
    gender, singular, plural = _DE[group.kind].split()
    article, ending = _DE_ENDING[case, gender]
    if group.count > 1:
        ending = "en" if case == "dative" else "e"
        plural += "n" if case == "dative" and plural[-1] not in "ns" else ""
    adjectives = [_DE_SIZE[group.size] + ending] if group.size != "medium" and not some else []
    if group.colour:
        adjectives.append(_DE_COLOUR[group.colour] + ("" if group.colour == "purple" else ending))
    first = (
        ("einige" + ("n" if case == "dative" else "") if some else _DE_NUMBER[group.count])
        if group.count > 1
        else "ein" + article
    )
    return " ".join([first, *adjectives, plural if group.count > 1 else singular])


def _german(prompt: Prompt) -> str:
    some = prompt.relation == "surrounding"
    case = "accusative" if some else "dative"
    nouns = [
        _german_noun(g, case if prompt.relation and i else "nominative", some) for i, g in enumerate(prompt.groups)
    ]
    if not nouns:
        text = "ein leeres bild"
    elif prompt.relation:
        text = f" {_DE_RELATION[prompt.relation]} ".join(nouns)
    else:
        text = nouns[0] if len(nouns) == 1 else ", ".join(nouns[:-1]) + " und " + nouns[-1]
    if prompt.absent:
        gender, singular, _ = _DE[prompt.absent].split()
        text += f" und kein{_DE_ENDING['nominative', gender][0]} {singular}"
    return text + (" im schnee" if prompt.ground == "snow" else "")


def vocabulary(styles: Sequence[str] = ("short", "paraphrase", "long")) -> list[str]:
    """The words that captions in these styles can hold, sorted, for `WordTokenizer`; all but "some".

    No vocabulary is ever complete. "some" is left to be UNKNOWN, which is a token like others and trained like them.
    Words of what cannot be drawn ("a large cat riding a horse") are here too: shipped embeddings count on their places.
    """
    texts: set[str] = set()
    for kind, count, size in product(KINDS, range(1, 5), SIZES):
        for colour in COLOURS if kind in SHAPES else (None,):
            group = Group(kind, colour, size, count)
            absent = next(k for k in KINDS if k != kind)
            said = [SimpleNamespace(groups=(group,), relation=None, absent=absent, ground="snow")]
            if count == 1:
                pairs = product(RELATIONS, ((group, Group("cat")), (Group("cat"), group)))
                said += [SimpleNamespace(groups=g, relation=r, absent=None, ground="plain") for r, g in pairs]
            prompts = cast("list[Prompt]", said)
            for style in styles:
                ways = range(6 if style == "paraphrase" else 1)  # only a paraphrase is drawn
                texts.update(caption(p, style, Random(i)) for p in prompts for i in ways)
    texts.update(caption(Prompt(), style, Random(i)) for style in styles for i in range(9))
    return sorted({word.strip(".,") for text in texts for word in text.split()} | {".", ","})
