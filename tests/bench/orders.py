"""The order of the benches: three rows, about 700 bytes of JSON, as the vendor's document has it."""

from __future__ import annotations

from typing import Final

_ROWS: Final = (
    ("100-5t", 3.0, 350, "Skolbil m väktare, morgontur och eftermiddagstur"),
    ("100-6t", 1.0, 1250, "Transport av material enligt avtal, zon 2, kran ingår"),
    ("200-1", 12.5, 89, "Tillägg för väntetid per påbörjad kvart, se bilaga"),
)


def bench_order(number: int, prefix: str = "bench") -> dict[str, object]:
    """One order; its ExternalId is the prefix and the number."""
    rows = [
        {"CustomerRowType": 2, "ProductNr": product, "Quantity": quantity, "Amount": amount, "Text": text, "RowNr": row}
        for row, (product, quantity, amount, text) in enumerate(_ROWS, start=1)
    ]
    return {
        "CustomerNr": "013",
        "InvoiceDate": "2026-01-30",
        "OriginType": 6,
        "ExternalId": f"{prefix}-{number:07d}",
        "ReferenceOur": "Kundtjänst Väst",
        "ReferenceYour": "Åsa Öström, inköp",
        "Note": "Leverans före klockan 10; ring föraren på plats, grinden är låst",
        "InvoiceRows": rows,
    }
