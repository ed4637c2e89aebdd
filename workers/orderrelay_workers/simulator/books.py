"""The simulator's books: every order it created and every request it saw. Safe to read from any thread.

Kept in columns, one number or text each, so that a million orders fit in memory.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

#: As in the vendor's document and pictures.
FIRST_VENDOR_ID: Final = 12614169
FIRST_NUMBER: Final = 200

_DIGEST_BYTES: Final = 32
_NO_FAULT: Final = ""


@dataclass(frozen=True, slots=True)
class CreatedOrder:
    """One order that the vendor has.

    Attributes:
        vendor_id: The id told in `Keys`.
        number: The order number told in `Strings`.
        external_id: Its ExternalId, "" if it has none.
        company: Which company it belongs to: 1 for the first that came, and so on (never its key).
        created_at: When, UTC.
        body_digest: SHA-256 of the request's whole body.
        rows: How many rows it has.
    """

    vendor_id: int
    number: int
    external_id: str
    company: int
    created_at: datetime
    body_digest: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request that came in.

    Attributes:
        kind: "order", "lookup", "login" or "followed_redirect".
        arrived_monotonic: When, in seconds of the monotonic clock.
        arrived_at: When, UTC.
        status: The HTTP status that was answered; 0 while or where there was none.
        fault: The name of the fault that struck, "" for none.
    """

    kind: str
    arrived_monotonic: float
    arrived_at: datetime
    status: int
    fault: str


