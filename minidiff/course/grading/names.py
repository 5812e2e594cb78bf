"""Names of students and their files: as people read them, and as file names."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from unicodedata import category, normalize

_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.IGNORECASE)  # devices, on Windows
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def from_system(name: str) -> str:
    """A file's name as text: the system hands out half characters where its encoding cannot hold what is UTF-8."""
    with suppress(UnicodeError):
        return os.fsencode(name).decode("utf-8")
    return name


def safe_keys(labels: Collection[str]) -> dict[str, str]:
    """A key for each label, safe as a file name on every system and unique without regard to case.

    A label that is too long, or whose key another would have too, gets a hash of the whole label at its end.
    """
    digits: Counter[str] = Counter()
    while True:
        keys = {label: _key(label, digits[label]) for label in labels}
        # What a file system may take for the same name: NTFS compares capitals, macOS also decomposed letters.
        folded = {label: normalize("NFKC", normalize("NFKC", key).upper().casefold()) for label, key in keys.items()}
        count = Counter(folded.values())
        unfit = [label for label, key in keys.items() if len(key) > 60 or count[folded[label]] > 1]
        if not unfit:
            return keys
        for label in unfit:  # again and again: a label may look like another's key. 48 digits always differ
            digits[label] = min(digits[label] + 8, 48)


def _key(label: str, digits: int) -> str:
    """Letters, digits and "-_." only, with no dot at the ends (Windows drops the last) and no dash in front."""
    letters = (c if c in "-_." or _nameable(c) else "_" for c in normalize("NFC", label))
    text = "".join(letters).lstrip(".-").rstrip(".") or "student"
    text = f"_{text}" if _RESERVED.fullmatch(text) else text
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: 59 - digits]}-{digest[:digits]}" if digits else text


def _nameable(c: str) -> bool:
    """Is it a letter or a digit that this system's file names can hold?"""
    with suppress(UnicodeEncodeError):
        return (c.isalpha() or c.isdecimal()) and bool(os.fsencode(c))
    return False


def readable(text: str, limit: int = 200) -> str:
    """`text` for people: NFC, without control characters, bidi overrides, line breaks and half characters."""
    kept = (c for c in normalize("NFC", text) if c not in _BIDI and category(c) not in ("Cc", "Cs", "Zl", "Zp"))
    return "".join(kept).strip()[:limit]
