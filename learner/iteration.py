"""One turn of the loop, in a process of its own: `python -m learner.iteration ID`.

Freeze the votes, train a preference model, train a candidate with PPO, evaluate it, publish it. Every stage leaves its
result in the iteration's folder, so that a process that takes over after a kill goes on where the last one was. What is
written to the record is written under the learner lease: a process that lost it can change nothing.
"""

import hashlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from feedback import datasets, logs, rater_watch
from feedback.errors import InvalidRequest, LeaseLost, RecordUnavailable, TandemError
from feedback.lifeline import die_with_parent
from feedback.schema import OBJECTIVES, version_name
from feedback.settings import LearnerSettings, Settings, load_settings
from feedback.store import Store, iterations, leases, policies
from learner.comparisons import VotedComparison
from learner.disagreement import note_disagreement
from learner.evaluation import HeldOutPrompt, Serving, evaluate
from learner.lease import Heartbeat
from learner.policy import Policy, load_policy
from learner.ppo import PPOStep, train_ppo
from learner.preference_judging import calibrate
from learner.preference_model import PreferenceModel, load_preference_model, save_preference_model
from learner.preference_training import PreferenceStep, train_preference_model
from learner.progress import Progress
from learner.prompts import HARMLESS, TrainingPrompt
from learner.publishing import publish_folder
from learner.training_state import TrainingState

log = logging.getLogger(__name__)

PREFERENCE, PREFERENCE_STATE, PREFERENCE_REPORT = "preference", "preference.state.safetensors", "preference.json"
PPO_STATE, PPO_STEPS, EVALUATION = "ppo.state.safetensors", "ppo.jsonl", "evaluation.json"


@dataclass(frozen=True)
class Run:
    """What the stages of one iteration share."""

    store: Store
    settings: Settings
    learner: LearnerSettings
    iteration_id: str
    seed: int
    epoch: int
    folder: Path
    progress: Progress

    @property
    def device(self) -> str | None:
        return None if self.learner.device == "auto" else self.learner.device


def run(store: Store, settings: Settings, iteration_id: str) -> None:
    """Begin the iteration or go on with it; nothing happens when it has ended or another process works on it."""
    holder = f"{socket.gethostname()}:{os.getpid()}"
    claimed = store.write(iterations.claim, iteration_id, holder, settings.loop.lease_ttl_s, settings.loop.max_attempts)
    if claimed is None:
        log.info("nothing to do for %s", iteration_id)
        return
    row, epoch = claimed
    folder = settings.home / "iterations" / iteration_id
    folder.mkdir(parents=True, exist_ok=True)
    this = Run(
        store,
        settings,
        fit_to(LearnerSettings.model_validate(row.settings), settings.policies_dir / version_name(0)),
        iteration_id,
        row.seed,
        epoch,
        folder,
        Progress(store, iteration_id, epoch),
    )
    torch.set_num_threads(this.learner.threads)
    with Heartbeat(store, epoch, settings.loop.lease_ttl_s):
        try:
            version = _all_stages(this)
            store.write(iterations.succeed, iteration_id, epoch, version)
        except (LeaseLost, RecordUnavailable):
            # Without the record this process cannot go on; the iteration can, in the next one.
            raise
        except TandemError as error:
            store.write(iterations.fail, iteration_id, epoch, error.message)
            raise
        except Exception as error:
            # Left as running, an iteration that cannot end would be begun again for ever.
            store.write(iterations.fail, iteration_id, epoch, f"{type(error).__name__}: see the learner's log")
            raise
        finally:
            # On SIGTERM too: the next process may go on at once.
            store.write(leases.release, leases.LEARNER, epoch)
    _tidy(this)


def _all_stages(this: Run) -> int:
    """Every stage in order. Returns the candidate's version number."""
    dataset = freeze(this)
    start = _load(this, this.store.read(policies.get, 0).version)
    preference_model, preference_report = train_preferences(this, dataset, start)
    _note_disagreement(this, start, preference_model)
    candidate, parent = _starting_point(this)
    ppo_steps = improve(this, dataset, start, preference_model, candidate)
    evaluation = judge(this, dataset, start, preference_model, candidate)
    evidence = {"preference": preference_report, "ppo": ppo_steps, "evaluation": evaluation}
    return publish(this, candidate, parent, dataset, evidence)


