"""DiT's four conditionings: what each begins as, that it listens, what it costs, that all of it learns."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minidiff.backbones.dit import AS_CONTEXT, CONDITIONINGS, DiT, equal_hidden
from minidiff.nn.block import attention_maps
from minidiff.randomness import initialised, randn, seeded

DIM, DEPTH = 32, 3
X, T, LABEL = randn((2, 3, 8, 8), seeded(0)), torch.tensor([0.3, 0.7]), randn((2, DIM), seeded(1))
every = pytest.mark.parametrize("how", CONDITIONINGS)


def build(how: str, **options) -> DiT:
    return initialised(lambda: DiT(3, (8, 8), 2, DIM, DEPTH, 2, conditioning=how, **options), 0)


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def flops(net: DiT) -> int:
    with FlopCounterMode(display=False) as counter:
        net(X, T, vector=LABEL)
    return counter.get_total_flops()


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


@torch.no_grad()
def test_only_adaln_zero_begins_as_the_identity():
    """Every block gives back its tokens to the bit and the answer is 0; with the others neither is so."""
    tokens, cond, told = randn((2, 16, DIM), seeded(2)), randn((2, DIM), seeded(3)), randn((2, 2, DIM), seeded(4))
    for how in CONDITIONINGS:
        net = build(how)
        given = told if how == "cross-attention" else None
        moved = [gap(block(tokens, cond, given), tokens) for block in net.blocks]
        answer = float(net(X, T, vector=LABEL).abs().max())
        if how == "adaLN-Zero":
            assert moved == [0.0] * DEPTH
            assert answer == 0.0
        else:
            assert min(moved) > 0.05, (how, moved)
            assert answer > 0.05, (how, answer)


@torch.no_grad()
@pytest.mark.parametrize("how", CONDITIONINGS[:3])
def test_time_and_label_are_heard(how):
    net = build(how)
    out = net(X, T, vector=LABEL)
    assert gap(net(X, T, vector=LABEL.flip(0)), out) > 1e-3
    assert gap(net(X, T.flip(0), vector=LABEL), out) > 1e-3
    assert gap(net(X, T), out) > 1e-3  # the label's token (or summand) taken away
    assert gap(net(X[1:], T[1:], vector=LABEL[1:]), out[1:]) <= 1e-5  # pictures of a batch do not mix


@torch.no_grad()
def test_adaln_hears_only_the_sum_of_time_and_label():
    """Moved by opposite amounts, the two have the same sum; as two tokens each is seen."""
    for how in CONDITIONINGS[:3]:
        net = build(how)
        time, moved = net.time(T), randn((2, DIM), seeded(5))
        net.time = torch.nn.Identity()
        net.time.forward = lambda t, now=time: now
        out = net(X, T, vector=LABEL)
        net.time.forward = lambda t, now=time + moved: now
        assert (gap(net(X, T, vector=LABEL - moved), out) <= 1e-5) == (how == "adaLN")


@torch.no_grad()
@pytest.mark.parametrize("told", [1, 2])
def test_tokens_stand_in_the_sequence_or_beside_it(told):
    """Without a label there is one, the time's."""
    shapes = {"in-context": {(16 + told,) * 2}, "cross-attention": {(16, 16), (16, told)}}
    for how in CONDITIONINGS:
        net = build(how)
        with attention_maps(net) as maps:
            assert net(X, T, vector=LABEL if told == 2 else None).shape == X.shape
        assert {tuple(m.shape[2:]) for found in maps.values() for m in found} == shapes.get(how, {(16, 16)})


def test_what_each_adds_to_a_block():
    """Attention and an MLP of 4·dim are 12·dim² and biases; what tells them of time and label comes on top."""
    plain = 12 * DIM**2 + 9 * DIM
    norms = 2 * 2 * DIM
    added = {
        "in-context": norms,
        "cross-attention": norms + 4 * DIM**2 + 4 * DIM + 2 * DIM,
        "adaLN": 4 * DIM**2 + 4 * DIM,
        "adaLN-Zero": 6 * DIM**2 + 6 * DIM,
    }
    for how in CONDITIONINGS:
        assert size(build(how).blocks[0]) == plain + added[how]


@every
@pytest.mark.parametrize("options", [{}, {"dim": 48, "depth": 4}, {"dim": 96, "depth": 6, "patch": 4}])
def test_equal_parameters(how, options):
    hidden, aim = equal_hidden(how, **options), size(DiT(**options))
    found = size(DiT(**options, conditioning=how, hidden=hidden))
    assert abs(found - aim) <= 0.01 * aim
    assert (hidden == 4 * options.get("dim", 128)) == (how == "adaLN-Zero")
    assert how == "adaLN-Zero" or size(DiT(**options, conditioning=how)) < 0.95 * aim  # the control


def test_work_by_hand():
    """In-context adds 2 of 16 tokens; modulation is made once a picture, and so costs least for its parameters."""
    found = {how: flops(build(how)) for how in CONDITIONINGS}
    batch, tokens = 2, 16
    outside = 2 * batch * (64 * DIM + DIM * DIM + tokens * 12 * DIM * 2)  # time, stem, head
    block = lambda n: 2 * batch * n * 12 * DIM**2 + 2 * batch * 2 * n * n * DIM
    assert found["in-context"] == outside + DEPTH * block(tokens + 2)
    modulated = 2 * batch * DIM * 2 * DIM  # the last norm's
    assert found["adaLN-Zero"] == outside + modulated + DEPTH * (block(tokens) + 2 * batch * 6 * DIM**2)
    assert found["adaLN"] == outside + modulated + DEPTH * (block(tokens) + 2 * batch * 4 * DIM**2)
    assert found["cross-attention"] > 1.1 * found["adaLN-Zero"]
    assert found["adaLN"] < found["adaLN-Zero"] < found["in-context"]


@every
def test_gradients_reach_every_parameter(how):
    """Zeros let none through to what lies before them: in adaLN-Zero the head learns first, then the gates, then all.

    A key's bias is left out: it moves all scores of a row by the same, which softmax does not see.
    """
    net, reached = build(how), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    named = {name: p for name, p in net.named_parameters() if not name.endswith(".k.bias")}
    for _ in range(3):
        optimizer.zero_grad()
        (net(X, T, vector=LABEL) - X).square().mean().backward()
        optimizer.step()
        reached.append({name for name, p in named.items() if float(p.grad.abs().max()) > 0})
    first = {"head.weight", "head.bias"} if how == "adaLN-Zero" else set(named)
    assert reached[0] == first
    assert reached[-1] == set(named)


WRONG = [
    (lambda: build("adaln"), "conditioning: got 'adaln', expected one of ('in-context',"),
    (lambda: build("adaLN", shared=True), "shared: got True, expected False with 'adaLN'"),
    *((lambda how=how: build(how, context_dim=8), "context_dim: got 8, expected None") for how in AS_CONTEXT),
    *((lambda how=how: build(how)(X, T, context=LABEL[:, None]), "context: got") for how in AS_CONTEXT),
    *((lambda how=how: build(how)(X, T, vector=LABEL[:, 1:]), "vector: got") for how in AS_CONTEXT),
    *((lambda how=how: build(how)(X, torch.rand(2, 1, 8, 8)), "t: got") for how in AS_CONTEXT),
    (lambda: equal_hidden("adaln"), "conditioning: got 'adaln'"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as raised:
        call()
    assert str(raised.value).startswith(message)
