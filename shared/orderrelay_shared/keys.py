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

#: The cache of recent orders has hashes for this day and for the one before, by Redis' clock: so it remembers an order
#: for one such day at least, and for less than two.
RECENT_DAY_SECONDS: Final = 24 * 3600

#: It is spread over so many of them that Redis keeps each as one small block (up to 512 members; 8 million orders a
#: day), and over so few that the hashes themselves take little: at 100,000 orders a day an order takes 50 to 70 bytes,
#: at 400,000 it takes 30, where a key for each took 170.
_RECENT_BUCKETS: Final = 2**14

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


def recent(order_digest: bytes) -> tuple[str, str]:
    """Hashes: `recent_field` -> `recent_content` of the order that was accepted first; one of even and one of odd days.

    Each expires when its next day begins, which is two `RECENT_DAY_SECONDS` after the beginning of its own.
    """
    bucket = int.from_bytes(order_digest[:2]) % _RECENT_BUCKETS
    return f"orderrelay:recent:{bucket:x}:0", f"orderrelay:recent:{bucket:x}:1"


def recent_field(order_digest: bytes) -> bytes:
    """What stands for an order in the hashes of `recent`: 10 bytes that say nothing of which bucket it is in."""
    return order_digest[2:12]


def recent_content(content_digest: bytes) -> bytes:
    """What stands for an order's content there: 8 bytes."""
    return content_digest[:8]


def recent_before(company: str, external_id_digest: bytes) -> str:
    """String: the content digest, from producers before the hashes of `recent`. Expires after a day."""
    return f"orderrelay:recent:{company}:{external_id_digest[:16].hex()}"


def waiting(company: str) -> str:
    """String: how many jobs of the company wait, as a worker last counted. Expires after a minute."""
    return f"orderrelay:waiting:{company}"


def outlook(company: str) -> str:
    """String: what a worker expects of the company's orders, JSON. Expires after a minute."""
    return f"orderrelay:outlook:{company}"


def status(job: uuid.UUID) -> str:
    """String: the published status of a job, JSON. Expires. The channel of that name tells when the job is settled."""
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
