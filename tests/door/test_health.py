"""The health check sees what is there, and says what to do about what is not."""

import sys

import pytest
import torch

from minidiff.course import health


def test_this_machine_is_examined_in_full():
    report = health.examine()
    seen = {finding.what: finding.seen for finding in report}
    assert list(seen) == [
        "software", "processor", "memory", "disk", "device", "speed", "widgets", "versions", "Fashion-MNIST",
    ]  # fmt: skip
    assert torch.__version__ in seen["software"]
    assert seen["versions"] == "exactly the tested ones"
    assert all(finding.seen in repr(report) for finding in report)
    assert report._repr_html_().count("<tr>") == len(report)


def test_a_finding_that_needs_attention_shows_its_remedy():
    report = health.Report([health.Finding("disk", "0 GiB free", "make <some> room")])
    assert not report.ok
    assert "LOOK  disk  0 GiB free" in repr(report)
    assert "make <some> room" in repr(report)
    assert "make &lt;some&gt; room" in report._repr_html_()


def test_speed_counts_what_was_computed(monkeypatch):
    """With a clock that gains 0.1 s at every look, three products of 2·64³ operations fit into 0.35 s."""
    ticks = iter(i * 0.1 for i in range(100))
    monkeypatch.setattr(health.time, "perf_counter", lambda: next(ticks))
    # began at 0.0; the looks at 0.1, 0.2 and 0.3 each start a product; the one at 0.4 ends the measurement.
    assert health.gflops(torch.device("cpu"), size=64, seconds=0.35) == pytest.approx(3 * 2 * 64**3 / 0.4 / 1e9)


def test_versions_name_what_differs_and_leave_the_test_tools_out():
    pinned = health.pins()
    assert pinned["torch"] == "2.15.0"
    assert health.differing(pinned) == []
    altered = {**pinned, "torch": "9.9", "jupyterlab": "8.8", "ruff": "7.7"}
    found = health.differing(altered)
    assert [line.split()[0] for line in found] == ["torch", "jupyterlab"]
    assert "(tested: 9.9)" in found[0]


def test_without_constraints_nothing_is_compared(tmp_path, monkeypatch):
    assert health.pins(tmp_path / "constraints.txt") == {}
    monkeypatch.setattr(health, "pins", lambda: {})
    assert health.versions().ok
    assert "not compared" in health.versions().seen


def test_widgets_without_their_browser_half_are_noticed(monkeypatch, tmp_path):
    assert health.widgets().ok
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "make lab" in health.widgets().remedy


def test_a_small_machine_is_told_so(monkeypatch):
    monkeypatch.setattr(health, "usable_cores", lambda: 1)
    monkeypatch.setattr(health, "memory_gib", lambda: 2.0)
    monkeypatch.setattr(health, "gflops", lambda device: 3.0)
    assert not health.cores().ok
    assert not health.memory().ok
    assert not health.speed().ok


def test_memory_may_be_unknown(monkeypatch):
    monkeypatch.setattr(health, "memory_gib", lambda: None)
    assert health.memory().ok


def test_data_are_looked_for_where_minidiff_reads_them(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    assert "not here yet" in health.fashion_mnist().seen
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").touch()
    assert "real pictures" in health.fashion_mnist().seen


def test_minidiff_doctor_prints_the_report_and_its_verdict(monkeypatch, capsys):
    from minidiff.cli import main
    from minidiff.course.grading import probe

    sandbox = health.Finding("grading sandbox", "bubblewrap")  # tests/course/grading/test_probe.py tries the real one
    monkeypatch.setattr(probe, "finding", lambda: sandbox)
    monkeypatch.setattr(health, "examine", lambda: health.Report([health.Finding("disk", "9 GiB free")]))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok    disk             9 GiB free\nok    grading sandbox  bubblewrap\n"
    monkeypatch.setattr(health, "examine", lambda: health.Report([health.Finding("disk", "full", "make room")]))
    assert main(["doctor"]) == 1
    assert "make room" in capsys.readouterr().out
