"""Samples and the comparisons made of them: written once, when the reply has ended."""

import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, and_, bindparam, select, union, update
from sqlalchemy.orm import Session

from feedback.ids import new_id
from feedback.schema import Comparison, Sample, Vote
from feedback.store import by_driver, counting, insert, page
from feedback.store.among import among

LOOKED_BACK = 500
"""Among how many of the newest replies to one prompt the parent of a sample is looked for: a prompt such as "hi" may
have as many as there are chats."""

COLUMNS = tuple(Sample.__table__.columns.keys())
PAIR_COLUMNS = tuple(Comparison.__table__.columns.keys())
DEFAULTED = tuple(column.name for column in Comparison.__table__.columns if column.default is not None)

_same_prompt = (
    select(Sample.id, Sample.key_id, Sample.text)
    .where(Sample.prompt_digest == bindparam("before"))
    .order_by(Sample.id.desc())
    .limit(LOOKED_BACK)
    .subquery()
)
# The sample that wrote the last reply in another one's conversation: same key, same words.
_PARENT = (
    select(_same_prompt.c.id)
    .where(_same_prompt.c.key_id == bindparam("key"), _same_prompt.c.text == bindparam("said"))
    .order_by(_same_prompt.c.id.desc())
    .limit(1)
)
_parent_by_driver = by_driver.Statement(_PARENT)
_insert_samples, _insert_comparisons = by_driver.Insert(Sample), by_driver.Insert(Comparison)


