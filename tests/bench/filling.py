"""Fill an empty ledger in bulk, as the product would leave it: so many orders that wait, and so many old ones.

What waits is due, over a month of booking and in all three priorities. Of the old ones all have succeeded, with body,
attempt, operation result and key; of every hundredth something was noticed, and of every ten-thousandth an alarm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from orderrelay_producers import Order
from orderrelay_workers.ledger.engine import is_sqlite
from tests.bench.orders import bench_order

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The tables that grow.
TABLES: Final = ("job", "attempt", "revision", "order_key", "operation_result", "event")

#: What a success is answered with, as the stub has it; `@` is the order's number.
_ANSWER: Final = (
    '{"Success":true,"SuccessNumber":0,"ErrorNumber":0,"ErrorMessage":null,"Keys":[@],"Strings":["@"],'
    '"StringValue":"00000000-0000-4000-8000-000000000000","ObjectsAffected":1,"InfoMessage":null,"IntegerValue":0}'
)

#: In the order of booking, so that what was booked together lies together.
_FILLING: Final = (
    """INSERT INTO order_key (company_id, external_id_digest, job_id, content_digest)
    SELECT :company, {digest}, id, {digest} FROM filling ORDER BY n""",
    """INSERT INTO job (id, company_id, external_id, revision, body_version, state, since, due_at, accepted_at,
    booked_at, attempts, requests, lookups, lane, token, claimed_at, lease_until, vendor_id, order_number, reference)
    SELECT id, :company, {external_id}, 1, 1, CASE WHEN n <= :old THEN 'succeeded' ELSE 'waiting' END,
    {at}, {at}, {at}, {at}, {is_old}, {is_old}, 0, n % 3 * 2, CASE WHEN n <= :old THEN id END,
    CASE WHEN n <= :old THEN {at} END, CASE WHEN n <= :old THEN {at} END, CASE WHEN n <= :old THEN n END,
    CASE WHEN n <= :old THEN {text} END, CASE WHEN n <= :old THEN {text} END FROM filling ORDER BY n""",
    """INSERT INTO revision (job_id, number, body, body_digest, content_digest, created_at)
    SELECT id, 1, {body}, {digest}, {digest}, {at} FROM filling ORDER BY n""",
    """INSERT INTO attempt (job_id, company_id, kind, token, number, body_digest, worker, began_at, ended_at, sent,
    http_status, outcome, content_type, answer, answer_complete, stored_at)
    SELECT id, :company, 'order', id, 1, {digest}, id, {at}, {at}, {true}, 200, 'created', 'application/json',
    {answer}, {true}, {at} FROM filling WHERE n <= :old ORDER BY n""",
    """INSERT INTO operation_result (attempt_id, job_id, company_id, received_at, success, success_number,
    error_number, integer_value, string_value, keys, strings, objects_affected)
    SELECT id, job_id, company_id, ended_at, {true}, 0, 0, 0, '00000000-0000-4000-8000-000000000000',
    '[12345678]', '["12345678"]', 1 FROM attempt ORDER BY id""",
    """INSERT INTO event (at, kind, alarm, company_id, job_id, actor)
    SELECT {at}, 'late_success', n % 10000 = 0, :company, id, 'bench' FROM filling
    WHERE n <= :old AND n % 100 = 0 ORDER BY n""",
)

#: Keys and indexes are made after the rows, which is much faster. The order is that of dropping.
_POSTGRES_INDEXES: Final = f"""
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM (SELECT * FROM pg_constraint WHERE contype IN ('f', 'p', 'u')
          AND conrelid::regclass::text IN {TABLES} ORDER BY contype) AS keys
    UNION ALL
    SELECT format('DROP INDEX %I', indexname), indexdef FROM pg_indexes
    WHERE tablename IN {TABLES} AND schemaname = 'public'
      AND indexname NOT IN (SELECT conname FROM pg_constraint)"""
_SQLITE_INDEXES: Final = (
    f"SELECT 'DROP INDEX ' || name, sql FROM sqlite_master WHERE type = 'index' AND sql > '' AND tbl_name IN {TABLES}"
)


def fill(engine: sa.Engine, company_id: int, *, waiting: int, old: int) -> None:
    """Put jobs into an empty ledger."""
    body = Order.parse({**bench_order(0), "ExternalId": "@"}).body().decode().replace("'", "''")
    # Quickly and unsafely, which the driver only allows outside of a transaction; this database is thrown away.
    if is_sqlite(engine):
        fast = [f"PRAGMA {name}" for name in ("cache_size=-1000000", "foreign_keys=OFF", "synchronous=OFF")]
        rows, indexes, last = _sqlite_filling(body), _SQLITE_INDEXES, ["ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"]
    else:
        fast = ["SET maintenance_work_mem = '500MB'"]
        rows, indexes, last = _postgres_filling(body), _POSTGRES_INDEXES, ["VACUUM ANALYZE", "CHECKPOINT"]
    # The product's own connections to PostgreSQL give up a statement after a minute.
    patient = engine if is_sqlite(engine) else sa.create_engine(engine.url)
    connection: Any = patient.raw_connection()
    if not is_sqlite(engine):
        connection.driver_connection.autocommit = True
    run = connection.driver_connection.execute
    made = run(indexes).fetchall()
    for statement in (*fast, *(drop for drop, _ in made), *rows, *(make for _, make in reversed(made)), *last):
        complete = statement
        for name, value in {":old": old, ":all": waiting + old, ":company": company_id}.items():
            complete = complete.replace(name, str(value))
        run(complete)
    connection.invalidate()
    connection.close()
    patient.dispose()
    engine.dispose()


def _sqlite_filling(body: str) -> Iterator[str]:
    yield "CREATE TABLE filling (id TEXT, n INTEGER PRIMARY KEY, at TEXT)"
    yield (
        "INSERT INTO filling WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :all) "
        "SELECT lower(hex(randomblob(16))), n, strftime('%Y-%m-%d %H:%M:%S', '2026-01-01', "
        "CAST(n * 43200.0 / :all AS INTEGER) || ' minutes') || printf('.%06d', n % 1000000) FROM c"
    )
    words = {
        "digest": "CAST(id AS BLOB)",
        "external_id": "'flat-' || n",
        "at": "at",
        "is_old": "n <= :old",
        "text": "CAST(n AS TEXT)",
        "body": f"CAST(replace('{body}', '@', 'flat-' || n) AS BLOB)",
        "answer": f"CAST(replace('{_ANSWER}', '@', n) AS BLOB)",
        "true": "1",
    }
    yield from (_complete(statement, words) for statement in _FILLING)
    yield "DROP TABLE filling"


def _postgres_filling(body: str) -> Iterator[str]:
    yield "CREATE UNLOGGED TABLE filling AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, :all) n"
    words = {
        "digest": "decode(replace(id::text, '-', '') || replace(id::text, '-', ''), 'hex')",
        "external_id": "'flat-' || n",
        "at": "timestamptz '2026-01-01Z' + n * (interval '30 days' / :all)",
        "is_old": "(n <= :old)::int",
        "text": "n::text",
        "body": f"convert_to(replace('{body}', '@', 'flat-' || n), 'UTF8')",
        "answer": f"convert_to(replace('{_ANSWER}', '@', n::text), 'UTF8')",
        "true": "true",
    }
    yield from (_complete(statement, words) for statement in _FILLING)
    yield "DROP TABLE filling"


def _complete(statement: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        statement = statement.replace(f"{{{name}}}", word)
    return statement
