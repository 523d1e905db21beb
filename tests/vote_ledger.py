"""Voters who keep a ledger of what was acknowledged, and the comparison of that ledger with the record."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from sqlalchemy import func, select

from feedback.schema import Comparison, Tally, Vote, VoteRevision
from feedback.store import Store

PATIENCE_S = 180.0


@dataclass
class Entry:
    """What the record must say of one rater's vote on one comparison: the last thing that was acknowledged."""

    id: str
    said: dict[str, Any] | None
    changes: int


@dataclass
class Ledger:
    """Keyed by (comparison, rater, objective). `unsure` counts requests that were refused or had no answer, and were
    sent again; `refused` those of them that had one, by status and what it was said in."""

    entries: dict[tuple[str, str, str], Entry] = field(default_factory=dict)
    acknowledged: int = 0
    unsure: int = 0
    refused: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


class Voter:
    """Votes, votes again the same, changes and retracts, each until it is acknowledged."""

    def __init__(self, name: str, url: str, key: str, ledger: Ledger, seed: int, pause_s: float = 0.0) -> None:
        self.name = name
        self.ledger = ledger
        self.rng = random.Random(f"{seed}-{name}")
        self.pause_s = pause_s
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}

    async def vote_until(self, stop: asyncio.Event, comparisons: list[str]) -> None:
        async with aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=20)) as session:
            while not stop.is_set():
                await self.once(session, self.rng.choice(comparisons))
                await asyncio.sleep(self.pause_s)

    async def once(self, session: aiohttp.ClientSession, comparison: str) -> None:
        objective = self.rng.choice(("helpful", "harmless"))
        known = self.ledger.entries.get((comparison, self.name, objective))
        if known is not None and known.said is not None and self.rng.random() < 0.1:
            await self.retract(session, comparison, objective)
            return
        said = {"preferred": self.rng.choice((0, 1, "tie")), "strength": self.rng.randint(1, 4)}
        if known is not None and known.said is not None and self.rng.random() < 0.3:
            said = known.said
        await self.say(session, comparison, objective, said)

    async def say(self, session: aiohttp.ClientSession, comparison: str, objective: str, said: dict[str, Any]) -> None:
        """Vote so, for the first time or another time; returns when it is acknowledged."""
        key = (comparison, self.name, objective)
        known = self.ledger.entries.get(key)
        answer = await self._send(
            session, "PUT", self._vote_url(comparison), {"objective": objective, "rater": self.name, **said}
        )
        if known is None:
            self.ledger.entries[key] = Entry(answer["id"], said, 1)
        else:
            assert known.id == answer["id"]
            known.changes += known.said != said
            known.said = said

    async def retract(self, session: aiohttp.ClientSession, comparison: str, objective: str) -> None:
        known = self.ledger.entries[comparison, self.name, objective]
        url = f"{self._vote_url(comparison)}?objective={objective}&rater={self.name}"
        await self._send(session, "DELETE", url, None)
        known.said, known.changes = None, known.changes + 1

    def _vote_url(self, comparison: str) -> str:
        return f"{self._url}/v1/comparisons/{comparison}/vote"

    async def _send(
        self, session: aiohttp.ClientSession, method: str, url: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            began = time.monotonic()
            try:
                async with session.request(method, url, json=body) as response:
                    if response.status == 200:
                        answer: dict[str, Any] = await response.json()
                        self.ledger.acknowledged += 1
                        self.ledger.seconds.append(time.monotonic() - began)
                        return answer
                    assert response.status >= 500, (response.status, await response.text())
                    said = await response.json(content_type=None)
                    self.ledger.refused[response.status, response.content_type, said["code"]] += 1
            except (aiohttp.ClientError, TimeoutError):
                pass
            assert time.monotonic() < deadline, f"no acknowledgement within {PATIENCE_S} s"
            self.ledger.unsure += 1
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Balance:
    """How the record differs from a ledger. All empty or 0: nothing lost, nothing double."""

    lost: list[str]
    unknown: int
    double_revisions: list[str]
    double_counts: list[str]
    tallies_off: dict[str, tuple[int, int]]

    @property
    def even(self) -> bool:
        return not (self.lost or self.unknown or self.double_revisions or self.double_counts or self.tallies_off)


def balance(store: Store, ledger: Ledger) -> Balance:
    """Compare the record, when all votes have been counted, with what was acknowledged."""
    rows, revisions, votes_counted, tallies = store.read(
        lambda session: (
            {row.id: row for row in session.scalars(select(Vote))},
            # The earlier ones, and the present one.
            Counter(session.scalars(select(VoteRevision.vote_id))) + Counter(session.scalars(select(Vote.id))),
            dict(session.execute(select(Comparison.id, Comparison.votes_counted)).all()),
            dict(session.execute(select(Tally.preferred, func.sum(Tally.votes)).group_by(Tally.preferred)).all()),
        )
    )
    lost, double_revisions = [], []
    expected, preferred = Counter[str](), Counter[str]()
    for (comparison, _, _), entry in ledger.entries.items():
        row = rows.get(entry.id)
        if row is None:
            lost.append(entry.id)
            continue
        if entry.said is None:
            kept = row.state == "retracted"
        else:
            kept = (row.state, row.preferred, row.strength) == (
                "counted",
                str(entry.said["preferred"]),
                entry.said["strength"],
            )
            expected[comparison] += 1
            preferred[str(entry.said["preferred"])] += 1
        if not kept:
            lost.append(entry.id)
        if revisions[entry.id] != entry.changes:
            double_revisions.append(entry.id)
    return Balance(
        lost,
        len(rows.keys() - {entry.id for entry in ledger.entries.values()}),
        double_revisions,
        [id_ for id_, count in votes_counted.items() if count != expected[id_]],
        {said: (preferred[said], count) for said, count in tallies.items() if preferred[said] != count},
    )
