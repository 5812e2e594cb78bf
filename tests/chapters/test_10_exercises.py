"""The exercises of chapter 10: wrong answers that look right, and right ones beside them."""

import pytest
import torch
import torch.nn.functional as F
from _answers import answers

from minidiff.course.exercise import find
from minidiff.data.photos import MARGIN, SIDE, sheet
from minidiff.data.prompts import place
from minidiff.judges.framing import corner
from minidiff.randomness import seeded
from minidiff.systems.sdxl_scores import SNOW

# ---------------------------------------------------------------- R²


def scored(
    error=lambda told, read: (read - told).square(),
    centre=lambda told: told.mean(0),
    total=lambda x: x.sum(0),
    score=lambda left, there: 1 - left / there,
    kept=lambda x: x.double(),
):
    def explained(told, read):
        told, read = kept(told), kept(read)
        return score(total(error(told, read)), total((told - centre(told)).square()))

    return explained


def line_fitted(told, read):
    """R² of the best line."""
    a, b = told.double() - told.double().mean(0), read.double() - read.double().mean(0)
    slope = (a * b).sum(0) / a.square().sum(0)
    return 1 - (b - slope * a).square().sum(0) / b.square().sum(0)


SCORED = {
    "a fitted line": line_fitted,
    "a fitted shift": scored(error=lambda told, read: (read - read.mean(0) - told + told.mean(0)).square()),
    "the correlation": lambda told, read: torch.stack(
        [torch.corrcoef(torch.stack([a, b]).double())[0, 1] for a, b in zip(told.T, read.T)]
    ),
    "what is left over": scored(score=lambda left, there: left / there),
    "upside down": scored(score=lambda left, there: 1 - there / left),
    "signed errors": scored(error=lambda told, read: read - told),
    "absolute errors": scored(error=lambda told, read: (read - told).abs()),
    "the median for the mean": scored(centre=lambda told: told.median(0).values),
    "the mean of all": scored(centre=lambda told: told.mean()),
    "over each row": scored(total=lambda x: x.sum(1)),
    "one for all": scored(total=lambda x: x.sum()),
    "the root of the ratio": scored(score=lambda left, there: 1 - (left / there).sqrt()),
    "within 0 and 1": scored(score=lambda left, there: (1 - left / there).clamp(0, 1)),
    "in float32": scored(kept=lambda x: x.float()),
}

# ---------------------------------------------------------------- two encoders


def read_in(
    second_of=lambda ids, tokens: ids[tokens],
    vector=lambda one, other: other[0],
    join=lambda one, other: torch.cat([one, other], 2),
    masks=lambda seen, heard: seen & heard,
    silent=True,
):
    """silent: what a mask None stands for."""

    def read_both(first, second, ids, tokens):
        one, other = first(tokens), second(second_of(ids, tokens))
        every = torch.full(tokens.shape, silent)
        seen, heard = (every if each[2] is None else each[2] for each in (one, other))
        return vector(one, other), join(one[1], other[1]), masks(seen, heard)

    return read_both


READ = {
    "the second's channels first": read_in(join=lambda one, other: torch.cat([other, one], 2)),
    "channels taken in turn": read_in(
        join=lambda one, other: (
            torch.stack([one, other], 3).flatten(2) if one.shape == other.shape else torch.cat([one, other], 2)
        )
    ),
    "averaged": read_in(join=lambda one, other: (one + other) / 2 if one.shape == other.shape else one),
    "the sorted ids": read_in(second_of=lambda ids, tokens: ids.sort().values[tokens]),
    "the next word": read_in(second_of=lambda ids, tokens: ids[tokens].roll(1, 1)),
    "the caption below": read_in(second_of=lambda ids, tokens: ids[tokens].roll(1, 0)),
    "masked ids": read_in(second_of=lambda ids, tokens: ids[tokens].clamp(max=5)),
    "both vectors added": read_in(vector=lambda one, other: other[0] if one[0] is None else one[0] + other[0]),
    "the mean of the context": read_in(vector=lambda one, other: other[1].mean(1)),
    "the first's mask": read_in(masks=lambda seen, heard: seen),
    "the mask upside down": read_in(masks=lambda seen, heard: ~(seen & heard)),
    "no mask": read_in(masks=lambda seen, heard: torch.ones_like(seen)),
    "exactly one": read_in(masks=lambda seen, heard: seen ^ heard),
    "None hears nothing": read_in(silent=False),
    "masked channels": read_in(masks=lambda seen, heard: (seen & heard)[..., None]),
    "a mask of numbers": read_in(masks=lambda seen, heard: (seen & heard).float()),
}

# ---------------------------------------------------------------- branches


def branched(
    rows=lambda row, of: row.expand_as(of),
    merge=lambda told, other: told | other,
    total=lambda full, silent, small, w, v: full + w * (full - silent) + v * (full - small),
    away_of=lambda null, away: away,
    null_of=lambda null, away: null,
):
    def guided(denoise, x_t, t, told, null, away, w, v):
        but = lambda other: denoise(x_t, t, **merge(told, {name: rows(row, told[name]) for name, row in other.items()}))
        return total(but({}), but(null_of(null, away)), but(away_of(null, away)), w, v)

    return guided


