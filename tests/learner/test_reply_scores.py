"""A version's preference model is found through the record, verified, and scores as it does in training."""

import hashlib
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from feedback.errors import InvalidRequest, PolicyInvalid
from feedback.schema import Policy as PolicyRow
from feedback.settings import LearnerSettings, load_settings
from feedback.store import leases, policies
from learner.policy import Policy
from learner.preference_model import PreferenceModel, PreferenceShape, new_preference_model, save_preference_model
from learner.publishing import publish_folder
from learner.reply_scores import Judge, Judges
from learner.sequences import Episodes
from tests.records import empty_record_of

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
    _, start_digest = publish_folder(policy, settings.policies_dir, 0)
    folder = tmp_path / "iterations" / "itr_1" / "preference"
    save_preference_model(model, folder)
    digest = hashlib.sha256((folder / "preference.safetensors").read_bytes()).hexdigest()
    store = empty_record_of(settings)
    store.write(policies.register_start, "policies/v0", start_digest, {})
    learner = settings.learner.model_dump(mode="json")
    learner["ppo"]["reward_weights"] = WEIGHTS
    made = policies.Provenance(0, "itr_1", "dataset", learner, 1, {"preference": {"sha256": digest}})
    epoch = store.write(leases.acquire, leases.LEARNER, "test", 60.0)
    assert epoch is not None
    store.write(policies.publish, 1, "policies/v1", "digest", made, epoch=epoch)
    return Judges(store, settings)


def test_scores_are_weighted_over_their_deviations_and_an_end_that_is_missing_costs_1(
    judges: Judges, policy: Policy, model: PreferenceModel
) -> None:
    replies, ended = ["w3 w4 w5", "w6", "w6", ""], [True, True, False, False]
    encoded = [policy.encode_reply("w3 w4 w5"), policy.encode_reply("w6"), policy.encode_reply("w6")[:-1]]
    expected = []
    for tokens, whole in zip([*encoded, policy.encode_reply("")], ended, strict=True):
        episode = Episodes.pad([policy.encode_chat(MESSAGES)], [tokens])
        helpful, harmless, _ = model.score(episode)[0].tolist()
        expected.append(0.75 * helpful / 2 + 0.25 * harmless / 0.5 - (not whole))
    assert judges.of(1).scores(MESSAGES, replies, ended) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in expected}) == 4
    parts: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "w1 w2"}]}]
    assert judges.of(1).scores(parts, replies, ended) == pytest.approx(expected, abs=1e-5)


def test_an_opinion_says_what_the_reward_is_made_of(judges: Judges, policy: Policy, model: PreferenceModel) -> None:
    replies, ended = ["w3 w4 w5", "w6", "w6"], [True, True, False]
    found = judges.of(1).opinion(MESSAGES, replies, ended)
    assert not found["prompt_cut"]
    first = found["replies"][0]
    for said, reply, whole in zip(found["replies"], replies, ended, strict=True):
        tokens = policy.encode_reply(reply, whole)
        episode = Episodes.pad([policy.encode_chat(MESSAGES)], [tokens])
        expected = dict(zip(("helpful", "harmless", "overall"), model.score(episode)[0].tolist(), strict=True))
        assert said["scores"] == pytest.approx(expected, abs=1e-5)
        weighed = 0.75 * expected["helpful"] / 2 + 0.25 * expected["harmless"] / 0.5
        assert said["reward"] == pytest.approx(weighed - (not whole), abs=1e-5), "an end that is missing costs 1"
        for name, chance in said["preferred_to_first"].items():
            margin = said["scores"][name] - first["scores"][name]
            assert chance == pytest.approx(1 / (1 + math.exp(-margin)), abs=1e-5)
        assert (said["spread"], said["tokens"], said["cut"]) == (None, len(tokens), False)


