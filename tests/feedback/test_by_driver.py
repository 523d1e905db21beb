"""What SQLite's driver writes alone is what SQLAlchemy would have written."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback.ids import new_id
from feedback.schema import Sample
from feedback.store import Store, samples
from tests.feedback.record import sample
from tests.records import empty_record

CONVERSATION = [
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "And 3 more?"},
]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Store]:
    store = empty_record(tmp_path / "record.db", flushes=False)
    yield store
    store.close()


def by_driver(store: Store, *args: Any) -> None:
    def otherwise(_: object) -> None:
        raise AssertionError("the driver did not")

    store.write_swiftly(otherwise, lambda driver: samples.add_by_driver(driver, *args))


def rows_of(store: Store, table: str, ids: list[str]) -> list[dict[str, Any]]:
    """As they lie in the database, with how each value is kept."""
    with sqlite3.connect(store.engine.url.database) as connection:
        connection.row_factory = sqlite3.Row
        found = [connection.execute(f"SELECT * FROM {table} WHERE id = ?", [row]).fetchone() for row in ids]
    return [{name: (type(row[name]), row[name]) for name in row.keys()} for row in found]  # noqa: SIM118


def test_both_ways_write_the_same(record: Store) -> None:
    written = []
    for write in (lambda left, right, pair: record.write(samples.add, (left, right), [pair]),
                  lambda left, right, pair: by_driver(record, [left, right], [pair])):  # fmt: skip
        left = sample("5 \N{SNOWMAN}", message=None, token_ids=None, logprobs=None, user="ann", finished_at=None)
        right = sample("six", version=1, usage={"prompt_tokens": 3}, prompt_tokens=3, reply_tokens=4, seed=2**40)
        pair = samples.compare((left, right), key_id="key_a", tranche="online")
        write(left, right, pair)
        rows = [*rows_of(record, "samples", [left.id, right.id]), *rows_of(record, "comparisons", [pair.id])]
        kind, draw = rows[2].pop("draw")
        assert kind is float and 0 <= draw < 1
        names = {left.id: "left", right.id: "right", pair.id: "pair"}
        written.append([{name: (kind, names.get(value, value)) for name, (kind, value) in row.items()} for row in rows])
    assert written[0] == written[1]


def test_the_reply_that_a_conversation_went_on_with_is_its_parent(record: Store) -> None:
    said, other = sample("5"), sample("Five.")
    by_driver(record, [said, other], [])
    # As they come together, with the same words to the same prompt.
    own, of_another_key = sample("8", messages=CONVERSATION), sample("8", messages=CONVERSATION, key_id="key_b")
    by_driver(record, [own, of_another_key], [])
    asked = lambda session: {row.id: row.parent for row in session.query(Sample)}  # noqa: E731
    assert record.read(asked) == {said.id: None, other.id: None, own.id: said.id, of_another_key.id: None}


def test_what_fails_is_undone_and_raised_as_ever(record: Store) -> None:
    good, again = sample("5"), sample("6")
    again.id = good.id
    with pytest.raises(AssertionError, match="the driver did not"):
        by_driver(record, [good, again], [])
    assert record.read(lambda session: session.query(Sample).count()) == 0
    orphan = samples.compare((good, sample(id=new_id("smp"))), key_id="key_a", tranche="online")
    with pytest.raises(AssertionError, match="the driver did not"):
        by_driver(record, [good], [orphan])
    assert record.read(lambda session: session.query(Sample).count()) == 0
    by_driver(record, [good], [])
    assert record.read(lambda session: session.query(Sample).count()) == 1
