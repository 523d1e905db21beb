"""A promotion that there is nothing to do for, one that the end of its process cuts off, and one that something speaks
against by the time that it is loaded.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event

from feedback.errors import Conflict
from feedback.gate import GateRefused
from feedback.operating_settings import GateSettings
from feedback.schema import Policy
from feedback.store import audit, counting, leases, policies, raters, traffic
from feedback.store.traffic import Shares
from serve.engine.changing import Changing
from serve.engine.pool import Pool
from serve.engine.swap import Change, Promoter
from serve.metrics import Metrics
from serve.record import Record
from tests.feedback.live import vote_between

CHANGE = Change("promote", "test", False, "admin")


async def test_what_serves_is_promoted_at_once_whatever_else_is_under_way(record: Record, tmp_path: Path) -> None:
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    pool = Pool(tmp_path, 2, seats_per_slot=4, max_queued=4)
    no_engines: Any = None
    changing = Changing(record, "api_1", 30.0)
    promoter = Promoter(pool, no_engines, record, no_engines, no_engines, Metrics(), GateSettings(), changing)
    async with Changing(record, "api_1", 30.0).asked():
        with pytest.raises(Conflict):
            await promoter.promote(0, CHANGE)
        pool.serving = 0
        assert not (await promoter.promote(0, CHANGE)).changed


async def test_a_change_instead_of_what_serves_no_more_is_refused(record: Record, tmp_path: Path) -> None:
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    record.store.write(lambda session: session.add(candidate()))
    no_engines: Any = None
    pool, changing = Pool(tmp_path, 2, seats_per_slot=4, max_queued=4), Changing(record, "api_1", 30.0)
    promoter = Promoter(pool, no_engines, record, no_engines, no_engines, Metrics(), GateSettings(), changing)
    with pytest.raises(Conflict, match="v1 does not serve any more"):
        await promoter.promote(0, replace(CHANGE, instead_of=1))
    # Nor is it said to have nothing before it, who comes second with a rollback to the start.
    with pytest.raises(Conflict, match="v1 does not serve any more"):
        await promoter.rollback(replace(CHANGE, kind="rollback", instead_of=1))
    assert record.store.read(policies.promotions) == []


@pytest.mark.parametrize("when", ["before", "made", "lease lost"])
async def test_one_that_is_cut_off_is_in_the_record_as_what_it_was(record: Record, tmp_path: Path, when: str) -> None:
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    record.store.write(lambda session: session.add(candidate()))
    put_back, write = list[Any](), record.write

    async def cut_off(*_: Any) -> Any:
        if when == "lease lost":
            record.store.write(
                lambda session: leases.revoke(lease := leases.lock(session, leases.ENGINES), lease.epoch)
            )
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def write_and_be_cut_off(operation: Any, *args: Any) -> Any:
        written = await write(operation, *args)
        if operation.__name__ == "_set_serving":
            await cut_off()
        return written

    async def found(what: Any) -> Any:
        return SimpleNamespace(policy=SimpleNamespace(version=1))

    async def take_back(loaded: Any) -> None:
        put_back.append(loaded)

    engines: Any = SimpleNamespace(prepare=found, load=found if when == "made" else cut_off, put_back=take_back)
    others: Any = SimpleNamespace(withdraw=found)
    own: Any = SimpleNamespace(others=0, id="api_1")
    pool, changing = Pool(tmp_path, 1, seats_per_slot=4, max_queued=4), Changing(record, "api_1", 30.0)
    pool.serving = 0
    promoter = Promoter(pool, engines, record, own, others, Metrics(), GateSettings(), changing)
    record.write = write_and_be_cut_off  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await promoter.promote(1, Change("promote", "test", True, "admin"))
    assert len(put_back) == 1
    serving = record.store.read(policies.serving)
    assert serving is not None and serving.version == (1 if when == "made" else 0)
    attempts = record.store.read(policies.promotions, 1)
    # Who has lost the lease writes nothing more.
    outcomes = {"before": ["failed"], "made": ["succeeded"], "lease lost": []}[when]
    assert [attempt.outcome for attempt in attempts] == outcomes
    if when == "before":
        assert "ended" in (attempts[0].detail or "")


def candidate(evidence: dict[str, Any] | None = None) -> Policy:
    return Policy(
        version=1, state="candidate", parent=0, path="policies/v1", digest="e" * 64, iteration_id="itr_1",
        dataset_digest=None, settings={}, seed=0, evidence=evidence or {}, created_at=1.0,
    )  # fmt: skip


BETTER = {"evaluation": {"win_rate": {"value": 0.6, "interval": [0.5, 0.7]}}}
TAXED = {"drop": {"value": 0.5, "interval": [0.4, 0.6]}}
BY_RULE = Change("promote", "every stage is passed", False, audit.RULE)


class Loading:
    """In the place of what drives engines: something happens while it loads."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    async def prepare(self, version: int) -> Any:
        return SimpleNamespace(version=version)

    async def load(self, policy: Any) -> Any:
        self._meanwhile()
        return SimpleNamespace(policy=policy)

    def flip(self, loaded: Any) -> None:
        pass

    async def nothing(self, _: Any) -> None:
        pass

    put_back = spread = nothing


async def change_while(
    record: Record, folder: Path, change: Change, meanwhile: Callable[[], object], metrics: Metrics | None = None
) -> None:
    """Promote v1, or roll back, in a process where v0 serves."""
    engines: Any = Loading(meanwhile)
    own: Any = SimpleNamespace(others=0, id="api_1")
    pool = Pool(folder, 1, seats_per_slot=4, max_queued=4)
    pool.serving = 0
    others: Any = SimpleNamespace(withdraw=engines.nothing)
    changing = Changing(record, "api_1", 30.0)
    promoter = Promoter(pool, engines, record, own, others, metrics or Metrics(), GateSettings(), changing)
    await (promoter.rollback(change) if change.kind == "rollback" else promoter.promote(1, change))


