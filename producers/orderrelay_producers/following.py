"""Following a job from outside: reading the status that workers publish, and asking for one that Redis forgot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from orderrelay_producers.errors import QueueUnavailable
from orderrelay_producers.round_trip import ErrorReply, NoReply
from orderrelay_producers.steps import Pause, ask_redis
from orderrelay_shared import keys
from orderrelay_shared.intake import Ask, Cancel
from orderrelay_shared.job_status import UNHEARD_OF, JobStatus

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from orderrelay_producers.steps import Steps

#: What is left of the time when Redis is asked for the last time, in seconds.
_LAST_TURN_SECONDS: Final = 0.05

#: Who waits with no time left gets a look all the same; it takes so long at most, in seconds.
_LOOK_SECONDS: Final = 0.25

#: So often, in seconds, is a status looked for that would be heard: a word may be lost with its connection.
_PRECAUTION_SECONDS: Final = 2.0


def published(job: uuid.UUID, *, deadline: float) -> Steps[bytes | None]:
    """What Redis has for a job: a status or `UNHEARD_OF` as JSON, or None.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    reply = yield from ask_redis("GET", keys.status(job), deadline=deadline)
    if isinstance(reply, bytes) or reply is None:
        return reply
    raise _unavailable(reply)


def ask(job: uuid.UUID, *, deadline: float) -> Steps[None]:
    """Ask the workers to publish a job's status; they answer after all that was accepted before.

    Raises:
        QueueUnavailable: Redis did not take the question.
    """
    yield from _add(Ask(job), deadline=deadline)


def cancel(job: uuid.UUID, why: str, *, deadline: float) -> Steps[None]:
    """Ask the workers to cancel a job; they do so after all that was accepted before.

    Raises:
        QueueUnavailable: Redis did not take the request, or did not say so.
        ValueError: `why` is too long or not printable.
    """
    yield from _add(Cancel(job, why), deadline=deadline)


def _add(entry: Ask | Cancel, *, deadline: float) -> Steps[None]:
    fields = [part for pair in entry.to_fields().items() for part in pair]
    reply = yield from ask_redis("XADD", keys.INTAKE, "*", *fields, deadline=deadline)
    if isinstance(reply, NoReply | ErrorReply):
        raise _unavailable(reply)


def wait_until_booked(job: uuid.UUID, *, deadline: float) -> Steps[bytes | None]:
    """Wait for a sign that the job's row is committed: any published status, of whatever age, as rows never go.

    Returns:
        The status as published, which may be of a newer version; None if the deadline came first. Redis' absence
        meanwhile is borne.
    """
    for seconds in _Turns(0.005, 0.1, deadline):
        yield Pause(seconds)
        try:
            word = yield from published(job, deadline=deadline)
        except QueueUnavailable:
            continue
        if word is not None and word != UNHEARD_OF:
            return word
    return None


def find_out(job: uuid.UUID, *, deadline: float) -> Steps[JobStatus | None]:
    """The job's status: as published, or else by asking the workers.

    Returns:
        None if the ledger does not have the job.

    Raises:
        QueueUnavailable: Redis or the workers did not answer in time.
    """
    word = yield from published(job, deadline=deadline)
    if word is None:
        yield from ask(job, deadline=deadline)
        word = yield from _answer(job, deadline=deadline)
    return None if word == UNHEARD_OF else _read(job, word)


def _answer(job: uuid.UUID, *, deadline: float) -> Steps[bytes]:
    trouble = f"no worker answered in time where job {job} is: is a worker running ('orderrelay worker')?"
    for seconds in _Turns(0.005, 0.1, deadline):
        yield Pause(seconds)
        try:
            word = yield from published(job, deadline=deadline)
        except QueueUnavailable as error:  # Borne: Redis may come back before the deadline.
            trouble = error.reason
        else:
            if word is not None:
                return word
    raise QueueUnavailable(None, False, trouble)


def wait_until_settled(job: uuid.UUID, *, deadline: float, ask_first_after_seconds: float = 1.0) -> Steps[JobStatus]:
    """Wait until nothing more happens to the job by itself: a word of the workers tells it, or else looking for it.

    A status that Redis has forgotten is asked for, less and less often, so that a job which nobody works on does not
    fill the intake with questions.

    Raises:
        TimeoutError: The deadline came first; the text tells the last known state.
    """
    last, trouble = "nothing was heard of it yet: is a worker running ('orderrelay worker')?", ""
    ask_after_seconds = ask_first_after_seconds
    ask_at = time.monotonic() + ask_after_seconds
    look_until = max(deadline, time.monotonic() + _LOOK_SECONDS)
    turns = _Turns(0.02, 0.5, deadline)
    for seconds in turns:
        turns.is_heard = (yield Pause(seconds, keys.status(job))) if seconds else False
        try:
            word = yield from published(job, deadline=look_until)
            trouble = ""
            if word is not None and word != UNHEARD_OF:
                status = _read(job, word)
                if status.state.is_settled:
                    return status
                last = f"it is {status.state}{f' ({status.reason})' if status.reason else ''}"
            elif word is None and time.monotonic() >= ask_at:
                yield from ask(job, deadline=deadline)
                ask_after_seconds = min(2 * ask_after_seconds, 60.0)
                ask_at = time.monotonic() + ask_after_seconds
        except QueueUnavailable as error:
            trouble = f"; lately: {error.reason}"
    raise TimeoutError(f"job {job} is not settled: {last}{trouble}")


def _read(job: uuid.UUID, word: bytes) -> JobStatus:
    status = JobStatus.from_json(word)
    if status is None:
        raise QueueUnavailable(
            None, False, f"the status of job {job} was written by a newer orderrelay; upgrade the one here"
        )
    return status


def _unavailable(reply: object) -> QueueUnavailable:
    match reply:
        case NoReply(reason):
            return QueueUnavailable(None, False, reason)
        case ErrorReply(_, text):
            return QueueUnavailable(None, False, f"Redis refuses: {text}")
        case _:
            return QueueUnavailable(None, False, f"Redis answered with a {type(reply).__name__}, not a status")


class _Turns:
    """Turns with pauses before them: none, then longer and longer; the last has some time for its round trip.

    Attributes:
        is_heard: Whether what is waited for would be heard, so that looking for it is a precaution only.
    """

    def __init__(self, first_seconds: float, most_seconds: float, deadline: float) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._deadline = deadline
        self.is_heard = False

    def __iter__(self) -> Iterator[float]:
        """The pauses, in seconds."""
        pause = self._first_seconds
        yield 0.0
        while (left := self._deadline - time.monotonic() - _LAST_TURN_SECONDS) > 0:
            yield min(_PRECAUTION_SECONDS if self.is_heard else pause, left)
            pause = min(1.5 * pause, self._most_seconds)
