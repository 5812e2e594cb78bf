"""Marks for the places that keep them: `grades.csv`, Canvas, Moodle and Gradescope.

A platform's own file is not rewritten: the cells of the students that are surely the same are replaced in its text, and
every other byte stays. Who cannot be told apart, or still waits for marks, is left alone and named in a sentence.
"""

import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minidiff.course.grading.pages import by_item, explain, number, plain
from minidiff.course.grading.results import Item, Result, State, Student
from minidiff.course.grading.tables import Table, safe_cell, write_bytes, write_table
from minidiff.validate import require

_EXCUSED = ("EX", "N/A")  # Canvas: excused, not assigned. A mark there would undo what the instructor decided
# Moodle refuses a worksheet without a column of this name; it may be blank.
_MOODLE: tuple[str, ...] = (
    "Identifier",
    "Full name",
    "Grade",
    "Maximum Grade",
    "Last modified (grade)",
    "Feedback comments",
)


def write_grades(path: Path, results: list[Result]) -> None:
    """Write `grades.csv`: a line per student, by key; then the points of each item, then the state of each item.

    An item that waits for a person has no points: its cell is blank.
    """
    ids = list(by_item(_by_key(results)))
    header = ["student", "name", "score", "max", "pending", "states", "sandbox", *ids]
    header += [f"{id} state" for id in ids] + ["notes"]
    rows = [[safe_cell(name) for name in header]] + [_grades(result, ids) for result in _by_key(results)]
    write_table(path, rows, start="\ufeff")  # without a byte-order mark Excel garbles names beyond ASCII


def _grades(result: Result, ids: list[str]) -> list[str]:
    items = {item.id: item for item in result.items}
    states = Counter(item.state for item in result.items)
    given = {id: number(item.points) for id, item in items.items() if item.points is not None}
    notes = [*result.notes, *(f"{item.id}: {note}" for item in result.items for note in item.notes)]
    summary = ", ".join(f"{states[state]} {state.value}" for state in State if states[state])
    cells = [safe_cell(result.student.key), safe_cell(result.student.name), number(result.score)]
    cells += [number(result.max_score), str(result.pending), summary, safe_cell(result.sandbox)]
    cells += [given.get(id, "") for id in ids] + [items[id].state.value if id in items else "" for id in ids]
    return [*cells, safe_cell("; ".join(notes)[:4_000])]  # a spreadsheet refuses a cell of more than 32,767 characters


def write_gradescope(folder: Path, results: list[Result]) -> None:
    """Write `folder`/<student's key>/results.json for each student, in the format of Gradescope's autograders.

    An item that waits for a person has neither score nor status: it is not failed, and the total is the marks so far.
    """
    for result in results:
        key = result.student.key
        require(Path(key).name == key and key not in ("", ".", ".."), "key", repr(key), "a name for a folder")
        waiting = f"{result.pending} of {len(result.items)} answers wait for your instructor." if result.pending else ""
        data = {
            "score": result.score,
            "output": waiting,
            "stdout_visibility": "hidden",  # what the code printed may show the secret inputs
            "tests": [_gradescope_test(item) for item in result.items],
        }
        text = json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
        write_bytes(folder / key / "results.json", text.encode())


def _gradescope_test(item: Item) -> dict[str, str | float]:
    word, sentence = explain(item)
    test: dict[str, str | float] = {
        "name": plain(item.title),
        "max_score": item.max_points,
        "output": plain(f"{word}: {sentence}\n{item.message}").strip(),
        "output_format": "text",
        "visibility": "visible",
    }
    if item.points is not None:
        test |= {"score": item.points, "status": "passed" if item.points >= item.max_points else "failed"}
    return test


def fill_canvas(gradebook: Path, out: Path, results: list[Result], column: str | None) -> list[str]:
    """Write to `out` the exported `gradebook` with the scores in one column; returns what the instructor should know.

    column  the header of that column, with or without its " (id)"; None: the only one that has the assignment's words.
            `ValueError`, with the columns there are, if not exactly one fits
    Scores go in as they are, also if the column counts another number of points: the scale is the instructor's.
    """
    require(bool(results), "results", "none", "at least one")
    table = Table(gradebook)
    above = next((r for r in range(len(table.rows)) if table.cell(r, 0) == "Points Possible"), 0)
    target = _canvas_column(table, above, column, results[0].assignment)
    student, last, first, id = (table.column(name) for name in ("Student", "LastName", "FirstName", "ID"))
    logins = [table.column(name) for name in ("SIS Login ID", "SIS User ID")]
    people = []
    for row in range(above + 1, len(table.rows)):
        name = table.cell(row, student) or f"{table.cell(row, last)}, {table.cell(row, first)}".strip(", ")
        if name and name.casefold() != "student, test":  # Canvas's own test student is nobody's
            people.append(_Person(row, table.cell(row, id), name, _folded(table.cell(row, c) for c in logins)))
    possible = [table.cell(above, target)] if above else []
    sentences = _scale(possible, results, f'the column "{table.cell(0, target)}"')
    sentences += _fill(table, results, people, "canvas", lambda result: {target: number(result.score)})
    table.write(out)
    return sentences


