"""The pacing scenarios: what the vendor sees of the product when it is paced, refused, down, half down, or shared."""

from __future__ import annotations

import functools
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orderrelay_producers import OrderProducer
from tests.bench import pacing_numbers as numbers
from tests.bench.pacing_world import KINDS, Watch, World, open_world, told, wall
from tests.servers import wait_until
from tests.stack import order

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_ALIAS: Final = "acme"

#: Edges of the histogram of gaps between arrivals, in milliseconds.
_GAP_EDGES: Final = (*(float(edge) for edge in range(0, 60, 2)), 60.0, 80.0, 100.0, 200.0)

#: The hidden limit of the scenario: seconds, and orders a second from then on.
LIMIT_STEPS: Final[Sequence[numbers.Step]] = ((0.0, 50.0), (90.0, 80.0), (180.0, 30.0))
_LIMIT_SECONDS: Final = 270.0

#: Workers have just started, and have taken the cores for it.
_WARMING_SECONDS: Final = 15.0

#: How long the product works well before an outage begins, and is watched after it has ended.
_BEFORE_SECONDS, _AFTER_SECONDS = 20.0, 40.0

_DOWN: Final = ({"fault": "503-before"}, {"fault": "lookup-503"}, {"fault": "login-503"})


@dataclass
class Result:
    """What a scenario found.

    Attributes:
        scenario: Its name.
        settings: What was chosen.
        rows: The table.
        series: What can be drawn.
    """

    scenario: str
    settings: dict[str, Any]
    rows: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    series: dict[str, Any] = field(default_factory=dict[str, Any])


def arrivals(chosen: argparse.Namespace) -> Result:
    """50 orders a second, burst 1, by 1, 4 and 8 workers: how evenly they arrive, and from whom."""
    rate, seconds = chosen.rate or 50.0, chosen.seconds or 60.0
    result = Result("arrivals", {"rate": rate, "seconds": seconds, **_database(chosen)})
    for workers in chosen.workers or (1, 4, 8):
        limits = {"RATE_PER_SECOND": f"{rate:g}", "BURST": "1", "MAX_IN_FLIGHT": "100"}
        with open_world({_ALIAS: limits}, postgres=chosen.postgres) as world:
            _say(f"{workers} workers: booking")
            world.book(_ALIAS, round(rate * (seconds + 60)))
            world.start_workers(workers)
            time.sleep(_WARMING_SECONDS)
            begin = time.monotonic()
            time.sleep(seconds)
            end = time.monotonic()
            seen = numbers.between(world.vendor.arrivals().times, begin, end)
            by_worker = world.by_worker(_ALIAS, begin, end)
            state = world.gate(_ALIAS)
        gaps = numbers.gaps_ms(seen)
        result.rows.append(
            told(
                workers=workers,
                mean_a_second=round(len(seen) / (end - begin), 2),
                most_in_any_second=numbers.most_in_any(seen),
                fewest_of_a_worker=by_worker[0],
                most_of_a_worker=by_worker[-1],
                unfair_percent=_unfair(by_worker),
                median_gap_ms=round(numbers.quantile(gaps, 0.5), 1),
                shortest_gap_ms=round(min(gaps), 1),
                longest_gap_ms=round(max(gaps), 1),
                slots_taken_again=(state.counts if state else {}).get("order_late", 0),
            )
        )
        result.series[str(workers)] = {
            "per_second": numbers.per_second(seen, begin, end),
            "times": [round(at - begin, 4) for at in seen],
            "by_worker": by_worker,
            "gap_edges_ms": _GAP_EDGES,
            "gap_counts": numbers.histogram(gaps, _GAP_EDGES),
        }
    return result


def _unfair(by_worker: Sequence[int]) -> float:
    """How far the worker that is furthest from an even share is from it, in percent."""
    even = sum(by_worker) / len(by_worker)
    return round(max(abs(count - even) for count in by_worker) / even * 100, 1)


