"""The relay: hands committed orders of an outbox over to the workers, and then takes them off the table.

In this order, so that a relay that dies in between repeats the first. That is harmless: the order has had its
ExternalId since it was stored, and the ledger books an ExternalId once. Any number of relays may run side by side.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from orderrelay_producers.accept import Acceptance, NotAnswered, Verdict, accept
from orderrelay_producers.outbox_store import OutboxUnusable
from orderrelay_producers.outbox_table import Database
from orderrelay_producers.round_trip import ErrorReply, NoReply, run
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_producers.steps import ask_redis
from orderrelay_shared.intake import Envelope
from orderrelay_shared.redis_connection import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderrelay_producers.outbox_store import Store
    from orderrelay_producers.outbox_table import Counts, Row
    from orderrelay_producers.outbox_vitals import Vitals
    from orderrelay_shared.settings import ProducerSettings

#: Orders that travel to Redis together.
BATCH_SIZE: Final = 500

#: How long Redis may take for a batch, in seconds. On SQLite the write lock is held meanwhile, for which the service's
#: own transactions wait, 5 s by sqlite3's default.
_ANSWER_SECONDS: Final = {Database.POSTGRESQL: 5.0, Database.SQLITE: 2.0}

#: A company with a full queue is passed over for so long, in seconds.
_AFTER_FULL_SECONDS: Final = 2.0

#: While Redis or the database is away: the first wait, in seconds, and the longest.
_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0

#: A relay that is asked to stop while it waits notices so soon, in seconds.
_SLICE_SECONDS: Final = 0.1


@dataclass(slots=True)
class Done:
    """What a relay has done.

    Attributes:
        taken: Orders that are in the intake now.
        set_aside: Orders that were set aside for a person.
        full: Companies of which orders were left on the table, as too many wait at the workers.
        away: Why Redis took nothing or not all, or None.
    """

    taken: int = 0
    set_aside: int = 0
    full: frozenset[str] = frozenset()
    away: str | None = None

    @property
    def anything(self) -> bool:
        """Whether there was anything to do, and it was done."""
        return self.taken > 0 or self.set_aside > 0


@dataclass(slots=True)
class _Sorted:
    """A batch by what is to become of its rows."""

    taken: list[int] = field(default_factory=list[int])
    refused: list[tuple[Row, str]] = field(default_factory=list["tuple[Row, str]"])
    full: set[str] = field(default_factory=set[str])
    away: str | None = None


class Relay:
    """One relay, with its own connections; not thread-safe.

    Args:
        store: The database with the outbox.
        settings: Where Redis is, and what is asked of it, as of a producer.
        say: Tells a person one line.
    """

    def __init__(self, store: Store, settings: ProducerSettings, say: Callable[[str], None] = lambda _: None) -> None:
        self._store = store
        self._settings = settings
        self._say = say
        self._answer_seconds = _ANSWER_SECONDS[store.statements.database]
        self._redis = connect(
            settings.redis_url, timeout_seconds=self._answer_seconds / 2, client_name="orderrelay-outbox"
        )
        self._safekeeping = Safekeeping(settings.accept_replicas, settings.accept_on_disk)
        self._full_until: dict[str, float] = {}
        self._redis_was_away = False

    def close(self) -> None:
        """Close the connections."""
        self._store.close()
        self._redis.close()

    def once(self, *, ids: Sequence[int] = (), timeout: float | None = None) -> Done:
        """Hand one batch over.

        Args:
            ids: Only these rows; empty: the first that wait.
            timeout: Seconds that Redis may take; default: as long as a relay may hold the batch.

        Raises:
            OutboxUnusable: The database cannot be used.
        """
        if self._redis_was_away and (still := self._ping()) is not None:
            return Done(away=still)  # Asked before anything is locked, so that nobody waits for a dead Redis with us.
        now = time.monotonic()
        self._full_until = {company: until for company, until in self._full_until.items() if until > now}
        statements = self._store.statements
        if not ids and not self._anything_waits():
            return Done()
        with self._store.writing() as cursor:
            rows = statements.take(cursor, at_most=BATCH_SIZE, not_of=self._full_until, ids=ids)
            found = self._hand_over(rows, self._answer_seconds if timeout is None else timeout)
            self._take_off(cursor, found)
        self._redis_was_away = found.away is not None
        self._full_until |= dict.fromkeys(found.full, time.monotonic() + _AFTER_FULL_SECONDS)
        for row, reason in found.refused:
            self._say(f"set aside: row {row.id}, {row.external_id!r} of company {row.company!r}: {reason}")
        return Done(len(found.taken), len(found.refused), frozenset(found.full), found.away)

    def run(
        self,
        *,
        poll_seconds: float,
        until_empty: bool = False,
        is_asked_to_stop: Callable[[], bool],
        vitals: Vitals | None = None,
    ) -> Done:
        """Hand over what waits and what comes, until it is asked to stop; waits while Redis or the database is away.

        Args:
            poll_seconds: How long to wait when nothing waits.
            until_empty: Stop when there is nothing more to hand over, or nobody to take it.
            is_asked_to_stop: Asked between batches, and often while waiting.
            vitals: Where to note what is seen, for metrics.

        Returns:
            All that was done; `away` as of the last batch.

        Raises:
            OutboxUnusable: A person must do something; with `until_empty` also where the database is away.
        """
        done = Done()
        failures = 0
        while not is_asked_to_stop():
            try:
                if vitals is not None:
                    vitals.count(self._counts)
                latest = self.once()
            except OutboxUnusable as error:
                if not error.may_pass or until_empty:
                    raise
                latest = Done(away=str(error))
                if vitals is not None:
                    vitals.database_is_away()
            if vitals is not None:
                vitals.round_ended(latest)
            self._tell_change(done.away, latest.away)
            done = Done(
                done.taken + latest.taken, done.set_aside + latest.set_aside, done.full | latest.full, latest.away
            )
            failures = failures + 1 if latest.away is not None else 0
            if until_empty and (latest.away is not None or not (latest.anything or latest.full)):
                break
            if latest.away is not None:
                ceiling = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(failures, 20))
                _wait(random.uniform(0.5, 1.0) * ceiling, is_asked_to_stop)
            elif not latest.anything:
                _wait(poll_seconds, is_asked_to_stop)
        return done

    def _counts(self) -> Counts:
        with self._store.reading() as cursor:
            return self._store.statements.counts(cursor)

    def _anything_waits(self) -> bool:
        """Whether it is worth taking the write lock, which is the only one that SQLite has."""
        if self._store.statements.database is not Database.SQLITE:
            return True
        with self._store.reading() as cursor:
            return self._store.statements.anything_waits(cursor)

    def _hand_over(self, rows: Sequence[Row], timeout: float) -> _Sorted:
        """Bring a batch into the intake, and sort it by the answers."""
        found = _Sorted()
        readable: list[Row] = []
        envelopes: list[Envelope] = []
        for row in rows:
            if isinstance(row.envelope, Envelope):
                readable.append(row)
                envelopes.append(row.envelope)
            else:
                found.refused.append((row, f"the row cannot be read: {row.envelope}"))
        steps = accept(
            envelopes,
            max_waiting=self._settings.max_waiting,
            deadline=time.monotonic() + timeout,
            safekeeping=self._safekeeping,
        )
        answers = run(self._redis, steps)
        for row, answer in zip(readable, answers, strict=True):
            _sort(found, row, answer)
        return found

    def _take_off(self, cursor: object, found: _Sorted) -> None:
        """Take off the table what is in the intake, and set aside what cannot come there."""
        self._store.statements.delete(cursor, found.taken)
        for row, reason in found.refused:
            self._store.statements.set_aside(cursor, row.id, reason)

    def _ping(self) -> str | None:
        """Why Redis does not answer, or None."""
        reply = run(self._redis, ask_redis("PING", deadline=time.monotonic() + self._answer_seconds))
        if isinstance(reply, NoReply):
            return reply.reason
        return f"Redis refuses: {reply.text}" if isinstance(reply, ErrorReply) else None

    def _tell_change(self, before: str | None, now: str | None) -> None:
        if now is not None and before is None:
            self._say(f"waiting: {now}")
        elif now is None and before is not None:
            self._say("going on")


def _sort(found: _Sorted, row: Row, answer: Acceptance | NotAnswered) -> None:
    if isinstance(answer, NotAnswered):
        found.away = answer.reason
        return
    match answer.verdict:
        case Verdict.ACCEPTED | Verdict.ALREADY:
            found.taken.append(row.id)
        case Verdict.CONFLICT:
            reason = "its ExternalId was already accepted with other content; the first order stays"
            found.refused.append((row, reason))
        case Verdict.UNKNOWN_COMPANY:
            found.refused.append((row, f"no worker serves this company; workers serve {answer.companies}"))
        case Verdict.FULL:
            found.full.add(row.company)
        case _:
            assert_never(answer.verdict)


def _wait(seconds: float, is_asked_to_stop: Callable[[], bool]) -> None:
    """Wait in slices: a signal's handler only notes that it came."""
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and not is_asked_to_stop():
        time.sleep(min(left, _SLICE_SECONDS))
