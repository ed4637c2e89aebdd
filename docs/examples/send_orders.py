"""A script that hands a file of a shop's orders over to Orderrelay, and waits until each has come to its end.

pip install orderrelay
ORDERRELAY_REDIS_URL=redis://127.0.0.1:6379/0 python send_orders.py shop_orders.json

Run it again whenever it did not end well: an order that was taken before stays one order. It exits 0 if all orders were
created, 1 if some were not, and 3 if Redis did not take them all.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from orderrelay_producers import JobState, LineResult, OrderProducer


def to_order(shop_order: dict[str, Any]) -> dict[str, object]:
    """The order as the vendor wants it. Made of the shop's own id, the ExternalId keeps one order one."""
    return {
        "CustomerNr": shop_order["customer"],
        "InvoiceDate": shop_order["placed_on"],
        "ExternalId": f"webshop-{shop_order['id']}",
        "InvoiceRows": [
            {
                "CustomerRowType": 2,
                "ProductNr": line["product"],
                "Quantity": line["quantity"],
                "Amount": line["price"],
            }
            for line in shop_order["lines"]
        ],
    }


def main(file: str) -> int:
    """Send the orders of a file; returns the exit code."""
    shop_orders = json.loads(Path(file).read_text(), parse_float=Decimal)
    created = 0
    with OrderProducer() as producer:
        report = producer.enqueue_many(map(to_order, shop_orders), timeout=5.0)
        for shop_order, line in zip(shop_orders, report, strict=True):
            if line.error is not None:
                print(f"{shop_order['id']}: {line.error}")
        for line in report:
            if line.error is None and line.job is not None:
                try:
                    status = line.job.wait(timeout=60.0)
                except TimeoutError as error:
                    print(f"{line.job.external_id}: {error}")
                    continue
                created += status.state is JobState.SUCCEEDED
                print(f"{line.job.external_id}: {status.state} {status.order_number or status.reason or ''}")
    if report.count(LineResult.UNAVAILABLE) or report.count(LineResult.FULL):
        return 3
    return 0 if created == len(shop_orders) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python send_orders.py FILE")
    sys.exit(main(sys.argv[1]))
