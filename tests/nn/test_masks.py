"""Masks: each by its definition, and blocks through which nothing leaks that a mask closes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.nn import masks
from minidiff.nn.block import Block
from minidiff.randomness import initialised, randn, seeded

few = settings(max_examples=25, deadline=None)


def table(n: int, rule) -> torch.Tensor:
    return torch.tensor([[bool(rule(i, j)) for j in range(n)] for i in range(n)]).reshape(n, n)


@few
@given(st.integers(0, 6), st.integers(0, 6))
def test_causal_and_prefix(first, more):
    n = first + more
    assert torch.equal(masks.causal(n), table(n, lambda i, j: j <= i))
    assert torch.equal(masks.prefix(first, n), table(n, lambda i, j: j <= i or (i < first and j < first)))


@few
@given(st.integers(1, 4), st.integers(1, 4))
def test_temporal(frames, tokens):
    expected = table(frames * tokens, lambda i, j: j // tokens <= i // tokens)
    assert torch.equal(masks.temporal(frames, tokens), expected)


@few
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_packed(owner):
    expected = table(len(owner), lambda i, j: owner[i] == owner[j])
    assert torch.equal(masks.packed(torch.tensor(owner)), expected)
    assert torch.equal(masks.packed(torch.tensor([owner, owner[::-1]]))[0], expected)


@few
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=4))
def test_blocks_are_spans_row_by_row(parts):
    """Words, then a picture, and so on; pictures that touch stay two."""
    owner, whole = [], []
    for k, (words, squares) in enumerate(parts):
        owner += [-1] * words
        whole.append((len(owner), len(owner) + squares))
        owner += [k] * squares
    one, other = torch.tensor(owner), torch.full((len(owner),), -1)
    assert torch.equal(masks.blocks(one), masks.spans(len(owner), whole))
    rows = masks.blocks(torch.stack([one, other]))
    assert torch.equal(rows[0], masks.spans(len(owner), whole))
    assert torch.equal(rows[1], masks.causal(len(owner)))


def test_keys_close_columns_for_every_row():
    valid = torch.tensor([[True, True, False], [False, True, True]])
    closed = masks.keys(valid)
    assert closed.shape == (2, 1, 3)
    assert torch.equal(closed.expand(2, 4, 3)[1, 3], valid[1])


def test_both():
    a, b = masks.causal(4), masks.packed(torch.tensor([0, 0, 1, 1]))
    assert torch.equal(masks.both(a, b), table(4, lambda i, j: j <= i and i // 2 == j // 2))
    assert masks.both(a, None) is a
    assert masks.both(None, b) is b
    assert masks.both(None, None) is None


OWN = {
    "none": None,
    "(L, L)": masks.causal(3),
    "(B, L, L)": masks.causal(3).expand(2, 3, 3),
    "row": masks.causal(3)[1:2],
}
SEEN = {
    "none": None,
    "(B, 1, M)": masks.keys(torch.tensor([[True, False], [True, True]])),
    "(1, M)": torch.tensor([[True, False]]),
    "(L, M)": torch.tensor([[True, False], [False, True], [True, True]]),
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("seen", SEEN)
def test_beside_puts_one_mask_after_the_other(own, seen):
    a, b = OWN[own], SEEN[seen]
    found = masks.beside(a, b, 3, 2)
    if a is None and b is None:
        assert found is None
        return
    whole = lambda mask, columns: torch.ones(2, 3, columns, dtype=torch.bool) if mask is None else mask
    expected = torch.cat([whole(a, 3).expand(2, 3, 3), whole(b, 2).expand(2, 3, 2)], -1)
    assert torch.equal(found.expand(2, 3, 5), expected)
    assert found.dtype == torch.bool


def changes(mask: torch.Tensor | None, place: int, n: int = 6) -> list[bool]:
    """Which tokens of a row of n, through two blocks, differ by as much as a bit when token `place` is another."""
    blocks = initialised(lambda: [Block(16, 4), Block(16, 4)], 0)
    x = randn((1, n, 16), seeded(0))
    other = x.clone()
    other[:, place] = randn((1, 16), seeded(1))
    with torch.no_grad():
        for block in blocks:
            x, other = block(x, mask=mask), block(other, mask=mask)
    return (x != other).any(-1)[0].tolist()


LEAKS = {
    "causal": (masks.causal(6), lambda i, j: j <= i),
    "prefix": (masks.prefix(3, 6), lambda i, j: j <= i or max(i, j) < 3),
    "packed": (masks.packed(torch.tensor([0, 1, 1, 0, 2, 2])), lambda i, j: "011022"[i] == "011022"[j]),
    "temporal": (masks.temporal(3, 2), lambda i, j: j // 2 <= i // 2),
    "blocks": (
        masks.blocks(torch.tensor([-1, 0, 0, 1, 1, -1])),
        lambda i, j: j <= i or ("-0011-"[i] == "-0011-"[j] != "-"),
    ),
    "none": (None, lambda i, j: True),  # the control: without a mask a token changes all
}


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("name", LEAKS)
def test_nothing_leaks_and_nothing_else_is_closed(name, place):
    mask, rule = LEAKS[name]
    assert changes(mask, place) == [rule(i, place) for i in range(6)]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: masks.prefix(5, 4), "first"),
        (lambda: masks.prefix(-1, 4), "first"),
        (lambda: masks.keys(torch.ones(2, 3)), "valid"),
        (lambda: masks.keys(torch.ones(3, dtype=torch.bool)), "valid"),
        (lambda: masks.packed(torch.zeros(1, 2, 3)), "owner"),
    ],
)
def test_unusable_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .+, expected .+"):
        call()
