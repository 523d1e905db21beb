"""A run of PPO from its first step to its last, or on from a checkpoint."""

import hashlib
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.learning_settings import PPOSettings
from learner.advantages import gae, group_relative_advantages, kl_shaped_rewards, leave_one_out_advantages, whiten
from learner.critic import Critic
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.hardware import matmul_precision
from learner.kl_control import AdaptiveKL, FixedKL
from learner.policy import Policy
from learner.ppo.report import PPOStep, report
from learner.ppo.rollout import Rollout, Rollouts
from learner.ppo.update import Updater
from learner.preference_model import PreferenceModel
from learner.prompts import PromptPool, TrainingPrompt
from learner.sampler import Sampler, TorchSampler
from learner.training_state import TrainingState, capture, restore

OnPPOStep = Callable[[PPOStep, Callable[[], TrainingState]], None]


def train_ppo(
    policy: Policy,
    start: PreTrainedModel,
    preference_model: PreferenceModel,
    prompts: Sequence[TrainingPrompt],
    settings: PPOSettings,
    *,
    seed: int,
    sampler: Sampler | None = None,
    on_step: OnPPOStep | None = None,
    resume: TrainingState | None = None,
) -> None:
    """Train `policy` in place; `start` is the frozen policy that the KL is measured from.

    `on_step` is called after each step, with a function that gives the state to resume from: a resumed run ends where
    an uninterrupted one does. Raises `TrainingDataInvalid`, `TrainingDiverged`, `CheckpointInvalid`.
    """
    trainer = PPO(policy, start, preference_model, prompts, settings, seed=seed, sampler=sampler)
    if resume is not None:
        trainer.restore(resume)
    while trainer.steps_done < settings.steps:
        done = trainer.step()
        if on_step is not None:
            on_step(done, trainer.state)


