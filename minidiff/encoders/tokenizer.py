"""Text to token ids: START, the text, END, then PAD up to a fixed length.

    WordTokenizer       a list of known words; every other word is UNKNOWN
    BytePairTokenizer   pieces learned from texts, down to single bytes: nothing is unknown (arXiv 1508.07909)

Both lower-case, both count START and END in `length`, and both cut what is too long so that END stays last. The default
length is CLIP's 77 (arXiv 2103.00020): whatever a caption says after its 75th token, the text encoder never sees.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from minidiff.checkpoints import write_whole
from minidiff.validate import describe, require

PAD, START, END, UNKNOWN = range(4)
N_SPECIALS = 4
CLIP_LENGTH = 77
UNKNOWN_SIGN = "\N{REPLACEMENT CHARACTER}"

WORD = re.compile(r"\w+|[^\w\s]")  # a word, or one punctuation mark
PIECE = re.compile(r" \w+| ?[^\w\s]+|\w+")  # a word or a run of marks, with the space before it


def _require_texts(texts: Sequence[str]) -> None:
    fits = not isinstance(texts, str) and all(isinstance(text, str) for text in texts)
    require(fits, "texts", describe(texts), "a list of strings")


def _require_length(length: int) -> None:
    require(isinstance(length, int) and length >= 2, "length", length, "an integer ≥ 2: START and END count")


def _rows(ids: list[list[int]], length: int) -> Tensor:
    """START + ids + END, cut and padded to (B, length) int64."""
    rows = [[START, *each[: length - 2], END] for each in ids]
    return torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.int64).reshape(-1, length)


def _lengths(ids: list[list[int]]) -> Tensor:
    return torch.tensor([len(each) + 2 for each in ids], dtype=torch.int64)


def _contents(tokens: Tensor, vocabulary: int) -> Iterator[list[int]]:
    """Row by row, the ids between START and the first END, without PAD."""
    fits = isinstance(tokens, Tensor) and tokens.ndim == 2 and tokens.dtype == torch.int64
    require(fits, "tokens", describe(tokens), "an int64 tensor of shape (B, L)")
    inside = bool(((tokens >= 0) & (tokens < vocabulary)).all())
    require(inside, "tokens", "ids outside the vocabulary", f"ids 0 … {vocabulary - 1}")
    for row in tokens.tolist():
        ends = row.index(END) if END in row else len(row)
        yield [i for i in row[:ends] if i not in (PAD, START)]


def require_ids(tokens: Tensor, length: int, last: int) -> None:
    """What an encoder reads: int64 of shape (B, 1 … length) with ids 0 … last.

    On a GPU the ids are not looked at: the host would wait for them.
    """
    fits = tokens.ndim == 2 and tokens.dtype == torch.int64 and 1 <= tokens.shape[1] <= length
    require(fits, "tokens", describe(tokens), f"int64 of shape (B, at most {length})")
    if tokens.device.type == "cpu":
        inside = bool(((tokens >= 0) & (tokens <= last)).all())
        require(inside, "tokens", "ids outside the vocabulary", f"ids 0 … {last}")


def split(text: str) -> list[str]:
    """Lower-cased words and punctuation marks: "A red circle." → a, red, circle, and the full stop."""
    return WORD.findall(text.lower())


def trimmed(tokens: Tensor) -> Tensor:
    """Without the columns that are PAD in every row: a tower that reads END never sees them, and works less."""
    return tokens[:, : int((tokens != PAD).sum(1).max())]


class WordTokenizer:
    """One id per word: PAD 0, START 1, END 2, UNKNOWN 3, then the sorted unique `words`.

    Each of `words` is one lower-case word or one punctuation mark, as `split` gives them. Tokens are on the CPU.
    """

    def __init__(self, words: Sequence[str], length: int = CLIP_LENGTH):
        _require_texts(words)
        _require_length(length)
        broken = [word for word in words if split(word) != [word]]
        require(not broken, "words", broken[:3], "single lower-case words or punctuation marks")
        self.words, self.length = sorted(set(words)), length
        self.ids = {word: N_SPECIALS + i for i, word in enumerate(self.words)}

    @classmethod
    def from_texts(cls, texts: Sequence[str], length: int = CLIP_LENGTH, min_count: int = 1) -> "WordTokenizer":
        """The words that occur at least `min_count` times in `texts`."""
        _require_texts(texts)
        counts = Counter(word for text in texts for word in split(text))
        return cls([word for word, count in counts.items() if count >= min_count], length)

    def __len__(self) -> int:
        """Size of the vocabulary, the four specials included."""
        return N_SPECIALS + len(self.words)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        _require_texts(texts)
        return [[self.ids.get(word, UNKNOWN) for word in split(text)] for text in texts]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, length) int64."""
        return _rows(self._ids(texts), self.length)

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Tokens each text would need uncut, START and END included, (B,) int64: it fits where this is ≤ `length`."""
        return _lengths(self._ids(texts))

    def decode(self, tokens: Tensor) -> list[str]:
        """(B, L) int64 → B texts, lower-case, one space between words; UNKNOWN reads as �."""
        name = lambda i: UNKNOWN_SIGN if i == UNKNOWN else self.words[i - N_SPECIALS]
        joined = (" ".join(name(i) for i in row) for row in _contents(tokens, len(self)))
        return [re.sub(r" ([.,;:!?])", r"\1", text) for text in joined]


def _replaced(symbols: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """`symbols` with every occurrence of `pair`, from the left, replaced by `new`."""
    out: list[int] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] = new
        else:
            out.append(symbol)
    return out


def byte_words(text: str) -> list[list[int]]:
    """The words of a text, each with the space before it, as the ids of its UTF-8 bytes."""
    clean = " " + " ".join(text.lower().split())
    return [[N_SPECIALS + byte for byte in piece.encode(errors="replace")] for piece in PIECE.findall(clean)]


def learn_merges(texts: Sequence[str], n: int) -> list[tuple[int, int]]:
    """Byte-pair encoding, algorithm 1 of arXiv 1508.07909: n times, join the most frequent pair of neighbours.

    Among equally frequent pairs the smaller ids win. Stops early when no pair occurs twice.
    """
    counts = Counter(tuple(piece) for text in texts for piece in byte_words(text))
    words, weights = [list(word) for word in counts], list(counts.values())
    pairs: Counter[tuple[int, int]] = Counter()
    where: dict[tuple[int, int], set[int]] = defaultdict(set)  # pair → the words that have had it

    def count(index: int, sign: int) -> None:
        for pair in pairwise(words[index]):
            pairs[pair] += sign * weights[index]
            where[pair].add(index)

    for index in range(len(words)):
        count(index, +1)
    merges: list[tuple[int, int]] = []
    while len(merges) < n and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        for index in sorted(where[best]):
            count(index, -1)
            words[index] = _replaced(words[index], best, N_SPECIALS + 256 + len(merges))
            count(index, +1)
        merges.append(best)
    return merges


class BytePairTokenizer:
    """The same four specials, then the 256 bytes, then one id per merge. No text holds anything unknown.

    `merges` are pairs of ids, in the order learned. Encoding takes them in that order, word by word.
    """

    def __init__(self, merges: Sequence[tuple[int, int]], length: int = CLIP_LENGTH):
        _require_length(length)
        self.merges, self.length = [(int(a), int(b)) for a, b in merges], length
        self.bytes = [b""] * N_SPECIALS + [bytes([byte]) for byte in range(256)]
        for a, b in self.merges:
            fits = min(a, b) >= N_SPECIALS and max(a, b) < len(self.bytes)
            require(fits, "merges", (a, b), f"pairs of ids {N_SPECIALS} … {len(self.bytes) - 1} there")
            self.bytes.append(self.bytes[a] + self.bytes[b])
        self.ranks = {pair: N_SPECIALS + 256 + i for i, pair in enumerate(self.merges)}

    @classmethod
    def learn(cls, texts: Sequence[str], vocab_size: int, length: int = CLIP_LENGTH) -> "BytePairTokenizer":
        """Learn at most `vocab_size` ids (≥ 260: the specials and the bytes) from `texts`; fewer if nothing repeats."""
        _require_texts(texts)
        require(vocab_size >= N_SPECIALS + 256, "vocab_size", vocab_size, f"at least {N_SPECIALS + 256}")
        return cls(learn_merges(texts, vocab_size - N_SPECIALS - 256), length)

    def __len__(self) -> int:
        """Size of the vocabulary, the four specials included."""
        return len(self.bytes)

    def _merged(self, symbols: list[int]) -> list[int]:
        while True:
            known = [self.ranks[pair] for pair in pairwise(symbols) if pair in self.ranks]
            if not known:
                return symbols
            first = min(known)
            symbols = _replaced(symbols, self.merges[first - N_SPECIALS - 256], first)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        _require_texts(texts)
        return [[i for piece in byte_words(text) for i in self._merged(piece)] for text in texts]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, length) int64."""
        return _rows(self._ids(texts), self.length)

    def lengths(self, texts: Sequence[str]) -> Tensor:
        """Tokens each text would need uncut, START and END included, (B,) int64: it fits where this is ≤ `length`."""
        return _lengths(self._ids(texts))

    def decode(self, tokens: Tensor) -> list[str]:
        """(B, L) int64 → B texts, lower-case, with single spaces; a character cut between its bytes reads as �."""
        joined = (b"".join(self.bytes[i] for i in row) for row in _contents(tokens, len(self)))
        return [text.decode(errors="replace").removeprefix(" ") for text in joined]

    def save(self, path: str | Path) -> None:
        """Write the merges and the length as JSON, whole or not at all."""

        def write(temporary: Path) -> None:
            temporary.write_text(json.dumps({"length": self.length, "merges": self.merges}), encoding="utf-8")

        write_whole(Path(path), write)

    @classmethod
    def load(cls, path: str | Path) -> "BytePairTokenizer":
        """A tokenizer from a file written by `save`. `ValueError` if it is missing, cut off or something else."""
        path = Path(path)
        require(path.is_file(), "path", str(path), "an existing file of merges")
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return cls([(a, b) for a, b in facts["merges"]], facts["length"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path: got {path}, which is cut off or not a file of merges ({error})") from error
