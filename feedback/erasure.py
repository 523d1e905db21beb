"""Erasure of a person: from the record and from the datasets that were frozen from it, in every home that has them."""

import logging
import time
from pathlib import Path

from feedback import datasets
from feedback.store import Store, audit, erasure, parts
from feedback.store import datasets as recorded
from feedback.store.erasure import Traces, Use

log = logging.getLogger(__name__)

AGAIN_S = 60.0


def forget(store: Store, home: Path, rater_id: str, *, actor: str = audit.AT_THE_MACHINE) -> Use:
    """Erase a rater. Returns what had learnt from their data: that cannot unlearn it.

    The record goes part by part, then the files of this home, and the person last: when this is cut off, running it
    again does the rest. Other homes follow the record (`Erasures`). Raises NotFound when there is no such rater, or it
    was erased before.
    """
    parts.write(store, erasure.take, rater_id, store.read(erasure.rest, rater_id).parts())
    # Parts take long, and files: what was frozen or published meanwhile is seen here, not within the last transaction.
    seen = _take_out_of_files(store, home, rater_id)
    if store.read(erasure.stamp) != seen.stamp:
        seen = _take_out_of_files(store, home, rater_id)
    use = store.write(erasure.erase, rater_id, seen, actor=actor)
    # Where somebody reads just now, the scheduler does it.
    store.forget_log()
    return use


def _take_out_of_files(store: Store, home: Path, rater_id: str) -> Traces:
    seen = store.read(erasure.traces, rater_id)
    for path, votes in seen.datasets.items():
        folder = home / path
        # A dataset that is gone, or on another machine, holds nothing here.
        if (folder / datasets.LINES).exists():
            datasets.forget(folder, votes)
    return seen


class Erasures:
    """What was erased from the record through another machine, or while a dataset was being frozen, goes from the
    datasets of this home too, and what was erased at all from the database's log. `look` costs two questions while
    nothing new was erased or frozen.
    """

    def __init__(self, store: Store, home: Path) -> None:
        self._store = store
        self._home = home
        self._done: dict[str, int] = {}
        self._out_of_log = 0
        self._not_before = 0.0

    def look(self) -> int:
        """Returns how many lines went."""
        erased = self._store.read(erasure.count_erased)
        if not erased or time.monotonic() < self._not_before:
            return 0
        if self._out_of_log != erased and self._store.forget_log():
            self._out_of_log = erased
        lines = 0
        for digest, path in self._store.read(recorded.complete).items():
            folder = self._home / path
            if self._done.get(digest) == erased or not (folder / datasets.LINES).exists():
                continue
            votes = self._store.read(recorded.erased, digest)
            try:
                lines += datasets.forget(folder, votes) if votes else 0
            except OSError as error:
                self._not_before = time.monotonic() + AGAIN_S
                log.warning("what was erased is still in %s, which cannot be written: %s", folder, error.strerror)
                continue
            self._done[digest] = erased
        if lines:
            log.info("%d lines of people who were erased are gone from the datasets here", lines)
        return lines
