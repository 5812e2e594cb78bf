"""Captions of clips: prompts in words. Short, paraphrased, long (past CLIP's 77 tokens), or as of a picture.

"a red circle moving right slowly and a blue star still" · "a blue star stands still while a red circle creeps …" · …
"""

from collections.abc import Sequence
from itertools import product
from random import Random

from minidiff.data import captions as pictures
from minidiff.data.clips import ClipPrompt, Mover
from minidiff.data.motions import BOUNCING, CIRCLING, DIRECTIONS, MOTIONS, SPEEDS, TOGETHER
from minidiff.data.prompts import Group
from minidiff.data.scenes import COLOURS, KINDS, SHAPES
from minidiff.validate import require

STYLES = ("short", "paraphrase", "long", "picture")


def caption(prompt: ClipPrompt, style: str = "short", rng: Random | None = None) -> str:
    """`prompt` in words, all lower case, without a full stop in the short styles. `rng` picks the paraphrase.

    style "picture" says what any one frame shows, and nothing of how it moves.
    """
    require(style in STYLES, "style", repr(style), f"one of {STYLES}")
    if style == "picture":
        return pictures.caption(prompt.prompt)
    if style == "long":
        return _long(prompt)
    return _paraphrase(prompt, rng or Random(0)) if style == "paraphrase" else _short(prompt)


def captions(prompts: Sequence[ClipPrompt], style: str = "short", seed: int = 0) -> list[str]:
    """One caption per prompt."""
    rng = Random(seed)
    return [caption(prompt, style, rng) for prompt in prompts]


def _noun(mover: Mover) -> str:
    return pictures.noun(Group(*mover.look))


def _short(prompt: ClipPrompt) -> str:
    nouns = [_noun(mover) for mover in prompt.movers]
    if prompt.together == "meeting":
        return f"{nouns[0]} meeting {nouns[1]} and parting"
    if prompt.together:
        return f"{nouns[0]} {prompt.together} {nouns[1]}"
    return " and ".join(f"{noun} {mover.motion}" for noun, mover in zip(nouns, prompt.movers))


_GONE = {"slowly": ("drifts slowly", "creeps"), "quickly": ("races", "rushes quickly")}
_TO = {way: (f"{way}wards", f"to the {way}") if way in ("left", "right") else (f"{way}wards",) for way in DIRECTIONS}
_SAID = {
    "still": ("stands still", "does not move", "stays where it is"),
    **{
        f"moving {way} {speed}": tuple(f"{verb} {to}" for verb in _GONE[speed] for to in _TO[way])
        for way in DIRECTIONS
        for speed in SPEEDS
    },
    BOUNCING[0]: ("bounces between the left and the right wall", "goes from wall to wall sideways"),
    BOUNCING[1]: ("bounces between the floor and the ceiling", "goes from wall to wall up and down"),
    CIRCLING[0]: ("goes round clockwise", "runs in a clockwise circle"),
    CIRCLING[1]: ("goes round anticlockwise", "runs in an anticlockwise circle"),
}
_DONE = {
    TOGETHER[0]: ("{a} goes behind {b}", "{b} hides {a} for a while", "{a} vanishes behind {b} and comes out again"),
    TOGETHER[1]: ("{a} goes past before {b}", "{b} is hidden by {a} for a while", "{a} crosses before {b}"),
    TOGETHER[2]: ("{a} and {b} meet and part", "{a} comes up to {b}, and both go back", "{b} meets {a} and goes back"),
}


def _paraphrase(prompt: ClipPrompt, rng: Random) -> str:
    nouns = [_noun(mover) for mover in prompt.movers]
    if prompt.together:
        return rng.choice(_DONE[prompt.together]).format(a=nouns[0], b=nouns[1])
    said = [f"{noun} {rng.choice(_SAID[str(mover.motion)])}" for noun, mover in zip(nouns, prompt.movers)]
    return rng.choice((" while ", ", and ")).join(rng.sample(said, len(said)))


_OPENING = (
    "this is a short and silent clip that somebody made with great care on a quiet afternoon. the light is even, the"
    " colours are clear, and the ground is the same from the first frame to the last. please look at it slowly, and"
    " more than once, before you say what moves in it, and how, and where to."
)
_BEFORE_LAST = " take your time with it, because what we name at the very end is as important as what we named first."


def _long(prompt: ClipPrompt) -> str:
    """More than 77 words. The first of two movers is named early, the last one and what they do together after 77."""
    *early, last = prompt.movers
    tell = lambda mover: _noun(mover) + (f" {mover.motion}" if mover.motion else "")
    first = "".join(f" first of all we see {tell(mover)}." for mover in early)
    text = f"{_OPENING}{first}{_BEFORE_LAST}{' then' if early else ' there is'} {tell(last)}."
    return text + (f" so it shows {_short(prompt)}." if prompt.together else "")


def vocabulary(styles: Sequence[str] = ("short", "paraphrase", "long")) -> list[str]:
    """The words that captions in these styles can hold, sorted, for `WordTokenizer`."""
    looks = [(kind, colour) for kind in KINDS for colour in (COLOURS if kind in SHAPES else (None,))]
    prompts = [ClipPrompt((Mover(*looks[i]), Mover(*looks[i - 1]))) for i in range(len(looks))]
    prompts += [ClipPrompt((Mover(*looks[0], motion), Mover(*looks[1], motion))) for motion in MOTIONS]
    prompts += [ClipPrompt((Mover(*looks[0], motion),)) for motion in MOTIONS]
    prompts += [ClipPrompt((Mover(*looks[0], None), Mover(*looks[1], None)), together) for together in TOGETHER]
    texts: set[str] = set()
    for prompt, style in product(prompts, styles):
        texts.update(caption(prompt, style, Random(i)) for i in range(60 if style == "paraphrase" else 1))
    return sorted({word.strip(".,") for text in texts for word in text.split()} | {".", ","})
