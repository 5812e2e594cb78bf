"""The tokenizer of OpenAI's and OpenCLIP's weights: byte pairs from `vocab.json` and `merges.txt` of their folder.

Only real CLIP needs it; models trained here use `encoders.tokenizer`. `BytePairTokenizer` does the same with files of
its own; here bytes are written as visible characters, and the last piece of a word ends in "</w>".
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from minidiff.encoders.tokenizer import CLIP_LENGTH
from minidiff.validate import describe, require

START_TEXT, END_TEXT = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:_|[^\s\w])+")  # letters, one digit, or a run of marks


@lru_cache
def byte_signs() -> tuple[str, ...]:
    """A visible character for each byte, as in GPT-2: itself if it has one, else the next from U+0100 on."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return tuple(chr(byte if byte in visible else next(hidden)) for byte in range(256))


class ClipTokenizer:
    """ids: piece → id, both specials among them. merges: pairs of pieces, the first is taken first."""

    def __init__(self, ids: Mapping[str, int], merges: Sequence[tuple[str, str]], length: int = CLIP_LENGTH):
        needed = {START_TEXT, END_TEXT, *byte_signs(), *(sign + WORD_END for sign in byte_signs())}
        missing = sorted({*needed, *(a + b for a, b in merges)} - ids.keys())
        require(not missing, "ids", f"a vocabulary without {missing[:3]}", "every byte, every merge and both specials")
        self.ids, self.length = dict(ids), length
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}

    @classmethod
    def from_folder(cls, folder: Path) -> "ClipTokenizer":
        """The one beside the weights that `clip_folder.read_clip` reads. `ValueError` if one is missing or broken."""
        for name in ("vocab.json", "merges.txt"):
            require((folder / name).is_file(), "folder", str(folder), f"a folder with {name}")
        try:
            ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            return cls(ids, [(a, b) for a, b in (line.split() for line in lines if line and line[:9] != "#version:")])
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"folder: got {folder}, whose vocabulary is cut off or another's ({error})") from error

    def __len__(self) -> int:
        return len(self.ids)

    def _pieces(self, word: str) -> list[str]:
        signs = [byte_signs()[byte] for byte in word.encode(errors="replace")]
        pieces = [*signs[:-1], signs[-1] + WORD_END]
        while known := [pair for pair in pairwise(pieces) if pair in self.ranks]:
            first, merged = min(known, key=self.ranks.__getitem__), []
            for piece in pieces:
                if merged and (merged[-1], piece) == first:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces = merged
        return pieces

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        fits = not isinstance(texts, str) and all(isinstance(text, str) for text in texts)
        require(fits, "texts", describe(texts), "a list of strings")
        words = (WORD.findall(unicodedata.normalize("NFC", text).lower()) for text in texts)
        return [[self.ids[piece] for word in row for piece in self._pieces(word)] for row in words]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, length) int64: start, text, end, padded with more ends; a long text is cut, its end stays."""
        start, end = self.ids[START_TEXT], self.ids[END_TEXT]
        rows = [[start, *each[: self.length - 2], end] for each in self._ids(texts)]
        padded = [row + [end] * (self.length - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).reshape(-1, self.length)

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Tokens each text would need uncut, start and end included, (B,) int64."""
        return torch.tensor([len(each) + 2 for each in self._ids(texts)], dtype=torch.int64)
