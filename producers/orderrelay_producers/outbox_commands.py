"""The commands `orderrelay outbox init|relay|status|retry`."""

from __future__ import annotations

import signal
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from orderrelay_producers.outbox_table import Database, layout
from orderrelay_shared.command import print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderrelay_producers.outbox_relay import Done
    from orderrelay_producers.outbox_store import Store
    from orderrelay_shared.settings import ProducerSettings

_SOME_SET_ASIDE, _USAGE, _UNREACHABLE = 1, 2, 3

#: So many orders that were set aside are shown, the oldest first.
_MOST_SHOWN: Final = 20

app = typer.Typer(
    name="outbox",
    help="Orders that services enqueue in their own database transaction: the table, its relay, and how it stands.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object as the last line.")]


@app.command()
def init(
    *,
    database: Annotated[
        Database | None, typer.Option("--for", help="For which database; default: that of ORDERRELAY_OUTBOX_URL.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Run it in the database of ORDERRELAY_OUTBOX_URL.")] = False,
) -> None:
    """Print the SQL that makes the table orderrelay_outbox, for a migration of your own; or run it. Safe to repeat.

    Exit code: 0 good, 2 usage or settings, 3 database unreachable.
    Example: orderrelay outbox init --for sqlite
    Example: orderrelay outbox init --for postgresql
    Example: orderrelay outbox init --apply
    """
    from orderrelay_producers.outbox_store import database_of  # noqa: PLC0415  heavy; --help must be quick

    url = _settings().outbox_url
    if url is None and database is None and not apply:
        _end("say for which database: --for postgresql or --for sqlite, or set ORDERRELAY_OUTBOX_URL", _USAGE)
    own = database_of(url) if url is not None else None
    if apply and database not in (None, own):
        _end(f"--for {database} does not go with ORDERRELAY_OUTBOX_URL, which is of {own}", _USAGE)
    if not apply:
        typer.echo("\n".join(f"{statement};" for statement in layout(database or own or Database.POSTGRESQL)))
        return
    with _opened(url, create=True) as store:
        with store.writing() as cursor:
            for statement in layout(store.statements.database):
                cursor.execute(statement)
        typer.echo(f"the table orderrelay_outbox is there, in {store.address}")


@app.command()
def relay(
    *,
    once: Annotated[bool, typer.Option("--once", help="Hand over what waits now, and end.")] = False,
    poll_seconds: Annotated[
        float, typer.Option(min=0.01, max=60, help="How often to look for orders when none wait.")
    ] = 0.5,
    as_json: _Json = False,
) -> None:
    """Hand over committed orders of the outbox to the workers, until SIGTERM or Ctrl-C. Start as many as you like.

    It waits while Redis or the database is away, or the queue is full. An order that cannot be taken is set aside with
    its reason; those behind it go on. It needs ORDERRELAY_OUTBOX_URL and ORDERRELAY_REDIS_URL. On
    ORDERRELAY_HEALTH_PORT it answers GET /live and GET /metrics (for Prometheus), but not with --once.
    Exit code: 0 good, 1 some were set aside, 2 settings or a missing table,
    3 with --once: something unreachable, or the queue full.
    Example: orderrelay outbox relay
    Example: orderrelay outbox relay --once --json
    """
    from orderrelay_producers.outbox_relay import Relay  # noqa: PLC0415  as above
    from orderrelay_producers.outbox_vitals import RelaySettings, Vitals, health_server  # noqa: PLC0415
    from orderrelay_shared.settings import load  # noqa: PLC0415
    from orderrelay_shared.urls import masked  # noqa: PLC0415

    settings = load(RelaySettings)
    is_asked_to_stop = _listen()
    vitals = None if once else Vitals()
    with ExitStack() as ends:
        store = ends.enter_context(_opened(settings.outbox_url))
        running = ends.enter_context(closing(Relay(store, settings, say=_tell)))
        if vitals is not None:
            if settings.health_port:
                server = ends.enter_context(closing(health_server(settings.health_host, settings.health_port, vitals)))
                server.start()
            _tell(f"relaying from {store.address} to {masked(settings.redis_url)}")
        done = running.run(
            poll_seconds=poll_seconds, until_empty=once, is_asked_to_stop=is_asked_to_stop, vitals=vitals
        )
    if as_json:
        print_json({"taken": done.taken, "set_aside": done.set_aside, "full": sorted(done.full), "away": done.away})
    else:
        typer.echo(f"{done.taken} handed over, {done.set_aside} set aside")
    _end_of_relay(done, once=once)


