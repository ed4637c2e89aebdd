"""Every Redis key of Orderrelay but Celery's own, built in one place.

Each either expires or is listed in `PERMANENT`; a test compares that with what a real run leaves behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import uuid

#: What Celery puts in front of its own keys (transport option `global_keyprefix`).
CELERY_PREFIX: Final = "orderrelay:celery:"

#: The stream of accepted orders, and the group of workers that books them. Never trimmed.
INTAKE: Final = "orderrelay:intake"
INTAKE_GROUP: Final = "ledger"

#: In that group, entries for newer workers belong to a reader of this name and what they need, such as "newer:v2".
INTAKE_NEWER_READER: Final = "newer:"

#: Sorted set of the companies that workers serve: member alias, score the time of the last word in epoch seconds.
COMPANIES: Final = "orderrelay:companies"

#: The id of the ledger behind this Redis.
LEDGER_ID: Final = "orderrelay:ledger"

#: Sorted set: member ledger id, score how many claims that ledger has counted, so that a restored one is noticed.
CLAIMS: Final = "orderrelay:claims"

#: How long the recent-keys cache remembers an order, in seconds.
RECENT_TTL_SECONDS: Final = 24 * 3600

#: How long a published status lives, in seconds; producers ask for one that is gone. One that may change lives short.
SETTLED_STATUS_TTL_SECONDS: Final = 3600
MOVING_STATUS_TTL_SECONDS: Final = 60

#: Pattern of all that `status` gives.
EVERY_STATUS: Final = "orderrelay:status:*"

#: Patterns (fnmatch) of the keys that do not expire.
PERMANENT: Final = (
    INTAKE,
    COMPANIES,
    LEDGER_ID,
    CLAIMS,
    "orderrelay:gate:*",
    CELERY_PREFIX + "*",
)


def recent(company: str, external_id_digest: bytes) -> str:
    """String: the content digest last accepted under an ExternalId. Expires after `RECENT_TTL_SECONDS`."""
    return f"orderrelay:recent:{company}:{external_id_digest[:16].hex()}"


def waiting(company: str) -> str:
    """String: how many jobs of the company wait, as a worker last counted. Expires after a minute."""
    return f"orderrelay:waiting:{company}"


def outlook(company: str) -> str:
    """String: what a worker expects of the company's orders, JSON. Expires after a minute."""
    return f"orderrelay:outlook:{company}"


def status(job: uuid.UUID) -> str:
    """String: the published status of a job, JSON. Expires."""
    return f"orderrelay:status:{job.hex}"


def gate(company: str) -> str:
    """Hash: rate, burst, caps, pause, hold and circuit of a company. Permanent: missing means closed."""
    return f"orderrelay:gate:{company}"


def gate_in_flight(company: str) -> str:
    """Hash: worker boot id -> its requests in flight for the company. Permanent, with the gate."""
    return f"orderrelay:gate:{company}:in_flight"


def token(company: str) -> str:
    """Hash: the vendor's access token of a company. Expires; the only secret in Redis."""
    return f"orderrelay:token:{company}"


def token_refused(company: str) -> str:
    """String: the vendor refused a token lately. Expires after ten minutes."""
    return f"orderrelay:token:{company}:refused"


def login_lock(company: str) -> str:
    """Lock: one login at a time per company. Expires."""
    return f"orderrelay:login:{company}"


def duty(name: str) -> str:
    """String: some worker does this periodic duty right now. Expires."""
    return f"orderrelay:duty:{name}"


def celery_queue(queue: str) -> str:
    """List: a Celery queue as kombu stores it (priority 0)."""
    return f"{CELERY_PREFIX}{queue}"
