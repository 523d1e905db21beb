from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from feedback.copying import copy
from feedback.errors import Conflict
from feedback.migrations import downgrade, upgrade
from feedback.schema import Base, Comparison, Tally
from feedback.store import Store, checks, iterations, keys, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement
from tests.records import empty_record

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}


def fill(store: Store) -> None:
    store.write(keys.create, "vote")
    first = add_comparison(store)
    store.write(checks.repeat_of, first)
    store.write(votes.put, first, judgement(reason="é", elapsed_s=1.5), **ANN)
    count_all(store)
    store.write(votes.put, first, judgement("1"), **ANN)
    store.write(iterations.start, trigger="operator", seed=1, settings={"a": [1, None]})


def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    # A tally of nothing says what none says.
    store.write(lambda session: session.execute(delete(Tally).where(Tally.votes == 0)))
    return {
        table.name: store.read(
            lambda session, table=table: [
                tuple(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))
            ]
        )
        for table in Base.metadata.sorted_tables
    }


def test_a_record_moves_there_and_back(store: Store, tmp_path: Path) -> None:
    origin, back = empty_record(tmp_path / "origin.db"), Store(f"sqlite:///{tmp_path / 'back.db'}")
    fill(origin)
    filled = everything(origin)
    told: dict[str, int | None] = {}

    def tell(table: str, done: int, of: int | None) -> None:
        assert told.setdefault(table, of) == of and done <= (of or 0), table

    rows = copy(origin, store, tell)
    assert rows == sum(count or 0 for count in told.values()) == sum(len(rows) for rows in filled.values())
    assert told["votes"] == 1
    assert told["vote_revisions"] == 1
    assert everything(store) == everything(origin)
    copy(store, back)
    assert everything(back) == everything(origin)
    # What the target numbers itself goes on after what was copied.
    assert count_all(store) == 1
    iteration = store.read(iterations.active)
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    store.write(iterations.tell, iteration.id, epoch, "hello", {})
    seqs = [event.seq for event in store.read(iterations.events_after, iteration.id, 0)]
    assert seqs == sorted(set(seqs))
    for used in (origin, back):
        used.close()


def test_nothing_is_copied_over_what_is_there(store: Store, tmp_path: Path) -> None:
    origin = empty_record(tmp_path / "origin.db")
    fill(origin)
    store.write(keys.create, "chat")
    with pytest.raises(Conflict, match="holds rows"):
        copy(origin, store)
    assert store.read(votes.count_by_state) == {}
    origin.close()


@pytest.mark.parametrize("to", ["sqlite", "postgres"])
def test_a_copy_that_is_cut_off_leaves_nothing_that_could_be_taken_for_a_record(
    tmp_path: Path, request: pytest.FixtureRequest, to: str
) -> None:
    url = (
        f"sqlite:///{tmp_path / 'target.db'}" if to == "sqlite" else request.getfixturevalue("postgres").new_database()
    )
    origin, target = empty_record(tmp_path / "origin.db"), Store(url)
    fill(origin)

    def interrupt(table: str, done: int, _of: int | None) -> None:
        if table == "votes" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(origin, target, interrupt)
    assert target.is_blank()
    copy(origin, target)
    assert everything(target) == everything(origin)
    for used in (origin, target):
        used.close()


def test_migrations_go_down_and_up_on_data(store: Store) -> None:
    fill(store)
    kept = everything(store)
    downgrade(store.engine, "0001")
    upgrade(store.engine)
    # What came with a later schema goes with it.
    assert everything(store) == kept | {"audit": []}
    downgrade(store.engine, "base")
    upgrade(store.engine)
    assert store.read(votes.count_by_state) == {}


def test_a_repeat_whose_clock_was_behind_is_copied_after_its_original(store: Store, tmp_path: Path) -> None:
    origin = empty_record(tmp_path / "origin.db")
    repeat = origin.write(checks.repeat_of, add_comparison(origin)).id
    origin.write(lambda session: session.execute(update(Comparison).where(Comparison.id == repeat).values(id="cmp_0")))
    copy(origin, store)
    assert everything(store)["comparisons"] == everything(origin)["comparisons"]
    origin.close()
