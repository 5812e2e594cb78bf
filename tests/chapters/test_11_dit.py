"""The claims of chapter 11, each with a control that must fail."""

import json
import math
import re
from functools import partial

import pytest
import torch
from _pages import table_rows
from torch import Tensor

from minidiff.backbones.dit import CONDITIONINGS, DiT, equal_hidden
from minidiff.nn.block import Block
from minidiff.randomness import initialised, randn, seeded
from minidiff.shapes import patchify
from minidiff.systems import dit, fashion

XL = {"dim": 1152, "heads": 16}
SMALL = {"dim": 48, "depth": 4, "patch": 4}


def draws(*shape: int, seed: int = 0) -> Tensor:
    return randn(shape, seeded(seed), dtype=torch.float64)


def by_formula(n: int, d: int) -> float:
    """(1)."""
    return 24 * n * d**2 * (1 + n / (6 * d))


# ---------------------------------------------------------------- tokens and positions


@pytest.mark.parametrize(("n", "d"), [(4, 32), (16, 96), (64, 48)])
def test_operations_of_a_block_are_what_the_formula_says(n, d):
    counted = 1e9 * dit.gflops(partial(Block(d, 4), torch.zeros(1, n, d)))
    assert counted == pytest.approx(by_formula(n, d), rel=1e-9)
    assert counted != pytest.approx(24 * n * d**2, rel=1e-3)  # the control: without the attention


def test_the_papers_gflops_count_a_multiplication_with_its_addition():
    d, n, depth = XL["dim"], 256, 28
    whole = depth * by_formula(n, d)
    assert whole / 1e9 == pytest.approx(236.8, abs=0.05)
    modulations, ends = depth * 6 * d**2 + 2 * d**2, n * d * (16 + 32) + 256 * d + d**2
    assert (whole / 2 + modulations + ends) / 1e9 == pytest.approx(118.64, abs=0.03)
    assert n / (6 * d) == pytest.approx(0.037, abs=5e-4)
    assert 1000 * 80.7 / 1000 > 5 * 128 * 118.64 / 1000  # five times the work of a picture
    assert round(128 * 118.64 / 1000, 1) == 15.2


def test_half_the_patch_is_a_little_more_than_four_times_the_work():
    """Question 1, too."""
    for n, d in ((64, 384), (16, 96)):
        r = n / (6 * d)
        assert by_formula(4 * n, d) / by_formula(n, d) == pytest.approx(4 * (1 + 4 * r) / (1 + r))
    assert by_formula(256, 384) / by_formula(64, 384) == pytest.approx(4.3, abs=0.05)
    sizes = [sum(p.numel() for p in DiT(patch=p, **{"dim": 48, "depth": 4}).blocks.parameters()) for p in (2, 4, 8)]
    assert len(set(sizes)) == 1


@torch.no_grad()
def test_a_patch_is_answered_in_as_many_dimensions_as_a_token_has():
    """S/8: 192 numbers; at one t 31 dimensions, as the last norm takes the mean. L/4 (the control) has all 48."""

    def rank(size: str, patch: int) -> int:
        net = initialised(lambda: dit.build(size, patch), 0).net.backbone
        for k, p in enumerate(net.parameters()):
            p += 0.2 * randn(p.shape, seeded(k))
        words = randn((100, dit.LENGTH, net.dim), seeded(1))
        answers = patchify(net(randn((100, 3, 16, 16), seeded(0)), torch.tensor(0.5), context=words), patch).flatten(
            0, 1
        )
        values = torch.linalg.svdvals((answers - answers.mean(0)).double())
        return int((values > 1e-5 * values[0]).sum())

    assert rank("s", 8) == 31
    assert rank("l", 4) == 48


def test_a_shift_is_one_rotation_and_cosines_depend_on_the_distance():
    """(2)."""
    rate = 10_000.0 ** (-torch.arange(12, dtype=torch.float64) / 12)
    pair = lambda m: torch.stack([(rate * m).sin(), (rate * m).cos()], -1)[..., None]  # (12, 2, 1)

    def turned(by: float) -> Tensor:
        cos, sin = (rate * by).cos(), (rate * by).sin()
        return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)

    for m in (0, 3, 11.5):
        assert torch.allclose(pair(m + 2), turned(2) @ pair(m), atol=1e-12)
        assert not torch.allclose(pair(m + 2), turned(-2) @ pair(m), atol=0.1)  # the control
        assert float((pair(m) * pair(m + 2)).sum()) == pytest.approx(float((2 * rate).cos().sum()), abs=1e-12)


# ---------------------------------------------------------------- four ways


