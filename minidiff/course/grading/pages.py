"""What people read: one HTML page per student, one for the instructor; and a result as JSON, to keep.

The pages stand alone: no script, no link, nothing to fetch, and a policy that forbids all of it. What comes from a
student or a file is escaped and cut; the same results give the same bytes.
"""

import base64
import hashlib
import html
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_type_hints

from minidiff.course.grading.results import FOR_REVIEW, Item, Result, State, Student

_MESSAGE, _ANSWER, _SHORT = 4_000, 20_000, 300  # characters, before escaping
_SURROGATES = re.compile("[\ud800-\udfff]")
# Text direction overrides: they make a name rewrite the line around it, or code read differently from what it does.
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")

_CRASH = "Look for a function that calls itself without end, or for tensors larger than the memory."
_TAMPERED = "or the notebook changes how answers are read, so it could not be marked; ask your instructor."
# state → the word for its label, the sentence for the student, the colour
_STATES = {
    State.PASS: ("right", "Your answer is right.", "right"),
    State.PARTIAL: ("partly right", "Your answer is right on some of the inputs, and wrong on others.", "partly"),
    State.FAIL: ("not right", "Your answer is not right.", "wrong"),
    State.ERROR: ("error", "Your code raised an error before it gave an answer.", "wrong"),
    State.TIMEOUT: ("timeout", "Your function did not come back in time. Look for a loop that never ends.", "wrong"),
    State.CRASH: ("crash", f"Python itself stopped while it ran your function. {_CRASH}", "wrong"),
    State.MISSING: ("no answer", "There is no answer: the cell is not there, or nothing was filled in.", "missing"),
    State.TAMPERED: ("altered", f"This cell is not as it was handed out, {_TAMPERED}", "person"),
    State.MANUAL: ("read by a person", "Your instructor reads and marks this answer.", "person"),
    State.FLAGGED: ("right, to be looked at", "Right, and waiting for your instructor to look at how.", "person"),
}
_BY_HAND = ("marked by hand", "Your instructor has read and marked this.", "person")

# Okabe-Ito, as in the boxes of `check`: colours beside dark text, never under it at full strength.
_STYLE = """
body{font:1.0625rem/1.5 system-ui,"Segoe UI",sans-serif;color:#1a1a1a;background:#fff;margin:2rem 1rem}
body.narrow{max-width:48rem;margin:2rem auto;padding:0 1rem}.part{margin:2.5rem 0 .75rem}p{margin:.4rem 0}
h1{font-size:1.6rem;line-height:1.25;margin:0}h2{font-size:1.2rem;line-height:1.3;margin:0}
.total{font-size:1.25rem;font-weight:600;margin:.75rem 0 1.5rem}summary{cursor:pointer;padding:.3rem 0}
code,pre{font-family:"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:1rem}code{background:#f2f2f2;padding:0 .2em}
pre{background:#f7f7f7;padding:.75rem;overflow-x:auto;border:1px solid #ddd}ul{margin:0;padding-left:1.2rem}
table{border-collapse:collapse}th,td{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top}
thead th{background:#f2f2f2}td.number{text-align:right;white-space:nowrap}.scroll{overflow-x:auto}
.message{white-space:pre-wrap}.message,h1,h2{overflow-wrap:anywhere}
section{border-left:6px solid #666;padding:.25rem 0 .25rem 1rem;margin:1.75rem 0}.warning{border:3px solid;padding:1rem}
.label{display:inline-block;border:2px solid #666;border-radius:4px;padding:0 .5rem;font-weight:600;margin-right:.6rem}
section.right,.right .label{border-color:#009E73}section.partly,.partly .label{border-color:#E69F00}
section.wrong,.wrong .label,.warning{border-color:#D55E00}section.person,.person .label{border-color:#0072B2}
td.right{background:#d9f0e9}td.partly{background:#fbeccc}td.wrong{background:#f8dfcc}td.person{background:#cce3f0}
td.missing{background:#ececec}td{print-color-adjust:exact;-webkit-print-color-adjust:exact}
@media print{body.wide,body.narrow{margin:0;max-width:none}.scroll{overflow:visible}section{break-inside:avoid-page}
pre{white-space:pre-wrap}}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def number(value: float) -> str:
    """Marks as people write them, at most four decimals: 2, 1.5, 0.3333. `ValueError` unless finite."""
    if not math.isfinite(value):
        raise ValueError(f"value: got {value}, expected a finite number")
    return f"{value:.4f}".rstrip("0").rstrip(".")


def plain(text: str) -> str:
    """`text` with "\\n" for line ends and without what is not text: control characters, direction overrides.

    Half a character (a lone surrogate, which JSON may hold and UTF-8 may not) becomes "�".
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _BIDI.sub("", _SURROGATES.sub("\ufffd", text))
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def explain(item: Item) -> tuple[str, str]:
    """What became of an item, for its student: a word or two, and a sentence."""
    return _told(item)[:2]


