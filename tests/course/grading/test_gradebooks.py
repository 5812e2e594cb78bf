"""Marks by hand, and marks for Canvas, Moodle and Gradescope: right cells, no other cells, no formulas, no guesses."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.course.grading.gradebooks import fill_canvas, fill_moodle, write_grades, write_gradescope
from minidiff.course.grading.manual import COLUMNS, Row, apply, read_marks, write_marks
from minidiff.course.grading.results import Item, Result, State, Student
from minidiff.course.grading.tables import Table, read_table, safe_cell

EVIL = "=cmd|' /C calc'!A0"
OLD, NEW = "a" * 64, "b" * 64


def item(id="01-bayes", state=State.PASS, points: float | None = 2.0, most=2.0, **more) -> Item:
    return Item(id, f"Title of {id}", state, points, most, digest=more.pop("digest", OLD), **more)


def result(key, name, *items: Item, **more) -> Result:
    ids = more.pop("ids", {})
    return Result(Student(key, name, ids), "01_bayes_rule", items or (item(),), "bubblewrap", **more)


def cells(path: Path, delimiter=",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), delimiter=delimiter))


def changed(before: list[list[str]], after: list[list[str]]) -> dict[tuple[int, int], str]:
    assert [len(row) for row in before] == [len(row) for row in after]
    return {(r, c): text for r, row in enumerate(after) for c, text in enumerate(row) if text != before[r][c]}


# ---------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Jane Doe", "Jane Doe"),
        ("", ""),
        (EVIL, f"'{EVIL}"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ('  "=1', "'  \"=1"),
        ("\u200b=1", "'\u200b=1"),
        ("＝1", "'＝1"),
        ("－1", "'－1"),
        ("\tx", "' x"),
        ("\rx", "' x"),
        ("a\x00\x1b[31mb\r\nc", "a[31mb c"),
        ("a;=1+1", "a;'=1+1"),
        ("a - b = c", "a - b = c"),
        ("'=1", "'=1"),
        ("\ud800", "\ufffd"),
        ("Nguyễn, Thị", "Nguyễn, Thị"),
    ],
)
def test_safe_cell(text, cell):
    assert safe_cell(text) == cell


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("=+-@＝＋－＠\t\r\n ;\"'\x00\x1b\ud800\u202e"))))
def test_no_text_becomes_a_formula(text):
    cell = safe_cell(text)
    assert safe_cell(cell) == cell  # files are read and written again: apostrophes must not pile up
    assert not any(c < " " or "\x7f" <= c <= "\x9f" for c in cell)
    for part in cell.split(";"):  # as it is split where the decimal sign is a comma
        assert not part.strip(' \t"\u200b').startswith(tuple("=+-@＝＋－＠"))
    cell.encode()  # there is no half of a character in it


# ---------------------------------------------------------------------------------------------- grades.csv


def test_grades(tmp_path):
    results = [
        result("zoe", 'Zoë "Z", the\nsecond', item(), item("01-w", State.MANUAL, None, 4.0, notes=("look",))),
        result("adam", EVIL, item(points=0.1), item("01-w", State.FAIL, 0.2, 4.0), notes=("two files",)),
    ]
    write_grades(tmp_path / "grades.csv", results)
    header, adam, zoe = cells(tmp_path / "grades.csv")
    assert header[:7] == ["student", "name", "score", "max", "pending", "states", "sandbox"]
    assert header[7:] == ["01-bayes", "01-w", "01-bayes state", "01-w state", "notes"]
    assert adam[:7] == ["adam", f"'{EVIL}", "0.3", "6", "0", "1 pass, 1 fail", "bubblewrap"]
    assert adam[7:] == ["0.1", "0.2", "pass", "fail", "two files"]
    assert zoe[:7] == ["zoe", 'Zoë "Z", the second', "2", "6", "1", "1 pass, 1 manual", "bubblewrap"]
    assert zoe[7:] == ["2", "", "pass", "manual", "01-w: look"]
    first = (tmp_path / "grades.csv").read_bytes()
    write_grades(tmp_path / "grades.csv", results[::-1])
    assert (tmp_path / "grades.csv").read_bytes() == first


# ---------------------------------------------------------------------------------------------- Canvas

CANVAS = (
    "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,01 Bayes' rule (501),"
    '"02 Training, part 1 (502)",Final Score\r\n'
    ",,,,,Manual Posting,,\r\n"
    "    Points Possible,,,,,10,5,(read only)\r\n"
    '"Doe, Jane",11,u1,jdoe@uni.edu,"A, B",1.5,3,88.0\r\n'
    '"Doe, John",12,u2,john,A,,"4",\r\n'
    '"Müller, Jörg",13,u3,joerg,A,"7",,\r\n'
    "Lee,14,u4,lee1,A,,,\r\n"
    "Lee,15,u5,lee2,A,,,\r\n"
    '"van der Berg, Anna",16,u6,"say ""hi""",A,EX,,\r\n'
    '"Student, Test",99,,test,A,,,\r\n'
)


