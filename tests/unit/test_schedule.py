"""When a company is closed: what its settings may say, and what follows on every day of the year."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderrelay_workers.schedule import (
    FURTHEST_DAYS,
    Schedule,
    read_hours,
    read_maintenance,
    read_schedule,
    read_zone,
)

STOCKHOLM = "Europe/Stockholm"
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(schedule: Schedule, now: str) -> tuple[str, str, str] | None:
    """The present or next closed time, to the minute."""
    closed = schedule.present_or_next(at(now))
    if closed is None:
        return None
    return f"{closed.begins_at:%m-%dT%H:%M}", f"{closed.ends_at:%m-%dT%H:%M}", closed.reason


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        (" , ", []),
        ("sun 00:00-24:00", [(6, 0, 1440)]),
        ("mon-wed 22:00-06:00", [(0, 1320, 1800), (1, 1320, 1800), (2, 1320, 1800)]),
        ("Sat - Mon 2:00 - 3:30", [(5, 120, 210), (6, 120, 210), (0, 120, 210)]),
        ("daily 02:00-03:00", [(day, 120, 180) for day in range(7)]),
        ("fri 01:00-02:00, fri 01:00-02:00", [(4, 60, 120)]),
        ("fri 12:00-00:00", [(4, 720, 1440)]),
    ],
)
def test_closed_hours_are_read(text: str, spans: list[tuple[int, int, int]]) -> None:
    """Days and times as people write them; over midnight a span belongs to the day on which it begins."""
    assert [(span.day, span.begins, span.ends) for span in read_hours(text)] == spans


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("22:00-06:00", "'22:00-06:00' is no span of closed hours"),
        ("mon 22:00", "'mon 22:00' is no span of closed hours"),
        (
            "xyz 22:00-06:00",
            "'xyz 22:00-06:00' has 'xyz', which is no day (days are mon, tue, wed, thu, fri, sat, sun)",
        ),
        ("mon 22:60-23:00", "'mon 22:60-23:00' has 22:60, which no clock shows"),
        ("mon 20:00-24:01", "'mon 20:00-24:01' has 24:01, which no clock shows"),
        ("mon 24:00-06:00", "'mon 24:00-06:00' begins at 24:00; write 00:00 of the day after"),
        ("mon 06:00-06:00", "'mon 06:00-06:00' ends when it begins; a whole day is 00:00-24:00"),
        (
            "mon 1-2, tue 25:00-26:00",
            "'mon 1-2' is no span of closed hours; 'tue 25:00-26:00' has 25:00, which no clock",
        ),
        ("daily 00:00-24:00", "leaves no time of the week open; to stop a company, use: orderrelay pause"),
        ("daily 06:00-05:00, daily 05:00-06:00", "leaves no time of the week open"),
    ],
)
def test_wrong_closed_hours_are_told(text: str, problem: str) -> None:
    """Each wrong span is named with what is wrong about it, all at once; always closed is no hours."""
    with pytest.raises(ValueError, match="^" + re.escape(problem)):
        read_hours(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2026-12-24", "'2026-12-24' is no span of maintenance"),
        ("2026-12-24/2026-12-26", "'2026-12-24/2026-12-26' is no span of maintenance"),
        ("2026-12-24T18:00+01:00/2026-12-26T06:00", "'2026-12-24T18:00+01:00/2026-12-26T06:00' is no span"),
        ("2026-02-30T00:00/2026-03-01T00:00", "'2026-02-30T00:00/2026-03-01T00:00' has a date or time that does not"),
        ("2026-12-26T06:00/2026-12-24T18:00", "'2026-12-26T06:00/2026-12-24T18:00' ends before it begins"),
        (
            "2026-12-26T06:00/2026-12-26T06:00, x",
            "'2026-12-26T06:00/2026-12-26T06:00' ends before it begins; 'x' is no",
        ),
    ],
)
def test_wrong_maintenance_is_told(text: str, problem: str) -> None:
    """Each wrong span is named with what is wrong about it, all at once."""
    with pytest.raises(ValueError, match="^" + re.escape(problem)):
        read_maintenance(text)


@pytest.mark.parametrize("name", ["Europe/Stokholm", "../etc/passwd", "Europe", "", "Mars", "\0"])
def test_an_unknown_time_zone_is_told(name: str) -> None:
    """Whatever the text, it is a word for people and no other error; one that is near is named."""
    with pytest.raises(ValueError, match="is no known time zone") as caught:
        read_zone(name)
    assert ("did you mean Europe/Stockholm?" in str(caught.value)) == (name == "Europe/Stokholm")


@pytest.mark.parametrize(
    ("hours", "now", "expected"),
    [
        # An ordinary night, in winter (UTC+1) and summer (UTC+2), before, within and at both ends.
        ("daily 22:00-06:00", "2026-01-14T12:00", ("01-14T21:00", "01-15T05:00")),
        ("daily 22:00-06:00", "2026-01-14T21:00", ("01-14T21:00", "01-15T05:00")),
        ("daily 22:00-06:00", "2026-01-15T04:59", ("01-14T21:00", "01-15T05:00")),
        ("daily 22:00-06:00", "2026-01-15T05:00", ("01-15T21:00", "01-16T05:00")),
        ("daily 22:00-06:00", "2026-07-14T12:00", ("07-14T20:00", "07-15T04:00")),
        # Friday's night lasts into Saturday; Saturday and Sunday have none.
        ("mon-fri 22:00-06:00", "2026-01-17T03:00", ("01-16T21:00", "01-17T05:00")),
        ("mon-fri 22:00-06:00", "2026-01-17T06:00", ("01-19T21:00", "01-20T05:00")),
        # What touches or overlaps is one, also from its middle.
        ("sat 20:00-24:00, sun 00:00-24:00, mon 00:00-06:00", "2026-01-14T12:00", ("01-17T19:00", "01-19T05:00")),
        ("sat 20:00-24:00, sun 00:00-24:00, mon 00:00-06:00", "2026-01-19T02:00", ("01-17T19:00", "01-19T05:00")),
        ("sat 20:00-04:00, sun 03:00-24:00", "2026-01-18T12:00", ("01-17T19:00", "01-18T23:00")),
        # The night of 2026-03-29, when clocks go from 02:00 to 03:00 (01:00 UTC), is an hour shorter.
        ("daily 22:00-06:00", "2026-03-29T00:00", ("03-28T21:00", "03-29T04:00")),
        # A beginning and an end that no clock shows are the moment of the change.
        ("sun 02:30-05:00", "2026-03-28T12:00", ("03-29T01:00", "03-29T03:00")),
        ("sun 01:00-02:30", "2026-03-28T12:00", ("03-29T00:00", "03-29T01:00")),
        # What lies in the hour that is skipped does not happen; the next is a week later.
        ("sun 02:10-02:50", "2026-03-28T12:00", ("04-05T00:10", "04-05T00:50")),
        # The night of 2026-10-25, when clocks go from 03:00 back to 02:00 (01:00 UTC), is an hour longer.
        ("daily 22:00-06:00", "2026-10-25T00:00", ("10-24T20:00", "10-25T05:00")),
        # 02:00-03:00 is shown twice, and closed both times; what begins there begins the first time.
        ("sun 02:00-03:00", "2026-10-24T12:00", ("10-25T00:00", "10-25T02:00")),
        ("sun 02:30-04:00", "2026-10-24T12:00", ("10-25T00:30", "10-25T03:00")),
        # What ends there ends the second time.
        ("sun 01:00-02:30", "2026-10-24T12:00", ("10-24T23:00", "10-25T01:30")),
    ],
)
def test_closed_hours_in_stockholm(hours: str, now: str, expected: tuple[str, str]) -> None:
    """Hours follow the company's clocks, over midnight and over both changes of the clocks."""
    assert told(read_schedule(STOCKHOLM, hours, ""), now) == (*expected, "closed hours")


