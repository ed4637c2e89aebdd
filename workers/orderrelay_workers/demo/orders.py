"""Varied orders for the demonstration, and the ways in which its vendor goes wrong."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from orderrelay_workers.simulator import FaultPlan, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Orders of this customer are answered "success" without a key, and not created: nobody can know, so a person must.
NAMELESS_CUSTOMER = "NAMELESS"

_CUSTOMERS = ("013", "11", "10158", "Å-77", "ÖB-9")
_ROWS = (
    ("100-5t", "Skolbil 5 timmar, väktare", "350"),
    ("360574", "SPICE FL POWD F23, spray dried", "28.38"),
    ("360445", "Äppelarom, pulver, 25 kg", "29.28"),
    ("36", "FRAKT", "240.00"),
    ("R-1", "Rabatt enligt överenskommelse", "-12.5"),
)
_BROKEN: tuple[dict[str, object], ...] = (
    {"CustomerNo": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [{"CustomerRowType": 3, "Text": "Hej"}]},
    {"CustomerNr": "013", "InvoiceDate": "30/1 2026", "InvoiceRows": [{"CustomerRowType": 3, "Text": "Hej"}]},
    {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": []},
    {
        "CustomerNr": "013",
        "InvoiceDate": "2026-01-30",
        "InvoiceRows": [{"CustomerRowType": 2, "ProductNr": "36", "Quantity": "tre", "Amount": 1, "RowNr": 1}],
    },
)


def make_orders(count: int, seed: int) -> Iterator[dict[str, object]]:
    """So many orders: most good, some that the vendor will refuse, some that are refused at the door."""
    chance = random.Random(seed)
    for number in range(count):
        if number % 50 == 7:
            yield dict(_BROKEN[(number // 50) % len(_BROKEN)])
        else:
            yield _order(number, chance)


def _order(number: int, chance: random.Random) -> dict[str, object]:
    day = date(2026, 1, 1) + timedelta(days=chance.randrange(360))
    order: dict[str, object] = {
        "CustomerNr": chance.choice(_CUSTOMERS),
        "InvoiceDate": day,
        "InvoiceRows": [_row(chance) for _ in range(chance.randint(1, 4))],
        "ReferenceYour": chance.choice(("Åsa Öström", "Björn Ek", "Zoë Müller")),
        "ExternalId": f"demo-{number:05d}",
    }
    if number % 3 == 0:
        order["OrderDate"] = datetime(day.year, day.month, day.day, 13, 45)  # noqa: DTZ001  the API has no time zones
        order["DeliveryDate"] = day + timedelta(days=14)
    if number % 60 == 11:
        order["CustomerNr"] = "BLOCKED-1"
    elif number % 75 == 23:
        order["InvoiceRows"] = [{"CustomerRowType": 2, "ProductNr": "MISSING-9", "Quantity": 1, "Amount": 1}]
    elif number % 240 == 31:
        order["CustomerNr"] = NAMELESS_CUSTOMER
    return order


def _row(chance: random.Random) -> dict[str, object]:
    if chance.random() < 0.2:
        return {"CustomerRowType": 3, "Text": "Levereras till lastkajen.\nRing på klockan, tack!"}
    product, text, price = chance.choice(_ROWS)
    quantity = Decimal(chance.randint(1, 4000)) / 100
    return {"CustomerRowType": 2, "ProductNr": product, "Quantity": quantity, "Amount": Decimal(price), "Text": text}


def make_plan(seed: int) -> FaultPlan:
    """How the demonstration's vendor goes wrong, in about one order of twelve."""
    rules = [
        Rule(fault="no-keys-before", customer_nr_prefix=NAMELESS_CUSTOMER),
        Rule(fault="500-after", share=0.015),
        Rule(fault="500-before", share=0.008),
        Rule(fault="hang-after", share=0.006),
        Rule(fault="reset-after", share=0.006),
        Rule(fault="reset-before", share=0.006),
        Rule(fault="truncated-after", share=0.004),
        Rule(fault="401-session-expired", share=0.004),
        Rule(fault="429-retry-after", share=0.004, seconds=1),
        Rule(fault="slow", share=0.03, seconds=1.0),
    ]
    return FaultPlan(rules=tuple(rules), latency_ms=(5.0, 60.0), seed=seed)
