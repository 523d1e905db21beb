"""The order of the tests where several processes share them."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with engines first: each takes long, and one that comes last has nothing to run beside it."""
    if hasattr(config, "workerinput"):
        with_engines = {item.path for item in items if item.get_closest_marker("engine")}
        items.sort(key=lambda item: item.path not in with_engines)
