"""The claims of chapter 13, each with a control that must fail."""

import json
import re
from dataclasses import replace
from functools import partial
from statistics import mean

import pytest
import torch
import torch.nn.functional as F
from _pages import number, same, table_rows
from torch import nn

from minidiff.backbones import flux2, mmdit, single_stream
from minidiff.data.captions import captions
from minidiff.nn import rope
from minidiff.nn.block import Attend, Block, joint
from minidiff.nn.parallel import Parallel
from minidiff.randomness import initialised, randn, seeded
from minidiff.show.figures.how_text_enters import layers_of
from minidiff.systems import readers, streams, ways_in
from minidiff.systems.dit import gflops


@pytest.fixture(scope="module")
def lecture(root):
    return (root / "lectures" / "13_how_text_enters.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(root):
    return json.loads((root / "benchmarks" / "results" / "ways_in.json").read_text(encoding="utf-8"))


def without_numbers(build) -> nn.Module:
    with torch.device("meta"):
        return build()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def shaken(module: nn.Module, by: float = 0.1) -> nn.Module:
    with torch.no_grad():
        for k, p in enumerate(module.parameters()):
            p.add_(by * randn(p.shape, seeded(k)))
    return module


# ---------------------------------------------------------------- derivations


def test_one_softmax_is_two_with_a_gate():
    """(3), to the last digits; a gate of the other sign is the control."""
    q, k_x, v_x = (randn((2, 3, 7, 8), seeded(i), torch.float64) for i in range(3))
    k_c, v_c = (randn((2, 3, 4, 8), seeded(i), torch.float64) for i in (3, 4))
    z = lambda k: (q @ k.mT / 8**0.5).logsumexp(-1, keepdim=True)
    attend = Attend()
    own, cross = attend(q, k_x, v_x), attend(q, k_c, v_c)
    both = attend(q, torch.cat([k_c, k_x], 2), torch.cat([v_c, v_x], 2))
    mixed = lambda gate: gate * cross + (1 - gate) * own
    assert torch.allclose(both, mixed(torch.sigmoid(z(k_c) - z(k_x))), atol=1e-12)
    assert not torch.allclose(both, mixed(torch.sigmoid(z(k_x) - z(k_c))), atol=1e-2)


@pytest.mark.parametrize(("m", "n", "said"), [(12, 16, 0.43), (12, 64, 0.16), (77, 4096, 0.02)])
def test_equal_scores_give_words_their_share_of_the_tokens(m, n, said):
    """Section 1 and question 1."""
    q, k = randn((1, 1, 1, 8), seeded(0)), torch.zeros(1, 1, m + n, 8)
    told = (torch.arange(m + n) < m).float()[None, None, :, None].expand(1, 1, m + n, 8)
    assert float(Attend()(q, k, told).mean()) == pytest.approx(m / (m + n), abs=1e-6)
    assert m / (m + n) == pytest.approx(said, abs=0.005)


@pytest.mark.parametrize(("m", "n"), [(12, 16), (77, 16), (5, 64)])
def test_at_equal_parameters_two_streams_do_half_of_the_work(m, n):
    """(5): what tokens pass, counted by the machine; the two attentions themselves cost the same."""
    dim = 64
    half = [Block(dim, 4, hidden=4 * dim) for _ in range(2)]
    c, x = torch.zeros(1, m, dim), torch.zeros(1, n, dim)
    softmax = 4 * (m + n) ** 2 * dim / 1e9
    double = gflops(lambda: joint(half, [c, x])) - softmax
    shared = gflops(lambda: half[0](torch.cat([c, x], 1))) - softmax
    matrices = lambda block: sum(p.numel() for p in block.parameters() if p.ndim == 2)
    per_parameter = [double / sum(map(matrices, half)), shared / matrices(half[0])]
    assert per_parameter[0] / per_parameter[1] == pytest.approx(0.5, rel=1e-6)
    assert shared == pytest.approx(2 * matrices(half[0]) * (m + n) / 1e9, rel=1e-6)


@pytest.mark.parametrize("ends", [False, True])
def test_the_last_words_have_weights_that_never_learn_unless_they_end(ends):
    """Section 2, dead ends."""
    net = shaken(mmdit.MMDiT(dim=16, double=2, context_dim=8, ends=ends))
    x, context = randn((2, 3, 16, 16), seeded(0)), randn((2, 5, 8), seeded(1))
    net(x, torch.tensor([0.2, 0.7]), context=context).square().mean().backward()
    silent = {name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())}
    dead = {name for name in silent if name.startswith("double_blocks.1.text")}
    assert silent == dead
    queries = {name for name in dead if "attention.q" in name or "norm_q" in name}
    assert queries  # no row of the text is read any more
    if ends:
        assert dead == queries
    else:
        assert {"double_blocks.1.text.up.weight", "double_blocks.1.text.attention.out.weight"} <= dead


