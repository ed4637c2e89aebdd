"""What Redis and the network raise, and how it is told."""

from __future__ import annotations


def failures() -> tuple[type[Exception], ...]:
    """What Redis and the network raise."""
    from redis import exceptions  # noqa: PLC0415  redis takes long to import, and callers may never enqueue

    return (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ResponseError, OSError)


def seen(error: Exception) -> str:
    """What a failure was, for people."""
    from redis import exceptions  # noqa: PLC0415  as above

    if isinstance(error, exceptions.BusyLoadingError):
        return "Redis is loading its data"
    if isinstance(error, exceptions.AuthenticationError):
        return "Redis refuses the user or password of ORDERRELAY_REDIS_URL"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "Redis did not answer in time"
    if isinstance(
        error, exceptions.ResponseError
    ):  # While connecting, as `round_trip` returns those that answer a command.
        return f"Redis refuses the connection: {error}"
    return f"Redis cannot be reached (ORDERRELAY_REDIS_URL: {str(error).rstrip('. ')})"
