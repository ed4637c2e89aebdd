"""The ledger's first layout."""

import sqlalchemy as sa
from alembic import op

from orderrelay_workers.ledger.schema import BigId, ExactDecimal, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "ledger",
        sa.Column("id", sa.Uuid(), nullable=False, comment="says which ledger this is; made at random, once"),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.create_table(
        "company",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(), nullable=True, comment="of the company key the alias is bound to"),
        sa.Column(
            "credentials_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="of all its secrets, to notice that they changed",
        ),
        sa.Column("rate_per_second", sa.Float(), nullable=False),
        sa.Column("burst", sa.Integer(), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("paused_at", UtcDateTime(), nullable=True),
        sa.Column(
            "control_at",
            UtcDateTime(),
            nullable=True,
            comment="when the look-up last found an order known to be created",
        ),
        sa.Column("control_digest", sa.LargeBinary(), nullable=True, comment="of the look-up's settings at that time"),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company")),
        sa.UniqueConstraint("alias", name=op.f("uq_company_alias")),
        sa.UniqueConstraint("key_digest", name=op.f("uq_company_key_digest")),
    )
    op.create_table(
        "order_key",
        sa.Column("company_id", sa.Integer(), nullable=False),
        sa.Column("external_id_digest", sa.LargeBinary(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("content_digest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_order_key_company_id")),
        sa.PrimaryKeyConstraint("company_id", "external_id_digest", name=op.f("pk_order_key")),
        comment="the idempotency keys: never partitioned, dropped or forgotten",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="the live revision's number"),
        sa.Column("body_version", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False, comment="when the job came into this state"),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("accepted_at", UtcDateTime(), nullable=False),
        sa.Column("booked_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="spent: requests that may have created the order"),
        sa.Column("requests", sa.Integer(), nullable=False, comment="all order requests that began to leave"),
        sa.Column("token", sa.Uuid(), nullable=True, comment="fencing token of the claim whose request is or was out"),
        sa.Column("owner", sa.Uuid(), nullable=True, comment="boot id of the worker that holds the claim"),
        sa.Column("claimed_at", UtcDateTime(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("if_absent", sa.Text(), nullable=True, comment="where an unknown job goes when it proves absent"),
        sa.Column("absent_at", UtcDateTime(), nullable=True, comment="when a look-up first found nothing"),
        sa.Column("lookups", sa.Integer(), nullable=False, comment="look-ups since the job became unknown"),
        sa.Column("lookup_failing_since", UtcDateTime(), nullable=True),
        sa.Column("vendor_id", sa.BigInteger(), nullable=True),
        sa.Column("order_number", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("error_number", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("state <> 'in_progress' OR token IS NOT NULL", name=op.f("ck_job_claimed")),
        sa.CheckConstraint(
            "state IN ('waiting', 'in_progress', 'succeeded', 'rejected', 'unknown', 'parked', 'cancelled')",
            name=op.f("ck_job_state"),
        ),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f("fk_job_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index("ix_job_booked_at", "job", ["booked_at", "id"], unique=False)
    op.create_index(
        "ix_job_order_number",
        "job",
        ["order_number"],
        unique=False,
        postgresql_where=sa.text("order_number IS NOT NULL"),
        sqlite_where=sa.text("order_number IS NOT NULL"),
    )
    op.create_index(
        "ix_job_in_progress",
        "job",
        ["owner"],
        unique=False,
        postgresql_where=sa.text("state = 'in_progress'"),
        sqlite_where=sa.text("state = 'in_progress'"),
    )
    op.create_index(
        "ix_job_parked",
        "job",
        ["company_id", "since"],
        unique=False,
        postgresql_where=sa.text("state = 'parked'"),
        sqlite_where=sa.text("state = 'parked'"),
    )
    op.create_index(
        "ix_job_unknown",
        "job",
        ["company_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'unknown'"),
        sqlite_where=sa.text("state = 'unknown'"),
    )
    op.create_index(
        "ix_job_waiting",
        "job",
        ["company_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
        sqlite_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "uq_job_vendor_id",
        "job",
        ["company_id", "vendor_id"],
        unique=True,
        postgresql_where=sa.text("vendor_id IS NOT NULL"),
        sqlite_where=sa.text("vendor_id IS NOT NULL"),
    )
    op.create_table(
        "revision",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="the order as one JSON object, as accepted"),
        sa.Column("body_digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the body"),
        sa.Column("content_digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_revision_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_revision")),
        comment="append-only",
    )
    op.create_table(
        "attempt",
        sa.Column("id", BigId, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="order or lookup"),
        sa.Column("token", sa.Uuid(), nullable=False, comment="the claim's; one request at most goes out under it"),
        sa.Column("number", sa.Integer(), nullable=False, comment="counts the job's requests of this kind from 1"),
        sa.Column("body_digest", sa.LargeBinary(), nullable=True, comment="SHA-256 of the body that was sent"),
        sa.Column("worker", sa.Uuid(), nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False),
        sa.Column(
            "ended_at", UtcDateTime(), nullable=True, comment="none: the worker died or froze before it could tell"
        ),
        sa.Column("sent", sa.Boolean(), nullable=True, comment="whether any byte left; none: not known"),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True, comment="the answer's body, verbatim"),
        sa.Column("answer_complete", sa.Boolean(), nullable=True),
        sa.Column("stored_at", UtcDateTime(), nullable=True, comment="when the results task took it; none: not yet"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("job_id", "token", "kind", name=op.f("uq_attempt_job_id_token_kind")),
    )
    op.create_index(
        "ix_attempt_created",
        "attempt",
        ["company_id", "id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'created' AND kind = 'order'"),
        sqlite_where=sa.text("outcome = 'created' AND kind = 'order'"),
    )
    op.create_index(
        "ix_attempt_unstored",
        "attempt",
        ["id"],
        unique=False,
        postgresql_where=sa.text("stored_at IS NULL"),
        sqlite_where=sa.text("stored_at IS NULL"),
    )
    op.create_table(
        "operation_result",
        sa.Column("attempt_id", BigId, autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("success_number", sa.BigInteger(), nullable=True),
        sa.Column("error_number", sa.BigInteger(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("info_message", sa.Text(), nullable=True),
        sa.Column("can_user_override", sa.Boolean(), nullable=True),
        sa.Column("integer_value", sa.BigInteger(), nullable=True),
        sa.Column("integer_value2", sa.BigInteger(), nullable=True),
        sa.Column("decimal_value", ExactDecimal(), nullable=True),
        sa.Column("string_value", sa.Text(), nullable=True),
        sa.Column("boolean_value", sa.Boolean(), nullable=True),
        sa.Column("boolean_value2", sa.Boolean(), nullable=True),
        sa.Column("date_time_value", sa.DateTime(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("value2", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("dates", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("keys", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("strings", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("id_dict", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("int_dict", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("int_dict2", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("str_dict", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("str_dict2", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("str_int_list_dict", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("objects_affected", sa.BigInteger(), nullable=True),
        sa.Column("stack_trace", sa.Text(), nullable=True),
        sa.Column("exception", sa.Text(), nullable=True),
        sa.Column("modified", sa.DateTime(), nullable=True),
        sa.Column("modified_by", sa.Text(), nullable=True),
        sa.Column(
            "unknown_properties", sa.Text(), nullable=True, comment="JSON; what the vendor's document does not name"
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_operation_result")),
        comment="append-only: the vendor's answers, typed",
    )
    op.create_index(op.f("ix_operation_result_job_id"), "operation_result", ["job_id"], unique=False)
    op.create_table(
        "event",
        sa.Column("id", BigId, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("alarm", sa.Boolean(), nullable=False),
        sa.Column("company_id", sa.Integer(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("detail", sa.LargeBinary(), nullable=True, comment="JSON, or the raw bytes of what was set aside"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        comment="append-only: who did what",
    )
    op.create_index(
        "ix_event_alarm",
        "event",
        ["id"],
        unique=False,
        postgresql_where=sa.text("alarm"),
        sqlite_where=sa.text("alarm"),
    )
    op.create_index(op.f("ix_event_job_id"), "event", ["job_id"], unique=False)
    op.create_table(
        "worker",
        sa.Column("boot_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="host and process"),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("beat_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="running, draining, stopped or dead"),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_worker")),
    )


def downgrade() -> None:
    """Drop all tables."""
    for table in (
        "worker",
        "event",
        "operation_result",
        "attempt",
        "revision",
        "job",
        "order_key",
        "company",
        "ledger",
    ):
        op.drop_table(table)
