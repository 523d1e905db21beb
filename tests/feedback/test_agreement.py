import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.agreement import agreement
from feedback.store import Store, checks, raters, votes
from feedback.worker import count_all
from tests.feedback.record import add_comparison, judgement


def test_by_hand() -> None:
    """Krippendorff's example of two observers and ten units, of binary values (2011, A): six agreements, four not."""
    found = agreement({(2, 0): 5, (0, 2): 1, (1, 1): 4})
    assert (found.pairs, found.votes) == (10, 20)
    assert found.alpha == pytest.approx(0.095, abs=5e-4)
    # D_o = 4 * 2 / 20 = .4; D_e = 2 * 14 * 6 / (20 * 19).
    assert found.alpha == pytest.approx(1 - 0.4 / (168 / 380))


def test_what_tells_nothing() -> None:
    assert agreement({}).as_json() == {"agreement": None, "pairs": 0, "votes": 0}
    assert agreement({(1, 0): 9}).as_json() == {"agreement": None, "pairs": 0, "votes": 0}
    assert agreement({(2, 0): 9}).as_json() == {"agreement": None, "pairs": 9, "votes": 18}
    assert agreement({(2, 0): 3, (0, 3): 2, (1, 0): 50}).as_json() == {"agreement": 1.0, "pairs": 5, "votes": 12}


@given(st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.integers(1, 3), max_size=5))
def test_it_is_what_a_plain_loop_finds(pairs_of: dict[tuple[int, int], int]) -> None:
    units = [[0] * a + [1] * b for (a, b), pairs in pairs_of.items() for _ in range(pairs) if a + b > 1]
    values = [value for unit in units for value in unit]
    found = agreement(pairs_of)
    assert (found.pairs, found.votes) == (len(units), len(values))
    if len(set(values)) < 2:
        assert found.alpha is None
        return
    observed = sum(
        sum(first != second for first, second in permutations(unit, 2)) / (len(unit) - 1) for unit in units
    ) / len(values)
    expected = sum(first != second for first, second in permutations(values, 2)) / math.perm(len(values), 2)
    assert found.alpha == pytest.approx(1 - observed / expected)


def test_the_votes_that_are_compared(store: Store) -> None:
    def put(pair: str, *said: tuple[str, str], objective: str = "helpful") -> None:
        for rater, preferred in said:
            vote = judgement(preferred, objective=objective)
            store.write(votes.put, pair, vote, key_id="key_a", sees_all=True, rater=rater)

    agreed, disputed, alone, tied, repeated, known = (add_comparison(store) for _ in range(6))
    put(agreed, ("ann", "0"), ("bob", "0"), ("cas", "0"))
    put(agreed, ("ann", "1"), ("bob", "1"), objective="harmless")
    put(disputed, ("ann", "0"), ("bob", "1"))
    put(alone, ("ann", "0"))
    put(tied, ("ann", "tie"), ("bob", "0"))
    put(repeated, ("ann", "1"), ("eve", "1"))
    put(store.write(checks.repeat_of, repeated).id, ("ann", "0"), ("bob", "0"))
    store.write(checks.set_answer, known, "helpful", "0")
    put(known, ("ann", "0"), ("bob", "0"))
    count_all(store)
    found = store.read(raters.sides_picked)
    assert found == {"helpful": {(3, 0): 1, (1, 1): 1, (0, 2): 1}, "harmless": {(0, 2): 1}}
    store.write(raters.quarantine, store.read(raters.find, "key_a", "eve"), "a robot")
    assert store.read(raters.sides_picked)["helpful"] == {(3, 0): 1, (1, 1): 1}
