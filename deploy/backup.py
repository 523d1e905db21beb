"""Backup: everything of a home that cannot be made again, in one file, taken while Tandem runs.

A backup is a plain tar: the record first, as one consistent snapshot (SQLite's backup API, or `pg_dump`), then the
policies, frozen datasets and ended iterations that the record knows, and `backup.json` last, with each file's SHA-256.
Folders never change once the record names them, so a snapshot taken before them misses nothing. Left out: logs, Redis
(it carries hints only), training states, and `operator.key`, since the record holds digests of keys and no key.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from sqlalchemy import URL, make_url
from sqlalchemy.exc import DatabaseError

from feedback import judges, manifest, policy_weights
from feedback.addresses import sqlite_url
from feedback.errors import Conflict, NotFound, PolicyInvalid, RecordUnavailable, TandemError
from feedback.lifeline import tied
from feedback.object_storage import Storage, storage_of
from feedback.schema import Iteration, Policy, version_name
from feedback.settings import Settings
from feedback.store import Store, iterations, policies

FORM = 1
CONTENTS = "backup.json"
SQLITE_RECORD, POSTGRES_RECORD, SETTINGS_FILE = "record.db", "record.dump", "tandem.toml"
FOLDERS = ("policies", "datasets", "iterations")
TRAINING_STATE = ".state.safetensors"
JUDGING = (*judges.PARTS, manifest.MANIFEST)
PAGES_AT_ONCE, BLOCK_BYTES = 4096, 1 << 20
"""Between two of which somebody may interrupt it."""
OnProgress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much, where that is known."""


class BackupInvalid(TandemError):
    """A file that is not a whole backup of ours."""

    code = "backup_invalid"
    exit_code = 2


@dataclass
class Contents:
    """What a backup holds: `backup.json`."""

    record: str
    form: int = FORM
    created_at: float = 0.0
    versions: list[str] = field(default_factory=list)
    without_weights: list[str] = field(default_factory=list)
    """Versions whose weights had been pruned, or were damaged."""
    damaged: list[str] = field(default_factory=list)
    """Versions whose weights are not what was published: they are left out, since no restore would take them."""
    damaged_judges: list[str] = field(default_factory=list)
    """Versions whose judges are not what was published: they are left out."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by name."""


def quietly(_stage: str, _done: int, _of: int | None) -> None:
    """Nobody is told."""


def backup(settings: Settings, path: Path, on_progress: OnProgress = quietly) -> Contents:
    """Write a backup of `settings.home` to `path`, readable by its owner alone; all of it or nothing.

    Weights and judges that are in object storage only are brought into the home first; those that are damaged are left
    out and named. Raises NotFound where there is no record yet, Conflict when the file is there already or cannot be
    written, as where its disk has no room for it, BackupInvalid when a file goes while it is read, RecordUnavailable,
    StorageUnavailable, TandemError when `pg_dump` fails.
    """
    if settings.has_no_record:
        raise NotFound(f"there is no record in {settings.home} yet: nothing to back up; name another --home")
    if path.exists():
        raise Conflict(f"{path} is there already; a backup overwrites nothing")
    try:
        # Beside the backup: `/tmp` is often memory, and the snapshot is as large as the record.
        scratch = tempfile.TemporaryDirectory(prefix=".tandem-backup-", dir=path.parent)
    except OSError as error:
        raise Conflict(f"{path} cannot be written: {error.strerror}") from error
    with scratch as folder:
        unfinished = Path(folder) / "backup.tar"
        try:
            with (
                os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file,
                tarfile.open(fileobj=file, mode="w", copybufsize=BLOCK_BYTES) as tar,  # type: ignore[call-overload]
            ):
                contents = _fill(tar, settings, Path(folder), on_progress)
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(path)
        except OSError as error:
            # It does not say where a disk is full.
            named = Path(error.filename or path)
            if isinstance(error, FileNotFoundError) and named.is_relative_to(settings.home):
                raise _changed(named.relative_to(settings.home).as_posix()) from None
            raise Conflict(f"{named} cannot be used: {error.strerror or error}") from error
    return contents


class _Stage:
    """How far one stage of the work is."""

    def __init__(self, on_progress: OnProgress, name: str, of: int) -> None:
        self.done = 0
        self._on_progress, self._name, self._of = on_progress, name, of

    def advance(self, by: int) -> None:
        self.done += by
        # What is brought from object storage nobody had counted.
        self._on_progress(self._name, self.done, max(self._of, self.done))


