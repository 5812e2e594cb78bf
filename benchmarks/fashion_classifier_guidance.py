"""Classifier guidance on Fashion-MNIST: class accuracy under an independent judge against w, and what it costs.

    python benchmarks/fashion_classifier_guidance.py                  three seeds of 500 pictures a row: 40 CPU minutes
    python benchmarks/fashion_classifier_guidance.py --per-class 5    a quick look at the first seed, printed, not saved

The null branch of the denoiser is the unconditional model; a classifier trained on noisy pictures guides it, and as a
control the same network trained on clean pictures. The judge took no part in either. Same pictures, steps and noise
as fashion_cfg.py, so the rows can be compared. An interrupted run goes on where it stopped.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from fashion_cfg import PER_CLASS, SEEDS, STEPS, facts, real_pictures
from torch import Tensor

from minidiff import times
from minidiff.console import any_sign
from minidiff.guidance import Denoise, bind, classifier
from minidiff.randomness import randn, seeded
from minidiff.samplers import dpmpp_2m, sample
from minidiff.systems import fashion
from minidiff.weights import record

RESULTS = Path(__file__).parent / "results" / f"{Path(__file__).stem}.json"
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
SETTINGS = (
    *(("noisy", False, w) for w in (0.0, *STRENGTHS)),
    *(("clean", False, w) for w in STRENGTHS),
    *(("noisy", True, w) for w in (0.0, 1.0, 4.0)),
)
"""(guide, labelled, w): the classifier that guides; whether the denoiser is told the label as well; the strength."""
GUIDES = {"noisy": fashion.NOISY_CLASSIFIER.load, "clean": fashion.CLEAN_CLASSIFIER.load}


def guided(model: fashion.Denoiser, y: Tensor, guide: str, labelled: bool, w: float) -> Denoise:
    """The null branch (or, if `labelled`, the class branch) of the denoiser, guided towards y."""
    f = GUIDES[guide]()
    plain = bind(model, y=y if labelled else fashion.NULL["y"])
    return classifier(plain, lambda x_t, t: f.log_prob(x_t, t, y), model.schedule, w)


def pictures(y: Tensor, seed: int, guide: str, labelled: bool, w: float) -> Tensor:
    """One picture per label, unclipped; picture i has its own noise, the same for every setting."""
    model = fashion.DENOISER.load()
    noise = randn((len(y), 1, 28, 28), seeded(range(10_000 * seed, 10_000 * seed + len(y))))
    parts = []
    for z, labels in zip(noise.split(100), y.split(100)):
        denoise = guided(model, labels, guide, labelled, w)
        *_, x = sample(denoise, z, times.linear(STEPS), dpmpp_2m(model.schedule))
        parts.append(x)
    return torch.cat(parts)


@torch.no_grad()
def opinion(guide: str, x: Tensor, y: Tensor) -> dict[str, float]:
    """What the guiding classifier itself says of the finished pictures."""
    log_prob = GUIDES[guide]()(x, torch.tensor(0.0)).log_softmax(1)
    agree = (log_prob.argmax(1) == y).double().mean()
    sure = log_prob.exp().gather(1, y[:, None]).double().mean()
    return {"guide_accuracy": round(float(agree), 4), "guide_probability": round(float(sure), 4)}


def measure(per_class: int, seeds: int, done: list[dict]) -> Iterator[dict]:
    """Rows that are not in `done` yet, one per seed and setting."""
    y = torch.arange(fashion.N_CLASSES).repeat_interleave(per_class)
    real, _ = real_pictures(per_class)
    for seed, (guide, labelled, w) in ((s, setting) for s in range(seeds) for setting in SETTINGS):
        key = {"seed": seed, "guide": guide, "labelled": labelled, "w": w}
        if not any(key.items() <= row.items() for row in done):
            began = time.process_time()
            x = pictures(y, seed, guide, labelled, w)
            seconds = round(time.process_time() - began, 1)
            yield {**key, **facts(x, y, real), **opinion(guide, x, y), "cpu_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="pictures per class and row")
    args = parser.parse_args()
    final = args.per_class == PER_CLASS
    used = ("fashion-denoiser", "fashion-judge", "fashion-noisy-classifier", "fashion-clean-classifier")
    weights = {name: record(name)["sha256"] for name in used}
    about = {"command": f"python benchmarks/{Path(__file__).name}", "weights": weights, "steps": STEPS}
    about["pictures"] = 10 * PER_CLASS
    saved = json.loads(RESULTS.read_text(encoding="utf-8")) if final and RESULTS.exists() else {}
    rows = saved["rows"] if saved.get("weights") == weights else []
    for row in measure(args.per_class, SEEDS if final else 1, rows):
        print(row, flush=True)
        rows.append(row)
        if final:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    any_sign()
    main()