def in_place(denoise, x_t, t, told, null, away, w, v):
    full = denoise(x_t, t, **told)
    told["tokens"] = null["tokens"].expand_as(told["tokens"])
    silent = denoise(x_t, t, **told)
    told["sizes"] = away["sizes"].expand_as(told["sizes"])
    return full + w * (full - silent) + v * (full - denoise(x_t, t, **told))


BRANCHED = {
    "only the sentence": branched(total=lambda full, silent, small, w, v: full + w * (full - silent)),
    "only the size": branched(total=lambda full, silent, small, w, v: full + v * (full - small)),
    "both away": branched(null_of=lambda null, away: null | away),
    "the size's branch is silent": branched(away_of=lambda null, away: null),
    "towards the size": branched(
        total=lambda full, silent, small, w, v: full + w * (full - silent) + v * (small - full)
    ),
    "from one branch to the other": branched(
        total=lambda full, silent, small, w, v: full + w * (full - silent) + v * (silent - small)
    ),
    "one less": branched(
        total=lambda full, silent, small, w, v: w * full - (w - 1) * silent + v * (full - small),
    ),
    "a mean of both": branched(
        total=lambda full, silent, small, w, v: full + (w * (full - silent) + v * (full - small)) / 2
    ),
    "by what is already guided": branched(
        total=lambda full, silent, small, w, v: (1 + v) * ((1 + w) * full - w * silent) - v * small
    ),
    "rows as they are": branched(rows=lambda row, of: row),
    "one row for all": branched(rows=lambda row, of: row[None]),
    "never below 0": branched(
        total=lambda full, silent, small, w, v: full + max(w, 0) * (full - silent) + max(v, 0) * (full - small)
    ),
    "written into told": in_place,
}

# ---------------------------------------------------------------- experts


def chosen(
    late=lambda t, switch: t < switch,
    times=lambda t, rows: t[rows],
    said=lambda value, rows: value[rows],
    pictures=lambda x_t, rows: x_t[rows],
    dtype=lambda x_t: x_t.dtype,
):
    def experts(early, last, switch, x_t, t, told):
        t, x0 = t.expand(len(x_t)), torch.zeros(x_t.shape, dtype=dtype(x_t))
        mask = late(t, switch)
        for denoise, rows in ((early, ~mask), (last, mask)):
            if rows.any():
                given = {name: said(value, rows) for name, value in told.items()}
                x0[rows] = denoise(pictures(x_t, rows), times(t, rows), **given).to(x0)
        return x0

    return experts


def into_x(early, last, switch, x_t, t, told):
    for i, at in enumerate(t.expand(len(x_t))):
        own = {name: value[i : i + 1] for name, value in told.items()}
        x_t[i : i + 1] = (last if at < switch else early)(x_t[i : i + 1], at[None], **own)
    return x_t


def unsplit(early, last, switch, x_t, t, told):
    """A single time is handed on as it is."""
    if t.ndim == 0:
        return (last if t < switch else early)(x_t, t, **told)
    return chosen()(early, last, switch, x_t, t, told)


