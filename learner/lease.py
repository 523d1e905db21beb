"""Keeps the learner lease alive while a process works, and ends all processes that work under it when it is lost."""

import logging
import os
import threading
import time
from abc import ABC, abstractmethod

from sqlalchemy.exc import SQLAlchemyError

from feedback.errors import LeaseLost, RecordUnavailable
from feedback.store import Store, leases

log = logging.getLogger(__name__)

LEASE_LOST_EXIT_CODE = 75


class Looks(ABC):
    """Looks after the lease of `epoch` three times per `ttl_s` from a thread of its own, within `with`."""

    def __init__(self, store: Store, epoch: int, ttl_s: float) -> None:
        self._store = store
        self._epoch = epoch
        self._ttl_s = ttl_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._ttl_s / 3):
            self._look()

    @abstractmethod
    def _look(self) -> None: ...


class Heartbeat(Looks):
    """Renews the lease for who holds it."""

    def _look(self) -> None:
        try:
            self._store.write(leases.renew, leases.LEARNER, self._epoch, self._ttl_s)
        except LeaseLost:
            # Another process does the same work now, or the iteration was cancelled: nothing more could be written.
            log.warning("the learner lease was taken away; this process ends")
            os._exit(LEASE_LOST_EXIT_CODE)
        except (SQLAlchemyError, RecordUnavailable) as error:
            # The lease holds until it runs out, and whatever is written is checked against it.
            log.warning("the lease could not be renewed (%s); trying again", type(error).__name__)


class Watch(Looks):
    """For the other processes of the holder: from another machine they may not hear that it is gone, and would wait for
    its next word for ever."""

    def __init__(self, store: Store, epoch: int, ttl_s: float) -> None:
        super().__init__(store, epoch, ttl_s)
        self._seen_at = time.monotonic()

    def _look(self) -> None:
        try:
            if self._store.read(leases.held, leases.LEARNER, self._epoch):
                self._seen_at = time.monotonic()
        except (SQLAlchemyError, RecordUnavailable) as error:
            log.warning("the lease could not be looked at (%s); trying again", type(error).__name__)
        # At the end of an iteration the lease is given back a moment before the others are told.
        if time.monotonic() - self._seen_at > self._ttl_s:
            log.warning("the learner lease of epoch %d is gone; this process ends", self._epoch)
            os._exit(LEASE_LOST_EXIT_CODE)
