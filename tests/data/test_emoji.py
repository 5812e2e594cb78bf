"""Emoji: the shipped atlas, its names and licences, its splits and captions, and that the script rebuilds it."""

import hashlib
import importlib.util
import json
import shutil

import pytest
import torch

from minidiff.data import emoji

NAMES = (
    "light bulb", "potted plant", "deciduous tree", "cat face", "cat", "dog", "astronaut", "horse", "house", "snowman",
    "fish", "snowflake",
)  # fmt: skip
SPLIT = "5f8986f7359353db"


@pytest.mark.parametrize("style", emoji.STYLES)
def test_the_atlas_is_whole(style):
    atlas = emoji.load(style)
    n = len(atlas.names)
    assert 1200 <= n <= 1700
    assert atlas.rgba.shape == (n, 4, 32, 32)
    assert atlas.rgba.dtype == torch.uint8
    assert len(atlas.keywords) == len(atlas.groups) == len(atlas.codes) == n
    assert len(set(atlas.names)) == len(set(atlas.codes)) == n
    assert len({picture.numpy().tobytes() for picture in atlas.rgba}) == n  # no picture has two names
    assert set(NAMES) <= set(atlas.names)
    assert len(set(atlas.groups)) == 8
    covered = (atlas.rgba[:, 3] > 127).float().mean((1, 2))
    assert float(covered.min()) > 0.01  # of 1,024 pixels: no empty picture, no picture without a ground to see
    assert float((covered > 0.98).float().mean()) < 0.01
    assert float((atlas.rgba[:, 3, 0, 0] == 0).float().mean()) > 0.9  # a clear corner: of Noto's, 94 %


def test_both_styles_show_the_same_concept_in_the_same_row():
    fluent, noto = (emoji.load(style) for style in emoji.STYLES)
    assert fluent.codes == noto.codes
    assert fluent.names == noto.names
    # The nearest Noto picture of a Fluent picture is far more often its own concept than chance, 1/1476; rows that are
    # shifted by one (control) are not: though neighbours look alike, they are other concepts.
    x, y = (emoji.pictures(style, 16).flatten(1) for style in emoji.STYLES)
    nearest = torch.cdist(x - x.mean(0), y - y.mean(0)).argmin(1)
    rows = torch.arange(len(x))
    assert float((nearest == rows).float().mean()) > 0.2
    assert float((nearest == (rows + 1) % len(x)).float().mean()) < 0.1


def test_colours_are_where_they_belong():
    atlas = emoji.load()
    mean = lambda name: emoji.pictures()[atlas.names.index(name)].mean((1, 2))
    assert mean("red heart").argmax() == 0
    assert mean("green heart").argmax() == 1
    assert mean("blue heart").argmax() == 2
    assert atlas.codes[atlas.names.index("light bulb")] == "1f4a1"
    assert set(atlas.keywords[atlas.names.index("light bulb")]) >= {"idea", "electric"}


def test_pictures_lie_over_the_background():
    atlas, x = emoji.load(), emoji.pictures()
    assert x.shape == (len(atlas.names), 3, 32, 32)
    assert x.dtype == torch.float32
    assert float(x.abs().max()) <= 1
    straight = atlas.rgba.double() / 255
    colour, alpha = straight[:, :3], straight[:, 3:]
    torch.testing.assert_close(x.double(), 2 * (alpha * colour + (1 - alpha) * 0.95) - 1, atol=1e-6, rtol=0)
    clear = (alpha == 0).expand_as(x)
    assert torch.allclose(x[clear], torch.tensor(2 * 0.95 - 1))
    assert torch.allclose(emoji.pictures(background=0.25)[clear], torch.tensor(-0.5))  # control: another ground


@pytest.mark.parametrize("style", emoji.STYLES)
def test_smaller_pictures_are_means_of_areas(style):
    full, half, double = (emoji.pictures(style, side) for side in (32, 16, 64))
    area = full.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    torch.testing.assert_close(half, area, atol=1e-5, rtol=0)
    assert float((half - full[:, :, ::2, ::2]).abs().max()) > 0.5  # control: every second pixel is something else
    assert double.shape[2:] == (64, 64)
    torch.testing.assert_close(double.mean((2, 3)), full.mean((2, 3)), atol=0.02, rtol=0)


