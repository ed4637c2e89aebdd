"""What grew with the number of old rows: an index that nobody needs, lists, and a table that is read at every claim.

Operation results are found through their attempts, whose index by job serves both. The index that goes had a random
place for each order: in a large table nearly every order cost one more page to read and to write. The version before
finds the same without it, only slower when somebody looks at one order. It knows nothing of retired workers: it tells
their boot ids in place of their names.
"""

import sqlalchemy as sa
from alembic import op

from orderrelay_workers.ledger.schema import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


_STOPPED = sa.text("state IN ('cancelled', 'rejected')")


def upgrade() -> None:
    """Make an index for lists of orders that have stopped, and the table; drop the other index."""
    op.create_index(
        "ix_job_stopped",
        "job",
        ["state", "booked_at", "id"],
        unique=False,
        postgresql_where=_STOPPED,
        sqlite_where=_STOPPED,
    )
    op.create_table(
        "past_worker",
        sa.Column("boot_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("beat_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_past_worker")),
        comment="workers that ended long ago, for their names",
    )
    # Last, as nobody can read the table from here to the commit, and making the other index may take long.
    op.drop_index("ix_operation_result_job_id", "operation_result")


def downgrade() -> None:
    """Make the index again; names of retired workers are lost, and their claims stay counted."""
    op.drop_table("past_worker")
    op.drop_index("ix_job_stopped", "job")
    op.create_index("ix_operation_result_job_id", "operation_result", ["job_id"], unique=False)
