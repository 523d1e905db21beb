"""Distances by hand, and what they tell apart that coordinates alone do not."""

import pytest
import torch

from learner.outliers import auroc, discriminant, fit, held_out_auroc


def correlated(count: int, seed: int) -> torch.Tensor:
    """Two coordinates that go together."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.stack([first, first + 0.1 * torch.randn(count, generator=generator, dtype=torch.float64)], dim=1)


def test_the_score_by_hand():
    ordinary = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    mean = torch.tensor([5.0, -2.0])
    # Covariance [[1, 1/2], [1/2, 1/2]], its inverse [[2, -2], [-2, 4]]; the diagonal's is [1, 2].
    found = fit(ordinary + mean, torch.zeros(0, 2), shrinkage=0.0)
    points = torch.tensor([[1.0, -1.0], [2.0, 0.0]], dtype=torch.float64) + mean
    assert found.score(points).tolist() == pytest.approx([(2 + 4 + 4) - (1 + 2), 8 - 4], rel=1e-4)
    # Half way to the diagonal: covariance [[1, 1/4], [1/4, 1/2]], its inverse [[8/7, -4/7], [-4/7, 16/7]].
    halfway = fit(ordinary + mean, torch.zeros(0, 2), shrinkage=0.5)
    assert halfway.score(points).tolist() == pytest.approx([8 / 7 + 8 / 7 + 16 / 7 - 3, 32 / 7 - 4], rel=1e-4)
    # Towards the outliers' mean, (2, 0) away: direction S^-1 (2, 0) = (4, -4), half way 4; at both points 8.
    shown = fit(ordinary + mean, torch.tensor([[1.0, 0.0], [3.0, 0.0]]) + mean, shrinkage=0.0)
    assert shown.score(points).tolist() == pytest.approx([7 + 2 * (8 - 4), 4 + 2 * (8 - 4)], rel=1e-4)
    assert torch.equal(shown.unshown().score(points), found.score(points))


def test_what_departs_where_ordinary_ones_do_not_vary_does_not_look_ordinary_by_it():
    """It was further away by the diagonal alone than by all of the covariance."""
    alike = torch.cat([correlated(500, 1), torch.full((500, 1), 3.0, dtype=torch.float64)], dim=1)
    found = fit(alike, torch.zeros(0, 3), shrinkage=0.05)
    strange = torch.tensor([[1.0, -1.0, 3.0], [1.0, -1.0, 3.2]], dtype=torch.float64)
    as_ever, departing = found.score(strange).tolist()
    assert departing == pytest.approx(as_ever, rel=1e-3) and as_ever > 10


def test_a_coordinate_that_does_not_vary_is_given_a_millionth_of_what_they_vary_by_on_average():
    # Variances 4 and 0: 2e-6 more in either. The outliers' mean is (0, 1e-3) away.
    found = fit(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]), torch.tensor([[0.0, 1e-3]]), shrinkage=0.0)
    assert found.direction_D.tolist() == pytest.approx([0, 1e-3 / 2e-6])
    # And a little where none varies.
    alike = fit(torch.zeros(2, 2), torch.tensor([[0.0, 1e-3]]), shrinkage=0.0)
    assert alike.direction_D.tolist() == pytest.approx([0, 1e-3 / 1e-8])


def test_what_is_unusual_in_how_coordinates_go_together_scores_high():
    found = fit(correlated(500, 1), torch.zeros(0, 2), shrinkage=0.01)
    far_but_alike, apart = (torch.tensor([one], dtype=torch.float64) for one in ([2.0, 2.0], [1.0, -1.0]))
    assert found.score(apart).item() > 10 * abs(found.score(far_but_alike).item())


def test_few_vectors_of_great_width_can_be_fitted():
    generator = torch.Generator().manual_seed(1)
    found = fit(torch.randn(10, 40, generator=generator), torch.zeros(0, 40), shrinkage=0.05)
    assert torch.isfinite(found.score(torch.randn(3, 40, generator=generator).double())).all()


def test_the_discriminant_by_hand():
    ordinary, others = ([[x + at, y] for x, y in ((1, 1), (-1, -1), (1, 0), (-1, 0))] for at in (0.0, 4.0))
    # Within both kinds the covariance is [[1, 1/2], [1/2, 1/2]]; its inverse times (4, 0) is (8, -8), half way (2, 0).
    direction, place = discriminant(torch.tensor(ordinary), torch.tensor(others), shrinkage=0.0)
    assert direction.tolist() == pytest.approx([8, -8], rel=1e-4)
    assert place.item() == pytest.approx(16, rel=1e-4)
    # By the diagonal alone: (4, 0).
    assert discriminant(torch.tensor(ordinary), torch.tensor(others), 1.0)[0].tolist() == pytest.approx(
        [4, 0], rel=1e-4
    )


def test_auroc_by_hand():
    assert auroc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert auroc(torch.tensor([1.0]), torch.zeros(0)) is auroc(torch.zeros(0), torch.tensor([1.0])) is None


def test_auroc_counts_pairs_in_any_order_and_many_alike():
    generator = torch.Generator().manual_seed(3)
    ordinary, strange = (torch.randint(0, 9, (count,), generator=generator).double() for count in (101, 57))
    pairs = [(a < b) + (a == b) / 2 for a in ordinary.tolist() for b in strange.tolist()]
    assert auroc(ordinary, strange) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_the_discriminant_is_judged_by_what_it_did_not_learn_from():
    generator = torch.Generator().manual_seed(2)
    noise, same = (torch.randn(200, 60, generator=generator) for _ in range(2))
    found = held_out_auroc(noise, same, 0.1)
    assert found is not None and 0.4 < found < 0.6
    # What it learnt from it would tell apart.
    direction, _ = discriminant(noise, same, 0.1)
    assert (auroc(noise.double() @ direction, same.double() @ direction) or 0) > 0.7
    apart = held_out_auroc(noise, same + 2 * (torch.arange(60) == 3), 0.1)
    assert apart is not None and apart > 0.8
    assert held_out_auroc(noise, same[:1], 0.1) is held_out_auroc(noise[:1], same, 0.1) is None


def test_each_half_of_few_is_judged_by_the_discriminant_of_the_other():
    # The first and third of a kind say that others lie to the right, the second and fourth that they lie to the left.
    ordinary = torch.tensor([[0.0], [0.0], [1.0], [1.0], [0.5], [0.5]])
    others = torch.tensor([[4.0], [-4.0], [5.0], [-3.0], [4.5], [-3.5]])
    assert held_out_auroc(ordinary, others, 0.1) == 0.0
    assert held_out_auroc(ordinary[:2], others[::2][:2], 0.1) == 1.0
    # The first half's says right, where one of the second half's others lies; the second half's left, where none does.
    ordinary, others = torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([[4.0], [-4.0], [5.0], [4.0]])
    assert held_out_auroc(ordinary, others, 0.1) == (0.5 + 0.0) / 2


def test_both_discriminants_are_by_the_same_shrinkage():
    generator = torch.Generator().manual_seed(4)
    mixed = torch.randn(20, 20, generator=generator)
    ordinary, others = (torch.randn(30, 20, generator=generator) @ mixed + at for at in (0.0, 0.5))
    found = {}
    for shrinkage in (0.01, 0.9):
        found[shrinkage] = 0.0
        for learnt, asked in ((0, 1), (1, 0)):
            direction, _ = discriminant(ordinary[learnt::2], others[learnt::2], shrinkage)
            seen = [of[asked::2].double() @ direction for of in (ordinary, others)]
            found[shrinkage] += (auroc(*seen) or 0) / 2
        assert held_out_auroc(ordinary, others, shrinkage) == pytest.approx(found[shrinkage])
    assert found[0.01] != found[0.9]
