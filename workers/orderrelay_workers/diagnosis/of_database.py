"""The database: whether it answers, keeps what is committed, and has this version's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_workers.audit import facts
from orderrelay_workers.diagnosis.findings import Finding, Level, ok, problem, warning
from orderrelay_workers.ledger import migrate
from orderrelay_workers.ledger.engine import MOST_CONNECTIONS, is_sqlite
from orderrelay_workers.slowness import orders

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

    import sqlalchemy as sa

    from orderrelay_workers.ledger.caution import Standing

#: The oldest PostgreSQL that the tests know; it still gets corrections of its makers.
_OLDEST_POSTGRES = 14

#: So many connections are left to others: people, backups, this command.
_CONNECTIONS_OF_OTHERS = 10

#: A larger share of all connections in use is worth a warning.
_MOST_CONNECTIONS = 0.9


def look_at_database(engine: sa.Engine, name: str, file: Path | None) -> list[Finding]:
    """Look at a database that answers.

    Args:
        engine: Of the ledger.
        name: What it may be called.
        file: The SQLite file, or None on PostgreSQL.
    """
    if file is not None:
        return [*_look_at_file(engine, file), _layout(engine)]
    server = facts.server(engine)
    layout = _layout(engine)
    workers = len(facts.workers(engine).alive) if layout.level is Level.OK else 0
    return [*judge_server(server, name), *judge_room(server, workers), layout]


def _look_at_file(engine: sa.Engine, file: Path) -> list[Finding]:
    mode = facts.journal_mode(engine)
    found = [
        ok("database", f"SQLite file {file}, journal mode {mode}, every commit on disk; workers on this host only")
    ]
    if mode != "wal":
        found = [problem("database", f"SQLite file {file} has journal mode {mode}", "put it on a local disk")]
    return found


def judge_server(server: facts.ServerFacts, name: str) -> list[Finding]:
    """What a PostgreSQL server's facts mean."""
    found = [ok("database", f"{name} answers, PostgreSQL {server.version}")]
    if server.is_standby:
        found.append(problem("database", "it is a standby, which takes no writes", "connect to its primary"))
    for setting, value, loss in (
        ("fsync", server.fsync, "a power cut can destroy the database"),
        ("full_page_writes", server.full_page_writes, "a power cut can damage pages of the database"),
    ):
        if value != "on":
            found.append(problem("database", f"{setting} is {value}: {loss}", f"set {setting} = on"))
    if server.synchronous_commit not in ("on", "remote_apply"):
        text = f"synchronous_commit is {server.synchronous_commit}: a crash can lose what was booked"
        found.append(problem("database", text, "set synchronous_commit = on"))
    elif len(found) == 1:
        found.append(ok("database", f"a commit is on disk (fsync on, synchronous_commit {server.synchronous_commit})"))
    return found


def judge_room(server: facts.ServerFacts, workers: int) -> list[Finding]:
    """Whether a PostgreSQL server is new enough, and has connections enough for these workers.

    Args:
        server: What it says of itself.
        workers: How many workers are alive.
    """
    found: list[Finding] = []
    if server.version_number < _OLDEST_POSTGRES * 10_000:
        text = f"PostgreSQL {server.version} is too old: its makers correct it no more, and no test runs with it"
        found.append(problem("database", text, f"bring it to PostgreSQL {_OLDEST_POSTGRES} or later"))
    room = server.max_connections - server.reserved_connections
    wanted = workers * MOST_CONNECTIONS + _CONNECTIONS_OF_OTHERS
    used = f"{server.connections} of {room} connections in use"
    to_do = (
        f"set max_connections to {wanted + server.reserved_connections} or more and restart it, or run fewer workers"
    )
    if server.connections > _MOST_CONNECTIONS * room:
        found.append(warning("database", f"{used}: workers may soon get none, and wait", to_do))
    elif wanted > room:
        text = f"{used}, but {workers} workers may open {MOST_CONNECTIONS} each, and would wait for one another"
        found.append(warning("database", text, to_do))
    else:
        found.append(ok("database", f"{used}; {server.size_bytes / 1024**3:.2f} GiB large (its disk is not seen here)"))
    return found


