"""Who runs a home: a lock that the kernel lets go of, and a page of what runs, `run/supervisor.json`."""

import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal

from feedback.errors import Conflict
from serve.engine.launcher_protocol import COMMAND_SOCKET

LOCK_PATIENCE_S = 1.0
# Those of a supervisor that was killed end with it: .7 s later where ten programs want the two processors.
ENGINES_PATIENCE_S = 5.0
RECORD_ELSEWHERE = "wait for its start, or set TANDEM_DATABASE_URL as it is where it was started"
"""What to do about a home without a record in which a stack runs."""
NOT_BY_UP = "its processes run, and were started by something else than `tandem up`"
# A home may stand in somebody's repository. `tandem.toml` and what else is theirs is not named.
IGNORED_BY_GIT = """\
# Keys, what people wrote, and weights.
/operator.key
/record.db*
/datasets/
/imports/
/iterations/
/logs/
/policies/
/redis/
/.restoring/
/run/
"""


class HomeInUse(Conflict):
    """Another supervisor runs this home."""

    code = "home_in_use"


@dataclass(frozen=True)
class ProcessState:
    """One process of a stack."""

    name: str
    state: Literal["running", "waiting", "ended"] = "waiting"
    """`waiting` for its next start."""
    pid: int | None = None
    restarts: int = 0
    exit_code: int | None = None
    """Of its last end; negative for a signal."""


@dataclass(frozen=True)
class StackState:
    """What runs for a home, as its supervisor wrote it down last."""

    pid: int
    state: Literal["starting", "ready", "ending"]
    url: str
    started_at: float
    processes: list[ProcessState] = field(default_factory=list)


def take_home(home: Path) -> IO[str]:
    """Make this process the supervisor of `home` for as long as the file it gets stays open.

    Raises HomeInUse. The lock goes with the process, however that ends.
    """
    lock = _lock_path(home).open("a+")
    until = time.monotonic() + LOCK_PATIENCE_S  # somebody may be asking whether it is held
    while not _locked(lock, fcntl.LOCK_EX):
        if time.monotonic() > until:
            lock.close()
            state = read_state(home)
            who = f"process {state.pid}" if state else "another process"
            raise HomeInUse(f"{home} is in use by {who}; end it with `tandem down`, or choose another --home")
        time.sleep(0.05)
    # Of one that was killed; its number may be that of another process by now.
    forget_state(home)
    if goes_on_by_itself(home):
        lock.close()
        raise HomeInUse(f"{home} is in use: {NOT_BY_UP}; choose another --home")
    return lock


def _locked(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def runs_by_itself(home: Path) -> bool:
    """Whether a home that no supervisor runs has engines all the same: each process may have a container of its own."""
    return listens(home / "run" / COMMAND_SOCKET)


def goes_on_by_itself(home: Path) -> bool:
    """The same of one whose engines do not end in a moment."""
    until = time.monotonic() + ENGINES_PATIENCE_S
    while runs_by_itself(home):
        if time.monotonic() > until:
            return True
        time.sleep(0.05)
    return False


def is_in_use(home: Path) -> bool:
    """Whether anything runs in a home, whoever started it."""
    return is_held(home) or runs_by_itself(home)


def listens(path: Path) -> bool:
    """Whether somebody answers at a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def is_held(home: Path) -> bool:
    """Whether a supervisor runs this home."""
    try:
        lock = _lock_path(home).open()
    except (FileNotFoundError, NotADirectoryError):
        return False
    with lock:
        return not _locked(lock, fcntl.LOCK_SH)


def read_state(home: Path) -> StackState | None:
    """What the supervisor of `home` wrote down, or None when none runs, or has written nothing yet."""
    if not is_held(home):
        return None
    try:
        said = json.loads(_state_path(home).read_text())
    except FileNotFoundError:
        return None
    processes = [ProcessState(**process) for process in said.pop("processes")]
    return StackState(processes=processes, **said)


def write_state(home: Path, state: StackState) -> None:
    unfinished = _state_path(home).with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(state), indent=2) + "\n")
    unfinished.replace(_state_path(home))


def forget_state(home: Path) -> None:
    _state_path(home).unlink(missing_ok=True)


def prepare_home(home: Path) -> None:
    """Make the folders of a home, closed to others: sockets without keys stand in `run`.

    Raises Conflict when the path is too long for a unix socket, or cannot be written.
    """
    run = home / "run"
    longest = len(os.fsencode(run / "engine-0.sock"))
    if longest > 107:
        raise Conflict(f"the path of the home is too long for unix sockets by {longest - 107} bytes: {home}")
    try:
        for folder in (home, run, home / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        run.chmod(0o700)
        (home / "logs").chmod(0o700)
        keep_from_git(home)
    except FileExistsError as error:
        raise Conflict(f"the home {home} cannot be used: {error.filename} is no folder") from error
    except OSError as error:
        raise Conflict(f"the home {home} cannot be used: {error.strerror}") from error


def keep_from_git(home: Path) -> None:
    """Unless somebody has said there what git is to take."""
    if not (home / ".gitignore").exists():
        (home / ".gitignore").write_text(IGNORED_BY_GIT)


def _lock_path(home: Path) -> Path:
    return home / "run" / "supervisor.lock"


def _state_path(home: Path) -> Path:
    return home / "run" / "supervisor.json"
