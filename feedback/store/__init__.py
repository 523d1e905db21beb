"""The store: the record on SQLite or Postgres, one transaction at a time.

`feedback.store.votes`, `.comparisons` and the rest are functions on a `Session`; this module runs them:

    store.write(votes.put, ...)   # one transaction; everything it did is durable when it returns
    store.read(votes.get, ...)

Nothing outside `feedback.store` writes SQL.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import orjson
from sqlalchemy import (
    ColumnElement,
    Double,
    Engine,
    create_engine,
    event,
    inspect,
    literal,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from feedback.errors import RecordUnavailable
from feedback.store.by_driver import as_json
from feedback.store.group_commit import GroupCommit, Write

P = ParamSpec("P")
R = TypeVar("R")

SQLITE_BUSY_TIMEOUT_S = 30.0
SQLITE_TURN_POLL_S = 0.0005
# A log of so many pages (of 4 KiB) is carried over into the database by the process whose commit made it so long, and
# by one that leaves this to others where there are none.
CHECKPOINT_PAGES = 1000
LEFT_PAGES = 16_000
FORGET_LOG_WITHIN_MS = 200
RETRIES = 5
# So many rows are fetched at once where there may be a million.
READ_BATCH = 2000
# Postgres: serialization failure, deadlock. Both mean "nothing happened, run the transaction again".
RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})
CONNECT_TIMEOUT_S = 5
# A host that was cut off says nothing: each side must notice by itself, or it waits for hours, and holds its locks.
# Seconds until silence is questioned, between questions, how many of them; milliseconds until what was sent is lost.
SILENCE = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3}
UNANSWERED_MS = 15_000
# And a process that stands still in a transaction must not hold up all others for ever. Freezing a large dataset may
# compute for minutes between two statements of one snapshot.
IDLE_IN_TRANSACTION_MS = 1_800_000
# Postgres: a server that only reads, as one does that is none any more, or none yet, after a failover.
READ_ONLY_SQLSTATE = "25006"
# Postgres: no connection, no room, no memory or too many connections, stopped or starting by an operator or after a
# crash, its disk failing; a transaction that took too long, or was in the others' way at each try.
UNAVAILABLE_SQLSTATES = ("08", "53", "57", "58", READ_ONLY_SQLSTATE, "25P03", "25P04", *RETRYABLE_SQLSTATES)
UNAVAILABLE_SQLITE_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
    }
)  # fmt: skip


class Kind(Enum):
    """How an operation is run."""

    READ = auto()
    READ_ONCE = auto()
    READ_THROUGH = auto()
    WRITE = auto()
    WRITE_ONCE = auto()


class Store:
    """The record behind a database URL (`sqlite:///...` or `postgresql+psycopg://...`).

    With `flushes=False` what is written outlives any process, but the last moment of it not a loss of power: for work
    that is found undone then and done again. With `checkpoints=False` what SQLite wrote to its log is left to other
    processes to carry over: for one whose writes people wait for.
    """

    def __init__(self, database_url: str, *, flushes: bool = True, checkpoints: bool = True) -> None:
        self.database_url = database_url
        self.engine = open_engine(database_url, flushes=flushes, checkpoints=checkpoints)
        # SQLite has one writer at a time: within a process they queue here, and share a commit. Postgres does both by
        # itself.
        self._together = GroupCommit(self.engine) if self.engine.dialect.name == "sqlite" else None

    def write(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `operation(session, ...)` in one transaction; durable when this returns, undone when it raises.

        Raises RecordUnavailable when the database is not there. Only then it may be done all the same, where the
        connection broke between its commit and the answer.
        """
        return self._write(partial(_given, operation, args, kwargs))

    @property
    def has_one_writer(self) -> bool:
        """Whether the database has one writer at a time: then several writes are best handed over together."""
        return self._together is not None

    def write_together(self, operations: Sequence[Callable[[Session], Any]]) -> list[Write]:
        """Run each as `write` does and as if it were alone, most likely with one commit; where there is one writer.

        Returns how each ended, in the same order.
        """
        assert self._together is not None, "this database takes writes side by side"
        writes = [Write(operation, partial(self._transact, Kind.WRITE, operation)) for operation in operations]
        self._together.run(writes)
        return writes

    def write_swiftly(
        self, operation: Callable[[Session], None], by_driver: Callable[[sqlite3.Connection], None]
    ) -> None:
        """`write` for what is written all the time: `by_driver` does by SQLite's driver alone what `operation` does.

        A server is sent all of `operation` at once, in one round trip with its commit. So it looks at the result of no
        statement, and it does no harm when it is run again after it was committed.
        """
        if self._together is not None:
            self._write(operation, by_driver)
        else:
            # The driver is imported where there is such a record only.
            from feedback.store import sent_together

            self._transact(Kind.WRITE_ONCE, partial(sent_together.send, operation))

    def _write(
        self, operation: Callable[[Session], R], by_driver: Callable[[sqlite3.Connection], R] | None = None
    ) -> R:
        alone: Callable[[], R] = partial(self._transact, Kind.WRITE, operation)
        if self._together is None:
            return alone()
        write = Write(operation, alone, by_driver)
        self._together.run([write])
        if write.error is not None:
            raise write.error
        result: R = write.result
        return result

    def write_once(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`write` for an operation of one statement that does no harm when it is run again after it was committed.

        A statement that commits by itself saves a server's client two of three round trips.
        """
        if self._together is not None:
            return self.write(operation, *args, **kwargs)
        return self._transact(Kind.WRITE_ONCE, operation, *args, **kwargs)

    def read(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `operation(session, ...)` on one consistent snapshot. It must not write. Raises RecordUnavailable."""
        return self._transact(Kind.READ, operation, *args, **kwargs)

    def read_once(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`read` for an operation of one statement, which needs no transaction to see one state of things: a server's
        client waits for one round trip in place of two."""
        return self._transact(Kind.READ_ONCE, operation, *args, **kwargs)

    def read_through(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`read` for an operation that hands on what it reads as it goes: where the connection breaks it is not run
        again.
        """
        return self._transact(Kind.READ_THROUGH, operation, *args, **kwargs)

    def look(self, statement: str) -> list[Any]:
        """The rows of a statement that changes nothing and is asked again and again: on SQLite by the driver alone,
        which takes a thirtieth of the time of `read`. Raises RecordUnavailable.
        """
        if self._together is not None:
            # The ordinary way tells what is wrong, or finds that nothing is any more.
            with contextlib.suppress(sqlite3.Error), contextlib.closing(self.engine.raw_connection()) as connection:
                rows: list[Any] = connection.driver_connection.execute(statement).fetchall()  # type: ignore[union-attr]
                return rows
        return self.read_once(lambda session: list(session.execute(text(statement))))

    def _transact(
        self,
        kind: Kind,
        operation: Callable[Concatenate[Session, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        attempt = 1
        while True:
            committing = False
            try:
                with (
                    self.engine.connect().execution_options(**self._options(kind)) as connection,
                    Session(connection, expire_on_commit=False) as session,
                    session.begin(),
                ):
                    result = operation(session, *args, **kwargs)
                    session.flush()
                    committing = kind is Kind.WRITE
                return result
            except DBAPIError as error:
                if attempt == RETRIES or kind is Kind.READ_THROUGH or not _may_run_again(error, committing):
                    if _is_unavailable(error):
                        raise RecordUnavailable(
                            "the record's database does not answer now; send the request again in a moment"
                        ) from error
                    raise
                attempt += 1

    def _options(self, kind: Kind) -> dict[str, Any]:
        if kind is Kind.WRITE or self.engine.dialect.name == "sqlite":
            return {"tandem_writes": kind in (Kind.WRITE, Kind.WRITE_ONCE)}
        # By default each statement of Postgres sees what others have committed meanwhile.
        return {"isolation_level": "REPEATABLE READ" if kind in (Kind.READ, Kind.READ_THROUGH) else "AUTOCOMMIT"}

    def migrate(self) -> None:
        """Bring the schema up to date. Safe to run by several processes at once and on every start.

        Raises RecordUnavailable with what the database says, for who starts a process; RecordOfNewerRelease.
        """
        from feedback.migrations import upgrade

        try:
            upgrade(self.engine)
        except DatabaseError as error:
            raise RecordUnavailable(f"the record cannot be used: {error.orig}") from error

    def is_blank(self) -> bool:
        """Whether there are no tables yet. Raises RecordUnavailable as `migrate` does."""
        try:
            return not inspect(self.engine).has_table("keys")
        except DatabaseError as error:
            raise RecordUnavailable(f"the record cannot be used: {error.orig}") from error

    def ping(self) -> None:
        """Raises RecordUnavailable when the database does not answer, or is a Postgres that takes nothing."""
        if self._together is not None:
            self.read(lambda session: session.execute(text("SELECT 1")).scalar_one())
        else:
            # It changes nothing, and a server that only reads refuses it.
            self.write_once(lambda session: session.execute(text("UPDATE keys SET id = id WHERE false")))

    def is_behind_pooler(self) -> bool:
        """Whether another program, such as PgBouncer, hands on what is sent to Postgres. Raises RecordUnavailable."""
        try:
            with self.engine.connect() as connection:
                return cast(Any, connection.connection.driver_connection).prepare_threshold is None
        except DatabaseError as error:
            raise RecordUnavailable(f"the record cannot be used: {error.orig}") from error

    def forget_log(self) -> bool:
        """Take what was erased out of SQLite's log, which would hold it until later writes have overwritten it. False
        when somebody reads who began before, or the disk is full: to be asked again then. Postgres does so by itself,
        with its vacuum.
        """
        if self._together is None:
            return True
        with (
            contextlib.suppress(sqlite3.Error, DBAPIError),
            contextlib.closing(self.engine.raw_connection()) as connection,
        ):
            driver = cast(sqlite3.Connection, connection.driver_connection)
            # All writers wait while it waits for those who read.
            driver.execute(f"PRAGMA busy_timeout={FORGET_LOG_WITHIN_MS}")
            try:
                busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                driver.execute(f"PRAGMA busy_timeout={round(1000 * SQLITE_BUSY_TIMEOUT_S)}")
            return not busy
        return False

    def close(self) -> None:
        if self._together is not None:
            self._together.close()
        self.engine.dispose()


def _given(operation: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any], session: Session) -> R:
    return operation(session, *args, **kwargs)


def open_engine(database_url: str, *, flushes: bool = True, checkpoints: bool = True) -> Engine:
    url = make_url(database_url)
    options: dict[str, Any] = {
        "json_serializer": as_json,
        "json_deserializer": orjson.loads,
        # The values of a statement are what people wrote: an error must not carry them into a log.
        "hide_parameters": True,
    }
    if url.get_backend_name() == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The connection that wrote last goes first: any other has to read again what that one has changed.
        waiting = {"timeout": SQLITE_BUSY_TIMEOUT_S}
        engine = create_engine(url, connect_args=waiting, pool_use_lifo=True, pool_size=8, **options)
        event.listen(engine, "do_connect", _make_sqlite)
        event.listen(engine, "connect", partial(_configure_sqlite, flushes, checkpoints))
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _replace_read_only)
        return engine
    # Whatever the database's own encoding is: it is looked at once there is a connection.
    asked = {"client_encoding": "UTF8", "connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": UNANSWERED_MS}
    # Asked for its type `hstore`, which the record has none of, a server would be waited for three times more.
    options |= {"pool_use_lifo": True, "pool_size": 8, "max_overflow": 8, "use_native_hstore": False}
    engine = create_engine(url, connect_args=asked | SILENCE, **options)
    event.listen(engine, "connect", partial(_configure_postgres, flushes))
    event.listen(engine, "handle_error", _replace_read_only)
    return engine


def _configure_postgres(flushes: bool, connection: Any, _record: object) -> None:
    # The driver is imported where there is such a record only.
    from feedback.store import postgres_text

    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise RecordUnavailable(
            f"the record's database keeps texts as {encoding}, which cannot hold all of them: make one with `createdb "
            "--encoding UTF8 --template template0`, carry over what the old one holds with `pg_dump` and `psql`, and "
            "name it in `database_url`"
        )
    postgres_text.register(connection)
    wanted: dict[str, int | str] = {f"tcp_{name}": value for name, value in SILENCE.items()}
    wanted |= {"tcp_user_timeout": UNANSWERED_MS, "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS}
    # Two round trips less than a transaction.
    connection.autocommit = True
    settings = "".join(f"SET {name} = {value};" for name, value in wanted.items())
    (answers,) = connection.execute(f"SELECT pg_backend_pid();{settings}").fetchone()
    if answers != connection.info.backend_pid:
        # A pooler stands between: the next transaction may be another connection's, which knows no statement that was
        # prepared by this one, and what is set here others may get.
        connection.prepare_threshold = None
    elif not flushes:
        connection.execute("SET synchronous_commit = off")
    connection.autocommit = False


def _may_run_again(error: DBAPIError, committing: bool) -> bool:
    """Whether nothing of the transaction can have happened, and the next try may end otherwise."""
    if getattr(error.orig, "sqlstate", None) in RETRYABLE_SQLSTATES:
        return True
    # The connection broke: most likely while it lay in the pool, since asking before each use whether it still stands
    # would cost every vote a round trip. The pool gives no other one of its age now.
    return error.connection_invalidated and not committing


def _is_unavailable(error: DBAPIError) -> bool:
    """Whether the database is at fault, not what was asked of it."""
    sqlite_code = getattr(error.orig, "sqlite_errorcode", None)
    if sqlite_code is not None:
        # The lowest byte is the code, the others say more of it.
        return sqlite_code & 0xFF in UNAVAILABLE_SQLITE_CODES
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is None:
        return isinstance(error, OperationalError) or error.connection_invalidated
    return bool(sqlstate.startswith(UNAVAILABLE_SQLSTATES))


def _make_sqlite(_dialect: object, _record: object, arguments: list[Any], _options: object) -> None:
    # Closed to others from its first byte on; its log takes over the mode.
    path = Path(arguments[0])
    if path.parent.is_dir() and not path.exists():
        path.touch(mode=0o600)


def _configure_sqlite(flushes: bool, checkpoints: bool, connection: Any, _record: object) -> None:
    # The driver's own transaction handling is off: `_begin_sqlite` says when a transaction starts and of which kind.
    connection.isolation_level = None
    # 32 MiB of pages: with the usual 2 a large record is read again and again.
    for pragma in (
        "journal_mode=WAL",
        f"synchronous={'FULL' if flushes else 'NORMAL'}",
        f"wal_autocheckpoint={CHECKPOINT_PAGES if checkpoints else LEFT_PAGES}",
        "foreign_keys=ON",
        "cache_size=-32768",
        # What was erased is overwritten. Most builds of SQLite do so anyhow.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _replace_read_only(context: Any) -> None:
    # Opened while the disk could not be written to, it stays so when the disk can be again; and one to a server that
    # only reads stays with it when another one writes.
    error = context.original_exception
    is_read_only = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
    is_read_only = is_read_only or getattr(error, "sqlstate", None) == READ_ONLY_SQLSTATE
    context.is_disconnect = context.is_disconnect or is_read_only


def _begin_sqlite(connection: Any) -> None:
    # A writer takes its lock at once: a deferred one could fail in mid-transaction, where waiting does not help.
    if not connection.get_execution_options().get("tandem_writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite's own waiting for another process sleeps for up to a tenth of a second at a time, which one vote in a
    # hundred would feel.
    driver = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        _take_write_lock(connection)
    finally:
        # One that was found to be read-only is closed by now.
        with contextlib.suppress(sqlite3.ProgrammingError):
            driver.execute(f"PRAGMA busy_timeout={round(1000 * SQLITE_BUSY_TIMEOUT_S)}")


def _take_write_lock(connection: Any) -> None:
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_S
    while True:
        try:
            connection.connection.driver_connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                # Run as SQLAlchemy's own, so that it is raised as one of its errors.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
        time.sleep(SQLITE_TURN_POLL_S)


def plan_anew(session: Session) -> None:
    """Have Postgres plan what follows in this transaction for the values at hand: for statements whose right plan hangs
    on them. Of one that it has run five times it keeps a plan for any values."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))


def insert(session: Session, table: Any) -> Any:
    """An INSERT of the session's own dialect, so that `on_conflict_do_nothing` and `..._do_update` can be used."""
    return insert_of(session.get_bind().dialect.name)(table)


def insert_of(dialect: str) -> Callable[[Any], Any]:
    """The INSERT of `sqlite` or `postgresql`."""
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def now(session: Session) -> float:
    """Seconds since the epoch by the clock that all processes of this record share: the database server's."""
    if session.get_bind().dialect.name == "postgresql":
        # By the connection: what was changed so far need not be written for it, and then once more with the time.
        return session.connection().execute(select(clock(session))).scalar_one()
    return time.time()


def clock(session: Session) -> ColumnElement[float]:
    """`now` within a statement, where it needs no statement of its own."""
    if session.get_bind().dialect.name == "postgresql":
        return literal_column("extract(epoch FROM clock_timestamp())::double precision", Double)
    return literal(time.time(), Double)


def page(
    session: Session,
    statement: Any,
    key: Any,
    *,
    limit: int,
    after: Any | None = None,
    order: str = "desc",
) -> tuple[list[Any], bool]:
    """One page of `statement`, ordered by the unique column `key`: the rows, and whether more follow."""
    if after is not None:
        statement = statement.where(key < after if order == "desc" else key > after)
    statement = statement.order_by(key.desc() if order == "desc" else key.asc()).limit(limit + 1)
    rows = list(session.scalars(statement))
    return rows[:limit], len(rows) > limit


__all__ = ["READ_BATCH", "Store", "clock", "insert", "now", "page", "plan_anew"]
