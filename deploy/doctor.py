"""What is wrong on a machine or in a home, and what to do about it. Looks, and changes nothing."""

import os
import re
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from deploy.bootstrap import OLDEST_PYTHON, REQUIREMENTS, chosen_device, find_compiler, locked_digest, read_stamp
from deploy.redis_server import RedisMissing, find_redis_server
from deploy.running import RECORD_ELSEWHERE, is_held, read_state
from feedback.errors import RecordUnavailable
from feedback.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from feedback.schema import Policy

T = TypeVar("T")

# The first two whatever the home's own mode is.
HELD_CLOSED = ("run", "operator.key", "record.db", "datasets", "iterations", "policies", "logs")
DISK_WANTED_BYTES = 5 << 30
MEMORY_PER_SLOT_BYTES = 1 << 30
WRITABLE = "have it belong to whom Tandem runs as, on a disk that can be written to"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    verdict: Literal["ok", "note", "wrong"]
    what: str
    found: str
    advice: str | None = None


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
        _record,
        _audit,
        _rules,
        _weights,
        _storage,
        _collector,
        _home,
        _stack,
        _port,
    ]
    return [finding for look in looks for finding in _as_far_as_it_goes(look, settings)]


def _as_far_as_it_goes(look: Look, settings: Settings) -> Iterator[Finding]:
    """What the machine does not let this user look at is a finding, too."""
    try:
        yield from look(settings)
    except OSError as error:
        found = f"{error.filename}: {error.strerror}"
        yield Finding(
            "wrong", look.__name__.strip("_"), found, "run this as whom Tandem runs as, or name another --home"
        )


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
    device = chosen_device()
    if made["device"] != device:
        found = f"made for {made['device']}, this machine is for {device}"
        yield Finding("note", "environment", found, f"run `TANDEM_DEVICE={device} make env`")
    elif made["lock"] != locked_digest(device):
        yield Finding("wrong", "environment", "older than the lock", "run `make env`")
    else:
        yield from _packages(made["device"])


def _packages(device: str) -> Iterator[Finding]:
    """Whether what is installed is what the lock names. Lines for other platforms are not installed at all."""
    locked = re.findall(r"^([\w.-]+)==([^\s;\\]+)", (REQUIREMENTS / f"{device}.lock").read_text(), re.MULTILINE)
    wanted: dict[str, set[str]] = {}
    for name, version in locked:
        wanted.setdefault(_canonical(name), set()).add(version)
    installed: dict[str, str] = {}
    for found in metadata.distributions():
        # The first on the path is the one that is imported; some packages bring others of their own behind it.
        installed.setdefault(_canonical(found.name), found.version)
    changed = sorted(
        f"{name} {installed[name]}" for name in wanted.keys() & installed.keys() if installed[name] not in wanted[name]
    )
    if changed:
        yield Finding("wrong", "environment", f"not as locked: {', '.join(changed)}", "remove .venv and run `make env`")
    else:
        yield Finding("ok", "environment", f"as locked, for {device}, in {sys.prefix}")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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
    if is_held(settings.home) or available >= wanted:
        yield Finding("ok", "memory", f"{_size(available)} available")
    else:
        found = f"{_size(available)} available, {settings.engine.slots} engines want {_size(wanted)}"
        yield Finding("wrong", "memory", found, "end other programs, or set engine.slots to 1")


def _redis(settings: Settings) -> Iterator[Finding]:
    if settings.given_redis is not None:
        from deploy.supervisor import why_silent

        reason = why_silent(settings.broker_url)
        if reason is None:
            yield Finding("ok", "redis", "the given one answers")
        else:
            advice = "start it, correct its URL, or unset REDIS_URL and TANDEM_REDIS_URL to get a private one"
            yield Finding("wrong", "redis", f"the given one does not answer: {reason}", advice)
        return
    try:
        yield Finding("ok", "redis", str(find_redis_server()))
    except RedisMissing as missing:
        yield Finding("wrong", "redis", "none", missing.message)


def _record(settings: Settings) -> Iterator[Finding]:
    from sqlalchemy import inspect
    from sqlalchemy.exc import DatabaseError

    from feedback.errors import RecordOfNewerRelease
    from feedback.migrations import check_release
    from feedback.store import Store

    if settings.has_no_record:
        yield _no_record(settings, "not there")
        return
    held_back = None if settings.database_url else _held_back(settings.home / "record.db")
    if held_back is not None:
        yield Finding("wrong", "record", f"{held_back} cannot be written", WRITABLE)
        return
    store = Store(settings.record_url)
    try:
        with store.engine.connect() as connection:
            check_release(connection)
            is_empty = not inspect(connection).has_table("keys")
    except DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        code = getattr(error.orig, "sqlite_errorcode", None)
        advice = "start the database, or correct database_url" if code is None else _advice_on_file(code)
        yield Finding("wrong", "record", reason, advice)
    except (RecordOfNewerRelease, RecordUnavailable) as error:
        found, _, advice = error.message.partition(": ")
        yield Finding("wrong", "record", found, advice)
    else:
        yield _no_record(settings, "without tables") if is_empty else Finding("ok", "record", "answers")
    finally:
        store.close()