class PPO:
    """One training run. Construct, perhaps `restore`, then `step` until `steps_done` says enough."""

    def __init__(
        self,
        policy: Policy,
        start: PreTrainedModel,
        preference_model: PreferenceModel,
        prompts: Sequence[TrainingPrompt],
        settings: PPOSettings,
        *,
        seed: int,
        sampler: Sampler | None = None,
    ) -> None:
        _require_consistent(settings, preference_model)
        # Dropout stays off: a policy that samples and one that learns must be the same.
        self.model = policy.model.eval()
        self.preference_model = preference_model.eval()
        self.settings = settings
        self.seed = seed
        self.steps_done = 0
        self.prompts = PromptPool(
            prompts,
            policy,
            harmless_share=settings.harmless_prompt_share,
            max_tokens=settings.max_prompt_tokens,
            seed=seed,
        )
        self.critic = self._new_critic()
        self.rollouts = Rollouts(
            self.model,
            start.eval(),
            self.preference_model,
            self.critic,
            sampler or TorchSampler(self.model, policy.end_ids),
            settings,
        )
        self.updater = Updater(self.model, self.critic, settings)
        self.kl: FixedKL | AdaptiveKL = FixedKL(settings.kl_coefficient)
        if settings.kl_controller == "adaptive":
            self.kl = AdaptiveKL(settings.kl_coefficient, settings.kl_target_nats, settings.kl_horizon_episodes)

    def step(self) -> PPOStep:
        """Sample, score, estimate, update; say what happened. Raises `TrainingDiverged`."""
        settings = self.settings
        try:
            with matmul_precision(settings.matmul_precision, self.model):
                prompts = self.prompts.draw(self.steps_done, settings.episodes_per_step // settings.replies_per_prompt)
                rollout = self.rollouts.draw(prompts, self.step_seed())
                advantages_N, returns_N = estimate_advantages(rollout, settings, self.kl.coefficient)
                totals = self.updater.update(rollout, advantages_N, returns_N, self.step_seed())
        except TrainingDiverged as error:
            raise TrainingDiverged(f"step {self.steps_done + 1}: {error.message}") from error
        self.steps_done += 1
        done = report(
            rollout,
            returns_N,
            totals,
            step=self.steps_done,
            steps=settings.steps,
            score_names=self.preference_model.shape.columns,
            kl_coefficient=self.kl.coefficient,
            critic=self.critic is not None,
        )
        self.kl = self.kl.after(done.kl_nats, len(rollout.episodes))
        return done

    def step_seed(self) -> int:
        """The seed of the step to come; up to 63 more after it are its own too."""
        return (self.seed * 1_000_003 + self.steps_done) * 64

    def state(self) -> TrainingState:
        """Everything needed to go on from here."""
        tensors = capture(self._modules(), self.updater.optimizers)
        return TrainingState(self.steps_done, self._fingerprint(), tensors, {"kl_coefficient": self.kl.coefficient})

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`. Raises `CheckpointInvalid` where it is of another run."""
        if state.fingerprint != self._fingerprint():
            raise CheckpointInvalid("the checkpoint belongs to a run with other settings or another seed")
        restore(state.tensors, self._modules(), self.updater.optimizers)
        self.steps_done = state.step
        coefficient = state.numbers["kl_coefficient"]
        if isinstance(self.kl, AdaptiveKL):
            self.kl = AdaptiveKL(coefficient, self.kl.target_nats, self.kl.horizon_episodes)

    def _new_critic(self) -> Critic | None:
        if self.settings.advantage != "gae":
            return None
        if self.settings.critic == "policy":
            return Critic.on_policy(self.model)
        return Critic.on_copy_of(self.preference_model.trunk)

    def _modules(self) -> dict[str, nn.Module]:
        return {"policy": self.model} if self.critic is None else {"policy": self.model, "critic": self.critic}

    def _fingerprint(self) -> str:
        return hashlib.sha256(f"{self.settings.model_dump_json()} {self.seed}".encode()).hexdigest()


def estimate_advantages(rollout: Rollout, settings: PPOSettings, kl_coefficient: float) -> tuple[Tensor, Tensor]:
    """Advantages, whitened over the whole step, and the returns the critic learns; both [N]."""
    episodes = rollout.episodes
    mask_B_R = episodes.reply_mask_B_R
    kl_B_R = episodes.unpack(rollout.logprobs_N - rollout.start_logprobs_N)
    rewards_B_R = kl_shaped_rewards(kl_B_R, rollout.reward_B, mask_B_R, kl_coefficient)
    if settings.advantage == "gae":
        values_B_R = episodes.unpack(rollout.values_N)
        advantages_B_R, returns_B_R = gae(rewards_B_R, values_B_R, mask_B_R, settings.discount, settings.gae_lambda)
        return whiten(advantages_B_R, mask_B_R)[mask_B_R], returns_B_R[mask_B_R]
    compare = leave_one_out_advantages if settings.advantage == "rloo" else group_relative_advantages
    total_B = rewards_B_R.sum(dim=1)
    advantages_B = compare(total_B, settings.replies_per_prompt)
    return advantages_B[:, None].expand_as(rewards_B_R)[mask_B_R], total_B[:, None].expand_as(rewards_B_R)[mask_B_R]


def _require_consistent(settings: PPOSettings, preference_model: PreferenceModel) -> None:
    unknown = set(settings.reward_weights) - set(preference_model.shape.columns)
    if unknown:
        raise TrainingDataInvalid(f"reward_weights names unknown scores: {', '.join(sorted(unknown))}")
    for name in ("episodes_per_minibatch", "replies_per_prompt"):
        if settings.episodes_per_step % getattr(settings, name):
            raise TrainingDataInvalid(f"episodes_per_step must be a multiple of {name}")
    if settings.advantage != "gae" and settings.replies_per_prompt < 2:
        raise TrainingDataInvalid(f"{settings.advantage} compares replies: replies_per_prompt must be 2 or more")
