"""From the intake stream into the ledger: read a batch, book it, and only when that is committed delete the entries."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

import structlog
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_shared import keys, redis_connection
from orderrelay_shared.intake import Ask, Cancel, EnvelopeNewer, EnvelopeUnreadable, can_read, read_entry
from orderrelay_workers import hints, metrics
from orderrelay_workers.ledger import booking, cancelling, caution
from orderrelay_workers.ledger.booking import Accepted, Booked
from orderrelay_workers.ledger.cancelling import Asked
from orderrelay_workers.sidecar import telling

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from orderrelay_workers.runtime import Runtime

    Entry = tuple[bytes, dict[bytes, bytes] | None]

#: So many entries are booked in one transaction at most, and so many bytes of them, about.
BATCH = 2000
_BATCH_BYTES = 8_000_000

#: So many are read while there is no backlog, and nobody knows how large they are.
_FIRST_BATCH = 250

#: So many entries are deleted in one call at most: Redis does nothing else meanwhile.
_DELETE_TOGETHER = 250

#: A read waits so long for the first entry, in milliseconds; less than the connection's own timeout.
_BLOCK_MS = 1000

#: Entries that another worker has read and not booked for so long are taken over, in milliseconds.
_TAKE_OVER_MS = 10_000
_LOOK_FOR_ABANDONED_SECONDS = 2.0

#: Entries that an older worker could not read are taken over after so long, in milliseconds.
_LEAVING_MS = 200

#: A reader of the group that has nothing pending and has not read for so long is forgotten, in milliseconds.
_FORGET_READER_MS = 3_600_000

#: Whose the requests to cancel are whose order is not booked yet; and those that an older worker could not read.
_CANCELS = f"{keys.INTAKE_NEWER_READER}{Cancel.NEEDS}"

_log = structlog.get_logger(__name__)


class Intake:
    """This worker's reader of the intake stream."""

    def __init__(self, worker: Runtime) -> None:
        self._worker = worker
        self._redis = redis_connection.connect(
            worker.settings.redis_url, timeout_seconds=hints.TIMEOUT_SECONDS, client_name="orderrelay-intake"
        )
        folder = resources.files("orderrelay_workers.sidecar")
        self._scripts = {
            name: self._redis.register_script((folder / f"{name}.lua").read_text())
            for name in ("delete", "forget_reader")
        }
        self._reader = worker.boot_id.hex
        self._own_pending = True
        self._count = min(BATCH, _FIRST_BATCH)
        self._looked_for_abandoned = float("-inf")
        # While there is a backlog, entries of one batch are deleted and told of here while the next is read and booked.
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="intake-clearing")
        self._clearing: Future[None] | None = None

    def book_next(self) -> int:
        """Wait a second for entries, and book them.

        Returns:
            How many entries were booked or answered.

        Raises:
            redis.RedisError: Redis is away; what was read is read again.
            sqlalchemy.exc.SQLAlchemyError: The database is away; the entries stay in the stream.
        """
        if self._own_pending:  # else entries that are about to go would be read again
            self._await_clearing()
        try:
            entries, may_have_more = self._read()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._make_group()
            return 0
        except RedisError:  # the answer may have been lost on its way, and its entries be ours nevertheless
            self._own_pending = True
            raise
        if not entries:
            self._await_clearing()
            return 0
        self._own_pending = True  # until these are booked, they are ours and unbooked
        self._book(entries)
        self._own_pending = may_have_more
        self._count = _count_for(entries)
        return len(entries)

    def _make_group(self) -> None:
        """Make the group from the stream's very beginning; after a wipe all that has come since is unread."""
        try:
            self._redis.xgroup_create(keys.INTAKE, keys.INTAKE_GROUP, id="0", mkstream=True)
            _log.info("intake_group_made")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _read(self) -> tuple[list[Entry], bool]:
        """Entries to be booked, and whether this reader may have more that it has read before."""
        if self._own_pending:  # read but not booked, as the database was away
            entries, may_have_more = self._read_own()
            if entries:
                return entries, may_have_more
            self._own_pending = False
        if time.monotonic() - self._looked_for_abandoned > _LOOK_FOR_ABANDONED_SECONDS:
            self._looked_for_abandoned = time.monotonic()
            if self._take_over():
                return self._read_own()
        return self._read_group(">", block_ms=_BLOCK_MS), False

    def _read_own(self) -> tuple[list[Entry], bool]:
        entries = self._read_group("0", block_ms=None)
        return entries, len(entries) >= min(BATCH, self._count)

    def _read_group(self, position: str, block_ms: int | None) -> list[Entry]:
        found = self._redis.xreadgroup(
            keys.INTAKE_GROUP,
            self._reader,
            {keys.INTAKE: position},
            count=min(BATCH, self._count),
            block=block_ms,
        )
        return _entries(found)

    def _take_over(self) -> bool:
        """Take what other readers left: those that are gone, and older workers that could not read it.

        Reader by reader, and not by XAUTOCLAIM, which would take the entries for newer workers as well, again and
        again, and so keep them from everybody.

        Returns:
            Whether anything was taken.
        """
        for name, idle_ms in self._left_by_others():
            taken = self._claim_from(name, idle_ms)
            if taken:
                _log.info("intake_entries_taken_over", entries=taken, reader=name)
                self._own_pending = True
                # There may be more. But requests that wait for their orders would come round again before anything new.
                if taken == BATCH and name != _CANCELS:
                    self._looked_for_abandoned = float("-inf")
                return True
        return False

    def _left_by_others(self) -> list[tuple[str, int]]:
        """Readers that have entries pending, and how old these must be to be taken; old readers are forgotten."""
        readers = cast("Iterable[dict[str, object]]", self._redis.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP))
        found: list[tuple[str, int]] = []
        for reader in readers:
            name, idle = cast("bytes", reader["name"]).decode(), cast("int", reader["idle"])
            if reader["pending"] == 0:
                if idle > _FORGET_READER_MS:
                    self._forget_reader(name)
            elif name.startswith(keys.INTAKE_NEWER_READER):
                # Left by an older worker, and perhaps for such as this one.
                if can_read(name.removeprefix(keys.INTAKE_NEWER_READER)):
                    found.append((name, _LEAVING_MS))
            elif name != self._reader:
                found.append((name, _TAKE_OVER_MS))
        # Requests that wait for their orders come last: they are there again and again.
        return sorted(found, key=lambda one: one[0] == _CANCELS)

    def _claim_from(self, reader: str, idle_ms: int) -> int:
        """Make a reader's old entries this one's; how many."""
        pending = cast(
            "list[dict[str, bytes]]",
            self._redis.xpending_range(
                keys.INTAKE, keys.INTAKE_GROUP, "-", "+", BATCH, consumername=reader, idle=idle_ms
            ),
        )
        if not pending:
            return 0
        entry_ids: list[Any] = [entry["message_id"] for entry in pending]  # redis-py wants an invariant list
        # Of two workers that see the same entries the second finds them too young here.
        claimed = self._redis.xclaim(keys.INTAKE, keys.INTAKE_GROUP, self._reader, idle_ms, entry_ids, justid=True)
        return len(cast("list[bytes]", claimed))

    def _forget_reader(self, name: str) -> None:
        self._scripts["forget_reader"](keys=[keys.INTAKE], args=[keys.INTAKE_GROUP, name])

    def _book(self, entries: Sequence[Entry]) -> None:
        read_ns = time.time_ns()
        is_backlog = len(entries) >= min(BATCH, self._count)
        accepted: list[Accepted] = []
        asked: list[uuid.UUID] = []
        to_cancel: list[Asked] = []
        unreadable: list[tuple[str, dict[bytes, bytes], str]] = []
        newer: dict[str, list[bytes]] = {}
        for raw_id, fields in entries:
            if fields is None:  # deleted meanwhile by a worker that had booked it
                continue
            entry_id = raw_id.decode()
            try:
                entry = read_entry(fields)
            except EnvelopeNewer as error:
                newer.setdefault(error.needs, []).append(raw_id)
                continue
            except EnvelopeUnreadable as error:
                unreadable.append((entry_id, fields, str(error)))
                continue
            if isinstance(entry, Ask):
                asked.append(entry.job_id)
            elif isinstance(entry, Cancel):
                to_cancel.append(Asked(entry_id, booking.taken_at(entry_id), entry))
            else:
                accepted.append(Accepted(entry_id, entry))
        self._leave(newer)
        booked = booking.book(self._worker.engine, accepted, actor=self._worker.actor)
        booked_ns = time.time_ns()
        missing = self._cancel(to_cancel)  # before it is on its way
        self._hint_at(booked)  # early, so that a single order is soon on its way
        self._await_clearing()  # of the batch before
        for entry_id, fields, reason in unreadable:  # last, as booking again changes nothing, but this is told twice
            self._set_aside(entry_id, fields, reason)
        left = {raw_id for entry_ids in newer.values() for raw_id in entry_ids}
        left |= {one.entry_id.encode() for one in missing}
        done = [raw_id for raw_id, _ in entries if raw_id not in left]

        def clear() -> None:
            for conflict in (b for b in booked if b.result == "conflict"):
                telling.forget_content(self._redis, conflict)  # before its entry goes: nobody would come to it again
            if done:
                self._delete(done)
            later = self._cancel_later(missing)  # only now that the entries around them are booked and gone
            cancelled = [one.cancel.job_id for one in to_cancel if one not in later]
            telling.tell(self._worker.engine, self._redis, booked, asked + cancelled)
            if self._worker.traces is not None:
                self._worker.traces.booked(booked, read_ns, booked_ns)

        if is_backlog and len(accepted) == len(entries):
            self._clearing = self._beside.submit(clear)
        else:
            clear()

    def _await_clearing(self) -> None:
        """Wait until the entries of the batch before are gone, and it is told of them.

        Raises:
            redis.RedisError: Redis is away; the entries are read and booked again, which changes nothing.
        """
        clearing, self._clearing = self._clearing, None
        if clearing is not None:
            try:
                clearing.result()
            except BaseException:
                self._own_pending = True
                raise

    def _cancel(self, to_cancel: list[Asked]) -> list[Asked]:
        """Carry requests to cancel out; those whose job the ledger does not have."""
        if not to_cancel:
            return []
        remembered = caution.recall(self._redis, self._worker.ledger_id)
        return cancelling.cancel(self._worker.engine, to_cancel, remembered=remembered)

    def _cancel_later(self, missing: list[Asked]) -> list[Asked]:
        """Try requests again whose order is not booked: another reader may have it, a dead one, or a newer worker.

        As long as anything that came before is in the stream, they stay in it too, and are tried again every few
        seconds by whichever worker. If nothing is, the order is booked by now or was never there.

        Returns:
            Those that stay.
        """
        if not missing:
            return []
        before = self._redis.xrange(keys.INTAKE, "-", missing[-1].entry_id, count=len(missing) + 1)
        ids_before = {entry_id.decode() for entry_id, _ in cast("list[tuple[bytes, object]]", before)}
        others = ids_before - {one.entry_id for one in missing}
        first = min(map(_in_order, others), default=None)
        certain = [one for one in missing if first is None or _in_order(one.entry_id) < first]
        unheard_of = self._cancel(certain)
        cancelling.note_unheard_of(self._worker.engine, unheard_of)
        for one in unheard_of:
            _log.warning("cancel_of_unheard_of_job", job=str(one.cancel.job_id))
        self._delete([one.entry_id.encode() for one in certain])
        later = [one for one in missing if one not in certain]
        if later:
            entry_ids: list[Any] = [one.entry_id for one in later]  # redis-py wants an invariant list
            self._redis.xclaim(keys.INTAKE, keys.INTAKE_GROUP, _CANCELS, 0, entry_ids, justid=True)
            _log.info("cancels_wait_for_their_orders", entries=len(later))
        return later

    def _hint_at(self, booked: list[Booked]) -> None:
        """Have new orders submitted, here if this process works on their company."""
        worker = self._worker
        for company in {b.accepted.envelope.company for b in booked if b.result == "new"}:
            serves = company in worker.companies and not worker.draining.is_set()
            if serves and not worker.submitting.ask(company):
                worker.hints.orders(company)

    def _leave(self, newer: dict[str, list[bytes]]) -> None:
        """Leave entries for newer workers: unacknowledged, and no longer this reader's."""
        for needs, entry_ids in newer.items():
            reader = f"{keys.INTAKE_NEWER_READER}{needs}"
            of_newer: list[Any] = list(entry_ids)  # redis-py wants an invariant list
            self._redis.xclaim(keys.INTAKE, keys.INTAKE_GROUP, reader, 0, of_newer, justid=True)
            _log.warning("intake_entries_left_for_newer_workers", entries=len(entry_ids), needs=needs)

    def _set_aside(self, entry_id: str, fields: dict[bytes, bytes], reason: str) -> None:
        named: dict[str, bytes | str] = {name.decode("utf-8", "backslashreplace"): v for name, v in fields.items()}
        booking.set_aside(self._worker.engine, entry_id, named, reason, actor=self._worker.actor)
        _log.error("intake_entry_set_aside", entry=entry_id, reason=reason)
        metrics.set_aside()

    def _delete(self, entry_ids: list[bytes]) -> None:
        """Only now, when all of it is committed, the entries go, each in one step."""
        for begin in range(0, len(entry_ids), _DELETE_TOGETHER):
            some = entry_ids[begin : begin + _DELETE_TOGETHER]
            self._scripts["delete"](keys=[keys.INTAKE], args=[keys.INTAKE_GROUP, *some])

    def close(self) -> None:
        """End what is under way, and close the connection."""
        try:
            self._await_clearing()
        except (RedisError, SQLAlchemyError) as error:  # another worker books them again
            _log.warning("intake_entries_not_deleted", error=type(error).__name__)
        self._beside.shutdown()
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


def _in_order(entry_id: str) -> tuple[int, int]:
    """An entry's id as the stream sorts it."""
    at_ms, _, number = entry_id.partition("-")
    return int(at_ms), int(number)


def _count_for(entries: Sequence[Entry]) -> int:
    """How many are read together next: ever more of a backlog, but fewer large ones, which would fill the memory."""
    size = sum(sum(map(len, fields.values())) for _, fields in entries if fields)
    by_size = _BATCH_BYTES * len(entries) // max(1, size)
    return max(1, min(BATCH, by_size, _FIRST_BATCH + 2 * len(entries)))
