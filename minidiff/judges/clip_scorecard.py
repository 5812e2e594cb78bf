"""Does the clip show what the caption says? Questions to what was read in it, each with two controls.

The same clips are asked about the next clip's caption (what a generator scores that does not listen), and again with
their frames in a random order (what it scores whose frames are right and whose motion is not).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from minidiff.data.clip_captions import captions
from minidiff.data.clips import ClipPrompt, ClipWorld
from minidiff.data.motions import BOUNCING, CIRCLING, MOTIONS, MOVING, unhurried
from minidiff.judges.clip_measures import flicker, frame_correlation, identity
from minidiff.judges.clips import Sightings, Told, looks_right, matches, shows, sightings, tracks
from minidiff.judges.scorecard import Generate, Score
from minidiff.randomness import seeded
from minidiff.validate import describe, integer, require

QUESTIONS = (
    "one object", "direction", "speed", "bouncing", "circling", "two objects", "who moves how", "passing", "meeting",
    "long captions",
)  # fmt: skip
ASKED = {
    "one object": ("one", MOTIONS), "direction": ("one", MOVING), "speed": ("one", MOVING),
    "bouncing": ("one", BOUNCING), "circling": ("one", CIRCLING), "two objects": ("two", MOTIONS),
    "who moves how": ("two", MOTIONS), "passing": ("passing", MOTIONS), "meeting": ("meeting", MOTIONS),
    "long captions": ("two", MOTIONS),
}  # fmt: skip
"""The family and the motions of the prompts of each question."""


def answer(question: str, prompt: ClipPrompt, told: Told) -> bool:
    """One question about one clip. "one object", "two objects": the looks alone; "direction": whatever the speed."""
    require(question in QUESTIONS, "question", repr(question), f"one of {QUESTIONS}")
    if question in ("one object", "two objects"):
        return told.steady and looks_right(prompt, told)
    if question == "direction":
        right = told.readable and looks_right(prompt, told)
        return right and unhurried(str(told.tracks[0].motion)) == unhurried(str(prompt.movers[0].motion))
    return shows(prompt, told)


def said(told: Told) -> str:
    """What was read in a clip, in words: for titles and messages."""
    each = [" ".join(filter(None, (t.colour, t.kind, t.motion or "(motion unreadable)"))) for t in told.tracks]
    words = ", ".join(each) or "nothing"
    if told.together:
        what, who, _ = told.together
        words += f": {' '.join(filter(None, told.tracks[who].look[::-1]))} {what} the other"
    return words if told.readable else f"unreadable ({words})"


@dataclass(frozen=True)
class Answers:
    """How many clips answer rightly; how many do for the next caption; and with their frames in a random order."""

    right: Score
    other: Score
    shuffled: Score


@dataclass(frozen=True)
class ClipScorecard:
    """answers: by question. failures: by question, (caption, what was read, clip (3, T, H, W)) of up to 8 clips."""

    answers: Mapping[str, Answers]
    failures: Mapping[str, list[tuple[str, str, Tensor]]]

    def __str__(self) -> str:
        width = max(map(len, self.answers))
        rows = [
            f"{question:{width}}  {a.right}  next caption {100 * a.other.share:.1f} %,"
            f" frames shuffled {100 * a.shuffled.share:.1f} %  (n = {a.right.asked})"
            for question, a in self.answers.items()
        ]
        return "\n".join(rows)


def scorecard(
    generate: Generate, world: ClipWorld, w: float = 0.0, n: int = 100, generator: Generator | int = 0,
    split: str | None = "test", questions: Sequence[str] = QUESTIONS,
) -> ClipScorecard:  # fmt: skip
    """Ask `generate(texts, w, seeds)` → (B, 3, T, H, W) n prompts per question, with the seeds 0 … n − 1.

    The prompts are from `split` of `world` ("train", "test", "content", "motion" or None) and of its motions, or of all
    motions of the question where the world has none of these. n ≥ 2, so that there is a next caption.
    """
    n = integer("n", n, 2)
    answers, failures = {}, {}
    for question in questions:
        require(question in QUESTIONS, "questions", repr(question), f"some of {QUESTIONS}")
        family, motions = ASKED[question]
        own = tuple(motion for motion in world.motions if motion in motions) or motions
        asked = replace(world, families=(family,), motions=own).prompts(n, generator, split)
        texts = captions(asked, "long" if question == "long captions" else "short")
        seen = _generated(generate, texts, w)
        told = tracks(seen)
        right = [answer(question, p, each) for p, each in zip(asked, told)]
        other = sum(answer(question, p, each) for p, each in zip(asked[1:] + asked[:1], told))
        mixed = sum(answer(question, p, each) for p, each in zip(asked, tracks(shuffled(seen))))
        answers[question] = Answers(Score(sum(right), n), Score(other, n), Score(mixed, n))
        wrong = [i for i in range(n) if not right[i]][:8]
        failures[question] = [(texts[i], said(told[i]), seen.clips[i]) for i in wrong]
    return ClipScorecard(answers, failures)


def _generated(generate: Generate, texts: Sequence[str], w: float) -> Sightings:
    clips = generate(texts, w, range(len(texts)))
    require(clips.ndim == 5 and len(clips) == len(texts), "generate", describe(clips), f"{len(texts)} clips")
    return sightings(clips)


def shuffled(seen: Sightings, seed: int = 0) -> Sightings:
    """Every clip with its frames in another order, none in its own, drawn from `seed`."""
    b, t = seen.clips.shape[0], seen.clips.shape[2]
    require(t > 1, "clips", f"{t} frame(s)", "at least 2")
    order = torch.rand(b, t, generator=seeded(seed)).argsort(1)  # type: ignore[arg-type]
    same = (order == torch.arange(t)).all(1, keepdim=True)
    return seen.reordered(torch.where(same, order.roll(1, 1), order))


def shares(
    generate: Generate, world: ClipWorld, w: float = 0.0, n: int = 300, split: str | None = "test", seed: int = 0
) -> dict[str, Answers]:
    """By family of `world`: how many of n clips show their short caption wholly, with both controls. n ≥ 2."""
    n, found = integer("n", n, 2), {}
    for family in world.families:
        prompts = replace(world, families=(family,)).prompts(n, seed, split)
        seen = _generated(generate, captions(prompts), w)
        told = tracks(seen)
        right, other = (int(matches(asked, told).sum()) for asked in (prompts, prompts[1:] + prompts[:1]))
        mixed = int(matches(prompts, shuffled(seen)).sum())
        found[family] = Answers(Score(right, n), Score(other, n), Score(mixed, n))
    return found


def measures(clips: Tensor, prompts: Sequence[ClipPrompt]) -> dict[str, float]:
    """Means over clips (B, 3, T, H, W) of `prompts`, T ≥ 2, where they are numbers:

    "shows its caption"; "objects right", whatever moves; "motion right", of the clips whose objects are; "identity
    kept"; "flicker"; "frame correlation".
    """
    seen = sightings(clips)
    told = tracks(seen)
    whole = matches(prompts, told)
    looks = torch.tensor([each.steady and looks_right(p, each) for p, each in zip(prompts, told)], dtype=torch.bool)
    rows = {
        "shows its caption": whole.double(), "objects right": looks.double(), "motion right": whole[looks].double(),
        "identity kept": torch.tensor([identity(each) for each in told], dtype=torch.float64),
        "flicker": flicker(seen), "frame correlation": frame_correlation(seen.clips),
    }  # fmt: skip
    return {name: float(values.nanmean()) for name, values in rows.items()}
