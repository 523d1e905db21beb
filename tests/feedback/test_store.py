from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import pytest
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from feedback.errors import RecordUnavailable
from feedback.ids import new_id
from feedback.migrations import downgrade, upgrade
from feedback.schema import Base, Comparison, Rater, Sample
from feedback.store import Store, page, samples, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, handed_in_order, judgement, sample


def test_migrations_make_the_schema_and_take_it_down(store: Store) -> None:
    tables = set(inspect(store.engine).get_table_names())
    assert tables == Base.metadata.tables.keys() | {"alembic_version"}
    downgrade(store.engine, "base")
    assert set(inspect(store.engine).get_table_names()) == {"alembic_version"}
    upgrade(store.engine)
    store.migrate()
    store.ping()


def test_the_models_and_the_migrations_agree(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"render_as_batch": True})
        assert compare_metadata(context, Base.metadata) == []


def test_an_operation_may_call_its_arguments_what_it_likes(store: Store) -> None:
    """`policies.keep_failure` has a `kind`."""

    def said(_: Session, *, kind: str, args: str) -> str:
        return kind + args

    for run in (store.write, store.write_once, store.read):
        assert run(said, kind="a", args="b") == "ab"


def test_what_raises_leaves_nothing(store: Store) -> None:
    comparison_id = add_comparison(store)

    def put_and_fail(session: object) -> None:
        votes.put(session, comparison_id, judgement(), key_id="key_a", sees_all=False, rater="")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(put_and_fail)
    assert store.read(votes.count_by_state) == {}


def test_open_pairs_come_with_fewest_votes_first_and_not_twice_to_one_rater(store: Store) -> None:
    ids = [add_comparison(store) for _ in range(4)]
    foreign = add_comparison(store, key_id="key_b")
    store.write(votes.put, ids[3], judgement(), key_id="key_a", sees_all=False, rater="bob")
    store.write(votes.put, ids[0], judgement(), key_id="key_a", sees_all=False, rater="ann")
    count_all(store)
    query = {"key_id": "key_a", "sees_all": False, "rater": "ann", "objective": "helpful", "votes_wanted": 2}

    first, more = handed_in_order(store, **query, limit=2)
    assert [pair.comparison.id for pair in first] == [ids[2], ids[1]]
    assert more
    rest, more = handed_in_order(store, **query, limit=2, after=ids[1])
    assert [pair.comparison.id for pair in rest] == [ids[3]]
    assert not more
    harmless, _ = handed_in_order(store, **(query | {"objective": "harmless"}), limit=10)
    assert {pair.comparison.id for pair in harmless} == set(ids)
    everything, _ = handed_in_order(store, **(query | {"sees_all": True}), limit=10)
    assert foreign in {pair.comparison.id for pair in everything}
    enough, _ = handed_in_order(store, **(query | {"votes_wanted": 1}), limit=10)
    assert {pair.comparison.id for pair in enough} == {ids[1], ids[2]}


def test_pages(store: Store) -> None:
    ids = [add_comparison(store) for _ in range(3)]
    rows, more = store.read(page, select(Comparison), Comparison.id, limit=2)
    assert ([row.id for row in rows], more) == ([ids[2], ids[1]], True)
    rows, more = store.read(page, select(Comparison), Comparison.id, limit=2, after=ids[0], order="asc")
    assert ([row.id for row in rows], more) == ([ids[1], ids[2]], False)


def test_what_is_read_is_one_snapshot(store: Store) -> None:
    add_comparison(store)

    def count_twice(session: Session) -> list[int]:
        counts = []
        for _ in range(2):
            counts.append(session.execute(select(func.count()).select_from(Comparison)).scalar_one())
            add_comparison(store)
        return counts

    assert store.read(count_twice) == [1, 1]


def test_postgres_gives_up_who_is_silent(store: Store) -> None:
    """Otherwise a host that was cut off in a transaction holds its locks for the kernel's two hours."""
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no network")
    names = ("idle_in_transaction_session_timeout", "tcp_user_timeout", "tcp_keepalives_idle")
    with store.engine.connect() as connection:
        said = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
        own = connection.connection.driver_connection.info.get_parameters()
    # Over a unix socket Postgres has no use for the last two.
    assert said == ["30min", "0", "0"]
    assert own["tcp_user_timeout"] == "15000" and own["keepalives_idle"] == "5"


