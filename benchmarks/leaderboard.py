"""The leaderboard: every shipped text-to-image system, its work, and what its pictures show (chapter 15).

    python -m benchmarks leaderboard                     all systems that are not measured yet
    python -m benchmarks.leaderboard DiT-S/8 "DALL-E 1"  these
    python -m benchmarks.leaderboard list                names, and which are measured
    python -m benchmarks.leaderboard readme              the tables into README.md

A system whose weights are what they were, and that was asked as many pictures, is not measured again; each is kept as
soon as it is done, so that the run can be stopped and called again. What is measured: `systems.leaderboard`.

Pictures: N of held-out captions of each family, seeds 0 … N − 1, read by `judges.scenes.parse`. "Long captions" are
asked of `scenes-any` alone: no other system has learnt to read them in that family, of three and four objects (chapter
12 asks its readers in other families).

Results: minidiff/assets/leaderboard.json, the only copy.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn

from benchmarks._contestants import Contestant, Draws, contestants, readable
from benchmarks._results import Results
from minidiff.console import any_sign
from minidiff.data.prompts import Prompt, World
from minidiff.data.scenes import SHAPES
from minidiff.judges.scenes import Parsed, parse
from minidiff.judges.scorecard import FAMILY_OF, QUESTIONS, answer, matches
from minidiff.systems import leaderboard
from minidiff.systems.dit import errors_of, exam, gflops

RESULTS = Results("leaderboard", leaderboard.PATH.parent)
N, TEN, SCENES = 100, 10, 256
"""Pictures of each family; pictures that are timed at once; scenes whose x̂0 is compared with the exact one."""


def questions_of(world: World, long: bool = False) -> list[str]:
    """Those that `world` holds; long: its captions, too, where a system reads them.

    "colours" and "attribute binding" only where things have colours: sprites have none.
    """
    coloured = any(kind in SHAPES for kind in world.kinds)
    known = [q for q in QUESTIONS if FAMILY_OF[q] in world.families and (long or q != "long captions")]
    return [q for q in known if coloured or q not in ("colours", "attribute binding")]


def parameters(models: Sequence[nn.Module]) -> int:
    """Of all models; of frozen encoders, which several of them may hold, each tensor once."""
    frozen, own = dict[bytes, int](), 0
    for model in models:
        for name, p in model.named_parameters():
            if ".encoder" in name:
                frozen[p.detach().cpu().numpy().tobytes()] = p.numel()
            else:
                own += p.numel()
    return own + sum(frozen.values())


def counted(question: str, prompts: Sequence[Prompt], seen: Parsed) -> dict[str, int]:
    """Pictures for which the answer is yes, with their own caption and with the next one's."""
    ok, things = seen.readable.tolist(), [seen.scenes.objects(i) for i in range(len(prompts))]
    yes = lambda asked: sum(good and answer(question, p, t) for good, p, t in zip(ok, asked, things))
    return {"right": yes(prompts), "other": yes([*prompts[1:], *prompts[:1]]), "asked": len(prompts)}


def shown(draws: Draws, world: World, w: float, n: int, long: Draws | None = None) -> dict[str, Any]:
    """{"asked": by question, "whole"}: n pictures of each family that a question is asked of.

    long: draws what a long caption tells, the one question (of three and four objects) that is asked so.
    """
    asked, whole = {}, {"right": 0, "other": 0, "asked": 0}
    questions = questions_of(world, long is not None)
    for family in dict.fromkeys(FAMILY_OF[question] for question in questions):
        prompts = replace(world, families=(family,)).prompts(n, 0, "test")
        pictures = (long if long and family == FAMILY_OF["long captions"] else draws)(prompts, w, range(n))
        sprites = pictures.shape[-1] == 16 and not any(kind in SHAPES for kind in world.kinds)
        seen = parse(readable(pictures) if sprites else pictures)
        asked |= {q: counted(q, prompts, seen) for q in questions if FAMILY_OF[q] == family}
        turned = [*prompts[1:], *prompts[:1]]
        for name, told in (("right", prompts), ("other", turned)):
            whole[name] += int(matches(told, seen).sum())
        whole["asked"] += n
    return {"asked": {q: asked[q] for q in questions}, "whole": whole}


def work(draws: Draws, world: World, w: float, counted: Callable[[], float] | None = None) -> dict[str, float]:
    """Operations of one picture, unless they were counted otherwise; CPU seconds of one of ten."""
    prompts = world.prompts(TEN, 1, "test")
    operations = gflops(lambda: draws(prompts[:1], w, [0])) if counted is None else counted()
    began = time.process_time()
    draws(prompts, w, range(TEN))
    return {"gflops": round(operations, 4), "seconds": round((time.process_time() - began) / TEN, 4)}


@torch.no_grad()
def error(system: Contestant) -> dict[str, float] | None:
    """Mean squared error of x̂0, and its part beyond the exact denoiser's, over `dit.TIMES`."""
    if system.denoise is None:
        return None
    asked = exam(SCENES)
    rows = errors_of(system.denoise()(asked.prompts), asked)
    return {kind: round(mean(row[kind] for row in rows), 6) for kind in ("loss", "excess")}


def measured(system: Contestant, n: int = N) -> dict[str, Any]:
    draws = system.draws()
    return {
        "section": system.section, "chapter": system.chapter, "w": system.w, "n": n, "exact": not system.parts,
        "parameters": parameters([part.load() for part in system.parts]),
        "training seconds": sum(part.record()["seconds"] for part in system.trained),
        "weights": weights(system), "error": error(system),
        **work(draws, system.world, system.w, system.gflops),
        **shown(draws, system.world, system.w, n, system.long and system.long()),
    }  # fmt: skip


def weights(system: Contestant) -> dict[str, str]:
    """Beginnings of the SHA-256 of all files that a system was made of."""
    return {part.name: part.record()["sha256"][:12] for part in system.trained}


def kept(name: str, row: Mapping[str, Any]) -> None:
    """Beside the rows of others, which may have ended meanwhile; in the order of the chapters."""
    rows = RESULTS.read().get("systems", {}) | {name: row}
    RESULTS.keep("systems", {each: rows[each] for each in contestants() if each in rows})


def is_done(system: Contestant, n: int) -> bool:
    row = RESULTS.read().get("systems", {}).get(system.name)
    return row is not None and row["n"] == n and row["weights"] == weights(system)


def to_readme(path: Path = Path("README.md")) -> None:
    text = leaderboard.filled(path.read_text(encoding="utf-8"), leaderboard.read(RESULTS.path))
    path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    any_sign()
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaderboard")
    parser.add_argument("names", nargs="*", metavar="NAME", help="systems; or `list`, `readme`")
    parser.add_argument("-n", type=int, default=N, help="pictures of each family")
    asked, systems = parser.parse_args(arguments), contestants()
    if asked.names == ["readme"]:
        return to_readme()
    if asked.names == ["list"]:
        for name, system in systems.items():
            print("measured" if is_done(system, asked.n) else "to do   ", name)
        return None
    if unknown := [name for name in asked.names if name not in systems]:
        parser.error(f"got {unknown}, expected some of {list(systems)}")
    for name in asked.names or systems:
        if not is_done(systems[name], asked.n):
            began = time.process_time()
            kept(name, measured(systems[name], asked.n))
            print(f"{name}: {time.process_time() - began:.0f} CPU s", flush=True)
    return None


if __name__ == "__main__":
    main()
