"""Raters set apart and let in again: said at once, then their votes follow part by part, so that nobody waits for long.

From the first moment on no vote of a rater who is set apart is counted any more, and no dataset, no gate and no export
takes one that still counts; until the last part ratings and totals have the rest. What is cut off the scheduler goes on
with (`finish`).
"""

from contextlib import suppress

from feedback.errors import NotFound
from feedback.store import Store, audit, parts, raters


def quarantine(store: Store, rater_id: str, reason: str, *, actor: str = audit.AT_THE_MACHINE) -> int:
    """Set a rater apart: their votes, and those to come, count nowhere until they are released.

    Returns how many votes that concerns. Raises NotFound.
    """
    votes = store.write(raters.quarantine, rater_id, reason, actor=actor)
    _move(store, rater_id)
    return votes


def release(store: Store, rater_id: str, *, actor: str = audit.AT_THE_MACHINE) -> int:
    """Let a rater's votes count again; the outlier test begins anew. Returns how many votes. Raises NotFound."""
    votes = store.write(raters.release, rater_id, actor=actor)
    _move(store, rater_id)
    return votes


def finish(store: Store) -> int:
    """Go on with what was cut off. Returns of how many raters."""
    left = store.read(raters.half_moved)
    for rater_id in left:
        # Who was erased meanwhile has no votes to move.
        with suppress(NotFound):
            _move(store, rater_id)
    return len(left)


def _move(store: Store, rater_id: str) -> None:
    parts.write(store, raters.move, rater_id, parts.cut(store.read(raters.to_move, rater_id)))
