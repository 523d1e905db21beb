"""A store on each database: the same tests run on SQLite and on a real Postgres."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from feedback.store import Store
from tests.postgres_server import BIN, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private Postgres, ended with the session."""
    if BIN is None:
        pytest.skip("no Postgres on this machine (initdb not found)")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty record, to be copied: a copy takes a hundredth of the time of migrating another one."""
    file = tmp_path_factory.mktemp("record") / "migrated.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_database(postgres: PostgresServer) -> str:
    """The name of an empty record on Postgres, to be copied."""
    url = postgres.new_database()
    _migrate(url)
    return str(make_url(url).database)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated record. Nothing is flushed to the disk, as the tests' Postgres flushes nothing."""
    if request.param == "postgres":
        like = request.getfixturevalue("migrated_database")
        url = request.getfixturevalue("postgres").new_database(like)
    else:
        file = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "record.db")
        url = f"sqlite:///{file}"
    store = Store(url, flushes=request.param == "postgres")
    yield store
    store.close()
    if request.param == "postgres":
        request.getfixturevalue("postgres").drop(url)


def _migrate(url: str) -> None:
    store = Store(url)
    store.migrate()
    store.close()
