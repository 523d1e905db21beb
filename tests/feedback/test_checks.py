import random
from pathlib import Path

import pytest

from feedback import datasets, exporting, ratings, setting_apart
from feedback.erasure import forget
from feedback.errors import InvalidRequest, NotFound
from feedback.rater_watch import look
from feedback.schema import Comparison
from feedback.settings import FeedbackSettings
from feedback.store import Store, audit, checks, comparisons, raters, votes
from feedback.store.checks import REPEATED_AFTER_VOTES, Shares
from feedback.worker import count_all
from tests.feedback.plans import plans_of
from tests.feedback.record import add_comparison, judgement, sample

ANN = {"key_id": "key_a", "sees_all": False, "rater": "ann"}
QUERY = ANN | {"objective": "helpful", "votes_wanted": 1, "uniform_share": 0.0}
REPEATS, KNOWN = Shares(repeats=1.0), Shares(known_answers=1.0)


def ids(pairs: list[comparisons.Pair]) -> list[str]:
    return [pair.comparison.id for pair in pairs]


def handed(store: Store, shares: Shares, limit: int = 20, **changes: object) -> tuple[list[comparisons.Pair], bool]:
    query = QUERY | {"limit": limit, "check_shares": shares, "rng": random.Random(3)} | changes
    return store.write(comparisons.hand_out, **query)


def judge(store: Store, comparison_id: str, preferred: str = "0", rater: str = "ann", **more: object) -> votes.Vote:
    return store.write(votes.put, comparison_id, judgement(preferred, **more), **(ANN | {"rater": rater}))


def test_a_rater_is_handed_a_pair_again_with_its_sides_swapped_and_both_votes_stay(store: Store) -> None:
    judged = [add_comparison(store) for _ in range(REPEATED_AFTER_VOTES + 1)]
    first = judge(store, judged[0])
    for id_ in judged[1:]:
        judge(store, id_, "tie")
    waiting = [add_comparison(store) for _ in range(3)]

    (again, *others), more = handed(store, REPEATS, limit=3)
    assert (again.comparison.repeat_of, more) == (judged[0], True)
    assert set(ids(others)) < set(waiting)
    original = store.read(comparisons.get, judged[0], key_id="key_a", sees_all=False)
    assert [side.id for side in again.samples] == [side.id for side in reversed(original.samples)]
    assert again.comparison.created_at == original.comparison.created_at
    moment = slice(len("cmp_") + 12)
    assert again.comparison.id[moment] == judged[0][moment] and again.comparison.id != judged[0]
    assert not again.revealed

    second = judge(store, again.comparison.id, "0")
    count_all(store)
    assert second.id != first.id
    kept = [store.read(votes.get, vote.id, key_id="key_a", sees_all=False) for vote in (first, second)]
    assert [(vote.state, vote.is_check) for vote in kept] == [("counted", False), ("counted", True)]
    ann = store.read(raters.find, "key_a", "ann")
    assert store.read(look, FeedbackSettings()).figures[ann]["agreement_with_repeats"] == 0.0
    # Neither once more, nor to somebody who has not judged it, nor as a pair that wants votes.
    assert handed(store, REPEATS, limit=5)[0]
    assert not {pair.comparison.repeat_of for pair in handed(store, REPEATS, limit=5)[0]} - {None}
    assert set(ids(handed(store, REPEATS, rater="bob")[0])) == set(waiting)
    listed, _ = store.read(comparisons.list_all, **ANN, limit=50, after=None, order="desc")
    assert again.comparison.id not in ids(listed)


def test_what_was_judged_just_now_is_not_shown_again(store: Store) -> None:
    for _ in range(REPEATED_AFTER_VOTES):
        judge(store, add_comparison(store))
    waiting = add_comparison(store), add_comparison(store)
    assert set(ids(handed(store, REPEATS)[0])) == set(waiting)


