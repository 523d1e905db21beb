"""The guard against over-optimisation: when the watch score peaked, and when it has fallen for long enough to stop."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Guard:
    """What a watch preference model said of the policy so far.

    The smoothed score is s_k = a s_{k-1} + (1 - a) x_k, with s_0 = x_0 and a = `smoothing`, where x_k is the mean watch
    score of the policy after k steps. `peak_step` is the k at which s was highest, the first such, which has gone least
    far; `last_step` the k last seen. Once there has been a step the start itself is no peak: a copy of it would be no
    candidate, and what is worse than the start is for the evidence to say.
    """

    smoothing: float
    patience_steps: int | None
    smoothed: float | None = None
    peak: float | None = None
    peak_step: int = 0
    last_step: int = 0

    def after(self, score: float, step: int) -> "Guard":
        """The guard that has also seen the score of the policy after `step` steps."""
        smoothed = score if self.smoothed is None else self.smoothing * self.smoothed + (1 - self.smoothing) * score
        seen = replace(self, smoothed=smoothed, last_step=step)
        if self.peak is None or smoothed > self.peak or self.peak_step == 0:
            return replace(seen, peak=smoothed, peak_step=step)
        return seen

    @property
    def at_peak(self) -> bool:
        """Whether the policy last seen is the best so far."""
        return self.peak_step == self.last_step

    @property
    def exhausted(self) -> bool:
        """Whether the score has not risen above its peak for `patience_steps`."""
        return self.patience_steps is not None and self.last_step - self.peak_step >= self.patience_steps

    def numbers(self) -> dict[str, float]:
        """What must be kept to go on after a kill."""
        return {f"guard.{name}": value for name, value in asdict(self).items() if value is not None}

    def resumed(self, numbers: Mapping[str, float]) -> "Guard":
        """The guard as it was when `numbers` were kept."""
        return replace(
            self,
            smoothed=numbers.get("guard.smoothed"),
            peak=numbers.get("guard.peak"),
            peak_step=int(numbers["guard.peak_step"]),
            last_step=int(numbers["guard.last_step"]),
        )
