"""Order requests between their start and their settle, and what their ends tell the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderrelay_shared.states import Outcome
from orderrelay_workers.gate import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.stopwatch import Stopwatch
    from orderrelay_workers.tokens import Token
    from orderrelay_workers.vendor.answers import Verdict
    from orderrelay_workers.vendor.exchange import Exchange

_WELL = (Outcome.CREATED, Outcome.REJECTED)
_UNWELL = (Outcome.NOT_CREATED, Outcome.UNKNOWN)

#: Too busy, whether or not it says for how long.
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503


@dataclass(frozen=True, slots=True)
class Request:
    """An order request that may leave.

    Attributes:
        claim: The claim under which it goes.
        token: The access token to use.
        watch: Runs since before the claim, for the start fence.
        probe: Whether it decides if the company's circuit closes.
        tries: How many slots it has missed.
    """

    claim: Claim
    token: Token
    watch: Stopwatch
    probe: bool = False
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended, or did not begin.

    Attributes:
        request: The request.
        exchange: What was seen; None: provably nothing was sent, so the claim is given back.
        late: It came too late for its slot, and needs another one.
        lost: An unforeseen error: nothing is known, so the claim is left to lapse, and the order is looked up.
    """

    request: Request
    exchange: Exchange | None
    late: bool = False
    lost: bool = False


def report_of(batch: Sequence[Ended], answered: Sequence[tuple[Ended, Verdict]]) -> Report:
    """What the gate is told of a batch of ends.

    Args:
        batch: All of them.
        answered: Those that left, with what their answers mean.
    """
    verdicts = [verdict for _, verdict in answered]
    well = [ended for ended, verdict in answered if verdict.outcome in _WELL]
    seconds = [(e.exchange.ended_at - e.exchange.began_at).total_seconds() for e in well if e.exchange is not None]
    waits = [v.retry_after_seconds for v in verdicts if v.outcome is Outcome.THROTTLED]
    return Report(
        finished=len(batch),
        good=len(well),
        unwell=sum(verdict.outcome in _UNWELL for verdict in verdicts),
        trip=next((verdict.reason for verdict in verdicts if verdict.trips), None),
        throttle_seconds=max((wait for wait in waits if wait is not None), default=None),
        throttled=sum(_says_later(ended, verdict) for ended, verdict in answered),
        probe=any(ended.request.probe for ended in batch),
        retries_good=sum(ended.request.claim.number > 1 for ended in well),
        latency_seconds=sum(seconds) / len(seconds) if seconds else None,
    )


def _says_later(ended: Ended, verdict: Verdict) -> bool:
    # What a 503 without Retry-After did to the order is not known, but that the vendor has too much to do is.
    status = None if ended.exchange is None else ended.exchange.status
    return verdict.outcome is Outcome.THROTTLED or status in (_TOO_MANY_REQUESTS, _UNAVAILABLE)
