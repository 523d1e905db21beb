"""An iteration whose writes are refused by a record that answers: it fails with the record's words, in the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from feedback.errors import LeaseLost, RecordUnavailable
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations, leases
from learner.iteration.process import _its_end_is_told, run
from learner.prepare import prepare
from tests.learner.iterations import LEASE_TTL_S, start
from tests.ports import free_port
from tests.postgres_server import BIN, PostgresServer
from tests.records import empty_record_of

# A stage begins with the first thing that is written after the claim.
ON_SQLITE = """CREATE TRIGGER refuse BEFORE INSERT ON iteration_events WHEN NEW.kind = 'stage'
    BEGIN SELECT RAISE(ABORT, 'not today'); END"""
ON_POSTGRES = (
    """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '{code}', DETAIL = 'of some row'; END $$""",
    """CREATE TRIGGER refuse BEFORE INSERT ON iteration_events FOR EACH ROW WHEN (NEW.kind = 'stage')
    EXECUTE FUNCTION refuse()""",
)
TIMED_OUT = "57014"


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[tuple[Store, Settings]]:
    yield from _home(load_settings(home=tmp_path, loop={"lease_ttl_s": LEASE_TTL_S}))


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[tuple[Store, Settings]]:
    if BIN is None:
        pytest.skip("no Postgres on this machine (initdb not found)")
    with PostgresServer() as server:
        loop = {"lease_ttl_s": LEASE_TTL_S, "max_attempts": 3}
        yield from _home(load_settings(home=tmp_path, database_url=server.new_database(), loop=loop))


def _home(settings: Settings) -> Iterator[tuple[Store, Settings]]:
    store = empty_record_of(settings)
    prepare(store, settings)
    yield store, settings
    store.close()


def _have(store: Store, *statements: str) -> None:
    def execute(session: Session) -> None:
        for statement in statements:
            session.connection().exec_driver_sql(statement)

    store.write(execute)


def test_a_write_that_breaks_a_rule_of_the_record_fails_the_iteration_at_once(
    on_sqlite: tuple[Store, Settings],
) -> None:
    store, settings = on_sqlite
    _have(store, ON_SQLITE)
    iteration = start(store, settings)
    with pytest.raises(DBAPIError):
        run(store, settings, iteration.id)
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.error) == ("failed", "the record refused what was written: not today")
    assert not store.read(leases.held, leases.LEARNER)


def test_a_write_that_takes_too_long_each_time_is_tried_a_few_times(on_postgres: tuple[Store, Settings]) -> None:
    """A statement that timed out looks like a record that is away, and may go well the next time."""
    store, settings = on_postgres
    _have(store, ON_POSTGRES[0].format(code=TIMED_OUT), ON_POSTGRES[1])
    iteration = start(store, settings)
    for attempt in (1, 2, 3):
        assert store.read(iterations.get, iteration.id).state in iterations.ACTIVE
        with pytest.raises(RecordUnavailable):
            run(store, settings, iteration.id)
        ended = store.read(iterations.get, iteration.id)
        assert ended.attempts == attempt
        assert not store.read(leases.held, leases.LEARNER)
    assert (ended.state, ended.error) == ("failed", "the record refused what was written: not today")


def test_a_record_that_let_nobody_in_for_a_moment_refused_nothing(on_sqlite: tuple[Store, Settings]) -> None:
    store, settings = on_sqlite
    iteration = start(store, settings)
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    away = Store(f"postgresql+psycopg://127.0.0.1:{free_port()}/none")
    with pytest.raises(RecordUnavailable), _its_end_is_told(store, settings, iteration.id, claimed[1]):
        away.ping()
    assert store.read(iterations.get, iteration.id).attempts == 0
    assert not store.read(leases.held, leases.LEARNER)


def test_whoever_tells_twice_that_it_stopped_has_told_it_once(on_sqlite: tuple[Store, Settings]) -> None:
    """The answer to the first time is lost where the connection breaks in a commit."""
    store, settings = on_sqlite
    iteration = start(store, settings)
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    store.write(iterations.stopped, iteration.id, claimed[1])
    with pytest.raises(LeaseLost):
        store.write(iterations.stopped, iteration.id, claimed[1])
    assert store.read(iterations.get, iteration.id).attempts == 0
    assert not store.read(leases.held, leases.LEARNER)
