"""A file whose lines are put to the API, several at the same time; what cannot be taken is set aside."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from deploy.command.api import Api
    from feedback.importing import Aside

Said = TypeVar("Said")
Item = TypeVar("Item")
Answer = TypeVar("Answer")

LONGEST_WAIT_S = 30.0
BUSY = (409, 429, 503)
"""409 is said while an earlier try of the same request is still being answered."""
NOT_TAKEN = (400, 413, 422)
ABOUT_ALL = ("no_preference_model", "policy_invalid")
"""Codes that speak of the version, not of the line."""


@dataclass(frozen=True)
class Record(Generic[Said]):
    """A line of a file, by its number and as it stands there, and what it says."""

    line: int
    text: str
    said: Said


class Records(Generic[Said]):
    """The lines of a file as `parse` reads them; what cannot be taken goes `aside`. Raises InvalidRequest for a file
    that cannot be read."""

    def __init__(
        self, path: Path, parse: Callable[[bytes], Said], aside: "Aside", on_progress: Callable[[int], None]
    ) -> None:
        self.read = 0
        self._aside, self._last_left = aside, 0
        self._path, self._parse, self._on_progress = path, parse, on_progress

    def __iter__(self) -> Iterator[Record[Said]]:
        from feedback.formats import SetAside
        from feedback.importing import lines

        for number, line in lines(self._path, self._on_progress):
            self.read += 1
            text = line.decode(errors="replace").rstrip("\r\n")
            try:
                said = self._parse(line)
            except SetAside as error:
                self._leave(number, text, error.message)
            else:
                yield Record(number, text, said)

    def leave(self, record: Record[Said], reason: str) -> None:
        """Set a record aside, once: what is said of the same one follows at once."""
        if record.line != self._last_left:
            self._last_left = record.line
            self._leave(record.line, record.text, reason)

    def _leave(self, number: int, text: str, reason: str) -> None:
        from feedback.importing import Line

        self._aside.add(Line(number, reason, text))


def put_each(
    items: Iterable[Item],
    put: Callable[[Item, threading.Event], Answer],
    take: Callable[[Item, "Future[Answer]"], None],
    concurrency: int,
) -> None:
    """`put` items in threads, so many at the same time, and `take` what came of each, one after the other in their
    order. What `take` raises ends it; `put` is told by its event not to wait any longer."""
    waiting = deque[tuple[Item, Future[Answer]]]()
    stopping = threading.Event()
    workers = ThreadPoolExecutor(concurrency)
    try:
        for item in items:
            waiting.append((item, workers.submit(put, item, stopping)))
            if len(waiting) == 2 * concurrency:
                take(*waiting.popleft())
        while waiting:
            take(*waiting.popleft())
    finally:
        stopping.set()
        workers.shutdown(cancel_futures=True)


def post_patiently(api: "Api", path: str, *, patience_s: float, stopping: threading.Event, **options: Any) -> Any:
    """The answer, asked for again while the server is busy. Raises SetAside for what the server does not take, and
    TandemError for what any other line would meet too."""
    from deploy.command.api import ApiRefused
    from feedback.formats import SetAside

    waited_s, wait_s = 0.0, 0.5
    while True:
        try:
            return api.call("POST", path, **options)
        except ApiRefused as refused:
            if refused.status in NOT_TAKEN and refused.code not in ABOUT_ALL:
                raise SetAside(refused.message) from refused
            if refused.status not in BUSY or waited_s >= patience_s or stopping.wait(wait_s):
                raise
            waited_s += wait_s
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
