"""What the launcher and its clients say to each other about engine slots.

A line of JSON each way over the unix socket `$TANDEM_HOME/run/engines.sock`, which appears when the launcher is ready.
Requests are answered by one line each:

    {"do": "restart", "slot": 0, "policy": "/folder"}           kill what is in the slot, if there is, and fork a server
    {"do": "status"}                                            all slots
    {"do": "watch"}                                             all slots; from now on a line comes for each end

An answer is `{"ok": true, "slots": [...]}`, holding the slot that was meant or all of them as `SlotStatus`, or
`{"ok": false, "code": "...", "error": "..."}`, and then nothing was changed.

Watchers get `{"event": "ended", "slot": {...}}` for each server that ends. `asked` in it says whether the launcher has
ended it; where not, the end is a failure whatever the exit code: a server whose engine died exits with 0.
"""

import hashlib
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

COMMAND_SOCKET = "engines.sock"
# What every policy version is called inside an engine: nothing that an engine prints tells one from another.
SERVED_NAME = "policy"
LONGEST_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class SlotStatus:
    """One place for a server, and what is known of the last one that was put there."""

    slot: int
    socket: str
    """Unix socket that the server listens on."""
    state: Literal["empty", "running", "stopping", "ended"] = "empty"
    pid: int | None = None
    policy: str | None = None
    """Folder that the server was started with; a later swap of weights is not known here."""
    started_at: float | None = None
    """Unix seconds."""
    exit_code: int | None = None
    """Negative for a signal."""
    asked: bool = False
    """Whether the end was asked for."""

    @classmethod
    def from_line(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields)

    def to_line(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def alive(self) -> bool:
        return self.state in ("running", "stopping")


def engine_socket(run_dir: Path, slot: int) -> Path:
    return run_dir / f"engine-{slot}.sock"


def engines_of(run_dir: Path) -> str:
    """A name for the engines of a home on this machine: those of another machine or home go by another one."""
    return hashlib.sha256(f"{socket.gethostname()}:{run_dir / COMMAND_SOCKET}".encode()).hexdigest()[:12]
