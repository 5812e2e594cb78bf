"""The tokenizer of real CLIP equals transformers' on a small vocabulary written in the same two files."""

import json
import unicodedata

import pytest
import transformers
from hypothesis import given, settings
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
    "the <|endoftext|> red<|startoftext|>cat <|ENDOFTEXT|><|endoftext",
    "½ ² ٣ Ⅷ ³x 12a3",  # numbers of all kinds stand alone
    "the\x1ccat\x1d\x1f \x00re\x85d\xa0\u2003\u200bcat\u3000",  # not all white space is white space
    "ΟΔΟΣ Σ ΑΣ' ΑΣ1 İI ẞ ǅ",  # a character is lower-cased whatever stands beside it
    "IT'S 's're'vell'LL '' _'s_ é \u0301e",
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
    assert ours.lengths(["the cat " * 60]).tolist() == [122]
    assert len(ours) == len(theirs)
    unmerged = ClipTokenizer(ours.ids, [])
    assert unmerged.encode(TEXTS).tolist() != tokens_of(theirs, TEXTS)


@pytest.fixture(scope="module")
def both(folder, theirs):
    return ClipTokenizer.from_folder(folder), theirs


@given(text=st.text(st.sampled_from("theredcirlas'é .,!0123_—"), max_size=40))
def test_ids_of_random_texts_are_equal(both, text):
    assert both[0].encode([text]).tolist() == tokens_of(both[1], [text])


CATEGORIES = ["L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co"]  # all but halves of pairs and what is not assigned yet
PART = st.one_of(
    *(st.text(st.characters(categories=[category]), min_size=1, max_size=3) for category in CATEGORIES),
    st.sampled_from(
        [START_TEXT, END_TEXT, END_TEXT.upper(), "'s", "'LL", "the", "Σ", "e\u0301", "👩‍🚀", "\x1c", "\x85"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PART, max_size=8))
def test_ids_of_any_text_are_equal(both, parts):
    assert both[0].encode(["".join(parts)]).tolist() == tokens_of(both[1], ["".join(parts)])


def test_every_character_stands_as_there_between_letters_and_numbers(both):
    """Of the scripts with thousands of letters every 64th. Control: with Python's own white space, four differ."""
    category = {c: unicodedata.category(c) for c in map(chr, range(0x110000))}
    asked = [c for c, kind in category.items() if kind not in ("Cn", "Cs", "Co") and (kind != "Lo" or ord(c) % 64 == 0)]
    assert set(category.values()) - {category[c] for c in asked} == {"Cn", "Cs", "Co"}
    texts = [" ".join(f"a{c}b1{c}2" for c in asked[i : i + 1000]) for i in range(0, len(asked), 1000)]
    whole = both[1](texts)["input_ids"]
    assert [[*row] for row in both[0]._ids(texts)] == [row[1:-1] for row in whole]
    fewer = [" ".join(text.split()) for text in texts]
    assert both[0]._ids(fewer) != both[0]._ids(texts)


def test_every_combining_character_is_put_in_order_as_there(both):
    """Beside marks that come before and after it in Unicode's order. Control: by Python's own tables some differ."""
    marks = [c for c in map(chr, range(0x110000)) if unicodedata.combining(c)]
    texts = [" ".join(f"a\u0345{c} e{c}\u0334 é{c}" for c in marks), "\U00011935\U00011930"]
    assert [[*row] for row in both[0]._ids(texts)] == [row[1:-1] for row in both[1](texts)["input_ids"]]
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    assert all(one != other for one, other in zip(both[0]._ids(composed), both[0]._ids(texts)))


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("pad", ["!", {"content": "!", "lstrip": False, "__type": "AddedToken"}, END_TEXT])
def test_the_folders_own_padding(folder, tmp_path, name, pad):
    """Stable Diffusion 2 pads with "!", and takes it for the padding in a text too."""
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / name).write_text(json.dumps({"pad_token": pad}), encoding="utf-8")
    texts = ["the cat! the!!", END_TEXT]
    ours = ClipTokenizer.from_folder(str(tmp_path)).encode(texts).tolist()
    assert ours == tokens_of(transformers.CLIPTokenizer.from_pretrained(str(tmp_path)), texts)
    assert (ours == ClipTokenizer.from_folder(folder).encode(texts).tolist()) == (pad == END_TEXT)


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


def test_half_a_pair_is_a_question_mark(both):
    """Transformers refuse it."""
    with pytest.raises(TypeError):
        both[1](["\ud800"])
    assert both[0].encode(["\ud800"]).tolist() == both[0].encode(["?"]).tolist()


def test_unusable_input_is_named(both):
    with pytest.raises(ValueError, match="texts: got"):
        both[0].encode("one string")
    with pytest.raises(ValueError, match="ids: got"):
        ClipTokenizer({"a": 1}, [])
