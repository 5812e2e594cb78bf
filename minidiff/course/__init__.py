"""Exercises that explain themselves: `check` an answer, ask for a `hint`."""

from minidiff.course.exercise import Exercise, Mistake
from minidiff.course.feedback import Hint, Result, check, hint

__all__ = ["Exercise", "Hint", "Mistake", "Result", "check", "hint"]
