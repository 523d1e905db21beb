"""What the preference model of a policy version makes of replies, and its gate of prompts: found through the record,
verified, kept."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from feedback import judges, policy_weights
from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.judges import PREFERENCE, STRANGE_PROMPTS
from feedback.saved_settings import read_saved
from feedback.schema import Policy as PolicyRow
from feedback.schema import version_name
from feedback.settings import LearnerSettings, Settings
from feedback.store import Store, policies
from learner.iteration.fitting import fit_to
from learner.policy import Policy, load_policy
from learner.preference_model import PreferenceModel, load_preference_model
from learner.sequences import Episodes
from learner.strange_prompts import StrangePrompts, digest, load_strange_prompts, said_last

ROWS_PER_FORWARD = 32


@dataclass(frozen=True)
class Judge:
    """A preference model with what it was trained with."""

    start: Policy
    model: PreferenceModel
    learner: LearnerSettings

    @torch.no_grad()
    def scores(
        self, messages: Sequence[Mapping[str, Any]], replies: Sequence[str], ended: Sequence[bool]
    ) -> list[float]:
        """One number a reply, as PPO's reward weighs the scores: higher is better. A reply that has not `ended` is seen
        without an end, as in training; one cut off before its first word has nothing else to be scored at."""
        limits = self.learner.preference
        prompt = self.start.encode_chat(messages)[-limits.max_prompt_tokens :]
        encoded = [
            self.start.encode_reply(reply, whole or not reply)[: limits.max_reply_tokens]
            for reply, whole in zip(replies, ended, strict=True)
        ]
        scores: list[float] = []
        for first in range(0, len(encoded), ROWS_PER_FORWARD):
            rows = encoded[first : first + ROWS_PER_FORWARD]
            episodes = Episodes.pad([prompt] * len(rows), rows, self.model.device)
            combined_B = self.model.combine(self.model.score(episodes), self.learner.ppo.reward_weights)
            scores += combined_B.tolist()
        return scores


@dataclass(frozen=True)
class Gate:
    """The gate for strange prompts of one iteration, or None where it left none, with the policy that it sees by."""

    start: Policy
    gate: StrangePrompts | None

    def look(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How strange the prompt is and whether that is too strange; nothing without a gate or a prompt."""
        text = said_last(messages)
        if self.gate is None or not text:
            return {}
        strangeness = float(self.gate.score(self.start, [text]))
        return {"strangeness": strangeness, "strange": strangeness > self.gate.bounds.threshold}


class Judges:
    """Judge and gate of each version, those asked for last kept in memory."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._kept: tuple[str, Judge] | None = None
        self._kept_gate: tuple[str | None, Gate] | None = None

    def of(self, version: int) -> Judge:
        """Raises NotFound, InvalidRequest for a version that no iteration made, PolicyInvalid for a preference model
        that is not the one in the version's evidence, CheckpointInvalid for one that cannot be read.
        """
        policy = self._store.read(policies.get, version)
        if policy.iteration_id is None:
            raise InvalidRequest(f"{version_name(version)} was made by no iteration: there is no preference model")
        if self._kept is None or self._kept[0] != policy.iteration_id:
            self._kept = policy.iteration_id, self._load(policy)
        return self._kept[1]

    def gate_of(self, version: int) -> Gate:
        """Raises NotFound, PolicyInvalid for a gate that is not the one in the version's evidence, CheckpointInvalid
        for one that cannot be read."""
        policy = self._store.read(policies.get, version)
        if self._kept_gate is None or self._kept_gate[0] != policy.iteration_id:
            start = load_policy(policy_weights.folder_of(self._store, self._settings, 0), "cpu")
            self._kept_gate = policy.iteration_id, Gate(start, self._load_gate(policy))
        return self._kept_gate[1]

    def _load_gate(self, policy: PolicyRow) -> StrangePrompts | None:
        expected = policy.evidence.get(STRANGE_PROMPTS, {}).get("sha256")
        if expected is None:
            return None
        folder = judges.folder_of(self._settings, policy) / STRANGE_PROMPTS
        if not folder.is_dir() or digest(folder) != expected:
            name = version_name(policy.version)
            raise PolicyInvalid(f"the gate in the evidence of {name} is not in this home, or another one is")
        return load_strange_prompts(folder)

    def _load(self, policy: PolicyRow) -> Judge:
        folder = judges.folder_of(self._settings, policy) / PREFERENCE
        _check_digest(folder, policy)
        start_folder = policy_weights.folder_of(self._store, self._settings, 0)
        start = load_policy(start_folder, "cpu")
        learner = fit_to(read_saved(policy.settings), start_folder)
        return Judge(start, load_preference_model(folder, start.model), learner)


def _check_digest(folder: Path, policy: PolicyRow) -> None:
    name = version_name(policy.version)
    try:
        with (folder / "preference.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise PolicyInvalid(f"the preference model that {name} was trained with is not in this home") from None
    if digest != policy.evidence.get("preference", {}).get("sha256"):
        raise PolicyInvalid(f"the preference model of {policy.iteration_id} is not the one in the evidence of {name}")
