"""`minidiff build | check`: the commands. Each subcommand is one `add_…` and one `run_…` function."""

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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Wrong input (`ValueError`) is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="minidiff", description="Conditional generation with diffusion models")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_build, add_check):
        add(commands)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except ValueError as error:
        print(f"minidiff {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
