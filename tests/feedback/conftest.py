"""A store on each database: the same tests run on SQLite and on a real Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from feedback.store import Store
from tests.postgres_server import BIN, PostgresServer
from tests.records import empty_record


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private Postgres, ended with the session."""
    if BIN is None:
        pytest.skip("no Postgres on this machine (initdb not found)")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_database(postgres: PostgresServer) -> str:
    """The name of an empty record on Postgres, to be copied."""
    url = postgres.new_database()
    store = Store(url)
    store.migrate()
    store.close()
    return str(make_url(url).database)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated record. Nothing is flushed to the disk, as the tests' Postgres flushes nothing."""
    if request.param == "postgres":
        like = request.getfixturevalue("migrated_database")
        url = request.getfixturevalue("postgres").new_database(like)
        store = Store(url)
    else:
        store = empty_record(tmp_path / "record.db", flushes=False)
    yield store
    store.close()
    if request.param == "postgres":
        request.getfixturevalue("postgres").drop(url)
