"""The checks that need no test run: `make check`. All of them run, also after one has failed.

basedpyright rather than pyright: the same type checker, but its wheel brings along the JavaScript runtime
that pyright downloads on first use.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CHECKS = {
    "ruff check": ["-m", "ruff", "check", "--output-format", "concise"],
    "ruff format": ["-m", "ruff", "format", "--check", "--output-format", "concise"],
    "text names its encoding": ["tools/encodings_of_text.py"],
    "basedpyright": ["-m", "basedpyright", "--level", "error"],
    "import-linter": ["-c", "from importlinter.cli import lint_imports_command as c; c()"],
    "notebooks and exercises are built": ["-m", "minidiff.cli", "build", "--check"],
    "pre-commit config": ["-m", "pre_commit", "validate-config"],
}


def main() -> int:
    failed = []
    for name, arguments in CHECKS.items():
        started = time.monotonic()
        words = {"encoding": "utf-8", "errors": "replace"}
        result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, **words)
        verdict = "ok" if result.returncode == 0 else "FAILED"
        print(f"{name:36s} {verdict:6s} {time.monotonic() - started:5.1f} s", flush=True)
        if result.returncode:
            failed.append(name)
            print(result.stdout + result.stderr, flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # what the tools say may hold any sign
    sys.exit(main())
