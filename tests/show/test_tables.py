"""Tables: every number in its place, in HTML and as text."""

import re

import pytest
import torch

from minidiff import show

ROWS = {"plain": [0.026666, 1, "98 %"], "guided <w>": [torch.tensor(123456.0), 2, "n. a."]}
COLUMNS = ["sampler", "W1", "calls", "right"]


def test_html_has_a_cell_for_each_value_and_escapes_names():
    html = show.table(ROWS, COLUMNS)._repr_html_()
    cells = re.findall(r"<t[hd](?: [^>]*)?>\s*(.*?)\s*</t[hd]>", html)
    assert cells == [*COLUMNS, "plain", "0.0267", "1", "98 %", "guided &lt;w&gt;", "1.23e+05", "2", "n. a."]


def test_text_is_aligned():
    lines = repr(show.table(ROWS, COLUMNS)).splitlines()
    assert [re.split(r"\s{2,}", line.strip()) for line in lines[::2]] == [COLUMNS, ["plain", "0.0267", "1", "98 %"]]
    assert len({line.index(word) for line, word in zip(lines[:3:2], ("right", "98 %"))}) == 1


def test_digits():
    assert "0.02667" in repr(show.table({"a": [0.026666]}, ["", "x"], digits=4))
    assert "0.02667" not in repr(show.table({"a": [0.026666]}, ["", "x"])), "control"


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0, 4.0], "abc"])
def test_a_row_that_does_not_fit_is_named(values):
    with pytest.raises(ValueError, match=r"rows\['short'\]: got .*, expected 3"):
        show.table({"short": values}, COLUMNS)
