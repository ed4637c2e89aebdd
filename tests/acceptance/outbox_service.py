"""A service with an outbox, which kills itself at one place of the product's code.

Arguments: the URL of its database, and the ExternalIds of the orders that it commits in one transaction and sends at
once. Variable: `CRASH_AT`, as of `crash_worker.py`.
"""

from __future__ import annotations

import os
import sys

from orderrelay_producers import Outbox
from tests.outboxes import service
from tests.stack import order
from tests.traps import lay_trap

if __name__ == "__main__":
    lay_trap(os.environ.pop("CRASH_AT"), lambda: True)
    url, *external_ids = sys.argv[1:]
    outbox = Outbox()
    with service("session", url).begin() as (session, _):
        jobs = [outbox.enqueue(session, order(external_id), company="acme") for external_id in external_ids]
    outbox.send_now(*jobs)
