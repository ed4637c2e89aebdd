"""The tables. Bodies and answers are bytes; text is stored without U+0000; instants are UTC by the shared clock."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from orderrelay_shared.states import JobState

#: The length of an instant's text on SQLite: `2026-01-30 08:15:00.000000`.
_WITHOUT_OFFSET: Final = 26


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An instant: `timestamptz` on PostgreSQL, sortable text on SQLite. Aware and UTC in Python.

    Every row has several, so the text is made and read here: SQLAlchemy's own way costs five times as much.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        """Python to database."""
        return _text_of_instant if dialect.name == "sqlite" else _in_utc

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002  the base's signature
        """Database to Python."""
        return _instant_of_text if dialect.name == "sqlite" else _in_utc


def _in_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _text_of_instant(value: datetime | None) -> str | None:
    if value is None:
        return None
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return utc.isoformat(" ", "microseconds")[:_WITHOUT_OFFSET]


def _instant_of_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


class ExactDecimal(sa.TypeDecorator[Decimal]):
    """A decimal that loses nothing: `numeric` on PostgreSQL, text on SQLite, whose own numbers are floats."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The type behind it."""
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else sa.Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> Decimal | str | None:
        """Python to database."""
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> Decimal | None:  # noqa: ARG002  the base's signature
        """Database to Python."""
        return None if value is None else Decimal(value)


#: An integer that counts up by itself; SQLite does that only for its own INTEGER.
BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True, comment="says which ledger this is; made at random, once"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("timeline", sa.Integer, comment="PostgreSQL's, when last used"),
    sa.Column("cautious_since", UtcDateTime),
    sa.Column("cautious_reason", sa.Text),
    sa.Column("cautious_by", sa.Text),
)

