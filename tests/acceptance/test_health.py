"""What a worker says of its health is the truth: in good days, in outages, when it is to end, and when it hangs."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_workers.simulator import FaultPlan
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.servers import PostgresServer, RedisServer
    from tests.stack import Stack

_WRONG_WORKER = str(Path(__file__).parent / "wrong_worker.py")

#: These verdicts are reached sooner here, so that nobody waits for them.
_SOON = (
    "orderrelay_workers.sidecar.listening:_QUIET_SECONDS=1 "
    "orderrelay_workers.health:_HINT_SECONDS=3 "
    "orderrelay_workers.health:DEAF_AFTER_SECONDS=4 "
    "orderrelay_workers.health:HANGS_AFTER_SECONDS=3"
)


class Probe:
    """Asks one worker how it is."""

    def __init__(self) -> None:
        self.port = free_port()

    def ask(self, question: str) -> tuple[int, dict[str, Any]] | None:
        """Status and answer; None if there is none within two seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", f"/{question}")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError:
            return None
        finally:
            connection.close()

    def status(self, question: str) -> int | None:
        """The status alone."""
        answer = self.ask(question)
        return answer and answer[0]

    def wait_until_ready(self) -> None:
        """Wait until the worker says that it takes work."""
        wait_until(lambda: self.status("ready") == 200, 20, what="the worker is ready")

    def wait_until_not(self, question: str, because: str) -> dict[str, Any]:
        """Wait until the worker is not live, or not ready, for this reason; gives its answer."""

        def says_so() -> bool:
            answer = self.ask(question)
            return answer is not None and answer[0] == 503 and because in str(answer[1][f"not_{question}"])

        wait_until(says_so, 20, what=f"not {question}: {because}; but {self.ask(question)}")
        answer = self.ask(question)
        assert answer is not None
        return answer[1]


@pytest.fixture
def probe() -> Probe:
    """Asks at a free port."""
    return Probe()


def _worker(stack: Stack, probe: Probe) -> RunningProcess:
    worker = stack.worker(ORDERRELAY_HEALTH_PORT=str(probe.port))
    probe.wait_until_ready()
    return worker


def _wrong_worker(stack: Stack, probe: Probe, way: str) -> Path:
    """A ready worker that goes wrong as soon as the file exists that is returned."""
    go_wrong = stack.folder / "go-wrong"
    more = {"GO_WRONG": way, "GO_WRONG_IF": str(go_wrong), "SET": _SOON, "ORDERRELAY_HEALTH_PORT": str(probe.port)}
    stack.await_ready(stack.processes.start_python([_WRONG_WORKER, "worker"], {**stack.environment, **more}))
    probe.wait_until_ready()
    return go_wrong


def test_an_outage_of_redis_makes_a_worker_unready_but_not_dead(
    sqlite_stack: Stack, redis_server: RedisServer, probe: Probe
) -> None:
    """It names Redis, stays live, as a restart would not help, and is ready again by itself."""
    _worker(sqlite_stack, probe)
    redis_server.kill9()
    probe.wait_until_not("ready", because="Redis")
    assert probe.status("live") == 200
    redis_server.start()
    probe.wait_until_ready()


def test_an_outage_of_the_database_makes_a_worker_unready_but_not_dead(
    postgres_stack: Stack, postgres_server: PostgresServer, probe: Probe
) -> None:
    """It names the database, stays live, and is ready again by itself."""
    _worker(postgres_stack, probe)
    postgres_server.kill9()
    probe.wait_until_not("ready", because="the database")
    assert probe.status("live") == 200
    postgres_server.start()
    probe.wait_until_ready()


def test_a_worker_that_is_to_end_is_unready_but_not_dead(sqlite_stack: Stack, probe: Probe) -> None:
    """It takes no more work from SIGTERM on, and is alive until its requests have ended."""
    stack = sqlite_stack
    stack.simulator.set_plan(FaultPlan(latency_ms=1500.0))
    worker = _worker(stack, probe)
    stack.enqueue(1)
    wait_until(lambda: stack.requests() == 1, what="a request is out")
    worker.sigterm()
    probe.wait_until_not("ready", because="draining")
    assert probe.status("live") in {200, None}
    assert worker.wait(20) == 0


def test_a_frozen_worker_says_nothing_and_is_not_dead_afterwards(sqlite_stack: Stack, probe: Probe) -> None:
    """Nobody can claim that it is well meanwhile; thawed, it is live at once and soon ready."""
    worker = _worker(sqlite_stack, probe)
    worker.freeze()
    assert probe.ask("live") is None
    worker.thaw()
    assert probe.status("live") == 200
    probe.wait_until_ready()


def test_a_deaf_worker_says_so(sqlite_stack: Stack, probe: Probe) -> None:
    """Its process lives and beats, but no hint comes round: first it is not ready, then not live."""
    go_wrong = _wrong_worker(sqlite_stack, probe, "deaf")
    go_wrong.touch()
    assert probe.wait_until_not("ready", because="no hint came round")["beat_seconds_ago"] < 5
    probe.wait_until_not("live", because="deaf")


def test_a_worker_whose_beat_hangs_says_so(sqlite_stack: Stack, probe: Probe) -> None:
    """Hints come round, but the beat does not come to its end: first it is not ready, then not live."""
    go_wrong = _wrong_worker(sqlite_stack, probe, "hanging")
    go_wrong.touch()
    assert probe.wait_until_not("live", because="'beat'")["hint_seconds_ago"] < 15
    assert probe.status("ready") == 503


def test_the_command_for_containers_tells_the_same(sqlite_stack: Stack, probe: Probe) -> None:
    """Exit 0 and the worker's answer if it is well; 1 if nobody answers."""
    worker = _worker(sqlite_stack, probe)
    ask = ["-m", "orderrelay_workers.health_probe", "ready"]
    environment = {"ORDERRELAY_HEALTH_PORT": str(probe.port)}
    well = sqlite_stack.processes.start_python(ask, environment)
    assert well.wait() == 0
    assert json.loads(well.log)["ready"] is True
    worker.kill9()
    assert sqlite_stack.processes.start_python(ask, environment).wait() == 1
    assert sqlite_stack.processes.start([sys.executable, *ask]).wait() != 0


def test_a_taken_port_stops_the_start(sqlite_stack: Stack, probe: Probe) -> None:
    """A worker that nobody could ask does not start: it exits 2 and names the setting."""
    _worker(sqlite_stack, probe)
    second = sqlite_stack.command("worker", ORDERRELAY_HEALTH_PORT=str(probe.port))
    assert second.wait() == 2
    assert "ORDERRELAY_HEALTH_PORT" in second.log
