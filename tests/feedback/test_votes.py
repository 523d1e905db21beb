import threading
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from feedback import setting_apart
from feedback.errors import Conflict, NotFound
from feedback.store import Store, comparisons, counting, erasure, raters, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record

ME = {"key_id": "key_a", "sees_all": False, "rater": "ann"}


def votes_counted(store: Store, comparison_id: str) -> int:
    return store.read(comparisons.get, comparison_id, key_id="", sees_all=True).comparison.votes_counted


def test_the_same_vote_again_answers_the_same(store: Store) -> None:
    comparison_id = add_comparison(store)
    first = store.write(votes.put, comparison_id, judgement(), **ME)
    again = store.write(votes.put, comparison_id, judgement(), **ME)
    assert (again.id, again.revision, again.state) == (first.id, 1, "accepted")


def test_a_first_vote_is_one_statement_and_anything_else_is_left_to_put(store: Store) -> None:
    first, second = add_comparison(store), add_comparison(store)
    assert store.write_once(votes.put_first, first, judgement(), **ME) is None, "nobody knows this rater yet"
    known = store.write(votes.put, first, judgement(), **ME)
    assert store.write_once(votes.put_first, first, judgement("1"), **ME) is None, "they have voted"
    said: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: said.append(statement))
    vote = store.write_once(votes.put_first, second, judgement(), **ME)
    assert vote is not None
    assert len(said) == 1
    # Durable, and in a transaction of its own: another connection sees it.
    other = Store(store.engine.url.render_as_string(hide_password=False))
    assert other.read(votes.get, vote.id, key_id="key_a", sees_all=False).rater_id == known.rater_id
    other.close()
    assert store.read(votes.history, known.id)[-1].preferred == "0"


def test_the_oldest_accepted_votes_are_counted_and_no_others(store: Store) -> None:
    pairs = [add_comparison(store) for _ in range(4)]
    cast = [store.write(votes.put, pair, judgement(), **ME).id for pair in pairs]

    def states() -> list[str]:
        return [store.read(votes.get, id_, key_id="key_a", sees_all=False).state for id_ in cast]

    (retracted,) = store.write(votes.retract, pairs[0], None, **ME)
    # Changed, and so the newest.
    store.write(votes.put, pairs[1], judgement("1"), **ME)
    assert store.write(counting.count_accepted, 2) == 2
    assert states() == ["retracted", "accepted", "counted", "counted"]
    ann = retracted.rater_id
    assert setting_apart.quarantine(store, ann, "a robot") == 3
    assert states() == ["retracted", *["quarantined"] * 3]
    late = store.write(votes.put, add_comparison(store), judgement(), **ME)
    bob = store.write(votes.put, add_comparison(store), judgement(), **(ME | {"rater": "bob"}))
    assert count_all(store) == 2
    cast += [late.id, bob.id]
    assert states() == ["retracted", *["quarantined"] * 4, "counted"]
    counted_at = [store.read(votes.get, id_, key_id="key_a", sees_all=False).counted_at for id_ in cast[-2:]]
    assert [at is not None for at in counted_at] == [False, True]
    assert setting_apart.release(store, ann) == 4
    assert states() == ["retracted", *["accepted"] * 4, "counted"]
    assert count_all(store) == 4
    assert states() == ["retracted", *["counted"] * 5]


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


def test_a_change_and_a_retraction_concern_one_vote_alone(store: Store) -> None:
    comparison_id = add_comparison(store)
    cast = {
        (rater, objective): store.write(
            votes.put, comparison_id, judgement("0", objective=objective), **(ME | {"rater": rater})
        ).id
        for rater in ("ann", "bob")
        for objective in ("helpful", "harmless")
    }
    changed = store.write(votes.put, comparison_id, judgement("1", objective="helpful"), **ME)
    assert changed.id == cast["ann", "helpful"]
    (gone,) = store.write(votes.retract, comparison_id, "harmless", **(ME | {"rater": "bob"}))
    assert gone.id == cast["bob", "harmless"]
    said = {
        whose: [revision.preferred for revision in store.read(votes.history, vote_id)]
        for whose, vote_id in cast.items()
    }
    assert said == {
        ("ann", "helpful"): ["0", "1"], ("ann", "harmless"): ["0"],
        ("bob", "helpful"): ["0"], ("bob", "harmless"): ["0", None],
    }  # fmt: skip
    store.write(votes.put, add_comparison(store), judgement(), **(ME | {"rater": "eve"}))
    with pytest.raises(NotFound):
        store.write(votes.retract, comparison_id, None, **(ME | {"rater": "eve"}))


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


