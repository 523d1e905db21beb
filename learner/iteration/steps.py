"""What each step of a trainer did, a line each beside its checkpoint, so that whoever resumes it knows them all."""

from bisect import bisect_left
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from learner.evaluation import spaced

_number = itemgetter("step")


class Steps:
    """The steps so far, in order. One that is done again takes the place of what was written of it and of those after
    it: that was before a kill, from beyond the checkpoint that is gone on from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.so_far: list[dict[str, Any]] = []
        written = path.read_bytes() if path.exists() else b""
        # What a kill or a full disk cut short has no line break.
        whole = written[: written.rfind(b"\n") + 1]
        if whole != written:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for line in whole.splitlines():
            self._take(orjson.loads(line))

    def add(self, done: Any) -> None:
        """A step that was done: a dataclass with `step`, its number from 1 on."""
        line = orjson.dumps(done, option=orjson.OPT_APPEND_NEWLINE)
        # Only added to: trainers on votes have thousands of steps.
        with self._path.open("ab") as file:
            file.write(line)
        self._take(orjson.loads(line))

    def some(self, count: int) -> list[dict[str, Any]]:
        """At most `count` of them, at equal spacing, with the last."""
        return spaced(self.so_far[::-1], count)[::-1]

    def _take(self, step: dict[str, Any]) -> None:
        del self.so_far[bisect_left(self.so_far, step["step"], key=_number) :]
        self.so_far.append(step)
