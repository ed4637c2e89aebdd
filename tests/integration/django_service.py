"""A Django service with an outbox. Argument: Django's database settings as JSON; prints what it has seen as JSON."""

from __future__ import annotations

import contextlib
import json
import sys

import django
from django.conf import settings
from django.db import connection, transaction

from orderrelay_producers import Outbox
from tests.stack import order

if __name__ == "__main__":
    settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True)
    django.setup()
    outbox = Outbox()
    seen: dict[str, object] = {}
    sent: list[int] = []

    try:
        outbox.enqueue(connection, order("by-itself"))
    except RuntimeError as error:
        seen["by-itself"] = str(error)

    with contextlib.suppress(LookupError), transaction.atomic():
        outbox.enqueue(connection, order("rolled-back"))
        raise LookupError

    with transaction.atomic():
        kept = outbox.enqueue(connection, order("kept"))
        with transaction.atomic():
            outbox.enqueue(connection, order("nested"))
        with contextlib.suppress(LookupError), transaction.atomic():
            outbox.enqueue(connection, order("savepoint"))
            raise LookupError

    with transaction.atomic():
        job = outbox.enqueue(connection, order("at-once"))
        transaction.on_commit(lambda: sent.append(outbox.send_now(job)))
        seen["too early"] = outbox.send_now(job)
    seen["sent"] = sent
    with connection.cursor() as cursor:
        cursor.execute("SELECT external_id FROM orderrelay_outbox ORDER BY id")
        seen["waiting"] = [row[0] for row in cursor.fetchall()]
    print(json.dumps(seen))