def prompt_digest(messages: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of the conversation that a reply answers."""
    return hashlib.sha256(orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)).hexdigest()


def opening_digest(messages: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of what the user said first, which all turns of a conversation share under whatever system message; where
    no user speaks, of all of it. Of a conversation that is nothing else it is the `prompt_digest`."""
    first = next((message for message in messages if message.get("role") == "user"), None)
    return prompt_digest(messages if first is None else [{"role": "user", "content": first.get("content")}])


def add(session: Session, samples: Sequence[Sample], comparisons: Sequence[Comparison] = ()) -> None:
    """Record samples, each with the sample whose reply its conversation went on with, and the comparisons that samples
    among them make. Those that are recorded already stay as they are: whoever was told that the record is away may have
    been told so of what it had taken. The result of no statement is looked at.
    """
    connection = session.connection()
    statement = insert(session, Sample.__table__).on_conflict_do_nothing()
    with_parent = statement.values(parent=_PARENT.scalar_subquery())
    # As plain rows: nobody goes on with them in this session, and its own bookkeeping costs more than the insert.
    for sample in samples:
        row = {name: getattr(sample, name) for name in COLUMNS}
        asked = _parent_asked_for(sample) if sample.parent is None else None
        if asked is None:
            connection.execute(statement, row)
        else:
            del row["parent"]
            connection.execute(with_parent, row | asked)
    pairs = insert(session, Comparison.__table__).on_conflict_do_nothing()
    for comparison in comparisons:
        given = {name: getattr(comparison, name) for name in PAIR_COLUMNS}
        row = {name: value for name, value in given.items() if value is not None or name not in DEFAULTED}
        connection.execute(pairs, row)


def add_by_driver(driver: sqlite3.Connection, samples: list[Sample], comparisons: list[Comparison]) -> None:
    """`add`, and the comparisons that samples among them make, in a transaction of the driver's."""
    _find_parents(samples, lambda asked: (_parent_by_driver.run(driver, **asked).fetchone() or [None])[0])
    _insert_samples.run(driver, samples)
    _insert_comparisons.run(driver, comparisons)


def _find_parents(samples: list[Sample], find: Callable[[dict[str, str]], str | None]) -> None:
    parents: dict[tuple[str, str], str | None] = {}
    for sample in samples:
        if sample.parent is None:
            # Of both replies of a pair it is the same.
            conversation = (sample.key_id, sample.prompt_digest)
            if conversation not in parents:
                asked = _parent_asked_for(sample)
                parents[conversation] = None if asked is None else find(asked)
            sample.parent = parents[conversation]


def _parent_asked_for(sample: Sample) -> dict[str, str] | None:
    """What `_PARENT` is asked by; None where the conversation has no reply in it."""
    messages = sample.messages
    last = next((at for at in reversed(range(len(messages))) if messages[at].get("role") == "assistant"), None)
    if last is None:
        return None
    content = messages[last].get("content")
    if not isinstance(content, str):
        return None
    return {"before": prompt_digest(messages[:last]), "key": sample.key_id, "said": content}


def compare(
    samples: tuple[Sample, Sample], *, key_id: str, tranche: str, comparison_id: str | None = None
) -> Comparison:
    """A comparison of two samples, in the order in which they were shown. Not yet recorded. One of twice the same reply
    asks nobody for a vote."""
    return Comparison(
        id=comparison_id or new_id("cmp"),
        key_id=key_id,
        sample_0=samples[0].id,
        sample_1=samples[1].id,
        version_0=None if samples[0].mixed else samples[0].version_first,
        version_1=None if samples[1].mixed else samples[1].version_first,
        prompt_digest=samples[0].prompt_digest,
        tranche=tranche,
        origin=None,
        origin_digest=None,
        votes_counted=0,
        is_open=(samples[0].text, samples[0].message) != (samples[1].text, samples[1].message),
        created_at=samples[0].created_at,
    )


ERASED: dict[str, Any] = {
    "status": "erased", "messages": [], "text": "", "message": None, "token_ids": None, "logprobs": None,
    "sampling": {}, "prompt_digest": Sample.id,
}  # fmt: skip
"""What an erased sample holds: the row stays, so that what was counted still adds up; its texts go. What it was sampled
with has texts too: tools, where to stop, the form of the answer. By its digest, who guesses a prompt could see that
somebody asked it: the row's own id takes its place, here and in pairs."""


def expired(session: Session, before: float, limit: int) -> list[str]:
    """Up to `limit` samples from before that time that no vote was cast on and whose texts are still there."""
    return list(session.scalars(_expired(before).limit(limit)))


def expire(session: Session, ids: Sequence[str], before: float) -> int:
    """Erase those of these samples that are `expired` still. Returns how many."""
    hold_pairs_of(session, ids)
    ids = list(session.scalars(_expired(before).where(among(Sample.id, ids))))
    close(session, ids)
    session.execute(
        update(Sample).where(among(Sample.id, ids)).values(ERASED).execution_options(synchronize_session=False)
    )
    return len(ids)


def _expired(before: float) -> Select[str]:
    judged = select(Vote.id).join(Comparison, Comparison.id == Vote.comparison_id)
    return select(Sample.id).where(
        Sample.created_at < before,
        Sample.status != "erased",
        ~judged.where(Comparison.sample_0 == Sample.id).exists(),
        ~judged.where(Comparison.sample_1 == Sample.id).exists(),
    )


def close(session: Session, erased: Sequence[str]) -> None:
    """Pairs with a side among the samples `erased` no longer want votes, since there is nothing left to judge, nor say
    what the file said that they came from."""
    session.execute(
        update(Comparison)
        .where(among(Comparison.id, hold_pairs_of(session, erased)))
        .values(is_open=False, origin=None, prompt_digest=Comparison.id)
        .execution_options(synchronize_session=False)
    )


def hold_pairs_of(session: Session, ids: Sequence[str]) -> list[str]:
    """The pairs with a side among these samples, held: votes on them are there by now, or wait and see what became of
    their texts."""
    pairs = list(session.scalars(union(*pairs_of(ids))))
    counting.hold_pairs(session, pairs, votes_wait=True)
    return pairs


def pairs_of(ids: Sequence[str]) -> list[Select[str]]:
    """The ids of the pairs with one of these samples on one side, and of those with one on the other: asked for either
    at once, Postgres reads all pairs."""
    return [select(Comparison.id).where(among(side, ids)) for side in (Comparison.sample_0, Comparison.sample_1)]


def are_of(key_id: str, name: str) -> ColumnElement[bool]:
    """Whether samples are replies to the chats of the person who is known under this key by this name."""
    itself = Sample.user.is_(None) | (Sample.user == "")
    return and_(Sample.key_id == key_id, itself if name == "" else Sample.user == name)


def of_request(
    session: Session, request_id: str, *, key_id: str | None = None, limit: int, after: str | None = None
) -> tuple[list[tuple[Sample, str | None]], bool]:
    """The replies to the requests of this id, of all keys or one, in the order in which they were begun, each with the
    comparison that it is a side of; and whether more follow."""
    statement = select(Sample).where(Sample.request_id == request_id)
    if key_id is not None:
        statement = statement.where(Sample.key_id == key_id)
    found, more = page(session, statement, Sample.id, limit=limit, after=after, order="asc")
    ids = [sample.id for sample in found]
    sides: dict[str, str] = {}
    # One side and then the other, as in `pairs_of`. Not on the condition that they repeat no pair: by that SQLite would
    # look at every one that there is.
    for side in (Comparison.sample_0, Comparison.sample_1):
        pairs = session.scalars(select(Comparison).where(side.in_(ids)))
        asked_for = [pair for pair in pairs if pair.repeat_of is None]
        sides |= {shown: pair.id for pair in asked_for for shown in (pair.sample_0, pair.sample_1)}
    return [(sample, sides.get(sample.id)) for sample in found], more


def get(session: Session, sample_id: str) -> Sample | None:
    return session.get(Sample, sample_id)
