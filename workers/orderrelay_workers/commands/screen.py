"""How operators' commands show things to people: UTC to the second, aligned columns, no control characters."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: What stands where nothing was told.
NOTHING: Final = "\N{EN DASH}"

#: How wide a page is where no terminal says so, in characters.
_PAGE_WIDTH: Final = 100

#: The longest word of a column that is not broken, in characters; an instant just fits.
_WHOLE: Final = 20


def utc(at: datetime | None) -> str:
    """An instant as `2026-01-30T12:00:05Z`."""
    return NOTHING if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def lasting(seconds: float) -> str:
    """A length of time as people say it: `0.42 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def printable(text: object) -> str:
    """The text without what a terminal would obey, on one line; what is None becomes a dash."""
    if text is None:
        return NOTHING
    return "".join(c if c.isprintable() else " " for c in str(text))


def shortened(text: str | None, longest: int = 100) -> str | None:
    """The text, cut where it is longer than this, in characters."""
    return text if text is None or len(text) <= longest else text[: longest - 1] + "…"


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows under headings; long texts go on in the next line of their column.

    Args:
        headings: One a column. A column of short words, numbers or instants is not broken.
        rows: Texts, numbers, instants; None is shown as a dash.
        right: The headings of columns that are aligned to the right.
    """
    from rich.console import Console  # noqa: PLC0415  rich takes long to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        _show_plain(headings, rows, right)
        return
    cells = [[utc(cell) if isinstance(cell, datetime) else printable(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, heading in enumerate(headings):
        whole = all(len(row[position]) <= _WHOLE and " " not in row[position] for row in cells)
        table.add_column(
            Text(heading),
            justify="right" if heading in right else "left",
            no_wrap=whole,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*map(Text, row))
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    Console(width=None if told else _PAGE_WIDTH, highlight=False, markup=False, emoji=False).print(table)


def _show_plain(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str]) -> None:
    """For pipes and files: a row a line, never broken, so that it can be searched and copied."""
    lines = [list(headings)]
    lines += [[utc(cell) if isinstance(cell, datetime) else printable(cell) for cell in row] for row in rows]
    widths = [max(len(line[position]) for line in lines) for position in range(len(headings))]
    for line in lines:
        cells = [
            f"{cell:>{width}}" if heading in right else f"{cell:<{width}}"
            for cell, width, heading in zip(line, widths, headings, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print a fact a line, names aligned; what is None or empty is left out."""
    known = [(name, value) for name, value in facts if value not in (None, "")]
    width = max((len(name) for name, _ in known), default=0) + 2
    for name, value in known:
        shown = utc(value) if isinstance(value, datetime) else printable(value)
        typer.echo(f"{name + ':':<{width}}{shown}")


def instant(text: str, option: str) -> datetime:
    """The instant that a person means: an ISO date or time (UTC unless it says otherwise), or `30m`, `2h`, `3d` ago.

    Anything else ends the command with 2.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    number, unit = text[:-1], text[-1:].lower()
    try:
        if unit in units and number.isascii() and number.isdigit():
            return datetime.now(UTC) - timedelta(**{units[unit]: int(number)})
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        typer.echo(f"{option} {text!r} is no time; give 30m, 2h or 3d (ago), 2026-01-30 or 2026-01-30T12:00", err=True)
        raise typer.Exit(2) from None