def _end_of_relay(done: Done, *, once: bool) -> None:
    if once and done.away is not None:
        _end(f"not all: {done.away}", _UNREACHABLE)
    if once and done.full:
        _end(f"not all: too many orders wait (ORDERRELAY_MAX_WAITING) of {', '.join(sorted(done.full))}", _UNREACHABLE)
    if done.set_aside:
        raise typer.Exit(_SOME_SET_ASIDE)


@app.command()
def status(*, as_json: _Json = False) -> None:
    """Tell how many orders of the outbox wait for a relay, since when, and which were set aside.

    Exit code: 0 good, 1 some are set aside, 2 settings or a missing table, 3 database unreachable.
    Example: orderrelay outbox status
    """
    with _opened(_settings().outbox_url) as store, store.reading() as cursor:
        counts = store.statements.counts(cursor)
        kept = store.statements.all_set_aside(cursor, at_most=_MOST_SHOWN)
    if as_json:
        print_json(
            {
                "waiting": counts.waiting,
                "oldest_seconds": counts.oldest_seconds,
                "newer": counts.newer,
                "set_aside": counts.set_aside,
                "orders_set_aside": [one._asdict() for one in kept],
            }
        )
    else:
        oldest = f", the oldest for {counts.oldest_seconds:.0f} s" if counts.oldest_seconds is not None else ""
        typer.echo(f"{counts.waiting} waiting{oldest}; {counts.set_aside} set aside")
        if counts.newer:
            typer.echo(f"{counts.newer} of them were written by a newer version: upgrade the relay")
        for one in kept:
            typer.echo(f"  row {one.id}  {one.external_id!r} of company {one.company!r}: {one.reason}")
        if counts.set_aside > len(kept):
            typer.echo(f"  … and {counts.set_aside - len(kept)} more")
        if counts.set_aside:
            typer.echo("When the cause is mended: orderrelay outbox retry ROW …, or --all")
    if counts.set_aside:
        raise typer.Exit(_SOME_SET_ASIDE)


@app.command()
def retry(
    rows: Annotated[
        list[int] | None, typer.Argument(metavar="[ROW]…", help="Rows, as `status` shows them.", show_default=False)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that were set aside.")] = False,
    as_json: _Json = False,
) -> None:
    """Let the relay try orders again that were set aside, when the cause is mended.

    Exit code: 0 good, 1 some rows were not set aside, 2 usage, settings or a missing table, 3 database unreachable.
    Example: orderrelay outbox retry 17 18
    Example: orderrelay outbox retry --all
    """
    wanted = sorted(set(rows or ()))
    if bool(wanted) == every:
        _end("name rows, as `orderrelay outbox status` shows them, or --all", _USAGE)
    with _opened(_settings().outbox_url) as store, store.writing() as cursor:
        put_back = store.statements.put_back(cursor, wanted)
    if as_json:
        print_json({"retried": put_back})
    else:
        typer.echo(f"{put_back} to be tried again")
    if put_back < len(wanted):
        _end(f"{len(wanted) - put_back} of these rows were not set aside", _SOME_SET_ASIDE)


def _settings() -> ProducerSettings:
    from orderrelay_shared.settings import ProducerSettings, load  # noqa: PLC0415  as above

    return load(ProducerSettings)


@contextmanager
def _opened(url: str | None, *, create: bool = False) -> Iterator[Store]:
    """The store; what makes it unusable ends the command."""
    from orderrelay_producers.outbox_store import OutboxUnusable, open_store  # noqa: PLC0415  as above

    try:
        with closing(open_store(url, create=create)) as store:
            yield store
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        _end(str(error), _USAGE)
    except OutboxUnusable as error:
        _end(f"the outbox cannot be used: {error}", _UNREACHABLE if error.may_pass else _USAGE)


def _listen() -> Callable[[], bool]:
    """From now on SIGTERM and Ctrl-C only ask to stop, so that a batch that is under way is ended."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    return lambda: bool(asked)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _end(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
