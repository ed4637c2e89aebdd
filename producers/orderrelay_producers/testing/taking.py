"""Enqueueing into a memory, as both in-memory producers do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_producers.errors import QueueFull, QueueUnavailable
from orderrelay_producers.ready import ReadyOrder, make_ready
from orderrelay_producers.report import JobT, LineResult, ReportLine
from orderrelay_shared import ids
from orderrelay_shared.orders import OrderInvalid

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Mapping

    from orderrelay_producers.terms import Terms
    from orderrelay_producers.testing.memory import Memory
    from orderrelay_shared.orders import Order


def take_one(
    memory: Memory,
    order: Order | Mapping[str, object],
    company: str,
    terms: Terms,
    make_job: Callable[[uuid.UUID, str, str], JobT],
    *,
    block: bool,
    booked: bool,
) -> JobT:
    """As `OrderProducer.enqueue`."""
    ready = make_ready(0, order, company, terms, ids.EXTERNAL_ID_MAX_LENGTH)
    ((_, _, error),) = _call(memory, [ready], block=block, booked=booked)
    if error is not None:
        raise error
    return _job(ready, make_job)


def take_batch(
    memory: Memory,
    batch: Iterable[tuple[int, Order | Mapping[str, object] | OrderInvalid]],
    company: str,
    terms: Terms,
    make_job: Callable[[uuid.UUID, str, str], JobT],
    *,
    block: bool,
) -> list[ReportLine[JobT]]:
    """A line for each of these numbered orders, which meet the same trouble, if there is any."""
    lines: list[ReportLine[JobT]] = []
    ready: list[ReadyOrder] = []
    for number, order in batch:
        try:
            ready.append(make_ready(number, order, company, terms, ids.EXTERNAL_ID_MAX_LENGTH))
        except OrderInvalid as invalid:
            lines.append(ReportLine(number, LineResult.REFUSED, error=invalid))
    for one, result, error in _call(memory, ready, block=block, booked=False) if ready else ():
        job = None if result is LineResult.REFUSED else _job(one, make_job)
        lines.append(ReportLine(one.number, result, job, error))
    return sorted(lines, key=lambda line: line.index)


def _call(
    memory: Memory, ready: list[ReadyOrder], *, block: bool, booked: bool
) -> list[tuple[ReadyOrder, LineResult, Exception | None]]:
    """One call to Redis; while it blocks, as many tries as it takes."""
    away = memory.strike(QueueUnavailable)
    full = memory.strike(QueueFull)
    while block and full is not None and full.left is not None:
        full = memory.strike(QueueFull)
    return [(one, *memory.take(one, away, is_full=full is not None, booked=booked)) for one in ready]


def _job(ready: ReadyOrder, make_job: Callable[[uuid.UUID, str, str], JobT]) -> JobT:
    return make_job(ready.envelope.job_id, ready.envelope.external_id, ready.envelope.company)
