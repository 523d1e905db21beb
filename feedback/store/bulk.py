"""Many rows of a table at once."""

from collections.abc import Sequence
from typing import Any, cast

import orjson
from sqlalchemy import Table, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from feedback.store import insert_of

Row = dict[str, Any]


def insert_all(session: Session, model: Any, rows: Sequence[Row], *, known_stay: bool = False) -> None:
    """Insert rows that all name the same columns; with `known_stay` only those whose key is not there already."""
    if not rows:
        return
    table = cast(Table, model.__table__)
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        defaults = _defaults(table, rows[0])
        whole = [defaults | row for row in rows]
        statement = _from_json(table, connection.dialect, list(whole[0]), known_stay)
        connection.execute(statement, {"rows": orjson.dumps(whole).decode()})
        return
    statement = insert_of(connection.dialect.name)(table)
    connection.execute(statement.on_conflict_do_nothing() if known_stay else statement, list(rows))


def _from_json(table: Table, dialect: Any, names: list[str], known_stay: bool) -> Any:
    # One value for all rows: bound one by one they cost a server and its client twice as much.
    quote = dialect.identifier_preparer
    columns = ", ".join(map(quote.quote, names))
    name = quote.format_table(table)
    return text(
        f"INSERT INTO {name} ({columns}) SELECT {columns}"
        f" FROM json_populate_recordset(NULL::{name}, CAST(:rows AS json))"
        + (" ON CONFLICT DO NOTHING" if known_stay else "")
    )


def _defaults(table: Table, row: Row) -> Row:
    """The constants that columns have where a row does not name them."""
    return {
        column.name: column.default.arg
        for column in table.columns
        if column.name not in row and isinstance(column.default, ScalarElementColumnDefault)
    }
