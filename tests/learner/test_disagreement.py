import math
import statistics
from pathlib import Path

import pytest
import torch

from feedback.errors import LeaseLost
from feedback.learning_settings import PreferenceSettings
from feedback.schema import Comparison
from feedback.store import Store, comparisons, leases
from learner.disagreement import disagreements, note_disagreement, spread
from learner.policy import Policy
from learner.preference_model import PreferenceShape, new_preference_model
from learner.sequences import Episodes
from tests.feedback.record import add_comparison, handed_in_order, sample
from tests.records import empty_record

SETTINGS = PreferenceSettings(max_prompt_tokens=32, max_reply_tokens=16, matmul_precision="full")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return empty_record(tmp_path / "record.db")


def probability(margin: float) -> float:
    return 1 / (1 + math.exp(-margin))


def test_members_disagree_by_the_deviation_of_their_probabilities() -> None:
    margins = [[[2.0, 0.0], [-1.0, 0.0], [0.5, 0.0]], [[40.0, 1.0], [-40.0, 1.0], [0.0, 1.0]]]
    expected = [
        [2 * statistics.pstdev([probability(member[objective]) for member in pair]) for objective in (0, 1)]
        for pair in margins
    ]
    assert spread(torch.tensor(margins)).tolist() == [pytest.approx(pair, abs=1e-6) for pair in expected]
    assert spread(torch.tensor([[[40.0], [-40.0]]])).item() == pytest.approx(1)


def test_one_member_is_unsure_in_its_own_right() -> None:
    margins = torch.tensor([[[0.0]], [[3.0]], [[-3.0]]])
    one = 4 * probability(3) * probability(-3)
    assert spread(margins).flatten().tolist() == pytest.approx([1.0, one, one], abs=1e-6)


@pytest.mark.parametrize(("members", "measure"), [(3, "ensemble"), (1, "own uncertainty")])
def test_the_record_hands_out_what_the_model_is_least_sure_of(
    store: Store, policy: Policy, members: int, measure: str
) -> None:
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless"), members), seed=1)
    ids = [
        add_comparison(
            store,
            sample(f"w{n} w{n + 1}", messages=[{"role": "user", "content": f"w{n}"}]),
            sample(f"w{n + 2}", messages=[{"role": "user", "content": f"w{n}"}]),
        )
        for n in range(20)
    ]
    empty = add_comparison(store, sample(" "), sample("w1"))
    same = add_comparison(store, sample("w1"), sample("w1"))
    # As in the record of an earlier release.
    store.write(lambda session: setattr(session.get_one(Comparison, same), "is_open", True))
    epoch = store.write(leases.acquire, leases.LEARNER, "me", 60.0)
    said = note_disagreement(store, epoch, model, policy, SETTINGS, votes_wanted=1, pairs=100)
    asked = [one for one in store.read(comparisons.unjudged, votes_wanted=1, limit=100) if one.id not in (empty, same)]
    expected = dict(zip((one.id for one in asked), disagreements(model, policy, asked, SETTINGS), strict=True))
    assert expected.keys() == set(ids)
    assert len(set(expected.values())) > 10
    assert said == {"pairs": 20, "measure": measure, "mean": pytest.approx(statistics.fmean(expected.values()))}
    query = {"key_id": "key_a", "sees_all": False, "rater": "", "objective": "helpful", "votes_wanted": 1}
    handed, _ = handed_in_order(store, **query, limit=30)
    order = [pair.comparison.id for pair in handed]
    assert set(order[-2:]) == {empty, same}, "from no text, and from twice the same, there is nothing to learn"
    values = [pair.comparison.disagreement for pair in handed]
    assert values == sorted(values, reverse=True)
    assert {pair.comparison.id: pair.comparison.disagreement for pair in handed} == pytest.approx(
        expected | {empty: 0.0, same: 0.0}, abs=1e-5
    )


def test_a_reply_that_was_cut_off_is_seen_without_an_end(store: Store, policy: Policy) -> None:
    """As in training: it has the scores of its words alone. Whichever objective is least sure counts."""
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless")), seed=1)
    add_comparison(store, sample("w1 w2", finish_reason="length"), sample("w3"))
    (asked,) = store.read(comparisons.unjudged, votes_wanted=1, limit=100)
    tokens = policy.encode_reply("w1 w2")[:-1], policy.encode_reply("w3")
    prompt = policy.encode_chat(asked.messages)
    for temperatures in ((0.2, 2.0, 0.1), (2.0, 0.2, 0.1), (0.2, 0.2, 9.0)):
        model.temperature_O.copy_(torch.tensor(temperatures))
        cut_off, ended = (model.score(Episodes.pad([prompt], [reply]))[0].tolist() for reply in tokens)
        chances = [probability(one - other) for one, other in zip(cut_off, ended, strict=True)][:2]
        expected = max(4 * chance * (1 - chance) for chance in chances)
        assert disagreements(model, policy, [asked], SETTINGS) == pytest.approx([expected], abs=1e-6)


def test_a_learner_that_lost_its_lease_writes_nothing(store: Store, policy: Policy) -> None:
    model = new_preference_model(policy.model, PreferenceShape(("helpful",), 2), seed=1)
    id_ = add_comparison(store, sample("w1"), sample("w2"))
    epoch = store.write(leases.acquire, leases.LEARNER, "me", 60.0)
    with pytest.raises(LeaseLost):
        note_disagreement(store, epoch + 1, model, policy, SETTINGS, votes_wanted=1, pairs=100)
    assert store.read(comparisons.get, id_, key_id="key_a", sees_all=False).comparison.disagreement == 1.0
