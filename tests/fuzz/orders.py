"""Generated orders, sound and unsound, through everything that takes orders: refused in words, or kept to the digit."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

import fakeredis

from orderrelay_producers import LineResult, OrderProducer
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Envelope, read_entry
from orderrelay_shared.orders import Order, OrderInvalid, OrderRow, wire_body
from orderrelay_shared.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = tuple(Order.model_fields)
_ROW: Final = tuple(OrderRow.model_fields)
_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 6, 2**63, 10**15, 10**400, 0.1, 1e300, float("nan"), float("inf"), Decimal("1.10"),
    Decimal("NaN"), Decimal("1E+400"), "", " ", "013", "å\u0308", "\ud800", "a\0b", "\r\n", "🙂", "x" * 5000, "1.10",
    "1,5", "2026-01-30", "2026-02-30", "2026-01-30T08:15:00Z", "0001-01-01T00:00:00+14:00", [], [[]], {}, {"a": 1},
    [None], (1, 2), b"bytes", object(), {1: 2},
)  # fmt: skip


def make(chance: random.Random) -> dict[Any, Any]:
    """An order as a caller gives it, mostly sound, with up to three things wrong or odd."""
    rows: list[Any] = []
    for _ in range(chance.choice((1, 1, 2, 5))):
        if chance.random() < 0.8:
            amount = chance.choice((3, "3.00", Decimal("25.5"), 0.1, -4))
            rows.append({"CustomerRowType": 2, "ProductNr": "å-1", "Quantity": amount, "Amount": amount})
        else:
            rows.append({"customer_row_type": 3, "text": chance.choice(("Ring innan", "🙂", "två\nrader"))})
    order: dict[Any, Any] = {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": rows}
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        into, names = (order, _HEAD) if chance.random() < 0.5 else (chance.choice(rows), _ROW)
        if isinstance(into, dict):
            into[chance.choice((*names, "Okänd", 7, ""))] = chance.choice(_ODD)
    if chance.random() < 0.05:
        rows[chance.randrange(len(rows))] = chance.choice(_ODD)
    if chance.random() < 0.05:
        del order[chance.choice(tuple(order))]
    return order


def problems(seed: int, count: int) -> Iterator[str]:
    """Make so many orders, and tell what went wrong with any."""
    chance = random.Random(seed)
    for number in range(count):
        given = make(chance)
        try:
            problem = _problem(given)
        except Exception as error:  # noqa: BLE001  any of them is the finding
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        if problem is not None:
            yield f"seed {seed}, order {number}: {problem}\n    {str(given)[:600]}"


def _problem(given: dict[Any, Any]) -> str | None:
    try:
        order = Order.parse(given)
    except OrderInvalid as error:
        return None if str(error) and error.problems else "is refused without a word"
    body, digest = order.body(), order.content_digest()
    again = Order.from_json(body)
    if again.body() != body:
        return f"its body comes back as another: {again.body()[:300]!r}"
    if again.content_digest() != digest or Order.parse(dict(given)).content_digest() != digest:
        return "its digest is not stable"
    if json.loads(wire_body(body, "array")) != [json.loads(body)]:
        return "its array is not the order alone"
    external_id = order.ensure_external_id()
    return None if Order.from_json(order.body()).external_id == external_id else "its ExternalId is lost"


def enqueuing_problems(seed: int, count: int) -> Iterator[str]:
    """Hand so many orders over to a Redis that stands in for the real one, and tell what is not there as it was given.

    Half of them are given an ExternalId; of the others the sound ones are handed over as `Order`, which then has one.
    """
    chance = random.Random(seed)
    settings = ProducerSettings(redis_url="redis://127.0.0.1:1/0", max_waiting=10**9)
    with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as redis:
        producer = OrderProducer(settings=settings, redis=redis)
        for first in range(0, count, 500):
            batch = [make(chance) for _ in range(first, min(first + 500, count))]
            for number, given in enumerate(batch[::2], first):
                given.setdefault("ExternalId", f"A-{number}")
            sound = [_sound(given, settings.external_id_max_length) for given in batch]
            handed = [o if o and o.external_id is None else given for given, o in zip(batch, sound, strict=True)]
            lines = producer.enqueue_many(handed, timeout=60.0).lines
            found = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis.xrange(keys.INTAKE))
            redis.delete(keys.INTAKE)
            entries = iter([read_entry(fields) for _, fields in found])
            for given, order, line in zip(batch, sound, lines, strict=True):
                entry = None if line.result is LineResult.REFUSED else next(entries, None)
                problem = _enqueuing_problem(order, line.result, entry)
                if problem is not None:
                    yield f"seed {seed}: {problem}, {line.error}\n    {str(given)[:600]}"
            if next(entries, None) is not None:
                yield f"seed {seed}: there is more in the intake than was handed over"


def _sound(given: dict[Any, Any], external_id_max_length: int) -> Order | None:
    """The order, if the producer has to take it."""
    try:
        order = Order.parse(given)
    except OrderInvalid:
        return None
    name = order.external_id
    return order if name is None or ids.external_id_problem(name, external_id_max_length) is None else None


def _enqueuing_problem(order: Order | None, result: LineResult, entry: object) -> str | None:
    if order is None:
        return None if result is LineResult.REFUSED else f"is {result}, but breaks a rule"
    # Those that are given the same ExternalId by chance are in the intake too, for the record.
    if result not in (LineResult.ACCEPTED, LineResult.ALREADY, LineResult.CONFLICT):
        return f"is {result}, but breaks no rule"
    if not isinstance(entry, Envelope):
        return "is not in the intake"
    there = (entry.body, entry.content_digest, entry.external_id)
    same = there == (order.body(), order.content_digest(), order.external_id)
    return None if same else f"is another in the intake: {entry.body[:300]!r}"
