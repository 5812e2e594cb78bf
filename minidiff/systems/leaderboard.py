"""The leaderboard: every text-to-image system of the course, asked the same questions (chapter 15).

One file, assets/leaderboard.json, is all there is: `python -m benchmarks leaderboard` writes it, and the command line,
the README and the chapter read it here. Of each system it holds

    parameters         of the networks that draw, what is frozen in them included, and an encoder in two of them once
    gflops             10⁹ operations of one picture: the whole sampler, guidance, encoders and decoder included
    training seconds   of one thread, from the records of all models that were trained for it
    seconds            CPU seconds a picture, ten at a time, one thread
    asked              of each question of `judges.scorecard` that its world contains: {"right", "other", "asked"}
    whole              the same of all its pictures: is all of the caption shown, and nothing else?
    error              where the exact denoiser is known: {"loss", "excess"} of x̂0, means over `dit.TIMES`

"other" counts the pictures for which the answer would be yes with the *next* caption: what a system scores that does
not listen. The exact sampler of a world is the first row of its table: its errors are what sampling alone costs.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from minidiff.judges.scorecard import QUESTIONS, Score
from minidiff.validate import require

PATH = Path(__file__).parents[1] / "assets" / "leaderboard.json"
COMMAND = "python -m benchmarks leaderboard"
COMMON = ("one object", "position")
"""Rows are in the order of their mean share over these, which all systems but one of rings are asked."""
Row = Mapping[str, Any]


def read(path: Path = PATH) -> dict[str, Any]:
    """What was measured: {"systems": {name: row}, …}. `ValueError` where nothing was yet, or the file is cut off."""
    require(path.exists(), "leaderboard", f"no file {path}", f"what `{COMMAND}` writes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"leaderboard: got {path}, cut off or not JSON ({error}), expected `{COMMAND}`'s") from error


def score(counts: Mapping[str, int], which: str = "right") -> Score:
    """Of one question: which of "right" and "other"."""
    return Score(counts[which], counts["asked"])


def sections(found: Mapping[str, Any]) -> dict[str, dict[str, Row]]:
    """{section: {name: row}}, exact samplers first, then by the share of COMMON questions; without these last."""
    systems: Mapping[str, Row] = found["systems"]

    def order(name: str) -> tuple[bool, float]:
        asked = systems[name]["asked"]
        common = [score(asked[question]).share for question in COMMON if question in asked]
        return not systems[name]["exact"], -mean(common) if common else 1.0

    names = sorted(systems, key=order)
    return {
        section: {name: systems[name] for name in names if systems[name]["section"] == section}
        for section in dict.fromkeys(row["section"] for row in systems.values())
    }


def lines(rows: Mapping[str, Row]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of one section's table. Shares are in per cent with Wilson's 95 % interval."""
    questions = [question for question in QUESTIONS if any(question in row["asked"] for row in rows.values())]
    errors = any(row["error"] for row in rows.values())
    heads = [
        "system", "chapter", "10⁶ parameters", "Gflops a picture", "training s", "s a picture", *questions,
        "all of it", "another caption", *["error of x̂0 · 1000"] * errors,
    ]  # fmt: skip
    return heads, [_cells(name, row, questions, errors) for name, row in rows.items()]


def _cells(name: str, row: Row, questions: Sequence[str], errors: bool) -> list[str]:
    trained = row["training seconds"]
    work = [
        row["chapter"], _short(row["parameters"] / 1e6) if row["parameters"] else "–", _short(row["gflops"]),
        f"{trained:,}" if trained else "–", _short(row["seconds"]),
    ]  # fmt: skip
    asked = [_shown(row["asked"][question]) if question in row["asked"] else "" for question in questions]
    error = [f"{1000 * row['error']['loss']:.1f}" if row["error"] else ""] if errors else []
    other = f"{100 * score(row['whole'], 'other').share:.0f}"
    return [name, *work, *asked, _shown(row["whole"]), other, *error]


def _shown(counts: Mapping[str, int]) -> str:
    found = score(counts)
    low, high = found.interval
    return f"{100 * found.share:.0f} [{100 * low:.0f}–{100 * high:.0f}]"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def table(found: Mapping[str, Any]) -> str:
    """For a console: one table a section, its columns aligned."""
    parts = []
    for section, rows in sections(found).items():
        heads, cells = lines(rows)
        widths = [max(map(len, column)) for column in zip(heads, *cells)]
        parts.append("\n".join([section, *(_aligned(row, widths) for row in (heads, *cells))]))
    return "\n\n".join(parts)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(row, widths)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])


def markdown(found: Mapping[str, Any]) -> str:
    """For the README and the lecture: one table a section."""
    parts = []
    for section, rows in sections(found).items():
        heads, cells = lines(rows)
        rule = "|".join(["---"] + ["---:"] * (len(heads) - 1))
        body = "\n".join(f"| {' | '.join(row)} |" for row in cells)
        parts.append(f"**{section[0].upper()}{section[1:]}**\n\n| {' | '.join(heads)} |\n|{rule}|\n{body}")
    return "\n\n".join(parts)


BEGIN, END = "<!-- leaderboard: made by `python -m benchmarks.leaderboard readme` -->", "<!-- end of leaderboard -->"


def between(text: str) -> str:
    """What a page has between BEGIN and END. `ValueError` where it has not both, once each."""
    require(text.count(BEGIN) == text.count(END) == 1, "text", "a page without its two marks", f"{BEGIN} … {END}, once")
    return text.split(BEGIN)[1].split(END)[0].strip()


def filled(text: str, found: Mapping[str, Any]) -> str:
    """A page with the tables of today between its marks."""
    between(text)
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{markdown(found)}\n\n{END}{after}"
