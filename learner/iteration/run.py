"""What the stages of one iteration share: settings, seed, lease, folder, and checkpoints in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from feedback.settings import LearnerSettings, Settings
from feedback.store import Store
from learner.iteration.checkpoint import Checkpoint
from learner.processes import ALONE, Processes
from learner.progress import Progress


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
    processes: Processes = ALONE

    def checkpoint(self, name: str, processes: Processes | None = None) -> Checkpoint:
        """The training state of that file name, of all processes unless said otherwise. One that is not whole is told
        of when it is loaded."""

        def on_invalid(what: str) -> None:
            self.progress.tell("checkpoint_invalid", {"checkpoint": name, "error": what})

        return Checkpoint(
            self.folder / name, self.learner.checkpoint_interval_s, on_invalid, processes or self.processes
        )


def device_of(learner: LearnerSettings) -> str | None:
    """The device that the settings name; None for a GPU where there is one."""
    return None if learner.device == "auto" else learner.device


def write_json(path: Path, value: Any) -> None:
    """Write all at once: a kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    partial.replace(path)
