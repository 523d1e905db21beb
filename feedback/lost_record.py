"""A home whose record is lost, or was never brought back or copied: a new one would have nobody look for the votes."""

from pathlib import Path

from feedback.errors import Conflict
from feedback.settings import Settings
from feedback.store import Store

NOT_COPIED = "unset database_url, and have `tandem db copy` bring record.db into that database first"
RESTORING = ".restoring"
"""Where in a home a backup is unpacked. What is there of one that was killed stays."""


def left_in(home: Path) -> str | None:
    """What is there in a home without a record that had one, or in which a restore was killed. None in a new one."""
    if any(home.glob("policies/v[0-9]*")):
        return "policies"
    return RESTORING if (home / RESTORING).exists() else None


def require_record(settings: Settings) -> None:
    """Raises Conflict where a home has lost its record; RecordUnavailable."""
    left = left_in(settings.home)
    if left is None:
        return
    if settings.has_no_record:
        found = "no record"
    elif _is_blank(settings):
        found = "a record without tables"
    else:
        return
    advice = (
        "set TANDEM_DATABASE_URL where the record is elsewhere, restore a backup into a new --home, or move "
        f"{settings.home / left} away to begin anew"
    )
    raise Conflict(f"{settings.home} holds {left} and {found}: {NOT_COPIED if is_not_copied(settings) else advice}")


def is_not_copied(settings: Settings) -> bool:
    """Whether the record of a home is in its own file still, where another database is named that lacks it."""
    return settings.database_url is not None and (settings.home / "record.db").exists()


def _is_blank(settings: Settings) -> bool:
    store = Store(settings.record_url)
    try:
        return store.is_blank()
    finally:
        store.close()