CHOSEN = {
    "by the mean time": chosen(late=lambda t, switch: (t.mean() < switch).expand(len(t))),
    "by the latest": chosen(late=lambda t, switch: (t.max() < switch).expand(len(t))),
    "by the place in the batch": chosen(late=lambda t, switch: torch.arange(len(t)) >= len(t) * (1 - switch)),
    "rounded": chosen(late=lambda t, switch: t.round() < switch),
    "half": chosen(late=lambda t, switch: t < 0.5),
    "1 - t": chosen(late=lambda t, switch: 1 - t < switch),
    "the first times": chosen(times=lambda t, rows: t[: int(rows.sum())]),
    "one time": chosen(times=lambda t, rows: t[rows][0]),
    "all times": chosen(times=lambda t, rows: t),
    "all that is told": chosen(said=lambda value, rows: value),
    "the first of what is told": chosen(said=lambda value, rows: value[: int(rows.sum())]),
    "the first pictures": chosen(pictures=lambda x_t, rows: x_t[: int(rows.sum())]),
    "always float32": chosen(dtype=lambda x_t: torch.float32),
    "written into x_t": into_x,
    "a single time as it is": unsplit,
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "width first": ("sizes.append([h, w,", "sizes.append([w, h,"),
    "left first": ("h, w, top, left, side", "h, w, left, top, side"),
    "left is drawn first": ("top, left = (int(", "left, top = (int("),
    "the target forgotten": ("top, left, side, side]", "top, left, h, w]"),
    "the corner that is farthest": ("sizes.append([h, w, top, left", "sizes.append([h, w, size[0] - side - top, left"),
    "half the corner": ("top, left, side, side]", "top // 2, left // 2, side, side]"),
    "the longer side": ("side / min(h, w)", "side / max(h, w)"),
    "cut before it is enlarged": ("picture[None], size=size", "picture[None, :, :side, :side], size=size"),
    "squeezed": ("size = [round(n * side / min(h, w)) for n in (h, w)]", "size = [side, side]"),
    "rounded down": ("round(n * side / min(h, w))", "int(n * side / min(h, w))"),
    "nearest pixels": ('mode="bilinear", align_corners=False', 'mode="nearest"'),
    "corners aligned": ("align_corners=False", "align_corners=True"),
    "always the middle": ("int(torch.randint(n - side + 1, (1,), generator=generator))", "(n - side) // 2"),
    "the last corner never": ("n - side + 1, (1,)", "max(n - side, 1), (1,)"),
    "one corner for all": (
        "top, left = (int(torch.randint(n - side + 1, (1,), generator=generator)) for n in size)",
        "top, left = (int(torch.randint(n - side + 1, (1,), generator=generator.manual_seed(0))) for n in size)",
    ),
    "global corners": (", (1,), generator=generator)", ", (1,))"),
    "sizes are whole numbers": ("torch.tensor(sizes, dtype=torch.float32)", "torch.tensor(sizes)"),
    "shares of the target": ("angles = sizes[..., None] * pace", "angles = sizes[..., None] / side * pace"),
    "frequencies to the very end": ("torch.arange(half) / half", "torch.arange(half) / max(half - 1, 1)"),
    "frequencies from the second": ("-torch.arange(half) / half", "-torch.arange(1, half + 1) / half"),
    "frequencies that rise": ("10_000 ** (-torch", "10_000 ** (torch"),
    "cosine and sine in turn": (
        "torch.cat([angles.cos(), angles.sin()], 2)",
        "torch.stack([angles.cos(), angles.sin()], 3).flatten(2)",
    ),
    "cosines only": ("angles.sin()]", "angles.cos()]"),
    "the sentence last": ('[given["vector"], waves]', '[waves, given["vector"]]'),
    "the sentence forgotten": ('[given["vector"], waves]', '[0 * given["vector"], waves]'),
    "the first size for all": ('[given["vector"], waves]', '[given["vector"], waves[:1].expand(len(waves), -1)]'),
    "no SiLU": ("F.silu(", "("),
    "another bend": ("F.silu(", "F.gelu("),
    "a bend at the end": ('"vector": hidden @ W2 + b2', '"vector": F.silu(hidden @ W2 + b2)'),
    "one bias": ("hidden @ W2 + b2", "hidden @ W2"),
    "added to the sentence's context": ("return given | {", 'return given | {"context": 0 * given["context"]} | {'),
    "the record that was kept": (
        "        given = read(tokens)\n",
        "        given, sizes = read(tokens), record[: len(tokens)]\n",
    ),
}


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed; `record` is what the loader wrote down."""
    first = (
        "    W1, b1, W2, b2 = weights\n",
        "    record = torch.tensor(sizes * 9).float()\n    W1, b1, W2, b2 = weights\n",
    )
    names = {"torch": torch, "F": F, "Tensor": torch.Tensor}
    return lambda *changes: master("10-micro-conditioning", names, first, *changes)


TestAnswers = answers(
    chapter="10_sdxl",
    build="10-micro-conditioning",
    experiment="10-negative-size",
    wrong={"10-explained": SCORED, "10-two-readers": READ, "10-branches": BRANCHED, "10-experts": CHOSEN},
    right={
        "10-explained": scored(),
        "10-two-readers": read_in(),
        "10-branches": branched(),
        "10-experts": chosen(),
    },
    slips=SLIPS,
)


def test_the_record_of_a_load_is_what_the_pictures_show(built):
    sheets = sheet(place(SNOW.prompts(8, 0, "test"), 0))
    files = [F.avg_pool2d(x[None, :, :, :SIDE], 2)[0] for x in sheets[:4]]  # upright, half as large
    files += [x[:, :SIDE] for x in sheets[4:]]  # wide
    weights = [torch.zeros(2, 1), torch.zeros(1), torch.zeros(1, 1), torch.zeros(1)]
    load = lambda *changes: built(*changes)(files, SIDE, seeded(0), None, weights, 2)
    x0, sizes, _ = load()
    assert sizes[:4, :2].tolist() == [[(SIDE + MARGIN) // 2, SIDE // 2]] * 4
    assert torch.equal(corner(x0).float(), sizes[:, 2:4])
    x0, sizes, _ = load(("h, w, top, left, side", "h, w, left, top, side"))
    assert not torch.equal(corner(x0).float(), sizes[:, 2:4]), "control"


def test_half_of_each_command_has_a_perfect_correlation_and_little_obedience():
    told = torch.arange(0, 25, 3)[:, None].double()
    by_line, own = (find("10-explained").mistakes[0].function, find("10-explained").reference)
    assert by_line(told, told / 2).item() == pytest.approx(1)
    assert own(told, told / 2).item() < 0.2
    assert own(told, told).item() == 1
