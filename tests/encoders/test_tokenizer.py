"""Tokenizers: round trips, the limit of 77, hand-counted merges, unusable input."""

import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minidiff.encoders.tokenizer import (
    END,
    N_SPECIALS,
    PAD,
    START,
    UNKNOWN,
    BytePairTokenizer,
    WordTokenizer,
    byte_words,
    learn_merges,
    split,
)

TEXTS = ["A red circle.", "a blue circle, above a red square", "it's a cat 🐈‍⬛ — été", "naïve naïve naïve"]
WORDS = WordTokenizer.from_texts(TEXTS, length=12)
PAIRS = BytePairTokenizer.learn(TEXTS, vocab_size=300, length=77)
clean = lambda text: " ".join(text.lower().split())


def test_ids_are_start_words_end_padding():
    tokenizer = WordTokenizer(["red", "circle", "a", ".", "red"], length=8)
    assert tokenizer.words == [".", "a", "circle", "red"]
    assert len(tokenizer) == 8
    expected = [[START, 5, 7, 6, 4, END, PAD, PAD], [START, 5, UNKNOWN, 6, END, PAD, PAD, PAD]]
    assert tokenizer.encode(["A red  circle.", "a GREEN circle"]).tolist() == expected
    assert tokenizer.decode(torch.tensor(expected)) == ["a red circle.", "a � circle"]
    assert tokenizer.lengths(["A red circle.", ""]).tolist() == [6, 2]


@given(st.lists(st.lists(st.sampled_from(WORDS.words), max_size=10), max_size=3))
def test_known_words_come_back(rows):
    texts = [" ".join(row) for row in rows]
    tokens = WORDS.encode(texts)
    assert tokens.shape == (len(texts), 12)
    assert [split(text) for text in WORDS.decode(tokens)] == rows
    assert torch.equal(WORDS.encode(WORDS.decode(tokens)), tokens)


@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_text_fits_the_length_and_is_stable(texts):
    for tokenizer in (WORDS, PAIRS):
        tokens = tokenizer.encode(texts)
        assert tokens.shape == (len(texts), tokenizer.length)
        assert torch.equal((tokens != PAD).sum(1), tokenizer.lengths(texts).clamp(max=tokenizer.length))
    assert torch.equal(WORDS.encode(WORDS.decode(WORDS.encode(texts))), WORDS.encode(texts))


@given(st.text(max_size=60))
def test_byte_pairs_know_every_text(text):
    tokenizer = BytePairTokenizer(PAIRS.merges, length=512)
    tokens = tokenizer.encode([text])
    assert tokenizer.decode(tokens) == [clean(text)]
    assert not (tokens == UNKNOWN).any()


def test_what_follows_the_75th_token_is_cut_and_end_stays_last():
    tokenizer = WordTokenizer(["a", "b", "c"])
    long = tokenizer.encode(["a " * 75 + "b", "a " * 75 + "c", "a " * 74 + "b", "a " * 74 + "c"])
    assert long.shape == (4, 77)
    assert torch.equal(long[0], long[1])
    assert not torch.equal(long[2], long[3])
    assert (long[:, -1] == END).all()
    assert ((long == END).sum(1) == 1).all()
    assert tokenizer.lengths(["a " * 75 + "b"]).item() == 78


def test_words_are_kept_from_min_count_on():
    assert WordTokenizer.from_texts(TEXTS, min_count=3).words == ["a", "naïve"]


def test_merges_equal_those_counted_by_hand():
    """In "aab aab ab", ␣a and ab occur three times: the smaller ids win. Then ab and (␣a)a occur twice, (␣a)b once."""
    sp, a, b = (N_SPECIALS + byte for byte in b" ab")
    first, second = N_SPECIALS + 256, N_SPECIALS + 257
    assert learn_merges(["aab aab ab"], 3) == [(sp, a), (a, b), (first, second)]
    tokenizer = BytePairTokenizer(learn_merges(["aab aab ab"], 3), length=6)
    assert tokenizer.encode(["aab ab", "ba"]).tolist() == [
        [START, second + 1, first, b, END, PAD],
        [START, sp, b, a, END, PAD],
    ]


def test_merges_are_those_of_a_recount_of_everything():
    def recounted(texts, n):
        words = [list(piece) for text in texts for piece in byte_words(text)]
        merges = []
        for new in range(n):
            seen = [pair for word in words for pair in pairwise(word)]
            best = min(set(seen), key=lambda pair: (-seen.count(pair), pair))
            if seen.count(best) < 2:
                break
            merges.append(best)
            for word in words:
                i = 0
                while i < len(word) - 1:
                    if (word[i], word[i + 1]) == best:
                        word[i : i + 2] = [N_SPECIALS + 256 + new]
                    i += 1
        return merges

    assert PAIRS.merges[:30] == recounted(TEXTS, 30)
    assert len(PAIRS) <= 300


def test_merges_shorten_texts_like_those_learned_from_and_no_others():
    bytewise = BytePairTokenizer([], length=77)
    similar, other = ["a red square above a blue circle"], ["zzz qqq xxx"]
    assert PAIRS.lengths(similar) <= 0.6 * bytewise.lengths(similar)
    assert PAIRS.lengths(other) == bytewise.lengths(other)


def test_merges_survive_a_file(tmp_path):
    PAIRS.save(str(tmp_path / "merges.json"))
    again = BytePairTokenizer.load(str(tmp_path / "merges.json"))
    assert again.merges == PAIRS.merges
    assert again.length == PAIRS.length


@pytest.mark.parametrize("content", [None, "", '{"merges": [[4,', "{}", "[]", '{"length": 77, "merges": [[4, 900]]}'])
def test_unusable_files_are_named(tmp_path, content):
    path = tmp_path / "merges.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="path: got"):
        BytePairTokenizer.load(path)


def test_saved_merges_are_plain_json(tmp_path):
    PAIRS.save(tmp_path / "merges.json")
    assert json.loads((tmp_path / "merges.json").read_text(encoding="utf-8"))["length"] == 77


@pytest.mark.parametrize("tokenizer", [WORDS, PAIRS], ids=["words", "byte pairs"])
def test_unusable_input_is_named(tokenizer):
    with pytest.raises(ValueError, match="texts: got"):
        tokenizer.encode("a red circle")
    with pytest.raises(ValueError, match="texts: got"):
        tokenizer.lengths([3])
    for bad in (torch.zeros(4, dtype=torch.int64), torch.zeros(1, 4), torch.tensor([[1, 10**6, 2]])):
        with pytest.raises(ValueError, match="tokens: got"):
            tokenizer.decode(bad)


def test_unusable_vocabularies_are_named():
    for words in (["Red"], ["two words"], [""], "red"):
        with pytest.raises(ValueError, match=r"(words|texts): got"):
            WordTokenizer(words)
    with pytest.raises(ValueError, match="length: got"):
        WordTokenizer(["a"], length=1)
    with pytest.raises(ValueError, match="vocab_size: got"):
        BytePairTokenizer.learn(TEXTS, vocab_size=100)
    with pytest.raises(ValueError, match="merges: got"):
        BytePairTokenizer([(0, 4)])
