"""The command line by itself: it speaks on every console, reads under every locale, and refuses what it cannot do."""

import argparse
import io
import os
import re
import subprocess
import sys
import tomllib
import zipfile

import matplotlib.pyplot as plt
import pytest
import torch

from minidiff import cli_sample
from minidiff.cli import main
from minidiff.console import any_sign
from minidiff.course import health
from minidiff.course.grading import probe
from minidiff.systems import fashion, latent, scenes_text

CONSOLES = ("ascii", "cp437", "cp1252", "gbk", "shift_jis", "euc_kr")
COMMANDS = ((), ("train",), ("sample",), ("build",), ("check",), ("grade",), ("doctor",))


@pytest.fixture
def console(monkeypatch):
    """Put a console of some encoding in place of this one; the result reads what was printed there."""

    def open_console(encoding: str):
        screen = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding=encoding, write_through=True))
        return lambda: screen.getvalue().decode(encoding)

    return open_console


def test_a_sign_that_a_console_lacks_is_printed_as_its_escape(console):
    read = console("cp1252")
    with pytest.raises(UnicodeEncodeError):  # the control
        print("→")
    any_sign()
    print("Zoë → 李")
    assert read().split() == ["Zoë", "\\u2192", "\\u674e"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0] if c else "minidiff")
def test_help_is_readable_where_there_is_only_ascii(console, command):
    read = console("ascii")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: minidiff" in read()
    assert "\\" not in read(), "an escape where a word should stand"


@pytest.mark.parametrize("encoding", CONSOLES)
def test_the_doctor_speaks_on_every_console(console, monkeypatch, encoding):
    seen = "1024×1024 … ● → é 李 \udcff"  # the last is half a character, as in a path that is not UTF-8
    monkeypatch.setattr(probe, "finding", lambda: health.Finding("grading sandbox", "bubblewrap"))
    monkeypatch.setattr(health, "examine", lambda: health.Report([health.Finding("speed", seen)]))
    read = console(encoding)
    assert main(["doctor"]) == 0
    assert read().startswith("ok    speed            1024")
    assert "\\udcff" in read()


