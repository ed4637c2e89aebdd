"""When a company is closed: hours of the week and maintenance, as settings say them, in the company's time zone.

Pure. A span belongs to the day on which it begins, also over midnight. Where clocks are put back, it is closed from the
first time that they show its beginning to the last time that they show its end; where they are put forward, a
beginning or an end that no clock shows is the moment of the change.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Why nothing is sent in a closed time, in words.
HOURS: Final = "closed hours"
MAINTENANCE: Final = "maintenance"

#: What the two settings may be, in words.
HOURS_ALLOWED: Final = (
    "spans with commas between them, such as mon-fri 22:00-06:00, sun 00:00-24:00 or daily 02:00-03:00, which leave "
    "some time of the week open"
)
MAINTENANCE_ALLOWED: Final = (
    "spans with commas between them, such as 2026-12-24T18:00/2026-12-26T06:00, in TIME_ZONE and without an offset"
)

#: An outlook further ahead would be no knowledge, in days.
FURTHEST_DAYS: Final = 100

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * _DAY_MINUTES
_SPAN: Final = re.compile(r"(daily|[a-z]{3}|[a-z]{3} ?- ?[a-z]{3}) (\d\d?):(\d\d) ?- ?(\d\d?):(\d\d)")
_INSTANT: Final = re.compile(r"20\d\d-\d\d-\d\d[Tt ]\d\d:\d\d")

#: How far around a day spans are looked for: one may last into the day after, and one that falls into the hour that
#: clocks skip comes only a week later.
_DAYS_BEFORE: Final = 2
_DAYS_AFTER: Final = 15


@dataclass(frozen=True, slots=True)
class Span:
    """One span of every week; `begins` and `ends` are minutes from the midnight that begins `day` (0: Monday)."""

    day: int
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Maintenance:
    """One span that does not come again, by the company's clocks."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class ClosedTime:
    """A time in which nothing is sent. Instants are UTC; the end is the first instant of the open time after it."""

    begins_at: datetime
    ends_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a company is closed. `hours` leave some time of the week open."""

    zone: zoneinfo.ZoneInfo
    hours: tuple[Span, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    def present_or_next(self, now: datetime) -> ClosedTime | None:
        """The closed time that is now, or else the next one; None if none is coming.

        Closed times that overlap or touch are one.
        """
        ahead = [time for time in self._around(now) if time.ends_at > now]
        if not ahead:
            return None
        first = min(ahead, key=lambda time: time.begins_at)
        begins_at, ends_at, reasons = first.begins_at, first.ends_at, {first.reason}
        # Each turn reaches further, and some time of every week is open, so both loops end.
        while more := [t for t in self._around(ends_at, 1) if t.begins_at <= ends_at < t.ends_at]:
            ends_at = max(time.ends_at for time in more)
            reasons |= {time.reason for time in more}
        while more := [t for t in self._around(begins_at, 1) if t.begins_at < begins_at <= t.ends_at]:
            begins_at = min(time.begins_at for time in more)
            reasons |= {time.reason for time in more}
        reasons |= {t.reason for t in ahead if begins_at <= t.begins_at and t.ends_at <= ends_at}
        return ClosedTime(
            begins_at, ends_at, " and ".join(reason for reason in (HOURS, MAINTENANCE) if reason in reasons)
        )

    def done_at(self, start: datetime, seconds_of_work: float) -> datetime | None:
        """When work that takes so long will be done if it is done in open times only.

        Args:
            start: When it may begin. In a closed time, nothing is done before its end.
            seconds_of_work: How long it takes without a pause.

        Returns:
            None if that is more than `FURTHEST_DAYS` ahead.
        """
        at, left = start.astimezone(UTC), seconds_of_work
        latest = at + timedelta(days=FURTHEST_DAYS)
        while left <= (latest - at).total_seconds():
            closed = self.present_or_next(at)
            if closed is None:
                return at + timedelta(seconds=left)
            open_seconds = (closed.begins_at - at).total_seconds()
            if open_seconds > 0 and left <= open_seconds:
                return at + timedelta(seconds=left)
            left -= max(0.0, open_seconds)
            at = closed.ends_at
        return None

    def _around(self, instant: datetime, days_after: int = _DAYS_AFTER) -> Iterator[ClosedTime]:
        """All maintenance, and the spans that begin near an instant."""
        today = instant.astimezone(self.zone).date()
        days = (today + timedelta(days=number) for number in range(-_DAYS_BEFORE, days_after + 1))
        spans = (_on(day, span) for day in days for span in self.hours if span.day == day.weekday())
        for (begins, ends), reason in chain(
            ((span, HOURS) for span in spans), (((m.begins, m.ends), MAINTENANCE) for m in self.maintenance)
        ):
            time = ClosedTime(_first_shown(begins, self.zone), _last_shown(ends, self.zone), reason)
            if time.begins_at < time.ends_at:  # not so if it lies in the hour that clocks skip
                yield time


def _on(day: date, span: Span) -> tuple[datetime, datetime]:
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001  what the company's clocks show
    return midnight + timedelta(minutes=span.begins), midnight + timedelta(minutes=span.ends)


def _first_shown(shown: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The first instant at which clocks show this or more."""
    return _instant(shown, zone, fold=0)


