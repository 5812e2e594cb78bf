"""Layers along time: identities at first, exactly; and which frame reaches which."""

import pytest
import torch
from torch.autograd.functional import jacobian

from minidiff.nn import masks, rope
from minidiff.nn.block import Attention, Block
from minidiff.nn.spacetime import (
    AcrossFrames,
    AlongTime,
    Blend,
    FrameTransformer,
    Pseudo3D,
    TemporalConv,
    clips_of,
    first_and_former,
    frames_of,
    resting,
    separable,
)
from minidiff.randomness import randn, seeded

B, T, N, DIM, WIDE = 2, 4, 3, 16, 12
X, COND, TEXT = randn((B, T, N, DIM), seeded(0)), randn((B, 8), seeded(1)), randn((B, 5, WIDE), seeded(2))
CLIP = randn((B, 8, T, 3, 5), seeded(3))
WORDS = torch.arange(5) < torch.tensor([5, 2])[:, None]


def shaken(module: torch.nn.Module, seed: int = 4, std: float = 0.3) -> torch.nn.Module:
    """All parameters random, so that nothing is 0 or 1 by construction."""
    generator = seeded(seed)
    for parameter in module.parameters():
        parameter.data = std * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def reach(f, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Which frames of the output depend on which of x: the largest |∂ out_i / ∂ in_j|, (T, T)."""
    n = x.ndim
    return jacobian(f, x).abs().movedim((axis, n + axis), (0, 1)).flatten(2).amax(2)


# --- frames, identities


def test_frames_and_clips():
    assert torch.equal(clips_of(frames_of(CLIP), B), CLIP)
    assert torch.equal(frames_of(CLIP)[T], CLIP[1, :, 0])
    assert not torch.equal(CLIP.reshape(B * T, 8, 3, 5), frames_of(CLIP))


LAYERS = {
    "a resting block": (lambda: AlongTime(resting(Block(DIM, 2))), X, ()),
    "adaLN-Zero": (lambda: AlongTime(Block(DIM, 2, cond_dim=8)), X, (COND,)),
    "adaLN-Zero, blended": (lambda: AlongTime(Block(DIM, 2, cond_dim=8), alpha=0.3), X, (COND,)),
    "for U-Nets": (lambda: FrameTransformer(8, 2), CLIP, ()),
    "Dirac's kernel": (lambda: AcrossFrames(8), CLIP, ()),
    "five frames wide": (lambda: AcrossFrames(8, 5), CLIP, ()),
    "four convolutions": (lambda: TemporalConv(8), CLIP, ()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_new_temporal_layer_changes_nothing_and_a_trained_one_mixes_frames(name):
    make, x, rest = LAYERS[name]
    assert torch.equal(make()(x, *rest), x)
    layer = shaken(make())
    axis = 1 if x is X else 2
    at = x[:1, ..., :1, :] if x is X else x[:1, :, :, :1, :1]  # one place is enough
    f = lambda z: layer(z, *(c[:1] for c in rest))
    touched = reach(f, at, axis)
    wide = layer.conv.kernel_size[0] // 2 if isinstance(layer, AcrossFrames) else T
    near = (torch.arange(T)[:, None] - torch.arange(T)).abs() <= wide
    assert bool((touched[near] > 1e-6).all())
    assert float(touched[~near].sum()) == 0


@pytest.mark.parametrize("name", LAYERS)
def test_an_identity_learns(name):
    """Some gradient reaches it at once, so that it is no dead end."""
    make, x, rest = LAYERS[name]
    layer = make()
    layer(x, *rest).sin().sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in layer.parameters() if p.grad is not None) > 0.1
    if name == "a resting block":
        with pytest.raises(ValueError, match="block: got a modulated block"):
            resting(Block(DIM, 2, cond_dim=8))


def test_pseudo_3d_is_the_pictures_convolution_frame_by_frame():
    conv = torch.nn.Conv2d(8, 6, 3, stride=2, padding=1).requires_grad_(False)
    layer, alone = Pseudo3D(conv), torch.stack([conv(CLIP[:, :, i]) for i in range(T)], 2)
    in_one = clips_of(conv(frames_of(CLIP)), B)
    assert torch.equal(layer(CLIP), in_one)
    assert torch.equal(layer(CLIP, temporal=False), in_one)
    assert gap(in_one, alone) <= 1e-6
    shaken(layer.time)
    assert gap(layer(CLIP), alone) > 1e-2
    assert torch.equal(layer(CLIP, temporal=False), in_one)
    still = reach(lambda z: layer(z, temporal=False), CLIP[:1], 2)
    assert float((still - still.diag().diag()).sum()) == 0


def test_a_convolution_along_time_by_hand():
    layer, line = shaken(AcrossFrames(8)), CLIP[1, :, :, 2, 4]  # (C, T)
    padded = torch.nn.functional.pad(line, (1, 1))
    by_hand = sum(layer.conv.weight[:, :, k] @ padded[:, k : k + T] for k in range(3)) + layer.conv.bias[:, None]
    assert gap(layer(CLIP)[1, :, :, 2, 4], by_hand) <= 1e-5
    assert gap(layer(CLIP)[1, :, :, 1, 4], by_hand) > 1e-2


# --- along time


def test_along_time_a_place_sees_itself_alone_and_the_order_of_frames_by_rope():
    layer, still = shaken(AlongTime(Block(DIM, 2))), shaken(AlongTime(Block(DIM, 2), rotary=False))
    changed = X.clone()
    changed[0, 2, 1] += 1
    moved = (layer(changed) - layer(X)).abs().amax(-1) > 0
    assert bool(moved[0, :, 1].all())
    assert int(moved.sum()) == T
    turn = [3, 2, 1, 0]
    assert gap(still(X[:, turn]), still(X)[:, turn]) <= 1e-5
    assert gap(layer(X[:, turn]), layer(X)[:, turn]) > 1e-2


def test_along_time_in_the_past_only():
    layer = shaken(AlongTime(Block(DIM, 2)))
    touched = reach(lambda z: layer(z, mask=masks.causal(T)), X[:1, :, :1], 1)
    assert float(touched.triu(1).sum()) == 0
    assert float(reach(layer, X[:1, :, :1], 1).triu(1).sum()) > 0.1


@pytest.mark.parametrize("places", [1, N])
def test_a_condition_per_frame_is_that_frames_own(places):
    layer, told = shaken(AlongTime(Block(DIM, 2, cond_dim=8))), randn((B, T, places, 8), seeded(5))
    found, alone = layer(X, told, mask=torch.eye(T, dtype=torch.bool)), torch.empty_like(X)
    for i in range(T):
        for n in range(N):
            alone[:, i, n] = layer.block(X[:, i, n : n + 1], told[:, i, n % places])[:, 0]
    assert gap(found, alone) <= 1e-5
    assert gap(layer(X, told.flip(1), mask=torch.eye(T, dtype=torch.bool)), alone) > 1e-2
    same = COND[:, None, None].expand(B, T, 1, 8)
    assert gap(layer(X, same), layer(X, COND)) <= 1e-5


def test_a_blend_is_alpha_of_the_pictures_layer():
    blend, z, mixed = Blend(0.3), X, X.flip(1) + 1
    assert abs(blend.alpha.item() - 0.3) <= 1e-6
    assert gap(blend(z, mixed), 0.3 * z + 0.7 * mixed) <= 1e-6
    assert gap(blend(z, mixed), 0.7 * z + 0.3 * mixed) > 0.1
    assert torch.equal(Blend(1.0)(z, mixed), z)
    assert torch.equal(blend(z, z), z)
    both = blend(z, mixed, torch.tensor([True, False]))
    assert torch.equal(both[0], z[0])
    assert torch.equal(both[1], blend(z, mixed)[1])


# --- in space, then in time


def pair(**options) -> tuple[Block, AlongTime]:
    space = shaken(Block(DIM, 2, cond_dim=8, context_dim=WIDE), 6)
    return space, shaken(AlongTime(Block(DIM, 2, cond_dim=8), **options), 7)


def test_separable_attention_by_hand():
    """One frame at a time with its text, then one place at a time."""
    space, time = pair()
    turn = rope.Rotary(rope.grid(N), (8,))
    found = separable(space, time, X, COND, TEXT, WORDS, turn)
    seen = masks.keys(WORDS)
    z = torch.stack([space(X[:, i], COND, TEXT, None, seen, turn) for i in range(T)], 1)
    along = rope.Rotary(rope.grid(T), (8,), theta=100.0)
    y = torch.stack([time.block(z[:, :, n], COND, rotate=along) for n in range(N)], 2)
    assert gap(found, y) <= 1e-5
    assert gap(separable(space, time, X, COND, TEXT, ~WORDS | (torch.arange(5) < 1), turn), y) > 1e-2
    assert gap(separable(space, time, X, COND, TEXT, WORDS), y) > 1e-2
    told = COND[:, None, None].expand(B, T, 1, 8)  # the same condition, given to each frame
    assert gap(separable(space, time, X, told, TEXT, WORDS, turn), y) <= 1e-5


def test_without_its_time_half_frames_are_independent():
    space, time = pair()
    run = lambda temporal: reach(lambda z: separable(space, time, z, COND[:1], TEXT[:1], temporal=temporal), X[:1], 1)
    apart = run(False)
    assert float((apart - apart.diag().diag()).sum()) == 0
    assert float(apart.diag().min()) > 0.1
    assert float(run(True).min()) > 1e-3


@pytest.mark.parametrize("alpha", [None, 0.4])
def test_a_new_time_half_leaves_the_pictures_block_as_it_is(alpha):
    space, time = pair()[0], AlongTime(Block(DIM, 2, cond_dim=8), alpha)
    given = (X, COND, TEXT, WORDS)
    assert torch.equal(separable(space, time, *given), separable(space, time, *given, temporal=False))
    shaken(time)
    assert gap(separable(space, time, *given), separable(space, time, *given, temporal=False)) > 1e-2


def test_rows_of_pictures_pass_by_a_blended_time_half():
    space, time = pair(alpha=0.4)
    found = separable(space, time, X, COND, TEXT, pictures=torch.tensor([True, False]))
    assert torch.equal(found[0], separable(space, time, X, COND, TEXT, temporal=False)[0])
    assert torch.equal(found[1], separable(space, time, X, COND, TEXT)[1])
    assert gap(found[0], separable(space, time, X, COND, TEXT)[0]) > 1e-2


# --- sparse-causal attention


ANSWERS = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
"""Whose keys and values frame i reads, i = 1 … 4: frame 1's and frame i − 1's."""
ASKS = torch.eye(T, dtype=torch.bool)


def test_the_mask_of_sparse_causal_attention():
    assert torch.equal(masks.sparse_causal(T, 1), ANSWERS)
    assert torch.equal(masks.sparse_causal(T, N), ANSWERS.repeat_interleave(N, 0).repeat_interleave(N, 1))
    assert torch.equal(masks.sparse_causal(1, N), torch.ones(N, N, dtype=torch.bool))
    assert not torch.equal(masks.sparse_causal(T, N), masks.temporal(T, N))


def test_the_mask_and_the_picked_keys_are_one_attention():
    """The 2·N keys of the official code, some of them twice, and the mask over T·N."""
    layer = shaken(Attention(DIM, 2))
    picked = layer(X.flatten(0, 1), first_and_former(X)).unflatten(0, (B, T))
    masked = layer(X.flatten(1, 2), mask=masks.sparse_causal(T, N)).unflatten(1, (T, N))
    assert gap(picked, masked) <= 1e-5
    assert gap(layer(X.flatten(1, 2), mask=masks.temporal(T, N)).unflatten(1, (T, N)), picked) > 1e-2
    kept = first_and_former(X).unflatten(0, (B, T))
    assert torch.equal(kept[:, 3], torch.cat([X[:, 0], X[:, 2]], 1))
    assert torch.equal(kept[:, 0], torch.cat([X[:, 0], X[:, 0]], 1))


def test_frame_i_asks_and_frames_1_and_i_minus_1_answer():
    """∂out_i/∂in_j is nonzero exactly for j ∈ {1, i − 1, i}; by keys and values alone, exactly for j ∈ {1, i − 1}."""
    layer = shaken(Attention(DIM, 2), std=0.5)
    run = lambda z: layer(z.flatten(0, 1), first_and_former(z)).unflatten(0, z.shape[:2])
    touched = reach(run, X[:1], 1)
    assert torch.equal(touched > 0, ANSWERS | ASKS)
    assert float(touched[ANSWERS | ASKS].min()) > 1e-4
    layer.q.weight.zero_()  # a query that does not read its frame: what is left goes through keys and values
    assert torch.equal(reach(run, X[:1], 1) > 0, ANSWERS)
    by_mask = lambda z: layer(z.flatten(1, 2), mask=masks.sparse_causal(T, N)).unflatten(1, (T, N))
    assert torch.equal(reach(by_mask, X[:1], 1) > 0, ANSWERS)


def test_a_sparse_block_reaches_its_own_frame_by_its_query_and_its_skip():
    space, time = pair()
    still = AlongTime(Block(DIM, 2, cond_dim=8))  # an identity: the space half alone
    turn = rope.Rotary(rope.grid(N), (8,))
    run = lambda z: separable(space, still, z, COND[:1], TEXT[:1], None, turn, sparse=True)
    assert torch.equal(reach(run, X[:1], 1) > 0, ANSWERS | ASKS)
    off = lambda sparse: separable(space, time, X, COND, TEXT, None, turn, temporal=False, sparse=sparse)
    assert torch.equal(off(True), off(False))  # with all that mixes frames switched off, this too
    told = COND[:, None, None].expand(B, T, 1, 8)
    wanted = separable(space, time, X, COND, TEXT, WORDS, turn, sparse=True)
    assert gap(separable(space, time, X, told, TEXT, WORDS, turn, sparse=True), wanted) <= 1e-5
    assert gap(separable(space, time, X, COND, TEXT, WORDS, sparse=True), wanted) > 1e-2  # RoPE in every frame
    one = X[:, :1]
    assert gap(run(one[:1]), separable(space, still, one[:1], COND[:1], TEXT[:1], None, turn)) <= 1e-5


BAD = {
    "clips": lambda: frames_of(X),
    "frames": lambda: clips_of(torch.zeros(5, 3, 2, 2), 2),
    "alpha": lambda: Blend(0.0),
    "pictures": lambda: Blend(0.5)(X, X, torch.ones(3, dtype=torch.bool)),
    "kernel": lambda: AcrossFrames(8, 4),
    "block": lambda: AlongTime(Block(6, 2)),
    "x": lambda: separable(*pair(), X[0]),
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_named(argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got"):
        BAD[argument]()
    with pytest.raises(ValueError, match="pictures: got"):
        AlongTime(Block(DIM, 2))(X, pictures=torch.ones(B, dtype=torch.bool))
