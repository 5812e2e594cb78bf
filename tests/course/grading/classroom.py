"""Submissions of chapter 01 made by hand, and the class that is marked from them."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from minidiff.course.exercise import Exercise, load_chapter
from minidiff.course.grading.notebooks import Master, load_master

ROOT = Path(__file__).resolve().parents[3]
CHAPTER = "01_bayes_rule"
EXERCISES: dict[str, Exercise] = {exercise.id: exercise for exercise in load_chapter(CHAPTER)}
FUNCTIONS = {id: exercise.reference.__name__ for id, exercise in EXERCISES.items()}
FULL = float(sum(exercise.points for exercise in EXERCISES.values()))

Document = dict[str, Any]


@cache
def master() -> Master:
    return load_master(ROOT, CHAPTER)


@cache
def solutions() -> dict[str, str]:
    """{exercise id: the answer cell of the shipped solution}."""
    return {cell.grade_id: cell.source for cell in master().solved if cell.grade_id in EXERCISES}


@cache
def _handed_out() -> Document:
    return json.loads((ROOT / "exercises" / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))


def grade_id(cell: dict[str, Any]) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def find(document: Document, id: str) -> dict[str, Any]:
    """The cell of a notebook with this grade_id."""
    return next(cell for cell in document["cells"] if grade_id(cell) == id)


def solved(answers: dict[str, str] | None = None) -> Document:
    """The exercise notebook with the shipped solutions filled in, and `answers` in place of some of them."""
    document = copy.deepcopy(_handed_out())
    for id, source in (solutions() | (answers or {})).items():
        find(document, id)["source"] = source
    return document


def as_bytes(document: Any) -> bytes:
    return json.dumps(document).encode()
