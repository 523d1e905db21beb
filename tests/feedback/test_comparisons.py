import random
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from feedback.errors import NotFound
from feedback.store import Store, checks, comparisons, raters, samples, votes
from feedback.store.comparisons import hand_out
from feedback.worker import count_all
from tests.feedback.record import MESSAGES, add_comparison, handed_in_order, judgement, sample
from tests.records import empty_record

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}
QUERY = ANN | {"objective": "helpful", "votes_wanted": 2}


def ids(pairs: list[comparisons.Pair]) -> list[str]:
    return [pair.comparison.id for pair in pairs]


def test_what_the_models_disagree_about_comes_first_and_unseen_pairs_before(store: Store) -> None:
    # Not in the order in which they were made, in which they come where nothing is known of them.
    high, low, unseen, voted = (add_comparison(store) for _ in range(4))
    store.write(comparisons.set_disagreement, {low: 0.1, high: 0.6, voted: 0.9, "cmp_none": 0.5})
    store.write(votes.put, voted, judgement(), key_id="key_a", sees_all=False, rater="bob")
    count_all(store)
    pairs, more = handed_in_order(store, **QUERY, limit=10)
    assert (ids(pairs), more) == ([unseen, high, low, voted], False)
    walked, after = [], None
    while True:
        page, more = handed_in_order(store, **QUERY, limit=1, after=after)
        walked += ids(page)
        if not more:
            break
        after = walked[-1]
    assert walked == ids(pairs)


def test_pages_hold_own_and_imported_pairs_in_one_order(store: Store) -> None:
    made = [add_comparison(store, key_id=key) for key in ("key_a", "import", "key_b", "key_a", "import")]
    visible = [id_ for id_ in reversed(made) if id_ != made[2]]
    assert ids(handed_in_order(store, **QUERY, limit=10)[0]) == visible
    listed, more = store.read(comparisons.list_all, **ANN, limit=3, after=None, order="desc")
    assert (ids(listed), more) == (visible[:3], True)
    rest, more = store.read(comparisons.list_all, **ANN, limit=3, after=visible[2], order="desc")
    assert (ids(rest), more) == (visible[3:], False)
    whole, more = store.read(comparisons.list_all, **ANN, limit=4, after=None, order="desc")
    assert (ids(whole), more) == (visible, False)
    for id_ in made:
        if id_ in visible:
            assert store.read(comparisons.get, id_, key_id="key_a", sees_all=False).comparison.id == id_
        else:
            with pytest.raises(NotFound):
                store.read(comparisons.get, id_, key_id="key_a", sees_all=False)
    for _ in range(2):
        add_comparison(store)
    # Of the own ones another one follows, of the imported ones none.
    assert store.read(comparisons.list_all, **ANN, limit=1, after=made[4], order="asc")[1]


@pytest.mark.parametrize("page", ["first", "later"])
def test_who_waits_for_a_rater_to_be_handed_pairs_holds_none(store: Store, page: str) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    pairs = [add_comparison(store) for _ in range(3)]
    store.write(raters.find_or_create, "key_a", "ann")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def erase(session: Session) -> Future[Any]:
        """Holds a rater, then pairs."""
        raters.find(session, "key_a", "ann", lock=raters.WHILE_ERASED)
        handing = threads.submit(handed_in_order, store, **QUERY, limit=2, after=None if page == "first" else pairs[-1])
        while not store.read(lambda other: other.scalar(text(waits))):
            assert not handing.done()
        held = session.scalars(text("SELECT id FROM comparisons FOR UPDATE SKIP LOCKED"))
        assert sorted(held) == pairs
        return handing

    with ThreadPoolExecutor(1) as threads:
        handed, _ = store.write(erase).result()
    assert ids(handed) == (pairs[:0:-1] if page == "first" else pairs[1::-1])


def test_twice_the_same_reply_asks_nobody_for_a_vote_and_takes_one(store: Store) -> None:
    same = add_comparison(store, sample("5"), sample("5", version=1))
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}
    other = add_comparison(store, sample("", message=call), sample("", message=call | {"tool_calls": []}))
    assert ids(handed_in_order(store, **QUERY, limit=10)[0]) == [other]
    store.write(votes.put, same, judgement("tie"), **ANN)
    assert count_all(store) == 1


def test_what_others_said_of_a_pair_neither_closes_nor_reveals_it(store: Store) -> None:
    pair = add_comparison(store)
    bob = ANN | {"rater": "bob"}
    store.write(votes.put, pair, judgement(), **bob)
    store.write(votes.put, add_comparison(store), judgement(), **ANN)
    count_all(store)

    def seen_by(who: str) -> comparisons.Pair:
        rater = store.read(raters.find, "key_a", who)
        return store.read(comparisons.get, pair, key_id="key_a", sees_all=False, rater_id=rater)

    assert (seen_by("ann").votes, seen_by("ann").revealed) == ((), False)
    assert (len(seen_by("bob").votes), seen_by("bob").revealed) == (1, True)
    assert pair in ids(handed_in_order(store, **QUERY, limit=10)[0])
    assert pair not in ids(handed_in_order(store, **(QUERY | {"rater": "bob"}), limit=10)[0])
    assert pair in ids(handed_in_order(store, **(QUERY | {"rater": "bob", "objective": "harmless"}), limit=10)[0])
    store.write(votes.retract, pair, None, **bob)
    assert not seen_by("bob").revealed


