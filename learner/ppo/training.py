"""A run of PPO from its first step to its last, or on from a checkpoint."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from feedback.learning_settings import PPOSettings
from learner.advantages import gae, group_relative_advantages, kl_shaped_rewards, leave_one_out_advantages, whiten
from learner.critic import Critic, PreferenceCritic
from learner.errors import CheckpointInvalid, TrainingDataInvalid, TrainingDiverged
from learner.hardware import matmul_precision
from learner.kl_control import AdaptiveKL, FixedKL
from learner.policy import Policy
from learner.ppo.bound import Bound
from learner.ppo.guard import Guard
from learner.ppo.report import PPOStep, report
from learner.ppo.rollout import Rollout, Rollouts
from learner.ppo.update import Updater
from learner.preference_model import PreferenceModel
from learner.processes import ALONE, Processes
from learner.prompts import HARMLESS, PromptPool, TrainingPrompt
from learner.rehearsal import Rehearsal
from learner.sampler import Sampler, TorchSampler
from learner.sequences import Room
from learner.sharding import shard
from learner.shared_sampler import SharedSampler
from learner.trained import Trained
from learner.training_state import TrainingState, capture, copy_weights, restore

OnPPOStep = Callable[[PPOStep, Callable[[], TrainingState]], None]
PEAK = "peak."


@dataclass(frozen=True)
class PPOEnd:
    """How a run ended. The policy holds the weights after `published_step` steps.

    With a watch model these are the ones at the peak of its smoothed score, and `last_...` says what the weights after
    the last of the `steps` were like.
    """

    steps: int
    stopped: bool
    """Whether the watch score had fallen for long enough to stop before the last step."""
    published_step: int
    peak_watch_reward: float | None = None
    """The smoothed watch score there."""
    last_reward: float | None = None
    last_watch_reward: float | None = None
    last_kl_nats: float | None = None
    last_sqrt_kl: float | None = None


def train_ppo(
    policy: Policy,
    start: PreTrainedModel,
    preference_model: PreferenceModel,
    prompts: Sequence[TrainingPrompt],
    settings: PPOSettings,
    *,
    seed: int,
    watch: PreferenceModel | None = None,
    sampler: Sampler | None = None,
    rehearse_on: Sequence[list[int]] = (),
    processes: Processes = ALONE,
    on_step: OnPPOStep | None = None,
    resume: TrainingState | None = None,
) -> PPOEnd:
    """Train `policy` in place; `start` is the frozen policy that the KL is measured from. With a `watch` model the
    policy ends with the weights that it liked best. Weights that require no gradients stay as they are.

    `rehearse_on` are the prompts, as token ids, on which it is held to `start`: such as ask for no harm.

    `on_step` is called after each step, with a function that gives the state to resume from: a resumed run ends where
    an uninterrupted one does. Raises `TrainingDataInvalid`, `TrainingDiverged`, `CheckpointInvalid`.
    """
    trainer = PPO(
        policy,
        start,
        preference_model,
        prompts,
        settings,
        seed=seed,
        watch=watch,
        sampler=sampler,
        rehearse_on=rehearse_on,
        processes=processes,
    )
    if resume is not None:
        trainer.restore(resume)
    while trainer.steps_done < settings.steps and not trainer.exhausted:
        done = trainer.step()
        if on_step is not None:
            on_step(done, trainer.state)
    return trainer.finish()


class PPO:
    """One training run. Construct, perhaps `restore`, then `step` until `steps_done` or `exhausted` says enough, and
    `finish`."""

    def __init__(
        self,
        policy: Policy,
        start: PreTrainedModel,
        preference_model: PreferenceModel,
        prompts: Sequence[TrainingPrompt],
        settings: PPOSettings,
        *,
        seed: int,
        watch: PreferenceModel | None = None,
        sampler: Sampler | None = None,
        rehearse_on: Sequence[list[int]] = (),
        processes: Processes = ALONE,
    ) -> None:
        self.prompts = PromptPool(
            prompts,
            policy,
            harmless_share=settings.harmless_prompt_share,
            max_tokens=settings.max_prompt_tokens,
            seed=seed,
        )
        drawn = self.prompts.harmless_among(settings.episodes_per_step // settings.replies_per_prompt)
        require_possible(settings, preference_model.shape.columns, drawn, processes.count)
        # Dropout stays off: a policy that samples and one that learns must be the same.
        self.policy = Trained(policy.model.eval(), processes)
        self.model = self.policy.model
        self.preference_model = preference_model.eval()
        self.settings = settings
        self.seed = seed
        self.steps_done = 0
        self.critic = self._new_critic()
        if self.critic is not None and processes.count > 1:
            shard(self.critic)
        rehearsal = self._new_rehearsal(start.eval(), policy.end_ids, rehearse_on)
        sampler = sampler or TorchSampler(policy.model, policy.end_ids)
        self.rollouts = Rollouts(
            self.policy,
            start,
            self.preference_model,
            self.critic,
            self._shared(sampler),
            settings,
            None if watch is None else watch.eval(),
        )
        self.updater = Updater(self.policy, self.critic, settings, rehearsal)
        self.kl: FixedKL | AdaptiveKL = FixedKL(settings.kl_coefficient)
        if settings.kl_controller == "adaptive":
            self.kl = AdaptiveKL(settings.kl_coefficient, settings.kl_target_nats, settings.kl_horizon_episodes)
        self.bound = Bound.of(settings)
        self.guard = None if watch is None else Guard(settings.watch_smoothing, settings.watch_patience_steps)
        self.peak: dict[str, Tensor] = {}
        self.fingerprint = self._fingerprint(rehearse_on)
        processes.agree_on(self.fingerprint)

    @property
    def exhausted(self) -> bool:
        """Whether the watch score has fallen for long enough to stop."""
        return self.guard is not None and self.guard.exhausted

    def step(self) -> PPOStep:
        """Sample, score, estimate, update; say what happened. Raises `TrainingDiverged`."""
        try:
            with matmul_precision(self.settings.matmul_precision, self.policy.whole):
                rollout = self._draw()
                costs_B, bound_B = self._costs(rollout)
                self._watch(rollout, costs_B, bound_B)
                shaped = rollout
                if self.bound is not None:
                    shaped = replace(rollout, reward_B=self.bound.reward(rollout.reward_B, costs_B, bound_B))
                advantages_N, returns_N = estimate_advantages(shaped, self.settings, self.kl.coefficient)
                totals = self.updater.update(shaped, advantages_N, returns_N, self.step_seed())
        except TrainingDiverged as error:
            raise TrainingDiverged(f"step {self.steps_done + 1}: {error.message}") from error
        self.steps_done += 1
        bound_cost = None if self.bound is None else self.bound.measured(costs_B, bound_B)
        done = report(
            rollout,
            returns_N,
            totals,
            step=self.steps_done,
            steps=self.settings.steps,
            score_names=self.preference_model.shape.columns,
            kl_coefficient=self.kl.coefficient,
            critic=self.critic is not None,
            guard=self.guard,
            bound_cost=bound_cost,
            multiplier=None if self.bound is None else self.bound.multiplier,
        )
        self.kl = self.kl.after(done.kl_nats, len(rollout.episodes))
        if self.bound is not None and bound_cost is not None:
            self.bound = self.bound.after(bound_cost)
        return done

    def finish(self) -> PPOEnd:
        """Look at the policy once more, since its last update was not seen yet, and put back the weights at the peak of
        the watch score. Without a watch model the last weights stay."""
        if self.guard is None:
            return PPOEnd(self.steps_done, stopped=False, published_step=self.steps_done)
        stopped = self.exhausted
        with matmul_precision(self.settings.matmul_precision, self.policy.whole):
            last = self._draw()
            self._watch(last, *self._costs(last))
        self.policy.whole.load_state_dict(self.peak, strict=False)
        assert last.watch_reward_B is not None
        return PPOEnd(
            self.steps_done,
            stopped,
            published_step=self.guard.peak_step,
            peak_watch_reward=self.guard.peak,
            last_reward=float(last.reward_B.mean()),
            last_watch_reward=float(last.watch_reward_B.mean()),
            last_kl_nats=last.kl_nats,
            last_sqrt_kl=max(last.kl_nats, 0.0) ** 0.5,
        )

    def step_seed(self) -> int:
        """The seed of the step to come; up to 63 more after it are its own too."""
        return (self.seed * 1_000_003 + self.steps_done) * 64

    def state(self) -> TrainingState:
        """Everything needed to go on from here."""
        tensors = capture(self._modules(), self.updater.optimizers)
        tensors |= {PEAK + name: tensor for name, tensor in self.peak.items()}
        numbers = {"kl_coefficient": self.kl.coefficient}
        if self.bound is not None:
            numbers["multiplier"] = self.bound.multiplier
        if self.guard is not None:
            numbers |= self.guard.numbers()
        return TrainingState(self.steps_done, self.fingerprint, tensors, numbers)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`. Raises `CheckpointInvalid` where it is of another run."""
        if state.fingerprint != self.fingerprint:
            raise CheckpointInvalid(
                "the checkpoint belongs to a run with other prompts, other settings, another seed or another guard"
            )
        restore(state.tensors, self._modules(), self.updater.optimizers)
        self.policy.make_whole()
        self.steps_done = state.step
        coefficient = state.numbers["kl_coefficient"]
        if isinstance(self.kl, AdaptiveKL):
            self.kl = replace(self.kl, coefficient=coefficient)
        if self.bound is not None:
            self.bound = replace(self.bound, multiplier=state.numbers["multiplier"])
        if self.guard is not None:
            self.guard = self.guard.resumed(state.numbers)
            self.peak = {
                name.removeprefix(PEAK): tensor for name, tensor in state.tensors.items() if name.startswith(PEAK)
            }

    def _draw(self) -> Rollout:
        prompts = self.prompts.draw(
            self.steps_done, self.settings.episodes_per_step // self.settings.replies_per_prompt
        )
        return self.rollouts.draw(prompts, self.step_seed())

    def _costs(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Cost of each reply under the bound, and for which of them it holds; both [B]. No bound holds for none."""
        replies = len(rollout.episodes)
        if self.bound is None:
            return torch.zeros_like(rollout.reward_B), torch.zeros_like(rollout.reward_B, dtype=torch.bool)
        per_prompt = self.settings.replies_per_prompt
        bound = self.prompts.harmless_among(replies // per_prompt) * per_prompt
        bound_B = torch.arange(replies, device=rollout.reward_B.device) < bound
        at = self.preference_model.shape.columns.index(HARMLESS)
        harmless_B = rollout.scores_B_O[:, at] / self.preference_model.scale_O[at]
        return self.bound.costs(harmless_B), bound_B

    def _watch(self, rollout: Rollout, costs_B: Tensor, bound_B: Tensor) -> None:
        """Show the guard the policy as it is before this step's update, and keep its weights if they are the best."""
        if self.guard is None:
            return
        assert rollout.watch_reward_B is not None
        score = float(rollout.watch_reward_B.mean())
        if self.bound is not None:
            # What misses the bound must not pass for a peak.
            score -= self.bound.most * max(0.0, self.bound.measured(costs_B, bound_B) - self.bound.limit)
        self.guard = self.guard.after(score, self.steps_done)
        if self.guard.at_peak:
            self.peak = copy_weights(self.policy.whole)

    def _new_critic(self) -> Critic | PreferenceCritic | None:
        if self.settings.advantage != "gae":
            return None
        if self.settings.critic == "preference_states":
            return PreferenceCritic(self.preference_model.trunk, self.seed)
        if self.settings.critic == "policy":
            return Critic.on_policy(self.model)
        return Critic.on_copy_of(self.preference_model.trunk)

    def _new_rehearsal(
        self, start: PreTrainedModel, end_ids: tuple[int, ...], rehearse_on: Sequence[list[int]]
    ) -> Rehearsal | None:
        """None where the policy is not to be held, or there is nothing to hold it on."""
        settings = self.settings
        if not settings.rehearsal_weight or not rehearse_on:
            return None
        with matmul_precision(settings.matmul_precision, start):
            return Rehearsal.draw(
                start,
                self._shared(TorchSampler(start, end_ids)),
                rehearse_on,
                settings,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                room=Room.of(settings),
                seed=self.step_seed() + 63,
            )

    def _shared(self, sampler: Sampler) -> Sampler:
        """Each process draws its part of what is asked."""
        processes = self.policy.processes
        return sampler if processes.count == 1 else SharedSampler(sampler, processes)

    def _modules(self) -> dict[str, nn.Module]:
        return {"policy": self.model} if self.critic is None else {"policy": self.model, "critic": self.critic}

    def _fingerprint(self, rehearse_on: Sequence[list[int]]) -> str:
        said = f"{self.settings.model_dump_json()} {self.seed} {self.guard is not None}"
        asked = f"{self.prompts.fingerprint()} {list(rehearse_on)}"
        return hashlib.sha256(f"{said} {asked}".encode()).hexdigest()


def estimate_advantages(rollout: Rollout, settings: PPOSettings, kl_coefficient: float) -> tuple[Tensor, Tensor]:
    """Advantages, those of `gae` whitened over the whole step, and the returns the critic learns; both [N]."""
    episodes = rollout.episodes
    mask_B_R = episodes.reply_mask_B_R
    kl_B_R = episodes.unpack(rollout.logprobs_N - rollout.start_logprobs_N)
    rewards_B_R = kl_shaped_rewards(kl_B_R, rollout.reward_B, mask_B_R, kl_coefficient)
    if settings.advantage == "gae":
        values_B_R = episodes.unpack(rollout.values_N)
        advantages_B_R, returns_B_R = gae(rewards_B_R, values_B_R, mask_B_R, settings.discount, settings.gae_lambda)
        return episodes.pack(whiten(advantages_B_R, mask_B_R)), episodes.pack(returns_B_R)
    compare = leave_one_out_advantages if settings.advantage == "rloo" else group_relative_advantages
    total_B = rewards_B_R.sum(dim=1)
    advantages_B = compare(total_B, settings.replies_per_prompt)
    rows_N, _ = episodes.reply_places
    return advantages_B[rows_N], total_B[rows_N]


def require_possible(settings: PPOSettings, columns: Sequence[str], harmless: int, processes: int) -> None:
    """That a preference model with these scores, steps with so many prompts that ask for harm, and so many processes go
    with the settings. Raises TrainingDataInvalid."""
    unknown = set(settings.reward_weights) - set(columns)
    if unknown:
        raise TrainingDataInvalid(f"reward_weights names unknown scores: {', '.join(sorted(unknown))}")
    shared = ("rehearsal_replies", "rehearsal_episodes") if settings.rehearsal_weight else ()
    for name in ("episodes_per_minibatch", *shared):
        if getattr(settings, name) % processes:
            raise TrainingDataInvalid(f"{name} must be a multiple of the {processes} processes")
    if settings.rollouts == "vllm" and processes > 1:
        raise TrainingDataInvalid("rollouts is vllm, which takes learner.processes of 1")
    if Bound.of(settings) is not None and (HARMLESS not in columns or not harmless):
        raise TrainingDataInvalid(
            "a bound on harm needs votes under harmless that prefer a reply, and prompts that votes under it were "
            "cast on in each step"
        )
