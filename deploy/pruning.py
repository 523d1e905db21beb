"""Retention: which weights, reports, datasets and training states of a home may go, and removing them.

Never touched: the version that serves, those that the next rollbacks lead to, the challenger, v0, what these were made
from, whatever a running iteration may read, and each row of the record; so where a version came from stays known after
its weights went, and its dataset can be written again.
With object storage what goes here goes there too, whoever brought it.
"""

import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from feedback import adapters, judges, policy_weights
from feedback import datasets as frozen
from feedback.errors import Conflict
from feedback.object_storage import REMOVED, Storage, storage_of
from feedback.schema import Iteration, Policy, version_name
from feedback.settings import Settings
from feedback.store import Store, datasets, iterations, leases, policies, traffic

# Renewed before each removal: one that is killed holds promotions up for no longer.
LEASE_TTL_S = 60.0
TRAINING_STATES = "*.state.safetensors*"


@dataclass
class Pruned:
    """What was removed, or would be."""

    versions: list[str] = field(default_factory=list)
    iterations: list[str] = field(default_factory=list)
    """Those whose folder went: preference model, reports and training states."""
    datasets: list[str] = field(default_factory=list)
    """By digest."""
    training_states: list[str] = field(default_factory=list)
    bytes: int = 0


def prune(store: Store, settings: Settings, *, dry_run: bool = False) -> Pruned:
    """Remove what the settings in `[retention]` do not keep.

    Raises Conflict while a promotion is under way; the other way round, promotions wait until this has ended. Raises
    StorageUnavailable, having removed nothing; LeaseLost where this stood still for so long that nobody waits for it
    any more, and then what is left stays.
    """
    storage = storage_of(settings)
    # API processes change engines under this lease: what one is about to load must not go meanwhile.
    holder = f"{leases.PASSING}_prune:{socket.gethostname()}:{os.getpid()}"
    epoch = store.write(leases.acquire, leases.ENGINES, holder, LEASE_TTL_S)
    if epoch is None:
        raise Conflict("what the engines hold is being changed; prune again when that has ended")
    try:
        doomed = _choose(store, settings, storage)
        pruned = _describe(settings.home, doomed)
        if not dry_run:
            for digest in (*doomed.stored.values(), *doomed.stored_judges.values()):
                assert storage is not None
                store.write(leases.renew, leases.ENGINES, epoch, LEASE_TTL_S)
                storage.remove(digest)
            for path in (*doomed.paths, *_leftovers(settings.home)):
                store.write(leases.renew, leases.ENGINES, epoch, LEASE_TTL_S)
                _remove(path)
    finally:
        store.write(leases.release, leases.ENGINES, epoch)
    return pruned


@dataclass(frozen=True)
class _Doomed:
    versions: list[Path]
    iterations: list[Path]
    datasets: list[Path]
    training_states: list[Path]
    stored: dict[int, str]
    """Version and digest of what goes from the object storage."""
    stored_judges: dict[str, str]
    """Iteration and digest of what goes from there too."""

    @property
    def paths(self) -> list[Path]:
        return [*self.versions, *self.iterations, *self.datasets, *self.training_states]


def _choose(store: Store, settings: Settings, storage: Storage | None) -> _Doomed:
    home, keep = settings.home, settings.retention
    rows = store.read(policies.list_all)[::-1]
    needed: set[int | None] = {0, *store.read(policies.in_use, keep.rollbacks)}
    challenger = store.read(traffic.get).challenger
    needed |= {row.version for row in rows[: keep.versions]} | ({challenger} if challenger is not None else set())
    needed |= {_base(settings, row) for row in rows if row.version in needed} - {None}
    kept_by_version = {row.iteration_id for row in rows if row.version in needed}
    begun = store.read(iterations.list_all)[::-1]
    kept = kept_by_version | {one.id for one in begun[: keep.iterations]}
    ended = [one.id for one in begun if one.state not in iterations.ACTIVE]
    folders = {name: home / "iterations" / name for name in ended}
    gone = [folders[name] for name in ended if name not in kept and folders[name].is_dir()]
    return _Doomed(
        [_inside(home, row.path) for row in rows if row.version not in needed and (home / row.path).is_dir()],
        gone,
        _datasets(store, home, begun, kept_by_version | {one.id for one in begun[: keep.datasets]}),
        [
            state
            for name in ended
            if name in kept and folders[name].is_dir()
            for state in sorted(folders[name].glob(TRAINING_STATES))
        ],
        {} if storage is None else _stored(storage, rows, needed),
        {} if storage is None else _stored_judges(storage, rows, kept),
    )


def _datasets(store: Store, home: Path, begun: list[Iteration], kept: set[str | None]) -> list[Path]:
    """The folders of the datasets that no iteration of these needs and that can be written again."""
    active = [one for one in begun if one.state in iterations.ACTIVE]
    if any(one.dataset_digest is None for one in active):
        # It freezes one now, which may be one of these again.
        return []
    needed = {one.dataset_digest for one in begun if one.id in kept or one in active}
    gone = {one.dataset_digest for one in begun if one.dataset_digest is not None} - needed
    return [
        folder
        for digest in sorted(filter(None, gone))
        if (folder := home / "datasets" / digest).is_dir() and store.read(datasets.is_held, digest)
    ]


def _base(settings: Settings, row: Policy) -> int | None:
    """The version that an adapter stands on; here or in the storage."""
    here = settings.home / row.path
    base = adapters.base_of(here) if here.is_dir() else policy_weights.base_of(settings, row.digest)
    return None if base is None else base.version


def _stored(storage: Storage, rows: list[Policy], needed: set[int | None]) -> dict[int, str]:
    kept = {row.digest for row in rows if row.version in needed}
    return {row.version: row.digest for row in rows if row.digest not in kept and storage.manifest(row.digest)}


def _stored_judges(storage: Storage, rows: list[Policy], kept: set[str | None]) -> dict[str, str]:
    held = {judges.digest_of(row) for row in rows if row.iteration_id in kept}
    gone = {str(row.iteration_id): digest for row in rows if (digest := judges.digest_of(row)) and digest not in held}
    return {name: digest for name, digest in gone.items() if storage.manifest(digest)}


def _describe(home: Path, doomed: _Doomed) -> Pruned:
    versions = {int(folder.name[1:]) for folder in doomed.versions} | {*doomed.stored}
    stored = doomed.stored_judges.keys() - {folder.name for folder in doomed.iterations}
    return Pruned(
        [version_name(version) for version in sorted(versions, reverse=True)],
        [*(folder.name for folder in doomed.iterations), *sorted(stored, reverse=True)],
        [folder.name for folder in doomed.datasets],
        [state.relative_to(home).as_posix() for state in doomed.training_states],
        sum(_size(path) for path in doomed.paths),
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
    """Of a pruning or a freezing that was killed."""
    removed = [path for room in ("policies", "iterations", "datasets") for path in (home / room).glob(f".*{REMOVED}")]
    return [*removed, *frozen.abandoned(home / "datasets")]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
