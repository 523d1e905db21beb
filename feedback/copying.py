"""A record copied whole into another database: from SQLite to Postgres when a home grows, or back."""

from collections.abc import Callable

from sqlalchemy import Connection, Table, func, insert, select, text

from feedback.errors import Conflict
from feedback.migrations import upgrade_within
from feedback.schema import Base
from feedback.store import Store

BATCH = 1000


OnProgress = Callable[[str, int, int | None], None]


def copy(source: Store, target: Store, on_progress: OnProgress = lambda _table, _done, _of: None) -> int:
    """Copy every row into `target`, which is migrated first and must hold none. Returns how many rows.

    Both sides are one transaction each: the copy is a consistent snapshot, and is there as a whole or not at all,
    tables included: those of a copy that was killed would be taken for a record in which nothing has happened yet.
    `on_progress` is told each table, how many of its rows are copied, and of how many. Raises Conflict when the target
    holds rows.
    """
    with (
        source.engine.connect() as reading,
        target.engine.connect().execution_options(tandem_writes=True) as writing,
        reading.begin(),
        writing.begin(),
    ):
        if reading.dialect.name == "postgresql":
            reading.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        upgrade_within(writing)
        tables = Base.metadata.sorted_tables
        for table in tables:
            if _rows(writing, table):
                raise Conflict(f"the target's table {table.name} holds rows; copy into an empty database")
        copied = 0
        for table in tables:
            copied += _copy_table(reading, writing, table, on_progress)
        _go_on_counting(writing)
    return copied


def _copy_table(reading: Connection, writing: Connection, table: Table, on_progress: OnProgress) -> int:
    # What refers to its own table, as a comparison that repeats another one, goes last: it may have the earlier id of
    # the two, where a clock went back or another machine's is behind.
    own = {key.parent for key in table.foreign_keys if key.column.table is table}
    last = [column.is_not(None) for column in sorted(own, key=lambda column: column.name)]
    statement = select(table).order_by(*last, *table.primary_key.columns)
    rows, of = 0, _rows(reading, table)
    on_progress(table.name, rows, of)
    result = reading.execution_options(stream_results=True).execute(statement)
    for batch in result.mappings().partitions(BATCH):
        writing.execute(insert(table), [dict(row) for row in batch])
        rows += len(batch)
        on_progress(table.name, rows, of)
    written = _rows(writing, table)
    if written != rows:
        raise Conflict(f"{rows} rows of {table.name} were read and {written} written; nothing was copied")
    return rows


def _rows(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _go_on_counting(writing: Connection) -> None:
    """Postgres counts its serial columns apart from the rows; SQLite goes on from the largest by itself."""
    if writing.dialect.name == "postgresql":
        writing.execute(
            text(
                "SELECT setval(pg_get_serial_sequence('iteration_events', 'seq'), "
                "coalesce((SELECT max(seq) FROM iteration_events), 0) + 1, false)"
            )
        )
