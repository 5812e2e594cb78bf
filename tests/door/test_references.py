"""What lectures, notebooks and exercises say about each other is true: sections, chapters, exercises, links.

"section 5" is section 5 of the same document, or of what stands before it: "lecture, section 5", "notebook, section 5",
"chapter 04, section 5" and "lecture 04, section 5" (the lecture of that chapter). An exercise has no numbered sections:
there it means the lecture. "arXiv 2105.05233, section 5" and "section 4.3" are a paper's.

That a section with the number exists says little: after one was inserted, all later numbers point to a neighbour. So a
mention in *another* document shares a word with the title of the section: "(lecture, section 6: strokes)".
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

KINDS = {"lecture": ("lectures", ".md"), "notebook": ("notebooks", ".ipynb"), "exercise": ("solutions", ".ipynb")}
HEADING = re.compile(r"^## (\d+)\. (.+)$", re.MULTILINE)
SECTION = re.compile(r"\b[Ss]ections? (\d+)(?!\d|\.\d)")
PAPER = re.compile(r"\d{4}\.\d{4,5}[).,]*\s*$")
ELSEWHERE = re.compile(r"(?:(?:chapter|lecture)\s(?P<chapter>\d\d)|(?P<kind>lecture|notebook)),\s$", re.IGNORECASE)
CHAPTERS = re.compile(r"\b[Cc]hapters? \[?(\d+)(?:\]\([^)]*\))?(?:(?:,| and| to) \[?(\d+))?")
EXERCISE = re.compile(r"\b[Ee]xercise (?:(\d\d)\.)?(\d+)\b")
LINK = re.compile(r"(?<!\w)\[([^\]]*)\]\(([^()\s]+)\)")  # after a word it is code: layers[name](x)
SMALL = {"the", "and", "for", "that", "with", "has", "have", "must", "not", "what", "one", "its", "are"}


@dataclass
class Document:
    kind: str
    chapter: str
    path: Path
    text: str

    @property
    def titles(self) -> dict[str, str]:
        return dict(HEADING.findall(self.text))


Course = dict[tuple[str, str], Document]


def read(root: Path) -> Course:
    """{(kind, chapter): document}; of a notebook the text of all its cells, a paragraph each at least."""
    found = {}
    for kind, (folder, suffix) in KINDS.items():
        for path in sorted((root / folder).glob(f"[0-9][0-9]_*{suffix}")):
            text = path.read_text(encoding="utf-8")
            if suffix == ".ipynb":
                text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
            found[kind, path.stem[:2]] = Document(kind, path.stem[:2], path, text)
    return found


def paragraphs(text: str) -> list[str]:
    """Blocks between empty lines; of a list or a table each entry."""
    return re.split(r"\n\s*\n|\n(?=\s*(?:[-*|] |\d+\. ))", text)


def words(text: str) -> set[str]:
    """Beginnings of words, so that "strokes" is "stroke"."""
    return {word[:5] for word in re.findall(r"[a-z]{3,}", text.lower()) if word not in SMALL}


def wrong_sections(document: Document, course: Course) -> list[str]:
    found = []
    for paragraph in paragraphs(document.text):
        for mention in SECTION.finditer(paragraph):
            before = paragraph[: mention.start()]
            if PAPER.search(before):
                continue
            kind, chapter = "lecture" if document.kind == "exercise" else document.kind, document.chapter
            if elsewhere := ELSEWHERE.search(before):
                kind, chapter = (elsewhere["kind"] or "lecture").lower(), elsewhere["chapter"] or chapter
            target = course.get((kind, chapter))
            title = target.titles.get(mention[1]) if target else None
            said = f"{document.path.name}: {(elsewhere[0] if elsewhere else '') + mention[0]!r}"
            rest = words(paragraph[: mention.start()] + paragraph[mention.end() :])
            if title is None:
                found.append(f"{said}: {kind} {chapter} has no such section")
            elif target is not document and not words(title) & rest:
                found.append(f'{said}: that is "{title}"; say so if it is meant')
    return found


def wrong_chapters(document: Document, planned: set[int]) -> list[str]:
    numbers = {int(n) for mention in CHAPTERS.findall(document.text) for n in mention if n}
    return [f"{document.path.name}: there is no chapter {n:02d}" for n in sorted(numbers - planned)]


def wrong_exercises(document: Document, course: Course) -> list[str]:
    found = []
    for chapter, number in EXERCISE.findall(document.text):
        target = course.get(("exercise", chapter or document.chapter))
        if target is None or f"## Exercise {target.chapter}.{number}:" not in target.text:
            found.append(f"{document.path.name}: there is no exercise {chapter or document.chapter}.{number}")
    return found


def wrong_links(document: Document) -> list[str]:
    """Links to files that are not there, and those with the number of one chapter that lead to another."""
    found = []
    for text, address in LINK.findall(document.text):
        if re.match(r"https?:|#|attachment:", address):
            continue
        target = document.path.parent / address.split("#")[0]
        number = re.search(r"\b(\d\d)\b", text)
        if not target.exists():
            found.append(f"{document.path.name}: no file {address}")
        elif number and re.match(r"\d\d_.*\.(md|ipynb)", target.name) and not target.name.startswith(number[1]):
            found.append(f"{document.path.name}: [{text}] leads to {address}")
    return found


def wrong_next(document: Document, course: Course) -> list[str]:
    """A lecture or notebook whose following chapter is written has a link to it."""
    following = course.get((document.kind, f"{int(document.chapter) + 1:02d}"))
    if document.kind == "exercise" or following is None or f"({following.path.name})" in document.text:
        return []
    return [f"{document.path.name}: no link to {following.path.name}"]


def everything(document: Document, course: Course, planned: set[int]) -> list[str]:
    return [
        *wrong_sections(document, course),
        *wrong_chapters(document, planned),
        *wrong_exercises(document, course),
        *wrong_links(document),
        *wrong_next(document, course),
    ]


def test_no_reference_is_stale(root):
    course = read(root)
    planned = {int(n) for n in re.findall(r"^\| (\d\d) \|", (root / "README.md").read_text("utf-8"), re.MULTILINE)}
    assert len(course) >= 19
    assert sum(len(SECTION.findall(document.text)) for document in course.values()) > 50
    stale = [line for document in course.values() for line in everything(document, course, planned)]
    assert stale == [], "\n" + "\n".join(stale)


def made(folder: Path, lecture: str = "", notebook: str = "", exercise: str = "") -> Course:
    """A course of two chapters; of the first the texts are given."""
    texts = {
        "lectures/01_one.md": f"## 1. Scores\n\n## 2. Noise levels\n\n{lecture}\n\n[02 Two](02_two.md)",
        "lectures/02_two.md": "## 1. Targets\n",
        "notebooks/01_one.ipynb": f"## 1. Arrows\n\n{notebook}\n\n[next](02_two.ipynb)",
        "notebooks/02_two.ipynb": "# Two",
        "solutions/01_one.ipynb": f"## Exercise 01.1: Add\n\n{exercise}",
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        cells = {"cells": [{"cell_type": "markdown", "source": [text]}]}
        path.write_text(json.dumps(cells) if path.suffix == ".ipynb" else text, encoding="utf-8")
    return read(folder)


@pytest.mark.parametrize(
    "texts",
    [
        {"lecture": "As in section 1 and (chapter 02, section 1: targets). Exercise 01.1; arXiv 2011.1345, section 9."},
        {"lecture": "The paper says so (section 4.3). Chapters 1 to 3, chapter [02](02_two.md)."},
        {"notebook": "Section 1. Noise is added (lecture, section 2). Lecture 02, section 1, has four targets."},
        {"exercise": "Section 2 is about noise. Arrows (notebook, section 1). [Lecture 01](../lectures/01_one.md)"},
    ],
)
def test_true_references_are_left_alone(tmp_path, texts):
    course = made(tmp_path, **texts)
    assert [line for document in course.values() for line in everything(document, course, {1, 2, 3})] == []


STALE = {
    "a section that is not there": ({"lecture": "See section 3."}, "lecture 01 has no such section"),
    "nor in the other document": ({"notebook": "Arrows (lecture,\nsection 5)."}, "lecture 01 has no such section"),
    "another section than the one meant": ({"notebook": "Noise (lecture, section 1)."}, 'that is "Scores"'),
    "another chapter's": ({"lecture": "Noise (chapter 02, section 1)."}, 'that is "Targets"'),
    "a section of an unwritten lecture": ({"exercise": "Chapter 03, section 1"}, "lecture 03 has no such section"),
    "the notebook's": ({"exercise": "Noise (notebook, section 1)"}, 'that is "Arrows"'),
    "a chapter": ({"lecture": "Chapters 02 and 04 go on."}, "there is no chapter 04"),
    "an exercise": ({"lecture": "(exercise 01.2)"}, "there is no exercise 01.2"),
    "an exercise without its chapter": ({"exercise": "as in Exercise 3"}, "there is no exercise 01.3"),
    "a link": ({"notebook": "[here](../lectures/03_three.md)"}, "no file ../lectures/03_three.md"),
    "a link to another chapter": ({"lecture": "chapter [01](02_two.md)"}, "[01] leads to 02_two.md"),
}


@pytest.mark.parametrize(("texts", "complaint"), STALE.values(), ids=STALE)
def test_stale_references_are_found(tmp_path, texts, complaint):
    course = made(tmp_path, **texts)
    (found,) = [line for document in course.values() for line in everything(document, course, {1, 2, 3})]
    assert complaint in found


def test_a_chapter_without_a_link_to_the_next_is_found(tmp_path):
    course = made(tmp_path)
    course["lecture", "01"].text = "## 1. Scores"
    assert wrong_next(course["lecture", "01"], course) == ["01_one.md: no link to 02_two.md"]
    assert wrong_next(course["lecture", "02"], course) == []
