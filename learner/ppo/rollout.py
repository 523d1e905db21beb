"""The replies of one step, sampled and looked at: log-probabilities, values and scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from feedback.learning_settings import PPOSettings
from learner.critic import Critic, PreferenceCritic
from learner.errors import TrainingDiverged
from learner.language_model import reply_logprobs, room_without_gradients
from learner.losses import truncated_importance_weights
from learner.preference_model import PreferenceModel
from learner.rounded_weights import rounded_once
from learner.sampler import Sampler, Samples
from learner.sequences import Episodes, Room
from learner.trained import Trained


@dataclass(frozen=True)
class Rollout:
    """The replies of one step and all that the update needs, one value per reply token unless said otherwise.

    `reward_B` is the weighted score less the penalty for a missing end, `watch_reward_B` the same by the watch model,
    `states_N_D` the preference model's hidden states before each token where the critic reads them, `mismatch_nats` the
    mean absolute difference of the sampler's and the trainer's log-probabilities, over the tokens of the replies that
    both looked at.
    """

    samples: Samples
    logprobs_N: Tensor
    start_logprobs_N: Tensor
    entropies_N: Tensor
    values_N: Tensor
    importance_weights_N: Tensor
    scores_B_O: Tensor
    reward_B: Tensor
    mismatch_nats: float
    watch_reward_B: Tensor | None = None
    states_N_D: Tensor | None = None

    @property
    def episodes(self) -> Episodes:
        return self.samples.episodes

    @property
    def kl_nats(self) -> float:
        """KL of a reply from the starting policy, mean over replies."""
        return float((self.logprobs_N - self.start_logprobs_N).sum()) / len(self.episodes)


@dataclass(frozen=True)
class Rollouts:
    """Whatever replies of the policy are drawn with and looked at by."""

    policy: Trained
    start: PreTrainedModel
    preference_model: PreferenceModel
    critic: Critic | PreferenceCritic | None
    sampler: Sampler
    settings: PPOSettings
    watch: PreferenceModel | None = None

    def draw(self, prompts: Sequence[Sequence[int]], seed: int) -> Rollout:
        """`replies_per_prompt` replies to each prompt, next to each other. Raises `TrainingDiverged`."""
        settings = self.settings
        samples = self.sampler.sample(
            [prompt for prompt in prompts for _ in range(settings.replies_per_prompt)],
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=seed,
        )
        return self.evaluate(samples)

    @torch.no_grad()
    def evaluate(self, samples: Samples) -> Rollout:
        """Log-probabilities, values and scores of the replies. Raises `TrainingDiverged`.

        The log-probabilities are the trainer's, whoever sampled. A sampler that draws with the trainer's own weights
        has computed them already, and is only checked, on a few replies.
        """
        episodes, compute = samples.episodes, self._must_compute(samples)
        trunks = self.preference_model.trunk, self.watch and self.watch.trunk, self.critic and self.critic.trunk
        with rounded_once(self.policy.model, self.start, *trunks):
            parts = self._looked_at(episodes, compute)
            checked = None if compute else self._check(samples)
        sampler_logprobs_N = episodes.pack(samples.logprobs_B_R)
        logprobs_N = episodes.pack(parts["logprobs"]) if compute else sampler_logprobs_N
        entropies_B_R = parts["entropies"] if compute else samples.entropies_B_R
        assert entropies_B_R is not None
        mismatch = float((logprobs_N - sampler_logprobs_N).abs().mean()) if checked is None else checked
        reward_B = self._reward(self.preference_model, parts["scores"], samples)
        watch_reward_B = None if self.watch is None else self._reward(self.watch, parts["watch_scores"], samples)
        self._require_sound(mismatch, reward_B, watch_reward_B)
        return Rollout(
            samples,
            logprobs_N,
            episodes.pack(parts["start_logprobs"]),
            episodes.pack(entropies_B_R),
            episodes.pack(parts["values"]) if self.critic is not None else torch.zeros_like(logprobs_N),
            truncated_importance_weights(logprobs_N, sampler_logprobs_N, self.settings.importance_weight_cap),
            parts["scores"],
            reward_B,
            mismatch,
            watch_reward_B,
            episodes.pack(parts["states"]) if "states" in parts else None,
        )

    def _looked_at(self, episodes: Episodes, compute: bool) -> dict[str, Tensor]:
        """What the models say of the replies, by name and row: [B, R] of each token, [B, O] of each reply."""
        temperature, processes = self.settings.temperature, self.policy.processes
        room = room_without_gradients(self.start, Room.of(self.settings))
        parts: dict[str, Tensor] = {}
        for rows_B in episodes.by_length(room, processes=processes.count):
            index_B = processes.share(rows_B)
            piece = episodes.take(index_B)
            values: dict[str, Tensor] = {}
            seen_N_D = read_M_D = None
            if compute:
                seen_N_D, now_N, entropies_N = self.policy.reply_pass_with_entropies(piece, temperature)
                values |= {"logprobs": piece.unpack(now_N), "entropies": piece.unpack(entropies_N)}
            start_logprobs_N = reply_logprobs(self.start, piece, temperature)
            known_N = start_logprobs_N if self.start is self.preference_model.start and temperature == 1 else None
            if isinstance(self.critic, PreferenceCritic):
                seen_N_D, read_M_D = self.preference_model.states(piece)
            values["start_logprobs"] = piece.unpack(start_logprobs_N)
            values["scores"] = self.preference_model.score(piece, known_N, read_M_D)
            if self.watch is not None:
                values["watch_scores"] = self.watch.score(piece, known_N)
            if self.critic is not None:
                values["values"] = piece.unpack(self.critic(piece, seen_N_D))
            if isinstance(self.critic, PreferenceCritic):
                assert seen_N_D is not None
                values["states"] = piece.unpack(seen_N_D)
            for name, value in values.items():
                width = value.shape[1] if name.endswith("scores") else episodes.reply_mask_B_R.shape[1]
                whole = parts.setdefault(name, value.new_zeros(len(episodes), width, *value.shape[2:]))
                whole[index_B, : value.shape[1]] = value
        # Every row was looked at by one process and is zero in the others.
        return {name: processes.add_up(value) for name, value in parts.items()}

    def _must_compute(self, samples: Samples) -> bool:
        """Whether the policy's log-probabilities, or its states, are wanted of all replies."""
        read = self.critic is not None and self.critic.shares_policy
        return read or samples.entropies_B_R is None or self.settings.checked_replies >= len(samples.episodes)

    def _check(self, samples: Samples) -> float:
        """The mismatch on `checked_replies` of the replies, equally spaced, and as many for each process."""
        episodes, processes = samples.episodes, self.policy.processes
        count = self.settings.checked_replies + -self.settings.checked_replies % processes.count
        rows_B = torch.arange(count, device=episodes.tokens_B_T.device) * (len(episodes) // count)
        sums = torch.zeros(2, device=rows_B.device)
        room = room_without_gradients(self.start, Room.of(self.settings))
        for piece_B in episodes.by_length(room, rows_B, processes=processes.count):
            index_B = processes.share(piece_B)
            piece = episodes.take(index_B)
            _, now_N = self.policy.reply_pass(piece, self.settings.temperature)
            sampler_N = piece.pack(samples.logprobs_B_R[index_B])
            sums += torch.stack([(now_N - sampler_N).abs().sum(), torch.ones_like(now_N).sum()])
        difference, tokens = processes.add_up(sums).tolist()
        return difference / tokens

    def _reward(self, model: PreferenceModel, scores_B_O: Tensor, samples: Samples) -> Tensor:
        reward_B = model.combine(scores_B_O, self.settings.reward_weights)
        return reward_B - self.settings.missing_end_penalty * ~samples.finished_B

    def _require_sound(self, mismatch: float, reward_B: Tensor, watch_reward_B: Tensor | None) -> None:
        if not mismatch <= self.settings.mismatch_alarm_nats:
            raise TrainingDiverged(f"sampler and trainer differ by {mismatch:.3g} nats a token at the same weights")
        if not torch.isfinite(reward_B).all():
            raise TrainingDiverged("the preference model's scores are not finite")
        # No peak is above one that is no number: the first step's weights would pass for the best.
        if watch_reward_B is not None and not torch.isfinite(watch_reward_B).all():
            raise TrainingDiverged("the watch model's scores are not finite")
