"""Retention: which weights, reports and training states of a home may go, and removing them.

Never touched: the version that serves, every version that a chain of rollbacks leads to, the challenger, v0, whatever a
running iteration may read, and each row of the record; so where a version came from stays known after its weights went.
"""

import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from feedback import adapters
from feedback.errors import Conflict
from feedback.schema import version_name
from feedback.settings import Settings
from feedback.store import Store, iterations, leases, policies, traffic

# The API process changes engines under this lease: what it is about to load must not go meanwhile.
ENGINES = "engines"
LEASE_TTL_S = 300.0
TRAINING_STATES = "*.state.safetensors*"
REMOVED = ".removed"
ALL = 1_000_000


@dataclass
class Pruned:
    """What was removed, or would be."""

    versions: list[str] = field(default_factory=list)
    iterations: list[str] = field(default_factory=list)
    """Those whose folder went: preference model, reports and training states."""
    training_states: list[str] = field(default_factory=list)
    bytes: int = 0


def prune(store: Store, settings: Settings, *, dry_run: bool = False) -> Pruned:
    """Remove what the settings in `[retention]` do not keep.

    Raises Conflict while a promotion is under way; the other way round, promotions wait until this has ended.
    """
    epoch = store.write(leases.acquire, ENGINES, f"prune:{socket.gethostname()}:{os.getpid()}", LEASE_TTL_S)
    if epoch is None:
        raise Conflict("what the engines hold is being changed; prune again when that has ended")
    try:
        doomed = _choose(store, settings)
        pruned = _describe(settings.home, doomed)
        if not dry_run:
            for path in (*doomed.versions, *doomed.iterations, *doomed.training_states, *_leftovers(settings.home)):
                _remove(path)
    finally:
        store.write(leases.release, ENGINES, epoch)
    return pruned


@dataclass(frozen=True)
class _Doomed:
    versions: list[Path]
    iterations: list[Path]
    training_states: list[Path]


def _choose(store: Store, settings: Settings) -> _Doomed:
    home, keep = settings.home, settings.retention
    rows, _ = store.read(policies.list_page, limit=ALL, after=None, order="desc")
    needed = {0, *store.read(policies.in_use)}
    challenger = store.read(traffic.get).challenger
    needed |= {row.version for row in rows[: keep.versions]} | ({challenger} if challenger is not None else set())
    needed |= {base.version for row in rows if row.version in needed and (base := adapters.base_of(home / row.path))}
    kept_by_version = {row.iteration_id for row in rows if row.version in needed}
    begun, _ = store.read(iterations.list_page, limit=ALL, after=None, order="desc")
    kept = kept_by_version | {one.id for one in begun[: keep.iterations]}
    ended = [one.id for one in begun if one.state not in iterations.ACTIVE]
    folders = {name: home / "iterations" / name for name in ended}
    gone = [folders[name] for name in ended if name not in kept and folders[name].is_dir()]
    return _Doomed(
        [_inside(home, row.path) for row in rows if row.version not in needed and (home / row.path).is_dir()],
        gone,
        [
            state
            for name in ended
            if name in kept and folders[name].is_dir()
            for state in sorted(folders[name].glob(TRAINING_STATES))
        ],
    )


def _describe(home: Path, doomed: _Doomed) -> Pruned:
    removed = [*doomed.versions, *doomed.iterations, *doomed.training_states]
    return Pruned(
        [version_name(int(folder.name[1:])) for folder in doomed.versions],
        [folder.name for folder in doomed.iterations],
        [state.relative_to(home).as_posix() for state in doomed.training_states],
        sum(_size(path) for path in removed),
    )


def _inside(home: Path, path: str) -> Path:
    """Raises Conflict for a path in the record that leads out of the folder of policies."""
    root = (home / "policies").resolve()
    folder = (home / path).resolve()
    if folder.parent != root:
        raise Conflict(f"{folder} is not a folder in {root}; it is left alone")
    return folder


def _remove(path: Path) -> None:
    """A folder leaves its name at once, so that nobody ever finds half of it."""
    if path.is_file():
        path.unlink()
        return
    if path.suffix != REMOVED:
        aside = path.with_name(f".{path.name}{REMOVED}")
        path.rename(aside)
        path = aside
    shutil.rmtree(path)


def _leftovers(home: Path) -> list[Path]:
    """Of a pruning that was killed."""
    return [folder for room in ("policies", "iterations") for folder in (home / room).glob(f".*{REMOVED}")]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
