"""Keeps the learner lease alive while this process works, and ends the process when the lease is lost."""

import logging
import os
import threading

from sqlalchemy.exc import SQLAlchemyError

from feedback.errors import LeaseLost, RecordUnavailable
from feedback.store import Store, leases

log = logging.getLogger(__name__)

LEASE_LOST_EXIT_CODE = 75


class Heartbeat:
    """Renews the lease of `epoch` three times per `ttl_s` from a thread of its own, within `with`."""

    def __init__(self, store: Store, epoch: int, ttl_s: float) -> None:
        self._store = store
        self._epoch = epoch
        self._ttl_s = ttl_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._ttl_s / 3):
            try:
                self._store.write(leases.renew, leases.LEARNER, self._epoch, self._ttl_s)
            except LeaseLost:
                # Another process does the same work now, or the iteration was cancelled: nothing more could be written.
                log.warning("the learner lease was taken away; this process ends")
                os._exit(LEASE_LOST_EXIT_CODE)
            except (SQLAlchemyError, RecordUnavailable) as error:
                # The lease holds until it runs out, and whatever is written is checked against it.
                log.warning("the lease could not be renewed (%s); trying again", type(error).__name__)
