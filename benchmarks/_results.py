"""A benchmark's file of results: parts that are measured apart, and kept as soon as each is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks._timing import machine
from minidiff.checkpoints import write_whole


class Results:
    """benchmarks/results/NAME.json, or another folder's NAME.json."""

    def __init__(self, name: str, folder: Path = Path(__file__).parent / "results"):
        self.path = folder / f"{name}.json"

    def read(self) -> dict[str, Any]:
        """All parts, and the machine they were measured on; nothing where there is no file yet."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def keep(self, part: str, found: Mapping[str, Any]) -> None:
        """This part in place of what was there; the other parts stay."""
        text = json.dumps(self.read() | machine() | {part: found}, indent=1, ensure_ascii=False) + "\n"
        write_whole(self.path, lambda temporary: (temporary.write_text(text, encoding="utf-8"), None)[1])


def told(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": round(mean(values), 6), "sd": round(stdev(values), 6) if len(values) > 1 else 0.0}
