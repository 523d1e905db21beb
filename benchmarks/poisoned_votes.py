"""What raters who mean harm, or do not look, make of a preference model by the default settings: in the built-in world.

Run `python -m benchmarks.poisoned_votes --seeds 3`. Sixteen raters cast three votes on each of 400 pairs of replies of
the starting policy; others vote besides, under as many names as said, with the greatest strength. Of each case it
prints how many of either are set apart, and how often the preference model is right on pairs whose better reply is
known.
"""

import argparse
import os
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from feedback import datasets, rater_watch
from feedback.sandbox import raters as crew
from feedback.sandbox.raters import Judgement, Preferred
from feedback.sandbox.world import Prompt, training_prompts
from feedback.store import Store, raters, votes
from feedback.worker import count_all
from learner.policy import load_policy
from learner.starting_policy import WEIGHTS
from tests import test_adversarial_raters as trial
from tests.feedback.record import add_comparison, sample


@dataclass(frozen=True)
class Case:
    """`how` the others vote, under so many `names`, so many votes together."""

    how: str
    names: int = 0
    votes: int = 0


CASES = [
    Case("nobody"),
    *(Case("turned", *of) for of in ((1, 300), (4, 600), (40, 600), (120, 600), (40, 1200))),
    *(Case(how, 4, count) for how in ("longer", "left") for count in (300, 600)),
]


def spoilt(seen: Judgement, pair: tuple[str, str], how: str) -> Judgement:
    """A vote of one of the others, who saw the pair so."""
    turned: dict[Preferred, Preferred] = {0: 1, 1: 0, "tie": "tie", "both_bad": "both_bad"}
    sides: dict[str, Preferred] = {
        "turned": turned[seen.preferred],
        "longer": 0 if len(pair[0]) > len(pair[1]) else 1,
        "left": 0,
    }
    return replace(seen, preferred=sides[how], strength=4)


def cast(store: Store, prompts: list[Prompt], pairs: list[tuple[str, str]], case: Case, seed: int) -> None:
    """All votes of a case."""
    judging, rng, other = crew.raters(trial.HONEST, seed=seed), random.Random(seed), random.Random(seed + 1)
    on: dict[int, list[str]] = {}
    for index in range(case.names):
        for number in other.sample(range(trial.PAIRS), case.votes // case.names):
            on.setdefault(number, []).append(f"other-{index}")
    for number, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
        first, second = (sample(text, version=side, messages=list(prompt.messages)) for side, text in enumerate(pair))
        comparison_id = add_comparison(store, first, second)
        objective = crew.draw_objective(prompt, rng)
        said = [crew.vote(prompt, pair, objective, one, rng) for one in rng.sample(judging, trial.VOTES_EACH)]
        seen = (crew.vote(prompt, pair, objective, crew.Rater(name), other) for name in on.get(number, []))
        said += [spoilt(one, pair, case.how) for one in seen]
        for one in said:
            judgement = votes.Judgement(one.objective, str(one.preferred), one.strength)
            store.write(votes.put, comparison_id, judgement, key_id="key_a", sees_all=False, rater=one.rater)
    count_all(store)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.poisoned_votes", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    torch.set_num_threads(1)
    policy = load_policy(WEIGHTS, device="cpu")
    for seed in range(parser.parse_args().seeds):
        rng = random.Random(seed)
        prompts = [rng.choice(training_prompts()) for _ in range(trial.PAIRS)]
        pairs, gold = trial.replies(policy, prompts, 5 + seed), trial.gold_pairs(policy)
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                store = Store(f"sqlite:///{folder}/record.db")
                store.migrate()
                cast(store, prompts, pairs, case, seed)
                apart = rater_watch.watch(store, trial.SETTINGS)
                names = [rater.name for rater, _ in store.read(raters.list_all) if rater.id in apart]
                frozen = store.read(datasets.freeze, Path(folder), trial.SETTINGS)
                right = trial.accuracy(policy, frozen.folder, gold)
                store.close()
            others = sum(name.startswith("other") for name in names)
            print(
                f"seed {seed}, {case.how}, {case.names} names, {case.votes} votes: set apart {others} of them and "
                f"{len(names) - others} who judge; right on {right:.3f} of {len(gold)} pairs",
                flush=True,
            )


if __name__ == "__main__":
    main()
