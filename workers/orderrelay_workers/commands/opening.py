"""What every operator's command begins with: settings, the ledger, the company that is meant, and who asks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import sqlalchemy as sa

    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.settings import WorkerSettings

#: Exit codes: some refused or not found, usage or configuration, something unreachable.
REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3


def end(text: str, code: int) -> NoReturn:
    """Say why on stderr, and exit with this code."""
    typer.echo(text, err=True)
    raise typer.Exit(code)


def alias_of(company: str) -> str:
    """The alias in its normal form; one that can be none ends the command with 2."""
    from orderrelay_shared.ids import normalise_company  # noqa: PLC0415  heavy; --help must be quick

    try:
        return normalise_company(company)
    except ValueError as error:
        end(str(error), USAGE)


def known_company(known: Mapping[str, Company], company: str) -> Company:
    """The company of this alias; one that the ledger does not have ends the command with 1, naming those it has."""
    alias = alias_of(company)
    if alias not in known:
        names = ", ".join(sorted(known)) or "none yet; a worker adds those that it is configured for"
        end(f"company {alias!r} is not in the ledger; known: {names}", REFUSED)
    return known[alias]


def actor() -> str:
    """Who runs this command, for the events: user@host of the operating system."""
    import getpass  # noqa: PLC0415  only commands that write need it
    import socket  # noqa: PLC0415

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user need not have a name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"


@contextlib.contextmanager
def opened_ledger(settings: WorkerSettings) -> Iterator[sa.Engine]:
    """The ledger with this version's layout; none is created by looking.

    Without a ledger, or with an older layout, the command ends with 2; with a database that is away, with 3.
    """
    from orderrelay_workers.ledger import migrate  # noqa: PLC0415  heavy; --help must be quick

    with opened_database(settings) as engine:
        if not migrate.is_current(engine):
            end(f"{database_name(settings)} does not have this version's tables; run: orderrelay init", USAGE)
        yield engine


@contextlib.contextmanager
def opened_database(settings: WorkerSettings, *, may_create: bool = False) -> Iterator[sa.Engine]:
    """The database, whatever its layout.

    Args:
        settings: They name it.
        may_create: Whether a SQLite file that does not exist is made; else the command ends with 2.
    """
    from sqlalchemy import exc  # noqa: PLC0415  heavy; --help must be quick

    from orderrelay_workers.ledger.engine import open_engine  # noqa: PLC0415

    file = sqlite_file(settings)
    if file is not None and not may_create and not file.exists():
        end(f"there is no ledger at {file} yet; run: orderrelay init", USAGE)
    try:
        engine = open_engine(settings.database_url, application_name="orderrelay-command")
        with engine.connect().execution_options(reading=True):
            pass
    except (exc.DatabaseError, exc.InterfaceError, OSError) as error:
        end(f"{database_name(settings)} is not usable: {error_line(error)}", UNREACHABLE)
    try:
        yield engine
    finally:
        engine.dispose()


def error_line(error: BaseException) -> str:
    """The first line of an error's text, without what an address in it must not show."""
    from orderrelay_shared.urls import mask_urls  # noqa: PLC0415  only an error needs it

    cause = getattr(error, "orig", None) or error
    lines = mask_urls(str(cause)).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def sqlite_file(settings: WorkerSettings) -> Path | None:
    """The ledger's file; None if it is on PostgreSQL."""
    scheme, _, rest = settings.database_url.partition(":///")
    return Path(rest) if scheme == "sqlite" else None


def database_name(settings: WorkerSettings) -> str:
    """The ledger's database as it may be shown."""
    from orderrelay_shared.urls import masked  # noqa: PLC0415  heavy; --help must be quick

    file = sqlite_file(settings)
    return f"the database {file}" if file is not None else f"the database at {masked(settings.database_url)}"
