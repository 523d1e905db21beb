import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from feedback import setting_apart
from feedback.figures import figures_of
from feedback.gate import judge
from feedback.live_votes import ONE_RATER, RaterTally, figures, wilson, win_rate, without_loudest
from feedback.store import Store, checks, live_votes, raters, votes
from feedback.worker import count_all
from tests.feedback.live import vote_between
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record

TALLIES = st.lists(
    st.builds(
        RaterTally,
        st.sampled_from("abcdef"),
        st.just("helpful"),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    max_size=5,
    unique_by=lambda tally: tally.rater_id,
)


def test_the_interval_is_wilsons_where_raters_agree() -> None:
    """Newcombe 1998, table I: 0 of 20 by the score method is 0 to .1611, and 15 of 148 is .0624 to .1605."""
    for won, tied, lost, known in ((0, 0, 10, (0, 0.1611)), (7, 1, 66, (0.0624, 0.1605))):
        found = win_rate([RaterTally(name, "helpful", won, tied, lost) for name in ("ann", "bob")], 0.95)
        assert found.interval == pytest.approx(known, abs=5e-5)
    assert wilson(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_one_rater_has_no_interval_and_no_rule_takes_them_for_many() -> None:
    """Two raters are nearly sure, but the rules see what is said without either: by one person."""
    for won, lost, rule, outcome in (
        (30, 0, "live_win_rate_lower >= 0.5", "fail"),
        (30, 0, "live_win_rate_upper >= 0.5", "pass"),
        (0, 30, "live_win_rate_upper >= 0.5", "fail"),
        (0, 30, "live_win_rate_upper <= 0.5", "fail"),
    ):
        both = [RaterTally(name, "helpful", won, 0, lost) for name in ("ann", "bob")]
        found = figures(both, min_votes=20, drop_raters=1, drop_votes=2)
        (verdict,) = judge([rule], figures_of({}, found), {}).verdicts
        assert (verdict.outcome, verdict.note and ONE_RATER in verdict.note) == (outcome, True)
        alone = win_rate(both[:1], 0.95)
        assert (alone.value, alone.interval, alone.note) == (won / 30, None, ONE_RATER)
    # Whose last vote was left out is no rater any more.
    assert win_rate([*both[:1], RaterTally("cyd", "helpful", 0, 0, 0)], 0.95).interval is None


def test_raters_who_differ_widen_it() -> None:
    together = win_rate([RaterTally(name, "helpful", 10, 0, 10) for name in "abcd"], 0.95)
    apart = win_rate(
        [RaterTally(name, "helpful", *((20, 0, 0) if name in "ab" else (0, 0, 20))) for name in "abcd"], 0.95
    )
    assert together.value == apart.value == 0.5
    assert together.interval and apart.interval
    assert apart.interval[0] < together.interval[0] and apart.interval[1] > together.interval[1]


def test_the_spread_between_raters_by_hand() -> None:
    """Eight raters two votes of ten above and below the mean of .6: .6 +- 2.3646 sqrt(8 2^2 / 80^2 8 / 7)."""
    found = win_rate(
        [RaterTally(name, "helpful", 8 if name in "abcd" else 4, 0, 2 if name in "abcd" else 6) for name in "abcdefgh"],
        0.95,
    )
    assert found.interval == pytest.approx((0.4213, 0.7787), abs=1e-4)


def test_each_objective_has_its_own_rate() -> None:
    tallies = [RaterTally("ann", "helpful", 9, 0, 1), RaterTally("ann", "harmless", 1, 0, 3)]
    found = figures(tallies, min_votes=1, drop_raters=0, drop_votes=0)
    assert found["live.objectives.helpful.win_rate"].value == pytest.approx(0.9)
    assert found["live.objectives.harmless.win_rate"].value == pytest.approx(0.25)
    assert found["live.win_rate"].value == pytest.approx(10 / 14)
    assert (found["live.votes"].value, found["live.raters"].value) == (14, 1)


@given(TALLIES, st.booleans(), st.integers(0, 2))
def test_no_other_raters_weigh_more(tallies: list[RaterTally], raises: bool, count: int) -> None:
    """For one rater: against every choice. For more: never on the wrong side of leaving all in."""

    def mean(left: list[RaterTally]) -> float | None:
        votes = sum(tally.votes for tally in left)
        return sum(tally.score for tally in left) / votes if votes else None

    found = mean(without_loudest(tallies, raises=raises, raters=count, votes=0))
    if count == 1 and tallies and found is not None:
        others = [mean(list(left)) for left in itertools.combinations(tallies, len(tallies) - 1)]
        known = [other for other in others if other is not None]
        assert found == pytest.approx(min(known) if raises else max(known))
    elif found is not None and (whole := mean(tallies)) is not None and count == 0:
        assert found == pytest.approx(whole)


def test_one_loud_rater_decides_nothing() -> None:
    loud = RaterTally("loud", "helpful", 60, 0, 0)
    others = [RaterTally(name, "helpful", 2, 1, 7) for name in "abcd"]
    found = figures([loud, *others], min_votes=20, drop_raters=1, drop_votes=2)["live.win_rate"]
    assert found.value == pytest.approx((68 + 2) / 100)
    assert found.low is not None and found.low.value == pytest.approx((8 + 2 - 2) / 38)
    # As few decide the other way: without one of the others, and two of the votes lost.
    assert found.high is not None and found.high.value == pytest.approx((60 + 3 * 2.5) / 88)
    alone = figures([loud], min_votes=20, drop_raters=1, drop_votes=0)["live.win_rate"]
    assert alone.low is not None and alone.low.value is None and "nothing is left" in (alone.low.note or "")


def test_the_worst_case_has_the_interval_of_those_who_are_left() -> None:
    """Two or more by how far they differ; one by what they said against the version, or for it."""
    apart = [RaterTally(name, "helpful", won, 0, 40 - won) for name, won in zip("abcd", (36, 30, 12, 2), strict=True)]
    found = figures(apart, min_votes=160, drop_raters=1, drop_votes=0)["live.win_rate"]
    assert found.low is not None and found.high is not None
    assert found.low.interval == win_rate(apart[1:], 0.95).interval == (0.0, 1.0)
    assert found.high.interval == win_rate(apart[:3], 0.95).interval
    assert found.low.note == "without the 1 raters and 0 votes that weigh most"
    alone = figures(apart[:2], min_votes=0, drop_raters=1, drop_votes=0)["live.win_rate"]
    assert alone.low is not None and alone.high is not None
    assert alone.low.interval == (0.0, wilson(0.75, 40, 0.95)[1])
    assert alone.high.interval == (wilson(0.9, 40, 0.95)[0], 1.0)
    # Who is left without the rater and the two votes that raise it most said nothing else.
    both_won = [RaterTally("ann", "helpful", 20, 0, 0), RaterTally("bob", "helpful", 2, 0, 0)]
    nothing = figures(both_won, min_votes=0, drop_raters=1, drop_votes=2)["live.win_rate"]
    assert nothing.low is not None and nothing.low == nothing.high and nothing.low.value is None


def test_few_votes_are_no_figure() -> None:
    found = figures([RaterTally("ann", "helpful", 9, 0, 0)], min_votes=10, drop_raters=0, drop_votes=0)
    assert (
        found["live.win_rate"].value is None and found["live.win_rate"].note == "9 live votes of the 10 that are wanted"
    )
    assert found["live.votes"].value == 9


def test_votes_are_read_from_both_sides(store: Store) -> None:
    for _ in range(2):
        vote_between(store, winner=1, loser=0, rater="ann")
    for _ in range(3):
        vote_between(store, winner=0, loser=1, rater="bob", objective="harmless")
    vote_between(store, winner=2, loser=0, rater="bob")
    assert store.read(live_votes.between, 1, 0) == [], "only counted votes count"
    count_all(store)
    found = {(tally.won, tally.tied, tally.lost, tally.objective) for tally in store.read(live_votes.between, 1, 0)}
    assert found == {(2, 0, 0, "helpful"), (0, 0, 3, "harmless")}
    assert {tally.won for tally in store.read(live_votes.between, 0, 1)} == {0, 3}
    assert store.read(live_votes.between, 1, 2) == []


def test_only_votes_that_count_and_compare_the_two_are_taken(store: Store) -> None:
    def vote(left: int, right: int, preferred: str, rater: str = "ann", check: bool = False) -> str:
        pair = add_comparison(store, sample("one", left), sample("other", right))
        if check:
            store.write(checks.set_answer, pair, "helpful", preferred)
        return store.write(votes.put, pair, judgement(preferred), key_id="key_a", sees_all=False, rater=rater).id

    for left, right, preferred in ((1, 0, "0"), (0, 1, "1"), (1, 0, "1"), (1, 0, "tie"), (1, 0, "both_bad")):
        vote(left, right, preferred)
    # Other versions, a check, somebody who is set apart, and one that is not counted yet.
    vote(1, 2, "0"), vote(2, 0, "0"), vote(2, 1, "0"), vote(1, 1, "0")
    vote(1, 0, "0", check=True)
    vote(1, 0, "0", rater="eve")
    count_all(store)
    setting_apart.quarantine(store, store.read(raters.find, "key_a", "eve"), "a robot")
    vote(1, 0, "0")
    ann = store.read(raters.find, "key_a", "ann")
    assert store.read(live_votes.between, 1, 0) == [RaterTally(ann, "helpful", won=2, tied=1, lost=1)]
    assert store.read(live_votes.between, 0, 1) == [RaterTally(ann, "helpful", won=1, tied=1, lost=2)]
    assert store.read(live_votes.between, 1, 1) == []


def test_the_tallies_of_a_version_are_those_of_its_votes_on_either_side(store: Store) -> None:
    found = [store.read(live_votes.tallied, 1)]
    for versions in ((1, 0), (0, 1), (2, 0)):
        pair = add_comparison(store, *(sample("one", version) for version in versions))
        store.write(votes.put, pair, judgement(), key_id="key_a", sees_all=False, rater="ann")
        count_all(store)
        found.append(store.read(live_votes.tallied, 1))
    assert len(set(found[:3])) == 3
    assert found[3] == found[2], "a vote that compares others"


def test_few_raters_who_each_have_a_leaning_seldom_say_that_it_wins() -> None:
    """Two to ten raters, each with a preference of their own, between versions that are equally good."""
    rng = np.random.default_rng(0)
    for people, each in ((2, 50), (3, 50), (10, 30)):
        wrong = 0
        for leaning in rng.normal(0, 1, (1000, people)):
            won = rng.binomial(each, 1 / (1 + np.exp(-leaning)))
            found = win_rate([RaterTally(str(n), "helpful", int(w), 0, each - int(w)) for n, w in enumerate(won)], 0.95)
            assert found.interval is not None
            wrong += found.interval[0] > 0.5 or found.interval[1] < 0.5
        # One time in twenty, and a little more where the spread of so few is itself a guess.
        assert wrong < 75


def test_votes_between_two_versions_are_found_without_reading_all(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    vote_between(store, winner=1, loser=0, rater="ann")
    count_all(store)
    plans: list[str] = []

    def explain(connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "votes.rater_id" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    event.listen(store.engine, "before_cursor_execute", explain)
    assert [tally.won for tally in store.read(live_votes.between, 1, 0)] == [1]
    assert plans and not [step for step in plans if step.startswith("SCAN")]
    plans.clear()
    assert store.read(live_votes.between, 1, 2) == [] and not plans, "no vote is looked for where none was tallied"
    store.close()
