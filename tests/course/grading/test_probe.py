"""The walls of the sandbox, tried one by one, and the same attempts where there are none."""

import pytest

from minidiff.course.grading import probe, sandbox
from minidiff.course.grading.results import State
from minidiff.course.grading.sandbox import Limits, Unsandboxed

pytestmark = pytest.mark.slow


def test_every_wall_of_the_sandbox_stands():
    found = probe.probe()
    assert found.holes == ()
    assert found.held == (*probe.WALLS, "time", "files")
    assert found.level == "bubblewrap"


def test_a_watch_that_sees_nothing_is_a_hole(monkeypatch):
    monkeypatch.setattr(sandbox, "_entries", lambda processes, size: 0)
    monkeypatch.setattr(probe, "WATCHED", {"files": (Limits(entries=1), "def probe(): pass", State.CRASH)})
    monkeypatch.setattr(probe, "attempts", lambda level, folders: {})
    assert probe.probe().holes == ("files: it ended by itself",)


def test_without_a_sandbox_the_same_attempts_get_through(tmp_path):
    tried = ("network", "reading", "writing", "processes")  # those that hurt nobody where nothing stops them
    found = probe.attempts("none", [str(tmp_path)], tried)
    assert all(found.values()), found
    assert (tmp_path / "written-by-a-student").exists()


def test_doctor_names_what_got_through(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda: probe.Probed("bubblewrap", "bwrap", ("time",), ("disk: 64 MiB",)))
    assert "disk: 64 MiB" in probe.finding().remedy


def test_a_machine_without_bubblewrap_is_told_so(monkeypatch):
    monkeypatch.setattr(sandbox, "candidates", list)
    sandbox.find_bwrap.cache_clear()
    try:
        with pytest.raises(Unsandboxed, match="there is no bubblewrap"):
            sandbox.find_bwrap()
        assert probe.finding().ok, "no fault of a student's machine"
        assert "none here" in probe.finding().seen
    finally:
        sandbox.find_bwrap.cache_clear()


def test_a_bubblewrap_that_does_not_start_is_passed_over(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'no namespaces here' >&2; exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    working = sandbox.find_bwrap()
    monkeypatch.setattr(sandbox, "candidates", lambda: [str(broken), working])
    sandbox.find_bwrap.cache_clear()
    assert sandbox.find_bwrap() == working
    monkeypatch.setattr(sandbox, "candidates", lambda: [str(broken)])
    sandbox.find_bwrap.cache_clear()
    try:
        with pytest.raises(Unsandboxed, match="no namespaces here"):
            sandbox.find_bwrap()
    finally:
        sandbox.find_bwrap.cache_clear()