def _last_shown(shown: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The instant from which on clocks show nothing less than this."""
    return _instant(shown, zone, fold=1)


def _instant(shown: datetime, zone: zoneinfo.ZoneInfo, *, fold: int) -> datetime:
    instant = shown.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == shown:
        return instant
    # No clock shows it. Read with the offset of after and of before, it lies on both sides of the change.
    before = shown.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = shown.replace(tzinfo=zone, fold=0).astimezone(UTC)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before).total_seconds() // 2)
        if middle.astimezone(zone).replace(tzinfo=None) < shown:
            before = middle
        else:
            after = middle
    return after


@lru_cache(maxsize=256)
def read_schedule(time_zone: str, closed_hours: str, maintenance: str) -> Schedule:
    """A company's schedule from its three settings.

    Raises:
        ValueError: One of them is wrong; settings are refused for that before they come into the ledger.
    """
    return Schedule(read_zone(time_zone), read_hours(closed_hours), read_maintenance(maintenance))


def read_zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of this name.

    Raises:
        ValueError: There is none; the text says so to people, and names one that is spelled like it.
    """
    try:
        return zoneinfo.ZoneInfo(name.strip())
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name.strip(), sorted(zoneinfo.available_timezones()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{name[:40]!r} is no known time zone{hint}") from None


def read_hours(text: str) -> tuple[Span, ...]:
    """The spans of every week in a text such as `mon-fri 22:00-06:00, sun 00:00-24:00`; none if it is empty.

    Raises:
        ValueError: Some are wrong, or no time of the week is left open; the text tells all of it to people.
    """
    spans: list[Span] = []
    problems: list[str] = []
    for part in _parts(text):
        try:
            spans += _spans_of(part)
        except ValueError as error:
            problems.append(f"{part[:40]!r} {error}")
    if not problems and _minutes_open(spans) == 0:
        problems.append("leaves no time of the week open; to stop a company, use: orderrelay pause")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(dict.fromkeys(spans))


def read_maintenance(text: str) -> tuple[Maintenance, ...]:
    """The spans in a text such as `2026-12-24T18:00/2026-12-26T06:00`; none if it is empty.

    Raises:
        ValueError: Some are wrong; the text tells all of it to people.
    """
    found: list[Maintenance] = []
    problems: list[str] = []
    for part in _parts(text):
        try:
            found.append(_maintenance_of(part))
        except ValueError as error:
            problems.append(f"{part[:40]!r} {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(dict.fromkeys(found))


def _parts(text: str) -> Iterator[str]:
    return (" ".join(part.split()) for part in text.split(",") if part.strip())


def _spans_of(part: str) -> Iterator[Span]:
    matched = _SPAN.fullmatch(part.lower())
    if matched is None:
        raise ValueError("is no span of closed hours")
    begins, ends = _minutes(*matched.group(2, 3)), _minutes(*matched.group(4, 5))
    if begins == _DAY_MINUTES:
        raise ValueError("begins at 24:00; write 00:00 of the day after")
    if begins == ends:
        raise ValueError("ends when it begins; a whole day is 00:00-24:00")
    ends += _DAY_MINUTES if ends < begins else 0
    return (Span(day, begins, ends) for day in _days_of(matched.group(1)))


def _minutes(hours: str, minutes: str) -> int:
    at = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or at > _DAY_MINUTES:
        raise ValueError(f"has {hours}:{minutes}, which no clock shows")
    return at


def _days_of(text: str) -> Iterable[int]:
    if text == "daily":
        return range(7)
    names = [name.strip() for name in text.split("-")]
    if unknown := [name for name in names if name not in _DAYS]:
        raise ValueError(f"has {unknown[0]!r}, which is no day (days are {', '.join(_DAYS)})")
    first, last = _DAYS.index(names[0]), _DAYS.index(names[-1])
    return [(first + number) % 7 for number in range((last - first) % 7 + 1)]


def _minutes_open(spans: Iterable[Span]) -> int:
    closed: set[int] = set()
    for span in spans:
        monday = span.day * _DAY_MINUTES
        closed.update(minute % _WEEK_MINUTES for minute in range(monday + span.begins, monday + span.ends))
    return _WEEK_MINUTES - len(closed)


def _maintenance_of(part: str) -> Maintenance:
    begins, slash, ends = (text.strip() for text in part.partition("/"))
    if not (slash and _INSTANT.fullmatch(begins) and _INSTANT.fullmatch(ends)):
        raise ValueError("is no span of maintenance")
    try:
        span = Maintenance(datetime.fromisoformat(begins), datetime.fromisoformat(ends))
    except ValueError:
        raise ValueError("has a date or time that does not exist") from None
    if span.ends <= span.begins:
        raise ValueError("ends before it begins")
    return span
