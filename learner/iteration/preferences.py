"""The preference stage: train the preference model, measure it, and note which open pairs it is least sure of."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from feedback.schema import OBJECTIVES
from learner.anchor import set_anchor
from learner.disagreement import note_disagreement
from learner.iteration.examples import comparisons
from learner.iteration.run import Run, write_json
from learner.policy import Policy
from learner.preference_judging import calibrate
from learner.preference_model import PreferenceModel, load_preference_model, save_preference_model
from learner.preference_training import PreferenceStep, train_preference_model
from learner.training_state import TrainingState

PREFERENCE, PREFERENCE_STATE, PREFERENCE_REPORT = "preference", "preference.state.safetensors", "preference.json"


def train_preferences(this: Run, dataset: Path, start: Policy) -> tuple[PreferenceModel, dict[str, Any]]:
    """Train the preference model and measure it on the held-out votes, or load what was trained before."""
    this.progress.enter("preference")
    model_folder, report_file = this.folder / PREFERENCE, this.folder / PREFERENCE_REPORT
    if report_file.exists():
        model = load_preference_model(model_folder, start.model, str(start.model.device))
        return model, orjson.loads(report_file.read_bytes())
    checkpoint = this.checkpoint(PREFERENCE_STATE)

    def on_step(done: PreferenceStep, state: Callable[[], TrainingState]) -> None:
        this.progress.preference_step(done)
        checkpoint.offer(state, last=done.step == done.steps)

    train = comparisons(dataset, "train")
    model = train_preference_model(
        start,
        train,
        this.learner.preference,
        seed=this.seed,
        objectives=[name for name in OBJECTIVES if any(one.objective == name for one in train)],
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
    this.progress.tell("preference", report)
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
