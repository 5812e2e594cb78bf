"""A missing part of the machine skips tests on a laptop and fails them where CI is set."""

import importlib.util

import pytest


@pytest.fixture
def shared(root):
    spec = importlib.util.spec_from_file_location("shared_fixtures", root / "tests" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_on_a_laptop_it_skips_and_says_how_to_get_it(shared, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no Chromium.*tools/install_system\.sh"):
        shared.missing("no Chromium")


def test_in_ci_it_fails(shared, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        shared.missing("no Chromium")