def canvas(tmp_path, results, column=None, text=CANVAS):
    (tmp_path / "in.csv").write_bytes(text.encode())
    said = fill_canvas(tmp_path / "in.csv", tmp_path / "out.csv", results, column)
    return said, changed(cells(tmp_path / "in.csv"), cells(tmp_path / "out.csv"))


def test_canvas_fills_one_column_and_keeps_every_other_byte(tmp_path):
    results = [
        result("x1", "nobody of that name", ids={"canvas": "11"}),
        result("JOHN", "?", item(points=0.0)),
        result("x3", "jörg müller", item(points=1.25)),
    ]
    said, cell = canvas(tmp_path, results)
    assert cell == {(3, 5): "2", (4, 5): "0", (5, 5): "1.25"}
    expected = CANVAS.replace(",1.5,3", ",2,3").replace("john,A,,", "john,A,0,").replace('A,"7",', 'A,"1.25",')
    assert (tmp_path / "out.csv").read_bytes() == expected.encode()
    assert said == [
        'The scale is yours to set: the column "01 Bayes\' rule (501)" counts 10 points, the scores are out of 2.',
        "Left as they were, rows that no result belongs to: 3 (Lee; Lee; van der Berg, Anna).",
    ]


def test_canvas_never_guesses(tmp_path):
    results = [
        result("a", "Lee"),
        result("b", "Doe Jane"),
        result("c", "janedoe"),
        result("d", "John Doe", ids={"canvas": "77"}),
        result("e", "Jörg Müller", item(), item("01-w", State.MANUAL, None)),
        result("f", "Anna van der Berg"),
        result("g", "Test Student"),
    ]
    said, cell = canvas(tmp_path, results)
    assert cell == {}
    assert said[1:-1] == [
        "Lee (a): 2 rows of in.csv fit, so none was filled.",
        "Doe Jane (b): janedoe (c) fits the same row of in.csv, so it was left as it was.",
        "janedoe (c): Doe Jane (b) fits the same row of in.csv, so it was left as it was.",
        "John Doe (d): not found in in.csv.",
        "Test Student (g): not found in in.csv.",
        "Jörg Müller (e): 1 answer waits for your marks, so the row was left as it was.",
        "Anna van der Berg (f): the gradebook says EX, so the row was left as it was.",
    ]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "in.csv").read_bytes()
    assert canvas(tmp_path, [result("c", "janedoe")])[1] == {(3, 5): "2"}  # the control: alone, it is clear
    assert canvas(tmp_path, [result("c", "Jan Edoe")])[1] == {}  # run together they look alike, but they are not