def test_the_table_of_conditionings_is_what_a_counter_says(lecture):
    d, n = XL["dim"], 256
    r, options = n / (6 * d), {"cross-attention": {"context_dim": d}, "adaLN": {"cond_dim": d, "zero": False}}
    formulas = {"in-context": 2 / n * (1 + 2 * r) / (1 + r), "cross-attention": 1 / (6 + n / d)}
    formulas |= {"adaLN": 1 / (3 * n), "adaLN-Zero": 1 / (2 * n)}
    with torch.device("meta"):
        plain = sum(p.numel() for p in Block(d, 16).parameters())
        for how in CONDITIONINGS:
            block = Block(d, 16, **options.get(how, {"cond_dim": d} if how == "adaLN-Zero" else {}))
            z = torch.zeros(1, n + 2 * (how == "in-context"), d)
            seen = torch.zeros(1, 2, d) if how == "cross-attention" else None
            more = 1e9 * dit.gflops(partial(block, z, torch.zeros(1, d), seen)) / by_formula(n, d) - 1
            parameters = (sum(p.numel() for p in block.parameters()) - plain) / d**2
            assert more == pytest.approx(formulas[how], rel=0.05)
            (row,) = (row for row in table_rows(lecture, "operations, in shares") if row[0] == how)
            assert float(row[3].removesuffix(" %")) == pytest.approx(100 * more, abs=0.051)
            assert float(re.sub(r"\D", "", row[1].split("d")[0])) == pytest.approx(parameters, abs=0.02)


def test_equal_parameters_make_the_others_mlps_wider():
    widths = [equal_hidden(how, **SMALL) / SMALL["dim"] for how in CONDITIONINGS]
    assert widths == pytest.approx([7, 5, 5, 4], abs=0.3)
    assert all(4 + 2 * h + more == 18 for h, more in zip((7, 5, 5, 4), (0, 4, 4, 6)))
    assert all(abs(4 + 8 + more - 18) > 1 for more in (0, 4, 4))  # the control: an MLP of 4·d


# ---------------------------------------------------------------- why zero


def learning(net: DiT) -> set[str]:
    """The parts with a gradient that is not 0, after one backward pass."""
    (net(randn((4, 3, 16, 16), seeded(1)), torch.linspace(0.2, 0.8, 4)) - 1).square().mean().backward()
    found = set()
    for name, p in net.named_parameters():
        if "modulation" in name:
            parts = {"scales, shifts": p.grad[: 2 * net.dim], "gates": p.grad[2 * net.dim :]}
        else:
            parts = {"branches" if name.startswith("blocks") else name.split(".")[0]: p.grad}
        found |= {part for part, grad in parts.items() if bool(grad.any())}
    return found


def test_what_learns_when_only_the_gates_begin_at_zero():
    """Question 2; the control: with the last map at 0, too, it alone learns."""
    net = initialised(lambda: DiT(**SMALL), 0)
    net.head.reset_parameters()
    assert learning(net) == {"head", "last", "gates", "stem", "place"}
    assert learning(initialised(lambda: DiT(**SMALL), 0)) == {"head"}


def test_two_zeros_in_a_row_never_wake():
    net = initialised(lambda: DiT(**SMALL), 0)
    net.head.reset_parameters()
    for block in net.blocks:
        for last in (block.down, block.attention.out):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
    assert learning(net) & {"gates", "branches", "scales, shifts"} == set()
    other = initialised(lambda: DiT(**SMALL), 0)
    other.head.reset_parameters()
    assert "gates" in learning(other)  # the control


def test_at_first_every_block_sees_the_same_gradient():
    def gradients(how: str) -> list[Tensor]:
        net, kept = initialised(lambda: DiT(**SMALL, conditioning=how), 0), []
        net.head.reset_parameters()
        for block in net.blocks:
            block.register_forward_hook(lambda module, given, out: kept.append(out))
        loss = net(randn((4, 3, 16, 16), seeded(1)), torch.linspace(0.2, 0.8, 4)).square().mean()
        return list(torch.autograd.grad(loss, kept))

    first, *rest = gradients("adaLN-Zero")
    assert all(torch.equal(first, other) for other in rest)
    first, *rest = gradients("adaLN")
    assert not any(torch.equal(first, other) for other in rest)  # the control


@torch.no_grad()
def test_without_gates_variance_grows_with_depth():
    """(5): about equally much with each block."""
    net = initialised(lambda: DiT(dim=96, depth=24, patch=4, conditioning="adaLN"), 0)
    sizes: list[float] = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, given, out: sizes.append(float(out.var())))
    net(randn((8, 3, 16, 16), seeded(0)), torch.linspace(0.1, 0.9, 8))
    early, late = (sizes[12] - sizes[0]) / 12, (sizes[23] - sizes[12]) / 11
    assert early > 0
    assert 0.4 < late / early < 2.5, "a straight line, roughly; an exponential would have a factor of tens"


