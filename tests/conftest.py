"""What holds for all tests: the order where several processes share them, and what Hypothesis may go by."""

import pytest
from hypothesis import HealthCheck, settings

# None fails because the machine had something else to do. `make test-all` tries other examples each time.
settings.register_profile("fresh", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("same", settings.get_profile("fresh"), derandomize=True)
settings.load_profile("same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with engines first: each takes long, and one that comes last has nothing to run beside it."""
    if hasattr(config, "workerinput"):
        with_engines = {item.path for item in items if item.get_closest_marker("engine")}
        items.sort(key=lambda item: item.path not in with_engines)
