"""What the benchmark of DiT measures with, in tiny: labels, equal parameters, resuming, ranks, equal work."""

import json

import pytest
import torch

from benchmarks import dit as benchmark
from minidiff.backbones.dit import CONDITIONINGS
from minidiff.systems import dit
from minidiff.training import step_generator


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.RESULTS, "path", tmp_path / "dit.json")
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # which `main` does, for all tests after this one
    return tmp_path / "dit.json"


def a_run(excess: float, right: float = 0.5) -> dict:
    errors = [{"t": t, "loss": excess + 0.01, "floor": 0.01, "excess": excess} for t in dit.TIMES]
    facts = {"parameters": 10, "hidden": 4, "forward Gflops": 0.1, "steps": 2, "cpu_s": 0.1}
    return facts | {"errors": errors, "right": right, "another label": 0.1}


def test_thirty_labels_name_what_is_shown():
    prompts = benchmark.ONE.prompts(400, 0)
    y = benchmark.label(prompts)["y"]
    assert set(y.tolist()) == set(range(30))
    assert all(benchmark.LABELS[i] == (p.groups[0].kind, p.groups[0].colour) for i, p in zip(y.tolist(), prompts))
    batch = benchmark.draw_labelled(8)(step_generator(0, 0))
    assert batch["x0"].shape == (8, 3, 16, 16)
    assert int(batch["y"].max()) <= 30


def test_all_four_have_equally_many_parameters_and_one_floor():
    count = {how: sum(p.numel() for p in benchmark.build_told(how).parameters()) for how in CONDITIONINGS}
    assert max(count.values()) <= 1.01 * min(count.values()), count


def test_a_run_says_what_the_table_needs_and_comes_again(capsys):
    first, again = (benchmark.conditioning("in-context", 1, steps=2, n=8, shown=4) for _ in range(2))
    other = benchmark.conditioning("in-context", 2, steps=2, n=8, shown=4)
    assert {**first, "cpu_s": 0} == {**again, "cpu_s": 0}
    assert first["errors"] != other["errors"]
    assert first["hidden"] > 4 * benchmark.TOLD["dim"]
    assert [row["t"] for row in first["errors"]] == list(dit.TIMES)
    assert first.keys() == a_run(0.1).keys()
    assert "about 0 s of CPU time" in capsys.readouterr().out


def test_runs_that_are_there_are_not_made_again(results, monkeypatch):
    made = []
    monkeypatch.setattr(benchmark, "conditioning", lambda how, seed: (made.append((how, seed)), a_run(0.1 * seed))[1])
    benchmark.main(["conditionings", "adaLN", "1"])
    assert made == [("adaLN", 1)]
    benchmark.main(["conditionings", "adaLN"])
    assert made == [("adaLN", 1), ("adaLN", 0), ("adaLN", 2)]
    benchmark.main(["conditionings"])
    assert len(made) == len(set(made)) == 12
    found = json.loads(results.read_text(encoding="utf-8"))["conditionings"]
    assert list(found["table"]) == list(CONDITIONINGS)
    assert found["table"]["adaLN"]["excess"] == {"mean": 0.1, "sd": 0.1}  # of 0, 0.1, 0.2
    assert found["table"]["adaLN"]["excess by time"]["0.5"] == {"mean": 0.1, "sd": 0.1}
    assert found["table"]["adaLN"]["seeds"] == 3


def test_conditionings_are_not_taken_for_one_another():
    """The name of one is the beginning of another's."""
    table = benchmark.compared({"adaLN, seed 0": a_run(0.2), "adaLN-Zero, seed 0": a_run(0.1)})["table"]
    assert table["adaLN"]["excess"] == {"mean": 0.2, "sd": 0.0}
    assert table["adaLN-Zero"]["excess"]["mean"] == 0.1


def record(work: float, excess: float, parameters: int, share: float) -> dict:
    scores = {"tokens": 4, "forward Gflops": work, "one, w=0": share, "one, another caption, w=0": 0.1}
    for t in dit.TIMES:
        scores |= {f"loss, t={t:g}": excess + 0.1, f"floor, t={t:g}": 0.1, f"excess, t={t:g}": excess}
    return {"parameters": parameters, "steps": 10, "scores": scores}


def test_ranks_by_hand():
    records = {"b": record(2.0, 0.3, 7, 0.5), "a": record(1.0, 0.4, 7, 0.2), "c": record(4.0, 0.1, 9, 0.9)}
    found = benchmark.scaled(records)
    assert [row["model"] for row in found["rows"]] == ["a", "b", "c"]
    assert found["rows"][0]["training Gflops"] == 3 * 32 * 10
    ranks = found["spearman with forward Gflops"]
    assert ranks == {"loss": -1.0, "excess": -1.0, "one, w=0": 1.0}
    assert -1 < found["spearman with parameters"]["loss"] < 0  # two have equally many
    swapped = records | {"c": record(4.0, 0.5, 9, 0.9)}
    assert benchmark.scaled(swapped)["spearman with forward Gflops"]["excess"] == 0.5
    assert found["floor"] == pytest.approx(0.1)


def test_sampling_counts_both_branches(monkeypatch):
    model = dit.S4.untrained().requires_grad_(False).eval()
    found = benchmark.sampled(model, 3, 2)
    assert found["Gflops"] == pytest.approx(3 * 2 * dit.forward_gflops(model), abs=1e-6)
    assert {"one", "relation", "one, another caption"} <= found.keys()
    monkeypatch.setattr(benchmark, "STRENGTH", 0.0)
    assert benchmark.sampled(model, 3, 2)["Gflops"] == pytest.approx(3 * dit.forward_gflops(model), abs=1e-6)


def test_the_unet_works_as_much_as_its_transformer():
    model = benchmark.build_unet()
    assert dit.forward_gflops(model) == pytest.approx(dit.forward_gflops(dit.L4.build()), rel=0.1)
    first, second = benchmark.unet_groups(model)
    assert len({*map(id, first["params"])} & {*map(id, second["params"])}) == 0
    assert sum(p.numel() for g in (first, second) for p in g["params"]) == sum(p.numel() for p in model.parameters())
    found = benchmark.against_unet(steps=1, n=8, shown=2)
    assert len(found["errors"]) == len(dit.TIMES)
    assert {"one, w=1", "relation, another caption, w=0"} <= found.keys()


def test_parts_do_not_overwrite_one_another(results):
    benchmark.RESULTS.keep("scaling", {"rows": 1})
    benchmark.RESULTS.keep("unet", {"errors": 2})
    found = json.loads(results.read_text(encoding="utf-8"))
    assert (found["scaling"], found["unet"]) == ({"rows": 1}, {"errors": 2})
    with pytest.raises(SystemExit, match="dit: got \\['speed'\\], expected some of"):
        benchmark.main(["speed"])
