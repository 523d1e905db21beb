"""Says in the record how far an iteration is: stage, share done, and events that clients follow live."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal

from feedback import tracing
from feedback.store import Store, iterations
from learner.dpo import DPOStep
from learner.ppo import PPOStep
from learner.preference_training import PreferenceStep
from learner.tracking import Tracking

WRITE_EVERY_S = 0.5


class Progress:
    """Progress of one iteration under its lease. Each method raises LeaseLost when the lease went to another."""

    def __init__(self, store: Store, iteration_id: str, epoch: int) -> None:
        self._store = store
        self._iteration_id = iteration_id
        self._epoch = epoch
        self.tracking = Tracking([])
        self._written_at = 0.0
        self._span = tracing.NOTHING

    def enter(self, stage: str) -> None:
        """A stage begins, and the one before has ended."""
        self._span.end()
        self._span = tracing.begin(f"iteration {stage}", attributes={"tandem.iteration.id": self._iteration_id})
        self._advance(stage, 0.0)

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Have the trace show the whole of what follows, and each stage within."""
        with tracing.current("iteration", attributes={"tandem.iteration.id": self._iteration_id}):
            try:
                yield
            except BaseException as error:
                self._span.fail(type(error).__name__)
                raise
            finally:
                self._span.end()

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Something happened that is worth an event."""
        self._store.write(iterations.tell, self._iteration_id, self._epoch, kind, data)

    def report(self, kind: str, figures: dict[str, Any]) -> None:
        """Something was measured: an event, and for the trackers."""
        self.tell(kind, figures)
        self.tracking.report(kind, figures)

    def preference_step(self, name: str, done: PreferenceStep) -> None:
        """A step of the preference or the watch model. There are many and each is short: every half second is told."""
        self.tracking.step(name, done)
        if self._is_due(done.step, done.steps):
            self._advance("preference", done.step / done.steps)
            self.tell(f"{name}_step", asdict(done))

    def training_step(self, trainer: Literal["ppo", "dpo"], done: PPOStep | DPOStep) -> None:
        """Every step of PPO, which takes seconds; those of DPO are as many and short as the preference model's."""
        self.tracking.step(trainer, done)
        if trainer == "ppo" or self._is_due(done.step, done.steps):
            self._advance(trainer, done.step / done.steps)
            self.tell(f"{trainer}_step", asdict(done))

    def reference_step(self, step: int, steps: int) -> None:
        """So many of the comparisons has DPO's reference model gone over, before the first step."""
        if self._is_due(step, steps):
            self._written_at = time.monotonic()
            self.tell("reference_step", {"step": step, "steps": steps})

    def _is_due(self, step: int, steps: int) -> bool:
        return step == steps or time.monotonic() - self._written_at >= WRITE_EVERY_S

    def _advance(self, stage: str, share: float) -> None:
        self._written_at = time.monotonic()
        self._store.write(iterations.advance, self._iteration_id, self._epoch, stage=stage, progress=share)
