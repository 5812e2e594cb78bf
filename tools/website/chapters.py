"""The course's chapters as the README lists them: the table on the first page, the trees of the side bar."""

import re
from dataclasses import dataclass
from pathlib import Path

ROW = re.compile(r"^\| \*\*[IVX]+\*\* \| \*\*(?P<part>.+?)\*\*|^\| (?P<number>\d\d) \| (?P<title>.+?) \|", re.MULTILINE)
QUESTION = re.compile(r"[^.?!\n][^.?!]*\?")
TREE = "```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```"


@dataclass(frozen=True)
class Chapter:
    part: str
    number: str
    title: str
    name: str  # such as 01_bayes_rule; "" while it is planned


def chapters(root: Path) -> list[Chapter]:
    """Of the README's table, which a test holds to the files."""
    found, part = [], ""
    for row in ROW.finditer((root / "README.md").read_text(encoding="utf-8")):
        if row["part"]:
            part = row["part"]
        else:
            names = [file.stem for file in (root / "lectures").glob(f"{row['number']}_*.md")]
            found.append(Chapter(part, row["number"], row["title"], *(names or [""])))
    return found


def by_part(found: list[Chapter]) -> dict[str, list[Chapter]]:
    parts = dict.fromkeys(chapter.part for chapter in found)
    return {part: [chapter for chapter in found if chapter.part == part] for part in parts}


def question(lecture: str) -> str:
    """The question that a lecture opens with, in one line; "" if it opens with none."""
    opening = lecture.partition("he question")[2].partition("\n## ")[0]
    text = re.sub(r"\s+", " ", re.sub(r"[*]|\$\$.*?\$\$", "", opening, flags=re.DOTALL))
    found = QUESTION.search(text)
    return found[0].strip(" :") if found else ""


def table(root: Path) -> str:
    """Markdown: per part a heading, per chapter its title, its links and its question."""
    lines = []
    for part, found in by_part(chapters(root)).items():
        lines.append(f"\n### {part}\n")
        for chapter in found:
            if not chapter.name:
                lines.append(f"- {chapter.number} {chapter.title} (planned)")
                continue
            name, lecture = chapter.name, root / "lectures" / f"{chapter.name}.md"
            lines.append(
                f"- {chapter.number} **[{chapter.title}](lectures/{name}.md)** · [notebook](notebooks/{name}.ipynb) · "
                f"[exercises](exercises/{name}.ipynb)\\\n  {question(lecture.read_text(encoding='utf-8'))}"
            )
    return "\n".join(lines)


def trees(root: Path, guides: list[str]) -> str:
    """Markdown: the side bar. Notebook and exercises hang below their lecture (`below`)."""
    written = {"Begin": ["Start here <notebooks/00_start>"]}
    for part, found in by_part(chapters(root)).items():
        written[part] = [f"lectures/{chapter.name}" for chapter in found if chapter.name]
    written |= {"Reference": ["The library <api/index>"], "For instructors": guides}
    return "\n\n".join(TREE.format(caption=part, pages="\n".join(pages)) for part, pages in written.items() if pages)


def below(name: str) -> str:
    """What hangs below the lecture `name` in the side bar."""
    pages = f"Notebook <../notebooks/{name}>\nExercises <../exercises/{name}>"
    return f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"
