"""Proximal policy optimisation of a policy against a preference model, with a KL penalty towards the policy it
started from.

Reads from top to bottom as the paper tells it (Bai et al. 2022, section 4.1): sample replies, score them, shape
rewards with the KL penalty, estimate advantages, and take clipped gradient steps. Details follow Huang et al. 2024,
"The N+ implementation details of RLHF with PPO". What it does not know: where prompts, preference model and
checkpoints come from or go.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.learning_settings import PPOSettings
from learner.advantages import (
    explained_variance,
    gae,
    group_relative_advantages,
    kl_shaped_rewards,
    leave_one_out_advantages,
    masked_mean,
    whiten,
)
from learner.critic import Critic
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.hardware import matmul_precision
from learner.kl_control import AdaptiveKL, FixedKL
from learner.language_model import predicting_states, reply_logprobs, token_logprobs
from learner.losses import policy_loss, truncated_importance_weights, value_loss
from learner.policy import Policy
from learner.preference_model import PreferenceModel
from learner.prompts import PromptPool, TrainingPrompt
from learner.sampler import Sampler, Samples, TorchSampler
from learner.sequences import Episodes
from learner.training_state import TrainingState, capture, restore


@dataclass(frozen=True)
class PPOStep:
    """What one step did. Means are over the replies of the step, or over their tokens where the name says so."""

    step: int
    steps: int
    reward: float
    """Combined, normalised score less the penalty for missing ends: what PPO raises, before the KL penalty."""
    scores: dict[str, float]
    """Preference score of each objective, and overall."""
    kl_nats: float
    """KL of a reply from the starting policy: sum over its tokens of logp - logp_start."""
    sqrt_kl: float
    """Square root of `kl_nats` (0 where sampling made it negative)."""
    kl_coefficient: float
    length_tokens: float
    finished_share: float
    """Share of replies that ended before the limit."""
    entropy_nats: float
    """Entropy of the policy's next-token distribution, mean over tokens."""
    clipped_share: float
    """Share of tokens whose probability ratio was clipped, mean over updates."""
    update_kl_nats: float
    """KL per token from the policy that sampled to the updated one (k3 estimate), mean over updates."""
    policy_loss: float
    value_loss: float
    value_clipped_share: float
    explained_variance: float
    """Share of the variance of returns that the critic foresaw; 0 without a critic."""
    gradient_norm: float
    """Norm of the policy's gradient before it is scaled down, mean over updates."""
    mismatch_nats: float
    """Mean absolute difference of the sampler's and the trainer's log-probabilities of the same tokens."""


OnPPOStep = Callable[[PPOStep, Callable[[], TrainingState]], None]


@dataclass(frozen=True)
class Rollout:
    """The replies of one step and all that the update needs, one value per reply token unless said otherwise."""

    samples: Samples
    logprobs_N: Tensor
    start_logprobs_N: Tensor
    entropies_N: Tensor
    values_N: Tensor
    importance_weights_N: Tensor
    scores_B_O: Tensor
    reward_B: Tensor

    @property
    def episodes(self) -> Episodes:
        return self.samples.episodes


