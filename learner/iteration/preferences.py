"""The preference stages: train the preference model and the watch model, measure them, and note which open pairs the
former is least sure of."""

import hashlib
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import torch

from feedback import datasets
from feedback.judges import PREFERENCE, WATCH
from feedback.objectives import OBJECTIVES, OVERALL
from feedback.settings import LearnerSettings
from learner.anchor import set_anchor
from learner.comparisons import VotedComparison
from learner.disagreement import note_disagreement
from learner.estimates import worth_of
from learner.iteration.examples import Votes
from learner.iteration.run import Run, write_json
from learner.iteration.together import train_preference_model_together
from learner.policy import Policy
from learner.preference_judging import accuracy_of, calibrate
from learner.preference_model import PreferenceModel, load_preference_model, save_preference_model
from learner.preference_training import train_preference_model
from learner.pretraining import RANKED, ranked_pairs
from learner.processes import ALONE

SPLITS = {PREFERENCE: "train", WATCH: "watch"}
STATE = ".state.safetensors"
PRETRAINED, WATCH_PRETRAINED = "pretrained", "pretrained-watch"


def train_preferences(this: Run, votes: Votes, start: Policy) -> tuple[PreferenceModel, dict[str, Any]]:
    """Train the preference model and measure it on the held-out votes, or load what was trained before."""
    this.progress.enter("preference")
    return _trained(this, PREFERENCE, votes.comparisons("train"), votes, start)


def train_watch(
    this: Run, votes: Votes, start: Policy, learnt: Collection[str]
) -> tuple[PreferenceModel | None, dict[str, Any]]:
    """Train the watch model on the votes set apart for it, and measure it likewise. None, and why, with too few. The
    preference model has `learnt` these objectives."""
    watched = votes.comparisons("watch")
    lacking = lacks(watched, learnt, votes.comparisons("heldout"), this.learner)
    # One that is trained stays, whatever another release, which goes on with the iteration, would ask for.
    if lacking is not None and not (this.folder / f"{WATCH}.json").exists():
        report = {"trained": False, "votes": len(watched), "reason": lacking}
        this.progress.tell(WATCH, report)
        return None, report
    model, report = _trained(this, WATCH, watched, votes, start)
    return model, {"trained": True, "votes": len(watched), **report}


def lacks(
    watched: list[VotedComparison],
    learnt: Collection[str],
    held_out: list[VotedComparison],
    learner: LearnerSettings,
) -> str | None:
    """What speaks against a watch model: votes that are worth too few, none under an objective that the reward weighs,
    by itself or in the overall score, none that its own overall score could learn from, or none to judge it by."""
    ppo, in_overall = learner.ppo, learner.preference.objective_weights
    worth = _worth(watched)
    if worth < ppo.watch_min_votes:
        by_weight = f", by their weights worth {worth:g}" if worth < len(watched) else ""
        return f"{len(watched)} votes to watch by{by_weight}, {ppo.watch_min_votes} wanted (feedback.watch_share)"
    weights = {name for name, weight in ppo.reward_weights.items() if weight}
    if OVERALL in weights:
        weights |= {name for name, weight in in_overall.items() if weight}
    objectives = objectives_of(watched)
    unwatched = weights & set(learnt).difference(objectives)
    if unwatched:
        return f"no vote to watch by under {', '.join(sorted(unwatched))}"
    if not any(in_overall.get(name) for name in objectives):
        return f"no weight in learner.preference.objective_weights for {' or '.join(objectives)}, all to watch by"
    if not any(one.objective in objectives for one in held_out):
        return f"no held-out vote under {' or '.join(objectives)} to judge it by"
    return None


