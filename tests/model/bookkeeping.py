"""What must hold of the ledger's rows after every step, whatever the history was."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import reading
from tests.model.ground import POLICY

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import datetime

_S = JobState

#: design.md, "Job states". A move to `succeeded` is allowed from everywhere.
_MOVES: Final[dict[JobState, frozenset[JobState]]] = {
    _S.WAITING: frozenset({_S.IN_PROGRESS, _S.CANCELLED, _S.PARKED, _S.UNKNOWN}),
    # The last two are its own, through `waiting` and `unknown`, when attempts are exhausted or an answer comes late.
    _S.IN_PROGRESS: frozenset({_S.REJECTED, _S.WAITING, _S.UNKNOWN, _S.PARKED}),
    _S.UNKNOWN: frozenset({_S.WAITING, _S.REJECTED, _S.PARKED}),
    _S.PARKED: frozenset({_S.UNKNOWN, _S.WAITING, _S.CANCELLED}),
    _S.REJECTED: frozenset({_S.UNKNOWN, _S.WAITING, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.CANCELLED: frozenset(),
}

#: What absence may lead to, the mildest first.
_STRICTNESS: Final = (_S.WAITING, _S.REJECTED, _S.PARKED)

Rows = dict[int, dict[str, object]]


@dataclass
class Bookkeeping:
    """The ledger as it was after the last step, and what may never change of it."""

    engine: sa.Engine
    jobs: dict[uuid.UUID, sa.RowMapping] = field(default_factory=dict["uuid.UUID", "sa.RowMapping"])
    attempts: Rows = field(default_factory=dict[int, dict[str, object]])
    events: Rows = field(default_factory=dict[int, dict[str, object]])
    #: Whether the number of requests is known of every job: a restored backup has forgotten some.
    counts: bool = True
    #: What the answers of unknown jobs demand of them when they prove absent; the strictest counts.
    demands: dict[uuid.UUID, JobState] = field(default_factory=dict["uuid.UUID", JobState])
    #: Whether an absence cannot have been told before the doubt that it answers: clocks are not set back.
    counts_absences: bool = True

    def forget(self) -> None:
        """The database was restored: read it as it is now, and judge only by that."""
        self.counts = False
        self.demands = {}
        self.look()

    def look(self) -> None:
        """Read the ledger as it is, without judging."""
        with reading(self.engine) as connection:
            jobs = connection.execute(sa.select(schema.job)).mappings().all()
            attempts = connection.execute(sa.select(schema.attempt)).mappings().all()
            events = connection.execute(sa.select(schema.event)).mappings().all()
        self.jobs = {row["id"]: row for row in jobs}
        self.attempts = {row["id"]: dict(row) for row in attempts}
        self.events = {row["id"]: dict(row) for row in events}

    def judge(self, doubts: Sequence[tuple[uuid.UUID, JobState]] = ()) -> None:
        """Read the ledger as it is, and compare it with what it was.

        Args:
            doubts: Of answers that were settled just now: to what the job may go, at the mildest, if it proves absent.
        """
        before, attempts, events = self.jobs, self.attempts, self.events
        self.look()
        for job_id, row in before.items():
            assert job_id in self.jobs, f"job {row['external_id']} is gone"
            _check_move(row, self.jobs[job_id])
            self._check_demand(row, self.jobs[job_id])
        self._check_audit(attempts, events)
        counted = Counter(row["job_id"] for row in self.attempts.values() if _counts(row))
        for job_id, row in self.jobs.items():
            _check_row(row)
            absent_at = row["absent_at"]
            early = self.counts_absences and absent_at is not None and absent_at < row["since"]
            assert not early, f"{row['external_id']} was absent before it was in doubt"
            if self.counts:
                spent = sum(row["id"] == a["job_id"] and _is_spent(a) for a in self.attempts.values())
                assert self.was_resent(job_id) or spent <= row["attempts"], f"{row['attempts']} of {spent} are spent"
                told = f"{row['external_id']} has {row['requests']} requests, but {counted[job_id]} attempts"
                assert row["requests"] == counted[job_id], told

        for job_id, demand in doubts:
            state = self.jobs[job_id]["state"] if job_id in self.jobs else None
            assert state != JobState.WAITING, "an order is in doubt, and waits to be sent again"
            if state in (JobState.UNKNOWN, JobState.IN_PROGRESS):
                self.demands[job_id] = max(self.demands.get(job_id, demand), demand, key=_STRICTNESS.index)

    def assert_none_fails_for_too_long(self, now: datetime) -> None:
        """No job is in doubt whose look-up has failed for so long that a person should know."""
        too_long = timedelta(seconds=POLICY.lookup_failing_seconds)
        for row in self.jobs.values():
            if row["state"] == JobState.UNKNOWN and row["lookup_failing_since"] is not None:
                out = row["lease_until"] is not None and now < row["lease_until"]
                assert out or now - row["lookup_failing_since"] < too_long, f"{row['external_id']} was not given up"

    def was_resent(self, job_id: uuid.UUID) -> bool:
        """Whether a person had a job sent again, with its attempts counted anew."""
        return any(e["job_id"] == job_id and e["kind"] == "resent_by_person" for e in self.events.values())

    def tokens(self) -> dict[uuid.UUID, set[object]]:
        """Under which claims each job has order attempts on record."""
        found: dict[uuid.UUID, set[object]] = defaultdict(set)
        for row in self.attempts.values():
            if row["kind"] == "order":
                found[row["job_id"]].add(row["token"])  # type: ignore[index]  # a row's values are objects here
        return found

    def alarms(self, *kinds: str) -> list[object]:
        """The details of the alarms of these kinds."""
        return [row["detail"] for row in self.events.values() if row["kind"] in kinds and row["alarm"]]

    def _check_demand(self, before: sa.RowMapping, after: sa.RowMapping) -> None:
        if after["state"] in (JobState.UNKNOWN, JobState.IN_PROGRESS):
            return
        demand = self.demands.pop(after["id"], None)
        if demand is None or after["state"] not in _STRICTNESS:
            return
        name, state = after["external_id"], after["state"]
        assert before["state"] != JobState.IN_PROGRESS, f"{name} is {state}, but another request is in doubt"
        demanded = f"{name} is {state}, but an answer demanded {demand}"
        assert before["state"] != JobState.UNKNOWN or _STRICTNESS.index(state) >= _STRICTNESS.index(demand), demanded

    def _check_audit(self, attempts: Rows, events: Rows) -> None:
        for event_id, row in events.items():
            assert self.events.get(event_id) == row, f"event {event_id} was changed or removed"
        for attempt_id, row in attempts.items():
            now = self.attempts.get(attempt_id)
            assert now is not None, f"attempt {attempt_id} was removed"
            changed = {name for name, value in row.items() if now[name] != value}
            if row["ended_at"] is not None:
                assert changed <= {"stored_at"}, f"attempt {attempt_id} was changed after its end: {changed}"
            else:
                assert not changed & {"id", "job_id", "company_id", "kind", "token"}, f"{attempt_id}: {changed}"


def _is_spent(row: dict[str, object]) -> bool:
    return row["kind"] == "order" and row["outcome"] in ("created", "rejected", "unknown")


def _counts(row: dict[str, object]) -> bool:
    """Whether an attempt is a request that left, or may have."""
    return row["kind"] == "order" and row["sent"] is not False


def _check_move(before: sa.RowMapping, after: sa.RowMapping) -> None:
    old, new = JobState(before["state"]), JobState(after["state"])
    allowed = new in (old, JobState.SUCCEEDED) or new in _MOVES[old]
    assert allowed, f"{after['external_id']} went from {old} to {new}"
    if old is JobState.SUCCEEDED:
        for name in ("vendor_id", "order_number"):
            told = f"{name} of a succeeded job went from {before[name]} to {after[name]}"
            assert before[name] in (None, after[name]), told
    for name in ("id", "company_id", "external_id", "accepted_at", "booked_at"):
        assert before[name] == after[name], f"{name} changed"
    assert before["lane"] // 2 == after["lane"] // 2, f"{after['external_id']} is of another priority"


def _check_row(row: sa.RowMapping) -> None:
    state, name = JobState(row["state"]), row["external_id"]
    assert 0 <= row["attempts"] <= row["requests"], f"{name}: {row['attempts']} of {row['requests']} are spent"
    assert row["attempts"] <= POLICY.max_attempts, f"{name} was sent again and again"
    if state is JobState.IN_PROGRESS:
        assert None not in (row["token"], row["owner"], row["lease_until"]), f"{name} is in progress with nobody"
    if state in (JobState.WAITING, JobState.REJECTED, JobState.PARKED, JobState.CANCELLED):
        assert row["token"] is None, f"{name} is {state}, but a claim is live"
        assert row["if_absent"] is None, f"{name} is {state}, but in doubt"
    if state is JobState.WAITING:
        in_lane = f"{name} waits in lane {row['lane']} after {row['requests']} requests"
        assert (row["lane"] % 2 == 1) == (row["requests"] > 0), in_lane
    if state is JobState.UNKNOWN:
        assert row["if_absent"] is not None, f"{name} is unknown, and nothing follows from its absence"
    if state is JobState.SUCCEEDED:
        assert row["vendor_id"] is not None or row["order_number"], f"{name} has succeeded as nothing"
    else:
        assert row["vendor_id"] is None, f"{name} is {state}, but has a vendor id"
