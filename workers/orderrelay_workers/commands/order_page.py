"""One order's page, for a person and as one JSON object: `orderrelay audit show`."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Final

import typer

from orderrelay_shared.states import Priority
from orderrelay_workers import lanes
from orderrelay_workers.audit import sent_order, story
from orderrelay_workers.commands.screen import NOTHING, show_facts, show_table

if TYPE_CHECKING:
    from orderrelay_workers.audit.queries import AttemptLine, RevisionLine, Story
    from orderrelay_workers.audit.sent_order import SentOrder


#: What the names of the vendor's pages mean.
_LEGEND: Final = """The names are SoftOne GO's: Ordernr order number, Kund customer, Orderdatum order date,
Leveransdatum delivery date, Totalt belopp total, Belopp inkl. moms total with VAT,
Återstår att fakturera left to invoice; Rad row, Artikel product, Benämning text, Antal quantity,
Pris price, Radbelopp the row's amount."""


def show(told: Story, *, has_lookup: bool) -> None:
    """Print the page."""
    job, shared = told.job, story.place(told)
    sent = sent_order.read_sent_order(live_revision(told).body, job.order_number)
    typer.echo("ORDER")
    show_facts(
        [
            ("Job", job.job),
            ("Company", job.company),
            ("ExternalId", job.external_id),
            ("State", f"{job.state} since {job.since:%Y-%m-%dT%H:%M:%SZ}"),
            ("Order number", job.order_number),
            ("Vendor id", job.vendor_id),
            ("Sent as", None if shared is None else shared),
            ("Reference", f"{job.reference} (of the whole request)" if shared and job.reference else job.reference),
            ("Error number", job.error_number),
            ("Reason", job.reason),
            ("Priority", None if (priority := lanes.priority_of(job.lane)) is Priority.NORMAL else str(priority)),
            ("Not before", job.not_before),
            ("Deadline", job.deadline),
            (
                "Attempts",
                f"{job.attempts} of {job.requests} requests count" if job.requests != job.attempts else job.attempts,
            ),
            ("Revision", job.revision if job.revision > 1 else None),
            ("Trace", _trace_id(told)),
            ("InvoiceDate", sent.properties.get("InvoiceDate")),
            ("Our reference", sent.properties.get("ReferenceOur")),
            ("Your reference", sent.properties.get("ReferenceYour")),
            ("Currency", sent.properties.get("Currency")),
            ("Note", sent.properties.get("Note")),
        ]
    )
    _show_sent(sent)
    typer.echo("\nTIMELINE")
    show_table(
        ["When", "What", "How it went", "Who"],
        [(step.at, step.what, step.text or NOTHING, step.who) for step in story.timeline(told)],
    )
    typer.echo(f"\n{story.outlook(told, has_lookup=has_lookup)}")


def _show_sent(sent: SentOrder) -> None:
    typer.echo(f"\nWHAT IS ORDERED ({NOTHING}: the API never tells; computed: reckoned here from the rows)")
    show_facts((_heading(name), NOTHING if value is None else _plain(value)) for name, value in sent.head.items())
    typer.echo()
    columns = ["Rad", *sent_order.ROW_COLUMNS]
    show_table(
        [_heading(name) for name in columns],
        [[_plain(row[name]) for name in columns] for row in sent.rows],
        right=["Rad", "Antal", "Pris", _heading("Radbelopp")],
    )
    typer.echo(f"\n{_LEGEND}")


def _heading(name: str) -> str:
    return f"{name} (computed)" if name in sent_order.COMPUTED else name


def _plain(value: object) -> object:
    """A number with all its digits and no exponent; anything else as it is."""
    from decimal import Decimal  # noqa: PLC0415  only this needs it

    return format(value, "f") if isinstance(value, Decimal) else value


def _trace_id(told: Story) -> str | None:
    """The id by which a tracing backend finds the order's trace; None: it has none."""
    traceparent = live_revision(told).traceparent
    return None if traceparent is None else traceparent.split("-")[1]


def live_revision(told: Story) -> RevisionLine:
    """What is sent as the order: the revision that the job names."""
    return next(r for r in told.revisions if r.number == told.job.revision)


def last_answer(told: Story) -> AttemptLine | None:
    """The last order request that was answered, or None."""
    answered = [a for a in told.attempts if a.kind == "order" and a.answer is not None]
    return answered[-1] if answered else None


def as_object(told: Story, *, has_lookup: bool) -> dict[str, object]:
    """All of the page as one JSON object, with every answer verbatim."""
    job = told.job
    revision = live_revision(told)
    sent = sent_order.read_sent_order(revision.body, job.order_number)
    answer = last_answer(told)
    return {
        **dataclasses.asdict(job),
        "priority": str(lanes.priority_of(job.lane)),
        "company_paused": told.paused_reason,
        "summary": story.outlook(told, has_lookup=has_lookup),
        "order": sent.head,
        "rows": sent.flat_rows(),
        "computed": sent_order.COMPUTED,
        "body": _verbatim(revision.body),
        "answer": None if answer is None else _verbatim(answer.answer),
        "shared_request": None if (shared := story.place(told)) is None else dataclasses.asdict(shared),
        "operation_result": told.results[-1].properties if told.results else None,
        "timeline": [dataclasses.asdict(step) for step in story.timeline(told)],
        "attempts_made": [{**dataclasses.asdict(a), "answer": _verbatim(a.answer)} for a in told.attempts],
        "operation_results": [
            {"attempt_id": r.attempt_id, "received_at": r.received_at, **r.properties} for r in told.results
        ],
        "revisions": [{**dataclasses.asdict(r), "body": _verbatim(r.body)} for r in told.revisions],
        "events": [dataclasses.asdict(event) for event in told.events],
    }


def _verbatim(data: bytes | None) -> dict[str, str] | None:
    """Bytes for JSON: {"text": …} if they are UTF-8, else {"base64": …}."""
    if data is None:
        return None
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}
