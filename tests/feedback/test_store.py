import pytest
from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from feedback.migrations import downgrade, upgrade
from feedback.schema import Base, Comparison
from feedback.store import Store, page, votes
from feedback.store.comparisons import open_for
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement


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

    first, more = store.read(open_for, **query, limit=2)
    assert [pair.comparison.id for pair in first] == [ids[2], ids[1]]
    assert more
    rest, more = store.read(open_for, **query, limit=2, after=ids[1])
    assert [pair.comparison.id for pair in rest] == [ids[3]]
    assert not more
    harmless, _ = store.read(open_for, **(query | {"objective": "harmless"}), limit=10)
    assert {pair.comparison.id for pair in harmless} == set(ids)
    everything, _ = store.read(open_for, **(query | {"sees_all": True}), limit=10)
    assert foreign in {pair.comparison.id for pair in everything}
    enough, _ = store.read(open_for, **(query | {"votes_wanted": 1}), limit=10)
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
