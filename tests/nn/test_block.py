"""Attention and the block against PyTorch's own layer, the papers by hand, and the definition of a mask."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from minidiff.nn import masks, rope
from minidiff.nn.block import Attend, Attention, Block, Norm, attention_maps, joint, quick_gelu
from minidiff.nn.conv import PixelAttention
from minidiff.randomness import randn, seeded

WIDE = 12  # of a context


def shaken(module: torch.nn.Module, seed: int = 0, std: float = 0.3) -> torch.nn.Module:
    """All parameters random, so that nothing is 0 or 1 by construction."""
    generator = seeded(seed)
    for parameter in module.parameters():
        parameter.data = std * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def random_block(seed: int = 0, **options) -> Block:
    return shaken(Block(16, 4, **options), seed)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def split(x: torch.Tensor, heads: int = 4) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def softmax_of(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(QKᵀ/√d)V of (B, heads, L, d), heads side by side again: (B, L, heads·d)."""
    return ((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


# --- the block of the plain transformer


def torch_layer(block: Block, dim: int, heads: int) -> torch.nn.TransformerEncoderLayer:
    """PyTorch's pre-norm layer with the weights of `block`."""
    layer = torch.nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    parts = (block.attention.q, block.attention.k, block.attention.v)
    layer.self_attn.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach()
    layer.self_attn.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach()
    for theirs, mine in (
        (layer.self_attn.out_proj, block.attention.out),
        (layer.norm1, block.norm1),
        (layer.norm2, block.norm2),
        (layer.linear1, block.up),
        (layer.linear2, block.down),
    ):
        theirs.load_state_dict(mine.state_dict())
    return layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_block_equals_pytorchs_layer(causal, padded):
    x, block = randn((3, 6, 16), seeded(0)), random_block()
    valid = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    triangle = torch.ones(6, 6, dtype=torch.bool).triu(1) if causal else None  # PyTorch's masks are True where closed
    expected = torch_layer(block, 16, 4)(x, src_mask=triangle, src_key_padding_mask=~valid if padded else None)
    closed = masks.keys(valid) if padded else None
    assert gap(block(x, mask=masks.both(masks.causal(6) if causal else None, closed)), expected) <= 1e-5
    assert gap(block(x, mask=masks.both(None if causal else masks.causal(6), closed)), expected) > 1e-2


def test_cross_attention_is_softmax_of_scaled_products():
    x, context = randn((2, 5, 8), seeded(0)), randn((2, 3, WIDE), seeded(1))
    layer = Attention(8, heads=2, context_dim=WIDE, inner=12)
    q, k, v = split(layer.q(x), 2), split(layer.k(context), 2), split(layer.v(context), 2)
    assert q.shape == (2, 2, 5, 6)
    assert gap(layer(x, context), layer.out(softmax_of(q, k, v))) <= 1e-6
    assert gap(layer(x, context), layer.out(softmax_of(q, v, k))) > 1e-2


@pytest.mark.parametrize("merged", [False, True], ids=["cross", "merged"])
def test_a_masked_context_is_a_shorter_context(merged):
    x, context = randn((2, 5, 16), seeded(0)), randn((2, 4, WIDE), seeded(1))
    block, valid = random_block(context_dim=WIDE, merged=merged), (torch.arange(4) < 3).expand(2, 4)
    shorter = block(x, context=context[:, :3])
    assert gap(block(x, context=context, context_mask=masks.keys(valid)), shorter) <= 1e-5
    assert gap(block(x, context=context), shorter) > 1e-2


def test_queries_and_keys_are_normed_by_their_root_mean_square():
    x, layer = randn((2, 5, 16), seeded(0)), shaken(Attention(16, 4, qk_norm=True), std=0.5)
    rms = lambda y, weight: y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    q, k, v = split(layer.q(x)), split(layer.k(x)), split(layer.v(x))
    by_hand = layer.out(softmax_of(rms(q, layer.norm_q.weight), rms(k, layer.norm_k.weight), v))
    assert gap(layer(x), by_hand) <= 1e-5
    assert gap(layer(x), layer.out(softmax_of(q, k, v))) > 1e-2
    assert not list(Attention(16, 4).norm_q.parameters())


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_merged_context_shares_the_softmax_of_the_tokens(qk_norm):
    x, context = randn((2, 5, 16), seeded(0)), randn((2, 3, WIDE), seeded(1))
    block = random_block(context_dim=WIDE, merged=True, qk_norm=qk_norm)
    h, own = block.norm1(x)[0], block.attention
    normed = own.norm_k if qk_norm else lambda k: k
    k = torch.cat([normed(split(own.k(h))), normed(split(block.context_k(context)))], 2)
    v = torch.cat([split(own.v(h)), split(block.context_v(context))], 2)
    y = x + own.out(softmax_of(own.norm_q(split(own.q(h))), k, v))
    y = y + block.down(F.gelu(block.up(block.norm2(y)[0])))
    assert gap(block(x, context=context), y) <= 1e-5
    assert gap(block(x, context=context.flip(2)), y) > 1e-2


# --- conditions: adaLN-Zero, shared, one per token


def test_a_modulated_block_is_what_the_paper_writes():
    """adaLN-Zero by hand, in fp64, one head at a time (arXiv 2212.09748, figure 3); here scale comes before shift."""
    x, c = torch.randn(1, 3, 8).double(), torch.randn(1, 8).double()
    block = shaken(Block(8, 2, cond_dim=8).double(), std=0.5).double()
    (scale1, shift1, gate1), (scale2, shift2, gate2) = (
        norm.modulation(F.silu(c))[0].split(8) for norm in (block.norm1, block.norm2)
    )
    norm = lambda v: (v - v.mean(-1, keepdim=True)) / (v.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    def by_hand(scale1, shift1):
        h, own = norm(x[0]) * (1 + scale1) + shift1, block.attention
        q, k, v = own.q(h), own.k(h), own.v(h)
        heads = [(q[:, s] @ k[:, s].T / 2.0).softmax(-1) @ v[:, s] for s in (slice(0, 4), slice(4, 8))]
        y = x[0] + gate1 * own.out(torch.cat(heads, -1))
        return y + gate2 * block.down(F.gelu(block.up(norm(y) * (1 + scale2) + shift2)))

    assert gap(block(x, c)[0], by_hand(scale1, shift1)) <= 1e-12
    assert gap(block(x, c)[0], by_hand(shift1, scale1)) > 1e-2


def test_a_new_modulated_block_is_the_identity():
    x, c = randn((2, 5, 16), seeded(0)), randn((2, 24), seeded(1))
    assert torch.equal(Block(16, 4, cond_dim=24)(x, c), x)
    assert torch.equal(Block(16, 4, shared=True)(x, torch.zeros(2, 6 * 16)), x)
    assert gap(Block(16, 4)(x), x) > 1e-2


def test_a_shared_modulation_and_constants_are_private_modulations_that_give_the_same_numbers():
    x, c = randn((2, 5, 16), seeded(0)), randn((2, 16), seeded(1))
    private = random_block(cond_dim=16)
    block = Block(16, 4, shared=True)
    block.load_state_dict(private.state_dict(), strict=False)
    both = [norm.modulation for norm in (private.norm1, private.norm2)]
    for norm, modulation in zip((block.norm1, block.norm2), both):
        norm.constant.data = modulation.bias
    made = torch.cat([F.silu(c) @ modulation.weight.T for modulation in both], -1)  # for all blocks: no bias in it
    assert made.shape == (2, 6 * 16)
    assert gap(block(x, made), private(x, c)) <= 1e-5
    block.norm1.constant.data = torch.zeros(48)
    assert gap(block(x, made), private(x, c)) > 1e-2


@pytest.mark.parametrize("shared", [False, True])
def test_a_condition_per_token_is_that_tokens_own(shared):
    """Tokens that see themselves alone are as good as pictures of one token, each with its own condition."""
    width = 6 * 16 if shared else 24
    x, c = randn((2, 5, 16), seeded(0)), randn((2, 5, width), seeded(1))
    block = random_block(shared=True) if shared else random_block(cond_dim=24)
    together = block(x, c, mask=torch.eye(5, dtype=torch.bool))
    alone = block(x.reshape(10, 1, 16), c.reshape(10, width)).reshape(2, 5, 16)
    assert gap(together, alone) <= 1e-5
    assert gap(block(x, c[:, :1].expand(2, 5, width)), block(x, c[:, 0])) <= 1e-5
    assert gap(together, block(x, c.flip(1), mask=torch.eye(5, dtype=torch.bool))) > 1e-2


# --- several streams, one softmax


def streams(**options) -> tuple[list[Block], list[torch.Tensor]]:
    blocks = [random_block(1, **options), random_block(2, **options)]
    return blocks, [randn((2, 3, 16), seeded(3)), randn((2, 5, 16), seeded(4))]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_two_streams_share_one_softmax_and_nothing_else(qk_norm):
    (a, b), (x, y) = streams(cond_dim=8, qk_norm=qk_norm)
    c = randn((2, 8), seeded(5))

    def by_hand(first: Block, second: Block) -> list[torch.Tensor]:
        pairs, mixed, found = ((first, x), (second, y)), [], []
        normed = [block.norm1(z, c)[0] for block, z in pairs]
        own = [block.attention for block, _ in pairs]
        q = torch.cat([at.norm_q(split(at.q(h))) for at, h in zip(own, normed)], 2)
        k = torch.cat([at.norm_k(split(at.k(h))) for at, h in zip(own, normed)], 2)
        v = torch.cat([split(at.v(h)) for at, h in zip(own, normed)], 2)
        mixed = softmax_of(q, k, v).split([3, 5], 1)
        for (block, z), m in zip(pairs, mixed):
            z = z + block.norm1(z, c)[1] * block.attention.out(m)
            h, gate = block.norm2(z, c)
            found.append(z + gate * block.down(F.gelu(block.up(h))))
        return found

    found = joint([a, b], [x, y], c)
    assert max(map(gap, found, by_hand(a, b))) <= 1e-5
    assert min(map(gap, found, by_hand(b, a))) > 1e-2
    assert gap(found[0], a(x, c)) > 1e-2  # alone it is another thing


def test_two_streams_with_the_same_weights_are_one_block_on_their_sequence():
    (a, b), (x, y) = streams(cond_dim=8)
    c, whole = randn((2, 8), seeded(5)), torch.cat([x, y], 1)
    turn = rope.Rotary(torch.arange(8.0)[:, None], (4,))
    mask = masks.causal(8)
    assert gap(torch.cat(joint([a, a], [x, y], c, mask, turn), 1), a(whole, c, mask=mask, rotate=turn)) <= 1e-5
    assert gap(torch.cat(joint([a, b], [x, y], c, mask, turn), 1), a(whole, c, mask=mask, rotate=turn)) > 1e-2


def test_a_mask_closes_one_stream_to_the_other():
    (a, b), (x, y) = streams()
    open_to = torch.ones(8, 8, dtype=torch.bool)
    open_to[:3, 3:] = False  # the first stream does not look at the second
    for mask, left_alone in ((open_to, True), (None, False)):
        before, after = (joint([a, b], [x, other], mask=mask) for other in (y, y + 1 + y.flip(1)))
        assert torch.equal(before[0], after[0]) == left_alone
        assert gap(before[1], after[1]) > 1e-2
    assert gap(joint([a, b], [x, y], mask=open_to)[0], a(x)) <= 1e-5


def test_each_stream_may_look_at_a_context_of_its_own():
    """A picture and a sound: joint attention, then each looks at its own text; a context is never the other's."""
    a, b = random_block(1, context_dim=WIDE), random_block(2)
    x, y, context = randn((2, 3, 16), seeded(3)), randn((2, 5, 16), seeded(4)), randn((2, 4, WIDE), seeded(6))
    with_text, other_text = (joint([a, b], [x, y], contexts=[c, None]) for c in (context, context.flip(2)))
    assert gap(with_text[0], other_text[0]) > 1e-2
    assert torch.equal(with_text[1], other_text[1])
    with pytest.raises(ValueError, match="context: got"):
        joint([a, b], [x, y], contexts=[context, context])


# --- maps


def pixel(heads: int = 4, **options) -> PixelAttention:
    return shaken(PixelAttention(16, heads, **options))


x6, picture, words = randn((2, 6, 16), seeded(0)), randn((2, 16, 2, 3), seeded(0)), randn((2, 4, WIDE), seeded(1))
VALID = torch.arange(4) < torch.tensor([3, 1])[:, None]
CASES = {
    "block": (random_block(), lambda m: m(x6)),
    "causal": (random_block(qk_norm=True), lambda m: m(x6, mask=masks.causal(6))),
    "rotary": (random_block(), lambda m: m(x6, rotate=rope.Rotary(torch.arange(6.0)[:, None], (4,)))),
    "cross": (random_block(context_dim=WIDE), lambda m: m(x6, context=words)),
    "cross, padded": (random_block(context_dim=WIDE), lambda m: m(x6, context=words, context_mask=masks.keys(VALID))),
    "merged": (random_block(context_dim=WIDE, merged=True), lambda m: m(x6, context=words)),
    "merged, padded": (
        random_block(context_dim=WIDE, merged=True),
        lambda m: m(x6, context=words, mask=masks.causal(6), context_mask=masks.keys(VALID)),
    ),
    "pixels": (pixel(), lambda m: m(picture)),
    "pixels, padded context": (pixel(context_dim=WIDE), lambda m: m(picture, words, masks.keys(VALID))),
    "joint": (torch.nn.ModuleList(streams()[0]), lambda m: joint(list(m), streams()[1])),
    "joint, masked": (torch.nn.ModuleList(streams()[0]), lambda m: joint(list(m), streams()[1], mask=masks.causal(8))),
}


@pytest.mark.parametrize("case", CASES)
def test_maps_are_what_the_module_used(case):
    """Rows sum to 1, and map @ V is the output of the softmax, for every attention of the model."""
    model, call = CASES[case]
    used: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    handles = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: used.__setitem__(name.removesuffix(".attend"), (inputs[2], output))
        )
        for name, module in model.named_modules()
        if isinstance(module, Attend)
    ]
    with attention_maps(model) as maps:
        call(model)
    for handle in handles:
        handle.remove()
    assert maps.keys() == used.keys()
    assert {"cross": 2, "cross, padded": 2}.get(case, 1) == len(maps)
    for name, (v, output) in used.items():
        (found,) = maps[name]
        assert gap(found.sum(-1), torch.ones(found.shape[:-1])) <= 1e-6
        assert gap(found @ v, output) <= 1e-5
        assert gap(found.roll(1, -1) @ v, output) > 1e-2  # the control: the same numbers at the wrong place
        closed = {"causal": found.triu(1), "cross, padded": found[1, ..., 1:] if name == "cross" else found[:0]}
        assert closed.get(case, found[:0]).sum() == 0


def test_a_map_times_values_through_the_output_layer_is_the_modules_output():
    layer = shaken(Attention(16, 4, WIDE), std=0.5)
    with attention_maps(layer) as maps:
        out = layer(x6, words, masks.keys(VALID))
    ((found,),) = maps.values()
    assert gap(layer.back(found @ split(layer.v(words))), out) <= 1e-5
    layer = CASES["pixels"][0]
    with attention_maps(layer) as maps:
        out = layer(picture)
    seen = layer.norm(picture).flatten(2).transpose(1, 2)
    mixed = layer.attention.back(maps["attention"][0] @ split(layer.attention.v(seen)))
    assert gap(picture + mixed.transpose(1, 2).reshape(picture.shape), out) <= 1e-5


def test_hooks_go_and_calls_add_up():
    model = CASES["cross"][0]
    hooks = lambda: sum(len(m._forward_hooks) for m in model.modules())
    with attention_maps(model) as maps:
        for n in (1, 2, 3):
            CASES["cross"][1](model)
            assert [len(found) for found in maps.values()] == [n, n]
        assert hooks() == 2
    assert hooks() == 0
    CASES["cross"][1](model)
    assert [len(found) for found in maps.values()] == [3, 3]
    assert list(maps) == ["attention", "cross"]
    with pytest.raises(RuntimeError, match="stop"), attention_maps(model):
        raise RuntimeError("stop")
    assert hooks() == 0


# --- the rest


def test_quick_gelu_is_close_to_gelu_and_not_equal():
    x = torch.linspace(-6, 6, 1001)
    assert 0.01 < gap(quick_gelu(x), F.gelu(x)) < 0.03


@pytest.mark.parametrize("shape", [(5, 5), (1, 5), (2, 5, 5), (2, 1, 5), (1, 5, 5)])
def test_masks_of_every_shape_mean_the_same(shape):
    x, block, valid = randn((2, 5, 16), seeded(0)), random_block(), torch.arange(5) < 3
    assert gap(block(x, mask=valid.expand(shape)), block(x, mask=valid.expand(2, 5, 5))) <= 1e-6
    assert gap(block(x, mask=valid.expand(shape)), block(x)) > 1e-2


X, C = torch.zeros(2, 5, 16), torch.zeros(2, 3, 8)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Block(16, 3), "heads"),
        (lambda: Block(16, 0), "heads"),
        (lambda: Attention(16, 4, inner=10), "heads"),
        (lambda: Block(16, 4, merged=True), "merged"),
        (lambda: Block(16, 4)(X, context=X), "context"),
        (lambda: Block(16, 4, context_dim=8)(X), "context"),
        (lambda: Block(16, 4, context_dim=8)(X, context=X), "context"),
        (lambda: Block(16, 4, context_dim=8)(X, context=C[0]), "context"),
        (lambda: Block(16, 4, context_dim=8, merged=True)(X), "context"),
        (lambda: Block(16, 4)(X, mask=torch.ones(5, 5)), "mask"),
        (lambda: Block(16, 4)(X, mask=torch.ones(5, dtype=torch.bool)), "mask"),
        (lambda: Block(16, 4)(X, mask=masks.causal(4)), "mask"),
        (lambda: Block(16, 4)(X, mask=masks.causal(5).expand(3, 5, 5)), "mask"),
        (lambda: Block(16, 4)(X, mask=masks.causal(5).expand(2, 4, 5, 5)), "mask"),
        (lambda: Block(16, 4, cond_dim=8)(X), "cond"),
        (lambda: Norm(16, shared=True)(X), "cond"),
        (lambda: Block(16, 4)(X, rotate=rope.Rotary(rope.grid(5), (6,))), "heads"),
    ],
)
def test_unusable_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got .+, expected .+"):
        call()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_half_and_double_precision(dtype):
    block = random_block(cond_dim=8, context_dim=WIDE, qk_norm=True).to(dtype)
    call = partial(block, context=words.to(dtype), rotate=rope.Rotary(rope.grid(6), (4,)))
    out = call(x6.to(dtype), torch.ones(2, 8, dtype=dtype))
    assert out.dtype == dtype
    exact = block.double()(x6.double(), torch.ones(2, 8).double(), words.double(), rotate=call.keywords["rotate"])
    assert gap(out.double(), exact) <= (0.1 if dtype == torch.bfloat16 else 1e-12)
