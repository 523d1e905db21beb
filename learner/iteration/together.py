"""Training in as many processes as there are: the first one says what is to be trained, and the others join in.

Only the first runs the iteration: it holds the lease, writes record, checkpoints and policies, and evaluates. The
others read: the votes and the checkpoints in the home, which they must share, and the record.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from feedback.settings import Settings
from feedback.store import Store
from learner.comparisons import VotedComparison
from learner.gradient_checkpointing import checkpoint_layers
from learner.iteration.examples import Votes
from learner.iteration.rollouts import sampler_for
from learner.iteration.run import Run
from learner.iteration.versions import Candidate, begun_from, load
from learner.lease import Watch
from learner.number_format import forward_format, forward_passes
from learner.policy import Policy
from learner.ppo import PPOEnd, PPOStep, train_ppo
from learner.preference_model import PreferenceModel, load_preference_model
from learner.preference_training import PreferenceStep, train_preference_model
from learner.processes import Processes

Task = dict[str, Any]


def train_preference_model_together(
    this: Run,
    start: Policy,
    voted: list[VotedComparison],
    before: PreferenceModel | None,
    task: Task,
    on_step: Callable[[PreferenceStep], None],
) -> PreferenceModel:
    """Train on `voted`, a split of a dataset, from a model that was trained `before` if any, or go on from the
    checkpoint.

    `task`: `dataset` (folder), `split`, `objectives`, `before` (that model's folder), `state` (name of the checkpoint
    file).
    """
    this.processes.tell({"what": "preference", **task})
    return _preference(this, start, voted, before, task, on_step)


def train_ppo_together(
    this: Run,
    start: Policy,
    preference_model: PreferenceModel,
    watch: PreferenceModel | None,
    candidate: Candidate,
    task: Task,
    on_step: Callable[[PPOStep], None],
) -> PPOEnd:
    """Train the candidate in place, or go on from the checkpoint.

    `task`: `parent` (the version that the candidate starts as), `dataset` (folder), `harmful` and `nobody` (see
    `Votes`), `preference` and `watch` (folders of these models, None for no watch), `reward_weights`, `rehearse_on`
    (prompts as token ids), `state` (name of the checkpoint file).
    """
    this.processes.tell({"what": "ppo", **task})
    return _ppo(this, start, preference_model, watch, candidate, task, on_step)


def follow(store: Store, settings: Settings, processes: Processes, open_run: Callable[..., Run]) -> None:
    """Join in whatever the first process trains, until it says that there is no more."""
    begun = processes.tell()
    if begun is None:
        return
    with Watch(store, begun["epoch"], settings.loop.lease_ttl_s):
        _join_in(open_run(store, settings, begun["iteration"], 0, processes))


def _join_in(this: Run) -> None:
    processes = this.processes
    start = load(this, 0)
    with forward_passes(forward_format(this.learner.precision, start.model.device), start.model.device):
        while (task := processes.tell()) is not None:
            if task["what"] == "preference":
                voted = Votes(Path(task["dataset"])).comparisons(task["split"])
                _preference(this, start, voted, _model(start, task["before"]), task, lambda _: None)
            else:
                judge, watch = (_model(start, task[name]) for name in ("preference", "watch"))
                assert judge is not None
                _ppo(this, start, judge, watch, begun_from(this, start, task["parent"]), task, lambda _: None)


def _model(start: Policy, folder: str | None) -> PreferenceModel | None:
    return None if folder is None else load_preference_model(folder, start.model, str(start.model.device))


def _preference(
    this: Run,
    start: Policy,
    voted: list[VotedComparison],
    before: PreferenceModel | None,
    task: Task,
    on_step: Callable[[PreferenceStep], None],
) -> PreferenceModel:
    checkpoint = this.checkpoint(task["state"])
    return checkpoint.resume(
        lambda state: train_preference_model(
            start,
            [one for one in voted if one.objective in task["objectives"]],
            this.learner.preference,
            seed=this.seed,
            objectives=task["objectives"],
            before=before,
            processes=this.processes,
            checkpoint_gradients=this.learner.gradient_checkpointing,
            on_step=checkpoint.after(on_step),
            resume=state,
        )
    )


def _ppo(
    this: Run,
    start: Policy,
    preference_model: PreferenceModel,
    watch: PreferenceModel | None,
    candidate: Candidate,
    task: Task,
    on_step: Callable[[PPOStep], None],
) -> PPOEnd:
    checkpoint = this.checkpoint(task["state"])
    if this.learner.gradient_checkpointing and this.learner.ppo.critic == "preference_model":
        # The critic begins as a copy of it.
        checkpoint_layers(preference_model.trunk)
    prompts = Votes(Path(task["dataset"]), frozenset(task["harmful"]), task["nobody"]).prompts("train")
    # One engine, also where the stage is begun anew.
    sampler = sampler_for(this, candidate)
    return checkpoint.resume(
        lambda state: train_ppo(
            candidate.policy,
            start.model,
            preference_model,
            prompts,
            this.learner.ppo.model_copy(update={"reward_weights": task["reward_weights"]}),
            seed=this.seed,
            watch=watch,
            sampler=sampler,
            rehearse_on=task["rehearse_on"],
            processes=this.processes,
            on_step=checkpoint.after(on_step),
            resume=state,
        )
    )
