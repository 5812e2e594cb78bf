"""The exercises of chapter 11: wrong answers that look right, and right ones beside them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from _answers import answers
from torch import Generator, Tensor, nn

from minidiff.backbones.dit import DiT
from minidiff.course.exercise import find
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify, unpatchify
from minidiff.systems.dit import gflops

# ---------------------------------------------------------------- two more tokens


def listened(
    start=lambda z, place: z + place,
    told=lambda times, label: [times] if label is None else [times, label],
    join=lambda x, told: torch.cat([x, torch.stack(told, 1)], 1),
    end=lambda x, n: x[:, :n],
    order=lambda blocks: blocks,
):
    def in_context(blocks, z, place, times, label):
        x = join(start(z, place), told(times, label))
        for block in order(blocks):
            x = block(x)
        return end(x, z.shape[1])

    return in_context


CONTEXT = {
    "zeros where there is no label": listened(
        told=lambda times, label: [times, torch.zeros_like(times) if label is None else label]
    ),
    "the time twice": listened(told=lambda times, label: [times, times] if label is None else [times, label]),
    "no token without a label": listened(told=lambda times, label: [] if label is None else [times, label], join=(
        lambda x, told: torch.cat([x, torch.stack(told, 1)], 1) if told else x
    )),
    "always two cut": listened(end=lambda x, n: x[:, :-2]),
    "cut at the front": listened(end=lambda x, n: x[:, -n:]),
    "nothing cut": listened(end=lambda x, n: x),
    "the blocks backwards": listened(order=lambda blocks: blocks[::-1]),
    "one block too few": listened(order=lambda blocks: blocks[:-1] or blocks),
    "every token told its place, these too": listened(
        start=lambda z, place: z,
        join=lambda x, told: torch.cat([x, torch.stack(told, 1)], 1) + 0.1,
    ),
    "the label only": listened(told=lambda times, label: [times] if label is None else [label]),
    "the places doubled": listened(start=lambda z, place: z + 2 * place),
}  # fmt: skip

# ---------------------------------------------------------------- work


def counted(
    tokens=lambda size, p: (size[0] // p) * (size[1] // p),
    ends=lambda n, inside, dim: 2 * n * inside * dim + 2 * dim**2,
    maps=lambda n, dim: 12 * n * dim**2 + 6 * dim**2,
    squares=lambda n, dim: 2 * n**2 * dim,
    whole=lambda ends, block, depth: 2 * (ends + depth * block),
):
    def dit_work(size, patch, channels, dim, depth):
        n = tokens(size, patch)
        return n, whole(ends(n, patch**2 * channels, dim), maps(n, dim) + squares(n, dim), depth)

    return dit_work


WORK = {
    "square pictures only": counted(tokens=lambda size, p: (size[0] // p) ** 2),
    "one more token": counted(tokens=lambda size, p: (size[0] // p) * (size[1] // p) + 1),
    "tokens of a side": counted(tokens=lambda size, p: size[0] // p),
    "a stem without its head": counted(ends=lambda n, inside, dim: n * inside * dim + 2 * dim**2),
    "no last modulation": counted(ends=lambda n, inside, dim: 2 * n * inside * dim),
    "a last modulation of six": counted(ends=lambda n, inside, dim: 2 * n * inside * dim + 6 * dim**2),
    "without O": counted(maps=lambda n, dim: 11 * n * dim**2 + 6 * dim**2),
    "an MLP one way": counted(maps=lambda n, dim: 8 * n * dim**2 + 6 * dim**2),
    "four vectors": counted(maps=lambda n, dim: 12 * n * dim**2 + 4 * dim**2),
    "no modulation": counted(maps=lambda n, dim: 12 * n * dim**2),
    "squares of the width": counted(squares=lambda n, dim: 2 * n * dim**2),
    "squares without the width": counted(squares=lambda n, dim: 2 * n**2),
    "ends in every block": counted(whole=lambda ends, block, depth: 2 * depth * (ends + block)),
    "in 10⁹": counted(whole=lambda ends, block, depth: 2 * (ends + depth * block) / 1e9),
    "three passes": counted(whole=lambda ends, block, depth: 6 * (ends + depth * block)),
}

# ---------------------------------------------------------------- places


def placed(
    count=lambda dim: dim // 4,
    rate=lambda k, n: 10_000.0 ** (-k / n),
    start=0,
    axes=lambda row, column: (column, row),
    indexing="ij",
    join=lambda parts: torch.cat(parts, 1),
    scale=1.0,
):
    def places(height, width, dim):
        rates = rate(torch.arange(count(dim)) + start, count(dim))
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing=indexing)
        angles = [scale * axis.flatten()[:, None] * rates for axis in axes(row, column)]
        return join([f(angle) for angle in angles for f in (torch.sin, torch.cos)])

    return places


PLACES = {
    "up to the last frequency": placed(rate=lambda k, n: 10_000.0 ** (-k / max(n - 1, 1))),
    "counted from 1": placed(start=1),
    "period 1000": placed(rate=lambda k, n: 1000.0 ** (-k / n)),
    "frequencies in steps of one size": placed(rate=lambda k, n: 1 - k / n),
    "the rate upside down": placed(rate=lambda k, n: 10_000.0 ** (k / n)),
    "the axes of xy": placed(indexing="xy"),
    "the row twice": placed(axes=lambda row, column: (row, row)),
    "row plus column": placed(axes=lambda row, column: (row + column, row - column)),
    "all sines first": placed(join=lambda p: torch.cat([p[0], p[2], p[1], p[3]], 1)),
    "turns instead of radians": placed(scale=2 * torch.pi),
    "places from 1": placed(axes=lambda row, column: (column + 1, row + 1)),
    "in the middle": placed(axes=lambda row, column: (column + 0.5, row + 0.5)),
    "float64": lambda height, width, dim: placed()(height, width, dim).double(),
    "a batch of one": lambda height, width, dim: placed()(height, width, dim)[None],
}

# ---------------------------------------------------------------- excess


def above(
    far=lambda a, b: (a - b).square().flatten(1).mean(1),
    gap=lambda loss, floor: loss - floor,
    error=lambda values: values.std() / len(values) ** 0.5,
    direct=lambda far, guess, x0, mean: far(guess, mean),
):
    def excess(guess, x0, mean):
        told = lambda values: (float(values.mean()), float(error(values)))
        return *told(gap(far(guess, x0), far(mean, x0))), *told(direct(far, guess, x0, mean))

    return excess


EXCESS = {
    "never below nothing": above(gap=lambda loss, floor: (loss - floor).clamp(min=0)),
    "its absolute value": above(gap=lambda loss, floor: (loss - floor).abs()),
    "a sum over numbers": above(far=lambda a, b: (a - b).square().flatten(1).sum(1)),
    "absolute differences": above(far=lambda a, b: (a - b).abs().flatten(1).mean(1)),
    "the floor's mean": above(gap=lambda loss, floor: loss - floor.mean()),
    "the loss itself": above(gap=lambda loss, floor: loss),
    "floor minus loss": above(gap=lambda loss, floor: floor - loss),
    "divided by B": above(error=lambda values: values.std() / len(values)),
    "the variance": above(error=lambda values: values.var() / len(values)),
    "1.96 errors": above(error=lambda values: 1.96 * values.std() / len(values) ** 0.5),
    "directly, by subtraction": above(direct=lambda far, guess, x0, mean: far(guess, x0) - far(mean, x0)),
    "directly, to x0": above(direct=lambda far, guess, x0, mean: far(guess, x0)),
    "over the first axis": above(far=lambda a, b: (a - b).square().mean(0).flatten()),
    "over the channels": above(far=lambda a, b: (a - b).square().mean(1).flatten(1).sum(1)),
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "gates that begin as others do": ("6 * dim, zero=True)", "6 * dim)"),
    "a head that begins as others do": ("inside, zero=True)", "inside)"),
    "a last modulation that begins as others do": ("2 * dim, zero=True)", "2 * dim)"),
    "all begins at zero": (
        '"v", "out")}', '"v")}\n        made["out"] = linear(f"blocks.{i}.out", dim, dim, zero=True)'
    ),
    "maps made at every call": (
        "    def net(x_t, cond):\n", '    def net(x_t, cond):\n        linear("stem", inside, dim)\n'
    ),
    "the stem twice": ("    last, head", '    stem = linear("stem", inside, dim)\n    last, head'),
    "an MLP of twice the width": ("up\", dim, 4 * dim)", "up\", dim, 2 * dim)"),
    "no places": (" + place\n", "\n"),
    "no SiLU": ("cond = F.silu(cond)[:, None]", "cond = cond[:, None]"),
    "SiLU twice": ('m["modulation"](cond)', 'm["modulation"](F.silu(cond))'),
    "scale without one": ("(1 + scale)", "scale"),
    "no norm": ("F.layer_norm(x, (dim,))", "x"),
    "a norm over all tokens": ("F.layer_norm(x, (dim,))", "F.layer_norm(x, x.shape[1:])"),
    "shift first": ("scale_1, shift_1, gate_1, scale_2", "shift_1, scale_1, gate_1, scale_2"),
    "gate first": ("scale_1, shift_1, gate_1, scale_2", "gate_1, scale_1, shift_1, scale_2"),
    "the MLP's before the attention's": (
        "scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 =", "scale_2, shift_2, gate_2, scale_1, shift_1, gate_1 ="
    ),
    "one gate for both": ("x = x + gate_2 *", "x = x + gate_1 *"),
    "no gate for the MLP": ("x = x + gate_2 *", "x = x +"),
    "one plus gate": ("x = x + gate_1 *", "x = x + (1 + gate_1) *"),
    "no way around": ("x = x + gate_1 * attention", "x = gate_1 * attention"),
    "attention and MLP side by side": ("modulated(x, scale_2, shift_2)", "modulated(before, scale_2, shift_2)"),
    "the MLP not modulated": ("modulated(x, scale_2, shift_2)", "F.layer_norm(x, (dim,))"),
    "the wrong root": ("(dim // heads) ** 0.5", "dim**0.5"),
    "no root": (" / (dim // heads) ** 0.5", ""),
    "heads interleaved": (
        "unflatten(-1, (heads, -1)).transpose(1, 2)", "unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)"
    ),
    "softmax over the queries": ("softmax(-1)", "softmax(-2)"),
    "GELU itself": (', approximate="tanh"', ""),
    "ReLU": ("F.gelu(", "(lambda x, approximate: F.relu(x))("),
    "one block": ("for m in blocks:", "for m in blocks[:1]:"),
    "the last block's maps": ("for m in blocks:", "for m in [blocks[-1]] * depth:"),
    "shift first at the end": ("*last(cond).chunk(2, -1)", "*last(cond).chunk(2, -1)[::-1]"),
    "not normed at the end": ("head(modulated(x, *last(cond).chunk(2, -1)))", "head(x)"),
    "the answer added to x_t": ("reshape(x_t.shape)\n", "reshape(x_t.shape) + x_t\n"),
    "channels first in a patch": ("permute(0, 2, 4, 3, 5, 1)", "permute(0, 2, 4, 1, 3, 5)"),
    "pixels column by column": ("permute(0, 2, 4, 3, 5, 1)", "permute(0, 2, 4, 5, 3, 1)"),
    "patches column by column": ("permute(0, 2, 4, 3, 5, 1)", "permute(0, 4, 2, 3, 5, 1)"),
    "rows and columns exchanged at the end": ("permute(0, 5, 1, 3, 2, 4)", "permute(0, 5, 2, 4, 1, 3)"),
    "one condition for the batch": ("cond = F.silu(cond)[:, None]", "cond = F.silu(cond)[:1, None]"),
    "no gradient": ("    def net(x_t, cond):\n", "    @torch.no_grad()\n    def net(x_t, cond):\n"),
    "no gradient to the condition": ("cond = F.silu(cond)", "cond = F.silu(cond).detach()"),
}  # fmt: skip


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed; `before` is x before the attention."""
    before = ("            x = x + gate_1", "            before = x\n            x = x + gate_1")
    without = lambda changes: () if any("gate_1 * attention" in old for old, _ in changes) else (before,)
    names = {"torch": torch, "F": F, "Tensor": Tensor}
    return lambda *changes: master("11-network", names, *without(changes), *changes)


