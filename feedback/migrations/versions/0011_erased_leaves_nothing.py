"""What erasing left behind before: texts among the settings of replies, lines of imported pairs, how somebody votes"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE samples SET sampling = '{}' WHERE status = 'erased'")
    # Each by its index; as one or the other Postgres would look through all that are erased for every pair.
    for side in ("sample_0", "sample_1"):
        op.execute(
            f"UPDATE comparisons SET origin = NULL WHERE origin IS NOT NULL "
            f"AND {side} IN (SELECT id FROM samples WHERE status = 'erased')"
        )
    op.execute("UPDATE raters SET reliability = NULL, figures = NULL WHERE erased_at IS NOT NULL")


def downgrade() -> None:
    """What is gone stays gone."""