class Books:
    """What the vendor knows, and what came in.

    Args:
        used_up: So many ids and numbers were given away in an earlier life.
    """

    def __init__(self, used_up: int = 0) -> None:
        self._lock = threading.Lock()
        # Ids and numbers go on after a reset, as a vendor gives none twice.
        self._next_offset = used_up
        self._clear()

    def _clear(self) -> None:
        self._first_offset = self._next_offset
        self._external_ids: list[str] = []
        self._companies = array("I")
        self._created_at = array("d")
        self._created_monotonic = array("d")
        self._rows = array("I")
        self._digests = bytearray()
        self._company_numbers: dict[str, int] = {}
        # By company number: ExternalId -> its first id; and all ids of those that came more than once.
        self._first_ids: list[dict[str, int]] = []
        self._repeated: list[dict[str, list[int]]] = []
        self._without_external_id = 0
        self._kinds: list[str] = []
        self._keys: list[str] = []
        self._arrived = array("d")
        self._arrived_monotonic = array("d")
        self._statuses = array("H")
        self._faults: list[str] = []
        self._kind_counts: Counter[str] = Counter()
        self._fault_counts: Counter[str] = Counter()
        self._status_counts: Counter[tuple[str, int]] = Counter()
        self._in_flight: set[int] = set()
        self._most_in_flight = 0
        # A request that began before a reset must not end in the new books.
        self._epoch = object()

    def reset(self) -> None:
        """Forget everything but which ids and numbers are used up."""
        with self._lock:
            self._clear()

    # Written by the server ------------------------------------------------------------------------------------------

    def begin(self, kind: str, company_key: str = "") -> tuple[object, int]:
        """A request of a company came in; what is returned names it in `end`."""
        with self._lock:
            index = len(self._kinds)
            self._kinds.append(kind)
            # Interned, so that a million requests of one company hold its key once.
            self._keys.append(sys.intern(company_key))
            self._kind_counts[kind] += 1
            self._arrived.append(time.time())
            self._arrived_monotonic.append(time.monotonic())
            self._statuses.append(0)
            self._faults.append(_NO_FAULT)
            if kind == "order":
                self._in_flight.add(index)
                self._most_in_flight = max(self._most_in_flight, len(self._in_flight))
            return self._epoch, index

    def struck(self, request: tuple[object, int], fault: str) -> None:
        """A fault struck the request. Counted at once, as some faults never end."""
        epoch, index = request
        with self._lock:
            if epoch is self._epoch:
                self._faults[index] = fault
                self._fault_counts[fault] += 1

    def end(self, request: tuple[object, int], status: int) -> None:
        """The request was answered with this HTTP status, or came to nothing (0)."""
        epoch, index = request
        with self._lock:
            if epoch is self._epoch:
                self._statuses[index] = status
                self._status_counts[self._kinds[index], status] += 1
                self._in_flight.discard(index)

    def create(self, company_key: str, external_id: str, rows: int, body_digest: bytes) -> int:
        """Create an order, whether or not there is one with this ExternalId; returns its id."""
        with self._lock:
            company = self._company_numbers.get(company_key)
            if company is None:
                company = self._company_numbers[company_key] = len(self._first_ids)
                self._first_ids.append({})
                self._repeated.append({})
            vendor_id = FIRST_VENDOR_ID + self._next_offset
            self._next_offset += 1
            self._external_ids.append(external_id)
            self._companies.append(company)
            self._created_at.append(time.time())
            self._created_monotonic.append(time.monotonic())
            self._rows.append(rows)
            self._digests += body_digest
            if not external_id:
                self._without_external_id += 1
            elif (first := self._first_ids[company].setdefault(external_id, vendor_id)) != vendor_id:
                self._repeated[company].setdefault(external_id, [first]).append(vendor_id)
            return vendor_id

    def find(self, company_key: str, external_id: str, lag_seconds: float = 0.0) -> list[int]:
        """The ids under an ExternalId of a company that were created at least `lag_seconds` ago."""
        with self._lock:
            company = self._company_numbers.get(company_key)
            if company is None:
                return []
            found = self._repeated[company].get(external_id)
            if found is None:
                first = self._first_ids[company].get(external_id)
                found = [] if first is None else [first]
            if not lag_seconds:
                return list(found)
            until = time.monotonic() - lag_seconds
            base = FIRST_VENDOR_ID + self._first_offset
            return [vendor_id for vendor_id in found if self._created_monotonic[vendor_id - base] <= until]

    # Read by anyone -------------------------------------------------------------------------------------------------

    def created(self, company: int | None = None) -> dict[str, list[int]]:
        """ExternalId -> ids of its orders, of one company (1, 2, …) or of all. Orders without one are left out."""
        found: dict[str, list[int]] = {}
        with self._lock:
            for number, firsts in enumerate(self._first_ids, start=1):
                if company in (None, number):
                    repeated = self._repeated[number - 1]
                    for external_id, first in firsts.items():
                        found.setdefault(external_id, []).extend(repeated.get(external_id, (first,)))
        return found

    def doubled(self) -> dict[str, list[int]]:
        """ExternalId -> ids, where one company has more than one order under it."""
        found: dict[str, list[int]] = {}
        with self._lock:
            for repeated in self._repeated:
                for external_id, vendor_ids in repeated.items():
                    found.setdefault(external_id, []).extend(vendor_ids)
        return found

    def latest(self, limit: int = 25) -> list[CreatedOrder]:
        """The newest orders, newest first."""
        with self._lock:
            count = len(self._external_ids)
            return [self._order(index) for index in range(count - 1, max(-1, count - 1 - limit), -1)]

    def orders(self) -> list[CreatedOrder]:
        """Every order, oldest first."""
        with self._lock:
            return [self._order(index) for index in range(len(self._external_ids))]

    def _order(self, index: int) -> CreatedOrder:
        offset = self._first_offset + index
        return CreatedOrder(
            FIRST_VENDOR_ID + offset,
            FIRST_NUMBER + offset,
            self._external_ids[index],
            self._companies[index] + 1,
            datetime.fromtimestamp(self._created_at[index], UTC),
            bytes(self._digests[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES]),
            self._rows[index],
        )

    def requests(self) -> list[SeenRequest]:
        """Every request, oldest first."""
        with self._lock:
            return [
                SeenRequest(kind, monotonic, datetime.fromtimestamp(wall, UTC), status, fault)
                for kind, monotonic, wall, status, fault in zip(
                    self._kinds, self._arrived_monotonic, self._arrived, self._statuses, self._faults, strict=True
                )
            ]

    @property
    def in_flight(self) -> int:
        """How many order requests are at work."""
        return len(self._in_flight)

    def arrivals(self, kind: str = "order", *, company_key: str | None = None, wall: bool = False) -> list[float]:
        """When requests of a kind came in, of one company or of all: monotonic seconds, or seconds since the epoch.

        It is the moment at which the server had read the request's line and headers, before its body.
        """
        with self._lock:
            times = self._arrived if wall else self._arrived_monotonic
            return [times[index] for index in self._indices(kind, company_key)]

    def statuses(self, kind: str = "order", *, company_key: str | None = None) -> list[int]:
        """The HTTP statuses of the same requests in the same order; 0 while or where there was none."""
        with self._lock:
            return [self._statuses[index] for index in self._indices(kind, company_key)]

    def _indices(self, kind: str, company_key: str | None) -> list[int]:
        return [
            index
            for index, (one, key) in enumerate(zip(self._kinds, self._keys, strict=True))
            if one == kind and company_key in (None, key)
        ]

    def counts(self) -> dict[str, object]:
        """The numbers at the top of the books' page, in one dictionary fit for JSON."""
        with self._lock:
            return {
                "orders": len(self._external_ids),
                "external_ids": sum(len(firsts) for firsts in self._first_ids),
                "without_external_id": self._without_external_id,
                "doubled": sum(len(repeated) for repeated in self._repeated),
                "companies": len(self._first_ids),
                "rows": sum(self._rows),
                "requests": dict(sorted(self._kind_counts.items())),
                "statuses": _by_kind(self._status_counts),
                "faults": dict(sorted(self._fault_counts.items())),
                "in_flight": len(self._in_flight),
                "most_in_flight": self._most_in_flight,
            }


def _by_kind(status_counts: Counter[tuple[str, int]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(status_counts.items()):
        found.setdefault(kind, {})[str(status) if status else "no answer"] = count
    return found


def order_number(vendor_id: int) -> int:
    """The order number of an id."""
    return vendor_id - FIRST_VENDOR_ID + FIRST_NUMBER
