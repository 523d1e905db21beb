"""Learning rates by step, and which examples a step takes."""

import pytest
import torch

from learner.schedule import batch_of, set_learning_rates


def test_rates_rise_then_fall_to_a_tenth():
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "peak": 2.0}], lr=0.0)
    rates = []
    for step in range(11):
        set_learning_rates(optimizer, step, 10, 0.2)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert rates[10] == pytest.approx(0.2)


def test_every_pass_takes_each_example_once_in_its_own_order():
    first, second = ([at for step in steps for at in batch_of(step, 10, 4, seed=3)] for steps in ((0, 1, 2), (3, 4, 5)))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert len(batch_of(2, 10, 4, seed=3)) == 2


def test_what_a_step_takes_costs_the_same_however_many_examples_there_are(monkeypatch: pytest.MonkeyPatch):
    drawn = []
    shuffled = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda count, **others: drawn.append(count) or shuffled(count, **others))
    for step in range(6):
        batch_of(step, 11, 4, seed=4)
    assert drawn == [11, 11], "once a pass"
