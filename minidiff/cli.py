"""`minidiff train | sample | build | check | grade | doctor`: each has one `add_…` and one `run_…` function.

Help is in ASCII: where a console cannot show "−1", its escape would be hard to read.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from minidiff.console import any_sign


def path(text: str) -> Path:
    """A path of the command line. An empty one is a variable that was not set, not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("got an empty path")
    return Path(text)


def add_build(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("build", help="make the notebooks from their percent scripts")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, such as 01_bayes_rule (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name what is out of date")
    parser.add_argument("--root", type=path, default=None, help="the clone (default: the one around this folder)")
    parser.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> int:
    from minidiff.course import build

    root = build.find_root(Path.cwd()) if args.root is None else args.root.resolve()
    names = args.names or None  # no name at all means every one
    if args.check:
        lines = build.stale(root, names)
        print("\n".join(lines) if lines else "every notebook is up to date")
        if lines:
            print("run `minidiff build` and commit what it writes", file=sys.stderr)
        return 1 if lines else 0
    written = build.build(root, names)
    print("\n".join(f"wrote {path.relative_to(root)}" for path in written) or "every notebook is up to date")
    return 0


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("check", help="test the exercises' own checks: right answers pass, mistakes get named")
    parser.add_argument("names", nargs="*", metavar="CHAPTER", help="such as 01_bayes_rule (default: all)")
    parser.set_defaults(run=run_check)


def run_check(args: argparse.Namespace) -> int:
    from minidiff.course.audit import audit
    from minidiff.course.exercise import chapters, load_chapter

    failed = 0
    for name in args.names or chapters():
        for exercise in load_chapter(name):
            problems = audit(exercise)
            failed += bool(problems)
            print(f"{'ok  ' if not problems else 'FAIL'} {exercise.id}: {len(exercise.mistakes)} mistakes named")
            print("".join(f"       {problem}\n" for problem in problems), end="")
    return 1 if failed else 0


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    several = "on 4 GPUs: torchrun --nproc-per-node 4 -m minidiff.cli train NAME"
    parser = commands.add_parser(
        "train", help="train shipped weights again; Ctrl-C and the same command go on", epilog=several
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the weights; without it, all are listed")
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's number of steps")
    parser.add_argument("--run", dest="folder", type=path, default=None, help="checkpoint and log (default: runs/NAME)")
    parser.add_argument("--out", type=path, default=None, help="folder of the weights (default: the package's own)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: PyTorch's)")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> int:
    import json

    import torch

    from minidiff.systems.catalogue import shipped, table
    from minidiff.validate import require
    from minidiff.weights import FOLDER

    if args.name is None:
        print(table())
        return 0
    models = shipped()
    require(args.name in models, "NAME", repr(args.name), f"one of {sorted(models)}")
    require(args.steps is None or args.steps >= 1, "--steps", args.steps, "a positive integer")
    require(args.threads is None or args.threads >= 1, "--threads", args.threads, "a positive integer")
    for name, place in (("--run", args.folder), ("--out", args.out)):
        require(place is None or place.is_dir() or not place.exists(), name, place, "a folder, or a new one's name")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    folder = Path("runs") / args.name if args.folder is None else args.folder
    facts = models[args.name].train(folder, FOLDER if args.out is None else args.out, args.steps)
    if facts:  # of torchrun's processes one has them
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    return 0


def add_sample(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    example = 'for example: minidiff sample "a cat in the snow" -o cat.png; without a TEXT: the words that are known'
    parser = commands.add_parser("sample", help="guided pictures from shipped weights, as a PNG", epilog=example)
    what = "captions of up to four sprites or shapes, or classes of clothes, by name or number (0 to 9); '' is no text"
    parser.add_argument("texts", nargs="*", metavar="TEXT", help=what)
    parser.add_argument("-w", type=float, default=1.0, help="guidance strength: 0 plain conditional, -1 unconditional")
    negative = "what guidance leads away from, where w is above 0 (sprites only; default: no text)"
    parser.add_argument("--negative", metavar="TEXT", default="", help=negative)
    parser.add_argument("-n", type=int, default=8, help="pictures of each text")
    parser.add_argument("--steps", type=int, default=None, help="of the sampler (default: 20; 50 for scenes)")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture; the next has the next seed")
    parser.add_argument("--model", default=None, help="the weights, by name (default: by TEXT)")
    parser.add_argument("-o", "--out", type=path, default=Path("samples.png"), help="PNG to write")
    parser.add_argument("--leaderboard", action="store_true", help="no pictures: what all systems cost and show")
    parser.set_defaults(run=run_sample)


def run_sample(args: argparse.Namespace) -> int:
    from minidiff.cli_sample import sample

    return sample(args)


def add_grade(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("grade", help="mark a class's notebooks, each in a sandbox")
    parser.add_argument("submissions", type=path, metavar="SUBMISSIONS", help="folder, or zip as a platform exports it")
    parser.add_argument("-o", "--out", type=path, required=True, help="folder for the marks; a later run goes on there")
    parser.add_argument("-a", "--assignment", default=None, help="such as 01_bayes_rule (default: what most belong to)")
    parser.add_argument("-j", "--jobs", type=int, default=None, help="submissions at a time (default: the cores)")
    parser.add_argument("--secret", type=path, default=None, help="file with the course secret (OUT/secret.txt)")
    parser.add_argument("--timeout", type=int, default=60, help="seconds for each exercise of each student (60)")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for each exercise of each student (2)")
    parser.add_argument("--partial", action="store_true", help="marks in proportion to the inputs that came out right")
    parser.add_argument("--fresh", action="store_true", help="mark everything again, also what has not changed")
    parser.add_argument("--canvas", type=path, metavar="CSV", help="an exported gradebook, filled in OUT/canvas.csv")
    parser.add_argument("--canvas-column", metavar="NAME", help="which assignment of it, if its name does not tell")
    parser.add_argument("--moodle", type=path, nargs="?", const=True, default=False, metavar="CSV", help=_MOODLE)
    parser.add_argument("--gradescope", action="store_true", help="OUT/gradescope/STUDENT/results.json")
    parser.add_argument("--allow-unsandboxed", action="store_true", help=_UNSANDBOXED)
    parser.add_argument("--root", type=path, default=None, help="the clone (default: the one around this folder)")
    parser.set_defaults(run=run_grade)


_MOODLE = "Moodle's grading worksheet, filled in OUT/moodle.csv (without CSV: a new one)"
_UNSANDBOXED = "where no sandbox works, run the code anyway, with your own rights: only code you would run yourself"


def run_grade(args: argparse.Namespace) -> int:
    from minidiff.course.grading.command import grade

    return grade(args)


def add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("doctor", help="look at this machine: what fits, what does not, what to do about it")
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    from minidiff.course.health import Finding, Report, examine

    try:
        from minidiff.course.grading.probe import finding

        grading = finding()
    except ImportError as missing:
        seen = f'not installed (no {missing.name}); to grade here: pip install -e ".[grade]"'
        grading = Finding("grading sandbox", seen)
    report = Report((*examine(), grading))
    print(report)
    return 0 if report.ok else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Wrong input, or a file that cannot be used, is one line on stderr and exit code 2."""
    any_sign()
    parser = argparse.ArgumentParser(prog="minidiff", description="Conditional generation with diffusion models")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_train, add_sample, add_build, add_check, add_grade, add_doctor):
        add(commands)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"minidiff {args.command}: {error}", file=sys.stderr)
        return 2


def version() -> str:
    """The installed version, as pyproject.toml had it when it was installed."""
    try:
        return metadata.version("minidiff")
    except metadata.PackageNotFoundError:  # a copy that was never installed
        return "unknown (not installed: pip install -e .)"


if __name__ == "__main__":
    sys.exit(main())