def test_who_need_not_flush_does_not_and_who_leaves_the_log_to_others_does(store: Store) -> None:
    def said(store: Store, *names: str) -> list[object]:
        with store.engine.connect() as connection:
            return [connection.exec_driver_sql(name).scalar_one() for name in names]

    usual, other = Store(store.database_url), Store(store.database_url, flushes=False, checkpoints=False)
    if store.engine.dialect.name == "sqlite":
        names = ("PRAGMA synchronous", "PRAGMA wal_autocheckpoint")
        assert said(usual, *names) == [2, 1000]
        assert said(other, *names) == [1, 16_000]
    else:
        assert said(usual, "SHOW synchronous_commit") == ["on"]
        assert said(other, "SHOW synchronous_commit") == ["off"]
    usual.close()
    other.close()


def test_a_connection_that_was_opened_while_nothing_could_be_written_is_replaced(store: Store) -> None:
    on_sqlite = store.engine.dialect.name == "sqlite"
    with store.engine.connect() as one, store.engine.connect() as another:
        for connection in (one, another):
            connection.exec_driver_sql(
                "PRAGMA query_only = ON" if on_sqlite else "SET default_transaction_read_only = on"
            )
            connection.commit()
    for name in ("ann", "bob"):
        store.write(lambda session, name=name: session.add(Rater(id=name, key_id="k", name=name, created_at=1.0)))  # type: ignore[misc]
    assert store.read(lambda session: session.scalars(select(func.count()).select_from(Rater)).one()) == 2


def test_a_server_that_only_reads_is_away_for_who_writes(on_postgres: Store) -> None:
    def only_reads(does: bool) -> None:
        name = on_postgres.engine.url.database
        with on_postgres.engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = {does}")
            connection.commit()

    client = Store(on_postgres.database_url)
    for write in (client.write, client.write_once):
        only_reads(True)
        client.engine.dispose()
        with pytest.raises(RecordUnavailable):
            write(_add_rater)
        with pytest.raises(RecordUnavailable):
            client.ping()
        only_reads(False)
        client.ping()
        write(_add_rater)
    client.close()
    assert len(on_postgres.read(_rater_names)) == 2


@pytest.mark.parametrize("sqlstate", ["53300", "57P01", "57P03", "58030", "25P04", "40001"])
def test_a_server_at_fault_is_away(on_postgres: Store, sqlstate: str) -> None:
    failing = text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$")
    with pytest.raises(RecordUnavailable):
        on_postgres.write(lambda session: session.execute(failing))


class Breaking:
    """An operation whose connection Postgres ends at each of its first `times` runs."""

    def __init__(self, store: Store, times: int) -> None:
        self.admin = Store(store.database_url)
        self.times = times
        self.runs = 0

    def end(self, backend: int) -> None:
        self.admin.read(lambda session: session.execute(select(func.pg_terminate_backend(backend, 10_000))))

    def __call__(self, session: Session, *, before_the_commit: bool = False) -> str:
        self.runs += 1
        session.add(Rater(id=new_id("rtr"), key_id="key_a", name=f"r{self.runs}", created_at=1.0))
        session.flush()
        if self.runs <= self.times:
            self.end(session.scalars(select(func.pg_backend_pid())).one())
            if before_the_commit:
                return "lost"
        return session.execute(text("SELECT 'done'")).scalar_one()


@pytest.fixture
def on_postgres(store: Store) -> Store:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no server")
    return store


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(on_postgres: Store, encoding: str) -> None:
    name = f"narrow_{new_id('db')[-12:]}"
    with on_postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"))
    narrow = Store(on_postgres.engine.url.set(database=name).render_as_string(hide_password=False))
    try:
        with pytest.raises(RecordUnavailable, match=f"as {encoding}, .*createdb --encoding UTF8"):
            narrow.migrate()
    finally:
        narrow.close()


def test_a_connection_that_broke_before_the_commit_is_replaced_unnoticed(on_postgres: Store) -> None:
    store, breaking = on_postgres, Breaking(on_postgres, 1)
    # One that lay in the pool.
    breaking.end(store.read(lambda session: session.scalars(select(func.pg_backend_pid())).one()))
    store.ping()
    assert store.write(breaking) == "done"
    assert breaking.runs == 2
    assert store.read(_rater_names) == ["r2"], "nothing is left of the first run"
    breaking.admin.close()


def test_what_is_handed_on_while_it_is_read_is_not_read_again(on_postgres: Store) -> None:
    breaking = Breaking(on_postgres, 1)
    handed_on: list[int] = []

    def hand_on(session: Session) -> None:
        for number in range(1, 3):
            handed_on.append(session.execute(text(f"SELECT {number}")).scalar_one())
            breaking.end(session.scalars(select(func.pg_backend_pid())).one())

    with pytest.raises(RecordUnavailable):
        on_postgres.read_through(hand_on)
    assert handed_on == [1]
    breaking.admin.close()


