"""The whole product on this machine, for one test: Redis, the vendor's stand-in, worker processes and a ledger."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from orderrelay_shared import ids
from orderrelay_workers.demo.private_redis import PrivateRedis, find_binary
from orderrelay_workers.demo.worker_process import log_of, settings_of, wait_until_ready, worker_process
from orderrelay_workers.simulator import Credentials
from orderrelay_workers.testing.guardian import Guardian
from orderrelay_workers.testing.vendor import running_vendor

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator, Mapping

    from orderrelay_producers import OrderProducer
    from orderrelay_workers.testing.vendor import Vendor

_RATE_PER_SECOND: Final = 500.0
_REQUEST_TIMEOUT_SECONDS: Final = 2.0


class OrderrelayStack:
    """A private Redis, a simulated vendor and real workers over a private ledger. A context manager; nothing is kept.

    Times are short: a request may take 2 s, and an order whose answer was lost is looked up within seconds.

    Args:
        folder: Where ledger and logs go; by default a temporary folder, removed in the end.
        workers: How many worker processes run.
        companies: Aliases of the companies that they serve.
        settings: More `ORDERRELAY_…` variables of the workers; they win.

    Attributes:
        folder: That folder.
        redis_url: The private Redis, for the service under test: `ORDERRELAY_REDIS_URL`.
        vendor: The simulated vendor.
        producer: A producer on that Redis.
        settings: The workers' `ORDERRELAY_…` variables, as for `orderrelay audit list` on this ledger.

    Raises:
        NoRedis: There is no Redis server to start; raised where the block begins, as is the next.
        WorkerDidNotStart: A worker ended at once; the text ends with its log.
    """

    vendor: Vendor
    producer: OrderProducer

    def __init__(
        self,
        folder: Path | None = None,
        *,
        workers: int = 1,
        companies: Iterable[str] = ("default",),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder if folder is not None else Path(tempfile.mkdtemp(prefix="orderrelay-stack-"))
        self._is_temporary = folder is None
        self._count = workers
        self._companies = [ids.normalise_company(alias) for alias in companies]
        self._more = dict(settings or {})
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            if self._is_temporary:
                parts.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._guardian = parts.enter_context(Guardian())
            self._redis = PrivateRedis(find_binary(), self.folder)
            self._guardian.watch(self._redis.pid)
            parts.enter_context(self._redis)
            self.redis_url = self._redis.url
            self.vendor = parts.enter_context(running_vendor())
            self.settings = (
                settings_of(
                    self.folder,
                    redis_url=self.redis_url,
                    base_url=self.vendor.url,
                    companies={alias: _credentials(alias) for alias in self._companies},
                    rate_per_second=_RATE_PER_SECOND,
                    request_timeout_seconds=_REQUEST_TIMEOUT_SECONDS,
                )
                | self._more
            )
            self.producer = parts.enter_context(_producer(self.redis_url))
            self._parts = parts
            self._start(self._count)
            # All is there: from here on the block's end ends it.
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.thaw()
        self._parts.close()

    def start_worker(self) -> int:
        """Start one more worker; returns when it takes work.

        Returns:
            Its number, counted from 1; its log is `worker-<number>.log` in the folder.
        """
        return self._start(1)

    def kill_worker(self, number: int = 1) -> None:
        """Kill a worker as `kill -9` does, in the middle of whatever it does; returns when it is gone."""
        self._workers[number].kill()
        self._workers[number].wait()

    def worker_log(self, number: int = 1) -> str:
        """What a worker has logged so far."""
        return log_of(self.folder, number).read_text(errors="replace")

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Within the block Redis answers nobody, as a machine that hangs; it has lost nothing afterwards."""
        self._redis.freeze()
        try:
            yield
        finally:
            self._redis.thaw()

    def _start(self, count: int) -> int:
        last = len(self._workers)
        numbers = range(last + 1, last + count + 1)
        for number in numbers:
            worker = self._parts.enter_context(worker_process(self.folder, self.settings, number))
            self._guardian.watch(worker.pid)
            self._workers[number] = worker
        wait_until_ready(self.folder, {number: self._workers[number] for number in numbers})
        return last + count


def _credentials(alias: str) -> Credentials:
    """Nobody's credentials; each company has its own key, and so its own books at the vendor."""
    return Credentials(f"{alias}-company-key", "test-connect-key", "1", "test-user", "test-password", None)


def _producer(redis_url: str) -> OrderProducer:
    # A stack plays both sides, as a service that enqueues would.
    from orderrelay_producers import OrderProducer  # noqa: PLC0415
    from orderrelay_shared.settings import ProducerSettings  # noqa: PLC0415

    # Whatever this process' environment says of a real Redis does not hold of this one.
    settings = ProducerSettings(
        redis_url=redis_url,
        max_waiting=ProducerSettings.model_fields["max_waiting"].default,
        accept_replicas=0,
        accept_on_disk=False,
    )
    return OrderProducer(settings=settings)
