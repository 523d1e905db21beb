"""What the watch model's word gains by its having chosen the weights that it judges, in the built-in world.

Run `python -m benchmarks.watch_selection --seeds 4`. Several watch models, each from votes of its own, look at the same
run of PPO: each chooses its peak as the guard does, and all judge every choice. They are alike but for what each has
chosen, so what a chooser says more than the others is by the choice alone.
"""

import argparse
import json
import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from benchmarks.learning_in_the_sandbox import MAX_NEW_TOKENS, prompts_to_learn_on, replies, simulate_votes, split
from feedback.learning_settings import PPOSettings, PreferenceSettings
from feedback.sandbox.measures import win_rate
from feedback.sandbox.world import held_out_prompts
from feedback.settings import FeedbackSettings
from learner.comparisons import VotedComparison
from learner.policy import Policy, load_policy
from learner.ppo import PPO
from learner.ppo.guard import Guard
from learner.ppo.rollout import Rollout
from learner.preference_judging import calibrate
from learner.preference_model import PreferenceModel
from learner.preference_training import train_preference_model
from learner.sequences import Episodes
from learner.starting_policy import WEIGHTS

PROMPTS = [prompt for prompt in held_out_prompts() for _ in range(4)]


def rewards(model: PreferenceModel, episodes: Episodes, settings: PPOSettings) -> Tensor:
    """Scores of replies as the reward weighs them, [B]."""
    return model.combine(model.score_all(episodes), settings.reward_weights)


class Watched(PPO):
    """PPO before several watch models at once, none of which has a say in it: `seen` is the mean reward by each of
    them, of the policy after 0, 1, ... steps."""

    watches: list[PreferenceModel]
    seen: list[list[float]]

    def _draw(self) -> Rollout:
        rollout = super()._draw()
        missing = self.settings.missing_end_penalty * float((~rollout.samples.finished_B).float().mean())
        by_each = [float(rewards(watch, rollout.episodes, self.settings).mean()) for watch in self.watches]
        self.seen.append([reward - missing for reward in by_each])
        return rollout


def peak(seen: list[float], settings: PPOSettings) -> int:
    """After how many steps the guard has the best weights by these scores."""
    guard = Guard(settings.watch_smoothing, settings.watch_patience_steps)
    for step, reward in enumerate(seen):
        guard = guard if guard.exhausted else guard.after(reward, step)
    return guard.peak_step


def judge(start: Policy, train: list[VotedComparison], held_out: list[VotedComparison], seed: int) -> PreferenceModel:
    """A preference model from these votes."""
    settings = PreferenceSettings()
    model = train_preference_model(start, train, settings, seed=seed)
    calibrate(model, start, held_out, settings)
    return model


def watch_votes(start: Policy, count: int, seed: int) -> list[VotedComparison]:
    """So many votes of their own, on any prompts but held-out ones."""
    _, *others = split(simulate_votes(start, 2 * count, seed), FeedbackSettings().watch_share)
    return [one for part in others for one in part][:count]


def run(seed: int, votes: int, watched: int, models: int, chats: int, settings: PPOSettings) -> dict[str, Any]:
    """One run of PPO; of the `models` watch models each learns from `watched` votes."""
    start, policy = (load_policy(WEIGHTS, device="cpu") for _ in range(2))
    held_out, others, train = split(simulate_votes(start, votes, seed), FeedbackSettings().watch_share)
    model = judge(start, train, held_out, seed)
    seeds = [1000 * seed + number for number in range(models)]
    watches = [judge(start, watch_votes(start, watched, own), held_out, own) for own in seeds]
    pool, on = prompts_to_learn_on(start, model, train, others, settings, chats=chats, seed=seed)
    trainer = Watched(policy, start.model, model, pool, settings, seed=seed, rehearse_on=on.prompts)
    trainer.watches, trainer.seen = watches, []

    asked = [start.encode_chat(prompt.messages) for prompt in PROMPTS]
    other = replies(start, PROMPTS, seed + 8)
    texts = [start.decode(reply) for reply in other]
    other_M_B = [rewards(watch, Episodes.pad(asked, other), settings) for watch in watches]
    said: list[list[float]] = []
    gold: list[float] = []

    def measure() -> None:
        own = replies(policy, PROMPTS, seed + 9)
        own_M_B = [rewards(watch, Episodes.pad(asked, own), settings) for watch in watches]
        wins_M_B = [(mine_B > of_start_B).float() for mine_B, of_start_B in zip(own_M_B, other_M_B, strict=True)]
        ties_M_B = [(mine_B == of_start_B).float() for mine_B, of_start_B in zip(own_M_B, other_M_B, strict=True)]
        said.append([float((wins_B + ties_B / 2).mean()) for wins_B, ties_B in zip(wins_M_B, ties_M_B, strict=True)])
        gold.append(win_rate(zip(PROMPTS, map(policy.decode, own), texts, strict=True)) or 0.0)

    measure()
    for _ in range(settings.steps):
        trainer.step()
        measure()
    trainer._draw()

    chosen_M = torch.tensor([peak(list(own), settings) for own in zip(*trainer.seen, strict=True)])
    # Who has chosen, by who judges.
    said_M_M = torch.tensor(said)[chosen_M]
    own = float(said_M_M.diagonal().mean())
    by_others = float((said_M_M.sum() - said_M_M.diagonal().sum()) / (models * (models - 1)))
    return {
        "seed": seed,
        "published": chosen_M.tolist(),
        "who chose": own,
        "others": by_others,
        "gain": own - by_others,
        "gold": float(torch.tensor(gold)[chosen_M].mean()),
        "gold at the end": gold[-1],
        "deviation between models": float(torch.tensor(said[-1]).std()),
    }


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--votes", type=int, default=1400)
    parser.add_argument("--watched", type=int, default=210, help="votes that each watch model learns from")
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--chats", type=int, default=2000)
    parser.add_argument("--ppo", type=json.loads, default={"steps": 12, "max_new_tokens": MAX_NEW_TOKENS})
    arguments = parser.parse_args()
    gains = []
    for seed in range(1, arguments.seeds + 1):
        found = run(
            seed, arguments.votes, arguments.watched, arguments.models, arguments.chats, PPOSettings(**arguments.ppo)
        )
        print(json.dumps(found), flush=True)
        gains.append(found["gain"])
    gains_S = torch.tensor(gains)
    print("gain", float(gains_S.mean()), "standard error", float(gains_S.std()) / len(gains) ** 0.5)


if __name__ == "__main__":
    main()