@pytest.mark.parametrize("side", [8, 12, 26, 32, 52])
def test_a_sprite_keeps_its_coverage_and_its_colour(side):
    atlas = emoji.load()
    for name in NAMES:
        sprite, rgba = emoji.sprite(name, side), atlas.rgba[atlas.names.index(name)].float() / 255
        assert sprite.shape == (4, side, side)
        assert 0 <= float(sprite.min()) <= float(sprite.max()) <= 1
        tolerance = 1e-5 if side <= 32 else 5e-3
        assert float(sprite[3].mean()) == pytest.approx(float(rgba[3].mean()), abs=tolerance)
        laid = (sprite[:3] * sprite[3:]).mean((1, 2))
        torch.testing.assert_close(laid, (rgba[:3] * rgba[3:]).mean((1, 2)), atol=tolerance, rtol=0)
    assert torch.equal(emoji.sprite("Lightbulb", side), emoji.sprite("light bulb", side))


def test_find():
    names = emoji.load().names
    found = [names[i] for i in emoji.find("cat")]
    assert found[0] == "cat"
    assert "cat face" in found
    assert not any("cattle" in name or "bear" in name for name in found)
    assert [names[i] for i in emoji.find("Light Bulb")] == ["light bulb"]
    assert names.index("light bulb") in emoji.find("idea")  # by keyword alone
    in_name, by_keyword = names.index("potted plant"), emoji.find("plant")
    assert by_keyword[0] == in_name
    assert len(by_keyword) == len(set(by_keyword)) > 1
    with pytest.raises(ValueError, match="did you mean 'astronaut'"):
        emoji.find("astronout")
    with pytest.raises(ValueError, match="at least one word"):
        emoji.find("  ")


def test_the_split_is_stable_and_keeps_variants_together():
    train, test = emoji.split()
    n = len(emoji.load().names)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(n))
    assert 0.07 < len(test) / n < 0.13
    codes = "\n".join(emoji.load().codes[i] for i in test.tolist())
    assert hashlib.sha256(codes.encode()).hexdigest().startswith(SPLIT)  # the same on every machine
    held = {emoji.load().names[i] for i in test.tolist()}
    for who in {name.removeprefix("woman ") for name in emoji.load().names if name.startswith("woman ")}:
        variants = {f"man {who}", f"woman {who}"} & set(emoji.load().names)
        assert variants <= held or not variants & held, who
    more = set(emoji.split(0.3)[1].tolist())
    assert set(test.tolist()) < more  # a larger test set contains the smaller


