"""The votes between two versions are found by the pairs of these, not among all votes"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_comparisons_version_0_version_1", "comparisons", ["version_0", "version_1"])


def downgrade() -> None:
    op.drop_index("ix_comparisons_version_0_version_1", table_name="comparisons")
