"""What the preference model of a policy version makes of replies, and its gate of prompts: found through the record,
verified, kept."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from feedback import judges, policy_weights
from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.judges import PREFERENCE, STRANGE_PROMPTS
from feedback.saved_settings import read_saved
from feedback.schema import Policy as PolicyRow
from feedback.schema import version_name
from feedback.settings import LearnerSettings, Settings
from feedback.store import Store, policies
from learner.anchor import anchored
from learner.iteration.fitting import fit_to
from learner.policy import Policy, load_policy
from learner.preference_model import PreferenceModel, load_preference_model
from learner.sequences import Episodes
from learner.strange_prompts import StrangePrompts, digest, load_strange_prompts, said_last

ROWS_PER_FORWARD = 32


@dataclass(frozen=True)
class Judge:
    """A preference model with what it was trained with. `anchor` is what `learner.anchor.set_anchor` found; None for a
    model of a release that knew none."""

    start: Policy
    model: PreferenceModel
    learner: LearnerSettings
    anchor: Mapping[str, Any] | None = None

    @torch.no_grad()
    def scores(
        self, messages: Sequence[Mapping[str, Any]], replies: Sequence[str], ended: Sequence[bool]
    ) -> list[float]:
        """One number a reply, the reward that PPO raises: higher is better. A reply that has not `ended` is seen
        without an end, as in training; one cut off before its first word has nothing else to be scored at."""
        prompt, encoded = self.start.encode_chat(messages), self._encode(replies, ended)
        scores_B_O = torch.cat([self.model.score(episodes) for episodes in self._episodes(prompt, encoded)])
        return self._rewards(scores_B_O, ended)

    @torch.no_grad()
    def opinion(
        self, messages: Sequence[Mapping[str, Any]], replies: Sequence[str], ended: Sequence[bool]
    ) -> dict[str, Any]:
        """All that the model says of replies; `feedback.scoring` tells what. Raises InvalidRequest for messages that
        the chat template does not take."""
        try:
            prompt = self.start.encode_chat(messages)
        except PolicyInvalid as error:
            raise InvalidRequest(error.message, param="messages") from error
        encoded, model, limits = self._encode(replies, ended), self.model, self.learner.preference
        raw_B_E_O = torch.cat([model.score_by_member(episodes) for episodes in self._episodes(prompt, encoded)])
        scores_B_O = model.aggregate(raw_B_E_O)
        # Each member counts from where it likes: only differences of its scores can be held against the others'.
        margins_B_E_O = (raw_B_E_O - raw_B_E_O[0]) / model.temperature_O
        tables = {
            "scores": scores_B_O,
            "anchored": None if self.anchor is None else anchored(scores_B_O, model.shape.columns, self.anchor),
            "preferred_to_first": torch.sigmoid(scores_B_O - scores_B_O[0]),
            "spread": margins_B_E_O.std(dim=1, unbiased=False) if model.shape.ensemble_size > 1 else None,
        }
        rewards = self._rewards(scores_B_O, ended)
        return {
            "prompt_cut": len(prompt) > limits.max_prompt_tokens,
            "replies": [
                {
                    "reward": reward,
                    **{name: None if table is None else self._named(table[row]) for name, table in tables.items()},
                    "tokens": min(len(tokens), limits.max_reply_tokens),
                    "cut": len(tokens) > limits.max_reply_tokens,
                }
                for row, (reward, tokens) in enumerate(zip(rewards, encoded, strict=True))
            ],
        }

    def _encode(self, replies: Sequence[str], ended: Sequence[bool]) -> list[list[int]]:
        return [self.start.encode_reply(reply, whole) for reply, whole in zip(replies, ended, strict=True)]

    def _episodes(self, prompt: list[int], replies: list[list[int]]) -> Iterator[Episodes]:
        """As many as go through one pass, each cut to what the model reads."""
        limits = self.learner.preference
        for first in range(0, len(replies), ROWS_PER_FORWARD):
            rows = [reply[: limits.max_reply_tokens] for reply in replies[first : first + ROWS_PER_FORWARD]]
            yield Episodes.pad([prompt[-limits.max_prompt_tokens :]] * len(rows), rows, self.model.device)

    def _rewards(self, scores_B_O: Tensor, ended: Sequence[bool]) -> list[float]:
        ppo = self.learner.ppo
        weighed: list[float] = self.model.combine(scores_B_O, ppo.reward_weights).tolist()
        return [one - ppo.missing_end_penalty * (not whole) for one, whole in zip(weighed, ended, strict=True)]

    def _named(self, row_O: Tensor) -> dict[str, float]:
        return dict(zip(self.model.shape.columns, row_O.tolist(), strict=True))


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
        self._kept: dict[bool, tuple[str, Judge]] = {}
        self._kept_gate: tuple[str | None, Gate] | None = None

    def of(self, version: int, *, in_passing: bool = False) -> Judge:
        """One that is asked for `in_passing` is kept beside the other, which chats wait for.

        Raises NotFound, InvalidRequest for a version that no iteration made, PolicyInvalid for a preference model that
        is not the one in the version's evidence, CheckpointInvalid for one that cannot be read.
        """
        policy = self._store.read(policies.get, version)
        if policy.iteration_id is None:
            raise InvalidRequest(f"{version_name(version)} was made by no iteration: there is no preference model")
        kept = next((kept for kept in self._kept.values() if kept[0] == policy.iteration_id), None)
        if kept is None:
            self._kept.pop(in_passing, None)
            kept = self._kept[in_passing] = policy.iteration_id, self._load(policy)
        elif not in_passing:
            self._kept[in_passing] = kept
        return kept[1]

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
        anchor = policy.evidence["preference"].get("anchor")
        return Judge(start, load_preference_model(folder, start.model), learner, anchor)


def _check_digest(folder: Path, policy: PolicyRow) -> None:
    name = version_name(policy.version)
    try:
        with (folder / "preference.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise PolicyInvalid(f"the preference model that {name} was trained with is not in this home") from None
    if digest != policy.evidence.get("preference", {}).get("sha256"):
        raise PolicyInvalid(f"the preference model of {policy.iteration_id} is not the one in the evidence of {name}")
