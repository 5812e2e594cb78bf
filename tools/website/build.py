"""`python tools/website/build.py`: the course as a website, in `site/`, which needs no network to build or to be read.

    --quick         do not execute the notebooks
    --repository    "owner/name" on GitHub: badges that open notebooks in Colab, links to files without a page
    --out, --work   the folders of the pages and of what is kept between two calls

Warnings are errors. At the end every page is loaded and looked at (tools/check_site.py).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import check_site  # noqa: E402
from website.stage import Stage  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repository", default="")
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "website")
    return parser.parse_args()


def sphinx(work: Path) -> int:
    """Its exit code; the pages are in work/html. MyST-NB leaves its copies of notebooks beside them."""
    line = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--builder", "html"]
    line += ["--doctree-dir", str(work / "doctrees"), "--conf-dir", str(ROOT / "tools" / "website")]
    path = os.pathsep.join([str(ROOT / "tools"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.call([*line, str(work / "source"), str(work / "html")], env={**os.environ, "PYTHONPATH": path})


def main() -> int:
    args, started = arguments(), time.monotonic()
    if args.out.exists() and not (args.out / "searchindex.js").exists():
        print(f"{args.out} is there and is no website: not overwritten", file=sys.stderr)
        return 2
    # Sphinx's notes of an earlier build go: from them, pages of source code come out stale. Executed notebooks stay.
    for folder in ("source", "doctrees", "html", "jupyter_execute"):
        shutil.rmtree(args.work / folder, ignore_errors=True)
    Stage(ROOT, args.work / "source", args.repository, None if args.quick else args.work / "executed").everything()
    print(f"sources: {time.monotonic() - started:.0f} s", flush=True)
    if code := sphinx(args.work):
        return code
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.copytree(args.work / "html", args.out, ignore=shutil.ignore_patterns(".buildinfo*", "objects.inv"))
    files = [file for file in args.out.rglob("*") if file.is_file()]
    pages, size = sum(file.suffix == ".html" for file in files), sum(file.stat().st_size for file in files)
    print(f"{args.out}: {pages} pages, {size / 1e6:.1f} MB, {time.monotonic() - started:.0f} s", flush=True)
    return check_site.main(args.out)


if __name__ == "__main__":
    sys.exit(main())
