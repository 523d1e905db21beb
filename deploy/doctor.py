"""What is wrong on a machine or in a home, and what to do about it. Looks, and changes nothing."""

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from deploy import record_looks
from deploy.bootstrap import (
    OLDEST_PYTHON,
    BootstrapError,
    canonical,
    chosen_device,
    find_compiler,
    locked_digest,
    locked_packages,
    locks_for,
    read_stamp,
)
from deploy.finding import OWN, WRITABLE, Finding
from deploy.redis_server import RedisMissing, find_redis_server
from deploy.running import NOT_BY_UP, is_in_use, listens, read_state, runs_by_itself
from feedback.settings import Settings

# The first two whatever the home's own mode is.
HELD_CLOSED = ("run", "operator.key", "record.db", "datasets", "iterations", "policies", "logs")
DISK_WANTED_BYTES = 5 << 30
MEMORY_PER_SLOT_BYTES = 1 << 30

Look = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> list[Finding]:
    """Everything, in the order in which a start needs it."""
    looks: list[Look] = [
        _python,
        _compiler,
        _environment,
        _tools,
        _disk,
        _memory,
        _redis,
        record_looks.record,
        _storage,
        _collector,
        _home,
        _stack,
        _port,
    ]
    return [finding for look in looks for finding in _as_far_as_it_goes(look, settings)]


def _as_far_as_it_goes(look: Look, settings: Settings) -> Iterator[Finding]:
    """What the machine does not let this user look at is a finding, too, and so is a device that there is not."""
    what = look.__name__.strip("_")
    try:
        yield from look(settings)
    except OSError as error:
        found = f"{error.filename}: {error.strerror}"
        yield Finding("wrong", what, found, OWN)
    except BootstrapError as error:
        yield Finding("wrong", what, str(error), "correct TANDEM_DEVICE, or unset it")


def _python(_: Settings) -> Iterator[Finding]:
    version = sys.version.split()[0]
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("wrong", "python", version, "install Python 3.11 or newer")
    else:
        yield Finding("ok", "python", version)


def _compiler(_: Settings) -> Iterator[Finding]:
    compiler = find_compiler()
    if compiler is not None:
        yield Finding("ok", "C compiler", compiler)
    elif chosen_device() == "cuda":
        yield Finding("wrong", "C compiler", "none", "install gcc or clang: Triton needs it on a GPU")
    else:
        yield Finding("note", "C compiler", "none", "nothing here needs one on a CPU")


def _environment(_: Settings) -> Iterator[Finding]:
    made = read_stamp(Path(sys.prefix) / "tandem-lock.json")
    if made is None:
        yield Finding("note", "environment", f"{sys.prefix} was not made by `make`", "run `make env`")
        return
    device, locks = chosen_device(), made.get("locks")
    if made["device"] != device:
        found = f"made for {made['device']}, this machine is for {device}"
        yield Finding("note", "environment", found, f"run `TANDEM_DEVICE={device} make env`")
    elif locks not in (locks_for(device, True), locks_for(device, False)) or made["digest"] != locked_digest(locks):
        yield Finding("wrong", "environment", "older than the lock", "run `make env`")
    else:
        yield from _packages(device, locks)


def _packages(device: str, locks: list[str]) -> Iterator[Finding]:
    """Whether what is installed is what the locks name. Lines for other platforms are not installed at all."""
    wanted = locked_packages(locks)
    installed: dict[str, str] = {}
    for found in metadata.distributions():
        # The first on the path is the one that is imported; some packages bring others of their own behind it.
        installed.setdefault(canonical(found.name), found.version)
    changed = sorted(
        f"{name} {installed[name]}" for name in wanted.keys() & installed.keys() if installed[name] not in wanted[name]
    )
    if changed:
        yield Finding("wrong", "environment", f"not as locked: {', '.join(changed)}", "remove .venv and run `make env`")
    else:
        yield Finding("ok", "environment", f"as locked, for {device}, in {sys.prefix}")


def _tools(_: Settings) -> Iterator[Finding]:
    if shutil.which("lscpu") is None:
        yield Finding("wrong", "lscpu", "none", "install util-linux: vLLM asks it for the cores")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    enough = free >= DISK_WANTED_BYTES
    advice = None if enough else f"free at least {_size(DISK_WANTED_BYTES)} there, or choose another --home"
    yield Finding("ok" if enough else "wrong", "disk", f"{_size(free)} free at {folder}", advice)


def _memory(settings: Settings) -> Iterator[Finding]:
    import psutil

    available = psutil.virtual_memory().available
    wanted = settings.engine.slots * (MEMORY_PER_SLOT_BYTES + settings.engine.kv_cache_bytes)
    if is_in_use(settings.home) or available >= wanted:
        yield Finding("ok", "memory", f"{_size(available)} available")
    else:
        found = f"{_size(available)} available, {settings.engine.slots} engines want {_size(wanted)}"
        yield Finding("wrong", "memory", found, "end other programs, or set engine.slots to 1")


