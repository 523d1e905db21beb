"""What the stages of one iteration share: settings, seed, lease, folder, and checkpoints in it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from feedback.settings import LearnerSettings, Settings
from feedback.store import Store
from learner.progress import Progress
from learner.training_state import TrainingState


@dataclass(frozen=True)
class Run:
    """What the stages of one iteration share."""

    store: Store
    settings: Settings
    learner: LearnerSettings
    iteration_id: str
    seed: int
    epoch: int
    folder: Path
    progress: Progress

    @property
    def device(self) -> str | None:
        return None if self.learner.device == "auto" else self.learner.device


class Checkpoint:
    """A training state on disk, written at most every `interval_s` and at the end."""

    def __init__(self, path: Path, interval_s: float) -> None:
        self._path = path
        self._interval_s = interval_s
        self._written_at = time.monotonic()

    def offer(self, state: Callable[[], TrainingState], *, last: bool) -> None:
        if last or time.monotonic() - self._written_at >= self._interval_s:
            state().save(self._path)
            self._written_at = time.monotonic()

    def load(self) -> TrainingState | None:
        return TrainingState.load(self._path) if self._path.exists() else None


def write_json(path: Path, value: Any) -> None:
    """Write all at once: a kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    partial.replace(path)
