"""A script that hands a file of a shop's orders over to Orderrelay, and waits until each has come to its end.

pip install orderrelay
ORDERRELAY_REDIS_URL=redis://127.0.0.1:6379/0 python send_orders.py shop_orders.json

Run it again whenever it did not end well: an order that was taken before stays one order. It exits 0 if all orders were
created, 1 if some were not, 2 if the file cannot be read, and 3 if Redis did not take them all.
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


def read(file: str) -> tuple[list[dict[str, Any]], list[dict[str, object]]]:
    """The orders of a file, as the shop has them and as the vendor wants them.

    Raises:
        ValueError: The file cannot be read, or holds something else; the text says where.
    """
    try:
        shop_orders = json.loads(Path(file).read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    if not isinstance(shop_orders, list):
        raise ValueError(f"{file}: must be a JSON array of orders")  # noqa: TRY004
    orders: list[dict[str, object]] = []
    for number, shop_order in enumerate(shop_orders, start=1):
        try:
            orders.append(to_order(shop_order))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{file}: order {number} is none of the shop's: {type(error).__name__}: {error}"
            ) from error
    return shop_orders, orders


def main(file: str) -> int:
    """Send the orders of a file; returns the exit code."""
    try:
        shop_orders, orders = read(file)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    created = 0
    with OrderProducer() as producer:
        report = producer.enqueue_many(orders, timeout=5.0)
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
        print("usage: python send_orders.py FILE", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
