"""Results as a real table, as the last line of a cell: HTML in a notebook, aligned text anywhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from minidiff.validate import require

Value = str | int | float | Tensor


@dataclass(frozen=True)
class Table:
    """What `table` returns: a notebook shows `html`, `print` shows `text`."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(rows: Mapping[str, Sequence[Value]], columns: Sequence[str], digits: int = 3) -> Table:
    """A row for each name with its values. columns: the headings, that of the names first.

    Numbers (0-d tensors too) have `digits` significant digits, texts stay as they are: "98 %", "0.02 ± 0.01".
    `ValueError` if a row has not one value for each column after the first.
    """
    from tabulate import tabulate

    for name, values in rows.items():
        got = repr(values) if isinstance(values, str) else f"{len(values)} values"
        fits = not isinstance(values, str) and len(values) == len(columns) - 1
        require(fits, f"rows[{name!r}]", got, f"{len(columns) - 1} values")
    plain = [[name, *(v.item() if isinstance(v, Tensor) else v for v in values)] for name, values in rows.items()]
    draw = lambda style: str(tabulate(plain, columns, tablefmt=style, floatfmt=f".{digits}g", disable_numparse=[0]))
    return Table(draw("html"), draw("simple"))
