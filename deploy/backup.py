"""Backup and restore: everything of a home that cannot be made again, in one file, taken while Tandem runs.

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
import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sqlalchemy import URL, inspect, make_url
from sqlalchemy.exc import DatabaseError

from deploy.running import RESTORING, is_held, prepare_home, take_home
from feedback import judges, manifest, policy_weights
from feedback.addresses import sqlite_url
from feedback.errors import Conflict, InvalidRequest, NotFound, PolicyInvalid, RecordUnavailable, TandemError
from feedback.migrations import check_release
from feedback.object_storage import Storage, storage_of
from feedback.schema import Policy, version_name
from feedback.section import NONE
from feedback.settings import Settings
from feedback.store import Store, iterations, policies

FORM = 1
CONTENTS = "backup.json"
SQLITE_RECORD, POSTGRES_RECORD, SETTINGS_FILE = "record.db", "record.dump", "tandem.toml"
FOLDERS = ("policies", "datasets", "iterations")
TRAINING_STATE = ".state.safetensors"
JUDGING = (*judges.PARTS, manifest.MANIFEST)
TWO_OF_A_NAME = (FileExistsError, NotADirectoryError, IsADirectoryError)


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


def backup(settings: Settings, path: Path) -> Contents:
    """Write a backup of `settings.home` to `path`, readable by its owner alone; all of it or nothing.

    Weights and judges that are in object storage only are brought into the home first; those that are damaged are left
    out and named. Raises NotFound where there is no record yet, Conflict when the file is there already or cannot be
    written, BackupInvalid when a file goes while it is read, StorageUnavailable, TandemError when `pg_dump` fails.
    """
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
                tarfile.open(fileobj=file, mode="w") as tar,
            ):
                contents = _fill(tar, settings, Path(folder))
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(path)
        except OSError as error:
            # It does not say where a disk is full.
            raise Conflict(f"{error.filename or path} cannot be used: {error.strerror or error}") from error
    return contents


def restore(settings: Settings, path: Path) -> Contents:
    """Make the home of `settings`, which must hold nothing yet, from a backup. Every digest is checked first.

    Raises BackupInvalid, PolicyInvalid for weights that are not those of the record, RecordOfNewerRelease, Conflict for
    a home or a database that is in use or holds something, InvalidRequest when the backup is of another kind of
    database.
    """
    home = settings.home
    if is_held(home):
        raise Conflict(f"{home} is in use: `tandem down` ends a stack, another restore ends by itself")
    _require_empty(home)
    is_new = False
    try:
        is_new = _make(home)
        prepare_home(home)
        # No stack starts in it, and nobody else restores into it, meanwhile.
        with take_home(home):
            _require_empty(home)
            try:
                return _restore(settings, path, home / RESTORING)
            except BaseException:
                # While it is held: no stack has begun in it. An API process by itself asks nobody.
                if is_new and not _taken(home):
                    shutil.rmtree(home)
                raise
    except OSError as error:
        # It does not say where a disk is full.
        raise Conflict(f"{error.filename or home} cannot be used: {error.strerror}") from error
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                home.rmdir()  # of a home in which nothing could be made


def _make(home: Path) -> bool:
    """Whether it is this process that made it."""
    try:
        home.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        return False
    return True


def _taken(home: Path) -> list[str]:
    return [name for name in (SQLITE_RECORD, *FOLDERS) if (home / name).exists()]


def _require_empty(home: Path) -> None:
    if taken := _taken(home):
        raise Conflict(f"{home} holds {taken[0]} already; restore into a new --home")


def _restore(settings: Settings, path: Path, unpacked: Path) -> Contents:
    """All of it or nothing, also where somebody interrupts it."""
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(mode=0o700)
    placed: list[Path] = []
    try:
        contents = _unpack(path, unpacked)
        # That may have taken long.
        _require_empty(settings.home)
        _put_record(settings, unpacked, contents)
        _check_policies(settings, unpacked, contents)
        # The record last: a kill leaves none that names what is not there.
        for name in (*FOLDERS, SETTINGS_FILE, SQLITE_RECORD):
            # What was set on this machine stays.
            if (unpacked / name).exists() and not (settings.home / name).exists():
                (unpacked / name).chmod(0o700 if name in FOLDERS else 0o600)
                placed.append(settings.home / name)
                (unpacked / name).rename(settings.home / name)
    except BaseException:
        for each in placed:
            if each.exists():
                each.rename(unpacked / each.name)
        raise
    finally:
        shutil.rmtree(unpacked)
    return contents


def names_another_record(settings: Settings) -> bool:
    """Whether the `tandem.toml` of a restored home says another database than the record went into: that of the home
    that was backed up, where the new one was given by the environment."""
    path = settings.home / SETTINGS_FILE
    said = tomllib.loads(path.read_text()) if path.exists() else {}
    return said.get("database_url", NONE) not in (NONE, settings.database_url)


def _fill(tar: tarfile.TarFile, settings: Settings, scratch: Path) -> Contents:
    url = make_url(settings.record_url)
    sqlite = url.get_backend_name() == "sqlite"
    contents = Contents(SQLITE_RECORD if sqlite else POSTGRES_RECORD, created_at=time.time())
    snapshot = scratch / contents.record
    if sqlite:
        _snapshot_sqlite(Path(url.database or ""), snapshot)
    else:
        _snapshot_postgres(url, snapshot)
    _add(tar, contents, snapshot, contents.record)
    # Read from the snapshot itself where that can be opened; else from what is at least as new.
    store = Store(sqlite_url(snapshot) if sqlite else settings.record_url)
    try:
        for folder, left_out in _folders(store, settings, contents):
            _add_folder(tar, contents, settings.home, folder, left_out)
    finally:
        store.close()
    if (settings.home / SETTINGS_FILE).exists():
        _add(tar, contents, settings.home / SETTINGS_FILE, SETTINGS_FILE)
    listing = scratch / CONTENTS
    listing.write_text(json.dumps(asdict(contents), indent=1))
    tar.add(listing, CONTENTS)
    return contents


def _folders(store: Store, settings: Settings, contents: Contents) -> Iterator[tuple[Path, Collection[str]]]:
    """What is backed up, each with the names in it that are left out."""
    home, storage = settings.home, storage_of(settings)
    without_judges: set[Path] = set()
    for policy in store.read(policies.list_all):
        name = version_name(policy.version)
        if _is_whole(partial(_find_judges, settings, storage, policy)) is False:
            contents.damaged_judges.append(name)
            without_judges.add(judges.here(settings, policy))
        whole = _is_whole(partial(_find_weights, settings, storage, policy))
        if whole:
            contents.versions.append(name)
            yield home / policy.path, ()
        else:
            contents.without_weights.append(name)
            if whole is False:
                contents.damaged.append(name)
    begun = store.read(iterations.list_all)
    datasets = {iteration.dataset_digest for iteration in begun if iteration.dataset_digest}
    # One that goes on is begun anew from its dataset where it is restored.
    ended = [iteration.id for iteration in begun if iteration.state not in iterations.ACTIVE]
    wanted = [home / "datasets" / digest for digest in sorted(datasets)]
    wanted += [home / "iterations" / iteration_id for iteration_id in ended]
    yield from ((folder, JUDGING if folder in without_judges else ()) for folder in wanted if folder.is_dir())


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


def _snapshot_sqlite(path: Path, to: Path) -> None:
    if not path.exists():
        raise NotFound(f"there is no record at {path} yet: nothing to back up; name another --home")
    try:
        with (
            contextlib.closing(sqlite3.connect(path, timeout=30)) as source,
            contextlib.closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise RecordUnavailable(f"the record {path} cannot be copied: {error}") from error


def _snapshot_postgres(url: URL, to: Path) -> None:
    _run_postgres("pg_dump", url, "--format", "custom", "--no-owner", "--no-privileges", "--file", str(to))


def _run_postgres(program: str, url: URL, *arguments: str) -> None:
    """The password goes by the environment: other users of the machine see command lines."""
    if shutil.which(program) is None:
        raise TandemError(f"{program} is not installed (Debian: apt install postgresql-client)")
    # `url.set(password=None)` would leave the password in it.
    address = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    address = address.difference_update_query(["password"])
    password = url.password or url.query.get("password")
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    done = subprocess.run(
        [program, *arguments, "--dbname", address.render_as_string(hide_password=False)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it left no word"]
        raise TandemError(f"{program} failed: {lines[0]}")


def _add_folder(tar: tarfile.TarFile, contents: Contents, home: Path, folder: Path, left_out: Collection[str]) -> None:
    if not folder.resolve().is_relative_to(home.resolve()):
        raise BackupInvalid(f"{folder} is not inside {home}; it is not backed up from here")
    for path in sorted(folder.rglob("*")):
        is_wanted = not path.name.endswith(TRAINING_STATE) and path.relative_to(folder).parts[0] not in left_out
        if is_wanted and path.is_file() and not path.is_symlink():
            _add(tar, contents, path, path.relative_to(home).as_posix())
    if not folder.is_dir():
        raise _changed(folder.relative_to(home).as_posix())


def _add(tar: tarfile.TarFile, contents: Contents, path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            member = tarfile.TarInfo(name)
            member.size, member.mode = os.fstat(file.fileno()).st_size, 0o600
            reader = Digesting(file)
            tar.addfile(member, reader)  # type: ignore[arg-type]
    except OSError as error:
        if isinstance(error, FileNotFoundError) or "unexpected end" in str(error):
            raise _changed(name) from None
        raise
    contents.files[name] = reader.digest.hexdigest()


def _changed(name: str) -> BackupInvalid:
    return BackupInvalid(f"{name} changed while it was read; run the backup again")


class Digesting:
    """A file whose digest is that of the very bytes that were read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


