"""From the intake stream into the ledger: read a batch, book it, and only when that is committed delete the entries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import structlog
from redis.exceptions import RedisError, ResponseError

from orderrelay_shared import keys, redis_connection
from orderrelay_shared.intake import Ask, EnvelopeUnreadable, read_entry
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.states import JobState
from orderrelay_workers import statuses
from orderrelay_workers.ledger import booking
from orderrelay_workers.ledger.booking import Accepted, Booked
from orderrelay_workers.ledger.engine import reading
from orderrelay_workers.ledger.rows import read_statuses

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from orderrelay_workers.runtime import Runtime

    Entry = tuple[bytes, dict[bytes, bytes] | None]

#: So many entries are booked in one transaction.
BATCH = 500

#: A read waits so long for the first entry, in milliseconds; less than the connection's own timeout.
_BLOCK_MS = 1000

#: Entries that another worker has read and not booked for so long are taken over, in milliseconds.
_TAKE_OVER_MS = 10_000
_LOOK_FOR_ABANDONED_SECONDS = 2.0

#: A reader of the group that has nothing pending and has not read for so long is forgotten, in milliseconds.
_FORGET_READER_MS = 3_600_000

_log = structlog.get_logger(__name__)


class Intake:
    """This worker's reader of the intake stream."""

    def __init__(self, worker: Runtime) -> None:
        self._worker = worker
        self._redis = redis_connection.connect(worker.settings.redis_url, client_name="orderrelay-intake")
        self._reader = worker.boot_id.hex
        self._own_pending = True
        self._looked_for_abandoned = 0.0

    def book_next(self) -> int:
        """Wait a second for entries, and book them.

        Returns:
            How many entries were booked or answered.

        Raises:
            redis.RedisError: Redis is away; what was read is read again.
            sqlalchemy.exc.SQLAlchemyError: The database is away; the entries stay in the stream.
        """
        try:
            entries = self._read()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._make_group()
            return 0
        except RedisError:  # the answer may have been lost on its way, and its entries be ours nevertheless
            self._own_pending = True
            raise
        if not entries:
            return 0
        self._own_pending = True  # until these are booked, they are ours and unbooked
        self._book(entries)
        self._own_pending = len(entries) >= BATCH and self._own_pending
        return len(entries)

    def _make_group(self) -> None:
        """Make the group from the stream's very beginning; after a wipe all that has come since is unread."""
        try:
            self._redis.xgroup_create(keys.INTAKE, keys.INTAKE_GROUP, id="0", mkstream=True)
            _log.info("intake_group_made")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _read(self) -> list[Entry]:
        if self._own_pending:  # read but not booked, as the database was away
            entries = self._read_group("0", block_ms=None)
            if entries:
                return entries
            self._own_pending = False
        if time.monotonic() - self._looked_for_abandoned > _LOOK_FOR_ABANDONED_SECONDS:
            self._looked_for_abandoned = time.monotonic()
            entries = self._take_over()
            if entries:
                return entries
        return self._read_group(">", block_ms=_BLOCK_MS)

    def _read_group(self, position: str, block_ms: int | None) -> list[Entry]:
        found = self._redis.xreadgroup(
            keys.INTAKE_GROUP, self._reader, {keys.INTAKE: position}, count=BATCH, block=block_ms
        )
        return _entries(found)

    def _take_over(self) -> list[Entry]:
        answer = cast(
            "Sequence[object]",
            self._redis.xautoclaim(keys.INTAKE, keys.INTAKE_GROUP, self._reader, _TAKE_OVER_MS, "0-0", count=BATCH),
        )
        entries = cast("list[Entry]", answer[1])
        if entries:
            _log.info("intake_entries_taken_over", entries=len(entries))
        self._forget_old_readers()
        return entries

    def _forget_old_readers(self) -> None:
        readers = cast("Iterable[dict[str, object]]", self._redis.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP))
        for reader in readers:
            idle, pending = cast("int", reader["idle"]), reader["pending"]
            if pending == 0 and idle > _FORGET_READER_MS:
                name = cast("bytes", reader["name"]).decode()
                if self._redis.xgroup_delconsumer(keys.INTAKE, keys.INTAKE_GROUP, name):
                    # It woke up and read in between. What it had pending is read again; booking is idempotent.
                    self._redis.xgroup_setid(keys.INTAKE, keys.INTAKE_GROUP, "0")

    def _book(self, entries: Sequence[Entry]) -> None:
        accepted: list[Accepted] = []
        asked: list[uuid.UUID] = []
        unreadable: list[tuple[str, dict[bytes, bytes], str]] = []
        for raw_id, fields in entries:
            if fields is None:  # deleted meanwhile by a worker that had booked it
                continue
            entry_id = raw_id.decode()
            try:
                entry = read_entry(fields)
            except EnvelopeUnreadable as error:
                unreadable.append((entry_id, fields, str(error)))
                continue
            if isinstance(entry, Ask):
                asked.append(entry.job_id)
            else:
                accepted.append(Accepted(entry_id, entry))
        booked = booking.book(self._worker.engine, accepted, actor=self._worker.actor)
        for entry_id, fields, reason in unreadable:  # last, as booking again changes nothing, but this is told twice
            self._set_aside(entry_id, fields, reason)
        self._delete([raw_id for raw_id, _ in entries])
        self._tell(booked, asked)

    def _set_aside(self, entry_id: str, fields: dict[bytes, bytes], reason: str) -> None:
        named: dict[str, bytes | str] = {name.decode("utf-8", "backslashreplace"): v for name, v in fields.items()}
        booking.set_aside(self._worker.engine, entry_id, named, reason, actor=self._worker.actor)
        _log.error("intake_entry_set_aside", entry=entry_id, reason=reason)

    def _delete(self, entry_ids: list[bytes]) -> None:
        """Only now, when all of it is committed, the entries go; both commands or neither."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xack(keys.INTAKE, keys.INTAKE_GROUP, *entry_ids)
        pipeline.xdel(keys.INTAKE, *entry_ids)
        pipeline.execute()

    def _tell(self, booked: list[Booked], asked: list[uuid.UUID]) -> None:
        worker = self._worker
        told = {b.job_id: _waiting(b) for b in booked if b.result == "new"}
        others = {b.job_id for b in booked if b.result in ("already", "conflict")} | set(asked)
        if others:
            with reading(worker.engine) as connection:
                told |= read_statuses(connection, others)
        statuses.publish(self._redis, told)
        statuses.publish_unheard_of(self._redis, [job_id for job_id in asked if job_id not in told])
        if booked:
            results = [b.result for b in booked]
            _log.info("booked", **{result: results.count(result) for result in sorted(set(results))})
        for conflict in (b for b in booked if b.result == "conflict"):
            _log.warning(
                "order_conflict",
                job=str(conflict.job_id),
                company=conflict.accepted.envelope.company,
                external_id=conflict.accepted.envelope.external_id,
            )
        for company in {b.accepted.envelope.company for b in booked if b.result == "new"}:
            serves = company in worker.companies and not worker.draining.is_set()
            if serves and not worker.submitting.ask(company):
                worker.hints.orders(company)

    def close(self) -> None:
        """Close the connection."""
        try:
            self._redis.close()
        except RedisError as error:
            _log.debug("intake_close_failed", error=type(error).__name__)


def _entries(answer: object) -> list[Entry]:
    """The entries of one stream in an XREADGROUP answer, which RESP2 gives as a list and RESP3 as a dictionary."""
    if not answer:
        return []
    if isinstance(answer, dict):
        batches = cast("dict[bytes, list[list[Entry]]]", answer)[keys.INTAKE.encode()]
        return [entry for batch in batches for entry in batch]
    return cast("list[tuple[bytes, list[Entry]]]", answer)[0][1]


def _waiting(booked: Booked) -> JobStatus:
    envelope = booked.accepted.envelope
    return JobStatus(JobState.WAITING, envelope.company, envelope.external_id, booked.accepted.accepted_at)
