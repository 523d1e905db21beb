"""Runs migrations on the connection that `feedback.migrations` hands over."""

from alembic import context

from feedback.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    # The caller holds the transaction, with its lock.
    transactional_ddl=False,
)
context.run_migrations()
