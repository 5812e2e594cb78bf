"""A small web with planted faults, to clean and to search as LAION did (arXiv 2210.08402): every fault is known."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from minidiff.data.captions import captions
from minidiff.data.prompts import FAMILIES, Prompt, World, place
from minidiff.data.scenes import render
from minidiff.validate import integer, number

WORLD = World(families=FAMILIES[1:])
"""Every family of prompts but the empty picture: five shapes, six colours, at 16 px."""


@dataclass(frozen=True)
class Web:
    """N pictures (N, 3, 16, 16) in [−1, 1], the texts found beside them, and the truth about both.

    prompts: what each picture shows. matched: (N,) bool, the text is about this picture. origin: (N,) int64, the row of
    which this picture is a noisy copy, its own row for originals. safe: (N,) bool, False where a black cross is in it.
    """

    pictures: Tensor
    texts: list[str]
    prompts: list[Prompt]
    matched: Tensor
    origin: Tensor
    safe: Tensor

    def __len__(self) -> int:
        return len(self.texts)


def collect(
    n: int, seed: int, wrong: float = 0.3, copied: float = 0.05, world: World = WORLD, split: str | None = None
) -> Web:
    """n pairs. A share `wrong` has the text of another such pair; the last `copied`·n pictures are copies with noise.

    The noise has a standard deviation of 0.05, of pixels in [−1, 1]. Where the other pair says the same, it matches.
    `ValueError` unless n ≥ 1, `wrong` is in [0, 1] and `copied` in [0, 1/2].
    """
    n = integer("n", n)
    number("wrong", wrong, "a share in [0, 1]", lambda share: 0 <= share <= 1)
    number("copied", copied, "a share in [0, 1/2]: every copy has an original", lambda share: 0 <= share <= 0.5)
    generator, copies = Generator().manual_seed(integer("seed", seed, None)), round(copied * n)
    prompts = world.prompts(n - copies, generator, split)
    pictures = render(place(prompts, generator))
    which = torch.randperm(n - copies, generator=generator)[:copies]
    noise = 0.05 * torch.randn(copies, *pictures.shape[1:], generator=generator)
    prompts = prompts + [prompts[i] for i in which.tolist()]
    matched = torch.rand(n, generator=generator) >= wrong
    about = torch.arange(n)
    about[~matched] = about[~matched].roll(1)
    texts = captions(prompts)
    black_cross = [any((g.kind, g.colour) == ("cross", "black") for g in p.groups) for p in prompts]
    found = [texts[i] for i in about.tolist()]
    return Web(
        torch.cat([pictures, (pictures[which] + noise).clamp(-1, 1)]),
        found,
        prompts,
        torch.tensor([said == own for said, own in zip(found, texts)]),
        torch.cat([torch.arange(n - copies), which]),
        ~torch.tensor(black_cross),
    )