def _fill(tar: tarfile.TarFile, settings: Settings, scratch: Path, on_progress: OnProgress) -> Contents:
    url = make_url(settings.record_url)
    sqlite = url.get_backend_name() == "sqlite"
    contents = Contents(SQLITE_RECORD if sqlite else POSTGRES_RECORD, created_at=time.time())
    snapshot = scratch / contents.record
    if sqlite:
        _snapshot_sqlite(Path(url.database or ""), snapshot, on_progress)
    else:
        _snapshot_postgres(url, snapshot, on_progress)
    # Read from the snapshot itself where that can be opened; else from what is at least as new.
    store = Store(sqlite_url(snapshot) if sqlite else settings.record_url)
    try:
        published, begun = store.read(policies.list_all), store.read(iterations.list_all)
    except DatabaseError as error:
        # Without tables, or with those of another release.
        raise RecordUnavailable(f"the record cannot be read: {error.orig}; see `tandem doctor`") from error
    finally:
        store.close()
    weights = sum(_size(settings.home / policy.path) for policy in published)
    others = sum(map(_size, _datasets_and_reports(settings.home, begun)))
    size = snapshot.stat().st_size
    require_room(scratch, max(size, weights + others))
    stage = _Stage(on_progress, "writing the backup", size + 2 * weights + others)
    _add(tar, contents, snapshot, contents.record, stage)
    snapshot.unlink()
    for folder, left_out in _folders(settings, published, begun, contents, stage):
        _add_folder(tar, contents, settings.home, folder, left_out, stage)
    if (settings.home / SETTINGS_FILE).exists():
        _add(tar, contents, settings.home / SETTINGS_FILE, SETTINGS_FILE, stage)
    listing = scratch / CONTENTS
    listing.write_text(json.dumps(asdict(contents), indent=1))
    tar.add(listing, CONTENTS)
    return contents


