"""What `docs/outbox.md` shows is run as it stands there, but for the addresses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orderrelay_shared import keys
from tests.outboxes import counts, run_sql

if TYPE_CHECKING:
    import redis

DOCUMENT = Path(__file__).parents[2] / "docs" / "outbox.md"

#: What the reader has already: an order, and Django's settings.
_BEFORE = """
from tests.stack import order as new_order
order = new_order({external_id!r})
import django
from django.conf import settings
settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {path!r}}}}})
django.setup()
"""


def test_the_document_is_true(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    """Its commands make the table; each of its programs commits a purchase and its order, and sends it at once."""
    path = str(tmp_path / "shop.db")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": ":".join(entry for entry in sys.path if entry),
        "ORDERRELAY_REDIS_URL": redis_url,
        "ORDERRELAY_OUTBOX_URL": f"sqlite:///{path}",
    }
    text = DOCUMENT.read_text().replace("/var/lib/shop/shop.db", path).replace("redis://127.0.0.1:6379/0", redis_url)
    commands = [block.replace("$ ", "") for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)]
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert (len(commands), len(programs)) == (2, 3)

    def run(words: list[str]) -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "CREATE TABLE" in run(["sh", "-e", "-c", commands[0]])
    run_sql(f"sqlite:///{path}", "CREATE TABLE purchase (number integer PRIMARY KEY)")
    for number, program in enumerate(programs, 1):
        before = _BEFORE.format(external_id=f"A-{number}", path=path)
        run([sys.executable, "-W", "error", "-c", before + program])
        assert redis_client.xlen(keys.INTAKE) == number
    assert run_sql(f"sqlite:///{path}", "SELECT number FROM purchase") == [(1,), (2,), (3,)]
    assert counts(f"sqlite:///{path}").waiting == 0
    assert "0 handed over, 0 set aside\n0 waiting; 0 set aside\n" in run(["sh", "-e", "-c", commands[1]])
