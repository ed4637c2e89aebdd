"""The commands `orderrelay enqueue`, `orderrelay status` and `orderrelay cancel`."""

from __future__ import annotations

import sys
import time
import uuid
from contextlib import ExitStack, nullcontext
from datetime import datetime
from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn

import typer

from orderrelay_producers.errors import QueueUnavailable, UnknownCompany
from orderrelay_producers.files.cells import DecimalMark, Reading
from orderrelay_producers.files.dry_run import check_orders
from orderrelay_producers.files.garbage import seldom_collected
from orderrelay_producers.files.records import FileFormat  # noqa: TC001  typer reads the annotations at run time
from orderrelay_producers.files.run import FileRun
from orderrelay_producers.producer import OrderProducer
from orderrelay_producers.terms import Terms
from orderrelay_shared import ids
from orderrelay_shared.command import print_json
from orderrelay_shared.settings import ProducerSettings, load
from orderrelay_shared.states import JobState, Priority

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from orderrelay_producers.files.run import HandOver
    from orderrelay_shared.job_status import JobStatus

_REFUSED, _USAGE, _UNREACHABLE, _INTERRUPTED = 1, 2, 3, 130

#: How people are shown an instant, which is in UTC.
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"


class Encoding(StrEnum):
    """How the text of a table may be encoded."""

    UTF_8 = "utf-8"
    CP1252 = "cp1252"


_Company = Annotated[str, typer.Option(help="Alias of the company that the orders belong to.")]
_Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object as the last line.")]


