"""Orders in a real ledger, brought to where a test wants them by the ledger's own functions."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from orderrelay_shared import command
from orderrelay_shared.intake import Envelope
from orderrelay_shared.orders import Order
from orderrelay_workers.audit import results
from orderrelay_workers.decisions import Policy
from orderrelay_workers.ledger import booking, claims, companies, migrate, settling, unknowns
from orderrelay_workers.ledger.engine import open_engine
from orderrelay_workers.vendor.answers import read_lookup_answer, read_order_answer
from orderrelay_workers.vendor.exchange import Exchange

if TYPE_CHECKING:
    import sqlalchemy as sa
    from typer.testing import Result

WORKER = uuid.UUID(int=7)
ACTOR = "worker test:1"

#: The rows of an order as a person may read them: one priced by UnitPrice, one by Amount, one of text.
ROWS: list[dict[str, object]] = [
    {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350, "Text": "Skolbil m väktare"},
    {"CustomerRowType": 2, "ProductNr": "360574", "Quantity": "25.5", "Amount": 1, "UnitPrice": "28.38"},
    {"CustomerRowType": 3, "Text": "Ring innan"},
]


class Ledger:
    """A migrated ledger of a test, and the ways of its orders."""

    def __init__(self, database_url: str) -> None:
        self.engine: sa.Engine = open_engine(database_url)
        migrate.migrate(self.engine)
        self._entries = 0
        # Without chance and without waits, so that every next step is due at once.
        self.policy = Policy(settling_seconds=0.0, chance=lambda: 0.0, backoff_first_seconds=0.001)

    def book(self, *external_ids: str, company: str = "acme", **header: object) -> list[uuid.UUID]:
        """Book orders; gives their jobs."""
        batch: list[booking.Accepted] = []
        for external_id in external_ids:
            given: dict[str, Any] = {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": ROWS, **header}
            order = Order.parse({**given, "ExternalId": external_id})
            envelope = Envelope(company, external_id, order.content_digest(), order.body())
            self._entries += 1
            entry = f"{int(datetime.now(UTC).timestamp() * 1000)}-{self._entries}"
            batch.append(booking.Accepted(entry, envelope))
        return [booked.job_id for booked in booking.book(self.engine, batch, actor=ACTOR)]

    def claim(self, company: str = "acme", *, lease_seconds: float = 40.0) -> list[claims.Claim]:
        """Claim all that is due."""
        company_id = companies.by_alias(self.engine)[company].id
        return claims.claim(self.engine, company_id, 100, owner=WORKER, lease_seconds=lease_seconds)

    def answer(self, body: bytes | None, *, company: str = "acme", status: int | None = 200, sent: bool = True) -> None:
        """Claim what is due, and let the vendor answer it so; no body: no answer in time."""
        self.settle(self.claim(company), body, status=status, sent=sent)

    def settle(
        self, claimed: list[claims.Claim], body: bytes | None, *, status: int | None = 200, sent: bool = True
    ) -> None:
        """Let the vendor answer these claims."""
        seen = exchange(body, status=status, sent=sent)
        settlements = [
            settling.Settlement(
                c.job_id, c.company_id, c.token, c.number, c.body_digest, WORKER, seen, read_order_answer(seen)
            )
            for c in claimed
        ]
        settling.settle(self.engine, settlements, self.policy, actor=ACTOR)

    def look_up(self, body: bytes, *, company: str = "acme", status: int = 200, control: bool = True) -> None:
        """Look all due unknown orders up, with this answer."""
        company_id = companies.by_alias(self.engine)[company].id
        seen = exchange(body, status=status)
        batch = [
            settling.LookedUp(
                u.job_id, company_id, u.claim, u.number, WORKER, seen, read_lookup_answer(seen), control, u.taken_at
            )
            for u in unknowns.take_due(self.engine, company_id, 100, for_seconds=0.0)
        ]  # fmt: skip
        settling.settle_lookups(self.engine, batch, self.policy, actor=ACTOR)

    def store_results(self) -> None:
        """What the results task does."""
        results.store_all(self.engine)


def exchange(body: bytes | None, *, status: int | None = 200, sent: bool = True) -> Exchange:
    """One request as it was seen."""
    now = datetime.now(UTC)
    failure = None if body is not None else "deadline passed" if sent else "not sent: connection refused"
    headers = {"content-type": "application/json"} if body is not None else {}
    return Exchange(sent, status if body is not None else None, headers, body, b"", failure, now, now)


def created(number: str = "211", vendor_id: int = 12614169) -> bytes:
    """The vendor's answer to an order that it created."""
    return json.dumps(
        {
            "Success": True,
            "ErrorNumber": 0,
            "InfoMessage": "\n\n kundfakturor utav 1 har skapats/uppdaterats.",
            "StringValue": "b2f6ea92-b277-4934-904d-9b30fc250c9f",
            "DecimalValue": 0.1,
            "DateTimeValue": "0001-01-01T00:00:00",
            "Keys": [vendor_id],
            "Strings": [number],
            "ObjectsAffected": 1,
        },
        indent=1,
    ).encode()


def refused(number: int = 295, message: str = "Artikel saknas på rad 2") -> bytes:
    """The vendor's answer to an order that breaks one of its rules."""
    answer = {"Success": False, "ErrorNumber": number, "ErrorMessage": message}
    return json.dumps(answer, ensure_ascii=False).encode()


def orderrelay(*words: object) -> Result:
    """Run the command line in this process; anything but an exit is an error of the test."""
    texts = [str(word) for word in words]
    app = command.build(metadata.entry_points(group=command.GROUP), texts[0])
    result = CliRunner().invoke(app, texts, prog_name="orderrelay")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def json_lines(result: Result) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [json.loads(line) for line in result.stdout.splitlines()]
