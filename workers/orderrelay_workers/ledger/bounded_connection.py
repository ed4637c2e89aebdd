"""A connection to PostgreSQL that does not wait for ever for an answer that was lost on its way.

A statement timeout is kept by the server, and TCP keepalives by the other end of the connection, which may be a proxy
in good health. Neither helps when it is the proxy, or what is behind it, that has lost the question or the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen


class BoundedConnection(psycopg.Connection[Any]):
    """Waits for each answer `answer_seconds` at most; then it is closed, and the error says that the server is away."""

    answer_seconds = 65.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """What the driver calls for every answer; its own parameters.

        Raises:
            psycopg.OperationalError: No answer came in time, so it is not known what the server did.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors.PipelineAborted:  # says only that an earlier statement failed, and that one tells why
            raise
        except psycopg.OperationalError as error:
            if error.sqlstate is None:  # the driver's own, not the server's
                self.close()
            raise