def test_captions():
    names = emoji.load().names
    bulb, unicorn, eyes = (names.index(name) for name in ("light bulb", "unicorn", "eyes"))
    drawn = {c for seed in range(60) for c in emoji.captions([bulb], torch.Generator().manual_seed(seed))}
    keywords = set(emoji.load().keywords[bulb])
    assert {"light bulb", "a light bulb"} <= drawn
    assert all(set(caption.split(", ")[1:]) <= keywords for caption in drawn)
    assert len(drawn) > 10
    again = lambda seed: emoji.captions(torch.arange(50), torch.Generator().manual_seed(seed))
    assert again(0) == again(0)
    assert again(0) != again(1)
    said = {c for seed in range(30) for c in emoji.captions([unicorn, eyes], torch.Generator().manual_seed(seed))}
    assert {"a unicorn", "eyes"} <= said
    assert not said & {"an unicorn", "an eyes"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: emoji.load("apple"), "style: got 'apple', expected one of"),
        (lambda: emoji.pictures("fluent", 20), "side: got 20, expected one of"),
        (lambda: emoji.pictures(background=1.5), "background: got 1.5"),
        (lambda: emoji.sprite("cat", 0), "side: got 0"),
        (lambda: emoji.sprite("potted plnt"), "name: got 'potted plnt'.*did you mean 'potted plant'"),
        (lambda: emoji.split(1.0), "held_out: got 1.0"),
        (lambda: emoji.captions([-1]), "index: got"),
        (lambda: emoji.captions(torch.tensor([10**6])), "index: got"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
@pytest.mark.parametrize("file", ["noto.xz", "captions.json"])
def test_a_cut_off_file_is_an_error(tmp_path, file, keep):
    shutil.copytree(emoji.FOLDER, tmp_path, dirs_exist_ok=True)
    assert torch.equal(emoji.read("noto", tmp_path).rgba, emoji.load("noto").rgba)  # control: whole, it is read
    emoji.read.cache_clear()
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(ValueError, match="cut off or changed"):
        emoji.read("noto", tmp_path)


@pytest.mark.parametrize("change", ["fewer pictures", "no name", "a list", "no hash"])
def test_changed_captions_are_an_error(tmp_path, change):
    """The pictures as they were. Control: with captions as they were they are read, from a folder given as text."""
    for name in ("fluent.xz", "captions.json"):
        shutil.copy(emoji.FOLDER / name, tmp_path / name)
    assert torch.equal(emoji.read("fluent", str(tmp_path)).rgba, emoji.load().rgba)
    told = json.loads((tmp_path / "captions.json").read_text(encoding="utf-8"))
    if change == "fewer pictures":
        told["concepts"].pop()
    elif change == "no name":
        del told["concepts"][3]["name"]
    elif change == "no hash":
        told["sha256"]["fluent"] = None
    else:
        told = [told]
    folder = tmp_path / "changed"
    folder.mkdir()
    shutil.copy(tmp_path / "fluent.xz", folder / "fluent.xz")
    (folder / "captions.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ValueError, match="folder: got"):
        emoji.read("fluent", folder)


def test_a_changed_file_is_an_error(tmp_path):
    shutil.copytree(emoji.FOLDER, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "fluent.xz", tmp_path / "noto.xz")  # whole, but not what captions.json vouches for
    with pytest.raises(ValueError, match=r"folder: got .* with SHA-256"):
        emoji.read("noto", tmp_path)


def test_licences_lie_beside_the_pictures_and_all_is_small():
    text = lambda name: (emoji.FOLDER / name).read_text(encoding="utf-8")
    assert "Microsoft" in text("LICENSE-fluent.txt")
    assert "Permission is hereby granted" in text("LICENSE-fluent.txt")
    assert "Google" in text("LICENSE-noto.txt")
    assert "Apache License" in text("LICENSE-noto.txt")
    assert "END OF TERMS AND CONDITIONS" in text("LICENSE-noto.txt")
    assert "Miles Johnson" in text("LICENSE-emojibase.txt")
    assert all(json.loads(text("captions.json"))["sha256"][style] for style in emoji.STYLES)
    assert sum(file.stat().st_size for file in emoji.FOLDER.iterdir()) < 1.5e6


@pytest.mark.stress
def test_the_script_rebuilds_the_atlas(root, tmp_path, tmp_path_factory):
    """Bit for bit from the packages, where they can be fetched; so this test may be skipped, also where CI is set."""
    spec = importlib.util.spec_from_file_location("build_emoji", root / "tools" / "build_emoji.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    cache = tmp_path_factory.mktemp("packages")
    try:
        for name in tool.PACKAGES:
            tool.tarball(name, cache)
    except RuntimeError as error:
        pytest.skip(f"THE EMOJI ATLAS WAS NOT REBUILT: {error}")
    tool.build(cache, tmp_path)
    shipped = {file.name for file in emoji.FOLDER.iterdir()}
    assert {file.name for file in tmp_path.iterdir()} == shipped
    for name in sorted(shipped):
        assert (tmp_path / name).read_bytes() == (emoji.FOLDER / name).read_bytes(), name
    (packed, *_) = cache.glob("emojibase*")
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(ValueError, match="SHA-256"):
        tool.tarball("emojibase-data", cache)  # control: another package is refused