def freeze(this: Run) -> Path:
    """Freeze the counted votes into a dataset, or find the one that was frozen before. Returns its folder."""
    this.progress.enter("freeze")
    folder = this.settings.home / "datasets"
    known = this.store.read(iterations.get, this.iteration_id).dataset_digest
    if known is not None:
        return folder / known
    # Whoever votes unlike the others is set apart before anything learns from them.
    for rater_id, reason in rater_watch.watch(this.store, this.settings.feedback).items():
        this.progress.tell("quarantined", {"rater": rater_id, "reason": reason})
    frozen = this.store.read(datasets.freeze, folder, this.settings.feedback)
    counts = frozen.summary["counts"]
    for split, what in (("train", "learn from"), ("heldout", "measure on")):
        if not counts.get(split):
            raise InvalidRequest(f"no counted vote to {what}: {frozen.summary['examples']} votes in all; gather more")
    this.store.write(
        iterations.freeze,
        this.iteration_id,
        this.epoch,
        digest=frozen.digest,
        path=frozen.folder.relative_to(this.settings.home).as_posix(),
        summary=frozen.summary,
        votes=frozen.votes(),
    )
    this.progress.tell("dataset", frozen.summary)
    return frozen.folder


def train_preferences(this: Run, dataset: Path, start: Policy) -> tuple[PreferenceModel, dict[str, Any]]:
    """Train the preference model and measure it on the held-out votes, or load what was trained before."""
    this.progress.enter("preference")
    model_folder, report_file = this.folder / PREFERENCE, this.folder / PREFERENCE_REPORT
    if report_file.exists():
        model = load_preference_model(model_folder, start.model, str(start.model.device))
        return model, orjson.loads(report_file.read_bytes())
    checkpoint = Checkpoint(this.folder / PREFERENCE_STATE, this.learner.checkpoint_interval_s)

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
    save_preference_model(model, model_folder)
    weights = (model_folder / "preference.safetensors").read_bytes()
    report["sha256"] = hashlib.sha256(weights).hexdigest()
    _write_json(report_file, report)
    this.progress.tell("preference", report)
    return model, report


def _note_disagreement(this: Run, start: Policy, preference_model: PreferenceModel) -> None:
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


def improve(
    this: Run, dataset: Path, start: Policy, preference_model: PreferenceModel, candidate: Policy
) -> list[dict[str, Any]]:
    """Train `candidate` in place by PPO. Returns what each step did."""
    this.progress.enter("ppo")
    checkpoint = Checkpoint(this.folder / PPO_STATE, this.learner.checkpoint_interval_s)
    resume = checkpoint.load()
    steps_file = this.folder / PPO_STEPS
    known = [orjson.loads(line) for line in steps_file.read_bytes().splitlines()] if steps_file.exists() else []
    steps = [step for step in known if resume is not None and step["step"] <= resume.step]

    def on_step(done: PPOStep, state: Callable[[], TrainingState]) -> None:
        steps.append(orjson.loads(orjson.dumps(done)))
        steps_file.write_bytes(b"".join(orjson.dumps(step, option=orjson.OPT_APPEND_NEWLINE) for step in steps))
        this.progress.ppo_step(done)
        checkpoint.offer(state, last=done.step == done.steps)

    train_ppo(
        candidate,
        start.model,
        preference_model,
        prompts(dataset, "train"),
        this.learner.ppo.model_copy(update={"reward_weights": reward_weights(this, preference_model)}),
        seed=this.seed,
        on_step=on_step,
        resume=resume,
    )
    return steps


def judge(
    this: Run, dataset: Path, start: Policy, preference_model: PreferenceModel, candidate: Policy
) -> dict[str, Any]:
    """Evaluate the candidate on held-out prompts, against the starting policy and against what serves."""
    this.progress.enter("evaluate")
    evaluation = evaluate(
        candidate,
        start,
        preference_model,
        held_out_prompts(dataset),
        this.learner.evaluation,
        reward_weights=reward_weights(this, preference_model),
        max_prompt_tokens=this.learner.ppo.max_prompt_tokens,
        seed=this.seed,
        serving=_serving(this),
    )
    # What people wrote is kept in the record alone, where it can be erased; so a process that takes over measures anew.
    without_texts = {name: figure for name, figure in evaluation.items() if name != "samples"}
    _write_json(this.folder / EVALUATION, without_texts)
    this.progress.tell("evaluation", without_texts)
    return evaluation


def publish(this: Run, candidate: Policy, parent: int, dataset: Path, evidence: dict[str, Any]) -> int:
    """Write the candidate's folder and record it. Returns its version number."""
    this.progress.enter("publish")
    known = this.store.read(policies.of_iteration, this.iteration_id)
    if known is not None:
        return known.version
    version = this.store.read(policies.next_version)
    folder, digest = publish_folder(candidate, this.settings.policies_dir, version)
    this.store.write(
        policies.publish,
        version,
        folder.relative_to(this.settings.home).as_posix(),
        digest,
        policies.Provenance(
            parent=parent,
            iteration_id=this.iteration_id,
            dataset_digest=dataset.name,
            settings=this.learner.model_dump(mode="json"),
            seed=this.seed,
            evidence=evidence,
        ),
        epoch=this.epoch,
    )
    return version


