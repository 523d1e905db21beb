"""What an iteration costs with a long record behind it: 2,000 new votes after 10,000 and after 100,000 old ones.

With `feedback.old_votes` as it comes and without a bound. CPU-seconds of one thread: freezing the dataset, reading it,
training a preference model on it (with a bound only, since without one it is what a vote costs times all votes), and
one PPO step on its prompts.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")


from benchmarks.record import fill
from feedback import datasets
from feedback.learning_settings import PPOSettings, PreferenceSettings
from feedback.objectives import OVERALL
from feedback.settings import FeedbackSettings
from feedback.store import Store
from feedback.worker import count_all
from learner.hardware import prepare_training
from learner.iteration.examples import Votes
from learner.policy import load_policy
from learner.ppo import train_ppo
from learner.preference_training import train_preference_model
from learner.prompts import HELPFUL
from learner.starting_policy import WEIGHTS


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    before = time.process_time()
    result = work()
    return round(time.process_time() - before, 2), result


def learn(folder: Path, seed: int = 1) -> dict[str, float]:
    start, policy = load_policy(WEIGHTS, device="cpu"), load_policy(WEIGHTS, device="cpu")
    votes = Votes(folder)
    read_s, train = timed(lambda: votes.comparisons("train"))
    preference_s, model = timed(lambda: train_preference_model(start, train, PreferenceSettings(epochs=1), seed=seed))
    settings = PPOSettings(steps=1, max_new_tokens=48, reward_weights={OVERALL: 1.0})
    pool = votes.prompts("train")
    held = [start.encode_chat(one.messages) for one in pool if one.objective == HELPFUL]
    ppo_s, _ = timed(lambda: train_ppo(policy, start.model, model, pool, settings, seed=seed, rehearse_on=held))
    return {"read_s": read_s, "preference_s": preference_s, "ppo_step_s": ppo_s, "learnt_from": len(train)}


def measure(old: int, new: int, kept: int, folder: Path) -> None:
    store = Store(f"sqlite:///{folder / 'tandem.db'}")
    store.migrate()
    fill(store, old)
    count_all(store)
    since = store.read(datasets.freeze, folder / "before", FeedbackSettings()).summary["frozen_at"]
    # One in ten pairs that `fill` makes has no vote.
    fill(store, old + new, first=old)
    count_all(store)
    for bound in (None, kept):
        settings = FeedbackSettings(old_votes=bound)
        freeze = partial(store.read, datasets.freeze, folder / "frozen", settings, since=since)
        seconds, frozen = timed(freeze)
        figures = {"old": old, "new": new, "old_votes": bound, "freeze_s": seconds} | frozen.summary["counts"]
        print(json.dumps(figures | (learn(frozen.folder) if bound is not None else {})), flush=True)
    store.close()


def main() -> None:
    prepare_training(threads=1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--new", type=int, default=2000)
    parser.add_argument(
        "--kept", type=int, default=FeedbackSettings().old_votes, help="feedback.old_votes where it is bounded"
    )
    given = parser.parse_args()
    for old in given.old:
        with tempfile.TemporaryDirectory() as folder:
            measure(old, given.new, given.kept, Path(folder))


if __name__ == "__main__":
    main()
