import math

import pytest

from feedback.figures import figures_of
from feedback.tax.harness import HarnessFailed
from feedback.tax.harness import compare as compare_harness
from feedback.tax.measuring import compare


def test_the_drop_is_paired() -> None:
    """By hand: of four questions one is lost, so the differences are 1, 0, 0, 0 with deviation 1/2 and error 1/4."""
    found = compare({"sums": [1, 1, 0, 1]}, {"sums": [0, 1, 0, 1]})
    task = found["tasks"]["sums"]
    assert (task["questions"], task["before"]["value"], task["after"]["value"]) == (4, 0.75, 0.5)
    assert task["before"]["stderr"] == pytest.approx(0.25) and task["after"]["stderr"] == pytest.approx(
        math.sqrt(1 / 12)
    )
    assert task["drop"]["value"] == 0.25 and task["drop"]["stderr"] == pytest.approx(0.25)
    assert task["drop"]["interval"] == pytest.approx([0.25 - 1.959964 * 0.25, 0.25 + 1.959964 * 0.25])
    assert found["drop"] == task["drop"]


def test_tasks_count_alike_and_the_worst_is_named() -> None:
    before = {"large": [1] * 100, "small": [1, 1, 1, 1]}
    after = {"large": [1] * 100, "small": [0, 1, 1, 1]}
    found = compare(before, after)
    # Nothing changed on the large task: its error is the least that 100 questions can have.
    least = 1.959964 / (100 + 1.959964**2)
    assert found["drop"]["value"] == pytest.approx(0.125)
    assert found["drop"]["stderr"] == pytest.approx(math.hypot(0.25, least) / 2)
    assert (found["worst"]["task"], found["worst"]["drop"]["value"]) == ("small", 0.25)
    figures = figures_of({"tax": found})
    assert figures["tax_drop"].value == pytest.approx(0.125) and figures["tax_drop_worst"].value == 0.25
    assert figures["tax_drop"].interval is not None


def test_few_questions_without_a_change_are_not_certain() -> None:
    """Wilson's interval at 0 of 10 reaches to .2775; at 0 of 1000 to .0038."""
    for count, half in ((10, 0.2775), (1000, 0.0038)):
        drop = compare({"sums": [1] * count}, {"sums": [1] * count})["drop"]
        assert drop["value"] == 0 and drop["interval"] == pytest.approx([-half, half], abs=5e-5)


def test_one_answer_more_that_is_wrong_does_not_make_the_drop_surer() -> None:
    none, one = (compare({"sums": [1] * 60}, {"sums": [0] * wrong + [1] * (60 - wrong)})["drop"] for wrong in (0, 1))
    assert one["value"] > none["value"]
    assert one["interval"][1] > none["interval"][1]


def test_what_got_better_is_a_negative_drop() -> None:
    assert compare({"sums": [0, 0]}, {"sums": [1, 1]})["drop"]["value"] == -1


def test_how_sure_one_and_two_answers_are() -> None:
    one, two = (compare({"x": [1, 0][:count]}, {"x": [1, 1][:count]})["tasks"]["x"] for count in (1, 2))
    assert one["before"]["stderr"] == 0 and one["drop"]["stderr"] == pytest.approx(1.959964 / (1 + 1.959964**2))
    # Deviation 1/2 of the two values about their mean, over one degree of freedom.
    assert two["before"]["stderr"] == two["drop"]["stderr"] == 0.5


def test_of_the_harness_only_what_both_were_asked_counts() -> None:
    found = compare_harness({"t": {0: 1.0, 1: 1.0, 2: 0.0}, "u": {0: 1.0}}, {"t": {0: 0.0, 1: 1.0}})
    assert found["tasks"].keys() == {"t"} and found["tasks"]["t"]["questions"] == 2 and found["drop"]["value"] == 0.5
    parted = compare_harness({"t": {0: 1.0}, "u": {0: 1.0}}, {"t": {0: 1.0}, "u": {1: 1.0}})
    assert parted["tasks"].keys() == {"t"}
    for after in ({"u": {1: 1.0}}, {"v": {0: 1.0}}):
        with pytest.raises(HarnessFailed, match="no scores of single questions"):
            compare_harness({"u": {0: 1.0}}, after)
