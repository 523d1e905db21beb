"""The candidate: trained by PPO or DPO, evaluated against the starting policy, published as a policy version."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from feedback import judges as judging
from feedback import object_storage
from feedback.judges import PREFERENCE, WATCH
from feedback.schema import version_name
from feedback.settings import LearnerSettings
from feedback.store import leases, policies
from learner.dpo import DPOStep, train_dpo
from learner.errors import TrainingDataInvalid
from learner.evaluation import Serving, evaluate
from learner.iteration.examples import Votes
from learner.iteration.rehearsing import TokenIds
from learner.iteration.run import Run, write_json
from learner.iteration.steps import Steps
from learner.iteration.together import train_ppo_together
from learner.iteration.versions import Candidate, finish, load, published_base
from learner.policy import Policy
from learner.ppo import PPOStep
from learner.preference_model import PreferenceModel
from learner.processes import ALONE
from learner.publishing import put_in_place, write_aside

TRAINING_STATE = {"ppo": "ppo.state.safetensors", "dpo": "dpo.state.safetensors"}
EVALUATION = "evaluation.json"
# Of DPO, in the evidence: 100,000 votes make 12,500, some megabytes, which everybody would get who looks at a version.
MOST_STEPS = 500


def _serving(this: Run) -> Serving | None:
    """What serves, where that is not the starting policy."""
    serving = this.store.read(policies.serving)
    if serving is None or serving.parent is None:
        return None
    return Serving(version_name(serving.version), load(this, serving.version))


@dataclass(frozen=True)
class Judges:
    """The preference model that PPO learns from, and the watch model, where there are votes for one."""

    preference_model: PreferenceModel
    watch: PreferenceModel | None


def improve(
    this: Run, votes: Votes, start: Policy, judges: Judges, candidate: Candidate, rehearse_on: TokenIds
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train `candidate` in place by the trainer of the settings, and bring it into the form that is published. Returns
    what each step did, and how it ended."""
    trainer = this.learner.trainer
    steps = Steps(this.folder / f"{trainer}.jsonl")

    def on_step(done: PPOStep | DPOStep) -> None:
        steps.add(done)
        this.progress.training_step(trainer, done)

    if trainer == "dpo":
        _train_dpo(this, votes, start, judges, candidate, rehearse_on, on_step)
        finish(this, candidate.policy)
        return steps.some(MOST_STEPS), {}
    task = {
        "parent": candidate.parent,
        "dataset": str(votes.dataset),
        "harmful": sorted(votes.harmful),
        "nobody": votes.nobody,
        "preference": str(this.folder / PREFERENCE),
        "watch": None if judges.watch is None else str(this.folder / WATCH),
        "reward_weights": reward_weights(this.learner, judges.preference_model.shape.columns),
        "rehearse_on": rehearse_on,
        "state": TRAINING_STATE["ppo"],
    }
    end = train_ppo_together(this, start, judges.preference_model, judges.watch, candidate, task, on_step)
    finish(this, candidate.policy)
    this.progress.tell("guard", asdict(end))
    return steps.so_far, asdict(end)


def _train_dpo(
    this: Run,
    votes: Votes,
    start: Policy,
    judges: Judges,
    candidate: Candidate,
    rehearse_on: TokenIds,
    on_step: Callable[[DPOStep], None],
) -> None:
    """By this process alone."""
    checkpoint = this.checkpoint(TRAINING_STATE["dpo"], ALONE)
    objectives = judges.preference_model.shape.objectives
    reference = start if candidate.parent == 0 else load(this, candidate.parent)
    checkpoint.resume(
        lambda state: train_dpo(
            candidate.policy,
            reference.model,
            [one for one in votes.comparisons("train") if one.objective in objectives],
            this.learner.dpo,
            seed=this.seed,
            objectives=objectives,
            rehearse_on=rehearse_on,
            on_reference=this.progress.reference_step,
            on_step=checkpoint.after(on_step),
            resume=state,
        )
    )


def judge(
    this: Run, votes: Votes, start: Policy, judges: Judges, candidate: Policy, anchored_to: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate the candidate on held-out prompts, against the starting policy and against what serves."""
    this.progress.enter("evaluate")
    evaluation = evaluate(
        candidate,
        start,
        judges.preference_model,
        votes.held_out_prompts(),
        this.learner.evaluation,
        reward_weights=reward_weights(this.learner, judges.preference_model.shape.columns),
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


def publish(this: Run, candidate: Candidate, dataset_digest: str, evidence: dict[str, Any]) -> int:
    """Write the candidate's folder and record it. Returns its version number."""
    this.progress.enter("publish")
    known = this.store.read(policies.of_iteration, this.iteration_id)
    if known is not None:
        return known.version
    version = this.store.read(policies.next_version)
    folder = this.settings.policies_dir / version_name(version)
    aside, digest = write_aside(candidate.policy, folder, str(this.epoch), base=published_base(this, candidate))
    # While nobody can take the lease: whoever was overtaken would put it in the place of what the next one published.
    this.store.write(leases.during, leases.LEARNER, this.epoch, partial(put_in_place, aside, folder))
    judges_digest = judging.write_manifest(this.folder)
    for published, of in ((folder, digest), (this.folder, judges_digest)):
        object_storage.publish(this.settings, published, of)
    this.store.write(
        policies.publish,
        version,
        folder.relative_to(this.settings.home).as_posix(),
        digest,
        policies.Provenance(
            parent=candidate.parent,
            iteration_id=this.iteration_id,
            dataset_digest=dataset_digest,
            settings=this.learner.model_dump(mode="json"),
            seed=this.seed,
            evidence=evidence | {"judges": {"sha256": judges_digest}},
        ),
        epoch=this.epoch,
    )
    return version


def reward_weights(learner: LearnerSettings, columns: Sequence[str]) -> dict[str, float]:
    """The operator's weights of the scores that there are votes for. Raises TrainingDataInvalid where all are zero."""
    wanted = learner.ppo.reward_weights
    weights = {name: wanted.get(name, 0.0) for name in columns}
    if not any(weights.values()):
        raise TrainingDataInvalid(
            f"learner.ppo.reward_weights weighs {', '.join(sorted(wanted))}, "
            f"and the votes gave scores for {', '.join(columns)}"
        )
    return weights
