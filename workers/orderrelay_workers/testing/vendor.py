"""The vendor's stand-in as a test sees it: faults by name, and what was really created."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from orderrelay_workers.simulator import FAULTS, FaultPlan, PlanInvalid, running_simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orderrelay_workers.simulator import CreatedOrder, Credentials, RunningSimulator

#: Faults in plain words -> their names in the simulator's catalogue, which may be used as well.
FAULT_NAMES: Final[Mapping[str, str]] = {
    "timeout before creating": "hang-before",
    "timeout after creating": "hang-after",
    "connection lost before creating": "close-before",
    "connection lost after creating": "close-after",
    "server error before creating": "500-before",
    "server error after creating": "500-after",
    "created later": "504-then-created",
    "maintenance page": "html-200-before",
    "success without a number": "no-keys-after",
    "slow answer": "slow",
    "order refused": "business-rejection",
    "too many requests": "429-retry-after",
    "session expired": "401-session-expired",
    "login fails": "login-failed",
    "look-up fails": "lookup-500",
    "look-up finds nothing": "lookup-blind",
}


class Vendor:
    """A vendor that goes wrong as it is told to, and keeps books of what it created. Safe to use from any thread.

    Attributes:
        url: Its address, for `ORDERRELAY_BASE_URL`; in a browser it shows its books.
        simulator: The simulator behind it, with all that it can do besides.
    """

    def __init__(self, simulator: RunningSimulator) -> None:
        self.url = simulator.url
        self.simulator = simulator

    def fault(
        self,
        name: str,
        *,
        times: int | None = None,
        external_id: str | None = None,
        customer: str | None = None,
        share: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """From now on let something go wrong, besides what was told before; of several faults the first told strikes.

        Args:
            name: One of `FAULT_NAMES`, or of the catalogue (`orderrelay simulator --list-faults`).
            times: It strikes so many requests; None: all, until `clear_faults`.
            external_id: Only requests whose ExternalId begins so.
            customer: Only order requests whose CustomerNr begins so.
            share: It strikes only this share of the requests, 0 to 1.
            seconds: How long, where the fault has a time; by default the fault's own.

        Raises:
            PlanInvalid: There is no such fault, or it cannot strike so; the text says why, or names the nearest.
        """
        rule = {
            "fault": _catalogue_name(name),
            "times": times,
            "external_id_prefix": external_id,
            "customer_nr_prefix": customer,
            "share": share,
            "seconds": seconds,
        }
        self.simulator.add_rule(FaultPlan().changed(rules=[rule]).rules[0])

    def clear_faults(self) -> None:
        """Be in good health from now on; requests at work keep the fault that they met."""
        self.simulator.set_plan(FaultPlan())

    @contextmanager
    def away(self) -> Iterator[None]:
        """Within the block every connection is refused, as if the vendor's machine were away."""
        self.simulator.close_door()
        try:
            yield
        finally:
            self.simulator.open_door()

    @property
    def struck(self) -> dict[str, int]:
        """How many requests each fault struck, by its name in the catalogue."""
        return cast("dict[str, int]", self.simulator.books.counts()["faults"])

    @property
    def orders(self) -> list[CreatedOrder]:
        """Every order that was created, oldest first; a doubled one stands there twice."""
        return self.simulator.books.orders()

    def created(self, external_id: str) -> list[CreatedOrder]:
        """The orders with an ExternalId: none, one, or more where it was doubled."""
        return [order for order in self.orders if order.external_id == external_id]

    def requests(self, kind: str = "order") -> int:
        """How many requests came in.

        Args:
            kind: "order", "lookup" or "login".
        """
        return len(self.simulator.arrivals(kind))

    def assert_created_once(self, *external_ids: str) -> None:
        """Assert that each of these orders was created, and no order at all more than once.

        Raises:
            AssertionError: One is missing or doubled; the text names it.
        """
        __tracebackhide__ = True
        found = self.simulator.books.created()
        missing = [external_id for external_id in external_ids if external_id not in found]
        doubled = {external_id: len(ids) for external_id, ids in found.items() if len(ids) > 1}
        if missing or doubled:
            lines = [f"not created: {external_id}" for external_id in missing]
            lines += [f"created {count} times: {external_id}" for external_id, count in doubled.items()]
            raise AssertionError("\n".join(lines))


@contextmanager
def running_vendor(*, port: int = 0, credentials: Credentials | None = None) -> Iterator[Vendor]:
    """A vendor by itself, for as long as the block runs.

    Args:
        port: The port of 127.0.0.1; 0 takes a free one.
        credentials: What is accepted; by default anything.

    Raises:
        OSError: The port cannot be listened on.
    """
    with running_simulator(port=port, credentials=credentials) as simulator:
        yield Vendor(simulator)


def _catalogue_name(name: str) -> str:
    if (known := FAULT_NAMES.get(name)) is not None:
        return known
    if name in FAULTS:
        return name
    near = difflib.get_close_matches(name.lower(), [*FAULT_NAMES, *FAULTS], n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, FAULT_NAMES))}"
    raise PlanInvalid(f"no fault is called {name!r}; {hint}")
