"""Migrations of the record, by Alembic: `upgrade` brings any database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

# Any number will do, as long as every process uses the same: it names the lock under which Postgres is migrated.
MIGRATION_LOCK = 7_246_331


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Processes that call it at once wait for each other."""
    with engine.connect().execution_options(tandem_writes=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        command.upgrade(config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema down to `revision` (`base` for an empty database)."""
    with engine.connect().execution_options(tandem_writes=True) as connection, connection.begin():
        command.downgrade(config(connection), revision)


def config(connection: object) -> Config:
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent))
    alembic.attributes["connection"] = connection
    return alembic
