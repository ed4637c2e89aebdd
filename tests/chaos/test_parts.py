"""The parts of the chaos suite do what they say."""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_workers.simulator.faults import FAULTS
from tests.chaos import schedule
from tests.chaos.disk import SmallDisk
from tests.chaos.proxy import ChaosProxy
from tests.chaos.schedule import Kind
from tests.chaos.trapped import PRODUCER_POINTS, WORKER_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("where", [*WORKER_POINTS.values(), *PRODUCER_POINTS.values()])
def test_every_named_point_is_there(where: str) -> None:
    """A function that was renamed would leave a trap that nobody falls into."""
    module, _, path = where.split()[1].partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)


def test_a_seed_gives_the_same_events_again() -> None:
    """A run can be repeated by its seed, and another seed is another run."""
    first, again, other = (schedule.events(seed, 60, has_postgres=True) for seed in (1, 1, 2))
    assert first == again != other


def test_a_long_run_meets_every_kind_of_event() -> None:
    """Nothing of the list is left out."""
    assert {event.kind for event in schedule.events(1, 300, has_postgres=True)} == set(Kind)


def test_a_soak_kills_and_wipes_at_even_times() -> None:
    """A kill every two seconds and a wipe every thirty, and nothing else."""
    kinds = [event.kind for event in schedule.soak_events(1, 60, 2, 30)]
    assert (kinds.count(Kind.KILL_WORKER), kinds.count(Kind.WIPE_REDIS), len(kinds)) == (30, 2, 32)


def test_the_vendor_has_every_group_of_faults() -> None:
    """Errors after creating, hangs, resets, broken and huge answers, 401, 429, drips and bad look-ups are planned."""
    planned = {rule.fault for rule in schedule.fault_plan(1, 0.1).rules}
    wanted = {
        "500-after", "hang-after", "reset-before", "reset-after", "truncated-after", "html-200-after",
        "empty-200-after", "wrong-type-after", "huge-after", "401-session-expired", "429-retry-after", "drip",
        "lookup-500", "lookup-hang",
    }  # fmt: skip
    assert wanted <= planned <= FAULTS.keys()


def test_several_orders_in_a_request_meet_faults_of_their_own() -> None:
    """Some of them created though refused, or not all named; and only where they share requests."""
    alone, several = ({rule.fault for rule in schedule.fault_plan(1, 0.1, several=s).rules} for s in (False, True))
    assert several - alone == {"partial-first", "partial-some", "short-keys", "repeated-keys"}


@pytest.fixture
def echo() -> Iterator[ChaosProxy]:
    """A proxy before a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):  # cut off while it sends back
                while piece := connection.recv(1000):
                    connection.sendall(piece)

        threading.Thread(target=serve, daemon=True).start()
        proxy = ChaosProxy(server.getsockname()[1])
        yield proxy
        proxy.close()


def test_a_link_can_be_cut_short(echo: ChaosProxy) -> None:
    """Half of what was sent arrives, comes back by half again, and then the connection is closed."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=5) as client:
        client.sendall(b"whole")
        assert client.recv(1000) == b"whole"
        echo.is_truncating = True
        client.sendall(b"12345678")
        assert client.recv(1000) in (b"", b"12")
        assert client.recv(1000) == b""


def test_a_full_disk_has_room_again_when_it_is_freed(tmp_path: Path) -> None:
    """Nothing more can be written to the small disk until its room is given back, if one can be mounted here."""
    disk = SmallDisk(tmp_path / "disk", 1)
    try:
        how = disk.fill([], is_sqlite=True)
        if disk.is_own:
            with pytest.raises(OSError, match="No space"):
                (disk.folder / "more").write_bytes(b"x" * 100_000)
        else:
            assert "RLIMIT_FSIZE" in how
        disk.free()
        (disk.folder / "more").write_bytes(b"x" * 100_000)
    finally:
        disk.remove()
