"""The effect of w on Fashion-MNIST: what classifier-free guidance buys, and what it costs.

    python benchmarks/fashion_cfg.py                  three seeds of 500 pictures a row: half an hour on one core
    python benchmarks/fashion_cfg.py --per-class 5    a quick look at the first seed, printed and not saved

Pictures are judged by a network that had no part in making them, and compared with the real test pictures. Rows are
saved as they are measured; an interrupted run goes on where it stopped. Delete the results to start afresh.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor

from minidiff import times
from minidiff.console import any_sign
from minidiff.data.real import fashion_mnist
from minidiff.guidance import Denoise, bind, cfg, within
from minidiff.judges.coverage import diversity, precision, recall, saturation
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m, sample
from minidiff.systems import fashion
from minidiff.weights import record

RESULTS = Path(__file__).parent / "results" / "fashion_cfg.json"
COMMAND = "python benchmarks/fashion_cfg.py"
STRENGTHS = (-1.0, 0.0, 1.0, 3.0, 7.0, 15.0)
INTERVALS = ((3.0, 0.1, 0.7), (7.0, 0.1, 0.7))
"""(w, low, high): guidance only while low ≤ t ≤ high."""
STEPS, PER_CLASS, SEEDS = 25, 50, 3


def real_pictures(per_class: int, offset: int = 0) -> tuple[Tensor, Tensor]:
    """The `per_class` test pictures of each class that come after its first `offset`, and their labels."""
    test = fashion_mnist(train=False)
    rows = [(test["y"] == c).nonzero()[:, 0][offset : offset + per_class] for c in range(fashion.N_CLASSES)]
    return test["x0"][torch.cat(rows)], test["y"][torch.cat(rows)]


def guided(model: fashion.Denoiser, y: Tensor, w: float, low: float, high: float) -> Denoise:
    if w == 0:
        return bind(model, y=y)
    if w == -1:  # the conditional branch has weight zero: save the work
        return bind(model, y=fashion.NULL["y"])
    both = cfg(model, {"y": y}, fashion.NULL, w)
    return both if (low, high) == (0.0, 1.0) else within(both, bind(model, y=y), low, high)


def part(y: Tensor, first: int, w: float, low: float, high: float) -> Tensor:
    """One picture per label, unclipped; picture i starts from the noise of seed `first` + i, the same for every w."""
    model = fashion.DENOISER.load()
    noise = randn((len(y), 1, 28, 28), seeded(range(first, first + len(y))))
    *_, x = sample(guided(model, y, w, low, high), noise, times.linear(STEPS), dpmpp_2m(model.schedule))
    return x


def pictures(y: Tensor, seed: int, w: float, low: float, high: float) -> Tensor:
    rows = range(0, len(y), 100)
    return torch.cat([part(y[i : i + 100], 10_000 * seed + i, w, low, high) for i in rows])


@torch.no_grad()
def facts(x: Tensor, y: Tensor, real: Tensor) -> dict[str, float]:
    """What the judge and the real test pictures say about x (its features see x clipped, as a viewer does)."""
    judge = fashion.JUDGE.load()
    features, real_features = judge.features(x.clamp(-1, 1)), judge.features(real)
    measured = {
        "accuracy": (judge.predict(x) == y).double().mean(),
        "diversity": diversity(features, y),
        "recall": recall(real_features, features),
        "precision": precision(real_features, features),
        "saturation": saturation(x),  # counts the black background too, which is at −1 in the data
        "white": (x >= 0.99).double().mean(),
        "out_of_range": (x.abs() > 1.05).double().mean(),
        "contrast": x.flatten(1).std(1).mean(),
    }
    return {name: round(float(value), 4) for name, value in measured.items()}


def measure(per_class: int, seeds: int, done: list[dict]) -> Iterator[dict]:
    """Rows that are not in `done` yet, one per (seed, w, interval)."""
    y = torch.arange(fashion.N_CLASSES).repeat_interleave(per_class)
    real, _ = real_pictures(per_class)
    settings = [(w, 0.0, 1.0) for w in STRENGTHS] + list(INTERVALS)
    for seed, (w, low, high) in ((s, setting) for s in range(seeds) for setting in settings):
        key = {"seed": seed, "w": w, "low": low, "high": high}
        if not any(key.items() <= row.items() for row in done):
            yield {**key, **facts(pictures(y, seed, w, low, high), y, real)}


def correlations(rows: list[dict], lowest: float) -> dict[str, list[float]]:
    """Spearman's rank correlation of each fact with w, for w ≥ lowest and no interval, one value per seed."""
    whole = [row for row in rows if (row["low"], row["high"]) == (0.0, 1.0) and row["w"] >= lowest]
    found: dict[str, list[float]] = {}
    for name in ("accuracy", "diversity", "recall", "precision", "saturation", "white", "out_of_range", "contrast"):
        for seed in sorted({row["seed"] for row in whole}):
            column = [(row["w"], row[name]) for row in whole if row["seed"] == seed]
            if len(column) > 1:
                found.setdefault(name, []).append(round(float(spearmanr(*zip(*column)).statistic), 3))
    return found


def save(about: dict, rows: list[dict]) -> None:
    ranks = {"w >= 0": correlations(rows, 0.0), "w >= -1": correlations(rows, -1.0)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({**about, "rank_correlation_with_w": ranks, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="pictures per class and row")
    args = parser.parse_args()
    final = args.per_class == PER_CLASS
    weights = {name: record(name)["sha256"] for name in ("fashion-denoiser", "fashion-judge")}
    about = {"command": COMMAND, "weights": weights, "pictures": 10 * PER_CLASS, "steps": STEPS, "k": 3}
    saved = json.loads(RESULTS.read_text(encoding="utf-8")) if final and RESULTS.exists() else {}
    rows = saved["rows"] if saved.get("weights") == weights else []
    real, y = real_pictures(args.per_class, offset=args.per_class)
    about["real"] = facts(real, y, real_pictures(args.per_class)[0])
    print("other real pictures:", about["real"])
    for row in measure(args.per_class, SEEDS if final else 1, rows):
        print(row, flush=True)
        rows.append(row)
        if final:
            save(about, rows)
    if final:
        save(about, rows)


if __name__ == "__main__":
    any_sign()
    main()
