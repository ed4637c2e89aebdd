"""Whose credentials count: several workers may have different ones while secrets are changed one host at a time.

The rule: what a worker registered last (`companies.register`: at its start, or when its settings have changed) are the
company's *newest* credentials, and registering others than before ends a pause for credentials.

- Only a worker that has the newest may pause the company when the vendor refuses its own. Any other worker just
  serves the company no more, until its secrets change or the newest are its own.
- While the company is paused for the newest, a worker with others that the vendor took *since it last spoke for them*
  registers them again, which ends the pause. So a worker that was started with old secrets stops nobody for long.

No worker registers again without a start, a change of its settings or a fresh success with them: there is no to and
fro between workers whose credentials are all refused.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.companies import CREDENTIALS
from orderrelay_workers.ledger.engine import clock
from orderrelay_workers.ledger.rows import json, write_events

#: The kind of the event that says that the vendor refuses new credentials, while the previous ones work.
NEW_REFUSED: Final = "new_credentials_refused"

_TOLD_HOLDS: Final = timedelta(hours=1)

_table = schema.company.c


class Pausing(StrEnum):
    """What came of wanting to pause a company for its credentials."""

    PAUSED = "paused"
    ALREADY = "already paused"
    NOT_NEWEST = "others are newer"  #: The refused credentials are not the newest, so the company goes on.


def pause(engine: sa.Engine, alias: str, digest: bytes, *, actor: str) -> Pausing:
    """Pause a company whose credentials the vendor refuses, if these are the newest.

    Args:
        engine: The ledger.
        alias: The company.
        digest: Of the credentials that were refused (`companies.credentials_digest`).
        actor: Who does it.
    """
    with engine.begin() as connection:
        now = clock(connection)
        row = connection.execute(
            sa.select(_table.id, _table.paused_reason, _table.credentials_digest)
            .where(_table.alias == alias)
            .with_for_update()
        ).one_or_none()
        if row is None or row.paused_reason is not None:
            return Pausing.ALREADY
        if row.credentials_digest not in (None, digest):
            # Told as an alarm all the same: nobody knows whether a worker with the newest is left.
            reason = "the vendor refuses this worker's credentials, which are not the newest"
            happening = Happening("company_not_served", alarm=True, detail={"reason": reason})
            write_events(connection, now, actor, [(row.id, None, happening)])
            return Pausing.NOT_NEWEST
        connection.execute(
            sa.update(schema.company)
            .where(_table.id == row.id)
            .values(paused_reason=CREDENTIALS, paused_by=actor, paused_at=now)
        )
        happening = Happening("company_paused", alarm=True, detail={"reason": CREDENTIALS})
        write_events(connection, now, actor, [(row.id, None, happening)])
        return Pausing.PAUSED


def tell_new_refused(engine: sa.Engine, alias: str, digest: bytes, *, actor: str) -> bool:
    """Raise the alarm that the vendor refuses a company's new credentials and takes the previous ones.

    False if it was raised for these in the last hour: each of many workers finds out for itself.
    """
    event = schema.event.c
    detail: dict[str, object] = {"in_use": "the previous credentials", "refused": digest.hex()[:16]}
    with engine.begin() as connection:
        company_id = connection.execute(
            sa.select(_table.id).where(_table.alias == alias).with_for_update()
        ).scalar_one_or_none()
        now = clock(connection)
        same = (event.alarm, event.company_id == company_id, event.kind == NEW_REFUSED, event.detail == json(detail))
        told = connection.execute(sa.select(event.id).where(*same, event.at > now - _TOLD_HOLDS).limit(1)).first()
        if company_id is None or told is not None:
            return False
        write_events(connection, now, actor, [(company_id, None, Happening(NEW_REFUSED, alarm=True, detail=detail))])
        return True
