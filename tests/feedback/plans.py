"""How a database means to answer what an operation asks of the large tables."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from feedback.store import Store

LARGE = ("samples", "comparisons", "votes")


def plans_of(store: Store, operation: Callable[[Session], Any]) -> list[str]:
    """One for each statement on samples, comparisons or votes, in their order."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if any(f"FROM {table}" in statement for table in LARGE):
            asked.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        store.read(operation)
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    is_sqlite = store.engine.dialect.name == "sqlite"
    with store.engine.connect() as connection:
        if not is_sqlite:
            # Of a table with few rows it would rather read all.
            connection.execute(text("SET enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
        return [
            "\n".join(" ".join(map(str, row)) for row in connection.exec_driver_sql(explain + statement, parameters))
            for statement, parameters in asked
        ]
