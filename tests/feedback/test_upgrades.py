"""A record of any earlier schema is brought up to date on either database: each of its rows is there, as it was."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.orm import Session
from sqlalchemy.types import JSON, Boolean, Float, Integer

from feedback import migrations
from feedback.migrations import downgrade, upgrade
from feedback.schema import Comparison, Rater, Sample, Vote, VoteRevision
from feedback.store import Store, checks, raters, tallies, votes
from tests.feedback.record import add_comparison, sample

# What the code of the second schema left; the first one lacks `sign_ins` alone.
LEFT = Path(__file__).parents[1] / "homes" / "schema-0002" / "record.sql"
SCHEMAS = sorted(path.name[:4] for path in (Path(migrations.__file__).parent / "versions").glob("[0-9]*.py"))
# Made anew from the votes, by the cluster of each rater.
MADE_ANEW = {"tallies"}
BY_TYPE = ((Boolean, True), (Integer, 1), (Float, 0.5), (JSON, {"any": "thing"}))

Rows = list[dict[str, Any]]


def tables(connection: Connection) -> list[Table]:
    """As they are now, what is referred to before what refers to it."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def rows(connection: Connection, table: Table) -> Rows:
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def left(folder: Path) -> dict[str, Rows]:
    with sqlite3.connect(folder / "left.db") as connection:
        connection.executescript(LEFT.read_text())
    engine = create_engine(f"sqlite:///{folder / 'left.db'}")
    with engine.connect() as connection:
        found = {table.name: rows(connection, table) for table in tables(connection)}
    engine.dispose()
    return found


def made_up(connection: Connection, table: Table) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        if column.foreign_keys:
            (key,) = column.foreign_keys
            row[column.name] = connection.execute(select(key.column).order_by(key.column).limit(1)).scalar_one()
        else:
            row[column.name] = next((one for kind, one in BY_TYPE if isinstance(column.type, kind)), f"a {column.name}")
    return row


def test_every_row_stays_what_it_was(store: Store, tmp_path: Path) -> None:
    known = left(tmp_path)
    known["comparisons"][0]["answers"] = {"helpful": "1"}
    downgrade(store.engine, "base")
    before: dict[str, Rows] = {}
    for schema in SCHEMAS:
        upgrade(store.engine, schema)
        with store.engine.begin() as connection:
            there = tables(connection)
            assert before.keys() <= {table.name for table in there}
            for table in there:
                now = rows(connection, table)
                if table.name in before:
                    check_same(table.name, before[table.name], now)
                if not now:
                    connection.execute(insert(table), known.get(table.name) or [made_up(connection, table)])
                before[table.name] = now or rows(connection, table)
    assert store.read(checks.answers)[known["comparisons"][0]["id"], "helpful"] == "1"
    counted = sum(vote["state"] == "counted" for vote in known["votes"])
    assert store.read(tallies.counted) == store.read(votes.count_by_state)["counted"] == counted
    assert sum(rater.votes_counted for rater, _ in store.read(raters.list_all)) == counted


def test_of_who_was_erased_before_nothing_is_left(store: Store) -> None:
    said, line, votes_like = {"stop": ["a word"]}, {"line": "a line"}, {"reliability": 0.7}

    def leave(session: Session, pair: str, name: str, erased_at: float | None) -> None:
        """As the schema before did."""
        session.get_one(Comparison, pair).origin = line
        rater = Rater(id=name, key_id="key_a", name=name, created_at=1.0, erased_at=erased_at)
        rater.figures, rater.reliability = votes_like, 0.7
        session.add(rater)
        session.flush()
        said = {"preferred": "0", "reason": "quoted", "ideal": "quoted", "created_at": 1.0}
        of_pair = {"id": pair, "comparison_id": pair, "rater_id": name, "objective": "helpful"}
        session.add(Vote(**of_pair, **said, state="counted", revision=2, updated_at=1.0))
        session.flush()
        session.add(VoteRevision(vote_id=pair, revision=1, **said))

    for name, status, erased_at in (("kept", "complete", None), ("gone", "erased", 1.0)):
        pair = add_comparison(store, sample(id=name, sampling=said, status=status), sample(sampling=said))
        store.write(leave, pair, name, erased_at)
    downgrade(store.engine, "0010")
    upgrade(store.engine)

    def there(session: Session, name: str) -> list[Any]:
        pair = session.scalars(select(Comparison).where(Comparison.sample_0 == name)).one()
        rater = session.get_one(Rater, name)
        one, other = (session.get_one(Sample, one) for one in (pair.sample_0, pair.sample_1))
        votes = session.get_one(Vote, pair.id), session.get_one(VoteRevision, (pair.id, 1))
        by_digest = [one.prompt_digest == one.id, other.prompt_digest == other.id, pair.prompt_digest == pair.id]
        words = [word for vote in votes for word in (vote.reason, vote.ideal)]
        return [one.sampling, other.sampling, pair.origin, rater.figures, rater.reliability, by_digest, words]

    assert store.read(there, "kept") == [said, said, line, votes_like, 0.7, [False] * 3, ["quoted"] * 4]
    assert store.read(there, "gone") == [{}, said, None, None, None, [True, False, True], [None] * 4]


def test_chats_do_not_wait_for_an_upgrade_that_waits_for_who_reads(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's readers hold nobody up")
    downgrade(store.engine, "0009")
    with ThreadPoolExecutor(2) as threads:
        with store.engine.connect() as reader:
            reader.execute(text("SELECT id FROM samples"))
            upgrading = threads.submit(upgrade, store.engine)
            while not store.read(_somebody_waits):
                assert not upgrading.done()
            # It comes behind the one that waits.
            threads.submit(store.write, lambda session: session.execute(text("DELETE FROM samples"))).result(60)
            assert not upgrading.done()
        upgrading.result(60)
    assert SCHEMAS[-1] == store.read(lambda session: session.scalar(text("SELECT version_num FROM alembic_version")))


def _somebody_waits(session: Session) -> bool:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'samples'::regclass"
    return bool(session.scalar(text(waiting)))


def check_same(name: str, was: Rows, now: Rows) -> None:
    """In the columns that are there still."""
    stay = sorted(was[0].keys() & now[0].keys())
    before, after = (sorted(repr([row[column] for column in stay]) for row in when) for when in (was, now))
    assert name in MADE_ANEW or after == before, name