def _unpack(path: Path, to: Path) -> Contents:
    """Every member is a plain file below a known name; nothing else in an archive is obeyed. One with holes is none: a
    few bytes of it would fill the disk."""
    digests: dict[str, str] = {}
    said: dict[str, Any] = {}
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                is_plain = member.isreg() and not member.issparse()
                source = tar.extractfile(member) if is_plain and _is_ours(member.name) else None
                if source is None:
                    raise BackupInvalid(f"{path}: {member.name!r} does not belong into a backup")
                if member.name == CONTENTS:
                    said = json.loads(source.read())
                else:
                    digests[member.name] = _write(source, to / member.name)
        contents = Contents(**said)
        listed = dict(contents.files)
        if not all(isinstance(name, str) for name in (*listed, *contents.versions, *contents.without_weights)):
            raise TypeError("its contents are not named by texts")
    except FileNotFoundError:
        raise InvalidRequest(f"no such file: {path}") from None
    except (tarfile.TarError, ValueError, TypeError, EOFError, RecursionError, *TWO_OF_A_NAME) as error:
        raise BackupInvalid(f"{path} is not a whole backup: {error}") from error
    if contents.form != FORM:
        raise BackupInvalid(f"{path} is of form {contents.form}; this release reads form {FORM}")
    for name in sorted(listed.keys() | digests.keys()):
        if listed.get(name) != digests.get(name):
            raise BackupInvalid(f"{path}: {name} is not what was backed up")
    return contents