def test_only_what_a_rater_decided_themselves_under_the_objective_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "REPEATED_AFTER_VOTES", 0)
    decided, tied, elsewhere, retracted, known, closed, again, anew = (add_comparison(store) for _ in range(8))
    store.write(checks.set_answer, known, "helpful", "0")
    for id_ in (decided, retracted, known, closed, again, anew):
        judge(store, id_)
    judge(store, tied, "tie")
    judge(store, elsewhere, objective="harmless")
    store.write(votes.retract, retracted, None, **ANN)
    store.write(lambda session: setattr(session.get_one(Comparison, closed), "is_open", False))
    # Judged again by this rater under this objective; by somebody else, under another one, or taken back.
    judge(store, store.write(checks.repeat_of, again).id)
    twins = {id_: store.write(checks.repeat_of, id_).id for id_ in (decided, anew)}
    judge(store, twins[decided], rater="bob")
    judge(store, twins[decided], objective="harmless")
    judge(store, twins[anew])
    store.write(votes.retract, twins[anew], "helpful", **ANN)
    ann = store.read(raters.find, "key_a", "ann")

    def drawn(objective: str, shares: Shares) -> set[str]:
        who = checks.Who(ann, objective, (None,))
        found = store.write(checks.draw, who, 40, shares, random.Random(1))
        return {comparison.repeat_of or comparison.id for comparison in found}

    assert drawn("helpful", REPEATS) == {decided, anew}
    assert drawn("harmless", REPEATS) == {elsewhere}
    assert drawn("helpful", KNOWN) == set(), "this rater has judged it"
    assert drawn("helpful", Shares()) == set()
    store.write(votes.retract, known, None, **ANN)
    judge(store, known, objective="harmless")
    assert drawn("helpful", KNOWN) == {known}
    assert drawn("harmless", KNOWN) == set()


def test_a_vote_is_a_check_by_its_pair_and_its_objective(store: Store) -> None:
    known, other = add_comparison(store), add_comparison(store)
    store.write(checks.set_answer, known, "helpful", "0")
    cast = [judge(store, known), judge(store, known, objective="harmless"), judge(store, other)]
    kept = [store.read(votes.get, vote.id, key_id="key_a", sees_all=False) for vote in cast]
    assert [vote.is_check for vote in kept] == [True, False, False]


def test_pairs_with_a_known_answer_are_handed_out_whatever_votes_they_have(store: Store) -> None:
    known, foreign = add_comparison(store), add_comparison(store, key_id="key_b")
    for id_ in (known, foreign):
        store.write(checks.set_answer, id_, "helpful", "1")
    judge(store, known, rater="bob")
    count_all(store)
    waiting = [add_comparison(store) for _ in range(2)]

    (pair, *_), _ = handed(store, KNOWN)
    assert pair.comparison.id == known
    assert foreign not in ids(handed(store, KNOWN)[0]), "another key's pairs are not this rater's to see"
    assert known not in ids(handed(store, KNOWN, objective="harmless")[0])
    only, more = handed(store, KNOWN, limit=1)
    assert (ids(only), more) == ([known], True)
    judge(store, known, "1")
    count_all(store)
    assert set(ids(handed(store, KNOWN)[0])) == set(waiting)
    found = store.read(look, FeedbackSettings()).figures
    agreement = {name: found[store.read(raters.find, "key_a", name)] for name in ("ann", "bob")}
    assert {name: of["agreement_with_known_answers"] for name, of in agreement.items()} == {"ann": 1.0, "bob": 0.0}


@pytest.mark.parametrize("others", [2, 5])
def test_an_open_pair_that_is_shown_as_a_check_is_not_among_those_drawn_from(store: Store, others: int) -> None:
    waiting = [add_comparison(store) for _ in range(others)]
    known = add_comparison(store)
    store.write(checks.set_answer, known, "helpful", "1")
    pairs, more = handed(store, KNOWN, limit=3, uniform_share=1.0)
    assert known in ids(pairs)
    assert more == (others > 2), "of three pairs no other page is left"
    first = next(id_ for id_ in ids(pairs) if id_ in waiting)
    vote = store.read(votes.get, judge(store, first).id, key_id="key_a", sees_all=False)
    assert vote.propensity == pytest.approx(1 / others)


def test_checks_train_and_rate_nothing(store: Store, tmp_path: Path) -> None:
    before = add_comparison(store)
    judge(store, before, rater="early")
    store.write(checks.set_answer, before, "helpful", "0")
    judge(store, before, rater="late")
    judge(store, before, objective="harmless", rater="late")
    twin = store.write(checks.repeat_of, before)
    judge(store, twin.id, rater="early", ideal="better still")
    count_all(store)

    frozen = store.read(datasets.freeze, tmp_path, FeedbackSettings())
    assert [(one.comparison, one.objective) for one in datasets.read(frozen.folder)] == [
        (before, "helpful"),
        (before, "harmless"),
    ]
    current = store.read(ratings.current)
    assert {objective: max(one.votes for one in rated) for objective, rated in current.items()} == {
        "helpful": 1,
        "harmless": 1,
    }
    with (tmp_path / "pairs.jsonl").open("wb") as out:
        assert exporting.export_votes(store, out, "trl").written == 2
    assert store.read(votes.count_by_state) == {"counted": 4}


