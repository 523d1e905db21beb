"""Migrations of the record, by Alembic: `upgrade` brings any database to the newest schema."""

import logging
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from feedback.errors import RecordOfNewerRelease

log = logging.getLogger(__name__)

# Any number will do, as long as every process uses the same: it names the lock under which Postgres is migrated.
MIGRATION_LOCK = 7_246_331
# Postgres: a table that somebody uses is not waited for any longer, or two wait for each other.
IN_USE_SQLSTATES = ("55P03", "40P01")
# Where the release before still serves, its chats and votes wait behind whoever waits for a table.
LOCK_TIMEOUT_S = 2
ATTEMPTS = 150


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Processes that call it at once wait for each other. Tables that are in use, as
    by whoever reads for minutes, are asked for again and again.

    Raises RecordOfNewerRelease.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _upgrade(engine, revision)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in IN_USE_SQLSTATES or attempt == ATTEMPTS:
                raise
            log.warning("the record is upgraded as soon as nobody holds what is to be changed")
            time.sleep(LOCK_TIMEOUT_S)


def _upgrade(engine: Engine, revision: str) -> None:
    with engine.connect().execution_options(tandem_writes=True) as connection, connection.begin():
        upgrade_within(connection, revision)


def upgrade_within(connection: Connection, revision: str = "head") -> None:
    """`upgrade` as a part of somebody's transaction, in one try."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
    check_release(connection)
    command.upgrade(config(connection), revision)


def check_release(connection: Connection) -> None:
    """Raises RecordOfNewerRelease when this code does not know the schema that is there."""
    known = {script.revision for script in ScriptDirectory.from_config(config(connection)).walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads()) - known
    if found:
        raise RecordOfNewerRelease(
            f"the record is of a newer release (schema {', '.join(sorted(found))}, here {max(known)}): run that one, "
            "or restore a backup that was taken before the upgrade"
        )


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema down to `revision` (`base` for an empty database)."""
    with engine.connect().execution_options(tandem_writes=True) as connection, connection.begin():
        command.downgrade(config(connection), revision)


def config(connection: object) -> Config:
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent))
    alembic.attributes["connection"] = connection
    return alembic
