"""Migrations of the record, by Alembic: `upgrade` brings any database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from feedback.errors import RecordOfNewerRelease

# Any number will do, as long as every process uses the same: it names the lock under which Postgres is migrated.
MIGRATION_LOCK = 7_246_331


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Processes that call it at once wait for each other.

    Raises RecordOfNewerRelease.
    """
    with engine.connect().execution_options(tandem_writes=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
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
