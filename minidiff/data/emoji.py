"""Real captioned pictures: 1,476 emoji, drawn in two styles, with their real names and keywords.

Style "fluent" is Microsoft's Fluent Emoji flat (MIT), "noto" is Google's Noto Emoji (Apache-2.0); names, keywords and
groups are emojibase's (MIT). Row i is the same concept in both styles. `assets/emoji/README.md` says where they come
from; `tools/build_emoji.py` makes the files.
"""

import hashlib
import json
import lzma
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.validate import require

FOLDER = Path(__file__).parents[1] / "assets" / "emoji"
STYLES = ("fluent", "noto")
SIDE = 32
SIDES = (16, 32, 64)
_COLOURS = 32
_GENDERED = {"1f468", "1f469", "1f9d1", "2640", "2642", "200d"}
"""Code points of man, woman, person, ♀, ♂ and the joiner: what tells the variants of one concept apart."""


@dataclass(frozen=True)
class Emoji:
    """N pictures of one style, rgba (N, 4, 32, 32) uint8, straight alpha, and what is said of them.

    names are unique, such as "light bulb"; keywords "bulb", "comic", "electric", "idea", "light"; groups "objects";
    codes the Unicode code points, "1f4a1", joined by "-" where there are several. Shared between callers: do not write.
    """

    rgba: Tensor
    names: tuple[str, ...]
    keywords: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    codes: tuple[str, ...]


def load(style: str = "fluent") -> Emoji:
    """All pictures of a style, "fluent" or "noto". `ValueError` for another, or if a file was cut off or changed."""
    return read(style, FOLDER)


@lru_cache
def read(style: str, folder: str | Path) -> Emoji:
    """`load` from another folder."""
    require(style in STYLES, "style", repr(style), f"one of {STYLES}")
    folder = Path(folder)
    try:
        told = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        data = lzma.decompress((folder / f"{style}.xz").read_bytes())
        concepts, sha256 = told["concepts"], str(told["sha256"][style])
        names, groups, codes = (tuple(concept[key] for concept in concepts) for key in ("name", "group", "code"))
        keywords = tuple(tuple(concept["keywords"]) for concept in concepts)
    except (OSError, lzma.LZMAError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"folder: got {folder}, whose files are missing, cut off or changed ({error})") from error
    found = hashlib.sha256(data).hexdigest()
    require(found == sha256, "folder", f"{folder} with SHA-256 {found[:12]}…", f"{sha256[:12]}…, as captions.json says")
    sizes = [len(concepts) * _COLOURS * 4, len(concepts) * SIDE**2]
    require(
        sum(sizes) == len(data), "folder", f"{folder}, where captions.json names {len(concepts)} pictures", "as drawn"
    )
    palettes, index = torch.frombuffer(bytearray(data), dtype=torch.uint8).split(sizes)
    rows = index.view(len(concepts), SIDE**2, 1).long().expand(-1, -1, 4)
    rgba = palettes.view(len(concepts), _COLOURS, 4).gather(1, rows)  # (N, 32·32, 4)
    return Emoji(rgba.mT.reshape(-1, 4, SIDE, SIDE).contiguous(), names, keywords, groups, codes)


