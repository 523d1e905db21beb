"""Changes of the record that are too large for one transaction, part by part: others have their turn between."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from sqlalchemy.orm import Session

from feedback.store import Store

Part = TypeVar("Part")

AT_ONCE = 500
BETWEEN_S = 0.005


def cut(ids: list[str]) -> Iterator[list[str]]:
    """As many at a time as one transaction takes."""
    for first in range(0, len(ids), AT_ONCE):
        yield ids[first : first + AT_ONCE]


def write(store: Store, change: Callable[[Session, str, Part], None], rater_id: str, parts: Iterable[Part]) -> None:
    """Make a change of what is a rater's, each part in a transaction of its own. Raises as `change`."""
    for part in parts:
        store.write(change, rater_id, part)
        # SQLite gives its one turn to whoever asks first: others have to find it free.
        time.sleep(BETWEEN_S)
