"""The audit's chain: each entry's digest covers what it says and the digest of the entry before it.

Whoever changes, removes or inserts an entry has to make every later digest anew. Who kept a digest that
`tandem audit verify` printed can tell even that, and that the last entries were removed (`--kept`).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

START = "0" * 64
DIGEST = "[0-9a-f]{64}"


class Entry(Protocol):
    """What an entry says, as `feedback.schema.AuditEntry` keeps it."""

    seq: Any
    created_at: Any
    actor: Any
    action: Any
    subject: Any
    reason: Any
    data: Any
    previous: Any
    digest: Any


@dataclass(frozen=True)
class Checked:
    """How far a chain holds: how many entries, the last digest, and the first entry that does not hold, if any."""

    entries: int
    head: str
    broken_at: int | None
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "head": self.head,
            "intact": self.broken_at is None,
            "broken_at": self.broken_at,
            "problem": self.problem,
        }


def digest_of(entry: Entry) -> str:
    """SHA-256 of the entry's fields, the digest before it among them, as JSON with sorted keys."""
    said = [
        entry.seq,
        entry.created_at,
        entry.actor,
        entry.action,
        entry.subject,
        entry.reason,
        entry.data,
        entry.previous,
    ]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def verify(entries: Iterable[Entry], kept: str = START) -> Checked:
    """Check a whole chain, oldest entry first. An earlier one had the digest `kept`, and this one has to have it."""
    count, head, is_kept = 0, START, kept == START
    for entry in entries:
        problem = _problem(entry, count + 1, head)
        if problem is not None:
            return Checked(count, head, entry.seq, problem)
        count, head = count + 1, entry.digest
        is_kept = is_kept or head == kept
    if not is_kept:
        return Checked(
            count,
            head,
            count + 1,
            "no entry has the digest that was kept: the end was removed, or it is another chain's",
        )
    return Checked(count, head, None, None)


def _problem(entry: Entry, expected: int, head: str) -> str | None:
    if entry.seq != expected:
        return f"entry {expected} is missing"
    if entry.previous != head:
        return "it does not follow the entry before it"
    try:
        is_as_it_was = entry.digest == digest_of(entry)
    except TypeError:
        # Of a kind that no entry is made of: SQLite keeps anything in any column.
        is_as_it_was = False
    return None if is_as_it_was else "it does not say what it said when it was written"