def _overlaps(side: int) -> Tensor:
    """(side, 32): row i holds what part of output pixel i each input pixel covers. Rows sum to 1."""
    edges = torch.arange(side + 1, dtype=torch.float64) * (SIDE / side)
    pixel = torch.arange(SIDE, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return (shared.clamp(min=0) * (side / SIDE)).float()


def _resize(x: Tensor, side: int) -> Tensor:
    """(…, C, 32, 32) → (…, C, side, side): by area when smaller, which keeps every mean; bilinear when larger."""
    if side <= SIDE:
        weights = _overlaps(side)
        return weights @ x @ weights.T
    return F.interpolate(x.reshape(-1, 1, SIDE, SIDE), side, mode="bilinear").reshape(*x.shape[:-2], side, side)


def _premultiplied(rgba: Tensor, side: int) -> Tensor:
    """uint8 straight → float in [0, 1], colours times alpha: what may be averaged."""
    x = rgba.float() / 255
    return _resize(torch.cat([x[..., :3, :, :] * x[..., 3:, :, :], x[..., 3:, :, :]], -3), side)


@lru_cache
def pictures(style: str = "fluent", side: int = SIDE, background: float = 0.95) -> Tensor:
    """All pictures of a style over a grey of `background` in [0, 1]: (N, 3, side, side) float32 in [−1, 1].

    side: 16, 32 or 64. `ValueError` for another side, style or background. Shared between callers: do not write.
    """
    require(side in SIDES, "side", side, f"one of {SIDES} pixels")
    require(0 <= background <= 1, "background", background, "a grey level in [0, 1]")
    x = _premultiplied(load(style).rgba, side)
    return 2 * (x[:, :3] + (1 - x[:, 3:]) * background) - 1


def sprite(name: str, side: int = SIDE, style: str = "fluent") -> Tensor:
    """One picture to be laid over others: (4, side, side) float32 in [0, 1], straight (not premultiplied) alpha.

    `name` is a whole name, "light bulb"; case and spaces do not matter; side is 1 … 128. `ValueError` for others.
    """
    require(isinstance(side, int) and 1 <= side <= 4 * SIDE, "side", side, f"an integer from 1 to {4 * SIDE}")
    atlas = load(style)
    squeezed = {_squeezed(known): i for i, known in enumerate(atlas.names)}
    require(_squeezed(name) in squeezed, "name", repr(name), f"the name of a picture{_did_you_mean(name, atlas.names)}")
    x = _premultiplied(atlas.rgba[squeezed[_squeezed(name)]], side)
    return torch.cat([x[:3] / x[3:].clamp(min=1e-6), x[3:]]).clamp(0, 1)


def _squeezed(name: str) -> str:
    return name.lower().replace(" ", "")


def _words(text: str) -> str:
    """Lower case, one space around every word: "a b" is among the words of "x a b" if it is a part of them."""
    return " ".join(["", *re.findall(r"\w+", text.lower()), ""])


def _did_you_mean(query: str, known: Iterable[str]) -> str:
    near = get_close_matches(query.lower(), sorted(known), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def find(query: str) -> list[int]:
    """Rows whose name is `query`, then those with its words in their names, then those with them in a keyword.

    Case does not matter; words are whole ("cat" finds no "cattle"). `ValueError`, with what is spelled alike, if none.
    """
    wanted, atlas = _words(query), load()
    require(bool(wanted.strip()), "query", repr(query), "at least one word")
    names = [_words(name) for name in atlas.names]
    tests = (
        lambda i: names[i] == wanted,
        lambda i: wanted in names[i],
        lambda i: any(wanted in _words(word) for word in atlas.keywords[i]),
    )
    found = list(dict.fromkeys(i for test in tests for i in range(len(names)) if test(i)))
    known = {*atlas.names, *(word for words in atlas.keywords for word in words)}
    require(bool(found), "query", repr(query), f"words of a name or keyword{_did_you_mean(query, known)}")
    return found


def split(held_out: float = 0.1) -> tuple[Tensor, Tensor]:
    """Rows for training and rows for testing, int64, the same on every machine; about `held_out` of all for testing.

    A row's side follows from a hash of its code points (CRC-32) without those of gender: "man astronaut", "woman
    astronaut" and "astronaut" are on one side, or the test pictures would all but be seen in training.
    """
    require(0 < held_out < 1, "held_out", held_out, "a fraction between 0 and 1")
    bare = ["-".join(p for p in code.split("-") if p not in _GENDERED) or code for code in load().codes]
    test = torch.tensor([zlib.crc32(code.encode()) < held_out * 2**32 for code in bare])
    return torch.nonzero(~test).flatten(), torch.nonzero(test).flatten()


def caption(i: int, generator: Generator | None = None) -> str:
    """One caption of row i, drawn anew each time: "light bulb", "a light bulb" or "light bulb, idea, electric"."""
    atlas = load()
    name, keywords = atlas.names[i], atlas.keywords[i]
    kind = int(torch.randint(3, (), generator=generator))
    if kind == 0:
        return name
    if kind == 1:
        return f"{_article(name)}{name}"
    order = torch.randperm(len(keywords), generator=generator).tolist()
    few = int(torch.randint(1, 4, (), generator=generator))
    return ", ".join([name, *(keywords[k] for k in order[:few])])


def captions(index: Iterable[int] | Tensor, generator: Generator | None = None) -> list[str]:
    """`caption` of every row of `index`. `ValueError` for a row that does not exist."""
    rows, n = [int(i) for i in index], len(load().names)
    require(all(0 <= i < n for i in rows), "index", rows, f"rows 0 … {n - 1}")
    return [caption(i, generator) for i in rows]


def _article(name: str) -> str:
    """ "a " or "an ", or nothing before plurals (any last s) and proper names (any capital): a rule of thumb."""
    if name.endswith("s") or name[0].isupper():
        return ""
    return "an " if re.match(r"(?!uni|one|euro)[aeiou]|hour|x-", name) else "a "
