"""The very commands of the systemd units and of the Compose file, started with their environment."""

from __future__ import annotations

import contextlib
import urllib.request
from typing import TYPE_CHECKING

from orderrelay_producers import OrderProducer, Outbox
from orderrelay_shared import keys
from tests.deployed import by_compose, by_systemd
from tests.outboxes import lay_out, service
from tests.servers import free_port, wait_until
from tests.stack import order

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from tests.processes import Processes, RunningProcess
    from tests.stack import Stack

#: Tells of every file that is opened for writing, and of every folder that is made, outside /tmp: on a read-only root
#: file system each would fail.
_WATCH_WRITES = """
import os, sys
told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def watch(event, args):
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    elif event == "os.mkdir":
        path, writes = args[0], True
    else:
        return
    path = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
    if writes and path and not path.startswith((os.environ.get("TMPDIR", "/tmp"), "/dev/")):
        os.write(told, (event + " " + path + "\\n").encode())
sys.addaudithook(watch)
"""


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def await_ready(worker: RunningProcess, port: int) -> None:
    """Wait until a worker takes work; one that has ended meanwhile is told with its log."""
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/ready") or not worker.is_running, 40, what="it is ready")
    assert worker.is_running, worker.log[-3000:]


def test_the_systemd_units_start_a_worker(sqlite_stack: Stack, processes: Processes, tmp_path: Path) -> None:
    """First the one that makes the tables, then a worker, which becomes ready, works, and stops in order."""
    env_file = tmp_path / "orderrelay.env"
    theirs = {name: value for name, value in sqlite_stack.environment.items() if name.startswith("ORDERRELAY_")}
    theirs["ORDERRELAY_DATABASE_URL"] = f"sqlite:///{tmp_path / 'new.db'}"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in theirs.items()))
    port = free_port()
    here = {"XDG_STATE_HOME": str(tmp_path), "ORDERRELAY_ENV_FILE": str(env_file)}
    making = by_systemd("orderrelay-init.service")
    assert processes.start(making.command, making.environment | here, name="init").wait() == 0
    unit = by_systemd("orderrelay-worker@.service", "1")
    assert unit.environment["ORDERRELAY_HEALTH_PORT"] == "8901"
    assert here.keys() <= unit.environment.keys()
    worker = processes.start(
        unit.command, unit.environment | here | {"ORDERRELAY_HEALTH_PORT": str(port)}, name="worker"
    )
    await_ready(worker, port)
    sqlite_stack.producer.enqueue(order("S-1"), company="acme").wait(timeout=40)
    assert list(sqlite_stack.created()) == ["S-1"]
    worker.sigterm()
    assert worker.wait() == 0, worker.log[-3000:]


def test_the_unit_of_an_outbox_hands_over(
    redis_url: str, sqlite_url: str, redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    """It reads its own env file, says how it is, hands over what is committed, and stops in order."""
    lay_out(sqlite_url)
    port = free_port()
    settings = {"REDIS_URL": redis_url, "OUTBOX_URL": sqlite_url, "HEALTH_PORT": str(port)}
    env_file = tmp_path / "outbox-shop.env"
    env_file.write_text("".join(f"ORDERRELAY_{name}={value}\n" for name, value in settings.items()))
    unit = by_systemd("orderrelay-outbox@.service", "shop")
    assert unit.environment["ORDERRELAY_ENV_FILE"] == "/etc/orderrelay/outbox-shop.env"
    relay = processes.start(unit.command, unit.environment | {"ORDERRELAY_ENV_FILE": str(env_file)}, name="relay")
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/live"), 30, what="the relay answers")
    with Outbox(redis_url) as outbox, service("driver", sqlite_url).begin() as (connection, _):
        outbox.enqueue(connection, order("O-1"), company="acme")
    wait_until(lambda: redis_client.xlen(keys.INTAKE) == 1, what="the order is handed over")
    relay.sigterm()
    assert relay.wait() == 0, relay.log[-3000:]


def test_the_services_of_compose_start_on_a_read_only_file_system(
    redis_url: str, postgres_url: str, processes: Processes, tmp_path: Path
) -> None:
    """Init, simulator, worker and relay, as the image runs them; nothing is written outside /tmp, not even at home."""
    vendor, health, relays = free_port(), free_port(), free_port()
    (tmp_path / "sitecustomize.py").write_text(_WATCH_WRITES)
    told = tmp_path / "told"
    here = {
        "HOME": "/dev/null/home",
        "XDG_STATE_HOME": "",
        "PYTHONPATH": str(tmp_path),
        "TOLD": str(told),
        "ORDERRELAY_REDIS_URL": redis_url,
        "ORDERRELAY_DATABASE_URL": postgres_url,
        "ORDERRELAY_BASE_URL": f"http://127.0.0.1:{vendor}",
        "ORDERRELAY_HEALTH_PORT": str(health),
        **{
            f"ORDERRELAY_COMPANIES__ACME__{name}": "x"
            for name in ("COMPANY_API_KEY", "CONNECT_API_KEY", "LICENSE", "USER_NAME", "PASSWORD")
        },
    }
    making = by_compose("init", POSTGRES_PASSWORD="x")
    assert making.environment["ORDERRELAY_DATABASE_URL"] == "postgresql://orderrelay:x@postgres:5432/orderrelay"
    made = processes.start(making.command, making.environment | here, name="init")
    simulator = by_compose("simulator", POSTGRES_PASSWORD="x")
    words = [str(vendor) if word == "8900" else word for word in simulator.command]
    assert words != simulator.command
    processes.start(words, simulator.environment | here, name="simulator")
    assert made.wait() == 0, made.log[-3000:]
    line = by_compose("worker", POSTGRES_PASSWORD="x")
    worker = processes.start(line.command, line.environment | here, name="worker")
    await_ready(worker, health)
    wait_until(lambda: answers(f"http://127.0.0.1:{vendor}/"), what="the simulator's page is there")
    with OrderProducer(redis_url) as producer:
        assert producer.enqueue(order("C-1"), company="acme").wait(timeout=40).order_number
    lay_out(postgres_url)  # any database will do for the service's own
    line = by_compose("outbox", ORDERRELAY_OUTBOX_URL=postgres_url)
    its_own = {**here, "ORDERRELAY_HEALTH_PORT": str(relays), "ORDERRELAY_OUTBOX_URL": postgres_url}
    relay = processes.start(line.command, line.environment | its_own, name="relay")
    with Outbox(redis_url) as outbox, service("driver", postgres_url).begin() as (connection, _):
        job = outbox.enqueue(connection, order("C-2"), company="acme")
    assert job.wait(timeout=40).order_number
    assert answers(f"http://127.0.0.1:{relays}/live")
    for process in (relay, worker):
        process.sigterm()
        assert process.wait() == 0, process.log[-3000:]
    assert told.read_text() == ""
