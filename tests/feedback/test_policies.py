import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy.orm import Session

from feedback import ids
from feedback.errors import Conflict, LeaseLost, NotFound, TandemError
from feedback.schema import Dataset, DatasetVote, Iteration, Policy
from feedback.store import Store, audit, datasets, iterations, leases, now, policies, traffic, votes
from feedback.store.policies import Provenance
from feedback.store.traffic import Shares
from tests.feedback.record import add_comparison, judgement

BECAUSE = {"reason": "better", "force": False, "actor": "key_op"}


def publish(store: Store) -> int:
    """One whole iteration in the record; returns the candidate's number."""
    iteration = store.write(iterations.start, trigger="test", seed=0, settings={})
    claimed = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    assert claimed is not None
    _, epoch = claimed
    version = store.read(policies.next_version)
    made = Provenance(0, iteration.id, "digest", {}, 0)
    for _ in range(2):
        store.write(policies.publish, version, f"policies/v{version}", "d", made, epoch=epoch)
    store.write(iterations.succeed, iteration.id, epoch, version)
    return version


def test_promotion_and_rollback(store: Store) -> None:
    store.write(policies.register_start, "policies/v0", "d0", {})
    assert store.write(policies.register_start, "policies/v0", "d0", {}).version == 0
    with pytest.raises(Conflict, match="another policy"):
        store.write(policies.register_start, "policies/v0", "other", {})
    assert store.read(policies.rollback_target) is None

    assert publish(store) == 1
    assert publish(store) == 2
    store.write(policies.set_serving, 1, kind="promote", **BECAUSE)
    store.write(policies.set_serving, 2, kind="promote", **BECAUSE)
    states = {policy.version: policy.state for policy in store.read(policies.list_all)}
    assert states == {0: "retired", 1: "retired", 2: "serving"}
    assert store.read(policies.rollback_target) == 1
    store.write(policies.set_serving, 1, kind="rollback", **BECAUSE)
    assert store.read(policies.rollback_target) == 0, "a second rollback goes further back, not to and fro"
    store.write(policies.keep_failure, 2, kind="promote", **BECAUSE, detail="corrupt")
    assert [attempt.outcome for attempt in store.read(policies.promotions, 2)] == ["succeeded", "failed"]
    with pytest.raises(NotFound, match="v9"):
        store.write(policies.set_serving, 9, kind="promote", **BECAUSE)
    assert store.read(policies.serving).version == 1


def test_a_vote_tells_when_a_version_that_learnt_from_it_was_first_promoted(store: Store) -> None:
    vote = store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater="ann")

    def learn(session: Session) -> None:
        session.add(Dataset(digest="d", path="datasets/d", summary={}, created_at=1.0))
        session.flush()
        session.add(DatasetVote(dataset_digest="d", vote_id=vote.id, revision=1, split="train"))
        of_it = {"dataset_digest": "d", "path": "policies/v1", "digest": "v", "settings": {}, "evidence": {}}
        session.add(Policy(version=1, state="candidate", created_at=1.0, **of_it))

    def promoted() -> float | None:
        ((told,),) = store.read(votes.versions_from, [vote.id]).values()
        assert (told["version"], told["split"]) == ("v1", "train")
        return told["promoted"]

    store.write(learn)
    store.write(policies.keep_failure, 1, kind="promote", **BECAUSE, detail="corrupt")
    store.write(policies.set_serving, 1, kind="rollback", **BECAUSE)
    assert promoted() is None
    first = store.write(policies.set_serving, 1, kind="promote", **BECAUSE).created_at
    store.write(policies.set_serving, 1, kind="promote", **BECAUSE)
    assert promoted() == first


def test_a_zombie_cannot_publish(store: Store) -> None:
    iteration = store.write(iterations.start, trigger="test", seed=0, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "zombie", 60.0, 5)
    store.write(leases.release, leases.LEARNER, epoch)
    _, later = store.write(iterations.claim, iteration.id, "heir", 60.0, 5)
    assert later == epoch + 1
    made = Provenance(0, iteration.id, "digest", {}, 0)
    for forbidden in (
        lambda: store.write(policies.publish, 1, "policies/v1", "d", made, epoch=epoch),
        lambda: store.write(iterations.advance, iteration.id, epoch, stage="ppo", progress=0.5),
        lambda: store.write(iterations.succeed, iteration.id, epoch, 1),
        lambda: store.write(leases.renew, leases.LEARNER, epoch, 60.0),
    ):
        with pytest.raises(LeaseLost):
            forbidden()
    assert store.read(iterations.get, iteration.id).state == "running"
    store.write(policies.publish, 1, "policies/v1", "d", made, epoch=later)


def test_one_iteration_at_a_time(store: Store) -> None:
    iteration = store.write(iterations.start, trigger="count", seed=0, settings={})
    with pytest.raises(Conflict, match=iteration.id):
        store.write(iterations.start, trigger="operator", seed=0, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "one", 60.0, 5)
    assert store.write(iterations.claim, iteration.id, "two", 60.0, 5) is None
    assert store.read(leases.held, leases.LEARNER)
    store.write(iterations.advance, iteration.id, epoch, stage="preference", progress=0.1)
    store.write(iterations.advance, iteration.id, epoch, stage="preference", progress=0.9)
    store.write(iterations.fail, iteration.id, epoch, "diverged")
    assert not store.read(leases.held, leases.LEARNER)
    assert store.write(iterations.claim, iteration.id, "two", 60.0, 5) is None
    events = store.read(iterations.events_after, iteration.id, 0)
    assert [event.kind for event in events] == ["queued", "started", "stage", "failed"]
    assert [event.kind for event in store.read(iterations.events_after, iteration.id, events[1].seq)] == [
        "stage",
        "failed",
    ]


