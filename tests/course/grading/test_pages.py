"""The pages: what a student reads, what they must not read, and that nothing they wrote runs. And results as JSON."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.course.grading.pages import class_page, explain, from_json, number, plain, student_page, to_json
from minidiff.course.grading.results import Item, Result, State, Student

SCRIPT = "<script>alert(1)</script>"
POINTS = dict.fromkeys(State, 0.0) | {State.PASS: 2.0, State.FLAGGED: 2.0, State.MANUAL: None, State.TAMPERED: None}


def item(state: State, id="", **more) -> Item:
    fields = {"title": f"About {state.value}", "points": POINTS[state], "max_points": 2.0, "digest": "d"}
    fields |= {"answer": "def f(x):\n    return x\n"} | more
    return Item(id or f"01-{state.value}", state=state, **fields)


def result(key="jane", name="Jane Doe", items=None, sandbox="bubblewrap", **more) -> Result:
    items = tuple(item(state) for state in State) if items is None else items
    return Result(Student(key, name), "01_bayes_rule", items, sandbox, **more)


class Page(HTMLParser):
    """What a browser makes of a page: its tags with their attributes, and its text by tag."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []  # every tag is closed, in its order

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag and text.strip()]


def rows(html: str) -> list[list[str]]:
    """The cells of all tables, as text."""
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


# ---------------------------------------------------------------------------------------------- the student's page


def test_student_page():
    items = (
        item(State.PARTIAL, points=0.5, message="Wrong at `t == 0` & below.\nTwo lines."),
        item(State.MANUAL, points=1.0, by_hand=True, message="Your instructor: good"),
        item(State.MANUAL, "01-m2", max_points=1.0),
    )
    html = student_page(result(items=items), "Bayes' rule")
    page = Page(html)
    assert page.of("h1") == ["Bayes' rule"]
    assert page.of("title") == ["Bayes' rule: Jane Doe"]
    assert page.of("bdi") == ["Jane Doe"]
    assert "1.5 of 5 points (1 waits for your instructor)" in page.of("p")
    assert page.of("h2") == ["About partial", "About manual", "About manual"]
    assert page.of("span") == ["partly right", "marked by hand", "read by a person"]
    assert page.of("code") == ["t == 0"]
    assert " & below.\nTwo lines." in page.of("p")
    assert "waits for your instructor (up to 1 point)" in page.of("p")
    assert page.of("pre") == ["\ndef f(x):\n    return x\n"] * 3
    assert rows(html) == [
        ["Exercise", "What became of it", "Points"],
        ["About partial", "partly right", "0.5 of 2"],
        ["About manual", "marked by hand", "1 of 2"],
        ["About manual", "read by a person", "waits, of 1"],
    ]
    assert Page(student_page(result())).of("h1") == ["01_bayes_rule"]
    assert "4 of 20 points (2 wait for your instructor)" in Page(student_page(result())).of("p")


@pytest.mark.parametrize("state", State)
def test_every_state_is_explained(state):
    word, sentence = explain(item(state))
    page = Page(student_page(result(items=(item(state),))))
    assert page.of("span") == [word]
    assert sentence in page.of("p")
    assert sentence.endswith(".")
    assert explain(item(state, by_hand=True))[0] == "marked by hand"


def test_no_two_states_read_the_same():
    assert len({explain(item(state)) for state in State}) == len(State) == 10
    assert explain(item(State.TIMEOUT))[1] == (
        "Your function did not come back in time. Look for a loop that never ends."
    )


def test_what_is_for_the_instructor_stays_with_the_instructor():
    hidden = item(State.FLAGGED, notes=("SECRET item",), mistake="SECRET-mistake", kind="SECRET-kind", digest="SECRET")
    one = result(items=(hidden,), notes=("SECRET note",), sandbox="none", key="SECRET")
    html = student_page(one)
    assert "SECRET" not in html
    assert "sandbox" not in html
    everything = class_page([one])
    assert "SECRET item" in everything
    assert "SECRET note" in everything
    assert "SECRET-mistake: 1 of 1" in everything


