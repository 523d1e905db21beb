"""The coefficient of the KL penalty: held fixed, or moved towards a target."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class FixedKL:
    """A coefficient that stays."""

    coefficient: float

    def after(self, kl_nats: float, episodes: int) -> "FixedKL":
        """The controller for the next step: this one."""
        return self


@dataclass(frozen=True)
class AdaptiveKL:
    """A proportional controller on the log of the coefficient.

    coefficient <- coefficient (1 + clip(KL / target - 1, -0.2, 0.2) episodes / horizon). Source: Ziegler et al. 2019,
    "Fine-tuning language models from human preferences", section 2.2. A step of more episodes than the horizon moves it
    as if by the horizon: at five times as many it would be zero or less, and pay for going astray.
    """

    coefficient: float
    target_nats: float
    horizon_episodes: int

    def after(self, kl_nats: float, episodes: int) -> "AdaptiveKL":
        """The controller for the next step, after `episodes` replies of mean KL `kl_nats`."""
        error = min(max(kl_nats / self.target_nats - 1, -0.2), 0.2)
        coefficient = self.coefficient * (1 + error * min(1.0, episodes / self.horizon_episodes))
        return replace(self, coefficient=coefficient)
