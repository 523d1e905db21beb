"""Versions with evidence in the record, as iterations leave it, for the pages to show."""

import math
from typing import Any

from feedback.objectives import OBJECTIVES
from feedback.store import Store, iterations, leases, policies
from feedback.store.datasets import Learnt
from feedback.store.policies import Provenance

STEPS = 12


def estimate(value: float, half: float = 0.1, count: int = 40) -> dict[str, Any]:
    return {"value": value, "interval": [value - half, value + half], "count": count}


def compared(win_rate: float) -> dict[str, Any]:
    """Win rates against one version by one judge, raw and at equal length, altogether and by objective."""

    def by(rate: float) -> dict[str, Any]:
        return {
            "win_rate": estimate(rate), "win_rate_shorter": estimate(rate - 0.1, 0.2, 12),
            "win_rate_length_controlled": estimate(rate - 0.05), "score": estimate(0.7, 0.3),
            "reference_score": estimate(-0.1, 0.3),
        }  # fmt: skip

    return by(win_rate) | {"objectives": {name: by(win_rate - 0.05 * at) for at, name in enumerate(OBJECTIVES)}}


def evaluation(win_rate: float, serving: str | None = None) -> dict[str, Any]:
    against = compared(win_rate) | {"watch": compared(win_rate - 0.08)}
    conduct = {"harm": 0.1, "harm_refused": 0.6, "refusals": 0.08, "flattery": 0.3, "agreement": 0.6}
    return {
        "prompts": 40, **against,
        **({} if serving is None else {"serving": {"version": serving, **against}}),
        **{name: estimate(value, 0.08, 16) for name, value in conduct.items()},
        **{f"reference_{name}": estimate(value + 0.1, 0.08, 16) for name, value in conduct.items()},
        "kl_nats": 1.77, "kl_nats_interval": [1.5, 2.0], "length_tokens": 11.6, "reference_length_tokens": 9.7,
        "length_ratio": 1.19, "finished_share": 1.0,
        "diversity": {
            "distinct_1": 0.2, "reference_distinct_1": 0.25, "distinct_2": 0.5, "reference_distinct_2": 0.6,
            "distinct_replies": 0.8, "reference_distinct_replies": 0.9, "entropy_nats": 4.1,
            "reference_entropy_nats": 4.4,
        },
        "samples": [
            {
                "messages": [{"role": "user", "content": f"How do I cut cake {number}?"}],
                "reference": "No idea.", "candidate": "Use a sharp knife, and wipe it clean.", "vote": "vote_1",
            }
            for number in range(5)
        ],
    }  # fmt: skip


def preference() -> dict[str, Any]:
    per_objective = {
        "comparisons": 30, "accuracy": 0.7, "accuracy_interval": [0.52, 0.83], "accuracy_sure": 0.8,
        "accuracy_unsure": 0.6, "cross_entropy": 0.6,
        "temperature": 1.0, "center": 0.0, "length_correlation": 0.15, "calibration_error": 0.06,
    }  # fmt: skip
    return {
        "comparisons": 60,
        "accuracy": 0.7,
        "accuracy_interval": [0.57, 0.8],
        "objectives": dict.fromkeys(OBJECTIVES, per_objective),
        "tranches": {"base": {"value": 0.7, "interval": [0.57, 0.8], "count": 60}},
        "bins": [
            {"confidence": 0.55, "accuracy": 0.52, "count": 21}, {"confidence": 0.65, "accuracy": 0.7, "count": 18},
            {"confidence": 0.75, "accuracy": 0.73, "count": 12}, {"confidence": 0.86, "accuracy": 0.84, "count": 9},
        ],
    }  # fmt: skip


def watch() -> dict[str, Any]:
    return {"trained": True, "votes": 80, **preference(), "learnt_from": {"votes": 80, "worth": 31.4}}


def watch_reward(step: int) -> float:
    """Rises for two thirds of the way, then falls."""
    return 0.04 * step if step <= 8 else 0.32 - 0.05 * (step - 8)


def guard() -> dict[str, Any]:
    last = ppo_step(STEPS + 1)
    return {
        "steps": STEPS, "stopped": True, "published_step": 8, "peak_watch_reward": 0.3, "last_reward": last["reward"],
        "last_watch_reward": last["watch_reward"], "last_kl_nats": last["kl_nats"], "last_sqrt_kl": last["sqrt_kl"],
    }  # fmt: skip


def frontier() -> dict[str, Any]:
    def point(helpful: float, harmless: float) -> dict[str, Any]:
        here = {"helpful": estimate(helpful, 0.2), "harmless": estimate(harmless, 0.2)}
        return here | {"watch": {"helpful": estimate(helpful - 0.2), "harmless": estimate(harmless - 0.25)}}

    curve = [(1.0, -0.3), (0.95, 0.4), (0.7, 0.8), (0.2, 1.0), (-0.4, 1.1)]
    points = [{"harmless_weight": at / 4, **point(*where)} for at, where in enumerate(curve)]
    return {
        "method": "reranked", "prompts": 40, "points": points, "start": point(0.0, 0.0), "candidate": point(0.6, 0.9),
    }  # fmt: skip


def ppo_step(step: int) -> dict[str, Any]:
    kl_nats = 0.15 * (step - 1)
    return {
        "step": step, "steps": STEPS, "reward": 0.05 * step, "watch_reward": watch_reward(step),
        "scores": {"helpful": 0.06 * step, "harmless": 0.02 * step, "overall": 0.04 * step},
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
            "watch": watch(),
            "ppo": [ppo_step(step) for step in range(1, STEPS + 1)],
            "guard": guard(),
            "rehearsal": {"prompts": 393, "from_chats": 186, "harmful": 152, "told_by": "scores"},
            "evaluation": evaluation(win_rate),
            "frontier": frontier(),
            "judges": {"sha256": "a" * 64},
        }
        made = Provenance(0, f"itr_{version}", f"{version}" * 64, {"seed": version}, version, shown)
        store.write(policies.publish, version, f"policies/v{version}", f"{version}" * 64, made, epoch=epoch)
    store.write(leases.release, leases.LEARNER, epoch)


def learn_from(store: Store, cast: list[str]) -> None:
    """An iteration's part, played on the record: v1 is made of these votes, which are under helpful."""
    store.write(policies.register_start, "policies/v0", "sha256:0", {})
    iteration = store.write(iterations.start, trigger="test", seed=0, settings={})
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    epoch, digest = claimed[1], "d" * 64
    summary = {"counts": {"train": len(cast), "train.helpful": len(cast)}}
    store.write(iterations.begin_dataset, iteration.id, epoch, digest=digest, path="datasets/d", summary=summary)
    learnt = [Learnt(vote, 1, "train", 0.8, None, 1.0) for vote in cast]
    store.write(iterations.add_to_dataset, iteration.id, epoch, digest, learnt)
    store.write(iterations.freeze, iteration.id, epoch, digest)
    made = Provenance(0, iteration.id, digest, {}, 0)
    store.write(policies.publish, 1, "policies/v1", "sha256:1", made, epoch=epoch)
