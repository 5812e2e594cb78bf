"""A language model that answers, is shown pictures, and lends its hidden states."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.conditioning import Frozen
from minidiff.encoders.language import LanguageModel, Layers, Registers
from minidiff.encoders.tokenizer import END, PAD
from minidiff.randomness import initialised

TOKENS = torch.tensor([[1, 7, 8, 9, 2, 0, 0], [1, 9, 4, 5, 6, 7, 2]])


def model(**options):
    made = lambda: LanguageModel(12, 10, dim=16, depth=3, heads=2, **options)
    return initialised(made, 0).eval()


def pictures(n: int = 2):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_nothing_that_comes_later_changes_what_was_said():
    lm, changed = model(), TOKENS.clone()
    changed[:, 4:] = 3
    a, b = lm(TOKENS), lm(changed)
    assert torch.equal(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_squares_see_one_another_and_the_text_sees_them():
    lm, x = model(picture=(8, 4)), pictures()
    assert lm.states(TOKENS, x)[-1].shape == (2, 4 + 7, 16)
    moved = x.clone()
    moved[:, :, 4:, 4:] = 0  # the last square
    a, b = lm.states(TOKENS, x)[-1], lm.states(TOKENS, moved)[-1]
    assert bool(((a - b).abs().amax(-1) > 1e-6).all())  # every square and every word has seen it
    said = TOKENS.clone()
    said[:, 1:] = 3
    assert torch.equal(lm.states(said, x)[-1][:, :4], a[:, :4])  # squares see no words


def test_the_loss_is_the_mean_over_the_answer_and_a_share_of_the_rest():
    lm = model(other=0.5)
    answer = torch.zeros_like(TOKENS, dtype=torch.bool)
    answer[0, 3:5] = True  # 9 and END
    log_p = F.log_softmax(lm(TOKENS), -1).detach()
    each = lambda i, j: -float(log_p[i, j - 1, TOKENS[i, j]])
    first = (each(0, 3) + each(0, 4)) / 2 + 0.5 * (each(0, 1) + each(0, 2)) / 2
    second = 0.5 * sum(each(1, j) for j in range(1, 7)) / 6  # no answer: the rest alone
    assert lm.loss(TOKENS, answer).tolist() == pytest.approx([first, second], rel=1e-5)
    assert first != pytest.approx((each(0, 3) + each(0, 4)) / 2, rel=1e-3)  # the control


def test_answers_are_the_most_probable_words_until_the_end():
    lm = model()
    with torch.no_grad():
        lm.bias[END] = -100.0  # never ends
    said = lm.answer(TOKENS[:, :4].masked_fill(TOKENS[:, :4] == 2, 0), most=5)
    row = TOKENS[:1, :4]
    for i in range(5):
        word = lm(row)[0, -1].argmax()
        assert int(said[0, i]) == int(word)
        row = torch.cat([row, word[None, None]], 1)
    with torch.no_grad():
        lm.bias[END] = 100.0
    assert lm.answer(TOKENS[:, :4], most=5).tolist() == [[END, PAD, PAD, PAD, PAD]] * 2


def test_an_answer_does_not_depend_on_the_padding_or_on_the_batch():
    lm, questions = model(), torch.tensor([[1, 7, 8, 0, 0], [1, 9, 4, 5, 6]])
    both = lm.answer(questions, most=4)
    assert torch.equal(both[0], lm.answer(questions[:1, :3], most=4)[0])
    assert torch.equal(both[1], lm.answer(questions[1:], most=4)[0])


# ---------------------------------------------------------------- its states


def test_layers_are_counted_from_both_ends_and_normalised_one_by_one():
    lm = model()
    states = lm.states(TOKENS)
    norm = lambda k: F.layer_norm(states[k], (16,))
    assert torch.equal(Layers(lm, (-2,)).encode(TOKENS).context, norm(2))
    several = Layers(lm, (1, 3))
    assert several.dim == 32
    assert torch.equal(several.encode(TOKENS).context, torch.cat([norm(1), norm(3)], -1))
    assert not torch.allclose(norm(2), norm(3))


def test_the_template_is_cut_at_no_loss():
    """Under a causal mask its tokens are the same whatever the caption is: they hold nothing of it."""
    lm = model()
    other = TOKENS.clone()
    other[:, 3:] = 8
    cut, whole = Layers(lm, (-1,), cut=3), Layers(lm, (-1,))
    a, b = whole.encode(TOKENS).context, whole.encode(other).context
    assert torch.equal(a[:, :3], b[:, :3])
    assert not torch.allclose(a[:, 3:5], b[:, 3:5])  # the control: what is kept does depend on it
    said = cut.encode(TOKENS)
    assert torch.equal(said.context, a[:, 3:])
    assert torch.equal(said.mask, (TOKENS != PAD)[:, 3:])


def test_squares_come_first_and_are_never_cut():
    lm = model(picture=(8, 4))
    said = Layers(lm, (-1,), cut=2).encode(TOKENS, pictures())
    assert said.context.shape == (2, 4 + 5, 16)
    assert torch.equal(said.mask, torch.cat([torch.ones(2, 4, dtype=torch.bool), (TOKENS != PAD)[:, 2:]], 1))
    assert torch.equal(said.context[:, :4], F.layer_norm(lm.states(TOKENS, pictures())[-1][:, :4], (16,)))


def test_registers_stand_where_padding_was_and_nowhere_else():
    inner = Frozen(Layers(model(), (-1,)), 10, context_dim=6)
    registers = Registers(inner, 9, 6)
    given, plain = registers(2, tokens=TOKENS), inner(2, tokens=TOKENS)
    told = F.pad(TOKENS != PAD, (0, 2))
    assert given["context"].shape == (2, 9, 6)
    assert bool(given["context_mask"].all())
    assert torch.equal(given["context"][told], plain["context"][TOKENS != PAD])
    assert torch.equal(given["context"][~told], registers.registers.expand(2, -1, -1)[~told])
    longer = registers(2, tokens=F.pad(TOKENS, (0, 1)))  # more padding changes nothing
    assert torch.allclose(longer["context"], given["context"], atol=1e-6)
    with pytest.raises(ValueError, match=r"tokens: .*expected at most 5 that are looked at"):
        Registers(inner, 5, 6)(2, tokens=TOKENS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model()(torch.zeros(2, 11, dtype=torch.int64)), "tokens: .*at most 10"),
        (lambda: model()(torch.full((1, 3), 12)), r"tokens: .*ids 0 … 11"),
        (lambda: model().states(TOKENS, pictures()), "pictures: .*built without `picture`"),
        (lambda: model(picture=(8, 3)), r"picture: got \(8, 3\), expected a side that the patch divides"),
        (lambda: model(picture=(8, 4)).states(TOKENS, torch.zeros(2, 3, 4, 4)), "pictures: "),
        (lambda: Layers(model(), (5,)), "layers: got"),
        (lambda: Layers(model(), ()), "layers: got"),
        (lambda: Layers(model(), (-1,), cut=7).encode(TOKENS), "tokens: .*more than the 7 that are cut"),
        (lambda: model().loss(TOKENS, torch.zeros(2, 3, dtype=torch.bool)), "answer: "),
    ],
    ids=["long", "outside", "blind", "patch", "side", "layer", "no layers", "cut", "answer"],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
