"""One run over a file of orders: what becomes of each line, told by its number."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from orderrelay_producers.errors import OrderConflict, OrderInvalid, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.files import FileUnreadable, Line, Occurrences, read_lines
from orderrelay_producers.report import LineResult, ReportLine
from orderrelay_shared import wire
from orderrelay_shared.orders import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from orderrelay_producers.job import Job
    from orderrelay_producers.producer import OrderProducer
    from orderrelay_producers.terms import Terms

#: So many lines that are already there are told one by one; of a large file that is run again all are.
_MOST_ALREADY_TOLD: Final = 20


#: Longer lines, in bytes, are made into an `Order` first, which tells whether it is too large before it has an id.
_LONGEST_SIMPLE_LINE: Final = 100_000


class FileRun:
    """Enqueues a file's orders and counts what became of them.

    Args:
        name: What the file is called in messages.
        stream: The file, opened for bytes.
        batch: See `Occurrences`.
        rejected: Where refused lines are written as they were, or None.
        say: Tells the person one line.
        advance: Is told how many bytes of the file are done.
        from_line: The first line to enqueue, counted from 1. Those before are only read, as the ids of orders without
            ExternalId depend on them.

    Attributes:
        accepted: Lines taken now.
        already: Lines that had been taken before.
        refused: Lines that were refused, conflicts among them.
        conflicts: Lines whose ExternalId belongs to another order.
        maybe_taken: Lines of which it is not known.
        some_job: A job to follow: the first that was accepted, or else that was there already.
        next_line: Where another run has to begin: of every line before it is known and told what became of it.
        stopped: Why the run ended before the file did, or None.
        stopped_by_queue: Whether that was Redis or the queue, and not the file.
    """

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        *,
        batch: str,
        rejected: BinaryIO | None,
        say: Callable[[str], None],
        advance: Callable[[int], None],
        from_line: int = 1,
    ) -> None:
        self._name = name
        self._stream = stream
        self._occurrences = Occurrences(batch)
        self._rejected = rejected
        self._say = say
        self._advance = advance
        self._from_line = from_line
        self._under_way: deque[Line] = deque()
        self.accepted = self.already = self.refused = self.conflicts = self.maybe_taken = 0
        self.some_job: Job | None = None
        self.next_line = from_line
        self.stopped: str | None = None
        self.stopped_by_queue = False

    @property
    def counts(self) -> dict[str, int]:
        """The counts, by name."""
        names = ("accepted", "refused", "already", "conflicts", "maybe_taken")
        return {name: getattr(self, name) for name in names}

    @property
    def taken_so_far(self) -> str:
        """What of a run that was stopped is in the queue, for people."""
        maybe = f", {self.maybe_taken} perhaps" if self.maybe_taken else ""
        return (
            f"{self.accepted + self.already} lines are taken{maybe}, {self.refused} refused. "
            "Running the same command again is safe: no order is taken twice. "
            f"To go on where it stopped, add --from-line {self.next_line}"
        )

    def interrupt(self) -> None:
        """Note that a person stopped the run; lines that were on their way are perhaps taken."""
        self.maybe_taken += len(self._under_way)
        self.stopped = f"interrupted at line {self.next_line}"

    def enqueue(
        self, producer: OrderProducer, *, company: str, terms: Terms, wait: float, timeout: float
    ) -> None:  # fmt: skip
        """Go through the file, until its end or until something stops the run.

        Args:
            producer: Who enqueues.
            company: Alias of the company that the orders belong to.
            terms: On what terms they are to be sent.
            wait: Seconds to wait for room in the queue.
            timeout: Seconds for each round trip to Redis.

        Raises:
            UnknownCompany: That is no company alias, or no worker serves it.
        """
        for line in producer.enqueue_batches(self._orders(), company=company, terms=terms, wait=wait, timeout=timeout):
            self._settle(self._under_way.popleft(), line)

    def _orders(self) -> Iterator[Order | dict[str, object] | OrderInvalid]:
        last = 0
        try:
            for line in read_lines(self._stream):
                last = line.number
                if self.stopped is not None:
                    return
                if line.number < self._from_line:
                    self._pass_over(line)
                    continue
                self._under_way.append(line)
                try:
                    yield self._identified(line)
                except OrderInvalid as error:
                    yield error
            if self._from_line > last + 1:
                self.stopped = f"there is no line {self._from_line}, as there are only {last}"
        except FileUnreadable as error:
            self.stopped = str(error)
        except OSError as error:
            self.stopped = f"cannot be read further: {error.strerror}"

    def _identified(self, line: Line) -> Order | dict[str, object]:
        """The order with an ExternalId; one that had it is not checked yet.

        Raises:
            OrderInvalid: The line is no order, or breaks the rules.
        """
        text = line.text
        if len(text) <= _LONGEST_SIMPLE_LINE:
            with suppress(wire.WireInvalid):
                value = wire.loads(text)
                if isinstance(value, dict):
                    order = cast("dict[str, object]", value)
                    named = order.get("ExternalId") is not None or order.get("external_id") is not None
                    return order if named else self._occurrences.name(order)
        return self._occurrences.identify(Order.from_json(text))

    def _pass_over(self, line: Line) -> None:
        """Count an order that an earlier run took, if its id had to be derived."""
        self._advance(line.end)
        with suppress(OrderInvalid):
            self._identified(line)

    def _settle(self, line: Line, outcome: ReportLine) -> None:
        self._advance(line.end)
        if not self.stopped_by_queue and outcome.result not in (LineResult.FULL, LineResult.UNAVAILABLE):
            self.next_line = line.number + 1
        match outcome.result:
            case LineResult.ACCEPTED:
                if self.accepted == 0:
                    self.some_job = outcome.job
                self.accepted += 1
            case LineResult.ALREADY:
                self.already += 1
                self.some_job = self.some_job or outcome.job
                self._tell_already(line, outcome.job)
            case LineResult.REFUSED | LineResult.CONFLICT:
                self._refuse(line, outcome.error)
            case LineResult.FULL | LineResult.UNAVAILABLE:
                self._stop(line, outcome.error)

    def _tell_already(self, line: Line, job: Job | None) -> None:
        if self.already <= _MOST_ALREADY_TOLD:
            self._tell(line, f"already there, job {job.id if job else ''}")
        elif self.already == _MOST_ALREADY_TOLD + 1:
            self._say(f"{self._name}: more lines are already there; from here on they are only counted")

    def _refuse(self, line: Line, error: Exception | None) -> None:
        if isinstance(error, UnknownCompany):
            raise error
        if self.stopped_by_queue:
            return  # The run that goes on from there tells it.
        self.refused += 1
        self.conflicts += isinstance(error, OrderConflict)
        for problem in str(error).splitlines():
            self._tell(line, problem)
        if self._rejected is not None:
            self._rejected.write(line.raw if line.raw.endswith(b"\n") else line.raw + b"\n")

    def _stop(self, line: Line, error: Exception | None) -> None:
        if isinstance(error, QueueUnavailable):
            self.maybe_taken += error.maybe_taken
            reason = error.reason
        elif isinstance(error, QueueFull):
            reason = f"{error.waiting} orders wait, and {error.max_waiting} may (ORDERRELAY_MAX_WAITING)"
        else:
            reason = str(error)
        if self.stopped is None or not self.stopped_by_queue:
            self.stopped = f"{reason} at line {line.number}"
            self.stopped_by_queue = True

    def _tell(self, line: Line, text: str) -> None:
        self._say(f"{self._name}:{line.number}: {text}")
