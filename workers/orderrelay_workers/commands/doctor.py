"""`orderrelay doctor`: is all well, and what to do if not."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis
    import sqlalchemy as sa

    from orderrelay_workers.diagnosis.findings import Finding
    from orderrelay_workers.settings import WorkerSettings


def doctor(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a finding a line, and a summary as the last line.")
    ] = False,
) -> None:
    """Look at settings, Redis, database, workers, clocks and companies, and log in once for each company.

    It changes nothing, and never prints a secret. Exit code: 0 no problem, 1 some, 2 wrong settings, 3 Redis or
    database unreachable. Example: orderrelay doctor --json
    """
    from orderrelay_shared.settings import SettingsInvalid  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.diagnosis.findings import Level, ok, problem  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_companies import judge_companies  # noqa: PLC0415
    from orderrelay_workers.masking import Mask  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings, secret_values  # noqa: PLC0415

    try:
        settings = load_worker_settings()
    except SettingsInvalid as error:
        _show(
            [problem("settings", line, "correct it, or remove it if its name is wrong") for line in error.lines],
            as_json=as_json,
        )
        raise typer.Exit(2) from None
    found = judge_companies(settings) or [ok("settings", f"valid; companies: {', '.join(settings.companies)}")]
    found += _examine(settings)
    mask = Mask(secret_values(settings))
    found = [dataclasses.replace(f, text=mask.text(f.text), to_do=mask.text(f.to_do)) for f in found]
    _show(found, as_json=as_json)
    if any(finding.unreachable for finding in found):
        raise typer.Exit(3)
    if any(finding.level is Level.PROBLEM for finding in found):
        raise typer.Exit(1)


def _examine(settings: WorkerSettings) -> list[Finding]:
    from orderrelay_workers.audit import facts  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.opening import sqlite_file  # noqa: PLC0415
    from orderrelay_workers.diagnosis import of_redis  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_certificates import look_at_certificates  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_clocks import look_at_clocks  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_companies import try_logins  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_disks import look_at_disks  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_tracing import look_at_tracing  # noqa: PLC0415

    with contextlib.ExitStack() as opened:
        client, found = of_redis.look_at_redis(
            settings.redis_url, of_redis.Asked(settings.accept_replicas, settings.accept_on_disk)
        )
        if client is not None:
            opened.callback(client.close)
        if settings.broker_url != settings.redis_url:
            found += of_redis.look_at_broker(settings.broker_url)
        engine, findings = _open(settings)
        if engine is not None:
            opened.callback(engine.dispose)
        found += findings
        found += look_at_disks(settings.spool_folder, sqlite_file(settings))
        found += look_at_clocks(client, engine)
        found += look_at_certificates(settings, database_over_tls=engine is not None and facts.is_over_tls(engine))
        found += _look_within(settings, client, engine)
        found.append(look_at_tracing(os.environ))
        with _quiet():
            return found + try_logins(settings, client)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the gate logs of its own changes would stand among the findings, which say the same."""
    import logging  # noqa: PLC0415  heavy; --help must be quick

    import structlog  # noqa: PLC0415

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _open(settings: WorkerSettings) -> tuple[sa.Engine | None, list[Finding]]:
    """The ledger, or None if it cannot be looked at; and what is to be said of the database."""
    from sqlalchemy import exc  # noqa: PLC0415  heavy; --help must be quick

    from orderrelay_workers.commands.opening import database_name, error_line, sqlite_file  # noqa: PLC0415
    from orderrelay_workers.diagnosis.findings import ok, problem  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_database import look_at_database  # noqa: PLC0415
    from orderrelay_workers.ledger.engine import open_engine  # noqa: PLC0415

    name, file = database_name(settings).removeprefix("the database "), sqlite_file(settings)
    if file is not None and not file.exists():
        return None, [ok("database", f"the SQLite file {file} is made when the first worker starts")]
    engine = open_engine(settings.database_url, application_name="orderrelay-doctor")
    try:
        return engine, look_at_database(engine, name, file)
    except (exc.SQLAlchemyError, OSError) as error:
        engine.dispose()
        text = f"{name} is not usable: {error_line(error)}"
        to_do = "check ORDERRELAY_DATABASE_URL and that the database runs"
        return None, [problem("database", text, to_do, unreachable=True)]


def _look_within(settings: WorkerSettings, client: redis.Redis | None, engine: sa.Engine | None) -> list[Finding]:
    """What the ledger and Redis say of each other, of the workers and of the companies."""
    from orderrelay_shared import keys  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_shared.command import our_version  # noqa: PLC0415
    from orderrelay_workers.audit import facts  # noqa: PLC0415
    from orderrelay_workers.diagnosis import of_companies, of_database  # noqa: PLC0415
    from orderrelay_workers.diagnosis.of_backlog import look_at_backlogs  # noqa: PLC0415
    from orderrelay_workers.ledger import caution, companies, migrate  # noqa: PLC0415
    from orderrelay_workers.ledger.engine import reading  # noqa: PLC0415

    found: list[Finding] = []
    ledger_id = None
    known: dict[str, companies.Company] = {}
    if engine is not None and migrate.is_current(engine):
        ledger_id = facts.ledger_id(engine)
        if client is not None:
            marked = client.get(keys.LEDGER_ID)
            found.append(of_database.judge_ledger_id(ledger_id, marked if isinstance(marked, bytes) else None))
        found.append(of_database.judge_workers(facts.workers(engine), our_version()))
        found += of_database.judge_content(facts.content(engine))
        with reading(engine) as connection:
            standing = caution.read_standing(connection)
        has_lookup = bool(settings.lookup_path)
        held = caution.count_not_looked_up(engine)
        found += of_database.judge_caution(standing, held, has_lookup=has_lookup)
        known = companies.by_alias(engine)
        found += of_companies.judge_binding(settings, known, ledger_id)
        if client is not None:
            found += look_at_backlogs(engine, of_companies.gate_of(settings, client), known)
    if client is not None:
        found += of_companies.look_at_gates(settings, client, list(settings.companies))
    return found + [of_companies.judge_lookup(settings, alias, known.get(alias)) for alias in settings.companies]


def _show(found: Sequence[Finding], *, as_json: bool) -> None:
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.screen import show_table  # noqa: PLC0415
    from orderrelay_workers.diagnosis.findings import Level  # noqa: PLC0415

    counts = {str(level): sum(finding.level is level for finding in found) for level in Level}
    if as_json:
        for finding in found:
            print_json(dataclasses.asdict(finding))
        print_json(counts)
        return
    rows = [
        (
            f.level if f.level is Level.OK else f.level.upper(),
            f.subject,
            f"{f.text}. To do: {f.to_do}" if f.to_do else f.text,
        )
        for f in found
    ]
    show_table(["", "What", "Finding"], rows)
    warnings = "1 warning" if counts["warning"] == 1 else f"{counts['warning']} warnings"
    problems = "1 problem" if counts["problem"] == 1 else f"{counts['problem']} problems"
    typer.echo(f"\n{counts['ok']} ok, {warnings}, {problems}")
