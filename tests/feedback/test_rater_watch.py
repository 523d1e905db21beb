import math
import random

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from feedback import setting_apart
from feedback.rater_watch import look, outlier_evidence, watch
from feedback.settings import FeedbackSettings
from feedback.store import Store, checks, erasure, raters, votes
from feedback.worker import count_all
from tests.feedback.crowd import Voter, cast, crowd
from tests.feedback.record import add_comparison, judgement

SETTINGS = FeedbackSettings()
# A thousand votes are looked at, whatever the database: with fewer the other tests ask each.
BY_THEIR_NUMBERS = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def names(store: Store, ids: set[str]) -> set[str]:
    return {rater.name for rater, _ in store.read(raters.list_all) if rater.id in ids}


@BY_THEIR_NUMBERS
def test_those_who_vote_against_the_truth_are_set_apart_and_nobody_else(store: Store) -> None:
    cast(store, crowd(16, turned=4), pairs=400, votes_each=3)
    before = store.read(votes.count_by_state)["counted"]
    outliers = watch(store, SETTINGS)
    assert names(store, set(outliers)) == {f"turned-{n}" for n in range(4)}
    states = store.read(votes.count_by_state)
    assert states["quarantined"] + states["counted"] == before
    assert states["quarantined"] == pytest.approx(before / 5, rel=0.35)
    assert watch(store, SETTINGS) == {}, "with them gone, the others stay"


@BY_THEIR_NUMBERS
def test_those_who_agree_in_something_else_have_nobody_set_apart_who_judges(store: Store) -> None:
    """Four who always take the left side, and vote twice as often: among themselves they agree better than those
    who judge."""
    rng = random.Random(3)
    judging, lefts = [f"ordinary-{n}" for n in range(16)], [f"left-{n}" for n in range(4)]
    ids = [add_comparison(store) for _ in range(200)]

    def put_all(session: Session) -> None:
        for comparison_id in ids:
            better = rng.choice("01")
            for name in (*rng.sample(judging, 3), *rng.sample(lefts, rng.choice((1, 2)))):
                wrong = {"0": "1", "1": "0"}[better]
                said = "0" if name in lefts else rng.choices((better, wrong), (3, 1))[0]
                votes.put(session, comparison_id, judgement(said), key_id="key_a", sees_all=False, rater=name)

    store.write(put_all)
    count_all(store)
    assert not {name for name in names(store, set(watch(store, SETTINGS))) if name in judging}


def test_a_rater_set_apart_is_not_counted_until_released(store: Store) -> None:
    cast(store, [Voter("ann", 0.75)], pairs=3, votes_each=1)
    ann = store.read(raters.find, "key_a", "ann")
    assert setting_apart.quarantine(store, ann, "an operator's doubt") == 3
    late = store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater="ann")
    count_all(store)
    assert store.read(votes.get, late.id, key_id="key_a", sees_all=False).state == "quarantined"
    assert store.read(votes.count_by_state) == {"quarantined": 4}
    assert setting_apart.release(store, ann) == 4
    assert setting_apart.release(store, ann) == 0
    assert count_all(store) == 4
    assert store.read(votes.count_by_state) == {"counted": 4}


def test_an_operator_who_releases_a_rater_is_not_overruled_by_the_same_votes(store: Store) -> None:
    cast(store, crowd(12, turned=1), pairs=150, votes_each=4)
    (outlier,) = watch(store, SETTINGS)
    setting_apart.release(store, outlier)
    count_all(store)
    assert watch(store, SETTINGS) == {}


def test_a_file_that_was_imported_is_nobody_to_be_set_apart(store: Store) -> None:
    pairs = cast(store, crowd(6), pairs=60, votes_each=3)

    def against_the_truth(session: object) -> None:
        for key_id, name in (("key_a", "eve"), ("import", "file")):
            for pair in pairs:
                votes.put(session, pair, judgement("1"), key_id=key_id, sees_all=True, rater=name)

    store.write(against_the_truth)
    count_all(store)
    assert names(store, set(watch(store, SETTINGS))) == {"eve"}


def test_nobody_is_set_apart_where_that_is_switched_off(store: Store) -> None:
    cast(store, crowd(10, turned=3), pairs=150, votes_each=3)
    assert watch(store, SETTINGS.model_copy(update={"quarantine_outliers": False})) == {}
    reliabilities = {rater.name: rater.reliability for rater, _ in store.read(raters.list_all)}
    assert max(value for name, value in reliabilities.items() if name.startswith("turned")) < 0.45
    assert min(value for name, value in reliabilities.items() if name.startswith("ordinary")) > 0.5