def test_the_propensity_of_each_place_by_hand(store: Store) -> None:
    made = [add_comparison(store) for _ in range(4)]
    store.write(comparisons.set_disagreement, {id_: rank / 10 for rank, id_ in enumerate(made)})
    for seed in range(8):
        rater = f"r{seed}"
        page, _ = store.write(
            hand_out, **(QUERY | {"rater": rater}), limit=3, uniform_share=0.4, rng=random.Random(seed)
        )
        left, expected = list(reversed(made)), []
        for id_, share in zip(ids(page), (0.4, 0.4, 0.0), strict=True):
            expected.append(share / len(left) + (1 - share) * (id_ == left[0]))
            left.remove(id_)
        said = [store.write(votes.put, id_, judgement(), **(ANN | {"rater": rater})).id for id_ in ids(page)]
        found = [store.read(votes.get, id_, key_id="key_a", sees_all=False).propensity for id_ in said]
        assert found == pytest.approx(expected)


def test_a_share_is_drawn_uniformly_and_the_vote_carries_the_propensity(store: Store) -> None:
    made = [add_comparison(store) for _ in range(4)]
    store.write(comparisons.set_disagreement, {id_: rank / 10 for rank, id_ in enumerate(made)})
    best, rng, handed = made[-1], random.Random(1), Counter[str]()
    propensities: dict[str, float] = {}

    def many(session: object) -> None:
        for _ in range(200):
            (pair,), more = hand_out(session, **QUERY, limit=1, uniform_share=0.4, rng=rng)
            handed[pair.comparison.id] += 1
            assert more

    store.write(many)
    expected = {id_: 0.1 + 0.6 * (id_ == best) for id_ in made}
    assert {id_: handed[id_] / 200 for id_ in made} == pytest.approx(expected, abs=0.06)
    for comparison_id in made:
        vote = store.write(votes.put, comparison_id, judgement(), **ANN)
        propensities[comparison_id] = store.read(votes.get, vote.id, key_id="key_a", sees_all=False).propensity
    assert propensities == pytest.approx(expected)
    assert store.write(hand_out, **QUERY, limit=5, uniform_share=0.4) == ([], False)
    elsewhere = store.write(votes.put, best, judgement(), **(ANN | {"rater": "carl"}))
    assert store.read(votes.get, elsewhere.id, key_id="key_a", sees_all=False).propensity is None


def test_a_page_handed_out_holds_each_pair_once_and_ends_with_an_informative_one(store: Store) -> None:
    made = [add_comparison(store) for _ in range(8)]
    for seed in range(30):
        pairs, more = store.write(hand_out, **QUERY, limit=5, uniform_share=0.9, rng=random.Random(seed))
        assert len(set(ids(pairs))) == 5
        assert set(ids(pairs)) <= set(made)
        assert more
    everything, more = store.write(hand_out, **QUERY, limit=20, uniform_share=0.5)
    assert set(ids(everything)) == set(made)
    assert not more


def test_the_number_of_open_pairs_is_estimated_from_their_draws(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "COUNTED_EXACTLY", 100)
    for _ in range(300):
        add_comparison(store)
    wanted = comparisons._Wanted((None,), None, "helpful", 1)
    # By the hundredth draw: five standard deviations.
    assert store.read(comparisons._count_at, wanted, 0, None) == pytest.approx(300, rel=0.6)


def test_a_repeat_shows_the_same_pair_swapped(store: Store) -> None:
    first = add_comparison(store)
    store.write(checks.set_answer, first, "helpful", "0")
    repeat = store.write(checks.repeat_of, first)
    original, again = (store.read(comparisons.get, id_, key_id="key_a", sees_all=False) for id_ in (first, repeat.id))
    assert [side.id for side in again.samples] == [side.id for side in reversed(original.samples)]
    assert (again.comparison.repeat_of, again.comparison.is_open) == (first, False)
    assert (again.comparison.version_0, again.comparison.version_1) == (1, 0)
    with pytest.raises(NotFound):
        store.write(checks.set_answer, "cmp_none", "helpful", "0")


def test_a_conversation_knows_the_sample_it_goes_on_with(store: Store) -> None:
    chosen = sample("It is 5.")
    add_comparison(store, chosen, sample("It is 6.", version=1))
    onward = [*MESSAGES, {"role": "assistant", "content": "It is 5."}, {"role": "user", "content": "Sure?"}]
    for later, parent in (
        (sample("Yes", messages=onward), chosen.id),
        (sample("Yes", messages=onward, key_id="key_b"), None),
        (sample("Yes", messages=[*MESSAGES, onward[1] | {"content": "It is 7."}, onward[2]]), None),
        (sample("5"), None),
    ):
        store.write(samples.add, [later])
        assert store.read(samples.get, later.id).parent == parent


