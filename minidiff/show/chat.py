"""A conversation about pictures: ask, look, ask again, and beneath every picture what a judge reads in it.

It knows nothing of a model: `reply` is any function (history, text, seed) → the next picture. history is the turns so
far, in their order: texts and pictures (3, H, W) by turns. What was asked, and what no instruction named, is looked up
in the picture by `judges.scenes.parse`.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from textwrap import fill

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from minidiff.data.edits import instructs, objection, told
from minidiff.data.prompts import Prompt
from minidiff.data.scenes import Object
from minidiff.judges.scorecard import shows
from minidiff.judges.sentences import read as understood
from minidiff.show.playground import tidy, unknown
from minidiff.show.plots import grid
from minidiff.show.style import GREEN, RED, panels
from minidiff.show.widgets import WIDGET_VIEW, png, stacked
from minidiff.systems.hunyuan import as_told, read
from minidiff.validate import describe, require

Reply = Callable[[Sequence[str | Tensor], str, int], Tensor | tuple]
"""(history, text, seed) → a picture (3, H, W), or a tuple of it and of notes (str) that are shown beneath it."""
Line = tuple[bool | None, str]
"""Right, wrong, or neither (None); and a sentence."""

_ASKED = re.compile(r"(?:a |an )?(?:(?P<shape>wide|tall) )?picture of (?P<caption>.+)")
NO_PICTURE = "There is no picture yet: ask for one first, such as “a picture of a red circle”"


@dataclass(frozen=True)
class Turn:
    """What was said, the picture that came, what is read in it (None: unreadable), and the judge's lines."""

    text: str
    picture: Tensor
    seen: list[Object] | None
    lines: Sequence[Line]


def wish(text: str) -> tuple[str | None, Prompt] | None:
    """("wide", "tall" or None, prompt) of "a wide picture of a red circle" or a bare caption; None of others."""
    found = _ASKED.fullmatch(text)
    prompt = understood(found["caption"] if found else text)
    return None if prompt is None else (found["shape"] if found else None, prompt)


def judged(
    text: str, picture: Tensor, seen: list[Object] | None, before: tuple[Tensor, list[Object] | None] | None
) -> list[Line]:
    """Was it as told? before: the picture before this one and what is read in it; None at the first.

    After an instruction: whether it was followed, and of every object that it did not name, whether it was kept (the
    same kind and colour within a cell of its place, as `hunyuan.as_told` has it).
    """
    if not instructs(text):
        return _as_wished(text, picture, seen)
    earlier, things = before or (picture, None)
    if things is None:
        return [(None, "cannot be judged: the picture before could not be read")]
    after = told(text, things)
    if after is None:
        return [(None, f"cannot be judged: {objection(text, things)}")]
    there = lambda thing: any(as_told([thing], [found]) for found in seen or [])
    kept = [thing for thing in things if thing in after]
    done = [thing for thing in after if thing not in things]
    gone = [thing for thing in things if thing not in after and not done]
    lines: list[Line] = [(there(thing), f"followed: a {_named(thing)}") for thing in done]
    lines += [(seen is not None and not there(thing), f"followed: no {_named(thing)}") for thing in gone]
    lines += [(there(thing), f"kept: the {_named(thing)}") for thing in kept]
    if seen is None or len(seen) > len(after):
        lines.append((False, "unreadable" if seen is None else f"{len(seen)} objects, {len(after)} expected"))
    if picture.shape != earlier.shape:
        lines.append((False, f"{_shape(picture)}, and {_shape(earlier)} before"))
    return lines


def _as_wished(text: str, picture: Tensor, seen: list[Object] | None) -> list[Line]:
    asked = wish(text)
    if asked is None:
        return [(None, "cannot be judged: not a sentence that the judge can read")]
    lines: list[Line] = [(seen is not None and shows(asked[1], seen), "shows what was asked, and nothing else")]
    if asked[0]:
        lines.append((_shape(picture) == asked[0], f"{asked[0]} was asked, {_shape(picture)} it is"))
    return lines


def _named(thing: Object) -> str:
    return " ".join(word for word in (thing[1], thing[0]) if word)


def _shape(picture: Tensor) -> str:
    height, width = picture.shape[1:]
    return "square" if height == width else "wide" if width > height else "tall"


