"""`minidiff train` and `minidiff sample` as a user types them, and the recipes behind."""

import json

import pytest
import torch
from minidiff.systems.recipes import RECIPES
from minidiff.systems.train import Recipe, initialised, train
from torch import nn

from minidiff import weights
from minidiff.cli import main
from minidiff.training import draw_rows


class Line(nn.Module):
    """y ≈ a·x: enough of a trainable."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, x0, y):
        return (self.layer(x0) - y).square()[:, 0]


def recipe(seed: int = 0) -> Recipe:
    x = torch.linspace(-1, 1, 64)[:, None]
    scores = lambda model: {"slope": round(float(model.layer.weight), 3)}
    return Recipe(
        "line", Line, lambda: draw_rows({"x0": x, "y": 3 * x}, 16), 300, scores, {"lr": 0.1, "bar": False}, seed
    )


def test_train_writes_weights_manifest_and_curve(tmp_path):
    facts = train(recipe(), tmp_path / "run", tmp_path / "out")
    assert facts["scores"]["slope"] == pytest.approx(3.0, abs=0.05)
    assert facts["steps"] == 300
    assert facts["command"] == "minidiff train line"
    loaded = weights.load_weights("line", tmp_path / "out")
    assert float(loaded["layer.weight"]) == pytest.approx(3.0, abs=0.05)
    steps, losses = weights.curve("line", tmp_path / "out")
    assert steps[-1] == 300
    assert losses[-1] < losses[0] / 100


def test_the_same_command_gives_the_same_weights_and_another_seed_others(tmp_path):
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(recipe(seed), tmp_path / name, tmp_path / name)
        hashes.append(weights.manifest(tmp_path / name)["line"]["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_finished_run_is_saved_again_not_trained_again(tmp_path):
    first = train(recipe(), tmp_path / "run", tmp_path / "out")
    before = weights.manifest(tmp_path / "out")["line"]["sha256"]
    again = train(recipe(), tmp_path / "run", tmp_path / "out")
    assert weights.manifest(tmp_path / "out")["line"]["sha256"] == before
    assert again["steps"] == first["steps"]


def test_initialised_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    a, b, c = (initialised(Line, seed).layer.weight for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_every_shipped_file_has_its_recipe_and_the_other_way_round():
    assert sorted(r.name for r in RECIPES) == sorted(weights.manifest())


def test_recipes_build_what_was_shipped():
    for each in RECIPES:
        model = each.build()
        model.load_state_dict(weights.load_weights(each.name))
        entry = weights.record(each.name)
        assert sum(p.numel() for p in model.parameters()) == entry["parameters"]
        assert (each.steps, each.seed) == (entry["steps"], entry["seed"])
        assert weights.curve(each.name)[0][-1] == each.steps


def test_cli_train_runs_the_real_recipe(tmp_path, capsys, fashion_mnist_root, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(fashion_mnist_root))
    arguments = ["train", "fashion-clean-classifier", "--steps", "3", "--run", str(tmp_path / "run")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["command"] == "minidiff train fashion-clean-classifier --steps 3"
    assert facts["scores"]["test accuracy at t=0.0"] < 0.6  # three steps teach little; the shipped one has 0.90
    assert weights.load_weights("fashion-clean-classifier", tmp_path / "out")


def test_cli_lists_recipes_and_refuses_unknown_names(capsys):
    assert main(["train"]) == 0
    assert "fashion-denoiser: 12000 steps" in capsys.readouterr().out
    assert main(["train", "fashion-denoizer"]) == 2
    assert "fashion-denoiser" in capsys.readouterr().err


def test_cli_sample_writes_a_picture_or_says_why_not(tmp_path, capsys):
    out = tmp_path / "two.png"
    assert main(["sample", "sneaker", "bag", "-n", "2", "--steps", "4", "-o", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(["sample", "sock", "-o", str(tmp_path / "no.png")]) == 2
    assert "T-shirt" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()