def test_the_version_is_that_of_pyproject(root, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert capsys.readouterr().out == f"minidiff {project['version']}\n"


NUMBERS = {
    "train --steps": (["train", "clip-german", "--steps", "0"], "--steps: got 0"),
    "train --steps -1": (["train", "clip-german", "--steps", "-1"], "--steps: got -1"),
    "train --threads": (["train", "clip-german", "--threads", "0"], "--threads: got 0"),
    "train --threads -1": (["train", "clip-german", "--threads", "-1"], "--threads: got -1"),
    "sample -n": (["sample", "bag", "-n", "0"], "-n: got 0"),
    "sample -n -1": (["sample", "bag", "-n", "-1"], "-n: got -1"),
    "sample --steps": (["sample", "bag", "--steps", "0"], "--steps: got 0"),
    "sample --steps -1": (["sample", "a red circle", "--steps", "-1"], "--steps: got -1"),
    "sample -w nan": (["sample", "bag", "-w", "nan"], "-w: got nan"),
    "sample -w inf": (["sample", "bag", "-w", "inf"], "-w: got inf"),
    "sample --seed -1": (["sample", "bag", "--seed", "-1"], "--seed: got -1"),
    "sample --seed 2³²": (["sample", "bag", "--seed", "4294967296"], "--seed: got 4294967296"),
}


@pytest.mark.parametrize(("arguments", "text"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_out_of_range_are_refused_by_their_option(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"minidiff {arguments[0]}: {text}, expected ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["train --run", "train --out", "sample bag -o", "build --root", "grade in -o"])
def test_an_empty_path_is_not_the_current_folder(capsys, option):
    with pytest.raises(SystemExit) as ended:
        main([*option.split(), ""])
    assert ended.value.code == 2
    assert "got an empty path" in capsys.readouterr().err


def test_what_cannot_be_written_is_said_before_any_work(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    for arguments, text in (
        (["sample", "bag", "-o", str(tmp_path)], f"--out: got {tmp_path}, expected a file"),
        (["train", "clip-german", "--run", str(file)], f"--run: got {file}, expected a folder"),
        (["train", "clip-german", "--out", str(file)], f"--out: got {file}, expected a folder"),
        (["grade", str(tmp_path / "none"), "-o", str(file)], f"OUT: got {file}, expected a folder"),
    ):
        assert main(arguments) == 2
        assert text in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_one_line(monkeypatch, capsys):
    def full():
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr(probe, "finding", lambda: health.Finding("grading sandbox", "bubblewrap"))
    monkeypatch.setattr(health, "examine", full)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "minidiff doctor: [Errno 28] No space left on device: 'runs/x'\n"


# ---------------------------------------------------------------- sample


@pytest.mark.parametrize(
    ("texts", "model", "rows", "generate"),
    [
        (["bag", "1"], [], ["bag", "trouser"], lambda: fashion.pictures_of(steps=2)),
        (["A red  circle."], [], ["a red circle"], lambda: families()),
        (
            ["a red square surrounding a blue star"],
            [],
            ["a red square surrounding a blue star"],
            lambda: scenes_text.pictures_of(scenes_text.SURROUNDING.load(), 18, steps=2),
        ),
        (
            ["A cat in the  snow", "plants surrounding a lightbulb", ""],
            [],
            ["a cat in the snow", "plants surrounding a lightbulb", ""],
            lambda: latent.shipped(steps=2),
        ),
        (
            ["a red circle", "a star"],
            ["--model", "scenes-text"],
            ["a red circle", "a star"],
            lambda: scenes_text.pictures_of(scenes_text.TEXT.load(), 10, steps=2),
        ),
    ],
    ids=["clothes", "a caption", "a ring", "sprites and no text", "of a model that is named"],
)
def test_texts_become_the_pictures_of_their_model(tmp_path, monkeypatch, capsys, texts, model, rows, generate):
    caught = []
    monkeypatch.setattr(cli_sample, "_draw", lambda *given: caught.append(given))
    out = str(tmp_path / "x.png")
    assert main(["sample", *texts, *model, "-n", "2", "-w", "1.5", "--steps", "2", "--seed", "7", "-o", out]) == 0
    ((pictures, labels, title, columns, _),) = caught
    doubled = [row for row in rows for _ in range(2)]
    assert labels == rows
    assert columns == 2
    assert re.fullmatch(r"[a-z]+-[a-z]+, w = 1\.5 \(scale 2\.5\)", title)
    assert torch.equal(pictures, generate()(doubled, 1.5, range(7, 7 + len(doubled))))
    assert not torch.equal(pictures, generate()(doubled, 1.5, range(8, 8 + len(doubled)))), "control: other seeds"
    assert f"wrote {out}: {len(doubled)} pictures by " in capsys.readouterr().out


def test_an_empty_text_is_no_condition_and_says_so(tmp_path, capsys):
    arguments = ["-n", "1", "--steps", "2", "-w", "3", "-o", str(tmp_path / "x.png")]
    assert main(["sample", "", "a dog", *arguments]) == 0
    assert "2 pictures by sprites-latent, an empty TEXT being no condition at all" in capsys.readouterr().out
    generate = latent.shipped(steps=2)
    assert (generate([""], 3.0, [4]) - generate([""], 0.0, [4])).abs().max() < 1e-4  # ∅ + w·(∅ − ∅)
    assert not torch.equal(generate([""], 0.0, [4]), generate(["a dog"], 0.0, [4]))
    away = latent.shipped(steps=2, negative="a dog")  # (1 + w)·dog − w·dog
    assert (away(["a dog"], 3.0, [4]) - generate(["a dog"], 0.0, [4])).abs().max() < 1e-4
    assert (generate(["a dog"], 3.0, [4]) - generate(["a dog"], 0.0, [4])).abs().max() > 1e-2


def test_without_a_text_the_known_words_are_listed(capsys):
    assert main(["sample"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in cli_sample.STEPS)
    sprites = next(block for block in told.split("\n\n") if block.startswith("sprites-latent"))
    assert {"astronaut", "riding", "snow", "surrounding", "small", "four"} <= {*sprites.split()}
    assert "red" not in sprites.split()


def families():
    return scenes_text.pictures_of(scenes_text.FAMILIES.load(), 18, steps=2)


def test_pictures_are_drawn_in_a_grid(tmp_path):
    out, pictures = tmp_path / "new" / "grid.png", torch.linspace(-1, 1, 6 * 3 * 16 * 16).reshape(6, 3, 16, 16)
    cli_sample._draw(pictures, ["a red circle", "a small blue star above a large green square"], "w = 1", 3, out)
    pixels = plt.imread(out)
    assert pixels.shape[1] > pixels.shape[0] > 150
    assert len({*pixels[..., :3].reshape(-1, 3).sum(1).round(1).tolist()}) > 20  # not an empty page


REFUSED = {
    "an unknown word": (
        ["a red kircle"],
        "got 'a red kircle', in which scenes-families cannot read 'kircle', expected",
    ),
    "what it may have been": (["a red kircle"], "(did you mean 'circle'?)"),
    "never seen in training": (["a zebra"], "cannot read 'zebra'"),
    "a sprite, nearly": (
        ["a kat in the snow"],
        "latent cannot read 'kat', expected a caption of these words (did",
    ),
    "a colour in a world that has none": (["a red cat"], "in which sprites-latent cannot read 'red'"),
    "clothes among captions": (
        ["sneaker", "a red circle"],
        "'sneaker', in which scenes-families cannot read 'sneaker'",
    ),
    "a ring and another": (
        ["a red square surrounding a blue star", "two stars"],
        "scenes-surrounding cannot read 'two'",
    ),
    "too long": ([" and ".join(["a red circle"] * 5)], "19 words and commas, expected at most 16 for scenes-families"),
    "a negative prompt elsewhere": (["a star", "--negative", "a cross"], "--negative: got 'a cross', expected a text"),
    "a negative prompt of unknown words": (["a cat", "--negative", "a zebra"], "cannot read 'zebra'"),
    "not of this model": (["two red circles", "--model", "scenes-text"], "scenes-text cannot read 'two', 'circles'"),
    "no clothes": (["a star", "--model", "fashion-denoiser"], "name: got 'a star', expected one of ('T-shirt'"),
    "no such model": (["a star", "--model", "clip-emoji"], "--model: got 'clip-emoji', expected one of ['fashion-"),
}


@pytest.mark.parametrize(("arguments", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_captions_that_cannot_be_read_are_named(tmp_path, capsys, arguments, text):
    assert main(["sample", *arguments, "-o", str(tmp_path / "no.png")]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_words_that_a_model_reads_are_those_it_has_ids_for():
    for name, known in cli_sample.SCENES.items():
        assert cli_sample._words(name) <= {*scenes_text.tokenizer(known.length).ids}
    assert {"four", "large", "stars", ","} <= cli_sample._words("scenes-families")
    assert "two" not in cli_sample._words("scenes-text")


# ---------------------------------------------------------------- other locales

LEGACY = re.compile(r"\.(gb|sjis|euc|iso|cp|big5|koi)", re.IGNORECASE)
PROGRAM = """
import sys
from minidiff.cli import main
print(sys.stdout.encoding, sys.getfilesystemencoding())
for line in sys.argv[1].split("|"):
    print("EXIT", main(line.split("^")))
"""


def other_locales() -> dict[str, dict[str, str]]:
    """Environments in which text is not UTF-8: that of the output alone, all of it, and one that is installed here."""
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    listed = subprocess.run(["locale", "-a"], capture_output=True, encoding="utf-8", errors="replace").stdout.split()
    legacy = next((name for name in listed if LEGACY.search(name)), None)
    found = {"output": {"PYTHONIOENCODING": "ascii"}, "C": {**plain, "LC_ALL": "C"}}
    return found | ({legacy: {**plain, "LC_ALL": legacy}} if legacy else {})


@pytest.mark.slow
@pytest.mark.parametrize("locale", other_locales())
def test_commands_read_write_and_print_whatever_the_locale(root, tmp_path, locale):
    clone, students, out = tmp_path / "clone", tmp_path / "in.zip", tmp_path / "marks"
    (clone / "notebooks").mkdir(parents=True)
    lesson = "# %% [markdown]\n# # ∇ log p → 李\n\n# %%\nprint('é')\n"
    (clone / "notebooks" / "07_lesson.py").write_text(lesson, encoding="utf-8")
    untouched = (root / "exercises" / "01_bayes_rule.ipynb").read_bytes()
    with zipfile.ZipFile(students, "w") as archive:
        for name, data in (("Zoë 李", b"junk"), ("Zoé 李", b"junk"), ("ann", untouched)):
            archive.writestr(f"{name}.ipynb", data)
    lines = [
        ["train"],
        ["build", "--root", str(clone)],
        ["build", "--check", "--root", str(clone)],
        ["grade", str(students), "-o", str(out), "--root", str(root), "--gradescope", "-j", "1"],
    ]
    environment = {**os.environ, **other_locales()[locale], "PYTHONPATH": str(root)}
    arguments = "|".join("^".join(line) for line in lines)
    pipes = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    ran = subprocess.run([sys.executable, "-c", PROGRAM, arguments], env=environment, **pipes)
    assert "utf-8" not in ran.stdout.splitlines()[0].split()[0].lower(), "control: this locale is no other one"
    assert ran.stdout.count("EXIT 0") == len(lines), ran.stdout + ran.stderr
    assert "no answer from 2 of 3" in ran.stdout
    assert "∇ log p → 李" in (clone / "notebooks" / "07_lesson.ipynb").read_text(encoding="utf-8")
    assert "Zoë 李" in (out / "class.html").read_text(encoding="utf-8")
    assert len(list((out / "results").glob("*.json"))) == 3


def test_arguments_of_the_tests_above_are_all_that_take_numbers():
    """Whoever adds a number to a command adds it to the tests of its range."""
    from minidiff import cli

    commands = argparse.ArgumentParser().add_subparsers()
    found = set()
    for add in (cli.add_train, cli.add_sample, cli.add_build, cli.add_check, cli.add_grade, cli.add_doctor):
        add(commands)
    for name, parser in commands.choices.items():
        numbers = [a for a in parser._actions if a.type in (int, float)]
        found |= {f"{name} {a.option_strings[-1]}" for a in numbers}
    graded = {f"grade --{name}" for name in ("jobs", "timeout", "memory")}  # tests/course/grading/test_batch.py
    assert found == graded | {"train --steps", "train --threads"} | {
        f"sample {o}" for o in ("-w", "-n", "--steps", "--seed")
    }