def test_beside_each_other_differs_in_second_order():
    """(7): branches × ε, difference × ε²; the block's effect × ε is the control."""
    block, z = initialised(lambda: Block(32, 4), 0).double(), randn((2, 9, 32), seeded(1), torch.float64)
    attention = lambda z, e: e * block.attention(block.norm1(z)[0])
    mlp = lambda z, e: e * block.down(block.activation(block.up(block.norm2(z)[0])))
    apart, effect = [], []
    for e in (1 / 16, 1 / 32, 1 / 64):
        first = z + attention(z, e)
        apart.append(float((mlp(first, e) - mlp(z, e)).detach().norm()))
        effect.append(float((first + mlp(first, e) - z).detach().norm()))
    for a, b in ((0, 1), (1, 2)):
        assert apart[a] / apart[b] == pytest.approx(4, rel=0.1)
        assert effect[a] / effect[b] == pytest.approx(2, rel=0.1)


def test_the_parallel_block_is_equation_6():
    block = shaken(initialised(lambda: Parallel(16, 2, cond_dim=16), 0))
    z, cond = randn((2, 5, 16), seeded(1)), randn((2, 16), seeded(2))
    scale, shift, gate = block.norm.modulation(F.silu(cond))[:, None].chunk(3, -1)
    h = (1 + scale) * F.layer_norm(z, (16,), eps=1e-6) + shift
    *qkv, up = block.into(h).split(block.parts, -1)
    q, k, v = (y.unflatten(-1, (2, 8)).transpose(1, 2) for y in qkv)
    mixed = F.scaled_dot_product_attention(block.norm_q(q), block.norm_k(k), v).transpose(1, 2).flatten(2)
    made = z + gate * block.out(torch.cat([mixed, F.gelu(up, approximate="tanh")], -1))
    assert torch.allclose(block(z, cond), made, atol=1e-5)
    assert not torch.allclose(block(z, cond), z + block.out(torch.cat([mixed, up], -1)), atol=1e-2)


def test_a_sandwich_adds_a_vector_of_bounded_length():
    """(8): both branches end in RMSNorm, so that each adds at most its gain, whatever goes in."""
    block = single_stream.Sandwich(32, 4, 64, cond_dim=8)
    shaken(block.modulation, 3.0)
    for size in (1.0, 1e3):
        z = size * randn((2, 6, 32), seeded(0))
        moved = (block(z, lambda heads: heads, randn((2, 8), seeded(1))) - z).detach()
        assert float(moved.square().mean(-1).sqrt().max()) <= 2.0 + 1e-3  # two branches, gains of 1, |tanh| ≤ 1
    plain = initialised(lambda: Block(32, 4), 0)
    z = randn((2, 6, 32), seeded(0))
    scaled = lambda s: float((plain(z * s) - z * s).detach().abs().max())
    plain.down.weight.data *= 100
    assert scaled(1.0) > 5  # the control: an ordinary block's branch is as long as its weights make it


# ---------------------------------------------------------------- positions


