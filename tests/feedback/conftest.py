"""A store on each database: the same tests run on SQLite and on a real Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.store import Store
from tests.postgres_server import BIN, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private Postgres, ended with the session."""
    if BIN is None:
        pytest.skip("no Postgres on this machine (initdb not found)")
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated record."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    store = Store(url)
    store.migrate()
    yield store
    store.close()
