"""What was enqueued in a test, and finding in it what the test expects."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from orderrelay_shared.field_types import exact_number, vendor_moment
from orderrelay_shared.order_problems import snake_name
from orderrelay_shared.orders import Order, OrderRow

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from orderrelay_shared.states import Priority
    from orderrelay_shared.vendor_document import VendorDocument

#: What can be asked of a record besides the order's own properties.
_OF_THE_RECORD: Final = ("company", "priority", "due_at", "deadline", "booked", "times")

#: Other records than the nearest are named in a message, so many at most.
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class EnqueuedOrder:
    """One order that was accepted.

    Attributes:
        job_id: The id of its job.
        order: The order, with its ExternalId, as a worker would read it.
        company: The company's alias, normalised.
        priority: Whose turn it is first.
        due_at: Not to be sent before.
        deadline: Not to be sent after.
        booked: Whether it was ever enqueued with `booked=True`.
        times: How often it was enqueued; the vendor gets it once all the same.
    """

    job_id: uuid.UUID
    order: Order
    company: str
    priority: Priority
    due_at: datetime | None = None
    deadline: datetime | None = None
    booked: bool = False
    times: int = 1

    @property
    def external_id(self) -> str:
        """The order's ExternalId."""
        return self.order.external_id or ""


def matching(records: Sequence[EnqueuedOrder], fields: Mapping[str, object]) -> list[EnqueuedOrder]:
    """The records of which all of it is true.

    Args:
        records: What was enqueued.
        fields: By name, in either spelling: properties of the order or of the record. `invoice_rows` is a list of
            mappings, one for each row, that name what is expected of it.

    Raises:
        TypeError: There is no such name; the text tells the nearest that there is.
    """
    known = _known(fields)
    return [record for record in records if not _differences(record, known)]


def told_missing(records: Sequence[EnqueuedOrder], fields: Mapping[str, object], count: int | None) -> str:
    """Why an assertion fails that such orders were enqueued, with the nearest record and how it differs."""
    known = _known(fields)
    found = matching(records, fields)
    wanted = "no order" if not found else f"{len(found)}" + (" order" if len(found) == 1 else " orders")
    lines = [f"{wanted} {'was' if len(found) < 2 else 'were'} enqueued{_told_fields(known)}"]
    if count is not None:
        lines[0] += f"; expected {count}"
    if not records:
        lines.append("nothing at all was enqueued")
        return "\n".join(lines)
    others = [record for record in records if record not in found]
    if others:
        nearest = min(others, key=lambda record: _distance(record, known))
        lines.append(f"the nearest {'other ' if found else ''}is {nearest.external_id!r} (job {nearest.job_id}):")
        lines += [f"    {difference}" for difference in _differences(nearest, known)]
    named = [repr(record.external_id) for record in records[:_NAMED]]
    more = f" and {len(records) - _NAMED} more" if len(records) > _NAMED else ""
    lines.append(f"enqueued, by ExternalId: {', '.join(named)}{more}")
    return "\n".join(lines)


def told_unwanted(found: Sequence[EnqueuedOrder], fields: Mapping[str, object]) -> str:
    """Why an assertion fails that no such order was enqueued."""
    named = ", ".join(repr(record.external_id) for record in found[:_NAMED])
    return f"{len(found)} enqueued{_told_fields(_known(fields))}, though none was to be: {named}"


def _told_fields(fields: Mapping[str, object]) -> str:
    told = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f" with {told}" if told else ""


def _known(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields by snake-case name.

    Raises:
        TypeError: There is no such name.
    """
    known: dict[str, object] = {}
    for given, value in fields.items():
        name = _name_in(Order, given, _OF_THE_RECORD)
        known[name] = value if name != "invoice_rows" else _known_rows(value)
    return known


def _known_rows(value: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for row in cast("Sequence[object]", value):
        if isinstance(row, OrderRow):
            rows.append({name: getattr(row, name) for name in row.model_fields_set})
        elif isinstance(row, Mapping):
            named = cast("Mapping[str, object]", row)
            rows.append({_name_in(OrderRow, name): one for name, one in named.items()})
        else:
            raise TypeError(f"a row of invoice_rows is {row!r}; give a mapping of what is expected of it")
    return rows


def _name_in(document: type[VendorDocument], given: str, more: Sequence[str] = ()) -> str:
    names = [*more, *document.model_fields]
    name = snake_name(given)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise TypeError(f"an enqueued order has no {given!r} in its {document.__name__}{hint}")


def _differences(record: EnqueuedOrder, fields: Mapping[str, object]) -> list[str]:
    """In what a record is not as expected, a line each."""
    found: list[str] = []
    for name, expected in fields.items():
        if name == "invoice_rows":
            found += _row_differences(record.order.invoice_rows, cast("list[dict[str, object]]", expected))
        else:
            actual: object = getattr(record if name in _OF_THE_RECORD else record.order, name)
            if not _is_same(actual, expected):
                found.append(f"{name} is {actual!r}, not {expected!r}")
    return found


def _row_differences(rows: Sequence[OrderRow], expected: Sequence[Mapping[str, object]]) -> list[str]:
    if len(rows) != len(expected):
        return [f"it has {len(rows)} invoice_rows, not {len(expected)}"]
    return [
        f"invoice_rows[{position}].{name} is {getattr(row, name)!r}, not {value!r}"
        for position, (row, wanted) in enumerate(zip(rows, expected, strict=True))
        for name, value in wanted.items()
        if not _is_same(getattr(row, name), value)
    ]


def _is_same(actual: Any, expected: Any) -> bool:
    """Whether they are equal, or an order that was given the one would have the other."""
    if actual == expected:
        return True
    read: Callable[[object], object]
    if isinstance(actual, Decimal):
        read = exact_number
    elif isinstance(actual, date):
        read = vendor_moment
    else:
        return False
    try:
        return bool(actual == read(expected))
    except ValueError:
        return False


def _distance(record: EnqueuedOrder, fields: Mapping[str, object]) -> tuple[int, float]:
    """How far a record is from what is expected: the number of differences, then how unlike its names are."""
    unlike = sum(
        1 - difflib.SequenceMatcher(None, str(getattr(record.order, name)), str(fields[name])).ratio()
        for name in ("external_id", "customer_nr")
        if name in fields
    )
    return len(_differences(record, fields)), unlike
