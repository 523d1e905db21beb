"""What holds for all tests: who runs what and when where processes share them, and what Hypothesis may go by."""

import getpass
import os
import signal
import tempfile
from functools import cache
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

# None fails because the machine had something else to do. `make test-all` tries other examples each time.
settings.register_profile("fresh", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("same", settings.get_profile("fresh"), derandomize=True)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends a run as Ctrl-C does: servers and networks that fixtures made go before it."""
    signal.signal(signal.SIGTERM, _interrupt)
    if not hasattr(config, "workerinput"):
        require_room_for_sockets(config)


def require_room_for_sockets(config: pytest.Config) -> None:
    """Homes stand in pytest's folders, and unix sockets in them, whose paths may have 107 bytes."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # as pytest has it, in a container for one
    usual = Path(tempfile.gettempdir(), f"pytest-of-{user}", "pytest-999")
    folder = Path(config.getoption("basetemp") or usual).resolve()
    too_long = len(os.fsencode(folder / "popen-gw0" / ("t" * 31) / "restored" / "run" / "engine-0.sock")) - 107
    if too_long > 0:
        pytest.exit(f"set TMPDIR to a path {too_long} bytes shorter: unix sockets do not fit below {folder}", 4)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with engines first: each takes long, and one that comes last has nothing to run beside it."""
    if hasattr(config, "workerinput"):
        with_engines = {item.path for item in items if item.get_closest_marker("engine")}
        items.sort(key=lambda item: item.path not in with_engines)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """A process takes a file at a time, and all files whose tests want the session's `tandem` at once: every process
    that has one of them starts two engines for it."""

    if config.getoption("dist") != "loadfile":
        return None

    @cache
    def wants_tandem(file: str) -> bool:
        return file.startswith("tests/serve/") and "tandem: Tandem" in (config.rootpath / file).read_text()

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tandem" if wants_tandem(file) else file

    return Scheduling(config, log)
