"""Datasets can be written again: the label and weight with which each vote was learnt from"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ("label", "rewrite_label", "weight")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("dataset_votes", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("dataset_votes", name)
