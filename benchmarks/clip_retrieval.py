"""Cleaning a web of captioned pictures with CLIP, and training on what is left: does the filter pay?

    python benchmarks/clip_retrieval.py        # about 10 minutes on one core

Three webs of 20,000 pairs, 30 % of them with a wrong text, 5 % copies (`systems.web`). The shipped CLIP finds wrong
texts, copies and pictures, judged by what was planted and by the parser. Then a small CLIP is trained anew, 400 steps
of 64 pairs, on all pairs ("raw"), on those above a score of 0.3 ("filtered") and, as a control, on equally many taken
at random; R@1 of 50 held-out pairs, mean of 20 draws. Chapter 06 shows the tables. Results: results/<this name>.json.
"""

import json
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.console import any_sign
from minidiff.data.captions import captions
from minidiff.data.prompts import World
from minidiff.data.web import Web, collect
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import shows
from minidiff.randomness import initialised
from minidiff.retrieval import Index, auc, hide_duplicates, match_scores, near_duplicates
from minidiff.systems import clip_scenes
from minidiff.systems.clip_scenes import scene_scores
from minidiff.training import draw_rows, fit

N, SEEDS, KEEP, STEPS = 20_000, range(3), 0.3, 400
RECALL = "R@1 of 50, caption for a picture"


@torch.no_grad()
def embedded(model: CLIP, web: Web) -> tuple[Tensor, Tensor]:
    rows = range(0, len(web), 500)
    images = torch.cat([model.encode_image(web.pictures[i : i + 500]) for i in rows])
    return images, torch.cat([model.encode_text(clip_scenes.tokens(web.texts[i : i + 500])) for i in rows])


def pixels(x: Tensor) -> Tensor:
    return F.normalize(x.flatten(1) - x.flatten(1).mean(1, keepdim=True), dim=1)


def duplicates(vectors: Tensor, web: Web, scene: list[frozenset]) -> tuple[Tensor, dict[str, float]]:
    """Groups at the threshold that links 96 % of the copies to their originals, and how good they are."""
    copy = web.origin != torch.arange(len(web))
    threshold = float((vectors[copy] * vectors[web.origin[copy]]).sum(1).quantile(0.04))
    groups, shown = near_duplicates(vectors, threshold), dict[int, frozenset]()
    lost = [scene[i] != shown.setdefault(g, scene[i]) for i, g in enumerate(groups.tolist())]
    hidden = float((groups[copy] == groups[web.origin[copy]]).double().mean())
    return groups, {"threshold": threshold, "copies_hidden": hidden, "others_lost": sum(lost) / len(web)}


def cleaned(model: CLIP, web: Web, images: Tensor, texts: Tensor, seed: int) -> dict[str, object]:
    originals = int((web.origin == torch.arange(len(web))).sum())
    read = parse(web.pictures[:originals]).scenes
    things = [read.objects(i) for i in web.origin.tolist()]
    scene = [frozenset(Counter(t).items()) for t in things]
    groups, by_pixels = duplicates(pixels(web.pictures), web, scene)
    _, by_clip = duplicates(images, web, scene)
    asked = {p.content: p for p in World(families=("one", "pair", "count")).prompts(300, 10 + seed)}.values()
    asked = [p for p in asked if sum(shows(p, t) for t in things) >= 10]
    with torch.no_grad():
        queries = model.encode_text(clip_scenes.tokens(captions(asked)))
    hits = [hide_duplicates(row, groups)[:10] for row in Index.build(images).search(queries, 100)]
    right = lambda prompts: sum(shows(p, things[h.index]) for p, row in zip(prompts, hits) for h in row)
    scores, shown = match_scores(images, texts), sum(map(len, hits))
    kept = scores >= KEEP
    return {
        "auc": auc(scores, web.matched), "kept": float(kept.double().mean()),
        "wrong_among_kept": float((~web.matched[kept]).double().mean()),
        "right_lost": float((~kept[web.matched]).double().mean()), "duplicates_pixels": by_pixels,
        "duplicates_clip": by_clip, "queries": len(asked), "precision_at_10": right(asked) / shown,
        "precision_at_10_shuffled": right(asked[1:] + asked[:1]) / shown,
    }  # fmt: skip


def small() -> CLIP:
    text = TextTower(len(clip_scenes.tokenizer()), 77, dim=64, depth=2, heads=4, out=64)
    return CLIP(text, ImageTower(3, side=16, patch=4, dim=64, depth=2, heads=4, out=64))


def trained_on(web: Web, rows: Tensor, seed: int) -> float:
    data = {"x0": web.pictures[rows], "tokens": clip_scenes.tokens([web.texts[i] for i in rows.tolist()])}
    *_, last = fit(initialised(small, seed), draw_rows(data, 64), STEPS, lr=2e-3, ema_decay=0.99, seed=seed, bar=False)
    return scene_scores(last.ema)[RECALL]


def main() -> None:
    torch.set_num_threads(1)
    model, began, runs = clip_scenes.MODEL.load(), time.process_time(), []
    for seed in SEEDS:
        web = collect(N, seed, split="train")
        images, texts = embedded(model, web)
        run = {"seed": seed, **cleaned(model, web, images, texts, seed)}
        keep = torch.nonzero(match_scores(images, texts) >= KEEP)[:, 0]
        random = torch.randperm(N, generator=Generator().manual_seed(seed))[: len(keep)]
        arms = {"raw": torch.arange(N), "filtered": keep, "random": random}
        run |= {f"r1_{name}": trained_on(web, rows, seed) for name, rows in arms.items()}
        runs.append(run)
        print(run, flush=True)
        facts = {"n": N, "steps": STEPS, "keep": KEEP, "cpu_seconds": round(time.process_time() - began)}
        path = Path(__file__).parent / "results" / f"{Path(__file__).stem}.json"
        path.write_text(
            json.dumps({**facts, "torch": torch.__version__, "runs": runs}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    any_sign()
    main()
