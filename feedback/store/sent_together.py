"""A transaction that goes to Postgres at once: nothing waits for an answer before that to its commit, so that it takes
one round trip however many statements it has."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

from psycopg import Connection, Cursor
from psycopg.abc import Params
from sqlalchemy.orm import Session

# Of a pipeline that ends with an error it says what else went wrong, in words that may quote what was to be written.
logging.getLogger("psycopg").setLevel(logging.ERROR)


class Last(Cursor[Any]):
    """Executes what is the last of a `pipeline`, and waits for all of it: what went wrong is raised here, where
    SQLAlchemy looks for it."""

    def __init__(self, pipeline: ExitStack, connection: Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self._pipeline = pipeline

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> Self:
        super().execute(query, params, **options)
        self._pipeline.close()
        return self


def send(operation: Callable[[Session], None], session: Session) -> None:
    """Run an `operation` that looks at the result of no statement, on a connection that begins nothing by itself."""
    connection = session.connection()
    driver: Any = connection.connection.driver_connection
    with ExitStack() as pipeline:
        pipeline.enter_context(driver.pipeline())
        connection.exec_driver_sql("BEGIN")
        operation(session)
        session.flush()
        usual, driver.cursor_factory = driver.cursor_factory, partial(Last, pipeline)
        try:
            connection.exec_driver_sql("COMMIT")
        finally:
            driver.cursor_factory = usual
