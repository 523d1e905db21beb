"""The candidate: trained by PPO or DPO, evaluated against the starting policy, published as a policy version."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from feedback import policy_weights
from feedback.schema import version_name
from feedback.store import policies
from learner.dpo import DPOStep, train_dpo
from learner.evaluation import Serving, evaluate
from learner.iteration.examples import comparisons, held_out_prompts, prompts
from learner.iteration.run import Run, write_json
from learner.policy import Policy, load_policy
from learner.ppo import PPOStep, train_ppo
from learner.preference_model import PreferenceModel
from learner.publishing import publish_folder
from learner.training_state import TrainingState

log = logging.getLogger(__name__)

TRAINING_STATE = {"ppo": "ppo.state.safetensors", "dpo": "dpo.state.safetensors"}
EVALUATION = "evaluation.json"


def starting_point(this: Run) -> tuple[Policy, int]:
    """The policy that training begins from, to be trained, and its version."""
    serving = this.store.read(policies.serving)
    from_last = this.learner.start_from == "last" and serving is not None
    version = serving.version if from_last and serving is not None else 0
    return load(this, version), version


def _serving(this: Run) -> Serving | None:
    """What serves, where that is not the starting policy."""
    serving = this.store.read(policies.serving)
    if serving is None or serving.parent is None:
        return None
    return Serving(version_name(serving.version), load(this, serving.version))


def load(this: Run, version: int) -> Policy:
    """A policy version, on the learner's device."""
    log.info("loading %s", version_name(version))
    return load_policy(policy_weights.folder_of(this.store, this.settings, version), this.device)


@dataclass(frozen=True)
class Judges:
    """The preference model that PPO learns from, and the watch model, where there are votes for one."""

    preference_model: PreferenceModel
    watch: PreferenceModel | None


def improve(
    this: Run, dataset: Path, start: Policy, judges: Judges, candidate: Policy, parent: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train `candidate` in place by the trainer of the settings. Returns what each step did, and how it ended."""
    trainer = this.learner.trainer
    this.progress.enter(trainer)
    checkpoint = this.checkpoint(TRAINING_STATE[trainer])
    resume = checkpoint.load()
    steps_file = this.folder / f"{trainer}.jsonl"
    known = [orjson.loads(line) for line in steps_file.read_bytes().splitlines()] if steps_file.exists() else []
    steps = [step for step in known if resume is not None and step["step"] <= resume.step]

    def on_step(done: PPOStep | DPOStep, state: Callable[[], TrainingState]) -> None:
        steps.append(orjson.loads(orjson.dumps(done)))
        steps_file.write_bytes(b"".join(orjson.dumps(step, option=orjson.OPT_APPEND_NEWLINE) for step in steps))
        this.progress.training_step(trainer, done)
        checkpoint.offer(state, last=done.step == done.steps)

    if trainer == "dpo":
        objectives = judges.preference_model.shape.objectives
        train_dpo(
            candidate,
            (start if parent == 0 else load(this, parent)).model,
            [one for one in comparisons(dataset, "train") if one.objective in objectives],
            this.learner.dpo,
            seed=this.seed,
            objectives=objectives,
            on_step=on_step,
            resume=resume,
        )
        return steps, {}
    end = train_ppo(
        candidate,
        start.model,
        judges.preference_model,
        prompts(dataset, "train"),
        this.learner.ppo.model_copy(update={"reward_weights": reward_weights(this, judges.preference_model)}),
        seed=this.seed,
        watch=judges.watch,
        on_step=on_step,
        resume=resume,
    )
    this.progress.tell("guard", asdict(end))
    return steps, asdict(end)


def judge(
    this: Run, dataset: Path, start: Policy, judges: Judges, candidate: Policy, anchored_to: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate the candidate on held-out prompts, against the starting policy and against what serves."""
    this.progress.enter("evaluate")
    evaluation = evaluate(
        candidate,
        start,
        judges.preference_model,
        held_out_prompts(dataset),
        this.learner.evaluation,
        reward_weights=reward_weights(this, judges.preference_model),
        max_prompt_tokens=this.learner.ppo.max_prompt_tokens,
        seed=this.seed,
        watch=judges.watch,
        anchored_to=anchored_to,
        serving=_serving(this),
    )
    # What people wrote is kept in the record alone, where it can be erased; so a process that takes over measures anew.
    without_texts = {name: figure for name, figure in evaluation.items() if name != "samples"}
    write_json(this.folder / EVALUATION, without_texts)
    this.progress.report("evaluation", without_texts)
    return evaluation


def publish(this: Run, candidate: Policy, parent: int, dataset: Path, evidence: dict[str, Any]) -> int:
    """Write the candidate's folder and record it. Returns its version number."""
    this.progress.enter("publish")
    known = this.store.read(policies.of_iteration, this.iteration_id)
    if known is not None:
        return known.version
    version = this.store.read(policies.next_version)
    folder, digest = publish_folder(candidate, this.settings.policies_dir, version)
    policy_weights.publish(this.settings, folder, digest)
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


def reward_weights(this: Run, preference_model: PreferenceModel) -> dict[str, float]:
    """The operator's weights of the scores that there are votes for."""
    weights = this.learner.ppo.reward_weights
    return {name: weights.get(name, 0.0) for name in preference_model.shape.columns}
