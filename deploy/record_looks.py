"""What is wrong with the record of a home, and with what serves by it; for the doctor. It is opened once for all."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.finding import OWN, WRITABLE, Finding
from deploy.running import RECORD_ELSEWHERE, is_in_use
from feedback.errors import RecordUnavailable
from feedback.lost_record import NOT_COPIED, is_not_copied, left_in
from feedback.settings import Settings

if TYPE_CHECKING:
    from feedback.schema import Policy
    from feedback.store import Store


def record(settings: Settings) -> Iterator[Finding]:
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
        is_blank = store.is_blank()
    except DatabaseError as error:
        reason = str(error.orig).strip().splitlines()[0]
        code = getattr(error.orig, "sqlite_errorcode", None)
        advice = "start the database, or correct database_url" if code is None else _advice_on_file(code)
        yield Finding("wrong", "record", reason, advice)
    except (RecordOfNewerRelease, RecordUnavailable) as error:
        found, _, advice = error.message.partition(": ")
        yield Finding("wrong", "record", found, advice)
    else:
        if is_blank:
            yield _no_record(settings, "without tables")
        else:
            yield Finding("ok", "record", "answers")
            for look in (_audit, _rules, _weights):
                # Nothing where its tables are of an older release, which the next start brings up to date.
                with suppress(RecordUnavailable, DatabaseError):
                    yield from look(store, settings)
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
    if is_in_use(settings.home):
        return Finding("wrong", "record", f"{found}, but Tandem runs here", RECORD_ELSEWHERE)
    if left := left_in(settings.home):
        advice = NOT_COPIED if is_not_copied(settings) else "restore a backup into a new --home"
        return Finding("wrong", "record", f"{found}, but the home holds {left}", advice)
    return Finding("note", "record", f"{found} yet", "`tandem up` makes it")


def _audit(store: "Store", _: Settings) -> Iterator[Finding]:
    """Whether its chain holds."""
    from feedback.store import audit

    checked = store.read(audit.verify)
    if checked.broken_at is None:
        yield Finding("ok", "audit", f"{checked.entries} entries, intact")
    else:
        found = f"broken at entry {checked.broken_at}: {checked.problem}"
        yield Finding("wrong", "audit", found, "somebody wrote into the database past Tandem; see who can")


def _rules(store: "Store", settings: Settings) -> Iterator[Finding]:
    """Whether an API process goes by the rules that stand here: it may run elsewhere, or since before they did."""
    from feedback.store import audit

    for name, rules in (("gate", settings.gate), ("automatic", settings.automatic)):
        noted = store.read_once(audit.newest, f"settings.{name}")
        if noted is not None and noted.data == rules.model_dump(mode="json"):
            yield Finding("ok", name, "as the API process that started last has it")
        elif noted is not None:
            advice = f"have [{name}] say the same on all machines, and start again what runs with another"
            yield Finding("note", name, "the API process that started last has other settings", advice)


def _weights(store: "Store", settings: Settings) -> Iterator[Finding]:
    """Whether what serves is here, or to be had, as it was published."""
    from feedback.store import policies

    serving = store.read_once(policies.serving)
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
    except OSError as error:
        return Finding("wrong", "weights", f"{error.filename}: {error.strerror}", OWN)
    try:
        chat_template.check_takes_system_prompt(folder, name, settings)
    except PolicyInvalid as error:
        advice = "unset it, or give engine.extra_args a --chat-template that takes system messages"
        return Finding("wrong", "weights", error.message, advice)
    return Finding("ok", "weights", f"{name} is what was published")
