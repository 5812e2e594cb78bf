"""Real pictures: scikit-learn's digits (shipped with it, the offline default), Fashion-MNIST, MNIST and CIFAR-10.

Every function returns a dict {"x0": (N, C, H, W) float32 in [−1, 1], "y": (N,) int64} ready for `training.draw_rows`.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from minidiff.validate import require

FASHION_NAMES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def data_root() -> Path:
    """Where torchvision's data sets lie: the environment variable MINIDIFF_DATA, else `data/` beside the repository's
    `pyproject.toml`, else `data/` in the current folder."""
    if "MINIDIFF_DATA" in os.environ:
        return Path(os.environ["MINIDIFF_DATA"])
    repository = Path(__file__).resolve().parents[2]
    return (repository if (repository / "pyproject.toml").exists() else Path.cwd()) / "data"


def digits(train: bool = True, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """The 1,797 handwritten 8×8 digits that ship with scikit-learn (UCI Optical Recognition): (N, 1, 8, 8).

    The last 297 of a fixed shuffle are the test set. `generator` changes the shuffle (default: seed 0).
    """
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)  # (1797, 64) in 0 … 16
    x0 = torch.from_numpy(np.asarray(pixels, dtype=np.float32)).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.from_numpy(np.asarray(target, dtype=np.int64))
    order = torch.randperm(len(y), generator=generator or torch.Generator().manual_seed(0))
    rows = order[:-297] if train else order[-297:]
    return {"x0": x0[rows], "y": y[rows]}


def fashion_mnist(train: bool = True, root: str | Path | None = None, download: bool = True) -> dict[str, Tensor]:
    """Zalando's Fashion-MNIST (arXiv 1708.07747): (60000 or 10000, 1, 28, 28), ten classes `FASHION_NAMES`."""
    return _torchvision(datasets.FashionMNIST, train, root, download)


def mnist(train: bool = True, root: str | Path | None = None, download: bool = True) -> dict[str, Tensor]:
    """LeCun's MNIST: (60000 or 10000, 1, 28, 28), classes 0 … 9."""
    return _torchvision(datasets.MNIST, train, root, download)


def cifar10(train: bool = True, root: str | Path | None = None, download: bool = True) -> dict[str, Tensor]:
    """CIFAR-10: (50000 or 10000, 3, 32, 32), ten classes."""
    return _torchvision(datasets.CIFAR10, train, root, download)


SIZES = {"FashionMNIST": (28, 60_000, 10_000), "MNIST": (28, 60_000, 10_000), "CIFAR10": (32, 50_000, 10_000)}
"""Side of the pictures, and how many there are to train and to test with."""


def _torchvision(kind: type, train: bool, root: str | Path | None, download: bool) -> dict[str, Tensor]:
    """Read a torchvision set, downloading it if it is not there. `RuntimeError` says what to do when that fails."""
    folder = Path(root) if root is not None else data_root()
    require(isinstance(train, bool), "train", train, "True or False")
    try:
        found = kind(str(folder), train=train, download=download)
        pixels, y = torch.as_tensor(found.data), torch.as_tensor(found.targets, dtype=torch.int64)
        side, *counts = SIZES[kind.__name__]
        n, shapes = counts[0 if train else 1], (tuple(pixels.shape[:3]), tuple(y.shape))
        require(shapes == ((n, side, side), (n,)), "its files", shapes, f"{n} pictures and labels")
        require(int(y.min()) >= 0 and int(y.max()) <= 9, "its labels", f"{y.min()} … {y.max()}", "0 … 9")
    except Exception as error:  # files that are empty, cut off or others' fail in ways of their own
        raise RuntimeError(
            f"{kind.__name__} is not in {folder}, or not whole, and could not be downloaded ({error!r}). Connect to "
            "the internet once, or put its files there by hand (delete broken ones: nothing is downloaded over them), "
            "or use minidiff.data.real.digits(), which needs neither."
        ) from error
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return {"x0": pixels.float() / 127.5 - 1, "y": y}