def _redis(settings: Settings) -> Iterator[Finding]:
    if settings.given_redis is not None:
        from deploy.supervisor import why_silent

        if reason := why_silent(settings.broker_url):
            advice = "start it, correct its URL, or unset REDIS_URL and TANDEM_REDIS_URL to get a private one"
            yield Finding("wrong", "redis", f"the given one does not answer: {reason}", advice)
        elif reason := why_silent(settings.broker_url, takes=True):
            advice = "give it room, or name the server that its replicas follow; nothing in it is needed"
            yield Finding("wrong", "redis", f"the given one takes nothing: {reason}", advice)
        else:
            yield Finding("ok", "redis", "the given one answers")
        return
    try:
        yield Finding("ok", "redis", str(find_redis_server()))
    except RedisMissing as missing:
        yield Finding("wrong", "redis", "none", missing.message)


def _storage(settings: Settings) -> Iterator[Finding]:
    from feedback.errors import StorageUnavailable
    from feedback.object_storage import storage_of

    try:
        storage = storage_of(settings)
        if storage is not None:
            storage.manifest("0" * 64)
            yield Finding("ok", "storage", "answers")
    except StorageUnavailable as error:
        reason = str(error.__cause__).strip().splitlines()[0] if str(error.__cause__).strip() else error.message
        yield Finding("wrong", "storage", reason, "start it, or correct policies_url and the keys to it")


def _collector(settings: Settings) -> Iterator[Finding]:
    from urllib.parse import urlsplit

    if settings.tracing.endpoint is None:
        return
    address = urlsplit(settings.tracing.endpoint)
    port = address.port or {"http": 80, "https": 443}[address.scheme]
    try:
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        found = f"{address.hostname}:{port} does not answer ({error.strerror or type(error).__name__})"
        yield Finding(
            "note", "traces", found, "start the collector, or unset tracing.endpoint; traces are lost meanwhile"
        )
    else:
        yield Finding("ok", "traces", f"{address.hostname}:{port} answers")


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield Finding("note", "home", f"{home} is not there yet", "`tandem up` makes it")
        return
    if not home.is_dir():
        yield Finding("wrong", "home", f"{home} is no folder", "choose another --home")
        return
    if not os.access(home, os.W_OK | os.X_OK):
        yield Finding("wrong", "home", f"{home} cannot be written", f"{WRITABLE}, or choose another --home")
        return
    within = HELD_CLOSED if _is_open(home) else HELD_CLOSED[:2]
    open_to_others = [home / name for name in within if (home / name).exists() and _is_open(home / name)]
    for path in open_to_others:
        yield Finding("wrong", "home", f"{path} is open to others", f"chmod go-rwx {path}")
    if not open_to_others:
        yield Finding("ok", "home", str(home))


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _stack(settings: Settings) -> Iterator[Finding]:
    state = read_state(settings.home)
    if state is not None:
        yield Finding("ok" if state.state == "ready" else "note", "stack", f"{state.state} at {state.url}")
    elif runs_by_itself(settings.home):
        yield Finding("ok", "stack", NOT_BY_UP)
    else:
        yield Finding("note", "stack", "down", "`tandem up` starts it")
        return
    for process in state.processes if state is not None else ():
        log = settings.home / "logs" / f"{process.name}.log"
        found = f"{process.state}, {process.restarts} restarts"
        if process.state != "running":
            yield Finding("wrong", process.name, f"{found}, ended with {process.exit_code}", f"see {log}")
        elif process.restarts:
            yield Finding("note", process.name, f"{found}, last ended with {process.exit_code}", f"see {log}")
        else:
            yield Finding("ok", process.name, f"process {process.pid}")
    for slot in range(settings.engine.slots):
        path = settings.run_dir / f"engine-{slot}.sock"
        if listens(path):
            yield Finding("ok", f"engine {slot}", "answers")
        else:
            log = settings.home / "logs" / f"engine-{slot}.log"
            # It was never started where the launcher runs since before engine.slots was changed: who asked knows.
            advice = f"see {log if log.exists() else log.with_name('api.log')}"
            yield Finding("note", f"engine {slot}", "does not answer", advice)


def _port(settings: Settings) -> Iterator[Finding]:
    from deploy.supervisor import free_port
    from feedback.errors import Conflict

    if is_in_use(settings.home) or settings.serve.port == 0:
        return
    try:
        free_port(settings.serve.host, settings.serve.port)
    except Conflict as problem:
        yield Finding("wrong", "port", problem.message, "tandem up --port 0 takes a free one")
    else:
        yield Finding("ok", "port", f"{settings.serve.port} is free")


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