def page(turn: Turn, number: int, wide: int = 62) -> Figure:
    """One turn: its picture, and beside it the sentence, what was read, and the judge's lines."""
    read_there = "unreadable" if turn.seen is None else ", ".join(map(_named, turn.seen)) or "nothing"
    marks, colours = {True: "✓", False: "✗", None: "·"}, {True: GREEN, False: RED, None: "black"}
    told_all = [(f"{number}. “{turn.text}”", "black"), (f"read: {read_there}", "gray")]
    told_all += [(f"{marks[right]} {text}", colours[right]) for right, text in turn.lines]
    written = [(fill(text, wide, subsequent_indent="   "), colour) for text, colour in told_all]
    rows = sum(text.count("\n") + 1 for text, _ in written)
    figure, (left, right) = panels(1, 2, size=(3.6, max(1.5, 0.21 * rows)), width_ratios=(1, 3))
    grid(turn.picture[None], columns=1, ax=left)
    right.set_axis_off()
    line = 0
    for text, colour in written:
        right.text(0, 1 - line / max(rows, 7), text, color=colour, va="top", fontsize=9, transform=right.transAxes)
        line += text.count("\n") + 1
    return figure


class Chat:
    """A line to type in, "ask", "start again", a seed, and the column of turns, the newest last.

    `say(text)` asks as a hand would; False: it was refused, and `message` says why. A refused sentence stays in the
    line and changes nothing else. reply: see `Reply`. vocabulary: the words that it has learnt; others are refused.
    """

    def __init__(self, reply: Reply, vocabulary: Collection[str], opening: Sequence[str] = (), seed: int = 0):
        require(callable(reply), "reply", describe(reply), "a function (history, text, seed)")
        self.reply, self.vocabulary, self.turns = reply, vocabulary, []
        self.line = ipywidgets.Text(placeholder="a picture of a red circle", layout={"width": "420px"})
        self.seed = ipywidgets.BoundedIntText(
            value=seed, min=0, max=99_999, description="seed", layout={"width": "160px"}
        )
        self.ask = ipywidgets.Button(description="ask", button_style="primary")
        self.again = ipywidgets.Button(description="start again")
        self.message, self.column = ipywidgets.Label(), ipywidgets.VBox()
        self.ask.on_click(lambda button: self.say(self.line.value))
        self.again.on_click(lambda button: self.reset())
        self.line.on_msg(self._pressed)
        self.box = ipywidgets.VBox(
            [self.column, self.message, ipywidgets.HBox([self.line, self.ask, self.seed, self.again])]
        )
        for text in opening:
            require(self.say(text), "opening", repr(text), f"a sentence that is not refused ({self.message.value})")

    @property
    def history(self) -> list[str | Tensor]:
        """Texts and pictures by turns."""
        return [part for turn in self.turns for part in (turn.text, turn.picture)]

    def say(self, typed: str) -> bool:
        text = tidy(typed).removeprefix("now ")
        self.message.value = why = self.refused(text) or ""
        if why:
            self.line.value = typed
            return False
        answer = self.reply(self.history, text, self.seed.value)
        picture, *notes = answer if isinstance(answer, tuple) else (answer,)
        fits = isinstance(picture, Tensor) and picture.ndim == 3 and picture.shape[0] == 3
        require(fits, "reply", describe(picture), "a picture (3, H, W)")
        picture = picture.detach().float().cpu()
        (seen,), last = read([picture]), self.turns[-1] if self.turns else None
        lines = judged(text, picture, seen, last and (last.picture, last.seen))
        self.turns.append(Turn(text, picture, seen, [*lines, *((None, str(note)) for note in notes)]))
        natural = {"align_self": "flex-start", "max_width": "100%"}
        shown = ipywidgets.Image(format="png", value=png(page(self.turns[-1], len(self.turns))), layout=natural)
        self.column.children, self.line.value = (*self.column.children, shown), ""
        return True

    def refused(self, text: str) -> str | None:
        """Why a sentence gets no picture, which would only mislead; None: it is asked."""
        if not text:
            return "Say what to draw, or what to change"
        if strange := unknown(text, self.vocabulary):
            known = sorted(word for word in self.vocabulary if word.isalpha())
            return f"Never read: {', '.join(strange)}. It knows: {' '.join(known)}"
        if not instructs(text):
            return None
        if not self.turns:
            return NO_PICTURE
        seen = self.turns[-1].seen
        return None if seen is None else objection(text, seen)

    def reset(self) -> None:
        """No turns, nothing typed; the seed stays."""
        self.turns, self.column.children, self.line.value, self.message.value = [], (), "", ""

    def _pressed(self, widget: object, content: dict, buffers: object) -> None:
        if content.get("event") == "submit":  # Enter
            self.say(self.line.value)


def chat(reply: Reply, vocabulary: Collection[str], opening: Sequence[str], seed: int = 0) -> Chat:
    """Show a `Chat` that begins with the sentences of `opening`; where no front end is live, a picture of them."""
    made = Chat(reply, vocabulary, opening, seed)
    view = {"version_major": 2, "version_minor": 0, "model_id": made.box.model_id}
    picture = b64encode(stacked([bytes(shown.value) for shown in made.column.children])).decode("ascii")
    text = f"[a conversation: {'; '.join(turn.text for turn in made.turns)}]"
    display({WIDGET_VIEW: view, "image/png": picture, "text/plain": text}, raw=True)
    return made
