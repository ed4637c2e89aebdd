"""The intake's entries: what an order may be given travels with it, and workers of any version know what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_shared.intake import Envelope, EnvelopeUnreadable, read_entry
from orderrelay_shared.states import Priority

DUE_AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)

INSTANTS = st.none() | st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001  the zone comes from the other strategy
    datetime(9990, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def an_envelope(**terms: Any) -> Envelope:
    """A small order's."""
    return Envelope("acme", "A-1", b"d" * 32, b"{}", **terms)


def entry(envelope: Envelope, **changes: str | None) -> dict[bytes, bytes]:
    """Its entry as Redis gives it, some of the fields changed or left out."""
    fields: dict[str, Any] = {**envelope.to_fields(), **changes}
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in fields.items()
        if value is not None
    }


def test_an_order_without_terms_is_of_layout_1() -> None:
    """Workers that know nothing of priorities book it."""
    fields = an_envelope().to_fields()
    assert (fields["v"], set(fields)) == ("1", {"v", "k", "c", "x", "d", "bv", "b"})


@pytest.mark.parametrize(
    ("terms", "written"),
    [
        ({"priority": Priority.URGENT}, {"p": "urgent"}),
        ({"priority": Priority.BULK}, {"p": "bulk"}),
        ({"due_at": DUE_AT}, {"t": "1795420800000"}),
        ({"deadline": DUE_AT}, {"e": "1795420800000"}),
        ({"due_at": DUE_AT.astimezone(timezone(timedelta(hours=5, minutes=30)))}, {"t": "1795420800000"}),
    ],
)
def test_terms_are_of_layout_2(terms: dict[str, Any], written: dict[str, str]) -> None:
    """Only what is given is written, and workers that would not heed it leave the order to others."""
    fields = an_envelope(**terms).to_fields()
    assert fields["v"] == "2"
    assert {name: fields[name] for name in ("p", "t", "e") if name in fields} == written


@given(priority=st.sampled_from(list(Priority)), due_at=INSTANTS, deadline=INSTANTS)
def test_terms_come_back(priority: Priority, due_at: datetime | None, deadline: datetime | None) -> None:
    """What is read is what was written, to the millisecond: never due earlier, and never with a later deadline."""
    read = read_entry(entry(an_envelope(priority=priority, due_at=due_at, deadline=deadline)))
    assert isinstance(read, Envelope)
    assert read.priority is priority
    for given_at, read_at, sooner in ((due_at, read.due_at, 0), (deadline, read.deadline, 1)):
        assert (given_at is None) == (read_at is None)
        if given_at is not None and read_at is not None:
            later = timedelta(milliseconds=1) * (1 - 2 * sooner)
            assert min(given_at, given_at + later) <= read_at <= max(given_at, given_at + later)


def test_a_due_time_long_ago_is_at_once() -> None:
    """A time before 1970 is no error."""
    assert an_envelope(due_at=datetime(1, 1, 1, tzinfo=UTC)).to_fields()["t"] == "0"


def test_layout_1_has_no_terms() -> None:
    """What the layout does not name is ignored, as ever."""
    assert read_entry(entry(an_envelope(), p="urgent", t="x")) == an_envelope()


def test_layout_2_may_have_none() -> None:
    """An entry of layout 2 without any terms is an order of today."""
    assert read_entry(entry(an_envelope(), v="2")) == an_envelope()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"p": "high"}, "priority is b'high', not urgent, normal or bulk"),
        ({"p": ""}, "priority is b''"),
        ({"t": "soon"}, "due time is b'soon', not milliseconds since 1970"),
        ({"t": "-1"}, "due time is b'-1'"),
        ({"e": "1.5"}, "deadline is b'1.5'"),
        ({"e": "9" * 16}, "deadline is b'9999999999999999'"),
        ({"e": "9" * 15}, "after the year 9999"),
        ({"bv": "0"}, "body version is b'0', not a number from 1 to 32767"),
        ({"bv": "32768"}, "body version is b'32768'"),
        ({"bv": "1" * 5000}, "body version is b'11111111111111111111'"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(changes: dict[str, str | None], told: str) -> None:
    """An entry with unreadable terms is not booked on others: it is set aside with the reason."""
    with pytest.raises(EnvelopeUnreadable) as raised:
        read_entry(entry(an_envelope(), v="2", **changes))
    assert told in str(raised.value)
