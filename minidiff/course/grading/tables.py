"""CSV files that other programs made and will open: cells that no spreadsheet runs, files changed cell by cell."""

import csv
import io
import re
from pathlib import Path

from minidiff.checkpoints import write_whole
from minidiff.course.grading.pages import plain

_FORMULA = "=+\\-@＝＋－＠"
_STARTS_FORMULA = re.compile(rf"[\s\"\u200b-\u200f\u2060\ufeff]*[{_FORMULA}]")
# Where the decimal sign is a comma, spreadsheets split cells at ";" whatever the file says.
_FORMULA_AFTER_SEMICOLON = re.compile(rf"(;[\s\"]*)([{_FORMULA}])")


def safe_cell(text: str) -> str:
    """`text` for a cell that a spreadsheet may open: one line, and never read as a formula.

    A text that begins with = + - @ (full-width too; after spaces or quotes too), a tab or a line end gets a leading
    apostrophe. One that already begins with an apostrophe is a text to every spreadsheet: so once is enough.
    """
    line = re.sub(r"[\n\t]", " ", plain(text))
    guard = text.startswith(("\t", "\r", "\n")) or _STARTS_FORMULA.match(line)
    return _FORMULA_AFTER_SEMICOLON.sub(r"\1'\2", f"'{line}" if guard else line)


def read_table(path: Path) -> tuple[str, str]:
    """The text of a CSV file (a byte-order mark stays its first character) and its delimiter: "," ";" or tab.

    `ValueError` if it is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 ({error}); in Excel, save it as "CSV UTF-8"') from error
    header = re.split(r"[\r\n]", re.sub('"[^"]*"', "", text), maxsplit=1)[0]  # an assignment's title may have commas
    return text, max(",;\t", key=header.count)  # on a tie the comma, which comes first


def write_table(path: Path, rows: list[list[str]], delimiter: str = ",", start: str = "") -> None:
    """Write rows as CSV, whole or not at all. The cells must be safe already. start: a byte-order mark, or nothing."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    write_bytes(path, (start + text.getvalue()).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """`write_whole` for a file that is ready in memory: bytes, so that no system changes its line ends."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_whole(path, write)


class Table:
    """A CSV file of a platform. Cells can be put in place of others; all other bytes are written as they were read.

    `ValueError` if it is not UTF-8, or if a quote in it is not closed.
    """

    def __init__(self, path: Path):
        self.path, self.edits = path, dict[tuple[int, int], str]()
        self.text, self.delimiter = read_table(path)
        start = int(self.text.startswith("\ufeff"))
        end = f"{re.escape(self.delimiter)}|\r\n|\r|\n|\\Z"
        cell = re.compile(f'((?:"(?:[^"]|"")*+")?[^{re.escape(self.delimiter)}\r\n]*)({end})')
        self.spans: list[list[tuple[int, int]]] = [[]]  # where in the text each cell is
        for found in cell.finditer(self.text, start):
            self.spans[-1].append(found.span(1))
            if found[2] != self.delimiter:
                self.spans.append([])
            if not found[2]:
                break
        self.spans = [row for row in self.spans if row and row != [(len(self.text), len(self.text))]]
        try:
            self.rows = list(csv.reader(io.StringIO(self.text[start:], newline=""), delimiter=self.delimiter))
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from error
        if not self.rows or [len(row) or 1 for row in self.rows] != [len(row) for row in self.spans]:
            raise ValueError(
                f"{path}: got a file that is empty or has a quote that is not closed, expected a CSV table"
            )

    def column(self, name: str) -> int | None:
        """The first column with this name, whatever its case; None if there is none."""
        return next((c for c, text in enumerate(self.rows[0]) if text.strip().casefold() == name.casefold()), None)

    def cell(self, row: int, column: int | None) -> str:
        """The text of a cell, without spaces around it; "" where the row ends before it."""
        return "" if column is None or column >= len(self.rows[row]) else self.rows[row][column].strip()

    def put(self, row: int, column: int, text: str) -> None:
        """Replace a cell. `ValueError` if the row ends before it."""
        if column >= len(self.rows[row]):
            raise ValueError(
                f"{self.path}, row {row + 1}: got {len(self.rows[row])} cells, expected {len(self.rows[0])}"
            )
        self.edits[row, column] = text

    def write(self, out: Path) -> None:
        """Write the text to `out`, with the new cells in place of the old ones."""
        pieces, at = [], 0
        for (row, column), text in sorted(self.edits.items()):
            start, end = self.spans[row][column]
            quoted = self.text.startswith('"', start) or re.search(rf'["\r\n{re.escape(self.delimiter)}]', text)
            pieces += [self.text[at:start], '"' + text.replace('"', '""') + '"' if quoted else text]
            at = end
        write_bytes(out, "".join([*pieces, self.text[at:]]).encode())