def _trained(
    this: Run, name: str, train: list[VotedComparison], votes: Votes, start: Policy
) -> tuple[PreferenceModel, dict[str, Any]]:
    """The preference model `name` and its report, each kept in the iteration's folder."""
    model_folder, report_file = this.folder / name, this.folder / f"{name}.json"
    if report_file.exists():
        model = load_preference_model(model_folder, start.model, str(start.model.device))
        return model, orjson.loads(report_file.read_bytes())
    pretrained, pretraining_report = pretrain(this, name, votes, start)
    task = {
        "dataset": str(votes.dataset),
        "split": SPLITS[name],
        "objectives": objectives_of(train),
        "before": None if pretrained is None else str(this.folder / pretrained_for(this, name)),
        "state": name + STATE,
    }
    on_step = partial(this.progress.preference_step, name)
    model = train_preference_model_together(this, start, train, pretrained, task, on_step)
    held_out = [one for one in votes.comparisons("heldout") if one.objective in model.shape.objectives]
    report = calibrate(model, start, held_out, this.learner.preference, this.learner.evaluation.confidence)
    report["learnt_from"] = {"votes": len(train), "worth": _worth(train)}
    report["anchor"] = set_anchor(model, start, this.learner.preference)
    if pretraining_report is not None:
        report["pretraining"] = pretraining_report
    save_preference_model(model, model_folder)
    weights = (model_folder / "preference.safetensors").read_bytes()
    report["sha256"] = hashlib.sha256(weights).hexdigest()
    write_json(report_file, report)
    this.progress.report(name, report)
    return model, report


def _worth(comparisons: list[VotedComparison]) -> float:
    # Equal weights are worth as many as there are, of which sums are a little off.
    return round(worth_of(torch.tensor([one.weight for one in comparisons])), 1)


def objectives_of(comparisons: list[VotedComparison]) -> list[str]:
    """Those under which a vote prefers a reply, in their order: the scores of a preference model that learns from
    these. Of ties alone a score would be noise, and a reward over its deviation nothing else."""
    preferring = {one.objective for one in comparisons if one.weight > 0 and one.label != 0.5}
    return [objective for objective in OBJECTIVES if objective in preferring]


def pretrained_for(this: Run, name: str) -> str:
    """What the model is kept as that the preference or the watch model begins from: one for both, unless it learns from
    votes, of which the watch model's are others."""
    return WATCH_PRETRAINED if name == WATCH and this.learner.preference.pretraining.from_record else PRETRAINED


def pretrain(this: Run, name: str, votes: Votes, start: Policy) -> tuple[PreferenceModel | None, dict[str, Any] | None]:
    """Train on ranked pairs where the settings name any and there are any, or load what was trained before. The report
    tells the accuracy on ranked pairs that were kept aside, and on the held-out votes before any vote was learnt
    from."""
    settings = this.learner.preference
    if settings.pretraining.file is None and not settings.pretraining.from_record:
        return None, None
    kept_as = pretrained_for(this, name)
    folder, report_file = this.folder / kept_as, this.folder / f"{kept_as}.json"
    if report_file.exists():
        model = load_preference_model(folder, start.model, str(start.model.device))
        return model, orjson.loads(report_file.read_bytes())
    pairs = ranked_pairs(settings.pretraining, datasets.read(votes.dataset, SPLITS[name]), this.settings.feedback)
    report: dict[str, Any] = {"pairs": len(pairs.train), "set_aside": pairs.set_aside, "left_out": pairs.left_out}
    if not pairs.train and settings.pretraining.file is None:
        return None, report
    checkpoint = this.checkpoint(kept_as + STATE, ALONE)
    model = checkpoint.resume(
        lambda state: train_preference_model(
            start,
            pairs.train,
            settings.model_copy(update={"epochs": settings.pretraining.epochs, "objective_weights": {RANKED: 1.0}}),
            seed=this.seed,
            objectives=[RANKED],
            on_step=checkpoint.after(partial(this.progress.preference_step, name)),
            resume=state,
        )
    )
    held_out = [replace(one, objective=RANKED) for one in votes.comparisons("heldout")]
    report |= {
        "accuracy": accuracy_of(model, start, pairs.held_out, settings),
        "accuracy_on_votes": accuracy_of(model, start, held_out, settings),
    }
    save_preference_model(model, folder)
    write_json(report_file, report)
    this.progress.report("pretraining", report)
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