def test_canvas_column(tmp_path):
    jane = [result("jdoe@uni.edu", "")]
    for column in ("02 Training, part 1 (502)", "02 Training, part 1"):
        assert canvas(tmp_path, jane, column)[1] == {(3, 6): "2"}
    for column in ("Student", "Final Score", "01", "03"):
        with pytest.raises(ValueError, match=r"Bayes' rule \(501\); 02 Training, part 1 \(502\)"):
            canvas(tmp_path, jane, column)
    both = CANVAS.replace("02 Training, part 1", "Quiz 1: Bayes")
    with pytest.raises(
        ValueError, match=r"'01_bayes', which fits 2 columns of in.csv, .*\(501\); Quiz 1: Bayes \(502\)"
    ):
        canvas(tmp_path, [replace(jane[0], assignment="01_bayes")], text=both)
    assert canvas(tmp_path, jane, text=both)[1] == {(3, 5): "2"}  # only one of the two has the "rule"
    with pytest.raises(ValueError, match="no gradebook exported from Canvas"):
        canvas(tmp_path, jane, text="name,points\r\n")
    for damaged in (CANVAS + '"Doe, Jim,17\r\n', ""):
        with pytest.raises(ValueError, match="got a file that is empty or has a quote that is not closed"):
            canvas(tmp_path, jane, text=damaged)
    (tmp_path / "in.csv").write_bytes("Müller".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        fill_canvas(tmp_path / "in.csv", tmp_path / "out2.csv", jane, None)
    assert not (tmp_path / "out2.csv").exists()


def test_canvas_with_semicolons_and_two_name_columns(tmp_path):
    text = "LastName;FirstName;ID;01 Bayes, rule (5)\n    Points Possible;;;2,0\nDoe;Jane;1;0,5\n"
    (tmp_path / "in.csv").write_bytes(text.encode())
    assert (
        fill_canvas(tmp_path / "in.csv", tmp_path / "out.csv", [result("j", "Jane Doe", item(points=1.5))], None) == []
    )
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == text.replace("0,5", "1.5")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "old Macs"])
def test_the_delimiter_is_that_of_the_first_line_whatever_ends_it(tmp_path, end):
    lines = ["LastName;FirstName;ID;01 Bayes (5)", "Doe;Jane;1;0", "a, " * 12 + ";f;2;0", ""]
    text = end.join(lines)
    (tmp_path / "in.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "in.csv") == (text, ";")
    assert [row[2] for row in Table(tmp_path / "in.csv").rows] == ["ID", "1", "2"]


# ---------------------------------------------------------------------------------------------- Moodle

MOODLE = (
    'Identifier,"Full name","Email address",Status,Grade,"Maximum grade","Last modified (grade)","Feedback comments"\n'
    'Participant 101,"Jane Doe",jane@uni.edu,"Submitted for grading - ",,2.00,-,\n'
    'Participant 102,"Jane Doe",jd2@uni.edu,"Submitted, late","1.00",2.00,"Monday, 3 May",<p>old</p>\n'
    'Participant 103,"Bo Li",bo@uni.edu,No submission,,2.00,-,\n'
)


def test_moodle(tmp_path):
    (tmp_path / "in.csv").write_bytes(MOODLE.encode())
    results = [
        result("jd2", "Jane Doe", item("01-langevin"), item("01-<b>", State.FAIL, 0.0, 0.0)),
        result("p", "?", item(points=1.5, by_hand=True), ids={"moodle": "103"}),
        result("q", "Jane Doe"),
    ]
    said = fill_moodle(tmp_path / "in.csv", tmp_path / "out.csv", results)
    assert changed(cells(tmp_path / "in.csv"), cells(tmp_path / "out.csv")) == {
        (2, 4): "2",
        (2, 7): "01-langevin: pass 2/2<br>01-&lt;b&gt;: fail 0/0",
        (3, 4): "1.5",
        (3, 7): "01-bayes: by hand 1.5/2",
    }
    assert said == [
        "Jane Doe (q): 2 rows of in.csv fit, so none was filled.",
        "Left as they were, rows that no result belongs to: 1 (Jane Doe).",
    ]
    (tmp_path / "in.csv").write_text("ID,Bewertung\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no columns Identifier and Grade"):
        fill_moodle(tmp_path / "in.csv", tmp_path / "out.csv", results)


def test_a_new_worksheet_for_moodle(tmp_path):
    waiting = item(state=State.MANUAL, points=None)
    results = [result("b", EVIL, ids={"moodle": "7"}), result("c", "Cy"), result("d", "Di", waiting, waiting)]
    assert fill_moodle(None, tmp_path / "new.csv", results) == [
        "Cy (c): no Moodle number is known, so the Identifier is yours to fill in.",
        "Di (d): 2 answers wait for your marks, so there is no row.",
    ]
    assert cells(tmp_path / "new.csv") == [
        ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"],
        ["Participant 7", f"'{EVIL}", "2", "2", "", "01-bayes: pass 2/2"],
        ["", "Cy", "2", "2", "", "01-bayes: pass 2/2"],
    ]


# ---------------------------------------------------------------------------------------------- Gradescope


def test_gradescope(tmp_path):
    secret = {"notes": ("SECRET",), "answer": "x = 1"}
    items = (
        item(message="Well\x1b done\ud800", **secret),
        item("01-w", State.PARTIAL, 1.0, **secret),
        item("01-m", State.MANUAL, None),
    )
    write_gradescope(tmp_path, [result("jane", "Jane", *items, notes=("SECRET",))])
    text = (tmp_path / "jane" / "results.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert "SECRET" not in text
    assert (data["score"], data["stdout_visibility"]) == (3.0, "hidden")
    assert data["output"] == "1 of 3 answers wait for your instructor."
    assert data["tests"][0] == {
        "name": "Title of 01-bayes",
        "score": 2.0,
        "max_score": 2.0,
        "status": "passed",
        "output": "right: Your answer is right.\nWell done\ufffd",
        "output_format": "text",
        "visibility": "visible",
    }
    assert [test.get("status") for test in data["tests"]] == ["passed", "failed", None]
    assert "score" not in data["tests"][2]
    for key in ("../x", "a/b", "..", ""):
        with pytest.raises(ValueError, match="a name for a folder"):
            write_gradescope(tmp_path, [result(key, "x")])


# ---------------------------------------------------------------------------------------------- manual.csv

RED, ESSAY = item("01-red", State.TIMEOUT, 0.0), item("01-essay", State.MANUAL, None, 4.0)
HEADER = ",".join(COLUMNS)


def fill(path: Path, **columns: str) -> None:
    """Do what an instructor does: type into the first row."""
    header, first, *rest = cells(path)
    header += [name for name in columns if name not in header]
    first = first + [""] * (len(header) - len(first))
    for name, text in columns.items():
        first[header.index(name)] = text
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, first, *(row + [""] * (len(header) - len(row)) for row in rest)])


