"""Where the trace of a producer's call goes on, beside the order that it handed over.

The column may be empty, so that workers of the version before go on beside newer ones; what they book has no trace.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no row is written anew for it."""
    op.add_column(
        "revision",
        sa.Column(
            "traceparent", sa.Text(), comment="where the trace of the producer's call goes on; none: it has none"
        ),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("revision", "traceparent")
