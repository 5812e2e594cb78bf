"""A class from the command line: what is written, that it is the same every time, and that nothing stops it."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tqdm import tqdm

from minidiff.cli import main
from minidiff.course.grading import batch, command, notebooks, sandbox
from minidiff.course.grading.batch import Batch, Books, mark_all, one_each, open_batch, read_secret
from minidiff.course.grading.collect import Submission
from minidiff.course.grading.mark import Rules
from minidiff.course.grading.results import Item, Result, State, Student
from minidiff.course.grading.sandbox import Unsandboxed

ROOT = Path(__file__).resolve().parents[3]
CHAPTER = "01_bayes_rule"

pytestmark = pytest.mark.slow


def notebook(answers=None, chapter=CHAPTER):
    """The untouched exercises with some answers filled in: one process is started only for what is filled in."""
    document = json.loads((ROOT / "exercises" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    for cell in document["cells"]:
        cell["source"] = (answers or {}).get(cell["id"], cell["source"])
    return json.dumps(document).encode()


HEAD = "def posterior_score(prior_score, likelihood_score, w):\n    return prior_score"
RIGHT = {"01-posterior-score": f"{HEAD} + w * likelihood_score"}
WRONG = {"01-posterior-score": f"{HEAD} + likelihood_score"}
CLASS = {"ann.ipynb": notebook(RIGHT), "bob.ipynb": notebook(WRONG), "cleo.ipynb": b"junk", "dan.ipynb": notebook()}


def classroom(folder, files=CLASS):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))


def grade(*arguments):
    return main(["grade", "--root", str(ROOT), *map(str, arguments)])


def test_a_class_is_marked_and_a_second_run_or_another_number_of_jobs_changes_no_byte(tmp_path, capsys, monkeypatch):
    submissions, out, screen = classroom(tmp_path / "in"), tmp_path / "out", io.StringIO()
    with monkeypatch.context() as patched:  # as on a terminal
        patched.setattr(command, "tqdm", lambda **settings: tqdm(**settings | {"disable": False, "file": screen}))
        assert grade(submissions, "-o", out, "--gradescope", "--moodle") == 0
    assert "4/4" in screen.getvalue()
    said = capsys.readouterr().out
    assert "01_bayes_rule: 4 submissions, sandbox: bubblewrap" in said
    assert "mean 0.50 of 20 points; 17 missing, 5 error, 1 pass, 1 fail" in said
    assert "no answer from 1 of 4, see the notes in class.html: cleo\n" in said
    assert "for you in manual.csv" not in said
    rows = {row["student"]: row for row in table(out / "grades.csv")}
    assert {key: row["score"] for key, row in rows.items()} == {"ann": "2", "bob": "0", "cleo": "0", "dan": "0"}
    assert rows["bob"]["01-posterior-score state"] == "fail"
    assert "5 error" in rows["cleo"]["states"]
    assert "not JSON" in rows["cleo"]["notes"]
    names = {*contents(out)}
    students = {f"{place}/{key}.json" for key in rows for place in ("results", "feedback")}
    assert students <= names
    files = {"grades.csv", "manual.csv", "class.html", "moodle.csv", "secret.txt", "gradescope/ann/results.json"}
    assert files <= names
    assert "You left out w" in (out / "feedback" / "bob.html").read_text(encoding="utf-8")
    assert (out / "secret.txt").stat().st_mode & 0o077 == 0, "for the instructor's eyes"

    first = contents(out)
    made = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert grade(submissions, "-o", out, "--gradescope", "--moodle") == 0
    assert contents(out) == first
    assert {path: path.stat().st_mtime_ns for path in made} == made, "taken up again, not made again"
    assert grade(submissions, "-o", out, "--gradescope", "--moodle", "--fresh", "--jobs", "1") == 0
    assert contents(out) == first, "made anew, one at a time"


@pytest.mark.stress  # Ctrl-C and a second run, here beside it, are in `make test`
def test_a_killed_run_is_taken_up_where_it_stopped(tmp_path):
    """SIGKILL after the first result: what was written stays as it was, the rest is added, the end is the same."""
    files = {f"s{i}.ipynb": notebook(RIGHT if i % 2 else WRONG) for i in range(6)}
    submissions, out, whole = classroom(tmp_path / "in", files), tmp_path / "out", tmp_path / "whole"
    out.mkdir()
    (out / "secret.txt").write_text("0123456789abcdef", encoding="utf-8")
    shutil.copytree(out, whole)
    argv = [sys.executable, "-m", "minidiff.cli", "grade", str(submissions), "-o", str(out), "--root", str(ROOT)]
    running = subprocess.Popen([*argv, "--jobs", "1"], start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((out / "results").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    early = contents(out / "results")
    assert 1 <= len([name for name in early if not name.startswith(".")]) < 6
    before = {p: p.stat().st_mtime_ns for p in (out / "results").glob("*.json")}
    assert grade(submissions, "-o", out) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before, "not marked twice"
    assert grade(submissions, "-o", whole) == 0
    parts = {name for name in contents(out) if name.endswith(".tmp")}  # of a file that was being written
    assert {name: data for name, data in contents(out).items() if name not in parts} == contents(whole)


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(tmp_path):
    slow = {"01-posterior-score": f"import time\ntime.sleep(600)\n{HEAD}"}
    submissions, out = (
        classroom(tmp_path / "in", {"a.ipynb": notebook(RIGHT), "b.ipynb": notebook(slow)}),
        tmp_path / "out",
    )
    argv = [sys.executable, "-m", "minidiff.cli", "grade", str(submissions), "-o", str(out), "--root", str(ROOT)]
    pipe = subprocess.PIPE
    running = subprocess.Popen(
        [*argv, "--timeout", "600"], start_new_session=True, stdout=pipe, stderr=pipe, encoding="utf-8"
    )
    deadline = time.monotonic() + 120
    while not list((out / "results").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    said, complained = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped after 1 of 2 submissions; the same command goes on from there" in said
    assert "Traceback" not in complained
    assert [p.name for p in (out / "results").glob("*.json")] == ["a.json"]


@pytest.mark.parametrize(
    ("waiting", "empty", "text"),
    [
        (0, 0, ""),
        (1, 0, "1 answer waits for you in manual.csv"),
        (1, 1, "no answer from 1 of 2, see the notes in class.html: e00\n1 answer waits"),
        (2, 1, "no answer from 1 of 3, see the notes in class.html: e00\n2 answers wait for you"),
        (
            0,
            12,
            "no answer from 12 of 12, see the notes in class.html: e00, e01, e02, e03, e04, e05, e06, e07, e08, e09, …",
        ),
    ],
)
def test_the_summary_names_who_brought_nothing_and_what_waits(waiting, empty, text):
    def result(key, state, digest):
        item = Item("01-x", "x", state, 0.0, 1.0, digest=digest)
        return Result(Student(key, key), CHAPTER, (item,), "bubblewrap")

    results = [result(f"w{i}", State.FLAGGED, "1" * 64) for i in range(waiting)]
    results += [result(f"e{i:02}", State.ERROR, "") for i in range(empty)]
    _, _, rest = command.summary(results).partition("\n")
    assert command.summary(results[::-1]) == command.summary(results), "in whatever order they were done"
    assert (rest.startswith(text), bool(rest)) == (True, bool(text))


def test_a_name_that_the_console_cannot_show_costs_nobody_the_summary(tmp_path, monkeypatch):
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="ascii", write_through=True))
    submissions, out = (
        classroom(tmp_path / "in", {"Zoë 李.ipynb": b"junk", "ann.ipynb": notebook()}),
        tmp_path / "out",
    )
    assert grade(submissions, "-o", out, "-j", "1") == 0
    said = screen.getvalue().decode("ascii")
    assert "no answer from 1 of 2, see the notes in class.html: Zo\\xeb_\\u674e\n" in said
    assert f"wrote {out}/grades.csv, class.html, manual.csv and feedback/ for 2 students\n" in said
    assert [row["name"] for row in table(out / "grades.csv")] == ["Zoë 李", "ann"]


def test_a_zip_from_canvas_fills_the_gradebook(tmp_path, capsys):
    path, out, book = tmp_path / "submissions.zip", tmp_path / "out", tmp_path / "book.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doejane_101_9001_01_bayes_rule.ipynb", notebook(RIGHT))
        archive.writestr("roejohn_LATE_102_9002_01_bayes_rule-1.ipynb", notebook(WRONG))
        archive.writestr("../../evil_103_9003_x.ipynb", notebook(RIGHT))
    book.write_text(
        "Student,ID,SIS Login ID,Section,Exercises 01 Bayes rule (777)\n    Points Possible,,,,20\n"
        '"Doe, Jane",101,jdoe,A,\n"Roe, John",102,jroe,A,\n"Poe, Ed",104,epoe,A,3\n',
        encoding="utf-8",
    )
    assert grade(path, "-o", out, "--canvas", book, "-j", "1") == 0
    filled = {row["ID"]: row["Exercises 01 Bayes rule (777)"] for row in table(out / "canvas.csv")}
    assert filled == {"": "20", "101": "2", "102": "0", "104": "3"}
    assert "Poe, Ed" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.csv", "out", "submissions.zip"]


def test_marks_by_hand_are_kept_on_every_later_run(tmp_path):
    """A master with a question in words: its answers wait in manual.csv, and count once a person has marked them."""
    root = tmp_path / "course"
    meta = {"schema_version": 3, "grade": True, "solution": True, "locked": False, "task": False, "points": 4}
    question = {"cell_type": "markdown", "id": "01-why", "metadata": {"nbgrader": {**meta, "grade_id": "01-why"}}}
    for folder in ("solutions", "exercises"):
        document = json.loads((ROOT / folder / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))
        document["cells"].append({**question, "source": "### Why do scores add?\nYour answer."})
        (root / folder).mkdir(parents=True)
        (root / folder / f"{CHAPTER}.ipynb").write_text(json.dumps(document), encoding="utf-8")
    (root / "pyproject.toml").touch()
    answered = json.loads(notebook(RIGHT))
    answered["cells"].append({**question, "source": "Because logarithms do. <b>"})
    silent = json.loads(notebook())
    silent["cells"].append({**question, "source": "### Why do scores add?\nYour answer."})
    files = {"ann.ipynb": json.dumps(answered).encode(), "bob.ipynb": json.dumps(silent).encode()}
    submissions, out = classroom(tmp_path / "in", files), tmp_path / "out"
    run = partial(main, ["grade", str(submissions), "-o", str(out), "--root", str(root), "--jobs", "1"])
    assert run() == 0
    rows = {row["student"]: row for row in table(out / "grades.csv")}
    assert (rows["ann"]["01-why"], rows["ann"]["01-why state"], rows["ann"]["pending"]) == ("", "manual", "1")
    assert (rows["bob"]["01-why"], rows["bob"]["01-why state"], rows["bob"]["pending"]) == ("0", "missing", "0")
    (waiting,) = table(out / "manual.csv")
    assert (waiting["student"], waiting["item"], waiting["max"]) == ("ann", "01-why", "4")

    text = (out / "manual.csv").read_text(encoding="utf-8-sig").splitlines()
    cells = dict(zip(text[0].split(","), text[1].split(",")))
    cells |= {"points": "3.5", "comment": "Nice"}
    (out / "manual.csv").write_text(f"{text[0]}\n{','.join(cells.values())}\n", encoding="utf-8")
    for _ in range(2):
        assert run() == 0
        rows = {row["student"]: row for row in table(out / "grades.csv")}
        assert (rows["ann"]["score"], rows["ann"]["max"], rows["ann"]["pending"]) == ("5.5", "24", "0")
        assert "Your instructor: Nice" in (out / "feedback" / "ann.html").read_text(encoding="utf-8")
        assert "Because logarithms do. &lt;b&gt;" in (out / "feedback" / "ann.html").read_text(encoding="utf-8")


def test_the_wrong_assignment_and_several_notebooks_of_one_student(tmp_path):
    files = {
        "ann/01_bayes_rule.ipynb": notebook(RIGHT),
        "ann/02_conditional_training.ipynb": notebook(chapter="02_conditional_training"),
        "bob/mine.ipynb": notebook(chapter="02_conditional_training"),
        "cleo/a.ipynb": notebook(RIGHT),
    }
    out = tmp_path / "out"
    assert grade(classroom(tmp_path / "in", files), "-o", out, "-j", "1") == 0
    rows = {row["student"]: row for row in table(out / "grades.csv")}
    assert {key: row["score"] for key, row in rows.items()} == {"ann": "2", "bob": "0", "cleo": "2"}
    assert rows["bob"]["states"] == "6 missing"
    assert "not the notebook of 01_bayes_rule" in rows["bob"]["notes"]
    for key in ("ann", "bob", "cleo"):  # the student's file holds nothing of the instructor's
        told = json.loads((out / "feedback" / f"{key}.json").read_text(encoding="utf-8"))
        assert told["notes"] == []
        assert told["sandbox"] == ""
        assert told["key"] == ""


BAD = {
    "no folder": (["{in}/none", "-o", "{out}"], "submissions: got"),
    "out within": (["{in}", "-o", "{in}/marks"], "expected a folder outside SUBMISSIONS"),
    "assignment": (["{in}", "-o", "{out}", "-a", "99_x"], "assignment: got '99_x', expected one of ['01_bayes_rule'"),
    "secret": (["{in}", "-o", "{out}", "--secret", "{in}/none"], "secret: got"),
    "no assignment": (["{in}", "-o", "{out}", "-a", ""], "assignment: got '', expected one of ['01_bayes_rule'"),
    "no clone": (["{in}", "-o", "{out}", "--root", "{in}"], "expected a clone of the course, with its notebooks built"),
    "no root": (["{in}", "-o", "{out}", "--root", "{in}/none"], "/none, expected a clone of the course"),
    "out is a file": (["{in}", "-o", "{in}/ann.ipynb"], "OUT: got"),
    "timeout": (["{in}", "-o", "{out}", "--timeout", "0"], "--timeout: got 0, expected 1 to 86400 seconds"),
    "timeout < 0": (["{in}", "-o", "{out}", "--timeout", "-1"], "--timeout: got -1, expected 1 to 86400 seconds"),
    "long timeout": (["{in}", "-o", "{out}", "--timeout", "100000"], "--timeout: got 100000, expected 1 to"),
    "memory": (["{in}", "-o", "{out}", "--memory", "0"], "--memory: got 0.0, expected 0.25 to 1024 GiB"),
    "memory < 0": (["{in}", "-o", "{out}", "--memory", "-2"], "--memory: got -2.0, expected 0.25 to 1024 GiB"),
    "memory inf": (["{in}", "-o", "{out}", "--memory", "inf"], "--memory: got inf, expected 0.25 to 1024 GiB"),
    "memory nan": (["{in}", "-o", "{out}", "--memory", "nan"], "--memory: got nan, expected 0.25 to 1024 GiB"),
    "jobs": (["{in}", "-o", "{out}", "--jobs", "0"], "--jobs: got 0, expected at least 1"),
    "jobs < 0": (["{in}", "-o", "{out}", "--jobs", "-3"], "--jobs: got -3, expected at least 1"),
    "canvas": (["{in}", "-o", "{out}", "--canvas", "{in}/none.csv"], "--canvas: got"),
}


@pytest.mark.parametrize(("arguments", "text"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, arguments, text, capsys):
    places = {"in": classroom(tmp_path / "in"), "out": tmp_path / "out"}
    assert grade(*(argument.format(**places) for argument in arguments)) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert {*contents(tmp_path / "in")} == {*CLASS}


def test_a_short_secret_is_refused_and_a_given_one_is_not_copied(tmp_path):
    (tmp_path / "short").write_text("abc\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"secret: got 3 bytes in .*, expected at least 16"):
        read_secret(tmp_path / "out", tmp_path / "short")
    (tmp_path / "long").write_text("0123456789abcdef\n", encoding="utf-8")
    assert read_secret(tmp_path / "out", tmp_path / "long") == b"0123456789abcdef"
    assert not (tmp_path / "out").exists()
    (tmp_path / "long").write_bytes(b"\xef\xbb\xbf0123456789abcdef\r\n")  # saved again, in an editor on Windows
    assert read_secret(tmp_path / "out", tmp_path / "long") == b"0123456789abcdef"
    made = read_secret(tmp_path / "out", None)
    assert len(made) == 64
    assert read_secret(tmp_path / "out", None) == made, "made once"


def test_without_a_sandbox_nothing_runs_unless_asked_and_then_every_result_says_so(tmp_path, monkeypatch, capsys):
    def none():
        raise Unsandboxed("there is no bubblewrap")

    monkeypatch.setattr(command, "find_bwrap", none)
    files = {name: CLASS[name] for name in ("ann.ipynb", "cleo.ipynb", "dan.ipynb")}
    submissions, out = classroom(tmp_path / "in", files), tmp_path / "out"
    assert grade(submissions, "-o", out) == 2
    assert "there is no sandbox for the students' code: there is no bubblewrap" in capsys.readouterr().err
    assert not out.exists()
    assert grade(submissions, "-o", out, "--allow-unsandboxed", "-j", "1") == 0
    assert "NO SANDBOX" in capsys.readouterr().err
    rows = {row["student"]: row for row in table(out / "grades.csv")}
    assert {row["sandbox"] for row in rows.values()} == {"none"}
    assert rows["ann"]["score"] == "2"
    assert "run without a sandbox" in (out / "class.html").read_text(encoding="utf-8")


def test_the_unsandboxed_worker_has_its_limits_too():
    from minidiff.course.grading.session import Session, SessionEnded, Task

    loop = "def f():\n    while True:\n        pass"
    memory = "def f():\n    return len(bytearray(2**32))"
    with Session("none", replace(sandbox.Limits(), seconds=5, memory=2**29)) as session:
        function = session.start(Task((memory,), "f", 0))
        with pytest.raises(Exception, match="MemoryError"):
            session.guarded(function)
        session.finish()
        function = session.start(Task((loop,), "f", 0))
        with pytest.raises(SessionEnded) as ended:
            session.guarded(function)
    assert ended.value.state is State.TIMEOUT


def _dies_on_bob(submission):
    """A marker whose process dies on one student: as if the machine had run out of memory."""
    if submission.student.key == "bob":
        os._exit(1)
    if submission.student.key == "dan":
        raise TypeError("a slip in the grader")
    return _plain(submission)


def _plain(submission):
    item = Item("01-x", "X", State.PASS, 1.0, 1.0)
    return Result(submission.student, "a", (item,), "bubblewrap")


def _lost(submission, error):
    return replace(_plain(submission), sandbox="lost")


def test_a_submission_that_kills_the_grader_itself_costs_nobody_else_anything():
    work = [Submission(Student(key, key), "", b"") for key in ("ann", "bob", "cleo", "dan", "eve")]
    results = {r.student.key: r for r in mark_all(_dies_on_bob, _lost, work, 2)}
    fates = dict.fromkeys(("ann", "cleo", "eve"), "bubblewrap") | {"bob": "lost", "dan": "lost"}
    assert {key: r.sandbox for key, r in results.items()} == fates


def test_the_assignment_is_the_one_that_most_notebooks_belong_to(tmp_path):
    files = {f"{i}.ipynb": notebook(chapter="03_forward_models") for i in range(2)} | {"x.ipynb": notebook()}
    found = open_batch(classroom(tmp_path / "in", files), tmp_path / "out", ROOT, None, Rules(b""))
    assert found.master.name == "03_forward_models"
    with pytest.raises(ValueError, match="notebooks of no assignment"):
        open_batch(classroom(tmp_path / "junk", {"a.ipynb": b"[]"}), tmp_path / "out", ROOT, None, Rules(b""))


def test_of_several_notebooks_the_one_of_the_assignment_counts():
    master = notebooks.load_master(ROOT, CHAPTER)
    ann = Student("ann", "Ann")
    mine = Submission(ann, "b", notebook())
    others = [
        Submission(ann, "a", None, "is a link"),
        Submission(ann, "c", notebook(chapter="02_conditional_training")),
    ]
    assert one_each([*others, mine], master) == [mine]
    assert one_each(others[:1], master) == others[:1]


def test_a_damaged_result_is_made_again(tmp_path):
    files = {name: CLASS[name] for name in ("ann.ipynb", "dan.ipynb")}
    made = open_batch(classroom(tmp_path / "in", files), tmp_path / "out", ROOT, CHAPTER, Rules(b"0" * 16))
    first = list(made.run(1))
    path = tmp_path / "out" / "results" / "ann.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert sorted(r.student.key for r in made.run(1)) == sorted(r.student.key for r in first)
    assert path.read_bytes() == whole
    assert isinstance(made, Batch)
    assert made.write(first, Books()) == []
    assert batch.code_version() == batch.code_version()
