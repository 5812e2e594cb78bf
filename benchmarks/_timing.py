"""Timing contestants against each other on a machine that does other things too.

Each round runs every contestant once, in an order shuffled anew; what counts is the median over rounds of the *ratio*
to the base of the same round. CPU time of this process is taken beside wall time: it does not see other processes.
"""

import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def alternate(contestants: Mapping[str, Callable[[], object]], base: str, rounds: int, seed: int = 0) -> dict[str, Any]:
    """{name: {"wall_s", "cpu_s": medians; "wall_ratio", "cpu_ratio": medians and quartiles against `base`}}.

    Every contestant runs once before the clock starts.
    """
    chance, names = random.Random(seed), list(contestants)
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name in chance.sample(names, len(names)):
            began, spent = time.perf_counter(), time.process_time()
            contestants[name]()
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - spent)
    return {
        name: {
            "wall_s": round(statistics.median(wall[name]), 6),
            "cpu_s": round(statistics.median(cpu[name]), 6),
            "wall_ratio": quartiles(wall[name], wall[base]),
            "cpu_ratio": quartiles(cpu[name], cpu[base]),
        }
        for name in names
    }


def quartiles(values: list[float], base: list[float]) -> dict[str, float]:
    """Median and quartiles of the ratios, round by round."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(values, base)], n=4, method="inclusive")
    return {"median": round(middle, 4), "low": round(low, 4), "high": round(high, 4)}


def machine() -> dict[str, Any]:
    return {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
