"""`python -m benchmarks`: every benchmark that takes minutes, one after the other; names as arguments choose some."""

import runpy
import sys
from pathlib import Path

from minidiff.console import any_sign

QUICK = ("parity", "sampler_overhead", "training_speed")
ALL = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))

if __name__ == "__main__":
    any_sign()
    chosen = sys.argv[1:] or list(QUICK)
    if unknown := [name for name in chosen if name not in ALL]:
        sys.exit(f"benchmarks: got {unknown}, expected some of {ALL}")
    for name in chosen:
        print(f"\n=== {name}", flush=True)
        sys.argv = [name]  # a benchmark reads its own options from there
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    if left := [name for name in ALL if name not in chosen]:
        print(f"\nNot run: {', '.join(left)} (python -m benchmarks NAME; some take half an hour)")