def enqueue(
    file: Annotated[str, typer.Argument(help="JSON lines, a JSON array or CSV, also as gzip; '-' for standard input.")],
    *,
    company: _Company = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check all orders and count: nothing is sent, Redis not needed.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Write refused orders to this file, as they were; with --from-…, add them to it."),
    ] = None,
    from_line: Annotated[
        int, typer.Option(min=1, help="Begin at this line, which a run that was stopped has told.")
    ] = 1,
    from_order: Annotated[int, typer.Option(min=1, help="The same for a JSON array: begin at this order.")] = 1,
    form: Annotated[
        FileFormat | None, typer.Option("--format", help="What the file is, if it is not told rightly.")
    ] = None,
    encoding: Annotated[
        Encoding, typer.Option(help="Of CSV: cp1252 is what Excel on Windows calls just 'CSV'.")
    ] = Encoding.UTF_8,
    decimal: Annotated[
        DecimalMark | None, typer.Option(help="Of CSV: says of 1,234 and 1.234 which is a thousand and more.")
    ] = None,
    batch: Annotated[
        str, typer.Option(help="Name that tells orders without ExternalId from identical ones in another file.")
    ] = "",
    due_at: Annotated[str, typer.Option(help="Do not send them before: a time with its zone, ISO 8601.")] = "",
    deadline: Annotated[str, typer.Option(help="Do not send them after; they are parked then. As --due-at.")] = "",
    priority: Annotated[Priority, typer.Option(help="Whose turn it is first.")] = Priority.NORMAL,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for room when too many orders wait, and none is taken.")
    ] = 0.0,
    as_json: _Json = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that Redis may stay without an answer.")] = 5.0,
) -> None:
    """Hand over the orders of a file. Running it again on the same file adds nothing.

    An order without ExternalId gets one that is derived from its content, so it is the same at every run.
    If it is stopped, by Ctrl-C too, it tells where to go on.

    CSV is read to its end before anything is sent: if rows of one order stand apart, or a row has no key, all of it is
    refused. Standard input and pipes are copied into a temporary file for that, in the folder that TMPDIR names.

    Exit code: 0 all taken, 1 some refused or in conflict, or a whole CSV because of its keys, 2 wrong usage or an
    unreadable file, 3 Redis unreachable or the queue full, 130 interrupted.
    Example: orderrelay enqueue orders.csv --dry-run
    Example: orderrelay enqueue orders.csv --rejects refused.csv
    Example: orderrelay enqueue orders.csv --encoding cp1252 --decimal comma
    Example: orderrelay enqueue orders.jsonl --company acme --priority bulk --from-line 20001
    """
    # Before anything else, so that a Ctrl-C finds something to tell at any time.
    name = "standard input" if file == "-" else file
    alias = _alias(company)
    try:
        terms = Terms(priority, _instant(due_at, "--due-at"), _instant(deadline, "--deadline"))
    except ValueError as error:
        _end(str(error), _USAGE)
    if from_line > 1 and from_order > 1:
        _end("--from-line and --from-order: give the one that the run that was stopped has told", _USAGE)
    start = max(from_line, from_order)
    run: FileRun | None = None
    interrupted = False
    with ExitStack() as opened:
        try:
            stream = opened.enter_context(_reading(file))
            rejected = opened.enter_context(_writing(rejects, stream, start)) if rejects is not None else None
            say, advance = opened.enter_context(_progress(stream))
            opened.enter_context(seldom_collected())
            run = FileRun(
                name,
                stream,
                form=form,
                reading=Reading(encoding.value, decimal),
                batch=batch,
                rejected=rejected,
                say=say,
                advance=advance,
                start=start,
                start_in="order" if from_order > 1 else "line" if from_line > 1 else None,
            )
            if dry_run:
                run.take(_dry(alias, terms), anything_leaves=False)
            else:
                producer = opened.enter_context(OrderProducer())
                run.take(
                    lambda orders: producer.enqueue_batches(
                        orders, company=alias, terms=terms, wait=wait, timeout=timeout
                    )
                )
        except UnknownCompany as error:
            _end(str(error), _USAGE)
        except KeyboardInterrupt:
            interrupted = True
    if run is None:
        _end(f"{name}: interrupted before it was read; nothing is taken", _INTERRUPTED)
    if interrupted:
        run.interrupt(anything_leaves=not dry_run)
    if run.stopped is not None:
        ended = run.stopped if run.stopped.endswith("?") else f"{run.stopped}."
        typer.echo(f"{name}: stopped: {ended} {run.checked_so_far if dry_run else run.taken_so_far}", err=True)
    elif run.astray:
        typer.echo(f"{name}: {run.refused_whole}", err=True)
    elif not any(run.counts.values()) and not interrupted:
        typer.echo(f"{name}: there is no order in it", err=True)
    _tell_counts(run, alias, rejects, as_json=as_json, dry_run=dry_run)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)
    if run.stopped is not None:
        raise typer.Exit(_UNREACHABLE if run.stopped_by_queue else _USAGE)
    if run.refused or run.conflicts or run.astray:
        raise typer.Exit(_REFUSED)


def _dry(company: str, terms: Terms) -> HandOver:
    settings = load(ProducerSettings)
    return lambda orders: check_orders(
        orders, company=company, terms=terms, external_id_max_length=settings.external_id_max_length
    )