def _held_back(record: Path) -> Path | None:
    """Which of a record's files this user cannot read and write: one may be of somebody who looked into it."""
    files = (record, record.with_name("record.db-wal"), record.with_name("record.db-shm"), record.parent)
    return next((file for file in files if file.exists() and not os.access(file, os.R_OK | os.W_OK)), None)


def _advice_on_file(code: int) -> str:
    """By SQLite's error. Only a damaged file wants another in its place: its votes may be the newest there are."""
    match code & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "restore a backup into a new --home"
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return "free room on its disk; where there is some, see what the system's log says of the disk"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "end what holds the file: another program may have it open"
    return "see who may read and write the file, and what the system's log says of its disk"


def _no_record(settings: Settings, found: str) -> Finding:
    """What a start would take for a new home, and make anew, may have lost its record."""
    if any(settings.policies_dir.glob("*")):
        return Finding(
            "wrong", "record", f"{found}, but there are policies in the home", "restore a backup into a new --home"
        )
    if is_held(settings.home):
        return Finding("wrong", "record", f"{found}, but Tandem runs here", RECORD_ELSEWHERE)
    return Finding("note", "record", f"{found} yet", "`tandem up` makes it")


def _audit(settings: Settings) -> Iterator[Finding]:
    """Whether its chain holds. Where the record does not answer there is nothing to look at."""
    from feedback.store import audit

    for checked in _read(settings, audit.verify):
        if checked.broken_at is None:
            yield Finding("ok", "audit", f"{checked.entries} entries, intact")
        else:
            found = f"broken at entry {checked.broken_at}: {checked.problem}"
            yield Finding("wrong", "audit", found, "somebody wrote into the database past Tandem; see who can")


def _rules(settings: Settings) -> Iterator[Finding]:
    """Whether an API process goes by the rules that stand here: it may run elsewhere, or since before they did."""
    from feedback.store import audit

    for name, rules in (("gate", settings.gate), ("automatic", settings.automatic)):
        for noted in _read(settings, partial(audit.newest, action=f"settings.{name}")):
            if noted is not None and noted.data == rules.model_dump(mode="json"):
                yield Finding("ok", name, "as the API process that started last has it")
            elif noted is not None:
                advice = f"have [{name}] say the same on all machines, and start again what runs with another"
                yield Finding("note", name, "the API process that started last has other settings", advice)


def _weights(settings: Settings) -> Iterator[Finding]:
    """Whether what serves is here, or to be had, as it was published."""
    from feedback.store import policies

    for serving in _read(settings, policies.serving):
        if serving is None:
            yield Finding("note", "weights", "no version serves yet", "`tandem up` makes v0")
        else:
            yield _weights_of(settings, serving)


def _weights_of(settings: Settings, serving: "Policy") -> Finding:
    from feedback import chat_template, manifest
    from feedback.errors import PolicyInvalid
    from feedback.schema import version_name

    name, folder = version_name(serving.version), settings.home / serving.path
    if not folder.is_dir() and settings.policies_url is not None:
        return Finding("note", "weights", f"{name} is in the object storage", "it is brought here by the next start")
    try:
        manifest.verify(folder, serving.digest)
    except PolicyInvalid as error:
        advice = f"restore {folder} from a backup, or `tandem policies rollback`"
        return Finding("wrong", "weights", error.message, advice)
    try:
        chat_template.check_takes_system_prompt(folder, name, settings)
    except PolicyInvalid as error:
        advice = "unset it, or give engine.extra_args a --chat-template that takes system messages"
        return Finding("wrong", "weights", error.message, advice)
    return Finding("ok", "weights", f"{name} is what was published")


def _read(settings: Settings, operation: Callable[["Session"], T]) -> Iterator[T]:
    """What is read of the record; nothing where there is none yet, or it does not answer, which `_record` says."""
    from sqlalchemy.exc import DatabaseError

    from feedback.store import Store

    if settings.has_no_record:
        return
    store = Store(settings.record_url)
    try:
        found = store.read(operation)
    except (RecordUnavailable, DatabaseError):
        # Or its tables are of another release, which the next start brings up to date.
        return
    finally:
        store.close()
    yield found


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
    if state is None:
        yield Finding("note", "stack", "down", "`tandem up` starts it")
        return
    yield Finding("ok" if state.state == "ready" else "note", "stack", f"{state.state} at {state.url}")
    for process in state.processes:
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
        if _listening(path):
            yield Finding("ok", f"engine {slot}", "answers")
        else:
            log = settings.home / "logs" / f"engine-{slot}.log"
            # It was never started where the launcher runs since before engine.slots was changed: who asked knows.
            advice = f"see {log if log.exists() else log.with_name('api.log')}"
            yield Finding("note", f"engine {slot}", "does not answer", advice)


def _port(settings: Settings) -> Iterator[Finding]:
    from deploy.supervisor import free_port
    from feedback.errors import Conflict

    if is_held(settings.home) or settings.serve.port == 0:
        return
    try:
        free_port(settings.serve.host, settings.serve.port)
    except Conflict as problem:
        yield Finding("wrong", "port", problem.message, "tandem up --port 0 takes a free one")
    else:
        yield Finding("ok", "port", f"{settings.serve.port} is free")


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