def test_a_page_of_all_pairs_is_read_from_an_index_and_not_sorted(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    add_comparison(store)
    plans: list[str] = []

    def explain(connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT comparisons.id"):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    event.listen(store.engine, "before_cursor_execute", explain)
    for sees_all in (True, False):
        who = {"key_id": "key_a", "sees_all": sees_all, "rater": ""}
        found, _ = store.read(comparisons.list_all, **who, limit=20, after=None, order="desc")
        assert len(found) == 1
    assert plans
    assert not [step for step in plans if "TEMP B-TREE" in step]
    store.close()


def test_a_list_goes_on_where_it_stood_whatever_was_voted_since(store: Store) -> None:
    made = [add_comparison(store) for _ in range(9)]
    newest_first = list(reversed(made))
    wanted = QUERY | {"votes_wanted": 1, "limit": 3}
    first, _ = store.write(hand_out, **wanted, uniform_share=0.0)
    walked = ids(first)
    while True:
        # All of the page is judged before the next one is asked for, as a program would; then a model sees the pairs.
        for id_ in walked[-3:]:
            store.write(votes.put, id_, judgement(), **(ANN | {"rater": "bob" if id_ == walked[0] else "ann"}))
        count_all(store)
        store.write(comparisons.set_disagreement, {walked[-1]: 0.0})
        page, more = store.write(comparisons.hand_on, **wanted, after=walked[-1])
        walked += ids(page)
        if not more:
            break
    assert walked == newest_first


def test_a_later_page_keeps_how_probable_a_pair_was_when_it_was_drawn(store: Store) -> None:
    oldest, *_ = [add_comparison(store) for _ in range(4)]
    drawn = []
    while oldest not in drawn:
        first, _ = store.write(hand_out, **QUERY, limit=2, uniform_share=1.0)
        drawn = ids(first)
    later, more = store.write(comparisons.hand_on, **QUERY, limit=9, after=drawn[-1])
    assert oldest in ids(later) and not more, "it comes again where it stands"
    said = []
    for id_ in (oldest, ids(later)[0]):
        vote = store.write(votes.put, id_, judgement(), **ANN)
        said.append(store.read(votes.get, vote.id, key_id="key_a", sees_all=False).propensity)
    assert said[0] == 0.25
    assert said[1] in (0.25, 1.0), "drawn before, or only listed"


def test_postgres_plans_what_hangs_on_the_rater_or_the_key_for_the_one_at_hand(store: Store) -> None:
    """With the plan that it keeps for any rater, one who had judged nearly all of 8,000 pairs waited 30 times as long
    from their sixth hand-out on. With that for any key, all older pairs were read for a page of few."""
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite plans a statement for any values")
    add_comparison(store)
    for _ in range(12):
        store.write(hand_out, **QUERY, limit=5, uniform_share=0.4)
        store.read(votes.cast_since, "rtr_x", 1.0)
        for after in (None, "cmp_0"):
            store.read(
                comparisons.list_all, key_id="key_b", sees_all=False, rater="", limit=5, after=after, order="desc"
            )
    kept = text("SELECT statement, generic_plans FROM pg_prepared_statements WHERE statement ~ 'comparisons|count'")
    plans = {row.statement: row.generic_plans for row in store.read(lambda session: session.execute(kept).all())}
    assert any("count(*)" in statement for statement in plans)
    assert not any(plans.values())


@pytest.mark.parametrize("sees_all", [True, False])
def test_open_pairs_are_counted_as_they_are_handed_out(store: Store, sees_all: bool) -> None:
    pairs = [add_comparison(store, key_id=key_id) for key_id in ("key_a", "key_a", "import", "key_b")]
    for pair, rater, objective in ((0, "ann", "helpful"), (1, "bob", "harmless"), (1, "ann", "harmless")):
        who = {"key_id": "key_a", "sees_all": True, "rater": rater}
        store.write(votes.put, pairs[pair], judgement(objective=objective), **who)
    count_all(store)
    who = {"key_id": "key_a", "sees_all": sees_all, "votes_wanted": 2}
    for rater in ("ann", "bob", "nobody"):
        rater_id = store.read(raters.find, "key_a", rater)
        found = store.read(comparisons.count_open, **who, rater_id=rater_id)
        for objective, count in found.items():
            listed, _ = handed_in_order(store, **who, rater=rater, objective=objective, limit=9)
            assert count == len(listed)
    assert store.read(comparisons.count_wanted, votes_wanted=2) == 3
    assert store.read(comparisons.count_wanted, votes_wanted=3) == 4


def test_where_all_open_pairs_are_handed_out_none_is_looked_for(store: Store) -> None:
    """A rater who judged nearly all pairs: what looks for the few that are left reads all of them."""
    for _ in range(3):
        add_comparison(store)
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    for limit, looks in ((3, False), (2, True)):
        who = {"key_id": "key_a", "sees_all": True, "rater": "ann", "objective": "helpful", "votes_wanted": 2}
        pairs, more = store.write(hand_out, **who, limit=limit, uniform_share=0.5)
        assert (len(pairs), more) == (limit, looks)
        assert any("ORDER BY comparisons.draw" in statement for statement in asked) == looks
