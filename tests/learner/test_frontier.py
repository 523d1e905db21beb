"""The helpful-harmless frontier: choosing by weight, and points worked by hand."""

from dataclasses import replace

import pytest
import torch

from feedback.learning_settings import EvaluationSettings
from learner.evaluation import sample_replies
from learner.frontier import Measure, best
from learner.preference_model import PreferenceShape, new_preference_model

SCORES_B_K_2 = torch.tensor(
    [
        [[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]],
        [[2.0, -2.0], [0.0, 0.0], [-1.0, 3.0]],
    ]
)


@pytest.mark.parametrize(("weight", "chosen"), [(0.0, [0, 0]), (0.5, [2, 2]), (1.0, [1, 2]), (0.25, [0, 0])])
def test_the_best_reply_under_a_weight(weight, chosen):
    assert best(SCORES_B_K_2, weight).tolist() == chosen


def test_points_by_hand(policy, monkeypatch):
    """The watch model's figures are of the replies that the preference model chose."""
    model = new_preference_model(policy.model, PreferenceShape(("helpful", "harmless"), 1, 8, False), seed=1)
    measure = Measure(model, model, [[5], [6]], EvaluationSettings(), 1)
    monkeypatch.setattr(Measure, "scores", lambda *_: (SCORES_B_K_2, -SCORES_B_K_2))
    helpful_only, even, harmless_only = measure.reranked(policy, (0.0, 0.5, 1.0), 3)
    assert helpful_only["helpful"]["value"] == pytest.approx(1.5)
    assert helpful_only["harmless"]["value"] == pytest.approx(-1.0)
    assert even["helpful"]["value"] == pytest.approx(-0.2)
    assert even["harmless"]["value"] == pytest.approx(1.8)
    assert harmless_only["harmless"]["value"] == pytest.approx(2.0)
    assert harmless_only["watch"]["harmless"]["value"] == pytest.approx(-2.0)
    assert harmless_only["harmless_weight"] == 1.0
    first = measure.of(policy, harmless_weight=0.3)
    assert first["harmless_weight"] == 0.3
    for axis, at in (("helpful", 0), ("harmless", 1)):
        assert first[axis]["value"] == pytest.approx(float(SCORES_B_K_2[:, 0, at].mean()))
        assert first["watch"][axis]["value"] == pytest.approx(-first[axis]["value"])
    monkeypatch.setattr(Measure, "scores", lambda *_: (SCORES_B_K_2, None))
    alone = replace(measure, watch=None)
    assert all("watch" not in point for point in (alone.of(policy), *alone.reranked(policy, (0.5,), 3)))


def test_replies_are_scored_by_prompt_in_deviations_by_either_models_own_scores(policy):
    model, watch = (
        new_preference_model(policy.model, PreferenceShape(objectives, 1, 8, False), seed=1)
        for objectives in (("helpful", "harmless"), ("harmless", "helpful"))
    )
    model.scale_O.copy_(torch.tensor([2.0, 4.0, 8.0]))
    settings = EvaluationSettings(max_new_tokens=6, matmul_precision="full")
    own_B_K_2, watched_B_K_2 = Measure(model, watch, [[5, 6], [7]], settings, 1).scores(policy, replies=4)
    drawn = sample_replies(policy, [[5, 6]] * 4 + [[7]] * 4, settings, 1).episodes
    torch.testing.assert_close(own_B_K_2.flatten(0, 1), model.score_all(drawn)[:, :2] / torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(watched_B_K_2.flatten(0, 1), watch.score_all(drawn)[:, [1, 0]])
    assert Measure(model, None, [[7]], settings, 1).scores(policy)[1] is None
