"""Versions with evidence in the record, as iterations leave it, for the pages to show."""

import math
from typing import Any

from feedback.schema import OBJECTIVES
from feedback.store import Store, leases, policies
from feedback.store.policies import Provenance

STEPS = 12


def estimate(value: float, half: float = 0.1, count: int = 40) -> dict[str, Any]:
    return {"value": value, "interval": [value - half, value + half], "count": count}


def evaluation(win_rate: float) -> dict[str, Any]:
    return {
        "prompts": 40, "win_rate": estimate(win_rate), "win_rate_shorter": estimate(win_rate - 0.1, 0.2, 12),
        "objectives": {
            name: {"win_rate": estimate(win_rate), "score": estimate(0.7, 0.3), "reference_score": estimate(-0.1, 0.3)}
            for name in OBJECTIVES
        },
        "kl_nats": 1.77, "kl_nats_interval": [1.5, 2.0], "length_tokens": 11.6, "reference_length_tokens": 9.7,
        "length_ratio": 1.19, "finished_share": 1.0,
    }  # fmt: skip


def preference() -> dict[str, Any]:
    per_objective = {
        "comparisons": 30, "accuracy": 0.7, "accuracy_sure": 0.8, "accuracy_unsure": 0.6, "cross_entropy": 0.6,
        "temperature": 1.0, "center": 0.0, "scale": 0.7, "length_correlation": 0.15, "calibration_error": 0.06,
    }  # fmt: skip
    return {
        "comparisons": 60,
        "accuracy": 0.7,
        "objectives": dict.fromkeys(OBJECTIVES, per_objective),
        "tranches": {"base": 0.7},
    }


def ppo_step(step: int) -> dict[str, Any]:
    kl_nats = 0.15 * (step - 1)
    return {
        "step": step, "steps": STEPS, "reward": 0.05 * step,
        "scores": {"helpful": 0.06 * step, "harmless": 0.02 * step},
        "kl_nats": kl_nats, "sqrt_kl": math.sqrt(kl_nats), "kl_coefficient": 0.05, "length_tokens": 10.0 + step / 10,
        "finished_share": 1.0, "entropy_nats": 0.36, "clipped_share": 0.04, "update_kl_nats": 0.01, "policy_loss": 0.0,
        "value_loss": 0.2, "value_clipped_share": 0.1, "explained_variance": 0.3, "gradient_norm": 0.2,
        "mismatch_nats": 1e-7,
    }  # fmt: skip


def add_versions(store: Store, win_rates: tuple[float, ...] = (0.62, 0.81)) -> None:
    """v0 serves; v1 and so on are candidates with evidence."""
    store.write(policies.register_start, "policies/v0", "sha256:" + "0" * 64, {})
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 600.0)
    assert epoch is not None
    for version, win_rate in enumerate(win_rates, 1):
        shown = {
            "preference": preference(),
            "ppo": [ppo_step(step) for step in range(1, STEPS + 1)],
            "evaluation": evaluation(win_rate),
        }
        made = Provenance(0, f"itr_{version}", f"{version}" * 64, {"seed": version}, version, shown)
        store.write(policies.publish, version, f"policies/v{version}", f"{version}" * 64, made, epoch=epoch)
    store.write(leases.release, leases.LEARNER, epoch)
