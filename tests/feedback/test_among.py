"""Ids bound as one value find what each of them would, on both databases."""

import pytest
from sqlalchemy import select

from feedback.schema import Comparison, Sample
from feedback.store import Store, samples
from feedback.store.among import among
from tests.feedback.plans import plans_of
from tests.feedback.record import sample


@pytest.mark.parametrize("others", [0, 100_000])
def test_rows_are_found_by_any_number_of_ids(store: Store, others: int) -> None:
    """Bound one by one, more than 65,535 of them were refused by Postgres, more than 32,766 by SQLite."""
    rows = [sample() for _ in range(3)]
    store.write(samples.add, rows)
    ids = [rows[0].id, rows[2].id, 'with "quotes", {braces} and \\', *(f"smp_{number}" for number in range(others))]

    def found(wanted: list[str]) -> list[str]:
        chosen = select(Sample.id).where(among(Sample.id, wanted)).order_by(Sample.id)
        return store.read(lambda session: list(session.scalars(chosen)))

    assert found(ids) == sorted((rows[0].id, rows[2].id))
    assert found([]) == []


def test_rows_are_found_by_the_index_of_the_column(store: Store) -> None:
    """Each of them, where the whole table was read on SQLite."""
    sides = among(Comparison.sample_0, ["smp_a"]) | among(Comparison.sample_1, ["smp_b", "smp_c"])
    for column, which in ((Sample.text, among(Sample.id, ["smp_a"])), (Comparison.tranche, sides)):
        chosen = select(column).where(which)
        (plan,) = plans_of(store, lambda session, chosen=chosen: session.execute(chosen))
        assert "INDEX" in plan.upper() and "Seq Scan" not in plan, plan
        assert "SCAN samples" not in plan and "SCAN comparisons" not in plan, plan