company = sa.Table(
    "company",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("alias", sa.Text, nullable=False, unique=True),
    sa.Column("key_digest", sa.LargeBinary, unique=True, comment="of the company key the alias is bound to"),
    sa.Column("credentials_digest", sa.LargeBinary, comment="of all its secrets, to notice that they changed"),
    sa.Column("rate_per_second", sa.Float, nullable=False),
    sa.Column("burst", sa.Integer, nullable=False),
    sa.Column("max_in_flight", sa.Integer, nullable=False),
    sa.Column("paused_reason", sa.Text),
    sa.Column("paused_by", sa.Text),
    sa.Column("paused_at", UtcDateTime),
    sa.Column("control_at", UtcDateTime, comment="when the look-up last found an order known to be created"),
    sa.Column("control_digest", sa.LargeBinary, comment="of the look-up's settings at that time"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("set_rate_per_second", sa.Float, comment="a person's, in place of the settings'; none: not set"),
    sa.Column("set_burst", sa.Integer),
    sa.Column("set_max_in_flight", sa.Integer),
    sa.Column("set_by", sa.Text),
    sa.Column("set_at", UtcDateTime),
    sa.Column("learn_rate_from", sa.Float, comment="the floor of a rate that is learned; none: it is not"),
    sa.Column("retry_share", sa.Float, nullable=False, server_default="0.2"),
    sa.Column("lookup_weight", sa.Float, nullable=False, server_default="1"),
    sa.Column("login_weight", sa.Float, nullable=False, server_default="1"),
    sa.Column("time_zone", sa.Text, nullable=False, server_default="UTC"),
    sa.Column("closed_hours", sa.Text, nullable=False, server_default=""),
    sa.Column("maintenance", sa.Text, nullable=False, server_default=""),
)

order_key = sa.Table(
    "order_key",
    metadata,
    sa.Column("company_id", sa.Integer, sa.ForeignKey("company.id"), primary_key=True),
    sa.Column("external_id_digest", sa.LargeBinary, primary_key=True),
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("content_digest", sa.LargeBinary, nullable=False),
    comment="the idempotency keys: never partitioned, dropped or forgotten",
    sqlite_with_rowid=False,
)

job = sa.Table(
    "job",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("company_id", sa.Integer, sa.ForeignKey("company.id"), nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False, comment="the live revision's number"),
    sa.Column("body_version", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False, comment="when the job came into this state"),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("accepted_at", UtcDateTime, nullable=False),
    sa.Column("booked_at", UtcDateTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, comment="spent: requests that may have created the order"),
    sa.Column("requests", sa.Integer, nullable=False, comment="all order requests that began to leave"),
    sa.Column("token", sa.Uuid, comment="fencing token of the claim whose request is or was out"),
    sa.Column("owner", sa.Uuid, comment="boot id of the worker that holds the claim"),
    sa.Column("claimed_at", UtcDateTime),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("if_absent", sa.Text, comment="where an unknown job goes when it proves absent"),
    sa.Column("absent_at", UtcDateTime, comment="when a look-up first found nothing"),
    sa.Column("lookups", sa.Integer, nullable=False, comment="look-ups since the job became unknown"),
    sa.Column("lookup_failing_since", UtcDateTime),
    sa.Column("vendor_id", sa.BigInteger),
    sa.Column("order_number", sa.Text),
    sa.Column("reference", sa.Text),
    sa.Column("error_number", sa.Integer),
    sa.Column("reason", sa.Text),
    sa.Column("cleared_at", UtcDateTime, comment="when look-ups last proved it absent"),
    sa.Column(
        "lane",
        sa.SmallInteger,
        nullable=False,
        server_default="2",
        comment="twice the priority (0 urgent, 1 normal, 2 bulk), and 1 more once a request has left",
    ),
    sa.Column("not_before", UtcDateTime, comment="the producer's due_at; never sent before it"),
    sa.Column("deadline", UtcDateTime, comment="never sent after it"),
    sa.Column("deadline_warned_at", UtcDateTime, comment="when it was told that the deadline is at risk"),
    sa.CheckConstraint(sa.column("state").in_([str(s) for s in JobState]), name="state"),
    sa.CheckConstraint("state <> 'in_progress' OR token IS NOT NULL", name="claimed"),
)
_is = {state: job.c.state == sa.literal_column(f"'{state}'") for state in JobState}
_has_deadline = sa.and_(_is[JobState.WAITING], job.c.deadline.isnot(None))
sa.Index("ix_job_waiting", job.c.company_id, job.c.lane, job.c.due_at, postgresql_where=_is[JobState.WAITING],
         sqlite_where=_is[JobState.WAITING])  # fmt: skip
sa.Index("ix_job_deadline", job.c.company_id, job.c.deadline, postgresql_where=_has_deadline,
         sqlite_where=_has_deadline)  # fmt: skip
sa.Index("ix_job_in_progress", job.c.owner, postgresql_where=_is[JobState.IN_PROGRESS],
         sqlite_where=_is[JobState.IN_PROGRESS])  # fmt: skip
sa.Index("ix_job_unknown", job.c.company_id, job.c.due_at, postgresql_where=_is[JobState.UNKNOWN],
         sqlite_where=_is[JobState.UNKNOWN])  # fmt: skip
sa.Index("ix_job_parked", job.c.company_id, job.c.since, postgresql_where=_is[JobState.PARKED],
         sqlite_where=_is[JobState.PARKED])  # fmt: skip
#: States in which jobs have ended short of success, few of all, listed by the time of booking. Not those that have an
#: index of their own: PostgreSQL would take this one for look-ups that are due, and so read all that are not.
STOPPED: Final = (JobState.CANCELLED, JobState.REJECTED)
IS_STOPPED: Final = job.c.state.in_([sa.literal_column(f"'{state}'") for state in STOPPED])
sa.Index("ix_job_stopped", job.c.state, job.c.booked_at, job.c.id, postgresql_where=IS_STOPPED,
         sqlite_where=IS_STOPPED)  # fmt: skip
# For the audit's lists and for who asks by order number; without them each such question reads all jobs.
sa.Index("ix_job_booked_at", job.c.booked_at, job.c.id)
sa.Index("ix_job_order_number", job.c.order_number, postgresql_where=job.c.order_number.isnot(None),
         sqlite_where=job.c.order_number.isnot(None))  # fmt: skip
sa.Index("uq_job_vendor_id", job.c.company_id, job.c.vendor_id, unique=True,
         postgresql_where=job.c.vendor_id.isnot(None), sqlite_where=job.c.vendor_id.isnot(None))  # fmt: skip

revision = sa.Table(
    "revision",
    metadata,
    sa.Column("job_id", sa.Uuid, sa.ForeignKey("job.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False, comment="the order as one JSON object, as accepted"),
    sa.Column("body_digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the body"),
    sa.Column("content_digest", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # Here and not in `job`, whose rows are written anew with every change of state.
    sa.Column("traceparent", sa.Text, comment="where the trace of the producer's call goes on; none: it has none"),
    comment="append-only",
)

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("company_id", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="order or lookup"),
    sa.Column("token", sa.Uuid, nullable=False, comment="the claim's; one request at most goes out under it"),
    sa.Column("number", sa.Integer, nullable=False, comment="counts the job's requests of this kind from 1"),
    sa.Column("body_digest", sa.LargeBinary, comment="SHA-256 of the body that was sent"),
    sa.Column("worker", sa.Uuid, nullable=False),
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime, comment="none: the worker died or froze before it could tell"),
    sa.Column("sent", sa.Boolean, comment="whether any byte left; none: not known"),
    sa.Column("http_status", sa.Integer),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("content_type", sa.Text),
    sa.Column("answer", sa.LargeBinary, comment="the answer's body, verbatim"),
    sa.Column("answer_complete", sa.Boolean),
    sa.Column("stored_at", UtcDateTime, comment="when the results task took it; none: not yet"),
    sa.UniqueConstraint("job_id", "token", "kind"),
)
_created = sa.and_(
    attempt.c.outcome == sa.literal_column("'created'"), attempt.c.kind == sa.literal_column("'order'")
)  # fmt: skip
sa.Index("ix_attempt_created", attempt.c.company_id, attempt.c.id, postgresql_where=_created, sqlite_where=_created)
sa.Index("ix_attempt_unstored", attempt.c.id, postgresql_where=attempt.c.stored_at.is_(None),
         sqlite_where=attempt.c.stored_at.is_(None))  # fmt: skip

# Found by job through its attempts: an index by job would cost a random page for each order.
operation_result = sa.Table(
    "operation_result",
    metadata,
    sa.Column("attempt_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("company_id", sa.Integer, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("success", sa.Boolean, nullable=False),
    sa.Column("success_number", sa.BigInteger),
    sa.Column("error_number", sa.BigInteger),
    sa.Column("error_message", sa.Text),
    sa.Column("info_message", sa.Text),
    sa.Column("can_user_override", sa.Boolean),
    sa.Column("integer_value", sa.BigInteger),
    sa.Column("integer_value2", sa.BigInteger),
    sa.Column("decimal_value", ExactDecimal),
    sa.Column("string_value", sa.Text),
    sa.Column("boolean_value", sa.Boolean),
    sa.Column("boolean_value2", sa.Boolean),
    sa.Column("date_time_value", sa.DateTime(timezone=False)),
    sa.Column("value", sa.Text, comment="JSON"),
    sa.Column("value2", sa.Text, comment="JSON"),
    sa.Column("dates", sa.Text, comment="JSON"),
    sa.Column("keys", sa.Text, comment="JSON"),
    sa.Column("strings", sa.Text, comment="JSON"),
    sa.Column("id_dict", sa.Text, comment="JSON"),
    sa.Column("int_dict", sa.Text, comment="JSON"),
    sa.Column("int_dict2", sa.Text, comment="JSON"),
    sa.Column("str_dict", sa.Text, comment="JSON"),
    sa.Column("str_dict2", sa.Text, comment="JSON"),
    sa.Column("str_int_list_dict", sa.Text, comment="JSON"),
    sa.Column("objects_affected", sa.BigInteger),
    sa.Column("stack_trace", sa.Text),
    sa.Column("exception", sa.Text),
    sa.Column("modified", sa.DateTime(timezone=False)),
    sa.Column("modified_by", sa.Text),
    sa.Column("unknown_properties", sa.Text, comment="JSON; what the vendor's document does not name"),
    comment="append-only: the vendor's answers, typed",
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("alarm", sa.Boolean, nullable=False),
    sa.Column("company_id", sa.Integer),
    sa.Column("job_id", sa.Uuid, index=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("detail", sa.LargeBinary, comment="JSON, or the raw bytes of what was set aside"),
    comment="append-only: who did what",
)
sa.Index("ix_event_alarm", event.c.id, postgresql_where=event.c.alarm, sqlite_where=event.c.alarm)

worker = sa.Table(
    "worker",
    metadata,
    sa.Column("boot_id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, comment="host and process"),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("beat_at", UtcDateTime, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="running, draining, stopped or dead"),
    sa.Column("claims", sa.BigInteger, nullable=False, server_default="0", comment="made since its start"),
)

# As `worker`, of which it takes over who ended long ago; whatever is read at every claim stays short so.
past_worker = sa.Table(
    "past_worker",
    metadata,
    sa.Column("boot_id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("beat_at", UtcDateTime, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    comment="workers that ended long ago, for their names",
)