@pytest.mark.parametrize(
    ("maintenance", "now", "expected"),
    [
        ("2026-12-24T18:00/2026-12-26T06:00", "2026-01-01T00:00", ("12-24T17:00", "12-26T05:00", "maintenance")),
        ("2026-12-24T18:00/2026-12-26T06:00", "2026-12-26T05:00", None),
        # Both changes of the clocks lie within: the end is by the clocks of that day.
        ("2026-03-01T00:00/2026-11-01T00:00", "2026-06-01T00:00", ("02-28T23:00", "10-31T23:00", "maintenance")),
    ],
)
def test_maintenance(maintenance: str, now: str, expected: tuple[str, str, str] | None) -> None:
    """Maintenance comes once, however far ahead, and is nothing when it is over."""
    assert told(read_schedule(STOCKHOLM, "", maintenance), now) == expected


def test_hours_and_maintenance_are_one_where_they_touch() -> None:
    """A long maintenance from one night into another ends with that night, and both reasons are told."""
    schedule = read_schedule(STOCKHOLM, "daily 22:00-06:00", "2026-01-10T06:00/2026-02-20T23:00")
    assert told(schedule, "2026-01-09T22:00") == ("01-09T21:00", "02-21T05:00", "closed hours and maintenance")
    assert told(schedule, "2026-02-21T04:00") == ("01-09T21:00", "02-21T05:00", "closed hours and maintenance")


def test_no_hours_are_never_closed() -> None:
    """The defaults close nothing."""
    assert read_schedule("UTC", "", "").present_or_next(at("2026-01-01T00:00")) is None


@pytest.mark.parametrize(
    ("start", "seconds", "done"),
    [
        ("2026-01-14T12:00", 3600, "2026-01-14T13:00"),
        ("2026-01-14T12:00", 9 * 3600, "2026-01-14T21:00"),
        ("2026-01-14T12:00", 10 * 3600, "2026-01-15T06:00"),
        ("2026-01-14T23:00", 60, "2026-01-15T05:01"),
        ("2026-01-14T23:00", 0, "2026-01-15T05:00"),
        ("2026-01-14T12:00", 0, "2026-01-14T12:00"),
        # 9 hours of the first day, then 16 hours of each day.
        ("2026-01-14T12:00", (9 + 16 + 16 + 1) * 3600, "2026-01-17T06:00"),
        # The night of the change is an hour shorter, so the work is done an hour earlier.
        ("2026-03-28T20:00", 2 * 3600, "2026-03-29T05:00"),
    ],
)
def test_work_is_done_in_open_times(start: str, seconds: float, done: str) -> None:
    """Work waits while it is closed, and goes on behind."""
    assert read_schedule(STOCKHOLM, "daily 22:00-06:00", "").done_at(at(start), seconds) == at(done)