TestAnswers = answers(
    chapter="11_dit",
    build="11-network",
    experiment="11-which-zeros",
    wrong={"11-in-context": CONTEXT, "11-gflops": WORK, "11-places": PLACES, "11-excess": EXCESS},
    right={
        "11-in-context": listened(),
        "11-gflops": counted(),
        "11-places": placed(),
        "11-excess": above(),
    },
    slips=SLIPS,
)


def test_the_sequence_is_the_librarys():
    net = initialised(lambda: DiT(dim=16, depth=2, conditioning="in-context"), 0).requires_grad_(False)
    x, t, label = randn((2, 3, 16, 16), seeded(0)), torch.tensor([0.2, 0.7]), randn((2, 16), seeded(1))
    run = find("11-in-context").reference
    by_hand = lambda label: unpatchify(
        net.head(net.last(run(net.blocks, net.stem(patchify(x, 4)), net.place, net.time(t), label))), 4, (16, 16)
    )
    assert torch.allclose(by_hand(label), net(x, t, vector=label), atol=1e-6)
    assert torch.allclose(by_hand(None), net(x, t), atol=1e-6)
    assert not torch.allclose(by_hand(label), net(x, t), atol=1e-3)  # the control


@pytest.mark.parametrize(("patch", "dim", "depth"), [(4, 32, 3), (2, 16, 1), (8, 48, 2)])
def test_the_work_is_what_pytorch_counts(patch, dim, depth):
    net = DiT(patch=patch, dim=dim, depth=depth)
    x, t = torch.zeros(1, 3, 16, 16), torch.zeros(1)
    seen = gflops(partial(net, x, t)) - gflops(partial(net.time, t))
    work = find("11-gflops").reference
    assert work((16, 16), patch, 3, dim, depth) == ((16 // patch) ** 2, round(1e9 * seen))
    assert work((16, 16), patch, 3, dim, depth + 1)[1] != round(1e9 * seen)  # the control


def test_the_papers_gflops_are_multiply_adds():
    _, work = find("11-gflops").reference((32, 32), 2, 4, 1152, 28)
    assert work / 2e9 == pytest.approx(118.6, abs=0.1)


def test_places_are_those_of_the_papers_code():
    """As in facebookresearch/DiT: a grid of (column, row), of each the sines and then the cosines."""
    found = find("11-places").reference(2, 3, 8)
    rate = torch.tensor([1.0, 0.01])
    for n, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        parts = [f(axis * rate) for axis in (column, row) for f in (torch.sin, torch.cos)]
        assert torch.allclose(found[n], torch.cat(parts), atol=1e-6)


def test_both_ways_tell_the_same_excess_and_one_knows_it_better():
    g, run = Generator().manual_seed(0), find("11-excess").reference
    mean = torch.randn(4000, 6, generator=g)
    x0, guess = mean + torch.randn(4000, 6, generator=g), mean + 0.1 * torch.randn(4000, 6, generator=g)
    a, a_error, b, b_error = run(guess, x0, mean)
    assert abs(a - b) < 4 * (a_error + b_error)
    assert a_error > 5 * b_error
    assert abs(run(guess, x0, 0 * mean)[2] - b) > 0.5  # the control: another mean


class Modules(nn.ModuleDict):
    """Maps as a notebook makes them."""

    def __call__(self, name, fan_in, fan_out, zero=False):
        layer = self[name.replace(".", "_")] = nn.Linear(fan_in, fan_out)
        if zero:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return layer


@pytest.mark.parametrize("own", [True, False], ids=["the master's", "the reference"])
def test_a_new_network_answers_nothing_and_learns_from_its_head_on(built, own):
    maps = Modules()
    net = (built() if own else find("11-network").reference)(maps, randn((4, 8), seeded(0)), 3, 2, 2, 2)
    x, cond, wanted = randn((2, 3, 4, 4), seeded(1)), randn((2, 8), seeded(2)), randn((2, 3, 4, 4), seeded(3))
    moved = []
    for _ in range(4):
        found = net(x, cond)
        maps.zero_grad()
        (found - wanted).square().mean().backward()
        moved.append({k for k, p in maps.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0})
        with torch.no_grad():
            for p in maps.parameters():
                p -= 0.1 * p.grad if p.grad is not None else 0
        if len(moved) == 1:
            assert not found.any()
    assert moved[0] == {"head.weight", "head.bias"}
    assert "blocks_0_modulation.weight" in moved[1] - moved[0]  # gates open once the head says something
    assert "blocks_0_q.weight" not in moved[1]
    rest = {k for k, _ in maps.named_parameters()} - moved[3]
    assert rest <= {"blocks_0_k.bias", "blocks_1_k.bias"}  # a softmax does not see what all keys have in common
