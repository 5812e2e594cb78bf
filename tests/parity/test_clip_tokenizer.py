"""The tokenizer of real CLIP equals transformers' on a small vocabulary written in the same two files."""

import json

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from minidiff.encoders.clip_tokenizer import END_TEXT, START_TEXT, WORD_END, ClipTokenizer, byte_signs

pytestmark = pytest.mark.parity
MERGES = [
    ("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>"), ("r", "e"), ("re", "d</w>"), ("s", "h"), ("a", "r"),
    ("i", "r"), ("c", "ir"), ("cir", "c"), ("l", "e</w>"), ("circ", "le</w>"), ("'", "s</w>"), ("Ã", "©</w>"),
]  # fmt: skip
TEXTS = [
    "the red circle",
    "The  cat's  red hats, 42 of them!",
    "don't théâtre é",
    "",
    "...!? under_score",
    "🐈‍⬛ naïve 東京",
    "the cat " * 60,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    signs = [*byte_signs(), *(sign + WORD_END for sign in byte_signs())]
    pieces = [*signs, *(a + b for a, b in MERGES), START_TEXT, END_TEXT]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in MERGES) + "\n", encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return transformers.CLIPTokenizer(vocab=vocab, merges=MERGES)


def tokens_of(tokenizer, texts) -> list[list[int]]:
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True)["input_ids"]


def test_ids_are_equal(folder, theirs):
    ours = ClipTokenizer.from_folder(folder)
    assert ours.encode(TEXTS).tolist() == tokens_of(theirs, TEXTS)
    assert ours.lengths(["the red circle"]).tolist() == [5]
    assert ours.lengths(TEXTS)[-1] == 122
    assert len(ours) == len(theirs)
    unmerged = ClipTokenizer(ours.ids, [])
    assert unmerged.encode(TEXTS).tolist() != tokens_of(theirs, TEXTS)


@pytest.fixture(scope="module")
def both(folder, theirs):
    return ClipTokenizer.from_folder(folder), theirs


@given(text=st.text(st.sampled_from("theredcirlas'é .,!0123_—"), max_size=40))
def test_ids_of_random_texts_are_equal(both, text):
    assert both[0].encode([text]).tolist() == tokens_of(both[1], [text])


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_missing_and_cut_off_files_are_named(folder, tmp_path, name):
    for other in ("vocab.json", "merges.txt"):
        (tmp_path / other).write_bytes((folder / other).read_bytes())
    (tmp_path / name).write_text('{"a": 1' if name == "vocab.json" else "#version: 0.2\na b c\n", encoding="utf-8")
    with pytest.raises(ValueError, match="folder: got"):
        ClipTokenizer.from_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=name):
        ClipTokenizer.from_folder(tmp_path)


def test_unusable_input_is_named(both):
    with pytest.raises(ValueError, match="texts: got"):
        both[0].encode("one string")
    with pytest.raises(ValueError, match="ids: got"):
        ClipTokenizer({"a": 1}, [])