def at_once(count: int, operation: Callable[[], Any]) -> list[Any]:
    """What each of so many calls returned, or the TandemError that it raised."""

    def call(_: int) -> Any:
        ready.wait()
        try:
            return operation()
        except TandemError as error:
            return error

    ready = Barrier(count)
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(call, range(count)))


def test_of_iterations_that_are_asked_for_at_once_one_is_queued(store: Store) -> None:
    for _ in range(5):
        found = at_once(4, lambda: store.write(iterations.start, trigger="operator", seed=0, settings={}))
        (queued,) = [one for one in found if isinstance(one, Iteration)]
        assert sum(isinstance(one, Conflict) for one in found) == 3
        store.write(iterations.cancel, queued.id, "", "key_a")


def test_the_newest_iteration_is_told_by_the_clock_of_the_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def iterate(digest: str, ahead_s: float) -> Iteration:
        clock_ns = time.time_ns() + round(1e9 * ahead_s)
        monkeypatch.setattr(ids.time, "time_ns", lambda: clock_ns)
        monkeypatch.setattr(ids, "_last", [0])
        iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})
        _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
        store.write(iterations.begin_dataset, iteration.id, epoch, digest=digest, path=digest, summary={})
        store.write(iterations.freeze, iteration.id, epoch, digest)
        store.write(iterations.succeed, iteration.id, epoch, 1)
        monkeypatch.undo()
        return store.read(iterations.get, iteration.id)

    # The first one is begun through a host whose clock is ahead.
    ahead, second = iterate("a", 300.0), iterate("b", 0.0)
    assert ahead.id > second.id
    frozen_at = store.read(lambda session: session.get_one(Dataset, "b").created_at)
    assert store.read(iterations.last_began_at) == max(second.created_at, frozen_at)
    assert store.read(datasets.learnt_until) == frozen_at


def test_votes_that_were_counted_while_others_were_frozen_came_since_the_iteration_began(store: Store) -> None:
    iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    frozen = {"frozen_at": store.read(now)}
    store.write(iterations.begin_dataset, iteration.id, epoch, digest="a", path="a", summary=frozen)
    store.write(iterations.freeze, iteration.id, epoch, "a")
    assert store.read(iterations.last_began_at) == frozen["frozen_at"]


def test_what_is_set_at_once_for_the_first_time_is_one_row(store: Store) -> None:
    found = at_once(4, lambda: store.write(policies.register_start, "policies/v0", "d", {}))
    assert [one.version for one in found] == [0] * 4
    assert at_once(4, lambda: store.write(traffic.put, Shares())) == [Shares()] * 4


def test_a_cancelled_iteration_lets_its_learner_write_nothing_more(store: Store) -> None:
    iteration = store.write(iterations.start, trigger="count", seed=0, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "one", 60.0, 5)
    for _ in range(2):
        assert store.write(iterations.cancel, iteration.id, "wrong settings", "key_a").state == "cancelled"
    for forbidden in (
        lambda: store.write(iterations.advance, iteration.id, epoch, stage="ppo", progress=0.5),
        lambda: store.write(iterations.succeed, iteration.id, epoch, 1),
        lambda: store.write(leases.renew, leases.LEARNER, epoch, 60.0),
    ):
        with pytest.raises(LeaseLost):
            forbidden()
    store.write(leases.release, leases.LEARNER, epoch)
    assert store.write(iterations.claim, iteration.id, "two", 60.0, 5) is None
    events = store.read(iterations.events_after, iteration.id, 0)
    assert [(event.kind, event.data) for event in events[2:]] == [("cancelled", {"reason": "wrong settings"})]
    newest = store.read(audit.newest)
    assert (newest.action, newest.reason) == ("iteration.cancel", "wrong settings")
    # The next one may start at once, and is another's.
    following = store.write(iterations.start, trigger="count", seed=0, settings={})
    _, later = store.write(iterations.claim, following.id, "two", 60.0, 5)
    assert later > epoch


def test_a_queued_iteration_can_be_cancelled_and_an_ended_one_cannot(store: Store) -> None:
    iteration = store.write(iterations.start, trigger="count", seed=0, settings={})
    assert store.write(iterations.cancel, iteration.id, "", "key_a").state == "cancelled"
    assert store.read(iterations.active) is None
    iteration = store.write(iterations.start, trigger="count", seed=0, settings={})
    _, epoch = store.write(iterations.claim, iteration.id, "one", 60.0, 5)
    store.write(iterations.fail, iteration.id, epoch, "diverged")
    with pytest.raises(Conflict, match="has failed already"):
        store.write(iterations.cancel, iteration.id, "", "key_a")
    with pytest.raises(NotFound):
        store.write(iterations.cancel, "itr_unknown", "", "key_a")


def test_each_iteration_has_its_own_seed(store: Store) -> None:
    seeds = []
    for _ in range(2):
        iteration = store.write(iterations.start_next, trigger="count", learner={"seed": 5})
        _, epoch = store.write(iterations.claim, iteration.id, "one", 60.0, 5)
        store.write(iterations.fail, iteration.id, epoch, "")
        seeds.append(iteration.seed)
    assert seeds == [5, 6]


def test_an_iteration_that_kills_its_process_ends(store: Store) -> None:
    iteration = store.write(iterations.start, trigger="count", seed=0, settings={})
    for _ in range(2):
        _, epoch = store.write(iterations.claim, iteration.id, "one", 60.0, 2)
        store.write(leases.release, leases.LEARNER, epoch)
    assert store.write(iterations.claim, iteration.id, "one", 60.0, 2) is None
    ended = store.read(iterations.get, iteration.id)
    assert (ended.state, ended.error) == ("failed", "its process died 2 times")
    assert not store.read(leases.held, leases.LEARNER)