def _is_ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/"):
        return False
    single = (SQLITE_RECORD, POSTGRES_RECORD, SETTINGS_FILE, CONTENTS)
    return name in single or (len(parts) > 1 and parts[0] in FOLDERS)


def _write(source: Any, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _put_record(settings: Settings, unpacked: Path, contents: Contents) -> None:
    """A dump goes into the database of `settings`, in one transaction; a file stays until it is moved."""
    sqlite = settings.database_url is None
    if sqlite != (contents.record == SQLITE_RECORD):
        kind = "SQLite: unset database_url" if contents.record == SQLITE_RECORD else "Postgres: set database_url"
        raise InvalidRequest(f"this backup's record is of {kind} to restore it (`tandem db copy` moves it afterwards)")
    if sqlite:
        return
    store = Store(settings.record_url)
    try:
        if inspect(store.engine).get_table_names():
            raise Conflict("the database holds tables already; restore into an empty one")
    finally:
        store.close()
    dump = str(unpacked / POSTGRES_RECORD)
    # Fails, changing nothing, where somebody else makes a table meanwhile.
    options = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
    _run_postgres("pg_restore", make_url(settings.record_url), *options, dump)


def _check_policies(settings: Settings, unpacked: Path, contents: Contents) -> None:
    sqlite = contents.record == SQLITE_RECORD
    store = Store(sqlite_url(unpacked / SQLITE_RECORD) if sqlite else settings.record_url)
    try:
        with store.engine.connect() as connection:
            check_release(connection)
        rows = store.read(policies.list_all)
    except DatabaseError as error:
        raise BackupInvalid(f"the backup's {contents.record} is no record of Tandem's: {error.orig}") from error
    finally:
        store.close()
    for policy in rows:
        name = version_name(policy.version)
        if name in contents.versions:
            manifest.verify(unpacked / policy.path, policy.digest)
        elif name not in contents.without_weights:
            raise PolicyInvalid(f"the weights of {name} are not in the backup")
