"""How the tests of several chapters read a lecture."""

import re

import pytest


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table that has this heading, a row each."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|") and heading in line)
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def number(text: str) -> float:
    """The first number of a cell; "1,024" is 1024."""
    return float(re.findall(r"-?\d*\.?\d+", text.replace(",", ""))[0])


def same(said: str, measured: float, places: int | None = None) -> None:
    """As a lecture rounds it: to so many places; None: to two, or to one where it is above 1."""
    places = (2 if abs(measured) <= 1 else 1) if places is None else places
    assert number(said) == pytest.approx(measured, abs=0.51 * 10**-places), (said, measured)
