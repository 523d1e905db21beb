"""Proximal policy optimisation of a policy against a preference model, with a KL penalty towards the policy it
started from.

The paper's way (Bai et al. 2022, section 4.1): sample replies and score them (`rollout`), shape rewards with the KL
penalty and estimate advantages (`training`), take clipped gradient steps (`update`), say what happened (`report`); and,
beyond the paper's loop, a `guard` against over-optimisation and a `bound` on harm.
Details follow Huang et al. 2024, "The N+ implementation details of RLHF with PPO". What it does not know: where
prompts, preference model and checkpoints come from or go.
"""

from learner.ppo.report import PPOStep
from learner.ppo.training import PPO, OnPPOStep, PPOEnd, require_possible, train_ppo

__all__ = ["PPO", "OnPPOStep", "PPOEnd", "PPOStep", "require_possible", "train_ppo"]
