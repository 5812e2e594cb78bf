"""`minidiff grade`: from the command line to a folder of marks."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from minidiff.course import build
from minidiff.course.grading.batch import Books, open_batch, read_secret
from minidiff.course.grading.mark import Rules
from minidiff.course.grading.results import FOR_REVIEW, Result, State
from minidiff.course.grading.sandbox import Limits, Unsandboxed, find_bwrap
from minidiff.course.health import usable_cores
from minidiff.validate import require

_MOST_NAMED = 10


def grade(args: argparse.Namespace) -> int:
    """Mark the class and say what came of it. Exit status 0, or 130 after Ctrl-C.

    `ValueError` for bad input, before anything is written.
    """
    require(1 <= args.timeout <= 86_400, "--timeout", args.timeout, "1 to 86400 seconds")
    require(0.25 <= args.memory <= 1024, "--memory", args.memory, "0.25 to 1024 GiB")
    require(args.jobs is None or args.jobs >= 1, "--jobs", args.jobs, "at least 1")
    for name in ("canvas", "moodle"):
        path = getattr(args, name)
        require(
            not isinstance(path, Path) or path.is_file(), f"--{name}", path, "a CSV file that the platform exported"
        )
    root = build.find_root(Path.cwd()) if args.root is None else args.root.resolve()
    limits = Limits(seconds=args.timeout, memory=int(args.memory * 2**30))
    rules = Rules(b"", level=_level(args.allow_unsandboxed), limits=limits, partial=args.partial)
    batch = open_batch(args.submissions, args.out, root, args.assignment, rules)
    batch = batch.with_secret(read_secret(args.out, args.secret))
    print(f"{batch.master.name}: {len(batch.submissions)} submissions, sandbox: {rules.level}")
    bar = tqdm(total=len(batch.submissions), unit="submission", disable=None)
    results: list[Result] = []
    try:
        for result in batch.run(usable_cores() if args.jobs is None else args.jobs, args.fresh):
            results.append(result)
            bar.set_postfix_str(result.student.key[:20], refresh=False)
            bar.update()
    except KeyboardInterrupt:
        bar.close()
        print(f"stopped after {len(results)} of {bar.total} submissions; the same command goes on from there")
        return 130
    bar.close()
    books = Books(args.canvas, args.canvas_column, args.moodle, args.gradescope)
    for sentence in batch.write(results, books):
        print(f"  {sentence}")
    print(summary(results))
    print(f"wrote {args.out}/grades.csv, class.html, manual.csv and feedback/ for {len(results)} students")
    return 0


def _level(allow_unsandboxed: bool) -> str:
    try:
        find_bwrap()
    except Unsandboxed as reason:
        if not allow_unsandboxed:
            raise ValueError(
                f"there is no sandbox for the students' code: {reason}. With --allow-unsandboxed it runs with your "
                "rights, and the results say so; do that only with code that you would run yourself"
            ) from None
        print(f"NO SANDBOX: {reason}. The code runs with your rights, and every result says so.", file=sys.stderr)
        return "none"
    return "bubblewrap"


def summary(results: list[Result]) -> str:
    """Mean, states, who brought no answer at all, and what waits for a person, in a few lines."""
    results = sorted(results, key=lambda result: result.student.key)  # they come as they are done
    states = Counter(item.state for result in results for item in result.items)
    mean = sum(result.score for result in results) / max(len(results), 1)
    most = max((result.max_score for result in results), default=0.0)
    waiting = sum(count for state, count in states.items() if state in FOR_REVIEW)
    counts = sorted(states.items(), key=lambda pair: (-pair[1], list(State).index(pair[0])))
    lines = [f"mean {mean:.2f} of {most:g} points; " + ", ".join(f"{n} {state}" for state, n in counts)]
    empty = [result.student.key for result in results if not any(item.digest for item in result.items)]
    if empty:
        names = ", ".join(empty[:_MOST_NAMED]) + (", …" if len(empty) > _MOST_NAMED else "")
        lines.append(f"no answer from {len(empty)} of {len(results)}, see the notes in class.html: {names}")
    if waiting:
        what = "answer waits" if waiting == 1 else "answers wait"
        lines.append(f"{waiting} {what} for you in manual.csv: fill in points and a comment, then run this again")
    return "\n".join(lines)
