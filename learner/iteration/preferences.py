"""The preference stages: train the preference model and the watch model, measure them, and note which open pairs the
former is least sure of."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from feedback.learning_settings import PPOSettings
from feedback.schema import OBJECTIVES
from learner.anchor import set_anchor
from learner.comparisons import VotedComparison
from learner.disagreement import note_disagreement
from learner.iteration.examples import comparisons
from learner.iteration.run import Run, write_json
from learner.policy import Policy
from learner.preference_judging import calibrate
from learner.preference_model import PreferenceModel, load_preference_model, save_preference_model
from learner.preference_training import PreferenceStep, train_preference_model
from learner.training_state import TrainingState

PREFERENCE, WATCH = "preference", "watch"
STATE = ".state.safetensors"


def train_preferences(this: Run, dataset: Path, start: Policy) -> tuple[PreferenceModel, dict[str, Any]]:
    """Train the preference model and measure it on the held-out votes, or load what was trained before."""
    this.progress.enter("preference")
    return _trained(this, PREFERENCE, comparisons(dataset, "train"), dataset, start)


def train_watch(this: Run, dataset: Path, start: Policy) -> tuple[PreferenceModel | None, dict[str, Any]]:
    """Train the watch model on the votes set apart for it, and measure it likewise. None, and why, with too few."""
    watched = comparisons(dataset, "watch")
    lacking = _lacking(watched, comparisons(dataset, "train"), this.learner.ppo)
    if lacking is not None:
        report = {"trained": False, "votes": len(watched), "reason": lacking}
        this.progress.tell(WATCH, report)
        return None, report
    model, report = _trained(this, WATCH, watched, dataset, start)
    return model, {"trained": True, "votes": len(watched), **report}


def _lacking(watched: list[VotedComparison], train: list[VotedComparison], ppo: PPOSettings) -> str | None:
    """What speaks against a watch model: too few votes, or none under an objective that the reward weighs."""
    if len(watched) < ppo.watch_min_votes:
        return f"{len(watched)} votes to watch by, {ppo.watch_min_votes} wanted (feedback.watch_share)"
    weighed = {one.objective for one in train if ppo.reward_weights.get(one.objective)}
    unwatched = weighed - {one.objective for one in watched}
    return f"no vote to watch by under {', '.join(sorted(unwatched))}" if unwatched else None


def _trained(
    this: Run, name: str, train: list[VotedComparison], dataset: Path, start: Policy
) -> tuple[PreferenceModel, dict[str, Any]]:
    """The preference model `name` and its report, each kept in the iteration's folder."""
    model_folder, report_file = this.folder / name, this.folder / f"{name}.json"
    if report_file.exists():
        model = load_preference_model(model_folder, start.model, str(start.model.device))
        return model, orjson.loads(report_file.read_bytes())
    checkpoint = this.checkpoint(name + STATE)

    def on_step(done: PreferenceStep, state: Callable[[], TrainingState]) -> None:
        this.progress.preference_step(name, done)
        checkpoint.offer(state, last=done.step == done.steps)

    model = train_preference_model(
        start,
        train,
        this.learner.preference,
        seed=this.seed,
        objectives=[objective for objective in OBJECTIVES if any(one.objective == objective for one in train)],
        on_step=on_step,
        resume=checkpoint.load(),
    )
    held_out = [one for one in comparisons(dataset, "heldout") if one.objective in model.shape.objectives]
    report = calibrate(model, start, held_out, this.learner.preference)
    report["anchor"] = set_anchor(model, start, this.learner.preference)
    save_preference_model(model, model_folder)
    weights = (model_folder / "preference.safetensors").read_bytes()
    report["sha256"] = hashlib.sha256(weights).hexdigest()
    write_json(report_file, report)
    this.progress.tell(name, report)
    return model, report


def note_unsure_pairs(this: Run, start: Policy, preference_model: PreferenceModel) -> None:
    """From now on the pairs that this preference model is least sure of are handed out first."""
    feedback = this.settings.feedback
    found = note_disagreement(
        this.store,
        this.epoch,
        preference_model,
        start,
        this.learner.preference,
        votes_wanted=feedback.votes_wanted,
        pairs=feedback.disagreement_pairs,
    )
    this.progress.tell("disagreement", found)
