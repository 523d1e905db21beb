"""Policy versions in the memory of an iteration: held frozen, or to be trained; adapters with what they stand on."""

import logging
from dataclasses import dataclass
from pathlib import Path

import orjson
import torch
from transformers import AutoConfig

from feedback import adapters, policy_weights
from feedback.errors import InvalidRequest
from feedback.schema import version_name
from feedback.settings import LearnerSettings, Settings
from feedback.store import Store, policies
from learner.gradient_checkpointing import checkpoint_layers
from learner.iteration.run import Run, device_of, write_json
from learner.lora import copy_sharing_frozen, has_adapter, load_adapter, merge, with_adapter
from learner.number_format import forward_format
from learner.policy import Policy, load_policy

STARTING_POINT = "starting_point.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """The policy in training, the version that it started as, and the version whose weights its engine would load."""

    policy: Policy
    parent: int
    ground: int


def load(this: Run, version: int) -> Policy:
    """A policy version on the learner's device, frozen."""
    return load_version(this.store, this.settings, this.learner, version)


def load_version(store: Store, settings: Settings, learner: LearnerSettings, version: int) -> Policy:
    """A policy version of a home, frozen, as these settings hold it; an adapter around the weights of its base."""
    folder = policy_weights.folder_of(store, settings, version)
    base = adapters.base_of(folder)
    if base is None:
        return _frozen(load_policy(folder, device_of(learner), _held_in(learner)))
    ground = load_version(store, settings, learner, base.version)
    return _frozen(Policy(load_adapter(ground.model, folder), ground.tokenizer, ground.end_ids))


def starting_point(this: Run, start: Policy) -> Candidate:
    """The policy that training begins from, to be trained; `start` is v0."""
    return begun_from(this, start, _starting_version(this))


def begun_from(this: Run, start: Policy, version: int) -> Candidate:
    """A candidate that starts as this version; `start` is v0."""
    base = adapters.base_of(_folder(this, version))
    return Candidate(trainable(this, start, version), version, version if base is None else base.version)


def _starting_version(this: Run) -> int:
    """With `start_from = "last"` what served when this was first asked: a checkpoint goes on from there, whatever was
    promoted since."""
    if this.learner.start_from == "start":
        return 0
    file = this.folder / STARTING_POINT
    if not file.exists():
        serving = this.store.read(policies.serving)
        write_json(file, {"version": 0 if serving is None else serving.version})
    version: int = orjson.loads(file.read_bytes())["version"]
    return version


def trainable(this: Run, start: Policy, version: int) -> Policy:
    """A policy version to be trained; `start` is v0.

    With `ppo.lora` it is an adapter around frozen weights, those of `start` themselves where it stands on them; a
    version that is an adapter already goes on with its own rank. Without, all weights are trained, in fp32.
    """
    folder = _folder(this, version)
    base = adapters.base_of(folder)
    lora = this.learner.ppo.lora
    log.info("loading %s, to be trained", version_name(version))
    if lora.rank:
        ground = version if base is None else base.version
        policy = start if ground == 0 else load(this, ground)
        model = copy_sharing_frozen(policy.model)
        model = with_adapter(model, lora, this.seed) if base is None else load_adapter(model, folder)
    elif base is None:
        policy = load_policy(folder, device_of(this.learner), torch.float32)
        model = policy.model.requires_grad_(True)
    else:
        policy = load(this, version)
        merge(policy.model)
        model = policy.model.float()
    if this.learner.gradient_checkpointing:
        checkpoint_layers(model)
    return Policy(model, policy.tokenizer, policy.end_ids)


def finish(this: Run, policy: Policy) -> None:
    """Bring what was trained into the form that is measured and published, in place: an adapter, or weights in the
    number format of v0."""
    if has_adapter(policy.model):
        if this.learner.ppo.lora.publish == "adapter":
            return
        merge(policy.model)
    config = AutoConfig.from_pretrained(_folder(this, 0), local_files_only=True, trust_remote_code=False)
    policy.model.to(config.dtype or torch.float32)


def published_base(this: Run, candidate: Candidate) -> tuple[str, str] | None:
    """Name and digest of the version that a candidate is published on top of, if it is an adapter."""
    if not has_adapter(candidate.policy.model):
        return None
    return version_name(candidate.ground), this.store.read(policies.get, candidate.ground).digest


def ground_folder(this: Run, candidate: Candidate) -> Path:
    """The published folder whose weights have the names and shapes of the candidate's."""
    return _folder(this, candidate.ground)


def _folder(this: Run, version: int) -> Path:
    return policy_weights.folder_of(this.store, this.settings, version)


def _held_in(learner: LearnerSettings) -> torch.dtype | None:
    """Frozen models are held as they were published, unless everything is to be computed in fp32."""
    device = torch.device(device_of(learner) or ("cuda" if torch.cuda.is_available() else "cpu"))
    return torch.float32 if forward_format(learner.precision, device) == "fp32" else None


def _frozen(policy: Policy) -> Policy:
    policy.model.requires_grad_(False)
    return policy


def require_servable(this: Run) -> None:
    """Raises InvalidRequest where an adapter is to be published that engines would not take."""
    lora, engine = this.learner.ppo.lora, this.settings.engine
    if lora.rank and lora.publish == "adapter":
        if not engine.adapters:
            raise InvalidRequest("learner.ppo.lora.publish is adapter, and engines take none: set engine.adapters")
        if lora.rank > engine.max_adapter_rank:
            raise InvalidRequest(
                f"learner.ppo.lora.rank is more than engine.max_adapter_rank, {engine.max_adapter_rank}"
            )
