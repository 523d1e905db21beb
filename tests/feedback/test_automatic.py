from dataclasses import replace

import pytest
from pydantic import ValidationError

from feedback.automatic import Standing, Step, decide, stand
from feedback.errors import Conflict
from feedback.figures import Figure
from feedback.operating_settings import AutomaticSettings, GateSettings
from feedback.store import Store, audit, leases, policies, traffic
from feedback.store.policies import Provenance
from feedback.store.traffic import Shares
from feedback.worker import count_all
from tests.feedback.live import vote_between

SETTINGS = AutomaticSettings(enabled=True, votes_per_stage=50, votes_to_turn=20)
GOOD, BAD = Figure(0.6, (0.52, 0.68)), Figure(0.3, (0.2, 0.41))
NOTHING = Standing(
    serving=0, candidate=None, shares=Shares(), shares_by_rule=False, challenger_passes=True, challenger_votes=0,
    challenger_rate=Figure(), promoted_by_rule=False, previous=None, serving_votes=0, serving_rate=Figure(),
)  # fmt: skip


def trying(share: float, votes: int, rate: Figure, **more: object) -> Standing:
    shares = Shares(1, share, 0.5)
    at = replace(NOTHING, shares=shares, shares_by_rule=True, challenger_votes=votes, challenger_rate=rate)
    return replace(at, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at", "step"),
    [
        (NOTHING, None),
        (replace(NOTHING, candidate=1), ("stage", 1, 0.1)),
        (replace(NOTHING, candidate=1, shares=Shares(2, 0.1, 0.0)), None),
        (replace(NOTHING, candidate=1, shares=Shares(2, 0.0, 0.1)), None),
        (replace(NOTHING, candidate=1, shares=Shares(None, 0.1, 0.1)), ("stage", 1, 0.1)),
        (replace(NOTHING, candidate=2, shares=Shares(1, 0.0, 0.0)), ("stage", 2, 0.1)),
        (trying(0.1, 49, GOOD), None),
        (trying(0.1, 50, GOOD), ("stage", 1, 0.5)),
        (trying(0.5, 99, GOOD), None),
        (trying(0.5, 100, GOOD), ("promote", 1, 0.0)),
        (trying(0.1, 19, BAD), None),
        (trying(0.1, 20, BAD), ("give_up", 1, 0.0)),
        # One rater has no interval over raters; the one of their own votes reaches to .43 of 30, and to .57 of 20.
        (trying(0.1, 30, Figure(0.25)), ("give_up", 1, 0.0)),
        (trying(0.1, 20, Figure(0.35)), None),
        (trying(0.1, 5, GOOD, challenger_passes=False), ("give_up", 1, 0.0)),
        (trying(0.1, 200, BAD, shares_by_rule=False), None),
        (trying(0.1, 10, GOOD, serving=1), ("clear", 1, 0.0)),
        (replace(NOTHING, serving=1, previous=0, promoted_by_rule=True, serving_votes=19, serving_rate=BAD), None),
        (
            replace(NOTHING, serving=1, previous=0, promoted_by_rule=True, serving_votes=20, serving_rate=BAD),
            ("rollback", 1, 0.0),
        ),
        (replace(NOTHING, serving=1, previous=0, promoted_by_rule=False, serving_votes=99, serving_rate=BAD), None),
        (replace(NOTHING, serving=1, previous=0, promoted_by_rule=True, serving_votes=99, serving_rate=GOOD), None),
    ],
)
def test_what_comes_next(at: Standing, step: tuple | None) -> None:
    found = decide(at, SETTINGS)
    assert (None if found is None else (found.do, found.version, found.share)) == step


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (replace(NOTHING, candidate=1), "it passes the gate; stage 1 of 2"),
        (trying(0.1, 50, GOOD), "50 live votes, live win rate 0.60 (0.52 to 0.68); stage 2 of 2"),
        (trying(0.5, 100, GOOD), "every stage is passed: 100 live votes, live win rate 0.60 (0.52 to 0.68)"),
        (trying(0.1, 30, Figure(0.25)), "live votes turned against it: live win rate 0.25"),
        (trying(0.1, 30, Figure(0.25, note="of one rater")), "turned against it: live win rate 0.25 of one rater"),
        (trying(0.1, 5, GOOD, challenger_passes=False), "it no longer passes the gate"),
    ],
)
def test_a_step_says_what_it_rests_on(at: Standing, reason: str) -> None:
    step = decide(at, SETTINGS)
    assert step is not None and step.reason.endswith(reason)


@pytest.mark.parametrize("shares", [[], [0.0], [0.5, 0.1], [0.1, 0.1], [0.5, 1.5]])
def test_shares_that_do_not_grow_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValidationError):
        AutomaticSettings(shares=shares)


def publish(store: Store, *win_rates: float) -> None:
    """v0 serves; v1 and so on are candidates."""
    store.write(policies.register_start, "policies/v0", "d0", {})
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 600.0)
    for version, win_rate in enumerate(win_rates, 1):
        evidence = {"evaluation": {"win_rate": {"value": win_rate, "interval": [win_rate - 0.1, win_rate + 0.1]}}}
        made = Provenance(0, f"itr_{version}", "dataset", {}, version, evidence)
        store.write(policies.publish, version, f"policies/v{version}", f"d{version}", made, epoch=epoch)


