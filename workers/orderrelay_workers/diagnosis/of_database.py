"""The database: whether it answers, keeps what is committed, and has this version's tables."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from orderrelay_workers.audit import facts
from orderrelay_workers.diagnosis.findings import Finding, ok, problem, warning
from orderrelay_workers.ledger import migrate
from orderrelay_workers.ledger.engine import is_sqlite

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

    import sqlalchemy as sa

    from orderrelay_workers.ledger.caution import Standing

#: Below this much free disk the SQLite file's folder is worth a warning, in bytes.
_LITTLE_DISK = 1024**3


def look_at_database(engine: sa.Engine, name: str, file: Path | None) -> list[Finding]:
    """Look at a database that answers.

    Args:
        engine: Of the ledger.
        name: What it may be called.
        file: The SQLite file, or None on PostgreSQL.
    """
    kept = _look_at_file(engine, file) if file is not None else judge_server(facts.server(engine), name)
    return [*kept, _layout(engine)]


def _look_at_file(engine: sa.Engine, file: Path) -> list[Finding]:
    mode = facts.journal_mode(engine)
    found = [
        ok("database", f"SQLite file {file}, journal mode {mode}, every commit on disk; workers on this host only")
    ]
    if mode != "wal":
        found = [problem("database", f"SQLite file {file} has journal mode {mode}", "put it on a local disk")]
    free = shutil.disk_usage(file.parent).free
    text = f"{free / 1024**3:.1f} GiB of disk are free at {file.parent}"
    found.append(ok("database", text) if free >= _LITTLE_DISK else warning("database", text, "free some disk"))
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
        return ok("ledger", "Redis and database are not joined yet; the first worker does that")
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
        (content.parked, "orders are parked: nobody can know whether they were created", "orderrelay parked list"),
        (content.set_aside, "accepted entries could not be booked", "orderrelay audit list --set-aside"),
        (content.alarms, "alarms were raised", "orderrelay audit list --alarms"),
    ]
    found = [warning("ledger", f"{count} {what}", f"look at them: {see}") for count, what, see in wanting if count]
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
            f"{standing.reason}; {not_looked_up} orders wait for it, {then}",
            "have producers enqueue again what was accepted lately, then: orderrelay resume --end-cautious",
        )
    ]


def judge_workers(workers: facts.WorkerFacts) -> Finding:
    """Whether anybody works."""
    gone = f"; {workers.gone} ended without a word" if workers.gone else ""
    if not workers.alive:
        text = f"no worker is alive{gone}: accepted orders wait"
        return warning("workers", text, "start one with: orderrelay worker")
    names = ", ".join(name for name, _ in workers.alive[:5]) + (", …" if len(workers.alive) > 5 else "")
    versions = sorted({version for _, version in workers.alive})
    return ok("workers", f"{len(workers.alive)} alive ({names}), version {' and '.join(versions)}{gone}")
