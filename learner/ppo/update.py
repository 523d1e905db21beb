"""Clipped gradient steps of policy and critic over the replies of one step."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.learning_settings import PPOSettings
from learner.critic import Critic
from learner.errors import TrainingDiverged
from learner.language_model import predicting_states, token_logprobs
from learner.losses import policy_loss, value_loss
from learner.ppo.rollout import Rollout, by_length
from learner.sequences import Episodes


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


class Updater:
    """Policy and critic with their optimisers."""

    def __init__(self, model: PreTrainedModel, critic: Critic | None, settings: PPOSettings) -> None:
        self.model = model
        self.critic = critic
        self.settings = settings
        self.optimizers: dict[str, torch.optim.Optimizer] = {"policy": _adam(model, settings.learning_rate)}
        if critic is not None:
            self.optimizers["critic"] = _adam(critic, settings.critic_learning_rate)

    def update(self, rollout: Rollout, advantages_N: Tensor, returns_N: Tensor, seed: int) -> UpdateTotals:
        """`epochs` passes of clipped gradient steps over the rollout, in an order drawn from `seed`. Raises
        `TrainingDiverged` before anything that is not finite is applied."""
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
        for index_B in self._minibatches(len(episodes), seed):
            for places_B in by_length(episodes.take(index_B), settings.episodes_per_forward):
                piece_B = index_B[places_B]
                piece = episodes.take(piece_B)
                mask_B_R = piece.reply_mask_B_R
                data = {name: value[piece_B, : mask_B_R.shape[1]][mask_B_R] for name, value in padded.items()}
                loss = self._loss(piece, data, totals)
                # Every token of the step weighs the same, however minibatches and pieces are cut.
                (loss / tokens_per_minibatch).backward()
            totals.add(gradient_norm=self.apply_gradients())
            totals.updates += 1
        return totals

    def _loss(self, piece: Episodes, data: dict[str, Tensor], totals: UpdateTotals) -> Tensor:
        settings = self.settings
        hidden_N_D = predicting_states(self.model, piece)
        logprobs_N = token_logprobs(self.model, hidden_N_D, piece.reply_tokens_N, settings.temperature)
        policy_part = policy_loss(
            logprobs_N,
            data["old_logprobs"],
            data["advantages"],
            settings.clip_range,
            data["importance_weights"],
        )
        totals.tokens += len(logprobs_N)
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

    def apply_gradients(self) -> Tensor:
        """Scale down, check and apply the gradients of policy and critic; answers the policy's norm."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_gradient_norm)
        critic_norm = torch.zeros_like(norm)
        if self.critic is not None:
            critic_norm = nn.utils.clip_grad_norm_(self.critic.parameters(), self.settings.max_gradient_norm)
        if not torch.isfinite(norm + critic_norm):
            raise TrainingDiverged("the gradient is not finite")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _minibatches(self, episodes: int, seed: int) -> Iterator[Tensor]:
        for epoch in range(self.settings.epochs):
            generator = torch.Generator().manual_seed(seed + 1 + epoch)
            order_B = torch.randperm(episodes, generator=generator).to(self.model.device)
            yield from order_B.split(self.settings.episodes_per_minibatch)


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)
