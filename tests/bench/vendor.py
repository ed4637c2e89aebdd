"""The stub as a process of its own, and how a bench talks to it."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import TYPE_CHECKING, Any

from tests.bench.stub import Counts
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from tests.processes import Processes, RunningProcess


class Vendor:
    """A running stub.

    Attributes:
        url: Its base URL.
        process: Its process.
    """

    def __init__(self, process: RunningProcess, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def counts(self) -> Counts:
        """What arrived so far."""
        return Counts(**self._ask("GET", "stats"))

    def hold(self) -> None:
        """From now on, orders get no answer."""
        self._ask("POST", "hold")

    def release(self) -> None:
        """Answer the orders that are held, and all that come."""
        self._ask("POST", "release")

    def set_latency(self, milliseconds: float) -> None:
        """Each answer comes so long after its request."""
        self._ask("POST", f"latency?ms={milliseconds}")

    def reset(self) -> None:
        """Forget all orders and counts."""
        self._ask("POST", "reset")

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def _ask(self, method: str, what: str) -> Any:
        try:
            self._connection.request(method, f"/bench/{what}")
        except ConnectionError:
            self._connection.close()  # else it would not be opened anew
            raise
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)


def start_vendor(processes: Processes, latency_ms: float = 0.0) -> Vendor:
    """Start the stub; returns when it answers."""
    port = free_port()
    arguments = ["-m", "tests.bench.stub", "--port", str(port), "--latency-ms", str(latency_ms)]
    process = processes.start_python(arguments, name="stub")
    vendor = Vendor(process, port)

    def answers() -> bool:
        with contextlib.suppress(ConnectionError):
            vendor.counts()
            return True
        return not process.is_running

    wait_until(answers, 20, what="the stub answers")
    assert process.is_running, f"the stub ended:\n{process.log}"
    return vendor
