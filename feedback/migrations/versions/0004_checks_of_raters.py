"""Raters are checked: known answers in a table of their own, votes that check, counts by rater and by cluster"""

import zlib
from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CLUSTERS = 64
APART = sa.text("state IN ('quarantined', 'retracted')")


def upgrade() -> None:
    _known_answers_up()
    op.drop_index(op.f("ix_comparisons_repeat_of"), table_name="comparisons")
    op.add_column("comparisons", sa.Column("is_open", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.execute("UPDATE comparisons SET is_open = false WHERE repeat_of IS NOT NULL")
    op.execute(
        "UPDATE comparisons SET is_open = false WHERE "
        "EXISTS (SELECT 1 FROM samples WHERE samples.id = sample_0 AND samples.status = 'erased') OR "
        "EXISTS (SELECT 1 FROM samples WHERE samples.id = sample_1 AND samples.status = 'erased')"
    )
    # Of several repeats of one pair, which nothing made so far but a caller of the store, the first one stays one.
    op.execute(
        "UPDATE comparisons SET repeat_of = NULL WHERE repeat_of IS NOT NULL AND EXISTS "
        "(SELECT 1 FROM comparisons AS other "
        "WHERE other.repeat_of = comparisons.repeat_of AND other.id < comparisons.id)"
    )
    op.create_index(op.f("ix_comparisons_repeat_of"), "comparisons", ["repeat_of"], unique=True)
    op.add_column("votes", sa.Column("is_check", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("ix_votes_rater_id", table_name="votes")
    op.create_index("ix_votes_rater_id_id", "votes", ["rater_id", "id"])
    op.drop_index("ix_votes_apart", table_name="votes")
    op.create_index("ix_votes_apart", "votes", ["state", "rater_id"], sqlite_where=APART, postgresql_where=APART)
    op.add_column("raters", sa.Column("votes_counted", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE raters SET votes_counted = "
        "(SELECT count(*) FROM votes WHERE votes.rater_id = raters.id AND votes.state = 'counted')"
    )
    _tallies_up()


def downgrade() -> None:
    _tallies_down()
    op.drop_column("raters", "votes_counted")
    op.drop_index("ix_votes_apart", table_name="votes")
    op.create_index("ix_votes_apart", "votes", ["state"], sqlite_where=APART, postgresql_where=APART)
    op.drop_index("ix_votes_rater_id_id", table_name="votes")
    op.create_index("ix_votes_rater_id", "votes", ["rater_id"])
    op.drop_column("votes", "is_check")
    op.drop_column("comparisons", "is_open")
    op.drop_index(op.f("ix_comparisons_repeat_of"), table_name="comparisons")
    op.create_index(op.f("ix_comparisons_repeat_of"), "comparisons", ["repeat_of"])
    _known_answers_down()


def _known_answers_up() -> None:
    known = op.create_table(
        "known_answers",
        sa.Column("comparison_id", sa.String(), nullable=False),
        sa.Column("objective", sa.String(), nullable=False),
        sa.Column("preferred", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_known_answers_comparison_id")),
        sa.PrimaryKeyConstraint("comparison_id", "objective", name=op.f("pk_known_answers")),
    )
    comparisons = sa.table("comparisons", sa.column("id"), sa.column("answers", sa.JSON), sa.column("created_at"))
    # A JSON column holds nothing in two ways.
    rows = op.get_bind().execute(
        sa.select(comparisons).where(sa.cast(comparisons.c.answers, sa.String).not_in(("null",)))
    )
    answers = [
        {"comparison_id": row.id, "objective": objective, "preferred": preferred, "created_at": row.created_at}
        for row in rows
        for objective, preferred in (row.answers or {}).items()
    ]
    if answers:
        op.bulk_insert(known, answers)
    op.drop_column("comparisons", "answers")


def _known_answers_down() -> None:
    op.add_column("comparisons", sa.Column("answers", sa.JSON(), nullable=True))
    comparisons = sa.table("comparisons", sa.column("id"), sa.column("answers", sa.JSON))
    by_comparison: dict[str, dict[str, str]] = {}
    for id_, objective, preferred in op.get_bind().execute(
        sa.text("SELECT comparison_id, objective, preferred FROM known_answers")
    ):
        by_comparison.setdefault(id_, {})[objective] = preferred
    for id_, answers in by_comparison.items():
        op.execute(comparisons.update().where(comparisons.c.id == id_).values(answers=answers))
    op.drop_table("known_answers")


def _tallies_up() -> None:
    # The counts are made anew from the votes: which cluster a vote falls into the old ones do not say.
    counts: Counter[tuple[str, int, int, str, int]] = Counter()
    for objective, version_0, version_1, preferred, rater_id, votes in op.get_bind().execute(
        sa.text(
            "SELECT objective, coalesce(version_0, -1), coalesce(version_1, -1), preferred, rater_id, count(*) "
            "FROM votes JOIN comparisons ON comparisons.id = comparison_id WHERE state = 'counted' "
            "GROUP BY objective, coalesce(version_0, -1), coalesce(version_1, -1), preferred, rater_id"
        )
    ):
        counts[objective, version_0, version_1, preferred, zlib.crc32(rater_id.encode()) % CLUSTERS] += votes
    op.drop_table("tallies")
    tallies = _tallies_table(clustered=True)
    if counts:
        op.bulk_insert(
            tallies,
            [
                {"objective": objective, "version_0": first, "version_1": second, "preferred": preferred,
                 "cluster": cluster, "votes": votes}
                for (objective, first, second, preferred, cluster), votes in sorted(counts.items())
            ],
        )  # fmt: skip


def _tallies_down() -> None:
    rows = op.get_bind().execute(
        sa.text(
            "SELECT objective, version_0, version_1, preferred, sum(votes) AS votes FROM tallies "
            "GROUP BY objective, version_0, version_1, preferred"
        )
    )
    sums = [dict(row) for row in rows.mappings()]
    op.drop_table("tallies")
    tallies = _tallies_table(clustered=False)
    if sums:
        op.bulk_insert(tallies, sums)


def _tallies_table(*, clustered: bool) -> sa.Table:
    key = ["objective", "version_0", "version_1", "preferred", *(["cluster"] if clustered else [])]
    return op.create_table(
        "tallies",
        sa.Column("objective", sa.String(), nullable=False),
        sa.Column("version_0", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version_1", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("preferred", sa.String(), nullable=False),
        *([sa.Column("cluster", sa.Integer(), autoincrement=False, nullable=False)] if clustered else []),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_tallies")),
    )
