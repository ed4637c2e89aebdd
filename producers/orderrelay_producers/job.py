"""A job as its producer sees it: a handle to ask by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import uuid

    from orderrelay_shared.job_status import JobStatus


class Asker(Protocol):
    """Who can find out where a job is: an `OrderProducer`."""

    def status(self, job: uuid.UUID, /, *, timeout: float = ...) -> JobStatus | None:
        """The job's status, or None if the ledger does not have it."""
        ...

    def wait(self, job: uuid.UUID, /, *, timeout: float) -> JobStatus:
        """The job's status as soon as it is settled."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One order's journey, from enqueue to a settled state.

    Attributes:
        id: The job's id, the same wherever and however often this order is enqueued.
        external_id: The order's ExternalId.
        company: The company's alias, normalised.
    """

    id: uuid.UUID
    external_id: str
    company: str
    _asker: Asker = field(repr=False, compare=False)

    def status(self, *, timeout: float = 5.0) -> JobStatus | None:
        """Where the job is now; see `OrderProducer.status`.

        Args:
            timeout: Seconds in all.

        Raises:
            QueueUnavailable: Neither Redis knew nor a worker answered in time.
        """
        return self._asker.status(self.id, timeout=timeout)

    def wait(self, timeout: float = 60.0) -> JobStatus:
        """Wait until nothing more happens to the job by itself (`JobState.is_settled`).

        Args:
            timeout: Seconds to wait at most. With 0 or less it only looks where the job is.

        Raises:
            TimeoutError: The job is not settled yet; the text tells its last known state.
        """
        return self._asker.wait(self.id, timeout=timeout)


class AsyncAsker(Protocol):
    """Who can find out where a job is, in an event loop: an `AsyncOrderProducer`."""

    async def status(self, job: uuid.UUID, /, *, timeout: float = ...) -> JobStatus | None:  # noqa: ASYNC109
        """The job's status, or None if the ledger does not have it."""
        ...

    async def wait(self, job: uuid.UUID, /, *, timeout: float) -> JobStatus:  # noqa: ASYNC109
        """The job's status as soon as it is settled."""
        ...


@dataclass(frozen=True, slots=True)
class AsyncJob:
    """As `Job`, of an `AsyncOrderProducer`.

    Attributes:
        id: As of `Job`.
        external_id: As of `Job`.
        company: As of `Job`.
    """

    id: uuid.UUID
    external_id: str
    company: str
    _asker: AsyncAsker = field(repr=False, compare=False)

    async def status(self, *, timeout: float = 5.0) -> JobStatus | None:  # noqa: ASYNC109
        """As `Job.status`."""
        return await self._asker.status(self.id, timeout=timeout)

    async def wait(self, timeout: float = 60.0) -> JobStatus:  # noqa: ASYNC109
        """As `Job.wait`."""
        return await self._asker.wait(self.id, timeout=timeout)