def limit(chosen: argparse.Namespace) -> Result:
    """A hidden limit that moves, and a rate that is learned: how near it comes, how soon, how often refused."""
    stretch = (chosen.seconds or _LIMIT_SECONDS) / _LIMIT_SECONDS
    steps = [(begins * stretch, wanted) for begins, wanted in LIMIT_STEPS]
    seconds, workers = _LIMIT_SECONDS * stretch, (chosen.workers or [2])[0]
    learning = {"RATE_PER_SECOND": "200", "LEARN_RATE_FROM": "5", "BURST": "1", "MAX_IN_FLIGHT": "100"}
    result = Result("limit", {"steps": steps, "seconds": seconds, "workers": workers, **_database(chosen)})
    with open_world({_ALIAS: learning}, postgres=chosen.postgres) as world:
        _say("booking")
        world.book(_ALIAS, round(100 * seconds))
        began = world.vendor.put_in_force(
            rate_limit_per_second=[[begins, round(wanted)] for begins, wanted in steps], latency_ms=[50, 150]
        )
        with Watch(0.5, rate=lambda: world.rate_now(_ALIAS)) as watch:
            world.start_workers(workers)
            _sleep_until(began + seconds)
        seen = world.vendor.arrivals()
    sent = _since(began, seen.times)
    refused = _since(began, seen.answered(429))
    rates = watch.since(began)["rate"]
    for step in numbers.follow(steps, seconds, rates, sent, refused):
        share = round(step.refused / max(step.sent, 1) * 100, 2)
        result.rows.append(
            told(
                limit=step.limit,
                from_s=round(step.begins),
                near_after_s=None if step.seconds_until_near is None else round(step.seconds_until_near, 1),
                share_of_time_near=round(step.share_near, 3),
                share_of_limit_used=round(step.used, 3),
                sent=step.sent,
                refused=step.refused,
                refused_percent=share,
            )
        )
    result.settings["refused_percent"] = round(len(refused) / len(sent) * 100, 2)
    result.series = {
        "rate": [(round(at, 2), round(rate, 2)) for at, rate in rates],
        "arrivals_per_second": numbers.per_second(sent, 0, seconds),
        "refused_per_second": numbers.per_second(refused, 0, seconds),
    }
    return result


def outage(chosen: argparse.Namespace) -> Result:
    """The vendor is down with many orders waiting: what it is asked, what that costs, how soon all is well."""
    seconds, waiting = chosen.seconds or 120.0, chosen.orders or 100_000
    rate, workers = chosen.rate or 50.0, (chosen.workers or [2])[0]
    settings = {"rate": rate, "seconds": seconds, "waiting": waiting, "workers": workers, "refused": chosen.refused}
    result = Result("outage", {**settings, **_database(chosen)})
    limits = {"RATE_PER_SECOND": f"{rate:g}", "BURST": "1", "MAX_IN_FLIGHT": "100"}
    begins, ends = _BEFORE_SECONDS, _BEFORE_SECONDS + seconds
    with open_world({_ALIAS: limits}, postgres=chosen.postgres) as world:
        _say(f"booking {waiting} orders")
        world.book(_ALIAS, waiting)
        world.start_workers(workers)
        wait_until(lambda: world.vendor.arrivals().times, 30, what="orders arrive")
        down: dict[str, object] = {"rules": [{**rule, "from_seconds": begins, "to_seconds": ends} for rule in _DOWN]}
        if chosen.refused:
            down = {"away_seconds": [begins, ends]}
        began = world.vendor.put_in_force(latency_ms=[50, 150], **down)
        memory = {f"worker {number + 1}": functools.partial(world.rss_mb, number) for number in range(workers)}
        with Watch(1.0, **memory) as watch:
            _sleep_until(began + ends + _AFTER_SECONDS)
        seen = {kind: _since(began, world.vendor.arrivals(kind).times) for kind in KINDS}
        attempts = world.attempts(_ALIAS)
        first, last = wall(began + begins), wall(began + ends)
    lost = [a for a in attempts if first <= a["began_at"] < last and a["outcome"] != "created"]
    every = sorted(at for times in seen.values() for at in times)
    # What is in flight when it begins, and the few that show that it is down, are not what is asked meanwhile.
    calm = numbers.between(every, begins + 10, ends)
    recovered = numbers.seconds_to_full_speed(seen["order"], ends, rate)
    rss = watch.since(began)
    result.rows.append(
        told(
            outage_s=round(seconds),
            requests_in_its_first_10_s=len(numbers.between(every, begins, begins + 10)),
            requests_after_that=len(calm),
            most_in_any_10_s=numbers.most_in_any(calm, 10.0),
            mean_in_10_s=round(len(calm) / max(seconds - 10, 1) * 10, 2),
            order_requests_spent=sum(a["sent"] is not False for a in lost),
            full_speed_after_s=None if recovered is None else round(recovered, 1),
            memory_growth_mb=round(max(_growth(series, begins, ends) for series in rss.values()), 1),
        )
    )
    result.series = {
        "per_second": {kind: numbers.per_second(times, 0, ends + _AFTER_SECONDS) for kind, times in seen.items()},
        "asked": {kind: [round(at, 2) for at in numbers.between(t, begins, ends)] for kind, t in seen.items()},
        "rss_mb": {name: [(round(at, 1), round(mb, 1)) for at, mb in series] for name, series in rss.items()},
        "begins": begins,
        "ends": ends,
    }
    return result


