"""Rules for everything pytest collects here, notebooks included."""

import pytest
from hypothesis import settings

# An example that takes long on a busy machine is no fault of the code.
settings.register_profile("course", deadline=None)
settings.load_profile("course")

pytest_plugins = ["pytest_budgets", "pytest_notebooks"]  # in tools/


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.notebook)
    # Files that start kernels or a browser go first: begun last, one of them would keep one process waiting at the end.
    long = {i.path for i in items if i.get_closest_marker("notebook") or i.get_closest_marker("browser")}
    items.sort(key=lambda item: item.path not in long)
