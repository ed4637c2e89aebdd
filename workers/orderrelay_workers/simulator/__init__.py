"""A faithful stand-in for the SoftOne GO API, with faults on demand and books of what it really created.

As a library: `with running_simulator(FaultPlan(...)) as simulator:` then `simulator.url`, `simulator.books`.
As a command: `orderrelay simulator`.
"""

from orderrelay_workers.simulator.books import Books, CreatedOrder, SeenRequest
from orderrelay_workers.simulator.faults import FAULTS, Fault
from orderrelay_workers.simulator.plan import FaultPlan, PlanInvalid, Rule
from orderrelay_workers.simulator.server import RunningSimulator, Simulator, new_event_loop, running_simulator
from orderrelay_workers.simulator.tokens import Credentials

__all__ = [
    "FAULTS",
    "Books",
    "CreatedOrder",
    "Credentials",
    "Fault",
    "FaultPlan",
    "PlanInvalid",
    "Rule",
    "RunningSimulator",
    "SeenRequest",
    "Simulator",
    "new_event_loop",
    "running_simulator",
]