def test_a_vote_does_not_wait_until_others_on_its_pair_and_of_its_rater_are_counted(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    comparison_id = add_comparison(store)
    store.write(votes.put, comparison_id, judgement(), **ME)
    put = threading.Event()

    def count(session: Session) -> int:
        counted = counting.count_accepted(session)
        other = threading.Thread(target=lambda: (vote(), put.set()))
        other.start()
        assert put.wait(60), "it waits for this transaction"
        other.join()
        return counted

    def vote() -> None:
        store.write_once(votes.put_first, comparison_id, judgement(objective="harmless"), **ME)

    assert store.write(count) == 1
    assert store.write(counting.count_accepted) == 1
    assert votes_counted(store, comparison_id) == 2


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


def test_a_vote_on_texts_that_were_erased_is_refused(store: Store) -> None:
    judged, other = (add_comparison(store, sample("Yes.", user="carl")) for _ in range(2))
    same = add_comparison(store, sample("Yes."), sample("Yes."))
    cast = store.write(votes.put, judged, judgement(), **ME)
    carl = store.write(raters.find_or_create, "key_a", "carl")
    store.write(erasure.erase, carl)
    # Sent again, since its answer did not come: it is the one that stands.
    assert store.write(votes.put, judged, judgement(), **ME).revision == 1
    assert store.write_once(votes.put_first, other, judgement(), **ME) is None
    for pair, said in ((judged, judgement("1")), (other, judgement())):
        with pytest.raises(Conflict, match="erased"):
            store.write(votes.put, pair, said, **ME)
    with pytest.raises(Conflict, match="erased"):
        store.write(votes.put, other, judgement(), **(ME | {"rater": "bob"}))
    assert store.read(raters.find, "key_a", "bob") is None
    assert store.read(votes.history, cast.id)[-1].preferred == "0"
    store.write(votes.retract, judged, None, **ME)
    with pytest.raises(Conflict, match="erased"):
        store.write(votes.put, judged, judgement(), **ME)
    assert store.read(votes.get, cast.id, key_id="key_a", sees_all=False).state == "retracted"
    # Twice the same reply asks for no votes either, and is judged all the same.
    assert store.write_once(votes.put_first, same, judgement("tie", None), **ME) is None, "it is closed, too"
    assert store.write(votes.put, same, judgement("tie", None), **ME).state == "accepted"


def test_a_vote_is_seen_with_its_own_key_only(store: Store) -> None:
    vote = store.write(votes.put, add_comparison(store), judgement(), **ME)
    assert store.read(votes.get, vote.id, key_id="key_a", sees_all=False).id == vote.id
    with pytest.raises(NotFound):
        store.read(votes.get, vote.id, key_id="key_b", sees_all=False)


def test_of_two_raters_of_one_name_the_one_of_the_key_has_voted(store: Store) -> None:
    pairs = [add_comparison(store) for _ in range(3)]
    mine = store.write(votes.put, pairs[0], judgement(), **ME)
    theirs = store.write(votes.put, add_comparison(store, key_id="key_b"), judgement(), **(ME | {"key_id": "key_b"}))
    assert theirs.rater_id != mine.rater_id
    later = [store.write(votes.put, pair, judgement(), **ME) for pair in pairs[1:]]
    assert {vote.rater_id for vote in later} == {mine.rater_id}
    assert store.read(votes.cast_since, theirs.rater_id, 0.0) == 1
    store.write(votes.retract, pairs[0], None, **ME)
    assert [store.read(votes.cast_since, mine.rater_id, at) for at in (0.0, later[1].created_at)] == [2, 1]


def test_counts_by_state_and_age(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.read(votes.oldest_uncounted_age_s) is None
    vote = store.write(votes.put, add_comparison(store), judgement(), **ME)
    monkeypatch.setattr(votes, "now", lambda _: vote.updated_at + 7)
    assert store.read(votes.oldest_uncounted_age_s) == pytest.approx(7)
    assert store.read(votes.count_by_state) == {"accepted": 1}
    count_all(store)
    assert store.read(votes.count_by_state) == {"counted": 1}
    assert store.read(votes.counted_since, 0.0) == 1


def test_a_backlog_is_counted_from_an_index_and_not_sorted_anew_for_each_batch(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
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
