"""Orders checked as if they were enqueued, without Redis: nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_producers.errors import OrderConflict
from orderrelay_producers.files.keys_seen import NumberByKey
from orderrelay_producers.ready import make_ready
from orderrelay_producers.report import LineResult, ReportLine
from orderrelay_shared import ids
from orderrelay_shared.orders import Order, OrderInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orderrelay_producers.terms import Terms


class ConflictInFile(OrderConflict):
    """Another order of the file has the ExternalId."""

    def __str__(self) -> str:
        return (
            f"ExternalId {self.order.external_id!r} stands further up in this file with other content. "
            "If this is another order, give it an ExternalId of its own."
        )


def check_orders(
    orders: Iterable[Order | dict[str, object] | OrderInvalid],
    *,
    company: str,
    terms: Terms,
    external_id_max_length: int,
) -> Iterator[ReportLine]:
    """What `OrderProducer.enqueue_batches` would say if nothing had been enqueued before.

    Args:
        orders: They, as there.
        company: Alias of the company, normalised.
        terms: On what terms they are to be sent.
        external_id_max_length: The longest ExternalId that is accepted.

    Returns:
        A line for each; `ACCEPTED` stands for an order that is sound, and none has a job. Memory: about 30 bytes for
        each order.
    """
    content_by_id = NumberByKey()
    for index, given in enumerate(orders):
        try:
            ready = make_ready(index, given, company, terms, external_id_max_length)
        except OrderInvalid as error:
            yield ReportLine(index, LineResult.REFUSED, error=error)
            continue
        envelope = ready.envelope
        key = int.from_bytes(ids.external_id_digest(envelope.external_id)[:8])
        content = int.from_bytes(envelope.content_digest[:8]) or 1
        first = content_by_id[key]
        if not first:
            content_by_id[key] = content
            yield ReportLine(index, LineResult.ACCEPTED)
        elif first == content:
            yield ReportLine(index, LineResult.ALREADY)
        else:
            yield ReportLine(index, LineResult.CONFLICT, error=ConflictInFile(ready.order, envelope.job_id))
