"""A shop's web service on Django, in one file: it takes orders, hands them to Orderrelay, and tells where they are.

pip install orderrelay django
ORDERRELAY_REDIS_URL=redis://127.0.0.1:6379/0 python django_shop.py runserver
"""

import json
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from orderrelay_producers import OrderConflict, OrderInvalid, OrderProducer, QueueFull, QueueUnavailable

# settings.py --------------------------------------------------------------------------------------------------------

settings.configure(
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for trying it out"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{__name__}.OrderrelayErrors"],
)

# orders.py ----------------------------------------------------------------------------------------------------------

#: A customer waits for the answer, so this gives up sooner than a batch job would.
TIMEOUT_SECONDS = 2.0


@cache
def the_producer() -> OrderProducer:
    """One for the whole process: it is thread-safe, survives a fork, and connects when it is first used."""
    return OrderProducer()


def external_id(shop_order_id: int) -> str:
    """The ExternalId: made of the shop's own id, it keeps one order one, however often it is sent."""
    return f"webshop-{shop_order_id}"


def to_order(shop_order: dict[str, Any]) -> dict[str, object]:
    """The order as the vendor wants it; Orderrelay checks it."""
    return {
        "CustomerNr": shop_order.get("customer"),
        "InvoiceDate": shop_order.get("placed_on"),
        "ExternalId": external_id(shop_order["id"]),
        "InvoiceRows": [
            {
                "CustomerRowType": 2,
                "ProductNr": line.get("product"),
                "Quantity": line.get("quantity"),
                "Amount": line.get("price"),
            }
            for line in shop_order["lines"]
        ],
    }


# middleware.py ------------------------------------------------------------------------------------------------------


class OrderrelayErrors:
    """Answers for every view what to do about an order that was not taken."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Nothing to do unless the view raises."""
        return self.get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to each of Orderrelay's errors."""
        match error:
            case OrderInvalid():
                problems = [{"path": problem.path, "message": problem.message} for problem in error.problems]
                return JsonResponse({"problems": problems}, status=422)
            case OrderConflict():
                return JsonResponse({"detail": str(error)}, status=409)
            case QueueFull() | QueueUnavailable():
                # Whether or not the order was taken, sending it again is safe: it has the same ExternalId.
                return JsonResponse({"detail": str(error)}, status=503, headers={"Retry-After": "5"})
        return None


# views.py -----------------------------------------------------------------------------------------------------------


@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Accept an order. Sent again, after a lost answer or by a double click, it stays one order."""
    try:
        shop_order = json.loads(request.body, parse_float=Decimal)  # a price is not to pass through binary floats
        order = to_order(shop_order)
    except (ValueError, LookupError, TypeError, AttributeError):
        return JsonResponse({"detail": "an order has an id, a customer, placed_on and lines"}, status=400)
    job = the_producer().enqueue(order, timeout=TIMEOUT_SECONDS)
    return JsonResponse({"job": str(job.id), "status": f"/orders/{shop_order['id']}"}, status=202)


@require_GET
def show_order(_: HttpRequest, shop_order_id: int) -> HttpResponse:
    """Where an order is."""
    status = the_producer().find(external_id=external_id(shop_order_id), timeout=TIMEOUT_SECONDS)
    if status is None:
        return JsonResponse({"detail": "there is no such order"}, status=404)
    return JsonResponse({"state": status.state, "order_number": status.order_number, "reason": status.reason})


# urls.py ------------------------------------------------------------------------------------------------------------

urlpatterns = [path("orders", place_order), path("orders/<int:shop_order_id>", show_order)]

application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