# ---------------------------------------------------------------- floor and excess


def test_the_cross_term_vanishes_for_whatever_answers_from_x_t_alone():
    """(6), by quadrature: x0 = ±1, x_t = x0 + ε, and so m = tanh(x_t)."""
    x = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    weight = torch.stack([torch.exp(-((x - s) ** 2) / 2) for s in (-1, 1)]) / (2 * math.pi) ** 0.5 * (x[1] - x[0]) / 2
    x0, m = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), x.tanh()
    mean = lambda values: float((weight * values).sum())
    for answer in (0.3 * x, x.sign(), torch.zeros_like(x)):
        assert mean((answer - m) * (m - x0)) == pytest.approx(0, abs=1e-9)
        total = mean((answer - x0) ** 2)
        assert total == pytest.approx(mean((m - x0) ** 2) + mean((answer - m) ** 2), abs=1e-9)
    seen = 0.5 * x0 + 0.5 * m  # the control: it knows more than x_t
    assert mean((seen - m) * (m - x0)) < -0.05
    assert mean((seen - x0) ** 2) < mean((m - x0) ** 2)  # question 4


def test_a_small_difference_in_loss_can_be_a_factor_in_excess():
    """Question 3."""
    assert round(1 - 0.052 / 0.060, 2) == 0.13
    assert round((0.052 - 0.050) / (0.060 - 0.050), 6) == 0.2


# ---------------------------------------------------------------- the texts


