"""`manual.csv`, where the instructor marks by hand.

The instructor fills `points` (0 to `max`) and `comment`, in any spreadsheet. Grading again rewrites the file and keeps
what was filled: such a row stays, and counts, until its points and comment are emptied.

`digest` is that of the answer the mark was given for. If the answer has changed since, the mark still counts and `note`
says so, on every run, until the instructor either empties points and comment (the next run then offers the row afresh)
or empties the digest cell alone, which says "this mark is for the answer as it is now".
"""

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from minidiff.course.grading.pages import number
from minidiff.course.grading.results import FOR_REVIEW, Item, Result
from minidiff.course.grading.tables import read_table, safe_cell, write_table

COLUMNS = ("student", "item", "state", "suggested", "max", "points", "comment", "digest", "note")
_NEEDED = ("student", "item", "max", "points", "comment", "digest")
_CHANGED = "the answer has changed since it was marked"
_GONE = "not among the results of this run"
_NO_ANSWER = "no answer"  # in place of an empty digest: an empty cell means "the answer as it is now"


@dataclass(frozen=True)
class Row:
    """One line of `manual.csv`.

    points  None where the cell is empty;  digest: of the answer it was given for, "" for "as it is now"
    cells   every cell as it was typed, by column, so that the instructor's own columns survive
    """

    student: str
    item: str
    points: float | None = None
    comment: str = ""
    digest: str = ""
    cells: dict[str, str] = field(default_factory=dict)

    @property
    def filled(self) -> bool:
        """Has the instructor written anything in it, in a column of their own included?"""
        own = any(text.strip() for name, text in self.cells.items() if name not in COLUMNS)
        return self.points is not None or bool(self.comment.strip()) or own


def read_marks(path: Path) -> list[Row]:
    """The rows of `manual.csv`; none if the file is not there. `ValueError` naming the line and what is wrong in it."""
    if not path.exists():
        return []
    text, delimiter = read_table(path)
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    rows: dict[tuple[str, str], Row] = {}
    try:
        header = _header(path, next(lines, []))
        for cells in lines:
            if any(cell.strip() for cell in cells):
                row = _row(f"{path}, line {lines.line_num}", header, cells)
                if (row.student, row.item) in rows:
                    raise ValueError(
                        f"{path}, line {lines.line_num}: a second row for student {row.student!r}, item {row.item!r}"
                    )
                rows[row.student, row.item] = row
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines.line_num}: {error}") from error
    return list(rows.values())


def _header(path: Path, names: list[str]) -> list[str]:
    """The names of the columns, ours in lower case."""
    names = [name.strip().lower() if name.strip().lower() in COLUMNS else name for name in names]
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ValueError(f"{path}, line 1: missing columns {', '.join(missing)}")
    twice = [name for name, n in Counter(names).items() if n > 1 and name.strip()]
    if twice:
        raise ValueError(f"{path}, line 1: columns that are there twice: {', '.join(twice)}")
    return names


def _row(where: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) > len(header):  # a decimal comma without quotes would move every cell after it
        raise ValueError(f"{where}: got {len(cells)} cells, expected at most {len(header)}, as in line 1")
    if any(text.strip() for name, text in zip(header, cells) if not name.strip()):
        raise ValueError(f"{where}: a filled cell in a column without a name")
    padded = cells + [""] * (len(header) - len(cells))
    named = {name: text for name, text in zip(header, padded) if name.strip()}
    student, item, digest = (named[name].strip() for name in ("student", "item", "digest"))
    for name, text in (("student", student), ("item", item)):
        if not text:
            raise ValueError(f"{where}: no {name}")
    points, most = (_parsed(f"{where}, {name}", named[name].strip()) for name in ("points", "max"))
    if points is not None and most is not None and points > most:
        raise ValueError(f"{where}, points: got {number(points)}, expected at most {number(most)}")
    return Row(student, item, points, named["comment"], digest, named)


def _parsed(where: str, text: str) -> float | None:
    if not text:
        return None
    if re.fullmatch(r"[-−]\s*[0-9]+([.,][0-9]*)?", text):
        raise ValueError(f"{where}: got {text!r}, which is negative, expected 0 or more")
    if not re.fullmatch(r"(?=[.,]?[0-9])[0-9]{0,9}([.,][0-9]*)?", text):
        raise ValueError(f"{where}: got {text!r}, which is not a number")
    return float(text.replace(",", "."))


