"""`minidiff train | sample | build | check | grade | doctor`: each has one `add_…` and one `run_…` function."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def add_build(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("build", help="make the notebooks from their percent scripts")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, such as 01_bayes_rule (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name what is out of date")
    parser.add_argument("--root", type=Path, default=None, help="the clone (default: the one around this folder)")
    parser.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> int:
    from minidiff.course import build

    root = build.find_root(Path.cwd()) if args.root is None else args.root.resolve()
    if args.check:
        lines = build.stale(root, args.names)
        print("\n".join(lines) if lines else "every notebook is up to date")
        if lines:
            print("run `minidiff build` and commit what it writes", file=sys.stderr)
        return 1 if lines else 0
    written = build.build(root, args.names)
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
    parser = commands.add_parser("train", help="train shipped weights again; Ctrl-C and the same command go on")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the weights; without it, all are listed")
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's number of steps")
    parser.add_argument("--run", dest="folder", type=Path, default=None, help="checkpoint and log (default: runs/NAME)")
    parser.add_argument("--out", type=Path, default=None, help="folder of the weights (default: the package's own)")
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
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    folder = Path("runs") / args.name if args.folder is None else args.folder
    facts = models[args.name].train(folder, FOLDER if args.out is None else args.out, args.steps)
    print(json.dumps(facts, indent=2, ensure_ascii=False))
    return 0


def add_sample(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("sample", help="guided Fashion-MNIST pictures from shipped weights, as a PNG")
    parser.add_argument("labels", nargs="+", metavar="CLASS", help='such as "sneaker", "T-shirt" or 0 … 9')
    parser.add_argument("-w", type=float, default=1.0, help="guidance strength: 0 plain conditional, −1 unconditional")
    parser.add_argument("-n", type=int, default=8, help="pictures of each class")
    parser.add_argument("--steps", type=int, default=20, help="of DPM-Solver++ (2M)")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture; the next has the next seed")
    parser.add_argument("-o", "--out", type=Path, default=Path("samples.png"), help="PNG to write")
    parser.set_defaults(run=run_sample)


def run_sample(args: argparse.Namespace) -> int:
    import matplotlib

    matplotlib.use("agg")  # a command has no window to show
    from minidiff.checkpoints import write_whole
    from minidiff.show import grid, png
    from minidiff.systems import fashion
    from minidiff.validate import require

    require(args.n >= 1, "-n", args.n, "at least 1")
    labels = [fashion.label(name) for name in args.labels]
    pictures = fashion.pictures(labels, args.w, args.n, args.steps, args.seed)
    rows = [fashion.FASHION_NAMES[label] for label in labels]
    figure = grid(pictures, columns=args.n, rows=rows, title=f"w = {args.w:g}").get_figure(root=True)
    assert figure is not None  # grid has just drawn on one
    picture = png(figure, dpi=150)
    write_whole(args.out, lambda temporary: (temporary.write_bytes(picture), None)[1])
    print(f"wrote {args.out}")
    return 0


def add_grade(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("grade", help="mark a class's notebooks, each in a sandbox")
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="folder, or zip as a platform exports it")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the marks; a later run goes on there")
    parser.add_argument("-a", "--assignment", default=None, help="such as 01_bayes_rule (default: what most belong to)")
    parser.add_argument("-j", "--jobs", type=int, default=None, help="submissions at a time (default: the cores)")
    parser.add_argument("--secret", type=Path, default=None, help="file with the course secret (OUT/secret.txt)")
    parser.add_argument("--timeout", type=int, default=60, help="seconds for each exercise of each student (60)")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for each exercise of each student (2)")
    parser.add_argument("--partial", action="store_true", help="marks in proportion to the inputs that came out right")
    parser.add_argument("--fresh", action="store_true", help="mark everything again, also what has not changed")
    parser.add_argument("--canvas", type=Path, metavar="CSV", help="an exported Canvas gradebook → OUT/canvas.csv")
    parser.add_argument("--canvas-column", metavar="NAME", help="which assignment of it, if its name does not tell")
    parser.add_argument("--moodle", type=Path, nargs="?", const=True, default=False, metavar="CSV", help=_MOODLE)
    parser.add_argument("--gradescope", action="store_true", help="OUT/gradescope/STUDENT/results.json")
    parser.add_argument("--allow-unsandboxed", action="store_true", help=_UNSANDBOXED)
    parser.add_argument("--root", type=Path, default=None, help="the clone (default: the one around this folder)")
    parser.set_defaults(run=run_grade)


_MOODLE = "Moodle's grading worksheet (or nothing, for a new one) → OUT/moodle.csv"
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
    """Entry point. Wrong input (`ValueError`) is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="minidiff", description="Conditional generation with diffusion models")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_train, add_sample, add_build, add_check, add_grade, add_doctor):
        add(commands)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except ValueError as error:
        print(f"minidiff {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
