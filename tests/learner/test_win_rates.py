"""Win rates of scores written down by hand."""

import pytest
import torch

from learner.win_rates import Scored, win_rates

COLUMNS = ("helpful", "harmless", "overall")
OWN = Scored(
    torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 3.0, 2.0], [0.0, 0.0, 3.0]]), torch.tensor([5, 9, 4, 6])
)
OTHER = Scored(
    torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]), torch.tensor([5, 4, 8, 6])
)


def test_wins_by_the_weighted_score_and_by_each_objective() -> None:
    found = win_rates(OWN, OTHER, COLUMNS, {"overall": 1.0}, 0.95)
    assert found["win_rate"]["value"] == (1 + 0 + 0.5 + 1) / 4
    assert found["win_rate_shorter"]["value"] == pytest.approx(2.5 / 3)
    assert found["win_rate_shorter"]["count"] == 3
    assert found["score"]["value"] == 1.5
    assert found["reference_score"]["value"] == 0.75
    assert set(found["objectives"]) == {"helpful", "harmless"}
    assert found["objectives"]["helpful"]["win_rate"]["value"] == (1 + 1 + 0 + 0.5) / 4
    assert found["objectives"]["harmless"]["win_rate"]["value"] == (0.5 + 0.5 + 1 + 0) / 4
    assert found["objectives"]["harmless"]["win_rate_shorter"]["value"] == pytest.approx(1.5 / 3)


def test_the_weights_say_which_score_counts() -> None:
    by_helpful = win_rates(OWN, OTHER, COLUMNS, {"helpful": 2.0}, 0.95)
    assert by_helpful["win_rate"] == by_helpful["objectives"]["helpful"]["win_rate"]


def test_equal_length_leaves_wins_that_length_does_not_explain() -> None:
    lengths = torch.tensor([3, 4, 5, 6] * 25)
    own = Scored(torch.tensor([[1.0], [1.0], [1.0], [0.0]] * 25), lengths)
    other = Scored(torch.tensor([[0.0], [0.0], [0.0], [1.0]] * 25), lengths)
    found = win_rates(own, other, ("overall",), {"overall": 1.0}, 0.95)
    assert found["win_rate_length_controlled"]["value"] == pytest.approx(0.75, abs=0.01)