def _settled(results: list[Result], rows: list[Row]) -> dict[tuple[str, str], Row]:
    """The rows by (student's key, item), under the keys of the results. `ValueError` if two are for the same item.

    Spreadsheets turn the key 00123 into 123, so a key that fits nobody is tried without its leading zeros.
    """
    keys = {safe_cell(result.student.key): result.student.key for result in results}
    bare = Counter(key.lstrip("0") for key in keys)
    known = {key.lstrip("0"): own for key, own in keys.items() if bare[key.lstrip("0")] == 1} | keys
    settled: dict[tuple[str, str], Row] = {}
    for row in rows:
        at = known.get(row.student, row.student), row.item
        if at in settled:
            raise ValueError(f"rows: got two for student {at[0]!r}, item {at[1]!r}, expected one")
        settled[at] = row
    return settled


def apply(results: list[Result], rows: list[Row]) -> list[Result]:
    """The results with the instructor's marks in place of the program's, and the comments in the messages.

    Rows for students or items that are not there are left out. `ValueError` for more points than the item has.
    """
    settled = _settled(results, rows)
    return [
        replace(result, items=tuple(_marked(item, settled.get((result.student.key, item.id))) for item in result.items))
        for result in results
    ]


def _marked(item: Item, row: Row | None) -> Item:
    if row is None:
        return item
    if row.comment.strip():
        comment = f"Your instructor: {row.comment.strip()}"
        item = replace(item, message=f"{item.message}\n{comment}" if item.message else comment)
    if row.points is None:
        return item
    if not math.isfinite(row.points) or not 0 <= row.points <= item.max_points:
        got = f"got {row.points:g} for student {row.student!r}, item {item.id!r}"
        raise ValueError(f"points: {got}, expected 0 to {number(item.max_points)}")
    return replace(item, points=row.points, by_hand=True)


def write_marks(path: Path, results: list[Result], rows: list[Row]) -> None:
    """Write `manual.csv`: what a person should look at in `results`, and every row of `rows` that is filled.

    results  as the program marked them, before `apply`;  rows: those read from `path`
    Sorted by item, then student: one question is marked at a time. The delimiter and the byte-order mark of the file
    that is there are kept, or the spreadsheet that wrote it could not open it any more.
    """
    settled = _settled(results, rows)
    items = {(result.student.key, item.id): item for result in results for item in result.items}
    at = {where for where, item in items.items() if item.state in FOR_REVIEW}
    at |= {where for where, row in settled.items() if row.filled}
    extra = list(dict.fromkeys(name for row in rows for name in row.cells if name not in COLUMNS))
    lines = [[*COLUMNS, *extra]]
    for student, item_id in sorted(at, key=lambda where: (where[1], where[0])):
        row = settled.get((student, item_id), Row(student, item_id))
        cells = _line(student, row, items.get((student, item_id)))
        lines.append([cells[name] for name in COLUMNS] + [row.cells.get(name, "") for name in extra])
    text, delimiter = read_table(path) if path.exists() else ("", ",")
    write_table(path, lines, delimiter, "\ufeff" if text.startswith("\ufeff") else "")


def _line(student: str, row: Row, item: Item | None) -> dict[str, str]:
    """The cells of one row. What the instructor typed goes back as it was typed: only they can have written it."""
    cells = dict.fromkeys(COLUMNS, "") | row.cells
    cells |= {"student": safe_cell(student), "item": safe_cell(row.item), "comment": row.comment}
    if row.points is not None:
        cells["points"] = row.cells.get("points", "") or number(row.points)
    if item is None:
        return cells | {"note": _GONE}
    now = item.digest or _NO_ANSWER
    given = row.points is not None or bool(row.comment.strip())
    changed = given and row.digest not in ("", now)
    if not item.by_hand:  # after `apply` the program's own marks are no longer known
        cells["suggested"] = "" if item.points is None else number(item.points)
    return cells | {
        "state": item.state.value,
        "max": number(item.max_points),
        "digest": row.digest if changed else now,
        "note": safe_cell("; ".join([_CHANGED] * changed + list(item.notes))),
    }
