"""Which chats an iteration had the policy rehearse, for whoever asks that theirs be erased"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rehearsed_samples",
        sa.Column("iteration_id", sa.String(), nullable=False),
        sa.Column("sample_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["iteration_id"], ["iterations.id"], name=op.f("fk_rehearsed_samples_iteration_id")),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_rehearsed_samples_sample_id")),
        sa.PrimaryKeyConstraint("iteration_id", "sample_id", name=op.f("pk_rehearsed_samples")),
    )
    with op.batch_alter_table("rehearsed_samples", schema=None) as batch_op:
        batch_op.create_index("ix_rehearsed_samples_sample_id", ["sample_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("rehearsed_samples", schema=None) as batch_op:
        batch_op.drop_index("ix_rehearsed_samples_sample_id")
    op.drop_table("rehearsed_samples")
