"""Where a pair stood in the list that was handed out; the newest samples of a prompt by an index"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("handouts", sa.Column("votes_counted", sa.Integer(), nullable=True))
    op.add_column("handouts", sa.Column("disagreement", sa.Double(), nullable=True))
    with op.batch_alter_table("samples", schema=None) as batch_op:
        batch_op.create_index("ix_samples_prompt_digest_id", ["prompt_digest", "id"], unique=False)
        batch_op.drop_index("ix_samples_prompt_digest")


def downgrade() -> None:
    with op.batch_alter_table("samples", schema=None) as batch_op:
        batch_op.create_index("ix_samples_prompt_digest", ["prompt_digest"], unique=False)
        batch_op.drop_index("ix_samples_prompt_digest_id")
    op.drop_column("handouts", "disagreement")
    op.drop_column("handouts", "votes_counted")
