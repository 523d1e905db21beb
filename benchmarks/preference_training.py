"""Preference training beside TRL's RewardTrainer: pairs per second, and accuracy after equal work.

Seconds are CPU-seconds of one thread, or seconds of a GPU, where both compute in bf16 by autocast. Same trunk, a score
of the same width at the last token, same pairs of token ids, same optimiser settings. TRL has only the better and the
worse reply, so labels are certain here. `--turns` puts earlier turns of a conversation before each prompt: what both
replies share. Held-out pairs are judged by the gold judge. Prints a line of JSON for each run, in turns, and the ratio
of the medians.
"""

import argparse
import json
import os
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")


from benchmarks.learning_in_the_sandbox import replies, simulate_votes
from benchmarks.peers import environment
from benchmarks.peers.clock import Clock
from benchmarks.ppo import say, start_folder
from feedback.learning_settings import PreferenceSettings
from feedback.sandbox.dialogues import dialogues
from feedback.sandbox.judge import judge, overall
from feedback.sandbox.world import held_out_prompts
from learner.comparisons import VotedComparison
from learner.hardware import prepare_training
from learner.number_format import forward_format, forward_passes
from learner.policy import Policy, load_policy
from learner.preference_judging import score_comparisons
from learner.preference_model import PreferenceShape
from learner.preference_training import train_preference_model
from learner.starting_policy import WEIGHTS

TRL = "1.16.0"
SURE = 1.0


@dataclass(frozen=True)
class Pairs:
    """What both sides learn from and are judged on; in every pair the first reply is the better one."""

    train: list[VotedComparison]
    held_out: list[VotedComparison]


def make_pairs(policy: Policy, votes: int, turns: int, seed: int) -> Pairs:
    """Pairs of the starting policy's replies: to learn from as simulated raters voted, to be judged on by gold."""
    rng = random.Random(seed)
    contexts = list(dialogues(4 * votes, seed))
    said = [one for one in simulate_votes(policy, votes, seed) if one.label != 0.5]
    train = [_better_first(one, contexts, turns, rng) for one in said]
    prompts = [prompt for prompt in held_out_prompts() for _ in range(8)]
    sides = [replies(policy, prompts, seed * 2 + 100 + side) for side in (0, 1)]
    held_out = []
    for prompt, first, second in zip(prompts, *sides, strict=True):
        worth = [overall(judge(prompt, policy.decode(reply))) for reply in (first, second)]
        if abs(worth[0] - worth[1]) > 1e-9:
            one = VotedComparison(prompt.messages, (first, second), "helpful", float(worth[0] > worth[1]))
            held_out.append(_better_first(one, contexts, turns, rng))
    return Pairs(train, held_out)


def _better_first(one: VotedComparison, contexts: Sequence[Any], turns: int, rng: random.Random) -> VotedComparison:
    first, second = one.replies
    ordered = (first, second) if one.label > 0.5 else (second, first)
    earlier = [message for _ in range(turns) for message in rng.choice(contexts)[:2]]
    return VotedComparison([*earlier, *one.messages], ordered, "helpful", SURE)


def encoded(policy: Policy, pairs: Sequence[VotedComparison]) -> list[tuple[list[int], list[int]]]:
    """Whole conversations as token ids, the better one first."""
    sides = []
    for pair in pairs:
        prompt = policy.encode_chat(pair.messages)
        sides.append(([*prompt, *pair.replies[0]], [*prompt, *pair.replies[1]]))
    return sides


def tandem(policy: Policy, pairs: Pairs, settings: PreferenceSettings, seed: int) -> dict[str, Any]:
    device = policy.model.device
    clock = Clock(device.type)
    with forward_passes(forward_format("auto", device), device):
        clock.start()
        model = train_preference_model(policy, pairs.train, settings, seed=seed, objectives=["helpful"])
        spent = clock.read()
        scores_C_2_O = score_comparisons(model, policy, pairs.held_out, settings).scores_C_2_O
    right_C = scores_C_2_O[:, 0, -1] > scores_C_2_O[:, 1, -1]
    return {"accuracy": float(right_C.float().mean()), **spent}


def peer_job(policy: Policy, pairs: Pairs, settings: PreferenceSettings, seed: int) -> dict[str, Any]:
    return {
        "seed": seed, "epochs": settings.epochs,
        "head_width": PreferenceShape(("helpful",)).head_width,
        "pairs_per_batch": settings.comparisons_per_batch, "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay, "warmup_share": settings.warmup_share,
        "max_gradient_norm": settings.max_gradient_norm,
        # Ours penalises the squared mean of two scores, TRL that of their sum.
        "center_coefficient": settings.score_center_penalty / 4,
        "train": encoded(policy, pairs.train), "held_out": encoded(policy, pairs.held_out),
    }  # fmt: skip


def main() -> None:
    prepare_training(threads=1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=["built-in", "30m", "500m"], default="built-in")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--folder", type=Path, default=environment.ROOT / ".benchmarks")
    parser.add_argument("--preference", type=json.loads, default={}, help="settings of the preference model")
    parser.add_argument("--votes", type=int, default=2000)
    parser.add_argument("--turns", type=int, nargs="+", default=[0, 6])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--attention", choices=["sdpa", "eager"], help="of the peer; by itself sdpa on a GPU only")
    parser.add_argument("--matmul", choices=["bf16", "ieee"], default="bf16", help="oneDNN's switch in the peer")
    given = parser.parse_args()
    python = environment.prepare(TRL)
    given.folder.mkdir(parents=True, exist_ok=True)
    start = start_folder(given.policy, given.folder, 3000)
    writer, policy = load_policy(WEIGHTS, device="cpu"), load_policy(start, device=given.device)
    settings = PreferenceSettings(**{"epochs": 1, "readout": "last", "start_logprob_feature": False} | given.preference)
    for turns in given.turns:
        pairs = make_pairs(writer, given.votes, turns, seed=1)
        attention = given.attention or ("sdpa" if given.device == "cuda" else "eager")
        how = {"start": str(start), "device": given.device, "attention": attention, "matmul": given.matmul}
        job = peer_job(policy, pairs, settings, 1) | how
        shared = statistics.mean(len(policy.encode_chat(pair.messages)) for pair in pairs.train)
        tokens = statistics.mean(len(reply) for pair in pairs.train for reply in pair.replies)
        say(
            turns=turns, pairs=len(pairs.train), held_out=len(pairs.held_out), prompt_tokens=shared, reply_tokens=tokens
        )
        speeds: dict[str, list[float]] = {"tandem": [], "trl": []}
        for number in range(given.rounds):
            for name in ("tandem", "trl") if number % 2 == 0 else ("trl", "tandem"):
                seed = number + 1
                if name == "tandem":
                    result = tandem(policy, pairs, settings, seed)
                else:
                    result = environment.run(python, "trl_reward.py", job | {"seed": seed})
                speeds[name].append(len(pairs.train) * settings.epochs / result["seconds"])
                figures = {
                    "pairs_per_s": speeds[name][-1],
                    "accuracy": result["accuracy"],
                    "peak_gb": result["peak_gb"],
                }
                say(turns=turns, round=number, who=name, **figures)
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        say(turns=turns, **medians, ratio=medians["tandem"] / medians["trl"])


if __name__ == "__main__":
    main()
