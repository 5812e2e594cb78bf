"""The diffusion transformer: zero at first, text that is read in three ways, times per patch, any size, no leaks."""

import pytest
import torch

from minidiff.backbones.dit import READS, DiT
from minidiff.nn.block import attention_maps
from minidiff.randomness import randn, seeded
from minidiff.shapes import patchify

WIDE = 12  # of the context
reads = pytest.mark.parametrize("how", READS)
X, T, CONTEXT = randn((2, 3, 8, 8), seeded(0)), torch.tensor([0.3, 0.7]), randn((2, 4, WIDE), seeded(1))
VALID = torch.arange(4) < torch.tensor([4, 2])[:, None]


def build(size=(8, 8), patch=2, **options) -> DiT:
    return DiT(options.pop("channels", 3), size, patch, dim=32, depth=2, heads=2, **options)


def shaken(net: DiT) -> DiT:
    """A DiT none of whose parameters is zero."""
    generator = seeded(5)
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return net.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


VARIANTS = {
    "plain": ({}, {}),
    "shared": ({"shared": True}, {}),
    "rotary": ({"rotary": (8, 8), "qk_norm": True}, {}),
    "concat": ({"concat": 1}, {"concat": randn((2, 1, 8, 8), seeded(2))}),
    "cross": ({"context_dim": WIDE}, {"context": CONTEXT}),
    "merged": ({"context_dim": WIDE, "reads": "merged"}, {"context": CONTEXT}),
    "tokens": ({"context_dim": WIDE, "reads": "tokens"}, {"context": CONTEXT}),
}
variants = pytest.mark.parametrize("name", VARIANTS)


@variants
def test_a_new_network_answers_zero(name):
    options, given = VARIANTS[name]
    assert torch.equal(build(**options)(X, T, **given), torch.zeros_like(X))
    assert float(shaken(build(**options))(X, T, **given).abs().mean()) > 0.01


@variants
def test_pictures_of_a_batch_do_not_mix(name):
    options, given = VARIANTS[name]
    net = shaken(build(**options))
    out = net(X, T, **given)
    assert gap(net(X[1:], T[1:], **{k: v[1:] for k, v in given.items()}), out[1:]) <= 1e-5
    assert gap(net(X[:1], T[1:], **{k: v[1:] for k, v in given.items()}), out[1:]) > 1e-2


@variants
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float64, 1e-4)])
def test_half_precision_and_double(name, dtype, tolerance):
    options, given = VARIANTS[name]
    net = shaken(build(**options))
    wanted = net(X, T, **given)
    found = net.to(dtype)(X.to(dtype), T, **{k: v.to(dtype) for k, v in given.items()})
    assert found.dtype == dtype
    assert gap(found.double(), wanted.double()) <= tolerance * float(wanted.abs().max())


@variants
def test_vector_and_time_matter(name):
    options, given = VARIANTS[name]
    net, vector = shaken(build(**options)), randn((2, 32), seeded(3))
    out = net(X, T, vector=vector, **given)
    assert gap(net(X, T, vector=vector.flip(0), **given), out) > 1e-3
    assert gap(net(X, T.flip(0), vector=vector, **given), out) > 1e-3
    assert gap(net(X, T, vector=torch.zeros(2, 32), **given), net(X, T, **given)) == 0


# --- the context


@reads
def test_the_text_is_read(how):
    net = shaken(build(context_dim=WIDE, reads=how))
    out = net(X, T, context=CONTEXT)
    for place in range(4):
        other = CONTEXT.clone()
        other[:, place] = other[:, place].flip(1)
        assert gap(net(X, T, context=other), out) > 1e-3
    assert torch.equal(net(X, T, context=CONTEXT), out)


@reads
def test_padding_changes_nothing_where_it_is_masked(how):
    net, other = shaken(build(context_dim=WIDE, reads=how)), CONTEXT.clone()
    other[1, 2:] = other[1, 2:].flip(1) + 2.0
    out = net(X, T, context=CONTEXT, context_mask=VALID)
    assert gap(net(X, T, context=other, context_mask=VALID), out) <= 1e-6
    assert gap(net(X, T, context=other), net(X, T, context=CONTEXT)) > 1e-3
    assert gap(net(X[1:], T[1:], context=CONTEXT[1:, :2]), out[1:]) <= 1e-5  # a shorter text