def waits(item: Item) -> bool:
    """Should a person still look at this item?"""
    return item.points is None or (item.state in FOR_REVIEW and not item.by_hand)


def to_json(result: Result) -> str:
    """All of one student's result, the same text for the same result. `ValueError` for marks that are not finite."""
    return json.dumps(asdict(result), indent=2, sort_keys=True, allow_nan=False) + "\n"


def from_json(text: str) -> Result:
    """The result that `to_json` wrote. `ValueError` if `text` is damaged or something else."""
    try:
        return _read(Result, json.loads(text))
    except (ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"text: got something that is not a student's result ({error})") from error


def student_page(result: Result, title: str = "") -> str:
    """The page for one student: marks, what was seen, the answers. Nothing in it is for the instructor alone.

    title  of the assignment; its name if left out
    """
    title = _escaped(title or result.assignment)
    name = f"<bdi>{_escaped(result.student.name)}</bdi>"
    rows = [
        f'<tr><th scope="row">{_escaped(item.title)}</th><td>{_told(item)[0]}</td>'
        f'<td class="number">{_marks(item)}</td></tr>'
        for item in result.items
    ]
    table = _table(["Exercise", "What became of it", "Points"], rows)
    boxes = "".join(_box(item) for item in result.items)
    body = f'<h1>{title}</h1>\n<p>{name}</p>\n<p class="total">{_total(result)}</p>\n{table}\n{boxes}'
    return _page(f"{title}: {_escaped(result.student.name)}", body)


def class_page(results: list[Result]) -> str:
    """The page for the instructor: who has what, which mistakes are common, and what waits for a person."""
    results = sorted(results, key=lambda result: result.student.key)
    title = _escaped(", ".join(sorted({result.assignment for result in results})) or "No results")
    to_review = _count(sum(waits(item) for result in results for item in result.items), "answer")
    parts = [
        f'<h1>{title}</h1>\n<p class="total">{_count(len(results), "student")}, {to_review} to review</p>',
        _sandbox_warning(results),
        '<h2 class="part">Students</h2>\n' + _students_table(results),
        '<h2 class="part">Exercises</h2>\n' + _items_table(results),
        _notes(results),
    ]
    return _page(title, "\n".join(part for part in parts if part), wide=True)


def by_item(results: list[Result]) -> dict[str, list[Item]]:
    """The items of all results by id, in the order of the assignment."""
    ids = dict.fromkeys(item.id for result in results for item in result.items)
    return {id: [item for result in results for item in result.items if item.id == id] for id in ids}


def _told(item: Item) -> tuple[str, str, str]:
    return _BY_HAND if item.by_hand else _STATES[item.state]


def _escaped(text: str, limit: int = _SHORT) -> str:
    """`text` for any place in the page, attributes too: cut, cleaned, escaped."""
    text = plain(text)
    if len(text) > limit:
        text = f"{text[:limit]} … (cut: {len(text):,} characters in all)"
    return html.escape(text)


def _count(n: float, noun: str) -> str:
    return f"{number(n)} {noun}" if n == 1 else f"{number(n)} {noun}s"


def _page(title: str, body: str, wide: bool = False) -> str:
    # The hash allows this one style sheet and nothing else, so that not even a slip in the escaping could run or load.
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body class="{"wide" if wide else "narrow"}">\n{body}\n</body>\n</html>\n'
    )


def _table(header: list[str], rows: list[str], footer: str = "") -> str:
    head, body = "".join(f'<th scope="col">{cell}</th>' for cell in header), "\n".join(rows)
    body += f"\n</tbody><tfoot>{footer}</tfoot>" if footer else "\n</tbody>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</table></div>'


def _total(result: Result) -> str:
    waiting = f" ({result.pending} {'waits' if result.pending == 1 else 'wait'} for your instructor)"
    return f"{number(result.score)} of {_count(result.max_score, 'point')}{waiting if result.pending else ''}"


def _marks(item: Item) -> str:
    return f"{'waits,' if item.points is None else number(item.points)} of {number(item.max_points)}"


def _box(item: Item) -> str:
    word, sentence, colour = _told(item)
    most = _count(item.max_points, "point")
    marks = f"waits for your instructor (up to {most})" if item.points is None else f"{number(item.points)} of {most}"
    head = f'<h2>{_escaped(item.title)}</h2>\n<p><span class="label">{word}</span>{marks}</p>'
    lines = [head, f"<p>{sentence}</p>"]
    if item.message.strip():
        message = re.sub(r"`([^`]+)`", r"<code>\1</code>", _escaped(item.message.strip(), _MESSAGE))
        lines.append(f'<p class="message">{message}</p>')
    if item.answer.strip():
        # HTML drops a newline after <pre>: this one, and not one of the answer's own.
        answer = f"<pre>\n{_escaped(item.answer, _ANSWER)}</pre>"
        lines.append(f"<details><summary>Your answer, as submitted</summary>{answer}</details>")
    return f'<section class="{colour}">\n' + "\n".join(lines) + "\n</section>\n"


