"""`minidiff sample` at 64 px as a tool: seconds of a picture beside the bare calls of the network, memory of a hundred.

    python -m benchmarks latent        → benchmarks/results/latent.json

- Ten pictures by `generate` (50 ancestral steps at w = 1, then the decoder), beside 100 calls of the network on the
  same batch and nothing else: what the library adds to them.
- The most memory that is in use while 10, and while 100 pictures are drawn, each in a process of its own, above what
  the loaded models need: batches of `BATCH` are all that is ever in memory at a time.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks._timing import alternate, machine
from minidiff.checkpoints import write_whole
from minidiff.console import any_sign
from minidiff.systems import latent

BATCH, STEPS, TEXT = 10, 50, "an astronaut riding a horse"


def time_generate(rounds: int) -> dict:
    model, autoencoder = latent.LATENT.load(), latent.AUTOENCODER.load()
    generate = latent.pictures_of(model, autoencoder, STEPS, BATCH)
    x, t = torch.randn(BATCH, *latent.LATENT_SHAPE), torch.full((BATCH,), 0.5)
    tokens = latent.tokenizer().encode([TEXT] * BATCH)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(2 * STEPS):  # with and without the condition
            model.net(x, t, tokens=tokens)

    return alternate({"bare": bare, "generate": lambda: generate([TEXT] * BATCH, 1.0, range(BATCH))}, "bare", rounds)


def peak_mib(n: int) -> float:
    """The process's largest resident memory after drawing n pictures, in MiB; n = 0 only loads the models."""
    code = f"from benchmarks.latent import draw; draw({n})"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8").stdout)


def draw(n: int) -> None:
    torch.set_num_threads(1)
    generate = latent.pictures_of(latent.LATENT.load(), latent.AUTOENCODER.load(), 10, BATCH)
    if n:
        generate([TEXT] * n, 1.0, range(n))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    any_sign()
    torch.set_num_threads(1)
    timing = time_generate(rounds=5)
    memory = {str(n): round(peak_mib(n)) for n in (0, 10, 100)}
    per_picture = round(timing["generate"]["cpu_s"] / BATCH, 3)
    found = {**machine(), "cpu_s_per_picture": per_picture, "timing": timing, "peak_MiB": memory}
    print(json.dumps(found, indent=2))
    path = Path(__file__).parent / "results" / "latent.json"
    text = json.dumps(found, indent=2) + "\n"
    write_whole(path, lambda temporary: (temporary.write_text(text, encoding="utf-8"), None)[1])


if __name__ == "__main__":
    main()
