"""Figures of single chapters: functions that take what was computed and draw it."""