def _sandbox_warning(results: list[Result]) -> str:
    bare = sum(result.sandbox == "none" for result in results)
    if not bare:
        return ""
    what = f"{bare} of {_count(len(results), 'submission')} {'was' if bare == 1 else 'were'} run without a sandbox:"
    why = "nothing kept this code from the rest of the machine, the other submissions and the marks among it."
    return f'<p class="warning"><strong>{what}</strong> {why}</p>'


def _names(result: Result) -> str:
    name, key = _escaped(result.student.name), _escaped(result.student.key)
    return f'<th scope="row"><bdi>{name}</bdi></th><td>{key}</td>'


def _students_table(results: list[Result]) -> str:
    ids = list(by_item(results))
    rows = []
    for result in results:
        items = {item.id: item for item in result.items}
        cells = [_cell(items.get(id)) for id in ids]
        waiting = f" ({result.pending} wait)" if result.pending else ""
        total = f"{number(result.score)} of {number(result.max_score)}{waiting}"
        rows.append(f'<tr>{_names(result)}<td class="number">{total}</td>{"".join(cells)}</tr>')
    means = "".join(f'<td class="number">{_item_mean(items)}</td>' for items in by_item(results).values())
    total = _mean([r.score for r in results], max((r.max_score for r in results), default=0.0))
    footer = f'<tr><th scope="row" colspan="2">Mean of the marks given</th><td class="number">{total}</td>{means}</tr>'
    return _table(["Student", "Key", "Total", *(_escaped(id) for id in ids)], rows, footer)


def _cell(item: Item | None) -> str:
    if item is None:
        return "<td>not there</td>"
    points = f"{'waits' if item.points is None else number(item.points)}{', by hand' if item.by_hand else ''}"
    return f'<td class="{_STATES[item.state][2]}">{item.state.value} {points}</td>'


def _mean(given: list[float], most: float) -> str:
    return f"{sum(given) / len(given):.2f} of {number(most)}" if given else "–"


def _item_mean(items: list[Item]) -> str:
    return _mean([item.points for item in items if item.points is not None], items[0].max_points)


def _items_table(results: list[Result]) -> str:
    rows = []
    for id, items in by_item(results).items():
        states = Counter(item.state for item in items)
        became = ", ".join(f"{states[state]} {state.value}" for state in State if states[state])
        mistakes = Counter(item.mistake for item in items if item.mistake)
        common = sorted(mistakes.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
        listed = "".join(f"<li>{_escaped(name)}: {n} of {len(items)}</li>" for name, n in common)
        title = f"{_escaped(items[0].title)}<br><code>{_escaped(id)}</code>"
        rows.append(
            f'<tr><th scope="row">{title}</th><td class="number">{_item_mean(items)}</td><td>{became}</td>'
            f"<td>{f'<ul>{listed}</ul>' if listed else 'none'}</td>"
            f'<td class="number">{sum(waits(item) for item in items)}</td></tr>'
        )
    return _table(["Exercise", "Mean", "What became of it", "Commonest named mistakes", "To review"], rows)


def _notes(results: list[Result]) -> str:
    rows = []
    for result in results:
        for id, note in [("", n) for n in result.notes] + [(item.id, n) for item in result.items for n in item.notes]:
            what = f'<td>{_escaped(id)}</td><td class="message">{_escaped(note, _MESSAGE)}</td>'
            rows.append(f"<tr>{_names(result)}{what}</tr>")
    head = '<h2 class="part">Notes, for you alone</h2>\n'
    return head + _table(["Student", "Key", "Exercise", "Note"], rows) if rows else ""


def _is(value: Any, *kinds: type) -> Any:
    """`value`, if it has one of these types exactly: in Python, though not in JSON, true is a number."""
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"got {value!r:.80}, expected {' or '.join(kind.__name__ for kind in kinds)}")
    return value


# The type of a field → how to read it from JSON, so that a field added to `results.py` is read, or missed loudly.
_READERS: dict[Any, Callable[[Any], Any]] = {
    str: lambda value: _is(value, str),
    bool: lambda value: _is(value, bool),
    float: lambda value: float(_is(value, int, float)),
    float | None: lambda value: None if value is None else float(_is(value, int, float)),
    State: State,
    dict[str, str]: lambda value: {name: _is(text, str) for name, text in _is(value, dict).items()},
    tuple[str, ...]: lambda value: tuple(_is(text, str) for text in _is(value, list)),
    tuple[Item, ...]: lambda value: tuple(_read(Item, entry) for entry in _is(value, list)),
    Student: lambda value: _read(Student, value),
}


def _read(kind: Any, data: Any) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(data, dict) or data.keys() != hints.keys():
        raise ValueError(f"{kind.__name__}: expected an object with the fields {', '.join(hints)}")
    return kind(**{name: _READERS[hint](data[name]) for name, hint in hints.items()})
