"""Builds minidiff/assets/emoji from the npm packages:  python tools/build_emoji.py CACHE [FOLDER]

CACHE is a folder where `npm pack` puts the packages, or where they already lie; FOLDER defaults to the assets.
Needs npm (only for what the cache lacks) and resvg-py (extra `dev`). All arithmetic after rendering is on integers, so
that the same pictures come out on every machine.
"""

import hashlib
import io
import json
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from minidiff.checkpoints import write_whole
from minidiff.validate import require

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {  # name: (version, SHA-256 of the packed tarball)
    "@iconify-json/fluent-emoji-flat": (
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "@iconify-json/noto": ("1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "emojibase-data": ("17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
}
STYLES = {"fluent": "@iconify-json/fluent-emoji-flat", "noto": "@iconify-json/noto"}
SIDE, FINER, COLOURS = 32, 4, 32
"""Pixels per side; how much finer pictures are rendered, before averaging; colours of a picture's palette."""
WITHOUT_SUBGROUPS = {"keycap", "alphanum", "zodiac", "flag", "country-flag", "subdivision-flag"}
WITHOUT_WORDS = ("o’clock", "-thirty", "facing right")
"""Left out: letters, digits, signs of the zodiac, flags, clock faces, and mirrored twins of people."""


def tarball(name: str, cache: Path) -> Path:
    """The package as npm packs it, fetched unless it lies in `cache`. `RuntimeError` if npm cannot fetch it."""
    version, sha256 = PACKAGES[name]
    path = cache / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", "--pack-destination", str(cache), f"{name}@{version}"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"{name}@{version} could not be fetched ({error})") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    require(found == sha256, str(path), f"SHA-256 {found}", sha256)
    return path


def member(package: Path, name: str) -> str:
    with tarfile.open(package) as archive:
        file = archive.extractfile(f"package/{name}")
        assert file is not None
        return file.read().decode()


def short(code: str) -> str:
    """A code without U+FE0F ("draw as a picture"), which some packages write and some leave out."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def concepts(cache: Path) -> Iterator[dict]:
    """What both styles can draw: {code, name, keywords, group, fluent: SVG, noto: SVG}, in emojibase's order."""
    names = tarball("emojibase-data", cache)
    groups = json.loads(member(names, "meta/groups.json"))
    drawings = {}
    for style, package in STYLES.items():
        icons = json.loads(member(tarball(package, cache), "icons.json"))
        by_code = json.loads(member(tarball(package, cache), "chars.json"))
        drawings[style] = {short(code): svg(icons, icon) for code, icon in by_code.items()}
    for entry in sorted(json.loads(member(names, "en/data.json")), key=lambda entry: entry.get("order", 0)):
        code, name = short(entry["hexcode"]), entry["label"]
        drawn = "group" in entry and all(code in drawing for drawing in drawings.values())
        if not drawn or groups["subgroups"][str(entry["subgroup"])] in WITHOUT_SUBGROUPS:
            continue
        if any(word in name for word in WITHOUT_WORDS):
            continue
        typed = [text.replace("’", "'") for text in (name, *entry["tags"])]
        told = {"code": code, "name": typed[0], "keywords": typed[1:], "group": groups["groups"][str(entry["group"])]}
        yield told | {style: drawing[code] for style, drawing in drawings.items()}


def svg(icons: dict, name: str) -> str:
    icon = icons["icons"].get(name) or icons["icons"][icons["aliases"][name]["parent"]]
    box = f"0 0 {icon.get('width', icons['width'])} {icon.get('height', icons['height'])}"
    links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {links} viewBox="{box}" width="{SIDE * FINER}" height="{SIDE * FINER}">{icon["body"]}</svg>'


def render(drawing: str) -> np.ndarray:
    """An SVG as (32, 32, 4) uint8, straight alpha: rendered 4 times finer, then averaged with premultiplied colours."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=drawing, skip_system_fonts=True))
    fine = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.int64)
    blocks = lambda values: values.reshape(SIDE, FINER, SIDE, FINER, -1).sum((1, 3))
    alpha, colour = blocks(fine[..., 3:]), blocks(fine[..., :3] * fine[..., 3:])
    straight = (colour + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([straight, (alpha + FINER**2 // 2) // FINER**2], -1).astype(np.uint8)


def composites(rgba: np.ndarray) -> np.ndarray:
    """(n, 4) → (n, 6): each colour laid over black and over white. Distances here are what an eye can see."""
    colour, alpha = rgba[:, :3].astype(np.int64), rgba[:, 3:].astype(np.int64)
    over_black = (colour * alpha + 127) // 255
    return np.concatenate([over_black, over_black + 255 - alpha], 1)


def quantise(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A palette (32, 4), padded with zeros, and indices (32, 32): k-means from far-apart starts, on integers."""
    colours, index, count = np.unique(picture.reshape(-1, 4), axis=0, return_inverse=True, return_counts=True)
    points, label = composites(colours), np.arange(len(colours))
    if len(colours) > COLOURS:
        centres = points[[int(count.argmax())]]
        while len(centres) < COLOURS:  # the worst error, weighted by area, starts the next cluster
            far = ((points[:, None] - centres) ** 2).sum(-1).min(1)
            centres = np.concatenate([centres, points[[int((far * count).argmax())]]])
        for _ in range(8):
            label = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
            for k in np.unique(label):
                rows = label == k
                total = count[rows].sum()
                centres[k] = (2 * (points[rows] * count[rows, None]).sum(0) + total) // (2 * total)
        label = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
        alpha = (255 - ((centres[:, 3:] - centres[:, :3]).sum(1) + 1) // 3).clip(0, 255)[:, None]
        straight = (centres[:, :3] * 255 + alpha // 2) // np.maximum(alpha, 1)
        colours = np.concatenate([straight.clip(0, 255) * (alpha > 0), alpha], 1).astype(np.uint8)
    order = np.lexsort((colours[:, 0], colours[:, 2], colours[:, 1], colours[:, 3]))  # neighbours alike: packs better
    palette = np.zeros((COLOURS, 4), np.uint8)
    palette[: len(colours)] = colours[order]
    return palette, order.argsort()[label][index.reshape(SIDE, SIDE)].astype(np.uint8)


def error(picture: np.ndarray, palette: np.ndarray, index: np.ndarray) -> float:
    """RMS difference, in 1/255, between a picture and its quantised self, over black and over white."""
    return float(np.sqrt(((composites(picture.reshape(-1, 4)) - composites(palette[index.ravel()])) ** 2).mean()))


def distinct(entries: list[dict]) -> list[dict]:
    """Of concepts that one style draws alike, the one with the shortest name."""
    for style in STYLES:
        best: dict[bytes, dict] = {}
        for entry in entries:
            kept = best.setdefault(entry[style].tobytes(), entry)
            if len(entry["name"]) < len(kept["name"]):
                best[entry[style].tobytes()] = entry
        entries = [entry for entry in entries if best[entry[style].tobytes()] is entry]
    return entries


def licences(cache: Path) -> dict[str, str]:
    """The packages of drawings name their licences but hold no texts: MIT's is emojibase's, Apache's is ours."""
    emojibase = member(tarball("emojibase-data", cache), "LICENSE")
    (holder,) = [line for line in emojibase.splitlines() if line.startswith("Copyright")]
    noto = "Noto Emoji, https://github.com/googlefonts/noto-emoji (svg), Copyright Google Inc.\n"
    changed = "Changed for minidiff: rendered at 32×32 pixels and reduced to 32 colours each.\n"
    return {
        "LICENSE-emojibase.txt": emojibase,
        "LICENSE-fluent.txt": emojibase.replace(holder, "Copyright (c) Microsoft Corporation."),
        "LICENSE-noto.txt": noto + changed + (ROOT / "LICENSE").read_text(encoding="utf-8"),
    }


README = """# Emoji: {n} real pictures in two styles

Made by `tools/build_emoji.py` from these npm packages; read by `minidiff/data/emoji.py`.

| what | package | licence | SHA-256 of the tarball |
|---|---|---|---|
{rows}

- `fluent.xz`, `noto.xz`: {n} palettes of 32 RGBA colours (straight alpha), then {n} pictures of 32×32 palette indices.
  All bytes, in the order of `captions.json`.
- `captions.json`: code points, name, keywords, group; and the SHA-256 of each decoded style.
- Error of the 32 colours, RMS over black and white grounds, in 1/255: median {fluent:.2f} (Fluent), {noto:.2f} (Noto).
- Left out: what one style lacks, skin tones, flags, letters, digits, signs of the zodiac, clock faces, mirrored twins.
"""


def readme(n: int, errors: dict[str, float]) -> str:
    facts = {
        "@iconify-json/fluent-emoji-flat": ("Fluent Emoji flat, Microsoft", "MIT"),
        "@iconify-json/noto": ("Noto Emoji, Google", "Apache-2.0"),
        "emojibase-data": ("names, keywords, groups", "MIT"),
    }
    line = lambda name, version, sha: f"| {facts[name][0]} | `{name}@{version}` | {facts[name][1]} | `{sha}` |"
    rows = "\n".join(line(name, *pinned) for name, pinned in PACKAGES.items())
    return README.format(n=n, rows=rows, **errors)


def build(cache: Path, folder: Path) -> None:
    """Write every file of `folder`."""
    entries = list(concepts(cache))
    for entry in entries:
        entry |= {style: render(entry[style]) for style in STYLES}
    entries = distinct(entries)
    errors, sha256, files = {}, {}, {}
    for style in STYLES:
        pairs = [quantise(entry[style]) for entry in entries]
        palettes, indices = (np.stack(part) for part in zip(*pairs))
        errors[style] = float(np.median([error(entry[style], *pair) for entry, pair in zip(entries, pairs)]))
        data = palettes.tobytes() + indices.tobytes()
        sha256[style] = hashlib.sha256(data).hexdigest()
        files[f"{style}.xz"] = lzma.compress(data, check=lzma.CHECK_SHA256, preset=9 | lzma.PRESET_EXTREME)
    told = [{key: entry[key] for key in ("code", "name", "keywords", "group")} for entry in entries]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in told)
    texts = licences(cache) | {"README.md": readme(len(entries), errors)}
    texts["captions.json"] = f'{{"sha256": {json.dumps(sha256)},\n"concepts": [\n{lines}\n]}}\n'
    files |= {name: text.encode() for name, text in texts.items()}
    for name, content in files.items():
        write_whole(folder / name, lambda temporary, content=content: (temporary.write_bytes(content), None)[1])
    print(f"{len(entries)} concepts, {sum(map(len, files.values())) / 1e6:.2f} MB, median errors {errors}")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else ROOT / "minidiff" / "assets" / "emoji")
