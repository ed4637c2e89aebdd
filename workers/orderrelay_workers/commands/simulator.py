"""`orderrelay simulator`: the stand-in for the vendor, for trying everything out without a vendor."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from orderrelay_workers.simulator import Credentials, FaultPlan, Simulator

#: The day from which ids count up with the clock: 2026-11-01, in epoch seconds.
_BEGINNING = 1_793_491_200


def simulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8900,
    latency_ms: Annotated[str, typer.Option(help="Time per request: 200, or a range 50-400.")] = "",
    plan: Annotated[str, typer.Option(metavar="FILE", help="Fault plan: a JSON file, or JSON text.")] = "",
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SHARE", help="A fault and its share, 0 to 1; may be repeated.")
    ] = None,
    rate_limit: Annotated[int | None, typer.Option(help="Hidden limit: more orders/s get 429.", min=1)] = None,
    lookup_lag_seconds: Annotated[
        float | None, typer.Option(help="Look-ups find an order only so long after it was created.", min=0)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same faults and ids.")] = None,
    company_key: Annotated[str | None, typer.Option(help="The only companyApiKey accepted; default any.")] = None,
    connect_key: Annotated[str | None, typer.Option(help="The only connectApiKey accepted; default any.")] = None,
    license_: Annotated[str | None, typer.Option("--license", help="The only License accepted; default any.")] = None,
    user: Annotated[str | None, typer.Option(help="The only UserName accepted; default any.")] = None,
    password: Annotated[str | None, typer.Option(help="The only Password accepted; default any.")] = None,
    token: Annotated[str | None, typer.Option(help="A fixed token, accepted beside those of logins.")] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="List the faults and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a stand-in for the SoftOne GO API that can go wrong in every way the real one can.

    An order posted twice is created twice. What was created is shown on its page, doubled ones in red.

    Exit code: 0 ended by Ctrl-C or SIGTERM, 2 wrong usage or fault plan.
    Example: orderrelay simulator
    Example: orderrelay simulator --port 8901 --latency-ms 50-400 --fault 500-after=0.02
    """
    # Loaded here, so that the base install can list the command and every command's --help stays quick.
    from orderrelay_workers.simulator import Credentials, PlanInvalid, Simulator  # noqa: PLC0415  as said above

    if list_faults:
        _print_faults(as_json=as_json)
        return
    try:
        wanted = _plan_of(
            plan,
            faults=fault or [],
            latency_ms=latency_ms,
            rate_limit=rate_limit,
            lookup_lag_seconds=lookup_lag_seconds,
            seed=seed,
        )
    except PlanInvalid as error:
        _stop(str(error))
    credentials = Credentials(company_key, connect_key, license_, user, password, token)
    # A vendor gives no id twice, not even after a restart, which loses these books. A seed asks for the same again.
    used_up = int((time.time() - _BEGINNING) * 1000) if seed is None else 0
    _run(wanted, host, port, credentials, Simulator, used_up=used_up, as_json=as_json)


def _stop(text: str) -> NoReturn:
    typer.echo(f"orderrelay simulator: {text}", err=True)
    raise typer.Exit(2)


def _print_faults(*, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415  only this needs it

    from orderrelay_workers.simulator import FAULTS  # noqa: PLC0415  heavy, see above

    width = max(map(len, FAULTS))
    for fault in FAULTS.values():
        if as_json:
            line = {"name": fault.name, "on": fault.on, "creates": fault.creates, "sentence": fault.sentence}
            typer.echo(msgspec.json.encode(line).decode())
        else:
            typer.echo(f"{fault.name:<{width}}  {fault.sentence}")


def _plan_of(
    source: str,
    *,
    faults: list[str],
    latency_ms: str,
    rate_limit: int | None,
    lookup_lag_seconds: float | None,
    seed: int | None,
) -> FaultPlan:
    """The plan of the file with what the flags say put over it.

    Raises:
        PlanInvalid: The flags or the file make no plan.
    """
    from orderrelay_workers.simulator import FaultPlan  # noqa: PLC0415  heavy, see above

    plan = FaultPlan.read(source) if source else FaultPlan()
    changes: dict[str, object] = {}
    if faults:
        changes["rules"] = [*plan.model_dump()["rules"], *map(_rule_of, faults)]
    if latency_ms:
        changes["latency_ms"] = _latency_of(latency_ms)
    settings = {"rate_limit_per_second": rate_limit, "lookup_lag_seconds": lookup_lag_seconds, "seed": seed}
    changes.update({name: value for name, value in settings.items() if value is not None})
    return plan.changed(**changes) if changes else plan


def _rule_of(text: str) -> dict[str, object]:
    from orderrelay_workers.simulator import PlanInvalid  # noqa: PLC0415  heavy, see above

    name, separator, share = text.partition("=")
    if not separator:
        return {"fault": name.strip()}
    try:
        return {"fault": name.strip(), "share": float(share)}
    except ValueError as error:
        raise PlanInvalid(f"--fault {text}: {share!r} is no share; give a number from 0 to 1") from error


def _latency_of(text: str) -> float | list[float]:
    from orderrelay_workers.simulator import PlanInvalid  # noqa: PLC0415  heavy, see above

    lowest, separator, highest = text.partition("-")
    try:
        return [float(lowest), float(highest)] if separator else float(lowest)
    except ValueError as error:
        raise PlanInvalid(f"--latency-ms {text}: give milliseconds, as 200 or 50-400") from error


def _run(
    plan: FaultPlan,
    host: str,
    port: int,
    credentials: Credentials,
    make: type[Simulator],
    *,
    used_up: int,
    as_json: bool,
) -> None:
    """Serve until a signal comes."""
    import asyncio  # noqa: PLC0415  only a run needs these
    import signal  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    from orderrelay_workers.simulator import new_event_loop  # noqa: PLC0415

    async def serve() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Windows has no signal handlers on the loop; there Ctrl-C ends the run by KeyboardInterrupt.
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with make(plan, host=host, port=port, credentials=credentials, used_up=used_up) as running:
            if as_json:
                typer.echo(msgspec.json.encode({"url": running.url, "books": f"{running.url}/"}).decode())
            else:
                typer.echo(f"SoftOne GO simulator on {running.url}, books on {running.url}/")
            await stopped.wait()

    try:
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve())
    except OSError as error:
        reason = error.strerror or "the address is unknown"
        _stop(f"cannot listen on {host}:{port}: {reason}; choose another with --host and --port")
