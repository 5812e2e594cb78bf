"""The two commands: what make would run, and what the scripts behind it do when something is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = ("setup", "lab", "test", "fast", "stress", "check", "notebooks", "site", "bench", "system", "clean")


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, encoding="utf-8", timeout=300
    )


@pytest.fixture
def clone(root, tmp_path) -> Path:
    """The files that installing reads, without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "tools"):
        source = root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "minidiff").mkdir()
    (tmp_path / "minidiff" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_what_to_do(clone, target):
    plan = run("make", "-n", target, cwd=clone)
    assert plan.returncode == 0, plan.stderr
    needs_install = target not in ("system", "clean")
    assert ("tools/setup.sh" in plan.stdout) == needs_install


def test_lab_and_test_reinstall_only_when_their_files_change(clone):
    stamps = [clone / ".venv" / f".installed-{extra}" for extra in ("lab", "dev")]
    stamps[0].parent.mkdir()
    for stamp in stamps:
        stamp.touch()
    now = stamps[0].stat().st_mtime
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(clone / name, (now - 60, now - 60))
    for target in ("lab", "test"):
        assert "setup.sh" not in run("make", "-n", target, cwd=clone).stdout
    os.utime(clone / "constraints.txt", (now + 60, now + 60))
    assert "tools/setup.sh .venv lab" in run("make", "-n", "lab", cwd=clone).stdout
    assert "tools/setup.sh .venv dev" in run("make", "-n", "test", cwd=clone).stdout


@pytest.mark.parametrize("options", ["", "--no-cache-dir --extra-index-url https://example.invalid/cpu"])
def test_pip_gets_the_options_that_make_was_given(clone, options):
    """A pip that only notes its arguments: the stamp appears, so setup.sh has come to its end."""
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$3" != install ] || printf "%s\\n" "$@" > asked\n', encoding="utf-8")
    python.chmod(0o755)
    made = run("make", ".venv/.installed-lab", f"PIP_OPTIONS={options}", cwd=clone)
    assert made.returncode == 0, made.stderr
    asked = (clone / "asked").read_text(encoding="utf-8").splitlines()
    constrained = ["--constraint", "constraints.txt", "--editable", ".[lab]"]
    assert asked == ["-m", "pip", "install", "--quiet", *options.split(), *constrained]
    assert (clone / ".venv" / ".installed-lab").exists()
    bench = run("make", "-n", "bench", f"PIP_OPTIONS={options}", cwd=clone).stdout
    assert f'pip install --quiet {options} --constraint constraints.txt --editable ".[bench]"' in bench


def test_make_test_runs_everything(clone):
    plan = run("make", "-n", "test", cwd=clone).stdout
    for part in (
        "tools/check.py",
        "tools/install_system.sh",
        "--notebooks",
        "-n 2",
        "OMP_NUM_THREADS=1",
        "notebooks tests",
    ):
        assert part in plan
    (line,) = [line for line in plan.splitlines() if "-m pytest" in line]
    assert re.findall(r" -m (\S+(?: stress\")?)", line) == ["pytest", '"not stress"'], "nothing else may be left out"


def test_make_stress_runs_what_make_test_leaves_out(clone):
    (line,) = [line for line in run("make", "-n", "stress", cwd=clone).stdout.splitlines() if "-m pytest" in line]
    assert line.split("-m pytest")[1].split("-m ")[1].split() == ["stress", "--durations=25", "tests"]


def test_without_a_python_setup_says_what_to_install(clone):
    failed = run("sh", "tools/setup.sh", ".venv", "lab", cwd=clone, PYTHON="no-such-python")
    assert failed.returncode != 0
    assert "Python 3.11" in failed.stderr
    assert "python3-venv" in failed.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.slow
def test_setup_passes_over_a_python_that_does_not_run(clone):
    """Version managers leave such names on the PATH."""
    broken = clone / "bin" / "python3.14"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'python3.14: not installed' >&2\nexit 127\n", encoding="utf-8")
    broken.chmod(0o755)
    # pip cannot install anything here, so this stops right after the environment is made.
    tried = run(
        "sh", "tools/setup.sh", ".venv", "lab", cwd=clone,
        PYTHON=f"{broken} {sys.executable}", PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS="",
    )  # fmt: skip
    assert f"with {sys.executable}" in tried.stdout
    assert (clone / ".venv" / "bin" / "python").exists()
    assert tried.returncode != 0
    assert not list((clone / ".venv").glob(".installed-*")), "an install that failed must not leave a stamp"


def test_the_system_step_succeeds_without_apt_and_says_what_it_skipped(root, tmp_path):
    """A PATH with only the tools the script cannot do without: neither apt-get nor dpkg nor a browser."""
    for tool in ("dirname", "id", "mkdir", "mv", "gunzip", "grep", "tail"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    shell = shutil.which("sh")
    script = str(root / "tools" / "install_system.sh")
    done = run(shell, script, cwd=tmp_path, PATH=str(tmp_path), MINIDIFF_DATA=str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert "skipped chromium: this machine has no apt-get" in done.stdout
    assert "skipped dataset-fashion-mnist: this machine has no apt-get" in done.stdout


def test_the_system_step_lays_out_fashion_mnist_as_torchvision_does(root, tmp_path):
    from torchvision.datasets import FashionMNIST

    if shutil.which("dpkg") is None or run("dpkg", "-s", "dataset-fashion-mnist", cwd=root).returncode:
        pytest.skip("Fashion-MNIST did not come from the Debian package here")
    done = run("sh", "tools/install_system.sh", cwd=root, MINIDIFF_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "unpacked" in done.stdout
    assert (len(FashionMNIST(str(tmp_path), train=True)), len(FashionMNIST(str(tmp_path), train=False))) == (
        60000,
        10000,
    )
    assert "present" in run("sh", "tools/install_system.sh", cwd=root, MINIDIFF_DATA=str(tmp_path)).stdout


def test_ci_runs_make_test_and_nothing_may_be_missing_there(root):
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "exec make test" in text
    assert "set -euo pipefail" in text
    assert 'CI="${CI:-true}"' in text


@pytest.mark.parametrize("script", ["setup.sh", "install_system.sh", "fresh_clone.sh"])
def test_shell_scripts_parse(root, script):
    checked = run("sh", "-n", str(root / "tools" / script), cwd=root)
    assert checked.returncode == 0, checked.stderr
