"""Which peers there are, what each needs, and the settings that its makers advise or that were fastest here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What the job itself needs, in each environment: see job.py.
_JOB: Final = ("aiohttp==3.14.5", "orjson==3.13.0", "uvloop==0.23.0", "hiredis==3.5.0")


@dataclass(frozen=True)
class Workers:
    """How a peer's workers are started for one case.

    Attributes:
        processes: How many are started.
        arguments: What `python -m <module> work` is told.
        in_flight: How many orders they have out together at most.
        orders: How many orders are drained; few where it is slow, so that no case lasts long.
    """

    processes: int
    arguments: tuple[str, ...]
    in_flight: int
    orders: int


@dataclass(frozen=True)
class Peer:
    """One way to do the job without Orderrelay.

    Attributes:
        name: What it is called on the command line and in records.
        label: What it is called in tables.
        module: The module of this folder that does the job with it.
        environment: The virtual environment below `.bench/`, and what is installed there.
        at_once: Its workers where the vendor answers at once.
        slow: Its workers where the vendor takes 200 ms; 400 in flight, if it can.
        ways: How it can enqueue: one by one, in bulk.
        weaker: What it gives up that the others have; it is shown, but is not "the fastest peer".
        plain_celery: Whether it is what most people would write with Celery.
    """

    name: str
    label: str
    module: str
    environment: str
    requirements: tuple[str, ...]
    at_once: Workers
    slow: Workers
    ways: tuple[str, ...] = ("one", "bulk")
    weaker: str = ""
    plain_celery: bool = False
    distributions: tuple[str, ...] = ()


_CELERY: Final = ("celery[redis]==5.7.0", *_JOB)

PEERS: Final[tuple[Peer, ...]] = (
    Peer(
        "celery-prefork",
        "Celery, prefork",
        "celery_peer",
        "celery",
        _CELERY,
        # More children only fight over the two cores at 0 ms; at 200 ms each child is one request in flight.
        at_once=Workers(1, ("prefork", "4"), 4, 1500),
        slow=Workers(1, ("prefork", "32"), 32, 800),
        plain_celery=True,
        distributions=("celery", "kombu", "redis"),
    ),
    Peer(
        "celery-threads",
        "Celery, threads",
        "celery_peer",
        "celery",
        _CELERY,
        at_once=Workers(2, ("threads", "20"), 40, 1500),
        slow=Workers(2, ("threads", "200"), 400, 2400),
        plain_celery=True,
        distributions=("celery", "kombu", "redis"),
    ),
    Peer(
        "celery-chunked",
        "Celery, 100 orders a message",
        "celery_chunks",
        "celery",
        _CELERY,
        at_once=Workers(1, ("2",), 200, 12000),
        slow=Workers(1, ("4",), 400, 8000),
        ways=("bulk",),
        weaker="a message is 100 orders: one that fails repeats them all",
        distributions=("celery", "kombu", "redis"),
    ),
    Peer(
        "dramatiq",
        "dramatiq, threads",
        "dramatiq_peer",
        "dramatiq",
        ("dramatiq[redis]==2.2.1", *_JOB),
        at_once=Workers(1, ("2", "50"), 100, 6000),
        slow=Workers(1, ("2", "200"), 400, 5000),
        ways=("one",),
        distributions=("dramatiq", "redis"),
    ),
    Peer(
        "arq",
        "arq",
        "arq_peer",
        "arq",
        ("arq==0.28.0", *_JOB),
        at_once=Workers(2, ("200",), 400, 5000),
        slow=Workers(2, ("200",), 400, 5000),
        distributions=("arq", "redis"),
    ),
    Peer(
        "taskiq",
        "taskiq, Redis stream",
        "taskiq_peer",
        "taskiq",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4", *_JOB),
        at_once=Workers(1, ("2", "200"), 400, 8000),
        slow=Workers(1, ("2", "200"), 400, 6000),
        distributions=("taskiq", "taskiq-redis", "redis"),
    ),
    Peer(
        "rq",
        "rq, 16 simple workers",
        "rq_peer",
        "rq",
        ("rq==3.0.0", *_JOB),
        at_once=Workers(1, ("16",), 16, 1500),
        slow=Workers(1, ("16",), 16, 500),
        distributions=("rq", "redis"),
    ),
    Peer(
        "saq",
        "saq",
        "saq_peer",
        "saq",
        ("saq[redis]==0.26.4", *_JOB),
        at_once=Workers(2, ("200",), 400, 6000),
        slow=Workers(2, ("200",), 400, 6000),
        distributions=("saq", "redis"),
    ),
    Peer(
        "huey",
        "huey, greenlets",
        "huey_peer",
        "huey",
        ("huey[redis]==3.5.4", "gevent==26.9.0", *_JOB),
        at_once=Workers(2, ("50",), 100, 6000),
        slow=Workers(2, ("200",), 400, 5000),
        ways=("one",),
        weaker="it takes an order off the queue before the job: a crash loses it",
        distributions=("huey", "redis"),
    ),
)
