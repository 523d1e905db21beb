"""Empty records on SQLite: copies of one that was migrated, which takes a hundredth of the time of migrating one."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from feedback.settings import Settings
from feedback.store import Store


def empty_record(file: Path, *, flushes: bool = True) -> Store:
    """One in `file`, which is made here, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(_migrated())
    return Store(f"sqlite:///{file}", flushes=flushes)


def empty_record_of(settings: Settings) -> Store:
    """That of a home: in it, or in the database that its settings name, which is migrated."""
    if settings.database_url is None:
        return empty_record(settings.home / "record.db")
    store = Store(settings.record_url)
    store.migrate()
    return store


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "record.db"
        store = Store(f"sqlite:///{file}")
        store.migrate()
        store.close()
        return file.read_bytes()
