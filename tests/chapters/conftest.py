"""What the tests of several chapters share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidiff.course.exercise import find

Change = tuple[str, str]


@pytest.fixture
def master(root: Path) -> Callable[..., Callable]:
    """`master(id, names, *changes)`: what the master's solution of an exercise defines, with some things changed.

    names: what the cells before it have imported. changes: (old, new), as text; old must be there.
    """

    def changed(id: str, names: dict[str, Any], *changes: Change) -> Callable:
        (page,) = (root / "solutions").glob(f"{id[:2]}_*.py")
        source = page.read_text(encoding="utf-8").split(f'answer="{id}"\n')[1].split("# %% [markdown]")[0]
        for old, new in changes:
            assert old in source, old
            source = source.replace(old, new)
        scope = dict(names)
        exec(source, scope)
        return scope[find(id).reference.__name__]

    return changed
