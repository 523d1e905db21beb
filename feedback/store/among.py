"""`among(column, ids)`: what `column.in_(ids)` says, with all ids as one value."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, JSON, Boolean, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_IDS: Any = JSON().with_variant(ARRAY(String), "postgresql")


class among(FunctionElement[bool]):  # noqa: N801 - reads as a function
    """Whether the text of a column is one of `ids`, of which there may be any number.

    Bound one by one, hundreds of them cost more than what is asked: the statement is written, read and planned anew for
    each number of them.
    """

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: Any, ids: Collection[str]) -> None:
        super().__init__(column, bindparam(None, list(ids), type_=_IDS))

    def self_group(self, against: Any = None) -> Any:
        """Without `= 1` after it, which SQLAlchemy adds for SQLite and for which SQLite reads the whole table."""
        return self


@compiles(among)
def _of_json(element: Any, compiler: Any, **how: Any) -> str:
    column, ids = element.clauses
    return f"{compiler.process(column, **how)} IN (SELECT value FROM json_each({compiler.process(ids, **how)}))"


@compiles(among, "postgresql")
def _of_array(element: Any, compiler: Any, **how: Any) -> str:
    column, ids = element.clauses
    return f"{compiler.process(column, **how)} = ANY({compiler.process(ids, **how)})"
