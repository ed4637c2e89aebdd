"""Settlements that could not reach the database before their worker had to exit: kept in a file, replayed at a start.

Losing the file would cost no order: the claims are in the ledger, lapse, and are looked up. It saves the answers.
"""

from __future__ import annotations

import base64
import contextlib
import os
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from orderrelay_workers.ledger.settling import Settlement
from orderrelay_workers.vendor.answers import read_order_answers
from orderrelay_workers.vendor.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: What a request that held several orders is called in a line.
_SEVERAL = "exchange_of_several"

_log = structlog.get_logger(__name__)


def write(folder: Path, boot_id: uuid.UUID, batch: Sequence[Settlement]) -> Path:
    """Append settlements to this worker's spool file; they are on disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = _path(folder, boot_id)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        for settlement in batch:
            file.write(msgspec.json.encode(_to_line(settlement)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    _fsync_folder(folder)
    return path


def is_begun(folder: Path, boot_id: uuid.UUID) -> bool:
    """Whether this worker has spooled anything."""
    return _path(folder, boot_id).exists()


def _path(folder: Path, boot_id: uuid.UUID) -> Path:
    return folder / f"{boot_id.hex}.jsonl"


def _fsync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replay(folder: Path, settle: Callable[[Sequence[Settlement]], object]) -> int:
    """Settle what earlier workers left, then remove their files. Settling the same again changes nothing.

    Returns:
        How many settlements were replayed.
    """
    replayed = 0
    for path in sorted(folder.glob("*.jsonl")):
        batch: list[Settlement] = []
        with contextlib.suppress(FileNotFoundError):  # another worker of this host replays it too
            for line in path.read_bytes().splitlines():
                try:
                    batch.append(_from_line(msgspec.json.decode(line)))
                except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
                    # A line cut by a crash. Its order's claim lapses, and the look-up finds out.
                    _log.warning("spool_line_unreadable", file=path.name)
            if batch:
                settle(batch)
            replayed += len(batch)
            path.unlink(missing_ok=True)
    return replayed


def _to_line(settlement: Settlement) -> dict[str, object]:
    exchange = settlement.exchange
    several = {"place": settlement.place, "orders": settlement.orders} if settlement.orders > 1 else {}
    return {
        **several,
        "job_id": settlement.job_id.hex,
        "company_id": settlement.company_id,
        "token": settlement.token.hex,
        "number": settlement.number,
        "body_digest": settlement.body_digest.hex(),
        "worker": settlement.worker.hex,
        # Versions that know no request of several orders must not read its answer as that to one.
        _SEVERAL if several else "exchange": {
            "sent": exchange.sent,
            "status": exchange.status,
            "headers": dict(exchange.headers),
            "body": None if exchange.body is None else base64.b64encode(exchange.body).decode(),
            "partial": base64.b64encode(exchange.partial).decode(),
            "failure": None if exchange.failure is None else str(exchange.failure),
            "began_at": exchange.began_at.isoformat(),
            "ended_at": exchange.ended_at.isoformat(),
        },
    }


def _from_line(line: dict[str, Any]) -> Settlement:
    place, orders = int(line.get("place", 0)), int(line.get("orders", 1))
    seen: dict[str, Any] = line["exchange" if orders == 1 else _SEVERAL]
    exchange = Exchange(
        sent=seen["sent"],
        status=seen["status"],
        headers=seen["headers"],
        body=None if seen["body"] is None else base64.b64decode(seen["body"]),
        partial=base64.b64decode(seen["partial"]),
        failure=seen["failure"],
        began_at=datetime.fromisoformat(seen["began_at"]),
        ended_at=datetime.fromisoformat(seen["ended_at"]),
    )
    return Settlement(
        job_id=uuid.UUID(line["job_id"]),
        company_id=line["company_id"],
        token=uuid.UUID(line["token"]),
        number=line["number"],
        body_digest=bytes.fromhex(line["body_digest"]),
        worker=uuid.UUID(line["worker"]),
        exchange=exchange,
        verdict=read_order_answers(exchange, orders)[place],
        place=place,
        orders=orders,
    )
