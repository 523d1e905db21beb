import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.report.plots import Series, plot, round_ticks

VALUES = st.floats(-1e6, 1e6, allow_nan=False)


@given(VALUES, VALUES)
def test_ticks_enclose_the_values_and_are_few(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = round_ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert ticks[0] <= low + slack and ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    assert all(later > earlier for earlier, later in itertools.pairwise(ticks))


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 17, [-5, 0, 5, 10, 15, 20]), (2, 2, [2, 2.5])]
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_points_lie_where_they_belong() -> None:
    svg = ElementTree.fromstring(
        plot("T <b>", "x & y", "y", [Series("a", [(0, 0), (1, 1)]), Series("b", [(0, 1), (1, 0)])])
    )
    dots = [dot for dot in svg.iter("circle") if dot.get("r") == "3"]
    at = [(float(dot.get("cx", "nan")), float(dot.get("cy", "nan"))) for dot in dots]
    assert len(at) == 4 and not any(math.isnan(x + y) for x, y in at)
    (left, bottom), (right, top) = at[:2]
    assert left < right and top < bottom, "up is more"
    assert at[2:] == [(left, top), (right, bottom)]
    assert svg.find("title").text == "T <b>"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 5e-324), (-5e-324, 0.0), (1.0, 1.0 + 2e-16), (1e-12, 2e-12), (0.0, 0.0)]
)
def test_what_differs_by_rounding_alone_has_ticks_too(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9 and 2 <= len(ticks) <= 8