@pytest.fixture(scope="module")
def lecture(root) -> str:
    return (root / "lectures" / "11_dit.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(root) -> dict:
    return json.loads((root / "benchmarks" / "results" / "dit.json").read_text(encoding="utf-8"))


def numbers(cells: list[str]) -> list[float]:
    """Of all cells in a row, in their order; "75 k" is 75."""
    return [float(x) for x in re.findall(r"-?\d*\.?\d+", " ".join(cells).replace(",", ""))]


def mean(rows: list[dict], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def close(told: list[float], said: list[float]) -> bool:
    """As rounded: to three digits, or to a hundredth."""
    return told == pytest.approx(said, rel=0.006, abs=0.0051)


def short(name: str) -> str:
    return name.removeprefix("dit-").upper().replace("-", "/")


def test_the_conditionings_are_what_the_benchmark_measured(lecture, facts):
    table = facts["conditionings"]["table"]
    rows = {how: numbers(cells) for how, *cells in table_rows(lecture, "| told by |")}
    assert list(rows) == list(table) == list(CONDITIONINGS)
    for how, row in table.items():
        excess, right = (row[name] for name in ("excess", "right"))
        said = [1e3 * row["forward Gflops"], 1e3 * excess["mean"], 1e3 * excess["sd"]]
        said += [right["mean"], right["sd"], row["another label"]["mean"]]
        assert rows[how] == pytest.approx(said, rel=0.006, abs=0.0051), how
        assert row["seeds"] == 3
    parameters = [row["parameters"] for row in table.values()]
    assert max(parameters) < 1.002 * min(parameters)
    work = {how: row["forward Gflops"] for how, row in table.items()}
    assert min(work, key=work.__getitem__) == "adaLN-Zero"
    runs = facts["conditionings"]["runs"]
    above = {how: [mean(runs[f"{how}, seed {k}"]["errors"], "excess") for k in range(3)] for how in CONDITIONINGS}
    worst, cross = above.pop("in-context"), above.pop("cross-attention")
    assert min(worst) > max(map(max, above.values()))
    assert max(cross) < min(map(min, above.values()))
    assert 1 - sum(cross) / sum(above["adaLN-Zero"]) == pytest.approx(0.03, abs=0.005)
    assert work["cross-attention"] / work["adaLN-Zero"] == pytest.approx(4 / 3, abs=0.05)
    assert max(map(min, above.values())) < min(map(max, above.values())), "these two overlap: no order among them"
    assert "3 % ahead, with every seed, at a third more work" in lecture


def test_the_nine_are_what_their_records_say(lecture, facts):
    rows = {name: numbers(cells) for name, *cells in table_rows(lecture, "| loss | above the floor |")}
    said = {short(row["model"]): row for row in facts["scaling"]["rows"]}
    assert sorted(rows) == sorted(said)
    for name, row in said.items():
        values = [row["parameters"], *(1e3 * row[key] for key in ("forward Gflops", "loss", "excess"))]
        values += [row[f"{what}, w=1"] for what in ("objects", "one", "relation")]
        assert rows[name] == pytest.approx(values, rel=0.006, abs=0.0051)
        record = dit.FAMILY[row["model"]].record()
        assert row["parameters"] == record["parameters"]
        assert (
            row["objects, w=1"] == record["scores"]["objects, w=1"] > record["scores"]["objects, another caption, w=1"]
        )
    (line,) = (line for line in lecture.splitlines() if line.startswith("Spearman of the loss with Gflops"))
    ranks = [facts["scaling"][f"spearman with {what}"]["loss"] for what in ("forward Gflops", "parameters")]
    assert numbers([line.replace("−", "-").rstrip(".")])[:2] == pytest.approx(ranks, abs=0.0051)
    assert ranks[0] <= -0.9
    assert ranks[0] < ranks[1]
    l8, m4 = said["L/8"], said["M/4"]
    assert l8["forward Gflops"] > m4["forward Gflops"]
    assert l8["excess"] > m4["excess"]
    assert facts["scaling"]["spearman with forward Gflops"]["objects, w=1"] < 0.9, "objects follow less strictly"


def test_expected_losses_are_what_the_records_say(lecture):
    rows = {name: numbers(cells) for name, *cells in table_rows(lecture, "t = .2")}
    scores = {short(name): model.record()["scores"] for name, model in dit.FAMILY.items()}
    at = lambda kind, name: [1e3 * scores[name][f"{kind}, t={t:g}"] for t in dit.TIMES]
    assert rows.pop("floor") == pytest.approx(at("floor", "L/2"), rel=0.006, abs=0.0051)
    assert sorted(rows) == sorted(scores)
    for name, told in rows.items():
        assert told == pytest.approx(at("excess", name), rel=0.006, abs=0.0051)
        assert at("floor", name) == pytest.approx(at("floor", "L/2"), rel=1e-3)  # of one exam
    assert all(large < small for large, small in zip(rows["L/2"], rows["S/8"]))


def test_more_steps_are_what_the_benchmark_measured(lecture, facts):
    told = {name: numbers(cells) for name, *cells in table_rows(lecture, "| 5 steps |")}
    said = {}
    for model in (dit.S4, dit.M4, dit.L4):
        rows = [row for row in facts["sampling"]["rows"] if row["model"] == model.name]
        said[short(model.name)] = [*(row["objects"] for row in rows), rows[-1]["Gflops"]]
        assert all(row["objects"] > row["objects, another caption"] for row in rows)
    assert sorted(told) == sorted(said)
    for name, values in said.items():
        assert told[name] == pytest.approx(values, rel=0.006, abs=0.0051), name
    assert max(said["S/4"][:-1]) < max(said["L/4"][:-1])


def test_the_u_net_is_what_the_benchmark_measured(lecture, facts):
    told = {name: numbers(cells) for name, *cells in table_rows(lecture, "| parameters | Mflop a call | above")}
    unet, record = facts["unet"]["U-Net"], dit.L4.record()
    said = {
        "DiT-L/4": [record["parameters"], 1e3 * unet["forward Gflops of L/4"]],
        "U-Net": [unet["parameters"], 1e3 * unet["forward Gflops"]],
    }
    for name, own in (("DiT-L/4", facts["unet"]["dit-l-4"]), ("U-Net", unet)):
        said[name] += [1e3 * mean(own["errors"], "excess"), own["objects, w=1"], own["one, w=1"], own["relation, w=1"]]
        assert told[name] == pytest.approx(said[name], rel=0.006, abs=0.0051)
    assert unet["steps"] == record["steps"]


def test_the_garments_are_what_the_records_say(lecture):
    rows = {name: numbers(cells) for name, *cells in table_rows(lecture, "| steps | minutes |")}
    for name, model in (("DiT", dit.FASHION), ("U-Net", fashion.DENOISER)):
        record = model.record()
        said = [record["scores"][f"judge accuracy at w={w}"] for w in (0.0, 1.0, 3.0)]
        assert rows[name] == pytest.approx([record["steps"], round(record["seconds"] / 60), *said], abs=0.0051)
    scores = dit.FASHION.record()["scores"]
    (line,) = (line for line in lecture.splitlines() if "recall among real" in line)
    said = [scores[f"{what} at w={w}"] for what in ("recall", "precision") for w in (0.0, 1.0, 3.0)]
    said += [scores["real, precision"], scores["real, recall"]]
    assert [float(x) for x in re.findall(r"\d?\.\d\d|\b1\b", line)] == pytest.approx(said, abs=0.0051)


def test_what_the_notebook_asks_to_predict_is_folded_away(lecture):
    assert lecture.count("<details>") == lecture.count("</details>") >= 9
    shown = re.sub(r"<details>.*?</details>", "", lecture, flags=re.DOTALL)
    for table in ("| told by |", "| loss | above the floor |", "t = .2", "| 5 steps |", "| steps | minutes |"):
        assert table in lecture
        assert table not in shown
    assert "16.2 %" in shown, "control: what is derived stays in sight"