def _canvas_column(table: Table, above: int, wanted: str | None, assignment: str) -> int:
    """Which column of a Canvas gradebook is meant. `ValueError` unless exactly one is."""
    headers = {c: table.cell(0, c) for c in range(len(table.rows[0])) if table.cell(above, c) != "(read only)"}
    own = {c: name[1] for c, text in headers.items() if (name := re.fullmatch(r"(.+) \(\d+\)", text, re.DOTALL))}
    if wanted is not None:
        fits = [c for c in own if headers[c] == wanted.strip()] or [c for c in own if own[c].strip() == wanted.strip()]
    else:
        words, found = _words(assignment), {c: _words(name) for c, name in own.items()}
        fits = [c for c in own if words and words <= found[c]]
        numbers, title = {w for w in words if w.isdigit()}, {w for w in words if len(w) > 3 and not w.isdigit()}
        fits = fits or [c for c in own if numbers and numbers <= found[c] and title & found[c]]
    if len(fits) != 1:
        got = f"{assignment if wanted is None else wanted!r}, which fits {len(fits)} columns of {table.path.name}"
        listed = "; ".join(headers[c] for c in own) or "none: this is no gradebook exported from Canvas"
        raise ValueError(f"column: got {got}, expected exactly one of: {plain(listed)}")
    return fits[0]


def _words(text: str) -> set[str]:
    """The words of a title: "01_bayes_rule" and "1: Bayes' Rule" have 1, bayes and rule in common."""
    return {word.lstrip("0") or "0" for word in re.findall(r"[^\W_]+", text.casefold())}


def fill_moodle(worksheet: Path | None, out: Path, results: list[Result]) -> list[str]:
    """Write to `out` Moodle's offline grading `worksheet` with grades and comments; returns as `fill_canvas` does.

    None: a new worksheet, of the students without pending items. `ValueError` if `worksheet` is not one (in English).
    """
    if worksheet is None:
        return _new_worksheet(out, results)
    table = Table(worksheet)
    identifier, grade = (table.column(name) for name in ("Identifier", "Grade"))
    if identifier is None or grade is None:
        raise ValueError(f"worksheet: {worksheet} has no columns Identifier and Grade, but {plain(str(table.rows[0]))}")
    name, email = (table.column(name) for name in ("Full name", "Email address"))
    most, comments = (table.column(name) for name in ("Maximum Grade", "Feedback comments"))
    people = []
    for row in range(1, len(table.rows)):
        number_at_end = re.search(r"\d+$", table.cell(row, identifier))
        mail, id = table.cell(row, email), number_at_end[0] if number_at_end else ""
        people.append(_Person(row, id, table.cell(row, name), _folded([mail, mail.split("@")[0]])))
    sentences = _scale([table.cell(person.row, most) for person in people], results, "the worksheet")

    def cells(result: Result) -> dict[int, str]:
        comment = {} if comments is None else {comments: _comment(result)}
        return {grade: number(result.score)} | comment

    sentences += _fill(table, results, people, "moodle", cells)
    table.write(out)
    return sentences


def _new_worksheet(out: Path, results: list[Result]) -> list[str]:
    rows, sentences = [[*_MOODLE]], []
    for result in _by_key(results):
        student, id = result.student, result.student.ids.get("moodle", "")
        if result.pending:  # a row without a grade would still replace the comment that Moodle has
            sentences.append(f"{_who(student)}: {_pending(result)}, so there is no row.")
            continue
        if not id:
            sentences.append(f"{_who(student)}: no Moodle number is known, so the Identifier is yours to fill in.")
        identifier = safe_cell(f"Participant {id}") if id else ""
        marks = number(result.score), number(result.max_score)
        rows.append([identifier, safe_cell(student.name), *marks, "", _comment(result)])
    write_table(out, rows)
    return sentences


def _comment(result: Result) -> str:
    """One line per item, as HTML: that is what Moodle takes comments for."""
    lines = []
    for item in result.items:
        marks = "waits" if item.points is None else f"{number(item.points)}/{number(item.max_points)}"
        lines.append(html.escape(plain(f"{item.id}: {'by hand' if item.by_hand else item.state.value} {marks}")))
    return safe_cell("<br>".join(lines))


_Cells = Callable[[Result], dict[int, str]]  # column → text, the score first