@pytest.fixture
def tried(record: Record) -> Record:
    """v1 passes the gate, and is tried by rule while v0 serves."""
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    record.store.write(lambda session: session.add(candidate(BETTER)))
    record.store.write(traffic.put, Shares(1, 0.5, 0.5), actor=audit.RULE)
    return record


def serving(record: Record) -> int:
    policy = record.store.read(policies.serving)
    assert policy is not None
    return policy.version


def measure_tax(record: Record) -> None:
    record.store.write(policies.add_evidence, 1, "tax", TAXED, actor="key_1")


def test_what_speaks_against_it_by_the_commit_stops_it(tried: Record, tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match="tax_drop_lower"):
        asyncio.run(change_while(tried, tmp_path, CHANGE, lambda: measure_tax(tried)))
    (attempt,) = tried.store.read(policies.promotions, 1)
    assert (serving(tried), attempt.outcome) == (0, "failed")
    assert "tax_drop_lower" in (attempt.detail or "")


@pytest.mark.parametrize("changes", [None, "a vote", "a rater", "the evidence"])
def test_its_votes_are_read_before_the_commit_and_within_it_only_where_something_changed(
    tried: Record, tmp_path: Path, changes: str | None
) -> None:
    def vote() -> None:
        vote_between(tried.store, winner=0, loser=1, rater="bob")
        tried.store.write(counting.count_accepted)

    vote()
    bob = tried.store.read(raters.find_person, "key_a", "bob")
    at_last = {
        "a vote": vote,
        "a rater": lambda: tried.store.write(raters.quarantine, bob, "noise"),
        "the evidence": lambda: measure_tax(tried),
    }
    write, within = tried.write, list[str]()

    def note(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        if "JOIN raters" in statement and connection.get_execution_options().get("tandem_writes"):
            within.append(statement)

    async def change_and_write(operation: Any, *args: Any) -> Any:
        if operation.__name__ == "_set_serving":
            at_last.get(changes or "", lambda: None)()
            within.clear()
        return await write(operation, *args)

    tried.write = change_and_write  # type: ignore[method-assign]
    event.listen(tried.store.engine, "before_cursor_execute", note)
    refused = pytest.raises(GateRefused) if changes == "the evidence" else contextlib.nullcontext()
    with refused:
        asyncio.run(change_while(tried, tmp_path, CHANGE, lambda: None))
    assert len(within) == (0 if changes is None else 1)
    assert serving(tried) == (0 if changes == "the evidence" else 1)


def test_who_forces_it_is_told_of_having_overruled_what_spoke_against_it_by_the_commit(
    tried: Record, tmp_path: Path
) -> None:
    asyncio.run(change_while(tried, tmp_path, Change("promote", "we know", True, "key_1"), lambda: measure_tax(tried)))
    (attempt,) = tried.store.read(policies.promotions, 1)
    assert (serving(tried), attempt.outcome) == (1, "succeeded")
    assert "tax_drop_lower" in (attempt.detail or "")


@pytest.mark.parametrize("changed", [Shares(), Shares(1), Shares(1, 0.2, 0.5)])
def test_a_rule_promotes_nothing_whose_share_a_person_changed(tried: Record, tmp_path: Path, changed: Shares) -> None:
    metrics = Metrics()

    def change() -> None:
        tried.store.write(traffic.put, changed, actor="key_1")

    with pytest.raises(Conflict, match="went by"):
        asyncio.run(change_while(tried, tmp_path, BY_RULE, change, metrics))
    assert serving(tried) == 0
    # An operator is told of promotions that failed.
    assert metrics.registry.get_sample_value("tandem_promotions_total", {"kind": "promote", "outcome": "failed"}) == 0
    assert tried.store.read(policies.promotions, 1) == []


def test_a_rule_promotes_what_it_tries(tried: Record, tmp_path: Path) -> None:
    asyncio.run(change_while(tried, tmp_path, BY_RULE, lambda: None))
    assert serving(tried) == 1


@pytest.mark.parametrize("actor", ["key_1", audit.RULE])
def test_a_rule_takes_back_only_what_a_rule_promoted(tried: Record, tmp_path: Path, actor: str) -> None:
    tried.store.write(policies.set_serving, 1, kind="promote", reason="", force=False, actor=actor)
    # A person compares the two.
    tried.store.write(traffic.put, Shares(0, 0.1, 0.5), actor="key_1")
    back = Change("rollback", "live votes turned", False, audit.RULE)
    if actor == audit.RULE:
        asyncio.run(change_while(tried, tmp_path, back, lambda: None))
    else:
        with pytest.raises(Conflict, match="went by"):
            asyncio.run(change_while(tried, tmp_path, back, lambda: None))
    assert serving(tried) == (0 if actor == audit.RULE else 1)
    assert tried.store.read(traffic.get) == (Shares() if actor == audit.RULE else Shares(0, 0.1, 0.5))


def test_where_this_process_could_not_follow_it_is_loaded_and_the_record_stays(tried: Record, tmp_path: Path) -> None:
    tried.store.write(policies.set_serving, 1, kind="promote", reason="", force=False, actor="key_1")
    asyncio.run(change_while(tried, tmp_path, CHANGE, lambda: None))
    assert serving(tried) == 1
    assert tried.store.read(policies.rollback_target) == 0, "not what serves itself"
    assert len(tried.store.read(policies.promotions, 1)) == 1
