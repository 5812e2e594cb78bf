"""A class of 100 marked: `minidiff grade` beside stock nbgrader's autograde, on the same notebooks of chapter 01.

    python benchmarks/grading.py                 # about 17 minutes on two cores, more than half of it nbgrader's
    python benchmarks/grading.py --students 10   # a smaller class

Each student's answers are made up from a seed: right (70 %), wrong by a factor, an exception, or untouched. Both
graders get the same files, one after the other. nbgrader marks one submission at a time and runs the whole notebook;
`minidiff grade` runs the answers alone, each in a process of its own, in a sandbox.

seconds  of wall clock and of processor time (the whole machine's, so it should do nothing else), per submission
memory   the largest sum over all processes of what each has to itself (PSS: shared pages are divided), MiB
marks    do the two graders give every student the same points?

Results: results/grading.json.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil

from minidiff.console import any_sign

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "grading.json"
CHAPTER = "01_bayes_rule"


def notebook(seed: int) -> Any:
    """One student's notebook."""
    chance = random.Random(seed)
    handed_out = nbformat.read(ROOT / "exercises" / f"{CHAPTER}.ipynb", as_version=4)
    solved = {c.id: c.source for c in nbformat.read(ROOT / "solutions" / f"{CHAPTER}.ipynb", as_version=4).cells}
    for cell in handed_out.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            right = solved[cell.id].replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", "")
            wrong = re.sub(r"return (.+?)( *#.*)?$", r"return 2 * (\1)", right, flags=re.MULTILINE)
            broken = cell.source.replace("raise NotImplementedError()", "return undefined_name")
            cell.source = chance.choices([right, wrong, broken, cell.source], [70, 15, 5, 10])[0]
    return handed_out


def make_class(folder: Path, students: int) -> list[str]:
    """nbgrader's layout, which `minidiff grade` reads too: submitted/STUDENT/01_bayes_rule/01_bayes_rule.ipynb."""
    names = [f"student{i:03d}" for i in range(students)]
    for i, name in enumerate(names):
        place = folder / "submitted" / name / CHAPTER
        place.mkdir(parents=True)
        nbformat.write(notebook(i), place / f"{CHAPTER}.ipynb")
    return names


def proportional(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.Error, OSError, AttributeError):
        return 0


def busy() -> float:
    """Processor seconds that the whole machine has spent so far: bubblewrap does not pass on its children's."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def measured(argv: list[str], folder: Path, students: int) -> dict[str, float]:
    """Run a command in `folder` and watch it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    environment["PATH"] = str(Path(sys.executable).parent) + os.pathsep + environment["PATH"]
    before, began = busy(), time.perf_counter()
    process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    most, done = [0], threading.Event()

    def watch() -> None:
        top = psutil.Process(process.pid)
        while not done.wait(1.0):
            try:
                most.append(sum(map(proportional, [top, *top.children(recursive=True)])))
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    text = process.communicate()[0].decode(errors="replace")
    took = time.perf_counter() - began
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{argv[0]} failed:\n{text[-3000:]}")
    return {
        "wall s per submission": round(took / students, 3),
        "cpu s per submission": round((busy() - before) / students, 3),
        "peak memory MiB": round(max(most) / 2**20),
    }


def ours(folder: Path, students: int, jobs: int) -> tuple[dict[str, float], dict[str, float]]:
    out = folder / f"marks-{jobs}"
    argv = [sys.executable, "-m", "minidiff.cli", "grade", str(folder / "submitted"), "-o", str(out)]
    numbers = measured([*argv, "--jobs", str(jobs), "--root", str(ROOT)], folder, students)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in (out / "results").glob("*.json")]
    return numbers, {r["student"]["key"]: sum(item["points"] for item in r["items"]) for r in results}


def nbgrader(folder: Path, students: int) -> tuple[dict[str, float], dict[str, float]]:
    from nbgrader.api import Gradebook

    source = folder / "source" / CHAPTER
    source.mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / f"{CHAPTER}.ipynb", source)
    command = [sys.executable, "-m", "nbgrader"]
    measured([*command, "generate_assignment", CHAPTER, "--create"], folder, 1)
    numbers = measured([*command, "autograde", CHAPTER, "--create"], folder, students)
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return numbers, {s.student.id: s.score for s in book.assignment_submissions(CHAPTER)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--students", type=int, default=100)
    n = parser.parse_args().students
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_class(folder, n)
        contestants: dict[str, Callable[[], tuple[dict[str, float], dict[str, float]]]] = {
            "minidiff grade --jobs 2": lambda: ours(folder, n, 2),
            "minidiff grade --jobs 1": lambda: ours(folder, n, 1),
            "nbgrader autograde": lambda: nbgrader(folder, n),
        }
        report: dict[str, Any] = {"command": f"python benchmarks/grading.py --students {n}", "students": n}
        marks = {}
        for contestant, run in contestants.items():
            report[contestant], marks[contestant] = run()
            print(contestant, report[contestant], flush=True)
    first, *others = marks.values()
    report["students with the same marks everywhere"] = sum(all(o[key] == first[key] for o in others) for key in first)
    base = report["nbgrader autograde"]
    for jobs in (1, 2):
        mine = report[f"minidiff grade --jobs {jobs}"]
        report[f"ratio, --jobs {jobs}"] = {key: round(mine[key] / base[key], 3) for key in base}
    RESULTS.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    any_sign()
    main()