def test_a_vote_becomes_a_check_when_it_is_changed_after_the_answer_is_known(store: Store) -> None:
    pair = add_comparison(store)
    judge(store, pair)
    count_all(store)
    store.write(checks.set_answer, pair, "helpful", "0")
    judge(store, pair, "1")
    count_all(store)
    assert store.read(ratings.current)["helpful"] == []
    store.write(checks.remove_answer, pair, "helpful")
    judge(store, pair, "0")
    count_all(store)
    assert [rating.votes for rating in store.read(ratings.current)["helpful"]] == [1, 1]
    with pytest.raises(NotFound):
        store.write(checks.remove_answer, pair, "helpful")
    told, _ = store.read(audit.list_page, limit=9, after=None, order="asc", subject=pair)
    assert [entry.action for entry in told] == ["answer.set", "answer.remove"]


def test_a_pair_that_nobody_is_shown_has_no_known_answer(store: Store) -> None:
    same = add_comparison(store, sample("6"), sample("6", version=1))
    with pytest.raises(InvalidRequest, match=f"nobody is shown {same}: its replies are the same"):
        store.write(checks.set_answer, same, "helpful", "0")
    assert store.read(checks.answers) == {}


def test_a_repeat_has_no_answer_of_its_own(store: Store) -> None:
    twin = store.write(checks.repeat_of, add_comparison(store))
    with pytest.raises(InvalidRequest, match="repeats"):
        store.write(checks.set_answer, twin.id, "helpful", "0")
    for missing in (checks.repeat_of, lambda session, id_: checks.set_answer(session, id_, "helpful", "0")):
        with pytest.raises(NotFound):
            store.write(missing, "cmp_none")


def test_what_was_erased_is_not_handed_out(store: Store, tmp_path: Path) -> None:
    chat = add_comparison(store, sample("my secret", user="ann"), sample("6", version=1, user="ann"))
    store.write(checks.set_answer, chat, "helpful", "0")
    judge(store, add_comparison(store))
    waiting = add_comparison(store)
    forget(store, tmp_path, store.read(raters.find, "key_a", "ann"))
    for shares in (Shares(), KNOWN):
        assert chat not in ids(handed(store, shares, rater="bob")[0])
    assert waiting in ids(handed(store, Shares(), rater="bob")[0])


def test_raters_are_listed_by_pages_with_their_votes(store: Store) -> None:
    for name, count in (("ann", 3), ("bob", 2), ("carl", 1)):
        for _ in range(count):
            judge(store, add_comparison(store), rater=name)
    retracted = add_comparison(store)
    judge(store, retracted, rater="carl")
    count_all(store)
    store.write(votes.retract, retracted, None, **(ANN | {"rater": "carl"}))
    bob = store.read(raters.find, "key_a", "bob")
    setting_apart.quarantine(store, bob, "a doubt")
    first, more = store.read(raters.list_page, limit=2)
    assert ([(rater.name, count) for rater, count in first], more) == ([("ann", 3), ("bob", 2)], True)
    rest, more = store.read(raters.list_page, limit=2, after=first[-1][0].id)
    assert ([(rater.name, count) for rater, count in rest], more) == ([("carl", 1)], False)


def test_who_was_only_handed_pairs_is_no_rater_yet(store: Store) -> None:
    pair = add_comparison(store)
    handed(store, Shares(), rater="ann")
    assert store.read(raters.list_all) == []
    judge(store, pair, rater="ann")
    assert [(rater.name, votes) for rater, votes in store.read(raters.list_all)] == [("ann", 1)]
    store.write(votes.retract, pair, None, **(ANN | {"rater": "ann"}))
    assert [(rater.name, votes) for rater, votes in store.read(raters.list_all)] == [("ann", 0)]
    listing, *_ = plans_of(store, lambda session: raters.list_page(session, limit=2))
    assert "ix_votes_rater_id_id" in listing
