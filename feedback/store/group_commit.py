"""Writes of one process that wait for each other share a commit, and so one flush of the disk.

SQLite has one writer at a time, and each commit waits until the disk has it: a disk that takes ten milliseconds for
that lets no more than a hundred writers through in a second, one by one.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.orm import Session


class Write:
    """A write that waits for its turn, and how it ended: neither `result` nor `error` is set until it has. `alone` does
    what `operation` does in a transaction of its own, `by_driver`, where it is given, by SQLite's driver alone."""

    def __init__(
        self,
        operation: Callable[[Session], Any],
        alone: Callable[[], Any],
        by_driver: Callable[[sqlite3.Connection], Any] | None = None,
    ) -> None:
        self.operation = operation
        self.alone = alone
        self.by_driver = by_driver
        self.ended = False
        self.result: Any = None
        self.error: Exception | None = None

    def run_alone(self) -> None:
        try:
            self.result = self.alone()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits for it
            self.error = error
        self.ended = True


class GroupCommit:
    """Runs writes in the order in which they came, as many in one transaction as have gathered meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Kept for what the driver does alone: to take one from the pool for each costs a quarter as much again.
        self._kept: sqlite3.Connection | None = None
        self._turn = threading.Lock()
        self._waiting: deque[Write] = deque()

    def run(self, writes: Sequence[Write]) -> None:
        """Returns when each of them is durable, or has its error.

        Whoever's turn it is does the work of all that wait. Where anything is raised among several, nothing of them is
        kept and each is run alone: so each fails by itself, and it does not matter whether the database gave the
        transaction up.
        """
        self._waiting.extend(writes)
        with self._turn:
            if not all(write.ended for write in writes):
                self._run_all()

    def close(self) -> None:
        with self._turn:
            self._close()

    def _run_all(self) -> None:
        together = []
        while self._waiting:
            together.append(self._waiting.popleft())
        try:
            if not self._run_by_driver(together) and (len(together) == 1 or not self._run_together(together)):
                for waiting in together:
                    waiting.run_alone()
        finally:
            # Where this thread was interrupted the others are not forgotten.
            self._waiting.extendleft(reversed([waiting for waiting in together if not waiting.ended]))

    def _run_by_driver(self, together: list[Write]) -> bool:
        """Whether all are durable."""
        operations = [waiting.by_driver for waiting in together if waiting.by_driver is not None]
        if len(operations) < len(together):
            return False
        try:
            driver = self._driver()
            driver.execute("BEGIN IMMEDIATE")
            results = [operation(driver) for operation in operations]
            driver.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the ordinary way tells what is wrong, and waits for its turn
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                self._close()
            return False
        finally:
            if self._kept is not None and self._kept.in_transaction:
                # What was begun is undone with it: nobody else could write before.
                self._close()
        for waiting, result in zip(together, results, strict=True):
            waiting.result, waiting.ended = result, True
        return True

    def _driver(self) -> sqlite3.Connection:
        if self._kept is None:
            connection = self._engine.raw_connection()
            self._kept = cast(sqlite3.Connection, connection.driver_connection)
            connection.detach()
            self._kept.execute("PRAGMA busy_timeout=0")
        return self._kept

    def _close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _run_together(self, together: list[Write]) -> bool:
        """Whether all are durable."""
        try:
            with self._engine.connect().execution_options(tandem_writes=True) as connection, connection.begin():
                for waiting in together:
                    with Session(connection, expire_on_commit=False) as session, session.begin():
                        waiting.result = waiting.operation(session)
        except Exception:  # noqa: BLE001 - each is run again alone, and raises what it has to
            return False
        for waiting in together:
            waiting.ended = True
        return True