def _tell_counts(run: FileRun, company: str, rejects: Path | None, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        counts = run.counts
        if dry_run:
            counts = {"valid": run.accepted, "refused": run.refused, "already": run.already, "conflicts": run.conflicts}
        next_start = {f"next_{run.counted_in}": run.next_start} if run.stopped is not None else {}
        form = str(run.form) if run.form is not None else None
        astray = {"astray": run.astray} if run.astray else {}
        finished = run.stopped is None and not run.astray
        print_json({**counts, **astray, "company": company, "format": form, "finished": finished, **next_start})
    elif run.stopped is None and not run.astray:
        conflicts = f", {run.conflicts} in conflict" if run.conflicts else ""
        see = f" (see {rejects})" if rejects is not None and (run.refused or run.conflicts) else ""
        if dry_run:
            twice = f", {run.already} twice in the file" if run.already else ""
            typer.echo(f"{run.accepted} valid, {run.refused} refused{conflicts}{see}{twice}; nothing was sent")
            return
        follow = f"; follow with: orderrelay status {run.some_job.id}" if run.some_job is not None else ""
        refused = f"{run.refused} refused{conflicts}{see}"
        typer.echo(f"{run.accepted} accepted, {refused}, {run.already} already there{follow}")


def status(
    job: Annotated[str, typer.Argument(metavar="JOB|EXTERNAL_ID", help="A job's id, or an order's ExternalId.")],
    *,
    company: _Company = "default",
    as_json: _Json = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds in all.")] = 5.0,
) -> None:
    """Tell where a job is, and what the vendor said.

    Exit code: 0 found, 1 no such job, 2 usage or settings, 3 Redis unreachable or no worker answers.
    Example: orderrelay status webshop-1001 --company acme
    """
    alias = _alias(company)
    with OrderProducer() as producer:
        candidate, found = _find(producer, job, alias, time.monotonic() + timeout)
    if as_json:
        print_json({"job": str(candidate) if found is not None else None, **_facts(found)})
    elif found is not None:
        typer.echo(_block(candidate, found))
    if found is None:
        _end(
            f"no job {job!r} of company {alias!r} (--company names another); an order that was accepted just now may "
            "not be booked yet; where workers run, see what there is: orderrelay audit list --since 1h",
            _REFUSED,
        )


def cancel(
    job: Annotated[str, typer.Argument(metavar="JOB|EXTERNAL_ID", help="A job's id, or an order's ExternalId.")],
    *,
    company: _Company = "default",
    why: Annotated[str, typer.Option(help="Why, for people to read in the audit; at most 300 characters.")] = "",
    as_json: _Json = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds in all.")] = 10.0,
) -> None:
    """Cancel an order that waits, or is parked and was never sent. In every other state nothing happens to it.

    Exit code: 0 cancelled, 1 no such job or not cancelled, 2 usage, 3 Redis unreachable or no worker answers.

    Example: orderrelay cancel webshop-1001 --why "the customer changed their mind"
    """
    alias = _alias(company)
    deadline = time.monotonic() + timeout
    with OrderProducer() as producer:
        candidate, found = _find(producer, job, alias, deadline)
        if found is not None and found.state in _CANCELLABLE:
            try:
                producer.cancel(candidate, why=why, timeout=max(0.1, deadline - time.monotonic()))
            except QueueUnavailable as error:
                _end(f"{error}; asking again is safe", _UNREACHABLE)
            except ValueError as error:
                _end(f"--why: {error}", _USAGE)
        # The answer of workers is the state. They are quick; a state that stays is one, too.
        while found is not None and found.state in _CANCELLABLE and time.monotonic() < deadline:
            time.sleep(0.05)
            candidate, found = _find(producer, job, alias, deadline)
    is_cancelled = found is not None and found.state is JobState.CANCELLED
    if as_json:
        print_json(
            {"job": str(candidate) if found is not None else None, "cancelled": is_cancelled, **_facts(found)}
        )  # fmt: skip
    elif is_cancelled:
        typer.echo(f"job {candidate} is cancelled")
    if found is None:
        _end(f"no job {job!r} of company {alias!r}", _REFUSED)
    if found.state is JobState.WAITING:
        _end(f"requested, but within {timeout:g} s no worker has done it; see 'orderrelay status {job}'", _UNREACHABLE)
    if not is_cancelled:
        _end(f"not cancelled: it is {found.state}{_HOW_ELSE.get(found.state, '')}", _REFUSED)


_CANCELLABLE = (JobState.WAITING, JobState.PARKED)
_HOW_ELSE = {
    JobState.PARKED: ", and a request has left for it; somebody must decide: 'orderrelay parked drop'",
    JobState.REJECTED: ", so the vendor does not have it; 'orderrelay parked drop' ends it",
}


def _find(
    producer: OrderProducer, text: str, company: str, deadline: float
) -> tuple[uuid.UUID, JobStatus | None]:  # fmt: skip
    """The job that a text means, and its status; None if there is none. Ends the command if nobody answers."""
    candidate, found = ids.job_id(company, text), None
    for candidate in _candidates(text, company):
        try:
            found = producer.status(candidate, timeout=max(0.1, deadline - time.monotonic()))
        except QueueUnavailable as error:
            _end(str(error), _UNREACHABLE)
        if found is not None:
            break
    return candidate, found


def _alias(company: str) -> str:
    try:
        return ids.normalise_company(company)
    except ValueError as error:
        _end(str(error), _USAGE)


def _instant(text: str, option: str) -> datetime | None:
    if not text:
        return None
    write_it = "write it as 2026-01-30T08:00:00+01:00, or with Z for UTC"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        _end(f"{option} {text!r} is no time; {write_it}", _USAGE)
    if at.utcoffset() is None:
        _end(f"{option} {text!r} has no time zone; {write_it}", _USAGE)
    return at


def _candidates(text: str, company: str) -> list[uuid.UUID]:
    """The jobs that a text may mean: job ids are UUIDv5, and an ExternalId can be anything, a UUIDv5 too."""
    by_external_id = ids.job_id(company, text)
    try:
        as_id = uuid.UUID(text)
    except ValueError:
        return [by_external_id]
    return [as_id, by_external_id] if as_id.version == 5 else [by_external_id]


def _facts(status: JobStatus | None) -> dict[str, object]:
    """All of a status, for a program to read; every name is always there."""
    if status is None:
        return {"state": None}
    facts: dict[str, object] = {name: getattr(status, name) for name in status.__struct_fields__}
    return {**facts, "state": status.state.value, "priority": status.priority.value}


def _block(job: uuid.UUID, status: JobStatus) -> str:
    """A status for a person to read."""
    order = [f"number {status.order_number}"] if status.order_number else []
    order += [f"vendor id {status.vendor_id}"] if status.vendor_id is not None else []
    order += [f"reference {status.reference}"] if status.reference else []
    rows = {
        "Job": str(job),
        "Company": status.company,
        "ExternalId": status.external_id,
        "State": f"{status.state} since {status.at:{_INSTANT}}",
        "Order": ", ".join(order),
        "Priority": "" if status.priority is Priority.NORMAL else str(status.priority),
        "Due at": "" if status.due_at is None else f"{status.due_at:{_INSTANT}}",
        "Deadline": "" if status.deadline is None else f"{status.deadline:{_INSTANT}}",
        "Attempts": str(status.attempts),
        "Error number": "" if status.error_number is None else str(status.error_number),
        "Reason": status.reason or "",
    }
    return "\n".join(f"{name + ':':<14}{text}" for name, text in rows.items() if text)


def _reading(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(file, "rb")  # noqa: PTH123  the caller closes it, and error texts name the file as given
    except OSError as error:
        _end(f"{file}: cannot be read: {error.strerror}", _USAGE)


def _writing(rejects: Path, stream: BinaryIO, start: int) -> BinaryIO:
    try:
        # Refused lines often are corrected and enqueued in place; truncating them before reading would lose them.
        if rejects.exists() and stream is not sys.stdin.buffer and rejects.samefile(stream.name):
            _end(f"{rejects}: is the file that is read; write refused lines to another", _USAGE)
        # What the run that was stopped had refused stands there.
        return rejects.open("wb" if start == 1 else "ab")
    except OSError as error:
        _end(f"{rejects}: cannot be written: {error.strerror}", _USAGE)


def _progress(stream: BinaryIO) -> AbstractContextManager[tuple[Callable[[str], None], Callable[[], None]]]:
    """How to say a line on stderr, and how to tell that an order is done: shown on a terminal only."""
    if not sys.stderr.isatty():
        return nullcontext((lambda text: typer.echo(text, err=True), lambda: None))
    from orderrelay_producers.progress import bar  # noqa: PLC0415  rich takes long to import

    return bar(stream)


def _end(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
