"""What erasing left behind before: by which who guesses a prompt could see that it was asked, what others said of it"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE samples SET prompt_digest = id WHERE status = 'erased'")
    # Each by its index; as one or the other Postgres would look through all that are erased for every pair.
    for side in ("sample_0", "sample_1"):
        pairs = f"SELECT id FROM comparisons WHERE {side} IN (SELECT id FROM samples WHERE status = 'erased')"
        op.execute(f"UPDATE comparisons SET prompt_digest = id WHERE id IN ({pairs})")
        said = "reason IS NOT NULL OR ideal IS NOT NULL"
        op.execute(
            f"UPDATE vote_revisions SET reason = NULL, ideal = NULL WHERE ({said}) "
            f"AND vote_id IN (SELECT id FROM votes WHERE comparison_id IN ({pairs}))"
        )
        op.execute(f"UPDATE votes SET reason = NULL, ideal = NULL WHERE ({said}) AND comparison_id IN ({pairs})")


def downgrade() -> None:
    """What is gone stays gone."""
