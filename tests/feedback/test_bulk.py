"""Rows inserted at once are the same as those inserted one by one, on both databases."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from feedback.schema import Comparison, Rater, Sample
from feedback.store import Store, bulk

TEXTS = ["", "null", 'a "quoted" \\ word', "línea\nnext\ttab \u2028 🙂", "{1,2}", "\\N", "'; DROP TABLE votes"]


def row(number: int, text: str) -> dict[str, object]:
    return {
        "id": f"smp_{number}", "key_id": "key_a", "user": None, "messages": [{"role": "user", "content": text}],
        "prompt_digest": text, "text": text, "message": {"content": text, "n": [1, 2.5, None]}, "logprobs": None,
        "sampling": {}, "seed": 2**62, "version_first": None, "version_last": number, "status": "complete",
        "created_at": 1764192000.123456,
    }  # fmt: skip


def test_what_is_inserted_at_once_is_read_back_as_it_was(store: Store) -> None:
    rows = [row(number, text) for number, text in enumerate(TEXTS)]
    store.write(bulk.insert_all, Sample, rows)
    found = store.read(lambda session: list(session.scalars(select(Sample).order_by(Sample.id))))
    assert [{name: getattr(sample, name) for name in rows[0]} for sample in found] == rows
    assert all(sample.token_ids is None and sample.finished_at is None for sample in found)
    pair = {
        "id": "cmp_0", "key_id": "key_a", "sample_0": "smp_0", "sample_1": "smp_1", "version_0": 0, "version_1": 1,
        "prompt_digest": "d", "tranche": "online", "votes_counted": 0, "draw": 0.25, "created_at": 1.0,
    }  # fmt: skip
    store.write(bulk.insert_all, Comparison, [pair])
    comparison = store.read(lambda session: session.scalars(select(Comparison)).one())
    assert (comparison.is_open, comparison.disagreement, comparison.draw) == (True, 1.0, 0.25)


def test_rows_that_are_there_already(store: Store) -> None:
    ann = {"id": "rtr_1", "key_id": "key_a", "name": "ann", "created_at": 1.0}
    bob = ann | {"id": "rtr_2", "name": "bob"}
    store.write(bulk.insert_all, Rater, [ann])
    with pytest.raises(IntegrityError):
        store.write(bulk.insert_all, Rater, [bob, ann])
    store.write(bulk.insert_all, Rater, [bob, ann | {"created_at": 2.0}], known_stay=True)
    store.write(bulk.insert_all, Rater, [])
    found = store.read(lambda session: list(session.execute(select(Rater.id, Rater.created_at, Rater.votes_counted))))
    assert sorted(map(tuple, found)) == [("rtr_1", 1.0, 0), ("rtr_2", 1.0, 0)]
