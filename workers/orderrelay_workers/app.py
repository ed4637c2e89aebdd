"""The Celery app: `celery -A orderrelay_workers.app worker`, or `orderrelay worker`, which adds the right flags.

Messages are hints, which may be lost or come twice, so nothing of Celery's is used that promises more: no late ack,
no retry, no countdown, no rate limit, no result backend. Each setting below that is not Celery's default says why.
"""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any

from celery import Celery, concurrency, signals
from kombu import Queue
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_shared import keys
from orderrelay_shared.settings import SettingsInvalid
from orderrelay_shared.urls import masked
from orderrelay_workers import early_stop, hints, processes
from orderrelay_workers.broker import broker_options
from orderrelay_workers.consumer import PATIENCE, PatientAMQP
from orderrelay_workers.ledger.companies import CompanyKeyTaken
from orderrelay_workers.ledger.identity import OtherLedger
from orderrelay_workers.logs import configure_logs
from orderrelay_workers.runtime import NotMigrated
from orderrelay_workers.settings import WorkerSettings, load_worker_settings

if TYPE_CHECKING:
    from typing import NoReturn

#: Flags for the worker that Celery has no settings for: nothing here needs the workers to talk to each other.
WORKER_FLAGS = ("--without-gossip", "--without-mingle", "--without-heartbeat")

#: A thread for each company's orders and look-ups, and some for results; they mostly wait.
_THREADS_AT_LEAST = 8


def make_app(settings: WorkerSettings) -> Celery:
    """The Celery app for these settings."""
    app = Celery("orderrelay", set_as_current=True, amqp=PatientAMQP)
    queues = [hints.orders_queue(alias) for alias in sorted(settings.companies)]
    queues += [hints.RESULTS_QUEUE, hints.RECONCILE_QUEUE]
    app.conf.update(
        **broker_options(
            settings.broker_url,
            {
                **PATIENCE,
                "visibility_timeout": 3600,
                "global_keyprefix": keys.CELERY_PREFIX,
                "client_name": "orderrelay-celery",
            },
        ),
        broker_connection_retry_on_startup=True,
        broker_connection_retry=True,
        broker_connection_max_retries=None,  # the default gives up after 100
        broker_channel_error_retry=True,  # a full or loading Redis must not end the worker
        task_acks_late=False,  # a hint has nothing to redeliver
        task_reject_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a request that is out must come to its end
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        task_publish_retry=False,  # the promoter is the retry
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=False,
        task_queues=[Queue(name, routing_key=name) for name in queues],
        task_default_queue=hints.RESULTS_QUEUE,
        worker_pool="threads",
        worker_concurrency=max(_THREADS_AT_LEAST, 2 * len(settings.companies) + 2),
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # fewer synchronous Redis calls; liveness is our own
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_always_eager=False,
        include=["orderrelay_workers.tasks"],
    )
    return app


def _load() -> WorkerSettings:
    try:
        return load_worker_settings()
    except SettingsInvalid as error:
        _stop(2, *error.lines)


def _stop(code: int, *lines: str) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"{line}\n")
    raise SystemExit(code)


settings = _load()
app = make_app(settings)


@signals.setup_logging.connect(weak=False)
def _on_setup_logging(**_: Any) -> None:
    configure_logs(settings)


@signals.worker_init.connect(weak=False)
def _on_worker_init(sender: Any, **_: Any) -> None:
    early_stop.listen()
    configure_logs(
        settings
    )  # Celery sets logging up only after this signal, and what is told here has to be masked too
    # Raised as SystemExit, as Celery swallows every other exception of a signal's receiver.
    pool = concurrency.get_implementation(sender.pool_cls)
    if pool is not concurrency.get_implementation("threads"):
        name = f"{pool.__module__}.{pool.__name__}".removeprefix("celery.concurrency.")
        _stop(2, f"worker pool {name} is not supported: start with `-P threads`, or with `orderrelay worker`")
    try:
        atexit.register(processes.end)  # however this process ends before Celery says so
        worker = processes.begin(settings, app, threads=sender.concurrency)
    except SettingsInvalid as error:
        _stop(2, *error.lines)
    except (CompanyKeyTaken, NotMigrated, OtherLedger) as error:
        _stop(2, str(error))
    except RedisError as error:
        _stop(3, f"Redis at {masked(settings.redis_url)} does not answer: {type(error).__name__}")
    except SQLAlchemyError as error:
        cause = type(getattr(error, "orig", None) or error).__name__
        _stop(3, f"the database at {masked(settings.database_url)} does not answer: {cause}")
    # Never declared, so that nothing of it stays in Redis; and consumed with `-Q` too, which has been applied by now.
    canaries = hints.canary_queue(worker.boot_id)
    app.amqp.queues.select_add(Queue(canaries, routing_key=canaries, no_declare=True))


@signals.worker_ready.connect(weak=False)
def _on_worker_ready(sender: Any, **_: Any) -> None:
    early_stop.treat_interrupts_alike()
    early_stop.repeat()
    processes.consuming(sender)


@signals.worker_shutting_down.connect(weak=False)
def _on_worker_shutting_down(**_: Any) -> None:
    processes.drain()


@signals.worker_shutdown.connect(weak=False)
def _on_worker_shutdown(sender: Any, **_: Any) -> None:
    processes.ended_by_celery(sender.exitcode)
