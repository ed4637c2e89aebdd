"""Log lines: ours through structlog and everybody else's through logging, in one format and through one mask."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING, Final, TextIO, cast

import structlog

from orderrelay_workers.masking import Mask
from orderrelay_workers.settings import secret_values

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from orderrelay_workers.settings import WorkerSettings

__all__ = ["MaskingHandler", "configure_logs", "learn_secrets"]

#: The mask of the lines that are written now.
_masks: Final[list[Mask]] = []

#: They log each request with its URL, where the vendor wants its keys, or each statement with its values; Celery tells
#: of every hint twice, which says nothing about any order.
_QUIET: Final = (
    "aiohttp", "alembic.runtime", "celery.app.trace", "celery.worker.strategy", "hpack", "httpcore", "httpx",
    "sqlalchemy",
)  # fmt: skip

#: They bring handlers of their own, which would write the same line again in another format, unmasked.
_OWN_HANDLERS: Final = ("celery", "celery.redirected", "celery.task", "kombu", "alembic", "sqlalchemy", "py.warnings")


class MaskingHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream; the one handler of the root logger, recognised when logs are configured again."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Tell that a line was lost; logging's own way would print the arguments of the call, unmasked."""
        if logging.raiseExceptions:
            kind = sys.exc_info()[0]
            sys.stderr.write(f"log line lost: {record.name}:{record.lineno}: {kind.__name__ if kind else ''}\n")


def configure_logs(settings: WorkerSettings, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to one place; may be called again, also after a fork.

    Timestamps are UTC. What is bound in `structlog.contextvars` stands in every line, other libraries' too.

    Args:
        settings: Gives format, level and the secrets to mask.
        stream: Where the lines go; default: stderr.
    """
    target: TextIO = sys.stderr if stream is None else stream
    mask = Mask(secret_values(settings))
    _masks[:] = [mask]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A cached logger would keep the processors of the first call.
        cache_logger_on_first_use=False,
    )
    handler = MaskingHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _Masking(mask),
                _renderer(settings, colours=target.isatty()),
            ],
        )
    )
    _take_over(handler, settings.log_level)


def learn_secrets(settings: WorkerSettings) -> None:
    """Mask the secrets of these settings too, from now on; to be called before any of them is used."""
    for mask in _masks:
        mask.learn(secret_values(settings))


class _Masking:
    """The processor that masks: after exceptions have become text, before the line is rendered."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def __call__(self, logger: WrappedLogger, name: str, event_dict: EventDict) -> EventDict:
        del logger, name
        return cast("EventDict", self._mask.value(event_dict))


def _renderer(settings: WorkerSettings, *, colours: bool) -> Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=colours,
        # The exception is text already, and masked.
        exception_formatter=structlog.dev.plain_traceback,
    )


def _take_over(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        # Only what writes to the terminal goes; a handler of a file or of a test stays.
        if isinstance(old, MaskingHandler) or getattr(old, "stream", None) in {sys.stderr, sys.stdout}:
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    # Celery warns of its next major version at each lost connection; the settings say already what is wanted.
    warnings.filterwarnings("ignore", message="(?s).*worker_cancel_long_running_tasks_on_connection_loss.*")
