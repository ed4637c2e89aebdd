"""A run's numbers, for people as one table and for machines as one JSON object."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from orderrelay_shared.states import JobState, Outcome
from tests.chaos.watch import percentiles
from tests.chaos.world import SETTLING_SECONDS
from tests.stack import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    from tests.chaos.watch import Doubt
    from tests.chaos.world import World

#: An order whose worker has died is to be decided within lease and settling and this, in seconds.
_MARGIN_SECONDS = 3.0
DECISION_SECONDS = LEASE_SECONDS + SETTLING_SECONDS + _MARGIN_SECONDS

_WIDTH = 62


def numbers(world: World, external_ids: Sequence[str], jobs: Mapping[str, sa.RowMapping]) -> dict[str, Any]:
    """All that is counted and measured in a run."""
    orders, lookups = world.stack.attempts(), world.stack.attempts("lookup")
    created = world.simulator.books.created()
    states = Counter(str(job["state"]) for job in jobs.values())
    ambiguous = {a["external_id"] for a in orders if a["outcome"] == Outcome.UNKNOWN}
    return {
        "orders": len(external_ids),
        "states": dict(sorted(states.items())),
        "lost": sum(1 for x in external_ids if x not in jobs or not JobState(jobs[x]["state"]).is_settled),
        "doubled": len(world.simulator.books.doubled()),
        "unknown": states[JobState.UNKNOWN],
        "ambiguous": len(ambiguous),
        "created": len(created),
        "events": dict(sorted(world.counts.items())),
        "faults": dict(sorted(_faults(world).items())),
        "order_requests": dict(sorted(Counter(str(a["outcome"]) for a in orders).items())),
        "shared_requests": _shared(orders),
        "lookups": dict(sorted(Counter(str(a["outcome"]) for a in lookups).items())),
        "alarms": dict(sorted(Counter(world.stack.alarms()).items())),
        "longest_idle_seconds": round(world.idleness.longest_seconds, 1),
        "decision_seconds_promised": DECISION_SECONDS,
        "death_to_decision": _decision_times(world, lookups),
    }


def _shared(attempts: Sequence[sa.RowMapping]) -> dict[str, int]:
    """How many orders were sent in one request with others, by what came of it; their answers alone tell that."""
    shared = (a for a in attempts if (a["reason"] or "").startswith(("created with ", "one of ")))
    return dict(sorted(Counter(str(a["outcome"]) for a in shared).items()))


def _faults(world: World) -> Counter[str]:
    found = world.simulator.books.counts()["faults"]
    assert isinstance(found, dict)
    return Counter({str(name): int(count) for name, count in found.items()})


def _decision_times(world: World, lookups: Sequence[sa.RowMapping]) -> dict[str, dict[str, float]]:
    """From a worker's death to its orders' decision: of all; without outages; and without faults of their look-ups."""
    decided = [d for d in world.deaths.doubts.values() if d.decided_at is not None]
    good = {"found", "absent"}
    unlucky = {a["job_id"] for a in lookups if a["outcome"] not in good}
    calm = [d for d in decided if not world.outages.disturbed(d.last_died_at, _end(d))]
    plain = [d for d in calm if d.job_id not in unlucky]
    return {
        "all": percentiles(_end(d) - d.died_at for d in decided),
        "all, from the last death": percentiles(_end(d) - d.last_died_at for d in decided),
        "no outage meanwhile": percentiles(_end(d) - d.last_died_at for d in calm),
        "nor a look-up that failed": percentiles(_end(d) - d.last_died_at for d in plain),
    }


def _end(doubt: Doubt) -> float:
    assert doubt.decided_at is not None
    return doubt.decided_at


def lines(found: Mapping[str, Any]) -> list[str]:
    """The table."""
    told = _section("what was done", found["events"])
    told += _section("faults of the vendor", _joined(found["faults"]))
    told += _section("order requests", found["order_requests"])
    told += _section("of them, orders that shared a request", found["shared_requests"])
    told += _section("look-ups", found["lookups"])
    told += _section("alarms", found["alarms"])
    told += _section(f"{found['orders']} orders", found["states"])
    told += _section("the verdict", {name: found[name] for name in ("lost", "doubled", "unknown")})
    promised = f"worker's death to decision ({found['decision_seconds_promised']:g} s are promised)"
    told += [promised, "-" * _WIDTH]
    for name, took in found["death_to_decision"].items():
        times = f"p50 {took['p50']:.1f}  p99 {took['p99']:.1f}  most {took['most']:.1f} s" if took else ""
        told.append(f"{int(took.get('count', 0)):7}  {name:26} {times}")
    told.append(f"nobody worked although orders were due, at most {found['longest_idle_seconds']} s")
    return told


def _section(title: str, counts: Mapping[str, int]) -> list[str]:
    return [title, "-" * _WIDTH, *(f"{count:7}  {name}" for name, count in counts.items()), ""] if counts else []


def _joined(faults: Mapping[str, int]) -> dict[str, int]:
    """Whether the order was created or not makes one line of two."""
    joined: Counter[str] = Counter()
    for name, count in faults.items():
        joined[name.removesuffix("-before").removesuffix("-after")] += count
    return dict(sorted(joined.items()))


def story_of_slowest(world: World) -> list[str]:
    """What became of the order that was in doubt for longest after its worker's death."""
    if not world.deaths.doubts:
        return []
    slowest = max(world.deaths.doubts.values(), key=lambda d: (d.decided_at or world.now) - d.died_at)
    told = [f"the slowest: {slowest.died_at:.1f} s its worker died ({slowest.last_died_at:.1f} s the last one)"]
    attempts = [*world.stack.attempts(), *world.stack.attempts("lookup")]
    for attempt in sorted(attempts, key=lambda a: a["began_at"]):
        if attempt["job_id"] == slowest.job_id:
            at = (attempt["began_at"] - world.began_at).total_seconds()
            told.append(f"  {at:.1f} s {attempt['kind']}: {attempt['outcome']} ({attempt['reason']})")
    return told