def _layout(engine: sa.Engine) -> Finding:
    current, newest = migrate.current(engine), migrate.newest()
    if migrate.is_current(engine):
        newer = "" if current == newest else f", newer than this version's {newest}"
        return ok("database", f"its tables are at {current}{newer}")
    if is_sqlite(engine):
        return ok("database", "its tables are made, or brought up to date, when the next worker starts")
    return problem("database", f"its tables are at {current or 'nothing'}, not at {newest}", "run: orderrelay init")


def judge_ledger_id(ours: uuid.UUID | None, marked: bytes | None) -> Finding:
    """Whether the Redis is this ledger's.

    Args:
        ours: The id that the database has.
        marked: What the Redis is marked with.
    """
    theirs = marked.decode(errors="replace") if marked is not None else None
    if ours is None or theirs is None:
        text = "Redis and database are not joined yet; the first worker does that"
        return ok("ledger", f"{text}. If workers run already, theirs are others")
    if theirs == ours.hex:
        return ok("ledger", f"Redis and database belong together (ledger {ours.hex})")
    return problem(
        "ledger",
        f"Redis belongs to ledger {theirs}, the database is ledger {ours.hex}: orders could be created twice",
        "use the database or the Redis that belongs to the other",
    )


def judge_content(content: facts.ContentFacts) -> list[Finding]:
    """Whether anything in the ledger waits for a person."""
    wanting = [
        (
            content.parked,
            "order is parked: it waits for a person's decision",
            "orders are parked: they wait for a person's decision",
            "orderrelay parked list",
        ),
        (
            content.set_aside,
            "accepted entry could not be booked",
            "accepted entries could not be booked",
            "orderrelay audit list --set-aside",
        ),
        (content.alarms, "alarm was raised", "alarms were raised", "orderrelay audit list --alarms"),
    ]
    found = [
        warning("ledger", f"{count:,} {one if count == 1 else more}", f"look: {see}")
        for count, one, more, see in wanting
        if count
    ]
    return found or [ok("ledger", "nothing waits for a person")]


def judge_caution(standing: Standing, not_looked_up: int, *, has_lookup: bool) -> list[Finding]:
    """Whether cautious mode is on, and what that means for what waits."""
    if standing.since is None:
        return []
    then = "each is looked up before it is sent" if has_lookup else "there is no look-up, so each is parked"
    return [
        problem(
            "ledger",
            f"cautious mode is on since {standing.since:%Y-%m-%dT%H:%M:%SZ}, begun by {standing.by}: "
            f"{standing.reason}; {orders(not_looked_up)} wait{'s' if not_looked_up == 1 else ''} for it, {then}",
            "have producers enqueue again what was accepted lately, then: orderrelay resume --end-cautious",
        )
    ]


def judge_workers(workers: facts.WorkerFacts, ours: str | None = None) -> Finding:
    """Whether anybody works, and all with the same version.

    Args:
        workers: The workers of the ledger.
        ours: The version of this command; None: it is not compared.
    """
    gone = f"; {workers.gone} ended without a word" if workers.gone else ""
    if not workers.alive:
        text = f"no worker is alive{gone}: accepted orders wait"
        return warning("workers", text, "start one with: orderrelay worker")
    names = ", ".join(name for name, _ in workers.alive[:5]) + (", …" if len(workers.alive) > 5 else "")
    versions = sorted({version for _, version in workers.alive})
    text = f"{len(workers.alive)} alive ({names}), version {' and '.join(versions)}{gone}"
    to_do = "bring all to one version; while a deploy runs that is as it should be"
    if len(versions) > 1:
        return warning("workers", f"{text}: what is new holds only where all have it", to_do)
    if ours is not None and ours not in versions:
        return warning("workers", f"{text}, but this command is {ours}: it may read things amiss", to_do)
    return ok("workers", text)
