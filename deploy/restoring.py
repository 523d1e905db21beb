"""Restore: a new home from what `deploy.backup` wrote, all of it or nothing, every digest checked first."""

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import inspect, make_url
from sqlalchemy.exc import DatabaseError

from deploy.backup import (
    BLOCK_BYTES,
    CONTENTS,
    FOLDERS,
    FORM,
    POSTGRES_RECORD,
    SETTINGS_FILE,
    SQLITE_RECORD,
    BackupInvalid,
    Contents,
    OnProgress,
    quietly,
    require_room,
    run_postgres,
)
from deploy.running import is_held, prepare_home, take_home
from feedback import manifest
from feedback.addresses import sqlite_url
from feedback.errors import Conflict, InvalidRequest, PolicyInvalid
from feedback.lost_record import RESTORING
from feedback.migrations import check_release
from feedback.schema import version_name
from feedback.section import NONE
from feedback.settings import Settings
from feedback.store import Store, policies

SQLITE_LOG = f"{SQLITE_RECORD}-wal"
"""What is in it SQLite writes into whatever record it finds beside it."""
TWO_OF_A_NAME = (FileExistsError, NotADirectoryError, IsADirectoryError)


def restore(settings: Settings, path: Path, on_progress: OnProgress = quietly) -> Contents:
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
                return _restore(settings, path, home / RESTORING, on_progress)
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
    return [name for name in (SQLITE_RECORD, SQLITE_LOG, *FOLDERS) if (home / name).exists()]


def _require_empty(home: Path) -> None:
    if taken := _taken(home):
        raise Conflict(f"{home} holds {taken[0]} already; restore into a new --home")


def _restore(settings: Settings, path: Path, unpacked: Path, on_progress: OnProgress) -> Contents:
    """All of it or nothing, also where somebody interrupts it. The record comes last, by a rename or in one transaction
    of Postgres: a kill leaves none that names what is not there."""
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(mode=0o700)
    placed: list[Path] = []

    def place(name: str) -> None:
        # What was set on this machine stays.
        if (unpacked / name).exists() and not (settings.home / name).exists():
            (unpacked / name).chmod(0o700 if name in FOLDERS else 0o600)
            placed.append(settings.home / name)
            (unpacked / name).rename(settings.home / name)

    try:
        contents = _unpack(settings, path, unpacked, on_progress)
        # That may have taken long.
        _require_empty(settings.home)
        for name in (*FOLDERS, SETTINGS_FILE):
            place(name)
        _load_record(settings, unpacked, contents, on_progress)
        _check_policies(settings, unpacked, contents, on_progress)
        place(SQLITE_RECORD)
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


def _unpack(settings: Settings, path: Path, to: Path, on_progress: OnProgress) -> Contents:
    """Every member is a plain file below a known name; nothing else in an archive is obeyed. One with holes is none: a
    few bytes of it would fill the disk."""
    digests: dict[str, str] = {}
    said: dict[str, Any] = {}
    try:
        of = path.stat().st_size
        require_room(to, of)
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                is_plain = member.isreg() and not member.issparse()
                source = tar.extractfile(member) if is_plain and _is_ours(member.name) else None
                if source is None:
                    raise BackupInvalid(f"{path}: {member.name!r} does not belong into a backup")
                if member.name in (SQLITE_RECORD, POSTGRES_RECORD):
                    # It comes first: nobody waits for all else to be unpacked, to be refused then.
                    _require_place(settings, member.name)
                if member.name == CONTENTS:
                    said = json.loads(source.read())
                else:
                    digests[member.name] = _write(
                        source, to / member.name, lambda: on_progress("unpacking", file.tell(), of)
                    )
        # Behind the last file a tar ends with zeros.
        on_progress("unpacking", of, of)
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


def _write(source: Any, path: Path, on_block: Callable[[], None]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            file.write(block)
            on_block()
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _require_place(settings: Settings, record: str) -> None:
    """That the record can go where the settings say: a database of its kind, with nothing in it yet."""
    sqlite = settings.database_url is None
    if sqlite != (record == SQLITE_RECORD):
        kind = "SQLite: unset database_url" if record == SQLITE_RECORD else "Postgres: set database_url"
        raise InvalidRequest(f"this backup's record is of {kind} to restore it (`tandem db copy` moves it afterwards)")
    if sqlite:
        return
    store = Store(settings.record_url)
    try:
        if inspect(store.engine).get_table_names():
            raise Conflict("the database holds tables already; restore into an empty one")
    finally:
        store.close()


def _load_record(settings: Settings, unpacked: Path, contents: Contents, on_progress: OnProgress) -> None:
    """A dump goes into the database of `settings`, in one transaction; a file stays until it is moved."""
    _require_place(settings, contents.record)
    if contents.record == SQLITE_RECORD:
        return
    dump = str(unpacked / POSTGRES_RECORD)
    # Fails, changing nothing, where somebody else makes a table meanwhile.
    options = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
    on_progress("loading the record", 0, None)
    run_postgres("pg_restore", make_url(settings.record_url), *options, dump)
    on_progress("loading the record", 1, 1)


def _check_policies(settings: Settings, unpacked: Path, contents: Contents, on_progress: OnProgress) -> None:
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
    for number, policy in enumerate(rows):
        on_progress("checking the weights", number, len(rows))
        name = version_name(policy.version)
        if name in contents.versions:
            manifest.verify(settings.home / policy.path, policy.digest)
        elif name not in contents.without_weights:
            raise PolicyInvalid(f"the weights of {name} are not in the backup")
    on_progress("checking the weights", len(rows), len(rows))
