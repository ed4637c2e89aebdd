"""A shop's web service on FastAPI: it takes orders, hands them over to Orderrelay, and tells where they are.

pip install orderrelay fastapi uvicorn
ORDERRELAY_REDIS_URL=redis://127.0.0.1:6379/0 uvicorn fastapi_shop:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from orderrelay_producers import (
    Order,
    OrderConflict,
    OrderInvalid,
    OrderProducer,
    OrderRow,
    QueueFull,
    QueueUnavailable,
)

#: A customer waits for the answer, so this gives up sooner than a batch job would.
TIMEOUT_SECONDS = 2.0


@cache
def the_producer() -> OrderProducer:
    """One for the whole process: it is thread-safe, and connects when it is first used."""
    return OrderProducer()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Read the settings at the start, so that a wrong one stops it, and close the connections at the end."""
    with the_producer():
        yield


app = FastAPI(lifespan=lifespan)

#: In a test: `app.dependency_overrides[the_producer] = lambda: order_producer`.
Producer = Annotated[OrderProducer, Depends(the_producer)]


class ShopLine(BaseModel):
    """One line of a shop's order."""

    product: str
    quantity: Decimal
    price: Decimal


class ShopOrder(BaseModel):
    """An order as the shop has it. Its id is the shop's own, and never given twice."""

    id: int
    customer: str
    placed_on: date
    lines: list[ShopLine]


def external_id(shop_order_id: int) -> str:
    """The ExternalId: made of the shop's own id, it keeps one order one, however often it is sent."""
    return f"webshop-{shop_order_id}"


def to_order(shop_order: ShopOrder) -> Order:
    """The order as the vendor wants it."""
    return Order(
        customer_nr=shop_order.customer,
        invoice_date=shop_order.placed_on,
        external_id=external_id(shop_order.id),
        invoice_rows=[
            OrderRow(customer_row_type=2, product_nr=line.product, quantity=line.quantity, amount=line.price)
            for line in shop_order.lines
        ],
    )


# Plain `def`: FastAPI runs these in threads, where waiting for Redis holds nobody up.
@app.post("/orders", status_code=202)
def place_order(shop_order: ShopOrder, producer: Producer) -> dict[str, str]:
    """Accept an order. Sent again, after a lost answer or by a double click, it stays one order."""
    job = producer.enqueue(to_order(shop_order), timeout=TIMEOUT_SECONDS)
    return {"job": str(job.id), "status": f"/orders/{shop_order.id}"}


@app.get("/orders/{shop_order_id}")
def show_order(shop_order_id: int, producer: Producer) -> dict[str, str | None]:
    """Where an order is."""
    status = producer.find(external_id=external_id(shop_order_id), timeout=TIMEOUT_SECONDS)
    if status is None:
        raise HTTPException(404, "there is no such order")
    return {"state": status.state, "order_number": status.order_number, "reason": status.reason}


@app.exception_handler(OrderInvalid)
async def tell_problems(_: Request, error: OrderInvalid) -> JSONResponse:
    """The order breaks the rules: all of it is told, with the place of each problem."""
    problems = [{"path": problem.path, "message": problem.message} for problem in error.problems]
    return JSONResponse({"problems": problems}, 422)


@app.exception_handler(OrderConflict)
async def tell_conflict(_: Request, error: OrderConflict) -> JSONResponse:
    """Another order has this id already, and stays."""
    return JSONResponse({"detail": str(error)}, 409)


@app.exception_handler(QueueFull)
@app.exception_handler(QueueUnavailable)
async def tell_later(_: Request, error: Exception) -> JSONResponse:
    """Not now. Whether or not the order was taken, sending it again is safe: it has the same ExternalId."""
    return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "5"})