def test_the_next_candidate_is_newer_than_what_serves_and_was_never_promoted(store: Store) -> None:
    gate = GateSettings()
    publish(store, 0.7, 0.7, 0.2)
    assert store.read(stand, gate).candidate is None, "v3, the newest, does not pass the gate"
    for challenger, passes in ((3, False), (2, True)):
        store.write(traffic.put, Shares(challenger, 0.1, 0.5))
        assert store.read(stand, gate).challenger_passes == passes
    store.write(audit.add, audit.RULE, audit.GIVEN_UP, "v3")
    assert store.read(stand, gate).candidate == 2
    store.write(policies.set_serving, 2, kind="promote", reason="", force=False, actor="key_1")
    standing = store.read(stand, gate)
    assert standing.candidate is None, "v1 is older than v2"
    assert not standing.promoted_by_rule
    store.write(policies.set_serving, 0, kind="rollback", reason="", force=False, actor="key_1")
    assert store.read(stand, gate).candidate == 1, "v2 is retired"


def test_where_things_stand_in_a_record(store: Store) -> None:
    gate = GateSettings()
    assert store.read(stand, gate) is None
    publish(store, 0.2, 0.7)
    assert store.read(stand, gate).candidate == 2

    store.write(traffic.put, Shares(2, 0.1, 0.5), actor="key_1")
    assert not store.read(stand, gate).shares_by_rule
    store.write(traffic.put, Shares(), actor="key_1")
    store.write(traffic.put, Shares(2, 0.1, 0.5), actor=audit.RULE)
    for rater in range(25):
        vote_between(store, winner=0, loser=2, rater=f"r{rater}")
    count_all(store)
    trying_v2 = store.read(stand, gate)
    assert trying_v2.shares_by_rule and trying_v2.challenger_votes == 25 and trying_v2.challenger_rate.value == 0
    assert decide(trying_v2, SETTINGS).do == "give_up"
    store.write(audit.add, audit.RULE, audit.GIVEN_UP, "v2")
    assert store.read(stand, gate).candidate is None, "v2 was given up, and v1 does not pass the gate"

    store.write(policies.set_serving, 2, kind="promote", reason="", force=False, actor=audit.RULE)
    serving_v2 = store.read(stand, gate)
    assert (serving_v2.serving, serving_v2.previous, serving_v2.serving_votes) == (2, 0, 25)
    step = decide(serving_v2, SETTINGS)
    assert step == Step("rollback", 2, "live votes turned against it: live win rate 0.00 (0.00 to 0.13)")
    store.write(policies.set_serving, 0, kind="rollback", reason="", force=False, actor=audit.RULE)
    assert not store.read(stand, gate).promoted_by_rule


@pytest.mark.parametrize("taken", [Shares(), Shares(1)])
def test_what_a_person_takes_the_share_from_is_not_tried_again(store: Store, taken: Shares) -> None:
    gate = GateSettings()
    publish(store, 0.7)
    store.write(traffic.put, Shares(1, 0.1, 0.5), actor="key_1")
    with pytest.raises(Conflict, match="went by"):
        # Decided before the person set it.
        store.write(traffic.put, Shares(1, 0.5, 0.5), actor=audit.RULE)
    store.write(traffic.put, Shares(), actor="key_1")
    assert store.read(stand, gate).candidate == 1, "it was the person's own"
    store.write(traffic.put, Shares(1, 0.1, 0.5), actor=audit.RULE)
    store.write(traffic.put, Shares(1, 0.5, 0.5), actor="key_1")
    store.write(traffic.put, Shares(), actor="key_1")
    store.write(traffic.put, Shares(1, 0.1, 0.5), actor=audit.RULE)
    store.write(traffic.put, Shares(1, 0.5, 0.5), actor=audit.RULE)
    assert store.read(stand, gate).candidate == 1
    store.write(traffic.put, taken, actor="key_1")
    standing = store.read(stand, gate)
    assert standing.candidate is None and decide(standing, SETTINGS) is None
    entries, _ = store.read(audit.list_page, limit=2, after=None, order="desc")
    assert (entries[1].actor, entries[1].action, entries[1].subject) == ("key_1", audit.GIVEN_UP, "v1")
    with pytest.raises(Conflict, match="went by"):
        # A stage that was decided before, and waited for the engines.
        store.write(traffic.put, Shares(1, 0.5, 0.5), actor=audit.RULE)
    assert not store.read(traffic.get).any


def test_what_a_person_promotes_was_not_given_up(store: Store) -> None:
    publish(store, 0.7)
    store.write(traffic.put, Shares(1, 0.1, 0.5), actor=audit.RULE)
    store.write(policies.set_serving, 1, kind="promote", reason="", force=False, actor="key_1")
    store.write(traffic.end_challenge, 1, actor="key_1")
    assert not store.read(audit.told, audit.GIVEN_UP, 1)
