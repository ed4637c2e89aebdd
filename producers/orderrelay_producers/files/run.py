"""One run over a file of orders: what becomes of each, told by its place."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, cast

from orderrelay_producers.errors import OrderInvalid, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.files.occurrences import Occurrences
from orderrelay_producers.files.records import FileUnreadable
from orderrelay_producers.files.source import look_through, read_records
from orderrelay_producers.report import LineResult, ReportLine
from orderrelay_shared import wire
from orderrelay_shared.orders import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from orderrelay_producers.files.cells import Reading
    from orderrelay_producers.files.records import FileFormat, Record
    from orderrelay_producers.job import Job
    from orderrelay_shared.order_problems import Problem

    #: Takes orders, and tells what became of each, in order.
    HandOver = Callable[[Iterable[Order | dict[str, object] | OrderInvalid]], Iterable[ReportLine]]

#: So many orders that are already there are told one by one; of a large file that is run again all are. Rows
#: that stand astray likewise: of a table that is sorted by something else most do.
_MOST_TOLD: Final = 20

#: Longer orders, in bytes, are made into an `Order` first, which tells whether it is too large before it has an id.
_LONGEST_SIMPLE_ORDER: Final = 100_000


class FileRun:
    """Takes a file's orders through `hand_over` and counts what became of them.

    Args:
        name: What the file is called in messages.
        stream: The file, opened for bytes.
        form: Its format; None: the one that it seems to have.
        reading: How the cells of a table are read.
        batch: See `Occurrences`.
        rejected: Where refused orders are written as they were, or None.
        say: Tells the person one line.
        advance: Is told when an order is done.
        start: Where the first order to take begins: its line, or in a JSON array which order it is. Those before are
            only read, as the ids of orders without ExternalId depend on them.
        start_in: What `start` is counted in, "line" or "order", if that was said: a format that counts otherwise is
            refused.

    Attributes:
        accepted: Orders taken now.
        already: Orders that had been taken before.
        refused: Orders that break the rules.
        conflicts: Orders whose ExternalId belongs to another order.
        maybe_taken: Orders of which it is not known.
        astray: Places in a table with rows that another order may lack; if there are any, nothing was taken.
        some_job: A job to follow: the first that was accepted, or else that was there already.
        form: The format, as soon as it is known.
        next_start: Where another run has to begin: of every order before it is known and told what became of it.
        stopped: Why the run ended before the file did, or None.
        stopped_by_queue: Whether that was Redis or the queue, and not the file.
    """

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        *,
        form: FileFormat | None,
        reading: Reading,
        batch: str,
        rejected: BinaryIO | None,
        say: Callable[[str], None],
        advance: Callable[[], None],
        start: int = 1,
        start_in: str | None = None,
    ) -> None:
        self._name = name
        self._stream = stream
        self._reading = reading
        self._occurrences = Occurrences(batch)
        self._rejected = rejected
        self._say = say
        self._advance = advance
        self._start = start
        self._start_in = start_in
        self._header = b""
        self._under_way: deque[Record] = deque()
        self.accepted = self.already = self.refused = self.conflicts = self.maybe_taken = self.astray = 0
        self.some_job: Job | None = None
        self.form = form
        self.next_start = start
        self.stopped: str | None = None
        self.stopped_by_queue = False

    @property
    def counts(self) -> dict[str, int]:
        """The counts, by name."""
        names = ("accepted", "refused", "already", "conflicts", "maybe_taken")
        return {name: getattr(self, name) for name in names}

    @property
    def counted_in(self) -> str:
        """What places are counted in: "line", or "order" in a JSON array."""
        return self.form.counted_in if self.form is not None else "line"

    @property
    def taken_so_far(self) -> str:
        """What of a run that was stopped is in the queue, for people."""
        maybe = f", {self.maybe_taken} perhaps" if self.maybe_taken else ""
        conflicts = f", {self.conflicts} in conflict" if self.conflicts else ""
        if not self.stopped_by_queue and not any(self.counts.values()):  # it cannot be read from its beginning
            return "Nothing was sent"
        told = (
            f"{self.accepted + self.already} orders are taken{maybe}, {self.refused} refused{conflicts}. "
            "Running the same command again is safe: no order is taken twice"
        )
        if self.next_start == self._start:
            return told
        return f"{told}. To go on where it stopped, add --from-{self.counted_in} {self.next_start}"

    @property
    def refused_whole(self) -> str:
        """That the whole file was refused, for people."""
        places = f"{self.astray} places" if self.astray > 1 else "1 place"
        told = f", of which {_MOST_TOLD} are told" if self.astray > _MOST_TOLD else ""
        return (
            f"refused, nothing was sent: orders would lack rows, because of {places}{told}. Give each row the key of "
            "its order, sort the file by that column, and enqueue all of it"
        )

    @property
    def checked_so_far(self) -> str:
        """What a dry run that was stopped has found, for people."""
        conflicts = f", {self.conflicts} in conflict" if self.conflicts else ""
        return f"{self.accepted + self.already} orders are valid, {self.refused} refused{conflicts}; nothing was sent"

    def interrupt(self, *, anything_leaves: bool = True) -> None:
        """Note that a person stopped the run; if it is no dry one, orders that were on their way are perhaps taken."""
        self.maybe_taken += len(self._under_way) if anything_leaves else 0
        self.stopped = f"interrupted at {self.counted_in} {self.next_start}"

    def take(self, hand_over: HandOver, *, anything_leaves: bool = True) -> None:
        """Go through the file, until its end or until something stops the run.

        Before anything leaves, a table is looked through for rows that stand astray, and if there are any, none of it
        is taken: an order would be made of its first rows before the others are met.

        Args:
            hand_over: Who takes the orders.
            anything_leaves: False if they are only checked; rows that stand astray are one refused order then.

        Raises:
            UnknownCompany: That is no company alias, or no worker serves it.
        """
        with ExitStack() as closing:
            if anything_leaves and not self._look_through(closing):
                return
            for line in hand_over(self._orders()):
                self._settle(self._under_way.popleft(), line)

    def _look_through(self, closing: ExitStack) -> bool:
        """Whether all of the file may be taken."""
        try:
            self.form, self._stream = look_through(self._stream, self._reading, self.form, self._tell_astray, closing)
        except FileUnreadable as error:
            self.stopped = str(error)
        except OSError as error:
            self.stopped = f"cannot be read further: {error.strerror}"
        return self.stopped is None and not self.astray

    def _tell_astray(self, problem: Problem) -> None:
        self.astray += 1
        if self.astray <= _MOST_TOLD:
            self._say(f"{self._name} {problem.path}: {problem.message}")

    def _orders(self) -> Iterator[Order | dict[str, object] | OrderInvalid]:
        number, following = 0, 1
        try:
            self.form, self._header, records = read_records(self._stream, self._reading, self.form)
            if self._start_in not in (None, self.counted_in):
                self.stopped = f"places in this file are counted in {self.counted_in}s: use --from-{self.counted_in}"
                return
            for record in records:
                number, following = record.number, record.next_number
                if self.stopped is not None:
                    return
                if number < self._start:
                    if following > self._start:
                        self.stopped = f"the order at line {number} goes on in line {self._start}: begin at either end"
                        return
                    self._pass_over(record)
                    continue
                self._under_way.append(record)
                try:
                    yield self._identified(record)
                except OrderInvalid as error:
                    yield error
            if self._start > following:
                last = f"the last order is at {self.counted_in} {number}" if number else "the file has no orders"
                self.stopped = f"there is no {self.counted_in} {self._start}: {last}"
        except FileUnreadable as error:
            self.stopped = str(error)
        except OSError as error:
            self.stopped = f"cannot be read further: {error.strerror}"

    def _identified(self, record: Record) -> Order | dict[str, object]:
        """The order with an ExternalId; one that had it is not checked yet.

        Raises:
            OrderInvalid: It is no order, or breaks the rules.
        """
        content = record.content
        if isinstance(content, OrderInvalid):
            raise content
        if isinstance(content, dict):
            return self._named(content)
        if len(content) <= _LONGEST_SIMPLE_ORDER:
            with suppress(wire.WireInvalid):
                value = wire.loads(content)
                if isinstance(value, dict):
                    return self._named(cast("dict[str, object]", value))
        return self._occurrences.identify(Order.from_json(content))

    def _named(self, order: dict[str, object]) -> dict[str, object]:
        named = order.get("ExternalId") is not None or order.get("external_id") is not None
        return order if named else self._occurrences.name(order)

    def _pass_over(self, record: Record) -> None:
        """Count an order that an earlier run took, if its id had to be derived."""
        self._advance()
        with suppress(OrderInvalid):
            self._identified(record)

    def _settle(self, record: Record, outcome: ReportLine) -> None:
        self._advance()
        if not self.stopped_by_queue and outcome.result not in (LineResult.FULL, LineResult.UNAVAILABLE):
            self.next_start = record.next_number
        match outcome.result:
            case LineResult.ACCEPTED:
                if self.accepted == 0:
                    self.some_job = outcome.job
                self.accepted += 1
            case LineResult.ALREADY:
                self.already += 1
                self.some_job = self.some_job or outcome.job
                self._tell_already(record, outcome.job)
            case LineResult.REFUSED | LineResult.CONFLICT:
                self._refuse(record, outcome.error)
            case LineResult.FULL | LineResult.UNAVAILABLE:
                self._stop(record, outcome.error)

    def _tell_already(self, record: Record, job: Job | None) -> None:
        if self.already <= _MOST_TOLD:
            self._tell(record, "", f"already there, job {job.id}" if job else "stands in this file twice")
        elif self.already == _MOST_TOLD + 1:
            self._say(f"{self._name}: more orders are already there; from here on they are only counted")

    def _refuse(self, record: Record, error: Exception | None) -> None:
        if isinstance(error, UnknownCompany):
            raise error
        if self.stopped_by_queue:
            return  # The run that goes on from there tells it.
        if isinstance(error, OrderInvalid):
            self.refused += 1
            for problem in error.problems:
                self._tell(record, problem.path, problem.message)
        else:
            self.conflicts += 1
            self._tell(record, "", str(error))
        if self._rejected is not None:
            self._reject(record)

    def _reject(self, record: Record) -> None:
        rejected = cast("BinaryIO", self._rejected)
        if self._header and not rejected.tell():
            rejected.write(self._header)
        raw = record.raw
        rejected.write(raw if raw.endswith(b"\n") else raw + b"\n")

    def _stop(self, record: Record, error: Exception | None) -> None:
        if isinstance(error, QueueUnavailable):
            self.maybe_taken += error.maybe_taken
            reason = error.reason
        elif isinstance(error, QueueFull):
            reason = f"{error.waiting} orders wait, and {error.max_waiting} may (ORDERRELAY_MAX_WAITING)"
        else:
            reason = str(error)
        if self.stopped is None or not self.stopped_by_queue:
            self.stopped = f"{reason} at {self.counted_in} {record.number}"
            self.stopped_by_queue = True

    def _tell(self, record: Record, path: str, text: str) -> None:
        self._say(f"{self._name} {record.place(path)}: {text}")
