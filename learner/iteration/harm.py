"""Which prompts of an iteration ask for harm, where people's votes alone do not say it: learnt once, kept by digest."""

from dataclasses import replace
from pathlib import Path

import orjson

from feedback.judges import HARMFUL_PROMPTS
from feedback.learning_settings import DPOSettings, PPOSettings
from feedback.settings import LearnerSettings
from learner.harmful_prompts import HarmTest
from learner.iteration.examples import Votes
from learner.iteration.run import Run, write_json
from learner.policy import Policy
from learner.preference_model import PreferenceModel


def learn_harm(this: Run, votes: Votes, start: Policy, preference_model: PreferenceModel) -> tuple[HarmTest, Votes]:
    """The test, and the votes with what it says of their prompts, which is kept beside the evidence."""
    learnt = [*votes.voted("train"), *votes.voted("watch")]
    test = HarmTest.learn(start, learnt, lengths_for_harm(this.learner), preference_model, seed=this.seed)
    file = this.folder / HARMFUL_PROMPTS
    if not file.exists():
        # Where nothing tells it, training takes all of them for harmful to be safe; what is measured is not to be.
        measured = [] if test.told_by == "nothing" else votes.voted("heldout")
        undecided = [one for one in (*learnt, *measured) if one.undecided]
        found = [one.digest for one, harmful in zip(undecided, test.harmful(undecided), strict=True) if harmful]
        write_json(file, {"told_by": test.told_by, "undecided": len(undecided), "harmful": found})
    return test, replace(votes, harmful=harmful_among_undecided(this.folder))


def lengths_for_harm(learner: LearnerSettings) -> PPOSettings | DPOSettings:
    """The trainer's settings, with replies no longer than those that the preference model learnt to score: DPO may be
    given longer ones."""
    if learner.trainer == "ppo":
        return learner.ppo
    longest = min(learner.dpo.max_reply_tokens, learner.preference.max_reply_tokens)
    return learner.dpo.model_copy(update={"max_reply_tokens": longest})


def harmful_among_undecided(folder: Path) -> frozenset[str]:
    """The digests that were kept in an iteration's folder; none in those of older iterations."""
    file = folder / HARMFUL_PROMPTS
    return frozenset(orjson.loads(file.read_bytes())["harmful"]) if file.exists() else frozenset()
