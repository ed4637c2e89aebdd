"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"  #: As it should be.
    WARNING = "warning"  #: It works; somebody should know.
    PROBLEM = "problem"  #: Orders do not get through, or something that was promised does not hold.


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at: settings, redis, broker, database, spool, ledger, workers, clocks, vendor,
            or a company.
        level: How it is.
        text: What was found, in one line without secrets.
        to_do: What to do about it; empty if nothing.
        unreachable: Whether it is that Redis, the broker or the database cannot be reached.
    """

    subject: str
    level: Level
    text: str
    to_do: str = ""
    unreachable: bool = False


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, text)


def warning(subject: str, text: str, to_do: str) -> Finding:
    """Somebody should know."""
    return Finding(subject, Level.WARNING, text, to_do)


def problem(subject: str, text: str, to_do: str, *, unreachable: bool = False) -> Finding:
    """Something does not work."""
    return Finding(subject, Level.PROBLEM, text, to_do, unreachable)