@pytest.mark.parametrize("text", [SCRIPT, "</pre></details></title></style>" + SCRIPT, '" onload="alert(1)', "`<b>`"])
def test_nothing_that_was_submitted_becomes_markup(text):
    calm = result(items=(item(State.FAIL, message="m", answer="a", mistake="x", notes=("n",)),), notes=("n",))
    wild = result(
        text, text, (item(State.FAIL, text, title=text, message=text, answer=text, mistake=text, notes=(text,)),)
    )
    wild = replace(wild, assignment=text, notes=(text,))
    for before, after in (
        (Page(student_page(calm)), Page(student_page(wild))),
        (Page(class_page([calm])), Page(class_page([wild]))),
    ):
        code = ["code"] * (text.count("`") // 2)  # backticks in the message are the one thing that marks up
        assert sorted(after.tags) in (sorted(before.tags), sorted(before.tags + code))
        assert "script" not in after.tags
        assert {name for name, _ in after.attributes} == {name for name, _ in before.attributes}


@pytest.mark.parametrize("html", [student_page(result()), class_page([result(sandbox="none", notes=("a",))])])
def test_a_page_stands_alone(html):
    page = Page(html)
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">')
    assert not {"script", "link", "img", "iframe", "a", "form", "object", "base"} & set(page.tags)
    assert not {"src", "href", "style", "onclick"} & {name for name, _ in page.attributes}
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    (policy,) = [value for name, value in page.attributes if name == "content" and "default-src" in str(value)]
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in str(policy)
    sizes = re.findall(r"font(?:-size)?:([\d.]+)(rem|px|em|%)", "".join(page.of("style")))
    assert len(sizes) == 5
    assert all(unit == "rem" and float(size) >= 1 for size, unit in sizes)  # 1rem is 16 pixels


def test_long_texts_are_cut():
    one = item(State.ERROR, title="t" * 400, message="&" * 5_000, answer="a" * 30_000)
    html = student_page(result(items=(one,)))
    assert html.count("&amp;") == 4_000
    assert "… (cut: 5,000 characters in all)" in html
    assert "a" * 20_000 + " … (cut: 30,000 characters in all)" in html
    assert "a" * 20_001 not in html
    assert "t" * 301 not in html


def test_control_characters_and_half_characters_go():
    assert plain("a\x00\x1b[0m\r\nb\rc\td\u202e\u2066\ud83d") == "a[0m\nb\nc\td\ufffd"
    student_page(result(name="\ud800", items=(item(State.PASS, answer="\udfff", message="\ud800"),))).encode()


@pytest.mark.parametrize(
    ("value", "text"), [(2, "2"), (1.5, "1.5"), (1 / 3, "0.3333"), (0.1 + 0.2, "0.3"), (1e6, "1000000")]
)
def test_number(value, text):
    assert number(value) == text
    with pytest.raises(ValueError, match="finite"):
        number(float("nan"))


# ---------------------------------------------------------------------------------------------- the class


def test_class_page():
    fails = [item(State.FAIL, "01-w", mistake=name) for name in ("w-forgotten", "sign", "w-forgotten", "")]
    waits = [item(State.MANUAL, "01-essay"), item(State.MANUAL, "01-essay", points=1.5, by_hand=True)]
    rest = [item(State.PASS, "01-essay"), item(State.FLAGGED, "01-essay")]
    results = [result(key, key.upper(), pair) for key, pair in zip("dbca", zip(fails, waits + rest))]
    html = class_page(results)
    assert html == class_page(results[::-1])
    assert Page(html).of("h2") == ["Students", "Exercises"]
    assert "4 students, 2 answers to review" in Page(html).of("p")
    assert "sandbox" not in html
    assert rows(html) == [
        ["Student", "Key", "Total", "01-w", "01-essay"],
        ["A", "a", "2 of 4", "fail 0", "flagged 2"],
        ["B", "b", "1.5 of 4", "fail 0", "manual 1.5, by hand"],
        ["C", "c", "2 of 4", "fail 0", "pass 2"],
        ["D", "d", "0 of 4 (1 wait)", "fail 0", "manual waits"],
        ["Mean of the marks given", "1.38 of 4", "0.00 of 2", "1.83 of 2"],
        ["Exercise", "Mean", "What became of it", "Commonest named mistakes", "To review"],
        ["About fail01-w", "0.00 of 2", "4 fail", "w-forgotten: 2 of 4sign: 1 of 4", "0"],
        ["About flagged01-essay", "1.83 of 2", "1 pass, 2 manual, 1 flagged", "none", "2"],
    ]
    assert '<td class="person">flagged 2</td>' in html
    assert '<td class="right">pass 2</td>' in html


def test_class_page_says_what_ran_without_a_sandbox():
    results = [result("a", "A", sandbox="none"), result("b", "B"), result("c", "C", items=())]
    assert "1 of 3 submissions was run without a sandbox:" in Page(class_page(results)).of("strong")
    assert "not there" in class_page(results)
    assert Page(class_page([])).of("h1") == ["No results"]


# ---------------------------------------------------------------------------------------------- JSON

FINITE = st.floats(0, 100)
ITEMS = st.builds(
    Item,
    *(st.text(), st.text(), st.sampled_from(State), st.none() | FINITE, FINITE),
    notes=st.lists(st.text()).map(tuple),
    **dict.fromkeys(("kind", "mistake", "message", "answer", "digest"), st.text()),
    by_hand=st.booleans(),
)
STUDENTS = st.builds(Student, st.text(), st.text(), st.dictionaries(st.text(), st.text()))
RESULTS = st.builds(
    Result,
    *(STUDENTS, st.text(), st.lists(ITEMS, max_size=3).map(tuple), st.text()),
    notes=st.lists(st.text()).map(tuple),
    key=st.text(),
)


@given(RESULTS)
def test_json_round_trip(one):
    text = to_json(one)
    assert from_json(text) == one
    assert to_json(from_json(text)) == text


def test_json_is_readable_and_bytes_whatever_was_submitted():
    text = to_json(result(name="\ud800", items=(item(State.PASS),)))
    text.encode()
    assert text.startswith('{\n  "assignment": "01_bayes_rule",\n  "items": [\n    {\n      "answer": "def f(x)')
    assert from_json(text).student.name == "\ud800"
    with pytest.raises(ValueError):
        to_json(result(items=(item(State.PASS, points=float("nan")),)))


GOOD = json.loads(to_json(result(items=(item(State.PASS),))))
ITEM = GOOD["items"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        to_json(result())[:-5],
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        *(
            json.dumps(wrong)
            for wrong in (
                GOOD | {"more": 1},
                {name: value for name, value in GOOD.items() if name != "key"},
                GOOD | {"key": 1},
                GOOD | {"notes": "abc"},
                GOOD | {"notes": [1]},
                GOOD | {"student": "jane"},
                GOOD | {"student": {"key": "a", "name": "b", "ids": {"canvas": 1}}},
                GOOD | {"items": {}},
                *(
                    GOOD | {"items": [ITEM | wrong]}
                    for wrong in (
                        {"state": "great"},
                        {"state": []},
                        {"points": True},
                        {"points": "2"},
                        {"points": float("nan")},
                        {"points": float("inf")},
                        {"points": 10**400},
                        {"max_points": None},
                        {"by_hand": 1},
                    )
                ),
            )
        ),
    ],
)
def test_a_damaged_or_foreign_text_is_refused(text):
    with pytest.raises(ValueError, match="text: got something that is not a student's result"):
        from_json(text)
