"""Rewrites what a Markdown text of the repository links to, so that the same link works on the website.

A link to a lecture, notebook or exercise leads to its page, one to a file of the library to its API page, one to
another file to the repository (plain text when its address is not known). "arXiv 2207.12598" becomes a link.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

PIECES = re.compile(
    r"(?P<kept>^ *(?P<fence>```+|~~~+).*?^ *(?P=fence)|(?P<ticks>`+)[^`]+?(?P=ticks)(?!`)"  # code
    r"|\$\$.*?\$\$|\$(?:[^$\n]|\n(?!\s*\n))+\$)"  # mathematics
    r"|(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<address>[^)\s]+)(?P<title>[^)]*)\)"
    # "arXiv 2207.12598", and what follows it in "arXiv 2302.11552 and 2408.09000": year, month, five digits
    r"|arXiv (?P<paper>\d{4}\.\d{4,5})|(?<![\w./])(?P<another>\d\d(?:0\d|1[0-2])\.\d{5})(?!\d|\.\d)",
    re.MULTILINE | re.DOTALL,
)
SUMMARY = re.compile(
    r"^(?P<indent> *)(?P<tag>.*?)<summary>(?P<text>.*?[$`*\[].*?)</summary>(?P<rest>.*)$", re.MULTILINE
)


def summaries_read(text: str) -> str:
    """Markdown is not read where it shares a line with a tag: a <summary> that has some gets lines of its own."""
    return SUMMARY.sub(r"\g<indent>\g<tag><summary>\n\n\g<indent>\g<text>\n\n\g<indent></summary>\g<rest>", text)


@dataclass(frozen=True)
class Links:
    """pages: {path in the repository: path of its source on the site}. repository: "owner/name" on GitHub, or ""."""

    pages: Mapping[str, str]
    repository: str = ""

    def rewritten(self, text: str, path: str) -> str:
        """`text` of the file `path` (both relative to the repository) for its place on the site."""
        here = self.pages[path]

        def replace(found: re.Match[str]) -> str:
            if found["kept"]:
                return found[0]
            if paper := found["paper"] or found["another"]:
                return f"[{found[0]}](https://arxiv.org/abs/{paper})"
            if re.match(r"[a-z]+:|#", found["address"]):
                return found[0]
            target, hash_, anchor = found["address"].partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if page := self.pages.get(target):
                address = posixpath.relpath(page, posixpath.dirname(here) or ".")
                return f"{found['image']}[{found['text']}]({address}{hash_}{anchor}{found['title']})"
            if self.repository:
                return f"[{found['text']}](https://github.com/{self.repository}/blob/main/{target}{hash_}{anchor})"
            return found["text"]

        return summaries_read(PIECES.sub(replace, text))