def test_an_opinion_tells_how_far_the_members_disagree_about_a_margin(policy: Policy, model: PreferenceModel) -> None:
    ensemble = new_preference_model(policy.model, PreferenceShape(("helpful",), ensemble_size=3), 2)
    ensemble.temperature_O.copy_(torch.tensor([0.5, 2.0]))
    judge = Judge(policy, ensemble, LearnerSettings())
    first, second = judge.opinion(MESSAGES, ["w3", "w4 w5"], [True, True])["replies"]
    assert first["spread"] == {"helpful": 0.0, "overall": 0.0}
    raw = [
        ensemble.score_by_member(Episodes.pad([policy.encode_chat(MESSAGES)], [policy.encode_reply(reply)]))[0]
        for reply in ("w3", "w4 w5")
    ]
    for column, (name, temperature) in enumerate((("helpful", 0.5), ("overall", 2.0))):
        margins = [float(raw[1][member, column] - raw[0][member, column]) / temperature for member in range(3)]
        assert second["spread"][name] == pytest.approx(statistics.pstdev(margins), abs=1e-5)
        assert second["spread"][name] > 0.01


def test_what_is_longer_than_the_model_reads_is_told(policy: Policy, model: PreferenceModel) -> None:
    settings = LearnerSettings()
    limits = settings.preference.model_copy(update={"max_prompt_tokens": 3, "max_reply_tokens": 2})
    judge = Judge(policy, model, settings.model_copy(update={"preference": limits}))
    found = judge.opinion(MESSAGES, ["w3 w4 w5", "w3 w4 w6", "w3"], [True] * 3)
    assert found["prompt_cut"]
    assert [(reply["tokens"], reply["cut"]) for reply in found["replies"]] == [(2, True), (2, True), (2, False)]
    one, other, short = (reply["scores"] for reply in found["replies"])
    assert one == pytest.approx(other, abs=1e-5) and one != pytest.approx(short, abs=1e-5)


def test_many_replies_are_scored_as_one_by_one(judges: Judges) -> None:
    replies = [f"w{number % 9} w{number}" for number in range(5, 27) for _ in range(3)]
    judge = judges.of(1)
    together = judge.opinion(MESSAGES, replies, [True] * len(replies))["replies"]
    assert [reply["reward"] for reply in together] == pytest.approx(
        judge.scores(MESSAGES, replies, [True] * len(replies)), abs=1e-5
    )
    assert together[50]["scores"] == pytest.approx(
        judge.opinion(MESSAGES, replies[50:51], [True])["replies"][0]["scores"], abs=1e-5
    )


def test_messages_that_the_template_refuses_are_the_askers_fault(policy: Policy, model: PreferenceModel) -> None:
    policy.tokenizer.chat_template = "{{- raise_exception('never') -}}"
    with pytest.raises(InvalidRequest, match="refuses") as refused:
        Judge(policy, model, LearnerSettings()).opinion(MESSAGES, ["w3"], [True])
    assert refused.value.param == "messages"


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


def test_what_is_asked_in_passing_does_not_push_out_what_chats_ask_for(judges: Judges, tmp_path: Path) -> None:
    iterations = tmp_path / "iterations"
    for other in ("itr_2", "itr_3"):
        shutil.copytree(iterations / "itr_1", iterations / other)

    def made_by(iteration_id: str) -> None:
        def change(session: Any) -> None:
            session.get(PolicyRow, 1).iteration_id = iteration_id

        judges._store.write(change)

    of_chats = judges.of(1)
    assert judges.of(1, in_passing=True) is of_chats
    for other in ("itr_2", "itr_3"):
        made_by(other)
        in_passing = judges.of(1, in_passing=True)
        assert in_passing is not of_chats and judges.of(1, in_passing=True) is in_passing
    made_by("itr_1")
    assert judges.of(1) is of_chats
    made_by("itr_3")
    assert judges.of(1) is in_passing, "a chat that asks for it too"
    made_by("itr_2")
    assert judges.of(1, in_passing=True) is not in_passing
    made_by("itr_3")
    assert judges.of(1) is in_passing, "it is the chats' now"
