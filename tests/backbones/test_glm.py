"""The transformer whose patches have codes added: one code a patch, and none where it is dropped."""

import pytest
import torch

from minidiff.backbones.glm import Glm
from minidiff.randomness import initialised, randn, seeded

X, T = randn((2, 3, 8, 12), seeded(0)), torch.tensor([0.3, 0.8])
CODES = torch.randint(9, (2, 2, 3), generator=seeded(1))


def small(depth: int = 2, **options) -> Glm:
    net = initialised(lambda: Glm(9, 3, 4, 32, depth, 4, **options), 0).eval().requires_grad_(False)
    for k, p in enumerate([*net.modulations.parameters(), *net.last.parameters(), *net.head.parameters()]):
        p.add_(0.1 * randn(p.shape, seeded(k)))  # what begins at zero
    return net


def test_at_first_the_answer_is_zero():
    assert not bool(initialised(lambda: Glm(9), 0)(X, T, codes=CODES).any())


def test_without_blocks_a_code_reaches_its_own_patch_alone():
    net, other = small(0), CODES.clone()
    other[:, 1, 2] = (other[:, 1, 2] + 1) % 9
    changed = (net(X, T, codes=CODES) != net(X, T, codes=other)).any(1)
    assert bool(changed[:, 4:, 8:].all())
    assert not bool(changed[:, :4].any() or changed[:, :, :8].any())
    assert bool((small()(X, T, codes=CODES) != small()(X, T, codes=other)).any(1)[:, :4, :4].any())  # blocks mix


def test_what_is_dropped_is_not_looked_at():
    net, some = small(), torch.zeros(2, 2, 3, dtype=torch.bool)
    some[:, 0] = True
    other = torch.where(some, (CODES + 1) % 9, CODES)
    assert torch.equal(net(X, T, codes=CODES, dropped=some), net(X, T, codes=other, dropped=some))
    assert not torch.allclose(net(X, T, codes=CODES), net(X, T, codes=other), atol=1e-3)  # the control
    whole = torch.tensor([True, False])
    a, b = net(X, T, codes=CODES, dropped=whole), net(X, T, codes=CODES)
    assert torch.equal(a[1], b[1])
    assert not torch.allclose(a[0], b[0], atol=1e-3)


def test_padding_of_a_context_is_not_looked_at():
    net, words = small(context_dim=6), randn((2, 4, 6), seeded(2))
    seen = torch.tensor([[True] * 3 + [False]] * 2)
    a = net(X, T, codes=CODES, context=words, context_mask=seen)
    assert torch.allclose(a, net(X, T, codes=CODES, context=words[:, :3]), atol=1e-6)
    assert not torch.allclose(a, net(X, T, codes=CODES, context=words), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small()(X, T, codes=CODES[:, :1]), r"codes: .*shape \(2, 2, 3\): one for each patch"),
        (lambda: small()(X, T, codes=CODES.float()), "codes: .*int64"),
        (lambda: small()(X, T, codes=CODES + 9), "codes: .*codes 0 … 8"),
        (lambda: small()(X[:, :, :7], T, codes=CODES), r"x_t: .*divisible by \(4, 4\)"),
        (lambda: small()(X, T, codes=CODES, dropped=torch.zeros(2)), r"dropped: .*bool, shape \(2, 2, 3\) or \(2,\)"),
        (lambda: small()(X, T, codes=CODES, context=X[:, 0]), "context: .*nothing"),
        (lambda: Glm(9, dim=36, heads=6), "heads: .*multiple of 4"),
    ],
    ids=["grid", "float", "range", "size", "dropped", "context", "heads"],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
