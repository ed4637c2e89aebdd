"""Orders that are checked and sealed, and may leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orderrelay_shared import ids
from orderrelay_shared.orders import Order, OrderInvalid, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from orderrelay_producers.terms import Terms
    from orderrelay_shared.intake import Envelope


class ReadyOrder(NamedTuple):
    """An order that may leave.

    Attributes:
        number: Which of its call's orders it is, from 0.
        given: As the caller gave it.
        envelope: As it travels.
    """

    number: int
    given: Order | Mapping[str, object]
    envelope: Envelope

    @property
    def order(self) -> Order:
        """The caller's object, or one that says the same; always with an ExternalId."""
        return self.given if isinstance(self.given, Order) else Order.from_json(self.envelope.body)


def make_ready(
    number: int,
    order: Order | Mapping[str, object] | OrderInvalid,
    company: str,
    terms: Terms,
    external_id_max_length: int,
) -> ReadyOrder:
    """The order, valid and with an ExternalId of an allowed length.

    Raises:
        OrderInvalid: The order breaks the rules.
    """
    if isinstance(order, OrderInvalid):
        raise order
    envelope = terms.envelope(company, order)
    if len(envelope.external_id) > external_id_max_length:  # All else is seen to already.
        problem = ids.external_id_problem(envelope.external_id, external_id_max_length) or ""
        raise OrderInvalid((Problem("ExternalId", problem),))
    return ReadyOrder(number, order, envelope)


def each_ready(
    numbered: Iterable[tuple[int, Order | Mapping[str, object] | OrderInvalid]],
    company: str,
    terms: Terms,
    external_id_max_length: int,
    ready: list[ReadyOrder],
    refused: dict[int, OrderInvalid],
    trace: Callable[[ReadyOrder], ReadyOrder] | None = None,
) -> Iterator[Envelope]:
    """The envelopes of the orders that may leave, as they are made; the orders are noted as `ready` or `refused`.

    Where `trace` is given, it gives each order that leaves a context to be traced by.
    """
    for number, order in numbered:
        try:
            one = make_ready(number, order, company, terms, external_id_max_length)
        except OrderInvalid as error:
            refused[number] = error
        else:
            if trace is not None:
                one = trace(one)
            ready.append(one)
            yield one.envelope
