"""What every API process keeps up with, and asks for each second: the shares, what serves, what was never promoted, and
a promotion that is being prepared. One statement of few columns, of which nothing is made but numbers.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Dialect, select
from sqlalchemy.orm import Session

from feedback.schema import Policy, Preparation, Traffic
from feedback.store import Store, policies, presence, traffic
from feedback.store.presence import Asked
from feedback.store.traffic import Shares


@dataclass(frozen=True)
class Standing:
    """`serving` is a version, and `candidates` are versions that were never promoted."""

    shares: Shares
    candidates: frozenset[int]
    serving: int | None
    asked: Asked | None


def read(store: Store) -> Standing:
    """Raises RecordUnavailable."""
    rows = store.look(_statement(store.engine.dialect))
    if not rows or rows[0][-1] is not None:
        # Rare, and more to it: whether what is being prepared still counts depends on the lease, and on the time.
        return store.read(_in_full)
    challenger, chat_share, comparison_share = rows[0][2:5]
    return Standing(
        Shares() if chat_share is None else Shares(challenger, chat_share, comparison_share),
        frozenset(version for version, state, *_ in rows if state == "candidate"),
        next((version for version, state, *_ in rows if state == "serving"), None),
        None,
    )


def _in_full(session: Session) -> Standing:
    serving = policies.serving(session)
    return Standing(
        traffic.get(session),
        policies.candidates(session),
        None if serving is None else serving.version,
        presence.asked_for(session),
    )


@cache
def _statement(dialect: Dialect) -> str:
    """A row for each version that serves or is a candidate; the shares and the preparation's epoch stand in each."""
    columns = Policy.version, Policy.state, Traffic.challenger, Traffic.chat_share, Traffic.comparison_share
    statement = (
        select(*columns, Preparation.epoch)
        .select_from(Policy)
        .join(Traffic, Traffic.id == 1, isouter=True)
        .join(Preparation, Preparation.id == 1, isouter=True)
        .where(Policy.state.in_(("serving", "candidate")))
    )
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