def regrade(path: Path, results: list[Result]) -> list[Result]:
    rows = read_marks(path)
    write_marks(path, results, rows)
    return apply(results, rows)


def test_marks_by_hand_survive_regrades(tmp_path):
    path, jane = tmp_path / "manual.csv", result("jane", "Jane", item(), RED, ESSAY)
    assert regrade(path, [jane, result("al", "Al", RED)]) == [jane, result("al", "Al", RED)]
    assert cells(path) == [
        list(COLUMNS),
        ["jane", "01-essay", "manual", "", "4", "", "", OLD, ""],
        ["al", "01-red", "timeout", "0", "2", "", "", OLD, ""],
        ["jane", "01-red", "timeout", "0", "2", "", "", OLD, ""],
    ]
    fill(path, points="2,5", comment='Nice, "but"\n-1 for style', marker="=me")
    marked = regrade(path, [jane])[0].items[2]
    assert (marked.points, marked.by_hand, marked.state) == (2.5, True, State.MANUAL)
    assert marked.message == 'Your instructor: Nice, "but"\n-1 for style'
    mine = ["jane", "01-essay", "manual", "", "4", "2,5", 'Nice, "but"\n-1 for style', OLD, "", "=me"]
    assert cells(path)[:2] == [[*COLUMNS, "marker"], mine]
    assert len(cells(path)) == 3  # al has gone and nothing was filled in
    once = path.read_bytes()
    regrade(path, [jane])
    assert path.read_bytes() == once
    regrade(path, [result("al", "Al", item())])  # the student has gone
    assert cells(path)[1] == [*mine[:8], "not among the results of this run", "=me"]
    regrade(path, [result("jane", "Jane", replace(ESSAY, state=State.PASS, points=4.0))])  # nothing to review any more
    assert cells(path)[1] == ["jane", "01-essay", "pass", "4", "4", *mine[5:]]