@pytest.mark.parametrize("hours", ["", "daily 22:00-06:00"])
def test_an_outlook_has_an_end(hours: str) -> None:
    """What would take longer than that is not foretold, and not reckoned for long either."""
    schedule = read_schedule(STOCKHOLM, hours, "")
    assert schedule.done_at(at("2026-01-01T00:00"), FURTHEST_DAYS * 86_400 + 1) is None
    assert schedule.done_at(at("2026-01-01T00:00"), 1e300) is None


def naive_closed_minutes(
    zone: ZoneInfo, spans: list[Any], once: list[Any], first: datetime, minutes: int
) -> list[bool]:
    """Minute by minute, by what clocks show: from the first that shows a beginning to the last before an end."""
    shown = [(first + number * MINUTE).astimezone(zone).replace(tzinfo=None) for number in range(minutes)]
    closed = [False] * minutes
    days = {clock.date() for clock in shown}
    walls = [
        (midnight(day) + begins * MINUTE, midnight(day) + ends * MINUTE)
        for day in days | {min(days) - timedelta(days=1)}
        for weekday, begins, ends in spans
        if day.weekday() == weekday
    ]
    for begins, ends in [*walls, *once]:
        after = next((number for number, clock in enumerate(shown) if clock >= begins), minutes)
        before = next((number for number in reversed(range(minutes)) if shown[number] < ends), -1)
        for number in range(after, before + 1):
            closed[number] = True
    return closed


def midnight(day: date) -> datetime:
    """What clocks show when a day begins."""
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001  what clocks show has no zone


@st.composite
def a_span(draw: st.DrawFn) -> tuple[int, int, int]:
    """A span of every week, as minutes; times near the changes of clocks come often."""
    minute = st.one_of(st.integers(0, 1439), st.integers(50, 250))
    begins = draw(minute)
    ends = draw(minute.filter(lambda ends: ends != begins))
    return draw(st.integers(0, 6)), begins, ends if ends > begins else ends + 1440


#: A zone, and a day on which its clocks change: an hour, half an hour, at midnight; and one where they never do.
CHANGES = [
    (STOCKHOLM, date(2026, 3, 29)),
    (STOCKHOLM, date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("America/Asuncion", date(2023, 10, 1)),
    ("Asia/Kolkata", date(2026, 6, 1)),
]


@settings(max_examples=60, deadline=None)
@given(
    change=st.sampled_from(CHANGES),
    spans=st.lists(a_span(), max_size=4),
    pauses=st.lists(st.tuples(st.integers(-4000, 4000), st.integers(1, 5000)), max_size=2),
    offset=st.integers(-3 * 1440, 3 * 1440),
    work=st.integers(0, 2000),
)
def test_the_schedule_agrees_with_a_naive_model(
    change: tuple[str, date], spans: list[Any], pauses: list[Any], offset: int, work: int
) -> None:
    """Around every change of clocks, the closed time is the one that a walk from minute to minute finds."""
    zone = ZoneInfo(change[0])
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    hours = ", ".join(f"{names[day]} {b // 60:02}:{b % 60:02}-{e % 1440 // 60:02}:{e % 60:02}" for day, b, e in spans)
    once = [(midnight(change[1]) + b * MINUTE, midnight(change[1]) + (b + length) * MINUTE) for b, length in pauses]
    maintenance = ", ".join(f"{b:%Y-%m-%dT%H:%M}/{e:%Y-%m-%dT%H:%M}" for b, e in once)
    schedule = read_schedule(zone.key, hours, maintenance)
    first = midnight(change[1]).replace(tzinfo=UTC) - timedelta(days=14)
    minutes = 32 * 1440
    closed = naive_closed_minutes(zone, spans, once, first, minutes)
    start = 14 * 1440 + offset

    found = schedule.present_or_next(first + start * MINUTE)
    begins = next((number for number in range(start, minutes) if closed[number]), None)
    if begins is None:
        assert found is None or found.begins_at >= first + minutes * MINUTE
    else:
        ends = next(number for number in range(begins, minutes) if not closed[number])
        while closed[begins - 1]:
            begins -= 1
        assert found is not None
        assert (found.begins_at, found.ends_at) == (first + begins * MINUTE, first + ends * MINUTE)

    open_minutes = [number for number in range(start, minutes) if not closed[number]]
    if 0 < work < len(open_minutes):
        assert schedule.done_at(first + start * MINUTE, work * 60) == first + (open_minutes[work - 1] + 1) * MINUTE