@dataclass
class UpdateTotals:
    """Sums over the minibatches of a step."""

    tokens: int = 0
    updates: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())

    def per_token(self, name: str) -> float:
        return self.sums.get(name, 0.0) / max(1, self.tokens)


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
        report = trainer.step()
        if on_step is not None:
            on_step(report, trainer.state)


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
        self.start = start.eval()
        self.preference_model = preference_model.eval()
        self.settings = settings
        self.seed = seed
        self.steps_done = 0
        self.sampler = sampler or TorchSampler(self.model, policy.end_ids)
        self.prompts = PromptPool(
            prompts,
            policy,
            harmless_share=settings.harmless_prompt_share,
            max_tokens=settings.max_prompt_tokens,
            seed=seed,
        )
        self.critic = self._new_critic()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), settings.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"policy": self.optimizer}
        if self.critic is not None:
            self.optimizers["critic"] = torch.optim.Adam(
                self.critic.parameters(),
                settings.critic_learning_rate,
                betas=(0.9, 0.95),
                eps=1e-8,
                fused=True,
            )
        self.kl: FixedKL | AdaptiveKL = FixedKL(settings.kl_coefficient)
        if settings.kl_controller == "adaptive":
            self.kl = AdaptiveKL(settings.kl_coefficient, settings.kl_target_nats, settings.kl_horizon_episodes)

    def step(self) -> PPOStep:
        """Sample, score, estimate, update; say what happened."""
        settings = self.settings
        with matmul_precision(settings.matmul_precision, self.model):
            prompts = self.prompts.draw(self.steps_done, settings.episodes_per_step // settings.replies_per_prompt)
            samples = self.sampler.sample(
                [prompt for prompt in prompts for _ in range(settings.replies_per_prompt)],
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=self._step_seed(),
            )
            rollout = self._evaluate(samples)
            advantages_N, returns_N = self._advantages(rollout)
            totals = self._update(rollout, advantages_N, returns_N)
        self.steps_done += 1
        report = self._report(rollout, returns_N, totals)
        self.kl = self.kl.after(report.kl_nats, len(rollout.episodes))
        return report

    @torch.no_grad()
    def _evaluate(self, samples: Samples) -> Rollout:
        """Log-probabilities (in the trainer, whoever sampled), values and scores of the replies."""
        episodes, temperature = samples.episodes, self.settings.temperature
        parts: dict[str, Tensor] = {}
        for index_B in _by_length(episodes, self.settings.episodes_per_forward):
            piece = episodes.take(index_B)
            hidden_N_D = predicting_states(self.model, piece)
            now = token_logprobs(self.model, hidden_N_D, piece.reply_tokens_N, temperature)
            start_logprobs_N = reply_logprobs(self.start, piece, temperature).logprobs_N
            known_N = start_logprobs_N if self.start is self.preference_model.start and temperature == 1 else None
            values = {
                "logprobs": piece.unpack(now.logprobs_N),
                "entropies": piece.unpack(now.entropies_N),
                "start_logprobs": piece.unpack(start_logprobs_N),
                "scores": self.preference_model.score(piece, known_N),
            }
            if self.critic is not None:
                values["values"] = piece.unpack(self.critic(piece, hidden_N_D))
            for name, value in values.items():
                width = episodes.reply_mask_B_R.shape[1] if name != "scores" else value.shape[1]
                whole = parts.setdefault(name, value.new_zeros(len(episodes), width))
                whole[index_B, : value.shape[1]] = value

        mask_B_R = episodes.reply_mask_B_R
        logprobs_N = parts["logprobs"][mask_B_R]
        sampler_logprobs_N = samples.logprobs_B_R[mask_B_R]
        reward_B = self.preference_model.combine(parts["scores"], self.settings.reward_weights)
        reward_B = reward_B - self.settings.missing_end_penalty * ~samples.finished_B
        rollout = Rollout(
            samples,
            logprobs_N,
            parts["start_logprobs"][mask_B_R],
            parts["entropies"][mask_B_R],
            parts["values"][mask_B_R] if self.critic is not None else torch.zeros_like(logprobs_N),
            truncated_importance_weights(logprobs_N, sampler_logprobs_N, self.settings.importance_weight_cap),
            parts["scores"],
            reward_B,
        )
        self._require_agreement(logprobs_N, sampler_logprobs_N, reward_B)
        return rollout

    def _advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantages, whitened over the whole step, and the returns the critic learns; both [N]."""
        settings, episodes = self.settings, rollout.episodes
        mask_B_R = episodes.reply_mask_B_R
        kl_B_R = episodes.unpack(rollout.logprobs_N - rollout.start_logprobs_N)
        rewards_B_R = kl_shaped_rewards(kl_B_R, rollout.reward_B, mask_B_R, self.kl.coefficient)
        if settings.advantage == "gae":
            advantages_B_R, returns_B_R = gae(
                rewards_B_R,
                episodes.unpack(rollout.values_N),
                mask_B_R,
                settings.discount,
                settings.gae_lambda,
            )
            return whiten(advantages_B_R, mask_B_R)[mask_B_R], returns_B_R[mask_B_R]
        compare = leave_one_out_advantages if settings.advantage == "rloo" else group_relative_advantages
        total_B = rewards_B_R.sum(dim=1)
        advantages_B = compare(total_B, settings.replies_per_prompt)
        return advantages_B[:, None].expand_as(rewards_B_R)[mask_B_R], total_B[:, None].expand_as(rewards_B_R)[mask_B_R]

    def _update(self, rollout: Rollout, advantages_N: Tensor, returns_N: Tensor) -> UpdateTotals:
        """`epochs` passes of clipped gradient steps over the rollout."""
        settings, episodes = self.settings, rollout.episodes
        per_token = {
            "old_logprobs": rollout.logprobs_N,
            "old_values": rollout.values_N,
            "advantages": advantages_N,
            "returns": returns_N,
            "importance_weights": rollout.importance_weights_N,
        }
        padded = {name: episodes.unpack(values_N) for name, values_N in per_token.items()}
        minibatches = len(episodes) / settings.episodes_per_minibatch
        tokens_per_minibatch = len(advantages_N) / minibatches
        totals = UpdateTotals()
        for index_B in self._minibatches(len(episodes)):
            for places_B in _by_length(episodes.take(index_B), settings.episodes_per_forward):
                piece_B = index_B[places_B]
                piece = episodes.take(piece_B)
                mask_B_R = piece.reply_mask_B_R
                data = {name: value[piece_B, : mask_B_R.shape[1]][mask_B_R] for name, value in padded.items()}
                loss = self._loss(piece, data, totals)
                # Every token of the step weighs the same, however minibatches and pieces are cut.
                (loss / tokens_per_minibatch).backward()
            totals.add(gradient_norm=self._apply_gradients())
            totals.updates += 1
        return totals

    def _loss(self, piece: Episodes, data: dict[str, Tensor], totals: UpdateTotals) -> Tensor:
        settings = self.settings
        hidden_N_D = predicting_states(self.model, piece)
        now = token_logprobs(self.model, hidden_N_D, piece.reply_tokens_N, settings.temperature)
        policy_part = policy_loss(
            now.logprobs_N,
            data["old_logprobs"],
            data["advantages"],
            settings.clip_range,
            data["importance_weights"],
        )
        totals.tokens += len(now.logprobs_N)
        totals.add(
            policy_loss=policy_part.total,
            clipped=policy_part.clipped,
            update_kl=policy_part.approximate_kl,
        )
        if self.critic is None:
            return policy_part.total
        value_part = value_loss(
            self.critic(piece, hidden_N_D),
            data["old_values"],
            data["returns"],
            settings.value_clip_range,
        )
        totals.add(value_loss=value_part.total, value_clipped=value_part.clipped)
        coefficient = 1.0 if self.critic.trunk is not None else settings.value_coefficient
        return policy_part.total + coefficient * value_part.total

    def _apply_gradients(self) -> Tensor:
        """Scale down, check and apply the gradients of policy and critic; answers the policy's norm."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_gradient_norm)
        critic_norm = torch.zeros_like(norm)
        if self.critic is not None:
            critic_norm = nn.utils.clip_grad_norm_(self.critic.parameters(), self.settings.max_gradient_norm)
        if not torch.isfinite(norm + critic_norm):
            raise TrainingDiverged(f"the gradient is not finite in step {self.steps_done + 1}")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _minibatches(self, episodes: int) -> Iterator[Tensor]:
        for epoch in range(self.settings.epochs):
            generator = torch.Generator().manual_seed(self._step_seed() + 1 + epoch)
            order_B = torch.randperm(episodes, generator=generator).to(self.model.device)
            yield from order_B.split(self.settings.episodes_per_minibatch)

    def _require_agreement(self, logprobs_N: Tensor, sampler_logprobs_N: Tensor, reward_B: Tensor) -> None:
        mismatch = float((logprobs_N - sampler_logprobs_N).abs().mean())
        if not mismatch <= self.settings.mismatch_alarm_nats:
            raise TrainingDiverged(f"sampler and trainer differ by {mismatch:.3g} nats a token at the same weights")
        if not torch.isfinite(reward_B).all():
            raise TrainingDiverged("the preference model's scores are not finite")

    def _report(self, rollout: Rollout, returns_N: Tensor, totals: UpdateTotals) -> PPOStep:
        episodes, samples = rollout.episodes, rollout.samples
        kl_nats = float((rollout.logprobs_N - rollout.start_logprobs_N).sum()) / len(episodes)
        scores_O = rollout.scores_B_O.mean(dim=0).tolist()
        everything_N = torch.ones_like(returns_N, dtype=torch.bool)
        sampler_logprobs_N = samples.logprobs_B_R[episodes.reply_mask_B_R]
        explained = explained_variance(rollout.values_N, returns_N, everything_N) if self.critic is not None else 0.0
        return PPOStep(
            step=self.steps_done,
            steps=self.settings.steps,
            reward=float(rollout.reward_B.mean()),
            scores=dict(zip(self.preference_model.shape.columns, scores_O, strict=True)),
            kl_nats=kl_nats,
            sqrt_kl=max(kl_nats, 0.0) ** 0.5,
            kl_coefficient=self.kl.coefficient,
            length_tokens=float(episodes.reply_lengths_B.float().mean()),
            finished_share=float(samples.finished_B.float().mean()),
            entropy_nats=float(rollout.entropies_N.mean()),
            clipped_share=totals.per_token("clipped"),
            update_kl_nats=totals.per_token("update_kl"),
            policy_loss=totals.per_token("policy_loss"),
            value_loss=totals.per_token("value_loss"),
            value_clipped_share=totals.per_token("value_clipped"),
            explained_variance=float(explained),
            gradient_norm=totals.sums["gradient_norm"] / totals.updates,
            mismatch_nats=float(masked_mean((rollout.logprobs_N - sampler_logprobs_N).abs(), everything_N)),
        )

    def _new_critic(self) -> Critic | None:
        if self.settings.advantage != "gae":
            return None
        if self.settings.critic == "policy":
            return Critic.on_policy(self.model)
        return Critic.on_copy_of(self.preference_model.trunk)

    def _modules(self) -> dict[str, nn.Module]:
        return {"policy": self.model} if self.critic is None else {"policy": self.model, "critic": self.critic}

    def _step_seed(self) -> int:
        return (self.seed * 1_000_003 + self.steps_done) * 64

    def _fingerprint(self) -> str:
        return hashlib.sha256(f"{self.settings.model_dump_json()} {self.seed}".encode()).hexdigest()

    def state(self) -> TrainingState:
        """Everything needed to go on from here."""
        numbers = {"kl_coefficient": self.kl.coefficient}
        return TrainingState(self.steps_done, self._fingerprint(), capture(self._modules(), self.optimizers), numbers)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`. Raises `CheckpointInvalid` where it is of another run."""
        if state.fingerprint != self._fingerprint():
            raise CheckpointInvalid("the checkpoint belongs to a run with other settings or another seed")
        restore(state.tensors, self._modules(), self.optimizers)
        self.steps_done = state.step
        coefficient = state.numbers["kl_coefficient"]
        if isinstance(self.kl, AdaptiveKL):
            self.kl = AdaptiveKL(coefficient, self.kl.target_nats, self.kl.horizon_episodes)


def _by_length(episodes: Episodes, size: int) -> tuple[Tensor, ...]:
    """Row numbers in batches of `size`, rows of like length together, so that little padding is computed."""
    return (episodes.prompt_lengths_B + episodes.reply_lengths_B).argsort().split(size)


def _require_consistent(settings: PPOSettings, preference_model: PreferenceModel) -> None:
    unknown = set(settings.reward_weights) - set(preference_model.shape.columns)
    if unknown:
        raise TrainingDataInvalid(f"reward_weights names unknown scores: {', '.join(sorted(unknown))}")
    for name in ("episodes_per_minibatch", "replies_per_prompt"):
        if settings.episodes_per_step % getattr(settings, name):
            raise TrainingDataInvalid(f"episodes_per_step must be a multiple of {name}")
    if settings.advantage != "gae" and settings.replies_per_prompt < 2:
        raise TrainingDataInvalid(f"{settings.advantage} compares replies: replies_per_prompt must be 2 or more")