def test_a_changed_answer_is_noted_until_the_instructor_has_seen_it(tmp_path):
    path = tmp_path / "manual.csv"
    old, new = (result("jane", "Jane", replace(ESSAY, digest=digest)) for digest in (OLD, NEW))
    regrade(path, [old])
    fill(path, points="3")
    for _ in range(2):
        assert regrade(path, [new])[0].items[0].points == 3.0
        assert cells(path)[1][5:] == ["3", "", OLD, "the answer has changed since it was marked"]
    seen = path.read_bytes()
    fill(path, digest="")  # "this mark is for the answer as it is now"
    regrade(path, [new])
    assert cells(path)[1][5:] == ["3", "", NEW, ""]
    path.write_bytes(seen)
    fill(path, points="")  # or marked afresh
    assert regrade(path, [new])[0].items[0].points is None
    assert cells(path)[1][5:] == ["", "", NEW, ""]
    nothing = result("jane", "Jane", replace(ESSAY, digest=""))
    regrade(path, [nothing])
    fill(path, points="0")
    regrade(path, [new])  # no answer was marked with 0; one has come since
    assert cells(path)[1][5:] == ["0", "", "no answer", "the answer has changed since it was marked"]


def test_a_file_that_excel_has_saved_is_read_and_can_be_opened_again(tmp_path):
    path = tmp_path / "manual.csv"
    text = f"\ufeff{HEADER.replace(',', ';')};Who\r\n7;01-essay;manual;;4;1,5;gut;{OLD};;Ann\r\n;;;;;;;;;\r\n"
    path.write_bytes(text.encode())
    jane = result("007", "Jane", ESSAY)
    assert regrade(path, [jane])[0].items[0].points == 1.5  # a spreadsheet made 7 of 007
    assert path.read_bytes() == text.replace("\n7;", "\n007;").replace(";;;;;;;;;\r\n", "").encode()
    assert regrade(path, [jane, result("07", "Jim", ESSAY)])[0].items[0].points == 1.5


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("jane,01-x,,,2,two,,,", "line 2, points: got 'two', which is not a number"),
        ("jane,01-x,,,2,nan,,,", "not a number"),
        ("jane,01-x,,,2,1_0,,,", "not a number"),
        ("jane,01-x,,,2,-1,,,", "line 2, points: got '-1', which is negative"),
        ("jane,01-x,,,2,2.5,,,", "line 2, points: got 2.5, expected at most 2"),
        ("jane,01-x,,,2,1,5,,,", "line 2: got 10 cells, expected at most 9"),
        ("jane,01-x,,,2,1,,,\njane,01-x,,,2,1,,,", "line 3: a second row for student 'jane', item '01-x'"),
        (",01-x,,,2,1,,,", "line 2: no student"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, line, wrong):
    path = tmp_path / "manual.csv"
    path.write_text(f"{HEADER}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=wrong) as caught:
        read_marks(path)
    assert str(path) in str(caught.value)


def test_missing_columns_and_marks_that_do_not_fit(tmp_path):
    path = tmp_path / "manual.csv"
    assert read_marks(path) == []
    path.write_text("student,item,max,comment\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: missing columns points, digest"):
        read_marks(path)
    path.write_text(f"{HEADER}\n\njane,01-bayes,,,2,1.5,,,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"got 1\.5 for student 'jane', item '01-bayes', expected 0 to 1"):
        apply([result("jane", "Jane", item(most=1.0))], read_marks(path))
    rows = [Row("jane", "01-bayes", 0.0), Row("zed", "01-bayes", 1.0)]
    jane = apply([result("jane", "Jane", item(message="Right."))], rows)[0]
    assert (jane.score, jane.items[0].message) == (0.0, "Right.")
    write_marks(path, [result("jane", "Jane", item(message="Right."))], rows)
    assert [row[:6] for row in cells(path)[1:]] == [
        ["jane", "01-bayes", "pass", "2", "2", "0"],
        ["zed", "01-bayes", "", "", "", "1"],
    ]


def test_a_comment_or_a_cell_of_ones_own_keeps_a_row(tmp_path):
    path, rows = tmp_path / "manual.csv", [Row("a", "01-x", comment="hm"), Row("b", "01-x", cells={"who": "Ann"})]
    write_marks(path, [], [*rows, Row("c", "01-x", digest=OLD)])
    assert [[line[n] for n in (0, 5, 6, 9)] for line in cells(path)[1:]] == [["a", "", "hm", ""], ["b", "", "", "Ann"]]
    assert apply([result("a", "A", item("01-x"))], read_marks(path))[0].items[0] == item(
        "01-x", message="Your instructor: hm"
    )
