"""Pictures of what an operator looks at, of real runs: `python -m tests.bench.pictures --help`."""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import httpx
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from orderrelay_workers.commands import picture
from orderrelay_workers.commands.rounds import Rounds
from orderrelay_workers.settings import load_worker_settings
from orderrelay_workers.testing import OrderrelayStack
from tests.deployed import SCRIPTS
from tests.processes import Processes, dismiss_guardian
from tests.servers import free_port, wait_until
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: A terminal as most people have it.
_WIDTH: Final = 80

#: Rich would fetch its font from another host.
_FORMAT: Final = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace"
)

#: The night that the dashboard shows, in seconds.
_NIGHT: Final = 240
_DOWN_FROM, _DOWN_UNTIL, _KILLED_AT = 100, 140, 180


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pictures", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, run in (("watch", watch), ("dashboard", dashboard)):
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.add_argument("into", type=Path, help="the folder that the pictures go into")
        command.set_defaults(run=run)
    chosen = parser.parse_args(arguments)
    chosen.into.mkdir(parents=True, exist_ok=True)
    chosen.run(chosen.into)


def watch(into: Path) -> None:
    """`orderrelay watch` with a company that goes, one that is paused, and one whose vendor is unwell."""
    slow = {f"ORDERRELAY_COMPANIES__{name}__RATE_PER_SECOND": "10" for name in ("DEFAULT", "ACME", "BETA")}
    with OrderrelayStack(companies=["default", "acme", "beta"], settings=slow) as stack:
        stack.vendor.fault("server error before creating", external_id="beta-")
        reason = ["--reason", "stock-taking until Monday"]
        subprocess.run(
            [SCRIPTS / "orderrelay", "pause", "acme", *reason], env={**stack.settings, "LOGNAME": "anna"}, check=True
        )
        for company, count in (("acme", 120), ("beta", 40), ("default", 300)):
            stack.producer.enqueue_many([order(f"{company}-{n}") for n in range(count)], company=company)
        time.sleep(12)
        for name, alias in (("watch", None), ("watch-one", "default")):
            path = into / f"{name}.svg"
            path.write_text(_screen(stack.settings, alias))
            print(path)


def _screen(settings: Mapping[str, str], alias: str | None) -> str:
    """What the command would draw on its terminal, as SVG."""
    with mock.patch.dict(os.environ, settings), Rounds(load_worker_settings(), alias) as rounds:
        seen = rounds.look()
    console = Console(
        width=_WIDTH, file=io.StringIO(), record=True, force_terminal=True, highlight=False, markup=False, emoji=False
    )
    console.print(picture.picture(seen, seen, 2.0, 40))
    title = " ".join(["orderrelay watch", *([] if alias is None else [alias])])
    svg = console.export_svg(title=title, code_format=_FORMAT, unique_id="watch")
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines())


def dashboard(into: Path) -> None:
    """The dashboard's panels over four minutes with an outage and a worker killed. Needs the program `prometheus`."""
    from tests.bench import dashboard_plot  # matplotlib is not part of the usual installation

    ports = [free_port(), free_port()]
    settings = {
        "ORDERRELAY_COMPANIES__ACME__RATE_PER_SECOND": "8",
        "ORDERRELAY_COMPANIES__BETA__RATE_PER_SECOND": "4",
        "ORDERRELAY_HEALTH_PORT": str(ports[0]),
    }
    with OrderrelayStack(companies=["acme", "beta"], settings=settings) as stack:
        stack.settings["ORDERRELAY_HEALTH_PORT"] = str(ports[1])
        stack.start_worker()
        with _prometheus(stack.folder, ports) as url:
            began = time.time()
            _live(stack)
            panels = dashboard_plot.asked(url, began, time.time())
    path = into / "dashboard.png"
    dashboard_plot.draw(panels, path)
    print(path)


def _live(stack: OrderrelayStack) -> None:
    """What happens in these minutes: orders all the time, and one thing after another."""
    stack.vendor.fault("order refused", share=0.01)
    stack.vendor.fault("timeout after creating", share=0.01)
    began = time.monotonic()
    down = killed = False
    for second in range(_NIGHT):
        stack.producer.enqueue_many([order(f"a-{second}-{n}") for n in range(5)], company="acme")
        if second == 20:
            stack.producer.enqueue_many([order(f"b-{n}") for n in range(300)], company="beta")
        if second >= _DOWN_FROM and not down:
            stack.vendor.simulator.close_door()
            down = True
        if second == _DOWN_UNTIL:
            stack.vendor.simulator.open_door()
        if second >= _KILLED_AT and not killed:
            stack.kill_worker(2)
            killed = True
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))


@contextmanager
def _prometheus(folder: Path, ports: Sequence[int]) -> Iterator[str]:
    """A Prometheus that asks the workers every second; gives its address."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: orderrelay, static_configs: [{{targets: {targets}}}]}}]\n"
    )
    url = f"127.0.0.1:{free_port()}"
    processes = Processes(folder)
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    try:
        processes.start([*command, f"--web.listen-address={url}"], name="prometheus")
        wait_until(lambda: _answers(f"http://{url}/-/ready"), 30, what="Prometheus is ready")
        yield f"http://{url}"
    finally:
        processes.end()
        dismiss_guardian()


def _answers(url: str) -> Any:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
