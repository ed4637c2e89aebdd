"""Order requests between their start and their settle, what their answers mean, and what they tell the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderrelay_shared.states import Outcome
from orderrelay_workers.gate import Report
from orderrelay_workers.vendor.answers import read_order_answer, read_order_answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderrelay_workers.group_size import GroupSize
    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.stopwatch import Stopwatch
    from orderrelay_workers.tokens import Token
    from orderrelay_workers.vendor.answers import Verdict
    from orderrelay_workers.vendor.exchange import Exchange

_WELL = (Outcome.CREATED, Outcome.REJECTED)
_UNWELL = (Outcome.NOT_CREATED, Outcome.UNKNOWN)

#: The status of answers that say of an order what came of it, and how these begin.
_SAID = 200
_SAID_IN = (b"{", b"[")

#: Too busy, whether or not it says for how long.
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503


@dataclass(frozen=True, slots=True)
class Request:
    """An order request that may leave.

    Attributes:
        claims: The claims under which it goes, one for each order in it; at least one.
        token: The access token to use.
        watch: Runs since before the claims, for the start fence.
        probe: Whether it decides if the company's circuit closes.
        tries: How many slots it has missed.
    """

    claims: tuple[Claim, ...]
    token: Token
    watch: Stopwatch
    probe: bool = False
    tries: int = 0

    @property
    def body(self) -> bytes:
        """The orders as JSON objects, with commas between them."""
        return b",".join(claim.body for claim in self.claims)

    @property
    def retries(self) -> int:
        """1 for a retry, else 0; a retry has one order."""
        return int(self.claims[0].number > 1)


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended, or did not begin.

    Attributes:
        request: The request.
        exchange: What was seen; None: provably nothing was sent, so the claims are given back.
        late: It came too late for its slot, and needs another one.
        lost: An unforeseen error: nothing is known, so the claims are left to lapse, and the orders are looked up.
    """

    request: Request
    exchange: Exchange | None
    late: bool = False
    lost: bool = False

    @property
    def is_well(self) -> bool:
        """Whether it has such an answer as a vendor gives that is well: another may go in its place at once.

        That is seen at little cost, as the answer is read later: a page that says "maintenance" leaves an order in
        doubt, and so would each that follows.
        """
        exchange = self.exchange
        if exchange is None or exchange.status != _SAID or exchange.body is None:
            return False
        return exchange.body.lstrip()[:1] in _SAID_IN


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that left, and what its end means.

    Attributes:
        request: The request.
        exchange: What was seen.
        whole: What it would mean if there were one order in it; it says how the vendor is.
        verdicts: What it means for each order, in the order of the claims.
    """

    request: Request
    exchange: Exchange
    whole: Verdict
    verdicts: tuple[Verdict, ...]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.exchange.seconds

    @property
    def outcome(self) -> Outcome:
        """How it ended; that is the same for all orders in it."""
        return self.verdicts[0].outcome


def read_answers(batch: Iterable[Ended]) -> list[Answered]:
    """What the ends of those requests mean that left."""
    return [_read(ended.request, ended.exchange) for ended in batch if ended.exchange is not None]


def _read(request: Request, exchange: Exchange) -> Answered:
    whole = read_order_answer(exchange)
    orders = len(request.claims)
    verdicts = (whole,) if orders == 1 else read_order_answers(exchange, orders)
    return Answered(request, exchange, whole, verdicts)


def unsent_claims(batch: Iterable[Ended]) -> list[Claim]:
    """The claims under which provably nothing was sent."""
    return [claim for ended in batch if ended.exchange is None and not ended.lost for claim in ended.request.claims]


def report_of(batch: Sequence[Ended], answered: Sequence[Answered], places: int) -> Report:
    """What the gate is told of a batch of ends: it counts requests, but for the orders that came to an end.

    Args:
        batch: All of them.
        answered: Those that left, with what their answers mean.
        places: How many places in flight become free.
    """
    wholes = [one.whole for one in answered]
    well = [one for one in answered if one.whole.outcome in _WELL]
    seconds = [one.seconds for one in well]
    waits = [v.retry_after_seconds for v in wholes if v.outcome is Outcome.THROTTLED]
    return Report(
        finished=places,
        good=len(well),
        unwell=sum(verdict.outcome in _UNWELL for verdict in wholes),
        trip=next((verdict.reason for verdict in wholes if verdict.trips), None),
        throttle_seconds=max((wait for wait in waits if wait is not None), default=None),
        throttled=sum(_says_later(one) for one in answered),
        probe=any(ended.request.probe for ended in batch),
        retries_good=sum(one.request.retries for one in well),
        latency_seconds=sum(seconds) / len(seconds) if seconds else None,
        orders=sum(verdict.outcome in _WELL for one in well for verdict in one.verdicts),
    )


def learn_size(size: GroupSize, answered: Iterable[Answered]) -> None:
    """Learn from these ends how many orders may share a request; what says "not now" teaches nothing of that."""
    for one in answered:
        if one.outcome in _WELL:
            size.went_well(len(one.verdicts), one.seconds)
        elif one.outcome is Outcome.UNKNOWN:
            size.went_badly(len(one.verdicts))


def _says_later(answered: Answered) -> bool:
    # What a 503 without Retry-After did to the order is not known, but that the vendor has too much to do is.
    too_busy = answered.exchange.status in (_TOO_MANY_REQUESTS, _UNAVAILABLE)
    return answered.whole.outcome is Outcome.THROTTLED or too_busy
