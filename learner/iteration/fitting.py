"""Settings of an iteration made to fit the policy that it trains."""

from pathlib import Path
from typing import Any

from feedback.policy_config import positions
from feedback.settings import LearnerSettings


def fit_to(learner: LearnerSettings, policy: Path) -> LearnerSettings:
    """The settings with lengths that the policy can take: a reply has at most half of its positions, and so much is
    left of a prompt that the longest reply to it has room, in training and in evaluation."""
    most = positions(policy)
    if most is None:
        return learner

    evaluated = min(learner.evaluation.max_new_tokens, most // 2)

    def fitted(section: Any, reply: str, room: int = 0) -> Any:
        reply_tokens = min(getattr(section, reply), most // 2)
        prompt_tokens = min(section.max_prompt_tokens, most - max(reply_tokens, room))
        return section.model_copy(update={reply: reply_tokens, "max_prompt_tokens": prompt_tokens})

    return learner.model_copy(
        update={
            "preference": fitted(learner.preference, "max_reply_tokens"),
            # Evaluation and frontier ask prompts as long as PPO's.
            "ppo": fitted(learner.ppo, "max_new_tokens", evaluated),
            "dpo": fitted(learner.dpo, "max_reply_tokens"),
            "evaluation": learner.evaluation.model_copy(update={"max_new_tokens": evaluated}),
        }
    )
