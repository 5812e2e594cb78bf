"""A health check of the machine: what the course will run on, how fast it is, and what does not fit.

`examine()` returns findings; a notebook shows them as a table, a terminal as text. Nothing raises because something
is missing: a finding says what was seen, whether it is enough, and what to do if it is not.
"""

import html
import os
import platform
import re
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from minidiff.training import pick_device

REPOSITORY = Path(__file__).resolve().parents[2]
GIB = 1024**3
# What the course needs of a machine; below it, it still runs, only slower or not all of it.
MIN_CORES, MIN_MEMORY, MIN_GFLOPS, MIN_DISK = 2, 4.0, 20.0, 2.0


@dataclass(frozen=True)
class Finding:
    """what: the thing looked at. seen: what was found. remedy: empty if that is fine, else what to do about it."""

    what: str
    seen: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.remedy


class Report(tuple[Finding, ...]):
    """Findings that print as a text table and show as an HTML table."""

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self)

    def __repr__(self) -> str:
        width = max(len(finding.what) for finding in self)
        lines = []
        for f in self:
            lines.append(f"{'ok  ' if f.ok else 'LOOK'}  {f.what:{width}s}  {f.seen}")
            if f.remedy:
                lines.append(f"      {'':{width}s}  {f.remedy}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for f in self:
            # Green and vermilion of Okabe and Ito's palette; the word says it too.
            mark, colour = ("ok", "#009E73") if f.ok else ("look", "#D55E00")
            cells = html.escape(f.seen) + (f"<br><i>{html.escape(f.remedy)}</i>" if f.remedy else "")
            rows.append(
                f'<tr><td style="color:{colour};font-weight:bold">{mark}</td>'
                f'<td style="text-align:left">{html.escape(f.what)}</td><td style="text-align:left">{cells}</td></tr>'
            )
        return "<table>" + "".join(rows) + "</table>"


def examine() -> Report:
    """Look at Python, torch, device, cores, memory, speed, disk, widgets, versions and data; about a second."""
    looks = (python, cores, memory, disk, device, speed, widgets, versions, fashion_mnist)
    return Report(look() for look in looks)


def python() -> Finding:
    seen = f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} {platform.machine()}"
    return Finding("software", seen, "" if sys.version_info >= (3, 11) else "it takes Python 3.11")


def usable_cores() -> int:
    """Cores this process may use: in a container that is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores() -> Finding:
    n = usable_cores()
    seen = f"{n} usable, torch computes with {torch.get_num_threads()} thread(s)"
    remedy = "" if n >= MIN_CORES else f"time budgets assume {MIN_CORES} cores: expect twice the time"
    return Finding("processor", seen, remedy)


def memory_gib() -> float | None:
    """Main memory in GiB, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def memory() -> Finding:
    size = memory_gib()
    if size is None:
        return Finding("memory", "the system does not tell")
    remedy = "" if size >= MIN_MEMORY else f"below {MIN_MEMORY:g} GiB: close other notebooks before training"
    return Finding("memory", f"{size:.1f} GiB", remedy)


def disk() -> Finding:
    free = shutil.disk_usage(REPOSITORY).free / GIB
    remedy = "" if free >= MIN_DISK else f"runs and data sets may need {MIN_DISK:g} GiB: make some room"
    return Finding("disk", f"{free:.0f} GiB free", remedy)


def device() -> Finding:
    chosen = pick_device()
    if chosen.type == "cuda":
        properties = torch.cuda.get_device_properties(chosen)
        return Finding("device", f"cuda: {properties.name}, {properties.total_memory / GIB:.0f} GiB")
    if chosen.type == "cpu" and shutil.which("nvidia-smi"):
        return Finding(
            "device", "cpu", "there is an NVIDIA driver, but torch cannot use it: torch.cuda.init() says why"
        )
    return Finding("device", f"{chosen.type} (all the course needs)" if chosen.type == "cpu" else chosen.type)


def gflops(on: torch.device, size: int = 1024, seconds: float = 0.3) -> float:
    """10⁹ float32 multiplications and additions a second in size×size matrix products, timed for `seconds`."""
    a = torch.ones(size, size, device=on)
    finish = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(on.type, lambda: None)
    a @ a
    finish()
    began, products = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        a @ a
        finish()
        products += 1
    return 2 * size**3 * products / took / 1e9


def speed() -> Finding:
    measured = gflops(pick_device())
    remedy = "" if measured >= MIN_GFLOPS else "slow, or busy with something else: notebooks will exceed their budgets"
    return Finding("speed", f"{measured:.0f} GFLOP/s in 1024×1024 matrix products", remedy)


def widgets() -> Finding:
    """ipywidgets here and its half for the browser there: a slider needs both."""
    try:
        import ipywidgets
    except ImportError:
        return Finding(
            "widgets",
            "ipywidgets is missing",
            'install it with the rest: make lab, or pip install -e ".[lab]"',
        )
    browser_half = Path(sys.prefix) / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
    if not browser_half.exists():
        remedy = "sliders will not show (the static pictures will): start JupyterLab with make lab"
        return Finding("widgets", f"ipywidgets {ipywidgets.__version__}, but not its JupyterLab extension", remedy)
    return Finding("widgets", f"ipywidgets {ipywidgets.__version__} and its JupyterLab extension")


def pins(constraints: Path = REPOSITORY / "constraints.txt") -> dict[str, str]:
    """The versions that constraints.txt pins: {name: version}; empty where the file is not there."""
    if not constraints.exists():
        return {}
    lines = (line.partition("#")[0].strip() for line in constraints.read_text(encoding="utf-8-sig").splitlines())
    return dict(line.split("==", 1) for line in lines if line)


def differing(pinned: dict[str, str]) -> list[str]:
    """What the course imports, where it is not at its pinned version: ["torch 2.11.0 (tested: 2.15.0)"]."""
    found = []
    for line in metadata.requires("minidiff") or []:
        name = re.split(r"[<>=!~;\[ ]", line)[0]
        extra = re.search(r"extra == ['\"](\w+)", line)
        wanted = pinned.get(name)
        if wanted is None or (extra and extra[1] != "lab"):
            continue
        try:
            here = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            here = "missing"
        if here != wanted:
            found.append(f"{name} {here} (tested: {wanted})")
    return found


def versions() -> Finding:
    pinned = pins()
    if not pinned:
        return Finding("versions", "installed without the repository's constraints.txt: not compared")
    if other := differing(pinned):
        return Finding(
            "versions", ", ".join(other), "within range it should work; `make lab` brings the tested versions"
        )
    return Finding("versions", "exactly the tested ones")


def fashion_mnist() -> Finding:
    from minidiff.data.real import data_root  # late: it brings torchvision, which takes seconds to load

    folder = data_root() / "FashionMNIST" / "raw"
    if (folder / "train-images-idx3-ubyte").exists():
        return Finding("Fashion-MNIST", f"real pictures in {folder.parent.parent.name}/")
    return Finding(
        "Fashion-MNIST",
        "not here yet: torchvision downloads it (30 MB) the first time a chapter trains on it",
    )