def require_room(folder: Path, wanted: int) -> None:
    """Before a disk is filled that Tandem may write to as well. Raises Conflict."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise Conflict(f"{folder.parent.resolve()} has {free >> 20} MiB free, {wanted >> 20} MiB are needed")


def _folders(
    settings: Settings, published: Sequence[Policy], begun: Sequence[Iteration], contents: Contents, stage: _Stage
) -> Iterator[tuple[Path, Collection[str]]]:
    """What is backed up, each with the names in it that are left out."""
    home, storage = settings.home, storage_of(settings)
    without_judges: set[Path] = set()
    for policy in published:
        name = version_name(policy.version)
        if _is_whole(partial(_find_judges, settings, storage, policy)) is False:
            contents.damaged_judges.append(name)
            without_judges.add(judges.here(settings, policy))
        whole = _is_whole(partial(_find_weights, settings, storage, policy))
        stage.advance(_size(home / policy.path))
        if whole:
            contents.versions.append(name)
            yield home / policy.path, ()
        else:
            contents.without_weights.append(name)
            if whole is False:
                contents.damaged.append(name)
    for folder in _datasets_and_reports(home, begun):
        yield folder, JUDGING if folder in without_judges else ()


def _datasets_and_reports(home: Path, begun: Sequence[Iteration]) -> list[Path]:
    datasets = {iteration.dataset_digest for iteration in begun if iteration.dataset_digest}
    # One that goes on is begun anew from its dataset where it is restored.
    ended = [iteration.id for iteration in begun if iteration.state not in iterations.ACTIVE]
    wanted = [home / "datasets" / digest for digest in sorted(datasets)]
    wanted += [home / "iterations" / iteration_id for iteration_id in ended]
    return [folder for folder in wanted if folder.is_dir()]


def _is_whole(verify: Callable[[], bool]) -> bool | None:
    """Whether what `verify` finds is what was published; None where it finds nothing."""
    for _ in range(2):
        # What was pruned while it was read is not found again.
        with contextlib.suppress(PolicyInvalid, FileNotFoundError):
            return verify() or None
    return False


def _find_weights(settings: Settings, storage: Storage | None, policy: Policy) -> bool:
    """Bring them here if need be, and check them. False where there are none; raises PolicyInvalid."""
    found = (settings.home / policy.path).is_dir() or _is_stored(storage, policy.digest)
    if found:
        manifest.verify(policy_weights.bring(settings, policy.path, policy.digest), policy.digest)
    return found


def _find_judges(settings: Settings, storage: Storage | None, policy: Policy) -> bool:
    """As `_find_weights`. Those that were published without a digest cannot be checked."""
    digest = judges.digest_of(policy)
    here = judges.here(settings, policy)
    found = digest is not None and (any((here / name).exists() for name in JUDGING) or _is_stored(storage, digest))
    if found:
        manifest.verify_files(judges.folder_of(settings, policy), str(digest), judges.PARTS)
    return found


def _is_stored(storage: Storage | None, digest: str) -> bool:
    """Raises PolicyInvalid when what is there says that it is something else."""
    return storage is not None and storage.manifest(digest) is not None


def _snapshot_sqlite(path: Path, to: Path, on_progress: OnProgress) -> None:
    # Once more in the backup, before the snapshot goes.
    require_room(to.parent, 2 * path.stat().st_size)
    try:
        with (
            contextlib.closing(sqlite3.connect(path, timeout=30)) as source,
            contextlib.closing(sqlite3.connect(to)) as target,
        ):
            # What is read within a transaction is of one moment; without it each write would begin the copy anew.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_schema").fetchall()
            source.backup(
                target,
                pages=PAGES_AT_ONCE,
                progress=lambda _, left, of: on_progress("copying the record", of - left, of),
            )
    except sqlite3.Error as error:
        raise RecordUnavailable(f"the record {path} cannot be copied: {error}") from error


def _snapshot_postgres(url: URL, to: Path, on_progress: OnProgress) -> None:
    on_progress("copying the record", 0, None)
    run_postgres("pg_dump", url, "--format", "custom", "--no-owner", "--no-privileges", "--file", str(to))
    on_progress("copying the record", 1, 1)


def run_postgres(program: str, url: URL, *arguments: str) -> None:
    """The password goes by the environment: other users of the machine see command lines."""
    if shutil.which(program) is None:
        raise TandemError(f"{program} is not installed (Debian: apt install postgresql-client)")
    # Why a server cannot be reached the program says itself.
    with (
        contextlib.suppress(RecordUnavailable),
        contextlib.closing(Store(url.render_as_string(hide_password=False))) as store,
    ):
        if store.is_behind_pooler():
            # Where they look for tables would stay set on a connection that others are given.
            raise Conflict(
                f"`database_url` leads to a pooler, which {program} must not go through; name the server itself in "
                "TANDEM_DATABASE_URL for this command"
            )
    # `url.set(password=None)` would leave the password in it.
    address = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    address = address.difference_update_query(["password"])
    password = url.password or url.query.get("password")
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    done = subprocess.run(
        # One that went on would have a record loaded beside no weights, when the home is removed after a kill.
        tied([program, *arguments, "--dbname", address.render_as_string(hide_password=False)]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it left no word"]
        raise TandemError(f"{program} failed: {lines[0]}")


def _add_folder(
    tar: tarfile.TarFile, contents: Contents, home: Path, folder: Path, left_out: Collection[str], stage: _Stage
) -> None:
    if not folder.resolve().is_relative_to(home.resolve()):
        raise BackupInvalid(f"{folder} is not inside {home}; it is not backed up from here")
    for path in _files(folder):
        if path.relative_to(folder).parts[0] not in left_out:
            _add(tar, contents, path, path.relative_to(home).as_posix(), stage)
    if not folder.is_dir():
        raise _changed(folder.relative_to(home).as_posix())


def _files(folder: Path) -> list[Path]:
    found = (path for path in sorted(folder.rglob("*")) if not path.name.endswith(TRAINING_STATE))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _add(tar: tarfile.TarFile, contents: Contents, path: Path, name: str, stage: _Stage) -> None:
    try:
        with path.open("rb") as file:
            member = tarfile.TarInfo(name)
            member.size, member.mode = os.fstat(file.fileno()).st_size, 0o600
            reader = Digesting(file, stage)
            tar.addfile(member, reader)  # type: ignore[arg-type]
    except OSError as error:
        if "unexpected end" in str(error):
            raise _changed(name) from None
        raise
    contents.files[name] = reader.digest.hexdigest()


def _changed(name: str) -> BackupInvalid:
    return BackupInvalid(f"{name} changed while it was read; run the backup again")


class Digesting:
    """A file whose digest is that of the very bytes that were read from it."""

    def __init__(self, file: IO[bytes], stage: _Stage) -> None:
        self.digest = hashlib.sha256()
        self._file, self._stage = file, stage

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        self._stage.advance(len(block))
        return block
