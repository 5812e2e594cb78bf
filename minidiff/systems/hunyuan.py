"""One conversation, one transformer: it is asked for a picture, chooses its shape, draws it, and changes it when told.

HunyuanImage 3.0 (arXiv 2509.23951) in miniature, on 16-px scenes (chapter 14):

    a wide picture of a red circle  →  BEGIN, then the *ratio* as a token like any other, then the picture it asks for
    make the red circle blue        →  the picture before stands in the sequence, clean; a new one is drawn after it

Batches are by turns captions with their picture; a picture with an instruction and the picture after it; and the same
with the first caption before. Where a text is dropped for guidance its words are UNKNOWN, so that it keeps
its length and what follows keeps its place; theirs has a token for that, too. Left out of the original: the mixture of
experts, the second encoder of earlier pictures (SigLIP 2), thinking before drawing, and the size token.

8,000 steps (45 CPU minutes of one core) choose all of 200 ratios, draw .99 of lone objects and .98 of relations at
w = 1, and edit .99 of given pictures as told; .05 with another earlier picture. Edits wait for the look
at the earlier picture: a smaller network edited .025 after 900 steps, this one .70 of 30 after 2,500. It also met times
nearer to noise (mean .8 for .3), where the drawing has nothing else to go by; which of the two it was was not measured.
"""

from collections.abc import Sequence
from random import Random

import torch
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.interleaved import Interleaved, Signs
from minidiff.data.aspects import ASPECTS, NAMES, asked, aspects_of, drawn, moved
from minidiff.data.captions import captions, vocabulary
from minidiff.data.edits import KINDS_OF_EDIT, Edit, edit_of
from minidiff.data.prompts import Prompt, World, place
from minidiff.data.scenes import Object, assemble
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import N_SPECIALS, PAD, UNKNOWN, WordTokenizer, trimmed
from minidiff.guidance import bind, extrapolate
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import Score, shows
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.shapes import patchify
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse

