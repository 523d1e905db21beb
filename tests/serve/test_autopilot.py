"""Promotion by rule with real engines: a candidate is tried, promoted, and rolled back when live votes turn."""

import asyncio
from typing import Any

import pytest

from feedback import automatic
from feedback.operating_settings import AutomaticSettings, GateSettings
from feedback.store import audit, traffic
from feedback.store.traffic import Shares
from feedback.worker import count_all
from serve.autopilot import Autopilot
from tests.feedback.live import vote_between
from tests.serve.conftest import Tandem, wait_until_ready
from tests.serve.spoiling import spoiled_version

pytestmark = [pytest.mark.engine]

SETTINGS = AutomaticSettings(enabled=True, shares=[0.2, 0.6], votes_per_stage=10, votes_to_turn=10)


def look(tandem: Tandem, autopilot: Autopilot) -> Any:
    """One look, in the process's own loop."""
    loop = tandem.gateway._tasks[0].get_loop()
    step = asyncio.run_coroutine_threadsafe(autopilot.look(), loop).result(timeout=120)
    return None if step is None else (step.do, step.version)


def votes(tandem: Tandem, winner: int, loser: int, count: int) -> None:
    for number in range(count):
        vote_between(tandem.store, winner, loser, rater=f"rater-{number}")
    count_all(tandem.store)


def test_from_candidate_to_serving_and_back(tandem: Tandem) -> None:
    gateway = tandem.gateway
    # A rollback leads to what served before, so the test begins where nothing but v0 has served.
    with tandem.client() as client:
        client.post("/v1/policies/v0/promote", json={"reason": "begin"})
    tandem.store.write(traffic.put, Shares())
    # One of its own: the newest may be what another test has spoiled, or promoted before.
    newest = spoiled_version(tandem.store, tandem.settings, "nothing")
    gate = GateSettings(rules=["win_rate_lower >= 0.5"])
    autopilot = Autopilot(SETTINGS, gate, gateway.record, gateway.promoter, gateway.challengers)

    assert look(tandem, autopilot) == ("stage", newest)
    shares = tandem.store.read(traffic.get)
    assert (shares.challenger, shares.chat_share, shares.comparison_share) == (newest, 0.2, 0.5)
    assert newest in gateway.pool.loaded()
    assert look(tandem, autopilot) is None, "it waits for votes"
    votes(tandem, newest, 0, 10)
    assert look(tandem, autopilot) == ("stage", newest)
    assert tandem.store.read(traffic.get).chat_share == 0.6
    votes(tandem, newest, 0, 10)
    assert look(tandem, autopilot) == ("promote", newest)
    assert gateway.pool.serving == newest and tandem.store.read(traffic.get).challenger is None
    assert look(tandem, autopilot) is None

    votes(tandem, 0, newest, 80)
    assert look(tandem, autopilot) == ("rollback", newest)
    assert gateway.pool.serving == 0
    # Asked without a look, which would try the next candidate and leave other tests with an engine that loads it.
    assert tandem.store.read(automatic.stand, gate).candidate != newest, "what was rolled back is not tried again"
    entries, _ = tandem.store.read(audit.list_page, limit=4, after=None, order="desc")
    assert {entry.actor for entry in entries} == {"rule"} and all(entry.reason for entry in entries)
    assert tandem.store.read(audit.verify).broken_at is None
    tandem.store.write(traffic.put, Shares())
    wait_until_ready(tandem)
