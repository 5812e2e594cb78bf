"""The tokenizer of OpenAI's and OpenCLIP's weights: byte pairs from `vocab.json` and `merges.txt` of their folder.

Only real CLIP needs it; models trained here use `encoders.tokenizer`. `BytePairTokenizer` does the same with files of
its own; here bytes are written as visible characters, and the last piece of a word ends in "</w>".

Ids are those of transformers' CLIPTokenizer of version 5, which version 4 calls CLIPTokenizerFast (the slow one there,
like OpenAI's own code, first mends a text with ftfy). Characters are told apart by Python's Unicode tables: one that
was assigned after them counts as a mark. Half of a surrogate pair, which transformers refuses, counts as "?".
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path

import torch
from torch import Tensor

from minidiff.encoders.tokenizer import CLIP_LENGTH
from minidiff.validate import describe, require

START_TEXT, END_TEXT = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
# Transformers compose (NFC) by Unicode 9: later combining characters stay where they are and part what is around them.
LATER = re.compile(
    "([\u0897-\u089f\u08ca-\u08d3\u07fd\u09fe\u0c3c\u0d3b\u0d3c\u0eba\u0ece\u1715\u1abf-\u1ace\u1df6-\u1dfa\ua82c"
    "\U000105c0-\U000105ff\U00010d24-\U00010d27\U00010d40-\U00010d8f\U00010eab-\U00010eff\U00010f46-\U00010f50"
    "\U00010f82-\U00010f85\U00011070\U0001133b\U00011380-\U000113ff\U0001145e\U00011839\U0001183a\U00011930-\U00011946"
    "\U000119e0\U00011a34\U00011a47\U00011a99\U00011d42\U00011d44\U00011d45\U00011d97\U00011f00-\U00011f5f"
    "\U00016100-\U0001613f\U00016d40-\U00016d7f\U00016ff0\U00016ff1\U0001e130-\U0001e136\U0001e2ae\U0001e2ec-\U0001e2ef"
    "\U0001e4d0-\U0001e4ff\U0001e5d0-\U0001e5ff])"
)
# Python's \s holds four characters, \x1c to \x1f, that are marks here.
RUN = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[^\W_]+|(?:[_\x1c-\x1f]|[^\s\w])+")


@lru_cache
def byte_signs() -> tuple[str, ...]:
    """A visible character for each byte, as in GPT-2: itself if it has one, else the next from U+0100 on."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return tuple(chr(byte if byte in visible else next(hidden)) for byte in range(256))


def words(text: str) -> Iterator[str]:
    """The words of a text, lower-cased: letters (Unicode's L), one number (N), an ending such as 's, or a run of marks.

    Each character is lower-cased by itself: Python alone would write a Greek word's last Σ as ς, not σ.
    """
    composed = "".join(unicodedata.normalize("NFC", part) for part in LATER.split(text))
    for run in RUN.findall("".join(map(str.lower, composed))):
        if run in (START_TEXT, END_TEXT):  # only where it was spelled in capitals: not a special, but words of its own
            yield from ("<|", run[2:-2], "|>")
        elif not run[0].isalnum():
            yield run
        else:
            for letters, characters in groupby(run, str.isalpha):
                part = "".join(characters)
                yield from [part] if letters else part


class ClipTokenizer:
    """ids: piece → id, the specials among them. merges: pairs of pieces, the first is taken first.

    pad: what fills up a row, one more end unless given ("!" in Stable Diffusion 2). Specials that are spelled out in a
    text, START_TEXT, END_TEXT and pad, become their ids.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        length: int = CLIP_LENGTH,
        pad: str = END_TEXT,
    ):
        needed = {START_TEXT, END_TEXT, pad, *byte_signs(), *(sign + WORD_END for sign in byte_signs())}
        missing = sorted({*needed, *(a + b for a, b in merges)} - ids.keys())
        require(not missing, "ids", f"a vocabulary without {missing[:3]}", "every byte, every merge and all specials")
        self.ids, self.length, self.pad = dict(ids), length, pad
        self.specials = re.compile("(" + "|".join(map(re.escape, (START_TEXT, END_TEXT, pad))) + ")")
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}

    @classmethod
    def from_folder(cls, folder: str | Path) -> "ClipTokenizer":
        """The one beside the weights that `clip_folder.read_clip` reads. `ValueError` if one is missing or broken.

        pad is that of `tokenizer_config.json` or `special_tokens_map.json`, if they are there and say one.
        """
        folder = Path(folder)
        for name in ("vocab.json", "merges.txt"):
            require((folder / name).is_file(), "folder", str(folder), f"a folder with {name}")
        try:
            ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            pairs = [line.split() for line in lines if line and line[:9] != "#version:"]
            return cls(ids, [(a, b) for a, b in pairs], pad=_pad(folder))
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
        return [[self.ids[piece] for piece in self._all_pieces(text)] for text in texts]

    def _all_pieces(self, text: str) -> Iterator[str]:
        for i, part in enumerate(self.specials.split(text)):
            if i % 2:  # what split at stands at odd places
                yield part
            else:
                yield from (piece for word in words(part) for piece in self._pieces(word))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, length) int64: start, text, end, padded with `pad`; a long text is cut, its end stays."""
        start, end = self.ids[START_TEXT], self.ids[END_TEXT]
        rows = [[start, *each[: self.length - 2], end] for each in self._ids(texts)]
        padded = [row + [self.ids[self.pad]] * (self.length - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).reshape(-1, self.length)

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Tokens each text would need uncut, start and end included, (B,) int64."""
        return torch.tensor([len(each) + 2 for each in self._ids(texts)], dtype=torch.int64)


def _pad(folder: Path) -> str:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        told = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
        if pad := told.get("pad_token"):
            return pad["content"] if isinstance(pad, dict) else pad
    return END_TEXT