def _growth(series: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """How much higher the end of a stretch is than its beginning, each the mean of a tenth of it."""
    mine = [value for at, value in series if begin <= at < end]
    part = max(1, len(mine) // 10)
    return sum(mine[-part:]) / part - sum(mine[:part]) / part


def brownout(chosen: argparse.Namespace) -> Result:
    """Half of the answers are 503 for a minute while orders keep coming, with the retry budget and without one."""
    seconds, rate, share = chosen.seconds or 60.0, chosen.rate or 40.0, chosen.share
    settings = {"seconds": seconds, "orders_per_second": rate, "share": share, "fault": chosen.fault}
    result = Result("brownout", {**settings, **_database(chosen)})
    begins, ends = _BEFORE_SECONDS, _BEFORE_SECONDS + seconds
    over = ends + _AFTER_SECONDS
    for retry_share in ("0.2", "1"):
        limits = {"RATE_PER_SECOND": "400", "BURST": "10", "MAX_IN_FLIGHT": "300", "RETRY_SHARE": retry_share}
        # Impatient on purpose: nothing but the budget and the circuit shall hold retries back.
        impatient = {
            "REQUEST_TIMEOUT_SECONDS": "2", "START_FENCE_SECONDS": "2", "SETTLING_SECONDS": "1",
            "BACKOFF_FIRST_SECONDS": "0.2", "BACKOFF_CAP_SECONDS": "1", "MAX_ATTEMPTS": "1000",
        }  # fmt: skip
        with open_world({_ALIAS: limits}, postgres=chosen.postgres, **impatient) as world:
            _say(f"RETRY_SHARE={retry_share}")
            world.start_workers((chosen.workers or [2])[0])
            rule = {"fault": chosen.fault, "share": share, "from_seconds": begins, "to_seconds": ends}
            began = world.vendor.put_in_force(latency_ms=[20, 60], rules=[rule])
            with _Coming(world.environment["ORDERRELAY_REDIS_URL"], rate):
                _sleep_until(began + over)
            seen = {kind: _since(began, world.vendor.arrivals(kind).times) for kind in KINDS}
            attempts, states = world.attempts(_ALIAS), world.states(_ALIAS)
            first, last = wall(began + begins), wall(began + ends)
            origin = wall(began)
        meanwhile = [a for a in attempts if first <= a["began_at"] < last and a["sent"] is not False]
        retries = sum(a["number"] > 1 for a in meanwhile)
        created = sum(a["outcome"] == "created" for a in meanwhile)
        requests = sorted(at for times in seen.values() for at in times)
        result.rows.append(
            told(
                retry_share=float(retry_share),
                requests_a_second=round(len(numbers.between(requests, begins, ends)) / seconds, 1),
                most_in_a_second=max(numbers.per_second(requests, begins, ends)),
                order_requests=len(meanwhile),
                retries=retries,
                retries_percent=round(retries / max(len(meanwhile), 1) * 100, 1),
                look_ups=len(numbers.between(seen["lookup"], begins, ends)),
                created_meanwhile=created,
                left_at_the_end=sum(count for state, count in states.items() if state != "succeeded"),
            )
        )
        again = sorted((a["began_at"] - origin).total_seconds() for a in attempts if a["number"] > 1)
        result.series[retry_share] = {
            "per_second": {kind: numbers.per_second(times, 0, over) for kind, times in seen.items()},
            "retries_per_second": numbers.per_second(again, 0, over),
            "begins": begins,
            "ends": ends,
        }
    return result


class _Coming:
    """Orders come from a producer, a few each quarter of a second, as long as the block runs."""

    def __init__(self, redis_url: str, rate: float) -> None:
        self._producer = OrderProducer(redis_url)
        self._few = max(1, round(rate / 4))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._come, daemon=True)

    def _come(self) -> None:
        number = 0
        while not self._over.wait(0.25):
            external_ids = [f"coming-{number + one:06d}" for one in range(self._few)]
            self._producer.enqueue_many([order(external_id) for external_id in external_ids], company=_ALIAS)
            number += self._few

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._producer.close()


def fair(chosen: argparse.Namespace) -> Result:
    """One company has many orders waiting, another gets one now and then: how long until it is at the vendor."""
    waiting, times, rate = chosen.orders or 100_000, chosen.times, chosen.rate or 50.0
    limits = {"RATE_PER_SECOND": f"{rate:g}", "BURST": "1", "MAX_IN_FLIGHT": "100"}
    result = Result("fair", {"waiting": waiting, "times": times, "rate": rate, **_database(chosen)})
    with open_world({"big": limits, "small": limits}, postgres=chosen.postgres) as world:
        _say(f"booking {waiting} orders")
        world.book("big", waiting)
        world.start_workers((chosen.workers or [2])[0])
        wait_until(lambda: len(world.vendor.arrivals(alias="big").times) > rate, 60, what="the big company's orders go")
        begin = time.monotonic()
        delays = _one_by_one(world, times)
        end = time.monotonic()
        big = numbers.between(world.vendor.arrivals(alias="big").times, begin, end)
    result.rows.append(
        told(
            orders=len(delays),
            median_s=round(numbers.quantile(delays, 0.5), 2),
            p90_s=round(numbers.quantile(delays, 0.9), 2),
            longest_s=round(max(delays), 2),
            the_others_orders_a_second=round(len(big) / (end - begin), 1),
        )
    )
    result.series = {"delays": [round(delay, 3) for delay in delays]}
    return result


def _one_by_one(world: World, times: int) -> list[float]:
    """Enqueue single orders of the small company, a while apart; gives the seconds until each was at the vendor."""
    delays: list[float] = []
    with OrderProducer(world.environment["ORDERRELAY_REDIS_URL"]) as producer:
        for number in range(times):
            time.sleep(1.0 + number % 7 * 0.31)  # at another place in every period of the workers each time
            enqueued = time.monotonic()
            producer.enqueue(order(f"single-{number}"), company="small")
            wait_until(lambda: len(world.vendor.arrivals(alias="small").times) > len(delays), 60, what="it arrived")
            delays.append(world.vendor.arrivals(alias="small").times[number] - enqueued)
    return delays


SCENARIOS: Final = {"arrivals": arrivals, "limit": limit, "outage": outage, "brownout": brownout, "fair": fair}


def _database(chosen: argparse.Namespace) -> dict[str, str]:
    return {"database": "PostgreSQL" if chosen.postgres else "SQLite"}


def _since(began: float, times: Sequence[float]) -> list[float]:
    return [at - began for at in times]


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def as_json(result: Result) -> dict[str, Any]:
    """A result as it is written to a file."""
    return asdict(result)
