"""Rounded sizes are few, never smaller and little larger; spare rows change nothing that is read."""

import torch

from learner.few_shapes import rounded_down, rounded_up, with_rows_to_spare


def test_rounded_sizes_are_few_and_near():
    counts = range(1, 4097)
    for digits in (1, 2, 3, 4):
        rounded = [rounded_up(count, digits) for count in counts]
        assert all(count <= size < count * (1 + 2 ** (1 - digits)) for count, size in zip(counts, rounded, strict=True))
        assert len(set(rounded)) <= 13 * 2 ** (digits - 1)
        assert [rounded_down(size, digits) for size in rounded] == rounded
        assert all(rounded_down(count, digits) <= count < 2 * rounded_down(count, digits) for count in counts)
    assert [rounded_down(count, 2) for count in (0, 1, 3, 5, 13, 129, 192)] == [0, 1, 3, 4, 12, 128, 192]
    assert [rounded_up(count, 2) for count in (0, 1, 3, 5, 13, 129, 192)] == [0, 1, 3, 6, 16, 192, 192]


def test_spare_rows_are_zero_and_take_no_gradient():
    values = torch.randn(19, 5, requires_grad=True)
    spared = with_rows_to_spare(values)
    assert spared.shape == (20, 5)
    assert torch.equal(spared[:19], values)
    assert not spared[19:].any()
    spared.square().sum().backward()
    torch.testing.assert_close(values.grad, 2 * values.detach())
