"""The transactional outbox: an order is enqueued in the service's own transaction, and leaves after its commit.

    with Session(engine) as session, session.begin():
        session.add(purchase)
        job = outbox.enqueue(session, order)
    outbox.send_now(job)

The row in `orderrelay_outbox` is committed or rolled back with the service's own data. `orderrelay outbox relay` hands
committed orders over to the workers; `send_now` does so at once. Either may repeat itself: each order has its
ExternalId before it is stored, so the ledger books it once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from orderrelay_producers.errors import UnknownCompany
from orderrelay_producers.job import Job
from orderrelay_producers.outbox_callers import caller
from orderrelay_producers.outbox_table import layout
from orderrelay_producers.producer import OrderProducer
from orderrelay_producers.ready import make_ready
from orderrelay_producers.steps import seconds_of
from orderrelay_producers.terms import Terms
from orderrelay_shared import ids
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from orderrelay_producers.outbox_relay import Relay
    from orderrelay_shared.orders import Order
    from orderrelay_shared.settings import ProducerSettings

__all__ = ["Outbox", "OutboxJob", "layout"]

_log = logging.getLogger(__name__)

#: After Redis did not answer, `send_now` leaves everything to the relay for so long, in seconds.
_AFTER_FAILURE_SECONDS: Final = 5.0

#: `send_now` waits so long for SQLite's write lock, in seconds: the caller's request is waiting.
_LOCK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class OutboxJob(Job):
    """The job of an order in an outbox. Until a relay has handed the order over, its `status()` is None.

    Attributes:
        row: The order's row in the table; it exists once the caller has committed.
    """

    row: int


class Outbox:
    """Stores orders in the caller's transaction. Thread-safe; construction does no I/O; usable after a fork.

    Args:
        redis_url: Address of Redis, for `send_now` and `Job.status`; default `ORDERRELAY_REDIS_URL`.
        settings: All settings; default: read from the environment.

    Raises:
        SettingsInvalid: A setting is wrong.
    """

    def __init__(self, redis_url: str | None = None, *, settings: ProducerSettings | None = None) -> None:
        # Settings take long to import, and many importers never make an outbox.
        from orderrelay_shared.settings import ProducerSettings, load  # noqa: PLC0415  see above

        settings = settings if settings is not None else load(ProducerSettings)
        if redis_url is not None:
            settings = settings.model_copy(update={"redis_url": redis_url})
        self._settings = settings
        self._producer = OrderProducer(settings=settings)
        self._lock = threading.Lock()
        self._relay: tuple[int, Relay] | None = None
        self._rests_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; they open again when needed."""
        with self._lock:
            self._drop_relay()
        self._producer.close()

    def enqueue(
        self,
        transaction: object,
        order: Order | Mapping[str, object],
        *,
        company: str = "default",
        due_at: datetime | None = None,
        deadline: datetime | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> OutboxJob:
        """Store one order in the caller's transaction; it is enqueued if and when that is committed.

        It commits nothing and opens no connection. An order without an ExternalId gets one, on the object itself.

        Args:
            transaction: Whose transaction the order belongs to: a `Session` or `Connection` of SQLAlchemy,
                `django.db.connection`, or a connection of psycopg or sqlite3; on PostgreSQL or SQLite.
            order: As of `OrderProducer.enqueue`, and so are those below.
            company: Alias of the company that the order belongs to.
            due_at: Do not send it before; a time with a zone.
            deadline: Do not send it after: it is parked then. A time with a zone, in the future and after `due_at`.
            priority: Whose turn it is first: "urgent", "normal" or "bulk".

        Returns:
            The job that it will be.

        Raises:
            OrderInvalid: The order breaks the rules. Nothing was sent to the database, and the transaction can go on.
            UnknownCompany: That is no company alias. Whether workers serve it, the relay finds out.
            TypeError: `transaction` is nothing that an order can be stored with; the text says what is.
            RuntimeError: It is in autocommit mode, and no transaction is open.
            ValueError: `due_at`, `deadline` or `priority` is none; the text says what is wrong.
            Exception: What the database's driver raises, with a note if the table is missing.
        """
        terms = Terms(priority, due_at, deadline)
        try:
            alias = ids.normalise_company(company)
        except ValueError as error:
            raise UnknownCompany(company, str(error)) from error
        envelope = make_ready(0, order, alias, terms, self._settings.external_id_max_length).envelope
        row = caller(transaction).store(envelope)
        return OutboxJob(envelope.job_id, envelope.external_id, alias, self._producer, row)

    def send_now(self, *jobs: OutboxJob, timeout: float = 1.0) -> int:
        """Hand orders over at once that the caller has just committed, in place of waiting for the relay.

        It needs `ORDERRELAY_OUTBOX_URL`, and has one connection of its own to that database for all threads. It raises
        nothing that Redis or the database does, as the data is committed: whatever is not sent now the relay sends.
        An order whose transaction is not committed is not sent.

        Args:
            jobs: What `enqueue` has returned.
            timeout: Seconds that Redis may take.

        Returns:
            How many are in the intake now by this call; the relay may have been faster.

        Raises:
            SettingsInvalid: `ORDERRELAY_OUTBOX_URL` is missing.
            TypeError: That is no job of an outbox.
            ValueError: That is no timeout.
            ModuleNotFoundError: It is on PostgreSQL, and psycopg is not installed.
        """
        from orderrelay_producers.outbox_store import OutboxUnusable  # noqa: PLC0415  many never send

        timeout = seconds_of(timeout)
        for job in jobs:
            if not isinstance(job, OutboxJob):  # pyright: ignore[reportUnnecessaryIsInstance]
                kind = type(job).__name__
                raise TypeError(
                    f"send_now takes jobs that Outbox.enqueue has returned, as send_now(*jobs), not a {kind}"
                )
        if time.monotonic() < self._rests_until or not jobs:
            return 0
        with self._lock:
            try:
                done = self._own_relay().once(ids=[job.row for job in jobs], timeout=timeout)
            except OutboxUnusable as error:  # which SQLite also is while somebody else writes
                _log.warning("the outbox's orders are left to the relay: %s", error)
                return 0
        if done.away is not None:
            self._rests_until = time.monotonic() + _AFTER_FAILURE_SECONDS
            _log.warning("the outbox's orders are left to the relay: %s", done.away)
        return done.taken

    def _own_relay(self) -> Relay:
        if self._relay is not None and self._relay[0] != os.getpid():
            self._relay = None  # It is the parent's; using or closing it here would disturb that.
        if self._relay is None:
            from orderrelay_producers.outbox_relay import Relay  # noqa: PLC0415  as above
            from orderrelay_producers.outbox_store import open_store  # noqa: PLC0415

            store = open_store(self._settings.outbox_url, lock_seconds=_LOCK_SECONDS)
            self._relay = os.getpid(), Relay(store, self._settings, say=_log.warning)
        return self._relay[1]

    def _drop_relay(self) -> None:
        if self._relay is not None and self._relay[0] == os.getpid():
            with contextlib.suppress(Exception):  # It is given up either way.
                self._relay[1].close()
        self._relay = None
