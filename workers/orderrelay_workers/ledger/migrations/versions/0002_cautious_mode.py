"""Cautious mode: the ledger counts its claims, knows its timeline, and says which orders were looked up since.

All columns are nullable or have a default, so that workers of the version before go on beside newer ones.
"""

import sqlalchemy as sa
from alembic import op

from orderrelay_workers.ledger.schema import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("ledger", sa.Column("timeline", sa.Integer(), comment="PostgreSQL's, when last used"))
    op.add_column("ledger", sa.Column("cautious_since", UtcDateTime()))
    op.add_column("ledger", sa.Column("cautious_reason", sa.Text()))
    op.add_column("ledger", sa.Column("cautious_by", sa.Text()))
    op.add_column("job", sa.Column("cleared_at", UtcDateTime(), comment="when look-ups last proved it absent"))
    op.add_column(
        "worker",
        sa.Column("claims", sa.BigInteger(), nullable=False, server_default="0", comment="made since its start"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_column("worker", "claims")
    op.drop_column("job", "cleared_at")
    for name in ("cautious_by", "cautious_reason", "cautious_since", "timeline"):
        op.drop_column("ledger", name)
