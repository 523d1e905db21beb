"""Keys that end and have limits of their own; what each key used, by day; replies by the id of their request"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("expires_at", sa.Double(), nullable=True))
    op.add_column("keys", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("keys", sa.Column("tokens_per_minute", sa.Integer(), nullable=True))
    op.add_column("samples", sa.Column("prompt_tokens", sa.Integer(), nullable=True))
    op.add_column("samples", sa.Column("reply_tokens", sa.Integer(), nullable=True))
    op.create_index("ix_samples_used", "samples", ["created_at", "key_id", "prompt_tokens", "reply_tokens"])
    op.create_index("ix_samples_request_id", "samples", ["request_id"])


def downgrade() -> None:
    op.drop_index("ix_samples_request_id", table_name="samples")
    op.drop_index("ix_samples_used", table_name="samples")
    op.drop_column("samples", "reply_tokens")
    op.drop_column("samples", "prompt_tokens")
    op.drop_column("keys", "tokens_per_minute")
    op.drop_column("keys", "requests_per_minute")
    op.drop_column("keys", "expires_at")