def fit_to(learner: LearnerSettings, policy: Path) -> LearnerSettings:
    """The settings with lengths that the policy can take: a reply has at most half of its positions."""
    config = orjson.loads((policy / "config.json").read_bytes())
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if positions is None:
        return learner

    def fitted(section: Any, reply: str) -> Any:
        reply_tokens = min(getattr(section, reply), positions // 2)
        prompt_tokens = min(section.max_prompt_tokens, positions - reply_tokens)
        return section.model_copy(update={reply: reply_tokens, "max_prompt_tokens": prompt_tokens})

    return learner.model_copy(
        update={
            "preference": fitted(learner.preference, "max_reply_tokens"),
            "ppo": fitted(learner.ppo, "max_new_tokens"),
            "evaluation": learner.evaluation.model_copy(
                update={"max_new_tokens": min(learner.evaluation.max_new_tokens, positions // 2)}
            ),
        }
    )


def reward_weights(this: Run, preference_model: PreferenceModel) -> dict[str, float]:
    """The operator's weights of the scores that there are votes for."""
    weights = this.learner.ppo.reward_weights
    return {name: weights.get(name, 0.0) for name in preference_model.shape.columns}


def comparisons(dataset: Path, split: str) -> list[VotedComparison]:
    """The examples of a split as the preference model learns them."""
    return [
        VotedComparison(
            messages=example.messages,
            replies=example.replies,
            objective=example.objective,
            label=example.label,
            weight=example.weight,
            tranche=example.tranche,
        )
        for example in datasets.read(dataset, split)
        if all(reply.strip() for reply in example.replies)
    ]


def prompts(dataset: Path, split: str) -> list[TrainingPrompt]:
    """The distinct conversations of a split, each under the objective of its first vote."""
    distinct: dict[bytes, datasets.Example] = {}
    for example in datasets.read(dataset, split):
        distinct.setdefault(orjson.dumps(example.messages), example)
    return [TrainingPrompt(example.messages, example.objective) for example in distinct.values()]


def held_out_prompts(dataset: Path) -> list[HeldOutPrompt]:
    """The distinct held-out conversations; harmful are those with more votes under harmless than under helpful."""
    distinct: dict[bytes, list[datasets.Example]] = {}
    for example in datasets.read(dataset, "heldout"):
        distinct.setdefault(orjson.dumps(example.messages), []).append(example)
    return [
        HeldOutPrompt(
            same[0].messages, 2 * sum(one.objective == HARMLESS for one in same) > len(same), vote=same[0].vote
        )
        for same in distinct.values()
    ]


class Checkpoint:
    """A training state on disk, written at most every `interval_s` and at the end."""

    def __init__(self, path: Path, interval_s: float) -> None:
        self._path = path
        self._interval_s = interval_s
        self._written_at = time.monotonic()

    def offer(self, state: Callable[[], TrainingState], *, last: bool) -> None:
        if last or time.monotonic() - self._written_at >= self._interval_s:
            state().save(self._path)
            self._written_at = time.monotonic()

    def load(self) -> TrainingState | None:
        return TrainingState.load(self._path) if self._path.exists() else None


def _starting_point(this: Run) -> tuple[Policy, int]:
    """The policy that PPO begins from, to be trained, and its version."""
    serving = this.store.read(policies.serving)
    from_last = this.learner.start_from == "last" and serving is not None
    version = serving.version if from_last and serving is not None else 0
    return _load(this, version), version


def _serving(this: Run) -> Serving | None:
    """What serves, where that is not the starting policy."""
    serving = this.store.read(policies.serving)
    if serving is None or serving.parent is None:
        return None
    return Serving(version_name(serving.version), _load(this, serving.version))


def _load(this: Run, version: int) -> Policy:
    path = this.store.read(policies.get, version).path
    log.info("loading %s", version_name(version))
    return load_policy(this.settings.home / path, this.device)


def _write_json(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    partial.replace(path)


def _tidy(this: Run) -> None:
    """Remove training states, which are large, and keep the preference model and the reports, which are evidence."""
    for name in (PREFERENCE_STATE, PPO_STATE):
        (this.folder / name).unlink(missing_ok=True)
    for leftover in this.settings.policies_dir.glob(".*.unfinished"):
        shutil.rmtree(leftover, ignore_errors=True)


def main() -> int:
    die_with_parent()
    logs.configure()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings()
    try:
        run(Store(settings.record_url), settings, sys.argv[1])
    except TandemError as error:
        log.error("%s", error.message)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
