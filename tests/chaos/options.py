"""What a run is made of, as the command line says it."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


DATABASES = ("sqlite", "postgres")


@dataclass(frozen=True)
class Options:
    """What a run is made of; times in seconds, `faults` a share of the order requests.

    Attributes:
        kill_every: A soak: a worker is killed every so many seconds and nothing else happens, but wipes; 0: chaos.
        wipe_every: In a soak Redis is wiped every so many seconds; 0 for never.
        orders_per_request: So many orders may share a request.
    """

    seed: int = 1
    seconds: float = 60.0
    orders: int = 300
    workers: int = 3
    database: str = "sqlite"
    faults: float = 0.1
    lookup: bool = True
    kill_every: float = 0.0
    wipe_every: float = 0.0
    rate: float = 0.0
    orders_per_request: int = 1

    @property
    def is_soak(self) -> bool:
        """Whether it is a soak."""
        return bool(self.kill_every or self.wipe_every)


@dataclass(frozen=True)
class Given:
    """The command line: what to run, and what to do with what comes of it."""

    options: Options
    json: Path | None
    keep: bool
    runs: int


def read(arguments: Sequence[str] | None, description: str | None) -> Given:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=description)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="of the events and the faults")
    parser.add_argument("--seconds", type=float, default=60.0, help="of chaos; then it has to settle. A soak goes on "
                        "until every order was worked on")  # fmt: skip
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--faults", type=float, default=0.1, help="share of the order requests that go wrong")
    parser.add_argument("--no-lookup", dest="lookup", action="store_false", help="the vendor cannot be asked")
    parser.add_argument("--kill-every", type=float, default=0.0, help="a soak: kill a worker every so many seconds")
    parser.add_argument("--wipe-every", type=float, default=0.0, help="a soak: wipe Redis every so many seconds")
    parser.add_argument("--rate", type=float, default=0.0, help="the company's requests per second; 0: by the orders")
    parser.add_argument("--orders-per-request", type=int, default=1, help="so many orders may share a request")
    parser.add_argument(
        "--runs", type=int, default=1, help="so many, each with the next seed, on both databases in turn"
    )
    parser.add_argument("--json", type=Path, help="append the verdict to this file, as one line")
    parser.add_argument("--keep", action="store_true", help="leave the folder with all logs even if all went well")
    values = vars(parser.parse_args(arguments))
    file, keep, runs = values.pop("json"), values.pop("keep"), values.pop("runs")
    return Given(Options(**values), file, keep, runs)
