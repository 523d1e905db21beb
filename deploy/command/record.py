"""The record of a home, opened by commands that need no running Tandem."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.command.output import say
from deploy.running import RECORD_ELSEWHERE, is_in_use, keep_from_git
from feedback.errors import NotFound, RecordUnavailable

if TYPE_CHECKING:
    from feedback.settings import Settings
    from feedback.store import Store


@contextmanager
def open_record(home: Path | None, *, must_exist: bool = False) -> Iterator[tuple["Store", "Settings"]]:
    """The store, with its schema up to date, and the settings. Where there is no record yet one is made, and said so:
    the home may be mistyped.

    Raises RecordUnavailable; Conflict where the home has lost its record; NotFound when there is no record yet and it
    `must_exist`, or where Tandem runs, by one that only its own environment names.
    """
    from sqlalchemy.exc import DatabaseError

    from feedback.lost_record import require_record
    from feedback.settings import load_settings
    from feedback.store import Store

    settings = load_settings(home=home)
    is_new = settings.has_no_record
    if must_exist and is_new:
        raise NotFound(f"there is no record in {settings.home} yet; name another --home, or start with `tandem up`")
    if is_new and is_in_use(settings.home):
        raise NotFound(f"there is no record in {settings.home}, and Tandem runs there: {RECORD_ELSEWHERE}")
    try:
        store = Store(settings.record_url)
    except FileExistsError as error:
        raise RecordUnavailable(f"the home {settings.home} cannot be used: {error.filename} is no folder") from error
    except OSError as error:
        raise RecordUnavailable(f"the home {settings.home} cannot be used: {error.strerror}") from error
    try:
        require_record(settings)
        store.migrate()
        if is_new:
            keep_from_git(settings.home)
            say(f"There was no record in {settings.home}: a new one is made.")
        yield store, settings
    except DatabaseError as error:
        raise RecordUnavailable(f"the record cannot be used: {error.orig}; see `tandem doctor`") from error
    except RecordUnavailable as error:
        # Whoever has the command has the home: here the reason may be told.
        reason = getattr(error.__cause__, "orig", error.message)
        raise RecordUnavailable(f"the record cannot be used: {reason}; see `tandem doctor`") from error
    finally:
        store.close()