def test_places_are_those_of_the_table():
    """Section 5: three words and a grid of 4×6."""
    origin, centred, axes = (make(3, 4, 6) for make in (rope.at_origin, rope.centred, rope.four_axes))
    assert origin[:3].abs().max() == 0
    assert origin[3:][7].tolist() == [0, 1, 1]
    assert centred[:3].tolist() == [[3 + k] * 3 for k in range(3)]  # ⌊6/2⌋ + k
    assert centred[3:][7].tolist() == [0, 1 - 2, 1 - 3]
    assert axes[:3].tolist() == [[0, 0, 0, k] for k in range(3)]
    assert axes[3:][7].tolist() == [0, 1, 1, 0]
    net = single_stream.SingleStream(size=(16, 24), dim=64, context_dim=8, rotary=(4, 6, 6))
    z_image = net.places(3, 24, (4, 6))
    assert z_image[24:].tolist() == [[k, 0, 0] for k in (1, 2, 3)]
    assert z_image[7].tolist() == [4, 1, 1]


def test_a_larger_centred_picture_keeps_the_old_places():
    old, new = ({tuple(p) for p in rope.centred(0, n, n).tolist()} for n in (4, 8))
    assert old < new
    middle = lambda places: torch.tensor(sorted(places))[:, 1:].mean(0)
    assert float((middle(old) - middle(new)).abs().max()) < 1e-6
    corner = [{tuple(p) for p in rope.at_origin(0, n, n).tolist()} for n in (4, 8)]
    assert float((middle(corner[0]) - middle(corner[1])).abs().min()) == 2  # the control


@pytest.mark.parametrize("design", ways_in.DESIGNS)
def test_words_at_one_place_are_a_set(design):
    """The claim of section 5, and who is no example of it."""
    net = shaken(initialised(lambda: ways_in.backbone(design), 0)).eval()
    words, x = randn((2, 6, ways_in.WIDTH), seeded(1)), randn((2, 3, 16, 16), seeded(2))
    answer = lambda words: net(x, torch.full((2,), 0.5), context=words).detach()
    moved = float((answer(words) - answer(words[:, [3, 1, 5, 0, 4, 2]])).abs().max())
    assert (moved < 1e-5) == (design in ("cross-attention", "double", "double, single"))
    assert float((answer(words) - answer(words.flip(0))).abs().max()) > 1e-3  # the control: other words


@pytest.mark.parametrize("filled", [None, 1, 16])
def test_pads_that_are_looked_at_make_words_depend_on_their_batch(filled):
    """Section 5, padding: the same sentence beside a longer one, masked (None), looked at, looked at in one length."""
    size = {"dim": 64, "context_dim": 8, "rotary": (4, 6, 6)}
    build = lambda: (
        mmdit.MMDiT(double=2, **size) if filled is None else single_stream.SingleStream(multiple=filled, **size)
    )
    net = shaken(initialised(build, 0)).eval()
    context, x = randn((1, 9, 8), seeded(1)), randn((1, 3, 16, 16), seeded(2))
    mask = torch.arange(9)[None] < 5
    answer = partial(net, x, torch.full((1,), 0.5))
    alone = answer(context=context[:, :5], context_mask=mask[:, :5]).detach()
    moved = float((answer(context=context, context_mask=mask).detach() - alone).abs().max())
    assert (moved > 1e-3) == (filled == 1)


# ---------------------------------------------------------------- the real ones

PRESETS = {
    "SD 3 medium": mmdit.sd3_medium,
    "SD 3.5 large": mmdit.sd35_large,
    "Flux 1": mmdit.flux1,
    "Qwen-Image": mmdit.qwen_image,
    "Flux 2": flux2.flux2,
    "Z-Image": single_stream.z_image,
}