def test_what_is_known_of_how_a_rater_votes(store: Store) -> None:
    def put(comparison_id: str, preferred: str, **more: object) -> None:
        said = judgement(preferred, **more)
        store.write(votes.put, comparison_id, said, key_id="key_a", sees_all=False, rater="ann")

    pairs = [add_comparison(store) for _ in range(4)]
    for id_, answer in zip(pairs, "0001", strict=True):
        store.write(checks.set_answer, id_, "helpful", answer)
        put(id_, "0", elapsed_s=4.0 + 2 * pairs.index(id_))
    # The other way round: twice the same reply is better, once the other one.
    for id_, preferred in zip(pairs, "110", strict=False):
        put(store.write(checks.repeat_of, id_).id, preferred, elapsed_s=1.0, left=1)
    unchecked = add_comparison(store)
    store.write(votes.put, unchecked, judgement("1"), key_id="key_a", sees_all=False, rater="bob")
    count_all(store)
    found = store.read(look, SETTINGS).figures
    figures = found[store.read(raters.find, "key_a", "ann")]
    assert figures["agreement_with_known_answers"] == figures["agreement_with_others"] == pytest.approx(5 / 7, abs=1e-4)
    assert figures["agreement_with_repeats"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["share_left"] == pytest.approx(6 / 7, abs=1e-4)
    assert figures["median_elapsed_s"] == 4.0
    assert figures["votes"] == figures["votes_compared"] == 7
    # Of whom there is nothing to compare.
    bob = found[store.read(raters.find, "key_a", "bob")]
    assert (bob.pop("votes"), bob.pop("share_left"), bob.pop("votes_compared")) == (1, 0, 0)
    assert (bob.pop("reliability"), bob.pop("outlier_evidence_nats")) == (pytest.approx(0.75, abs=1e-3), 0)
    assert set(bob.values()) == {None}


def test_the_evidence_is_that_of_the_likelihood_ratio() -> None:
    """A vote that all others call wrong: guessing makes it twice as likely, voting against the truth thrice."""
    assert outlier_evidence([-40.0], [0.0], 0.001) == pytest.approx(math.log(3) - math.log(2))
    assert outlier_evidence([40.0], [0.0], 0.001) == 0
    assert outlier_evidence([0.0] * 50, [0.0] * 50, 0.001) == 0
    # Never below the floor, so that ten thousand good votes do not hide a turn.
    turned = outlier_evidence([40.0] * 10_000 + [-40.0] * 20, [0.0] * 10_020, 0.001)
    assert turned == pytest.approx(math.log(0.001) + 20 * math.log(3) - math.log(2))
    # Nor does what they were before a turn that they took back.
    twice = outlier_evidence(([40.0] * 1000 + [-40.0] * 9) * 2, [0.0] * 2018, 0.001)
    assert twice == pytest.approx(math.log(0.001) + 9 * math.log(3) - math.log(2))


def test_ordinary_raters_are_hardly_ever_taken_for_outliers() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    found = 0
    for _ in range(1000):
        right_V = rng.random(300) < 0.75
        found += outlier_evidence(np.where(right_V, 30.0, -30.0), np.zeros(300), 0.01) >= -math.log(0.01)
    assert found <= 10 + 3 * math.sqrt(10)


def test_who_is_erased_while_they_are_looked_at_keeps_nobody_from_being_set_apart(store: Store) -> None:
    cast(store, crowd(10, turned=2), pairs=140, votes_each=3)
    watched = store.read(look, SETTINGS)
    erased, other = sorted(watched.outliers)
    others = Store(store.database_url)
    # After the votes are read.
    event.listen(store.engine, "checkin", lambda *_: others.write(erasure.erase, erased), once=True)
    assert set(watch(store, SETTINGS)) == {erased, other}
    others.close()
    apart = {id_ for id_ in (erased, other) if store.read(raters.get, id_).quarantined_at is not None}
    assert apart == {other}


def test_the_figures_of_all_raters_are_noted_by_one_statement(store: Store) -> None:
    """One for each of thousands held up everybody who votes for seconds."""
    cast(store, crowd(10, turned=0), pairs=20, votes_each=3)
    figures = store.read(look, SETTINGS).figures
    said: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: said.append(statement))
    store.write(raters.note, figures)
    assert len(figures) == 10
    assert [statement.split()[0] for statement in said] == ["UPDATE"]
    known = {rater.id: (rater.figures, rater.reliability) for rater, _ in store.read(raters.list_all)}
    assert known == {rater_id: (found, found["reliability"]) for rater_id, found in figures.items()}
