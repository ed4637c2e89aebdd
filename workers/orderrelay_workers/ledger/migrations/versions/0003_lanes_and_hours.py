"""Lanes, deadlines and hours: in which order jobs are sent and until when; what people and settings say of a pace.

All columns are nullable or have a default, so that workers of the version before go on beside newer ones. They know no
lanes: they claim whatever has been due for longest, through the due time, which is never before `not_before`.
"""

import sqlalchemy as sa
from alembic import op

from orderrelay_workers.ledger.schema import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WAITING = sa.text("state = 'waiting'")
_DEADLINE = sa.text("state = 'waiting' AND deadline IS NOT NULL")


def upgrade() -> None:
    """Add the columns, and index what waits by lane."""
    op.add_column(
        "job",
        sa.Column(
            "lane",
            sa.SmallInteger(),
            nullable=False,
            server_default="2",
            comment="twice the priority (0 urgent, 1 normal, 2 bulk), and 1 more once a request has left",
        ),
    )
    op.add_column("job", sa.Column("not_before", UtcDateTime(), comment="the producer's due_at; never sent before it"))
    op.add_column("job", sa.Column("deadline", UtcDateTime(), comment="never sent after it"))
    op.add_column(
        "job",
        sa.Column("deadline_warned_at", UtcDateTime(), comment="when it was told that the deadline is at risk"),
    )
    op.add_column(
        "company",
        sa.Column("set_rate_per_second", sa.Float(), comment="a person's, in place of the settings'; none: not set"),
    )
    op.add_column("company", sa.Column("set_burst", sa.Integer()))
    op.add_column("company", sa.Column("set_max_in_flight", sa.Integer()))
    op.add_column("company", sa.Column("set_by", sa.Text()))
    op.add_column("company", sa.Column("set_at", UtcDateTime()))
    op.add_column(
        "company",
        sa.Column("learn_rate_from", sa.Float(), comment="the floor of a rate that is learned; none: it is not"),
    )
    op.add_column("company", sa.Column("retry_share", sa.Float(), nullable=False, server_default="0.2"))
    op.add_column("company", sa.Column("lookup_weight", sa.Float(), nullable=False, server_default="1"))
    op.add_column("company", sa.Column("login_weight", sa.Float(), nullable=False, server_default="1"))
    op.add_column("company", sa.Column("time_zone", sa.Text(), nullable=False, server_default="UTC"))
    op.add_column("company", sa.Column("closed_hours", sa.Text(), nullable=False, server_default=""))
    op.add_column("company", sa.Column("maintenance", sa.Text(), nullable=False, server_default=""))
    # What was sent before and waits again is in the lane of such jobs.
    op.execute("UPDATE job SET lane = 3 WHERE state = 'waiting' AND requests > 0")
    op.drop_index("ix_job_waiting", "job")
    op.create_index(
        "ix_job_waiting",
        "job",
        ["company_id", "lane", "due_at"],
        unique=False,
        postgresql_where=_WAITING,
        sqlite_where=_WAITING,
    )
    op.create_index(
        "ix_job_deadline",
        "job",
        ["company_id", "deadline"],
        unique=False,
        postgresql_where=_DEADLINE,
        sqlite_where=_DEADLINE,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_job_deadline", "job")
    op.drop_index("ix_job_waiting", "job")
    for name in (
        "maintenance",
        "closed_hours",
        "time_zone",
        "login_weight",
        "lookup_weight",
        "retry_share",
        "learn_rate_from",
        "set_at",
        "set_by",
        "set_max_in_flight",
        "set_burst",
        "set_rate_per_second",
    ):
        op.drop_column("company", name)
    for name in ("deadline_warned_at", "deadline", "not_before", "lane"):
        op.drop_column("job", name)
    op.create_index(
        "ix_job_waiting",
        "job",
        ["company_id", "due_at"],
        unique=False,
        postgresql_where=_WAITING,
        sqlite_where=_WAITING,
    )
