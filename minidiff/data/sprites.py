"""The sprite world: ten sprites that nobody here drew, at 64 px, in arrangements that the lecture's own prompts need.

What is held out goes by content, as everywhere (`Prompt.content`), and here in two more ways:

- A lone object has no partner to be new, so its size and its ground count: "a small cat", "a cat in the snow".
- The lecture's prompts are tests. An astronaut is never drawn with a horse in training, a plant never with a lightbulb,
  whatever else is there, and a cat is never alone in the snow.
"""

import zlib
from dataclasses import dataclass

from minidiff.data.prompts import LECTURE, Prompt, World
from minidiff.data.scenes import SPRITES

FAMILIES = (
    "one", "sizes", "relation", "pair", "count", "counts", "several", "surrounding", "riding", "snow",
)  # fmt: skip
TOGETHER = {frozenset(group.kind for group in prompt.groups) for prompt in LECTURE.values() if len(prompt.groups) > 1}
"""The kinds that the lecture puts together."""
HELD_OUT = 8
"""One content in so many belongs to the test split …"""
HELD_OUT_ALONE = 6
"""… and one lone object (its kind, ground and size) in so many."""


@dataclass(frozen=True)
class SpriteWorld(World):
    """`World` of the ten sprites, with a split of its own (see the top of this file)."""

    kinds: tuple[str, ...] = SPRITES
    families: tuple[str, ...] = FAMILIES

    def split_of(self, prompt: Prompt) -> str:
        """By content; a lone object by its kind, ground and size; what the lecture names is in the test split."""
        kinds = {group.kind for group in prompt.groups}
        if any(pair <= kinds for pair in TOGETHER) or prompt == LECTURE["a cat in the snow"]:
            return "test"
        if len(prompt.groups) == 1 and prompt.groups[0].count == 1:
            told, share = f"{prompt.content} {prompt.ground} {prompt.groups[0].size}", HELD_OUT_ALONE
        else:
            told, share = prompt.content, HELD_OUT
        return "test" if zlib.crc32(told.encode()) % share == 0 else "train"
