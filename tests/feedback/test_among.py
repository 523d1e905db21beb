"""Ids bound as one value find what each of them would, on both databases."""

import pytest
from sqlalchemy import select

from feedback.schema import Sample
from feedback.store import Store, samples
from feedback.store.among import among
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
