"""Storing the vendor's answers as typed operation results, off the path of submission.

The verbatim answer is in its attempt since the settle, so nothing depends on this being soon. What a lost hint missed
is found by `stored_at IS NULL`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy import exc

from orderrelay_shared import wire
from orderrelay_shared.operation_results import OperationResult, OperationResultInvalid
from orderrelay_workers.ledger import bulk, schema
from orderrelay_workers.ledger.engine import clock, is_away, reading
from orderrelay_workers.ledger.rows import text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

#: So many answers are stored in one transaction.
_BATCH = 500

_attempt = schema.attempt.c
_table = schema.operation_result

#: Properties that are stored as JSON text: lists, dictionaries, and values of any type.
_JSON: Final = frozenset(
    {
        "value", "value2", "dates", "keys", "strings", "id_dict", "int_dict", "int_dict2", "str_dict", "str_dict2",
        "str_int_list_dict",
    }
)  # fmt: skip
_DATE_TIMES: Final = frozenset({"date_time_value", "modified"})
_PROPERTIES: Final = tuple(name for name in OperationResult.model_fields if name != "unknown_properties")
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1

_log = structlog.get_logger(__name__)


def store_all(engine: sa.Engine, *, stop: Callable[[], bool] = lambda: False) -> int:
    """Store all answers that are not stored yet, in batches. Any number of workers may do so at once.

    Args:
        engine: The ledger.
        stop: Asked after each batch whether to leave the rest to others.

    Returns:
        How many were stored.
    """
    total = 0
    while taken := _store_batch(engine):
        total += taken
        if taken < _BATCH or stop():
            break
    return total


def any_waiting(engine: sa.Engine) -> bool:
    """Whether an answer waits to be stored."""
    with reading(engine) as connection:
        query = sa.select(sa.exists(sa.select(1).where(_attempt.stored_at.is_(None))))
        return bool(connection.execute(query).scalar())


def _store_batch(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        now = clock(connection)
        query = (
            sa.select(_attempt.id, _attempt.job_id, _attempt.company_id, _attempt.answer, _attempt.ended_at)
            .where(_attempt.stored_at.is_(None))
            .order_by(_attempt.id)
            .limit(_BATCH)
            .with_for_update(skip_locked=True, key_share=True)
        )
        rows = connection.execute(query).all()
        values = [_values(row) for row in rows]
        _insert(connection, [v for v in values if v is not None])
        if rows:
            ids = [row.id for row in rows]
            connection.execute(sa.update(schema.attempt).where(_attempt.id.in_(ids)).values(stored_at=now))
    return len(rows)


def _insert(connection: sa.Connection, values: Sequence[dict[str, Any]]) -> None:
    """Insert; where a batch holds an answer that the database will not take, all but that one."""
    if not values:
        return
    try:
        with connection.begin_nested():
            bulk.insert(connection, _table, _columns(values), then="ON CONFLICT DO NOTHING")
    except (exc.DBAPIError, exc.StatementError, ValueError, OverflowError) as error:
        if is_away(error):
            raise
        if len(values) == 1:  # its attempt keeps the answer verbatim
            _log.warning("operation_result_not_typed", attempt=values[0]["attempt_id"], error=type(error).__name__)
            return
        middle = len(values) // 2
        _insert(connection, values[:middle])
        _insert(connection, values[middle:])


def _values(row: Any) -> dict[str, Any] | None:
    """The typed row of an answer, or None if the answer is no operation result (an HTML page, a cut answer)."""
    try:
        result = OperationResult.from_json(row.answer or b"")
    except OperationResultInvalid:
        return None
    values: dict[str, Any] = {
        "attempt_id": row.id,
        "job_id": row.job_id,
        "company_id": row.company_id,
        "received_at": row.ended_at,
    }
    told: dict[str, Any] = vars(result)
    for name, column in _COLUMNS:
        if (value := told[name]) is not None:
            values[name] = value if column is None else column(value)
    if result.unknown_properties:
        values["unknown_properties"] = _json(result.unknown_properties)
    return values


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, but for those that none of them has: the vendor names half of its properties without a value."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _naive(value: datetime) -> datetime:
    """The vendor's date-times have no zone; one that came with an offset is kept as its clock showed it."""
    return value.replace(tzinfo=None)


def _integer(value: int) -> int | None:
    """None if it is larger than the column; the attempt has it verbatim."""
    return value if _SMALLEST <= value <= _LARGEST else None


def _json(value: Any) -> str | None:
    try:
        return text(wire.dumps(value).decode("utf-8", "replace"))
    except ValueError:  # it could be read but not be written; the attempt has it verbatim
        return None


def _column_of(name: str) -> Callable[[Any], Any] | None:
    """How a property's value, which is not None, becomes its column's; None: it is the same."""
    if name in _JSON:
        return _json
    if name in _DATE_TIMES:
        return _naive
    match _table.c[name].type:
        case sa.Text():
            return text
        case sa.BigInteger():
            return _integer
        case _:
            return None


_COLUMNS: Final = tuple((name, _column_of(name)) for name in _PROPERTIES)