def test_a_write_whose_commit_broke_is_not_run_again(on_postgres: Store) -> None:
    breaking = Breaking(on_postgres, 1)
    with pytest.raises(RecordUnavailable):
        on_postgres.write(breaking, before_the_commit=True)
    assert breaking.runs == 1
    assert on_postgres.write(breaking) == "done"
    breaking.admin.close()


def test_a_write_that_may_be_done_twice_is_run_again_after_its_statement_was_committed(on_postgres: Store) -> None:
    breaking = Breaking(on_postgres, 1)
    assert on_postgres.write_once(breaking) == "done"
    assert breaking.runs == 2
    assert on_postgres.read(_rater_names) == ["r1", "r2"], "each statement commits by itself"
    on_postgres.read(lambda session: session.execute(text("SELECT 1")))
    with pytest.raises(DBAPIError):
        on_postgres.write(_add_and_fail)
    assert len(on_postgres.read(_rater_names)) == 2, "the connection is one of transactions again"
    breaking.admin.close()


def test_a_read_of_one_statement_is_not_wrapped_into_a_transaction(on_postgres: Store) -> None:
    def transactions(session: Session) -> list[int]:
        return [session.execute(text("SELECT txid_current()")).scalar_one() for _ in range(2)]

    apart, together = on_postgres.read_once(transactions), on_postgres.read(transactions)
    assert apart[0] != apart[1] and together[0] == together[1]


def test_what_is_written_all_the_time_waits_for_no_answer_before_that_to_its_commit(on_postgres: Store) -> None:
    all_sent, holding = Event(), Event()

    def add_two(session: Session) -> None:
        add = text("INSERT INTO raters (id, key_id, name, created_at, votes_counted) VALUES (:id, 'k', :id, 1, 0)")
        for name in ("ann", "bob"):
            session.execute(add, {"id": name})
        all_sent.set()

    def hold_ann(session: Session) -> None:
        session.add(Rater(id="ann", key_id="k", name="another", created_at=1.0))
        session.flush()
        holding.set()
        assert all_sent.wait(60)
        raise InterruptedError

    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(on_postgres.write, hold_ann)
        assert holding.wait(60)
        pool.submit(on_postgres.write_swiftly, add_two, _never).result(60)
        with pytest.raises(InterruptedError):
            held.result(60)
    assert on_postgres.read(_rater_names) == ["ann", "bob"]


def test_what_is_sent_together_is_undone_together(on_postgres: Store) -> None:
    with pytest.raises(DBAPIError) as raised:
        on_postgres.write_swiftly(_add_and_fail, _never)
    assert raised.value.orig.sqlstate == "42P01", "what was wrong first"
    assert on_postgres.read(_rater_names) == []
    breaking = Breaking(on_postgres, 1)
    breaking.end(on_postgres.read(lambda session: session.scalars(select(func.pg_backend_pid())).one()))
    on_postgres.ping()
    breaking.end(on_postgres.read(lambda session: session.scalars(select(func.pg_backend_pid())).one()))
    on_postgres.write_swiftly(_add_rater, _never)
    assert len(on_postgres.read(_rater_names)) == 1, "a connection that lay in the pool and broke is replaced unnoticed"
    breaking.admin.close()


def test_what_else_went_wrong_with_what_is_sent_together_is_not_logged(
    on_postgres: Store, caplog: pytest.LogCaptureFixture
) -> None:
    refused, broken = sample("5"), sample("6")
    refused.status = None
    broken.messages = None
    with pytest.raises(TypeError):
        on_postgres.write_swiftly(partial(samples.add, samples=[refused, broken]), _never)
    assert caplog.text == "", "a row that is refused is quoted"
    on_postgres.write_swiftly(partial(samples.add, samples=[sample("7")]), _never)
    assert on_postgres.read(lambda session: [row.text for row in session.query(Sample)]) == ["7"]


def _never(_driver: object) -> None:
    raise AssertionError("that is SQLite's way")


def _add_rater(session: Session) -> None:
    session.add(Rater(id=new_id("rtr"), key_id="key_a", name=new_id("name"), created_at=1.0))


def _rater_names(session: Session) -> list[str]:
    return sorted(session.scalars(select(Rater.name)))


def _add_and_fail(session: Session) -> None:
    session.add(Rater(id=new_id("rtr"), key_id="key_a", name="undone", created_at=1.0))
    session.flush()
    session.execute(text("SELECT nothing FROM nowhere"))
