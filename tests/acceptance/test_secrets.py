"""No key, token or password is found anywhere that people or backups look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
import sqlalchemy as sa

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.collector import running_collector, traced_service
from tests.servers import wait_until
from tests.stack import company

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Tracer

    from tests.collector import Collector
    from tests.processes import RunningProcess
    from tests.stack import EnvFile, Stack

_SECRETS = {
    "COMPANY_API_KEY": "zzCompanyKeySecretzz",
    "CONNECT_API_KEY": "zzConnectKeySecretzz",
    "LICENSE": "zzLicenseSecretzz",
    "USER_NAME": "zzUserNameSecretzz",
    "PASSWORD": "zzPasswordSecretzz",
}

#: What the password is changed to while the worker runs, and then by mistake.
_ROTATED = {"rotated": "zzRotatedSecretzz", "in a broken file": "zzBrokenFileSecretzz"}


def _everything_in_redis(client: redis.Redis) -> bytes:
    """All keys and their values as the server would dump them, uncompressed, but those of the token cache."""
    found: list[bytes] = []
    client.config_set("rdbcompression", "no")
    for key in client.scan_iter(count=1000):
        found.append(key)
        if not key.startswith(keys.token("").encode()):
            found.append(client.dump(key) or b"")
    return b"\n".join(found)


def _everything_in_the_ledger(stack: Stack) -> bytes:
    """Every value of every table, bytes as they are."""
    metadata = sa.MetaData()
    metadata.reflect(stack.engine)
    found: list[bytes] = []
    with stack.engine.connect() as connection:
        for table in metadata.tables.values():
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            for row in connection.execute(sa.text(f'SELECT {columns} FROM "{table.name}"')):
                found += [bytes(v) if isinstance(v, (bytes, memoryview)) else str(v).encode() for v in row]
    return b"\n".join(found)


def _change_password(file: EnvFile, worker: RunningProcess) -> None:
    """Change it rightly, and then in a way that no worker takes over, but tells of."""
    file.write(PASSWORD=_ROTATED["rotated"])
    wait_until(lambda: '"settings_taken_over"' in worker.log, what="the new password is in use")
    file.write(PASSWORD=_ROTATED["in a broken file"], IMPORT_ID="none")
    wait_until(lambda: '"settings_invalid"' in worker.log, what="the broken file is told of")
    file.write(PASSWORD=_ROTATED["rotated"])


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Takes the spans of this process and of workers."""
    with running_collector() as running:
        yield running


@pytest.fixture
def shop(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    """This process is a service that traces what it enqueues."""
    with traced_service(monkeypatch, collector) as tracer:
        yield tracer


def test_no_secret_is_found_after_a_run_with_trouble(stack: Stack, collector: Collector, shop: Tracer) -> None:
    """Logs at DEBUG, Redis, the ledger, spans and commands' outputs hold none, whatever went wrong and was changed.

    Spans hold nothing of an order either.
    """
    secrets_file = stack.env_file()
    secrets_file.write(PASSWORD=_SECRETS["PASSWORD"])
    stack.environment |= company("acme", **_SECRETS | {"PASSWORD": ""}) | {"ORDERRELAY_LOG_LEVEL": "DEBUG"}
    stack.environment |= secrets_file.environment | collector.environment
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="login-500", times=1),)))
    worker = stack.worker()
    known = stack.enqueue(3, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    _change_password(secrets_file, worker)
    faults = ("500-after", "reset-after", "302", "truncated-after", "business-rejection", "429")
    rules = [Rule(fault=fault, times=1, external_id_prefix=f"A-{number}") for number, fault in enumerate(faults)]
    with redis.Redis.from_url(stack.redis_url) as client:
        [token] = client.hmget(keys.token("acme"), "token")
        stack.simulator.set_plan(FaultPlan(rules=(*rules, Rule(fault="lookup-reset", times=1))))
        stack.simulator.end_sessions()
        with shop.start_as_current_span("checkout") as checkout:
            orders = stack.enqueue(10)
        stack.wait_for(orders)
        wait_until(lambda: client.exists(keys.token("acme")) == 1, what="a token is cached")
        [newer] = client.hmget(keys.token("acme"), "token")
        in_redis = _everything_in_redis(client)
    assert token is not None
    assert newer not in (None, token)
    stack.wait_for_results(len([a for a in stack.attempts() if a["http_status"] == 200 and a["answer_complete"]]))
    commands = [
        stack.command("status", *known),
        stack.command("audit", "list", "--json"),
        stack.command("doctor"),
        stack.command("parked", "list"),
    ]
    outputs = []
    for command in commands:
        command.wait()
        outputs.append(command.log.encode())
    worker.sigterm()
    assert worker.wait(20) == 0
    places = {"log": worker.log.encode(), "redis": in_redis, "ledger": _everything_in_the_ledger(stack)}
    places["spans"] = b"\n".join(collector.raw)
    places |= {f"output {number}": output for number, output in enumerate(outputs)}
    secrets = {name: value.encode() for name, value in (_SECRETS | _ROTATED).items()}
    secrets |= {"token": token, "newer token": newer}
    told = {span.name for span in collector.spans if span.trace_id == f"{checkout.get_span_context().trace_id:032x}"}
    assert {"POST", "GET"} < told
    of_orders = [b"known-0", b"A-1", b"100-5t", "Väktare".encode(), b"://", b"Economy", collector.url.encode()]
    assert [word for word in of_orders if word in places["spans"]] == []
    assert b"known-0" in places["log"]
    assert b"known-0" in places["ledger"]
    assert b"intake" in places["redis"]
    assert [(place, name) for place, text in places.items() for name, value in secrets.items() if value in text] == []
