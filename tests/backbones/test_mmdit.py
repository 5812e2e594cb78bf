"""MM-DiT: zero at first, text that changes and is read, padding that is not, places that count, equal sizes."""

import pytest
import torch

from minidiff.backbones.dit import DiT
from minidiff.backbones.mmdit import MMDiT, width_of
from minidiff.nn import rope
from minidiff.randomness import randn, seeded

WIDE, DIM = 12, 32
X, T, CONTEXT = randn((2, 3, 8, 8), seeded(0)), torch.tensor([0.3, 0.7]), randn((2, 4, WIDE), seeded(1))
VECTOR, VALID = randn((2, DIM), seeded(2)), torch.arange(4) < torch.tensor([4, 2])[:, None]
VARIANTS = {
    "SD3": {"ends": True, "qk_norm": False},
    "Flux 1": {"double": 1, "single": 2, "rotary": (4, 6, 6)},
    "Qwen-Image": {"rotary": (4, 6, 6), "places": rope.centred, "context_norm": True},
    "concat": {"concat": 1},
}
variants = pytest.mark.parametrize("name", VARIANTS)


def build(**options) -> MMDiT:
    options = {"double": 2} | options
    return MMDiT(3, (8, 8), 2, DIM, heads=2, context_dim=WIDE, **options)


def shaken(net: MMDiT) -> MMDiT:
    generator = seeded(5)
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return net.eval().requires_grad_(False)


def given(name: str) -> dict[str, torch.Tensor]:
    more = {"concat": randn((2, 1, 8, 8), seeded(3))} if name == "concat" else {}
    return {"context": CONTEXT, "vector": VECTOR} | more


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


@variants
def test_a_new_network_answers_zero_and_its_blocks_are_the_identity(name):
    net, said = build(**VARIANTS[name]), given(name)
    assert torch.equal(net(X, T, **said), torch.zeros_like(X))
    reached = []
    handle = (net.double_blocks[0]["picture"].norm1).register_forward_pre_hook(lambda _, args: reached.append(args[0]))
    last = net.single_blocks[-1].norm if net.single_blocks else net.double_blocks[-1]["picture"].norm1
    second = last.register_forward_pre_hook(lambda _, args: reached.append(args[0]))
    net(X, T, **said)
    handle.remove()
    second.remove()
    assert torch.equal(reached[0], reached[1][:, -16:])  # what came in is what arrives
    assert float(shaken(net)(X, T, **said).abs().mean()) > 0.01


@variants
def test_all_that_is_said_counts_and_pictures_do_not_mix(name):
    net, said = shaken(build(**VARIANTS[name])), given(name)
    out = net(X, T, **said)
    assert gap(net(X[1:], T[1:], **{k: v[1:] for k, v in said.items()}), out[1:]) <= 1e-5
    for key, value in said.items():
        assert gap(net(X, T, **said | {key: value.flip(0)}), out) > 1e-3, key
    assert gap(net(X, T.flip(0), **said), out) > 1e-3


@variants
def test_padding_is_not_looked_at(name):
    net, said = shaken(build(**VARIANTS[name])), given(name)
    other = said | {"context": torch.where(VALID[..., None], CONTEXT, CONTEXT + 1)}
    out = net(X, T, **said, context_mask=VALID)
    assert gap(net(X, T, **other, context_mask=VALID), out) == 0
    assert gap(net(X, T, **other)[1], net(X, T, **said)[1]) > 1e-4


def test_the_text_changes_from_block_to_block():
    """In cross-attention the picture reads the same text in every block; here the text has read the picture."""
    net, seen = shaken(build()), []
    handle = net.double_blocks[1]["text"].norm1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for x in (X, X + 1):
        net(x, T, context=CONTEXT)
    handle.remove()
    assert gap(seen[0], seen[1]) > 1e-3


IDLE = {  # in the text of the last double block, where no single block follows
    "SD3": {"attention.q"},
    "Flux 1": set(),
    "Qwen-Image": {"attention.q", "attention.norm_q", "attention.out", "norm2.modulation", "up", "down"},
}


@pytest.mark.parametrize("name", IDLE)
def test_what_nobody_reads_does_not_learn(name):
    """The text's queries in the last double block and all that follows them: SD3 leaves the rest out, others do not."""
    net = build(**VARIANTS[name])
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2, generator=seeded(p.numel()))
    net(X, T, **given(name)).square().mean().backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    last = "double_blocks.1.text."
    wanted = {n for n, _ in net.named_parameters() if n.startswith(last)}
    wanted = {n for n in wanted if n.removeprefix(last).rpartition(".")[0] in IDLE[name]}
    assert {n for n in idle if not n.endswith("k.bias")} == wanted  # softmax does not see a key's bias


def test_only_rotary_networks_take_other_sizes():
    wide, net = randn((2, 3, 8, 12), seeded(0)), shaken(build(rotary=(4, 6, 6)))
    assert net(wide, T, context=CONTEXT).shape == wide.shape
    with pytest.raises(ValueError, match="x_t"):
        build()(wide, T, context=CONTEXT)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"rotary": (8, 8)}, "rotary"), ({"ends": True, "single": 1}, "ends"), ({"heads": 3}, "heads")],
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        MMDiT(3, (8, 8), 2, DIM, **{"heads": 2} | options, context_dim=WIDE)


def test_a_context_must_come():
    for wrong in ({}, {"context": CONTEXT[..., 1:]}, {"context": CONTEXT, "context_mask": VALID.float()}):
        with pytest.raises(ValueError, match="context"):
            build()(X, T, **wrong)


@pytest.mark.parametrize("options", [{"double": 3}, {"double": 1, "single": 3}, {"double": 2, "single": 2}])
def test_equal_parameters(options):
    count = lambda net: sum(p.numel() for p in net.parameters())
    cross = count(DiT(3, (8, 8), 2, DIM, 6, 2, context_dim=WIDE, qk_norm=True))
    make = lambda hidden: build(**options, hidden=hidden)
    hidden = width_of(make, cross)
    assert abs(count(make(hidden)) - cross) <= abs(count(make(hidden + 1)) - cross)
    assert abs(count(make(hidden)) - cross) <= abs(count(make(hidden - 1)) - cross)
    with pytest.raises(ValueError, match="parameters"):
        width_of(make, 1000)


def test_positions_of_qwen_image():
    """Around the origin, the text on the diagonal from the picture's corner: MSRoPE (arXiv 2508.02324)."""
    places = rope.centred(2, 3, 4)
    assert places[:2].tolist() == [[2, 2, 2], [3, 3, 3]]
    assert places[2:, 0].unique().tolist() == [0]
    assert places[2:, 1].unique().tolist() == [-2, -1, 0]
    assert places[2:, 2].unique().tolist() == [-2, -1, 0, 1]
    assert rope.at_origin(2, 3, 4)[:2].tolist() == [[0, 0, 0]] * 2
    assert torch.equal(rope.at_origin(2, 3, 4)[2:, 1:], rope.grid(3, 4))
