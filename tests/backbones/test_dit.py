"""The diffusion transformer: identity at first, patches in order, text that is read, and nothing that leaks."""

import pytest
import torch
from minidiff.nn.modulation import ModulatedBlock

from minidiff.backbones.dit import DiT
from minidiff.shapes import patchify, unpatchify


def trained(**kwargs) -> DiT:
    """A DiT whose zero-initialised parameters are no longer zero."""
    torch.manual_seed(0)
    net = DiT(side=8, patch=2, dim=32, depth=2, heads=2, **kwargs)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net


def test_a_new_network_answers_zero_and_its_blocks_are_the_identity():
    net, x = DiT(side=8, patch=2, dim=32, depth=2, heads=2), torch.randn(2, 3, 8, 8)
    assert torch.equal(net(x, torch.rand(2)), torch.zeros_like(x))
    z = torch.randn(2, 5, 32)
    assert torch.equal(ModulatedBlock(32, 2)(z, torch.randn(2, 32)), z)
    assert float(trained()(x, torch.rand(2)).abs().mean()) > 0.01


def test_a_block_is_what_the_paper_writes():
    """adaLN-Zero by hand, in fp64, one token and one head at a time (arXiv 2212.09748, figure 3)."""
    torch.manual_seed(1)
    block, x, c = ModulatedBlock(8, 2).double(), torch.randn(1, 3, 8).double(), torch.randn(1, 8).double()
    torch.nn.init.normal_(block.modulation.weight)
    scale1, shift1, gate1, scale2, shift2, gate2 = block.modulation(torch.nn.functional.silu(c))[0].split(8)
    norm = lambda v: (v - v.mean(-1, keepdim=True)) / (v.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    h = norm(x[0]) * (1 + scale1) + shift1
    q, k, v = block.qkv(h).split(8, dim=-1)
    heads = [(q[:, s] @ k[:, s].T / 2.0).softmax(-1) @ v[:, s] for s in (slice(0, 4), slice(4, 8))]
    y = x[0] + gate1 * block.out(torch.cat(heads, -1))
    y = y + gate2 * block.mlp(norm(y) * (1 + scale2) + shift2)
    torch.testing.assert_close(block(x, c)[0], y, atol=1e-12, rtol=0)


def test_patches_go_row_by_row_and_back():
    x = torch.arange(2 * 3 * 4 * 8.0).reshape(2, 3, 4, 8)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 8, 12)
    torch.testing.assert_close(tokens[1, 5].reshape(2, 2, 3).permute(2, 0, 1), x[1, :, 2:4, 2:4])
    assert torch.equal(unpatchify(tokens, 2, 4, 8), x)
    with pytest.raises(ValueError, match=r"x: got .*divisible by 3"):
        patchify(x, 3)
    with pytest.raises(ValueError, match=r"tokens: got .*expected shape"):
        unpatchify(tokens, 2, 4, 4)


def test_the_text_is_read_and_its_order_too():
    net, x, t = trained(vocabulary=9, text_length=4), torch.randn(1, 3, 8, 8), torch.tensor([0.5])
    a, b, c = (net(x, t, tokens=torch.tensor([row])) for row in ([4, 5, 6, 2], [6, 5, 4, 2], [4, 5, 7, 2]))
    assert float((a - b).abs().max()) > 1e-3
    assert float((a - c).abs().max()) > 1e-3
    assert torch.equal(a, net(x, t, tokens=torch.tensor([[4, 5, 6, 2]])))


def test_pictures_of_a_batch_do_not_mix():
    net, x, t = trained(), torch.randn(4, 3, 8, 8), torch.rand(4)
    torch.testing.assert_close(net(x, t)[2:3], net(x[2:3], t[2:3]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DiT(side=10, patch=4), "patch: got 4, expected a divisor of side = 10"),
        (lambda: DiT(dim=30, heads=4), "heads: got 4, expected a divisor of dim = 30"),
        (lambda: trained()(torch.zeros(1, 3, 16, 16), torch.rand(1)), "x_t: got"),
        (lambda: trained()(torch.zeros(1, 3, 8, 8), torch.rand(1), tokens=torch.zeros(1, 4).long()), "reads no text"),
        (lambda: trained(vocabulary=9, text_length=4)(torch.zeros(1, 3, 8, 8), torch.rand(1)), "tokens: got NoneType"),
        (
            lambda: trained(vocabulary=9, text_length=4)(
                torch.zeros(1, 3, 8, 8), torch.rand(1), tokens=torch.zeros(1, 5, dtype=torch.int64)
            ),
            "L ≤ 4",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