def test_the_table_of_real_systems(lecture):
    rows = {row[0]: row[1:] for row in table_rows(lecture, "parameters (billions)")}
    assert rows.keys() == PRESETS.keys()
    for name, make in PRESETS.items():
        net = without_numbers(make)
        kinds = layers_of(net)
        shown = [kinds.count("double"), kinds.count("both")]
        assert [int(cell.replace("–", "0")) for cell in rows[name][:2]] == shown
        refiners = rows[name][2].split("+")
        assert [int(r) for r in refiners if r.strip() != "–"] == [kinds.count("refiners")] * 2 * ("refiners" in kinds)
        same(rows[name][3], count(net) / 1e9, 1)
        for_both = getattr(net, "single_blocks", None) or getattr(net, "joint_blocks", None)
        same(rows[name][4], 100 * count(for_both) / count(net) if for_both else 0, 0)


def test_shares_of_modulation(lecture):
    """Section 3: a third where every stream has its own, hardly anything where it is made once."""
    found = {}
    for name, make in PRESETS.items():
        net = without_numbers(make)
        made = ("text.weight", "picture.weight", "both.weight")
        told = {k: p.numel() for k, p in net.named_parameters() if "modulation" in k or k in made}
        found[name] = sum(told.values()), count(net)
    (said,) = re.findall(r"SD 3 medium (\S+), Flux 1 (\S+), Qwen-Image (\S+); Flux 2 (\S+), Z-Image (\S+)\.", lecture)
    for name, text, places in zip(
        ("SD 3 medium", "Flux 1", "Qwen-Image", "Flux 2", "Z-Image"), said, (2, 2, 2, 3, 3), strict=True
    ):
        same(text, found[name][0] / found[name][1], places)
    assert found["Flux 1"][0] / 1e9 == pytest.approx(3.2, abs=0.05)
    assert found["Flux 1"][0] > found["SD 3 medium"][1]


def test_a_double_block_in_single_ones():
    """Question 4, on a block without biases, gains and tokens that differ."""
    d = 64
    matrices = lambda module: sum(p.numel() for p in module.parameters() if p.ndim == 2)
    double = 2 * matrices(Block(d, 4, cond_dim=d))
    single = matrices(Parallel(d, 4, cond_dim=d))
    assert double == 36 * d**2
    assert single == 15 * d**2
    assert double / single == pytest.approx(2.4)


# ---------------------------------------------------------------- what was measured


def cells(row: list[str]) -> list[tuple[float, float]]:
    """Each is "mean ± sd"."""
    return [tuple(map(number, cell.split("±"))) for cell in row]


def test_the_comparison_of_designs(lecture, facts):
    table = facts["runs"]["table"]
    columns = ("one", "relation", "pair", "count", "negation", "relation, long", "pair, long")
    rows = {row[0]: row[1:] for row in table_rows(lecture, "Mflop")}
    assert list(rows) == list(ways_in.DESIGNS)
    for name, row in rows.items():
        found = table[name]
        assert found["seeds"] == 3
        same(row[0], 1e3 * found["forward Gflops"]["mean"], 1)
        ((excess, spread),) = cells(row[1:2])
        assert (excess, spread) == pytest.approx(
            (1e3 * found["excess"]["mean"], 1e3 * found["excess"]["sd"]), abs=0.051
        )
        for column, (share, sd) in zip(columns, cells(row[2:]), strict=True):
            assert (share, sd) == pytest.approx((found[column]["mean"], found[column]["sd"]), abs=0.0051)
            assert found[f"{column}, another caption"]["mean"] < 0.225  # the control
    excess = {name: found["excess"] for name, found in table.items()}
    apart = excess["double"]["mean"] - excess["cross-attention"]["mean"]
    spread = (excess["double"]["sd"] ** 2 + excess["cross-attention"]["sd"] ** 2) ** 0.5
    assert apart > 3 * spread
    for name in ("shared", "single"):
        assert abs(excess[name]["mean"] - excess["cross-attention"]["mean"]) < 2 * excess[name]["sd"]
    pair = {name: found["pair"]["mean"] for name, found in table.items()}
    assert min(pair["single"], pair["shared"]) > pair["cross-attention"] + 0.1 > pair["double"] + 0.2


