"""Lays out the sources of the website: the texts where they lie in the repository, copied, their links rewritten.

lectures/ notebooks/ exercises/    as in the repository, with badges on every notebook
guide/                             for instructors and contributors
api/                               a page per module
downloads/                         the notebooks as they are, for the badges
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nbformat
from website import api, chapters
from website.docstrings import prose
from website.execute import executed, without_widgets
from website.links import Links

GUIDES = {
    "minidiff/course/GRADING.md": "guide/grading.md",
    "minidiff/course/AUTHORING.md": "guide/authoring.md",
    "CONTRIBUTING.md": "guide/contributing.md",
}
SAME_PLACE = ("lectures/*.md", "lectures/figures/*.png", "notebooks/*.ipynb", "exercises/*.ipynb")


def pages(root: Path) -> dict[str, str]:
    """{path in the repository: path of the source, relative to the folder of sources}, for all that is shown."""
    found = [file.relative_to(root).as_posix() for pattern in SAME_PLACE for file in sorted(root.glob(pattern))]
    places = {path: path for path in found} | GUIDES | {"README.md": "index.md", "minidiff": "api/index.rst"}
    for name, file in api.modules(root).items():
        path = file.relative_to(root)
        places[path.as_posix()] = f"api/{name}.rst"
        places.setdefault(path.parent.as_posix(), "api/index.rst")
    return places


@dataclass
class Stage:
    """`root` is laid out in `out`. repository: "owner/name" on GitHub, or "". kept: where executed notebooks are kept;
    without it none is executed."""

    root: Path
    out: Path
    repository: str = ""
    kept: Path | None = None

    def __post_init__(self) -> None:
        self.links = Links(pages(self.root), self.repository)

    def everything(self) -> None:
        for path, place in self.links.pages.items():
            if path == "README.md":
                self.write(place, self.index())
            elif path.endswith(".md"):
                self.write(place, self.text(path))
            elif path.endswith(".ipynb"):
                self.write(f"downloads/{path}", (self.root / path).read_bytes())
                self.write(place, self.notebook(path))
            elif path.endswith(".png"):
                self.write(place, (self.root / path).read_bytes())
        for place, text in api.pages(self.root, prose).items():
            self.write(place, text)

    def write(self, place: str, content: str | bytes) -> None:
        file = self.out / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def index(self) -> str:
        text = Path(__file__).with_name("index.md").read_text(encoding="utf-8")
        trees = chapters.trees(self.root, [PurePosixPath(page).with_suffix("").as_posix() for page in GUIDES.values()])
        return text.replace("CHAPTERS", chapters.table(self.root)).replace("TREES", trees)

    def text(self, path: str) -> str:
        text = self.links.rewritten((self.root / path).read_text(encoding="utf-8"), path)
        name = Path(path).stem
        return text + (chapters.below(name) if f"notebooks/{name}.ipynb" in self.links.pages else "")

    def notebook(self, path: str) -> str:
        if self.kept is not None and path.startswith("notebooks/"):
            node = without_widgets(executed(self.root / path, self.root, self.kept))
        else:  # an exercise is shown as it is handed out: its checks have nothing to check yet
            node = nbformat.read(self.root / path, as_version=4)
        for cell in node.cells:
            if cell.cell_type == "markdown":
                cell.source = self.links.rewritten(cell.source, path)
        heading, _, rest = node.cells[0].source.partition("\n")
        node.cells[0].source = f"{heading}\n\n{self.badges(path)}\n{rest}"
        return nbformat.writes(node)

    def badges(self, path: str) -> str:
        badges = f"{{download}}`Download this notebook </downloads/{path}>`"
        if self.repository:
            colab = f"https://colab.research.google.com/github/{self.repository}/blob/main/{path}"
            badges = f"[Open in Colab]({colab})\n{badges}"
            badges += f"\n\nIn Colab, run first: `%pip install git+https://github.com/{self.repository}`"
        return f"```{{container}} badges\n{badges}\n```\n"
