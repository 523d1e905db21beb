import math

import pytest

from learner.diversity import diversity


def test_by_hand():
    found = diversity([[1, 2, 1], [1, 2], [1, 2]])
    assert found["distinct_1"] == pytest.approx(2 / 7)
    assert found["distinct_2"] == pytest.approx(2 / 4)
    assert found["distinct_replies"] == pytest.approx(2 / 3)
    assert found["entropy_nats"] == pytest.approx(-(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7)))


def test_without_replies():
    assert set(diversity([]).values()) == {None}