def test_seconds_of_a_step(lecture, facts):
    found = facts["seconds"]["with gradients"]
    (said,) = re.findall(r"cross-attention takes 1: (.+?) \(CPU time", lecture)
    assert found["cross-attention"]["cpu_ratio"]["median"] == 1
    for text, design in zip(said.split(", "), list(ways_in.DESIGNS)[1:], strict=True):
        same(text, found[design]["cpu_ratio"]["median"], 2)


def test_words_that_never_see_the_picture(lecture, facts):
    table = facts["runs"]["table"]
    for (said, *row), name in zip(table_rows(lecture, "words look at the picture"), ("double", "closed"), strict=True):
        assert said == {"double": "yes", "closed": "never"}[name]
        assert cells(row[:1])[0][0] == pytest.approx(1e3 * table[name]["excess"]["mean"], abs=0.051)
        for column, (share, sd) in zip(("one", "relation", "pair"), cells(row[1:]), strict=True):
            assert (share, sd) == pytest.approx((table[name][column]["mean"], table[name][column]["sd"]), abs=0.0051)


def test_shares_of_words(lecture, facts):
    for design, *row in table_rows(lecture, "share of words"):
        for said, t in zip(row, ("0.9", "0.7", "0.5", "0.3"), strict=True):
            same(said, mean(share for share, _ in facts["streams"][design]["masses"][t].values()))


def test_what_becomes_of_words(lecture, facts):
    rows = table_rows(lecture, "before the last block")
    assert [row[0] for row in rows] == list(ways_in.DESIGNS)
    for design, far, *row in rows:
        same(far, list(facts["streams"][design]["moved"]["0.5"].values())[-1], 2)
        for said, t in zip(row, ("0.9", "0.7", "0.5", "0.3"), strict=True):
            same(said, list(facts["streams"][design]["of the picture"][t].values())[-1], 3)


def test_who_points(lecture, facts):
    rows = table_rows(lecture, "is read: own")
    assert [row[0] for row in rows] == list(ways_in.DESIGNS)
    for design, *row in rows:
        pointing = facts["streams"][design]["pointing"]["0.5"].values()
        for way, said in (("of words", row[:2]), ("of picture", row[2:])):
            with_it = [block for block in pointing if f"colour, {way}" in block]
            if not with_it:
                assert said == ["–", "–"]
                continue
            best = max(with_it, key=lambda block, way=way: block[f"colour, {way}"])
            same(said[0], best[f"colour, {way}"])
            same(said[1], best[f"colour, {way}, other"])


def test_sentences_that_are_not_filled_up(lecture, facts):
    """A lone object's sentence has 7 tokens: 3 words and what the template puts behind them."""
    assert len(streams.words("a red circle")) == 7
    found = facts["unfilled"]["at least"]
    (said,) = re.findall(r"7 tokens: (\S+)\. Padded to 9: (\S+); to 12: (\S+); to 20: (\S+)\. It was", lecture)
    for text, least in zip(said, ("0", "9", "12", "20"), strict=True):
        same(text, found[least]["one"])
    assert all(found[least]["relation"] == found["0"]["relation"] for least in ("9", "12"))
    assert found["0"]["relation"] == pytest.approx(0.6)


def test_what_was_taken_away(lecture, facts):
    for design, *row in table_rows(lecture, "as trained"):
        for said, way in zip(row, ("as trained", "still", "one way"), strict=True):
            same(said, facts["streams"][design]["less"][way]["relation"])


@pytest.mark.parametrize("design", ["double", "single"])
def test_the_shipped_networks_are_what_the_results_say(design, facts):
    """A few measurements, made again."""
    model, kept = ways_in.MODELS[design].load(), facts["streams"][design]
    prompts = replace(readers.WORLD, families=("relation",)).prompts(200, 3, "test")
    texts, (_, x_t) = captions(prompts), streams.noised(prompts, 0.5)
    for name, value in streams.moved(model, x_t, 0.5, texts).items():
        assert value == pytest.approx(kept["moved"]["0.5"][name], abs=1e-3)
    for name, (share, back) in streams.masses(model, x_t, 0.5, texts).items():
        assert [share, back] == pytest.approx(kept["masses"]["0.5"][name], abs=1e-3)
