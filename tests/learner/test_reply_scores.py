"""A version's preference model is found through the record, verified, and scores as it does in training."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.schema import Policy as PolicyRow
from feedback.settings import load_settings
from feedback.store import Store, leases, policies
from learner.policy import Policy, save_policy
from learner.preference_model import PreferenceModel, PreferenceShape, new_preference_model, save_preference_model
from learner.reply_scores import Judges
from learner.sequences import Episodes

MESSAGES = [{"role": "user", "content": "w1 w2"}]
WEIGHTS = {"helpful": 0.75, "harmless": 0.25}


@pytest.fixture
def model(policy: Policy) -> PreferenceModel:
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless")), 1)
    model.scale_O.copy_(torch.tensor([2.0, 0.5, 1.0]))
    return model


@pytest.fixture
def judges(tmp_path: Path, policy: Policy, model: PreferenceModel) -> Judges:
    """Of a home in which v1 was made by an iteration."""
    settings = load_settings(home=tmp_path)
    save_policy(policy, tmp_path / "policies" / "v0")
    folder = tmp_path / "iterations" / "itr_1" / "preference"
    save_preference_model(model, folder)
    digest = hashlib.sha256((folder / "preference.safetensors").read_bytes()).hexdigest()
    store = Store(settings.record_url)
    store.migrate()
    store.write(policies.register_start, "policies/v0", "digest", {})
    learner = settings.learner.model_dump(mode="json")
    learner["ppo"]["reward_weights"] = WEIGHTS
    made = policies.Provenance(0, "itr_1", "dataset", learner, 1, {"preference": {"sha256": digest}})
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 60.0)
    assert epoch is not None
    store.write(policies.publish, 1, "policies/v1", "digest", made, epoch=epoch)
    return Judges(store, settings)


def test_scores_are_weighted_over_their_deviations(judges: Judges, policy: Policy, model: PreferenceModel) -> None:
    replies, ended = ["w3 w4 w5", "w6", "w6", ""], [True, True, False, False]
    encoded = [policy.encode_reply("w3 w4 w5"), policy.encode_reply("w6"), policy.encode_reply("w6")[:-1]]
    expected = []
    for tokens in [*encoded, policy.encode_reply("")]:
        episode = Episodes.pad([policy.encode_chat(MESSAGES)], [tokens])
        helpful, harmless, _ = model.score(episode)[0].tolist()
        expected.append(0.75 * helpful / 2 + 0.25 * harmless / 0.5)
    assert judges.of(1).scores(MESSAGES, replies, ended) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in expected}) == 4
    parts: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "w1 w2"}]}]
    assert judges.of(1).scores(parts, replies, ended) == pytest.approx(expected, abs=1e-5)


def test_a_version_of_no_iteration_has_no_judge(judges: Judges) -> None:
    with pytest.raises(InvalidRequest, match="no iteration"):
        judges.of(0)


def test_only_the_model_of_the_evidence_is_used(judges: Judges, tmp_path: Path) -> None:
    weights = tmp_path / "iterations" / "itr_1" / "preference" / "preference.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PolicyInvalid, match="evidence"):
        judges.of(1)
    weights.unlink()
    with pytest.raises(PolicyInvalid, match="not in this home"):
        judges.of(1)


def test_another_version_is_judged_by_its_own(judges: Judges) -> None:
    def publish_another(session: Any) -> None:
        session.get(PolicyRow, 1).iteration_id = "itr_2"

    first = judges.of(1)
    assert judges.of(1) is first
    judges._store.write(publish_another)
    with pytest.raises(PolicyInvalid, match="not in this home"):
        judges.of(1)
