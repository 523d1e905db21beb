"""Writes of one process that wait for each other share a commit, and so one flush of the disk.

SQLite has one writer at a time, and each commit waits until the disk has it: a disk that takes ten milliseconds for
that lets no more than a hundred writers through in a second, one by one.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session


class Write:
    """A write that waits for its turn, and how it ended: neither `result` nor `error` is set until it has. `alone` does
    what `operation` does in a transaction of its own."""

    def __init__(self, operation: Callable[[Session], Any], alone: Callable[[], Any]) -> None:
        self.operation = operation
        self.alone = alone
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

    def _run_all(self) -> None:
        together = []
        while self._waiting:
            together.append(self._waiting.popleft())
        try:
            if len(together) == 1 or not self._run_together(together):
                for waiting in together:
                    waiting.run_alone()
        finally:
            # Where this thread was interrupted the others are not forgotten.
            self._waiting.extendleft(reversed([waiting for waiting in together if not waiting.ended]))

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
