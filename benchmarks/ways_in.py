"""How text enters a transformer: six designs at equal parameters, three seeds each (chapter 13).

    python -m benchmarks.ways_in                   all runs that are not there yet → benchmarks/results/ways_in.json
    python -m benchmarks.ways_in runs double 2     one run: the design and the seed
    python -m benchmarks.ways_in streams seconds   other parts

runs      `systems.ways_in`, each trained anew from seeds 0, 1, 2 (0 is the shipped one): its scores and CPU seconds
streams   inside the shipped models: how the text's states change from block to block, who reads whom, what is lost
          where the text's stream stands still or may not look at the picture (`systems.streams`)
seconds   a forward pass of each, timed in turn beside cross-attention
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks._timing import alternate, machine
from minidiff.checkpoints import write_whole
from minidiff.console import any_sign
from minidiff.systems import dit, ways_in
from minidiff.systems.llm import chat

RESULTS = Path(__file__).parent / "results" / "ways_in.json"
SEEDS = 3


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def keep(part: str, found: Mapping[str, Any]) -> None:
    """This part's results in place of what was there; the other parts' stay."""
    text = json.dumps(read() | machine() | {part: found}, indent=1, ensure_ascii=False) + "\n"
    write_whole(RESULTS, lambda temporary: (temporary.write_text(text, encoding="utf-8"), None)[1])


def run(design: str, seed: int) -> dict[str, Any]:
    """Trained from the start; its record, less what is the same for all. Seed 0 is read where it is shipped."""
    model = replace(ways_in.MODELS[design], seed=seed)
    if seed == 0:
        facts = model.record()
    else:
        with tempfile.TemporaryDirectory() as folder:
            facts = model.train(Path(folder) / "run", Path(folder))
    return {name: facts[name] for name in ("parameters", "steps", "seconds", "scores")}


def runs(chosen: Sequence[str]) -> None:
    """A run that is there is not made again."""
    for seed in [int(seed) for seed in chosen[1:2]] or range(SEEDS):
        for design in chosen[:1] or ways_in.DESIGNS:
            name = f"{design}, seed {seed}"
            if name not in read().get("runs", {}).get("each", {}):
                made = run(design, seed)
                each = read().get("runs", {}).get("each", {}) | {name: made}  # others may have ended meanwhile
                keep("runs", {"table": compared(each), "each": dict(sorted(each.items()))})
                print(name, made["seconds"], "s", flush=True)


def compared(each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each design the mean over its seeds and the standard deviation; errors are means over `dit.TIMES`."""
    table = {}
    for design in ways_in.DESIGNS:
        own = [run["scores"] for name, run in each.items() if name.rsplit(", seed ", 1)[0] == design]
        if own:
            over = lambda kind, own=own: [mean(s[f"{kind}, t={t:g}"] for t in dit.TIMES) for s in own]
            columns = {kind: over(kind) for kind in ("loss", "floor", "excess")}
            columns |= {name: [s[name] for s in own] for name in own[0] if ", t=" not in name}
            table[design] = {"seeds": len(own)} | {name: told(values) for name, values in columns.items()}
    return table


def told(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": round(mean(values), 6), "sd": round(stdev(values), 6) if len(values) > 1 else 0.0}


def seconds(chosen: Sequence[str]) -> None:
    """A forward pass of 32 pictures with short captions, without the reader."""
    models = {design: ways_in.MODELS[design].untrained().eval() for design in ways_in.DESIGNS}
    texts = ["a red circle left of a blue square"] * 32
    with torch.no_grad():
        given = {name: model.net.conditioning(32, tokens=chat(texts)) for name, model in models.items()}  # type: ignore
        call = lambda name: models[name].net.backbone(torch.zeros(32, 3, 16, 16), torch.full((32,), 0.5), **given[name])  # type: ignore
        contestants = {name: lambda name=name: call(name) for name in models}
        timed = alternate(contestants, "cross-attention", 40)
    keep("seconds", {"pictures": 32, "tokens of the text": chat(texts).shape[1] - ways_in.llm.CUT} | timed)


PARTS = {"runs": runs, "seconds": seconds}


def main(arguments: list[str]) -> None:
    any_sign()
    torch.set_num_threads(1)
    if arguments[:1] == ["runs"]:
        return runs(arguments[1:])
    if unknown := [name for name in arguments if name not in PARTS]:
        sys.exit(f"ways_in: got {unknown}, expected some of {list(PARTS)}")
    for name in arguments or PARTS:
        PARTS[name](())


if __name__ == "__main__":
    main(sys.argv[1:])
