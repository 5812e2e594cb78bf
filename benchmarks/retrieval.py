"""A million embeddings: recall and queries per second of an inverted file beside brute force.

    python -m benchmarks.retrieval           writes benchmarks/results/retrieval.json

The vectors are made up: unit vectors of 64 numbers around 2,000 points of the sphere, noise of norm 1, so that two of
one cluster have a cosine of about 0.5, and a query and its nearest vector one of about 0.7. Queries come from the same
distribution and are not in the index. Real embeddings are clustered too, but unevenly. The control is the same search
without clusters, uniform on the sphere: there a query's neighbours lie in any cell.

Both sides are faiss on the same number of threads in one process, turn by turn; brute force is its blocked matrix
product. A ratio below 1 is a share of brute force's time.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._timing import alternate, machine
from minidiff.console import any_sign
from minidiff.randomness import randn, seeded
from minidiff.retrieval import Index, recall

RESULTS = Path(__file__).parent / "results" / "retrieval.json"
BAR = 0.95
D, K, CENTRES, N_QUERIES = 64, 10, 2000, 500
PROBES = (1, 4, 16, 64)


def vectors(n: int, seed: int, clusters: bool = True) -> Tensor:
    """n unit vectors (n, 64), clustered or uniform on the sphere."""
    noise = randn((n, D), seeded(seed)) / D**0.5
    if not clusters:
        return F.normalize(noise, dim=1)
    centres = F.normalize(randn((CENTRES, D), seeded(2**20)), dim=1)
    at = torch.randint(CENTRES, (n,), generator=seeded(seed + 1))
    return F.normalize(centres[at] + noise, dim=1)


def measure(n: int, rounds: int, clusters: bool) -> dict[str, Any]:
    data, queries = vectors(n, 0, clusters), vectors(N_QUERIES, 10, clusters)
    began = time.process_time()
    ivf = Index.build(data, "ivf")
    build = time.process_time() - began
    flat = Index.build(data, "flat")
    exact = flat.neighbours(queries, K)[1]
    found = {f"{p} probes": recall(ivf.neighbours(queries, K, p)[1], exact) for p in PROBES}
    runs = {"brute force": lambda: flat.neighbours(queries, K)}
    runs |= {f"{p} probes": lambda p=p: ivf.neighbours(queries, K, p) for p in PROBES}
    times = alternate(runs, "brute force", rounds)
    rows = {
        name: {
            "recall@10": round(found.get(name, 1.0), 4),
            "queries per second": round(N_QUERIES / row["wall_s"], 1),
            "queries per CPU second": round(N_QUERIES / row["cpu_s"], 1),
            **row,
        }
        for name, row in times.items()
    }
    return {"cells": ivf.cells, "build_cpu_s": round(build, 1), "rows": rows}


def show(title: str, found: dict[str, Any]) -> None:
    print(f"\n{title}: {found['cells']} cells, built in {found['build_cpu_s']} CPU seconds")
    for name, row in found["rows"].items():
        rate, per_cpu = row["queries per second"], row["queries per CPU second"]
        print(f"  {name:12s} recall@10 {row['recall@10']:.4f}   {rate:9.1f} queries/s   {per_cpu:9.1f} per CPU second")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--control", type=int, default=100_000, help="vectors of the control without clusters")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for title, n, clusters in (("clustered", options.vectors, True), ("uniform", options.control, False)):
        results[title] = {"vectors": n, **measure(n, options.rounds, clusters)}
        show(f"{n:,} {title} vectors", results[title])
    facts = {"command": "python -m benchmarks.retrieval", "bar": BAR, "queries": N_QUERIES, **machine()}
    RESULTS.write_text(json.dumps({**facts, **results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    any_sign()
    main()
