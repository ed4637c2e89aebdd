# ruff: noqa: E501, Q000  a table of source lines, as they stand in the product
"""The product made wrong on purpose, one line at a time: a written history or the random ones must find each.

`python -m tests.model.mutants [SECONDS [NAME…]]` tries all, or those whose name holds one of the words, on SQLite: first
the histories of `test_histories.py`, then for so many seconds each (default 0) the random ones.
"""

from __future__ import annotations
import __future__

import contextlib
import inspect
import io
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from orderrelay_workers import decisions, people
from orderrelay_workers.ledger import booking, caution, claims, settling, sweeping, unknowns
from tests.model.search import search

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@dataclass(frozen=True)
class Mutant:
    """One line of the product, and what stands there instead."""

    name: str
    owner: ModuleType | type
    function: str
    line: str
    instead: str

    @contextlib.contextmanager
    def at_large(self) -> Iterator[None]:
        """Have the product be wrong for a while."""
        right = getattr(self.owner, self.function)
        source = textwrap.dedent(inspect.getsource(right))
        assert self.line in source, f"{self.name}: {self.function} has changed; bring the mutant up to date"
        wrong = compile(source.replace(self.line, self.instead), f"<{self.name}>", "exec", dont_inherit=True,
                        flags=__future__.annotations.compiler_flag)  # fmt: skip
        made: dict[str, object] = {}
        exec(wrong, vars(sys.modules[right.__module__]), made)
        setattr(self.owner, self.function, made[self.function])
        try:
            yield
        finally:
            setattr(self.owner, self.function, right)


MUTANTS: Final = (
    Mutant("absence is believed at once", decisions, "_absent", "if job.absent_at is None or asked_at < decided_at",
           "if asked_at < lease_until"),
    Mutant("absence is believed before the lease is over", decisions, "_absent",
           "asked_at < max(lease_until, job.since)", "False"),
    Mutant("absence is believed by when it is told, not asked", decisions, "weigh",
           "asked_at, now, policy))", "now, now, policy))"),
    Mutant("absence is believed without a control", decisions, "weigh", 'case "absent" if control', 'case "absent"'),
    Mutant("the second look-up comes too soon after a clock jump", decisions, "_absent",
           "max(lease_until + settling, absent_at + settling / 2)", "lease_until + settling"),
    Mutant("doubt keeps an earlier absence", decisions, "_doubt", "absent_at=None,", ""),
    Mutant("doubt forgets what its absence leads to", decisions, "_doubt", "_stricter(job.if_absent, if_absent)",
           "JobState.WAITING"),
    Mutant("a lapsed claim waits", decisions, "lapse", "return _doubt(job, now, JobState.WAITING, reason)",
           "return _wait(job, now, now, reason)"),
    Mutant("a lapsed claim costs nothing", decisions, "lapse", "job = _count(job, spent=True)", "pass"),
    Mutant("every answer is on time", decisions, "settle",
           "job.token == token and job.state in (JobState.IN_PROGRESS, JobState.UNKNOWN)", "True"),
    Mutant("a late success is ignored", decisions, "_created", 'late = not on_time and',
           "if not on_time and job.state is not JobState.UNKNOWN:\n        return Decision(job)\n    late = not on_time and"),
    Mutant("a find is ignored when it comes late", decisions, "_found", "late = job.state is not JobState.UNKNOWN",
           "late = job.state is not JobState.UNKNOWN\n    if late:\n        return Decision(job)"),
    Mutant("what is in doubt after an answer waits", decisions, "_refused_or_unclear",
           "return _doubt(job, now, verdict.if_absent, verdict.reason, verdict.error_number)",
           "return _wait(job, now, now, verdict.reason)"),
    Mutant("an earlier doubt ends with the next request", decisions, "settle", "after.state is not JobState.UNKNOWN and",
           "after.state is JobState.WAITING and"),
    Mutant("an earlier doubt ends with the last attempt", decisions, "settle", "after.state is not JobState.UNKNOWN and",
           "after.state not in (JobState.UNKNOWN, JobState.PARKED) and"),
    Mutant("an earlier doubt does not outlive a wait", decisions, "settle", "after.state is not JobState.UNKNOWN and",
           "after.state is not JobState.WAITING and"),
    Mutant("an earlier doubt forgets what the next request demands", decisions, "settle",
           "_doubt(job, now, after.state, reason, after.error_number)", "_doubt(job, now, JobState.WAITING, reason)"),
    Mutant("of two doubts one answer ends both", decisions, "lapse", "job = replace(job, token=None)", "pass"),
    Mutant("a late doubt lets an order wait", decisions, "_late", "(JobState.WAITING, JobState.UNKNOWN)",
           "(JobState.UNKNOWN,)"),
    Mutant("a late doubt is not remembered", decisions, "_late",
           "job = replace(job, if_absent=_stricter(job.if_absent, verdict.if_absent))", "pass"),
    Mutant("a find alarms about an order known by its number", decisions, "_found",
           "if job.vendor_id is None and not others and holder in (None, job.id):", "if False:"),
    Mutant("an answer alarms about an order known by its number", decisions, "_created",
           "job.vendor_id is None and job.order_number == verdict.order_number and holder is None", "False"),
    Mutant("what is refused is sent for ever", decisions, "_again", "job.attempts >= policy.max_attempts", "False"),
    Mutant("a hand-back forgets an earlier doubt", claims, "give_back", "state=_AFTER_GIVING_BACK,",
           "state=str(JobState.WAITING), if_absent=None,"),
    Mutant("what was handed back late stays in doubt", claims, "give_back",
           "_give_back_swept(connection, claims, now) if given.rowcount < len(claims) else 0", "0"),
    Mutant("a hand-back asks for no claim", claims, "give_back", "_job.token.in_({c.token for c in claims}),", ""),
    Mutant("a hand-back asks for no state", claims, "give_back", "_job.state == str(JobState.IN_PROGRESS),", ""),
    Mutant("what is claimed is claimed again", claims, "_due",
           "_job.state == sa.literal_column(f\"'{JobState.WAITING}'\")", 'sa.column("state").in_(["waiting", "in_progress"])'),
    Mutant("leases never end", sweeping, "sweep", "gone = sa.or_(_job.lease_until < now, _job.owner.in_(dead))",
           "gone = _job.owner.in_(dead)"),
    Mutant("the sweep leaves no attempt", sweeping, "sweep", "attempts.write_attempts(connection, unanswered, now)", "pass"),
    Mutant("settling twice counts twice", settling, "_merge", "if (s.job_id, s.token) in known:", "if False:"),
    Mutant("a person's resend looks nothing up", people, "resend", "state=JobState.UNKNOWN,", "state=JobState.WAITING,"),
    Mutant("a second content replaces the first", booking, "_result",
           "content.get(job_id) != accepted.envelope.content_digest", "False"),
    Mutant("a failing look-up is never given up", unknowns, "park_failed",
           "_job.lookup_failing_since <= now - too_long", "sa.false()"),
    Mutant("a taken look-up is never due again", unknowns, "take_due", "timedelta(seconds=for_seconds)",
           "timedelta(days=400)"),
    Mutant("a restored backup is not noticed", caution.Standing, "went_back", "self.claims < remembered", "False"),
    Mutant("what waits after a restore is sent", caution, "is_cleared", "_job.cleared_at.is_not(None)", "sa.true()"),
    Mutant("absence from before a restore counts", caution, "begin", ".values(cleared_at=None)",
           ".values(cleared_at=_job.cleared_at)"),
    Mutant("after a restore, requests are not waited for", caution, "begin", "timedelta(seconds=lease_seconds)",
           "timedelta(0)"),
)  # fmt: skip


