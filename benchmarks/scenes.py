"""How fast scenes are drawn and read, and how often they are read right.

    python benchmarks/scenes.py                # about four minutes on two cores

drawn    pictures per second at 16, 32 and 64 px: new prompts, places and pixels each time, and pixels alone
read     pictures per second of `judges.scenes.parse` at 16, 32 and 64 px, clean and with Gaussian noise σ = 0.1
exact    share of 10,000 held-out scenes (16 px) and 2,000 with sprites (32 px) read back with nothing wrong: kind,
         colour, size and place of every object; and the share that is readable. Control: pure noise and pictures of
         other scenes

Results: results/scenes.json.
"""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from minidiff.console import any_sign
from minidiff.data.prompts import World, place
from minidiff.data.scenes import KINDS, SIDES, Scenes, render
from minidiff.judges.scenes import parse, same

RESULTS = Path(__file__).parent / "results" / "scenes.json"


def seconds(work) -> float:
    """The least of three runs."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def noisy(x: Tensor, sigma: float) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def speeds() -> dict[str, dict[str, int]]:
    rates: dict[str, dict[str, int]] = {"drawn": {}, "pixels alone": {}, "read": {}, "read, σ = 0.1": {}}
    for side in SIDES:
        world, n = World() if side == 16 else World(kinds=KINDS), 2048 if side < 64 else 512
        scenes = place(world.prompts(n, 0), 1)
        x = render(scenes, side)
        parse(x[:8])
        name = f"{side} px"
        rates["drawn"][name] = round(n / seconds(lambda: render(place(world.prompts(n, 2), 3), side)))  # noqa: B023
        rates["pixels alone"][name] = round(n / seconds(lambda: render(scenes, side)))  # noqa: B023
        rates["read"][name] = round(n / seconds(lambda: parse(x)))  # noqa: B023
        rates["read, σ = 0.1"][name] = round(n / seconds(lambda: parse(noisy(x, 0.1))))  # noqa: B023
    return rates


def shares(scenes: Scenes, x: Tensor) -> dict[str, float]:
    read = parse(x)
    exact = same(read.scenes, scenes)
    return {"exact": round(float(exact.float().mean()), 5), "readable": round(float(read.readable.float().mean()), 5)}


def accuracy() -> dict[str, dict[str, float]]:
    rows = {}
    for name, world, side, n in (("16 px", World(), 16, 10_000), ("sprites, 32 px", World(kinds=KINDS), 32, 2000)):
        scenes = place(world.prompts(n, 0, "test"), 1)
        x = render(scenes, side)
        rows |= {f"{name}, σ = {sigma:g}": shares(scenes, noisy(x, sigma)) for sigma in (0.0, 0.1, 0.2)}
        rows[f"{name}, other scenes"] = shares(scenes, x.roll(1, 0))
    rows["16 px, pure noise"] = shares(
        scenes[:500], torch.randn(500, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    )
    return rows


def main() -> None:
    facts = {"command": "python benchmarks/scenes.py", "threads": torch.get_num_threads()}
    results = {**facts, "pictures per second": speeds(), "accuracy": accuracy()}
    print(json.dumps(results, indent=2, ensure_ascii=False))
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    any_sign()
    main()
