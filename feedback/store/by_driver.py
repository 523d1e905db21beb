"""What is written for every chat, by SQLite's driver alone: SQLAlchemy takes twice as long as the driver to do it."""

import sqlite3
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, cast

import orjson
from sqlalchemy import ClauseElement, Table
from sqlalchemy.dialects import sqlite


def as_json(value: Any) -> str:
    """As columns of JSON hold it."""
    return orjson.dumps(value).decode()


_dialect = sqlite.dialect(paramstyle="named", json_serializer=as_json)


class Statement:
    """One whose parameters are given by name. Compiled when it first runs: most processes that import it never do."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement

    @cached_property
    def _compiled(self) -> tuple[str, dict[str, Any]]:
        compiled = self._statement.compile(dialect=_dialect)
        return str(compiled), compiled.params

    def run(self, driver: sqlite3.Connection, **parameters: Any) -> sqlite3.Cursor:
        text, constants = self._compiled
        return driver.execute(text, constants | parameters)


class Insert:
    """Rows of a model into its table. What a row does not say its column's default does. Compiled as `Statement`."""

    def __init__(self, model: Any) -> None:
        self._table = cast(Table, model.__table__)

    @cached_property
    def _text(self) -> str:
        return str(sqlite.insert(self._table).compile(dialect=_dialect))

    @cached_property
    def _columns(self) -> list[tuple[str, Any, Callable[[Any], Any] | None]]:
        return [
            (column.name, cast(Any, column.default), column.type.dialect_impl(_dialect).bind_processor(_dialect))
            for column in self._table.columns
        ]

    def run(self, driver: sqlite3.Connection, rows: Iterable[Any]) -> None:
        driver.executemany(self._text, [self._values(row) for row in rows])

    def _values(self, row: Any) -> dict[str, Any]:
        values = {}
        for name, default, bind in self._columns:
            value = getattr(row, name)
            if value is None and default is not None:
                value = default.arg(None) if default.is_callable else default.arg
            values[name] = value if bind is None else bind(value)
        return values
