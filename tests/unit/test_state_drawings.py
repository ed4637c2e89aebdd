"""The drawings of docs/architecture.md have the moves that jobs can make: no more, and no fewer."""

from __future__ import annotations

import contextlib
import itertools
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers import people
from orderrelay_workers.cancelling import cancel
from orderrelay_workers.deadlines import missed
from orderrelay_workers.decisions import Job, give_up, lapse, settle, weigh, without_lookup
from orderrelay_workers.vendor.answers import LookupVerdict
from tests.documents import all_blocks
from tests.unit.test_decisions import HOLDER, NOW, OTHERS, OURS, POLICY, a_job, an_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

Move = tuple[str, str]

#: Moves that SQL makes by itself: a claim, and cautious mode, which doubts all that waits.
BY_SQL = {("waiting", "in_progress"), ("waiting", "unknown")}

LATER = NOW + timedelta(days=1)


def jobs() -> Iterator[Job]:
    """Jobs in each state, with all that a decision may look at."""
    for state, spent, absent in itertools.product(JobState, (0, 9), (None, NOW)):
        for if_absent in (None, JobState.WAITING, JobState.REJECTED, JobState.PARKED):
            if (if_absent is None) == (state is JobState.UNKNOWN):
                continue  # only what is in doubt has it, and always
            counted = {"attempts": spent, "requests": spent}
            yield a_job(state, token=OURS, deadline=NOW, absent_at=absent, if_absent=if_absent, **counted)


def found(state: Job, holder: Any = None) -> Iterator[Job]:
    """The job after each proof that the order was created."""
    for token in (OURS, OTHERS):
        yield settle(state, token, an_answer(Outcome.CREATED), LATER, POLICY, holder).job
    seen = LookupVerdict("found", (77,))
    yield weigh(state, seen, LATER, POLICY, asked_at=LATER, control=True, holder=holder).job


def decided(job: Job) -> Iterator[Job]:
    """The job after everything else that can be decided about it, by itself or by people and producers."""
    for outcome, token, number, leads_to in itertools.product(
        Outcome, (OURS, OTHERS), (None, 16), (JobState.WAITING, JobState.REJECTED, JobState.PARKED)
    ):
        if outcome is not Outcome.CREATED:
            answer = an_answer(outcome, error_number=number, if_absent=leads_to)
            yield settle(job, token, answer, LATER, POLICY, None).job
    failing = replace(job, lookup_failing_since=NOW)
    verdicts = (LookupVerdict("absent"), LookupVerdict("failing"), LookupVerdict("throttled"))
    for seen, control in itertools.product(verdicts, (True, False)):
        yield weigh(failing, seen, LATER, POLICY, asked_at=LATER, control=control, holder=None).job
    if job.state is JobState.IN_PROGRESS:
        yield lapse(job, LATER, "gone")
    yield give_up(replace(job, lookup_failing_since=NOW), LATER, POLICY).job
    yield without_lookup(job, LATER).job
    yield missed(job, LATER).job
    yield cancel(job, LATER, "", asked_at=LATER, accepted_at=NOW, is_cautious=False).job
    for has_lookup in (True, False):
        with contextlib.suppress(people.NotForPeople):
            yield people.resend(job, LATER, "", has_lookup=has_lookup, surely_not_created=True).job
    with contextlib.suppress(people.NotForPeople):
        yield people.drop(job, LATER, "").job
    with contextlib.suppress(people.NotForPeople):
        yield people.resolve(job, LATER, "", order_number="211").job


def moves(after: Any) -> set[Move]:
    """Every change of state that these decisions make."""
    return {(str(job.state), str(then.state)) for job in jobs() for then in after(job) if then.state != job.state}


def drawn() -> set[Move]:
    """Every arrow of the drawings, but the one from nowhere."""
    texts = [block.text for block in all_blocks("mermaid") if block.text.startswith("stateDiagram")]
    return {pair for text in texts for pair in re.findall(r"^ +(\w+) --> (\w+):", text, re.MULTILINE)}


def test_the_drawings_have_every_move_and_no_other() -> None:
    """All that is decided, and what SQL does by itself; late proof, which moves any job, is told below them."""
    on_time = {("in_progress", "succeeded"), ("unknown", "succeeded")}
    assert drawn() == moves(decided) | BY_SQL | on_time


def test_proof_moves_every_job() -> None:
    """To succeeded; to parked, if another job holds the order that the proof names."""
    others = [str(state) for state in JobState if state is not JobState.SUCCEEDED]
    assert moves(found) == {(state, "succeeded") for state in others}
    held = moves(lambda job: found(job, HOLDER))
    assert held == {(state, "parked") for state in others if state != "parked"}


def test_the_drawings_have_every_state() -> None:
    """And no state that there is not."""
    assert {state for move in drawn() for state in move} == set(JobState)
