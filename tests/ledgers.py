"""What tests of the ledger have in common: a ledger with a company, its orders, and the vendor's answers."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from orderrelay_shared import ids
from orderrelay_shared.intake import Envelope
from orderrelay_workers.decisions import Policy
from orderrelay_workers.ledger import booking, claims, companies, schema, settling, sweeping
from orderrelay_workers.ledger.booking import Accepted
from orderrelay_workers.ledger.engine import open_engine
from orderrelay_workers.ledger.settling import LookedUp, Settled, Settlement
from orderrelay_workers.vendor.answers import read_lookup_answer, read_order_answer
from orderrelay_workers.vendor.exchange import Exchange, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderrelay_workers.ledger.claims import Claim

ACME: Final = "acme"
ACTOR: Final = "test"
LEASE_SECONDS: Final = 40.0
POLICY: Final = Policy(chance=lambda: 0.5)
_BEGAN_AT: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_INSTANTS: Final = ("since", "due_at", "claimed_at", "lease_until", "absent_at", "lookup_failing_since")


def answered(status: int, body: bytes) -> Exchange:
    """A complete answer."""
    return Exchange(
        True, status, {"content-type": "application/json"}, body, b"", None, _BEGAN_AT, _BEGAN_AT + timedelta(seconds=1)
    )


def created(vendor_id: int, number: str = "211", **more: Any) -> Exchange:
    """The vendor says that it created the order."""
    result = {"Success": True, "Keys": [vendor_id], "Strings": [number], "StringValue": "ref", **more}
    return answered(200, json.dumps(result).encode())


def refused(message: str = "no such customer", number: int = 26) -> Exchange:
    """The vendor refused the order."""
    result = {"Success": False, "ErrorNumber": number, "ErrorMessage": message}
    return answered(200, json.dumps(result).encode())


def cut_off() -> Exchange:
    """The connection broke inside the answer."""
    return Exchange(True, 200, {}, None, b'{"Succ', Failure.TRUNCATED, _BEGAN_AT, _BEGAN_AT + timedelta(seconds=1))


def not_sent(failure: Failure = Failure.REFUSED) -> Exchange:
    """Provably nothing was sent."""
    return Exchange(False, None, {}, None, b"", failure, _BEGAN_AT, _BEGAN_AT)


def a_settlement(exchange: Any) -> Settlement:
    """The end of some job's request."""
    some = uuid.uuid4()
    return Settlement(some, 1, uuid.uuid4(), 1, b"d" * 32, some, exchange, read_order_answer(exchange))


def an_order(number: int, *, company: str = ACME, content: str = "") -> Accepted:
    """An accepted order whose ExternalId is `order-<number>`."""
    body = json.dumps({"ExternalId": f"order-{number}", "Text": content}).encode()
    envelope = Envelope(company, f"order-{number}", hashlib.sha256(body).digest(), body)
    return Accepted(f"{1_700_000_000_000 + number}-0", envelope)


def job_id(number: int, company: str = ACME) -> uuid.UUID:
    """The id of that order's job."""
    return ids.job_id(company, f"order-{number}")


@dataclass
class Ledger:
    """An empty ledger with the company "acme", and short words for what workers do with it."""

    engine: sa.Engine
    company_id: int
    owner: uuid.UUID = field(default_factory=uuid.uuid4)

    def book(self, *numbers: int) -> list[uuid.UUID]:
        """Book orders; gives the ids of their jobs."""
        booked = booking.book(self.engine, [an_order(number) for number in numbers], actor=ACTOR)
        return [b.job_id for b in booked]

    def claim(self, limit: int = 100, *, owner: uuid.UUID | None = None) -> list[Claim]:
        """Claim due jobs, in the order of their ExternalIds."""
        owner = owner or self.owner
        taken = claims.claim(self.engine, self.company_id, limit, owner=owner, lease_seconds=LEASE_SECONDS)
        return sorted(taken, key=lambda claim: claim.external_id)

    def book_and_claim(self, *numbers: int) -> list[Claim]:
        """Book orders and claim them."""
        self.book(*numbers)
        return self.claim()

    def end_of(self, claim: Claim, exchange: Exchange) -> Settlement:
        """The end of a claim's request."""
        return Settlement(
            claim.job_id, claim.company_id, claim.token, claim.number, claim.body_digest, self.owner, exchange,
            read_order_answer(exchange), fresh=claim.fresh,
        )  # fmt: skip

    def settle(self, *ends: tuple[Claim, Exchange]) -> Settled:
        """Settle requests in one batch."""
        return settling.settle(self.engine, [self.end_of(*end) for end in ends], POLICY, actor=ACTOR)

    def look_up(self, job: uuid.UUID, body: bytes, *, control: bool = True) -> Settled:
        """Settle a look-up that was asked just now and answered with this body."""
        exchange = answered(200, body)
        looked_up = LookedUp(
            job, self.company_id, uuid.uuid4(), 1, self.owner, exchange, read_lookup_answer(exchange), control,
            datetime.now(UTC) + timedelta(seconds=5),
        )  # fmt: skip
        return settling.settle_lookups(self.engine, [looked_up], POLICY, actor=ACTOR)

    def sweep(self) -> sweeping.Swept:
        """Sweep once."""
        return sweeping.sweep(self.engine, actor=ACTOR)

    def pass_time(self, seconds: float) -> None:
        """Let seconds pass for all jobs: their instants lie so much earlier."""
        columns = [schema.job.c[name] for name in _INSTANTS]
        with self.engine.begin() as connection:
            for row in connection.execute(sa.select(schema.job.c.id, *columns)).mappings().all():
                earlier = {n: row[n] - timedelta(seconds=seconds) for n in _INSTANTS if row[n] is not None}
                connection.execute(sa.update(schema.job).where(schema.job.c.id == row["id"]).values(earlier))

    def set(self, job: uuid.UUID, **columns: object) -> None:
        """Write columns of a job, as an operator's command would."""
        with self.engine.begin() as connection:
            connection.execute(sa.update(schema.job).where(schema.job.c.id == job).values(columns))

    def rows(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> Sequence[sa.RowMapping]:
        """Rows of a table, by its first column."""
        with self.engine.connect() as connection:
            query = sa.select(table).where(*conditions).order_by(*table.primary_key.columns)
            return connection.execute(query).mappings().all()

    def job(self, job: uuid.UUID) -> sa.RowMapping:
        """A job's row."""
        [row] = self.rows(schema.job, schema.job.c.id == job)
        return row

    def states(self) -> dict[str, int]:
        """How many jobs are in which state."""
        found = [row["state"] for row in self.rows(schema.job)]
        return {state: found.count(state) for state in sorted(set(found))}

    def events(self, kind: str | None = None) -> list[str]:
        """The kinds of all events, those that alarm with an exclamation mark."""
        told = [row["kind"] + "!" * row["alarm"] for row in self.rows(schema.event)]
        return told if kind is None else [k for k in told if k.rstrip("!") == kind]


@contextmanager
def open_ledger(database_url: str) -> Iterator[Ledger]:
    """A ledger in an empty database."""
    engine = open_engine(database_url)
    try:
        schema.metadata.create_all(engine)
        yield Ledger(engine, companies.ensure(engine, [ACME])[ACME])
    finally:
        engine.dispose()
