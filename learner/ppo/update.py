"""Clipped gradient steps of policy and critic over the replies of one step."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from feedback.learning_settings import PPOSettings
from learner.critic import Critic, PreferenceCritic
from learner.errors import TrainingDiverged
from learner.losses import policy_loss, value_loss
from learner.ppo.rollout import Rollout
from learner.processes import Processes
from learner.rehearsal import Rehearsal
from learner.rounded_weights import rounded_once
from learner.sequences import Episodes, Room
from learner.sharding import clip_gradients
from learner.trained import Trained


@dataclass
class UpdateTotals:
    """Sums over the minibatches of a step."""

    tokens: int = 0
    updates: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    _added: list[tuple[str, Tensor]] = field(default_factory=list)

    def add(self, **values: Tensor) -> None:
        self._added += [(name, value.detach()) for name, value in values.items()]

    def over(self, processes: Processes) -> "UpdateTotals":
        """The sums of all processes together; all of them made the same updates."""
        # Fetched all at once: on a GPU each would wait for the passes before it.
        sums: dict[str, float] = {}
        fetched = torch.stack([value for _, value in self._added]).tolist()
        for (name, _), value in zip(self._added, fetched, strict=True):
            sums[name] = sums.get(name, 0.0) + value
        per_update = {"gradient_norm": sums.pop("gradient_norm")}
        names = sorted(sums)
        # Of one length in all processes, in fp64: they hold counts too.
        values = torch.tensor([self.tokens, *(sums[name] for name in names)], dtype=torch.float64)
        tokens, *added = processes.add_up(values).tolist()
        return UpdateTotals(round(tokens), self.updates, dict(zip(names, added, strict=True)) | per_update)

    def per_token(self, name: str) -> float:
        return self.sums.get(name, 0.0) / max(1, self.tokens)

    def per_update(self, name: str) -> float:
        return self.sums[name] / self.updates


class Updater:
    """Policy and critic with their optimisers."""

    def __init__(
        self,
        policy: Trained,
        critic: Critic | PreferenceCritic | None,
        settings: PPOSettings,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.policy = policy
        self.critic = critic
        self.rehearsal = rehearsal
        self.settings = settings
        self.optimizers: dict[str, torch.optim.Optimizer] = {"policy": _adam(policy.model, settings.learning_rate)}
        if critic is not None:
            reads_states = isinstance(critic, PreferenceCritic)
            rate = settings.critic_head_learning_rate if reads_states else settings.critic_learning_rate
            self.optimizers["critic"] = _adam(critic, rate)

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
        if rollout.states_N_D is not None:
            per_token["states"] = rollout.states_N_D
        padded = {name: episodes.unpack(values_N) for name, values_N in per_token.items()}
        room = Room.of(settings)
        minibatches = len(episodes) / settings.episodes_per_minibatch
        tokens_per_minibatch = len(advantages_N) / minibatches
        processes = self.policy.processes
        rehearsed_head = None if self.rehearsal is None else self.rehearsal.start_head
        models = self.policy.model, None if self.critic is None else self.critic.trunk, rehearsed_head
        totals = UpdateTotals()
        rehearsed = torch.Generator().manual_seed(seed + 32)
        for index_B in self._minibatches(len(episodes), seed):
            with rounded_once(*models):
                for rows_B in episodes.by_length(room, index_B, processes=processes.count):
                    piece_B = processes.share(rows_B)
                    piece = episodes.take(piece_B)
                    data = {name: piece.pack(value, piece_B) for name, value in padded.items()}
                    loss = self._loss(piece, data, totals)
                    # Every token of the step weighs the same, however minibatches and pieces are cut. Over processes
                    # gradients are averaged, where their sum is wanted.
                    (loss * (processes.count / tokens_per_minibatch)).backward()
                if self.rehearsal is not None:
                    totals.add(rehearsal_kl=self.rehearsal.add_gradients(self.policy, rehearsed))
            totals.add(gradient_norm=self.apply_gradients())
            totals.updates += 1
        self.policy.make_whole()
        return totals.over(processes)

    def _loss(self, piece: Episodes, data: dict[str, Tensor], totals: UpdateTotals) -> Tensor:
        settings = self.settings
        hidden_N_D, logprobs_N = self.policy.reply_pass(piece, settings.temperature)
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
            self.critic(piece, data.get("states", hidden_N_D)),
            data["old_values"],
            data["returns"],
            settings.value_clip_range,
        )
        totals.add(value_loss=value_part.total, value_clipped=value_part.clipped)
        coefficient = settings.value_coefficient if self.critic.shares_policy else 1.0
        return policy_part.total + coefficient * value_part.total

    def apply_gradients(self) -> Tensor:
        """Scale down, check and apply the gradients of policy and critic; answers the policy's norm."""
        norm = clip_gradients(self.policy.model.parameters(), self.settings.max_gradient_norm)
        critic_norm = torch.zeros_like(norm)
        if self.critic is not None:
            critic_norm = clip_gradients(self.critic.parameters(), self.settings.max_gradient_norm)
        if not torch.isfinite(norm + critic_norm):
            raise TrainingDiverged("the gradient is not finite")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _minibatches(self, episodes: int, seed: int) -> Iterator[Tensor]:
        for epoch in range(self.settings.epochs):
            generator = torch.Generator().manual_seed(seed + 1 + epoch)
            order_B = torch.randperm(episodes, generator=generator).to(self.policy.whole.device)
            yield from order_B.split(self.settings.episodes_per_minibatch)


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)
