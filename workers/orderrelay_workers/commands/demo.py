"""`orderrelay demo`: the main job on this machine, against the simulator, in under a minute."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from orderrelay_workers.demo.run import Run


def demo(
    orders: Annotated[int, typer.Option(help="How many orders to enqueue.", min=1, max=1_000_000)] = 500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same orders and the same faults.")] = 1,
    kill: Annotated[bool, typer.Option("--kill", help="Also kill a worker with kill -9 half-way.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
) -> None:
    """Run the main job here: producer, Redis, two workers, ledger, and a vendor that goes wrong.

    Needs nothing running. In the end the simulator's own books tell whether any order was lost or doubled.

    Exit code: 0 nothing lost or doubled, 1 something was or not all decided in time, 2 usage, 3 no Redis to use.
    Example: orderrelay demo
    Example: orderrelay demo --orders 5000 --kill
    """
    import tempfile  # noqa: PLC0415  heavy imports wait, so that --help is quick
    from pathlib import Path  # noqa: PLC0415

    from orderrelay_workers.demo.private_redis import NoRedis  # noqa: PLC0415
    from orderrelay_workers.demo.run import run  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix="orderrelay-demo-"))
    progress = _Progress()
    try:
        done = run(folder, orders=orders, seed=seed, kill=kill, tell=progress.tell, show=progress.show)
    except NoRedis as error:
        progress.tell(str(error))
        raise typer.Exit(3) from None
    progress.clear()
    good = not (done.verdict.lost or done.verdict.doubled or done.verdict.moving)
    for line in _summary(done, folder):
        typer.echo(line, err=as_json)
    if as_json:
        _print_json(done)
    raise typer.Exit(0 if good else 1)


class _Progress:
    """Lines that stay, and on a terminal one that does not; both on standard error."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told = 0

    def tell(self, line: str) -> None:
        self.clear()
        sys.stderr.write(f"{line}\n")

    def show(self, line: str) -> None:
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
        elif self._told % 8 == 0:  # every two seconds
            sys.stderr.write(f"{line}\n")
        self._told += 1

    def clear(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")


def _summary(done: Run, folder: Path) -> list[str]:
    verdict, states = done.verdict, done.verdict.states
    command = "orderrelay" if shutil.which("orderrelay") else min(sys.argv[0], os.path.relpath(sys.argv[0]), key=len)
    lines = [
        "",
        f"{done.orders} orders in {done.seconds:.1f} s",
        "",
        f"  accepted    {done.accepted:6}",
        f"  refused     {done.orders - done.accepted:6}   at the door, before anything was stored",
        *(f"                       {count} x {why}" for why, count in sorted(done.refused.items())),
        f"  created     {states['succeeded']:6}   for example "
        + ", ".join(f"{external_id} as order {number}" for external_id, number in verdict.examples),
        f"  rejected    {states['rejected']:6}   by the vendor, kept for correction",
        *(f"                       {count} x {why}" for why, count in sorted(verdict.rejected.items())),
        f"  retried     {verdict.retried:6}   sent again, after proof that the first request created nothing",
        f"  reconciled  {verdict.reconciled:6}   answer lost or unclear; found out by look-up, never sent blindly",
        f"  parked      {states['parked']:6}   nobody can know; kept for a person",
        *(f"                       {count} x {why}" for why, count in sorted(verdict.parked.items())),
    ]
    if verdict.moving:
        lines.append(f"  undecided   {verdict.moving:6}   not settled in time")
    lines += [
        "",
        "Checked against the vendor's own books: " + (f"{len(verdict.lost)} lost, {len(verdict.doubled)} doubled."),
        *(f"  LOST     {external_id}" for external_id in verdict.lost[:20]),
        *(f"  DOUBLED  {external_id}" for external_id in verdict.doubled[:20]),
        "",
        "Where to look next:",
        f"  export ORDERRELAY_DATABASE_URL=sqlite:///{folder / 'ledger.db'}",
        f"  {command} audit stats",
        f"  {command} audit show demo-00000      everything that happened to one order",
        f"  {command} parked list",
        f"  {folder}/worker-1.log",
        f"Nothing else is left behind; when you have seen enough: rm -r {folder}",
    ]
    return lines


def _print_json(done: Run) -> None:
    import json  # noqa: PLC0415  only this needs it

    states = done.verdict.states
    result: dict[str, object] = {
        "orders": done.orders,
        "accepted": done.accepted,
        "refused": done.orders - done.accepted,
        "created": states["succeeded"],
        "rejected": states["rejected"],
        "parked": states["parked"],
        "unknown": states["unknown"],
        "waiting": states["waiting"] + states["in_progress"],
        "retried": done.verdict.retried,
        "reconciled": done.verdict.reconciled,
        "lost": len(done.verdict.lost),
        "doubled": len(done.verdict.doubled),
        "worker_killed": done.killed,
        "seconds": round(done.seconds, 2),
    }
    typer.echo(json.dumps(result))
