"""pyproject.toml, constraints.txt and environment.yml agree, and this environment is what they say."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

INSTALLED = ("lab", "grade", "site", "text", "dev")  # the dev extra brings all of them
CONDA_NAMES = {"pytorch": "torch"}  # conda-forge's name: PyPI's name


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, str]:
    pinned = {}
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        requirement = Requirement(line)
        (spec,) = requirement.specifier
        assert spec.operator == "==", f"constraints.txt pins exact versions, so what is {line!r}?"
        assert requirement.url is None, line
        pinned[canonicalize_name(requirement.name)] = spec.version
    return pinned


def requirements(project: dict, extra: str | None = None) -> dict[str, Requirement]:
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in found if r.name != project["name"]}


def test_environment_yml_has_the_names_and_ranges_of_pyproject(root, project):
    written = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (pip,) = [entry["pip"] for entry in written if isinstance(entry, dict)]
    conda = [Requirement(entry) for entry in written if isinstance(entry, str) and entry != "pip"]
    ranges = {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r.specifier for r in conda}
    assert ranges.pop("python") == project["requires-python"].replace(" ", "")
    expected = requirements(project) | requirements(project, "lab")
    assert ranges == {name: r.specifier for name, r in expected.items()}
    assert pip == ["--editable ."]


def test_every_dependency_is_pinned_inside_its_range(project, pins):
    for extra in (None, *project["optional-dependencies"]):
        for name, requirement in requirements(project, extra).items():
            assert name in pins, f"constraints.txt does not pin {name}"
            assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is outside {requirement}"


def test_the_pinned_pair_and_the_range_around_it(project, pins):
    assert (pins["torch"], pins["torchvision"]) == ("2.15.0", "0.29.2")
    assert requirements(project)["torch"].specifier.contains("2.11.0")


def test_all_dependencies_of_dependencies_are_pinned_too(project, pins):
    """Walk down from the dev extra: a name without a pin would float from one install to the next."""
    waiting = [name for extra in (None, *INSTALLED) for name in requirements(project, extra)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    assert len(seen) > 80
    assert {name for name in seen if name not in pins} <= {"setuptools", "pip", "wheel"}


def test_this_environment_has_the_pinned_versions(project, pins):
    needed = {name for extra in (None, *INSTALLED) for name in requirements(project, extra)}
    installed = {name: metadata.version(name).split("+")[0] for name in needed}
    assert installed == {name: pins[name] for name in needed}
