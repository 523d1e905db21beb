"""Evaluates a version that there is already once more: against what serves by now, under the evaluation's settings of
today, with the seed, the held-out prompts and the preference models of its own iteration.

So a second measurement differs from the first only by what has changed since. It reads a home and writes nothing, but
for the dataset where that was removed.
"""

from functools import partial
from typing import Any

import torch

from feedback import datasets, judges, manifest, policy_weights
from feedback.errors import Conflict, NotFound, PolicyInvalid
from feedback.judges import PREFERENCE, WATCH
from feedback.saved_settings import read_saved
from feedback.schema import version_name
from feedback.settings import Settings
from feedback.store import Store, policies, raters
from learner.evaluation import Serving, evaluate
from learner.iteration.examples import Votes
from learner.iteration.fitting import fit_to
from learner.iteration.harm import harmful_among_undecided
from learner.iteration.versions import load_version
from learner.number_format import forward_format, forward_passes
from learner.preference_model import load_preference_model


def measure_again(store: Store, settings: Settings, version: int) -> dict[str, Any]:
    """The evaluation as `learner.evaluation` documents it.

    Raises NotFound, Conflict where the home no longer holds what it was measured with, and PolicyInvalid for weights
    that are not what was published.
    """
    policy, start = store.read(policies.get, version), store.read(policies.get, 0)
    serving = store.read(policies.serving)
    if policy.iteration_id is None or policy.dataset_digest is None:
        raise Conflict(f"{version_name(version)} was made by no iteration: there is nothing to measure it with")
    try:
        preference = judges.folder_of(settings, policy) / PREFERENCE
        if not preference.exists():
            raise NotFound(f"this home has no {preference}")
        if digest := judges.digest_of(policy):
            manifest.verify_files(preference.parent, digest, judges.PARTS)
        dataset = datasets.find(store, settings.home, policy.dataset_digest)
    except (NotFound, PolicyInvalid) as error:
        raise Conflict(f"{version_name(version)} cannot be measured again: {error.message}") from error
    learner = fit_to(
        read_saved(policy.settings).model_copy(update={"evaluation": settings.learner.evaluation}),
        policy_weights.folder_of(store, settings, start.version),
    )
    torch.set_num_threads(learner.threads)
    load = partial(load_version, store, settings, learner)
    candidate, reference = load(policy.version), load(start.version)
    device = reference.model.device
    preference_model = load_preference_model(preference, reference.model, str(device))
    watch = preference.with_name(WATCH)
    against = None
    if serving is not None and serving.version not in (policy.version, start.version):
        against = Serving(version_name(serving.version), load(serving.version))
    with forward_passes(forward_format(learner.precision, device), device):
        return evaluate(
            candidate,
            reference,
            preference_model,
            Votes(dataset, harmful_among_undecided(preference.parent), store.read(raters.nobody)).held_out_prompts(),
            learner.evaluation,
            reward_weights=learner.ppo.reward_weights,
            max_prompt_tokens=learner.ppo.max_prompt_tokens,
            seed=policy.seed or 0,
            watch=load_preference_model(watch, reference.model, str(device)) if watch.exists() else None,
            anchored_to=policy.evidence.get("preference", {}).get("anchor"),
            serving=against,
        )