_WRITTEN: Final = str(Path(__file__).with_name("test_histories.py"))


class _Found:
    """A plugin of pytest that notes which tests failed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test, or what it asked for, has failed or not."""
        if report.failed:
            self.names.append(report.nodeid.rpartition("::")[2])


def found_by_written(mutant: Mutant) -> list[str]:
    """The written histories that find a mutant."""
    found = _Found()
    with mutant.at_large(), contextlib.redirect_stdout(io.StringIO()):
        # Plain asserts, as what is imported already cannot be rewritten.
        pytest.main([_WRITTEN, "-q", "--assert=plain", "-p", "no:cacheprovider"], plugins=[found])
    return found.names


def found_by_search(mutant: Mutant, *, seconds: float, seed: int = 1) -> float | None:
    """How many seconds of work it took random histories to find a mutant; None if they did not in time."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, mutant.at_large():
        try:
            search(f"sqlite:///{folder}/ledger.db", seconds=seconds, seed=seed, shorten=False, report=False,
                   watch=time.process_time)  # fmt: skip
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  whatever it breaks by, it is found
            return time.process_time() - began
    return None


def main(arguments: list[str]) -> int:
    """Try the mutants; gives how many nothing has found."""
    seconds, names = float((arguments or ["0"])[0]), arguments[1:]
    missed = 0
    for mutant in MUTANTS:
        if names and not any(name in mutant.name for name in names):
            continue
        written = found_by_written(mutant)
        took = found_by_search(mutant, seconds=seconds) if seconds else None
        missed += not written and took is None
        random = "not searched" if not seconds else "not in time" if took is None else f"{took:.1f} s"
        first = f"{len(written)}: {written[0]}" if written else "none"
        verdict = "found" if written or took is not None else "MISSED"
        print(f"{verdict:6} {mutant.name} | written {first} | random {random}", flush=True)
    return min(missed, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
