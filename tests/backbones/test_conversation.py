"""The causal transformer of texts and codes in turns: nothing leaks back; read code by code it is the same."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.backbones.conversation import Conversation, Reader
from minidiff.encoders.tokenizer import PAD
from minidiff.nn import masks
from minidiff.randomness import initialised, seeded

VOCAB, LENGTH, SIZE, SIDE = 20, 5, 11, 2
TOKENS = torch.tensor([[[1, 5, 6, 2, PAD], [1, 7, 2, PAD, PAD]], [[1, 8, 9, 10, 2], [1, 2, PAD, PAD, PAD]]])
CODES = torch.randint(SIZE, (2, 2, SIDE, SIDE), generator=seeded(0))
NULL = torch.tensor([1, 2, PAD, PAD, PAD])


def small(**options) -> Conversation:
    return initialised(lambda: Conversation(VOCAB, LENGTH, SIZE, SIDE, 32, 2, **options), 0).eval()


def flat(words: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Answers in the order of the sequence, each at the place of the token that gave it: (B, N, …) of one width."""
    width = max(words.shape[-1], codes.shape[-1])
    parts = [F.pad(part, (0, width - part.shape[-1])) for part in (words, codes)]
    return torch.cat(parts, 2).flatten(1, 2)


def changed_by(where: tuple[int, int], of_codes: bool) -> torch.Tensor:
    """Which answers differ, to the bit, when one token of the first row is another."""
    tokens, codes = TOKENS.clone(), CODES.clone().flatten(2)
    if of_codes:
        codes[0][where] = (codes[0][where] + 1) % SIZE
    else:
        tokens[0][where] = 15
    net = small()
    a, b = flat(*net(TOKENS, CODES)), flat(*net(tokens, codes.unflatten(2, (SIDE, SIDE))))
    assert torch.equal(a[1], b[1])
    return (a[0] != b[0]).any(-1)


ANSWERS = LENGTH - 1 + SIDE**2
"""Of a turn: after its words but the last place, after BEGIN, after its codes but the last."""


@torch.no_grad()
@pytest.mark.parametrize("turn", [0, 1])
def test_a_later_token_changes_nothing_before_it(turn):
    for word in range(1, 3):  # the answer after a word is at its own place
        changed, first = changed_by((turn, word), False), turn * ANSWERS + word
        assert changed.tolist()[:first] == [False] * first
        assert bool(changed[[k for k in range(first, 2 * ANSWERS) if k % ANSWERS != 3 or k == first]].all())
    for code in range(SIDE**2):  # the first answer that can see code k is the one about code k + 1
        changed, first = changed_by((turn, code), True), turn * ANSWERS + LENGTH - 1 + code + 1
        assert changed.tolist()[:first] == [False] * first
        assert changed.tolist()[first:] == [k % ANSWERS != 3 or turn == 0 for k in range(first, 2 * ANSWERS)]


@torch.no_grad()
def test_without_the_mask_it_would_leak(monkeypatch):
    monkeypatch.setattr(masks, "causal", lambda n, device=None: torch.ones(n, n, dtype=torch.bool))
    assert bool(changed_by((1, 2), True)[:ANSWERS].any())


@torch.no_grad()
def test_padding_means_nothing():
    net, other = small(), TOKENS.clone()
    wide = small()
    with torch.no_grad():
        wide.word.weight[PAD] += 5
    assert torch.equal(net(TOKENS, CODES)[1], wide(TOKENS, CODES)[1])
    other[0, 0, 3], other[0, 0, 4] = 15, 2  # the control: words in its place
    assert not torch.allclose(net(TOKENS, CODES)[1][0], net(other, CODES)[1][0], atol=1e-3)


@torch.no_grad()
def test_code_by_code_it_is_the_same():
    net = small()
    whole = net(TOKENS, CODES)[1][:, 1]
    reader, parts = Reader(net, TOKENS, CODES[:, :1]), []
    for k in range(SIDE**2):
        parts.append(reader.logits)
        if k + 1 < SIDE**2:
            reader.read(CODES[:, 1].flatten(1)[:, k : k + 1])
    assert (torch.stack(parts, 1) - whole).abs().max() <= 1e-5
    assert (torch.stack(parts, 1) - net(TOKENS, CODES)[1][:, 0]).abs().max() > 1e-2  # the control: the turn before


@torch.no_grad()
def test_the_likeliest_codes_are_those_of_the_whole_sequence_one_by_one():
    net, drawn = small(), torch.zeros(2, SIDE**2, dtype=torch.int64)
    said = net.sample(TOKENS, CODES[:, :1], seeded(0), temperature=0.0)
    for k in range(SIDE**2):
        both = torch.stack([CODES[:, 0], drawn.unflatten(1, (SIDE, SIDE))], 1)
        drawn[:, k] = net(TOKENS, both)[1][:, 1, k].argmax(-1)
    assert torch.equal(said.flatten(1), drawn)


@torch.no_grad()
def test_guidance_leads_away_from_the_empty_text():
    """The second row's last text is empty already: w changes nothing there."""
    net, draw = small(), seeded([0, 1])
    plain = net.sample(TOKENS, CODES[:, :1], draw, 1.0)
    guided = net.sample(TOKENS, CODES[:, :1], seeded([0, 1]), 1.0, 1000.0, NULL)
    assert torch.equal(plain[1], guided[1])
    assert not torch.equal(plain[0], guided[0])
    alone = net.sample(TOKENS[:1], CODES[:1, :1], seeded([0]), 1.0, 1000.0, NULL)
    assert torch.equal(alone[0], guided[0])  # a picture does not depend on its batch


def test_losses_are_cross_entropies():
    net = small(weight=3.0)
    words, codes = (part.log_softmax(-1).detach() for part in net(TOKENS, CODES))
    text, drawn = (part.detach() for part in net.losses(TOKENS, CODES))
    wanted = [[[5, 6, 2], [7, 2]], [[8, 9, 10, 2], [2]]]  # END is asked for, padding is not
    for i in range(2):
        for turn in range(2):
            said = wanted[i][turn]
            by_hand = -sum(float(words[i, turn, k, word]) for k, word in enumerate(said)) / len(said)
            assert float(text[i, turn]) == pytest.approx(by_hand, rel=1e-5)
            places = enumerate(CODES[i, turn].flatten().tolist())
            by_hand = -sum(float(codes[i, turn, k, code]) for k, code in places) / SIDE**2
            assert float(drawn[i, turn]) == pytest.approx(by_hand, rel=1e-5)
    assert torch.allclose(net.loss(TOKENS, CODES).detach(), ((text + 3 * drawn) / 4).mean(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small()(TOKENS[..., :4], CODES), r"tokens: .*shape \(…, 5\)"),
        (lambda: small()(TOKENS + 20, CODES), r"tokens: .*ids 0 … 19"),
        (lambda: small()(TOKENS, CODES + SIZE), r"codes: .*codes 0 … 10"),
        (lambda: small()(TOKENS, CODES[:, :1]), r"codes: .*\(2, 2, 2, 2\)"),
        (lambda: small().sample(TOKENS, CODES, seeded(0)), r"codes: .*\(2, 1, 2, 2\)"),
        (lambda: small().sample(TOKENS, CODES[:, :1], seeded(0), w=1.0), "null: "),
    ],
    ids=["length", "words", "codes", "turns", "last", "null"],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
