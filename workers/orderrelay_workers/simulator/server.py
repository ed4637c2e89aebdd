"""The simulator as a server: one event loop, or a thread of its own beside a synchronous test."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Self

from aiohttp import web

from orderrelay_workers.simulator.books import Books
from orderrelay_workers.simulator.desk import Desk
from orderrelay_workers.simulator.plan import Chooser, FaultPlan
from orderrelay_workers.simulator.tokens import Credentials, Tokens
from orderrelay_workers.simulator.vendor import Target, VendorEndpoints, read_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from orderrelay_workers.simulator.plan import Rule


class Simulator:
    """A stand-in for the vendor: `async with Simulator(plan) as simulator:` and use `simulator.url`.

    Args:
        plan: What goes wrong; by default nothing.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        credentials: What is accepted; by default anything.
        login_failure_seconds: How late a failing login is answered.
        token_first_use_seconds: A new token dies unless it is used within this time.
        token_slide_seconds: Each use keeps a token alive for this time.
        used_up: So many ids and numbers were given away in an earlier life.
    """

    def __init__(
        self,
        plan: FaultPlan | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        credentials: Credentials | None = None,
        login_failure_seconds: float = 2.0,
        token_first_use_seconds: float = 120.0,
        token_slide_seconds: float = 600.0,
        used_up: int = 0,
    ) -> None:
        self.books = Books(used_up)
        self._plan = plan or FaultPlan()
        self._host = host
        self._port = port
        self._tokens = Tokens(
            credentials or Credentials(),
            first_use_seconds=token_first_use_seconds,
            slide_seconds=token_slide_seconds,
        )
        self._login_failure_seconds = login_failure_seconds
        self._closing = asyncio.Event()
        self._vendor = VendorEndpoints(self.books, self._tokens, self._plan, self._login_failure_seconds, self._closing)
        self._routes = self._make_routes()
        self._server: web.Server | None = None
        self._runner: web.ServerRunner | None = None
        self._door: web.TCPSite | None = None
        self._absence: asyncio.Future[None] | None = None
        self._address: tuple[str, int] = (host, port)

    def _make_routes(self) -> dict[str, tuple[str, Callable[[web.BaseRequest, Target], Awaitable[web.StreamResponse]]]]:
        vendor, desk = self._vendor, Desk(self.books, lambda: self._plan, self.set_plan, self.books.reset)
        return {
            "/economy/billing/orders": ("POST", self._post_orders),
            "/economy/billing/order": ("POST", self._post_order),
            "/economy/billing/invoiceidsfromexternalid": ("GET", vendor.look_up),
            "/login/token": ("POST", vendor.log_in),
            "": ("GET", desk.show_page),
            "/books": ("GET", desk.show_books),
            "/arrivals": ("GET", desk.show_arrivals),
            "/control": ("POST", desk.control),
            "/moved": ("*", vendor.followed_redirect),
        }

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end.

        Raises:
            RuntimeError: The simulator does not run.
        """
        if self._runner is None:
            raise RuntimeError("the simulator does not run; use it as `async with Simulator(...) as simulator:`")
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._plan

    def set_plan(self, plan: FaultPlan) -> None:
        """Put another plan in force, its counts at zero; requests at work keep the fault they met."""
        self._plan = plan
        self._vendor.chooser = Chooser(plan)
        self._go_away_as_planned()

    def add_rule(self, rule: Rule) -> None:
        """Add a rule to the plan in force, whose counts go on.

        Raises:
            PlanInvalid: The rule does not go together with those that there are.
        """
        self._vendor.chooser.add(rule)
        self._plan = self._vendor.chooser.plan

    def accept(self, *credentials: Credentials) -> None:
        """Accept any of these from now on, and nothing else; tokens of earlier logins stay good."""
        self._tokens.credentials = credentials

    def end_sessions(self) -> None:
        """Let every token that a login made run out; its next use is answered 401 "Session Expired"."""
        self._tokens.end_all()

    def arrivals(self, kind: str = "order") -> list[float]:
        """When requests of a kind came in, in monotonic seconds."""
        return self.books.arrivals(kind)

    async def close_door(self) -> None:
        """Refuse every connection, and cut those that there are, until `open_door`: the vendor's machine is away."""
        if self._door is not None:
            await self._door.stop()
            self._door = None
        self._cut_connections()

    async def open_door(self) -> None:
        """Take connections again, on the same port."""
        if self._runner is not None and self._door is None:
            await self._listen(self._runner, self._address[1])

    def _go_away_as_planned(self) -> None:
        """Let the plan in force, and no earlier one, decide when the door is closed."""
        away, earlier = self._plan.away_seconds, self._absence
        if earlier is not None:
            earlier.cancel()
        if self._runner is not None and (away or earlier):
            self._absence = asyncio.ensure_future(self._be_away(away))

    async def _be_away(self, away: tuple[float, float] | None) -> None:
        await self.open_door()
        if away is not None:
            await asyncio.sleep(away[0])
            await self.close_door()
            await asyncio.sleep(away[1] - away[0])
            await self.open_door()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be listened on.
        """
        # The low-level server: no routing table, no middlewares, no access log in the way of thousands a second.
        self._server = web.Server(self._answer, access_log=None)
        runner = web.ServerRunner(self._server, shutdown_timeout=0.0)
        await runner.setup()
        try:
            await self._listen(runner, self._port)
        except BaseException:
            await runner.cleanup()
            raise
        self._address = runner.addresses[0][:2]
        self._runner = runner
        self._go_away_as_planned()

    async def _listen(self, runner: web.ServerRunner, port: int) -> None:
        door = web.TCPSite(runner, self._host, port, backlog=4096)
        await door.start()
        self._door = door

    async def stop(self) -> None:
        """Stop at once: whoever still waits for an answer gets none."""
        self._closing.set()
        if self._absence is not None:
            self._absence.cancel()
        self._cut_connections()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def _cut_connections(self) -> None:
        if self._server is not None:
            for connection in self._server.connections:
                if connection.transport is not None:
                    connection.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        target = read_target(request.raw_path)
        found = self._routes.get(target.path)
        if found is None:
            return web.Response(status=404, text="Not Found")
        method, answer = found
        if method not in ("*", request.method):
            return web.Response(status=405, text="Method Not Allowed", headers={"Allow": method})
        return await answer(request, target)

    async def _post_orders(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        return await self._vendor.order(request, target, is_array=True)

    async def _post_order(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        return await self._vendor.order(request, target, is_array=False)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The quickest event loop that is installed."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: PLC0415  not there on every platform

            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


class RunningSimulator:
    """A simulator that runs in a thread of its own; every method may be called from any thread."""

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self._simulator = simulator
        self._loop = loop
        self.url = simulator.url
        self.books = simulator.books

    @property
    def plan(self) -> FaultPlan:
        """The plan in force."""
        return self._simulator.plan

    def set_plan(self, plan: FaultPlan) -> None:
        """Put another plan in force; returns when the next request will meet it."""
        done = threading.Event()

        def change() -> None:
            self._simulator.set_plan(plan)
            done.set()

        self._loop.call_soon_threadsafe(change)
        done.wait()

    def add_rule(self, rule: Rule) -> None:
        """Add a rule to the plan in force, whose counts go on; returns when the next request will meet it.

        Raises:
            PlanInvalid: The rule does not go together with those that there are.
        """

        async def add() -> None:
            self._simulator.add_rule(rule)

        asyncio.run_coroutine_threadsafe(add(), self._loop).result()

    def close_door(self) -> None:
        """Refuse every connection, and cut those that there are; returns when it is so."""
        asyncio.run_coroutine_threadsafe(self._simulator.close_door(), self._loop).result()

    def open_door(self) -> None:
        """Take connections again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._simulator.open_door(), self._loop).result()

    def accept(self, *credentials: Credentials) -> None:
        """Accept any of these from now on, and nothing else; tokens of earlier logins stay good."""
        self._simulator.accept(*credentials)  # a single assignment: safe from any thread

    def end_sessions(self) -> None:
        """Let every token that a login made run out."""
        self._loop.call_soon_threadsafe(self._simulator.end_sessions)

    def arrivals(self, kind: str = "order") -> list[float]:
        """When requests of a kind came in, in monotonic seconds."""
        return self.books.arrivals(kind)


@contextlib.contextmanager
def running_simulator(
    plan: FaultPlan | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    credentials: Credentials | None = None,
    login_failure_seconds: float = 2.0,
    token_first_use_seconds: float = 120.0,
    token_slide_seconds: float = 600.0,
) -> Generator[RunningSimulator]:
    """A simulator in its own thread, for as long as the block runs. Arguments as those of `Simulator`.

    Raises:
        OSError: The address cannot be listened on.
    """
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        simulator = Simulator(
            plan,
            host=host,
            port=port,
            credentials=credentials,
            login_failure_seconds=login_failure_seconds,
            token_first_use_seconds=token_first_use_seconds,
            token_slide_seconds=token_slide_seconds,
        )
        asyncio.run_coroutine_threadsafe(simulator.start(), loop).result()
        try:
            yield RunningSimulator(simulator, loop)
        finally:
            asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        _finish(loop)


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Let what was cancelled end, then close the loop."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
