"""Real pictures: the digits that ship with scikit-learn, and the real Fashion-MNIST where it lies."""

import math

import pytest
import torch
from torchvision import datasets

from minidiff.data import real


@pytest.mark.slow
def test_the_real_fashion_mnist_is_read(fashion_mnist_root):
    train = real.fashion_mnist(train=True, root=fashion_mnist_root, download=False)
    test = real.fashion_mnist(train=False, root=fashion_mnist_root, download=False)
    assert train["x0"].shape == (60_000, 1, 28, 28)
    assert test["x0"].shape == (10_000, 1, 28, 28)
    assert train["x0"].dtype == torch.float32
    assert train["y"].dtype == torch.int64
    assert train["y"].bincount().tolist() == [6000] * 10
    assert test["y"].bincount().tolist() == [1000] * 10
    assert train["y"][:5].tolist() == [9, 0, 0, 3, 0]  # known of the published files
    assert (float(train["x0"].min()), float(train["x0"].max())) == (-1.0, 1.0)
    mean = float((train["x0"] + 1).mean() / 2)
    assert mean == pytest.approx(0.2860, abs=2e-4)  # the mean pixel that everybody normalises with
    # Ankle boots (9) reach the ground at the right, T-shirts (0) do not: the labels belong to the pictures.
    right = train["x0"][:, 0, 14:, 20:].mean((1, 2))
    assert right[train["y"] == 9].mean() > right[train["y"] == 0].mean() + 0.2


def test_digits():
    train, test = real.digits(), real.digits(train=False)
    assert train["x0"].shape == (1500, 1, 8, 8)
    assert test["x0"].shape == (297, 1, 8, 8)
    assert (float(train["x0"].min()), float(train["x0"].max())) == (-1.0, 1.0)
    assert sorted(train["y"].unique().tolist()) == list(range(10))
    assert torch.equal(real.digits()["x0"], train["x0"])  # the same split every time
    rows = {tuple(row) for row in train["x0"].flatten(1).tolist()}
    assert not any(tuple(row) in rows for row in test["x0"].flatten(1).tolist())
    other = real.digits(generator=torch.Generator().manual_seed(1))
    assert not torch.equal(other["y"], train["y"])


@pytest.mark.parametrize(
    ("load", "kind"), [(real.fashion_mnist, "FashionMNIST"), (real.mnist, "MNIST"), (real.cifar10, "CIFAR10")]
)
def test_offline_the_message_says_what_to_do(load, kind, tmp_path, monkeypatch):
    # A port of this machine where nobody listens stands for a machine without a network.
    monkeypatch.setattr(getattr(datasets, kind), "mirrors", ["http://127.0.0.1:9/"], raising=False)
    monkeypatch.setattr(getattr(datasets, kind), "url", "http://127.0.0.1:9/cifar.tar.gz", raising=False)
    with pytest.raises(RuntimeError, match=rf"(?s){kind} is not in .* could not be downloaded .*digits\(\)"):
        load(root=tmp_path)


def test_a_cut_off_file_is_not_taken_for_the_data(tmp_path, fashion_mnist_root):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (fashion_mnist_root / "FashionMNIST" / "raw").iterdir():
        data = file.read_bytes()
        (raw / file.name).write_bytes(data[: len(data) // 2])
    with pytest.raises(RuntimeError, match=DOCUMENTED):
        real.fashion_mnist(root=tmp_path, download=False)


DOCUMENTED = r"(?s)MNIST is not in .*, or not whole, and could not be downloaded .*digits\(\)"


def idx(*shape: int, fill: int = 0) -> bytes:
    """A file in MNIST's format: its magic number, its sizes, its bytes."""
    head = b"".join(n.to_bytes(4, "big") for n in (2048 + len(shape), *shape))
    return head + bytes([fill]) * math.prod(shape)


WHOLE = {"images": idx(10_000, 28, 28), "labels": idx(10_000)}
BROKEN = {
    "empty": ("images", b""),
    "empty labels": ("labels", b""),
    "a page of the web": ("images", b"<html>not found</html>"),
    "sizes cut off": ("images", WHOLE["images"][:9]),
    "cut off": ("images", WHOLE["images"][:-1]),
    "labels for pictures": ("images", WHOLE["labels"]),
    "pictures for labels": ("labels", WHOLE["images"]),
    "none": ("images", idx(0, 28, 28)),
    "too few labels": ("labels", idx(9_999)),
    "other sizes": ("images", idx(10_000, 8, 8)),
    "letters": ("labels", idx(10_000, fill=26)),
}


@pytest.mark.parametrize("load", [real.mnist, real.fashion_mnist])
@pytest.mark.parametrize(("which", "data"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_raise_the_documented_error(load, which, data, tmp_path):
    """Empty, cut off, another's: whatever torchvision makes of them. Control: the same files, whole, are read."""
    raw = tmp_path / ("MNIST" if load is real.mnist else "FashionMNIST") / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        for name, kind in (("images", "images-idx3-ubyte"), ("labels", "labels-idx1-ubyte")):
            (raw / f"{split}-{kind}").write_bytes(WHOLE[name])
    assert load(train=False, root=str(tmp_path), download=False)["x0"].shape == (10_000, 1, 28, 28)
    (raw / f"t10k-{which}-idx{3 if which == 'images' else 1}-ubyte").write_bytes(data)
    with pytest.raises(RuntimeError, match=DOCUMENTED):
        load(train=False, root=str(tmp_path), download=False)


def test_broken_cifar_files_too(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("test_batch", "batches.meta", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"CIFAR10 is not in .*digits"):
        real.cifar10(root=tmp_path, download=False)


def test_data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    assert real.data_root() == tmp_path
    monkeypatch.delenv("MINIDIFF_DATA")
    assert real.data_root().name == "data"


def test_train_must_be_a_boolean():
    with pytest.raises(ValueError, match="train: got yes"):
        real.mnist(train="yes")  # type: ignore[arg-type]