@reads
def test_a_context_is_a_set_until_positions_are_in_it(how):
    """The order is the conditioning's to tell (`conditioning.Words`): the backbone alone gives tokens no place."""
    net = shaken(build(context_dim=WIDE, reads=how))
    places = randn((4, WIDE), seeded(7))
    assert gap(net(X, T, context=CONTEXT.flip(1)), net(X, T, context=CONTEXT)) <= 1e-5
    assert gap(net(X, T, context=CONTEXT.flip(1) + places), net(X, T, context=CONTEXT + places)) > 1e-3


@reads
def test_each_way_of_reading_has_its_own_maps(how):
    net = shaken(build(context_dim=WIDE, reads=how))
    with attention_maps(net) as maps:
        net(X, T, context=CONTEXT, context_mask=VALID)
    shapes = {tuple(found.shape[2:]) for (found,) in maps.values()}
    assert shapes == {"cross": {(16, 16), (16, 4)}, "merged": {(16, 20)}, "tokens": {(20, 20)}}[how]
    assert len(maps) == (4 if how == "cross" else 2)
    for (found,) in maps.values():
        if found.shape[-1] != 16:
            assert found[1, ..., -2:].max() == 0
            assert found[0, ..., -2:].min() > 0


def test_a_context_as_wide_as_the_network_joins_without_a_map():
    assert isinstance(build(context_dim=32, reads="tokens").join, torch.nn.Identity)
    assert isinstance(build(context_dim=WIDE, reads="tokens").join, torch.nn.Linear)


# --- times as maps

MAPPED = {name: VARIANTS[name] for name in ("plain", "shared", "rotary", "cross", "merged")}


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 8, 1), (2, 1, 1, 1)])
def test_a_constant_map_is_one_time_per_picture(name, shape):
    options, given = MAPPED[name]
    net, vector = shaken(build(**options)).double(), randn((2, 32), seeded(3)).double()
    given = {k: v.double() for k, v in given.items()} | {"vector": vector}
    constant = T.double()[:, None, None, None].expand(shape)
    out = net(X.double(), T.double(), **given)
    assert gap(net(X.double(), constant, **given), out) <= 1e-6
    assert gap(net(X.double(), constant.flip(0), **given), out) > 1e-3


