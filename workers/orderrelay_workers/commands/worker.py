"""`orderrelay worker`: one worker process, until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    threads: Annotated[
        int, typer.Option(help="Threads for tasks; 0: two a company and a few, at least 8.", min=0, max=1000)
    ] = 0,
    queues: Annotated[
        str, typer.Option("--queues", "-Q", help="Serve only these queues, with commas, such as orders.acme,results.")
    ] = "",
) -> None:
    """Run a worker: book accepted orders, submit them, find out about unknown ones, store results.

    Start as many as you like, on one host with SQLite, on any number with PostgreSQL. SIGTERM or Ctrl-C stops
    claiming, lets requests that are out come to their end, and exits 0.

    Exit code: 0 stopped, 2 usage or settings, 3 something unreachable, or no hints heard any more: start it again.
    Example: orderrelay worker
    Example: orderrelay worker --queues orders.acme,results,reconcile
    """
    from orderrelay_workers import early_stop  # noqa: PLC0415  as below

    early_stop.listen()
    from orderrelay_workers import memory  # noqa: PLC0415  as below

    memory.share_what_is_allocated()
    with memory.nothing_for_terminals():
        # Not `app.worker_main`: that imports all of Celery's commands, and with them another library for terminals.
        from celery.bin.base import CLIContext  # noqa: PLC0415  heavy; --help must be quick
        from celery.bin.worker import worker as celery_worker  # noqa: PLC0415  as above

        from orderrelay_workers import processes  # noqa: PLC0415  as above
        from orderrelay_workers.app import WORKER_FLAGS, app, settings  # noqa: PLC0415  as above
        from orderrelay_workers.logs import configure_logs  # noqa: PLC0415  as above

    configure_logs(settings)
    known = [queue.name for queue in app.conf.task_queues]
    if unknown := [name for name in queues.split(",") if name and name not in known]:
        typer.echo(f"no queue {unknown[0]!r}; those of the configured companies: {', '.join(known)}", err=True)
        raise typer.Exit(2)
    arguments = ["--pool=threads", "--loglevel", settings.log_level, *WORKER_FLAGS]
    if threads:
        arguments += ["--concurrency", str(threads)]
    if queues:
        arguments += ["--queues", queues]
    celery = CLIContext(app=app, no_color=False, workdir=None, quiet=True)
    celery_worker.main(arguments, standalone_mode=False, obj=celery)
    raise typer.Exit(processes.exit_code())
