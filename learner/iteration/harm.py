"""Which prompts of an iteration ask for harm, where people's votes alone do not say it: learnt once, kept by digest."""

from pathlib import Path

import orjson

from learner.harmful_prompts import HarmTest
from learner.iteration.examples import voted
from learner.iteration.run import Run, write_json
from learner.policy import Policy
from learner.preference_model import PreferenceModel

HARMFUL_PROMPTS = "harmful_prompts.json"


def learn_harm(this: Run, dataset: Path, start: Policy, preference_model: PreferenceModel) -> HarmTest:
    """The test; what it says of voted prompts is written for all that practise or measure on them, unless it was."""
    learnt = [*voted(dataset, "train"), *voted(dataset, "watch")]
    settings = this.learner.ppo if this.learner.trainer == "ppo" else this.learner.dpo
    test = HarmTest.learn(start, learnt, settings, preference_model, seed=this.seed)
    file = this.folder / HARMFUL_PROMPTS
    if not file.exists():
        # Where nothing tells it, training takes all of them for harmful to be safe; what is measured is not to be.
        measured = [] if test.told_by == "nothing" else voted(dataset, "heldout")
        undecided = [one for one in (*learnt, *measured) if one.undecided]
        found = [one.digest for one, harmful in zip(undecided, test.harmful(undecided), strict=True) if harmful]
        write_json(file, {"told_by": test.told_by, "undecided": len(undecided), "harmful": found})
    return test


def harmful_among_undecided(folder: Path) -> frozenset[str]:
    """The digests of what was written in an iteration's folder; none in those of older iterations."""
    file = folder / HARMFUL_PROMPTS
    return frozenset(orjson.loads(file.read_bytes())["harmful"]) if file.exists() else frozenset()
