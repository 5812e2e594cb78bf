"""What many tests share: the parts of a machine that may be missing, and what to do then.

A missing part skips the tests that need it, and the closing lines of the run say so. Where CI is set in the
environment it fails them instead: there, nothing is allowed to be missing (except a GPU).
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# A script's shell starts what it puts in the background (`make test &`) with Ctrl-C ignored, and every child inherits
# that. Tests that press it need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def missing(what: str) -> None:
    remedy = f"{what} (`sh tools/install_system.sh` brings it on Debian and Ubuntu)"
    if os.environ.get("CI"):
        pytest.fail(remedy, pytrace=False)
    pytest.skip(remedy)


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> Iterator[None]:
    """Tests may draw without a generator; what they draw is then the same in every run.

    The last bits of a sum depend on the number of threads, so no test may leave another one to those after it.
    """
    torch.default_generator.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    left = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert left == threads, f"the test began with {threads} threads of PyTorch and left {left}"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to drive."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    missing("no Chromium on this machine")
    raise AssertionError  # not reached


@pytest.fixture(scope="session")
def fashion_mnist_root() -> Path:
    """The folder to hand to torchvision, with the real Fashion-MNIST in it."""
    from minidiff.data.real import data_root

    folder = data_root()
    if not (folder / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").exists():
        missing(f"no Fashion-MNIST in {folder}")
    return folder


def pytest_collection_modifyitems(items) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
