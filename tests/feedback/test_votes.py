import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from feedback.errors import NotFound
from feedback.store import Store, comparisons, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement

ME = {"key_id": "key_a", "sees_all": False, "rater": "ann"}


def votes_counted(store: Store, comparison_id: str) -> int:
    return store.read(comparisons.get, comparison_id, key_id="", sees_all=True).comparison.votes_counted


def test_the_same_vote_again_answers_the_same(store: Store) -> None:
    comparison_id = add_comparison(store)
    first = store.write(votes.put, comparison_id, judgement(), **ME)
    again = store.write(votes.put, comparison_id, judgement(), **ME)
    assert (again.id, again.revision, again.state) == (first.id, 1, "accepted")


def test_a_different_vote_replaces_and_keeps_the_history(store: Store) -> None:
    comparison_id = add_comparison(store)
    first = store.write(votes.put, comparison_id, judgement("0"), **ME)
    assert count_all(store) == 1
    changed = store.write(votes.put, comparison_id, judgement("tie", reason="equal"), **ME)
    assert (changed.id, changed.revision, changed.state, changed.preferred) == (first.id, 2, "accepted", "tie")
    assert votes_counted(store, comparison_id) == 0
    assert count_all(store) == 1
    assert votes_counted(store, comparison_id) == 1
    said = [(revision.revision, revision.preferred) for revision in store.read(votes.history, first.id)]
    assert said == [(1, "0"), (2, "tie")]


def test_each_objective_has_its_own_vote(store: Store) -> None:
    comparison_id = add_comparison(store)
    ids = {store.write(votes.put, comparison_id, judgement(objective=o), **ME).id for o in ("helpful", "harmless")}
    assert len(ids) == 2
    assert count_all(store) == 2
    assert votes_counted(store, comparison_id) == 2


def test_a_hundred_at_once_are_one(store: Store) -> None:
    comparison_id = add_comparison(store)
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(store.write(votes.put, comparison_id, judgement(), **ME).id))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 100
    assert len(set(ids)) == 1
    assert count_all(store) == 1
    assert votes_counted(store, comparison_id) == 1


def test_two_workers_count_each_vote_once(store: Store) -> None:
    ids = [add_comparison(store) for _ in range(60)]
    for comparison_id in ids:
        store.write(votes.put, comparison_id, judgement(), **ME)
    counted: list[int] = []
    threads = [threading.Thread(target=lambda: counted.append(count_all(store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 60
    assert {votes_counted(store, comparison_id) for comparison_id in ids} == {1}


def test_retracting(store: Store) -> None:
    comparison_id = add_comparison(store)
    vote = store.write(votes.put, comparison_id, judgement(), **ME)
    count_all(store)
    for _ in range(2):
        (retracted,) = store.write(votes.retract, comparison_id, None, **ME)
        assert (retracted.id, retracted.state, retracted.revision) == (vote.id, "retracted", 2)
    assert votes_counted(store, comparison_id) == 0
    again = store.write(votes.put, comparison_id, judgement(), **ME)
    assert (again.state, again.revision) == ("accepted", 3)


def test_unknown_and_foreign_comparisons(store: Store) -> None:
    comparison_id = add_comparison(store, key_id="key_b")
    for target in (comparison_id, "cmp_none"):
        with pytest.raises(NotFound, match=target):
            store.write(votes.put, target, judgement(), **ME)
    assert store.write(votes.put, comparison_id, judgement(), **(ME | {"sees_all": True})).state == "accepted"
    with pytest.raises(NotFound):
        store.write(votes.retract, comparison_id, None, **ME)


def test_a_vote_is_seen_with_its_own_key_only(store: Store) -> None:
    vote = store.write(votes.put, add_comparison(store), judgement(), **ME)
    assert store.read(votes.get, vote.id, key_id="key_a", sees_all=False).id == vote.id
    with pytest.raises(NotFound):
        store.read(votes.get, vote.id, key_id="key_b", sees_all=False)


def test_counts_by_state_and_age(store: Store) -> None:
    assert store.read(votes.oldest_accepted_at) is None
    vote = store.write(votes.put, add_comparison(store), judgement(), **ME)
    assert store.read(votes.oldest_accepted_at) == vote.updated_at
    assert store.read(votes.count_by_state) == {"accepted": 1}
    count_all(store)
    assert store.read(votes.count_by_state) == {"counted": 1}
    assert store.read(votes.counted_since, 0.0) == 1


def test_a_backlog_is_counted_from_an_index_and_not_sorted_anew_for_each_batch(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    store.migrate()
    plans: list[str] = []

    def explain(connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT votes.id"):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    event.listen(store.engine, "before_cursor_execute", explain)
    assert count_all(store) == 0
    assert "SCAN votes USING INDEX ix_votes_accepted" in plans
    assert not [step for step in plans if "TEMP B-TREE" in step]
    store.close()


def test_a_new_rater_may_vote_on_many_pairs_at_once(store: Store) -> None:
    for number in range(5):
        new, made = ME | {"rater": f"new-{number}"}, []
        ready = threading.Barrier(12)

        def vote(comparison_id: str, who: dict[str, object] = new, made: list[str] = made) -> None:
            ready.wait()  # noqa: B023
            made.append(store.write(votes.put, comparison_id, judgement(), **who).rater_id)

        threads = [threading.Thread(target=vote, args=(add_comparison(store),)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 12
        assert len(set(made)) == 1
