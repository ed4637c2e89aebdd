"""How the product paces itself, measured at the vendor: `python -m tests.bench.pacing --help`.

Worker processes, a real Redis, a real database and the simulator as the vendor run together on this machine. Each
scenario prints a table; `--json FOLDER` keeps its series, of which `plot` makes pictures (`pip install --group plots`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import pacing_numbers as numbers
from tests.bench import pacing_scenarios as scenarios

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line names."""
    chosen = _parser().parse_args(arguments)
    if chosen.what == "plot":
        from tests.bench import pacing_plots  # matplotlib is not part of the usual installation

        for path in pacing_plots.plot_all(chosen.folder, chosen.into):
            print(path)
    elif chosen.what == "model":
        _tell(_model(chosen), chosen.json)
    else:
        _tell(scenarios.as_json(scenarios.SCENARIOS[chosen.what](chosen)), chosen.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pacing", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="SCENARIO")
    for name, scenario in scenarios.SCENARIOS.items():
        command = _command(commands, name, scenario.__doc__ or "")
        command.add_argument("--postgres", action="store_true", help="PostgreSQL, every commit synced; default SQLite")
        command.add_argument("--seconds", type=float, help="how long it is measured, or the vendor is down")
        command.add_argument("--workers", type=int, nargs="+", help="how many worker processes")
        command.add_argument("--rate", type=float, help="orders a second")
        command.add_argument("--orders", type=int, help="how many wait in the ledger")
        command.add_argument("--times", type=int, default=20, help="fair: how many single orders")
        command.add_argument("--share", type=float, default=0.5, help="brownout: the share of answers that are 503")
        command.add_argument("--fault", default="503-before", help="brownout: what these are, by the simulator's names")
        command.add_argument("--refused", action="store_true", help="outage: connections are refused, not answered 503")
    model = _command(commands, "model", "The learned rate, simulated for ten minutes with the gate's own scripts.")
    model.add_argument("--seconds", type=float, default=600.0)
    model.add_argument("--workers", type=int, default=2)
    plot = commands.add_parser("plot", help="Make pictures of what --json kept.")
    plot.add_argument("folder", type=Path, help="where the series are")
    plot.add_argument("into", type=Path, help="where the pictures go")
    return parser


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", type=Path, metavar="FOLDER", help="keep the series in FOLDER/SCENARIO.json")
    return command


def _tell(result: dict[str, Any], folder: Path | None) -> None:
    settings = {name: value for name, value in result["settings"].items() if not isinstance(value, list)}
    print(", ".join(f"{name}={value}" for name, value in settings.items()))
    numbers.table(result["rows"])
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{result['scenario']}.json"
        path.write_text(json.dumps(result))
        print(f"series: {path}")


def _model(chosen: argparse.Namespace) -> dict[str, Any]:
    from orderrelay_workers.gate import Limits
    from tests.bench import pacing_model

    pacing_model.quietly()
    steps = [(begins, limit) for begins, limit in pacing_model.STEPS if begins < chosen.seconds]
    limits = Limits(200, 1, 100, learn_from=5)
    run = pacing_model.simulate(limits, steps, chosen.seconds, workers=chosen.workers)
    followed = numbers.follow(steps, chosen.seconds, run.rates, run.sent, run.refused)
    share = len(run.refused) / len(run.sent) * 100
    return {
        "scenario": "model",
        "settings": {"steps": steps, "seconds": chosen.seconds, "workers": chosen.workers, "refused_percent": share},
        "rows": [asdict(step) for step in followed],
        "series": {
            "rate": run.rates,
            "arrivals_per_second": numbers.per_second(run.sent, 0, chosen.seconds),
            "refused_per_second": numbers.per_second(run.refused, 0, chosen.seconds),
        },
    }


if __name__ == "__main__":
    main()