@dataclass(frozen=True)
class _Person:
    """A row of a platform's file: the platform's number for the student, the name, the logins (folded)."""

    row: int
    id: str
    name: str
    logins: frozenset[str]


def _fill(table: Table, results: list[Result], people: list[_Person], platform: str, cells: _Cells) -> list[str]:
    """Put `cells(result)` into the row of each student who is surely the same; say who was left out, and why."""
    found, sentences = _match([result.student for result in _by_key(results)], people, platform, table.path.name)
    for result in _by_key(results):
        person = found.get(result.student.key)
        if person is None:
            continue
        if result.pending:
            sentences.append(f"{_who(result.student)}: {_pending(result)}, so the row was left as it was.")
            continue
        new = cells(result)
        if (there := table.cell(person.row, next(iter(new)))) in _EXCUSED:
            sentences.append(f"{_who(result.student)}: the gradebook says {there}, so the row was left as it was.")
            continue
        for place, text in new.items():
            table.put(person.row, place, text)
    rest = sorted(plain(person.name) or person.id for person in people if person not in found.values())
    if rest:
        sentences.append(f"Left as they were, rows that no result belongs to: {len(rest)} ({'; '.join(rest)}).")
    return sentences


def _match(
    students: list[Student], people: list[_Person], platform: str, file: str
) -> tuple[dict[str, _Person], list[str]]:
    """Whose row is whose: by the platform's number, else by login, else by name; and a sentence for who has none.

    Never a guess: a row counts only if it alone fits the student, and the student alone fits it.
    """

    def other(student: Student, person: _Person) -> bool:  # both numbers are known and differ: not the same person
        return bool(person.id and student.ids.get(platform)) and person.id != student.ids[platform]

    ways: tuple[Callable[[Student, _Person], bool], ...] = (
        lambda student, person: bool(person.id) and person.id == student.ids.get(platform),
        lambda s, p: not other(s, p) and not p.logins.isdisjoint((s.key.casefold(), s.name.casefold())),
        lambda s, p: not other(s, p) and _same_name(s.name, p.name),
    )
    found: dict[str, _Person] = {}
    unclear: dict[str, str] = {}
    for same in ways:
        for student in [s for s in students if s.key not in found and s.key not in unclear]:
            fits = [person for person in people if same(student, person)]
            rivals = [s for s in students if s.key != student.key and len(fits) == 1 and same(s, fits[0])]
            if len(fits) > 1:
                unclear[student.key] = f"{len(fits)} rows of {file} fit, so none was filled."
            elif rivals:
                unclear[student.key] = f"{_who(rivals[0])} fits the same row of {file}, so it was left as it was."
            elif fits and fits[0] not in found.values():
                found[student.key] = fits[0]
    lost = [student for student in students if student.key not in found]
    return found, [f"{_who(s)}: {unclear.get(s.key, f'not found in {file}.')}" for s in lost]


def _same_name(a: str, b: str) -> bool:
    """ "Doe, Jane", "Jane Doe" and, where a platform has run them together, "doejane" are the same name."""
    (a_turns, a_joined, a_one), (b_turns, b_joined, b_one) = _turns(a), _turns(b)
    return not (a_joined.isdisjoint(b_joined) if a_one or b_one else a_turns.isdisjoint(b_turns))


@cache
def _turns(name: str) -> tuple[frozenset[tuple[str, ...]], frozenset[str], bool]:
    """The words of a name, begun at any of them: as they are, run together; and whether it is only one word."""
    cleaned = (
        "".join(c if unicodedata.category(c)[0] in "LNM" else "" for c in part)
        for part in re.split(r"[\s,]+", unicodedata.normalize("NFKC", name).casefold())
    )
    words = tuple(word for word in cleaned if word)
    turns = frozenset(words[n:] + words[:n] for n in range(len(words)))
    return turns, frozenset("".join(turn) for turn in turns), len(words) == 1


def _folded(texts) -> frozenset[str]:
    return frozenset(text.casefold() for text in texts if text)


def _by_key(results: list[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.student.key)


def _who(student: Student) -> str:
    return plain(student.name if student.name == student.key else f"{student.name} ({student.key})").replace("\n", " ")


def _pending(result: Result) -> str:
    return f"{result.pending} {'answer waits' if result.pending == 1 else 'answers wait'} for your marks"


def _scale(counts: list[str], results: list[Result], where: str) -> list[str]:
    """A sentence if `where` counts other points than the results."""
    own = max((result.max_score for result in results), default=0.0)
    texts = {text.replace(",", ".") for text in counts}
    other = sorted({float(text) for text in texts if re.fullmatch(r"\d+(\.\d+)?", text)} - {own})
    counted = ", ".join(number(points) for points in other)
    sentence = f"The scale is yours to set: {where} counts {counted} points, the scores are out of {number(own)}."
    return [sentence] if other else []
