"""Real pictures: the digits that ship with scikit-learn, and the real Fashion-MNIST where it lies."""

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
    with pytest.raises((RuntimeError, ValueError)):
        real.fashion_mnist(root=tmp_path, download=False)


def test_data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    assert real.data_root() == tmp_path
    monkeypatch.delenv("MINIDIFF_DATA")
    assert real.data_root().name == "data"


def test_train_must_be_a_boolean():
    with pytest.raises(ValueError, match="train: got yes"):
        real.mnist(train="yes")  # type: ignore[arg-type]
