"""Minimal pairs of clips: prompts that differ in one thing. A generator that misses it is not right on both."""

from dataclasses import replace
from random import Random

from torch import Generator

from minidiff.data.clips import ClipPrompt, ClipWorld
from minidiff.data.motions import MOVING, TOGETHER
from minidiff.randomness import python_random
from minidiff.validate import integer, require

CONTRASTS = ("direction", "speed", "who", "depth")
"""left or right, up or down; slowly or quickly; which of two does what; behind or in front."""


def minimal_pairs(
    contrast: str, n: int, generator: Generator | int, world: ClipWorld | None = None
) -> list[tuple[ClipPrompt, ClipPrompt]]:
    """n pairs of prompts that differ in one thing only, of `CONTRASTS`, in words of the same number."""
    require(contrast in CONTRASTS, "contrast", repr(contrast), f"one of {CONTRASTS}")
    rng, world = python_random(generator), world or ClipWorld()
    return [_contrast(contrast, world, rng) for _ in range(integer("n", n, 0))]


_OTHER = {"left": "right", "right": "left", "up": "down", "down": "up", "slowly": "quickly", "quickly": "slowly"}


def _contrast(contrast: str, world: ClipWorld, rng: Random) -> tuple[ClipPrompt, ClipPrompt]:
    family = {"depth": "passing", "who": "two"}.get(contrast, "one")
    moving = tuple(motion for motion in world.motions if motion in MOVING)
    expected = {"one": "one that goes straight on", "two": "two that go together"}
    fits = {"one": bool(moving), "two": len(set(world.motions)) > 1}
    require(fits.get(family, True), "motions", world.motions, expected.get(family, ""))
    world = replace(world, families=(family,), motions=moving if family == "one" else world.motions)
    (prompt,) = world.prompts(1, rng.getrandbits(62))
    if contrast == "depth":
        return prompt, replace(prompt, together=next(t for t in TOGETHER[:2] if t != prompt.together))
    if contrast == "who":
        same = prompt.movers[0].motion == prompt.movers[1].motion
        return _contrast(contrast, world, rng) if same else (prompt, prompt.turned())
    (mover,), which = prompt.movers, 1 if contrast == "direction" else 2
    words = str(mover.motion).split()
    words[which] = _OTHER[words[which]]
    return prompt, ClipPrompt((replace(mover, motion=" ".join(words)),))