WORLD = World(families=("one", "relation"))
PATCH, THETA = 4, 100.0
"""theta: of the positions. Sequences have 90 tokens here, so that 10,000 would leave half the pairs unturned."""
TOKENS = WordTokenizer(
    [*vocabulary(("short",)), "wide", "tall", "picture", "of", "the", "make", "turn", "into", "remove"]
)
SIGNS = Signs(len(TOKENS), [(h // PATCH, w // PATCH) for h, w in ASPECTS.values()])

Turn = str | Tensor
"""A text, or a picture (3, H, W)."""


def build(dim: int = 128, depth: int = 6) -> Interleaved:
    """1.7 M parameters: width 128, 6 blocks, 16 or 24 squares of 4×4 pixels for each picture."""
    return Interleaved(
        len(TOKENS), SIGNS.shapes, 3, PATCH, dim, depth, weigh=velocity_weight, theta=THETA
    )  # fmt: skip


def written(rows: Sequence[Sequence[Turn]], then: Sequence[int] = ()) -> dict[str, Tensor]:
    """Conversations as "tokens" (B, L) and "pixels" (B, L, 48), each ended by the tokens `then`."""
    ids, places = [], []
    for i, row in enumerate(rows):
        ids.append([])
        for turn in row:
            if isinstance(turn, str):
                words = TOKENS.encode([turn])[0]
                ids[-1] += words[words != PAD].tolist()
            else:
                places.append((i, len(ids[-1]) + 3, turn))
                ids[-1] += SIGNS.picture(int(aspects_of([turn])))
        ids[-1] += then
    long = max(map(len, ids))
    tokens = torch.tensor([row + [PAD] * (long - len(row)) for row in ids])
    pixels = torch.zeros(*tokens.shape, 3 * PATCH**2)
    for i, first, picture in places:
        squares = patchify(picture[None], PATCH)[0]
        pixels[i, first : first + len(squares)] = squares
    return {"tokens": tokens, "pixels": pixels}


def silenced(tokens: Tensor) -> Tensor:
    """The same conversations with every word UNKNOWN: "no condition", at the same places."""
    return torch.where((tokens >= N_SPECIALS) & (tokens < len(TOKENS)), UNKNOWN, tokens)


def instruction(objects: list[Object], rng: Random) -> Edit:
    """A random edit. The only object is not removed: empty pictures are alike, and any would be as told."""
    return edit_of(objects, rng, rng.choice(KINDS_OF_EDIT if len(objects) > 1 else KINDS_OF_EDIT[:2]))


def stories(
    n: int, world: World, generator: Generator | int, split: str | None
) -> tuple[list[Prompt], Tensor, list[Edit]]:
    """n scenes of any shape, (n,) int64 which, and an edit of each, with the objects before and after."""
    generator = torch.Generator().manual_seed(generator) if isinstance(generator, int) else generator
    prompts = world.prompts(n, generator, split)
    aspects = torch.randint(len(NAMES), (n,), generator=generator)
    scenes, rng = moved(place(prompts, generator), aspects, generator), Random(repr(prompts))
    return prompts, aspects, [instruction(scenes.objects(i), rng) for i in range(n)]


def pictures_of(objects: Sequence[list[Object]], aspects: Tensor) -> list[Tensor]:
    return drawn(assemble(list(objects)), aspects)


def draw_turns(batch: int, world: World = WORLD) -> Draw:
    """{"x0" (batch, L, 48), "t", "eps", "tokens" (batch, L)}: batches of captions and of edits in turn."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts, aspects, edits = stories(n, world, generator, "train")
            before, after = (pictures_of([getattr(e, when) for e in edits], aspects) for when in ("before", "after"))
            told = [asked(text, aspect) for text, aspect in zip(captions(prompts), aspects.tolist())]
            kinds = [[0, 1, 2][i // batch % 3] for i in range(n)]  # a caption; an edit; both
            parts = zip(kinds, told, before, edits, after)
            found = written([[[a, b], [b, e.text, c], [a, b, e.text, c]][k] for k, a, b, e, c in parts])
            silent = torch.rand(n, generator=generator) < 0.1
            tokens = torch.where(silent[:, None], silenced(found["tokens"]), found["tokens"])
            return {"x0": found["pixels"], "tokens": tokens}

        return draw

    noisy = diffuse(chunked(rows, batch), times.logit_normal(0.8, 1.0, stratified=True))

    def draw(generator: Generator) -> Batch:
        found = noisy(generator)
        long = trimmed(found["tokens"]).shape[1]
        return {**found, **{name: found[name][:, :long] for name in ("x0", "eps", "tokens")}}

    return draw


@torch.no_grad()
def choose(model: Interleaved, rows: Sequence[Sequence[Turn]]) -> Tensor:
    """(B,) int64: the most probable ratio of the picture that follows each conversation."""
    device = next(model.parameters()).device
    given = {name: value.to(device) for name, value in written(rows, [SIGNS.begin]).items()}
    return model.ratios(**given).argmax(-1).cpu()


@torch.no_grad()
def generate(
    model: Interleaved, rows: Sequence[Sequence[Turn]], w: float, seeds: Sequence[int], steps: int = 50
) -> list[Tensor]:
    """The picture (3, H, W) that follows each conversation, in the shape that the model chooses, in ancestral steps.

    w: guidance strength. seeds: one a picture, which depends on nothing else.
    """
    device, shapes = next(model.parameters()).device, choose(model, rows)
    denoiser, found = Denoiser(model, Linear(), X0), {}
    for shape, size in enumerate(ASPECTS.values()):
        ours = (shapes == shape).nonzero()[:, 0].tolist()
        if not ours:
            continue
        given = {k: v.to(device) for k, v in written([rows[i] for i in ours], SIGNS.picture(shape)).items()}
        denoise = bind(denoiser, **given)
        if w != 0:
            denoise = extrapolate(denoise, bind(denoiser, **given | {"tokens": silenced(given["tokens"])}), w)
        generators = seeded([seeds[i] for i in ours])
        noise = randn((len(ours), 3, *size), generators, device=device)
        *_, x = sample(denoise, noise, times.linear(steps), ddpm(model.schedule), generators)
        found |= dict(zip(ours, x.cpu()))
    return [found[i] for i in range(len(rows))]


def read(pictures: Sequence[Tensor]) -> list[list[Object] | None]:
    """What each picture shows, None where it cannot be read."""
    found: dict[int, list[Object] | None] = {}
    for size in {tuple(picture.shape) for picture in pictures}:
        ours = [i for i, picture in enumerate(pictures) if tuple(picture.shape) == size]
        seen = parse(torch.stack([pictures[i] for i in ours]))
        found |= {i: seen.scenes.objects(k) if seen.readable[k] else None for k, i in enumerate(ours)}
    return [found[i] for i in range(len(pictures))]


def as_told(wanted: Sequence[Object], seen: Sequence[Object] | None) -> bool:
    """The same kinds and colours, each within a cell of its place: what was edited, and what was not."""
    if seen is None or len(seen) != len(wanted):
        return False
    key = lambda thing: (thing[0], str(thing[1]))
    pairs = list(zip(sorted(wanted, key=key), sorted(seen, key=key)))
    return all(a[:2] == b[:2] and max(abs(a[3] - b[3]), abs(a[4] - b[4])) <= 1 for a, b in pairs)


def _share(right: Sequence[bool]) -> float:
    return round(Score(sum(right), len(right)).share, 4)


def drawing(model: Interleaved, world: World, w: float, n: int, split: str | None = "test") -> dict[str, float]:
    """By family: the share of ratios and of pictures that are as asked, and as the next caption asks (the control)."""
    found = {}
    for family in world.families:
        prompts, aspects, _ = stories(n, World(world.kinds, world.colours, (family,)), 0, split)
        told = [asked(text, aspect) for text, aspect in zip(captions(prompts), aspects.tolist())]
        made = generate(model, [[text] for text in told], w, range(n))
        chosen, seen = aspects_of(made), read(made)
        for name, by in (("", 0), (", another caption", 1)):
            wanted = prompts[by:] + prompts[:by]
            found[f"{family}, ratio{name}"] = _share((chosen == aspects.roll(-by)).tolist())
            right = [things is not None and shows(prompt, things) for prompt, things in zip(wanted, seen)]
            found[f"{family}, drawn, w={w:g}{name}"] = _share(right)
    return found


def editing(model: Interleaved, world: World, w: float, n: int, split: str | None = "test") -> dict[str, float]:
    """The share of edits that are as told, with the earlier picture, and (the control) with another in its place.

    another: of the same shape, from another scene. ratio: the edited picture has the shape of the earlier one. kept:
    of objects that no instruction named, the share that is still there, within a cell.
    """
    _, aspects, edits = stories(n, world, 1, split)
    before = pictures_of([edit.before for edit in edits], aspects)
    other = [before[next((j % n for j in range(i + 1, i + n) if aspects[j % n] == aspects[i]), i)] for i in range(n)]
    found = {}
    for name, earlier in (("", before), (", another picture", other)):
        made = generate(model, [[b, edit.text] for b, edit in zip(earlier, edits)], w, range(n))
        seen, right = read(made), []
        for edit, things in zip(edits, seen):
            right.append(as_told(edit.after, things))
        found[f"edited, w={w:g}{name}"] = _share(right)
        found[f"edited, ratio{name}"] = _share((aspects_of(made) == aspects).tolist())
        kept = [
            any(as_told([thing], [t]) for t in things or [])
            for edit, things in zip(edits, seen)
            for thing in edit.before
            if thing in edit.after
        ]
        if kept:
            found[f"edited, the rest kept, w={w:g}{name}"] = _share(kept)
    return found


def conversing(model: Interleaved, world: World, w: float, n: int, split: str | None = "test") -> dict[str, float]:
    """Two turns: the model draws a caption, then edits its own picture; right if it shows the caption, edited."""
    prompts, aspects, _ = stories(n, world, 2, split)
    told = [asked(text, aspect) for text, aspect in zip(captions(prompts), aspects.tolist())]
    first = generate(model, [[text] for text in told], w, range(n))
    seen, rng = read(first), Random(0)
    fine = [i for i, (prompt, things) in enumerate(zip(prompts, seen)) if things and shows(prompt, things)]
    if not fine:
        return {f"second turn, w={w:g}": 0.0}
    edits = [instruction(seen[i] or [], rng) for i in fine]
    rows = [[told[i], first[i], edit.text] for i, edit in zip(fine, edits)]
    second = read(generate(model, rows, w, range(n, n + len(fine))))
    return {f"second turn, w={w:g}": _share([as_told(edit.after, things) for edit, things in zip(edits, second)])}


@torch.no_grad()
def scores(model: Interleaved, world: World = WORLD, n: int = 100) -> dict[str, float]:
    """Held-out contents at w = 0 and 1: ratios, drawings by family, edits, second turns, with their controls."""
    found = {}
    for w in (0.0, 1.0):
        found |= drawing(model, world, w, n) | editing(model, world, w, n) | conversing(model, world, w, n)
    return found


MODEL = Shipped(
    name="hunyuan", purpose="chooses a picture's shape, draws it, and edits it when told, in one sequence",
    build=build, draw=lambda: draw_turns(32), steps=8000, scores=scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