def test_every_patch_has_the_mean_time_of_its_pixels():
    net, times = shaken(build()), torch.rand((2, 1, 8, 8), generator=seeded(4))
    means = patchify(times, 2).mean(-1)  # (B, 16)
    flat = means.reshape(2, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert gap(net(X, times), net(X, flat)) <= 1e-4
    assert gap(net(X, times), net(X, times.mean((2, 3), keepdim=True))) > 1e-2


def test_times_that_differ_differ_where_they_do():
    """One patch at another time: with attention closed to the outside (zeroed values), only that patch changes."""
    net = shaken(build())
    for block in net.blocks:
        block.attention.out.weight.zero_()
    times = torch.full((2, 1, 8, 8), 0.5)
    times[:, :, 2:4, 4:6] = 0.9
    changed = (net(X, times) - net(X, torch.full((2,), 0.5))).abs().amax((0, 1)) > 1e-4
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(changed, expected)


# --- sizes


def test_clips():
    net, clip = shaken(build((4, 8, 8), (1, 4, 4))), randn((2, 3, 4, 8, 8), seeded(0))
    out = net(clip, T)
    assert out.shape == clip.shape
    assert net.place.shape == (16, 32)
    per_frame = torch.linspace(0.1, 0.9, 4).reshape(1, 1, 4, 1, 1).expand(2, 1, 4, 1, 1)
    assert gap(net(clip, per_frame), out) > 1e-2
    other = clip.clone()
    other[:, :, 3] += 1.0
    assert gap(net(other, T)[:, :, 0], out[:, :, 0]) > 1e-3  # frames see one another
    turned = shaken(build((4, 8, 8), (1, 4, 4), rotary=(4, 6, 6)))
    assert turned(clip[:, :, :2], T).shape == (2, 3, 2, 8, 8)


def test_pictures_need_not_be_square():
    net, x = shaken(build((4, 12), (2, 3))), randn((2, 3, 4, 12), seeded(0))
    assert net(x, T).shape == x.shape
    with pytest.raises(ValueError, match="x_t: got"):
        net(x.transpose(2, 3), T)


def test_with_rotary_positions_any_size_will_do():
    net = shaken(build(rotary=(8, 8)))
    assert net.place is None
    for size in ((8, 8), (4, 12), (16, 2)):
        x = randn((2, 3, *size), seeded(0))
        assert net(x, T).shape == x.shape
    wide = randn((2, 3, 4, 12), seeded(0))
    assert gap(net(wide, T).transpose(2, 3), net(wide.transpose(2, 3), T)) > 1e-2  # rows are no columns
    for bad in (torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 8), torch.zeros(2, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"x_t: got .* divisible by \(2, 2\)|x_t: got"):
            net(bad, T)


def test_positions_are_what_tells_patches_apart():
    """Without positions a permutation of patches is one of the output; with either kind it is not."""
    for options, equal in (({"place_std": 0.0}, True), ({"place_std": 1.0}, False), ({"rotary": (8, 8)}, False)):
        net = build(**options)
        place = None if net.place is None else net.place.detach().clone()
        net = shaken(net)
        if place is not None:
            net.place.data = place
        assert (gap(net(X.roll(2, 2), T), net(X, T).roll(2, 2)) <= 1e-4) == equal


def test_channels_beside_the_picture_are_seen():
    net, beside = shaken(build(concat=2)), randn((2, 2, 8, 8), seeded(2))
    out = net(X, T, concat=beside)
    for channel in range(2):
        other = beside.clone()
        other[:, channel] += 1.0
        assert gap(net(X, T, concat=other), out) > 1e-3


def test_one_modulation_is_made_for_all_blocks():
    count = lambda net: sum(p.numel() for name, p in net.named_parameters() if "modulation" in name)
    assert count(build(shared=True)) == 33 * 6 * 32
    assert count(build()) == 2 * 33 * 6 * 32  # one per block
    assert len({id(p) for p in build(shared=True).modulation.parameters()}) == 2


WRONG = [
    (lambda: build((10, 8), 4), "patch: got (4, 4), expected divisors of size = (10, 8)"),
    (lambda: build((8, 8), (2, 2, 2)), "patch: got"),
    (lambda: DiT(dim=30, heads=4), "heads: got 4, expected a divisor of dim = 30"),
    (lambda: build(context_dim=8, reads="aloud"), "reads: got 'aloud'"),
    (lambda: build(rotary=(8, 6)), "rotary: got (8, 6), expected 2 even widths that add up to dim/heads = 16"),
    (lambda: build(rotary=(16,)), "rotary: got"),
    (lambda: build(rotary=(7, 9)), "rotary: got"),
    (lambda: build()(torch.zeros(1, 3, 16, 16), torch.rand(1)), "x_t: got"),
    (lambda: build()(torch.zeros(1, 1, 8, 8), torch.rand(1)), "x_t: got"),
    (lambda: build()(torch.zeros(1, 3, 8), torch.rand(1)), "x_t: got"),
    (lambda: build()(X, torch.rand(3)), "t: got"),
    (lambda: build()(X, torch.rand(2, 8, 8)), "t: got"),
    (lambda: build()(X, torch.rand(2, 1, 4, 4)), "t: got"),
    (lambda: build()(X, T, vector=torch.zeros(2, 31)), "vector: got"),
    (lambda: build()(X, T, context=CONTEXT), "context: got"),
    (lambda: build()(X, T, context_mask=VALID), "context_mask: got"),
    (lambda: build()(X, T, concat=X), "concat: got"),
    (lambda: build(concat=1)(X, T), "concat: got"),
    *(
        case
        for how in READS
        for case in (
            (lambda how=how: build(context_dim=WIDE, reads=how)(X, T), "context: got NoneType"),
            (lambda how=how: build(context_dim=WIDE, reads=how)(X, T, context=CONTEXT[..., 1:]), "context: got"),
            (
                lambda how=how: build(context_dim=WIDE, reads=how)(X, T, context=CONTEXT, context_mask=VALID[:, 1:]),
                "context_mask: got bool tensor of shape (2, 3), expected bool, shape (2, 4)",
            ),
        )
    ),
    (
        lambda: build(context_dim=WIDE, reads="tokens")(X, torch.rand(2, 1, 8, 8), context=CONTEXT),
        "t: got float32 tensor of shape (2, 1, 8, 8), expected one time per picture",
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as raised:
        call()
    assert str(raised.value).startswith(message)
