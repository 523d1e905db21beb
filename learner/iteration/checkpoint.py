"""Where a training run leaves its state, so that a process that takes over after a kill goes on from there."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from learner.dpo import DPOStep
from learner.errors import CheckpointInvalid
from learner.ppo import PPOStep
from learner.preference_training import PreferenceStep
from learner.processes import Processes
from learner.training_state import TrainingState

Step = TypeVar("Step", PreferenceStep, PPOStep, DPOStep)
Trained = TypeVar("Trained")

log = logging.getLogger(__name__)


class Checkpoint:
    """A training state on disk, written at most every `interval_s` and at the end, by the first of `processes` for all.

    `on_invalid` is told what is wrong with one that cannot be read or gone on from: the stage begins anew then.
    """

    def __init__(self, path: Path, interval_s: float, on_invalid: Callable[[str], None], processes: Processes) -> None:
        self._path = path
        self._interval_s = interval_s
        self._on_invalid = on_invalid
        self._processes = processes
        self._written_at = time.monotonic()

    def offer(self, state: Callable[[], TrainingState], *, last: bool) -> None:
        # The clock of the first process decides: all of them must give their shares of the state.
        if self._processes.tell(last or time.monotonic() - self._written_at >= self._interval_s):
            taken = state()
            if self._processes.first:
                taken.save(self._path)
            self._written_at = time.monotonic()

    def after(self, on_step: Callable[[Step], None]) -> Callable[[Step, Callable[[], TrainingState]], None]:
        """`on_step` as trainers call it: the state is offered after each step."""

        def told(done: Step, state: Callable[[], TrainingState]) -> None:
            on_step(done)
            self.offer(state, last=done.step == done.steps)

        return told

    def resume(self, train: Callable[[TrainingState | None], Trained]) -> Trained:
        """What `train` makes of the state that was left; of none, where that belongs to another run: somebody was
        erased since, say, and their votes are gone from the dataset."""
        try:
            return train(self.load())
        except CheckpointInvalid as error:
            if self._processes.first:
                self._forget(error)
        # Not while the error is at hand: it holds on to all that the first attempt made.
        return train(None)

    def load(self) -> TrainingState | None:
        """The state that was left, or None where there is none that is whole."""
        state = self._read() if self._processes.first else None
        if not self._processes.tell(state is not None):
            return None
        return state or TrainingState.load(self._path)

    def _read(self) -> TrainingState | None:
        if not self._path.exists():
            return None
        try:
            return TrainingState.load(self._path)
        except CheckpointInvalid as error:
            self._forget(error)
            return None

    def _forget(self, error: CheckpointInvalid) -> None:
        log.warning("%s; the stage begins anew", error.message)
        self._on_invalid(error.message)
        self._path.unlink(missing_ok=True)
