"""The leaderboard: one file, read by the command line and the README; its counts against pictures that are right."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import leaderboard as benchmark
from benchmarks._contestants import CORNERS, SHAPES, SPRITES, Contestant, contestants, exact, exact_denoise, readable
from minidiff.cascade import lowered
from minidiff.cli import main
from minidiff.data.prompts import World, place
from minidiff.data.scenes import render
from minidiff.data.sprites import SpriteWorld
from minidiff.judges.scorecard import FAMILY_OF, matches
from minidiff.systems import atlas, catalogue, corners, dit, leaderboard, scenes_text
from minidiff.systems.imagen import WORLD as SPRITE_WORLD

BOTH = World(families=("one", "relation"))
ROW = {
    "section": SHAPES, "chapter": "07", "w": 1.0, "n": 50, "exact": False, "parameters": 1_003_920,
    "training seconds": 840, "weights": {}, "error": {"loss": 0.021, "excess": 0.001}, "gflops": 2.713,
    "seconds": 0.065,
    "asked": {
        "one object": {"right": 48, "other": 9, "asked": 50}, "position": {"right": 40, "other": 3, "asked": 50},
    },
    "whole": {"right": 88, "other": 8, "asked": 100},
}  # fmt: skip
FIRST = ROW | {"exact": True, "parameters": 0, "training seconds": 0, "gflops": 0.0041}
WORSE = ROW | {"asked": {"position": {"right": 10, "other": 9, "asked": 50}}, "error": None}
RINGS = ROW | {"asked": {"surrounding": {"right": 50, "other": 1, "asked": 50}}}
FOUND = {"systems": {"worse": WORSE, "rings": RINGS, "good": ROW, "exact": FIRST, "latent": ROW | {"section": SPRITES}}}


def perfect(side, prompts, w, seeds):
    return render(place(list(prompts), 0), side)


# ---------------------------------------------------------------- what is measured


def test_every_text_to_image_system_that_is_shipped_takes_part():
    systems = contestants()
    drawn = {part.name for system in systems.values() for part in system.parts}
    others = {  # what is shipped and draws no picture of a text by itself
        "fashion-clean-classifier", "fashion-denoiser", "fashion-judge", "fashion-noisy-classifier", "dit-fashion",
        "sprite-features", "strings-autoencoder", "strings-latent", "text-lm", "imagen-32-plain", "llm",
        "clip-scenes", "clip-scenes-hard", "clip-sprites", "clip-sprites-plain", "clip-german", "clip-emoji", "vlm",
        "vlm-editor", "sdxl-unsized", "frames", "scenes-any-first",
    }  # fmt: skip
    assert set(catalogue.shipped()) - others <= drawn
    assert [name for name in systems if not systems[name].parts] == ["exact sampler", "exact sampler, 64 px"]
    assert all(benchmark.questions_of(system.world) for system in systems.values())


def test_questions_are_those_that_a_world_holds():
    assert benchmark.questions_of(BOTH) == ["one object", "colours", "position"]
    assert "negation" in benchmark.questions_of(World())
    assert "long captions" not in benchmark.questions_of(World())
    assert "long captions" in benchmark.questions_of(World(), long=True)
    assert benchmark.questions_of(SPRITE_WORLD) == ["one object", "two objects", "position"]  # sprites have no colours
    assert {FAMILY_OF[q] for q in benchmark.questions_of(SpriteWorld())} <= set(SpriteWorld().families)


def test_right_pictures_are_right_and_others_are_not():
    found = benchmark.shown(partial(perfect, 16), BOTH, 0.0, 20)
    assert all(counts["right"] == counts["asked"] == 20 for counts in found["asked"].values())
    assert found["whole"] == {"right": 40, "other": found["whole"]["other"], "asked": 40}
    assert found["whole"]["other"] < 12
    wrong = lambda prompts, w, seeds: perfect(16, [*prompts[1:], *prompts[:1]], w, seeds)
    turned = benchmark.shown(wrong, BOTH, 0.0, 20)
    assert turned["whole"]["other"] == 40
    assert turned["whole"]["right"] < 12
    grey = benchmark.shown(lambda prompts, w, seeds: torch.zeros(len(prompts), 3, 16, 16), BOTH, 0.0, 20)
    assert all(counts["right"] == 0 for counts in grey["asked"].values())


def test_small_pictures_of_sprites_are_read_enlarged():
    prompts = SPRITE_WORLD.prompts(40, 0, "test")
    small = lowered(perfect(64, prompts, 0.0, ()), 4)
    assert float(matches(prompts, readable(small)).float().mean()) >= 0.9


def test_the_exact_sampler_is_right_and_its_error_is_the_floor():
    prompts = BOTH.prompts(12, 3, "test")
    x = exact(16, prompts, 0.0, range(12))
    assert bool(matches(prompts, x).all())
    torch.testing.assert_close(exact(16, prompts[:3], 0.0, range(3)), x[:3], atol=1e-4, rtol=0)  # whatever the batch
    world = scenes_text.WORLD
    floor = Contestant(name="", chapter="", section="", world=world, draws=lambda: perfect, denoise=exact_denoise)
    small = Contestant(
        name="", chapter="", section="", world=world, draws=lambda: perfect, denoise=contestants()["DiT-S/8"].denoise
    )
    least, one = benchmark.error(floor), benchmark.error(small)
    assert least["excess"] == pytest.approx(0, abs=1e-9)
    assert one["loss"] > least["loss"]
    assert one["loss"] == pytest.approx(least["loss"] + one["excess"], rel=0.1)  # the cross term is 0 on average


def test_work_and_parameters():
    system = contestants()["DiT-S/8"]
    once = benchmark.work(system.draws(), system.world, 0.0)
    twice = benchmark.work(system.draws(), system.world, 1.0)
    record = dit.S8.record()["scores"]["forward Gflops"]
    assert once["gflops"] == pytest.approx(25 * record, rel=0.01)  # 25 steps
    assert twice["gflops"] == pytest.approx(50 * record, rel=0.03)  # two branches
    held = lambda: nn.ModuleDict({"encoder": nn.Linear(3, 3), "head": nn.Linear(3, 1)})
    one, other = nn.ModuleDict({"net": held()}), nn.ModuleDict({"net": held()})
    assert benchmark.parameters([one, other]) == 2 * (12 + 4)
    other["net"]["encoder"].load_state_dict(one["net"]["encoder"].state_dict())
    assert benchmark.parameters([one, other]) == 12 + 2 * 4


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark.RESULTS, "path", tmp_path / "leaderboard.json")
    benchmark.main(["exact sampler", "-n", "2"])
    first = (tmp_path / "leaderboard.json").read_text(encoding="utf-8")
    benchmark.main(["DiT-S/8", "exact sampler", "-n", "2"])
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["exact sampler", "DiT-S/8"]
    found = json.loads((tmp_path / "leaderboard.json").read_text(encoding="utf-8"))
    assert found["systems"]["exact sampler"] == json.loads(first)["systems"]["exact sampler"]
    assert list(found["systems"]) == ["exact sampler", "DiT-S/8"]
    benchmark.main(["list", "-n", "2"])
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith("measured")] == ["measured exact sampler", "measured DiT-S/8"]
    rows = found["systems"] | {"DiT-S/8": found["systems"]["DiT-S/8"] | {"weights": {"dit-s-8": "another"}}}
    (tmp_path / "leaderboard.json").write_text(json.dumps({"systems": rows}), encoding="utf-8")
    assert not benchmark.is_done(contestants()["DiT-S/8"], 2)  # trained anew since
    with pytest.raises(SystemExit):
        benchmark.main(["DALL-E 9"])
    assert "DALL-E 9" in capsys.readouterr().err


def test_corners_are_in_the_lectures_cells_and_their_work_is_equal():
    assert len(corners.MODELS) >= 4
    cells = {corners.cell(name) for name in corners.MODELS}
    assert set(atlas.CORNERS.values()) <= cells
    assert len(cells) == len(corners.MODELS)
    for name, shipped in corners.MODELS.items():
        assert shipped.steps == pytest.approx(corners.WORK / corners.step_gflops(corners.cell(name)), abs=0.51)
        assert shipped.record()["steps"] == shipped.steps
    rows = [row for row in leaderboard.read()["systems"].values() if row["section"] == CORNERS]
    assert len(rows) == len(corners.MODELS)


def test_long_captions_are_drawn_by_what_reads_them():
    """Of three and four objects; the control: asked in short words, the same system is not told long ones."""
    world, asked = World(families=("one", "several")), []

    def told(style):
        def draws(prompts, w, seeds):
            asked.append((style, {len(prompt.groups) > 2 for prompt in prompts}))
            return perfect(16, prompts, w, seeds)

        return draws

    found = benchmark.shown(told("short"), world, 0.0, 10, told("long"))
    assert asked == [("short", {False}), ("long", {True})]
    assert found["asked"]["long captions"]["right"] == found["asked"]["one object"]["right"] == 10
    assert "long captions" not in benchmark.shown(told("short"), world, 0.0, 10)["asked"]


# ---------------------------------------------------------------- what is shown


def test_tables_begin_with_the_exact_sampler_and_go_by_the_common_questions():
    assert list(leaderboard.sections(FOUND)) == [SHAPES, SPRITES]
    assert list(leaderboard.sections(FOUND)[SHAPES]) == ["exact", "good", "worse", "rings"]
    heads, cells = leaderboard.lines(leaderboard.sections(FOUND)[SHAPES])
    assert all(len(row) == len(heads) for row in cells)
    good = dict(zip(heads, cells[1]))
    assert good["one object"] == "96 [87–99]"  # Wilson, by hand: (.96 + z²/100 ± …)/(1 + z²/50)
    assert (good["10⁶ parameters"], good["Gflops a picture"], good["training s"]) == ("1", "2.7", "840")
    assert (good["another caption"], good["error of x̂0 · 1000"], good["surrounding"]) == ("8", "21.0", "")
    assert dict(zip(heads, cells[0]))["training s"] == "–"
    assert leaderboard.table(FOUND).count("\n\n") == 1
    assert leaderboard.markdown(FOUND).count("|---|") == 2


def test_a_page_is_filled_between_its_marks(tmp_path, monkeypatch):
    page = f"before\n{leaderboard.BEGIN}\nold\n{leaderboard.END}\nafter\n"
    text = leaderboard.filled(page, FOUND)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert leaderboard.between(text) == leaderboard.markdown(FOUND)
    assert leaderboard.filled(text, FOUND) == text
    with pytest.raises(ValueError, match=r"^text: got a page without its two marks"):
        leaderboard.filled("no marks", FOUND)


def test_the_readme_shows_what_was_measured(root):
    page = (root / "README.md").read_text(encoding="utf-8")
    assert leaderboard.between(page) == leaderboard.markdown(leaderboard.read())


def test_the_command_prints_the_table_and_names_a_missing_file(monkeypatch, capsys, tmp_path):
    assert main(["sample", "--leaderboard"]) == 0
    assert capsys.readouterr().out.strip() == leaderboard.table(leaderboard.read()).strip()
    assert main(["sample", "--leaderboard", "a cat"]) == 2
    assert "--leaderboard: got it with ['a cat']" in capsys.readouterr().err
    broken = tmp_path / "leaderboard.json"
    with pytest.raises(ValueError, match=r"^leaderboard: got no file"):
        leaderboard.read(broken)
    broken.write_text('{"systems": ', encoding="utf-8")
    with pytest.raises(ValueError, match="cut off or not JSON"):
        leaderboard.read(broken)
